"""The surface: what a hierarchy of memories hits, for every size of each of its tiers.

All of it comes from one LRU curve. Let ``curve(C)`` be the hits of one LRU cache of C blocks. Where
requests run one after the other and every tier is LRU, a hierarchy hits

* ``curve(max(sizes))`` if it is *inclusive*: what is written to the fastest tier is written to all
  of them at once, and every request makes the whole of its path the most recent in each;
* ``curve(sum(sizes))`` if it is *exclusive*: a block that one tier drops goes to the recent end of
  the next, and a hit moves it back up.

The share of a tier is the difference between its step and the one before. Both are equalities of
Mattson's stack (IBM Systems Journal 9(2), 1970): inclusive tiers are stacks of one order cut at
several depths, exclusive ones are one stack cut into pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from prefixsim import _json
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.study.hit_curve import Curve
from prefixsim.trace.provenance import provenance, trace_facts

if TYPE_CHECKING:
    import altair as alt
    import pyarrow as pa

__all__ = ["GIB", "RULES", "SHARES", "Need", "Rule", "Surface", "SurfacePoint", "TierSize"]

Rule = Literal["inclusive", "exclusive"]
"""Whether a lower tier keeps a copy of what is above it."""

RULES: tuple[Rule, ...] = ("inclusive", "exclusive")

GIB = 2**30

SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Shares of the ceiling that :meth:`Surface.needs` is asked about."""

_ENDLESS = 2**63 - 1


@dataclass(frozen=True)
class TierSize:
    """The size of a tier: blocks, and how it is written.

    Attributes
    ----------
    blocks : int
    text : str
    """

    blocks: int
    text: str


@dataclass(frozen=True)
class SurfacePoint:
    """A hierarchy of one size in each tier.

    Attributes
    ----------
    blocks : dict of str to int
        Size of each tier.
    inclusive, exclusive : dict of str to int
        Hit tokens served by each tier, under either rule.
    prompt_tokens : int
    price : float or None
        Of all tiers that have a price.
    """

    blocks: dict[str, int]
    inclusive: dict[str, int]
    exclusive: dict[str, int]
    prompt_tokens: int
    price: float | None = None

    def tiers(self, rule: Rule) -> dict[str, int]:
        """Hit tokens by tier under a rule."""
        return self.inclusive if rule == "inclusive" else self.exclusive

    def hit_tokens(self, rule: Rule) -> int:
        """Hit tokens of all tiers."""
        return sum(self.tiers(rule).values())

    def hit_rate(self, rule: Rule) -> float:
        """Hit tokens / prompt tokens."""
        return self.hit_tokens(rule) / max(1, self.prompt_tokens)

    @property
    def gain(self) -> float:
        """Token hit rate that exclusive tiers have over inclusive ones."""
        return self.hit_rate("exclusive") - self.hit_rate("inclusive")

    @property
    def idle(self) -> tuple[str, ...]:
        """Lower tiers that, inclusive, add nothing: none of them is larger than all above it."""
        largest, idle = 0, []
        for tier, blocks in self.blocks.items():
            if largest and 0 < blocks <= largest:
                idle.append(tier)
            largest = max(largest, blocks)
        return tuple(idle)

    def to_dict(self) -> JsonObject:
        """Return the point; plain values."""
        rules: JsonObject = {
            str(rule): {
                "hit_tokens": self.hit_tokens(rule),
                "token_hit_rate": self.hit_rate(rule),
                "tier_hit_tokens": self.tiers(rule),
            }
            for rule in RULES
        }
        price = {} if self.price is None else {"price": self.price}
        sizes = {f"{tier}_blocks": blocks for tier, blocks in self.blocks.items()}
        gain = self.hit_tokens("exclusive") - self.hit_tokens("inclusive")
        gains: JsonObject = {"exclusive_gain_tokens": gain, "exclusive_gain_rate": self.gain}
        return {**sizes, **rules, **gains, "idle_tiers": list(self.idle), **price}


@dataclass(frozen=True)
class Need:
    """How large the lower tier must be to reach a share of the ceiling.

    Attributes
    ----------
    share : float
        Of the hits of an infinite cache.
    hbm : TierSize
    blocks : dict of str to int
        Blocks of the lower tier, by rule; 0 if HBM alone is enough.
    """

    share: float
    hbm: TierSize
    blocks: dict[Rule, int]


