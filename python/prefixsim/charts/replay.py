"""The charts of one replay, or of several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from prefixsim._json import JsonFields
from prefixsim.charts import theme
from prefixsim.charts.distributions import block_hit_count, reuse_gap, sharing_fraction
from prefixsim.charts.lines import Quantity, colour
from prefixsim.charts.over_time import hit_rate_over_time, intervals, span
from prefixsim.charts.runs import (
    Mark,
    Run,
    altair,
    chart_of,
    heads,
    legend_columns,
    mark_layers,
    on_file,
    runs_of,
)
from prefixsim.charts.theme import Chart
from prefixsim.charts.times import time_unit
from prefixsim.study.result import Result

if TYPE_CHECKING:
    import altair as alt

__all__ = ["charts", "dashboard"]


def _hit_rate_over_time(runs: Sequence[Run]) -> Chart:
    """Draw the token hit rate over trace time; for one trace, with the load below."""
    chart = hit_rate_over_time(runs)
    if len(runs) > 1:
        totals = [run.result.summary["token_hit_rate"] for run in runs]
        marks = [Mark(t, f"overall {t:.1%}", colour(i)) for i, t in enumerate(totals)]
        drawn = on_file(chart, mark_layers(marks, along="y"))
    else:
        top = replace(
            chart, x=replace(chart.x, axis={"title": None, "labels": False, "ticks": False})
        )
        stacked = altair().vconcat(on_file(top, height=210), _load(runs[0], chart.x), spacing=10)
        drawn = stacked.resolve_scale(color="independent")
    return theme.titled(drawn, "Token hit rate over time", *heads(runs))


def _load(run: Run, time: Quantity) -> Chart:
    """Draw the prompt tokens per second, those from the cache and those computed."""
    alt = altair()
    metrics = run.result.metrics
    timeline = metrics.over_time(intervals(run))
    _, size = time_unit(span([run]))
    names = ("from the cache", "computed")
    seconds = np.diff(timeline.edges)
    rows = []
    for i in np.flatnonzero(timeline.requests):
        middle = float((timeline.edges[i] + timeline.edges[i + 1]) / 2 / size)
        hit = int(timeline.hit_tokens[i])
        tokens = (hit, int(timeline.prompt_tokens[i]) - hit)
        rows += [
            {"x": middle, "tokens": n / float(seconds[i]), "what": name}
            for name, n in zip(names, tokens, strict=True)
        ]
    color = alt.Color(
        "what:N",
        scale=alt.Scale(domain=list(names), range=[theme.BLUE, theme.PALE]),
        legend=alt.Legend(symbolType="square", symbolStrokeWidth=0, offset=4),
    )
    areas = chart_of(rows).mark_area(interpolate="step", line=False)
    areas = areas.encode(
        x=time.encoded(alt.X, "x"),
        y=alt.Y(
            "tokens:Q",
            title="prompt tokens / s",
            axis=alt.Axis(labelExpr=theme.SI, tickCount=4),
        ),
        color=color,
        order=alt.Order("what:N", sort="descending"),
    )
    return areas.properties(width=theme.WIDTH, height=110)


def _sharing_fraction(runs: Sequence[Run]) -> Chart:
    means = [run.result.summary["sharing_fraction"]["mean"] for run in runs]
    marks = [
        Mark(mean, f"mean {mean:.1%}", colour(i), left=mean < 0.5)
        for i, mean in enumerate(means)
        if mean is not None
    ]
    drawn = on_file(sharing_fraction(runs), mark_layers(marks, along="x"))
    return theme.titled(drawn, "How much of a prompt comes from the cache", *heads(runs))


def _block_hit_count(runs: Sequence[Run]) -> Chart | None:
    chart = block_hit_count(runs)
    if chart is None:
        return None
    return theme.titled(on_file(chart), "How often a block is used", *heads(runs))


def _reuse_gap(runs: Sequence[Run]) -> Chart | None:
    chart = reuse_gap(runs)
    if chart is None:
        return None
    low, high = chart.x.scale["domain"]
    marks = []
    for i, run in enumerate(runs):
        median = run.result.summary["reuse_gap_s"]["median"]
        if median is not None:
            at = max(median, low)
            left = at < low * (high / low) ** 0.5
            marks.append(Mark(at, f"median {_span(median)}", colour(i), left=left))
    drawn = on_file(chart, mark_layers(marks, along="x"))
    return theme.titled(drawn, "How soon a block is used again", *heads(runs))


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


_COMPARED: dict[str, Callable[[JsonFields], float | None]] = {
    "token hit rate": lambda s: s["token_hit_rate"],
    "block reuse rate": lambda s: s["block_reuse_rate"],
    "sharing fraction, mean": lambda s: s["sharing_fraction"]["mean"],
    "sharing fraction, median": lambda s: s["sharing_fraction"]["median"],
}


def _comparison(runs: Sequence[Run]) -> Chart:
    """Draw the rates of several replays next to each other."""
    alt = altair()
    rows = [
        {"trace": run.label, "metric": name, "value": value, "text": f"{value:.1%}"}
        for run in runs
        for name, figure in _COMPARED.items()
        if (value := figure(run.result.summary)) is not None
    ]
    labels = [run.label for run in runs]
    step = 26 if len(runs) <= 3 else 18
    base = chart_of(rows).encode(
        y=alt.Y("trace:N", sort=labels, axis=None, scale=alt.Scale(paddingInner=0.12)),
        x=alt.X(
            "value:Q",
            axis=None,
            scale=alt.Scale(domainMin=0),
        ),
    )
    looks = {"columns": legend_columns(labels), "symbolType": "square", "symbolStrokeWidth": 0}
    color = alt.Color(
        "trace:N",
        scale=alt.Scale(domain=labels, range=[colour(i) for i in range(len(runs))]),
        sort=labels,
        legend=alt.Legend(**looks) if len(runs) > 1 else None,
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(color=color)
    text = base.mark_text(align="left", dx=5, fontSize=12.5).encode(text="text:N")
    rowed = (
        alt.layer(bars, text)
        .properties(width=theme.WIDTH - 120, height=alt.Step(step))
        .facet(
            row=alt.Row(
                "metric:N",
                sort=list(_COMPARED),
                title=None,
                header=alt.Header(
                    labelAngle=0, labelAlign="left", labelFontSize=12.5, labelColor=theme.INK
                ),
            ),
            spacing=10,
        )
    )
    return theme.titled(rowed, "Side by side", *heads(runs))


_KINDS: dict[str, Callable[[Sequence[Run]], Chart | None]] = {
    "comparison": _comparison,
    "hit_rate_over_time": _hit_rate_over_time,
    "sharing_fraction": _sharing_fraction,
    "block_hit_count": _block_hit_count,
    "reuse_gap": _reuse_gap,
}


def _drawn(runs: Sequence[Run]) -> dict[str, Chart]:
    """Return the charts that have something to show, by name."""
    if not any(run.result.summary["requests"] for run in runs):
        return {}
    kinds = {name: draw for name, draw in _KINDS.items() if len(runs) > 1 or name != "comparison"}
    drawn = {name: draw(runs) for name, draw in kinds.items()}
    return {name: chart for name, chart in drawn.items() if chart is not None}


def charts(results: Sequence[Result]) -> dict[str, alt.TopLevelMixin]:
    """Return the charts of results that have something to show, by name.

    ``hit_rate_over_time``, ``sharing_fraction``, ``block_hit_count``, ``reuse_gap``, and
    ``comparison`` for more than one replay.
    """
    return {name: theme.themed(chart) for name, chart in _drawn(runs_of(results)).items()}


def dashboard(results: Sequence[Result]) -> alt.TopLevelMixin:
    """Return all charts in one, two in a row."""
    alt = altair()
    drawn = list(_drawn(runs_of(results)).values())
    if not drawn:
        drawn = [theme.titled(chart_of([]).mark_point(), "No requests")]
    rows = [
        alt.hconcat(*drawn[i : i + 2], spacing=48).resolve_scale(color="independent")
        for i in range(0, len(drawn), 2)
    ]
    whole = alt.vconcat(*rows, spacing=40).resolve_scale(color="independent")
    return theme.themed(whole)
