"""More figures of the report: over time, and distributions over requests, blocks and turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.charts._data import cumulative, histogram, survival
from prefixsim.charts.theme import PERCENT, SI
from prefixsim.charts.times import TICKS, log_axis, time_unit
from prefixsim.engines.outcome import Weighted
from prefixsim.reports.figures import (
    LOG_AXIS,
    Figure,
    Line,
    Run,
    colour,
    line_table,
    lines,
    note,
    of,
    rule,
)

__all__ = [
    "block_counts",
    "lengths",
    "lifetimes",
    "over_time",
    "reuse_gaps",
    "sharing",
    "turns",
    "working_set",
]

_PERCENT_AXIS = {"axis": {"format": PERCENT}, "scale": {"domain": [0, 1]}, "format": ".1%"}
_MOST_TURNS = 40
_FEWEST = 5


def _span(run: Run) -> float:
    times = run.result.trace.timestamp
    return float(times[-1] - times[0]) if len(times) else 0.0


def over_time(runs: Sequence[Run]) -> Figure | None:
    """Draw the token hit rate over trace time."""
    longest = max(map(_span, runs))
    if longest <= 0:
        return None
    unit, size = time_unit(longest)
    series, layers, notes, sentences = [], [], [], []
    for i, run in enumerate(runs):
        timeline = run.result.metrics.over_time(int(np.clip(len(run.fall) / 20, 8, 100)))
        middle = (timeline.edges[1:] + timeline.edges[:-1]) / 2 / size
        rate = timeline.token_hit_rate
        kept = ~np.isnan(rate)
        series.append(Line(run.label, middle[kept], rate[kept], colour(i)))
        total = run.result.summary["token_hit_rate"]
        sentences.append(
            of(run, runs, f"between {rate[kept].min():.1%} and {rate[kept].max():.1%}")
        )
        if len(runs) == 1:
            layers, notes = rule(total), note(total, f"overall {total:.1%}")
    x = {"title": f"time since the first request ({unit})", "format": ",.3~f",
         "scale": {"nice": False}}  # fmt: skip
    y = {"title": "token hit rate", "format": ".1%", "axis": {"format": PERCENT},
         "scale": {"domainMin": 0}}  # fmt: skip
    spec = lines(series, x=x, y=y, interpolate="step", layers=layers, extra=notes)
    table = line_table(series, unit, "token hit rate")
    return Figure("over-time", "Hit rate over time", " ".join(sentences), spec, table)


def working_set(runs: Sequence[Run]) -> Figure | None:
    """Draw the distinct blocks touched in windows of time, beside the capacity."""
    longest = max(map(_span, runs))
    if longest <= 0:
        return None
    unit, size = time_unit(longest)
    # A little more, so that the last request is in the last window.
    window = longest / 48 * (1 + 1e-9)
    chosen = list({(id(r.forest), r.block_size): r for r in reversed(runs)}.values())[::-1]
    series, sentences = [], []
    for i, run in enumerate(chosen):
        table = run.forest.working_set(run.block_size, window)
        start = table["start_s"].to_numpy() - run.result.trace.timestamp[0]
        blocks = table["unique_blocks"].to_numpy().astype(np.float64)
        series.append(Line(run.label, (start + window / 2) / size, blocks, colour(i)))
        sentences.append(of(run, runs, f"up to {int(blocks.max()):,} distinct blocks"))
    layers, notes = [], []
    capacity = runs[0].capacity
    if len(runs) == 1 and capacity is not None and capacity <= 3 * max(series[0].y):
        layers, notes = rule(capacity), note(capacity, f"capacity {capacity:,}")
    small, length = time_unit(3 * window)
    span = f"{window / length:.3g} {small}"
    x = {"title": f"time since the first request ({unit})", "format": ",.3~f",
         "scale": {"nice": False}}  # fmt: skip
    highest = max(float(max(line.y)) for line in series)
    if layers and capacity is not None:
        highest = max(highest, float(capacity))
    y = {"title": f"distinct blocks in {span}", "format": ",", "axis": {"labelExpr": SI},
         "scale": {"domain": [0, 1.15 * highest]}}  # fmt: skip
    spec = lines(series, x=x, y=y, interpolate="step", layers=layers, extra=notes)
    return Figure(
        "working-set",
        "Working set",
        f"Distinct blocks touched in each {span}. " + " ".join(sentences),
        spec,
        line_table(series, unit, "distinct blocks", "count"),
    )


def sharing(runs: Sequence[Run]) -> Figure:
    """Draw how the share of cached prompt tokens is distributed over requests."""
    series, sentences = [], []
    for i, run in enumerate(runs):
        bars = histogram(run.result.metrics.sharing_fraction, 40, 0.0, 1.0)
        x = [bar["from"] for bar in bars] + [1.0]
        y = [bar["share"] for bar in bars] + [bars[-1]["share"]]
        series.append(Line(run.label, x, y, colour(i)))
        shares = run.result.summary["sharing_fraction"]
        if shares["mean"] is not None:
            sentences.append(
                of(run, runs, f"mean {shares['mean']:.1%}, median {shares['median']:.1%}")
            )
    x_axis = {"title": "hit tokens / prompt tokens of a request", **_PERCENT_AXIS}
    y_axis = {"title": "share of requests", "format": ".1%", "axis": {"format": PERCENT}}
    spec = lines(series, x=x_axis, y=y_axis, interpolate="step-after")
    _fill(spec)
    table = line_table(series, "sharing fraction from", "share of requests")
    return Figure("sharing", "Sharing fraction", " ".join(sentences), spec, table)


def lengths(runs: Sequence[Run]) -> Figure | None:
    """Draw the cumulative distribution of prompt and output lengths."""
    series = []
    chosen = list({id(run.forest): run for run in reversed(runs)}.values())[::-1]
    for i, run in enumerate(chosen):
        trace = run.result.trace
        prefix = f"{trace.name}: " if len(chosen) > 1 else ""
        for name, column, dash in (
            ("prompts", trace.prompt_len, (1, 0)),
            ("outputs", trace.output_len, (5, 4)),
        ):
            if column.any():
                values, counts = np.unique(column, return_counts=True)
                x, share = cumulative(Weighted(values.astype(float), counts.astype(np.uint64)), 1.0)
                series.append(Line(f"{prefix}{name}", x, share, colour(i), dash))
    if not series:
        return None
    trace = runs[0].result.trace
    sentences = (
        f"{trace.name}: the median prompt has {np.median(trace.prompt_len):,.0f} tokens, the "
        f"longest {int(trace.prompt_len.max()):,}."
    )
    x_axis = {"title": "tokens", "format": ",", "scale": {"type": "log", "nice": False},
              "axis": {"labelExpr": SI, **LOG_AXIS}}  # fmt: skip
    y_axis = {"title": "share of requests with at most as many", **_PERCENT_AXIS}
    spec = lines(series, x=x_axis, y=y_axis, interpolate="step-after")
    return Figure("lengths", "Lengths", sentences, spec, line_table(series, "tokens", "share"))


def reuse_gaps(runs: Sequence[Run]) -> Figure | None:
    """Draw the cumulative distribution of the time since a block's previous use."""
    columns = [(run, run.result.metrics.reuse_gap_s) for run in runs]
    sentences = [
        of(run, runs, f"median {run.result.summary['reuse_gap_s']['median']:,.3g} s")
        for run, column in columns
        if len(column.values)
    ]
    return _durations(
        [(run.label, column, colour(i), (1, 0)) for i, (run, column) in enumerate(columns)],
        ("reuse-gap", "Reuse gap", "share of reuses", "time since the block's previous use"),
        sentences,
    )


