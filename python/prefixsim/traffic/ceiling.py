"""The ceiling of sharing in a trace that was made: what an infinite cache would reuse."""

from __future__ import annotations

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.forest import compile as compile_forest
from prefixsim.trace import Trace

__all__ = ["MOST_TOKENS_COMPILED", "sharing_ceiling"]

MOST_TOKENS_COMPILED = 200_000_000  # the one step that needs a whole trace in memory


def sharing_ceiling(
    trace: Trace | None, prompt_tokens: int | None, block_size: int
) -> JsonObject | None:
    """Return what an infinite cache would reuse; None for text, and for traces too long to keep."""
    if trace is None or not prompt_tokens or prompt_tokens > MOST_TOKENS_COMPILED:
        return None
    profile = compile_forest(trace).profile(block_size)
    hits = int(profile.replay("lru")["hit_blocks"].sum(dtype=np.uint64))
    return {
        "block_size": block_size,
        "total_blocks": int(profile.full_blocks.sum(dtype=np.uint64)),
        "unique_blocks": profile.unique_blocks,
        "blocks_reused": hits,
        "hit_tokens": hits * block_size,
        "token_hit_rate": hits * block_size / prompt_tokens,
    }
