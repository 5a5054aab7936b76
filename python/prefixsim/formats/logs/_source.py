"""What a source of request logs is, and how its files become calls and a trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Generic, Protocol, TypeVar, cast

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.formats._inputs import input_files
from prefixsim.formats._rows import BadFieldError, CheckedRows, JsonRows
from prefixsim.formats.logs._bodies import read_answer, read_request
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import (
    Places,
    as_object,
    at,
    first,
    label,
    outcome,
    seconds,
)
from prefixsim.formats.logs._traces import LogTrace, trace_of_calls
from prefixsim.trace import LATEST_S, Trace

__all__ = [
    "LogSource",
    "Piece",
    "attempt",
    "call_of_row",
    "has_fields",
    "log_format",
    "object_rows",
    "read_calls",
    "read_logs",
    "row_join",
    "row_source",
    "session_of_user",
]

_ADVICE = "fix the line or pass --skip-bad-rows"


R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ParsedRows(Protocol[R_co]):
    """Rows of a file, parsed: what :class:`CheckedRows` and its kinds are."""

    @property
    def rows(self) -> Sequence[R_co]:
        """What was parsed of each row."""
        ...

    @property
    def checked(self) -> CheckedRows:
        """The rows as they may turn out to be bad."""
        ...


@dataclass(frozen=True, slots=True)
class Piece(Generic[R]):
    """What a row of a log says: the whole of a call, or a part that joins with others.

    Attributes
    ----------
    line : int
    value : object
    file : int
        Which of the files that are read together.
    """

    line: int
    value: R
    file: int = 0


@dataclass(frozen=True)
class LogSource(Generic[R]):
    """One source of request logs.

    Attributes
    ----------
    name, title : str
        As in :class:`~prefixsim.formats.Format`.
    matches : callable
        As in :class:`~prefixsim.formats.Format`.
    rows : callable
        Reads the rows of a file, as :attr:`join` takes them.
    join : callable
        Makes calls of the pieces of all files.
    keeps : mapping of str to str
        For each thing that may be lost, the setting of the logger that keeps it.
    family : Family
    ordered : bool
        Whether rows must be in order of time; most logs are in order of completion.
    """

    name: str
    title: str
    matches: Callable[[Head], Confidence]
    rows: Callable[[Path, ReadOptions], ParsedRows[R]]
    join: Callable[[Sequence[Piece[R]]], Iterable[Call]]
    keeps: Mapping[str, str] = field(default_factory=dict)
    family: Family = Family.JSON
    ordered: bool = False


def log_format(source: LogSource[R]) -> Format:
    """Return the format of a source; files of it that are named together are read together."""
    return Format(
        name=source.name,
        title=source.title,
        family=source.family,
        matches=source.matches,
        read=lambda path, options: read_logs(source, [path], options).trace,
        read_together=lambda paths, options: read_logs(source, paths, options).trace,
        calls=partial(read_logs, source),
    )


def read_calls(path: str | Path, *, skip_bad_rows: bool = False, sort: bool = False) -> LogTrace:
    """Read a log as calls, with the trace that is made of them.

    Parameters
    ----------
    path : path
        A file or a pattern, of a format that is a log.
    skip_bad_rows, sort : bool, optional
        As for :func:`prefixsim.formats.read_trace`.

    Raises
    ------
    InputError
        If it is no log, or a row is bad.
    """
    from prefixsim.formats._sniff import sniff_format  # noqa: PLC0415 - it asks every format

    with input_files(path) as files:
        chosen = sniff_format(files[0])
        if chosen.calls is None:
            msg = f"{path}: format {chosen.name} is a trace, not a log of calls"
            raise InputError(msg)
        found = chosen.calls(files, ReadOptions(sort=sort, skip_bad_rows=skip_bad_rows))
    assert isinstance(found, LogTrace)
    return found


def read_logs(source: LogSource[R], paths: Sequence[Path], options: ReadOptions) -> LogTrace:
    """Read the files of a source together."""
    checked: list[CheckedRows] = []
    pieces: list[Piece[R]] = []
    for number, path in enumerate(paths):
        parsed = source.rows(path, options)
        rows = parsed.checked
        rows.raise_unreadable()
        checked.append(rows)
        pieces += (
            Piece(int(line), value, number)
            for line, value in zip(rows.lines, parsed.rows, strict=True)
        )
    calls = list(source.join(pieces))
    _refuse_bad(calls, checked)
    good = [call for call in calls if not call.bad]
    if not good:
        reason = next((f", {told}" for told in Counter(c.bad for c in calls)), "")
        msg = f"{paths[0]}: no call in this {source.name} log{reason}"
        raise InputError(msg)
    if source.ordered and not options.sort:
        _check_order(good, checked)
    found = trace_of_calls(good, source.keeps, name=str(paths[0]))
    return found._replace(trace=_with_skipped(found.trace, checked, options))


def _refuse_bad(calls: Iterable[Call], checked: Sequence[CheckedRows]) -> None:
    for call in sorted((c for c in calls if c.bad), key=lambda c: (c.file, c.line)):
        checked[call.file].leave_out(call.line, call.bad)


def _check_order(calls: Sequence[Call], checked: Sequence[CheckedRows]) -> None:
    for before, call in pairwise(calls):
        if before.time is not None and call.time is not None and call.time < before.time:
            start = min(c.time or 0.0 for c in calls)
            msg = (
                f"{checked[call.file].path}:{call.line}: timestamp: {call.time - start:g} s is "
                f"earlier than {before.time - start:g} s in the row before; pass --sort to sort by "
                "time"
            )
            raise InputError(msg)


def _with_skipped(trace: Trace, checked: Sequence[CheckedRows], options: ReadOptions) -> Trace:
    skipped: Counter[str] = Counter(trace.meta.get("rows_skipped", {}))
    for rows in checked:
        skipped.update(rows.left_out())
    if options.rejects is not None:
        CheckedRows.write_rejects(checked, options.rejects)
    return trace.replace(meta={**trace.meta, "rows_skipped": dict(skipped)}) if skipped else trace


def attempt(piece: Piece[R], make: Callable[[Call], None]) -> Call:
    """Return the call that ``make`` fills in; what is wrong with it becomes ``bad``."""
    call = Call(piece.line, file=piece.file)
    try:
        make(call)
        if call.time is not None and not abs(call.time) <= LATEST_S:
            raise BadFieldError("timestamp", f"{call.time:g} s is no time")
    except BadFieldError as bad:
        call.bad = str(bad)
    except (TypeError, AttributeError, RecursionError):
        call.bad = "fields are not of the types that this log has"
    return call


def call_of_row(row: object, places: Places, call: Call) -> None:
    """Fill in a call from a row that holds all of it.

    Raises
    ------
    BadFieldError
        For the first field that cannot be used.
    """
    call.time = seconds(row, places.time)
    length = first(row, places.duration)[1]
    if length not in (None, "-"):
        call.duration = float(cast("float", length)) / places.duration_unit
        if places.ends and call.time is not None:
            call.time -= call.duration
    call.session = _named(label(row, places.session))
    call.model = _named(label(row, places.model))
    stream = first(row, places.stream)[1]
    call.stream = stream if isinstance(stream, bool) else None
    url = label(row, places.url)
    body = as_object(first(row, places.body)[1])
    if body:
        read_request(call, body, url)
    answer = first(row, places.answer)[1]
    call.outcome = outcome(first(row, places.outcome)[1]) or "ok"
    if call.outcome == "ok":
        read_answer(call, answer)
        call.id = call.id or label(row, places.id)
    call.user = _named(label(row, places.user)) or call.user
    call.session = call.session or session_of_user(call.user)


def _named(name: str | None) -> str | None:
    return None if name in (None, "", "-") else name


def session_of_user(user: str | None) -> str | None:
    """Return the session that Claude Code writes into the user's id."""
    if user is None:
        return None
    if "_session_" in user:
        return user.rsplit("_session_", 1)[1] or None
    inner = at(user, "session_id") if user.startswith("{") else None
    return inner if isinstance(inner, str) else None


