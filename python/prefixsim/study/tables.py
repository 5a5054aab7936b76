"""Tables of replays: the figures of one, several side by side, hit rates by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from prefixsim._json import JsonFields, JsonObject
from prefixsim.study.metrics import Group
from prefixsim.table import Kind, Table, ratio, written
from prefixsim.trace import Trace

__all__ = ["Summarized", "SummaryRow", "comparison_tables", "group_table", "summary_tables"]

_STATISTICS = ("mean", "median", "min", "max")
_WIDEST_NAMES = 60  # characters of all names together, from which columns are lettered


class Summarized(Protocol):
    """What the tables need of a :class:`prefixsim.Result`."""

    @property
    def trace(self) -> Trace:
        """The trace that was replayed."""
        ...

    @property
    def description(self) -> str:
        """The configuration in words."""
        ...

    @property
    def summary(self) -> JsonObject:
        """Every figure under its machine-readable name."""
        ...


@dataclass(frozen=True)
class SummaryRow:
    """A row: what it is called, where it is in a summary, how it is written."""

    label: str
    key: str
    kind: Kind
    note: str = ""


_FIGURES = (
    SummaryRow("total requests", "requests", "count"),
    SummaryRow("total blocks", "total_blocks", "count", "full blocks of all prompts"),
    SummaryRow("blocks allocated", "blocks_allocated", "count", "computed: not found in the cache"),
    SummaryRow("blocks reused", "blocks_reused", "count", "found in the cache"),
    SummaryRow("unique blocks", "unique_blocks", "count", "distinct full blocks"),
    SummaryRow("block reuse rate", "block_reuse_rate", "rate", "blocks reused / total blocks"),
    SummaryRow("token hit rate", "token_hit_rate", "rate", "hit tokens / prompt tokens"),
    SummaryRow(
        "prefill tokens saved", "prefill_saved_share", "rate", "1 - computed / prompt tokens"
    ),
)
_DISTRIBUTIONS = (
    SummaryRow("sharing fraction", "sharing_fraction", "fraction", "per request"),
    SummaryRow("block hit count", "block_hit_count", "number", "per unique block"),
    SummaryRow("reuse gap (s)", "reuse_gap_s", "seconds", "per reused block"),
)


def summary_tables(result: Summarized) -> list[Table]:
    """Return the tables of one replay: figures, distributions, and hits by tier if it has tiers."""
    summary = result.summary
    return [
        Table(
            f"{result.trace.name}: {result.description}",
            ["", ""],
            [[f.label, written(summary[f.key], f.kind)] for f in _FIGURES],
            [f.note for f in _FIGURES],
        ),
        Table(
            "",
            ["", *_STATISTICS],
            [
                [f.label, *(written(summary[f.key][s], f.kind) for s in _STATISTICS)]
                for f in _DISTRIBUTIONS
            ],
            [f.note for f in _DISTRIBUTIONS],
        ),
        *([_tier_table(summary)] if "tiers" in summary else []),
    ]


def _tier_table(summary: JsonObject) -> Table:
    """Return where hits came from, and what was written where the engine says it of each tier."""
    tiers = summary["tiers"]
    writes = any("written_tokens" in figures for figures in tiers.values())
    header = ["tier", "hit tokens", "token hit rate"] + ["written tokens"] * writes
    rows = [
        [
            tier,
            written(figures["hit_tokens"], "count"),
            written(figures["token_hit_rate"], "rate"),
            *([written(figures.get("written_tokens"), "count")] if writes else []),
        ]
        for tier, figures in tiers.items()
    ]
    return Table("", header, rows)


def comparison_tables(results: Sequence[Summarized], names: Sequence[str]) -> list[Table]:
    """Return one table of several replays, each compared with the first."""
    first = results[0].summary
    others = [result.summary for result in results[1:]]
    rows, notes = [], []
    for figure, statistic in _flat():
        base = _figure(first, figure, statistic)
        cells = [written(base, figure.kind)]
        for summary in others:
            value = _figure(summary, figure, statistic)
            cells += [written(value, figure.kind), ratio(value, base)]
        rows.append([f"{figure.label} {statistic}".strip(), *cells])
        notes.append(figure.note if statistic in ("", _STATISTICS[0]) else "")
    title = f"ratio to {names[0]}"
    if sum(map(len, names)) > _WIDEST_NAMES:
        letters = [_letter(i) for i in range(len(names))]
        title = "\n".join(f"{a}: {name}" for a, name in zip(letters, names, strict=True))
        title, names = f"{title}\nratio to {letters[0]}", letters
    header = ["", names[0]]
    for name in names[1:]:
        header += [name, "ratio"]
    configs = list(dict.fromkeys(result.description for result in results))
    about = configs[0] if len(configs) == 1 else "side by side"
    return [Table(f"{about}\n{title}", header, rows, notes)]


def _letter(i: int) -> str:
    """Return A to Z, then 27, 28..."""
    return chr(ord("A") + i) if i < 26 else str(i + 1)


def _flat() -> list[tuple[SummaryRow, str]]:
    scalars = [(figure, "") for figure in _FIGURES]
    return scalars + [(figure, s) for figure in _DISTRIBUTIONS for s in _STATISTICS]


def _figure(summary: JsonFields, figure: SummaryRow, statistic: str) -> float | None:
    value: float | None = summary[figure.key][statistic] if statistic else summary[figure.key]
    return value


def group_table(by: str, groups: Sequence[Group], most: int) -> Table:
    """Return hit rates by a label, at most ``most`` of them."""
    rows = [
        [
            group.name or "(none)",
            written(group.requests, "count"),
            written(group.prompt_tokens, "count"),
            written(group.hit_tokens, "count"),
            written(group.token_hit_rate, "rate"),
        ]
        for group in groups[:most]
    ]
    left = f", the {most} with the most prompt tokens of {len(groups):,}"
    title = f"token hit rate by {by}{left if len(groups) > most else ''}"
    return Table(title, [by, "requests", "prompt tokens", "hit tokens", "token hit rate"], rows, [])
