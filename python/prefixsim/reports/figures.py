"""The figures of the report: Vega-Lite specifications of aggregated data, each with words for it.

A figure also carries its data as a table, for readers who cannot see or hover. Colours are those of
:mod:`prefixsim.charts.theme`; the page replaces them in the dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.charts.theme import GREY, GROUND, PALETTE
from prefixsim.explanations.losses import usable_blocks
from prefixsim.explanations.waterfall import Waterfall
from prefixsim.table import Kind, Table, written

if TYPE_CHECKING:
    from prefixsim.forest import Forest
    from prefixsim.study.result import Result

__all__ = [
    "LOG_AXIS",
    "Figure",
    "Line",
    "Run",
    "Spec",
    "capacity_words",
    "colour",
    "line_table",
    "lines",
    "note",
    "of",
    "rule",
]

HEIGHT = 270
LOG_AXIS = {"tickCount": 6, "grid": False, "labelOverlap": "greedy", "labelSeparation": 8}
_TABLE_ROWS = 40

Spec = JsonObject
Numbers = Sequence[float] | npt.NDArray[np.floating]


@dataclass(frozen=True)
class Figure:
    """One figure of the report.

    Attributes
    ----------
    key : str
        Unique on the page.
    title : str
    says : str
        What it shows, in a sentence with figures; also its text alternative.
    spec : dict
        Vega-Lite.
    table : Table
        The data, thinned.
    wide : bool
        Takes the whole width of the page.
    """

    key: str
    title: str
    says: str
    spec: Spec
    table: Table
    wide: bool = False


@dataclass(frozen=True, eq=False)
class Run:
    """One replay in the report.

    Attributes
    ----------
    label : str
        Tells it from the others.
    result : Result
    bytes_per_token : float or None
        Of the KV cache.
    """

    label: str
    result: Result
    bytes_per_token: float | None = None

    @cached_property
    def fall(self) -> Waterfall:
        """Its waterfall."""
        return self.result.waterfall()

    @property
    def forest(self) -> Forest:
        """The forest of its trace."""
        return self.result.metrics.forest

    @property
    def block_size(self) -> int:
        """Tokens of a block."""
        return self.result.metrics.block_size

    @property
    def rule(self) -> bool:
        """Whether the last token is always computed."""
        return bool(self.result.config["last_token_rule"])

    @property
    def capacity(self) -> int | None:
        """Usable blocks."""
        return usable_blocks(self.result)

    @cached_property
    def ceiling(self) -> float:
        """Token hit rate of an infinite cache of the same kind, over the requests that count."""
        totals = self.fall.totals
        kept = ("hit", "preempted", "evicted", "in_flight")
        return sum(totals[name] for name in kept) / max(1, self.fall.prompt_tokens)


@dataclass(frozen=True)
class Line:
    """One line of a chart: a name, values, and how it is drawn."""

    name: str
    x: Numbers
    y: Numbers
    colour: str
    dash: Sequence[int] = field(default=(1, 0))


def colour(index: int) -> str:
    """Return the colour of a run."""
    return PALETTE[index % len(PALETTE)]


def rule(y: float) -> list[Spec]:
    """Return a layer: a dashed line across at ``y``."""
    data = {"values": [{"y": y}]}
    line = {"mark": {"type": "rule", "strokeDash": [3, 3], "color": GREY}}
    at = {"field": "y", "type": "quantitative"}
    return [{**line, "data": data, "encoding": {"y": at}}]


def note(y: float, text: str) -> list[Spec]:
    """Return layers: text above a line across at ``y``, kept apart from what it stands on."""
    data = {"values": [{"y": y, "text": text}]}
    place = {"type": "text", "align": "right", "baseline": "bottom", "dy": -3, "fontSize": 11.5}
    encoding = {
        "text": {"field": "text"},
        "x": {"value": "width"},
        "y": {"field": "y", "type": "quantitative"},
    }
    halo = {**place, "color": GROUND, "stroke": GROUND, "strokeWidth": 4, "strokeJoin": "round"}
    return [
        {"mark": mark, "data": data, "encoding": encoding}
        for mark in (halo, {**place, "color": GREY})
    ]


def _by_line(series: Sequence[Line], values: Sequence[object]) -> Spec:
    """Encode the name of a line by one value each."""
    names = [line.name for line in series]
    return {
        "field": "s",
        "type": "nominal",
        "sort": names,
        "scale": {"domain": names, "range": values},
        "legend": {"title": None} if len(names) > 1 else None,
    }


def lines(
    series: Sequence[Line],
    *,
    x: Spec,
    y: Spec,
    interpolate: str = "linear",
    layers: Sequence[Spec] = (),
    extra: Sequence[Spec] = (),
) -> Spec:
    """Return a chart of lines that zooms along x and tells the point nearest to the pointer.

    Parameters
    ----------
    series : sequence of Line
    x, y : dict
        ``title``, ``format`` of the tooltip, and ``scale`` and ``axis`` as Vega-Lite has them.
    interpolate : str, optional
    layers : sequence of dict, optional
        Below the lines.
    extra : sequence of dict, optional
        Above them.
    """
    rows = [
        {"s": line.name, "x": float(a), "y": float(b)}
        for line in series
        for a, b in zip(line.x, line.y, strict=True)
    ]
    encoding = {
        "x": _axis("x", x),
        "y": _axis("y", y),
        "color": _by_line(series, [line.colour for line in series]),
    }
    if any(tuple(line.dash) != (1, 0) for line in series):
        encoding["strokeDash"] = _by_line(series, [list(line.dash) for line in series])
    tooltip = [
        *([{"field": "s", "title": "line"}] if len(series) > 1 else []),
        {"field": "x", "type": "quantitative", "title": x["title"], "format": x["format"]},
        {"field": "y", "type": "quantitative", "title": y["title"], "format": y["format"]},
    ]
    zoom = {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.shiftKey]"}
    near = {"type": "point", "nearest": True, "on": "pointerover", "clear": "pointerout"}
    shown = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    drawn = [
        {
            "mark": {"type": "line", "interpolate": interpolate, "clip": True},
            "encoding": encoding,
            "params": [{"name": "zoom", "select": zoom, "bind": "scales"}],
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "clip": True},
            "encoding": {
                **{k: v for k, v in encoding.items() if k != "strokeDash"},
                "opacity": shown,
                "tooltip": tooltip,
            },
            "params": [{"name": "near", "select": near}],
        },
    ]
    return {
        "data": {"values": rows},
        "width": "container",
        "height": HEIGHT,
        "layer": [*layers, *drawn, *extra],
    }


def _axis(channel: str, given: Spec) -> Spec:
    kept = {k: v for k, v in given.items() if k in ("scale", "axis", "title")}
    return {"field": channel, "type": "quantitative", **kept}


def _thinned(rows: Sequence[Sequence[str]], most: int = _TABLE_ROWS) -> list[Sequence[str]]:
    if len(rows) <= most:
        return list(rows)
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))]


def line_table(series: Sequence[Line], x: str, y: str, y_kind: Kind = "rate") -> Table:
    """Return the points of lines as a table, thinned."""
    each = max(6, _TABLE_ROWS // max(1, len(series)))
    rows: list[Sequence[str]] = []
    for line in series:
        points = [
            [line.name, f"{a:,.6g}", written(float(b), y_kind)]
            for a, b in zip(line.x, line.y, strict=True)
        ]
        rows += _thinned(points, each)
    return Table("", ["line", x, y], rows)


def of(run: Run, runs: Sequence[Run], words: str) -> str:
    """Return a sentence about a run, which is named where there are several."""
    if len(runs) == 1:
        return f"{words[:1].upper()}{words[1:]}."
    return f"{run.label}: {words}."


def capacity_words(value: float, unit: str) -> str:
    """Write a capacity for people."""
    return f"{value:,.0f} {unit}" if unit == "blocks" or value >= 100 else f"{value:.3g} {unit}"
