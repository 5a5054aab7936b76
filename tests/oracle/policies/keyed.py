"""Policies whose keys come from a function of segments, as those in Python do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.oracle.forest import Block
from tests.oracle.policies.cache import Cache, Key


@dataclass(frozen=True)
class Segment:
    """Neighbouring blocks of one path with one history."""

    last_use: int
    previous_use: int
    first_use: int
    uses: int
    depth: int
    size: int


class Keyed(Cache):
    """The leaf with the smallest key goes; of equals the one used longest ago."""

    dynamic = False
    key: Callable[[int, Segment], float]

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        for block in blocks:
            state = self.cached[block].state
            state["previous"], state["last"] = state["last"], at
            state["uses"] += 1
            state["asked"] = False

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        for block in blocks:
            state = {"first": at, "last": at, "previous": -1, "uses": 1, "asked": False}
            self.cached[block].state = state

    def make_room(self, at: int, count: int) -> None:
        if count > 0:
            self.ask(at)
        super().make_room(at, count)

    def order(self, block: Block) -> Key:
        state = self.cached[block]
        return (*state.key, state.state["last"], -state.depth)

    def goes_on(self, block: Block) -> Block | None:
        """The block before this one, if it has the same history."""
        above = self.cached[block].above
        alike = above is not None and self.cached[above].state == self.cached[block].state
        return above if alike else None

    def ask(self, at: int) -> None:
        upper = {self.goes_on(block) for block in self.cached}
        for end in self.cached.keys() - upper:
            segment = [end]
            while (above := self.goes_on(segment[-1])) is not None:
                segment.append(above)
            state = self.cached[end].state
            if state["asked"] and not self.dynamic:
                continue
            depth = self.cached[segment[-1]].depth - 1
            known = Segment(
                state["last"], state["previous"], state["first"], state["uses"], depth, len(segment)
            )
            key = self.key(at, known)
            for block in segment:
                self.cached[block].key = (key,)
        for cached in self.cached.values():
            cached.state["asked"] = True
