"""JSON Lines as columns, with every problem traced back to its line."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Generic, Literal, NamedTuple, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from prefixsim._core import JsonlReader
from prefixsim._files import atomic_write, open_bytes
from prefixsim._json import JsonObject
from prefixsim._lines import LongLineError, text_lines
from prefixsim.errors import InputError
from prefixsim.formats._format import ReadOptions
from prefixsim.trace import LATEST_S, Codes, Ragged, Strings, Trace
from prefixsim.trace.columns import Array

__all__ = [
    "BadFieldError",
    "CheckedRows",
    "Field",
    "JsonRows",
    "Rows",
    "numbered_lines",
    "reading",
]

_BLOCK_BYTES = 8 << 20
_ADVICE = "fix the line or pass --skip-bad-rows"

Kind = Literal["f64", "u32", "u32_list", "u64_list", "text", "label"]


class Field(NamedTuple):
    """A field of a JSON Lines format."""

    name: str
    kind: Kind
    required: bool = False


R = TypeVar("R")


class BadFieldError(Exception):
    """A field of a row that cannot be used.

    Parameters
    ----------
    field : str
        Its name; empty if the row as a whole is at fault.
    problem : str
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)


class CheckedRows:
    """Rows of a file, some of which may turn out to be bad.

    A reader builds its columns, calls :meth:`refuse` once for each thing that can be wrong with
    a row, and returns :meth:`finish` of the trace, which drops what was refused. A reader that
    makes requests of several rows calls :meth:`raise_unreadable` after reading, and
    :meth:`follow` before its first :meth:`refuse`.

    Attributes
    ----------
    path : Path
    lines : ndarray of uint64
        1-based line number of each row.
    """

    row_end = b"\n"

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path = path
        self.lines: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._options = options
        # Error of the first line that does not parse; a line before it may yet fail a check.
        self._unreadable: InputError | None = None
        self._rejects: list[tuple[int, str, bytes | None]] = []
        self._dropped = np.zeros(0, dtype=bool)

    def _set_lines(self, lines: npt.NDArray[np.uint64]) -> None:
        self.lines = lines
        self._dropped = np.zeros(len(lines), dtype=bool)
        if not len(lines) and self._unreadable is not None:
            raise self._unreadable
        if not len(lines) and not self._rejects:
            msg = f"{self.path}: is empty, expected one JSON object a line"
            raise InputError(msg)

    @property
    def checked(self) -> CheckedRows:
        """Themselves, as rows that may turn out to be bad."""
        return self

    def __len__(self) -> int:
        return len(self.lines)

    def _bad(self, line: int, reason: str, raw: bytes) -> None:
        """Leave a row out, or remember the first that cannot be used."""
        if self._options.skip_bad_rows:
            self._rejects.append((line, reason, raw))
        else:
            self._unreadable = InputError(f"{self.path}:{line}: {reason}; {_ADVICE}")

    def raise_unreadable(self) -> None:
        """Raise the error of the first row that could not be used, unless rows are skipped."""
        if self._unreadable is not None:
            raise self._unreadable

    def follow(self, lines: npt.NDArray[np.uint64]) -> None:
        """Go on with requests, made of one row or several, that begin on these lines."""
        self._set_lines(lines)

    def refuse(self, bad: npt.NDArray[np.bool_], field: str, problem: Callable[[int], str]) -> None:
        """Refuse the rows where ``bad`` is true, with ``problem(row)`` as the reason."""
        bad = bad & ~self._dropped
        if not bad.any():
            return
        if not self._options.skip_bad_rows:
            row = int(np.argmax(bad))
            msg = f"{self.path}:{self.lines[row]}: {field}: {problem(row)}; {_ADVICE}"
            raise InputError(msg)
        self._rejects += [
            (int(self.lines[row]), f"{field}: {problem(int(row))}", None)
            for row in np.flatnonzero(bad)
        ]
        self._dropped |= bad

    def finish(self, trace: Trace, *, sort: bool = False) -> Trace:
        """Drop refused rows, bring the rest in order, and note what was left out.

        Parameters
        ----------
        trace : Trace
            One request per row.
        sort : bool, optional
            The format does not promise an order: sort without being asked.
        """
        lines = self.lines
        if trace.outside_time() is not None:
            self.refuse(
                ~(np.abs(trace.timestamp) <= LATEST_S),
                "timestamp",
                lambda row: f"{trace.timestamp[row]:g} s is no time",
            )
        if self._dropped.any():
            keep = np.flatnonzero(~self._dropped)
            trace, lines = trace.take(keep), lines[keep]
        if not len(trace):
            msg = f"{self.path}: no usable row, {self._rejects[0][1]} on line {self._rejects[0][0]}"
            raise InputError(msg)
        row = trace.out_of_order()
        if row is not None and not (sort or self._options.sort):
            msg = (
                f"{self.path}:{lines[row]}: timestamp: {trace.timestamp[row]:g} s is earlier than "
                f"{trace.timestamp[row - 1]:g} s in the row before; pass --sort to sort by time"
            )
            raise InputError(msg)
        if self._unreadable is not None:
            raise self._unreadable
        if row is not None:
            trace = trace.sorted()
        if self._rejects:
            self._write_rejects()
            reasons = Counter(reason for _, reason, _ in self._rejects)
            trace = trace.replace(meta={**trace.meta, "rows_skipped": dict(reasons)})
        return trace

    def leave_out(self, line: int, reason: str) -> None:
        """Leave out the row of a line, or raise the error of it."""
        if not self._options.skip_bad_rows:
            msg = f"{self.path}:{line}: {reason}; {_ADVICE}"
            raise InputError(msg)
        self._rejects.append((line, reason, None))

    def left_out(self) -> dict[str, int]:
        """Return how many rows were left out, by reason."""
        return dict(Counter(reason for _, reason, _ in self._rejects))

    @staticmethod
    def write_rejects(files: Sequence[CheckedRows], path: Path) -> None:
        """Write the rows that were left out of several files, if there are any."""
        rejects = b"".join(rows._rejected() for rows in files)
        if rejects:
            atomic_write(path, rejects)

    def _write_rejects(self) -> None:
        if self._options.rejects is not None:
            atomic_write(self._options.rejects, self._rejected())

    def _rejected(self) -> bytes:
        """Return the rows that were left out, as they were."""
        wanted = {line: raw for line, _, raw in self._rejects}
        if any(raw is None for raw in wanted.values()):
            with open_bytes(self.path) as file:
                wanted.update(
                    (number, line) for number, line in enumerate(file, 1) if number in wanted
                )
        raws = [wanted[line] or b"" for line in sorted(wanted)]
        end = self.row_end
        return b"".join(raw.rstrip(b"\r\n") + end if end else raw for raw in raws)


