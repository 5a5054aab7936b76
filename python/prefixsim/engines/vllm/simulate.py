"""vLLM V1 step by step: its scheduler and KV-cache manager, with time.

``docs/vllm.md`` says what is simulated, and how it is known to match.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim.engines import Settings
from prefixsim.engines.outcome import Outcome
from prefixsim.errors import InputError
from prefixsim.hardware.gpus import Model, kv_blocks
from prefixsim.hardware.latency import Fixed, Latency, parse_latency
from prefixsim.stats import distribution

if TYPE_CHECKING:
    import pyarrow as pa

    from prefixsim.forest import Forest
    from prefixsim.trace import Trace

__all__ = ["OPTIONS", "VERSIONS", "Simulation", "VllmConfig", "replay", "simulate"]

NAME = "vllm"
UNBOUNDED = 2**32 - 2

VERSIONS: dict[str, dict[str, Any]] = {
    "0.33": {
        "uncached_first": True,
        "reserve_full_isl": True,
        "stats_at_lookup": False,
        "retention_interval": 0,
    },
    "0.11": {
        "uncached_first": False,
        "reserve_full_isl": False,
        "stats_at_lookup": True,
        "retention_interval": None,
    },
}
"""Switches by version. 0.33 is tested against recordings; 0.11 is 0.33 with these differences."""


@dataclass(frozen=True)
class VllmConfig:
    """An engine's settings; names and defaults are vLLM's where it has them.

    Attributes
    ----------
    num_blocks : int or None
        ``num_gpu_blocks``, the null block included. ``None``: no limit.
    block_size : int
    enable_caching : bool
    version : str
        One of :data:`VERSIONS`: defaults of the four switches below.
    max_num_seqs : int
        Requests running at once.
    max_num_batched_tokens : int
        Tokens per step.
    enable_chunked_prefill : bool
    long_prefill_token_threshold : int
        Tokens of one request per step while there are others; 0: no limit.
    long_prefill_token_threshold_adaptive : bool
    watermark : float
        Share of the blocks that an admission beside running requests has to leave free.
    max_model_len : int or None
    sliding_window : int or None
        Attention window, if all layers have one.
    arrivals : str
        ``trace``: by timestamp. ``start``: all before the first step. ``closed:K``: the next one
        as soon as fewer than K are waiting or running. ``sequential``: one after the other,
        straight through the cache manager, without time.
    latency : Latency
        What a step costs.
    uncached_first : bool or None
        Uncached blocks go to the front of the free queue; off: to the back, like all others.
    reserve_full_isl : bool or None
        A request is admitted only if all its known tokens fit.
    stats_at_lookup : bool or None
        Statistics count every lookup, not every admission.
    retention_interval : int or None
        Which blocks of a sliding window are cached: 0 the end of prompts, ``None`` all.
    """

    num_blocks: int | None
    block_size: int = 16
    enable_caching: bool = True
    version: str = "0.33"
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    watermark: float = 0.0
    max_model_len: int | None = None
    sliding_window: int | None = None
    arrivals: str = "trace"
    latency: Latency = field(default_factory=lambda: Fixed(0.02))
    uncached_first: bool | None = None
    reserve_full_isl: bool | None = None
    stats_at_lookup: bool | None = None
    retention_interval: int | str | None = "version"

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            msg = f"vllm version {self.version!r}: choose one of {', '.join(VERSIONS)}"
            raise InputError(msg)

    def switches(self) -> dict[str, Any]:
        """Return the version's switches with those that are set here."""
        chosen = dict(VERSIONS[self.version])
        for name in ("uncached_first", "reserve_full_isl", "stats_at_lookup"):
            if getattr(self, name) is not None:
                chosen[name] = getattr(self, name)
        if self.retention_interval != "version":
            chosen["retention_interval"] = self.retention_interval
        return chosen

    def arrival_mode(self) -> tuple[str, int]:
        """Return the kind of arrivals and how many requests are in flight."""
        kind, _, number = self.arrivals.partition(":")
        if kind == "closed":
            if not number.isdecimal() or int(number) < 1:
                msg = f"arrivals {self.arrivals!r}: give the requests in flight, like closed:16"
                raise InputError(msg)
            return kind, int(number)
        if self.arrivals not in {"trace", "start", "sequential"}:
            msg = f"arrivals {self.arrivals!r}: choose trace, start, closed:K or sequential"
            raise InputError(msg)
        return kind, 1

    def settings(self, **record: bool) -> dict[str, Any]:
        """Return what the core takes."""
        mode, in_flight = self.arrival_mode()
        unbounded = self.num_blocks is None
        return {
            "num_blocks": UNBOUNDED if unbounded else self.num_blocks,
            "enable_caching": self.enable_caching,
            "max_model_len": self.max_model_len,
            "watermark": 0.0 if unbounded and 0 <= self.watermark < 1 else self.watermark,
            "sliding_window": self.sliding_window,
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "enable_chunked_prefill": self.enable_chunked_prefill,
            "long_prefill_token_threshold": self.long_prefill_token_threshold,
            "long_prefill_token_threshold_adaptive": self.long_prefill_token_threshold_adaptive,
            "arrivals": mode,
            "in_flight": in_flight,
            "latency": self.latency.settings(),
            "record_steps": False,
            "record_events": False,
            "record_tables": False,
            "validate": False,
            **self.switches(),
            **record,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for provenance."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "latency"}
        return {**shown, **self.switches(), "latency": self.latency.describe()}


def compile_workload(trace: Trace, block_size: int, *, outputs: bool = True) -> _core.VllmWorkload:
    """Compile a trace for the engine; worth keeping for several runs.

    Raises
    ------
    InputError
        If the trace has no token or hash ids, or timestamps that are negative or not ascending.
    """
    if trace.prompts is None:
        msg = f"{trace.name}: has no token or hash ids to simulate with"
        raise InputError(msg)
    if len(trace) and not 0 <= float(trace.timestamp[0]) <= float(trace.timestamp[-1]) < 1.8e10:
        msg = f"{trace.name}: timestamps must be seconds from 0, ascending"
        raise InputError(msg)
    produced = trace.outputs if outputs and trace.kind == "tokens" else None
    try:
        return _core.VllmWorkload(
            trace.prompts.offsets,
            trace.prompts.values,
            trace.id_block_size,
            trace.prompt_len,
            trace.output_len,
            np.rint(trace.timestamp * 1e9).astype(np.uint64),
            block_size,
            salt=None if trace.salt is None else trace.salt.codes,
            output_offsets=None if produced is None else produced.offsets,
            output_ids=None if produced is None else produced.values.astype(np.uint32, copy=False),
        )
    except ValueError as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None


@dataclass(frozen=True, eq=False)
class Simulation:
    """One run of the engine.

    Attributes
    ----------
    trace : Trace
    config : VllmConfig
    raw : dict
        The core's columns and totals; times in nanoseconds.
    """

    trace: Trace
    config: VllmConfig
    raw: _core._VllmRun
    workload: _core.VllmWorkload

    @property
    def totals(self) -> _core._VllmTotals:
        """Sums over the run, as the core counts them."""
        return self.raw["totals"]

    @property
    def timed(self) -> bool:
        """Whether there were steps."""
        return self.config.arrivals != "sequential"

    @cached_property
    def times(self) -> dict[str, npt.NDArray[np.float64]]:
        """Seconds per request: ``queue_s``, ``ttft_s``, ``tpot_s``, ``e2e_s``.

        Queueing ends when the first step of a request begins; a token is there when the step that
        sampled it ends. ``tpot_s`` is the time per token after the first, and not a number for
        requests that sample one.
        """
        r = self.raw["requests"]
        arrival, first = r["arrival_ns"], r["first_token_ns"]
        sampled = self.sampled - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            tpot = (r["finish_ns"] - first) / 1e9 / sampled
        return {
            "queue_s": (r["admit_ns"] - arrival) / 1e9,
            "ttft_s": (first - arrival) / 1e9,
            "tpot_s": np.where(sampled > 0, tpot, np.nan),
            "e2e_s": (r["finish_ns"] - arrival) / 1e9,
        }

    @cached_property
    def sampled(self) -> npt.NDArray[np.int64]:
        """Tokens each request sampled."""
        wanted = np.maximum(self.trace.output_len, 1).astype(np.int64)
        if self.config.max_model_len is None:
            return wanted
        return np.minimum(
            wanted, self.config.max_model_len - self.trace.prompt_len.astype(np.int64)
        )

    def summary(self) -> dict[str, Any]:
        """Return figures of the run; plain values."""
        totals = self.totals
        usable = None if self.config.num_blocks is None else self.config.num_blocks - 1
        stats = dict(zip(("requests", "queries", "hits"), totals["stats"], strict=True))
        again = dict(zip(("requests", "queries", "hits"), totals["stats_preempted"], strict=True))
        found: dict[str, Any] = {
            "preemptions": totals["preemptions"],
            "prefix_cache_stats": stats,
            "prefix_cache_stats_preempted": again,
            "scheduled_tokens": totals["scheduled_tokens"],
            "output_tokens": int(self.sampled.sum()),
            "peak_blocks": totals["peak_used"],
        }
        if not self.timed:
            return found
        steps, busy = totals["steps"], totals["busy_ns"]
        mean = totals["used_ns"] / busy if busy else totals["used_steps"] / max(steps, 1)
        start = int(self.raw["requests"]["arrival_ns"].min()) if len(self.trace) else 0
        span = (totals["final_clock_ns"] - start) / 1e9
        found |= {
            "steps": steps,
            "duration_s": span,
            "busy_s": busy / 1e9,
            "output_tokens_per_s": found["output_tokens"] / span if span else None,
            "mean_blocks": mean,
            "peak_cache_usage": totals["peak_used"] / usable if usable else None,
            "mean_cache_usage": mean / usable if usable else None,
        }
        for name, values in self.times.items():
            found[name] = distribution(values[np.isfinite(values)])
        return found

    @property
    def preempted_tokens(self) -> npt.NDArray[np.uint32]:
        """Hit tokens of each request that it had to compute after a preemption."""
        again = np.zeros(len(self.trace), dtype=np.uint32)
        for request, _, hits in self.raw["resumes"]:
            before = int(self.raw["requests"]["hit_tokens"][request])
            again[request] = max(int(again[request]), before - min(hits, before))
        return again

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return further columns per request."""
        r = self.raw["requests"]
        found: dict[str, npt.NDArray[Any]] = {
            "preemptions": r["preemptions"],
            "num_blocks": r["num_blocks"],
            "preempted_tokens": self.preempted_tokens,
        }
        if self.timed:
            found |= {
                "admit_step": r["admit_step"],
                "first_token_step": r["first_token_step"],
                "finish_step": r["finish_step"],
                **self.times,
            }
        return found

    def outcome(self, config: Mapping[str, Any] | None = None) -> Outcome:
        """Return what all engines report."""
        r = self.raw["requests"]
        hit_tokens = r["hit_tokens"]
        totals = self.totals
        return Outcome(
            engine=NAME,
            config={**(config or {}), **self.config.to_dict()},
            hit_tokens=hit_tokens,
            hit_blocks=hit_tokens // np.uint32(self.config.block_size),
            computed_tokens=r["computed_tokens"].astype(np.uint32),
            counters={
                "evictions": totals["evictions"],
                "preemptions": totals["preemptions"],
                "steps": totals["steps"],
                "peak_blocks": totals["peak_used"],
            },
            columns=self.columns(),
            summary=self.summary(),
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

    def kv_events(self, algorithm: str = "sha256_cbor", seed: str | None = None) -> Iterator[Any]:
        """Yield batches of KV events as vLLM publishes them; needs ``record_events``.

        Each batch is ``{"step", "ts", "events"}``; events are maps with vLLM's fields, hashes in
        the 64-bit form. Only traces of token ids with outputs have them.
        """
        from prefixsim.engines.vllm.kv_events import batches  # noqa: PLC0415

        return batches(self, algorithm, seed)

    def write_kv_events(self, path: str | Path) -> int:
        """Write the batches of :meth:`kv_events` as JSON Lines; return how many events."""
        from prefixsim._files import atomic_path  # noqa: PLC0415

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
    config: VllmConfig,
    *,
    workload: _core.VllmWorkload | None = None,
    outputs: bool = True,
    record_steps: bool = False,
    record_events: bool = False,
    record_tables: bool = False,
) -> Simulation:
    """Run the engine on a trace.

    Parameters
    ----------
    trace : Trace
        Token ids, or hash ids; outputs it does not have are taken to be unlike any others.
    config : VllmConfig
    workload : VllmWorkload, optional
        The compiled trace, for further runs at the same block size.
    outputs : bool
        Use the trace's output tokens.
    record_steps, record_events, record_tables : bool
        What to keep besides one row per request.

    Raises
    ------
    InputError
        If a setting is not usable or a request can never be served.

    Examples
    --------
    >>> from prefixsim import Trace
    >>> trace = Trace.from_prompts([range(40), range(48)], output_len=[5, 5])
    >>> run = simulate(trace, VllmConfig(num_blocks=100))
    >>> run.outcome().hit_tokens.tolist()
    [0, 32]
    """
    if record_tables and config.num_blocks is None:
        msg = "record_tables: an unbounded cache has no tables worth keeping, give num_blocks"
        raise InputError(msg)
    compiled = workload or compile_workload(trace, config.block_size, outputs=outputs)
    settings = config.settings(
        record_steps=record_steps, record_events=record_events, record_tables=record_tables
    )
    try:
        raw = compiled.simulate(**settings)
    except (ValueError, OverflowError, TypeError) as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None
    return Simulation(trace, config, raw, compiled)


OPTIONS: dict[str, Any] = {
    "version": "0.33",
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
    "enable_chunked_prefill": True,
    "long_prefill_token_threshold": 0,
    "long_prefill_token_threshold_adaptive": False,
    "watermark": 0.0,
    "max_model_len": None,
    "sliding_window": None,
    "arrivals": "trace",
    "latency": "20ms",
    "uncached_first": None,
    "reserve_full_isl": None,
    "stats_at_lookup": None,
    "retention_interval": "version",
    "kv_memory": None,
    "model_config": None,
    "tensor_parallel": 1,
}
"""Options of ``replay(engine="vllm", ...)`` and their defaults."""


def config_from(
    options: Mapping[str, Any],
    *,
    block_size: int,
    num_blocks: int | None,
    enable_caching: bool = True,
) -> VllmConfig:
    """Return the settings that options name; see :data:`OPTIONS`.

    ``latency`` may be text (:func:`~prefixsim.hardware.latency.parse_latency`); ``kv_memory`` with
    ``model_config`` takes the place of ``num_blocks``.
    """
    chosen = dict(options)
    memory, path = chosen.pop("kv_memory", None), chosen.pop("model_config", None)
    tensor_parallel = chosen.pop("tensor_parallel", 1)
    model = None if path is None else Model.read(path)
    if memory is not None:
        if path is None or num_blocks is not None:
            msg = "kv_memory needs model_config, the model's config.json, and no num_blocks"
            raise InputError(msg)
        num_blocks = kv_blocks(memory, path, block_size, tensor_parallel)
    latency = chosen.pop("latency", Fixed(0.02))
    if isinstance(latency, str):
        latency = parse_latency(latency, model, tensor_parallel)
    return VllmConfig(
        num_blocks=num_blocks,
        block_size=block_size,
        enable_caching=enable_caching,
        latency=latency,
        **chosen,
    )


def replay(forest: Forest, settings: Settings) -> Outcome:
    """Replay a trace with the engine."""
    settings.require(NAME, last_token_rule=True, partial_blocks=False, concurrency=1)
    config = config_from(
        settings.take_options(NAME, OPTIONS),
        block_size=settings.block_size,
        num_blocks=settings.num_blocks,
        enable_caching=settings.enable_caching,
    )
    run = simulate(forest.trace, config, outputs=settings.cache_outputs)
    shown = settings.to_config(NAME)
    for name in ("kv_memory", "model_config"):
        shown.pop(name, None)
    return run.outcome(shown)


def without_caching(config: VllmConfig) -> VllmConfig:
    """Return the same settings with prefix caching off."""
    return replace(config, enable_caching=False)
