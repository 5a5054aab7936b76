"""The chart of a sweep: lines over one axis, a heat map over two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from prefixsim._extras import require
from prefixsim._json import JsonFields, JsonObject
from prefixsim.charts import theme
from prefixsim.charts.theme import Chart
from prefixsim.errors import InputError

__all__ = ["sweep_chart"]


def _numbers(rows: Sequence[JsonFields], axis: str) -> bool:
    values = [row.get(axis) for row in rows]
    return all(isinstance(v, int | float | None) and not isinstance(v, bool) for v in values)


def sweep_chart(
    rows: Sequence[JsonFields],
    axes: Sequence[str],
    name: str,
    *,
    x: str | None = None,
    y: str = "token_hit_rate",
) -> Chart:
    """Draw a figure of a sweep.

    With two axes of numbers it is a heat map, else lines over ``x``, one for each combination of
    the other axes. Cells that could not be replayed are left out.

    Raises
    ------
    InputError
        If there is nothing to draw it over, or no such figure.
    """
    alt = require("altair", extra="report")
    good = [dict(row) for row in rows if row["error"] is None]
    if not any(y in row for row in good):
        msg = f"no figure {y!r} in this sweep, choose one of its columns"
        raise InputError(msg)
    unlimited = max((row["capacity_blocks"] or 0 for row in good), default=0)
    for row in good:
        if row["capacity_blocks"] is None:
            row["capacity_blocks"] = unlimited or row["unique_blocks"]
    varied = [a for a in axes if len({row.get(a) for row in good}) > 1]
    measured = [a for a in varied if _numbers(good, a)]
    if x is None:
        x = "capacity_blocks" if "capacity_blocks" in measured else next(iter(measured), None)
    if x is None:
        msg = "a chart needs an axis of numbers with several values, such as capacity"
        raise InputError(msg)
    if not _numbers(good, x):
        msg = f"{x!r} is no axis of numbers"
        raise InputError(msg)
    rest = [a for a in varied if a != x]
    shown = {a: a.replace("_", " ") for a in (x, y, *rest)}
    drawing = _Drawing(alt, good, shown, x, y, rest)
    flat = len(rest) == 1 and _numbers(good, rest[0])
    chart = drawing.heat_map() if flat else drawing.lines()
    sized = chart.properties(width=theme.WIDTH, height=theme.HEIGHT)
    return theme.themed(theme.titled(sized, shown[y].capitalize(), name))


@dataclass
class _Drawing:
    """Rows, and what of them lies along which direction."""

    alt: ModuleType
    rows: list[JsonObject]
    shown: Mapping[str, str]
    x: str
    y: str
    rest: Sequence[str]

    @property
    def percent(self) -> dict[str, str]:
        return {"format": theme.PERCENT} if self.y.endswith("_rate") else {}

    def tips(self) -> list[Chart]:
        alt, y = self.alt, self.y
        kinds = {a: "Q" if _numbers(self.rows, a) else "N" for a in (self.x, *self.rest)}
        tips = [alt.Tooltip(f"{a}:{kind}", title=self.shown[a]) for a, kind in kinds.items()]
        form = ".2%" if self.percent else ",.4~g"
        return [*tips, alt.Tooltip(f"{y}:Q", title=self.shown[y], format=form)]

    def heat_map(self) -> Chart:
        alt, x, y, other = self.alt, self.x, self.y, self.rest[0]
        axis = alt.Axis(grid=False, labelAngle=0)
        base = alt.Chart(alt.InlineData(values=self.rows)).encode(
            x=alt.X(f"{x}:O", title=self.shown[x], axis=axis),
            y=alt.Y(f"{other}:O", title=self.shown[other], sort="descending", axis=axis),
            tooltip=self.tips(),
        )
        color = alt.Color(f"{y}:Q", title=self.shown[y], legend=alt.Legend(**self.percent))
        middle = (min(row[y] for row in self.rows) + max(row[y] for row in self.rows)) / 2
        ink = alt.condition(f"datum['{y}'] > {middle}", alt.value("white"), alt.value("black"))
        figure = alt.Text(f"{y}:Q", format=".1%" if self.percent else ",.3~g")
        cells = base.mark_rect().encode(color=color)
        return cells + base.mark_text().encode(text=figure, color=ink)

    def lines(self) -> Chart:
        alt, x, y = self.alt, self.x, self.y
        for row in self.rows:
            row["series"] = ", ".join(f"{self.shown[a]} {row.get(a)}" for a in self.rest)
        values = [row[x] for row in self.rows]
        kind = "log" if min(values) > 0 and max(values) / min(values) > 20 else "linear"
        names = list(dict.fromkeys(row["series"] for row in self.rows))
        colors = [theme.PALETTE[i % len(theme.PALETTE)] for i in range(len(names))]
        legend = alt.Legend(title=None, columns=2) if len(names) > 1 else None
        chart = alt.Chart(alt.InlineData(values=self.rows)).mark_line(point=True)
        return chart.encode(
            x=alt.X(f"{x}:Q", title=self.shown[x], scale=alt.Scale(type=kind)),
            y=alt.Y(f"{y}:Q", title=self.shown[y], axis=alt.Axis(**self.percent)),
            color=alt.Color("series:N", scale=alt.Scale(domain=names, range=colors), legend=legend),
            tooltip=self.tips(),
        )