@dataclass(frozen=True, eq=False, repr=False)
class Surface:
    """Hit tokens of inclusive and of exclusive tiers, for every size of each.

    Made by :func:`prefixsim.surface`.

    Attributes
    ----------
    curve : Curve
        The LRU curve it is made from.
    sizes : dict of str to list of TierSize
        Where :attr:`points` are, by tier. Every other size can be asked for as well.
    bytes_per_token : float or None
        KV bytes of a token, per GPU.
    prices : dict of str to float
        What a GiB of a tier costs; tiers left out cost nothing.
    """

    curve: Curve
    sizes: dict[str, list[TierSize]]
    bytes_per_token: float | None = None
    prices: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        shape = " x ".join(f"{len(sizes)} {tier}" for tier, sizes in self.sizes.items())
        return f"<Surface {self.curve.forest.trace.name}: {shape} sizes>"

    def _repr_html_(self) -> str:
        from prefixsim.study.surface_tables import surface_tables
        from prefixsim.table import html

        return html(surface_tables(self))

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the tiers, the fastest first."""
        return tuple(self.sizes)

    def hit_blocks(self, rule: Rule) -> npt.NDArray[np.uint64]:
        """Return the blocks hit at all :attr:`sizes`, one axis for each tier, in one call.

        Parameters
        ----------
        rule : {"inclusive", "exclusive"}

        Returns
        -------
        ndarray of uint64, shape (sizes of hbm, sizes of dram, ...)
        """
        axes = [np.array([s.blocks for s in sizes], np.uint64) for sizes in self.sizes.values()]
        grids = np.meshgrid(*axes, indexing="ij")
        reach = np.maximum if rule == "inclusive" else np.add
        whole = grids[0]
        for grid in grids[1:]:
            whole = reach(whole, grid)
        return self._hits(whole.ravel()).reshape(whole.shape)

    def at(self, **blocks: int) -> SurfacePoint:
        """Return one hierarchy.

        Parameters
        ----------
        **blocks : int
            Size of each of :attr:`tiers`; those left out are not there.

        Raises
        ------
        InputError
            If there is no such tier, or a size is negative.
        """
        unknown = set(blocks) - set(self.tiers)
        if unknown:
            msg = f"no tier {sorted(unknown)[0]!r} in this surface: {', '.join(self.tiers)}"
            raise InputError(msg)
        sizes = {tier: blocks.get(tier, 0) for tier in self.tiers}
        for tier, size in sizes.items():
            if size < 0:
                msg = f"{tier} is {size} blocks, it must be at least 0"
                raise InputError(msg)
        rows = np.array([list(sizes.values())], np.uint64)
        return self._points(rows)[0]

    @cached_property
    def points(self) -> list[SurfacePoint]:
        """Every combination of :attr:`sizes`, the slowest tier's size running fastest."""
        grid = product(*([s.blocks for s in sizes] for sizes in self.sizes.values()))
        return self._points(np.array(list(grid), np.uint64))

    @cached_property
    def best_gain(self) -> SurfacePoint:
        """The point at which exclusive tiers gain most over inclusive ones."""
        return max(self.points, key=lambda point: point.gain)

    def needs(self, shares: Sequence[float] = SHARES) -> list[Need]:
        """Return how large DRAM must be beside each size of HBM, for shares of the ceiling."""
        found = []
        for hbm in self.sizes[self.tiers[0]]:
            for share in shares:
                whole = self.curve.capacity_for(share * self.curve.ceiling) or 0
                below = max(0, whole - hbm.blocks)
                found.append(Need(share, hbm, {"inclusive": whole if below else 0,
                                               "exclusive": below}))  # fmt: skip
        return found

    def gib(self, blocks: int) -> float | None:
        """Return the GiB of blocks, per GPU; ``None`` if the bytes of a token are not known."""
        if self.bytes_per_token is None:
            return None
        return blocks * self.curve.block_size * self.bytes_per_token / GIB

    def price(self, blocks: Mapping[str, int]) -> float | None:
        """Return what tiers of these sizes cost; ``None`` without prices."""
        if not self.prices:
            return None
        parts = [(self.gib(size) or 0) * self.prices.get(tier, 0) for tier, size in blocks.items()]
        return float(sum(parts))

    def _hits(self, capacities: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        exact = self.curve.forest.curve(self.curve.block_size)
        capped = np.ascontiguousarray(np.minimum(capacities, np.uint64(_ENDLESS)))
        return exact.hit_blocks(capped, last_token_rule=self.curve.last_token_rule)

    def _points(self, rows: npt.NDArray[np.uint64]) -> list[SurfacePoint]:
        """Return points of sizes in blocks, a row each."""
        by_rule = {}
        for rule, steps in (
            ("inclusive", np.maximum.accumulate(rows, axis=1)),
            ("exclusive", np.cumsum(rows, axis=1, dtype=np.uint64)),
        ):
            hits = self._hits(steps.ravel()).reshape(rows.shape).astype(np.int64)
            by_rule[rule] = np.diff(hits, axis=1, prepend=0) * self.curve.block_size
        tokens = self.curve.forest.trace.prompt_tokens
        points = []
        for i, row in enumerate(rows.tolist()):
            blocks = dict(zip(self.tiers, row, strict=True))
            split = {
                rule: dict(zip(self.tiers, found[i].tolist(), strict=True))
                for rule, found in by_rule.items()
            }
            points.append(
                SurfacePoint(
                    blocks, split["inclusive"], split["exclusive"], tokens, self.price(blocks)
                )
            )
        return points

    def to_dict(self) -> JsonObject:
        """Return ``trace``, ``provenance`` and ``surface``; plain values."""
        curve = self.curve
        trace = curve.forest.trace
        config: JsonObject = {
            "policy": "lru",
            "block_size": curve.block_size,
            "last_token_rule": curve.last_token_rule,
            "cache_outputs": curve.forest.outputs,
            "bytes_per_token": self.bytes_per_token,
            "prices": dict(self.prices),
        }
        origin = provenance(trace, config)
        top = curve.ceiling_point
        needs = [
            {
                "share": need.share,
                f"{self.tiers[0]}_blocks": need.hbm.blocks,
                **{rule: {f"{self.tiers[1]}_blocks": b} for rule, b in need.blocks.items()},
            }
            for need in (self.needs() if len(self.tiers) > 1 else [])
        ]
        return {
            "trace": trace_facts(trace, origin["digest"]),
            "provenance": origin,
            "surface": {
                "tiers": list(self.tiers),
                "block_size": curve.block_size,
                "unique_blocks": curve.unique_blocks,
                "ceiling": {"hit_tokens": top.hit_tokens, "token_hit_rate": top.token_hit_rate},
                "points": [point.to_dict() for point in self.points],
                "needs": needs,
            },
        }

    def to_json(self) -> str:
        """Return :meth:`to_dict` as strict, indented JSON."""
        return _json.dumps(self.to_dict())

    def to_arrow(self) -> pa.Table:
        """Return :attr:`points` as a table, one row each.

        Returns
        -------
        pyarrow.Table
            ``hbm_blocks``, ``dram_blocks``... and, where bytes are known, ``hbm_gib``...;
            ``inclusive_hit_tokens``, ``inclusive_token_hit_rate``, ``inclusive_hbm_hit_tokens``...,
            the same of ``exclusive``; ``exclusive_gain_rate``; ``price``.
        """
        import pyarrow as pa

        rows = []
        for point in self.points:
            row: JsonObject = {f"{tier}_blocks": b for tier, b in point.blocks.items()}
            if self.bytes_per_token is not None:
                row |= {f"{tier}_gib": self.gib(b) for tier, b in point.blocks.items()}
            for rule in RULES:
                row[f"{rule}_hit_tokens"] = point.hit_tokens(rule)
                row[f"{rule}_token_hit_rate"] = point.hit_rate(rule)
                split = point.tiers(rule).items()
                row |= {f"{rule}_{tier}_hit_tokens": hits for tier, hits in split}
            row["exclusive_gain_rate"] = point.gain
            if point.price is not None:
                row["price"] = point.price
            rows.append(row)
        return pa.Table.from_pylist(rows)

    def plot(self) -> alt.TopLevelMixin:
        """Draw the surface: a heat map of both rules, or lines where one tier has one size."""
        from prefixsim.charts.surface import draw

        chart: alt.TopLevelMixin = draw(self)
        return chart
