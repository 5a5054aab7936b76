"""Hits and traffic of tiers, and the rate by the size of one, with their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.curve import capacity_axis, capacity_marks
from prefixsim.charts.lines import PERCENT_AXIS, ROWS, Line, LineChart, Quantity
from prefixsim.charts.runs import altair
from prefixsim.charts.theme import Chart
from prefixsim.study.result import Result

__all__ = [
    "bars_of_traffic",
    "rate_by_size",
    "split_over_time",
    "split_rows",
    "traffic_height",
    "traffic_rows",
]

_BINS = 48


def split_rows(result: Result) -> list[JsonObject]:
    """Return, for stretches of time, the share of prompt tokens that each tier served."""
    metrics, outcome = result.metrics, result.outcome
    start = metrics.start
    times = result.trace.timestamp[start:]
    prompts = result.trace.prompt_len[start:].astype(np.float64)
    if not len(times) or times[-1] <= times[0]:
        return []
    edges = np.linspace(times[0], times[-1], _BINS + 1)
    at = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, _BINS - 1)
    whole = np.bincount(at, prompts, _BINS)

    rows, below = [], np.zeros(_BINS)
    for tier, column in outcome.tier_hit_tokens.items():
        shares = np.bincount(at, column[start:], _BINS) / np.maximum(whole, 1)
        for k in np.flatnonzero(whole).tolist():
            stretch = {"from": float(edges[k]), "to": float(edges[k + 1])}
            stacked = {"below": float(below[k]), "above": float(below[k] + shares[k])}
            rows.append({"tier": tier, **stretch, "share": float(shares[k]), **stacked})
        below = below + shares
    return rows


def split_over_time(rows: Sequence[JsonObject]) -> Chart:
    """Stack the tiers over time; a bar for each stretch.

    The data are :data:`ROWS`, to be replaced by the rows; so are those of the traffic.
    """
    alt = altair()
    tips = [
        alt.Tooltip("tier:N"),
        alt.Tooltip("from:Q", title="from (s)", format=",.0f"),
        alt.Tooltip("share:Q", format=".2%"),
    ]
    bars = alt.Chart(alt.NamedData(ROWS)).mark_bar(clip=True)
    return bars.encode(
        x=alt.X("from:Q", title="time (s)", scale=alt.Scale(zero=False, nice=False)),
        x2="to",
        y=alt.Y("below:Q", title="share of prompt tokens", axis=alt.Axis(format=theme.PERCENT)),
        y2="above",
        color=_color("tier", rows),
        tooltip=tips,
    )


def _color(field: str, rows: Sequence[JsonObject]) -> Chart:
    alt = altair()
    names = _names(field, rows)
    scale = alt.Scale(domain=names, range=theme.PALETTE[: len(names)])
    legend = alt.Legend(title=None, symbolType="square")
    return alt.Color(f"{field}:N", sort=names, scale=scale, legend=legend)


def _names(field: str, rows: Sequence[JsonObject]) -> list[str]:
    return list(dict.fromkeys(row[field] for row in rows))


def traffic_rows(result: Result, bytes_per_token: float | None) -> list[JsonObject]:
    """Return what is loaded from and written to each lower tier: tokens, or GB."""
    outcome, start = result.outcome, result.metrics.start
    scale = 1.0 if bytes_per_token is None else bytes_per_token / 1e9
    rows = []
    for tier in list(outcome.tier_hit_tokens)[1:]:
        columns = {
            "loaded": outcome.tier_hit_tokens[tier],
            "written": outcome.columns.get(f"written_tokens_{tier}"),
        }
        for way, column in columns.items():
            if column is not None:
                amount = float(column[start:].sum(dtype=np.uint64)) * scale
                rows.append({"tier": tier, "way": way, "amount": amount})
    return rows


def traffic_height(rows: Sequence[JsonObject]) -> int:
    """Return the pixels that bars of these rows take."""
    return 40 * len(rows) + 20


def bars_of_traffic(rows: Sequence[JsonObject], unit: str) -> Chart:
    """Draw one bar for each tier and way."""
    alt = altair()
    tips = [
        alt.Tooltip("tier:N"),
        alt.Tooltip("way:N"),
        alt.Tooltip("amount:Q", title=unit, format=",.4~g"),
    ]
    bars = alt.Chart(alt.NamedData(ROWS)).mark_bar(cornerRadius=1)
    return bars.encode(
        y=alt.Y("tier:N", sort=_names("tier", rows), title=None),
        yOffset=alt.YOffset("way:N", sort=_names("way", rows)),
        x=alt.X("amount:Q", title=unit, axis=alt.Axis(labelExpr=theme.SI)),
        color=_color("way", rows),
        tooltip=tips,
    )


def rate_by_size(
    series: Mapping[str, Sequence[float]],
    sizes: Sequence[float],
    replay: tuple[float, float],
    *,
    tier: str,
    unit: str,
) -> LineChart:
    """Draw hit rates over the size of a tier, one line a rule, and a replay among them.

    Parameters
    ----------
    series : mapping of str to sequence of float
        Hit rates by rule, at each size.
    sizes : sequence of float
        In ``unit``.
    replay : tuple of float
        The size and the hit rate of the replay.
    tier : str
    unit : {"blocks", "GB"}
    """
    x, y = replay
    mark = {"x": x, "y": y, "name": "this replay", "text": "this replay"}
    looks = zip(theme.PALETTE, ((1, 0), (5, 4)), strict=False)
    return LineChart(
        "tier-surface",
        [
            Line(name, sizes, rates, shade, dash)
            for (name, rates), (shade, dash) in zip(series.items(), looks, strict=True)
        ],
        x=capacity_axis(f"size of {tier} ({unit})", unit),
        y=Quantity("token hit rate", ".2%", {"zero": True}, PERCENT_AXIS),
        above=capacity_marks([mark], unit),
    )
