"""What a replay found: one row per request, and counters.

Every engine returns an :class:`Outcome`; every metric is derived from it, so all engines report
alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.trace.columns import Array

__all__ = ["Outcome", "Weighted", "residency_of", "tier_column"]

_COLUMNS = ("hit_tokens", "hit_blocks", "computed_tokens")
_OPTIONAL = ("replica", "loaded_tokens", "stored_tokens")


@dataclass(frozen=True, eq=False)
class Weighted:
    """Numbers of which each stands for several equal ones.

    Attributes
    ----------
    values : ndarray of float64
    weights : ndarray of uint64
        How often each value occurs.
    """

    values: npt.NDArray[np.float64]
    weights: npt.NDArray[np.uint64]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.weights):
            msg = f"{len(self.values)} values but {len(self.weights)} weights"
            raise InputError(msg)

    def minus(self, other: Weighted) -> Weighted:
        """Take away values that are all among these."""
        values, at = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        signed = np.concatenate([self.weights.astype(np.int64), -other.weights.astype(np.int64)])
        left = np.zeros(len(values), dtype=np.int64)
        np.add.at(left, at, signed)
        return Weighted(values[left > 0], left[left > 0].astype(np.uint64))


class Residency(TypedDict):
    """Of evicted blocks, as the core counts it: seconds since their allocation and last use."""

    lifetime_s: NotRequired[tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64]]]
    idle_s: NotRequired[tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64]]]


def residency_of(replayed: Residency) -> dict[str, Weighted]:
    """Return the residency of evicted blocks under the names of summaries, if it was counted."""
    known: dict[str, Weighted] = {}
    if "lifetime_s" in replayed:
        known["cached_block_lifetime_s"] = Weighted(*replayed["lifetime_s"])
    if "idle_s" in replayed:
        known["block_idle_before_evict_s"] = Weighted(*replayed["idle_s"])
    return known


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of prompts that were not served, each with its cause; they do not overlap.

    Attributes
    ----------
    request, start, end : ndarray of uint32
        Tokens ``start:end`` of the request's prompt.
    cause : ndarray of uint32
        Index into ``causes``.
    causes : tuple of str
        As in :attr:`Outcome.evicted_tokens`. The first is that of tokens in no stretch.
    """

    request: npt.NDArray[np.uint32]
    start: npt.NDArray[np.uint32]
    end: npt.NDArray[np.uint32]
    cause: npt.NDArray[np.uint32]
    causes: tuple[str, ...]

    def within(
        self, start: npt.NDArray[np.uint32], end: npt.NDArray[np.uint32]
    ) -> dict[str, npt.NDArray[np.uint32]]:
        """Return the tokens of each cause in ``start[i]:end[i]`` of each prompt ``i``.

        They add up to ``end - start``.
        """
        low = np.maximum(self.start, start[self.request]).astype(np.int64)
        high = np.minimum(self.end, end[self.request]).astype(np.int64)
        tokens = np.maximum(high - low, 0)
        found = {}
        rest = end.astype(np.int64) - start
        for i, name in enumerate(self.causes[1:], start=1):
            of_cause = self.cause == i
            sums = np.bincount(self.request[of_cause], tokens[of_cause], minlength=len(start))
            found[name] = sums.astype(np.uint32)
            rest -= found[name]
        return {self.causes[0]: rest.astype(np.uint32), **found}


