"""Where two prompts that part go on alike.

Both are token ids. Behind the place where they part, a window of :data:`GRAM` tokens that occurs in
both is an anchor; from an anchor on, tokens are compared one by one, so no hash is ever trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["GRAM", "Gap", "gaps_between"]

GRAM = 8
"""Tokens of an anchor."""

SKIP = 256
"""The longest gap, in tokens, that may stand in the way."""

ENOUGH = 24
"""Tokens that have to be alike behind a gap for it to be in the way."""

_PRIME = np.uint64(0x9E3779B97F4A7C15)

Ids = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Gap:
    """A gap in which two prompts differ although they go on alike.

    Attributes
    ----------
    start, end : int
        The gap in the later prompt.
    other_start, other_end : int
        The gap in the earlier prompt.
    alike : int
        Tokens alike behind it, up to the next gap.
    reordered : bool
        What is alike comes in another order.
    """

    start: int
    end: int
    other_start: int
    other_end: int
    alike: int
    reordered: bool = False


class _Grams:
    """The windows of one prompt, by hash."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        count = max(0, len(ids) - GRAM + 1)
        hashes = np.zeros(count, dtype=np.uint64)
        factor = np.uint64(1)
        with np.errstate(over="ignore"):
            for k in range(GRAM):
                factor = factor * _PRIME + np.uint64(1)
                hashes += (ids[k : k + count].astype(np.uint64) + np.uint64(1)) * factor
        self.hashes = hashes

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        return np.argsort(self.hashes, kind="stable")

    @cached_property
    def ascending(self) -> npt.NDArray[np.uint64]:
        return self.hashes[self.order]

    def first_from(self, value: np.uint64, start: int) -> int | None:
        """Return the first position from ``start`` on of a window with this hash."""
        lo, hi = (
            np.searchsorted(self.ascending, value),
            np.searchsorted(self.ascending, value, side="right"),
        )
        places = self.order[lo:hi]
        k = int(np.searchsorted(places, start))
        return int(places[k]) if k < len(places) else None

    def covered(self, other: _Grams) -> npt.NDArray[np.bool_]:
        """Tell for each token whether it lies in a window that ``other`` has, too."""
        mask = np.zeros(len(self.ids), dtype=bool)
        matches = np.flatnonzero(np.isin(self.hashes, other.hashes))
        for k in range(GRAM):
            mask[matches + k] = True
        return mask


def alike(a: Ids, b: Ids) -> int:
    """Return how many ids two sequences begin with alike."""
    length = min(len(a), len(b))
    differ = np.flatnonzero(a[:length] != b[:length])
    return int(differ[0]) if len(differ) else length


def gaps_between(here: Ids, there: Ids) -> list[Gap]:
    """Return the gaps that keep two prompts from being alike, from the front.

    Parameters
    ----------
    here, there : ndarray of uint32
        The later and the earlier prompt, from where they part.

    Returns
    -------
    list of Gap
        Empty if they do not go on alike. A reordered gap is the last.
    """
    if min(len(here), len(there)) < ENOUGH or not _may_agree(here, there):
        return []
    a, b = _Grams(here), _Grams(there)
    gaps: list[Gap] = []
    p = q = 0
    while True:
        anchor = _anchor(a, b, p, q)
        if anchor is None or _out_of_order(a, b, (p, q), anchor):
            reordered = _reordered(a, b, p, q)
            return [*gaps, reordered] if reordered is not None else gaps
        i, j = anchor
        same = alike(here[i:], there[j:])
        if same < ENOUGH:
            return gaps
        gaps.append(Gap(p, i, q, j, same))
        p, q = i + same, j + same


def _may_agree(here: Ids, there: Ids) -> bool:
    """Rule out in a moment what shares too few tokens to have anchors."""
    return int(np.count_nonzero(np.isin(here[: 4 * SKIP], there))) >= ENOUGH


def _anchor(a: _Grams, b: _Grams, p: int, q: int) -> tuple[int, int] | None:
    """Return the first window of ``a`` from ``p`` on that ``b`` has from ``q`` on."""
    window = a.hashes[p : p + SKIP + 1]
    for i in np.flatnonzero(np.isin(window, b.hashes[q:])):
        j = b.first_from(window[i], q)
        if j is not None and alike(a.ids[p + i :], b.ids[j:]) >= GRAM:
            return p + int(i), j
    return None


def _out_of_order(a: _Grams, b: _Grams, at: tuple[int, int], anchor: tuple[int, int]) -> bool:
    """Tell whether what one prompt skips to the anchor comes later in the other, or is too long."""
    (p, q), (i, j) = at, anchor
    if j - q > SKIP:
        return True
    skipped, later = _Grams(b.ids[q:j]), _Grams(a.ids[i:])
    if len(skipped.hashes) and skipped.covered(later).mean() > 0.5:
        return True
    skipped, later = _Grams(a.ids[p:i]), _Grams(b.ids[j:])
    return bool(len(skipped.hashes)) and skipped.covered(later).mean() > 0.5


def _reordered(a: _Grams, b: _Grams, p: int, q: int) -> Gap | None:
    """Return the stretch from ``p`` on that ``b`` has in another order."""
    rest, other = _Grams(a.ids[p:]), _Grams(b.ids[q:])
    if not len(rest.hashes) or not len(other.hashes):
        return None
    mask = rest.covered(other)
    # It ends where as many tokens as an anchor has are new.
    new = np.convolve(~mask, np.ones(GRAM, dtype=np.intp), mode="valid") == GRAM
    end = int(np.argmax(new)) if new.any() else len(mask)
    alike = int(np.count_nonzero(mask[:end]))
    back = other.covered(rest)
    if alike < ENOUGH or not end or np.count_nonzero(back) < ENOUGH:
        return None
    size = int(np.flatnonzero(back)[-1]) + 1
    # In another order, not one long gap that is missing or put in: both begin with shared text.
    if not mask[: 2 * GRAM].any() or not back[: 2 * GRAM].any():
        return None
    return Gap(p, p + end, q, q + size, alike, reordered=True)
