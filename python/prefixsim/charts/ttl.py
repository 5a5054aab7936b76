"""The chart of curves over the time to live."""

from __future__ import annotations

from collections.abc import Sequence

from prefixsim.charts import theme
from prefixsim.charts.lines import (
    LOG_AXIS,
    PERCENT_AXIS,
    Line,
    LineChart,
    Quantity,
    colour,
    note,
    rule,
)
from prefixsim.charts.runs import on_file
from prefixsim.charts.theme import Chart
from prefixsim.study.ttl_curve import TtlCurve

__all__ = ["draw"]

_EXACT, _REPLAYS = 240, 48
_DASHED = (5, 4)


def draw(curves: Sequence[TtlCurve]) -> Chart:
    """Draw token hit rates over a logarithmic time to live; see :meth:`TtlCurve.plot`."""
    series = []
    for i, curve in enumerate(curves):
        points = curve.sampled(_EXACT if curve.renew else _REPLAYS)
        x = [point.ttl_s for point in points]
        y = [point.token_hit_rate for point in points]
        series.append(Line(curve.label, x, y, colour(i), (1, 0) if curve.renew else _DASHED))
    tops = dict.fromkeys(curve.ceiling for curve in curves)
    highest = max(0.01, *tops)
    chart = LineChart(
        "ttl-curve",
        series,
        x=Quantity(
            "time to live (s)", ",.4~g", {"type": "log", "nice": False},
            {"labelExpr": "format(datum.value, ',~g')", **LOG_AXIS},
        ),
        y=Quantity(
            "token hit rate", ".2%", {"domain": [0, min(1.0, 1.15 * highest)]}, PERCENT_AXIS
        ),
        interpolate="step-after",
        below=[rule(top) for top in tops],
        above=[layer for top in tops for layer in note(top, f"kept for ever {top:.1%}")],
    )  # fmt: skip
    trace = curves[0].forest.trace.name
    subtitle = trace if len(curves) > 1 else f"{trace} · {curves[0].label}"
    return theme.themed(theme.titled(on_file(chart), "Hit rate by time to live", subtitle))
