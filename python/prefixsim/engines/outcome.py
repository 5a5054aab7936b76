"""What a replay found: one row per request, and counters.

Every engine returns an :class:`Outcome`; every metric is derived from it, so all engines report
alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from prefixsim.errors import InputError

__all__ = ["Outcome", "Weighted"]

_COLUMNS = ("hit_tokens", "hit_blocks", "computed_tokens")


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
        ``block_lifetime_s`` and ``block_idle_before_evict_s``, one value per eviction, where the
        engine measures them; over the measured requests.
    """

    engine: str
    config: dict[str, Any]
    hit_tokens: npt.NDArray[np.uint32]
    hit_blocks: npt.NDArray[np.uint32]
    computed_tokens: npt.NDArray[np.uint32]
    counters: dict[str, int] = field(default_factory=dict)
    columns: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    residency: dict[str, Weighted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = {name: len(getattr(self, name)) for name in _COLUMNS}
        rows |= {name: len(column) for name, column in self.columns.items()}
        if len(set(rows.values())) != 1:
            msg = f"the columns of an outcome differ in length: {rows}"
            raise InputError(msg)
        taken = {f.name for f in fields(self)} & self.columns.keys()
        if taken:
            msg = f"further columns may not be called {', '.join(sorted(taken))}"
            raise InputError(msg)

    @classmethod
    def without_cache(
        cls, engine: str, config: dict[str, Any], prompt_len: npt.NDArray[np.uint32]
    ) -> Outcome:
        """Return the outcome of prefix caching switched off: every token computed."""
        nothing = np.zeros(len(prompt_len), dtype=np.uint32)
        return cls(engine, config, nothing, nothing, prompt_len, {"evictions": 0})

    def __len__(self) -> int:
        return len(self.hit_tokens)

    def __repr__(self) -> str:
        return f"<Outcome {self.engine}: {len(self):,} requests>"
