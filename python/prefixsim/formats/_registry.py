"""What a trace format is, and the list of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import TracebackType

    from prefixsim.trace import Trace

__all__ = ["Format", "ReadOptions", "Source", "TraceWriter", "csv_header"]


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
    """

    sort: bool = False
    skip_bad_rows: bool = False
    rejects: Path | None = None
    progress: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Source:
    """The start of a file, for sniffing.

    Attributes
    ----------
    path : Path
    head : bytes
        The first bytes, decompressed.
    row : dict or None
        The first line, if it is a JSON object.
    value : object
        The first line, if it is a JSON object or array.
    """

    path: Path
    head: bytes
    row: dict[str, Any] | None
    value: Any = None


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
    sniff : callable
        Whether a source looks like this format.
    read : callable
        Reads a file into a trace.
    open_writer : callable or None
        Opens a file for writing, where the format can be written.
    endings : tuple of str
        File name endings that mean this format when writing.
    """

    name: str
    title: str
    sniff: Callable[[Source], bool]
    read: Callable[[Path, ReadOptions], Trace]
    open_writer: Callable[[Path], TraceWriter] | None = None
    endings: tuple[str, ...] = ()


def csv_header(head: bytes) -> list[str]:
    """Column names in the first bytes of a file."""
    line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace")
    try:
        return next(csv.reader([line.strip().replace("\r", " ")]), [])
    except csv.Error:  # a cell longer than any header
        return []
