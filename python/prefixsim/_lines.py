"""Lines of a stream: blank ones cost no time of their own, and none takes all memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    import io

__all__ = ["LONGEST_LINE", "LongLineError", "text_lines"]

LONGEST_LINE = 256 << 20
"""Bytes; prompts of millions of tokens are a tenth of it."""

_BLOCK_BYTES = 1 << 20
_TEXT = re.compile(rb"\S[^\n]*\n?")


class LongLineError(Exception):
    """A line whose end does not come.

    Parameters
    ----------
    number : int
        1-based number of the line.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"is longer than {LONGEST_LINE >> 20} MiB")
        self.number = number


def text_lines(
    stream: IO[bytes], progress: Callable[[int], None] | None = None
) -> Iterator[tuple[int, bytes]]:
    r"""Yield the lines that are not blank, from their first character on, with 1-based numbers.

    Blank lines, which may be millions, are passed over by the block. A byte order mark at the start
    is left out.

    Parameters
    ----------
    stream : binary file
    progress : callable, optional
        Told the bytes of each block.

    Raises
    ------
    LongLineError

    Examples
    --------
    >>> import io
    >>> list(text_lines(io.BytesIO(b"a\n\n \n b")))
    [(1, b'a\n'), (4, b'b')]
    """
    number, unfinished, held = 1, [b""], 0
    # What a damaged file gives before its damage is not lost: one read of what is below at a time.
    read = cast("io.BufferedReader", stream).read1
    while block := read(_BLOCK_BYTES):
        if progress is not None:
            progress(len(block))
        ended, newline, rest = block.rpartition(b"\n")
        if newline:
            text = b"".join([*unfinished, ended, newline])
            yield from _lines_of(text, number)
            number += text.count(b"\n")
            unfinished, held = [rest], len(rest)
        else:
            unfinished.append(rest)
            held += len(rest)
        if held > LONGEST_LINE:
            raise LongLineError(number)
    yield from _lines_of(b"".join(unfinished), number)


def _lines_of(text: bytes, number: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a text that are not blank; ``number`` is that of the first line."""
    if number == 1:
        text = text.removeprefix(b"\xef\xbb\xbf")
    counted = 0
    for found in _TEXT.finditer(text) if text.strip() else ():
        number += text.count(b"\n", counted, found.start())
        counted = found.start()
        if found.end() - found.start() > LONGEST_LINE:
            raise LongLineError(number)
        yield number, found[0]