def tier_column(tier: str) -> str:
    """Name of the column with the hit tokens of a tier."""
    return f"hit_tokens_{tier}"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one engine did with one trace.

    Attributes
    ----------
    engine : str
        Name of the engine in :data:`prefixsim.engines.ENGINES`.
    config : dict
        Every setting that decided the result; JSON values.
    hit_tokens : ndarray of uint32, shape (requests,)
        Prompt tokens served from the cache.
    hit_blocks : ndarray of uint32, shape (requests,)
        Leading blocks of the prompt served from the cache.
    computed_tokens : ndarray of uint32, shape (requests,)
        Prompt tokens computed. ``prompt_len - hit_tokens``, unless the engine computes some twice
        (preemption).
    counters : dict of str to int
        Totals over the measured requests, such as ``evictions``.
    columns : dict of str to ndarray
        Further columns per request (``admit_step``, ``ttft_s``...), for engines that have them.
    summary : dict
        Further entries of the summary; JSON values.
    residency : dict of str to Weighted
        ``cached_block_lifetime_s`` and ``block_idle_before_evict_s``, one value per eviction, where
        the engine measures them; over the measured requests.
    tier_hit_tokens : dict of str to ndarray of uint32
        ``hit_tokens`` by the tier they were in (``hbm``, ``dram``, ``disk``...), fastest first.
        Empty for engines with one tier.
    replica : ndarray of uint32 or None
        Which replica of a fleet served the request.
    loaded_tokens, stored_tokens : ndarray of uint32 or None
        Prompt tokens brought up from a lower tier, and written to one, for the request.
    evicted_tokens : dict of str to ndarray of uint32
        Where the engine knows it, why tokens were lost that an infinite cache would have served, by
        cause: the name of the tier that had it last, or ``too_rare`` (used too seldom for a lower
        tier), ``stranded`` (a tier has it, but not what comes before it), ``slow`` (loading takes
        longer than computing).
    lost_stretches : Stretches or None
        The same, where the engine knows it of places in prompts: requests overlap in time, so that
        only a replay without limit tells which of them were lost.
    records : dict of str to callable
        What was asked for in ``settings.record``: functions that write it to a path.
    """

    engine: str
    config: JsonObject
    hit_tokens: npt.NDArray[np.uint32]
    hit_blocks: npt.NDArray[np.uint32]
    computed_tokens: npt.NDArray[np.uint32]
    counters: dict[str, int] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)
    summary: JsonObject = field(default_factory=dict)
    residency: dict[str, Weighted] = field(default_factory=dict)
    tier_hit_tokens: dict[str, npt.NDArray[np.uint32]] = field(default_factory=dict)
    replica: npt.NDArray[np.uint32] | None = None
    loaded_tokens: npt.NDArray[np.uint32] | None = None
    stored_tokens: npt.NDArray[np.uint32] | None = None
    evicted_tokens: dict[str, npt.NDArray[np.uint32]] = field(default_factory=dict)
    lost_stretches: Stretches | None = None
    records: dict[str, Callable[[Path], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = {name: len(getattr(self, name)) for name in _COLUMNS}
        rows |= {name: len(column) for name, column in self.columns.items()}
        rows |= {tier_column(t): len(column) for t, column in self.tier_hit_tokens.items()}
        rows |= {f"evicted_tokens_{c}": len(column) for c, column in self.evicted_tokens.items()}
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        rows |= {name: len(column) for name, column in optional.items() if column is not None}
        if len(set(rows.values())) != 1:
            msg = f"the columns of an outcome differ in length: {rows}"
            raise InputError(msg)
        taken = {f.name for f in fields(self)} & self.columns.keys()
        if taken:
            msg = f"further columns may not be called {', '.join(sorted(taken))}"
            raise InputError(msg)
        if self.tier_hit_tokens:
            total = sum(c.astype(np.uint64) for c in self.tier_hit_tokens.values())
            if not np.array_equal(total, self.hit_tokens):
                msg = f"the hit tokens of the tiers {', '.join(self.tier_hit_tokens)} do not add up"
                raise InputError(msg)

    def __getstate__(self) -> JsonObject:
        return {**self.__dict__, "records": {}}  # functions of a run that is over

    def extra_columns(self) -> dict[str, Array]:
        """Return every further column per request that this outcome has, by name."""
        tiers = {tier_column(tier): column for tier, column in self.tier_hit_tokens.items()}
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        found = {name: column for name, column in optional.items() if column is not None}
        lost = {f"evicted_tokens_{c}": column for c, column in self.evicted_tokens.items()}
        return {**tiers, **found, **lost, **self.columns}

    @classmethod
    def without_cache(
        cls, engine: str, config: JsonObject, prompt_len: npt.NDArray[np.uint32]
    ) -> Outcome:
        """Return the outcome of prefix caching switched off: every token computed."""
        nothing = np.zeros(len(prompt_len), dtype=np.uint32)
        return cls(engine, config, nothing, nothing, prompt_len, {"evictions": 0})

    def __len__(self) -> int:
        return len(self.hit_tokens)

    def __repr__(self) -> str:
        return f"<Outcome {self.engine}: {len(self):,} requests>"
