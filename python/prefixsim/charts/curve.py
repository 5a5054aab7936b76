"""The chart of hit curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType

import numpy as np

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.theme import Chart
from prefixsim.study.hit_curve import Axis, Curve

__all__ = ["draw"]

_LRU_POINTS = 240
_REPLAYS = 48


def draw(curves: Sequence[Curve], axis: Axis, bytes_per_token: float | None) -> Chart:
    """Draw token hit rates over a logarithmic capacity; see :meth:`Curves.plot`."""
    alt = require("altair", extra="report")
    labels = [curve.label for curve in curves]
    rows = [row for curve in curves for row in _rows(curve, axis, bytes_per_token)]
    color = alt.Color(
        "curve:N",
        scale=alt.Scale(
            domain=labels,
            range=[theme.PALETTE[i % len(theme.PALETTE)] for i in range(len(labels))],
        ),
        sort=labels,
        legend=alt.Legend(title=None, columns=2) if len(curves) > 1 else None,
    )
    line = alt.Chart(alt.InlineData(values=rows)).mark_line()
    line = line.encode(
        x=_capacity(alt, rows, axis),
        y=alt.Y(
            "rate:Q",
            title="token hit rate: hit tokens / prompt tokens",
            axis=alt.Axis(format=theme.PERCENT),
            scale=alt.Scale(domainMin=0),
        ),
        color=color,
        strokeDash=alt.StrokeDash(
            "policy:N",
            scale=alt.Scale(domain=["lru", "clairvoyant"], range=[[1, 0], [6, 3]]),
            legend=None,
        ),
        tooltip=[
            alt.Tooltip("curve:N"),
            alt.Tooltip("capacity:Q", title=f"capacity ({axis})", format=",.4~g"),
            alt.Tooltip("blocks:Q", format=","),
            alt.Tooltip("rate:Q", title="token hit rate", format=".2%"),
        ],
    )
    chart = alt.layer(_ceilings(alt, curves), line)
    trace = curves[0].forest.trace
    subtitle = [trace.name if len(curves) > 1 else f"{trace.name} · {labels[0]}"]
    subtitle.append("dotted: infinite cache")
    return theme.themed(
        theme.titled(
            chart.properties(width=theme.WIDTH, height=theme.HEIGHT),
            "Hit rate by cache size",
            *subtitle,
        )
    )


def _rows(curve: Curve, axis: Axis, bytes_per_token: float | None) -> Iterable[JsonObject]:
    size = {"blocks": 1.0, "tokens": float(curve.block_size)}
    if bytes_per_token is not None:
        size["GB"] = curve.block_size * bytes_per_token / 1e9
    for point in curve.sampled(_LRU_POINTS if curve.policy == "lru" else _REPLAYS):
        yield {
            "curve": curve.label,
            "policy": curve.policy,
            "capacity": point.capacity_blocks * size[axis],
            "blocks": point.capacity_blocks,
            "rate": point.token_hit_rate,
        }


def _capacity(alt: ModuleType, rows: list[JsonObject], axis: Axis) -> Chart:
    low, high = (f(row["capacity"] for row in rows) for f in (min, max))
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    labels = "format(datum.value, ',~g')" if axis == "GB" else theme.SI
    return alt.X(
        "capacity:Q",
        title=f"cache capacity ({axis})",
        scale=alt.Scale(type="log", domain=[low, max(high, low * 10)], nice=False),
        axis=alt.Axis(values=[10.0**k for k in decades], labelExpr=labels, grid=True),
    )


def _ceilings(alt: ModuleType, curves: Sequence[Curve]) -> Chart:
    """Dotted lines at the hit rates of infinite caches, one for each block size."""
    tops = {curve.block_size: curve.ceiling for curve in curves}
    rows = [{"top": top} for top in dict.fromkeys(tops.values())]
    base = alt.Chart(alt.InlineData(values=rows))
    return base.mark_rule(color=theme.GREY, strokeDash=[2, 3], strokeWidth=1).encode(y="top:Q")
