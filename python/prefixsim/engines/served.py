"""What engines with time report alike: seconds per request, and figures of the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.stats import distribution

__all__ = ["request_times", "time_figures"]


class ServedRequests(TypedDict):
    """When each request came, was let in, had its first token and was done."""

    arrival_ns: npt.NDArray[np.uint64]
    admit_ns: npt.NDArray[np.uint64]
    first_token_ns: npt.NDArray[np.uint64]
    finish_ns: npt.NDArray[np.uint64]


class ServedTotals(TypedDict):
    """Steps of a run and how long they took."""

    steps: int
    final_clock_ns: int
    busy_ns: int


def request_times(
    requests: ServedRequests, sampled: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return seconds per request: ``queue_s``, ``ttft_s``, ``tpot_s``, ``e2e_s``.

    Queueing ends when the first step of a request begins; a token is there when the step that
    sampled it ends. ``tpot_s`` is the time per token after the first, and not a number for
    requests that sample one.

    Parameters
    ----------
    requests : mapping
        The core's columns ``arrival_ns``, ``admit_ns``, ``first_token_ns`` and ``finish_ns``.
    sampled : ndarray of int64, shape (requests,)
        Tokens each request samples.
    """
    arrival, first = requests["arrival_ns"], requests["first_token_ns"]
    later = sampled - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = (requests["finish_ns"] - first) / 1e9 / later
    return {
        "queue_s": (requests["admit_ns"] - arrival) / 1e9,
        "ttft_s": (first - arrival) / 1e9,
        "tpot_s": np.where(later > 0, tpot, np.nan),
        "e2e_s": (requests["finish_ns"] - arrival) / 1e9,
    }


def time_figures(
    requests: ServedRequests,
    totals: ServedTotals,
    output_tokens: int,
    times: Mapping[str, npt.NDArray[np.float64]],
) -> JsonObject:
    """Return steps, durations, throughput and the distributions of times; plain values."""
    start = int(requests["arrival_ns"].min()) if len(requests["arrival_ns"]) else 0
    span = (totals["final_clock_ns"] - start) / 1e9
    return {
        "steps": totals["steps"],
        "duration_s": span,
        "busy_s": totals["busy_ns"] / 1e9,
        "output_tokens_per_s": output_tokens / span if span else None,
        **{name: distribution(values[np.isfinite(values)]) for name, values in times.items()},
    }
