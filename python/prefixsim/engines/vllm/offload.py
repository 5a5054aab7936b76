"""KV offloading of vLLM: what the core takes, and what a run adds.

``docs/offloading.md`` says what is simulated.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from prefixsim.engines.outcome import Stretches
from prefixsim.engines.vllm.offload_settings import OffloadSettings
from prefixsim.errors import SettingError

if TYPE_CHECKING:
    from prefixsim import _core
    from prefixsim._json import JsonObject
    from prefixsim.engines.vllm.settings import VllmSettings

__all__ = ["CAUSES", "ByTier", "by_tier", "check", "core_settings", "summary"]

CAUSES = ("not_offered", "too_rare", "refused", "stranded", "dram")
"""Why a chunk was not served, by the number the core gives it."""


def check(settings: VllmSettings) -> None:
    """Refuse what does not go with offloading, and options of it that stand alone.

    Raises
    ------
    SettingError
    """
    if settings.kv_offloading_size is None:
        given = [f for f in fields(OffloadSettings) if getattr(settings, f.name) != f.default]
        if given:
            msg = f"{given[0].name}: give kv_offloading_size too, the host memory that it is about"
            raise SettingError(msg)
        return
    wrong = {
        "version": settings.rules.last != "0.33" and "offloading is simulated as 0.33 does it",
        "sliding_window": settings.sliding_window and "offloading needs full attention",
        "long_prefill_token_threshold": settings.long_prefill_token_threshold
        and "it is not simulated with offloading",
        "arrivals": settings.arrivals == "sequential"
        and "offloading needs steps and time, sequential arrivals have none",
        "offload_bandwidth": settings.offload_bandwidth is not None
        and (settings.load_us or settings.store_us)
        and "load_us and store_us say the same, give one of them",
    }
    for name, problem in wrong.items():
        if problem:
            msg = f"{name}: {problem}"
            raise SettingError(msg)


def core_settings(settings: VllmSettings) -> _core._OffloadSettings:
    """Return what the core takes.

    Raises
    ------
    SettingError
        If bytes are given without the bytes of a token, or no chunk fits.
    """
    size, per_chunk = settings.tokens_per_block, settings.blocks_per_chunk
    blocks = settings.host_blocks
    assert blocks is not None
    if blocks < per_chunk:
        msg = f"kv_offloading_size: {blocks} blocks are less than a chunk of {per_chunk}, give more"
        raise SettingError(msg)
    per_token = settings.token_bytes
    needed = settings.sync_load_budget_bytes or settings.offload_bandwidth is not None
    if needed and per_token is None:
        msg = "sync_load_budget_bytes and offload_bandwidth need bytes_per_token, or model_config"
        raise SettingError(msg)
    load, store = settings.load_us, settings.store_us
    if settings.offload_bandwidth is not None:
        load = store = size * per_chunk * (per_token or 0) / settings.offload_bandwidth / 1e3
    return {
        "num_chunks": blocks // per_chunk,
        "blocks_per_chunk": per_chunk,
        "eviction_policy": settings.eviction_policy,
        "store_threshold": settings.store_threshold,
        "max_tracker_size": settings.max_tracker_size,
        "prompt_only": settings.offload_prompt_only,
        "sync_load_tokens": int(settings.sync_load_budget_bytes / (per_token or 1)),
        "load_ns": round(load * 1e3),
        "store_ns": round(store * 1e3),
        "start_after_step": True,
        "disk": settings.offload_disk,
        "disk_read_ns": round(settings.disk_read_us * 1e3),
        "disk_write_ns": round(settings.disk_write_us * 1e3),
        "disk_lookup": settings.disk_lookup,
    }


class ByTier(TypedDict, total=False):
    """What offloading adds to an outcome."""

    tier_hit_tokens: dict[str, npt.NDArray[np.uint32]]
    loaded_tokens: npt.NDArray[np.uint32]
    stored_tokens: npt.NDArray[np.uint32]
    lost_stretches: Stretches


def by_tier(
    run: _core._OffloadRun | None,
    settings: VllmSettings,
    hit_tokens: npt.NDArray[np.uint32],
    prompt_len: npt.NDArray[np.uint32],
) -> ByTier:
    """Return what offloading adds to an outcome; nothing if there was none."""
    if run is None:
        return {}
    columns, chunk = run["columns"], settings.tokens_per_block * settings.blocks_per_chunk
    tokens = np.uint32(chunk)
    return {
        "tier_hit_tokens": _hits(run, hit_tokens, disk=settings.offload_disk),
        "loaded_tokens": columns["loaded_chunks"] * tokens,
        "stored_tokens": columns["stored_chunks"] * tokens,
        "lost_stretches": _lost(run, chunk, prompt_len),
    }


def _hits(
    run: _core._OffloadRun, hit_tokens: npt.NDArray[np.uint32], *, disk: bool
) -> dict[str, npt.NDArray[np.uint32]]:
    """Split hit tokens by the tier they were in.

    A load may bring a whole prompt; its last token is computed all the same, and is no hit.
    """
    columns = run["columns"]
    below = hit_tokens - columns["device_hits"]
    tiers = {"hbm": columns["device_hits"], "dram": below}
    if disk:
        tiers["disk"] = np.minimum(columns["disk_hits"], below)
        tiers["dram"] = below - tiers["disk"]
    return tiers


def _lost(run: _core._OffloadRun, chunk: int, prompt_len: npt.NDArray[np.uint32]) -> Stretches:
    """Return why what is behind the hits was not served; `chunk` in tokens."""
    columns, size = run["columns"], np.uint32(chunk)
    request = columns["fate_request"]
    end = np.minimum(columns["fate_end"] * size, prompt_len[request])
    cause = columns["fate"].astype(np.uint32)
    return Stretches(request, columns["fate_first"] * size, end, cause, CAUSES)


def summary(run: _core._OffloadRun) -> JsonObject:
    """Return the sums of a run, under ``offloading`` in its summary."""
    return {"offloading": dict(run["totals"])}
