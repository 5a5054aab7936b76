"""One hit curve: what a cache of any size would hit under one policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from prefixsim import _core
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.eviction import STACK_POLICIES
from prefixsim.forest import Forest
from prefixsim.own_policies import Policy
from prefixsim.study.capacities import round_capacities, spaced_capacities
from prefixsim.study.rates import SHARES, blocks_for, hits_dict
from prefixsim.table import Table, html, written

if TYPE_CHECKING:
    import altair as alt
    import pyarrow as pa

__all__ = [
    "AXES",
    "Axis",
    "Curve",
    "Point",
    "curve_tables",
    "plotted",
    "points_table",
    "round_capacities",
]

Axis = Literal["blocks", "tokens", "GB"]
"""Unit of a capacity in a chart."""

AXES: tuple[Axis, ...] = ("blocks", "tokens", "GB")

_NAMES = {"lru": "LRU"}

_ENDLESS = 2**63 - 1  # blocks; nothing larger differs


@dataclass(frozen=True)
class Point:
    """A cache of one size.

    Attributes
    ----------
    capacity_blocks : int
    hit_tokens : int
        Prompt tokens served from the cache.
    blocks_reused : int
        Full prompt blocks served from the cache.
    token_hit_rate : float
        Hit tokens / prompt tokens.
    block_reuse_rate : float
        Blocks reused / full prompt blocks.
    """

    capacity_blocks: int
    hit_tokens: int
    blocks_reused: int
    token_hit_rate: float
    block_reuse_rate: float


@dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """Hits of one policy at one block size, as a function of the capacity.

    Attributes
    ----------
    forest : Forest
    policy, own : str, Policy or None
        One of :data:`prefixsim.eviction.POLICIES`, with its parameters; or the label of ``own``.
    block_size : int
        Tokens.
    last_token_rule : bool
        Whether the last token of a prompt is always computed.
    capacities : list of int
        Where :attr:`points` are, in blocks. Any other capacity can be asked for as well.
    """

    forest: Forest
    policy: str
    block_size: int
    last_token_rule: bool = True
    capacities: Sequence[int] = ()
    own: Policy | None = None
    _known: dict[int, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name in a legend or a table's head."""
        return f"{_NAMES.get(self.policy, self.policy)}, block size {self.block_size}"

    def _repr_html_(self) -> str:
        return html(curve_tables([self]))

    def __repr__(self) -> str:
        return (
            f"<Curve {self.forest.trace.name}: {self.policy}, block size {self.block_size}, "
            f"ceiling {self.ceiling:.4f}>"
        )

    @cached_property
    def unique_blocks(self) -> int:
        """Distinct full blocks: the capacity from which on nothing is evicted."""
        return self.forest.unique_blocks(self.block_size)

    @cached_property
    def total_blocks(self) -> int:
        """Full blocks of all prompts."""
        return int(self.forest.profile(self.block_size).full_blocks.sum(dtype=np.uint64))

    @cached_property
    def ceiling(self) -> float:
        """Token hit rate of an infinite cache."""
        return self.ceiling_point.token_hit_rate

    @cached_property
    def ceiling_point(self) -> Point:
        """An infinite cache, at the smallest capacity that is as good as one."""
        return self.at(max(1, self.unique_blocks))

    @cached_property
    def points(self) -> list[Point]:
        """The curve at :attr:`capacities`."""
        self._replay(self.capacities)
        return [self.at(capacity) for capacity in self.capacities]

    def sampled(self, count: int) -> list[Point]:
        """Return about ``count`` points, evenly spaced on a logarithmic capacity."""
        capacities = spaced_capacities(self.unique_blocks, count)
        self._replay(capacities)
        return [self.at(capacity) for capacity in capacities]

    def at(self, capacity: int) -> Point:
        """Return the curve at a capacity in blocks."""
        hits = self.blocks_reused(capacity)
        tokens = hits * self.block_size
        return Point(
            capacity_blocks=capacity,
            hit_tokens=tokens,
            blocks_reused=hits,
            token_hit_rate=tokens / max(1, self.forest.trace.prompt_tokens),
            block_reuse_rate=hits / max(1, self.total_blocks),
        )

    def blocks_reused(self, capacity: int) -> int:
        """Count the prompt blocks that hit at a capacity in blocks."""
        if capacity < 0:
            msg = f"capacity is {capacity} blocks, it must be at least 0"
            raise InputError(msg)
        if capacity == 0:
            return 0
        if self.policy == "lru":
            at = np.array([min(capacity, _ENDLESS)], np.uint64)
            hits = self._exact.hit_blocks(at, last_token_rule=self.last_token_rule)
            return int(hits[0])
        self._replay([capacity])
        return self._known[min(capacity, max(1, self.unique_blocks))]

    def hit_rate(self, capacity: int) -> float:
        """Return the token hit rate at a capacity in blocks."""
        return self.at(capacity).token_hit_rate

    def evictions(self, capacity: int) -> int:
        """Count the blocks dropped at a capacity in blocks (LRU only)."""
        if self.policy != "lru":
            msg = f"evictions of {self.policy!r} are in a sweep, the curve has those of 'lru' only"
            raise InputError(msg)
        return int(self._exact.evictions(np.array([min(capacity, _ENDLESS)], np.uint64))[0])

    def capacity_for(self, hit_rate: float) -> int | None:
        """Return the smallest capacity in blocks that reaches a token hit rate.

        Parameters
        ----------
        hit_rate : float
            For example ``0.95 * curve.ceiling``.

        Returns
        -------
        int or None
            ``None`` if even an infinite cache does not reach it.

        Notes
        -----
        Exact for policies that never hit less in a larger cache
        (:data:`prefixsim.eviction.STACK_POLICIES`). For others it is the smallest between two
        neighbouring :attr:`points`: a smaller one further down may reach it by chance.
        """
        hits = blocks_for(hit_rate, self.forest.trace.prompt_tokens, self.block_size)
        if self.policy == "lru":
            return self._exact.capacity_for(hits, last_token_rule=self.last_token_rule)
        if hits > self.ceiling_point.blocks_reused:
            return None
        low, high = self._bracket(hits)
        while low < high:
            middle = (low + high) // 2
            if self.blocks_reused(middle) >= hits:
                high = middle
            else:
                low = middle + 1
        return low

    def _bracket(self, hits: int) -> tuple[int, int]:
        """Return capacities between which the smallest one with as many hits is looked for."""
        if self.policy not in STACK_POLICIES:
            self._replay(round_capacities(self.unique_blocks))
        high = min((c for c, found in self._known.items() if found >= hits), default=0)
        below = (c + 1 for c, found in self._known.items() if found < hits and c < high)
        return max(below, default=0), high

    @property
    def _exact(self) -> _core.Curve:
        return self.forest.curve(self.block_size)

    def _replay(self, capacities: Iterable[int]) -> None:
        """Replay the cache at capacities not known yet, on all cores."""
        if self.policy == "lru":
            return
        wanted = {
            min(c, max(1, self.unique_blocks)) for c in capacities if c > 0
        } - self._known.keys()
        missing = sorted(wanted)
        totals = _core.sweep(
            [self.forest.profile(self.block_size)],
            [(0, self.own or self.policy, capacity) for capacity in missing],
            self.forest.trace.prompt_len,
            last_token_rule=self.last_token_rule,
        )
        self._known.update({c: hits for c, (hits, *_) in zip(missing, totals, strict=True)})

    def to_dict(self) -> JsonObject:
        """Return the curve under its machine-readable names."""
        return {
            "policy": self.policy,
            "block_size": self.block_size,
            "ceiling": hits_dict(asdict(self.ceiling_point)),
            "unique_blocks": self.unique_blocks,
            "points": [asdict(point) for point in self.points],
        }

    def to_arrow(self) -> pa.Table:
        """Return :attr:`points` as an Arrow table."""
        return points_table([self])

    def plot(
        self, *, axis: Axis | None = None, bytes_per_token: float | None = None
    ) -> alt.TopLevelMixin:
        """Draw the curve; see :meth:`Curves.plot`."""
        return plotted([self], axis, bytes_per_token)


