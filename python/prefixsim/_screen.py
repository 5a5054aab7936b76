"""Tables laid out for a terminal: figures are never cut, whatever its width.

A table that is too wide first loses its notes, then its words are folded, then it turns on its
side, and at last it is a list: one row after the other, a line for each figure.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Sequence

from prefixsim._printable import printable
from prefixsim.table import Table

__all__ = ["STYLES", "fitted", "paint", "styled_output", "width_of"]

STYLES = {
    "bold": 1,
    "faint": 2,
    "red": 31,
    "green": 32,
    "yellow": 33,
    "blue": 34,
    "magenta": 35,
    "cyan": 36,
    "grey": 90,
    "bright red": 91,
    "bright yellow": 93,
    "bright blue": 94,
    "bright magenta": 95,
    "bright cyan": 96,
}
"""Styles of text, by their numbers in a terminal's language (ECMA-48)."""

_ESCAPES = re.compile("\x1b\\[[0-9;]*m")
_GAP = "  "
_NARROWEST = 12  # columns that folded words still get

_Lines = list[list[str]]


def styled_output() -> bool:
    """Whether standard output is a terminal that shows styles, and the user wants them."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return False
    if os.name == "nt":
        os.system("")
    return True


def paint(text: str, *styles: str, styled: bool = True) -> str:
    """Put text in styles of :data:`STYLES`."""
    if not (styled and text and styles):
        return text
    return f"\x1b[{';'.join(str(STYLES[style]) for style in styles)}m{text}\x1b[0m"


def width_of(text: str) -> int:
    """Return the columns that text takes: two for a wide character, none for a combining one."""
    text = _ESCAPES.sub("", text)
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def fitted(tables: Sequence[Table], width: int, *, styled: bool = False) -> str:
    """Lay tables out for a terminal.

    Parameters
    ----------
    tables : sequence of Table
    width : int
        Columns of the terminal.
    styled : bool
        Whether titles are bold and notes faint.

    Returns
    -------
    str
        Lines that end with a line end. None is wider than ``width``, unless a single word is.
    """
    return "\n\n".join(_fitted(table, width, styled) for table in tables) + "\n"


def _fitted(table: Table, width: int, styled: bool) -> str:
    title = [
        paint(folded, "bold", styled=styled)
        for line in printable(table.title, lines=True).splitlines()
        for folded in _folded(line, width)
    ]
    layouts: tuple[Callable[[Table, int, bool], list[str] | None], ...] = (
        _with_notes,
        _without_notes,
        _with_folded_words,
        _on_its_side,
    )
    for layout in layouts:
        body = layout(table, width, styled)
        if body is not None and max(map(width_of, body), default=0) <= width:
            return "\n".join(title + body)
    return "\n".join(title + _listed(table, width, styled))


def _cells(table: Table) -> _Lines:
    rows: Sequence[Sequence[str]] = (table.header, *table.rows)
    return [[printable(cell) for cell in row] for row in rows]


def _grid(lines: _Lines, words: int, styled: bool) -> list[str]:
    """Align columns; the first line is a header, shown if it says anything."""
    widths = [max(map(width_of, column)) for column in zip(*lines, strict=True)]
    shown = []
    for number, line in enumerate(lines):
        text = _GAP.join(
            _padded(cell, width, left=i < words)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        if text or number:
            shown.append(paint(text, "bold", styled=styled and not number))
    return shown


def _with_notes(table: Table, _: int, styled: bool) -> list[str]:
    lines = _grid(_cells(table), table.words, styled)
    if not table.notes:
        return lines
    wide = max(map(width_of, lines), default=0)
    first = len(lines) - len(table.notes)  # 0 where no header is shown
    for i, note in enumerate(table.notes):
        if note:
            line = lines[first + i]
            faint = paint(printable(note), "faint", styled=styled)
            lines[first + i] = f"{_padded(line, wide, left=True)}{_GAP}{faint}"
    return lines


def _without_notes(table: Table, _: int, styled: bool) -> list[str]:
    return _grid(_cells(table), table.words, styled)


def _with_folded_words(table: Table, width: int, styled: bool) -> list[str] | None:
    """Fold the words of the first columns into what the figures leave."""
    lines = _cells(table)
    columns = list(zip(*lines, strict=True))
    figures = sum(len(_GAP) + max(map(width_of, column)) for column in columns[table.words :])
    room = (width - figures - len(_GAP) * (table.words - 1)) // max(1, table.words)
    if room < _NARROWEST:
        return None
    folded: _Lines = []
    for line in lines:
        words = [_folded(cell, room) for cell in line[: table.words]]
        for k in range(max(map(len, words), default=1)):
            part = [cell[k] if k < len(cell) else "" for cell in words]
            folded.append([*part, *(line[table.words :] if k == 0 else [""] * len(line))])
            folded[-1] = folded[-1][: len(line)]
    return _grid(folded, table.words, styled)


def _on_its_side(table: Table, _: int, styled: bool) -> list[str] | None:
    if not any(table.header) or table.words != 1:
        return None
    return _grid([list(column) for column in zip(*_cells(table), strict=True)], 1, styled)


def _listed(table: Table, width: int, styled: bool) -> list[str]:
    """Write one row after the other, a line for each of its figures."""
    header, *rows = _cells(table)
    names = max((width_of(name) for name in header[table.words :]), default=0)
    lines = []
    for row in rows:
        words = zip(header, row[: table.words], strict=False)
        label = _folded(_GAP.join(f"{name} {cell}".strip() for name, cell in words if cell), width)
        lines += [paint(part, "bold", styled=styled) for part in label]
        figures = row[table.words :]
        values = max(map(width_of, figures), default=0)
        for name, value in zip(header[table.words :], figures, strict=True):
            if len(_GAP) + names + len(_GAP) + values <= width:
                left = _padded(name, names, left=True)
                lines.append(f"{_GAP}{left}{_GAP}{_padded(value, values, left=False)}")
            else:
                lines += [f"{_GAP}{part}" for part in _folded(name, width - len(_GAP)) if part]
                lines.append(f"{_GAP * 2}{value}")
    return lines


def _folded(text: str, width: int) -> list[str]:
    """Break text between words; a longer word stays whole."""
    parts = textwrap.wrap(text, max(1, width), break_long_words=False, break_on_hyphens=False)
    return parts or [""]


def _padded(text: str, width: int, *, left: bool) -> str:
    room = " " * (width - width_of(text))
    return text + room if left else room + text
