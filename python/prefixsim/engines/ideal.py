"""The ideal cache: one copy of a block, requests one after the other, least recently used out.

The cache holds ``num_blocks`` blocks of prompts and nothing else; a prompt longer than the cache
keeps its first blocks. Replayed on the segments of the forest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prefixsim.engines import RESIDENCY, Settings
from prefixsim.engines.outcome import Outcome, Weighted
from prefixsim.forest import compile as compile_trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefixsim.forest import Forest

__all__ = ["replay"]

NAME = "lru"


def replay(forest: Forest, settings: Settings) -> Outcome:
    """Replay a forest with the ideal LRU cache."""
    settings.require(NAME, "the engine 'block-manager' knows requests that overlap", concurrency=1)
    settings.take_options(NAME, {})
    prompt_len = forest.trace.prompt_len
    config = settings.to_config(NAME)
    if not settings.enable_caching:
        return Outcome.without_cache(NAME, config, prompt_len)
    bounded = settings.num_blocks is not None
    found = _run(forest, settings)
    hit_blocks = found["hit_blocks"]
    # A kept partial block holds only the tokens there are.
    reached = hit_blocks.astype(np.uint64) * np.uint64(settings.block_size)
    hit_tokens = np.minimum(reached, prompt_len).astype(np.uint32)
    evictions = found["evictions"]
    residency = {name: Weighted(*found[key]) for key, name in RESIDENCY.items() if bounded}
    if settings.measured_from and evictions:
        # The cache does not know what comes later: the first requests alone evict the same.
        first = forest.trace.take(np.arange(settings.measured_from))
        warmup = _run(
            compile_trace(
                first, outputs=settings.cache_outputs, partial_blocks=settings.partial_blocks
            ),
            settings,
        )
        evictions -= warmup["evictions"]
        residency = {
            name: residency[name].minus(Weighted(*warmup[key])) for key, name in RESIDENCY.items()
        }
    return Outcome(
        engine=NAME,
        config=config,
        hit_tokens=hit_tokens,
        hit_blocks=hit_blocks,
        computed_tokens=prompt_len - hit_tokens,
        counters={"evictions": evictions},
        residency=residency,
    )


def _run(forest: Forest, settings: Settings) -> Mapping[str, Any]:
    return forest.profile(settings.block_size).replay(
        "lru",
        settings.num_blocks,
        last_token_rule=settings.last_token_rule,
        residency=settings.num_blocks is not None,
    )
