"""The charts of one replay, or of several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from prefixsim._json import JsonFields, JsonObject
from prefixsim.charts import theme
from prefixsim.charts._series import (
    MOST_MARKED,
    Runs,
    altair,
    chart_of,
    color_of,
    heads,
    marks,
    replayed,
)
from prefixsim.charts.distributions import block_hit_count, reuse_gap, sharing_fraction
from prefixsim.charts.theme import Chart
from prefixsim.charts.times import time_unit
from prefixsim.study.result import Result

if TYPE_CHECKING:
    import altair as alt

__all__ = ["charts", "dashboard"]


def hit_rate_over_time(runs: Runs) -> Chart:
    """Draw the token hit rate over trace time; for one trace, with the load below."""
    alt = altair()
    fewest = min(len(run.metrics.prompt_len) for run in runs)
    intervals = int(np.clip(fewest / 20, 8, 80 if len(runs) <= MOST_MARKED else 25))
    series = [run.metrics.over_time(intervals) for run in runs]
    unit, size = time_unit(max(float(s.edges[-1]) for s in series))
    rows = []
    for run, s in zip(runs, series, strict=True):
        seconds = np.diff(s.edges)
        for i, rate in enumerate(s.token_hit_rate):
            if np.isnan(rate):
                continue
            rows.append(
                {
                    "trace": run.label,
                    "time": float((s.edges[i] + s.edges[i + 1]) / 2 / size),
                    "rate": float(rate),
                    "hit": float(s.hit_tokens[i] / seconds[i]),
                    "computed": float((s.prompt_tokens[i] - s.hit_tokens[i]) / seconds[i]),
                    "requests": int(s.requests[i]),
                }
            )
    title = f"time since the first request ({unit})"
    x = alt.X("time:Q", title=title, scale=alt.Scale(nice=False))
    line = chart_of(rows).mark_line(interpolate="step", point=len(rows) < 12)
    line = line.encode(
        x=x if len(runs) > 1 else x.title(None).axis(labels=False, ticks=False),
        y=alt.Y(
            "rate:Q",
            title="token hit rate",
            axis=alt.Axis(format=theme.PERCENT),
            scale=alt.Scale(domainMin=0),
        ),
        color=color_of(runs),
        tooltip=[
            alt.Tooltip("trace:N"),
            alt.Tooltip("time:Q", title=unit, format=".4~f"),
            alt.Tooltip("rate:Q", format=".1%"),
            alt.Tooltip("requests:Q", format=","),
        ],
    )
    overall = [
        {"trace": run.label, "x": run.summary["token_hit_rate"],
         "text": f"overall {run.summary['token_hit_rate']:.1%}"}
        for run in runs
    ]  # fmt: skip
    top = alt.layer(line, *marks(runs, overall, along="y")).properties(
        width=theme.WIDTH, height=theme.HEIGHT if len(runs) > 1 else 210
    )
    whole = top if len(runs) > 1 else _stacked(top, _load(rows, x))
    return theme.titled(whole, "Token hit rate over time", *heads(runs))


def _stacked(*charts: Chart) -> Chart:
    return altair().vconcat(*charts, spacing=10).resolve_scale(color="independent")


def _load(rows: list[JsonObject], x: Chart) -> Chart:
    alt = altair()
    kinds = {"hit": "from the cache", "computed": "computed"}
    long = [
        {"time": row["time"], "tokens": row[key], "what": what}
        for row in rows
        for key, what in kinds.items()
    ]
    color = alt.Color(
        "what:N",
        scale=alt.Scale(domain=list(kinds.values()), range=[theme.BLUE, theme.PALE]),
        legend=alt.Legend(symbolType="square", symbolStrokeWidth=0, offset=4),
    )
    return (
        chart_of(long)
        .mark_area(interpolate="step", line=False)
        .encode(
            x=x,
            y=alt.Y(
                "tokens:Q",
                title="prompt tokens / s",
                axis=alt.Axis(labelExpr=theme.SI, tickCount=4),
            ),
            color=color,
            order=alt.Order("what:N", sort="descending"),
        )
        .properties(width=theme.WIDTH, height=110)
    )


_COMPARED: dict[str, Callable[[JsonFields], float | None]] = {
    "token hit rate": lambda s: s["token_hit_rate"],
    "block reuse rate": lambda s: s["block_reuse_rate"],
    "sharing fraction, mean": lambda s: s["sharing_fraction"]["mean"],
    "sharing fraction, median": lambda s: s["sharing_fraction"]["median"],
}


def comparison(runs: Runs) -> Chart:
    """Draw the rates of several replays next to each other."""
    alt = altair()
    rows = [
        {"trace": run.label, "metric": name, "value": value, "text": f"{value:.1%}"}
        for run in runs
        for name, figure in _COMPARED.items()
        if (value := figure(run.summary)) is not None
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
    color = color_of(runs, symbolType="square", symbolStrokeWidth=0)
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


_KINDS: dict[str, Callable[[Runs], Chart]] = {
    "hit_rate_over_time": hit_rate_over_time,
    "sharing_fraction": sharing_fraction,
    "block_hit_count": block_hit_count,
    "reuse_gap": reuse_gap,
}


def _drawn(runs: Runs) -> JsonObject:
    kinds = dict(_KINDS)
    if len(runs) > 1:
        kinds = {"comparison": comparison, **kinds}
    if not any(run.summary["requests"] for run in runs):
        return {}
    if not any(run.summary["unique_blocks"] for run in runs):
        del kinds["block_hit_count"]
    if not any(run.summary["blocks_reused"] for run in runs):
        del kinds["reuse_gap"]
    return {name: draw(runs) for name, draw in kinds.items()}


def charts(results: Sequence[Result]) -> dict[str, alt.TopLevelMixin]:
    """Return the charts of results that have something to show, by name.

    ``hit_rate_over_time``, ``sharing_fraction``, ``block_hit_count``, ``reuse_gap``, and
    ``comparison`` for more than one replay.
    """
    return {name: theme.themed(chart) for name, chart in _drawn(replayed(results)).items()}


def dashboard(results: Sequence[Result]) -> alt.TopLevelMixin:
    """Return all charts in one, two in a row."""
    alt = altair()
    drawn = list(_drawn(replayed(results)).values())
    if not drawn:
        drawn = [theme.titled(chart_of([]).mark_point(), "No requests")]
    rows = [
        alt.hconcat(*drawn[i : i + 2], spacing=48).resolve_scale(color="independent")
        for i in range(0, len(drawn), 2)
    ]
    whole = alt.vconcat(*rows, spacing=40).resolve_scale(color="independent")
    return theme.themed(whole)
