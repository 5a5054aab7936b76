"""Charts of distributions: sharing fraction, block hit count, reuse gap."""

from __future__ import annotations

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts._data import cumulative, histogram, quantile, survival
from prefixsim.charts._series import Runs, altair, chart_of, color_of, heads, marks
from prefixsim.charts.theme import Chart
from prefixsim.charts.times import TICKS, log_axis
from prefixsim.engines.outcome import Weighted

__all__ = ["block_hit_count", "reuse_gap", "sharing_fraction"]

_MANY = 2000  # requests from which a histogram has fine bins


def sharing_fraction(runs: Runs) -> Chart:
    """Draw how the share of cached prompt tokens is distributed over requests."""
    alt = altair()
    bins = 40 if min(len(run.metrics.prompt_len) for run in runs) >= _MANY else 20
    rows = []
    for run in runs:
        bars = histogram(run.metrics.sharing_fraction, bins, 0.0, 1.0)
        if len(runs) > 1:  # an outline needs its right end
            bars.append({**bars[-1], "from": 1.0})
        rows += [{"trace": run.label, **bar} for bar in bars]
    x = alt.X(
        "from:Q",
        bin="binned",
        title="sharing fraction: hit tokens / prompt tokens of a request",
        axis=alt.Axis(format=theme.PERCENT),
        scale=alt.Scale(domain=[0, 1], nice=False),
    )
    y = alt.Y("share:Q", title="share of requests", axis=alt.Axis(format=theme.PERCENT))
    base = chart_of(rows).encode(
        y=y.stack(None),
        color=color_of(runs),
        tooltip=[
            alt.Tooltip("trace:N"),
            alt.Tooltip("from:Q", format=".1%"),
            alt.Tooltip("to:Q", format=".1%"),
            alt.Tooltip("count:Q", title="requests", format=","),
        ],
    )
    if len(runs) == 1:
        chart = base.mark_bar().encode(x=x, x2="to:Q")
    else:
        outline = {"interpolate": "step-after", "line": {"strokeWidth": 2}, "fillOpacity": 0.12}
        chart = base.mark_area(**outline).encode(x=x)
    means = [
        {"trace": run.label, "x": run.summary["sharing_fraction"]["mean"]}
        for run in runs
        if run.summary["sharing_fraction"]["mean"] is not None
    ]
    for row in means:
        row["text"] = f"mean {row['x']:.1%}"
    return theme.titled(
        alt.layer(chart, *marks(runs, means, along="x")).properties(
            width=theme.WIDTH, height=theme.HEIGHT
        ),
        "How much of a prompt comes from the cache",
        *heads(runs),
    )


def block_hit_count(runs: Runs) -> Chart:
    """Draw how many blocks are used by at least so many requests, both axes logarithmic."""
    alt = altair()
    rows: list[JsonObject] = [
        {"trace": run.label, "requests": float(count), "blocks": float(blocks)}
        for run in runs
        for count, blocks in zip(*survival(run.metrics.block_hit_count), strict=True)
    ]
    chart = chart_of(rows).mark_line(interpolate="step-before")
    chart = chart.encode(
        x=alt.X(
            "requests:Q",
            title="block hit count N: requests that contain a block",
            **_decades(max(row["requests"] for row in rows), first=1.0),
        ),
        y=alt.Y(
            "blocks:Q",
            title="unique blocks used by at least N requests",
            **_decades(max(row["blocks"] for row in rows), first=0.7),
        ),
        color=color_of(runs),
        tooltip=[
            alt.Tooltip("trace:N"),
            alt.Tooltip("requests:Q", format=","),
            alt.Tooltip("blocks:Q", format=","),
        ],
    )
    return theme.titled(
        chart.properties(width=theme.WIDTH, height=theme.HEIGHT),
        "How often a block is used",
        *heads(runs),
    )


def _decades(largest: float, first: float) -> JsonObject:
    """Make a log scale from ``first``, labelled at the powers of ten."""
    alt = altair()
    ticks = [10**k for k in range(int(np.log10(max(largest, 10))) + 1)]
    return {
        "scale": alt.Scale(type="log", domain=[first, max(largest, 10.0) * 1.15], nice=False),
        "axis": alt.Axis(values=ticks, labelExpr=theme.SI, grid=True),
    }


def _left_edge(columns: list[Weighted]) -> float:
    """Choose a labelled time below which hardly a gap lies: a log axis has no place for zero."""
    small = [q for column in columns if (q := quantile(column, 0.01)) > 0]
    if len(small) < len(columns):
        small += [float(c.values[c.values > 0].min(initial=np.inf)) for c in columns]
    return max((t for t in TICKS if t <= min(small)), default=min(TICKS))


def reuse_gap(runs: Runs) -> Chart:
    """Draw the cumulative distribution of the time since a block's previous use."""
    alt = altair()
    runs = [run for run in runs if len(run.metrics.reuse_gap_s.values)]
    columns = [run.metrics.reuse_gap_s for run in runs]
    floor = _left_edge(columns)
    largest = max(floor * 10, *(float(c.values.max()) for c in columns))
    rows, medians = [], []
    for run, column in zip(runs, columns, strict=True):
        x, share = cumulative(column, floor)
        rows += [
            {"trace": run.label, "gap": float(a), "share": float(b)}
            for a, b in zip(x, share, strict=True)
        ]
        median = run.summary["reuse_gap_s"]["median"]
        at = max(median, floor)
        left = at < floor * (largest / floor) ** 0.2
        medians.append(
            {"trace": run.label, "x": at, "left": left, "text": f"median {_span(median)}"}
        )
    if len(medians) > 1:
        # The slowest curve is below its median there, and the others are above.
        last = max(medians, key=lambda mark: mark["x"])
        if last["x"] < floor * (largest / floor) ** 0.8:
            last |= {"left": True, "at": theme.HEIGHT - 12}
    below = any((c.values < floor).any() for c in columns)
    edge = f" (below {TICKS[floor]}: at the left edge)" if below else ""
    chart = chart_of(rows).mark_line(interpolate="step-after")
    chart = chart.encode(
        x=alt.X(
            "gap:Q",
            title=f"reuse gap: time since the block's previous use{edge}",
            scale=alt.Scale(type="log", domain=[floor, largest], nice=False, clamp=True),
            axis=alt.Axis(**log_axis(floor, largest)),
        ),
        y=alt.Y(
            "share:Q",
            title="share of reuses",
            axis=alt.Axis(format=theme.PERCENT),
            scale=alt.Scale(domain=[0, 1]),
        ),
        color=color_of(runs),
        tooltip=[
            alt.Tooltip("trace:N"),
            alt.Tooltip("gap:Q", title="gap (s)", format=",.3~f"),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    return theme.titled(
        alt.layer(chart, *marks(runs, medians, along="x")).properties(
            width=theme.WIDTH, height=theme.HEIGHT
        ),
        "How soon a block is used again",
        *heads(runs),
    )


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
