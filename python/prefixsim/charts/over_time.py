"""Charts over the time of a trace: hit rate, working set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefixsim.charts import theme
from prefixsim.charts.lines import PERCENT_AXIS, Line, LineChart, Quantity, colour, note, rule
from prefixsim.charts.runs import Run, distinct, of_blocks
from prefixsim.charts.times import time_unit

__all__ = ["WorkingSet", "hit_rate_over_time", "intervals", "span", "working_set"]

_WINDOWS = 48


def span(runs: Sequence[Run]) -> float:
    """Return the seconds from the first to the last request of the longest trace."""
    times = [run.result.trace.timestamp for run in runs]
    return max(float(t[-1] - t[0]) if len(t) else 0.0 for t in times)


def intervals(run: Run) -> int:
    """Return the number of intervals that a run has requests enough for."""
    return int(np.clip(len(run.result.metrics.prompt_len) / 20, 8, 100))


def hit_rate_over_time(runs: Sequence[Run]) -> LineChart:
    """Draw the token hit rate over trace time; for one replay, with the rate of the whole."""
    unit, size = time_unit(span(runs))
    series = []
    for i, run in enumerate(runs):
        timeline = run.result.metrics.over_time(intervals(run))
        middle = (timeline.edges[1:] + timeline.edges[:-1]) / 2 / size
        kept = ~np.isnan(timeline.token_hit_rate)
        series.append(Line(run.label, middle[kept], timeline.token_hit_rate[kept], colour(i)))
    total = runs[0].result.summary["token_hit_rate"]
    one = len(runs) == 1
    return LineChart(
        "over-time",
        series,
        x=Quantity(f"time since the first request ({unit})", ",.3~f", {"nice": False}),
        y=Quantity("token hit rate", ".1%", {"domainMin": 0}, PERCENT_AXIS),
        interpolate="step",
        below=[rule(total)] if one else [],
        above=note(total, f"overall {total:.1%}") if one else [],
    )


@dataclass(frozen=True)
class WorkingSet:
    """The chart of a working set, and the length of its windows in words."""

    chart: LineChart
    window: str
    unit: str


def working_set(runs: Sequence[Run]) -> WorkingSet:
    """Draw the distinct blocks touched in windows of time, beside the capacity."""
    longest = span(runs)
    unit, size = time_unit(longest)
    # A little more, so that the last request is in the last window.
    window = longest / _WINDOWS * (1 + 1e-9)
    series = []
    for i, run in enumerate(distinct(runs, of_blocks)):
        table = run.forest.working_set(run.block_size, window)
        start = table["start_s"].to_numpy() - run.result.trace.timestamp[0]
        blocks = table["unique_blocks"].to_numpy().astype(np.float64)
        series.append(Line(run.label, (start + window / 2) / size, blocks, colour(i)))
    below, above = [], []
    capacity = runs[0].capacity
    highest = max(float(max(line.y)) for line in series)
    if len(runs) == 1 and capacity is not None and capacity <= 3 * highest:
        below, above = [rule(capacity)], note(capacity, f"capacity {capacity:,}")
        highest = max(highest, float(capacity))
    small, length = time_unit(3 * window)
    words = f"{window / length:.3g} {small}"
    chart = LineChart(
        "working-set",
        series,
        x=Quantity(f"time since the first request ({unit})", ",.3~f", {"nice": False}),
        y=Quantity(
            f"distinct blocks in {words}",
            ",",
            {"domain": [0, 1.15 * highest]},
            {"labelExpr": theme.SI},
        ),
        interpolate="step",
        below=below,
        above=above,
    )
    return WorkingSet(chart, words, unit)
