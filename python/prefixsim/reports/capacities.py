"""Figures of what a cache of another size or block size would hit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefixsim import _core
from prefixsim._json import JsonObject
from prefixsim.charts.theme import INK, PERCENT, SI
from prefixsim.reports.figures import (
    LOG_AXIS,
    Figure,
    Line,
    Run,
    Spec,
    capacity_words,
    colour,
    line_table,
    lines,
    note,
    rule,
)

__all__ = ["block_sizes", "hit_curve"]

_CURVE_POINTS, _REPLAYS, _MOST_SIZES = 160, 20, 9
_PLAIN = "format(datum.value, ',~g')"


def _curves_of(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    """Return one run of each pair of trace and block size, with a name for its curves."""
    by_size = {(id(run.forest), run.block_size): run for run in reversed(runs)}
    chosen = list(reversed(by_size.values()))
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
    series: list[Line] = []
    layers: list[Spec] = []
    notes: list[Spec] = []
    sentences = []
    for i, (name, run) in enumerate(_curves_of(runs)):
        comma = f"{name}: " if name else ""
        curve, size = run.forest.curve(run.block_size), _size(run)
        series += _curve_lines(run, comma, colour(i))
        most = curve.ceiling(last_token_rule=run.rule)
        ceiling = most * run.block_size / max(1, run.result.trace.prompt_tokens)
        layers += rule(ceiling)
        notes += note(ceiling, f"{comma}infinite cache {ceiling:.1%}")
        near = curve.capacity_for(int(0.95 * most), last_token_rule=run.rule)
        if near is not None:
            every = capacity_words(run.forest.unique_blocks(run.block_size) * size, unit)
            sentences.append(
                f"{comma}{capacity_words(near * size, unit)} reach 95 % of the infinite cache's "
                f"{ceiling:.1%} with LRU; all distinct blocks take {every}"
            )
    marks = []
    for i, run in enumerate(runs, 1):
        if run.capacity is not None:
            rate, at = run.result.summary["token_hit_rate"], run.capacity * _size(run)
            text = "this cache" if len(runs) == 1 else str(i)
            marks.append({"x": at, "y": rate, "name": run.label, "text": text})
            name = "This cache" if len(runs) == 1 else f"({i}) {run.label}"
            sentences.append(f"{name} has {rate:.1%} with {capacity_words(at, unit)}")
    x = {
        "title": f"cache capacity ({unit})",
        "format": ",.4~g",
        "scale": {"type": "log", "nice": False},
        "axis": {"labelExpr": SI if per_token is None else _PLAIN, **LOG_AXIS},
    }
    highest = max(0.01, *(float(max(line.y)) for line in series))
    y = {
        "title": "token hit rate",
        "format": ".2%",
        # Room above the highest line for its name.
        "scale": {"domain": [0, min(1.0, 1.15 * highest)]},
        "axis": {"format": PERCENT},
    }
    spec = lines(series, x=x, y=y, layers=layers, extra=[*notes, *_marks(marks, unit)])
    table = line_table(series, unit, "token hit rate")
    words = " ".join(f"{part}." for part in sentences)
    return Figure("hit-curve", "Hit rate by cache size", words, spec, table, wide=True)


def _size(run: Run) -> float:
    """Return what a block takes on the axis: 1, or GB."""
    if run.bytes_per_token is None:
        return 1.0
    return run.block_size * run.bytes_per_token / 1e9


def _curve_lines(run: Run, comma: str, shade: str) -> list[Line]:
    """Return the lines of LRU, exact at every point, and of clairvoyant replays."""
    tokens, size, scale = max(1, run.result.trace.prompt_tokens), run.block_size, _size(run)
    unique = max(2, run.forest.unique_blocks(size))
    at = np.unique(np.geomspace(1, unique, _CURVE_POINTS).round()).astype(np.uint64)
    lru = run.forest.curve(size).hit_blocks(at, last_token_rule=run.rule)
    few = np.unique(np.geomspace(max(1, unique / 3000), unique, _REPLAYS).round()).astype(int)
    totals = _core.sweep(
        [run.forest.profile(size)],
        [(0, "clairvoyant", int(c)) for c in few],
        run.result.trace.prompt_len,
        last_token_rule=run.rule,
    )
    best = [hits * size / tokens for hits, *_ in totals]
    return [
        Line(f"{comma}LRU", (at * scale).tolist(), (lru * size / tokens).tolist(), shade),
        Line(f"{comma}clairvoyant", (few * scale).tolist(), best, shade, (5, 4)),
    ]


def _marks(marks: list[JsonObject], unit: str) -> list[Spec]:
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
        totals = _core.sweep(profiles, jobs, trace.prompt_len, last_token_rule=run.rule)
        rates = [tokens / max(1, trace.prompt_tokens) for _, tokens, *_ in totals]
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
    sentences = (
        f"LRU at the same capacity in tokens: {series[-1].name} is best at a block size of "
        f"{at:,} ({best:.1%}) and worst at {min(series[-1].y):.1%}."
    )
    spec = lines(series, x=x, y=y)
    return Figure(
        "block-size",
        "Block size",
        sentences,
        spec,
        line_table(series, "block size", "token hit rate"),
    )
