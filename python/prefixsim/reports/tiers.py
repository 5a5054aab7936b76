"""Figures of tiers: what other sizes would hit, who served what, and what moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from prefixsim.charts.runs import Run
from prefixsim.charts.tiers import (
    bars_of_traffic,
    rate_by_size,
    split_over_time,
    split_rows,
    traffic_height,
    traffic_rows,
)
from prefixsim.reports.figures import Figure, line_figure, line_table, of, page_spec
from prefixsim.study.surface import surface
from prefixsim.study.tier_surface import RULES, SurfacePoint
from prefixsim.table import Table, written

__all__ = ["tier_figures"]

_POINTS, _HEIGHT = 120, 220
_SURFACE_TIERS = ("hbm", "dram", "disk")


def tier_figures(runs: Sequence[Run]) -> Iterator[Figure | None]:
    """Show the tiers of a replay that has several; nothing where replays are compared."""
    if len(runs) > 1 or len(runs[0].result.outcome.tier_hit_tokens) < 2:
        return
    (run,) = runs
    yield _surface(run)
    yield _split(run)
    yield _traffic(run)


def _surface(run: Run) -> Figure | None:
    """Show the surface along the sizes of the second tier, and where this replay lies."""
    result = run.result
    sizes = list(result.settings.tier_sizes.values())
    plain = result.config["last_token_rule"] and not result.config["partial_blocks"]
    if len(sizes) < 2 or len(sizes) > len(_SURFACE_TIERS) or None in sizes or not plain:
        return None
    hbm, chosen, *disk = [size or 0 for size in sizes]
    unique = run.forest.unique_blocks(run.block_size)
    spaced = np.geomspace(1, max(unique, chosen, 2), _POINTS).round().astype(int)
    along = sorted({*spaced.tolist(), max(chosen, 1)})
    found = surface(run.forest, hbm=hbm, dram=along, disk=disk or None, block_size=run.block_size)
    points = {point.blocks["dram"]: point for point in found.points}
    per_token = run.bytes_per_token
    scale = 1.0 if per_token is None else run.block_size * per_token / 1e9
    unit = "blocks" if per_token is None else "GB"
    name = list(result.settings.tier_sizes)[1]
    chart = rate_by_size(
        {rule: [point.hit_rate(rule) for point in points.values()] for rule in RULES},
        [blocks * scale for blocks in points],
        (max(chosen, 1) * scale, result.summary["token_hit_rate"]),
        tier=name,
        unit=unit,
    )
    words = _surface_words(run, points[max(chosen, 1)], name)
    table = line_table(chart.series, unit, "token hit rate")
    return line_figure(chart, f"Hit rate by size of {name}", words, table, wide=True)


def _surface_words(run: Run, point: SurfacePoint, name: str) -> str:
    rate = run.result.summary["token_hit_rate"]
    inclusive, exclusive = (point.hit_rate(rule) for rule in RULES)
    words = (
        f"This replay hits {rate:.1%}; with these sizes inclusive LRU tiers, each with a copy of "
        f"what is above, hit {inclusive:.1%}, exclusive ones {exclusive:.1%}."
    )
    if "dram" in point.idle:
        words += f" {name} is not larger than what is above it: an inclusive one adds nothing."
    return words


def _split(run: Run) -> Figure | None:
    """Show who served what, over time."""
    rows = split_rows(run.result)
    if not rows:
        return None
    tiers = run.result.summary["tiers"]
    parts = ", ".join(f"{tier} {tiers[tier]['token_hit_rate']:.1%}" for tier in tiers)
    cells = [
        [str(row["tier"]), f"{row['from']:,.0f}", written(row["share"], "rate")] for row in rows
    ]
    return Figure(
        "tier-split",
        "Hits by tier over time",
        of(run, [run], f"of all prompt tokens came from {parts}"),
        page_spec(split_over_time(rows), rows, _HEIGHT),
        Table("", ["tier", "from (s)", "share of prompt tokens"], cells),
    )


def _traffic(run: Run) -> Figure | None:
    """Show what was loaded from lower tiers, and written to them."""
    unit = "tokens" if run.bytes_per_token is None else "GB"
    rows = traffic_rows(run.result, run.bytes_per_token)
    if not rows:
        return None
    amounts = [f"{row['amount']:,.{0 if unit == 'tokens' else 1}f}" for row in rows]
    pairs = list(zip(rows, amounts, strict=True))
    sums = ", ".join(f"{text} {unit} {row['way']} ({row['tier']})" for row, text in pairs)
    cells = [[str(row["tier"]), str(row["way"]), text] for row, text in pairs]
    return Figure(
        "tier-traffic",
        "Traffic of lower tiers",
        of(run, [run], sums),
        page_spec(bars_of_traffic(rows, unit), rows, traffic_height(rows)),
        Table("", ["tier", "way", unit], cells, words=2),
    )