def points_table(curves: Iterable[Curve], bytes_per_token: float | None = None) -> pa.Table:
    """Return the points of curves, one row each; see :meth:`Curves.to_arrow`."""
    import pyarrow as pa

    rows = []
    for c in curves:
        for point in c.points:
            tokens = point.capacity_blocks * c.block_size
            if tokens >= 2**63:
                msg = f"capacity {point.capacity_blocks}: too large for a table, give less"
                raise InputError(msg)
            size = {} if bytes_per_token is None else {"capacity_bytes": tokens * bytes_per_token}
            figures = asdict(point)
            rows.append(
                {
                    "policy": c.policy,
                    "block_size": c.block_size,
                    "capacity_blocks": figures.pop("capacity_blocks"),
                    "capacity_tokens": tokens,
                    **size,
                    **figures,
                }
            )
    return pa.Table.from_pylist(rows)


def plotted(
    curves: Sequence[Curve], axis: Axis | None, bytes_per_token: float | None
) -> alt.TopLevelMixin:
    """Return the chart of curves; see :meth:`Curves.plot`."""
    from prefixsim.charts.curve import draw

    unit = axis or ("tokens" if bytes_per_token is None else "GB")
    if unit not in AXES:
        msg = f"axis {unit!r}: choose from {', '.join(AXES)}"
        raise InputError(msg)
    if unit == "GB" and bytes_per_token is None:
        msg = "axis 'GB' needs the bytes of a token"
        raise InputError(msg)
    return cast("alt.TopLevelMixin", draw(curves, unit, bytes_per_token))


