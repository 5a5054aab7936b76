"""What the core is given: a trace in numbered blocks, and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from prefixsim import _core
from prefixsim.engines.served import arriving, known_outputs
from prefixsim.engines.vllm.drafting import METHODS, accepted_drafts
from prefixsim.engines.vllm.settings import VllmSettings
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.forest import Forest
    from prefixsim.trace import Trace

__all__ = ["compile_workload", "compiled", "core_settings", "workload_of"]

UNBOUNDED = 2**32 - 2
UNBOUNDED_GROUPS = 2**31 - 1


def compile_workload(
    trace: Trace,
    block_size: int,
    *,
    outputs: bool = True,
    num_blocks: int | None = None,
    max_model_len: int | None = None,
    lookahead: bool = False,
) -> _core.VllmWorkload:
    """Compile a trace for the engine; worth keeping for several runs.

    Lengths are checked before anything is made of them: a request may have up to 2^24 tokens.

    Parameters
    ----------
    trace : Trace
    block_size : int
        Tokens of a hash: per block, but for several groups.
    outputs : bool
        Use the trace's output tokens.
    num_blocks : int, optional
        Refuse requests that can never fit so many blocks.
    max_model_len : int, optional
        Tokens at which requests end; later runs may have a lower one, but no higher one.
    lookahead : bool
        A hash also covers the token after its block.

    Raises
    ------
    InputError
        If the trace has no token or hash ids, timestamps that are negative or not ascending, or a
        request that can never be served.
    """
    columns = arriving(trace)
    output_offsets, output_ids = known_outputs(trace, wanted=outputs)
    try:
        return _core.VllmWorkload(
            *columns,
            block_size,
            salt=None if trace.salt is None else trace.salt.codes,
            output_offsets=output_offsets,
            output_ids=output_ids,
            num_blocks=num_blocks,
            max_model_len=max_model_len,
            lookahead=lookahead,
        )
    except ValueError as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None


def compiled(trace: Trace, settings: VllmSettings, *, outputs: bool) -> _core.VllmWorkload:
    """Compile a trace as settings need it."""
    grouping, size = settings.grouping, settings.tokens_per_block
    if settings.looks_ahead and trace.kind != "tokens":
        msg = (
            f"{trace.name}: hash ids do not tell the next token, which hashes with "
            "eagle_hits 'lookahead' cover; give eagle_hits 'drop' or 'nodrop', or token ids"
        )
        raise InputError(msg)
    # Windows and states give blocks back as they move on.
    whole = settings.sliding_window is None and grouping is None
    return compile_workload(
        trace,
        size if grouping is None else grouping.core_block_size(caching=settings.enable_caching),
        outputs=outputs,
        num_blocks=settings.blocks if whole else None,
        max_model_len=settings.max_model_len,
        lookahead=settings.looks_ahead,
    )


def core_settings(
    settings: VllmSettings,
    trace: Trace,
    *,
    steps: bool,
    events: bool,
    tables: bool,
    limits: bool = False,
) -> _core._VllmSettings:
    """Return what the core takes."""
    mode, in_flight = settings.arrival_mode(trace)
    max_num_seqs, max_num_batched_tokens = settings.batch_limits()
    unbounded = settings.blocks is None
    rules, switches, grouping = settings.rules, settings.switches(), settings.grouping
    drafts = settings.num_speculative_tokens
    priorities = None
    if settings.priorities is not None:
        priorities = np.resize(settings.priorities, len(trace)).tolist()
    most = UNBOUNDED if grouping is None and not drafts else UNBOUNDED_GROUPS
    return {
        "num_blocks": most if settings.blocks is None else settings.blocks,
        "enable_caching": settings.enable_caching,
        "max_model_len": settings.max_model_len,
        "watermark": 0.0 if unbounded else settings.watermark,
        "sliding_window": settings.sliding_window,
        "window_cap": rules.window_cap,
        "retention_interval": switches["retention_interval"],
        "uncached_first": switches["uncached_first"],
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max_num_batched_tokens,
        "enable_chunked_prefill": settings.enable_chunked_prefill,
        "pass_over": rules.pass_over,
        "long_prefill_token_threshold": settings.long_prefill_token_threshold,
        "long_prefill_token_threshold_adaptive": settings.long_prefill_token_threshold_adaptive,
        "lone_threshold": rules.lone_threshold,
        "reserve_full_isl": switches["reserve_full_isl"],
        "stats_at_lookup": switches["stats_at_lookup"],
        "stats_preempted_apart": rules.stats_preempted_apart,
        "arrivals": mode,
        "in_flight": in_flight,
        "latency": settings.latency_model().settings(),
        "record_steps": steps,
        "record_events": events,
        "record_tables": tables,
        "record_limits": limits,
        "record_states": False,
        "validate": False,
        "groups": None if grouping is None else grouping.core(caching=settings.enable_caching),
        "priorities": priorities,
        "async_scheduling": settings.asynchronous,
        "spec_method": METHODS.get(settings.spec_method or ""),
        "num_speculative_tokens": drafts,
        "eagle_hits": settings.eagle_hits,
        "accept": accepted_drafts(settings.spec_acceptance, drafts) if drafts else [0],
        "junction_checkpoints": settings.mamba_shared_prefix_checkpoint,
    }


_workloads: WeakKeyDictionary[Forest, dict[tuple[object, ...], _core.VllmWorkload]]
_workloads = WeakKeyDictionary()


def workload_of(forest: Forest, settings: VllmSettings) -> _core.VllmWorkload:
    """Return the compiled trace, made once for all runs on a forest at one block size."""
    kept = _workloads.setdefault(forest, {})
    outputs, caching = bool(settings.cache_outputs), settings.enable_caching
    grouping, size = settings.grouping, settings.tokens_per_block
    if grouping is not None:
        size = grouping.core_block_size(caching=caching)
    key = (size, outputs, settings.max_model_len, settings.looks_ahead)
    if key not in kept:
        kept[key] = compiled(forest.trace, settings, outputs=outputs)
    return kept[key]
