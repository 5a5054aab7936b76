"""Charts of characters: bars, a line of blocks, and curves in Braille dots.

Plain strings; :mod:`prefixsim.cli` gives them colour on a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["bar", "curve", "line_of"]

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille character, by row and column."""


def bar(share: float, width: int = 30) -> str:
    """Return a bar of ``width`` characters that is full for a share of 1.

    Examples
    --------
    >>> bar(0.5, 4)
    '██  '
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def line_of(names: Sequence[str], letters: Mapping[str, str], width: int = 64) -> list[str]:
    """Return one letter a name, in lines of ``width``; a long sequence is thinned to ten lines.

    Examples
    --------
    >>> line_of(["hit", "hit", "cold"], {"hit": "H", "cold": "C"}, width=2)
    ['HH', 'C']
    """
    most = 10 * width
    at: Sequence[int] = range(len(names))
    if len(names) > most:
        at = [i * len(names) // most for i in range(most)]
    text = "".join(letters[names[i]] for i in at)
    return [text[i : i + width] for i in range(0, len(text), width)]


def curve(
    x: Sequence[float],
    y: Sequence[float],
    *,
    width: int = 60,
    height: int = 9,
    x_label: str = "",
    mark: float | None = None,
) -> list[str]:
    """Return the lines of a curve over a logarithmic axis, y from 0 to 1, in Braille dots.

    Parameters
    ----------
    x : sequence of float
        Above 0 and ascending.
    y : sequence of float
    width, height : int, optional
        Characters of the plot; the axis takes seven more.
    x_label : str, optional
    mark : float, optional
        An x to mark below the axis.
    """
    if not len(x):
        return []
    at = np.log(np.asarray(x, dtype=np.float64))
    lo, hi = float(at[0]), float(at[-1])
    values = np.clip(np.interp(np.linspace(lo, hi, 2 * width), at, y), 0, 1)
    rows = np.rint((1 - values) * (4 * height - 1)).astype(int).tolist()
    cells = np.zeros((height, width), dtype=np.int64)
    for column, (before, row) in enumerate(zip([rows[0], *rows], rows, strict=False)):
        for r in range(min(before, row), max(before, row) + 1):
            cells[r // 4, column // 2] |= _DOTS[r % 4][column % 2]
    names = {0: "100 %", height // 2: " 50 %", height - 1: "  0 %"}
    lines = [
        f"{names.get(i, ''):>5} │{''.join(chr(0x2800 + int(cell)) for cell in line)}"
        for i, line in enumerate(cells)
    ]
    lines += [f"      └{'─' * width}", " " * 7 + _ruler(x[0], x[-1], mark, width)]
    return [*lines, " " * 7 + x_label.center(width).rstrip()] if x_label else lines


def _ruler(low: float, high: float, mark: float | None, width: int) -> str:
    left, right = _short(low), _short(high)
    ruler = list(left.ljust(width - len(right)) + right)
    if mark is not None and low < mark < high:
        share = float(np.log(mark / low) / np.log(high / low))
        text = f"▲{_short(mark)}"
        at = max(len(left) + 1, min(round(share * (width - 1)), width - len(right) - len(text) - 1))
        ruler[at : at + len(text)] = text
    return "".join(ruler)


def _short(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