def curve_tables(
    curves: Sequence[Curve],
    bytes_per_token: float | None = None,
    capacities: Sequence[str] | None = None,
) -> list[Table]:
    """Return curves as tables: what shares of each ceiling take, then hit rates by capacity.

    Parameters
    ----------
    curves : sequence of Curve
    bytes_per_token : float, optional
        Adds columns in GB.
    capacities : sequence of str, optional
        The capacities of :attr:`Curve.points`, as they were asked for.
    """
    name = curves[0].forest.trace.name
    tables = []
    for curve in curves:
        top = curve.ceiling_point
        tables.append(
            Table(
                f"{name}: {curve.label}: ceiling {written(top.token_hit_rate, 'rate')} of prompt "
                f"tokens, {curve.unique_blocks:,} unique blocks",
                ["share of ceiling", "token hit rate", *_size_heads(bytes_per_token)],
                [_share(curve, share, bytes_per_token) for share in SHARES],
            )
        )
    heads, rows = _by_capacity(curves, bytes_per_token, capacities)
    heads += [curve.label for curve in curves]
    return [*tables, Table("token hit rate by capacity", heads, rows)]


def _share(curve: Curve, share: float, bytes_per_token: float | None) -> list[str]:
    target = share * curve.ceiling
    blocks = curve.capacity_for(target) or 0
    return [
        f"{share:.0%}".replace("%", " %"),
        written(target, "rate"),
        *_sizes(blocks, curve, bytes_per_token),
    ]


def _by_capacity(
    curves: Sequence[Curve], bytes_per_token: float | None, capacities: Sequence[str] | None
) -> tuple[list[str], list[list[str]]]:
    """Return a row per capacity: as asked for, or in tokens where block sizes are compared."""
    points = [curve.points for curve in curves]
    rates = [
        [written(point.token_hit_rate, "rate") for point in row]
        for row in zip(*points, strict=False)
    ]
    sizes = [curve.block_size for curve in curves]
    if capacities is not None:
        return ["capacity"], [[text, *row] for text, row in zip(capacities, rates, strict=True)]
    if len(set(sizes)) == 1:
        blocks = [_sizes(c, curves[0], bytes_per_token) for c in curves[0].capacities]
        return _size_heads(bytes_per_token), [a + b for a, b in zip(blocks, rates, strict=True)]
    rows = []
    for tokens in round_capacities(max(c.unique_blocks * c.block_size for c in curves)):
        if tokens >= max(sizes):
            row = [written(c.hit_rate(tokens // c.block_size), "rate") for c in curves]
            rows.append([f"{tokens:,}", *_in_bytes(tokens, bytes_per_token), *row])
    return _size_heads(bytes_per_token)[1:], rows


def _size_heads(bytes_per_token: float | None) -> list[str]:
    return ["blocks", "tokens", *([] if bytes_per_token is None else ["GB"])]


def _sizes(blocks: int, curve: Curve, bytes_per_token: float | None) -> list[str]:
    tokens = blocks * curve.block_size
    return [f"{blocks:,}", f"{tokens:,}", *_in_bytes(tokens, bytes_per_token)]


def _in_bytes(tokens: int, bytes_per_token: float | None) -> list[str]:
    if bytes_per_token is None:
        return []
    size = tokens * bytes_per_token / 1e9
    return [f"{size:,.3g}" if size < 100 else f"{size:,.0f}"]
