"""The figure of the loss waterfall."""

from __future__ import annotations

from collections.abc import Sequence

from prefixsim.charts.runs import Run
from prefixsim.charts.waterfall import height, rows_of, waterfall_bars
from prefixsim.explanations.classes import CLASSES, MEANINGS, label
from prefixsim.reports.figures import Figure, of, page_spec
from prefixsim.table import Table, written

__all__ = ["waterfall"]


def waterfall(runs: Sequence[Run]) -> Figure:
    """Show the waterfall: a step for each class; for several runs, one stacked bar each."""
    rows = rows_of(runs)
    cells = [
        [str(row["run"]), str(row["class"]), written(row["tokens"], "count"),
         written(row["share"], "rate"), str(row["meaning"])]
        for row in rows
    ]  # fmt: skip
    table = Table("", ["replay", "class", "tokens", "share", ""], cells, words=2)
    words = " ".join(of(run, runs, _most_lost(run)) for run in runs)
    spec = page_spec(waterfall_bars(rows), rows, height(rows))
    return Figure("waterfall", "Where every prompt token went", words, spec, table, wide=True)


def _most_lost(run: Run) -> str:
    fall, whole = run.fall, max(1, run.fall.prompt_tokens)
    worst = max(CLASSES[1:], key=lambda name: fall.totals[name])
    return (
        f"{fall.totals['hit'] / whole:.1%} of the prompt tokens were served from the cache; most "
        f"of the others, {fall.totals[worst] / whole:.1%}, are {label(worst)}: {MEANINGS[worst]}"
    )
