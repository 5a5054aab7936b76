"""What a trace format is: how it is recognised, read and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Flag, IntEnum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prefixsim._json import JsonObject

if TYPE_CHECKING:
    from types import TracebackType

    from prefixsim.trace import Trace

__all__ = ["Confidence", "Family", "Format", "Head", "ReadOptions", "TraceWriter"]


class Family(Flag):
    """What a file is made of; a format is asked only about files of its family."""

    BINARY = auto()
    """Bytes that no text begins with."""
    CSV = auto()
    """A line of column names, then rows of cells."""
    JSON = auto()
    """One JSON value a line."""
    TEXT = auto()
    """Lines that a program logged."""


class Confidence(IntEnum):
    """How sure a format is that a file is its own; the surest reads it, the first among equals."""

    NO = 0
    """Not this format."""
    POSSIBLE = 1
    """What it needs is there, under names that many programs use."""
    CERTAIN = 2
    """Its first bytes or its field names are its own: no other format is asked."""


@dataclass(frozen=True)
class ReadOptions:
    """How to treat what is wrong in a file.

    Attributes
    ----------
    sort : bool
        Sort rows by timestamp instead of refusing a file that is not sorted.
    skip_bad_rows : bool
        Leave bad rows out and count them by reason in ``Trace.meta["rows_skipped"]``.
    rejects : Path or None
        With ``skip_bad_rows``: where the rows that were left out are written, as they were.
    progress : callable or None
        Called with the number of bytes read since the last call.
    id_block_size : int or None
        Tokens that each hash id stands for, where the format does not say.
    """

    sort: bool = False
    skip_bad_rows: bool = False
    rejects: Path | None = None
    progress: Callable[[int], None] | None = None
    id_block_size: int | None = None


@dataclass(frozen=True)
class Head:
    """The start of a file, from which formats are recognised.

    Attributes
    ----------
    start : bytes
        The first bytes, decompressed.
    line : bytes
        The first line that is not blank; empty for a binary file.
    value : object
        What the first line says, if it is a JSON object or array.
    text : str
        The first lines, if they may be those of a program's log.
    """

    start: bytes
    line: bytes = b""
    value: object = None
    text: str = ""

    @property
    def row(self) -> JsonObject:
        """The first line, if it is a JSON object; otherwise empty."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def columns(self) -> list[str]:
        """Column names, if the file is a CSV file."""
        import csv

        text = self.line.split(b"\n", 1)[0].decode("utf-8", "replace")
        try:
            return next(csv.reader([text.strip().replace("\r", " ")]), [])
        except csv.Error:  # a cell longer than any header
            return []


class TraceWriter(Protocol):
    """Writes a trace batch by batch; the file appears when the ``with`` block ends well."""

    def write(self, batch: Trace) -> None:
        """Append the requests of ``batch``, which has the columns of the first batch."""
        ...

    def __enter__(self) -> TraceWriter: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True)
class Format:
    """One trace format.

    Attributes
    ----------
    name : str
        As given to ``--format``.
    title : str
        One line for tables and messages.
    family : Family
        What its files are made of; several, joined by ``|``, where it comes in several forms.
    matches : callable
        How sure it is that a file with this :class:`Head` is its own.
    read : callable
        Reads a file into a trace.
    open_writer : callable or None
        Opens a file for writing, where the format can be written.
    endings : tuple of str
        File name endings that mean this format when writing.
    read_together : callable or None
        Reads several files whose rows join with each other (spans and their log records, say);
        without it files are read one by one and merged by time.
    calls : callable or None
        Reads files as calls, if the format is a log of them.
    """

    name: str
    title: str
    family: Family
    matches: Callable[[Head], Confidence]
    read: Callable[[Path, ReadOptions], Trace]
    open_writer: Callable[[Path], TraceWriter] | None = None
    endings: tuple[str, ...] = ()
    read_together: Callable[[Sequence[Path], ReadOptions], Trace] | None = None
    calls: Callable[[Sequence[Path], ReadOptions], object] | None = None
