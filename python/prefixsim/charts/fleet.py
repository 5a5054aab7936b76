"""Charts of routers: balance against hits, hits against replicas, regret against a knob."""

from __future__ import annotations

from collections.abc import Sequence

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.theme import Chart
from prefixsim.errors import InputError

__all__ = ["balance_chart", "fleet_charts", "front", "knob_chart", "replicas_chart"]

Row = JsonObject


def fleet_charts(rows: Sequence[Row], name: str) -> dict[str, Chart]:
    """Return the charts that the rows can fill, by name.

    ``balance``: always. ``replicas``: where the number of replicas varies. ``regret_by_knob``:
    where a router's main setting does.
    """
    charts = {"balance": balance_chart(rows, name)}
    if len({row["replicas"] for row in rows}) > 1:
        charts["replicas"] = replicas_chart(rows, name)
    if _knobs(rows):
        charts["regret_by_knob"] = knob_chart(rows, name)
    return charts


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other one beats both in hits and in balance, best balance first."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda r: (r["imbalance_tokens"], -r["token_hit_rate"])):
        if not best or row["token_hit_rate"] > best[-1]["token_hit_rate"]:
            best.append(row)
    return best


def balance_chart(rows: Sequence[Row], name: str) -> Chart:
    """Draw hit rate against balance, with the Pareto front of what can be built.

    The balance is the computed tokens of the busiest replica over the mean.
    """
    alt = require("altair", extra="report")
    most = max((row["replicas"] for row in rows), default=0)
    shown = [dict(row) for row in rows if row["replicas"] == most]
    x = alt.X("imbalance_tokens:Q", title="computed tokens, busiest replica over the mean",
              scale=alt.Scale(zero=False))  # fmt: skip
    y = alt.Y("token_hit_rate:Q", title="token hit rate", axis=alt.Axis(format=theme.PERCENT),
              scale=alt.Scale(zero=False))  # fmt: skip
    line = alt.Chart(
        alt.InlineData(values=[dict(r) for r in front([r for r in shown if not r["reference"]])])
    ).mark_line(interpolate="step-after", color=theme.PALE, strokeDash=[4, 3])
    base = alt.Chart(alt.InlineData(values=shown)).encode(x=x, y=y, tooltip=_tips())
    color = alt.condition("datum.reference", alt.value(theme.GREY), alt.value(theme.BLUE))
    points = base.mark_point(filled=True, size=70).encode(color=color)
    text = base.mark_text(align="left", dx=7, dy=-4, fontSize=11).encode(text="label:N")
    chart = (line.encode(x=x, y=y) + points + text).properties(
        width=theme.WIDTH, height=theme.HEIGHT
    )
    title = f"{name}, {most} replicas; dashed: nothing built is better in both"
    return theme.themed(theme.titled(chart, "Balance against hits", title))


def replicas_chart(rows: Sequence[Row], name: str) -> Chart:
    """Draw hit rate against the number of replicas."""
    chart = _lines(
        [{**row, "series": row["label"]} for row in rows],
        "replicas",
        "replicas",
        "token_hit_rate",
        "token hit rate",
    )
    sizes = {row["num_blocks"] for row in rows}
    each = "unlimited" if sizes == {None} else " or ".join(f"{size:,}" for size in sorted(sizes))
    told = f"{name}, {each} blocks a replica"
    totals = {(row["num_blocks"] or 0) * row["replicas"] for row in rows}
    if len(totals) == 1 and len(sizes) > 1:
        told = f"{name}, {totals.pop():,} blocks in all"
    return theme.themed(theme.titled(chart, "Hits against replicas", told))


def knob_chart(rows: Sequence[Row], name: str) -> Chart:
    """Draw regret against the main setting of routers.

    Raises
    ------
    InputError
        If no router's main setting varies.
    """
    knobs = _knobs(rows)
    if not knobs:
        msg = "no router's main setting varies: give it several values"
        raise InputError(msg)
    most = max(row["replicas"] for row in rows)
    shown = [
        {**row, "series": f"{row['router']}: {row['knob'].replace('_', ' ')}"}
        for row in rows
        if row["router"] in knobs and row["replicas"] == most
    ]
    chart = _lines(shown, "value", "setting", "regret_rate", "cached elsewhere, of prompt tokens")
    told = f"{name}, {most} replicas"
    return theme.themed(theme.titled(chart, "Regret against the main setting", told))


def _knobs(rows: Sequence[Row]) -> set[str]:
    values: dict[str, set[object]] = {}
    for row in rows:
        if row["knob"]:
            values.setdefault(row["router"], set()).add(row["value"])
    return {router for router, found in values.items() if len(found) > 1}


def _tips() -> list[object]:
    alt = require("altair", extra="report")
    return [
        alt.Tooltip("label:N", title="router"),
        alt.Tooltip("replicas:Q"),
        alt.Tooltip("token_hit_rate:Q", title="token hit rate", format=".2%"),
        alt.Tooltip("regret_rate:Q", title="cached elsewhere", format=".2%"),
        alt.Tooltip("imbalance_tokens:Q", title="busiest over mean", format=".2f"),
    ]


def _lines(rows: Sequence[JsonObject], x: str, x_title: str, y: str, y_title: str) -> Chart:
    alt = require("altair", extra="report")
    names = list(dict.fromkeys(row["series"] for row in rows))
    colors = [theme.PALETTE[i % len(theme.PALETTE)] for i in range(len(names))]
    dashes = [[1, 0] if i < len(theme.PALETTE) else [4, 3] for i in range(len(names))]
    return (
        alt.Chart(alt.InlineData(values=list(rows)))
        .mark_line(point=True)
        .encode(
            x=alt.X(f"{x}:Q", title=x_title, scale=alt.Scale(zero=False)),
            y=alt.Y(f"{y}:Q", title=y_title, axis=alt.Axis(format=theme.PERCENT)),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=names, range=colors),
                legend=alt.Legend(title=None, columns=3),
            ),
            strokeDash=alt.StrokeDash(
                "series:N", scale=alt.Scale(domain=names, range=dashes), legend=None
            ),
            tooltip=_tips(),
        )
        .properties(width=theme.WIDTH, height=theme.HEIGHT)
    )
