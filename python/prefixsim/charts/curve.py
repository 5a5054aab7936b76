"""The charts of hit curves: of curves by themselves, and of replays among their curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefixsim import _core
from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.lines import (
    LOG_AXIS,
    PERCENT_AXIS,
    Line,
    LineChart,
    Quantity,
    colour,
    note,
    rule,
)
from prefixsim.charts.runs import Run, altair, chart_of, distinct, of_blocks, of_trace, on_file
from prefixsim.charts.theme import Chart
from prefixsim.study.hit_curve import Axis, Curve

__all__ = [
    "block_size",
    "capacity_axis",
    "capacity_marks",
    "ceiling_of",
    "curves_of",
    "draw",
    "hit_curve",
    "size_of",
]

_LRU_POINTS, _REPLAYS = 240, 48
_PAGE_POINTS, _PAGE_REPLAYS = 160, 20
_MOST_SIZES = 9
_DASHED = (5, 4)
_PLAIN = "format(datum.value, ',~g')"


def draw(curves: Sequence[Curve], axis: Axis, bytes_per_token: float | None) -> Chart:
    """Draw token hit rates over a logarithmic capacity; see :meth:`Curves.plot`."""
    series = []
    for i, curve in enumerate(curves):
        size = {"blocks": 1.0, "tokens": float(curve.block_size)}
        if bytes_per_token is not None:
            size["GB"] = curve.block_size * bytes_per_token / 1e9
        lru = curve.policy == "lru"
        points = curve.sampled(_LRU_POINTS if lru else _REPLAYS)
        x = [point.capacity_blocks * size[axis] for point in points]
        y = [point.token_hit_rate for point in points]
        series.append(Line(curve.label, x, y, colour(i), (1, 0) if lru else _DASHED))
    tops = {curve.block_size: curve.ceiling for curve in curves}
    ceilings = [(top, f"infinite cache {top:.1%}") for top in dict.fromkeys(tops.values())]
    chart = _by_capacity(series, axis, ceilings, [])
    trace = curves[0].forest.trace.name
    subtitle = trace if len(curves) > 1 else f"{trace} · {curves[0].label}"
    return theme.themed(theme.titled(on_file(chart), "Hit rate by cache size", subtitle))


def _by_capacity(
    series: Sequence[Line], unit: str, ceilings: Sequence[tuple[float, str]], above: Sequence[Chart]
) -> LineChart:
    """Draw hit rates over a capacity, with the names of the ceilings above their lines."""
    highest = max(0.01, *(float(max(line.y)) for line in series))
    names = [layer for rate, name in ceilings for layer in note(rate, name)]
    return LineChart(
        "hit-curve",
        series,
        x=capacity_axis(f"cache capacity ({unit})", unit),
        # Room above the highest line for its name.
        y=Quantity(
            "token hit rate", ".2%", {"domain": [0, min(1.0, 1.15 * highest)]}, PERCENT_AXIS
        ),
        below=[rule(rate) for rate, _ in ceilings],
        above=[*names, *above],
    )


def capacity_axis(title: str, unit: str) -> Quantity:
    """Return a logarithmic axis of capacities in blocks, tokens or GB."""
    label = _PLAIN if unit == "GB" else theme.SI
    scale = {"type": "log", "nice": False}
    return Quantity(title, ",.4~g", scale, {"labelExpr": label, **LOG_AXIS})


def curves_of(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    """Return one run of each pair of trace and block size, with a name for its curves."""
    chosen = distinct(runs, of_blocks)
    traces = len({id(run.forest) for run in chosen}) > 1
    sizes = len({run.block_size for run in chosen}) > 1
    named = []
    for run in chosen:
        words = [run.result.trace.name] if traces else []
        words += [f"blocks of {run.block_size}"] if sizes else []
        named.append((", ".join(words), run))
    return named


def hit_curve(runs: Sequence[Run]) -> LineChart:
    """Draw the token hit rate over the capacity: LRU, clairvoyant, ceiling, and the runs."""
    unit = "blocks" if runs[0].bytes_per_token is None else "GB"
    series: list[Line] = []
    ceilings: list[tuple[float, str]] = []
    for i, (name, run) in enumerate(curves_of(runs)):
        prefix = f"{name}: " if name else ""
        series += _curve_lines(run, prefix, colour(i))
        rate = ceiling_of(run)
        ceilings.append((rate, f"{prefix}infinite cache {rate:.1%}"))
    marks = [
        {
            "x": run.capacity * size_of(run),
            "y": run.result.summary["token_hit_rate"],
            "name": run.label,
            "text": "this cache" if len(runs) == 1 else str(i),
        }
        for i, run in enumerate(runs, 1)
        if run.capacity is not None
    ]
    return _by_capacity(series, unit, ceilings, capacity_marks(marks, unit))


def ceiling_of(run: Run) -> float:
    """Return the token hit rate of an infinite cache with a run's block size, warm-up included."""
    most = run.forest.curve(run.block_size).ceiling(last_token_rule=run.last_token_rule)
    return most * run.block_size / max(1, run.result.trace.prompt_tokens)


