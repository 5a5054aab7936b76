"""Where the fields of a row are: paths into JSON, times, labels.

A path is keys joined by ``/``; a string on the way that holds JSON is opened, since logs keep
bodies both ways. Several paths stand for the first that is there.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime

from prefixsim._json import JsonObject
from prefixsim._printable import encodable
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs._call import Outcome

__all__ = [
    "SECONDS_BELOW",
    "Places",
    "as_object",
    "at",
    "count",
    "first",
    "label",
    "opened",
    "outcome",
    "seconds",
]

LARGEST_COUNT = 2**32 - 1
SECONDS_BELOW = 1e11
"""A time as a number is in seconds if it is below this."""
_UNITS = ((SECONDS_BELOW, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))

Paths = tuple[str, ...]


@dataclass(frozen=True)
class Places:
    """Where the fields of a call are in a row.

    Attributes
    ----------
    time : tuple of str
        When it began; or ended, if ``duration`` says how long it took.
    duration : tuple of str
        Seconds, or with ``duration_unit`` parts of one, from the start to the end.
    ends : bool
        Whether ``time`` is the end of the call.
    body, answer : tuple of str
        The request and the response.
    url : tuple of str
        Tells which API was called, where the body does not.
    id, session, user, model, stream, outcome : tuple of str
        Outside the body; what the body itself says comes after these (``user``, ``model``).
    """

    time: Paths = ()
    body: Paths = ()
    answer: Paths = ()
    duration: Paths = ()
    duration_unit: float = 1.0
    ends: bool = False
    url: Paths = ()
    id: Paths = ()
    session: Paths = ()
    user: Paths = ()
    model: Paths = ()
    stream: Paths = ()
    outcome: Paths = ()


def opened(value: object) -> object:
    """Return what a string of JSON holds; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def at(row: object, path: str) -> object:
    """Return what is at a path, or ``None``.

    >>> at({"a": '{"b": [1]}'}, "a/b")
    [1]
    """
    value = row
    for key in path.split("/"):
        value = opened(value)
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def first(row: object, paths: Paths) -> tuple[str, object]:
    """Return the first path at which there is something, and what it is."""
    for path in paths:
        value = at(row, path)
        if value is not None and value != "":
            return path, value
    return paths[0] if paths else "", None


def label(row: object, paths: Paths) -> str | None:
    """Return a name, which may be written as a number."""
    path, value = first(row, paths)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadFieldError(path, "expected a string")
    return encodable(str(value))


def count(row: object, paths: Paths) -> int | None:
    """Return a number of tokens; absent is unknown."""
    path, value = first(row, paths)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_COUNT:
        raise BadFieldError(path.replace("/", "."), "expected a whole number from 0")
    return value


def seconds(row: object, paths: Paths) -> float | None:
    """Return a time in seconds since the epoch.

    A number is in s, ms, µs or ns, told apart by size (below 1e11, 1e14 and 1e17); a string is
    such a number or an ISO 8601 date, UTC if it names no zone.
    """
    path, value = first(row, paths)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = int(text := value) if value.isdecimal() else float(text := value)
        except ValueError:
            return _iso(path, text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadFieldError(path, "expected a number or an ISO 8601 date")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadFieldError(path, "is not a finite number")
    return number / next(unit for limit, unit in _UNITS if abs(number) < limit)


def _iso(path: str, value: str) -> float:
    text = value.strip().removesuffix(" UTC")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise BadFieldError(path, f"{value[:40]!r} is not an ISO 8601 date") from None


def outcome(value: object) -> Outcome | None:
    """Return ``ok`` or ``error`` for an HTTP status, a word, or a flag."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool):
        return "ok" if value else "error"
    if isinstance(value, int):
        return "error" if value >= 400 or value == 0 else "ok"
    if isinstance(value, str):
        return "error" if value.lower() in {"failure", "error", "failed"} else "ok"
    return None


def as_object(value: object) -> JsonObject:
    """Return a JSON object, opened; empty if it is none."""
    value = opened(value)
    return value if isinstance(value, dict) else {}