def object_rows(path: Path, options: ReadOptions) -> JsonRows[JsonObject]:
    """Read JSON Lines of objects."""
    return JsonRows(path, _object, options)


def _object(value: object, line: int) -> JsonObject:
    del line
    if not isinstance(value, dict):
        raise BadFieldError("", "expected a JSON object")
    return value


def row_join(places: Places) -> Callable[[Sequence[Piece[JsonObject]]], Iterable[Call]]:
    """Return the ``join`` of a source whose rows are whole calls."""

    def join(pieces: Sequence[Piece[JsonObject]]) -> Iterable[Call]:
        for piece in pieces:
            yield attempt(piece, partial(call_of_row, piece.value, places))

    return join


def has_fields(*paths: str, sure: bool = True) -> Callable[[Head], Confidence]:
    """Return a ``matches``: whether the first row has something at all these paths."""
    surest = Confidence.CERTAIN if sure else Confidence.POSSIBLE

    def matches(head: Head) -> Confidence:
        found = all(_present(head.row, path) for path in paths)
        return surest if found else Confidence.NO

    return matches


def _present(row: object, path: str) -> bool:
    outer, _, key = path.rpartition("/")
    holder = at(row, outer) if outer else row
    return key in as_object(holder)


def row_source(
    name: str,
    title: str,
    places: Places,
    *,
    matches: Callable[[Head], Confidence],
    keeps: Mapping[str, str],
) -> LogSource[JsonObject]:
    """Return a source whose rows are whole calls."""
    return LogSource(
        name=name,
        title=title,
        rows=object_rows,
        join=row_join(places),
        matches=matches,
        keeps=keeps,
    )
