"""From millions of values to the few hundred points a chart shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.engines.outcome import Weighted

__all__ = ["cumulative", "histogram", "survival", "thin"]

MAX_POINTS = 400

Floats = npt.NDArray[np.float64]


def histogram(values: Floats, bins: int, lo: float, hi: float) -> list[JsonObject]:
    """Return the share of values in equal bins."""
    counts, edges = np.histogram(values, bins=bins, range=(lo, hi))
    shares = counts / max(1, len(values))
    return [
        {"from": float(a), "to": float(b), "count": int(n), "share": float(share)}
        for a, b, n, share in zip(edges[:-1], edges[1:], counts, shares, strict=True)
    ]


def _ordered(column: Weighted) -> tuple[Floats, Floats]:
    """Return the distinct values, ascending, and how often each occurs."""
    values, at = np.unique(column.values, return_inverse=True)
    counts = np.bincount(at, weights=column.weights, minlength=len(values))
    return values, counts.astype(np.float64)


def thin(x: Floats, points: int = MAX_POINTS) -> npt.NDArray[np.intp]:
    """Return indices into ascending, positive ``x``, about evenly spaced on a log axis."""
    if len(x) <= points:
        return np.arange(len(x))
    wanted = np.geomspace(x[0], x[-1], points)
    return np.unique(np.append(np.searchsorted(x, wanted[:-1]), len(x) - 1))


def cumulative(column: Weighted, floor: float) -> tuple[Floats, Floats]:
    """Return a thinned cumulative distribution; values below ``floor`` count as ``floor``."""
    values, counts = _ordered(Weighted(np.maximum(column.values, floor), column.weights))
    share = np.cumsum(counts) / counts.sum()
    # Points where the value or the share has moved visibly.
    at = np.union1d(thin(values), np.searchsorted(share, np.linspace(0, 1, MAX_POINTS // 2)[:-1]))
    return values[at], share[at]


def survival(column: Weighted) -> tuple[Floats, Floats]:
    """Return thinned values, and how many items have at least that value."""
    values, counts = _ordered(column)
    at_least = np.cumsum(counts[::-1])[::-1]
    at = thin(values)
    return values[at], at_least[at]
