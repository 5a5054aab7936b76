"""Tiers of memory of one's own rules, on the block numbers of the forest.

Requests run one after the other; rules are those of ``rust/engine/tiers/mod.rs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim.engines.outcome import Outcome
from prefixsim.engines.tiers.lower import LowerTier
from prefixsim.engines.tiers.settings import TiersSettings
from prefixsim.errors import SettingError

if TYPE_CHECKING:
    from prefixsim.forest import Forest

__all__ = ["replay"]

NAME = "tiers"
U32 = npt.NDArray[np.uint32]


def replay(forest: Forest, settings: TiersSettings) -> Outcome:
    """Replay a forest through a hierarchy of tiers."""
    prompt_len = forest.trace.prompt_len
    config = settings.to_config(NAME)
    if not settings.enable_caching:
        return Outcome.without_cache(NAME, config, prompt_len)
    size = settings.tokens_per_block
    arguments = [_hbm(settings), *(_lower(settings, tier) for tier in settings.lower_tiers)]
    compute = None if settings.prefill_rate is None else size / settings.prefill_rate
    run = _core.replay_tiers(forest.profile(size), arguments, compute=compute)

    def tokens(blocks: U32) -> U32:
        return blocks * np.uint32(size)

    names = ["hbm", *(tier.name for tier in settings.lower_tiers)]
    hits = dict(zip(names, map(tokens, run["hits"]), strict=True))
    written = dict(zip(names, map(tokens, run["written"]), strict=True))
    hit_blocks = np.asarray(np.sum(run["hits"], axis=0, dtype=np.uint32))
    hit_tokens = tokens(hit_blocks)
    lower = names[1:]
    nothing = np.zeros_like(hit_tokens)
    measured = slice(settings.measured_from, None)
    lost = dict(zip(names, map(tokens, run["gone"]), strict=True))
    lost |= {cause: tokens(run[cause]) for cause in ("too_rare", "stranded", "slow")}
    return Outcome(
        engine=NAME,
        config=config,
        hit_tokens=hit_tokens,
        hit_blocks=hit_blocks,
        computed_tokens=prompt_len - hit_tokens,
        counters={"evictions": int(run["evictions"][measured].sum(dtype=np.uint64))},
        columns={
            **{f"written_tokens_{tier}": written[tier] for tier in lower},
            **({"load_s": _load_seconds(settings, hits)} if lower else {}),
        },
        tier_hit_tokens=hits if lower else {},
        loaded_tokens=sum((hits[t] for t in lower), nothing) if lower else None,
        stored_tokens=sum((written[t] for t in lower), nothing) if lower else None,
        evicted_tokens=lost,
    )


def _hbm(settings: TiersSettings) -> _core._Tier:
    return {
        "capacity": settings.blocks, "policy": settings.hbm_policy, "exclusive": False,
        "write": "through", "min_uses": 1, "sees": "all", "head_first": False,
        "latency": 0.0, "seconds_per_block": 0.0,
    }  # fmt: skip


def _lower(settings: TiersSettings, tier: LowerTier) -> _core._Tier:
    return {
        "capacity": settings.tier_blocks(tier), "policy": tier.policy, "exclusive": tier.exclusive,
        "write": tier.write, "min_uses": tier.min_uses, "sees": tier.sees,
        "head_first": tier.head_first, "latency": tier.latency,
        "seconds_per_block": _seconds_per_token(settings, tier) * settings.tokens_per_block,
    }  # fmt: skip


def _seconds_per_token(settings: TiersSettings, tier: LowerTier) -> float:
    if tier.bandwidth is None:
        return 0.0
    per_token = settings.token_bytes
    if per_token is None:
        msg = f"{tier.name}: a bandwidth needs bytes_per_token or model_config"
        raise SettingError(msg)
    return per_token / tier.bandwidth


def _load_seconds(settings: TiersSettings, hits: dict[str, U32]) -> npt.NDArray[np.float64]:
    """Seconds that each request's loads take, one tier after the other."""
    seconds = np.zeros(len(hits["hbm"]))
    for tier in settings.lower_tiers:
        loaded = hits[tier.name]
        seconds += (loaded > 0) * tier.latency + loaded * _seconds_per_token(settings, tier)
    return seconds
