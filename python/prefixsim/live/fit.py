"""The latency of a server, from when its answers came."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.engines import Engine, EngineSettings
from prefixsim.errors import InputError
from prefixsim.hardware.latency import Fixed
from prefixsim.study.replay import forest_for, replay, settled
from prefixsim.trace import Trace

__all__ = ["fit_latency"]

_LEAST_S, _MOST_S = 1e-5, 10.0
_HALVINGS = 20


S = TypeVar("S", bound=EngineSettings)


def fit_latency(trace: Trace, settings: S, engine: Engine) -> S:
    """Return settings whose step costs what makes the median answer take as long as recorded.

    Hits depend on which requests met, and so on how long answers take; how long is found by
    bisection over the cost of a step, as an answer takes the longer the more a step costs.

    Parameters
    ----------
    trace : Trace
        Token ids, with ``answer_s``.
    settings : EngineSettings
        ``latency`` is replaced.
    engine : Engine
        One with time.

    Raises
    ------
    InputError
        If the trace does not know when its answers came.
    """
    known = np.zeros(len(trace), bool) if trace.answer_s is None else trace.answer_s > 0
    if not known.any() or trace.answer_s is None:
        msg = f"{trace.name}: does not know when answers came, give the latency of a step"
        raise InputError(msg)
    wanted = float(np.median(trace.answer_s[known]))
    start = settled(trace, engine, settings)
    forest = forest_for(trace, start)
    low, high = _LEAST_S, _MOST_S
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        run = replay(forest, engine=engine, settings=_costing(start, middle))
        took = np.asarray(run.outcome.columns["e2e_s"])[known]
        low, high = (middle, high) if np.median(took) < wanted else (low, middle)
    return _costing(settings, float(np.sqrt(low * high)))


def _costing(settings: S, seconds: float) -> S:
    """Return settings under which every step takes so long."""
    changed: JsonObject = {"latency": Fixed(seconds)}
    return replace(settings, **changed)
