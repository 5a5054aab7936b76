"""The charts of one replay, or of several side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prefixsim._extras import require
from prefixsim.charts import theme
from prefixsim.charts._data import cumulative, histogram, quantile, survival
from prefixsim.engines.outcome import Weighted
from prefixsim.study.metrics import Metrics
from prefixsim.study.result import Result, labels

if TYPE_CHECKING:
    import altair as alt

__all__ = ["charts", "dashboard"]

_MOST_MARKED = 3  # series up to which lines mark means and medians
_MANY = 2000  # requests from which a histogram has fine bins
_TIME_TICKS = {
    1e-6: "1 µs", 1e-5: "10 µs", 1e-4: "0.1 ms", 1e-3: "1 ms", 1e-2: "10 ms", 0.1: "0.1 s",
    1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h",
    86400: "1 day", 864000: "10 days", 8640000: "100 days",
}  # fmt: skip


@dataclass(frozen=True)
class Replayed:
    """What a chart needs of one replay.

    Attributes
    ----------
    label : str
        Name of the series.
    config : str
        The configuration in words, for the subtitle.
    metrics : Metrics
    summary : mapping
        Of ``metrics``, computed once.
    """

    label: str
    config: str
    metrics: Metrics
    summary: Mapping[str, Any]


def _replayed(results: Sequence[Result]) -> Runs:
    """Return what the charts need of each result."""
    names = labels(results)
    return [
        Replayed(name, result.description, result.metrics, result.summary)
        for name, result in zip(names, results, strict=True)
    ]


Runs = Sequence[Replayed]


def _alt() -> Any:
    return require("altair", extra="report")


def _chart(rows: list[dict[str, Any]]) -> Any:
    alt = _alt()
    return alt.Chart(alt.InlineData(values=rows))


def _heads(runs: Runs, extra: str = "") -> list[str]:
    """Subtitle: the trace where the legend does not name it, and the configuration."""
    lines = [runs[0].label] if len(runs) == 1 else []
    configs = list(dict.fromkeys(run.config for run in runs))
    lines += [configs[0] if len(configs) == 1 else "configurations as in the legend"]
    return [*lines, *([extra] if extra else [])]


def _color(runs: Runs, **look: Any) -> Any:
    alt = _alt()
    labels = [run.label for run in runs]
    colors = [theme.PALETTE[i % len(theme.PALETTE)] for i in range(len(runs))]
    # As many columns as fit over the plot; the theme cuts names that are longer than a line.
    columns = max(1, theme.WIDTH // (7 * max(map(len, labels)) + 45))
    legend = alt.Legend(columns=columns, **look) if len(runs) > 1 else None
    return alt.Color(
        "trace:N", scale=alt.Scale(domain=labels, range=colors), sort=labels, legend=legend
    )


def sharing_fraction(runs: Runs) -> Any:
    """Draw how the share of cached prompt tokens is distributed over requests."""
    alt = _alt()
    bins = 40 if min(len(run.metrics.prompt_len) for run in runs) >= _MANY else 20
    rows = []
    for run in runs:
        bars = histogram(run.metrics.sharing_fraction, bins, 0.0, 1.0)
        if len(runs) > 1:  # an outline needs its right end
            bars.append({**bars[-1], "from": 1.0})
        rows += [{"trace": run.label, **bar} for bar in bars]
    x = alt.X(
        "from:Q",
        bin="binned",
        title="sharing fraction: hit tokens / prompt tokens of a request",
        axis=alt.Axis(format=theme.PERCENT),
        scale=alt.Scale(domain=[0, 1], nice=False),
    )
    y = alt.Y("share:Q", title="share of requests", axis=alt.Axis(format=theme.PERCENT))
    base = _chart(rows).encode(
        y=y.stack(None),
        color=_color(runs),
        tooltip=[
            alt.Tooltip("trace:N"),
            alt.Tooltip("from:Q", format=".1%"),
            alt.Tooltip("to:Q", format=".1%"),
            alt.Tooltip("count:Q", title="requests", format=","),
        ],
    )
    if len(runs) == 1:
        chart = base.mark_bar().encode(x=x, x2="to:Q")
    else:
        outline = {"interpolate": "step-after", "line": {"strokeWidth": 2}, "fillOpacity": 0.12}
        chart = base.mark_area(**outline).encode(x=x)
    means = [
        {"trace": run.label, "x": run.summary["sharing_fraction"]["mean"]}
        for run in runs
        if run.summary["sharing_fraction"]["mean"] is not None
    ]
    for row in means:
        row["text"] = f"mean {row['x']:.1%}"
    return theme.titled(
        alt.layer(chart, *_marks(runs, means, along="x")).properties(
            width=theme.WIDTH, height=theme.HEIGHT
        ),
        "How much of a prompt comes from the cache",
        *_heads(runs),
    )


def _marks(runs: Runs, rows: list[dict[str, Any]], along: str) -> list[Any]:
    """Dashed lines across one axis, each with its text; rows hold ``trace``, ``x``, ``text``.

    With many series they would hide what they explain, and are left out.
    """
    alt = _alt()
    if len(runs) > _MOST_MARKED:
        return []
    rows = [{"left": row["x"] < 0.5, "at": 12 + 18 * i, **row} for i, row in enumerate(rows)]
    base = _chart(rows).encode(**{along: (alt.Y if along == "y" else alt.X)("x:Q")})
    rule = base.mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    rule = rule.encode(color=_color(runs)) if len(runs) > 1 else rule
    layers = [rule]
    for row in rows:
        if along == "y":
            place = {"align": "right", "dx": -2, "dy": -8}
            at = {"y": alt.Y("x:Q"), "x": alt.value(theme.WIDTH)}
        else:
            place = {"align": "left", "dx": 6} if row["left"] else {"align": "right", "dx": -6}
            at = {"x": alt.X("x:Q"), "y": alt.value(row["at"])}
        text = _chart([row]).encode(text="text:N", **at)
        # A white copy below keeps the text apart from the lines it crosses.
        layers.append(text.mark_text(**place, stroke="#FFFFFF", strokeWidth=4, strokeJoin="round"))
        layers.append(text.mark_text(**place, color=theme.INK))
    return layers


def block_hit_count(runs: Runs) -> Any:
    """Draw how many blocks are used by at least so many requests, both axes logarithmic."""
    alt = _alt()
    rows: list[dict[str, Any]] = [
        {"trace": run.label, "requests": float(count), "blocks": float(blocks)}
        for run in runs
        for count, blocks in zip(*survival(run.metrics.block_hit_count), strict=True)
    ]
    chart = _chart(rows).mark_line(interpolate="step-before")
    chart = chart.encode(
        x=alt.X(
            "requests:Q",
            title="block hit count N: requests that contain a block",
            **_decades(max(row["requests"] for row in rows), first=1.0),
        ),
        y=alt.Y(
            "blocks:Q",
            title="unique blocks used by at least N requests",
            **_decades(max(row["blocks"] for row in rows), first=0.7),
        ),
        color=_color(runs),
        tooltip=[
            alt.Tooltip("trace:N"),
            alt.Tooltip("requests:Q", format=","),
            alt.Tooltip("blocks:Q", format=","),
        ],
    )
    return theme.titled(
        chart.properties(width=theme.WIDTH, height=theme.HEIGHT),
        "How often a block is used",
        *_heads(runs),
    )


def _decades(largest: float, first: float) -> dict[str, Any]:
    """Make a log scale from ``first``, labelled at the powers of ten."""
    alt = _alt()
    ticks = [10**k for k in range(int(np.log10(max(largest, 10))) + 1)]
    return {
        "scale": alt.Scale(type="log", domain=[first, max(largest, 10.0) * 1.15], nice=False),
        "axis": alt.Axis(values=ticks, labelExpr=theme.SI, grid=True),
    }


def _left_edge(columns: list[Weighted]) -> float:
    """Choose a labelled time below which hardly a gap lies: a log axis has no place for zero."""
    small = [q for column in columns if (q := quantile(column, 0.01)) > 0]
    if len(small) < len(columns):
        small += [float(c.values[c.values > 0].min(initial=np.inf)) for c in columns]
    return max((t for t in _TIME_TICKS if t <= min(small)), default=min(_TIME_TICKS))


def reuse_gap(runs: Runs) -> Any:
    """Draw the cumulative distribution of the time since a block's previous use."""
    alt = _alt()
    runs = [run for run in runs if len(run.metrics.reuse_gap_s.values)]
    columns = [run.metrics.reuse_gap_s for run in runs]
    floor = _left_edge(columns)
    largest = max(floor * 10, *(float(c.values.max()) for c in columns))
    rows, marks = [], []
    for run, column in zip(runs, columns, strict=True):
        x, share = cumulative(column, floor)
        rows += [
            {"trace": run.label, "gap": float(a), "share": float(b)}
            for a, b in zip(x, share, strict=True)
        ]
        median = run.summary["reuse_gap_s"]["median"]
        at = max(median, floor)
        left = at < floor * (largest / floor) ** 0.2
        marks.append({"trace": run.label, "x": at, "left": left, "text": f"median {_span(median)}"})
    if len(marks) > 1:
        # The slowest curve is below its median there, and the others are above.
        last = max(marks, key=lambda mark: mark["x"])
        if last["x"] < floor * (largest / floor) ** 0.8:
            last |= {"left": True, "at": theme.HEIGHT - 12}
    below = any((c.values < floor).any() for c in columns)
    edge = f" (below {_TIME_TICKS[floor]}: at the left edge)" if below else ""
    values = [t for t in _TIME_TICKS if floor <= t <= largest]
    labels = [f"datum.value == {t!r} ? '{text}'" for t, text in _TIME_TICKS.items()]
    axis = alt.Axis(values=values, labelExpr=" : ".join([*labels, "''"]), grid=True)
    chart = _chart(rows).mark_line(interpolate="step-after")
    chart = chart.encode(
        x=alt.X(
            "gap:Q",
            title=f"reuse gap: time since the block's previous use{edge}",
            scale=alt.Scale(type="log", domain=[floor, largest], nice=False, clamp=True),
            axis=axis,
        ),
        y=alt.Y(
            "share:Q",
            title="share of reuses",
            axis=alt.Axis(format=theme.PERCENT),
            scale=alt.Scale(domain=[0, 1]),
        ),
        color=_color(runs),
        tooltip=[
            alt.Tooltip("trace:N"),
            alt.Tooltip("gap:Q", title="gap (s)", format=",.3~f"),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    return theme.titled(
        alt.layer(chart, *_marks(runs, marks, along="x")).properties(
            width=theme.WIDTH, height=theme.HEIGHT
        ),
        "How soon a block is used again",
        *_heads(runs),
    )


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _time_unit(seconds: float) -> tuple[str, float]:
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 3 * size:
            return unit, size
    return "seconds", 1.0


def hit_rate_over_time(runs: Runs) -> Any:
    """Draw the token hit rate over trace time; for one trace, with the load below."""
    alt = _alt()
    fewest = min(len(run.metrics.prompt_len) for run in runs)
    intervals = int(np.clip(fewest / 20, 8, 80 if len(runs) <= _MOST_MARKED else 25))
    series = [run.metrics.over_time(intervals) for run in runs]
    unit, size = _time_unit(max(float(s.edges[-1]) for s in series))
    rows = []
    for run, s in zip(runs, series, strict=True):
        seconds = np.diff(s.edges)
        for i, rate in enumerate(s.token_hit_rate):
            if np.isnan(rate):
                continue
            rows.append(
                {
                    "trace": run.label,
                    "time": float((s.edges[i] + s.edges[i + 1]) / 2 / size),
                    "rate": float(rate),
                    "hit": float(s.hit_tokens[i] / seconds[i]),
                    "computed": float((s.prompt_tokens[i] - s.hit_tokens[i]) / seconds[i]),
                    "requests": int(s.requests[i]),
                }
            )
    title = f"time since the first request ({unit})"
    x = alt.X("time:Q", title=title, scale=alt.Scale(nice=False))
    line = _chart(rows).mark_line(interpolate="step", point=len(rows) < 12)
    line = line.encode(
        x=x if len(runs) > 1 else x.title(None).axis(labels=False, ticks=False),
        y=alt.Y(
            "rate:Q",
            title="token hit rate",
            axis=alt.Axis(format=theme.PERCENT),
            scale=alt.Scale(domainMin=0),
        ),
        color=_color(runs),
        tooltip=[
            alt.Tooltip("trace:N"),
            alt.Tooltip("time:Q", title=unit, format=".4~f"),
            alt.Tooltip("rate:Q", format=".1%"),
            alt.Tooltip("requests:Q", format=","),
        ],
    )
    overall = [
        {"trace": run.label, "x": run.summary["token_hit_rate"],
         "text": f"overall {run.summary['token_hit_rate']:.1%}"}
        for run in runs
    ]  # fmt: skip
    top = alt.layer(line, *_marks(runs, overall, along="y")).properties(
        width=theme.WIDTH, height=theme.HEIGHT if len(runs) > 1 else 210
    )
    whole = top if len(runs) > 1 else _stacked(top, _load(rows, x))
    return theme.titled(whole, "Token hit rate over time", *_heads(runs))


def _stacked(*charts: Any) -> Any:
    return _alt().vconcat(*charts, spacing=10).resolve_scale(color="independent")


def _load(rows: list[dict[str, Any]], x: Any) -> Any:
    alt = _alt()
    kinds = {"hit": "from the cache", "computed": "computed"}
    long = [
        {"time": row["time"], "tokens": row[key], "what": what}
        for row in rows
        for key, what in kinds.items()
    ]
    color = alt.Color(
        "what:N",
        scale=alt.Scale(domain=list(kinds.values()), range=[theme.PALETTE[0], "#C3CCD6"]),
        legend=alt.Legend(symbolType="square", symbolStrokeWidth=0, offset=4),
    )
    return (
        _chart(long)
        .mark_area(interpolate="step", line=False)
        .encode(
            x=x,
            y=alt.Y(
                "tokens:Q",
                title="prompt tokens / s",
                axis=alt.Axis(labelExpr=theme.SI, tickCount=4),
            ),
            color=color,
            order=alt.Order("what:N", sort="descending"),
        )
        .properties(width=theme.WIDTH, height=110)
    )


_COMPARED: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "token hit rate": lambda s: s["token_hit_rate"],
    "block reuse rate": lambda s: s["block_reuse_rate"],
    "sharing fraction, mean": lambda s: s["sharing_fraction"]["mean"],
    "sharing fraction, median": lambda s: s["sharing_fraction"]["median"],
}


def comparison(runs: Runs) -> Any:
    """Draw the rates of several replays next to each other."""
    alt = _alt()
    rows = [
        {"trace": run.label, "metric": name, "value": value, "text": f"{value:.1%}"}
        for run in runs
        for name, figure in _COMPARED.items()
        if (value := figure(run.summary)) is not None
    ]
    labels = [run.label for run in runs]
    step = 26 if len(runs) <= 3 else 18
    base = _chart(rows).encode(
        y=alt.Y("trace:N", sort=labels, axis=None, scale=alt.Scale(paddingInner=0.12)),
        x=alt.X(
            "value:Q",
            axis=None,
            scale=alt.Scale(domainMin=0),
        ),
    )
    color = _color(runs, symbolType="square", symbolStrokeWidth=0)
    bars = base.mark_bar(cornerRadiusEnd=2).encode(color=color)
    text = base.mark_text(align="left", dx=5, fontSize=12.5).encode(text="text:N")
    rowed = (
        alt.layer(bars, text)
        .properties(width=theme.WIDTH - 120, height=alt.Step(step))
        .facet(
            row=alt.Row(
                "metric:N",
                sort=list(_COMPARED),
                title=None,
                header=alt.Header(
                    labelAngle=0, labelAlign="left", labelFontSize=12.5, labelColor=theme.INK
                ),
            ),
            spacing=10,
        )
    )
    return theme.titled(rowed, "Side by side", *_heads(runs))


_KINDS: dict[str, Callable[[Runs], Any]] = {
    "hit_rate_over_time": hit_rate_over_time,
    "sharing_fraction": sharing_fraction,
    "block_hit_count": block_hit_count,
    "reuse_gap": reuse_gap,
}


def _drawn(runs: Runs) -> dict[str, Any]:
    kinds = dict(_KINDS)
    if len(runs) > 1:
        kinds = {"comparison": comparison, **kinds}
    if not any(run.summary["requests"] for run in runs):
        return {}
    if not any(run.summary["unique_blocks"] for run in runs):
        del kinds["block_hit_count"]
    if not any(run.summary["blocks_reused"] for run in runs):
        del kinds["reuse_gap"]
    return {name: draw(runs) for name, draw in kinds.items()}


def charts(results: Sequence[Result]) -> dict[str, alt.TopLevelMixin]:
    """Return the charts of results that have something to show, by name.

    ``hit_rate_over_time``, ``sharing_fraction``, ``block_hit_count``, ``reuse_gap``, and
    ``comparison`` for more than one replay.
    """
    return {name: theme.themed(chart) for name, chart in _drawn(_replayed(results)).items()}


def dashboard(results: Sequence[Result]) -> alt.TopLevelMixin:
    """Return all charts in one, two in a row."""
    alt = _alt()
    drawn = list(_drawn(_replayed(results)).values())
    if not drawn:
        drawn = [theme.titled(_chart([]).mark_point(), "No requests")]
    rows = [
        alt.hconcat(*drawn[i : i + 2], spacing=48).resolve_scale(color="independent")
        for i in range(0, len(drawn), 2)
    ]
    whole = alt.vconcat(*rows, spacing=40).resolve_scale(color="independent")
    return theme.themed(whole)
