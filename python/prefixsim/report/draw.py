"""Charts of characters: bars, a line of blocks, and curves in Braille dots.

Plain strings; :mod:`prefixsim.cli` gives them colour on a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["bar", "curve", "line_of"]

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille character, by row and column."""

Floats = npt.NDArray[np.float64]


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
    at = range(len(names))
    if len(names) > most:
        at = [i * len(names) // most for i in range(most)]  # type: ignore[assignment]
    text = "".join(letters[names[i]] for i in at)
    return [text[i : i + width] for i in range(0, len(text), width)]


def curve(
    series: Mapping[str, tuple[Floats, Floats]],
    *,
    width: int = 60,
    height: int = 12,
    log_x: bool = True,
    x_label: str = "",
    mark: float | None = None,
) -> str:
    """Return lines over a common x axis, y from 0 to 1, drawn in Braille dots.

    Parameters
    ----------
    series : mapping of str to (x, y)
        Ascending, positive ``x``.
    width, height : int, optional
        Characters of the plot.
    log_x : bool, optional
    x_label : str, optional
    mark : float, optional
        An x to mark below the axis.
    """
    scale = np.log if log_x else np.asarray
    xs = np.concatenate([x for x, _ in series.values()])
    if not len(xs):
        return ""
    lo, hi = float(scale(xs.min())), float(scale(xs.max()))
    span = hi - lo or 1.0
    cells = np.zeros((height, width), dtype=np.int64)
    for x, y in series.values():
        columns = np.linspace(lo, hi, 2 * width)
        rows = (1 - np.clip(np.interp(columns, scale(x), y), 0, 1)) * (4 * height - 1)
        previous = int(rows[0])
        for column, row in enumerate(np.rint(rows).astype(int)):
            for r in range(min(previous, row), max(previous, row) + 1):
                cells[r // 4, column // 2] |= _DOTS[r % 4][column % 2]
            previous = int(row)
    axis = {0: "100 %", height // 2: " 50 %", height - 1: "  0 %"}
    lines = [
        f"{axis.get(i, ''):>5} │{''.join(chr(0x2800 + int(c)) for c in row)}"
        for i, row in enumerate(cells)
    ]
    lines.append("      └" + "─" * width)
    left, right = _short(float(xs.min())), _short(float(xs.max()))
    ruler = list(left.ljust(width - len(right)) + right)
    if mark is not None and xs.min() <= mark <= xs.max():
        at = int((float(scale(mark)) - lo) / span * (width - 1))
        text = f"▲{_short(mark)}"
        at = min(max(at, len(left) + 1), width - len(right) - len(text) - 1)
        ruler[at : at + len(text)] = text
    lines.append("       " + "".join(ruler))
    if x_label:
        lines.append("       " + x_label.center(width).rstrip())
    return "\n".join(lines)


def _short(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
