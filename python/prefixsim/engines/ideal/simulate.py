"""The ideal cache: one copy of a block, requests one after the other, least recently used out.

The cache holds ``num_blocks`` blocks of prompts and nothing else; a prompt longer than the cache
keeps its first blocks. Replayed on the segments of the forest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from prefixsim import _core
from prefixsim.engines.contract import Totals
from prefixsim.engines.outcome import Outcome, residency_of
from prefixsim.eviction import has_ages
from prefixsim.forest import compile as compile_trace

if TYPE_CHECKING:
    from prefixsim.engines.ideal.settings import IdealSettings
    from prefixsim.forest import Forest

__all__ = ["replay"]

NAME = "ideal"


def replay(forest: Forest, settings: IdealSettings) -> Outcome:
    """Replay a forest with the ideal cache."""
    prompt_len = forest.trace.prompt_len
    config = settings.to_config(NAME)
    if not settings.enable_caching:
        return Outcome.without_cache(NAME, config, prompt_len)
    found = _run(forest, settings)
    hit_blocks = found["hit_blocks"]
    # A kept partial block holds only the tokens there are.
    reached = hit_blocks.astype(np.uint64) * np.uint64(settings.tokens_per_block)
    hit_tokens = np.minimum(reached, prompt_len).astype(np.uint32)
    evictions = found["evictions"]
    residency = residency_of(found)
    if settings.measured_from and evictions and has_ages(settings.policy):
        # A policy that does not know what comes later evicts the same for the first requests alone.
        first = forest.trace.take(np.arange(settings.measured_from))
        warmup = _run(
            compile_trace(
                first,
                outputs=bool(settings.cache_outputs),
                partial_blocks=settings.partial_blocks,
            ),
            settings,
        )
        evictions -= warmup["evictions"]
        early = residency_of(warmup)
        residency = {name: whole.minus(early[name]) for name, whole in residency.items()}
    return Outcome(
        engine=NAME,
        config=config,
        hit_tokens=hit_tokens,
        hit_blocks=hit_blocks,
        computed_tokens=prompt_len - hit_tokens,
        counters={"evictions": evictions},
        residency=residency,
    )


def _run(forest: Forest, settings: IdealSettings) -> _core._Replay:
    profile = forest.profile(settings.tokens_per_block)
    return profile.replay(
        settings.policy,
        settings.blocks,
        last_token_rule=settings.last_token_rule,
        residency=settings.blocks is not None and has_ages(settings.policy),
    )


def totals(forest: Forest, settings: Sequence[IdealSettings]) -> list[Totals]:
    """Return the sums of many replays of one forest, in one call of the core on all cores."""
    found: list[Totals | None] = [None] * len(settings)
    for rule in (True, False):
        jobs = [i for i, s in enumerate(settings) if s.last_token_rule is rule]
        sizes = list(dict.fromkeys(settings[i].tokens_per_block for i in jobs))
        rows = _core.sweep(
            [forest.profile(size) for size in sizes],
            [
                (
                    sizes.index(settings[i].tokens_per_block),
                    settings[i].policy,
                    settings[i].blocks if settings[i].enable_caching else 0,
                )
                for i in jobs
            ],
            forest.trace.prompt_len,
            last_token_rule=rule,
        )
        for i, row in zip(jobs, rows, strict=True):
            found[i] = Totals(*row)
    return [row for row in found if row is not None]
