"""One look for every chart: colours, type, grid, and how figures are written.

Colours are Okabe and Ito's palette ("Color Universal Design", 2008), which stays apart under the
common kinds of colour blindness, in an order whose neighbours also differ in lightness.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from prefixsim._extras import require
from prefixsim._json import JsonObject

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "BLUE",
    "FONT",
    "GREEN",
    "GREY",
    "GROUND",
    "HEIGHT",
    "INK",
    "NIGHT",
    "ORANGE",
    "PALE",
    "PALETTE",
    "PERCENT",
    "PINK",
    "PURPLE",
    "RED",
    "SI",
    "SKY",
    "SLATE",
    "WIDTH",
    "Chart",
    "page_config",
    "themed",
    "titled",
    "unchecked",
]

Chart: TypeAlias = Any
"""A chart of Altair, or a part of one; its classes are loaded when something is drawn."""

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#7A5195"
PINK, RED, SKY, SLATE = "#CC79A7", "#D55E00", "#56B4E9", "#5B5B5B"

PALETTE = [BLUE, ORANGE, GREEN, PURPLE, PINK, RED, SKY, SLATE]
"""Colours of the series, in order."""

INK, GREY, RULE = "#1F2933", "#5F6B7A", "#E4E8ED"
"""Colours of titles, of labels and of grid lines."""

PALE, EDGE, GROUND = "#B8C0CA", "#9AA5B1", "#FFFFFE"
"""Colours of what is only there to fill up, of axes, and around text that crosses lines (as good as
white, but a colour of its own for a dark page to replace)."""

NIGHT = {
    BLUE: "#4FA9E2", ORANGE: "#F0B53C", GREEN: "#35C49C", PURPLE: "#B48FD0",
    PINK: "#E09CC3", RED: "#F0793F", SKY: "#93D0F7", SLATE: "#A9B0B8",
    INK: "#E6EAEF", GREY: "#A3AFBD", RULE: "#2E3742",
    PALE: "#5C6875", EDGE: "#6B7785", GROUND: "#1A2027",
}  # fmt: skip
"""What stands for each colour on a dark page."""

# The first of these is built into the renderer of PNG files, so every machine draws the same;
# browsers and SVG viewers without it take the next.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"

WIDTH, HEIGHT = 560, 300
"""Plot area in pixels, axes and titles not counted."""

SI = "datum.value == 0 ? '0' : format(datum.value, '~s')"
"""Axis labels like 20k and 3M, as a Vega expression."""

PERCENT = ".0%"
"""Axis labels of shares and rates."""


def config() -> JsonObject:
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
            "domainColor": EDGE,
            "grid": False,
            "ticks": True,
            "tickColor": EDGE,
            "tickSize": 4,
            "labelPadding": 4,
        },
        "axisBand": {"grid": False},
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


def page_config() -> JsonObject:
    """Return the configuration for figures that lie on a page: its font, smaller, no ground."""
    whole = config()
    whole["axis"] |= {"labelFontSize": 11.5, "titleColor": GREY, "titleFontSize": 12}
    whole["axis"] |= {"titlePadding": 8}
    whole["axisQuantitative"] = {"tickCount": 5}
    whole["legend"] |= {"labelFontSize": 12, "labelLimit": 340, "symbolSize": 130}
    return whole | {"background": "transparent", "font": PAGE_FONT, "padding": 2}


def titled(chart: alt.TopLevelMixin, title: str, *subtitle: str) -> Chart:
    """Put a title and subtitle lines over a chart."""
    alt = require("altair", extra="report")
    return chart.properties(title=alt.Title(title, subtitle=list(subtitle)))


def unchecked() -> AbstractContextManager[None]:
    """Return a context in which Altair does not validate each part of a chart as it is made.

    It takes half the time of a page with eleven charts; the tests validate whole charts.
    """
    debug_mode = require("altair", extra="report").utils.schemapi.debug_mode
    return cast("AbstractContextManager[None]", debug_mode(False))


def themed(chart: alt.TopLevelMixin) -> Chart:
    """Give a finished chart the theme; only a chart that is in no other one can have it."""
    return chart.properties(config=config())
