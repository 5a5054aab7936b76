"""Speculative decoding: how drafts are made, and how many of them a step accepts."""

from __future__ import annotations

import numpy as np

__all__ = ["METHODS", "accepted_drafts", "read_acceptance"]

METHODS = {"eagle": "eagle", "eagle3": "eagle", "mtp": "eagle", "ngram": "ngram"}
"""vLLM's methods that are simulated: those that draft with layers of their own, and n-grams."""

_DRAWS = 4093
_SEED = 20_330


def read_acceptance(value: object) -> float | tuple[int, ...]:
    """Return the share of drafts that are accepted one by one, or accepted drafts step by step.

    Raises
    ------
    ValueError
        With the problem in words.

    Examples
    --------
    >>> read_acceptance("0.7"), read_acceptance("2,0,1")
    (0.7, (2, 0, 1))
    """
    problem = "give a share like 0.7, or accepted drafts step by step like 2,0,1"
    if isinstance(value, tuple | list):
        counts = tuple(value)
        if not counts or not all(isinstance(n, int) and 0 <= n < 2**16 for n in counts):
            raise ValueError(problem)
        return counts
    if isinstance(value, int | float) and not isinstance(value, bool):
        share = float(value)
    else:
        text = str(value).strip()
        if "," in text:
            parts = [part.strip() for part in text.split(",")]
            if not all(part.isdecimal() for part in parts):
                raise ValueError(problem)
            return read_acceptance(tuple(map(int, parts)))
        try:
            share = float(text)
        except ValueError:
            raise ValueError(problem) from None
    if not 0 <= share <= 1:
        raise ValueError(problem)
    return share


def accepted_drafts(acceptance: float | tuple[int, ...], drafts: int) -> list[int]:
    """Return accepted drafts by length of a request, repeated from the start.

    Of a share, each draft is accepted with that probability if all before it were, independently
    (Leviathan, Kalman, Matias: *Fast inference from transformers via speculative decoding*, ICML
    2023, section 3.1); the draws are the same in every run.

    Examples
    --------
    >>> round(float(np.mean(accepted_drafts(0.7, 3))), 1)  # 0.7 + 0.7**2 + 0.7**3 = 1.533
    1.5
    """
    if isinstance(acceptance, tuple):
        return list(acceptance)
    drawn = np.random.default_rng(_SEED).random((_DRAWS, max(drafts, 1))) < acceptance
    taken: list[int] = np.cumprod(drawn, axis=1).sum(axis=1).tolist()
    return taken
