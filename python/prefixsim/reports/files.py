"""A folder of what replays found: summary, per-request tables, charts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from prefixsim._arrow_files import write_table
from prefixsim._files import atomic_folder
from prefixsim.charts import save
from prefixsim.charts.replay import charts as draw
from prefixsim.study.result import Result, results_json

__all__ = ["TableFormat", "save_results"]

TableFormat = Literal["parquet", "csv", "jsonl"]
_SUMMARY = "summary.json"


def save_results(
    results: Sequence[Result],
    folder: str | Path,
    *,
    charts: bool = True,
    table: TableFormat = "parquet",
    step: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write summary, per-request tables and charts of results that are compared.

    Parameters
    ----------
    results : sequence of Result
    folder : str or Path
    charts, table
        As in :meth:`Result.save`.
    step : callable, optional
        Called with the name of each thing before it is written.

    Returns
    -------
    list of Path
        ``summary.json``, one ``requests*`` file a result, two files a chart.
    """
    step = step or (lambda _: None)
    with atomic_folder(folder, last=_SUMMARY) as stage:
        written = _write(results, stage, charts, table, step)
    return [Path(folder) / path.name for path in written]


def _write(
    results: Sequence[Result],
    folder: Path,
    charts: bool,
    table: TableFormat,
    step: Callable[[str], None],
) -> list[Path]:
    step("summary")
    written = [folder / _SUMMARY]
    written[0].write_text(results_json(results), encoding="utf-8")
    for number, result in enumerate(results, 1):
        step(f"requests of {result.trace.name}")
        name = "requests" if len(results) == 1 else f"requests_{number}_{_slug(result.trace.name)}"
        written.append(folder / f"{name}.{table}")
        write_table(result.requests, written[-1])
    if charts:
        for name, chart in draw(results).items():
            step(f"chart {name}")
            written += save(chart, folder / name)
    return written


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)
