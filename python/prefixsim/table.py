"""The figures of replays as tables, and tables as plain text, for terminals and as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from prefixsim._printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prefixsim.study.metrics import Group
    from prefixsim.study.result import Result

__all__ = [
    "Figure",
    "Table",
    "comparison_tables",
    "group_table",
    "html",
    "plain",
    "ratio",
    "rich",
    "summary_tables",
    "written",
]

Kind = Literal["count", "rate", "fraction", "number", "seconds", "latency"]
_STATISTICS = ("mean", "median", "min", "max")
_NOTHING = "-"
_WIDEST_NAMES = 60  # characters of all names together, from which columns are lettered


@dataclass(frozen=True)
class Figure:
    """One row: what it is called, where it is in a summary, how it is written."""

    label: str
    key: str
    kind: Kind
    note: str = ""


_FIGURES = (
    Figure("total requests", "requests", "count"),
    Figure("total blocks", "total_blocks", "count", "full blocks of all prompts"),
    Figure("blocks allocated", "blocks_allocated", "count", "computed: not found in the cache"),
    Figure("blocks reused", "blocks_reused", "count", "found in the cache"),
    Figure("unique blocks", "unique_blocks", "count", "distinct full blocks"),
    Figure("block reuse rate", "block_reuse_rate", "rate", "blocks reused / total blocks"),
    Figure("token hit rate", "token_hit_rate", "rate", "hit tokens / prompt tokens"),
    Figure("prefill tokens saved", "prefill_saved_share", "rate", "1 - computed / prompt tokens"),
)
_DISTRIBUTIONS = (
    Figure("sharing fraction", "sharing_fraction", "fraction", "per request"),
    Figure("block hit count", "block_hit_count", "number", "per unique block"),
    Figure("reuse gap (s)", "reuse_gap_s", "seconds", "per reused block"),
)


@dataclass(frozen=True)
class Table:
    """Cells of text. The first ``words`` columns and notes are on the left, figures right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=list)
    words: int = 1


def written(value: float | None, kind: Kind) -> str:
    """Write a figure for people."""
    if value is None:
        return _NOTHING
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "rate":
        return f"{value:.2%}".replace("%", " %")
    if kind in ("fraction", "latency"):
        return f"{value:,.4f}"
    if kind == "number" and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.2f}"


def summary_tables(result: Result) -> list[Table]:
    """Return the two tables of one replay."""
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
    ]


def comparison_tables(results: Sequence[Result], names: Sequence[str]) -> list[Table]:
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


def _flat() -> list[tuple[Figure, str]]:
    scalars = [(figure, "") for figure in _FIGURES]
    return scalars + [(figure, s) for figure in _DISTRIBUTIONS for s in _STATISTICS]


def _figure(summary: Mapping[str, Any], figure: Figure, statistic: str) -> float | None:
    value = summary[figure.key]
    return value[statistic] if statistic else value  # type: ignore[no-any-return]


def ratio(value: float | None, base: float | None) -> str:
    """Write how many times ``base`` a value is."""
    if value is None or not base:
        return _NOTHING
    times = value / base
    return f"{times:,.0f}x" if times >= 100 else f"{times:.3g}x"


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


def plain(tables: Sequence[Table]) -> str:
    """Return tables as aligned text, for files and pipes."""
    return "\n\n".join(_plain(table) for table in tables) + "\n"


def _plain(table: Table) -> str:
    lines = [[printable(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    notes = ["", *table.notes] if table.notes else [""] * len(lines)
    text = [printable(table.title, lines=True)] if table.title else []
    for line, note in zip(lines, notes, strict=True):
        cells = [
            cell.ljust(width) if i < table.words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        joined = "  ".join([*cells, note]).rstrip()
        if joined:
            text.append(joined)
    return "\n".join(text)


def rich(tables: Sequence[Table]) -> RenderableType:
    """Return tables for a terminal."""
    from rich import box  # noqa: PLC0415
    from rich.console import Group as Stack  # noqa: PLC0415
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn: list[RenderableType] = []
    for table in tables:
        if table.title:
            drawn.append(Text(f"\n{printable(table.title, lines=True)}", style="bold"))
        out = RichTable(
            box=box.SIMPLE_HEAD,
            show_header=any(table.header),
            pad_edge=False,
        )
        for i, name in enumerate(table.header):
            out.add_column(
                Text(printable(name)),
                justify="right" if i >= table.words else "left",
                no_wrap=i == 0,
            )
        if table.notes:
            out.add_column("", style="dim", no_wrap=True)
        for i, row in enumerate(table.rows):
            cells = [Text(printable(cell)) for cell in row]
            out.add_row(*cells, *([Text(table.notes[i])] if table.notes else []))
        drawn.append(out)
    return Stack(*drawn)


_STYLE = (
    "border-collapse:collapse;margin:0.4em 0 1em;font-size:13px;"
    "font-family:-apple-system,Segoe UI,Helvetica,Arial,sans-serif"
)


def html(tables: Sequence[Table]) -> str:
    """Return tables as HTML that needs nothing else."""
    parts = []
    for table in tables:
        parts.append(f'<table style="{_STYLE}">')
        if table.title:
            caption = "text-align:left;font-weight:600;padding-bottom:0.4em;white-space:pre-line"
            parts.append(f'<caption style="{caption}">{escape(table.title)}</caption>')
        if any(table.header):
            cells = "".join(
                _cell("th", text, i < table.words) for i, text in enumerate(table.header)
            )
            parts.append(f"<tr>{cells}</tr>")
        for i, row in enumerate(table.rows):
            cells = "".join(_cell("td", text, j < table.words) for j, text in enumerate(row))
            note = table.notes[i] if table.notes else ""
            faint = '<td style="color:#5F6B7A;text-align:left;padding:2px 10px">'
            parts.append(f"<tr>{cells}{faint}{escape(note)}</td></tr>")
        parts.append("</table>")
    return "".join(parts)


def _cell(tag: str, text: str, words: bool) -> str:
    align = "left" if words else "right"
    return f'<{tag} style="text-align:{align};padding:2px 10px">{escape(text)}</{tag}>'
