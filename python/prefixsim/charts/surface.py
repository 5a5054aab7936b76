"""The chart of a surface: hit rates by the sizes of tiers."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.theme import Chart
from prefixsim.study.tier_surface import RULES, Surface

__all__ = ["draw", "heat_maps", "lines"]

_NAMES = {"hbm": "HBM", "dram": "DRAM", "disk": "disk"}
_WIDTH, _ROW = 380, 26


def draw(surface: Surface) -> Chart:
    """Draw a surface; see :meth:`Surface.plot`."""
    several = [t for t in surface.tiers if len(surface.sizes[t]) > 1]
    chart = heat_maps(surface) if set(several) == {"hbm", "dram"} else lines(surface)
    subtitle = [surface.curve.forest.trace.name, f"block size {surface.curve.block_size}"]
    return theme.themed(theme.titled(chart, "Hit rate by size of tier", " · ".join(subtitle)))


def heat_maps(surface: Surface) -> Chart:
    """Draw one map for each rule, and one of what exclusive adds; HBM upwards, DRAM to the right.

    Needs several sizes of HBM and DRAM, and at most one of disk.
    """
    alt = require("altair", extra="report")
    rows = list(_rows(surface))
    orders = {t: [s.text for s in surface.sizes[t]] for t in ("hbm", "dram")}
    axis = alt.Axis(grid=False, labelAngle=0, labelOverlap=True)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("dram:O", sort=orders["dram"], title=_title(surface, "dram"), axis=axis),
        y=alt.Y("hbm:O", sort=orders["hbm"][::-1], title=_title(surface, "hbm"), axis=axis),
        tooltip=_tips(alt, surface),
    )
    top = max(row["exclusive"] for row in rows)

    def one(field: str, title: str, scheme: str, most: float, form: str) -> Chart:
        color = alt.Color(
            f"{field}:Q",
            scale=alt.Scale(scheme=scheme, domain=[0, most or 1]),
            legend=None,
        )
        ink = alt.condition(
            f"datum.{field} > {0.55 * most}", alt.value("white"), alt.value("black")
        )
        figure = base.mark_text(fontSize=10.5).encode(
            text=alt.Text(f"{field}:Q", format=form), color=ink
        )
        return (base.mark_rect().encode(color=color) + figure).properties(
            title=alt.Title(title, fontSize=13),
            width=_WIDTH,
            height=_ROW * len(orders["hbm"]),
        )

    maps = [one(rule, f"{rule}: token hit rate", "blues", top, ".1%") for rule in RULES]
    most = max(row["gain"] for row in rows)
    maps.append(one("gain", "what exclusive adds, in points", "oranges", most, "+.1f"))
    return alt.vconcat(*maps).resolve_scale(color="independent")


def lines(surface: Surface) -> Chart:
    """Draw hit rates over the tier with most sizes, a line for each size of the others."""
    alt = require("altair", extra="report")
    over = max(surface.tiers, key=lambda t: len(surface.sizes[t]))
    others = [t for t in surface.tiers if t != over and len(surface.sizes[t]) > 1]
    rows = []
    for row in _rows(surface):
        others_text = ", ".join(f"{_NAMES[t]} {row[t]}" for t in others)
        rows += [
            {**row, "rule": rule, "rate": row[rule], "others": others_text or "all"}
            for rule in RULES
        ]
    names = list(dict.fromkeys(row["others"] for row in rows))
    colors = [theme.PALETTE[i % len(theme.PALETTE)] for i in range(len(names))]
    return (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=True)
        .encode(
            x=alt.X(
                f"{over}:O",
                sort=[s.text for s in surface.sizes[over]],
                title=_title(surface, over),
                axis=alt.Axis(labelAngle=0, labelOverlap=True),
            ),
            y=alt.Y(
                "rate:Q",
                title="token hit rate: hit tokens / prompt tokens",
                axis=alt.Axis(format=theme.PERCENT),
                scale=alt.Scale(domainMin=0),
            ),
            color=alt.Color(
                "others:N",
                scale=alt.Scale(domain=names, range=colors),
                legend=alt.Legend(title=None, columns=3) if len(names) > 1 else None,
            ),
            strokeDash=alt.StrokeDash(
                "rule:N",
                scale=alt.Scale(domain=list(RULES), range=[[1, 0], [6, 3]]),
                legend=alt.Legend(title=None),
            ),
            tooltip=_tips(alt, surface),
        )
        .properties(width=theme.WIDTH, height=theme.HEIGHT)
    )


def _rows(surface: Surface) -> Iterable[JsonObject]:
    texts = {t: {s.blocks: s.text for s in surface.sizes[t]} for t in surface.tiers}
    for point in surface.points:
        yield {
            **{t: texts[t][b] for t, b in point.blocks.items()},
            **{rule: point.hit_rate(rule) for rule in RULES},
            "gain": 100 * point.gain,
            "idle": ", ".join(_NAMES[t] for t in point.idle) or "none",
        }


def _title(surface: Surface, tier: str) -> str:
    plain = all(s.text.replace(",", "").isdecimal() for s in surface.sizes[tier])
    return f"{_NAMES[tier]} (blocks)" if plain else _NAMES[tier]


def _tips(alt: ModuleType, surface: Surface) -> list[Chart]:
    return [
        *(alt.Tooltip(f"{t}:N", title=_title(surface, t)) for t in surface.tiers),
        *(alt.Tooltip(f"{rule}:Q", format=".2%") for rule in RULES),
        alt.Tooltip("gain:Q", title="exclusive adds (points)", format="+.2f"),
        alt.Tooltip("idle:N", title="adds nothing if inclusive"),
    ]
