"""What the charts of replays have in common: series, their colours, subtitles, marked values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.theme import Chart
from prefixsim.study.metrics import Metrics
from prefixsim.study.result import Result, labels

__all__ = [
    "MOST_MARKED",
    "Replayed",
    "Runs",
    "altair",
    "chart_of",
    "color_of",
    "heads",
    "marks",
    "replayed",
]

MOST_MARKED = 3
"""Series up to which lines mark means and medians."""


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
    summary: JsonObject


Runs = Sequence[Replayed]


def replayed(results: Sequence[Result]) -> Runs:
    """Return what the charts need of each result."""
    names = labels(results)
    return [
        Replayed(name, result.description, result.metrics, result.summary)
        for name, result in zip(names, results, strict=True)
    ]


def altair() -> ModuleType:
    return require("altair", extra="report")


def chart_of(rows: list[JsonObject]) -> Chart:
    alt = altair()
    return alt.Chart(alt.InlineData(values=rows))


def heads(runs: Runs, extra: str = "") -> list[str]:
    """Subtitle: the trace where the legend does not name it, and the configuration."""
    lines = [runs[0].label] if len(runs) == 1 else []
    configs = list(dict.fromkeys(run.config for run in runs))
    lines += [configs[0] if len(configs) == 1 else "configurations as in the legend"]
    return [*lines, *([extra] if extra else [])]


def color_of(runs: Runs, **look: object) -> Chart:
    alt = altair()
    labels = [run.label for run in runs]
    colors = [theme.PALETTE[i % len(theme.PALETTE)] for i in range(len(runs))]
    # As many columns as fit over the plot; the theme cuts names that are longer than a line.
    columns = max(1, theme.WIDTH // (7 * max(map(len, labels)) + 45))
    legend = alt.Legend(columns=columns, **look) if len(runs) > 1 else None
    return alt.Color(
        "trace:N", scale=alt.Scale(domain=labels, range=colors), sort=labels, legend=legend
    )


def marks(runs: Runs, rows: list[JsonObject], along: str) -> list[Chart]:
    """Dashed lines across one axis, each with its text; rows hold ``trace``, ``x``, ``text``.

    With many series they would hide what they explain, and are left out.
    """
    alt = altair()
    if len(runs) > MOST_MARKED:
        return []
    rows = [{"left": row["x"] < 0.5, "at": 12 + 18 * i, **row} for i, row in enumerate(rows)]
    base = chart_of(rows).encode(**{along: (alt.Y if along == "y" else alt.X)("x:Q")})
    rule = base.mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    rule = rule.encode(color=color_of(runs)) if len(runs) > 1 else rule
    layers = [rule]
    for row in rows:
        if along == "y":
            place = {"align": "right", "dx": -2, "dy": -8}
            at = {"y": alt.Y("x:Q"), "x": alt.value(theme.WIDTH)}
        else:
            place = {"align": "left", "dx": 6} if row["left"] else {"align": "right", "dx": -6}
            at = {"x": alt.X("x:Q"), "y": alt.value(row["at"])}
        text = chart_of([row]).encode(text="text:N", **at)
        # A white copy below keeps the text apart from the lines it crosses.
        layers.append(
            text.mark_text(**place, stroke=theme.GROUND, strokeWidth=4, strokeJoin="round")
        )
        layers.append(text.mark_text(**place, color=theme.INK))
    return layers