def size_of(run: Run) -> float:
    """Return what a block takes on the axis of capacities: 1, or GB."""
    if run.bytes_per_token is None:
        return 1.0
    return run.block_size * run.bytes_per_token / 1e9


def _curve_lines(run: Run, prefix: str, shade: str) -> list[Line]:
    """Return the lines of LRU, exact at every point, and of clairvoyant replays."""
    tokens, size, scale = max(1, run.result.trace.prompt_tokens), run.block_size, size_of(run)
    unique = max(2, run.forest.unique_blocks(size))
    at = np.unique(np.geomspace(1, unique, _PAGE_POINTS).round()).astype(np.uint64)
    lru = run.forest.curve(size).hit_blocks(at, last_token_rule=run.last_token_rule)
    few = np.unique(np.geomspace(max(1, unique / 3000), unique, _PAGE_REPLAYS).round()).astype(int)
    totals = _core.sweep(
        [run.forest.profile(size)],
        [(0, "clairvoyant", int(c)) for c in few],
        run.result.trace.prompt_len,
        last_token_rule=run.last_token_rule,
    )
    best = [hits * size / tokens for hits, *_ in totals]
    return [
        Line(f"{prefix}LRU", (at * scale).tolist(), (lru * size / tokens).tolist(), shade),
        Line(f"{prefix}clairvoyant", (few * scale).tolist(), best, shade, _DASHED),
    ]


def capacity_marks(marks: list[JsonObject], unit: str) -> list[Chart]:
    """Return layers: replays, as diamonds with a line down to their capacity.

    A mark has ``x``, ``y``, the ``text`` beside it and the ``name`` of the replay.
    """
    if not marks:
        return []
    alt = altair()
    base = chart_of(marks).encode(x="x:Q")
    tips = [
        alt.Tooltip("name:N", title="replay"),
        alt.Tooltip("x:Q", title=f"capacity ({unit})", format=",.4~g"),
        alt.Tooltip("y:Q", title="token hit rate", format=".2%"),
    ]
    point = base.mark_point(filled=True, size=110, color=theme.INK, shape="diamond")
    text = base.mark_text(align="left", dx=9, dy=9, color=theme.INK, fontWeight=600)
    return [
        base.mark_rule(color=theme.INK, opacity=0.35),
        point.encode(y="y:Q", tooltip=tips),
        text.encode(y="y:Q", text="text:N"),
    ]


def block_size(runs: Sequence[Run]) -> LineChart | None:
    """Draw the hit rate over the block size, of an infinite cache and at the runs' capacities.

    None where a part of a block may hit.
    """
    series: list[Line] = []
    chosen = distinct(runs, of_trace)
    if any(run.result.config["partial_blocks"] for run in chosen):
        return None
    for i, run in enumerate(chosen):
        prefix = f"{run.result.trace.name}: " if len(chosen) > 1 else ""
        series += _block_size_lines(run, prefix, colour(i))
    shown = sorted({int(v) for line in series for v in line.x})
    return LineChart(
        "block-size",
        series,
        x=Quantity(
            "block size (tokens)",
            ",",
            {"type": "log", "base": 2, "nice": False},
            {"values": shown, "grid": False, "format": ",", "labelOverlap": True},
        ),
        y=Quantity("token hit rate", ".2%", {"zero": False}, {"format": ".1%"}),
    )


def _block_size_lines(run: Run, prefix: str, shade: str) -> list[Line]:
    trace, unit = run.result.trace, run.result.trace.id_block_size
    base = [unit * 2**k for k in range(11)]
    low = max(unit, run.block_size // 16)
    sizes = [b for b in dict.fromkeys([unit, *base, run.block_size]) if b == unit or b >= low]
    sizes = sorted(sizes)[:_MOST_SIZES]
    profiles = [run.forest.profile(b) for b in sizes]
    jobs: list[tuple[int, str, int | None]] = [(k, "lru", None) for k in range(len(sizes))]
    if run.capacity is not None:
        tokens = run.capacity * run.block_size
        jobs += [(k, "lru", max(1, tokens // b)) for k, b in enumerate(sizes)]
    totals = _core.sweep(profiles, jobs, trace.prompt_len, last_token_rule=run.last_token_rule)
    rates = [hits / max(1, trace.prompt_tokens) for _, hits, *_ in totals]
    lines = [Line(f"{prefix}infinite", sizes, rates[: len(sizes)], shade, _DASHED)]
    if run.capacity is not None:
        lines.append(Line(f"{prefix}this capacity", sizes, rates[len(sizes) :], shade))
    return lines
