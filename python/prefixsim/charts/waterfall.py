"""The chart of the loss waterfall."""

from __future__ import annotations

from collections.abc import Sequence

from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.lines import ROWS
from prefixsim.charts.runs import Run, altair
from prefixsim.charts.theme import Chart
from prefixsim.explanations.classes import CLASSES, MEANINGS, label
from prefixsim.explanations.waterfall import Waterfall

__all__ = ["height", "rows_of", "waterfall_bars"]

_COLOURS = {
    "hit": theme.BLUE,
    "cold": theme.PALE,
    "isolated": theme.PINK,
    "rounding": theme.SKY,
    "last_token": theme.PURPLE,
    "in_flight": theme.GREEN,
    "window": theme.ORANGE,
    "state": theme.PURPLE,
    "alignment": theme.SKY,
    "speculative_drop": theme.PINK,
    "evicted": theme.RED,
    "policy": theme.ORANGE,
    "capacity": theme.RED,
    "preempted": theme.SLATE,
}
_NEAR_THE_EDGE = 0.88
"""Share from which on a bar's figure stands on its left."""


def rows_of(runs: Sequence[Run]) -> list[JsonObject]:
    """Return the classes of each run: their tokens and shares, and where their bars lie."""
    rows: list[JsonObject] = []
    for run in runs:
        done, whole = 0, max(1, run.fall.prompt_tokens)
        for name, tokens, meaning in _parts(run.fall):
            ends = {"from": done / whole, "to": (done + tokens) / whole}
            share = {"share": tokens / whole, "text": f"{tokens / whole:.1%}"}
            row = {"run": run.label, "class": name, "tokens": tokens, "meaning": meaning}
            rows.append({**row, **ends, **share})
            done += tokens
    return rows


def height(rows: Sequence[JsonObject]) -> int:
    """Return the pixels that bars of these rows take."""
    return 34 * len(_order(rows)) + 60


def waterfall_bars(rows: list[JsonObject]) -> Chart:
    """Draw the waterfall: a step for each class; for several runs, one stacked bar each.

    Its data are :data:`ROWS`, to be replaced by the rows.
    """
    alt = altair()
    one = _one(rows)
    names = list(dict.fromkeys(row["class"] for row in rows))
    scale = alt.Scale(domain=names, range=[_COLOURS[_plain(name)] for name in names])
    tips = [
        *([] if one else [alt.Tooltip("run:N", title="replay")]),
        alt.Tooltip("class:N"),
        alt.Tooltip("tokens:Q", format=","),
        alt.Tooltip("share:Q", format=".2%"),
        alt.Tooltip("meaning:N"),
    ]
    y = alt.Y(
        "class:N" if one else "run:N",
        sort=_order(rows),
        title=None,
        axis=alt.Axis(labelLimit=220, domain=False, ticks=False),
    )
    bars = alt.Chart().mark_bar(cornerRadius=1)
    bars = bars.encode(
        y=y,
        x=alt.X(
            "from:Q",
            title="share of all prompt tokens",
            axis=alt.Axis(format=theme.PERCENT),
            scale=alt.Scale(domain=[0, 1]),
        ),
        x2="to",
        color=alt.Color(
            "class:N",
            sort=names,
            scale=scale,
            legend=None if one else alt.Legend(title=None, symbolType="square"),
        ),
        tooltip=tips,
    )
    return alt.layer(bars, *(_texts(y) if one else []), data=alt.NamedData(ROWS))


def _texts(y: Chart) -> list[Chart]:
    """Return layers: the share of each class behind its bar, before it at the edge."""
    alt = altair()
    layers = []
    for sign, align, end in (("<=", "left", "to"), (">", "right", "from")):
        texts = alt.Chart().transform_filter(f"datum.to {sign} {_NEAR_THE_EDGE}")
        texts = texts.mark_text(
            fontSize=12, color=theme.INK, align=align, dx=6 if align == "left" else -6
        )
        layers.append(texts.encode(y=y, x=f"{end}:Q", text="text:N"))
    return layers


def _one(rows: Sequence[JsonObject]) -> bool:
    return len({row["run"] for row in rows}) == 1


def _order(rows: Sequence[JsonObject]) -> list[str]:
    key = "class" if _one(rows) else "run"
    return list(dict.fromkeys(row[key] for row in rows))


def _plain(name: str) -> str:
    return name.rpartition(": ")[2].replace(" ", "_")


def _parts(fall: Waterfall) -> list[tuple[str, int, str]]:
    parts = []
    for name in CLASSES:
        tokens = fall.totals[name]
        if name == "evicted" and tokens and fall.splits_evicted:
            parts.append(("evicted: policy", fall.evicted_policy,
                          "the best policy would still have had them"))  # fmt: skip
            parts.append(("evicted: capacity", fall.evicted_capacity,
                          "no policy could have kept them in this capacity"))  # fmt: skip
        elif tokens:
            parts.append((label(name), tokens, MEANINGS[name]))
    return parts
