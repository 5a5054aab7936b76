"""Capacities at which a curve is shown."""

from __future__ import annotations

import numpy as np

__all__ = ["round_capacities", "spaced_capacities"]


def round_capacities(unique_blocks: int) -> list[int]:
    """Return 1, 2, 5, 10, 20... below the number of unique blocks, and that number."""
    capacities, decade = [], 1
    while decade < unique_blocks:
        capacities += [decade * step for step in (1, 2, 5) if decade * step < unique_blocks]
        decade *= 10
    return [*capacities, max(1, unique_blocks)]


def spaced_capacities(unique_blocks: int, count: int) -> list[int]:
    """Return about ``count`` capacities up to the unique blocks, evenly spaced in their logarithm.

    Fewer where several round to the same number of blocks.
    """
    spaced = np.geomspace(1, max(1, unique_blocks), count)
    return [int(c) for c in np.unique(spaced.round().astype(np.int64))]
