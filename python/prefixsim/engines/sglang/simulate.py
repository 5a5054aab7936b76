"""SGLang step by step: its scheduler and radix cache, with time.

``docs/sglang.md`` says what is simulated, and how it is known to match.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim._arrow_files import write_table
from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import block_size_for
from prefixsim.engines.outcome import Outcome
from prefixsim.engines.served import (
    arriving,
    known_outputs,
    preempted_tokens,
    request_columns,
    request_times,
    time_figures,
)
from prefixsim.engines.sglang.settings import SglangSettings
from prefixsim.errors import InputError
from prefixsim.trace.columns import Array

if TYPE_CHECKING:
    import pyarrow as pa

    from prefixsim.forest import Forest
    from prefixsim.trace import Trace

__all__ = ["Simulation", "compile_workload", "core_settings", "replay", "simulate", "workload_of"]

NAME = "sglang"
_KINDS = np.array(["idle", "prefill", "decode"])


def compile_workload(trace: Trace, *, outputs: bool = True) -> _core.SglangWorkload:
    """Compile a trace for the engine; worth keeping for several runs, at any page size.

    Raises
    ------
    InputError
        If the trace has no token or hash ids, or timestamps that are negative or not ascending.
    """
    columns = arriving(trace)
    output_offsets, output_ids = known_outputs(trace, wanted=outputs)
    try:
        return _core.SglangWorkload(
            *columns,
            salt=None if trace.salt is None else trace.salt.codes,
            session=None if trace.session is None else trace.session.codes,
            output_offsets=output_offsets,
            output_ids=output_ids,
            id_rank=_id_rank(trace),
        )
    except ValueError as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None


def _id_rank(trace: Trace) -> npt.NDArray[np.uint32] | None:
    """Return the place of each request in the order of their ids, which ``hrrn`` sorts by."""
    if trace.request_id is None:
        return None
    order = np.argsort(np.asarray(trace.request_id).astype(str), kind="stable")
    rank = np.empty(len(order), np.uint32)
    rank[order] = np.arange(len(order), dtype=np.uint32)
    return rank


@dataclass(frozen=True, eq=False)
class Simulation:
    """One run of the engine.

    Attributes
    ----------
    trace : Trace
    settings : SglangSettings
    raw : dict
        The core's columns and totals; times in nanoseconds.
    """

    trace: Trace
    settings: SglangSettings
    raw: _core._SglangRun

    @property
    def timed(self) -> bool:
        """Whether there were steps."""
        return self.settings.arrivals != "sequential"

    @cached_property
    def aborted(self) -> npt.NDArray[np.bool_]:
        """Requests that the server gave up: not even alone had they room to decode."""
        found = np.zeros(len(self.trace), dtype=np.bool_)
        found[self.raw["aborted"]] = True
        return found

    @cached_property
    def sampled(self) -> npt.NDArray[np.int64]:
        """Tokens each request samples."""
        return np.maximum(self.trace.output_len, 1).astype(np.int64)

    @cached_property
    def times(self) -> dict[str, npt.NDArray[np.float64]]:
        """Seconds per request, see :func:`~prefixsim.engines.served.request_times`.

        Not a number for aborted requests.
        """
        found = request_times(self.raw["requests"], self.sampled)
        return {name: np.where(self.aborted, np.nan, times) for name, times in found.items()}

    def summary(self) -> JsonObject:
        """Return figures of the run; plain values."""
        totals, capacity = self.raw["totals"], self.settings.capacity_tokens
        found: JsonObject = {
            "preemptions": totals["preemptions"],
            "aborted": len(self.raw["aborted"]),
            "scheduled_tokens": totals["scheduled_tokens"],
            "output_tokens": int(self.sampled[~self.aborted].sum()),
            "evicted_nodes": totals["evicted_nodes"],
            "evicted_tokens": totals["evicted_tokens"],
        }
        if not self.timed:
            return found
        busy, steps, size = totals["busy_ns"], totals["steps"], self.settings.tokens_per_block
        mean = totals["held_ns"] / busy if busy else totals["held_steps"] / max(steps, 1)
        return {
            **found,
            **time_figures(self.raw["requests"], totals, found["output_tokens"], self.times),
            "peak_blocks": totals["peak_held"] // size,
            "mean_blocks": mean / size,
            "peak_cache_usage": totals["peak_held"] / capacity if capacity else None,
            "mean_cache_usage": mean / capacity if capacity else None,
        }

    @property
    def preempted_tokens(self) -> npt.NDArray[np.uint32]:
        """Hit tokens of each request that it had to compute after a retraction."""
        return preempted_tokens(self.raw["requests"], self.raw["readmissions"])

    def columns(self) -> dict[str, Array]:
        """Return further columns per request."""
        own = {"preempted_tokens": self.preempted_tokens}
        return request_columns(self.raw["requests"], own, self.times if self.timed else None)

    def outcome(self) -> Outcome:
        """Return what all engines report."""
        r, totals = self.raw["requests"], self.raw["totals"]
        size = self.settings.tokens_per_block
        records: dict[str, Callable[[Path], object]] = {}
        if "sglang_steps" in self.settings.record:
            records["sglang_steps"] = self.write_steps
        return Outcome(
            engine=NAME,
            config=self.settings.to_config(NAME),
            hit_tokens=r["hit_tokens"],
            hit_blocks=r["hit_tokens"] // np.uint32(size),
            computed_tokens=r["computed_tokens"].astype(np.uint32),
            counters={
                "evictions": totals["evicted_tokens"] // size,
                "preemptions": totals["preemptions"],
                "steps": totals["steps"],
            },
            columns=self.columns(),
            summary=self.summary(),
            records=records,
        )

    def steps(self) -> pa.Table:
        """Return one row per step, as it was when its batch was chosen; needs ``record_steps``."""
        import pyarrow as pa

        columns = self.raw["steps"]
        return pa.table(
            {
                "step": np.arange(1, len(columns["kind"]) + 1, dtype=np.uint64),
                "clock_s": columns["clock_ns"] / 1e9,
                "kind": _KINDS[columns["kind"]],
                "requests": columns["requests"],
                "tokens": columns["tokens"],
                "running": columns["running"],
                "waiting": columns["waiting"],
                "free": columns["free"],
                "evictable": columns["evictable"],
            }
        )

    def write_steps(self, path: str | Path) -> None:
        """Write :meth:`steps` as .parquet, .csv or .jsonl."""
        write_table(self.steps(), path)


def simulate(
    trace: Trace,
    settings: SglangSettings,
    *,
    workload: _core.SglangWorkload | None = None,
    outputs: bool = True,
    record_steps: bool = False,
) -> Simulation:
    """Run the engine on a trace.

    Parameters
    ----------
    trace : Trace
        Token ids, or hash ids; outputs it does not have are taken to be unlike any others.
    settings : SglangSettings
    workload : SglangWorkload, optional
        The compiled trace, for further runs.
    outputs : bool
        Use the trace's output tokens.
    record_steps : bool
        Keep a row per step.

    Raises
    ------
    InputError
        If a setting is not usable or a request can never be served.

    Examples
    --------
    >>> from prefixsim import Trace
    >>> trace = Trace.from_prompts([range(40), range(48)], output_len=[5, 5])
    >>> run = simulate(trace, SglangSettings(num_blocks=1000))
    >>> run.outcome().hit_tokens.tolist()
    [0, 40]
    """
    settings = settings.for_model()
    settings = replace(settings, block_size=block_size_for(trace, settings.block_size, default=1))
    compiled = workload or compile_workload(trace, outputs=outputs)
    try:
        raw = compiled.simulate(**core_settings(settings, trace), record_steps=record_steps)
    except (ValueError, OverflowError, TypeError) as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None
    return Simulation(trace, settings, raw)


def core_settings(settings: SglangSettings, trace: Trace) -> JsonObject:
    """Return what the core takes."""
    mode, in_flight = settings.arrival_mode(trace)
    return {
        "version": settings.sglang_version,
        "page_size": settings.tokens_per_block,
        "capacity_tokens": settings.capacity_tokens,
        "enable_caching": settings.enable_caching,
        **settings.eviction(),
        "schedule_policy": settings.schedule_policy,
        "overlap": not settings.disable_overlap_schedule,
        "chunked_prefill_size": settings.chunked_prefill_size,
        "max_prefill_tokens": settings.max_prefill_tokens,
        "max_running_requests": settings.max_running_requests,
        "req_pool_size": 2 * settings.max_running_requests,
        "schedule_conservativeness": settings.schedule_conservativeness,
        "max_new_slack": settings.max_new_tokens_slack,
        "preemption_threshold": None,
        "arrivals": mode,
        "in_flight": in_flight,
        "with_output": True,
        "latency": settings.latency_model().settings(),
    }


def _hierarchical(
    trace: Trace, settings: SglangSettings, workload: _core.SglangWorkload
) -> Outcome:
    """Replay a trace with host memory as second tier, one request after the other."""
    capacity = settings.capacity_tokens
    if capacity is None or not settings.enable_caching:
        msg = "enable_hierarchical_cache: give num_blocks, and leave prefix caching on"
        raise InputError(msg)
    size = settings.tokens_per_block
    try:
        run = workload.hicache(
            version=settings.sglang_version,
            page_size=size,
            capacity_tokens=capacity,
            host_tokens=int(capacity * settings.hicache_ratio),
            **settings.eviction(),
            write_policy=settings.hicache_write_policy,
            with_output=True,
        )
    except (ValueError, OverflowError, TypeError) as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None
    loaded = run["loaded_tokens"]
    hit_tokens = run["device_tokens"] + loaded
    totals = run["totals"]
    return Outcome(
        engine=NAME,
        config=settings.to_config(NAME),
        hit_tokens=hit_tokens,
        hit_blocks=hit_tokens // np.uint32(size),
        computed_tokens=trace.prompt_len - hit_tokens,
        counters={"evictions": int(run["freed"].sum()) // size},
        summary={f"host_{name}": totals[name] for name in ("written", "loaded")}
        | {"host_evicted": totals["host_evicted"]},
        tier_hit_tokens={"hbm": run["device_tokens"], "dram": loaded},
        loaded_tokens=loaded,
    )


_workloads: WeakKeyDictionary[Forest, dict[bool, _core.SglangWorkload]]
_workloads = WeakKeyDictionary()


def workload_of(forest: Forest, settings: SglangSettings) -> _core.SglangWorkload:
    """Return the compiled trace, made once for all runs on a forest."""
    kept = _workloads.setdefault(forest, {})
    outputs = bool(settings.cache_outputs)
    if outputs not in kept:
        kept[outputs] = compile_workload(forest.trace, outputs=outputs)
    return kept[outputs]


def replay(forest: Forest, settings: SglangSettings) -> Outcome:
    """Replay a trace with the engine."""
    workload = workload_of(forest, settings)
    if settings.enable_hierarchical_cache:
        return _hierarchical(forest.trace, settings, workload)
    run = simulate(
        forest.trace,
        settings,
        workload=workload,
        record_steps="sglang_steps" in settings.record,
    )
    outcome = run.outcome()
    # The forest knows no last tokens of outputs, which some versions cache.
    known = forest.profile(settings.tokens_per_block).reusable_blocks
    return replace(outcome, hit_blocks=np.minimum(outcome.hit_blocks, known))
