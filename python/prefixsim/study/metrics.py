"""Metrics of a replay, all derived from a trace, its forest profile and an outcome.

The definitions are those of the documentation page on metrics; names in the summary are the
machine-readable names used everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.engines.outcome import Outcome, Weighted
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.stats import Distribution, distribution
from prefixsim.trace import Codes, Trace

if TYPE_CHECKING:
    from prefixsim._core import Profile

__all__ = ["Group", "GroupLabel", "Metrics", "OverTime", "first_measured"]

GroupLabel = Literal["category", "salt", "session"]
"""What requests can be grouped by."""

MAX_GROUPS = 20
"""Groups listed by :meth:`Metrics.summary`; the rest are added up in one."""


def first_measured(requests: int, warmup: float) -> int:
    """Return the index of the first request after a warm-up of this share of the requests."""
    # Rounded, so that 0.3 of 10 requests is 3 and not what binary fractions make of it.
    return int(round(requests * warmup, 6))


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _total(column: npt.NDArray[np.generic]) -> int:
    return int(column.sum(dtype=np.uint64))


@dataclass(frozen=True)
class Group:
    """Requests that share a label."""

    name: str
    requests: int
    prompt_tokens: int
    hit_tokens: int

    @property
    def token_hit_rate(self) -> float:
        """Hit tokens over prompt tokens."""
        return _rate(self.hit_tokens, self.prompt_tokens)

    def to_dict(self) -> JsonObject:
        """Return the figures under their machine-readable names."""
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "hit_tokens": self.hit_tokens,
            "token_hit_rate": self.token_hit_rate,
        }


@dataclass(frozen=True, eq=False)
class OverTime:
    """Sums over equal intervals of trace time.

    Attributes
    ----------
    edges : ndarray of float64, shape (intervals + 1,)
        Seconds since the first request of the trace.
    requests, prompt_tokens, hit_tokens : ndarray of int64, shape (intervals,)
    """

    edges: npt.NDArray[np.float64]
    requests: npt.NDArray[np.int64]
    prompt_tokens: npt.NDArray[np.int64]
    hit_tokens: npt.NDArray[np.int64]

    @property
    def token_hit_rate(self) -> npt.NDArray[np.float64]:
        """Hit tokens over prompt tokens; NaN where no token arrived."""
        rate = np.full(len(self.requests), np.nan)
        np.divide(self.hit_tokens, self.prompt_tokens, out=rate, where=self.prompt_tokens > 0)
        return rate


@dataclass(frozen=True, eq=False)
class Metrics:
    """Every figure of one replay, computed when asked for.

    Attributes
    ----------
    forest : Forest
        Of the whole trace.
    outcome : Outcome
    block_size : int
        Tokens.
    start : int
        The first request that counts; those before warm the cache up.
    window : Profile
        The blocks of the requests from ``start`` on.
    """

    forest: Forest
    outcome: Outcome
    block_size: int
    start: int
    window: Profile

    def __getstate__(self) -> JsonObject:
        """Return what a pickle keeps; profiles are made again from the forest."""
        return {name: value for name, value in vars(self).items() if name != "window"}

    def __setstate__(self, state: JsonObject) -> None:
        vars(self).update(state)
        forest, size = self.forest, self.block_size
        if self.start:
            rest = self.trace.take(np.arange(self.start, len(self.trace)))
            forest = compile_trace(
                rest, outputs=forest.outputs, partial_blocks=forest.partial_blocks
            )
        vars(self)["window"] = forest.profile(size)

    @property
    def trace(self) -> Trace:
        """The trace that was replayed."""
        return self.forest.trace

    @property
    def profile(self) -> Profile:
        """The blocks of the whole trace at the replay's block size."""
        return self.forest.profile(self.block_size)

    @cached_property
    def prompt_len(self) -> npt.NDArray[np.uint32]:
        """Prompt tokens of each measured request."""
        return self.trace.prompt_len[self.start :]

    @cached_property
    def hit_tokens(self) -> npt.NDArray[np.uint32]:
        """Hit tokens of each measured request."""
        return self.outcome.hit_tokens[self.start :]

    @cached_property
    def sharing_fraction(self) -> npt.NDArray[np.float64]:
        """Hit tokens over prompt tokens of each measured request; 0 for an empty prompt."""
        share = np.zeros(len(self.prompt_len))
        np.divide(self.hit_tokens, self.prompt_len, out=share, where=self.prompt_len > 0)
        return share

    @cached_property
    def block_hit_count(self) -> Weighted:
        """Per unique block, the number of measured requests whose prompt contains it."""
        counts, blocks = self.window.block_hit_counts()
        return Weighted(counts.astype(np.float64), blocks)

    @cached_property
    def _gaps(
        self,
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
        request, previous, blocks = self.profile.gaps(self.outcome.hit_blocks)
        if self.start:
            measured = request >= self.start
            return request[measured], previous[measured], blocks[measured]
        return request, previous, blocks

    @cached_property
    def reuse_gap_s(self) -> Weighted:
        """Per hit block, seconds since the previous request that contains it."""
        request, previous, blocks = self._gaps
        return Weighted(self.trace.timestamp[request] - self.trace.timestamp[previous], blocks)

    @cached_property
    def reuse_gap_requests(self) -> Weighted:
        """Per hit block, requests since the previous one that contains it."""
        request, previous, blocks = self._gaps
        return Weighted((request - previous).astype(np.float64), blocks)

    @cached_property
    def session_hits(self) -> npt.NDArray[np.uint32] | None:
        """Hit blocks of each measured request that its own session had used before.

        The other hits owe to other sessions; a request without a session has only such hits.
        ``None`` if the trace knows no sessions.
        """
        session = self.trace.session
        if session is None:
            return None
        own = self.forest.session_hits(self.outcome.hit_blocks, self.block_size)
        if "" in session.names:
            own = np.where(session.codes == session.names.index(""), np.uint32(0), own)
        return own[self.start :]

    def over_time(self, intervals: int = 120) -> OverTime:
        """Add up requests and tokens over equal intervals of the measured time."""
        times = self.trace.timestamp[self.start :]
        if not len(times):
            return OverTime(np.zeros(1), *(np.zeros(0, dtype=np.int64) for _ in range(3)))
        zero, first, last = float(self.trace.timestamp[0]), float(times[0]), float(times[-1])
        if last <= first:
            intervals, last = 1, max(first + 1.0, float(np.nextafter(first, np.inf)))
        edges = np.linspace(first, last, intervals + 1)
        at = np.minimum(
            ((times - first) / (last - first) * intervals).astype(np.intp), intervals - 1
        )

        def total(column: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
            return np.bincount(at, weights=column, minlength=intervals).astype(np.int64)

        return OverTime(
            edges - zero,
            np.bincount(at, minlength=intervals),
            total(self.prompt_len),
            total(self.hit_tokens),
        )

    def groups(self, by: GroupLabel) -> list[Group] | None:
        """Return hit rates by a label, the most prompt tokens first; ``None`` without labels."""
        labels: Codes | None = getattr(self.trace, by)
        if labels is None:
            return None
        codes, size = labels.codes[self.start :], len(labels.names)
        requests = np.bincount(codes, minlength=size)
        prompt = np.bincount(codes, weights=self.prompt_len, minlength=size).astype(np.int64)
        hit = np.bincount(codes, weights=self.hit_tokens, minlength=size).astype(np.int64)
        order = np.argsort(-prompt, kind="stable")
        return [
            Group(labels.names[i], int(requests[i]), int(prompt[i]), int(hit[i]))
            for i in order
            if requests[i]
        ]

    def summary(self) -> JsonObject:
        """Return every figure under its machine-readable name; plain numbers, ready for JSON."""
        return {
            **self._counts(),
            "sharing_fraction": distribution(self.sharing_fraction),
            "block_hit_count": _weighted(self.block_hit_count),
            "reuse_gap_s": _weighted(self.reuse_gap_s),
            "reuse_gap_requests": _weighted(self.reuse_gap_requests),
            **{name: _weighted(column) for name, column in self.outcome.residency.items()},
            **self._sessions(),
            **{
                f"by_{by}": _listed(groups)
                for by in ("category", "salt")
                if (groups := self.groups(by)) is not None
            },
            **self.outcome.summary,
        }

    def _counts(self) -> JsonObject:
        blocks = self.profile.full_blocks[self.start :]
        hit_blocks = self.outcome.hit_blocks[self.start :]
        total, reused = _total(blocks), _total(hit_blocks)
        prompt_tokens, hit_tokens = _total(self.prompt_len), _total(self.hit_tokens)
        computed = _total(self.outcome.computed_tokens[self.start :])
        # A trailing partial block counts its own tokens, where such blocks count at all.
        in_blocks = np.minimum(blocks.astype(np.uint64) * self.block_size, self.prompt_len)
        return {
            "requests": len(self.prompt_len),
            "requests_with_hit": int(np.count_nonzero(hit_blocks)),
            "prompt_tokens": prompt_tokens,
            "hit_tokens": hit_tokens,
            "computed_tokens": computed,
            "token_hit_rate": _rate(hit_tokens, prompt_tokens),
            "prefill_saved_share": _rate(prompt_tokens - computed, prompt_tokens),
            "full_block_hit_rate": _rate(hit_tokens, _total(in_blocks)),
            "total_blocks": total,
            "blocks_reused": reused,
            "blocks_allocated": total - reused,
            "unique_blocks": int(self.window.unique_blocks),
            "block_reuse_rate": _rate(reused, total),
            "evictions": self.outcome.counters.get("evictions", 0),
            **self._tiers(prompt_tokens),
        }

    def _tiers(self, prompt_tokens: int) -> JsonObject:
        """Hits by tier, and what moved between tiers, where an engine has several."""
        outcome, start = self.outcome, self.start
        found: JsonObject = {}
        if outcome.tier_hit_tokens:
            found["tiers"] = {
                tier: {
                    "hit_tokens": (hit := _total(column[start:])),
                    "token_hit_rate": _rate(hit, prompt_tokens),
                    **self._written(tier),
                }
                for tier, column in outcome.tier_hit_tokens.items()
            }
        for name in ("loaded_tokens", "stored_tokens"):
            column = getattr(outcome, name)
            if column is not None:
                found[name] = _total(column[start:])
        return found

    def _written(self, tier: str) -> JsonObject:
        """Return what was written to a tier, if the engine says it of each."""
        column = self.outcome.columns.get(f"written_tokens_{tier}")
        return {} if column is None else {"written_tokens": _total(column[self.start :])}

    def _sessions(self) -> JsonObject:
        if self.session_hits is None:
            return {}
        own = _total(self.session_hits)
        reused = _total(self.outcome.hit_blocks[self.start :])
        return {
            "blocks_reused_same_session": own,
            "blocks_reused_other_session": reused - own,
        }


def _weighted(column: Weighted) -> Distribution:
    return distribution(column.values, column.weights)


def _listed(groups: list[Group]) -> JsonObject:
    shown = {group.name: group.to_dict() for group in groups[:MAX_GROUPS]}
    rest = groups[MAX_GROUPS:]
    if rest:
        other = Group(
            "",
            sum(g.requests for g in rest),
            sum(g.prompt_tokens for g in rest),
            sum(g.hit_tokens for g in rest),
        )
        shown[f"({len(rest)} others)"] = other.to_dict()
    return shown
