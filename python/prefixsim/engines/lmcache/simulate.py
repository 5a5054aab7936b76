"""LMCache 0.5.6 on a trace: requests one after the other, prompts only, full chunks."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim.engines.cache_size import blocks_in
from prefixsim.engines.contract import MOST
from prefixsim.engines.lmcache.settings import LmcacheSettings
from prefixsim.engines.outcome import Outcome, Stretches
from prefixsim.engines.vllm.workload import compile_workload
from prefixsim.errors import InputError
from prefixsim.trace.columns import Array

if TYPE_CHECKING:
    from prefixsim.forest import Forest
    from prefixsim.trace import Trace

__all__ = ["replay", "run"]

NAME = "lmcache"

CAUSES = ("not_offered", "refused", "stranded", "dram", "disk")
"""Why a chunk was not found, by the number the core gives it."""


def run(
    trace: Trace, settings: LmcacheSettings, *, validate: bool = False
) -> tuple[_core.VllmWorkload, _core._LmcacheRun]:
    """Serve the prompts of a trace; return the compiled trace and what the core recorded.

    Chunks go by the numbers of the compiled trace, see its ``origins``.

    Raises
    ------
    InputError
        If a setting is not usable, or the trace has no ids.
    """
    workload = compile_workload(trace, settings.tokens_per_block, outputs=False)
    try:
        found = _core.replay_lmcache(
            workload,
            mode=settings.lmcache_mode,
            cache_policy=settings.cache_policy,
            cpu_chunks=MOST if settings.blocks is None else settings.blocks,
            disk_chunks=_disk_blocks(settings),
            trigger_watermark=settings.trigger_watermark,
            eviction_ratio=settings.eviction_ratio,
            validate=validate,
        )
    except ValueError as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None
    return workload, found


def _disk_blocks(settings: LmcacheSettings) -> int:
    blocks = blocks_in(
        settings.disk_blocks,
        settings.tokens_per_block,
        bytes_per_token=settings.bytes_per_token,
        model_config=settings.model_config,
        kv_cache_dtype=settings.kv_cache_dtype,
        tensor_parallel=settings.tensor_parallel,
        label="disk_blocks",
    )
    return MOST if blocks is None else blocks


def replay(forest: Forest, settings: LmcacheSettings) -> Outcome:
    """Replay a trace with LMCache alone.

    Raises
    ------
    InputError
        If generated tokens are to be cached, or a setting is not usable.
    """
    if settings.cache_outputs:
        msg = "engine 'lmcache' stores prompts, not generated tokens: leave cache_outputs out"
        raise InputError(msg)
    trace = forest.trace
    settings = changed(settings, disk_blocks=_disk_blocks(settings))
    config = settings.to_config(NAME)
    if not settings.enable_caching:
        return Outcome.without_cache(NAME, config, trace.prompt_len)
    _, found = run(trace, settings)
    size = np.uint32(settings.tokens_per_block)
    cpu, disk = found["cpu_hits"], found["disk_hits"]
    tiers = _tokens(cpu * size, disk * size, trace.prompt_len)
    hit_tokens = tiers["dram"] + tiers["disk"]
    if not settings.disk_blocks:
        del tiers["disk"]
    measured = settings.measured_from
    return Outcome(
        engine=NAME,
        config=config,
        hit_tokens=hit_tokens,
        hit_blocks=cpu + disk,
        computed_tokens=trace.prompt_len - hit_tokens,
        counters={
            "evictions": int((found["cpu_evicted_at"] >= measured).sum()),
            "disk_evictions": int((found["disk_evicted_at"] >= measured).sum()),
            "stores_refused": int(found["refused"][measured:].sum()),
        },
        tier_hit_tokens=tiers,
        loaded_tokens=(cpu + disk) * size,
        stored_tokens=found["stored"] * size,
        columns={"store_refused": found["refused"]},
        lost_stretches=Stretches(
            found["lost_request"],
            found["lost_first"] * size,
            found["lost_end"] * size,
            found["lost_cause"].astype(np.uint32),
            CAUSES,
        ),
    )


def _tokens(
    cpu: npt.NDArray[np.uint32], disk: npt.NDArray[np.uint32], prompt_len: npt.NDArray[np.uint32]
) -> dict[str, Array]:
    """Return the hit tokens of each tier; the last token of a prompt is always computed."""
    whole = (cpu + disk) == prompt_len
    from_disk = whole & (disk > 0)
    one = np.uint32(1)
    return {
        "dram": cpu - one * (whole & ~from_disk),
        "disk": disk - one * from_disk,
    }
