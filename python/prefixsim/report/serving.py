"""What a server with time did, with caching and without, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefixsim.report.tables import Figure, Table, ratio, written

if TYPE_CHECKING:
    from prefixsim.result import Result

__all__ = ["serving_table"]

_FIGURES = (
    Figure("token hit rate", "token_hit_rate", "rate", "hit tokens / prompt tokens"),
    Figure("preemptions", "preemptions", "count", "requests thrown out and started again"),
    Figure("steps", "steps", "count"),
    Figure("duration (s)", "duration_s", "seconds", "first arrival to last token"),
    Figure("output tokens per s", "output_tokens_per_s", "number"),
    Figure("peak cache usage", "peak_cache_usage", "rate", "blocks in use / usable blocks"),
    Figure("mean cache usage", "mean_cache_usage", "rate", "over time"),
)
_TIMES = (
    Figure("queueing (s)", "queue_s", "latency", "arrival to first step"),
    Figure("TTFT (s)", "ttft_s", "latency", "arrival to first token"),
    Figure("TPOT (s)", "tpot_s", "latency", "per token after the first"),
    Figure("end to end (s)", "e2e_s", "latency", "arrival to last token"),
)
_STATISTICS = ("median", "p90", "p99")


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
    return Table("serving", header, rows, notes)


def _value(result: Result, figure: Figure, statistic: str) -> float | None:
    value = result.summary.get(figure.key)
    if statistic and value is not None:
        return value[statistic]  # type: ignore[no-any-return]
    return value
