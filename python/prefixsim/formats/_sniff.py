"""The format of a file, found from its first bytes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prefixsim._files import open_bytes
from prefixsim.errors import InputError
from prefixsim.formats._foreign import of_another_kind, of_chats, of_fields
from prefixsim.formats._format import Confidence, Family, Format, Head
from prefixsim.formats._registry import format_names, formats_of

__all__ = ["sniff_format"]

_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 64
_CHAT_BYTES = 4096
_LONGEST_FIRST_LINE = 64 << 20
_LOG_BYTES = 1 << 18
_BLANK = b" \t\r\n"
_BLANK_BYTES = 1 << 16
_ONE_OBJECT = (
    "a trace has one JSON object a line (chat data becomes a trace with 'prefixsim trace')"
)


def sniff_format(path: str | Path) -> Format:
    """Find the format of a file from its first bytes.

    Raises
    ------
    InputError
        If the file is missing, empty, or of no known format.
    """
    path = Path(path)
    head = Head(_first_bytes(path))
    _refuse_other_kinds(path, head)
    if (binary := _binary(head)) is not None:
        return binary
    head = Head(head.start, _first_line(path))
    if not head.start.strip():
        msg = f"{path}: is empty, expected a trace"
        raise InputError(msg)
    _refuse_other_kinds(path, head)
    if (text := _first_lines(path)) and (
        logged := _surest(Family.TEXT, Head(head.start, head.line, text=text))
    ) is not None:
        return logged
    if head.start.lstrip(_BOM)[:1].isalpha() and b"," in head.line:
        family = Family.CSV
    else:
        family, head = Family.JSON, Head(head.start, head.line, _first_value(path, head.line))
    surest = _surest(family, head)
    if surest is None:
        raise _unknown(path, head)
    return surest


def _refuse_other_kinds(path: Path, head: Head) -> None:
    what = of_another_kind(path, head.start, head.line)
    if what is not None:
        raise InputError(what)


def _binary(head: Head) -> Format | None:
    """Return the binary format of a file that does not begin as JSON does."""
    start = head.start.removeprefix(_BOM).lstrip()[:1]
    return None if start in (b"", b"{", b"[") else _surest(Family.BINARY, head)


def _surest(family: Family, head: Head) -> Format | None:
    best, surest = None, Confidence.NO
    for candidate in formats_of(family):
        confidence = candidate.matches(head)
        if confidence > surest:
            best, surest = candidate, confidence
        if surest == Confidence.CERTAIN:
            break
    return best


def _unknown(path: Path, head: Head) -> InputError:
    if isinstance(head.value, list):
        chats = of_chats(path, head.line[:_CHAT_BYTES])
        return InputError(chats or f"{path}:1: not a JSON object; {_ONE_OBJECT}")
    return InputError(of_fields(path, list(head.row or head.columns), head.row, format_names()))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to look at its start; one that cannot be decompressed is one line."""
    try:
        with open_bytes(path) as file:
            yield file
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        msg = f"{path}: cannot be decompressed: {str(error).lower()}"
        raise InputError(msg) from None


def _first_bytes(path: Path) -> bytes:
    with _opened(path) as file:
        return file.read(_HEAD_BYTES)


def _first_line(path: Path) -> bytes:
    """Return the first line that is not blank."""
    with _opened(path) as file:
        start = file.read(_HEAD_BYTES)
        line, looked_at = start.lstrip(_BLANK), len(start)
        while start and b"\n" not in line and looked_at < _LONGEST_FIRST_LINE:
            # Blank lines, which may be millions, are passed over by the block.
            more = file.readline(_LONGEST_FIRST_LINE) if line else file.read(_BLANK_BYTES)
            if not more:
                break
            looked_at += len(more)
            line = (line + more).lstrip(_BLANK)
    return line.removeprefix(_BOM).strip()


def _first_lines(path: Path) -> str:
    """Return the first lines of a program's log; those of JSON are none."""
    with _opened(path) as file:
        raw = file.read(_LOG_BYTES)
    return (
        ""
        if raw.lstrip(_BLANK).startswith(b'{"') and b'"message"' not in raw
        else raw.decode("utf-8", "replace")
    )


def _first_value(path: Path, line: bytes) -> dict[str, object] | list[object]:
    line = line.split(b"\n", 1)[0]
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        msg = f"{path}:1: is not UTF-8 text, expected JSON Lines, Parquet or Arrow"
        raise InputError(msg) from None
    except (ValueError, RecursionError) as error:
        with _opened(path) as file:
            chats = of_chats(path, file.read(_CHAT_BYTES))
        msg = chats or f"{path}:1: not valid JSON ({error}), expected one JSON object a line"
        raise InputError(msg) from None
    if not isinstance(value, dict | list):
        msg = f"{path}:1: not a JSON object; {_ONE_OBJECT}"
        raise InputError(msg)
    return value
