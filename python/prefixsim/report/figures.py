"""The figures of the report: Vega-Lite specifications of aggregated data, each with words for it.

A figure also carries its data as a table, for readers who cannot see or hover. Colours are those of
:mod:`prefixsim.charts.theme`; the page replaces them in the dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from prefixsim import _core
from prefixsim.charts.theme import GREY, INK, PALETTE, SI
from prefixsim.explain.tables import label
from prefixsim.explain.waterfall import CLASSES, MEANINGS, Waterfall, usable_blocks
from prefixsim.report.tables import Table, written

if TYPE_CHECKING:
    from prefixsim.forest import Forest
    from prefixsim.result import Result

__all__ = [
    "LOG_AXIS",
    "Figure",
    "Run",
    "block_sizes",
    "capacity_words",
    "colour",
    "hit_curve",
    "lines",
    "note",
    "of",
    "rule",
    "waterfall_bars",
]

CLASS_COLOURS = {
    "hit": "#0072B2",
    "cold": "#B8C0CA",
    "isolated": "#CC79A7",
    "rounding": "#56B4E9",
    "last_token": "#7A5195",
    "in_flight": "#009E73",
    "evicted": "#D55E00",
    "policy": "#E69F00",
    "capacity": "#D55E00",
    "preempted": "#5B5B5B",
}
GROUND = "#FFFFFE"
"""The colour below the figures, which the page replaces in the dark."""

HEIGHT = 270
LOG_AXIS = {"tickCount": 6, "grid": False, "labelOverlap": "greedy", "labelSeparation": 8}
_PLAIN = "format(datum.value, ',~g')"
_CURVE_POINTS, _REPLAYS, _TABLE_ROWS = 160, 20, 40
_MOST_SIZES = 9

Spec = dict[str, Any]


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
        return usable_blocks(self.result.config)

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
    x: Sequence[float]
    y: Sequence[float]
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
    names = [line.name for line in series]
    encoding = {
        "x": _axis("x", x),
        "y": _axis("y", y),
        "color": {
            "field": "s",
            "type": "nominal",
            "sort": names,
            "scale": {"domain": names, "range": [line.colour for line in series]},
            "legend": {"title": None} if len(names) > 1 else None,
        },
    }
    if any(tuple(line.dash) != (1, 0) for line in series):
        encoding["strokeDash"] = {
            "field": "s",
            "type": "nominal",
            "sort": names,
            "scale": {"domain": names, "range": [list(line.dash) for line in series]},
            "legend": {"title": None} if len(names) > 1 else None,
        }
    tooltip = [
        *([{"field": "s", "title": "line"}] if len(names) > 1 else []),
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


def line_table(series: Sequence[Line], x: str, y: str, y_kind: Any = "rate") -> Table:
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


def _curves_of(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    """Return one run of each pair of trace and block size, with a name for its curves."""
    found = {(id(run.forest), run.block_size): run for run in reversed(runs)}
    chosen = list(reversed(found.values()))
    traces = len({id(run.forest) for run in chosen}) > 1
    sizes = len({run.block_size for run in chosen}) > 1
    named = []
    for run in chosen:
        words = [run.result.trace.name] if traces else []
        words += [f"blocks of {run.block_size}"] if sizes else []
        named.append((", ".join(words), run))
    return named


def hit_curve(runs: Sequence[Run]) -> Figure:
    """Draw the token hit rate over the capacity: LRU, clairvoyant, ceiling, and the runs."""
    per_token = runs[0].bytes_per_token
    unit = "blocks" if per_token is None else "GB"
    named = _curves_of(runs)
    series, layers, notes, said = [], [], [], []
    for i, (name, run) in enumerate(named):
        tokens, size = max(1, run.result.trace.prompt_tokens), run.block_size
        scale = 1.0 if per_token is None else size * per_token / 1e9
        unique = max(2, run.forest.unique_blocks(size))
        curve = run.forest.curve(size)
        at = np.unique(np.geomspace(1, unique, _CURVE_POINTS).round()).astype(np.uint64)
        lru = curve.hit_blocks(at, last_token_rule=run.rule) * size / tokens
        few = np.unique(np.geomspace(max(1, unique / 3000), unique, _REPLAYS).round()).astype(int)
        jobs = [(0, "clairvoyant", int(c)) for c in few]
        found = _core.sweep(
            [run.forest.profile(size)], jobs, run.result.trace.prompt_len, last_token_rule=run.rule
        )
        best = np.array([hits for hits, *_ in found]) * size / tokens
        ceiling = curve.ceiling(last_token_rule=run.rule) * size / tokens
        comma = f"{name}: " if name else ""
        series.append(Line(f"{comma}LRU", at * scale, lru, colour(i)))  # type: ignore[arg-type]
        series.append(Line(f"{comma}clairvoyant", few * scale, best, colour(i), (5, 4)))  # type: ignore[arg-type]
        layers += rule(ceiling)
        notes += note(ceiling, f"{comma}infinite cache {ceiling:.1%}")
        near = curve.capacity_for(int(0.95 * curve.ceiling(last_token_rule=run.rule)))
        if near is not None:
            said.append(
                f"{comma}{capacity_words(near * scale, unit)} reach 95 % of the infinite cache's "
                f"{ceiling:.1%} with LRU; all distinct blocks take {capacity_words(unique * scale, unit)}"
            )
    marks = []
    for i, run in enumerate(runs):
        if run.capacity is not None:
            scale = 1.0 if per_token is None else run.block_size * per_token / 1e9
            rate = run.result.summary["token_hit_rate"]
            marks.append({"x": run.capacity * scale, "y": rate, "name": run.label,
                          "text": "this cache" if len(runs) == 1 else str(i + 1)})  # fmt: skip
            name = "This cache" if len(runs) == 1 else f"({i + 1}) {run.label}"
            said.append(f"{name} has {rate:.1%} with {capacity_words(marks[-1]['x'], unit)}")
    x = {
        "title": f"cache capacity ({unit})",
        "format": ",.4~g",
        "scale": {"type": "log", "nice": False},
        "axis": {"labelExpr": SI if per_token is None else _PLAIN, **LOG_AXIS},
    }
    y = {
        "title": "token hit rate",
        "format": ".2%",
        # Room above the highest line for its name.
        "scale": {"domain": [0, min(1.0, 1.15 * max(0.01, *(max(line.y) for line in series)))]},
        "axis": {"format": ".0%"},
    }
    spec = lines(series, x=x, y=y, layers=layers, extra=[*notes, *_marks(marks, unit)])
    return Figure(
        "hit-curve",
        "Hit rate by cache size",
        " ".join(f"{part}." for part in said),
        spec,
        line_table(series, unit, "token hit rate"),
        wide=True,
    )


def _marks(marks: list[dict[str, Any]], unit: str) -> list[Spec]:
    if not marks:
        return []
    at = {
        "x": {"field": "x", "type": "quantitative"},
        "y": {"field": "y", "type": "quantitative"},
    }
    tooltip = [
        {"field": "name", "title": "replay"},
        {"field": "x", "type": "quantitative", "title": f"capacity ({unit})", "format": ",.4~g"},
        {"field": "y", "type": "quantitative", "title": "token hit rate", "format": ".2%"},
    ]
    point = {"type": "point", "filled": True, "size": 110, "color": INK, "shape": "diamond"}
    text = {"type": "text", "align": "left", "dx": 9, "dy": 9, "color": INK, "fontWeight": 600}
    values = {"values": marks}
    drawn: list[Spec] = [
        {"data": values, "mark": {"type": "rule", "color": INK, "opacity": 0.35},
         "encoding": {"x": at["x"]}},
        {"data": values, "mark": point, "encoding": {**at, "tooltip": tooltip}},
    ]  # fmt: skip
    drawn.append({"data": values, "mark": text, "encoding": {**at, "text": {"field": "text"}}})
    return drawn


def capacity_words(value: float, unit: str) -> str:
    """Write a capacity for people."""
    return f"{value:,.0f} {unit}" if unit == "blocks" or value >= 100 else f"{value:.3g} {unit}"


def of(run: Run, runs: Sequence[Run], words: str) -> str:
    """Return a sentence about a run, which is named where there are several."""
    if len(runs) == 1:
        return f"{words[:1].upper()}{words[1:]}."
    return f"{run.label}: {words}."


def waterfall_bars(runs: Sequence[Run]) -> Figure:
    """Draw the waterfall: a step for each class; for several runs, one stacked bar each."""
    parts = [(run, _parts(run.fall)) for run in runs]
    rows = []
    for run, steps in parts:
        done, whole = 0, max(1, run.fall.prompt_tokens)
        for name, tokens, meaning in steps:
            rows.append(
                {"run": run.label, "class": name, "from": done / whole, "to": (done + tokens) / whole,
                 "share": tokens / whole, "tokens": tokens, "meaning": meaning,
                 "text": f"{tokens / whole:.1%}"}
            )  # fmt: skip
            done += tokens
    names = list(dict.fromkeys(row["class"] for row in rows))
    colours = [CLASS_COLOURS[_plain(name)] for name in names]
    one = len(runs) == 1
    y = "class" if one else "run"
    order = names if one else [run.label for run in runs]
    encoding = {
        "y": {"field": y, "type": "nominal", "sort": order, "title": None,
              "axis": {"labelLimit": 220, "domain": False, "ticks": False}},
        "x": {"field": "from", "type": "quantitative", "title": "share of all prompt tokens",
              "axis": {"format": ".0%"}, "scale": {"domain": [0, 1]}},
        "x2": {"field": "to"},
        "color": {"field": "class", "type": "nominal", "sort": names,
                  "scale": {"domain": names, "range": colours},
                  "legend": None if one else {"title": None, "symbolType": "square", "columns": 5}},
        "tooltip": [
            *([] if one else [{"field": "run", "title": "replay"}]),
            {"field": "class"},
            {"field": "tokens", "type": "quantitative", "format": ","},
            {"field": "share", "type": "quantitative", "format": ".2%"},
            {"field": "meaning"},
        ],
    }  # fmt: skip
    layers: list[Spec] = [{"mark": {"type": "bar", "cornerRadius": 1}, "encoding": encoding}]
    if one:
        text = {"type": "text", "fontSize": 12, "color": INK,
                "align": {"expr": "datum.to > 0.88 ? 'right' : 'left'"},
                "dx": {"expr": "datum.to > 0.88 ? -6 : 6"}}  # fmt: skip
        at = {"field": "to", "type": "quantitative"}
        end = {**at, "field": "from"}
        for test, place in (("datum.to <= 0.88", at), ("datum.to > 0.88", end)):
            layers.append(
                {"transform": [{"filter": test}], "mark": text,
                 "encoding": {"y": encoding["y"], "x": place, "text": {"field": "text"}}}
            )  # fmt: skip
    said = " ".join(of(run, runs, _most_lost(run)) for run in runs)
    table = [
        [row["run"], row["class"], written(row["tokens"], "count"), written(row["share"], "rate"),
         row["meaning"]]
        for row in rows
    ]  # fmt: skip
    spec = {
        "data": {"values": rows},
        "width": "container",
        "height": 34 * len(order) + 60,
        "layer": layers,
    }
    return Figure(
        "waterfall",
        "Where every prompt token went",
        said,
        spec,
        Table("", ["replay", "class", "tokens", "share", ""], table, words=2),
        wide=True,
    )


def _most_lost(run: Run) -> str:
    fall, whole = run.fall, max(1, run.fall.prompt_tokens)
    worst = max(CLASSES[1:], key=lambda name: fall.totals[name])
    return (
        f"{fall.totals['hit'] / whole:.1%} of the prompt tokens were served from the cache; most of "
        f"the others, {fall.totals[worst] / whole:.1%}, are {label(worst)}: {MEANINGS[worst]}"
    )


def _plain(name: str) -> str:
    return name.split(": ")[-1].replace(" ", "_")


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


def block_sizes(runs: Sequence[Run]) -> Figure | None:
    """Draw the hit rate over the block size, of an infinite cache and at the runs' capacities."""
    series: list[Line] = []
    chosen = {id(run.forest): run for run in reversed(runs)}
    for i, run in enumerate(reversed(chosen.values())):
        trace, unit = run.result.trace, run.result.trace.id_block_size
        if run.result.config["partial_blocks"]:
            return None
        base = [unit * 2**k for k in range(11)]
        low = max(unit, run.block_size // 16)
        sizes = [b for b in dict.fromkeys([unit, *base, run.block_size]) if b == unit or b >= low]
        sizes = sorted(sizes)[:_MOST_SIZES]
        profiles = [run.forest.profile(b) for b in sizes]
        jobs: list[tuple[int, str, int | None]] = [(k, "lru", None) for k in range(len(sizes))]
        if run.capacity is not None:
            jobs += [
                (k, "lru", max(1, run.capacity * run.block_size // b)) for k, b in enumerate(sizes)
            ]
        found = _core.sweep(profiles, jobs, trace.prompt_len, last_token_rule=run.rule)
        rates = [tokens / max(1, trace.prompt_tokens) for _, tokens, *_ in found]
        prefix = f"{trace.name}: " if len(chosen) > 1 else ""
        series.append(Line(f"{prefix}infinite", sizes, rates[: len(sizes)], colour(i), (5, 4)))
        if run.capacity is not None:
            series.append(Line(f"{prefix}this capacity", sizes, rates[len(sizes) :], colour(i)))
    shown = sorted({int(v) for line in series for v in line.x})
    x = {
        "title": "block size (tokens)",
        "format": ",",
        "scale": {"type": "log", "base": 2, "nice": False},
        "axis": {"values": shown, "grid": False, "format": ",", "labelOverlap": True},
    }
    y = {
        "title": "token hit rate",
        "format": ".2%",
        "scale": {"zero": False},
        "axis": {"format": ".1%"},
    }
    best = max(series[-1].y)
    at = series[-1].x[list(series[-1].y).index(best)]
    said = (
        f"LRU at the same capacity in tokens: {series[-1].name} is best at blocks of {at:,} tokens "
        f"({best:.1%}) and worst at {min(series[-1].y):.1%}."
    )
    spec = lines(series, x=x, y=y)
    return Figure(
        "block-size", "Block size", said, spec, line_table(series, "block size", "token hit rate")
    )
