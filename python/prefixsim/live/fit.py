"""The latency of a server, from when its answers came."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.simulate import compile_workload, simulate
from prefixsim.errors import InputError
from prefixsim.hardware.latency import Fixed
from prefixsim.trace import Trace

__all__ = ["fit_latency"]

_LEAST_S, _MOST_S = 1e-5, 10.0
_HALVINGS = 20


def fit_latency(trace: Trace, settings: VllmSettings) -> VllmSettings:
    """Return settings whose step costs what makes the median answer take as long as recorded.

    Hits depend on which requests met, and so on how long answers take; how long is found by
    bisection over the cost of a step, as an answer takes the longer the more a step costs.

    Parameters
    ----------
    trace : Trace
        Token ids, with ``answer_s``.
    settings : VllmSettings
        ``latency`` is replaced.

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
    size = settings.tokens_per_block
    workload = compile_workload(trace, size, max_model_len=settings.max_model_len)
    low, high = _LEAST_S, _MOST_S
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        run = simulate(trace, replace(settings, latency=Fixed(middle)), workload=workload)
        requests = run.raw["requests"]
        took = (requests["finish_ns"] - requests["arrival_ns"])[known] / 1e9
        low, high = (middle, high) if np.median(took) < wanted else (low, middle)
    return replace(settings, latency=Fixed(float(np.sqrt(low * high))))
