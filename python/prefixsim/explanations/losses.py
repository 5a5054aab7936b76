"""Each prompt token of a replay in exactly one class.

Along a prompt the classes are stretches, in the order of :class:`LossClass`. Their borders are
lengths that the forest and the outcome give exactly, so the classes add up by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.engines.outcome import Outcome
from prefixsim.errors import InputError
from prefixsim.explanations.classes import ALONG, CLASSES
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.study.result import Result
from prefixsim.trace import Trace

__all__ = ["Losses", "class_edges", "usable_blocks"]

U32 = npt.NDArray[np.uint32]

PREEMPTED = "preempted_tokens"
"""Column of an outcome, for engines that know it; see :func:`class_edges`."""


@dataclass(frozen=True, eq=False, repr=False)
class Losses:
    """Each prompt token of a replay in one class.

    Attributes
    ----------
    result : Result
        The replay that is explained.
    edges : ndarray of uint32, shape (requests, 13)
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

    @property
    def splits_evicted(self) -> bool:
        """Whether it can be told what a better policy would have kept: in a pool of one group."""
        return not self.result.config.get("kv_groups")

    @cached_property
    def evicted_capacity(self) -> int:
        """Evicted tokens that no policy could have kept in this capacity.

        What the clairvoyant policy loses at the same capacity against an infinite cache; over all
        requests that count, it cannot be told for a single one.
        """
        evicted = self.totals["evicted"]
        blocks = usable_blocks(self.result)
        if blocks is not None:
            whole = self.result.settings.blocks_of_all_tiers
            blocks = None if whole is None else max(blocks, whole)
        if not evicted or blocks is None or not self.splits_evicted:
            return 0
        metrics, config = self.result.metrics, self.result.config
        rule = config["last_token_rule"]
        best = metrics.profile.replay("clairvoyant", blocks, last_token_rule=rule)["hit_blocks"]
        most = metrics.profile.replay("lru", last_token_rule=rule)["hit_blocks"]
        size = metrics.block_size
        lost = _in_tokens(most, size, self.trace) - _in_tokens(best, size, self.trace)
        return min(evicted, int(lost[self.start :].sum(dtype=np.uint64)))

    @cached_property
    def hit_tiers(self) -> dict[str, int]:
        """Hit tokens by the tier that served them; empty for an engine with one tier."""
        tiers = self.result.outcome.tier_hit_tokens
        return {tier: int(c[self.start :].sum(dtype=np.uint64)) for tier, c in tiers.items()}

    @cached_property
    def evicted_causes(self) -> dict[str, int]:
        """Evicted tokens by cause, for engines that know it; see ``Outcome.evicted_tokens``."""
        causes = self.result.outcome.evicted_tokens
        if self.result.outcome.lost_stretches is not None:
            causes = self.result.outcome.lost_stretches.within(*self.stretch("evicted"))
        return {cause: int(c[self.start :].sum(dtype=np.uint64)) for cause, c in causes.items()}

    @property
    def evicted_policy(self) -> int:
        """Evicted tokens that the clairvoyant policy would still have had in this capacity."""
        return self.totals["evicted"] - self.evicted_capacity


def usable_blocks(result: Result) -> int | None:
    """Return how many blocks a replay's cache can hold; ``None``: as many as there are.

    Null blocks, which some servers count, are never used.
    """
    blocks = result.settings.blocks
    return None if blocks is None else max(1, blocks - result.engine.capabilities.null_blocks)


def _in_tokens(blocks: U32, block_size: int, trace: Trace) -> U32:
    """Tokens of leading blocks; a kept partial block holds only the tokens there are."""
    reached = blocks.astype(np.uint64) * np.uint64(block_size)
    tokens: U32 = np.minimum(reached, trace.prompt_len).astype(np.uint32)
    return tokens


