"""Charts of distributions over requests, blocks, evictions and turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts._data import cumulative, histogram, survival
from prefixsim.charts.lines import LOG_AXIS, PERCENT_AXIS, Line, LineChart, Quantity, colour
from prefixsim.charts.runs import Run, distinct, of_blocks, of_trace
from prefixsim.charts.times import TICKS, log_axis
from prefixsim.engines.outcome import Weighted

__all__ = ["block_hit_count", "lengths", "lifetime", "reuse_gap", "sharing_fraction", "turns"]

_BINS = 40
_MOST_TURNS = 40
_FEWEST = 5
"""Requests of a turn from which it has a point."""

_SHARE: JsonObject = {"format": ".1%", "scale": {"domain": [0, 1]}, "axis": PERCENT_AXIS}
_LOG: JsonObject = {"type": "log", "nice": False}
_DASHED = (5, 4)


def sharing_fraction(runs: Sequence[Run]) -> LineChart:
    """Draw how the share of cached prompt tokens is distributed over requests."""
    series = []
    for i, run in enumerate(runs):
        bars = histogram(run.result.metrics.sharing_fraction, _BINS, 0.0, 1.0)
        x = [bar["from"] for bar in bars] + [1.0]
        y = [bar["share"] for bar in bars] + [bars[-1]["share"]]
        series.append(Line(run.label, x, y, colour(i)))
    return LineChart(
        "sharing",
        series,
        x=Quantity("hit tokens / prompt tokens of a request", **_SHARE),
        y=Quantity("share of requests", ".1%", axis=PERCENT_AXIS),
        interpolate="step-after",
        filled=True,
    )


def lengths(runs: Sequence[Run]) -> LineChart | None:
    """Draw the cumulative distribution of prompt and output lengths, where there are any."""
    series = []
    chosen = distinct(runs, of_trace)
    for i, run in enumerate(chosen):
        trace = run.result.trace
        prefix = f"{trace.name}: " if len(chosen) > 1 else ""
        for name, column, dash in (
            ("prompts", trace.prompt_len, (1, 0)),
            ("outputs", trace.output_len, _DASHED),
        ):
            if column.any():
                values, counts = np.unique(column, return_counts=True)
                x, share = cumulative(Weighted(values.astype(float), counts.astype(np.uint64)), 1.0)
                series.append(Line(f"{prefix}{name}", x, share, colour(i), dash))
    if not series:
        return None
    return LineChart(
        "lengths",
        series,
        x=Quantity("tokens", ",", _LOG, {"labelExpr": theme.SI, **LOG_AXIS}),
        y=Quantity("share of requests with at most as many", **_SHARE),
        interpolate="step-after",
    )


def block_hit_count(runs: Sequence[Run]) -> LineChart | None:
    """Draw how many blocks are used by at least so many requests, both axes logarithmic."""
    series = []
    for i, run in enumerate(distinct(runs, of_blocks)):
        column = run.result.metrics.block_hit_count
        if len(column.values):
            x, y = survival(column)
            series.append(Line(run.label, x, y, colour(i)))
    if not series:
        return None
    most = max(float(max(line.y)) for line in series)
    decades = [10**k for k in range(int(np.log10(max(most, 1))) + 1)]
    return LineChart(
        "block-counts",
        series,
        x=Quantity(
            "requests that contain a block: at least",
            ",",
            _LOG,
            {"labelExpr": theme.SI, **LOG_AXIS},
        ),
        y=Quantity("unique blocks", ",", _LOG, {"labelExpr": theme.SI, "values": decades}),
        interpolate="step-before",
    )


def reuse_gap(runs: Sequence[Run]) -> LineChart | None:
    """Draw the cumulative distribution of the time since a block's previous use."""
    columns = [(run.label, run.result.metrics.reuse_gap_s) for run in runs]
    return _durations(
        "reuse-gap",
        [(name, column, colour(i), (1, 0)) for i, (name, column) in enumerate(columns)],
        x="time since the block's previous use",
        y="share of reuses",
    )


def lifetime(runs: Sequence[Run]) -> LineChart | None:
    """Draw how long evicted blocks had been cached, and unused."""
    columns = []
    for i, run in enumerate(runs):
        prefix = f"{run.label}: " if len(runs) > 1 else ""
        for name, words, dash in (
            ("cached_block_lifetime_s", "lifetime", (1, 0)),
            ("block_idle_before_evict_s", "idle", _DASHED),
        ):
            column = run.result.outcome.residency.get(name)
            if column is not None:
                columns.append((f"{prefix}{words}", column, colour(i), dash))
    return _durations(
        "lifetime", columns, x="from coming or last use to eviction", y="share of evictions"
    )


def _durations(
    key: str, columns: Sequence[tuple[str, Weighted, str, Sequence[int]]], *, x: str, y: str
) -> LineChart | None:
    """Draw cumulative distributions of seconds; zero lies at the left edge of the log axis."""
    columns = [c for c in columns if len(c[1].values)]
    if not columns:
        return None
    positive = [column.values[column.values > 0] for _, column, *_ in columns]
    smallest = min((float(v.min()) for v in positive if len(v)), default=1.0)
    floor = max((t for t in TICKS if t <= max(smallest, 0.001)), default=0.001)
    series = []
    for name, column, shade, dash in columns:
        seconds, share = cumulative(column, floor)
        series.append(Line(name, seconds, share, shade, dash))
    largest = max(float(max(line.x)) for line in series)
    domain = [floor, max(largest, floor * 10)]
    return LineChart(
        key,
        series,
        x=Quantity(x, ",.4~g", {**_LOG, "domain": domain}, log_axis(floor, largest)),
        y=Quantity(y, **_SHARE),
        interpolate="step-after",
    )


def turns(runs: Sequence[Run]) -> LineChart | None:
    """Draw the token hit rate of the first, second... turn of sessions, where there are any."""
    series = []
    for i, run in enumerate(runs):
        trace, start = run.result.trace, run.fall.start
        if trace.turn is None:
            continue
        turn = trace.turn[start:].astype(np.int64)
        kept = turn < _MOST_TURNS
        prompt = np.bincount(turn[kept], weights=trace.prompt_len[start:][kept])
        hit = np.bincount(turn[kept], weights=run.result.outcome.hit_tokens[start:][kept])
        count = np.bincount(turn[kept])
        at = np.flatnonzero((count >= _FEWEST) & (prompt > 0))
        if len(at) > 1:
            series.append(Line(run.label, at + 1.0, hit[at] / prompt[at], colour(i)))
    if not series:
        return None
    return LineChart(
        "turns",
        series,
        x=Quantity("turn of the session", ",", {"nice": False}, {"tickMinStep": 1, "format": "d"}),
        y=Quantity("token hit rate", **_SHARE),
    )
