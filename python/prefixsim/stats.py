"""Summaries of many values: one implementation, that of the core, for all of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from prefixsim._core import weighted_summary

__all__ = ["Distribution", "distribution", "distribution_of_counts"]

Distribution = dict[str, float | None]
"""``mean``, ``median``, ``min``, ``max``, ``p90`` and ``p99``; ``None`` if there is no value."""


def distribution(
    values: npt.ArrayLike, weights: npt.NDArray[np.uint64] | None = None
) -> Distribution:
    """Summarize values; percentiles interpolate linearly between neighbouring values.

    Parameters
    ----------
    values : array_like of float
    weights : ndarray of uint64, optional
        How often each value occurs. Default: once.

    Examples
    --------
    >>> distribution([1.0, 2.0, 6.0])["mean"]
    3.0
    >>> distribution([])["median"] is None
    True
    """
    column = np.asarray(values, dtype=np.float64)
    if weights is None:
        weights = np.ones(len(column), dtype=np.uint64)
    return weighted_summary(column, weights)


def distribution_of_counts(counts: Counter[int]) -> dict[str, float | int | None]:
    """Summarize whole numbers given with their counts; the extremes are whole numbers too.

    Examples
    --------
    >>> found = distribution_of_counts(Counter({1: 3, 5: 1}))
    >>> found["mean"], found["max"]
    (2.0, 5)
    """
    values = np.array(sorted(counts), dtype=np.int64)
    weights = np.array([counts[int(value)] for value in values], dtype=np.uint64)
    summary: dict[str, float | int | None] = dict(distribution(values, weights))
    if len(values):
        summary |= {"min": int(values[0]), "max": int(values[-1])}
    return summary
