"""Policies in Python, as users write them; imported by name from the command line too."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import numpy.typing as npt

from prefixsim import Policy
from prefixsim.own_policies import Segments


class LastUse(Policy):
    def priority(self, segments: Segments) -> npt.ArrayLike:
        return segments.last_use


class FirstUse(Policy):
    name = "first-use"

    def priority(self, segments: Segments) -> npt.ArrayLike:
        return segments.first_use


class Uses(Policy):
    def priority(self, segments: Segments) -> npt.ArrayLike:
        return segments.uses


class Weighed(Policy):
    """A sum of all that is known of a segment."""

    name = "weighed"

    def __init__(
        self, *, last: int = 1, previous: int = 0, first: int = 0, uses: int = 0, depth: int = 0,
        size: int = 0, dynamic: bool = False,
    ) -> None:  # fmt: skip
        self.last, self.previous, self.first = last, previous, first
        self.uses, self.depth, self.size = uses, depth, size
        self.dynamic = dynamic

    def priority(self, segments: Segments) -> npt.ArrayLike:
        assert len({*zip(segments.depth, segments.last_use, strict=True)}) == len(segments)
        return (
            self.last * segments.last_use
            + self.previous * segments.previous_use
            + self.first * segments.first_use
            + self.uses * segments.uses
            + self.depth * segments.depth
            + self.size * segments.size
        )


class Blocks(Policy):
    """Least recently used, block by block, that checks what it is told."""

    def start(self) -> None:
        self._last_use: dict[int, int] = {}

    def on_hit(self, request: int, blocks: npt.NDArray[np.int64]) -> None:
        assert self._last_use.keys() >= set(blocks.tolist())
        self._last_use |= dict.fromkeys(blocks.tolist(), request)

    def on_insert(self, request: int, blocks: npt.NDArray[np.int64]) -> None:
        assert self._last_use.keys().isdisjoint(blocks.tolist())
        self._last_use |= dict.fromkeys(blocks.tolist(), request)
        assert self.setting.capacity is None or len(self._last_use) <= self.setting.capacity

    def on_evict(self, request: int, block: int) -> None:
        assert self._last_use.pop(block) < request

    def victim(self, request: int, leaves: Set[int]) -> int:
        assert leaves <= self._last_use.keys()
        return min(leaves, key=self._last_use.__getitem__)


class Failing(Policy):
    """One that fails at a request."""

    def __init__(self, how: str = "raise", at: int = 3) -> None:
        self.how, self.at = how, at

    def priority(self, segments: Segments) -> npt.ArrayLike:
        keys = segments.last_use.astype(float)
        if segments.request < self.at:
            return keys
        if self.how == "shape":
            return keys[:, None]
        if self.how == "text":
            return ["a"] * len(segments)
        if self.how == "nan":
            keys[-1] = np.nan
            return keys
        raise ZeroDivisionError("division by zero")
