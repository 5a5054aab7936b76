"""What the charts of replays have in common: the replays, subtitles, marked values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.charts import theme
from prefixsim.charts.lines import LineChart
from prefixsim.charts.theme import Chart
from prefixsim.explanations.losses import usable_blocks
from prefixsim.explanations.waterfall import Waterfall
from prefixsim.study.result import Result, labels

if TYPE_CHECKING:
    from prefixsim.forest import Forest

__all__ = [
    "Mark",
    "Run",
    "altair",
    "chart_of",
    "distinct",
    "heads",
    "legend_columns",
    "mark_layers",
    "of_blocks",
    "of_trace",
    "on_file",
    "runs_of",
]

MOST_MARKED = 3
"""Replays up to which lines mark means and medians."""


@dataclass(frozen=True, eq=False)
class Run:
    """One replay in a chart.

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
    def last_token_rule(self) -> bool:
        """Whether the last token is always computed."""
        return bool(self.result.config["last_token_rule"])

    @property
    def capacity(self) -> int | None:
        """Usable blocks."""
        return usable_blocks(self.result)

    @cached_property
    def ceiling(self) -> float:
        """Token hit rate of an infinite cache of the same kind, over the requests that count."""
        totals = self.fall.totals
        kept = ("hit", "preempted", "evicted", "in_flight")
        return sum(totals[name] for name in kept) / max(1, self.fall.prompt_tokens)


def runs_of(results: Sequence[Result]) -> list[Run]:
    """Return results with the names that tell them apart in a legend."""
    return [Run(name, result) for name, result in zip(labels(results), results, strict=True)]


def distinct(runs: Sequence[Run], key: Callable[[Run], Hashable]) -> list[Run]:
    """Return the first run of each key, in order."""
    return list({key(run): run for run in reversed(runs)}.values())[::-1]


def of_trace(run: Run) -> Hashable:
    """Return what tells the trace of a run from others: a key for :func:`distinct`."""
    return id(run.forest)


def of_blocks(run: Run) -> Hashable:
    """Return what tells the blocks of a run from others: a key for :func:`distinct`."""
    return (id(run.forest), run.block_size)


def altair() -> ModuleType:
    """Return Altair, which is loaded when something is drawn."""
    return require("altair", extra="report")


def chart_of(rows: list[JsonObject]) -> Chart:
    """Return an empty chart of some data."""
    alt = altair()
    return alt.Chart(alt.InlineData(values=rows))


def heads(runs: Sequence[Run]) -> list[str]:
    """Subtitle: the trace where the legend does not name it, and the configuration."""
    configs = list(dict.fromkeys(run.result.description for run in runs))
    config = configs[0] if len(configs) == 1 else "configurations as in the legend"
    return [runs[0].label, config] if len(runs) == 1 else [config]


def legend_columns(names: Sequence[str]) -> int:
    """Return as many columns as fit over the plot; the theme cuts names longer than a line."""
    return max(1, theme.WIDTH // (7 * max(map(len, names), default=0) + 45))


@dataclass(frozen=True)
class Mark:
    """A value of one line that a chart in a file names, since nobody can point at it there.

    Attributes
    ----------
    value : float
        Along the axis.
    text : str
    colour : str
        Of the line.
    left : bool
        Whether it lies at the left of the chart: its text then stands on its right.
    """

    value: float
    text: str
    colour: str
    left: bool = True


def mark_layers(marks: Sequence[Mark], along: str) -> list[Chart]:
    """Return dashed lines across one axis, each with its text.

    With many lines they would hide what they explain, and are left out.
    """
    alt = altair()
    layers: list[Chart] = []
    if len(marks) > MOST_MARKED:
        return layers
    for i, mark in enumerate(marks):
        base = chart_of([{"at": mark.value, "text": mark.text}])
        ruled = base.mark_rule(
            strokeDash=[5, 4], strokeWidth=1.5, color=mark.colour if len(marks) > 1 else theme.GREY
        )
        if along == "y":
            layers.append(ruled.encode(y="at:Q"))
            place = {"align": "right", "dx": -2, "dy": -8}
            at = {"y": alt.Y("at:Q"), "x": alt.value(theme.WIDTH)}
        else:
            layers.append(ruled.encode(x="at:Q"))
            place = {"align": "left", "dx": 6} if mark.left else {"align": "right", "dx": -6}
            at = {"x": alt.X("at:Q"), "y": alt.value(12 + 18 * i)}
        text = base.encode(text="text:N", **at)
        # A copy below in the colour of the ground keeps the text apart from the lines it crosses.
        layers.append(
            text.mark_text(**place, stroke=theme.GROUND, strokeWidth=4, strokeJoin="round")
        )
        layers.append(text.mark_text(**place, color=theme.INK))
    return layers


def on_file(
    chart: LineChart, above: Sequence[Chart] | None = None, height: int = theme.HEIGHT
) -> Chart:
    """Return a chart of lines in the size of files."""
    columns = legend_columns([line.name for line in chart.series])
    return chart.still(above, columns=columns).properties(width=theme.WIDTH, height=height)
