"""Rows of a file as a stream: JSON array, JSON lines, Parquet; memory bounded by one row.

Every function yields ``(line, value)`` or, for something unusable, a :class:`BadRowError`.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator
from typing import IO

from prefixsim._lines import LONGEST_LINE, LongLineError, text_lines
from prefixsim.chat.model import BadRowError

__all__ = ["Row", "json_array", "json_lines", "parquet"]

Row = tuple[int, object] | BadRowError

_CHUNK = 1 << 20
_LONGEST_ROW = LONGEST_LINE
# A decode error this close to the end of what has been read may be cured by reading on: the
# longest token that json reports from its middle is `-Infinity`, or an escape `\ud83d\ude00`.
_CUT_MARGIN = 16
_CLOSING = re.compile(r"[\]}]")
_SPACE = re.compile(r"[ \t\r\n]*")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")

CUT_OFF = (
    "the file is cut off inside a conversation; --skip-bad-rows keeps every complete conversation"
)


READ_ERRORS = (EOFError, OSError, zlib.error)
"""What a damaged or cut-off compressed file raises."""


def json_lines(stream: IO[bytes]) -> Iterator[Row]:
    """Yield one row per non-empty line."""
    decode = json.JSONDecoder().decode
    line = 0
    lines = text_lines(stream)
    while True:
        try:
            line, raw = next(lines)
        except StopIteration:
            return
        except READ_ERRORS as error:
            yield _damaged(line + 1, error)
            return
        except LongLineError as error:
            yield BadRowError("too_long", str(error), line=error.number, ends_file=True)
            return
        try:
            text = raw.decode().strip()
            if text:
                yield line, decode(text)
        except UnicodeDecodeError as error:
            yield _invalid_utf8(line, raw[error.start])
        except json.JSONDecodeError as error:
            if not raw.endswith(b"\n") and _ends_open(error, text):
                yield BadRowError("cut_off", CUT_OFF, line=line)
            else:
                yield BadRowError("not_json", f"not JSON: {error.msg.lower()}", line=line)
        except RecursionError:
            yield BadRowError("not_json", "JSON nested too deeply", line=line)


def _ends_open(error: json.JSONDecodeError, text: str) -> bool:
    """Whether the text simply ends too early, as opposed to being wrong at ``error``."""
    return error.msg.startswith("Unterm") or not _CLOSING.search(text, error.pos)


def _damaged(line: int, error: Exception) -> BadRowError:
    msg = (
        f"the compressed file is damaged or cut off here ({error}); "
        "--skip-bad-rows keeps every conversation before"
    )
    return BadRowError("cut_off", msg, line=line, ends_file=True)


def _invalid_utf8(line: int, byte: int) -> BadRowError:
    msg = f"invalid UTF-8 (byte 0x{byte:02x}); convert the file to UTF-8, or use --skip-bad-rows"
    return BadRowError("invalid_utf8", msg, line=line)


class _Buffer:
    """Decoded text of a stream, of which the part before ``at`` is done with."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self.text = ""
        self.at = 0
        self.ended = False
        self.damage: Exception | None = None
        self.invalid = False
        self._line = 1
        self._counted = 0

    def more(self) -> bool:
        """Read on, at least doubling what is there; False at the end of the file."""
        if self.ended:
            return False
        want = max(_CHUNK, len(self.text) - self.at)
        try:
            data = self._stream.read(want)
        except READ_ERRORS as error:
            self.damage = error
            data = b""
        self.ended = not data
        self._line = self.line(self.at)
        self.text = self.text[self.at :] + self._decode(data)
        self.at = self._counted = 0
        return True

    def _decode(self, data: bytes) -> str:
        if not self.invalid:
            pending, _ = self._decoder.getstate()
            try:
                return self._decoder.decode(data, final=self.ended)
            except UnicodeDecodeError:
                # From here on invalid bytes are kept, marked, so that the row they are in is known.
                self.invalid = True
                self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
                return self._decoder.decode(pending + data, final=self.ended)
        return self._decoder.decode(data, final=self.ended)

    def line(self, position: int) -> int:
        """1-based line of a position that is not before any position asked for earlier."""
        self._line += self.text.count("\n", self._counted, position)
        self._counted = max(self._counted, position)
        return self._line

    def skip_space(self) -> str:
        """Move to the next character that is not white space and return it, or ''."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def invalid_byte(self, start: int, end: int) -> re.Match[str] | None:
        """Return the first marked byte in a range."""
        return _ESCAPED_BYTE.search(self.text, start, end) if self.invalid else None


def json_array(stream: IO[bytes]) -> Iterator[Row]:
    """Yield the elements of one JSON array, however long the array is."""
    buffer = _Buffer(stream)
    decoder = json.JSONDecoder()
    buffer.skip_space()
    buffer.at += 1  # the caller saw the '['
    if buffer.skip_space() == "]":
        yield from _after_array(buffer)
        return
    while True:
        row = _element(buffer, decoder)
        yield row
        if isinstance(row, BadRowError) and row.ends_file:
            return
        separator = buffer.skip_space()
        if separator == "]":
            yield from _after_array(buffer)
            return
        if separator != ",":
            yield _broken(buffer, buffer.at, "expected ',' or ']' after a conversation")
            return
        buffer.at += 1
        buffer.skip_space()


def _after_array(buffer: _Buffer) -> Iterator[Row]:
    buffer.at += 1
    if buffer.skip_space():
        yield _broken(buffer, buffer.at, "unexpected data after the end of the array")


def _element(buffer: _Buffer, decoder: json.JSONDecoder) -> Row:
    while True:
        start = buffer.at
        try:
            value, end = decoder.raw_decode(buffer.text, start)
        except json.JSONDecodeError as error:
            cut = error.pos >= len(buffer.text) - _CUT_MARGIN or error.msg.startswith("Unterm")
            if cut and len(buffer.text) - start < _LONGEST_ROW and buffer.more():
                continue
            cut = cut and _ends_open(error, buffer.text)
            return _broken(buffer, error.pos, f"not JSON: {error.msg.lower()}", cut=cut)
        except RecursionError:
            return _broken(buffer, start, "JSON nested too deeply")
        near_end = end > len(buffer.text) - _CUT_MARGIN
        if near_end and not isinstance(value, (dict, list)) and buffer.more():
            continue  # a number may go on
        line = buffer.line(start)
        marked = buffer.invalid_byte(start, end)
        buffer.at = end
        if marked:
            return _invalid_utf8(buffer.line(marked.start()), ord(marked[0]) - 0xDC00)
        return line, value


def _broken(buffer: _Buffer, position: int, what: str, *, cut: bool = False) -> BadRowError:
    """Describe why nothing after ``position`` can be read."""
    start = buffer.at
    marked = buffer.invalid_byte(start, min(position + 1, len(buffer.text)))
    if marked:
        row = _invalid_utf8(buffer.line(marked.start()), ord(marked[0]) - 0xDC00)
        row.ends_file = True
        return row
    if buffer.damage is not None:
        return _damaged(buffer.line(start), buffer.damage)
    if cut or position >= len(buffer.text):
        return BadRowError("cut_off", CUT_OFF, line=buffer.line(start), ends_file=True)
    msg = f"{what}; --skip-bad-rows keeps every conversation before"
    return BadRowError("not_json", msg, line=buffer.line(position), ends_file=True)


def parquet(path: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows of a Parquet file as dictionaries of the given columns and the id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = ("id", "conversation_id", "conversation_hash")
    try:
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            wanted = [c for c in columns if c in names][:1]
            if not wanted:
                expected = " or ".join(f"'{c}'" for c in columns)
                shown = ", ".join(f"'{n}'" for n in file.schema_arrow.names[:8])
                msg = f"column {expected} is missing (found {shown})"
                yield BadRowError("wrong_schema", msg, line=1, ends_file=True)
                return
            wanted += [c for c in ids if c in names][:1]
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        yield BadRowError(
            "cut_off", f"not a readable Parquet file: {reason}", line=1, ends_file=True
        )
