"""A figure of the report: a chart, with words for it and its data as a table.

The table is for readers who cannot see or hover. Colours are those of
:mod:`prefixsim.charts.theme`; the page replaces them in the dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.charts.lines import Line, LineChart
from prefixsim.charts.runs import Run
from prefixsim.charts.theme import Chart
from prefixsim.table import Kind, Table, written

__all__ = ["Figure", "Spec", "capacity_words", "line_figure", "line_table", "of", "page_spec"]

HEIGHT = 270
_TABLE_ROWS = 40

Spec = JsonObject


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


def page_spec(chart: Chart, rows: list[JsonObject], height: int = HEIGHT) -> Spec:
    """Return the Vega-Lite of a chart that fills the width of its place on the page."""
    alt = require("altair", extra="report")
    with alt.data_transformers.enable("default", consolidate_datasets=False):
        spec: Spec = chart.to_dict(validate=False)
    # The look is the page's, not that of Altair.
    kept = {key: value for key, value in spec.items() if key not in ("$schema", "config")}
    return {**kept, "data": {"values": rows}, "width": "container", "height": height}


def line_figure(
    chart: LineChart, title: str, says: str, table: Table, *, wide: bool = False
) -> Figure:
    """Return the figure of a chart of lines."""
    return Figure(chart.key, title, says, page_spec(chart.draw(), chart.rows()), table, wide)


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
