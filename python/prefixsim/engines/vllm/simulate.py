"""vLLM V1 step by step: its scheduler and KV-cache manager, with time.

``docs/vllm.md`` says what is simulated, and how it is known to match.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim._arrow_files import write_table
from prefixsim._files import atomic_path
from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import block_size_for
from prefixsim.engines.outcome import Outcome
from prefixsim.engines.served import (
    preempted_tokens,
    request_columns,
    request_times,
    time_figures,
)
from prefixsim.engines.vllm import offload
from prefixsim.engines.vllm.settings import VllmSettings
from prefixsim.engines.vllm.workload import (
    compile_workload,
    compiled,
    core_settings,
    workload_of,
)
from prefixsim.errors import InputError, SettingError
from prefixsim.settings import build
from prefixsim.trace.columns import Array

if TYPE_CHECKING:
    import pyarrow as pa

    from prefixsim.forest import Forest
    from prefixsim.trace import Trace

__all__ = ["Simulation", "compile_workload", "core_settings", "replay", "simulate", "workload_of"]

NAME = "vllm"


@dataclass(frozen=True, eq=False)
class Simulation:
    """One run of the engine.

    Attributes
    ----------
    trace : Trace
    settings : VllmSettings
    raw : dict
        The core's columns and totals; times in nanoseconds.
    workload : VllmWorkload
        The compiled trace.
    offloaded : dict or None
        What host memory and disk did, if there is offloading.
    """

    trace: Trace
    settings: VllmSettings
    raw: _core._VllmRun
    workload: _core.VllmWorkload
    offloaded: _core._OffloadRun | None = None

    @property
    def totals(self) -> _core._VllmTotals:
        """Sums over the run, as the core counts them."""
        return self.raw["totals"]

    @property
    def timed(self) -> bool:
        """Whether there were steps."""
        return self.settings.arrivals != "sequential"

    @cached_property
    def times(self) -> dict[str, npt.NDArray[np.float64]]:
        """Seconds per request, see :func:`~prefixsim.engines.served.request_times`."""
        return request_times(self.raw["requests"], self.sampled)

    @cached_property
    def sampled(self) -> npt.NDArray[np.int64]:
        """Tokens each request sampled."""
        wanted = np.maximum(self.trace.output_len, 1).astype(np.int64)
        if self.settings.max_model_len is None:
            return wanted
        return np.minimum(
            wanted, self.settings.max_model_len - self.trace.prompt_len.astype(np.int64)
        )

    def summary(self) -> JsonObject:
        """Return figures of the run; plain values."""
        totals = self.totals
        usable = None if self.settings.blocks is None else self.settings.blocks - 1
        stats = dict(zip(("requests", "queries", "hits"), totals["stats"], strict=True))
        again = dict(zip(("requests", "queries", "hits"), totals["stats_preempted"], strict=True))
        found: JsonObject = {
            "preemptions": totals["preemptions"],
            "prefix_cache_stats": stats,
            "prefix_cache_stats_preempted": again,
            "scheduled_tokens": totals["scheduled_tokens"],
            "output_tokens": int(self.sampled.sum()),
            "peak_blocks": totals["peak_used"],
        }
        if self.settings.spec_method is not None:
            names = ("steps", "drafts", "accepted")
            found["spec_decoding"] = dict(zip(names, totals["drafts"], strict=True))
        if self.offloaded is not None:
            found |= offload.summary(self.offloaded)
        if not self.timed:
            return found
        steps, busy = totals["steps"], totals["busy_ns"]
        mean = totals["used_ns"] / busy if busy else totals["used_steps"] / max(steps, 1)
        figures = time_figures(self.raw["requests"], totals, found["output_tokens"], self.times)
        return {
            **found,
            **figures,
            "mean_blocks": mean,
            "peak_cache_usage": totals["peak_used"] / usable if usable else None,
            "mean_cache_usage": mean / usable if usable else None,
        }

    @property
    def preempted_tokens(self) -> npt.NDArray[np.uint32]:
        """Hit tokens of each request that it had to compute after a preemption."""
        return preempted_tokens(self.raw["requests"], self.raw["resumes"])

    def columns(self) -> dict[str, Array]:
        """Return further columns per request."""
        requests = self.raw["requests"]
        own = {
            "num_blocks": requests["num_blocks"],
            "preempted_tokens": self.preempted_tokens,
        }
        if len(self.raw["limits"]["full"]):
            limits = self.raw["limits"]
            own |= {
                "agreed_full": limits["full"],
                "agreed_window": limits["window"],
                "agreed_state": limits["state"],
                "agreed_aligned": limits["aligned"],
            }
        return request_columns(requests, own, self.times if self.timed else None)

    def outcome(self) -> Outcome:
        """Return what all engines report."""
        r = self.raw["requests"]
        hit_tokens = r["hit_tokens"]
        totals = self.totals
        records: dict[str, Callable[[Path], object]] = {}
        if "steps" in self.settings.record:
            records["steps"] = self.write_steps
        if "kv_events" in self.settings.record:
            records["kv_events"] = self.write_kv_events
        return Outcome(
            engine=NAME,
            config=self.settings.to_config(NAME),
            hit_tokens=hit_tokens,
            hit_blocks=hit_tokens // np.uint32(self.settings.tokens_per_block),
            computed_tokens=r["computed_tokens"].astype(np.uint32),
            counters={
                "evictions": totals["evictions"],
                "preemptions": totals["preemptions"],
                "steps": totals["steps"],
                "peak_blocks": totals["peak_used"],
            },
            columns=self.columns(),
            summary=self.summary(),
            records=records,
            **offload.by_tier(self.offloaded, self.settings, hit_tokens, self.trace.prompt_len),
        )

    def steps(self) -> pa.Table:
        """Return one row per step, as it was after scheduling; needs ``record_steps``."""
        import pyarrow as pa

        columns = self.raw["steps"]
        clock = columns["clock_ns"] / 1e9
        return pa.table(
            {
                "step": np.arange(1, len(clock) + 1, dtype=np.uint64),
                "clock_s": clock,
                **{k: columns[k] for k in ("requests", "tokens", "running", "waiting", "free")},
            }
        )

    def write_steps(self, path: str | Path) -> None:
        """Write :meth:`steps` as .parquet, .csv or .jsonl."""
        write_table(self.steps(), path)

    def kv_events(
        self, algorithm: str = "sha256_cbor", seed: str | None = None
    ) -> Iterator[JsonObject]:
        """Yield batches of KV events as vLLM publishes them; needs ``record_events``.

        Each batch is ``{"step", "ts", "events"}``; events are maps with vLLM's fields, hashes in
        the 64-bit form. Only traces of token ids with outputs have them.
        """
        from prefixsim.engines.vllm.kv_events import batches

        return batches(self, algorithm, seed)

    def write_kv_events(self, path: str | Path) -> int:
        """Write the batches of :meth:`kv_events` as JSON Lines; return how many events."""
        count = 0
        with (
            atomic_path(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as out,
        ):
            for batch in self.kv_events():
                count += len(batch["events"])
                out.write(json.dumps(batch, separators=(",", ":")) + "\n")
        return count


def simulate(
    trace: Trace,
    settings: VllmSettings | None = None,
    *,
    workload: _core.VllmWorkload | None = None,
    outputs: bool = True,
    record_steps: bool = False,
    record_events: bool = False,
    record_tables: bool = False,
    record_limits: bool = False,
    **options: object,
) -> Simulation:
    """Run vLLM's scheduler and KV cache manager on a trace.

    Parameters
    ----------
    trace : Trace
        Token ids, or hash ids; outputs it does not have are taken to be unlike any others.
    settings : VllmSettings, optional
    workload : VllmWorkload, optional
        The compiled trace, for further runs at the same block size.
    outputs : bool
        Use the trace's output tokens.
    record_steps, record_events, record_tables, record_limits : bool
        What to keep besides one row per request.
    **options
        The settings one by one, in place of ``settings``.

    Raises
    ------
    InputError
        If a setting is not usable or a request can never be served.

    Examples
    --------
    >>> from prefixsim import Trace
    >>> trace = Trace.from_prompts([range(40), range(48)], output_len=[5, 5])
    >>> run = simulate(trace, num_blocks=100)
    >>> run.outcome().hit_tokens.tolist()
    [0, 32]
    """
    if settings is None:
        settings = build(VllmSettings, options, owner=f"engine {NAME!r}")
    elif options:
        msg = f"settings and {next(iter(options))}: give either the settings or single options"
        raise InputError(msg)
    if record_tables and settings.blocks is None:
        msg = "record_tables: an unbounded cache has no tables worth keeping, give num_blocks"
        raise InputError(msg)
    offload.check(settings)
    size = block_size_for(trace, settings.block_size)
    settings = replace(settings, block_size=size).for_model()
    block_size_for(trace, settings.tokens_per_block)
    core = workload or compiled(trace, settings, outputs=outputs)
    wanted = core_settings(
        settings,
        trace,
        steps=record_steps,
        events=record_events,
        tables=record_tables,
        limits=record_limits,
    )
    offloaded = None
    try:
        if settings.kv_offloading_size is None or not settings.enable_caching:
            raw = core.simulate(**wanted)
        else:
            raw, offloaded = core.simulate_offload(wanted, offload.core_settings(settings))
    except (ValueError, OverflowError, TypeError) as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None
    return Simulation(trace, settings, raw, core, offloaded)


def replay(forest: Forest, settings: VllmSettings) -> Outcome:
    """Replay a trace with the engine."""
    if "kv_events" in settings.record and (settings.grouping or settings.looks_ahead):
        msg = "kv_events: events of several groups, or with a drafter's hashes, are not written"
        raise SettingError(msg)
    run = simulate(
        forest.trace,
        settings,
        workload=workload_of(forest, settings),
        record_steps="steps" in settings.record,
        record_events="kv_events" in settings.record,
        record_limits="limits" in settings.record,
    )
    return run.outcome()
