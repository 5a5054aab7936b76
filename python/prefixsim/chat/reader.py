"""The reader: finds the format of a chat file and yields its conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, get_args

from prefixsim._files import open_bytes
from prefixsim.chat import openai, sharegpt, stream, wildchat
from prefixsim.chat.model import BadRowError, Conversation, Message, describe
from prefixsim.errors import InputError

__all__ = ["FORMATS", "ChatFormat", "ChatReader"]

ChatFormat = Literal["sharegpt", "openai", "wildchat"]
"""The layouts of chat data; LMSYS-Chat is laid out as WildChat."""

Parse = Callable[[object, "Counter[str]"], tuple[Message, ...]]

FORMATS: dict[str, tuple[str, Parse]] = {
    "sharegpt": (sharegpt.FIELD, sharegpt.messages),
    "openai": (openai.FIELD, openai.messages),
    "wildchat": (wildchat.FIELD, wildchat.messages),
}
"""Name of each format: the field that holds the messages, and the function that reads them."""

_FIELDS = " or ".join(f"'{field}'" for field, _ in FORMATS.values())
_PARQUET_MAGIC = b"PAR1"
_BOM = b"\xef\xbb\xbf"
_PEEK = 1 << 16


class ChatReader:
    """Iterate over the conversations of a file, or of an iterable of such rows.

    Parameters
    ----------
    source : path or iterable of dict
        A JSON array, JSON lines or Parquet file, gzip or Zstandard compressed or not; or rows.
    format : {"sharegpt", "openai", "wildchat"}, optional
        Default: what the first row looks like.
    skip_bad_rows : bool
        Leave out what cannot be read, and count it, instead of raising.
    limit : int, optional
        Stop after this many conversations.

    Attributes
    ----------
    name : str
        The path, or ``memory``.
    conversations, messages : int
        Read so far.
    skipped, repairs : Counter
        Bad rows by reason; messages that were changed, by reason.
    first_skipped : list of str
        The first few skipped rows, as ``file:line: what is wrong``.

    Raises
    ------
    InputError
        At construction if the file cannot be opened; while iterating at the first bad row unless
        ``skip_bad_rows``.

    Examples
    --------
    >>> rows = [{"conversations": [{"from": "human", "value": "Hi"}]}]
    >>> [c.messages[0].text for c in ChatReader(rows)]
    ['Hi']
    """

    def __init__(
        self,
        source: str | Path | Iterable[object],
        *,
        format: str | None = None,  # noqa: A002
        skip_bad_rows: bool = False,
        limit: int | None = None,
    ) -> None:
        if format is not None and format not in FORMATS:
            msg = f"unknown chat format '{format}', choose one of {', '.join(get_args(ChatFormat))}"
            raise InputError(msg)
        self.format = format
        self.conversations = self.messages = 0
        self.skipped: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.first_skipped: list[str] = []
        self._skip = skip_bad_rows
        self._limit = limit
        self._stream: IO[bytes] | None = None
        self._path = Path(source) if isinstance(source, (str, Path)) else None
        self._source = source
        self._kind = "rows" if self._path is None else self._sniff_file(self._path)
        self.name = "memory" if self._path is None else str(self._path)

    def _sniff_file(self, path: Path) -> str:
        """Return how the rows of the file are stored."""
        with open_bytes(path) as file:
            try:
                head = file.peek(_PEEK)[:_PEEK]  # type: ignore[attr-defined]
            except stream.READ_ERRORS as error:
                msg = f"{path}: the compressed file is damaged ({error})"
                raise InputError(msg) from None
        if head.startswith(_PARQUET_MAGIC):
            return "parquet"
        first = head.removeprefix(_BOM).lstrip()[:1]
        if first in {b"[", b"{"}:
            return "array" if first == b"[" else "lines"
        if not head.strip():
            msg = f"{path}: is empty, give a file with conversations"
        else:
            line = 1 + head[: len(head) - len(head.lstrip())].count(b"\n")
            msg = f"{path}:{line}: not JSON: expected a JSON array, JSON lines, or Parquet"
        raise InputError(msg)

    def _rows(self) -> Generator[stream.Row, None, None]:
        if self._path is None:
            yield from enumerate(self._source, start=1)  # type: ignore[arg-type]
        elif self._kind == "parquet":
            fields = [FORMATS[self.format]] if self.format else list(FORMATS.values())
            yield from stream.parquet(str(self._path), tuple(field for field, _ in fields))
        else:
            read = stream.json_array if self._kind == "array" else stream.json_lines
            with open_bytes(self._path) as self._stream:
                yield from read(self._stream)

    def progress(self) -> tuple[int, int] | None:
        """Bytes of the file read so far and in all, if both are known."""
        below: IO[bytes] | None = getattr(self._stream, "_below", self._stream)
        if below is None or below.closed or self._path is None:
            return None
        return below.tell(), self._path.stat().st_size

    def __iter__(self) -> Iterator[Conversation]:
        rows = self._rows()
        try:
            for row in rows:
                if self._limit is not None and self.conversations >= self._limit:
                    return
                if isinstance(row, BadRowError):
                    self._bad(row, 0)
                elif (conversation := self._parse(*row)) is not None:
                    self.conversations += 1
                    self.messages += len(conversation.messages)
                    yield conversation
        finally:
            rows.close()

    def _parse(self, line: int, row: object) -> Conversation | None:
        try:
            if self.format is None:
                self.format = _sniff(row)
            messages = FORMATS[self.format][1](row, self.repairs)
        except BadRowError as bad:
            self._bad(bad, line)
            return None
        assert isinstance(row, dict)  # or no format had read it
        identity = next(
            (row[k] for k in ("id", "conversation_id", "conversation_hash") if row.get(k)), ""
        )
        return Conversation(self.conversations, str(identity), messages, self._where(line))

    def _where(self, line: int) -> str:
        by_line = self._kind in {"array", "lines"}
        return f"{self.name}:{line}" if by_line else f"{self.name}: row {line}"

    def _bad(self, bad: BadRowError, line: int) -> None:
        self.bad_row(bad, self._where(bad.line or line))

    def bad_row(self, bad: BadRowError, where: str) -> None:
        """Count a row that turned out to be unusable, or raise.

        Raises
        ------
        InputError
            Unless bad rows are skipped.
        """
        message = f"{where}: {bad}"
        if not self._skip:
            raise InputError(message) from None
        self.skipped[bad.reason] += 1
        if len(self.first_skipped) < 5:
            self.first_skipped.append(message)


def _sniff(row: object) -> str:
    if not isinstance(row, dict):
        msg = f"expected an object with the field {_FIELDS}, found {describe(row)}"
        raise BadRowError("wrong_schema", msg)
    for name, (field, _) in FORMATS.items():
        if field in row:
            return name
    shown = ", ".join(f"'{name}'" for name in list(row)[:6]) or "no fields"
    msg = f"field {_FIELDS} is missing (found {shown})"
    raise BadRowError("wrong_schema", msg)