def lifetimes(runs: Sequence[Run]) -> Figure | None:
    """Draw how long evicted blocks had been cached, and unused."""
    columns = []
    sentences = []
    for i, run in enumerate(runs):
        for name, words, dash in (
            ("block_lifetime_s", "lifetime", (1, 0)),
            ("block_idle_before_evict_s", "idle", (5, 4)),
        ):
            column = run.result.outcome.residency.get(name)
            if column is not None and len(column.values):
                prefix = f"{run.label}: " if len(runs) > 1 else ""
                columns.append((f"{prefix}{words}", column, colour(i), dash))
                median = run.result.summary[name]["median"]
                sentences.append(of(run, runs, f"median {words} {median:,.3g} s"))
    return _durations(
        columns,
        (
            "lifetime",
            "Block lifetime",
            "share of evictions",
            "from coming or last use to eviction",
        ),
        sentences,
    )


def _durations(
    columns: Sequence[tuple[str, Weighted, str, Sequence[int]]],
    words: tuple[str, str, str, str],
    sentences: Sequence[str],
) -> Figure | None:
    columns = [c for c in columns if len(c[1].values)]
    if not columns:
        return None
    positive = [v[v > 0] for _, c, _, _ in columns for v in [c.values]]
    smallest = min((float(v.min()) for v in positive if len(v)), default=1.0)
    floor = max((t for t in TICKS if t <= max(smallest, 0.001)), default=0.001)
    series = []
    for name, column, shade, dash in columns:
        x, share = cumulative(column, floor)
        series.append(Line(name, x, share, shade, dash))
    key, title, y_title, x_title = words
    largest = max(float(max(line.x)) for line in series)
    x_axis: JsonObject = {
        "title": x_title,
        "format": ",.4~g",
        "scale": {"type": "log", "nice": False, "domain": [floor, max(largest, floor * 10)]},
        "axis": log_axis(floor, largest),
    }
    spec = lines(series, x=x_axis, y={"title": y_title, **_PERCENT_AXIS}, interpolate="step-after")
    return Figure(key, title, " ".join(sentences), spec, line_table(series, "seconds", "share"))


