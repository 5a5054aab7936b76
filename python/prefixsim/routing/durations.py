"""Times and changes of size as they are typed: ``20ms``, ``600s:+2``."""

from __future__ import annotations

import re
from itertools import pairwise

__all__ = ["read_scaling", "read_seconds"]

_TIME = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ns|us|ms|s|min|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_CHANGE = re.compile(r"([+-])([0-9]{1,4})")


def read_seconds(text: str) -> float:
    """Return the seconds that a time stands for.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> read_seconds("20ms"), read_seconds("10min")
    (0.02, 600.0)
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("give a time like 20ms or 600s")
    return float(match[1]) * _SECONDS[match[2]]


def read_scaling(text: object) -> tuple[tuple[float, int], ...]:
    """Return the times at which replicas are added or taken away, and how many.

    Raises
    ------
    ValueError
        If a part is not like ``600s:+2``, or times descend.

    Examples
    --------
    >>> read_scaling("600s:+2,20min:-1")
    ((600.0, 2), (1200.0, -1))
    """
    if not isinstance(text, str):
        try:
            found = [(float(time), int(change)) for time, change in text]  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            raise ValueError(
                "give changes like 600s:+2, or pairs of seconds and replicas"
            ) from None
    else:
        found = [_change(part) for part in text.split(",")]
    if any(after[0] < before[0] for before, after in pairwise(found)):
        raise ValueError("give changes in order of time")
    return tuple(found)


def _change(part: str) -> tuple[float, int]:
    time, colon, change = part.strip().partition(":")
    match = _CHANGE.fullmatch(change.strip())
    if not colon or match is None or int(match[2]) == 0:
        raise ValueError("give a time and a change, like 600s:+2")
    return read_seconds(time), int(match[1] + match[2])