def class_edges(result: Result) -> tuple[U32, Forest]:
    """Return where the classes lie in each prompt.

    Returns
    -------
    edges : ndarray of uint32, shape (requests, 13)
        Class ``ALONG[k]`` of request ``i`` are the tokens ``edges[i, k]:edges[i, k + 1]``.
    open_forest : Forest
        Of the same trace without salts, in the finest blocks its ids allow.

    Raises
    ------
    InputError
        If prefix caching was off, or the outcome hits tokens that no earlier request had.
    """
    metrics, config, trace = result.metrics, result.config, result.trace
    if not config["enable_caching"]:
        msg = f"{trace.name}: prefix caching is off, so every token is computed for that reason"
        raise InputError(msg)
    size, prompt = _block_size(result), trace.prompt_len
    own = _shared(_finest(metrics.forest), trace)
    open_forest = _open(metrics.forest)
    anyone = own if open_forest is metrics.forest else _shared(open_forest, trace)
    profile = metrics.profile if size == metrics.block_size else metrics.forest.profile(size)
    reusable = _in_tokens(profile.reusable_blocks, size, trace)
    ceiling = reusable
    if config["last_token_rule"]:
        most = np.where(prompt > 0, prompt - np.uint32(1), prompt) // np.uint32(size)
        ceiling = np.minimum(reusable, most * np.uint32(size))
    outcome = result.outcome
    hit = outcome.hit_tokens
    if result.engine.capabilities.caches_last_output or _out_of_order(outcome):
        # The forest leaves the last token of outputs out, and what later requests brought; what
        # was hit was there.
        reusable, ceiling, own, anyone = (
            np.maximum(known, hit) for known in (reusable, ceiling, own, anyone)
        )
    if outcome.tier_hit_tokens:
        # What comes from a lower tier may be all of a prompt but its last token.
        ceiling = np.maximum(ceiling, np.minimum(hit, reusable))
    infinite = []
    reached = hit
    for length in _infinite(result, ceiling):
        reached = np.maximum(reached, np.minimum(ceiling, length)).astype(np.uint32)
        infinite.append(reached)
    if config.get("eagle_hits") == "lookahead":
        # A hash covers the token after its block, so that token must be shared too.
        ahead = np.where(own > 0, own - np.uint32(1), own) // np.uint32(size) * np.uint32(size)
        ceiling = np.maximum(reached, np.minimum(ceiling, ahead))
        reusable = np.maximum(ceiling, np.minimum(reusable, ahead))
    aligned = np.maximum(reached, _aligned(config, ceiling))
    again = np.minimum(outcome.columns.get(PREEMPTED, np.uint32(0)), hit).astype(np.uint32)
    nothing = np.zeros_like(prompt)
    edges = np.stack(
        [
            nothing, hit - again, hit, *infinite, aligned, ceiling, reusable, own, anyone, prompt
        ],
        axis=1,
    )  # fmt: skip
    _check_ascending(edges, trace)
    return edges, open_forest


def _out_of_order(outcome: Outcome) -> bool:
    """Whether some request was admitted before an earlier one, and may have served it."""
    admitted = outcome.columns.get("admit_step")
    return admitted is not None and bool(np.any(admitted[1:] < admitted[:-1]))


def _block_size(result: Result) -> int:
    """Tokens of the blocks that full attention alone would be found by."""
    config = result.config
    if config.get("kv_groups"):
        return gcd(result.settings.block_size or 0, int(config["hit_alignment"]))
    return result.metrics.block_size


def _check_ascending(edges: U32, trace: Trace) -> None:
    """Refuse hits that no earlier request had."""
    wrong = np.any(edges[:, 1:] < edges[:, :-1], axis=1)
    if np.any(wrong):
        bad = int(np.flatnonzero(wrong)[0])
        hit, ceiling = (int(edges[bad, ALONG.index(name)]) for name in ("evicted", "last_token"))
        msg = (
            f"{trace.name}: request {bad} hits {hit} tokens, but an infinite cache has "
            f"only {ceiling} of them; does the engine cache outputs?"
        )
        raise InputError(msg)


def _aligned(config: JsonObject, ceiling: U32) -> U32:
    """Leading tokens in the blocks that all groups can agree on, or full attention is found by."""
    if not config.get("kv_groups"):
        return ceiling
    ends_inside = config["hit_alignment"] == config["hash_block_size"]
    unit = np.uint32(config["block_size" if ends_inside else "hit_alignment"])
    return ceiling // unit * unit


def _infinite(result: Result, ceiling: U32) -> tuple[U32, U32, U32, U32]:
    """Tokens that an infinite cache of the same kind has at the same time.

    Returns
    -------
    hit, agreed, without_states, full : ndarray of uint32
        What it hits; what its groups agree on; what they would without recurrent states; and
        without windows and chunks.
    """
    config, outcome = result.config, result.outcome
    if "admit_step" not in outcome.columns:
        return (ceiling,) * 4
    groups: str = config.get("kv_groups") or ""
    unbounded: JsonObject = {"num_blocks": None}
    split = bool(groups) or config.get("eagle_hits") == "drop"
    if split:
        outcome = result.again(**unbounded, record=("limits",)).outcome
    elif config["num_blocks"] is not None:
        outcome = result.again(**unbounded).outcome
    hit = agreed = full = without_states = outcome.hit_tokens
    if split:
        agreed, without_states, full = (
            outcome.columns[f"agreed_{name}"] for name in ("aligned", "window", "full")
        )
    whole = _as_full_attention(result)
    if whole:
        full = np.maximum(full, result.again(**unbounded, **whole).outcome.hit_tokens)
    if not any(kind in groups for kind in ("sliding_window", "chunked_local")):
        without_states = full if "mamba" in groups else agreed
    elif "mamba" not in groups:
        without_states = agreed
    unit = np.uint32(config.get("hit_alignment") or 1)
    return hit, agreed, without_states // unit * unit, full // unit * unit


def _as_full_attention(result: Result) -> JsonObject:
    """Return the settings with which all layers keep everything, where none of them does."""
    config = result.config
    if config.get("sliding_window") is not None:
        return {"sliding_window": None, "disable_hybrid_kv_cache_manager": True}
    groups = config.get("kv_groups")
    if not groups or "full" in groups:
        return {}
    return {"kv_groups": f"full@{config['block_size']}", "prefix_match_unit": None}


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
