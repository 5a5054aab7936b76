"""The loss waterfall: each prompt token of each request in exactly one class.

Along a prompt the classes are stretches, in the order of :data:`ALONG`: what was served from the
cache comes first, what nobody ever had comes last. Their borders are lengths that the forest and
the outcome give exactly, so the classes add up by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prefixsim.errors import InputError
from prefixsim.forest import compile as compile_trace

if TYPE_CHECKING:
    from prefixsim.explanations.remedy import Remedy
    from prefixsim.explanations.top import Top
    from prefixsim.forest import Forest
    from prefixsim.study.result import Result
    from prefixsim.trace import Trace

__all__ = ["ALONG", "CLASSES", "MEANINGS", "Waterfall", "usable_blocks", "waterfall"]

U32 = npt.NDArray[np.uint32]

ALONG = (
    "hit",
    "preempted",
    "evicted",
    "in_flight",
    "last_token",
    "rounding",
    "isolated",
    "cold",
)
"""The classes in the order in which they lie along a prompt."""

CLASSES = (
    "hit",
    "cold",
    "isolated",
    "rounding",
    "last_token",
    "in_flight",
    "evicted",
    "preempted",
)
"""The classes in the order in which reports list them."""

MEANINGS: dict[str, str] = {
    "hit": "served from the cache",
    "cold": "no earlier request had these tokens",
    "isolated": "an earlier request had them, under another salt",
    "rounding": "shared, but lost to the block boundary",
    "last_token": "a cached block computed again, because the last token must be",
    "in_flight": "an earlier request had them, but had not computed them yet",
    "evicted": "an infinite cache would have served them",
    "preempted": "served, then computed again after a preemption",
}
"""What each class means, in words."""

AVAILABLE, PREEMPTED = "available_tokens", "preempted_tokens"
"""Columns of an outcome, for engines that know them; see :func:`waterfall`."""


@dataclass(frozen=True, eq=False, repr=False)
class Waterfall:
    """Each prompt token of a replay in one class.

    Attributes
    ----------
    result : Result
        The replay that is explained.
    edges : ndarray of uint32, shape (requests, 9)
        Class ``ALONG[k]`` of request ``i`` are the tokens ``edges[i, k]:edges[i, k + 1]`` of its
        prompt; warm-up included.
    open_forest : Forest
        Of the same trace without salts, in the finest blocks its ids allow.
    """

    result: Result
    edges: npt.NDArray[np.uint32]
    open_forest: Forest

    @property
    def trace(self) -> Trace:
        """The trace that was replayed."""
        return self.result.trace

    @property
    def start(self) -> int:
        """The first request that counts; those before warm the cache up."""
        return self.result.metrics.start

    def __len__(self) -> int:
        return len(self.edges)

    def __repr__(self) -> str:
        shares = ", ".join(
            f"{k} {v / max(1, self.prompt_tokens):.1%}" for k, v in self.totals.items()
        )
        return f"<Waterfall of {self.trace.name}: {shares}>"

    def tokens(self, name: str) -> U32:
        """Return the tokens of a class, per request of the trace."""
        k = ALONG.index(name)
        return self.edges[:, k + 1] - self.edges[:, k]

    def stretch(self, name: str) -> tuple[U32, U32]:
        """Return where a class starts and ends in each prompt; nowhere in warm-up."""
        k = ALONG.index(name)
        start, end = self.edges[:, k].copy(), self.edges[:, k + 1].copy()
        start[: self.start] = end[: self.start] = 0
        return start, end

    @cached_property
    def prompt_tokens(self) -> int:
        """Prompt tokens of the requests that count."""
        return int(self.trace.prompt_len[self.start :].sum(dtype=np.uint64))

    @cached_property
    def totals(self) -> dict[str, int]:
        """Tokens of each class over the requests that count, by name, in the order of reports."""
        edges = self.edges[self.start :]
        sums = edges.sum(axis=0, dtype=np.uint64).astype(object)
        tokens = dict(zip(ALONG, np.diff(sums), strict=True))
        return {name: int(tokens[name]) for name in CLASSES}

    @cached_property
    def evicted_capacity(self) -> int:
        """Evicted tokens that no policy could have kept in this capacity.

        What the clairvoyant policy loses at the same capacity against an infinite cache; over all
        requests that count, it cannot be told for a single one.
        """
        evicted = self.totals["evicted"]
        blocks = usable_blocks(self.result.config)
        if not evicted or blocks is None:
            return 0
        metrics, config = self.result.metrics, self.result.config
        rule = config["last_token_rule"]
        best = metrics.profile.clairvoyant(blocks, last_token_rule=rule)["hit_blocks"]
        most = metrics.profile.lru(None, last_token_rule=rule)["hit_blocks"]
        size = metrics.block_size
        lost = _in_tokens(most, size, self.trace) - _in_tokens(best, size, self.trace)
        return min(evicted, int(lost[self.start :].sum(dtype=np.uint64)))

    @property
    def evicted_policy(self) -> int:
        """Evicted tokens that the clairvoyant policy would still have had in this capacity."""
        return self.totals["evicted"] - self.evicted_capacity

    def top(self, name: str, count: int = 10) -> Top:
        """Return who loses most in a class; see :func:`prefixsim.explanations.top.top`."""
        from prefixsim.explanations.top import top  # noqa: PLC0415

        return top(self, name, count)

    @cached_property
    def remedies(self) -> list[Remedy]:
        """What would recover the losses, each replayed; see :mod:`prefixsim.explanations.remedy`."""
        from prefixsim.explanations.remedy import remedies  # noqa: PLC0415

        return remedies(self)

    def to_dict(self, count: int = 10) -> dict[str, Any]:
        """Return classes, who loses most and what would help; plain values.

        Parameters
        ----------
        count : int, optional
            Rows of each list of those that lose most.
        """
        whole = max(1, self.prompt_tokens)
        classes: dict[str, Any] = {
            name: {"tokens": tokens, "share": tokens / whole}
            for name, tokens in self.totals.items()
        }
        classes["evicted"] |= {
            "policy_tokens": self.evicted_policy,
            "capacity_tokens": self.evicted_capacity,
        }
        lost = [name for name in CLASSES[1:] if self.totals[name]]
        return {
            "requests": len(self) - self.start,
            "prompt_tokens": self.prompt_tokens,
            "classes": classes,
            "top": {name: self.top(name, count).to_dict() for name in lost},
            "remedies": [remedy.to_dict() for remedy in self.remedies],
        }

    def _repr_html_(self) -> str:
        from prefixsim.explanations.tables import waterfall_tables  # noqa: PLC0415
        from prefixsim.table import html  # noqa: PLC0415

        return html(waterfall_tables(self))


def usable_blocks(config: Mapping[str, Any]) -> int | None:
    """Return how many blocks a replay's cache can hold; ``None``: as many as there are.

    Engines after vLLM count one block more, the null block, which is never used.
    """
    blocks: int | None = config["num_blocks"]
    if blocks is None or config["engine"] == "lru":
        return blocks
    return max(1, blocks - 1)


def _in_tokens(blocks: U32, block_size: int, trace: Trace) -> U32:
    """Tokens of leading blocks; a kept partial block holds only the tokens there are."""
    reached = blocks.astype(np.uint64) * np.uint64(block_size)
    tokens: U32 = np.minimum(reached, trace.prompt_len).astype(np.uint32)
    return tokens


def waterfall(result: Result) -> Waterfall:
    """Tell why each prompt token of a replay was hit or lost.

    Works for every engine. What an infinite cache would have served is what an earlier request had;
    for an engine with time (its outcome has the column ``admit_step``), what the same engine hits
    without a limit on its blocks. An outcome may say so itself in the column ``available_tokens``.
    The column ``preempted_tokens`` counts, from the end of the hits, those that were computed again
    after a preemption.

    Parameters
    ----------
    result : Result
        Of :func:`prefixsim.replay`.

    Returns
    -------
    Waterfall

    Raises
    ------
    InputError
        If prefix caching was off, or the outcome hits tokens that no earlier request had.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48), range(16)])
    >>> prefixsim.replay(trace, block_size=16).waterfall().totals
    {'hit': 32, 'cold': 48, 'isolated': 0, 'rounding': 8, 'last_token': 16, 'in_flight': 0, \
'evicted': 0, 'preempted': 0}
    """
    metrics, config, trace = result.metrics, result.config, result.trace
    if not config["enable_caching"]:
        msg = f"{trace.name}: prefix caching is off, so every token is computed for that reason"
        raise InputError(msg)
    size, prompt = metrics.block_size, trace.prompt_len
    own = _shared(_finest(metrics.forest), trace)
    open_forest = _open(metrics.forest)
    anyone = own if open_forest is metrics.forest else _shared(open_forest, trace)
    profile = metrics.profile
    reusable = _in_tokens(profile.reusable_blocks, size, trace)
    ceiling = reusable
    if config["last_token_rule"]:
        most = np.where(prompt > 0, prompt - np.uint32(1), prompt) // np.uint32(size)
        ceiling = np.minimum(reusable, most * np.uint32(size))
    outcome = result.outcome
    hit = outcome.hit_tokens
    available = np.minimum(ceiling, _available(result, ceiling)).astype(np.uint32)
    available = np.maximum(available, hit)
    again = np.minimum(outcome.columns.get(PREEMPTED, np.uint32(0)), hit).astype(np.uint32)
    nothing = np.zeros_like(prompt)
    edges = np.stack(
        [nothing, hit - again, hit, available, ceiling, reusable, own, anyone, prompt], axis=1
    )
    if np.any(edges[:, 1:] < edges[:, :-1]):
        bad = int(np.flatnonzero(np.any(edges[:, 1:] < edges[:, :-1], axis=1))[0])
        msg = (
            f"{trace.name}: request {bad} hits {int(hit[bad])} tokens, but an infinite cache has "
            f"only {int(ceiling[bad])} of them; does the engine cache outputs?"
        )
        raise InputError(msg)
    return Waterfall(result, edges, open_forest)


def _available(result: Result, ceiling: U32) -> U32:
    """Tokens that an infinite cache of the same kind would have served at the same time."""
    columns = result.outcome.columns
    if AVAILABLE in columns:
        return columns[AVAILABLE]
    if "admit_step" not in columns:
        return ceiling
    if result.config["num_blocks"] is None:
        return result.outcome.hit_tokens
    return result.again(num_blocks=None).outcome.hit_tokens


def _finest(forest: Forest) -> Forest:
    """Return a forest that knows all ids of the trace: the last may stand for fewer tokens."""
    if forest.trace.kind == "hashes" and not forest.partial_blocks:
        return compile_trace(forest.trace, partial_blocks=True)
    return forest


def _open(forest: Forest) -> Forest:
    """Return a forest that knows all ids and no salts; the same one if it is that."""
    trace = forest.trace
    salted = trace.salt is not None and len(np.unique(trace.salt.codes)) > 1
    if not salted:
        return _finest(forest)
    kept = trace.kind == "hashes"
    return compile_trace(trace.replace(salt=None), outputs=forest.outputs, partial_blocks=kept)


def _shared(forest: Forest, trace: Trace) -> U32:
    """Tokens that each prompt has in common with any earlier request, from the start."""
    unit = trace.id_block_size
    return _in_tokens(forest.profile(unit).reusable_blocks, unit, trace)
