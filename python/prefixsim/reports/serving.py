"""What a server with time did, with caching and without, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prefixsim.errors import InputError
from prefixsim.study.overload import estimated
from prefixsim.study.tables import SummaryRow
from prefixsim.table import Table, ratio, written

if TYPE_CHECKING:
    from prefixsim.study.result import Result

__all__ = ["COMPARED", "comparison", "figure", "serving_table"]

_FIGURES = (
    SummaryRow("token hit rate", "token_hit_rate", "rate", "hit tokens / prompt tokens"),
    SummaryRow("preemptions", "preemptions", "count", "requests thrown out and started again"),
    SummaryRow("steps", "steps", "count"),
    SummaryRow("duration (s)", "duration_s", "seconds", "first arrival to last token"),
    SummaryRow("output tokens per s", "output_tokens_per_s", "number"),
    SummaryRow("peak cache usage", "peak_cache_usage", "rate", "blocks in use / usable blocks"),
    SummaryRow("mean cache usage", "mean_cache_usage", "rate", "over time"),
)
_TIMES = (
    SummaryRow("queueing (s)", "queue_s", "latency", "arrival to first step"),
    SummaryRow("TTFT (s)", "ttft_s", "latency", "arrival to first token"),
    SummaryRow("TPOT (s)", "tpot_s", "latency", "per token after the first"),
    SummaryRow("end to end (s)", "e2e_s", "latency", "arrival to last token"),
)
_STATISTICS = ("median", "p90", "p99")

COMPARED = (
    SummaryRow("token hit rate", "token_hit_rate", "rate"),
    SummaryRow("TTFT p50", "ttft_s.median", "latency"),
    SummaryRow("TTFT p99", "ttft_s.p99", "latency"),
    SummaryRow("TPOT p50", "tpot_s.median", "latency"),
    SummaryRow("e2e p50", "e2e_s.median", "latency"),
    SummaryRow("output tokens/s", "output_tokens_per_s", "number"),
    SummaryRow("preemptions", "preemptions", "count"),
    SummaryRow("peak cache usage", "peak_cache_usage", "rate"),
)
"""Columns of a comparison."""


def serving_table(results: Sequence[Result], names: Sequence[str]) -> Table:
    """Return figures of engines with time, each compared with the last result.

    Parameters
    ----------
    results : sequence of Result
        The last is what the others are compared with.
    names : sequence of str
        Column headings.
    """
    rows, notes = [], []
    for figure in (*_FIGURES, *_TIMES):
        for statistic in _STATISTICS if figure in _TIMES else ("",):
            values = [_value(result, figure, statistic) for result in results]
            if all(value is None for value in values):
                continue
            row = [f"{figure.label} {statistic}".strip()]
            row += [written(value, figure.kind) for value in values]
            if len(values) > 1:
                row.append(ratio(values[0], values[-1]))
            rows.append(row)
            notes.append(figure.note if statistic in ("", _STATISTICS[0]) else "")
    header = ["", *names, *(["ratio"] if len(results) > 1 else [])]
    told = [f"{n}: {r.overload}" for n, r in zip(names, results, strict=True) if r.overload]
    title = "\n".join(["serving", *filter(None, [estimated(results[0].config)]), *told])
    return Table(title, header, rows, notes)


def _value(result: Result, row: SummaryRow, statistic: str) -> float | None:
    value: float | None = result.summary.get(row.key)
    if statistic and value is not None:
        value = result.summary[row.key][statistic]
    return value


def figure(summary: Mapping[str, object], path: str) -> float | None:
    """Return a figure by its name, such as ``ttft_s.p99``.

    Raises
    ------
    InputError
        If there is no such number.
    """
    value: object = summary
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            names = [name for name, v in summary.items() if isinstance(v, int | float)]
            names += [f"{name}.median" for name, v in summary.items() if isinstance(v, Mapping)]
            msg = f"no figure {path!r}, choose one such as {', '.join(sorted(names)[:12])}"
            raise InputError(msg)
        value = value[key]
    if value is not None and not isinstance(value, int | float):
        msg = f"{path!r} is not a number, add .mean, .median, .p90 or .p99"
        raise InputError(msg)
    return value


def comparison(
    names: Sequence[str],
    runs: Sequence[tuple[Mapping[str, object], Mapping[str, object]]],
    sort: str | None,
    title: str,
) -> Table:
    """Return one row per run: settings ``names``, then figures; best first by ``sort``.

    Rates and ``tokens/s`` are best when high, everything else when low; a leading ``-`` in
    ``sort`` turns that around.
    """
    ordered = list(runs)
    if sort:
        path = sort.lstrip("-")
        high = path.endswith(("_rate", "_per_s")) or path.startswith("blocks_reused")
        sign = (-1 if high else 1) * (-1 if sort.startswith("-") else 1)

        root = path.split(".")[0]
        somewhere = any(root in summary for _, summary in ordered)

        def key(run: tuple[Mapping[str, object], Mapping[str, object]]) -> tuple[bool, float]:
            # A figure that only some engines have, such as a time, puts the others last.
            value = None if somewhere and root not in run[1] else figure(run[1], path)
            return (value is None, 0.0 if value is None else sign * value)

        ordered.sort(key=key)
    rows = [
        [
            *(str(settings.get(name, "-")) for name in names),
            *(
                written(figure(summary, f.key) if f.key.split(".")[0] in summary else None, f.kind)
                for f in COMPARED
            ),
        ]
        for settings, summary in ordered
    ]
    notes = [str(summary.get("overload_words", "")) for _, summary in ordered]
    header = [*names, *(f.label for f in COMPARED)]
    return Table(title, header, rows, notes if any(notes) else ())