def block_counts(runs: Sequence[Run]) -> Figure | None:
    """Draw how many blocks are used by at least so many requests."""
    chosen = list({(id(r.forest), r.block_size): r for r in reversed(runs)}.values())[::-1]
    series, sentences = [], []
    for i, run in enumerate(chosen):
        column = run.result.metrics.block_hit_count
        if len(column.values):
            x, y = survival(column)
            series.append(Line(run.label, x, y, colour(i)))
            used = column.weights[column.values > 1].sum() / max(1, column.weights.sum())
            sentences.append(
                of(run, runs, f"{used:.1%} of the unique blocks are used more than once")
            )
    if not series:
        return None
    scale = {"type": "log", "nice": False}
    x_axis = {"title": "requests that contain a block: at least", "format": ",", "scale": scale,
              "axis": {"labelExpr": SI, **LOG_AXIS}}  # fmt: skip
    most = max(float(max(line.y)) for line in series)
    decades = [10**k for k in range(int(np.log10(max(most, 1))) + 1)]
    y_axis = {"title": "unique blocks", "format": ",", "scale": scale,
              "axis": {"labelExpr": SI, "values": decades}}  # fmt: skip
    spec = lines(series, x=x_axis, y=y_axis, interpolate="step-before")
    table = line_table(series, "requests", "blocks", "count")
    return Figure("block-counts", "How often a block is used", " ".join(sentences), spec, table)


def turns(runs: Sequence[Run]) -> Figure | None:
    """Draw the token hit rate of the first, second... turn of sessions."""
    series, sentences = [], []
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
            rate = hit[at] / prompt[at]
            series.append(Line(run.label, at + 1.0, rate, colour(i)))
            sentences.append(
                of(run, runs, f"{rate[0]:.1%} in first turns, {rate[1]:.1%} in second ones")
            )
    if not series:
        return None
    x = {"title": "turn of the session", "format": ",", "axis": {"tickMinStep": 1, "format": "d"},
         "scale": {"nice": False}}  # fmt: skip
    y = {"title": "token hit rate", "format": ".1%", "axis": {"format": PERCENT},
         "scale": {"domain": [0, 1]}}  # fmt: skip
    table = line_table(series, "turn", "token hit rate")
    return Figure(
        "turns", "Sessions: hit rate by turn", " ".join(sentences), lines(series, x=x, y=y), table
    )


def _fill(spec: JsonObject) -> None:
    """Let the first lines of a chart fill what is below them."""
    first = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "line")
    first["mark"] = {**first["mark"], "type": "area", "line": True, "fillOpacity": 0.14}
    first["encoding"]["y"] = {**first["encoding"]["y"], "stack": None}
