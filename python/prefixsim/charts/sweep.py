"""The chart of a sweep: lines over one axis, a heat map over two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefixsim._extras import require
from prefixsim.charts import theme
from prefixsim.errors import InputError

__all__ = ["sweep_chart"]


def _numbers(rows: Sequence[Mapping[str, Any]], axis: str) -> bool:
    values = [row.get(axis) for row in rows]
    return all(isinstance(v, int | float | None) and not isinstance(v, bool) for v in values)


def sweep_chart(
    rows: Sequence[Mapping[str, Any]],
    axes: Sequence[str],
    name: str,
    *,
    x: str | None = None,
    y: str = "token_hit_rate",
) -> Any:
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
    percent = {"format": theme.PERCENT} if y.endswith("_rate") else {}
    tips = [
        alt.Tooltip(f"{a}:{'Q' if _numbers(good, a) else 'N'}", title=shown[a]) for a in (x, *rest)
    ]
    tips.append(alt.Tooltip(f"{y}:Q", title=shown[y], format=".2%" if percent else ",.4~g"))
    data = alt.Chart(alt.InlineData(values=good))
    if len(rest) == 1 and _numbers(good, rest[0]):
        axis = alt.Axis(grid=False, labelAngle=0)
        base = data.encode(
            x=alt.X(f"{x}:O", title=shown[x], axis=axis),
            y=alt.Y(f"{rest[0]}:O", title=shown[rest[0]], sort="descending", axis=axis),
            tooltip=tips,
        )
        color = alt.Color(f"{y}:Q", title=shown[y], legend=alt.Legend(**percent))
        middle = (min(row[y] for row in good) + max(row[y] for row in good)) / 2
        ink = alt.condition(f"datum['{y}'] > {middle}", alt.value("white"), alt.value("black"))
        figure = alt.Text(f"{y}:Q", format=".1%" if percent else ",.3~g")
        chart = base.mark_rect().encode(color=color) + base.mark_text().encode(
            text=figure, color=ink
        )
    else:
        for row in good:
            row["series"] = ", ".join(f"{shown[a]} {row.get(a)}" for a in rest)
        values = [row[x] for row in good]
        kind = "log" if min(values) > 0 and max(values) / min(values) > 20 else "linear"
        names = list(dict.fromkeys(row["series"] for row in good))
        colors = [theme.PALETTE[i % len(theme.PALETTE)] for i in range(len(names))]
        legend = alt.Legend(title=None, columns=2) if len(names) > 1 else None
        chart = data.mark_line(point=True).encode(
            x=alt.X(f"{x}:Q", title=shown[x], scale=alt.Scale(type=kind)),
            y=alt.Y(f"{y}:Q", title=shown[y], axis=alt.Axis(**percent)),
            color=alt.Color("series:N", scale=alt.Scale(domain=names, range=colors), legend=legend),
            tooltip=tips,
        )
    sized = chart.properties(width=theme.WIDTH, height=theme.HEIGHT)
    return theme.themed(theme.titled(sized, shown[y].capitalize(), name))