class Rows(CheckedRows):
    """The rows of a JSON Lines file with flat objects, as columns.

    Parameters
    ----------
    path : Path
    fields : sequence of Field
    options : ReadOptions

    Raises
    ------
    InputError
        ``file:line: field: problem`` for the first bad row, unless bad rows are skipped.
    """

    def __init__(self, path: Path, fields: Sequence[Field], options: ReadOptions) -> None:
        super().__init__(path, options)
        self._kinds = {f.name: f.kind for f in fields}
        reader = JsonlReader(list(fields), skip_bad_rows=options.skip_bad_rows)
        try:
            _feed(reader, path, options)
            reader.end()
        except InputError:
            raise
        except ValueError as error:
            self._unreadable = InputError(f"{path}:{error}; {_ADVICE}")
        answer = reader.finish()
        self._columns: JsonObject = answer["columns"]
        self._seen: dict[str, int] = answer["seen"]
        self._rejects = [
            (line, f"{field}: {problem}" if field else problem, raw)
            for line, field, problem, raw in answer["bad"]
        ]
        self._set_lines(answer["lines"])

    def has(self, name: str) -> bool:
        """Whether any row has this field."""
        return self._seen[name] > 0

    def numbers(self, name: str) -> Array:
        """Return an ``f64`` or ``u32`` column."""
        column: Array = self._columns[name]
        return column

    def lists(self, name: str) -> Ragged:
        """Return a list column."""
        return Ragged(*self._columns[name])

    def strings(self, name: str) -> Strings:
        """Return a ``text`` column."""
        return Strings(*self._columns[name])

    def labels(self, name: str) -> Codes:
        """Return a ``label`` column."""
        return Codes(*self._columns[name])


class JsonRows(CheckedRows, Generic[R]):
    """The rows of a JSON Lines file with objects of any shape, parsed one by one.

    Parameters
    ----------
    path : Path
    parse : callable
        Turns the JSON value of a line, and its number, into a row; raises :class:`BadFieldError`.
    options : ReadOptions

    Attributes
    ----------
    rows : list
        What ``parse`` returned.

    Raises
    ------
    InputError
        As :class:`Rows`.
    """

    def __init__(self, path: Path, parse: Callable[[Any, int], R], options: ReadOptions) -> None:
        super().__init__(path, options)
        self.rows: list[R] = []
        lines = []
        for number, raw in numbered_lines(path, options):
            try:
                self.rows.append(parse(_decode(raw), number))
                lines.append(number)
            except RecursionError:
                self._bad(number, "not valid JSON: nested too deeply", raw)
            except BadFieldError as bad:
                self._bad(number, str(bad), raw)
            if self._unreadable is not None:
                break
        self._set_lines(np.array(lines, dtype=np.uint64))


def numbered_lines(path: Path, options: ReadOptions) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their 1-based numbers."""
    try:
        with reading(path) as file:
            for number, line in text_lines(file, options.progress):
                yield number, line.rstrip()
    except LongLineError as error:
        msg = f"{path}:{error.number}: {error}"
        raise InputError(msg) from None


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not a JSON number"
    raise ValueError(msg)


def _decode(raw: bytes) -> object:
    try:
        return json.loads(raw.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise BadFieldError("", "is not UTF-8 text") from None
    except ValueError as error:
        raise BadFieldError("", f"not valid JSON: {_first(error)}") from None


def _first(error: ValueError) -> str:
    told = str(error).split(" (char", 1)[0].split(": line 1 ", 1)
    return " at ".join(told).lower() if len(told) > 1 else told[0]


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading; one that cannot be decompressed to its end is one line."""
    with open_bytes(path) as file:
        try:
            yield file
        except (EOFError, OSError, zlib.error) as error:
            msg = f"{path}: cannot be decompressed: {str(error).lower()}"
            raise InputError(msg) from None


def _feed(reader: JsonlReader, path: Path, options: ReadOptions) -> None:
    with reading(path) as file:
        while block := file.read(_BLOCK_BYTES):
            reader.feed(block)
            if options.progress is not None:
                options.progress(len(block))
