"""Figures of what a cache of another size or block size would hit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefixsim.charts import curve as charts
from prefixsim.charts.runs import Run
from prefixsim.reports.figures import Figure, capacity_words, line_figure, line_table

__all__ = ["block_sizes", "hit_curve"]

_NEAR = 0.95


def hit_curve(runs: Sequence[Run]) -> Figure:
    """Show the token hit rate over the capacity: LRU, clairvoyant, ceiling, and the runs."""
    chart = charts.hit_curve(runs)
    unit = "blocks" if runs[0].bytes_per_token is None else "GB"
    words = " ".join(f"{part}." for part in [*_enough(runs, unit), *_these(runs, unit)])
    table = line_table(chart.series, unit, "token hit rate")
    return line_figure(chart, "Hit rate by cache size", words, table, wide=True)


def _enough(runs: Sequence[Run], unit: str) -> Iterator[str]:
    """Tell what capacity comes near that of an infinite cache."""
    for name, run in charts.curves_of(runs):
        curve, size = run.forest.curve(run.block_size), charts.size_of(run)
        most = curve.ceiling(last_token_rule=run.last_token_rule)
        near = curve.capacity_for(int(_NEAR * most), last_token_rule=run.last_token_rule)
        if near is not None:
            every = capacity_words(run.forest.unique_blocks(run.block_size) * size, unit)
            prefix = f"{name}: " if name else ""
            yield (
                f"{prefix}{capacity_words(near * size, unit)} reach 95 % of the infinite cache's "
                f"{charts.ceiling_of(run):.1%} with LRU; all distinct blocks take {every}"
            )


def _these(runs: Sequence[Run], unit: str) -> Iterator[str]:
    """Tell what the replays have."""
    for i, run in enumerate(runs, 1):
        if run.capacity is not None:
            rate, at = run.result.summary["token_hit_rate"], run.capacity * charts.size_of(run)
            name = "This cache" if len(runs) == 1 else f"({i}) {run.label}"
            yield f"{name} has {rate:.1%} with {capacity_words(at, unit)}"


def block_sizes(runs: Sequence[Run]) -> Figure | None:
    """Show the hit rate over the block size, of an infinite cache and at the runs' capacities."""
    chart = charts.block_size(runs)
    if chart is None:
        return None
    last = chart.series[-1]
    best = max(last.y)
    at = last.x[list(last.y).index(best)]
    words = (
        f"LRU at the same capacity in tokens: {last.name} is best at a block size of "
        f"{at:,} ({best:.1%}) and worst at {min(last.y):.1%}."
    )
    return line_figure(
        chart, "Block size", words, line_table(chart.series, "block size", "token hit rate")
    )
