"""More figures of the report: over time, and distributions over requests, blocks and turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefixsim.charts import distributions as charts
from prefixsim.charts.over_time import hit_rate_over_time, span
from prefixsim.charts.over_time import working_set as working_set_chart
from prefixsim.charts.runs import Run, distinct, of_blocks
from prefixsim.charts.times import time_unit
from prefixsim.reports.figures import Figure, line_figure, line_table, of

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


def over_time(runs: Sequence[Run]) -> Figure | None:
    """Show the token hit rate over trace time."""
    if span(runs) <= 0:
        return None
    chart = hit_rate_over_time(runs)
    words = " ".join(
        of(run, runs, f"between {min(line.y):.1%} and {max(line.y):.1%}")
        for run, line in zip(runs, chart.series, strict=True)
    )
    table = line_table(chart.series, time_unit(span(runs))[0], "token hit rate")
    return line_figure(chart, "Hit rate over time", words, table)


def working_set(runs: Sequence[Run]) -> Figure | None:
    """Show the distinct blocks touched in windows of time, beside the capacity."""
    if span(runs) <= 0:
        return None
    drawn = working_set_chart(runs)
    series = drawn.chart.series
    sentences = [
        of(run, runs, f"up to {int(max(line.y)):,} distinct blocks")
        for run, line in zip(distinct(runs, of_blocks), series, strict=True)
    ]
    words = f"Distinct blocks touched in each {drawn.window}. " + " ".join(sentences)
    table = line_table(series, drawn.unit, "distinct blocks", "count")
    return line_figure(drawn.chart, "Working set", words, table)


def sharing(runs: Sequence[Run]) -> Figure:
    """Show how the share of cached prompt tokens is distributed over requests."""
    chart = charts.sharing_fraction(runs)
    shares = [run.result.summary["sharing_fraction"] for run in runs]
    words = " ".join(
        of(run, runs, f"mean {share['mean']:.1%}, median {share['median']:.1%}")
        for run, share in zip(runs, shares, strict=True)
        if share["mean"] is not None
    )
    table = line_table(chart.series, "sharing fraction from", "share of requests")
    return line_figure(chart, "Sharing fraction", words, table)


def lengths(runs: Sequence[Run]) -> Figure | None:
    """Show the cumulative distribution of prompt and output lengths."""
    chart = charts.lengths(runs)
    if chart is None:
        return None
    trace = runs[0].result.trace
    words = (
        f"{trace.name}: the median prompt has {np.median(trace.prompt_len):,.0f} tokens, the "
        f"longest {int(trace.prompt_len.max()):,}."
    )
    return line_figure(chart, "Lengths", words, line_table(chart.series, "tokens", "share"))


def reuse_gaps(runs: Sequence[Run]) -> Figure | None:
    """Show the cumulative distribution of the time since a block's previous use."""
    chart = charts.reuse_gap(runs)
    if chart is None:
        return None
    medians = [run.result.summary["reuse_gap_s"]["median"] for run in runs]
    words = " ".join(
        of(run, runs, f"median {median:,.3g} s")
        for run, median in zip(runs, medians, strict=True)
        if median is not None
    )
    return line_figure(chart, "Reuse gap", words, line_table(chart.series, "seconds", "share"))


def lifetimes(runs: Sequence[Run]) -> Figure | None:
    """Show how long evicted blocks had been cached, and unused."""
    chart = charts.lifetime(runs)
    if chart is None:
        return None
    sentences = []
    for run in runs:
        for name, word in (
            ("cached_block_lifetime_s", "lifetime"),
            ("block_idle_before_evict_s", "idle"),
        ):
            column = run.result.outcome.residency.get(name)
            if column is not None and len(column.values):
                median = run.result.summary[name]["median"]
                sentences.append(of(run, runs, f"median {word} {median:,.3g} s"))
    table = line_table(chart.series, "seconds", "share")
    return line_figure(chart, "Block lifetime", " ".join(sentences), table)


def block_counts(runs: Sequence[Run]) -> Figure | None:
    """Show how many blocks are used by at least so many requests."""
    chart = charts.block_hit_count(runs)
    if chart is None:
        return None
    sentences = []
    for run in distinct(runs, of_blocks):
        column = run.result.metrics.block_hit_count
        if len(column.values):
            used = column.weights[column.values > 1].sum() / max(1, column.weights.sum())
            words = f"{used:.1%} of the unique blocks are used more than once"
            sentences.append(of(run, runs, words))
    table = line_table(chart.series, "requests", "blocks", "count")
    return line_figure(chart, "How often a block is used", " ".join(sentences), table)


def turns(runs: Sequence[Run]) -> Figure | None:
    """Show the token hit rate of the first, second... turn of sessions."""
    chart = charts.turns(runs)
    if chart is None:
        return None
    lines = {line.name: line.y for line in chart.series}
    words = " ".join(
        of(run, runs, f"{rate[0]:.1%} in first turns, {rate[1]:.1%} in second ones")
        for run in runs
        if (rate := lines.get(run.label)) is not None
    )
    table = line_table(chart.series, "turn", "token hit rate")
    return line_figure(chart, "Sessions: hit rate by turn", words, table)
