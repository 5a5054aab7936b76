"""Policies that rank every block by what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.oracle.forest import Block
from tests.oracle.policies.cache import Cache, Cached, Key


class Fifo(Cache):
    """The leaf that came in first goes first; of those of one request, the deepest."""

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        for block in blocks:
            self.cached[block].key = (at,)


class Ranked(Cache):
    """The leaf with the smallest rank goes, which is worked out anew for every leaf."""

    def used(self, at: int, state: dict[str, Any]) -> None:
        """Note a use."""

    def admitted(self, at: int, above: dict[str, Any] | None) -> dict[str, Any]:
        return {}

    def rank(self, state: Cached) -> Key:
        raise NotImplementedError

    def evicted(self, rank: Key) -> None:
        """Note that a block of this rank was dropped."""

    def order(self, block: Block) -> Key:
        state = self.cached[block]
        return (*self.rank(state), -state.depth)

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        self.above = self.cached[blocks[-1]].state if blocks else None
        for block in blocks:
            self.used(at, self.cached[block].state)

    def victim(self) -> Block:
        block = self.oldest()
        self.evicted(self.rank(self.cached[block]))
        return block

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        state = self.admitted(at, self.above)
        for block in blocks:
            self.cached[block].state = dict(state)


class Lru(Ranked):
    def admitted(self, at: int, above: dict[str, Any] | None) -> dict[str, Any]:
        return {"last": at}

    def used(self, at: int, state: dict[str, Any]) -> None:
        state["last"] = at

    def rank(self, state: Cached) -> Key:
        return (state.state["last"],)


class Lfu(Ranked):
    def admitted(self, at: int, above: dict[str, Any] | None) -> dict[str, Any]:
        return {"uses": 1, "last": at}

    def used(self, at: int, state: dict[str, Any]) -> None:
        state["uses"] += 1
        state["last"] = at

    def rank(self, state: Cached) -> Key:
        return (state.state["uses"], state.state["last"])


class Gdsf(Ranked):
    attention = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.age = 0.0

    def admitted(self, at: int, above: dict[str, Any] | None) -> dict[str, Any]:
        return {"age": self.age, "uses": 1, "last": at}

    def used(self, at: int, state: dict[str, Any]) -> None:
        state |= {"age": self.age, "uses": state["uses"] + 1, "last": at}

    def cost(self, depth: int) -> float:
        return 1.0 + (depth * (self.block_size / self.attention) if self.attention else 0.0)

    def rank(self, state: Cached) -> Key:
        known = state.state
        return (known["age"] + known["uses"] * self.cost(state.depth), known["last"])

    def evicted(self, rank: Key) -> None:
        self.age = max(self.age, rank[0])


class GdsfDepth(Gdsf):
    attention = 3


class GdsfRefuse(Gdsf):
    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        super().hit(at, blocks, new)
        self.new = len(new)
        self.length = len(blocks) + len(new)

    def make_room(self, at: int, count: int) -> None:
        self.state = self.admitted(at, None)
        self.refused = 0
        for _ in range(count):
            depth = self.length - self.refused
            rank = (self.state["age"] + self.cost(depth), at)
            leaves = self.queue_leaves(0)
            if leaves and self.rank(self.cached[leaves[0]]) < rank:
                self.drop(self.victim())
            else:
                self.refused += 1
                self.evicted(rank)

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        for block in blocks:
            self.cached[block].state = dict(self.state)


class LruK(Ranked):
    k = 2
    fifo = False

    def admitted(self, at: int, above: dict[str, Any] | None) -> dict[str, Any]:
        return {"uses": (at,)}

    def used(self, at: int, state: dict[str, Any]) -> None:
        state["uses"] = (*state["uses"], at)

    def rank(self, state: Cached) -> Key:
        uses = state.state["uses"]
        if len(uses) >= self.k:
            return (1, uses[-self.k])
        return (0, uses[0] if self.fifo else uses[-1])


class Lru3(LruK):
    k = 3
    fifo = True


class FlopAware(Ranked):
    weight = 1000.0
    attention = 8192

    def admitted(self, at: int, above: dict[str, Any] | None) -> dict[str, Any]:
        return {"last": at}

    def used(self, at: int, state: dict[str, Any]) -> None:
        state["last"] = at

    def rank(self, state: Cached) -> Key:
        last = state.state["last"]
        per_block = self.weight * self.block_size / self.attention
        return (float(last) + self.weight + per_block * state.depth, last)


class TailLru(Ranked):
    threshold = 2048
    next_turn = 256

    def note(self, at: int) -> dict[str, Any]:
        free = max(0, self.threshold - self.next_turn) // self.block_size
        return {"last": at, "free_behind": max(0, len(self.requests[at].blocks) - free)}

    def admitted(self, at: int, above: dict[str, Any] | None) -> dict[str, Any]:
        return self.note(at)

    def used(self, at: int, state: dict[str, Any]) -> None:
        state |= self.note(at)

    def rank(self, state: Cached) -> Key:
        return (state.depth <= state.state["free_behind"], state.state["last"])


class TailLruShort(TailLru):
    threshold = 3
    next_turn = 1


class Ttl(Ranked):
    seconds = 300.0
    renew = True

    def expire(self, at: int) -> None:
        while True:
            over = [b for b in self.leaves() if self.cached[b].state["at"] < self.times[at]]
            if not over:
                return
            self.drop(min(over, key=self.order))

    def deadline(self, at: int) -> dict[str, Any]:
        return {"at": self.times[at] + self.seconds, "set_by": at}

    def admitted(self, at: int, above: dict[str, Any] | None) -> dict[str, Any]:
        own = self.deadline(at)
        return own if above is None else own | {"at": min(own["at"], above["at"])}

    def used(self, at: int, state: dict[str, Any]) -> None:
        if self.renew:
            state |= self.deadline(at)

    def rank(self, state: Cached) -> Key:
        return (state.state["at"], state.state["set_by"])


class TtlShort(Ttl):
    seconds = 3.0


class TtlOnce(Ttl):
    seconds = 3.0
    renew = False
