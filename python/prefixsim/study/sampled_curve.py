"""Hit curves of samples: a share of the requests, in a cache scaled alike.

Policies of the ideal engine are exact at any capacity at little cost; engines that keep every slot
are not, and there a sample saves what it leaves out. Requests that share are kept together: below
the prefixes that very many requests share, each subtree of the forest is kept whole or not at all.
Shared prefixes take as much room in the sample as in the trace, the rest of the cache is scaled by
what the sample holds of the other blocks, and hit rates by the ceiling of the whole trace, which is
known exactly.

How far independent samples lie apart is the error bar. Where the scaled cache holds only a few
prompts, one prompt more or less decides and every sample errs alike: that is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim import _json
from prefixsim._json import JsonObject
from prefixsim.engines import Engine, choose, settings_for
from prefixsim.errors import InputError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.study.capacities import round_capacities
from prefixsim.study.replay import replay, settled
from prefixsim.table import Table, html, written
from prefixsim.trace import Trace
from prefixsim.trace.provenance import provenance, trace_facts

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SampledCurve", "SampledPoint", "sample_curve", "sampled_tables", "sampling_units"]

FEWEST_PROMPTS = 10
"""Mean prompts that a scaled cache has to hold: below, errors reach tens of points."""

FEW_PROMPTS = 100
"""Mean prompts below which a scaled cache is warned of."""

_SHARED = 100  # a prefix of more than one request in so many is shared by all samples

# Student's t, 97.5 %, by degrees of freedom from 1.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
)  # fmt: skip
MOST_SAMPLES = len(_T) + 1


@dataclass(frozen=True)
class SampledPoint:
    """A cache of one size, estimated.

    Attributes
    ----------
    capacity_blocks : int
        Of the whole trace.
    token_hit_rate : float
        The mean of the samples.
    low, high : float
        Ends of the 95 % interval of that mean (Student's t over the samples).
    scaled_prompts : float
        How many mean prompts the scaled cache holds.
    """

    capacity_blocks: int
    token_hit_rate: float
    low: float
    high: float
    scaled_prompts: float


@dataclass(frozen=True, eq=False, repr=False)
class SampledCurve:
    """A hit curve estimated from independent samples.

    Attributes
    ----------
    trace : Trace
    block_size : int
    points : list of SampledPoint
    ceiling : float
        Token hit rate of an infinite cache, exact.
    kept : list of int
        Requests in each sample.
    config : dict
        Engine, settings, rate, samples, seed.
    """

    trace: Trace
    block_size: int
    points: list[SampledPoint]
    ceiling: float
    kept: list[int]
    config: JsonObject

    def __repr__(self) -> str:
        return f"<SampledCurve of {self.trace.name}: {len(self.kept)} samples>"

    def _repr_html_(self) -> str:
        return html(sampled_tables(self))

    @property
    def doubts(self) -> str | None:
        """What is to be warned of: scaled caches that hold few prompts."""
        few = [p.capacity_blocks for p in self.points if p.scaled_prompts < FEW_PROMPTS]
        if not few:
            return None
        return (
            f"up to {max(few):,} blocks the scaled cache holds fewer than {FEW_PROMPTS} mean "
            "prompts: expect errors of some points"
        )

    def to_dict(self) -> JsonObject:
        """Return ``trace``, ``provenance``, ``ceiling``, ``kept`` and ``points``; plain values."""
        origin = provenance(self.trace, self.config)
        return {
            "trace": trace_facts(self.trace, origin["digest"]),
            "provenance": origin,
            "block_size": self.block_size,
            "ceiling": {"token_hit_rate": self.ceiling},
            "kept": self.kept,
            "points": [asdict(point) for point in self.points],
        }

    def to_json(self) -> str:
        """Return :meth:`to_dict` as strict, indented JSON."""
        return _json.dumps(self.to_dict())

    def to_arrow(self) -> pa.Table:
        """Return :attr:`points` as an Arrow table: the fields of :class:`SampledPoint`."""
        import pyarrow as pa

        return pa.Table.from_pylist([asdict(point) for point in self.points])


def sample_curve(
    trace: Trace,
    *,
    rate: float,
    capacity: Sequence[int] | None = None,
    engine: str | Engine | None = None,
    samples: int = 4,
    seed: int = 0,
    **options: object,
) -> SampledCurve:
    """Estimate token hit rates at some capacities from samples of the requests.

    Parameters
    ----------
    trace : Trace
        Of token ids or hash ids.
    rate : float
        Share of the subtrees that a sample keeps, above 0 and below 1.
    capacity : sequence of int, optional
        Blocks. Default: round numbers up to the unique blocks, from where samples can tell.
    engine : str or Engine, optional
        One without time: a sample thins the load out.
    samples : int, optional
        Independent samples, 2 to 20.
    seed : int, optional
    **options
        Options of the engine, but its size.

    Returns
    -------
    SampledCurve

    Raises
    ------
    InputError
        If an option is out of range, the engine has time, or a scaled cache would hold fewer than
        ten mean prompts, where samples err by tens of points.

    Examples
    --------
    >>> import prefixsim
    >>> from prefixsim.study.sampled_curve import sample_curve
    >>> prompts = [[i % 60, *range(i % 7 + 3)] for i in range(600)]
    >>> trace = prefixsim.Trace.from_prompts(prompts)
    >>> found = sample_curve(trace, rate=0.5, capacity=[200], engine="ideal", block_size=1)
    >>> found.points[0].low <= found.points[0].token_hit_rate <= found.points[0].high
    True
    """
    _check(rate, samples)
    chosen = choose(engine, {"num_blocks": 1, **options})
    if chosen.capabilities.has_time:
        msg = f"engine {chosen.name!r} has time, and a sample thins its load out: replay it whole"
        raise InputError(msg)
    given = settings_for(chosen, options)
    settings = settled(trace, chosen, given)
    size = settings.tokens_per_block
    whole = compile_trace(trace, outputs=bool(settings.cache_outputs))
    units, shared = sampling_units(whole, size)
    rule = bool(getattr(settings, "last_token_rule", True))
    ceiling = _ceiling(whole, size, rule)
    distinct, mean_prompt = whole.unique_blocks(size), _mean_prompt(whole, size)
    if not distinct:
        msg = f"{trace.name}: no prompt has a full block of {size} tokens"
        raise InputError(msg)
    capacity = _capacities(trace.name, capacity, distinct, mean_prompt / rate)
    _refuse_few(trace.name, capacity, [_room(c, shared, rate) / mean_prompt for c in capacity])
    rates = np.empty((samples, len(capacity)))
    scaled = np.empty((samples, len(capacity)))
    kept = []
    for number in range(samples):
        rows = _drawn(units, rate, np.random.default_rng([seed, number]))
        if not len(rows):
            msg = f"{trace.name}: a sample of {rate} keeps no request, give a larger share"
            raise InputError(msg)
        kept.append(len(rows))
        part = compile_trace(trace.take(rows), outputs=whole.outputs)
        ratio = (part.unique_blocks(size) - shared) / max(1, distinct - shared)
        room = [max(1, round(_room(c, shared, ratio))) for c in capacity]
        scaled[number] = np.array(room) / mean_prompt
        top = _ceiling(part, size, rule)
        for place, blocks in enumerate(room):
            cache = replace(given, num_blocks=blocks)
            result = replay(part, engine=chosen, settings=cache)
            found = float(result.summary["token_hit_rate"])
            rates[number, place] = min(1.0, found * ceiling / top) if top else 0.0
    mean = rates.mean(axis=0)
    bar = _T[samples - 2] * rates.std(axis=0, ddof=1) / np.sqrt(samples)
    points = [
        SampledPoint(int(c), float(m), max(0.0, float(m - b)), min(1.0, float(m + b)), float(p))
        for c, m, b, p in zip(capacity, mean, bar, scaled.mean(axis=0), strict=True)
    ]
    config = {"engine": chosen.name, **options, "rate": rate, "samples": samples, "seed": seed}
    return SampledCurve(trace, size, points, ceiling, kept, config)


def sampling_units(forest: Forest, block_size: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return the unit that each request is kept or left out with, and the blocks that all share.

    A unit is a subtree below a prefix of more than one request in a hundred; a request that ends
    in such a prefix is a unit of its own.

    Returns
    -------
    (ndarray of int64, shape (requests,); int)
    """
    parts = forest.core.parts()
    parent, node = parts["parent"].tolist(), parts["prompt_node"]
    requests = len(node)
    below = np.bincount(node, minlength=len(parent)).tolist()
    for i in range(len(parent) - 1, 0, -1):  # nodes are in preorder
        if parent[i] != i:
            below[parent[i]] += below[i]
    most = max(1, requests // _SHARED)
    unit = list(range(len(parent)))
    for i, above in enumerate(parent):
        if above != i and below[above] <= most:
            unit[i] = unit[above]
    shared = np.array(below) > most
    ends = parts["end"].astype(np.int64) // (block_size // forest.core.tokens_per_id)
    blocks = int((ends - ends[parts["parent"]])[shared].sum())
    alone = shared[node]
    units = np.array(unit, dtype=np.int64)[node]
    units[alone] = len(parent) + np.flatnonzero(alone)
    return units, blocks


def _check(rate: float, samples: int) -> None:
    if not 0 < rate < 1:
        msg = f"a sample of {rate}: give a share above 0 and below 1"
        raise InputError(msg)
    if not 2 <= samples <= MOST_SAMPLES:
        msg = f"{samples} samples: give 2 to {MOST_SAMPLES}, one tells nothing of its error"
        raise InputError(msg)


def _capacities(name: str, wanted: Sequence[int] | None, distinct: int, prompt: float) -> list[int]:
    """Return capacities as asked for, or round ones that hold enough prompts once scaled."""
    if wanted is not None:
        if not wanted or min(wanted) < 1:
            msg = "capacity: give one or more, in blocks of at least 1"
            raise InputError(msg)
        return list(wanted)
    enough = [c for c in round_capacities(distinct) if c >= 1.5 * FEWEST_PROMPTS * prompt]
    if not enough:
        msg = (
            f"{name}: even a cache of all its {distinct:,} blocks holds fewer than "
            f"{FEWEST_PROMPTS} mean prompts once scaled to the sample: give a larger sample"
        )
        raise InputError(msg)
    return enough


def _room(capacity: int, shared: int, ratio: float) -> float:
    """Scale a capacity: what all share keeps its room."""
    return min(capacity, shared) + max(0, capacity - shared) * ratio


def _refuse_few(name: str, capacity: Sequence[int], prompts: Sequence[float]) -> None:
    few = [c for c, p in zip(capacity, prompts, strict=True) if p < FEWEST_PROMPTS]
    if few:
        msg = (
            f"{name}: scaled to the sample, {max(few):,} blocks hold fewer than {FEWEST_PROMPTS} "
            "mean prompts, where samples err by tens of points: give a larger capacity or sample"
        )
        raise InputError(msg)


def _drawn(
    units: npt.NDArray[np.int64], rate: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the rows of a sample, in order."""
    names, index = np.unique(units, return_inverse=True)
    return np.flatnonzero((rng.random(len(names)) < rate)[index.reshape(-1)]).astype(np.int64)


def _ceiling(forest: Forest, size: int, rule: bool) -> float:
    tokens = forest.trace.prompt_len.astype(np.int64)
    most = np.maximum(tokens - rule, 0) // size
    hits = np.minimum(forest.profile(size).reusable_blocks, most)
    return float(hits.sum() * size / max(1, int(tokens.sum())))


def _mean_prompt(forest: Forest, size: int) -> float:
    blocks = forest.profile(size).full_blocks
    return float(blocks.mean()) if len(blocks) else 0.0


def sampled_tables(found: SampledCurve) -> list[Table]:
    """Return the estimates as a table."""
    kept = f"{min(found.kept):,} to {max(found.kept):,} of {len(found.trace):,} requests"
    rows = [
        [
            f"{p.capacity_blocks:,}",
            f"{p.capacity_blocks * found.block_size:,}",
            written(p.token_hit_rate, "rate"),
            f"{written(p.low, 'rate')} to {written(p.high, 'rate')}",
            written(p.scaled_prompts, "count"),
        ]
        for p in found.points
    ]
    title = (
        f"{found.trace.name}: {found.config['engine']}, block size {found.block_size}: estimated "
        f"from {len(found.kept)} samples of {kept}; ceiling {written(found.ceiling, 'rate')}"
    )
    head = ["blocks", "tokens", "token hit rate", "95 % interval", "prompts in the scaled cache"]
    return [Table(title, head, rows)]
