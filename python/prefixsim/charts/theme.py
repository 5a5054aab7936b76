"""One look for every chart: colours, type, grid, and how figures are written.

Colours are Okabe and Ito's palette ("Color Universal Design", 2008), which stays apart under the
common kinds of colour blindness, in an order whose neighbours also differ in lightness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefixsim._extras import require

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "BLUE",
    "FONT",
    "GREEN",
    "GREY",
    "HEIGHT",
    "INK",
    "ORANGE",
    "PALETTE",
    "PERCENT",
    "PINK",
    "PURPLE",
    "RED",
    "SI",
    "SKY",
    "SLATE",
    "WIDTH",
    "themed",
    "titled",
]

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#7A5195"
PINK, RED, SKY, SLATE = "#CC79A7", "#D55E00", "#56B4E9", "#5B5B5B"

PALETTE = [BLUE, ORANGE, GREEN, PURPLE, PINK, RED, SKY, SLATE]
"""Colours of the series, in order."""

INK, GREY, RULE = "#1F2933", "#5F6B7A", "#E4E8ED"
"""Colours of titles, of labels and of grid lines."""

# The first of these is built into the renderer of PNG files, so every machine draws the same;
# browsers and SVG viewers without it take the next.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

WIDTH, HEIGHT = 560, 300
"""Plot area in pixels, axes and titles not counted."""

SI = "datum.value == 0 ? '0' : format(datum.value, '~s')"
"""Axis labels like 20k and 3M, as a Vega expression."""

PERCENT = ".0%"
"""Axis labels of shares and rates."""


def config() -> dict[str, Any]:
    """Return the Vega-Lite configuration of the theme."""
    return {
        "background": "#FFFFFF",
        "font": FONT,
        "padding": 18,
        "view": {"stroke": None, "continuousWidth": WIDTH, "continuousHeight": HEIGHT},
        "range": {"category": PALETTE},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "color": INK,
            "fontSize": 17,
            "fontWeight": "bold",
            "subtitleColor": GREY,
            "subtitleFontSize": 12.5,
            "subtitlePadding": 5,
            "subtitleLineHeight": 17,
            "offset": 12,
        },
        "axis": {
            "domain": False,
            "grid": True,
            "gridColor": RULE,
            "labelColor": GREY,
            "labelFontSize": 12,
            "labelPadding": 6,
            "ticks": False,
            "titleColor": INK,
            "titleFontSize": 12.5,
            "titleFontWeight": "normal",
            "titlePadding": 10,
        },
        "axisX": {
            "domain": True,
            "domainColor": "#9AA5B1",
            "grid": False,
            "ticks": True,
            "tickColor": "#9AA5B1",
            "tickSize": 4,
            "labelPadding": 4,
        },
        "axisQuantitative": {"tickCount": 6},
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "title": None,
            "labelColor": INK,
            "labelFontSize": 12.5,
            "labelLimit": 500,
            "symbolType": "stroke",
            "symbolStrokeWidth": 3,
            "symbolSize": 160,
            "offset": 8,
            "columnPadding": 18,
        },
        "line": {"strokeWidth": 2.25, "strokeCap": "round", "strokeJoin": "round"},
        "bar": {"color": PALETTE[0]},
        "text": {"color": INK, "fontSize": 12},
        "rule": {"color": GREY},
    }


def titled(chart: alt.TopLevelMixin, title: str, *subtitle: str) -> Any:
    """Put a title and subtitle lines over a chart."""
    alt = require("altair", extra="report")
    return chart.properties(title=alt.Title(title, subtitle=list(subtitle)))


def themed(chart: alt.TopLevelMixin) -> Any:
    """Give a finished chart the theme; only a chart that is in no other one can have it."""
    return chart.properties(config=config())
