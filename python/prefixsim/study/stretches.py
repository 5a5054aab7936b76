"""Stretches of prompts told apart by their tokens: hashes of any stretch, and exact comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefixsim.trace import Trace

__all__ = ["Hashes", "Ints", "Stretches", "Sums", "Text", "counting", "mixed"]

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15 | 1
_UNBASE = pow(_BASE, -1, 2**64)
_BATCH = 1 << 21  # tokens hashed at once


class Text:
    """The prompts of a trace, and hashes of any stretch of them.

    The hash of a stretch is a polynomial of its mixed tokens, as differences of running sums.
    """

    def __init__(self, trace: Trace) -> None:
        assert trace.prompts is not None
        self.tokens = trace.prompts.values
        self.offsets: Ints = trace.prompts.offsets.astype(np.int64)
        self.salt = None if trace.salt is None else trace.salt.codes

    def batches(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of requests of about :data:`_BATCH` tokens each."""
        first, last = 0, len(self.offsets) - 1
        while first < last:
            upto = int(np.searchsorted(self.offsets, self.offsets[first] + _BATCH, "right")) - 1
            upto = min(max(upto, first + 1), last)
            yield first, upto
            first = upto

    def hashed(self, first: int, upto: int) -> Sums:
        """Return running sums over the prompts of a range of requests, salts mixed in."""
        begin, end = int(self.offsets[first]), int(self.offsets[upto])
        marks = mixed(self.tokens[begin:end].astype(np.uint64))
        if self.salt is not None:
            salts = np.repeat(self.salt[first:upto], np.diff(self.offsets[first : upto + 1]))
            marks = mixed(marks ^ mixed(salts.astype(np.uint64) << np.uint64(32)))
        return Sums(begin, marks)

    def same(self, start: Ints, other: Ints, length: Ints) -> npt.NDArray[np.bool_]:
        """Compare stretches token by token."""
        equal = np.ones(len(start), dtype=bool)
        at, depth = np.arange(len(start)), 0
        while len(at := at[length[at] > depth]):
            equal[at] &= self.tokens[start[at] + depth] == self.tokens[other[at] + depth]
            depth += 1
        return equal

    def seen(self, parts: Sequence[tuple[Hashes, Ints, Ints, Ints]]) -> Stretches:
        """Tell which stretches (hash, start, length, request), in order, stood earlier."""
        if not parts:
            none = np.empty(0, dtype=np.int64)
            return Stretches(none, none, none)
        hashes, start, length, request = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        _, index, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        before = index[inverse.reshape(-1)]
        again = np.flatnonzero(before < np.arange(len(before)))
        first = before[again]
        equal = length[again] == length[first]
        if self.salt is not None:
            equal &= self.salt[request[again]] == self.salt[request[first]]
        again, first = again[equal], first[equal]
        again = again[self.same(start[again], start[first], length[again])]
        return Stretches(start[again], length[again], request[again])


@dataclass(frozen=True)
class Stretches:
    """Stretches of prompts: where each starts, its length, and its request."""

    start: Ints
    length: Ints
    request: Ints

    def tokens_of(self, requests: int) -> Ints:
        """Count their tokens request by request."""
        counts = np.bincount(self.request, weights=self.length, minlength=requests)
        return counts.astype(np.int64)


class Sums:
    """Running sums of a text that starts at token ``begin`` of all."""

    def __init__(self, begin: int, marks: Hashes) -> None:
        self.begin = begin
        self._sums = np.zeros(len(marks) + 1, dtype=np.uint64)
        np.cumsum(marks * _powers(_BASE, len(marks)), out=self._sums[1:])
        self._unbase = _powers(_UNBASE, len(marks) + 1)

    def of(self, start: Ints, length: Ints | int) -> Hashes:
        """Return the hashes of stretches; places count from the start of all tokens."""
        at = start - self.begin
        return mixed((self._sums[at + length] - self._sums[at]) * self._unbase[at])


def _powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def mixed(values: Hashes) -> Hashes:
    """Spread every bit over all (the finalizer of SplitMix64; Steele et al., OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def counting(first: int, begin: Ints, count: Ints, step: int) -> tuple[Ints, Ints]:
    """Return ``count`` places from each ``begin`` on, and the requests they belong to."""
    request = np.repeat(np.arange(first, first + len(begin)), count)
    within = np.arange(len(request)) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(begin, count) + step * within, request
