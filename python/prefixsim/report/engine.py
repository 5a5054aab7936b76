"""Tables of runs of an engine that has time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefixsim.errors import InputError
from prefixsim.report.tables import Table

__all__ = ["COMPARED", "comparison", "figure", "timing_table"]

_NOTHING = "-"
_LATENCIES = (
    ("queueing time (s)", "queue_s"),
    ("time to first token (s)", "ttft_s"),
    ("time per output token (s)", "tpot_s"),
    ("end-to-end latency (s)", "e2e_s"),
)
_COUNTS = (
    ("token hit rate", "token_hit_rate", "rate"),
    ("prompt tokens computed", "computed_tokens", "count"),
    ("evictions", "evictions", "count"),
    ("preemptions", "preemptions", "count"),
    ("steps", "steps", "count"),
    ("duration (s)", "duration_s", "number"),
    ("output tokens per second", "output_tokens_per_s", "number"),
    ("peak cache usage", "peak_cache_usage", "rate"),
    ("mean cache usage", "mean_cache_usage", "rate"),
)
COMPARED = (
    ("hit rate", "token_hit_rate", "rate"),
    ("TTFT p50", "ttft_s.median", "seconds"),
    ("TTFT p99", "ttft_s.p99", "seconds"),
    ("TPOT p50", "tpot_s.median", "seconds"),
    ("e2e p50", "e2e_s.median", "seconds"),
    ("tokens/s", "output_tokens_per_s", "number"),
    ("preempted", "preemptions", "count"),
    ("peak usage", "peak_cache_usage", "rate"),
)
"""Columns of a comparison: title, place in the summary, kind."""


def figure(summary: Mapping[str, Any], path: str) -> float | None:
    """Return a figure by its name, such as ``ttft_s.p99``.

    Raises
    ------
    InputError
        If there is no such number.
    """
    value: Any = summary
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


def written(value: float | None, kind: str) -> str:
    """Write a figure for people."""
    if value is None:
        return _NOTHING
    if kind == "rate":
        return f"{value:.2%}".replace("%", " %")
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "seconds":
        return f"{value:,.3f}"
    return f"{value:,.1f}"


def timing_table(
    summary: Mapping[str, Any], off: Mapping[str, Any] | None, title: str = ""
) -> Table:
    """Return latencies and load of one run, beside the same run with caching off."""
    header = ["", "p50", "p90", "p99"]
    runs = [summary] if off is None else [summary, off]
    if off is not None:
        header += ["off: p50", "p90", "p99"]
    rows = []
    for label, name in _LATENCIES:
        if name in summary:
            cells = [
                written(run[name][key], "seconds")
                for run in runs
                for key in ("median", "p90", "p99")
            ]
            rows.append([label, *cells])
    for label, name, kind in _COUNTS:
        if name in summary:
            cells = [c for run in runs for c in (written(run.get(name), kind), "", "")]
            rows.append([label, *cells])
    return Table(title, header, rows)


def comparison(
    names: Sequence[str],
    runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
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

        def key(run: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[bool, float]:
            value = figure(run[1], path)
            return (value is None, 0.0 if value is None else sign * value)

        ordered.sort(key=key)
    rows = [
        [
            *(str(settings[name]) for name in names),
            *(
                written(figure(summary, path) if path.split(".")[0] in summary else None, kind)
                for _, path, kind in COMPARED
            ),
        ]
        for settings, summary in ordered
    ]
    return Table(title, [*names, *(label for label, _, _ in COMPARED)], rows)
