"""What engines with time report alike: seconds per request, and figures of the whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.stats import distribution
from prefixsim.trace.columns import Array

if TYPE_CHECKING:
    from prefixsim.trace import Trace

__all__ = [
    "arriving",
    "known_outputs",
    "preempted_tokens",
    "request_columns",
    "request_times",
    "time_figures",
]

_LATEST_S = 1.8e10
"""Seconds that a clock of nanoseconds has room for."""


class ServedRequests(TypedDict):
    """What the core says of each request: its hits, and when it came, was let in and was done."""

    hit_tokens: npt.NDArray[np.uint32]
    preemptions: npt.NDArray[np.uint32]
    admit_step: npt.NDArray[np.uint64]
    first_token_step: npt.NDArray[np.uint64]
    finish_step: npt.NDArray[np.uint64]
    arrival_ns: npt.NDArray[np.uint64]
    admit_ns: npt.NDArray[np.uint64]
    first_token_ns: npt.NDArray[np.uint64]
    finish_ns: npt.NDArray[np.uint64]


class ServedTotals(TypedDict):
    """Steps of a run and how long they took."""

    steps: int
    final_clock_ns: int
    busy_ns: int


class Arriving(NamedTuple):
    """The columns of a trace that the core's servers begin with, in its order."""

    offsets: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
    id_block_size: int
    prompt_len: npt.NDArray[np.uint32]
    output_len: npt.NDArray[np.uint32]
    arrival_ns: npt.NDArray[np.uint64]


def arriving(trace: Trace) -> Arriving:
    """Return the prompts of a trace and when they come.

    Raises
    ------
    InputError
        If the trace has no token or hash ids, or timestamps that are negative or not ascending.
    """
    if trace.prompts is None:
        msg = f"{trace.name}: has no token or hash ids to simulate with"
        raise InputError(msg)
    times = trace.timestamp
    if len(trace) and not 0 <= float(times[0]) <= float(times[-1]) < _LATEST_S:
        msg = f"{trace.name}: timestamps must be seconds from 0, ascending"
        raise InputError(msg)
    return Arriving(
        trace.prompts.offsets,
        trace.prompts.values,
        trace.id_block_size,
        trace.prompt_len,
        trace.output_len,
        np.rint(times * 1e9).astype(np.uint64),
    )


def known_outputs(
    trace: Trace, *, wanted: bool
) -> tuple[npt.NDArray[np.uint64] | None, npt.NDArray[np.uint32] | None]:
    """Return offsets and ids of the outputs, where they are wanted and known as tokens."""
    produced = trace.outputs if wanted and trace.kind == "tokens" else None
    if produced is None:
        return None, None
    return produced.offsets, produced.values.astype(np.uint32, copy=False)


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


def preempted_tokens(
    requests: ServedRequests, readmitted: Sequence[tuple[int, int, int]]
) -> npt.NDArray[np.uint32]:
    """Return hit tokens of each request that it had to compute after a preemption.

    Parameters
    ----------
    requests : mapping
    readmitted : sequence of (request, step, hit tokens)
        Each time a request was let in once more.
    """
    again = np.zeros(len(requests["hit_tokens"]), dtype=np.uint32)
    for request, _, hits in readmitted:
        before = int(requests["hit_tokens"][request])
        again[request] = max(int(again[request]), before - min(hits, before))
    return again


def request_columns(
    requests: ServedRequests,
    own: Mapping[str, Array],
    times: Mapping[str, npt.NDArray[np.float64]] | None,
) -> dict[str, Array]:
    """Return columns of an outcome: preemptions, the engine's own, steps and seconds if timed."""
    columns: dict[str, Array] = {"preemptions": requests["preemptions"], **own}
    if times is not None:
        columns |= {
            "admit_step": requests["admit_step"],
            "first_token_step": requests["first_token_step"],
            "finish_step": requests["finish_step"],
            **times,
        }
    return columns


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
