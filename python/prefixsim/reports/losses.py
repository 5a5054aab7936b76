"""The figure of the loss waterfall."""

from __future__ import annotations

from collections.abc import Sequence

from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.explanations.classes import CLASSES, MEANINGS, label
from prefixsim.explanations.waterfall import Waterfall
from prefixsim.reports.figures import Figure, Run, Spec, of
from prefixsim.table import Table, written

__all__ = ["waterfall_bars"]

_COLOURS = {
    "hit": theme.BLUE,
    "cold": theme.PALE,
    "isolated": theme.PINK,
    "rounding": theme.SKY,
    "last_token": theme.PURPLE,
    "in_flight": theme.GREEN,
    "evicted": theme.RED,
    "policy": theme.ORANGE,
    "capacity": theme.RED,
    "preempted": theme.SLATE,
}
_NEAR_THE_EDGE = 0.88
"""Share from which on a bar's figure stands on its left."""


def waterfall_bars(runs: Sequence[Run]) -> Figure:
    """Draw the waterfall: a step for each class; for several runs, one stacked bar each."""
    rows: list[JsonObject] = []
    for run in runs:
        done, whole = 0, max(1, run.fall.prompt_tokens)
        for name, tokens, meaning in _parts(run.fall):
            ends = {"from": done / whole, "to": (done + tokens) / whole}
            share = {"share": tokens / whole, "text": f"{tokens / whole:.1%}"}
            row = {"run": run.label, "class": name, "tokens": tokens, "meaning": meaning}
            rows.append({**row, **ends, **share})
            done += tokens
    one = len(runs) == 1
    order = [row["class"] for row in rows] if one else [run.label for run in runs]
    encoding = _encoding(rows, order, one)
    layers: list[Spec] = [{"mark": {"type": "bar", "cornerRadius": 1}, "encoding": encoding}]
    if one:
        layers += _texts(encoding["y"])
    spec = {
        "data": {"values": rows},
        "width": "container",
        "height": 34 * len(order) + 60,
        "layer": layers,
    }
    cells = [
        [str(row["run"]), str(row["class"]), written(row["tokens"], "count"),
         written(row["share"], "rate"), str(row["meaning"])]
        for row in rows
    ]  # fmt: skip
    table = Table("", ["replay", "class", "tokens", "share", ""], cells, words=2)
    words = " ".join(of(run, runs, _most_lost(run)) for run in runs)
    return Figure("waterfall", "Where every prompt token went", words, spec, table, wide=True)


def _encoding(rows: list[JsonObject], order: list[str], one: bool) -> Spec:
    names = list(dict.fromkeys(row["class"] for row in rows))
    colours = [_COLOURS[_plain(name)] for name in names]
    return {
        "y": {"field": "class" if one else "run", "type": "nominal", "sort": order, "title": None,
              "axis": {"labelLimit": 220, "domain": False, "ticks": False}},
        "x": {"field": "from", "type": "quantitative", "title": "share of all prompt tokens",
              "axis": {"format": theme.PERCENT}, "scale": {"domain": [0, 1]}},
        "x2": {"field": "to"},
        "color": {"field": "class", "type": "nominal", "sort": names,
                  "scale": {"domain": names, "range": colours},
                  "legend": None if one else {"title": None, "symbolType": "square"}},
        "tooltip": [
            *([] if one else [{"field": "run", "title": "replay"}]),
            {"field": "class"},
            {"field": "tokens", "type": "quantitative", "format": ","},
            {"field": "share", "type": "quantitative", "format": ".2%"},
            {"field": "meaning"},
        ],
    }  # fmt: skip


def _texts(y: Spec) -> list[Spec]:
    """Return layers: the share of each class behind its bar, before it at the edge."""
    layers = []
    for sign, align, end in (("<=", "left", "to"), (">", "right", "from")):
        mark = {"type": "text", "fontSize": 12, "color": theme.INK, "align": align,
                "dx": 6 if align == "left" else -6}  # fmt: skip
        layers.append(
            {
                "transform": [{"filter": f"datum.to {sign} {_NEAR_THE_EDGE}"}],
                "mark": mark,
                "encoding": {
                    "y": y,
                    "x": {"field": end, "type": "quantitative"},
                    "text": {"field": "text"},
                },
            }
        )
    return layers


def _most_lost(run: Run) -> str:
    fall, whole = run.fall, max(1, run.fall.prompt_tokens)
    worst = max(CLASSES[1:], key=lambda name: fall.totals[name])
    return (
        f"{fall.totals['hit'] / whole:.1%} of the prompt tokens were served from the cache; most "
        f"of the others, {fall.totals[worst] / whole:.1%}, are {label(worst)}: {MEANINGS[worst]}"
    )


def _plain(name: str) -> str:
    return name.rpartition(": ")[2].replace(" ", "_")


def _parts(fall: Waterfall) -> list[tuple[str, int, str]]:
    parts = []
    for name in CLASSES:
        tokens = fall.totals[name]
        if name == "evicted" and tokens:
            parts.append(("evicted: policy", fall.evicted_policy,
                          "the best policy would still have had them"))  # fmt: skip
            parts.append(("evicted: capacity", fall.evicted_capacity,
                          "no policy could have kept them in this capacity"))  # fmt: skip
        elif tokens:
            parts.append((label(name), tokens, MEANINGS[name]))
    return parts
