"""Whose answer each request waits for, and how long its client thinks."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from prefixsim.errors import InputError
from prefixsim.trace import Trace

__all__ = ["TurnColumns", "think_times", "turns_of"]

TurnColumns: TypeAlias = tuple[
    npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.uint64]
]
"""Whom each request follows, its think time, and its earliest time, in nanoseconds."""

FIRST = 2**32 - 1
"""What a request follows that follows none, as in the core."""


def turns_of(trace: Trace, think_time: float | None, *, closed: bool = False) -> TurnColumns:
    """Return the columns of a trace's turns.

    Parameters
    ----------
    trace : Trace
        Requests of one session follow each other; without sessions none follows another.
    think_time : float or None
        Seconds from an answer to the next turn. ``None``: as recorded, see :func:`think_times`.
    closed : bool
        Clients of a closed loop: nothing waits for its timestamp.

    Raises
    ------
    InputError
        If the trace has no sessions, and is no closed loop.
    """
    if trace.session is None and not closed:
        msg = f"{trace.name}: has no sessions, so no request waits for an answer; use closed:K"
        raise InputError(msg)
    before = previous_turns(trace)
    first = before < 0
    think = np.full(len(trace), think_time or 0.0)
    earliest = np.where(first, trace.timestamp, 0.0)
    if think_time is None:
        known = think_times(trace, before)
        think = np.nan_to_num(known, nan=0.0)
        earliest = np.where(first | np.isnan(known), trace.timestamp, 0.0)
    if closed:
        earliest = np.zeros(len(trace))
    after = np.where(first, FIRST, before).astype(np.uint32)
    return after, _nanoseconds(think), _nanoseconds(earliest)


def previous_turns(trace: Trace) -> npt.NDArray[np.int64]:
    """Return the row of the request before each one in its session; -1 if there is none."""
    before = np.full(len(trace), -1, dtype=np.int64)
    if trace.session is None:
        return before
    codes = trace.session.codes
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    before[order[1:][same]] = order[:-1][same]
    unnamed = [code for code, name in enumerate(trace.session.names) if not name]
    before[np.isin(codes, unnamed)] = -1
    return before


def think_times(trace: Trace, before: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the seconds between the answer to the turn before and each request.

    Not a number where there is none, where the trace does not say when its answer came
    (``answer_s``), or where the request was sent before it.
    """
    unknown = np.full(len(trace), np.nan)
    if trace.answer_s is None:
        return unknown
    answered = np.where(trace.answer_s > 0, trace.timestamp + trace.answer_s, np.nan)
    think = np.where(before >= 0, trace.timestamp - answered[before], np.nan)
    return np.where(think >= 0, think, np.nan)


def _nanoseconds(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    return np.rint(np.maximum(seconds, 0.0) * 1e9).astype(np.uint64)
