"""Curves drawn in characters, for whoever looks on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from prefixsim._screen import paint, styled_output

__all__ = ["draw_rates", "drawing_width"]


def drawing_width() -> int:
    """Return how many characters wide a drawing is on this terminal."""
    return max(20, min(96, shutil.get_terminal_size().columns - 10))


def draw_rates(label: str, x: Sequence[float], rates: Sequence[float], x_label: str) -> None:
    """Draw token hit rates over a logarithmic axis."""
    from prefixsim.reports.draw import curve

    styled = styled_output()
    title = paint(f"{label}: token hit rate", "bold", styled=styled)
    sys.stdout.write(f"\n{title}\n")
    for line in curve(x, rates, width=drawing_width(), x_label=x_label):
        edge = paint(line[:7], "faint", styled=styled)
        sys.stdout.write(f"{edge}{paint(line[7:], 'blue', styled=styled)}\n")
