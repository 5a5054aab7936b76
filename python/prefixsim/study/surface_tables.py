"""The surface as tables: what is hit, what exclusive tiers would add, how large DRAM must be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from prefixsim.study.tier_surface import RULES, Rule, Surface, SurfacePoint
from prefixsim.table import Table, written

__all__ = ["findings", "points", "surface_tables"]

_NAMES = {"hbm": "HBM", "dram": "DRAM", "disk": "disk"}
_RULES: dict[Rule, str] = {
    "inclusive": "inclusive LRU (each tier keeps a copy of what is above): curve(largest)",
    "exclusive": "exclusive LRU (a block is in one tier): curve(sum)",
}
_IDLE = "="


def points(rate: float) -> str:
    """Write a difference of rates in points."""
    return f"{100 * rate:+.2f}"


def surface_tables(surface: Surface) -> list[Table]:
    """Return a surface as tables, the plain statements first."""
    name = surface.curve.forest.trace.name
    curve = surface.curve
    title = (
        f"{name}: token hit rate by size of tier, block size {curve.block_size}: ceiling "
        f"{written(curve.ceiling, 'rate')} of prompt tokens, {curve.unique_blocks:,} unique blocks"
    )
    said = "\n".join([title, *findings(surface)])
    shown = (
        _matrices(surface)
        if surface.tiers == ("hbm", "dram") and len(surface.points) > 1
        else [_list(surface)]
    )
    needs = [_needs(surface)] if len(surface.tiers) == 2 else []
    return [Table(said, [""], []), *shown, *needs]


def findings(surface: Surface) -> list[str]:
    """Return what the surface says, in sentences."""
    found = []
    total = len(surface.points)
    for k, tier in enumerate(surface.tiers[1:], start=1):
        idle = [p for p in surface.points if tier in p.idle]
        if not idle:
            continue
        above = " or ".join(_NAMES[t] for t in surface.tiers[:k])
        where = "" if total == 1 else f" (at {len(idle):,} of {total:,} points, marked {_IDLE})"
        found.append(
            f"{_NAMES[tier]} is not larger than {above}: it adds nothing, if it is inclusive{where}"
        )
    best = surface.best_gain
    if best.gain > 0:
        sizes = ", ".join(f"{_NAMES[t]} {_size(surface, t, b)}" for t, b in best.blocks.items())
        found.append(
            f"exclusive tiers would add {'up to ' * (total > 1)}{100 * best.gain:.2f} points "
            f"over inclusive ones: {written(best.hit_rate('exclusive'), 'rate')} instead of "
            f"{written(best.hit_rate('inclusive'), 'rate')} at {sizes}"
        )
    return found


def _size(surface: Surface, tier: str, blocks: int) -> str:
    """Write a size as it was asked for."""
    text = next((s.text for s in surface.sizes[tier] if s.blocks == blocks), f"{blocks:,}")
    return f"{text} blocks" if text.replace(",", "").isdecimal() else text


def _matrices(surface: Surface) -> list[Table]:
    hbm, dram = surface.sizes["hbm"], surface.sizes["dram"]
    by_size = {tuple(p.blocks.values()): p for p in surface.points}
    unit = "GiB" if surface.bytes_per_token is not None else "blocks"
    head = [f"HBM \\ DRAM ({unit})" if _plain_sizes(surface) else "HBM \\ DRAM"]
    head += [size.text for size in dram]

    def table(title: str, cell: str | Rule) -> Table:
        rows = []
        for above in hbm:
            row = [by_size[above.blocks, below.blocks] for below in dram]
            rows.append([above.text, *(_cell(p, cell) for p in row)])
        return Table(title, head, rows)

    return [
        *(table(_RULES[rule], rule) for rule in RULES),
        table("what exclusive adds to inclusive, in points of the token hit rate", "gain"),
    ]


def _plain_sizes(surface: Surface) -> bool:
    texts = [s.text for sizes in surface.sizes.values() for s in sizes]
    return surface.bytes_per_token is None and all(t.replace(",", "").isdecimal() for t in texts)


def _cell(point: SurfacePoint, what: str | Rule) -> str:
    if what == "gain":
        return points(point.gain)
    if what == "exclusive":
        return written(point.hit_rate("exclusive"), "rate")
    mark = f"{_IDLE} " if point.idle else ""
    return mark + written(point.hit_rate("inclusive"), "rate")


def _list(surface: Surface) -> Table:
    """One row for each point and rule: hits by tier."""
    tiers = surface.tiers
    header = [*(_NAMES[t] for t in tiers), "rule", *(f"from {_NAMES[t]}" for t in tiers)]
    header += ["token hit rate", "gain"]
    priced = bool(surface.prices)
    header += ["price"] if priced else []
    rows = []
    for point, rule in product(surface.points, RULES):
        tokens = max(1, point.prompt_tokens)
        shares = [written(point.tiers(rule)[t] / tokens, "rate") for t in tiers]
        sizes = [_size(surface, t, point.blocks[t]) for t in tiers]
        gain = points(point.gain) if rule == "exclusive" else ""
        cost = [f"{point.price or 0:,.2f}"] if priced else []
        rows.append([*sizes, rule, *shares, written(point.hit_rate(rule), "rate"), gain, *cost])
    return Table("hits by tier, in prompt tokens", header, rows, words=len(tiers) + 1)


def _needs(surface: Surface) -> Table:
    """How large the lower tier must be for shares of the ceiling."""
    upper, lower = surface.tiers
    name, known = _NAMES[lower], surface.bytes_per_token is not None
    header = [_NAMES[upper], "share of ceiling"]
    for rule in RULES:
        header += _size_heads(surface, lower, f"{name}, {rule}")
    rows = []
    for need in surface.needs(_shares(surface)):
        row = [need.hbm.text, f"{need.share:.0%}".replace("%", " %")]
        for rule in RULES:
            blocks = need.blocks[rule]
            row += [f"{blocks:,}", f"{blocks * surface.curve.block_size:,}"]
            row += [f"{surface.gib(blocks) or 0:,.1f}"] if known else []
            if surface.prices:
                row.append(f"{surface.price({lower: blocks}) or 0:,.2f}")
        rows.append(row)
    title = f"how much {name} reaches a share of the ceiling (0: {_NAMES[upper]} alone does)"
    return Table(title, header, rows, words=1)


def _shares(surface: Surface) -> Sequence[float]:
    """All shares for one size of HBM; for several, 90 % alone."""
    return (0.5, 0.8, 0.9, 0.95, 0.99) if len(surface.sizes[surface.tiers[0]]) <= 2 else (0.9,)


def _size_heads(surface: Surface, tier: str, what: str) -> list[str]:
    heads = [f"{what} (blocks)", "(tokens)"]
    heads += ["(GiB)"] if surface.bytes_per_token is not None else []
    return heads + (["price"] if surface.prices else [])
