"""Tables of text: as plain text, for terminals and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import isnan
from typing import Literal

from prefixsim._printable import printable

__all__ = [
    "HtmlLook",
    "Kind",
    "Table",
    "html",
    "html_table",
    "plain",
    "ratio",
    "written",
]

Kind = Literal["count", "rate", "fraction", "number", "seconds", "latency"]
_NOTHING = "-"


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
    if value is None or isnan(value):
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


def ratio(value: float | None, base: float | None) -> str:
    """Write how many times ``base`` a value is."""
    if value is None or not base:
        return _NOTHING
    times = value / base
    return f"{times:,.0f}x" if times >= 100 else f"{times:.3g}x"


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


@dataclass(frozen=True)
class HtmlLook:
    """Attributes of the elements of a table in HTML, each empty or with a space before it.

    Attributes
    ----------
    table, caption, word, number, note : str
        Of the table, its title, cells of words, cells of figures, and notes.
    """

    table: str = ""
    caption: str = ""
    word: str = ""
    number: str = ' class="n"'
    note: str = ' class="note"'


_CELL = "padding:2px 10px"
_ALONE = HtmlLook(
    table=' style="border-collapse:collapse;margin:0.4em 0 1em;font-size:13px;'
    'font-family:-apple-system,Segoe UI,Helvetica,Arial,sans-serif"',
    caption=' style="text-align:left;font-weight:600;padding-bottom:0.4em;white-space:pre-line"',
    word=f' style="text-align:left;{_CELL}"',
    number=f' style="text-align:right;{_CELL}"',
    note=f' style="color:#5F6B7A;text-align:left;{_CELL}"',
)


def html(tables: Sequence[Table]) -> str:
    """Return tables as HTML that needs nothing else."""
    return "".join(html_table(table, _ALONE) for table in tables)


def html_table(table: Table, look: HtmlLook) -> str:
    """Return one table as HTML, for a page that has the styles of ``look``."""

    def cells(tag: str, texts: Sequence[str], attributes: str = "") -> str:
        looks = [look.word if i < table.words else look.number for i in range(len(texts))]
        return "".join(
            f"<{tag}{kind}{attributes}>{escape(text)}</{tag}>"
            for kind, text in zip(looks, texts, strict=True)
        )

    rows = []
    for i, row in enumerate(table.rows):
        note = f"<td{look.note}>{escape(table.notes[i])}</td>" if table.notes else ""
        rows.append(f"<tr>{cells('td', row)}{note}</tr>")
    caption = f"<caption{look.caption}>{escape(table.title)}</caption>" if table.title else ""
    extra = "<td></td>" if table.notes else ""
    head = cells("th", table.header, ' scope="col"')
    top = f"<thead><tr>{head}{extra}</tr></thead>" if any(table.header) else ""
    return f"<table{look.table}>{caption}{top}<tbody>{''.join(rows)}</tbody></table>"
