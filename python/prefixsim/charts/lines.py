"""Charts of lines: described once, drawn by Altair for files, for notebooks and for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
import numpy.typing as npt

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.theme import Chart

__all__ = [
    "LOG_AXIS",
    "PERCENT_AXIS",
    "ROWS",
    "Line",
    "LineChart",
    "Quantity",
    "colour",
    "note",
    "rule",
]

LOG_AXIS: JsonObject = {
    "tickCount": 6, "grid": False, "labelOverlap": "greedy", "labelSeparation": 8,
}  # fmt: skip
PERCENT_AXIS: JsonObject = {"format": theme.PERCENT}

ROWS = "rows"
"""Name of the data of a chart that is still without them."""

Numbers = Sequence[float] | npt.NDArray[np.floating]


@dataclass(frozen=True)
class Line:
    """One line of a chart: a name, values, and how it is drawn."""

    name: str
    x: Numbers
    y: Numbers
    colour: str
    dash: Sequence[int] = (1, 0)


@dataclass(frozen=True)
class Quantity:
    """What lies along an axis.

    Attributes
    ----------
    title : str
    format : str
        Of its values in tooltips, as d3-format has it.
    scale, axis : dict
        As Vega-Lite has them.
    """

    title: str
    format: str
    scale: JsonObject = field(default_factory=dict)
    axis: JsonObject = field(default_factory=dict)

    def encoded(self, channel: Chart, name: str) -> Chart:
        """Return the encoding of a field by ``alt.X`` or ``alt.Y``."""
        alt = _altair()
        looks = {"scale": alt.Scale(**self.scale)} if self.scale else {}
        looks |= {"axis": alt.Axis(**self.axis)} if self.axis else {}
        return channel(f"{name}:Q", title=self.title, **looks)


@dataclass(frozen=True)
class LineChart:
    """A chart of lines.

    Attributes
    ----------
    key : str
        Unique among the charts drawn together.
    series : sequence of Line
    x, y : Quantity
    interpolate : str
        Between points, as Vega-Lite has it.
    below, above : sequence of charts
        Layers below and above the lines.
    filled : bool
        What is below the lines is filled.
    """

    key: str
    series: Sequence[Line]
    x: Quantity
    y: Quantity
    interpolate: str = "linear"
    below: Sequence[Chart] = ()
    above: Sequence[Chart] = ()
    filled: bool = False

    def rows(self) -> list[JsonObject]:
        """Return the data: ``s``, the name of a line, and its points ``x``, ``y``."""
        return [
            {"s": line.name, "x": float(x), "y": float(y)}
            for line in self.series
            for x, y in zip(line.x, line.y, strict=True)
        ]

    def draw(self, **legend: object) -> Chart:
        """Return the chart for the page, with :data:`ROWS` for data and without title and size.

        A point near the pointer tells its values, and the wheel zooms along x while shift is held.

        Parameters
        ----------
        **legend
            Looks of the legend, which there is for several lines.
        """
        alt = _altair()
        encoding = self._encoding(alt, legend)
        prefix = self.key.replace("-", "_")
        zoom = alt.selection_interval(
            name=f"{prefix}_zoom", encodings=["x"], bind="scales", zoom="wheel![event.shiftKey]"
        )
        near = alt.selection_point(
            name=f"{prefix}_near", nearest=True, on="pointerover", clear="pointerout"
        )
        points = alt.Chart(name=f"{prefix}_points").mark_point(filled=True, size=70, clip=True)
        points = points.encode(
            **{name: value for name, value in encoding.items() if name != "strokeDash"},
            opacity=alt.condition(near, alt.value(1), alt.value(0), empty=False),
            tooltip=self._tips(alt),
        )
        lines = self._lines(encoding).properties(name=f"{prefix}_lines").add_params(zoom)
        layers = [*self.below, lines, points.add_params(near), *self.above]
        return alt.layer(*layers, data=alt.NamedData(ROWS))

    def still(self, above: Sequence[Chart] | None = None, **legend: object) -> Chart:
        """Return the chart for pictures and notebooks, without title and size.

        Parameters
        ----------
        above : sequence of charts, optional
            In place of those that the chart has.
        **legend
            Looks of the legend, which there is for several lines.
        """
        alt = _altair()
        lines = self._lines(self._encoding(alt, legend)).encode(tooltip=self._tips(alt))
        layers = [*self.below, lines, *(self.above if above is None else above)]
        return alt.layer(*layers, data=alt.InlineData(values=self.rows()))

    def _encoding(self, alt: ModuleType, legend: JsonObject) -> dict[str, Chart]:
        encoding = {
            "x": self.x.encoded(alt.X, "x"),
            "y": self.y.encoded(alt.Y, "y"),
            "color": self._by_line(alt.Color, [line.colour for line in self.series], legend),
        }
        if any(tuple(line.dash) != (1, 0) for line in self.series):
            values = [list(line.dash) for line in self.series]
            encoding["strokeDash"] = self._by_line(alt.StrokeDash, values, legend)
        return encoding

    def _lines(self, encoding: dict[str, Chart]) -> Chart:
        """Draw the lines, filled where the chart says so."""
        looks = {"interpolate": self.interpolate, "clip": True}
        chart = _altair().Chart()
        if not self.filled:
            return chart.mark_line(**looks).encode(**encoding)
        area = chart.mark_area(**looks, line=True, fillOpacity=0.14)
        return area.encode(**{**encoding, "y": encoding["y"].stack(None)})

    def _by_line(self, channel: Chart, values: Sequence[object], legend: JsonObject) -> Chart:
        """Encode the name of a line by one value each."""
        alt = _altair()
        names = [line.name for line in self.series]
        shown = alt.Legend(title=None, **legend) if len(names) > 1 else None
        scale = alt.Scale(domain=names, range=values)
        return channel("s:N", sort=names, scale=scale, legend=shown)

    def _tips(self, alt: ModuleType) -> list[Chart]:
        name = [alt.Tooltip("s:N", title="line")] if len(self.series) > 1 else []
        return [
            *name,
            alt.Tooltip("x:Q", title=self.x.title, format=self.x.format),
            alt.Tooltip("y:Q", title=self.y.title, format=self.y.format),
        ]


def colour(index: int) -> str:
    """Return the colour of the line or of the replay with this number."""
    return theme.PALETTE[index % len(theme.PALETTE)]


def rule(y: float) -> Chart:
    """Return a layer: a dashed line across at ``y``."""
    alt = _altair()
    base = alt.Chart(alt.InlineData(values=[{"y": y}]))
    return base.mark_rule(strokeDash=[3, 3], color=theme.GREY).encode(y="y:Q")


def note(y: float, text: str) -> list[Chart]:
    """Return layers: text above a line across at ``y``, kept apart from what it stands on."""
    alt = _altair()
    base = alt.Chart(alt.InlineData(values=[{"y": y, "text": text}]))
    base = base.encode(text="text:N", x=alt.value("width"), y="y:Q")
    place = {"align": "right", "baseline": "bottom", "dy": -3, "fontSize": 11.5}
    halo = {"color": theme.GROUND, "stroke": theme.GROUND, "strokeWidth": 4, "strokeJoin": "round"}
    return [base.mark_text(**place, **halo), base.mark_text(**place, color=theme.GREY)]


def _altair() -> ModuleType:
    return require("altair", extra="report")
