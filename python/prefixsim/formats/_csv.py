"""CSV files of arrival times and lengths."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv

from prefixsim._files import open_bytes
from prefixsim._lines import LONGEST_LINE, LongLineError, text_lines
from prefixsim.errors import InputError
from prefixsim.formats._format import ReadOptions
from prefixsim.formats._rows import reading
from prefixsim.trace import Trace

__all__ = ["read_lengths", "uint32"]

_BLOCK_BYTES = 1 << 20
_BLANK = re.compile(rb"\n[\r\n]+")


def read_lengths(
    path: Path,
    options: ReadOptions,
    *,
    columns: Mapping[str, pa.DataType],
    build: Callable[[pa.Table], Trace],
) -> Trace:
    """Read a CSV file into a trace without prompts.

    Parameters
    ----------
    path : Path
    options : ReadOptions
    columns : mapping
        Columns to read and their types; others are ignored.
    build : callable
        Makes the trace from those columns.
    """
    try:
        with reading(path) as file:
            table = _parse(_text(file), columns)
    except InputError:
        raise
    except LongLineError as error:
        msg = f"{path}:{error.number}: {error}"
        raise InputError(msg) from None
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(_locate(path, columns, error)) from None
    if not len(table):
        msg = f"{path}: has no rows below its header"
        raise InputError(msg)
    trace = build(table)
    row = trace.outside_time()
    if row is not None:
        msg = f"{path}:{row + 2}: timestamp: {trace.timestamp[row]:g} s is no time, fix the line"
        raise InputError(msg)
    row = trace.out_of_order()
    if row is not None and not options.sort:
        msg = f"{path}:{row + 2}: timestamp: earlier than the row before; pass --sort"
        raise InputError(msg)
    return trace.sorted()


def _text(file: IO[bytes]) -> bytes:
    """Return a file but for its blank lines, which may be millions."""
    parts, unfinished = [], 0
    while block := file.read(_BLOCK_BYTES):
        if b"\n\n" in block or b"\n\r" in block:
            block = _BLANK.sub(b"\n", block)
        parts.append(block)
        ended = block.rfind(b"\n")
        unfinished = unfinished + len(block) if ended < 0 else len(block) - ended
        if unfinished > LONGEST_LINE:
            raise LongLineError(1 + sum(part.count(b"\n") for part in parts))
    return b"".join(parts)


def _parse(text: bytes, columns: Mapping[str, pa.DataType]) -> pa.Table:
    return pacsv.read_csv(
        io.BytesIO(text),
        convert_options=pacsv.ConvertOptions(
            column_types=dict(columns), include_columns=list(columns), null_values=[]
        ),
    )


def _locate(path: Path, columns: Mapping[str, pa.DataType], error: Exception) -> str:
    """Find the first line that does not convert, one by one."""
    try:
        with open_bytes(path) as file:
            return _first_bad(path, columns, _records(file)) or (
                f"{path}: {str(error).splitlines()[0].lower()}"
            )
    except csv.Error as broken:
        return f"{path}: not a readable CSV file: {broken}"
    except LongLineError as broken:
        return f"{path}:{broken.number}: {broken}"


def _records(file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with the number of their last line: a quoted cell may hold line ends."""
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in text_lines(file):  # noqa: B007 - for the row that it ends
            yield line.decode("utf-8", "replace") + "\n"

    for row in csv.reader(lines()):
        yield number, row


def _first_bad(
    path: Path, columns: Mapping[str, pa.DataType], records: Iterator[tuple[int, list[str]]]
) -> str | None:
    _, names = next(records, (1, []))
    missing = [name for name in columns if name not in names]
    if missing:
        return f"{path}:1: {missing[0]}: column is missing, the header has {', '.join(names)}"
    for number, row in records:
        if len(row) != len(names):
            return f"{path}:{number}: has {len(row)} cells, the header has {len(names)}"
        for name, cell in zip(names, row, strict=True):
            if name in columns and not _converts(cell, columns[name]):
                return f"{path}:{number}: {name}: {cell!r} is not {_describe(columns[name])}"
    return None


def _converts(cell: str, kind: pa.DataType) -> bool:
    try:
        _parse(f'"x"\n"{cell}"\n'.encode(), {"x": kind})
    except pa.ArrowInvalid:
        return False
    return True


def _describe(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "a date and time"
    return "a whole number >= 0" if pa.types.is_integer(kind) else "a number"


def uint32(column: pa.ChunkedArray) -> npt.NDArray[np.uint32]:
    """Return an Arrow column as a NumPy uint32 array."""
    numbers: npt.NDArray[np.uint32] = column.to_numpy().astype(np.uint32)
    return numbers
