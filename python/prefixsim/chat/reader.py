"""The reader: finds the format of a chat file and yields its conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, get_args

from prefixsim._files import open_bytes
from prefixsim.chat import openai, sharegpt, stream, wildchat
from prefixsim.chat.model import BadRow, Conversation, Message, describe
from prefixsim.errors import InputError

__all__ = ["FORMATS", "ChatFormat", "ChatReader"]

ChatFormat = Literal["sharegpt", "openai", "wildchat"]
"""The layouts of chat data; LMSYS-Chat is laid out as WildChat."""

Parse = Callable[[Any, "Counter[str]"], tuple[Message, ...]]

FORMATS: dict[str, tuple[str, Parse]] = {
    "sharegpt": (sharegpt.FIELD, sharegpt.messages),
    "openai": (openai.FIELD, openai.messages),
    "wildchat": (wildchat.FIELD, wildchat.messages),
}
"""Name of each format: the field that holds the messages, and the function that reads them."""

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
        source: str | Path | Iterable[Any],
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
        self._size = 0
        self._word = "line"
        if isinstance(source, (str, Path)):
            self.name = str(source)
            self._rows = self._open(Path(source))
        else:
            self.name = "memory"
            self._word = "row"
            self._rows = enumerate(source, start=1)

    def _open(self, path: Path) -> Iterator[stream.Row]:
        self._stream = open_bytes(path)
        self._size = path.stat().st_size
        try:
            head = self._peek()
        except stream.READ_ERRORS as error:
            msg = f"{path}: the compressed file is damaged ({error})"
            raise InputError(msg) from None
        if head.startswith(_PARQUET_MAGIC):
            self._word = "row"
            fields = [FORMATS[self.format]] if self.format else list(FORMATS.values())
            return stream.parquet(str(path), tuple(field for field, _ in fields))
        first = head.removeprefix(_BOM).lstrip()[:1]
        if first == b"[":
            return stream.json_array(self._stream)
        if first == b"{":
            return stream.json_lines(self._stream)
        if not head.strip():
            msg = f"{path}: is empty, give a file with conversations"
        else:
            line = 1 + head[: len(head) - len(head.lstrip())].count(b"\n")
            msg = f"{path}:{line}: not JSON: expected '[' or '{{' (a JSON array, JSON lines, or Parquet)"
        raise InputError(msg)

    def _peek(self) -> bytes:
        assert self._stream is not None
        return self._stream.peek(_PEEK)[:_PEEK]  # type: ignore[attr-defined, no-any-return]

    def progress(self) -> tuple[int, int] | None:
        """Bytes of the file read so far and in all, if both are known."""
        below: IO[bytes] | None = getattr(self._stream, "_below", self._stream)
        try:
            return (below.tell(), self._size) if below is not None and self._size else None
        except (OSError, ValueError):
            return None

    def __iter__(self) -> Iterator[Conversation]:
        try:
            for row in self._rows:
                if self._limit is not None and self.conversations >= self._limit:
                    return
                conversation = self._bad(row, 0) if isinstance(row, BadRow) else self._parse(*row)
                if conversation is not None:
                    self.conversations += 1
                    self.messages += len(conversation.messages)
                    yield conversation
        finally:
            if self._stream is not None:
                self._stream.close()

    def _parse(self, line: int, row: Any) -> Conversation | None:
        try:
            if self.format is None:
                self.format = _sniff(row)
            messages = FORMATS[self.format][1](row, self.repairs)
        except BadRow as bad:
            return self._bad(bad, line)
        identity = next(
            (row[k] for k in ("id", "conversation_id", "conversation_hash") if row.get(k)), ""
        )
        return Conversation(self.conversations, str(identity), messages, self._where(line))

    def _where(self, line: int) -> str:
        return f"{self.name}:{line}" if self._word == "line" else f"{self.name}: row {line}"

    def _bad(self, bad: BadRow, line: int) -> None:
        self.bad_row(bad, self._where(bad.line or line))

    def bad_row(self, bad: BadRow, where: str) -> None:
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


def _sniff(row: Any) -> str:
    if not isinstance(row, dict):
        msg = f"expected an object with the field 'conversations', 'messages' or 'conversation', found {describe(row)}"
        raise BadRow("wrong_schema", msg)
    for name, (field, _) in FORMATS.items():
        if field in row:
            return name
    found = ", ".join(f"'{name}'" for name in list(row)[:6]) or "no fields"
    msg = f"field 'conversations', 'messages' or 'conversation' is missing (found {found})"
    raise BadRow("wrong_schema", msg)
