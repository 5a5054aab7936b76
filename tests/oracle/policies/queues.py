"""Policies of queues, and the ghosts of some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.oracle.forest import Block
from tests.oracle.policies.cache import Cache, Cached


class Ghost:
    """Blocks remembered after they left, in queues: first in, first out."""

    def __init__(self) -> None:
        self.kept: dict[Block, tuple[int, Any]] = {}

    def add(self, block: Block, queue: int, value: Any = None) -> None:
        self.kept[block] = (queue, value)

    def count(self, queue: int) -> int:
        return sum(q == queue for q, _ in self.kept.values())

    def limit(self, queue: int, room: int) -> None:
        while self.count(queue) > room:
            del self.kept[next(b for b, (q, _) in self.kept.items() if q == queue)]

    def take(self, blocks: Sequence[Block]) -> list[tuple[int, Any] | None]:
        return [self.kept.pop(block, None) for block in blocks]


def deepest(found: Sequence[object]) -> int:
    """How many leading blocks reach down to the last one that was found."""
    return max((i + 1 for i, item in enumerate(found) if item is not None), default=0)


class Clock(Cache):
    bits = 1

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        for block in blocks:
            state = self.cached[block].state
            state["uses"] = min(2**self.bits - 1, state["uses"] + 1)

    def victim(self) -> Block:
        while True:
            block = self.oldest()
            if self.cached[block].state["uses"] == 0:
                return block
            entry = self.next_entry()

            def again(state: Cached, entry: int = entry) -> None:
                state.key = (entry,)
                state.state["uses"] -= 1

            self.enter_anew(block, again)

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block in blocks:
            self.cached[block].key = (entry,)
            self.cached[block].state = {"uses": 0}


class Clock2(Clock):
    bits = 2


class Sieve(Cache):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hand = 0

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        for block in blocks:
            self.cached[block].state["visited"] = True

    def victim(self) -> Block:
        while True:
            leaves = self.queue_leaves(0)
            ahead = [b for b in leaves if self.cached[b].key >= (self.hand,)]
            block = (ahead or leaves)[0]
            self.hand = self.cached[block].key[0]
            if not self.cached[block].state["visited"]:
                return block
            self.enter_anew(block, lambda state: state.state.update(visited=False))
            self.hand += 1
            self.rest()

    def rest(self) -> None:
        """Past the youngest leaf the hand begins at the oldest."""
        ahead = [b for b in self.leaves() if self.cached[b].key >= (self.hand,)]
        self.hand = min((self.cached[b].key[0] for b in ahead), default=0)

    def make_room(self, at: int, count: int) -> None:
        for _ in range(count):
            self.drop(self.victim())
            self.rest()

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block in blocks:
            self.cached[block].key = (entry,)
            self.cached[block].state = {"visited": False}


class TwoQ(Cache):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ghost = Ghost()

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block in blocks:
            if self.cached[block].queue == 1:
                self.cached[block].key = (entry,)
        self.known = deepest(self.ghost.take(new))

    def victim(self) -> Block:
        over = len(self.in_queue(0)) > self.share(0.25)
        block = self.oldest(*((0, 1) if over else (1, 0)))
        if self.cached[block].queue == 0:
            self.ghost.add(block, 0)
            self.ghost.limit(0, self.share(0.5))
        return block

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        for i, block in enumerate(blocks):
            self.cached[block].queue = int(i < self.known)
            self.cached[block].key = (entry,)


class Slru(Cache):
    segments = 2
    protected = 0.8
    room = False

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        entry = self.next_entry()
        self.entered = set()
        for block in blocks:
            state = self.cached[block]
            state.queue, state.key = min(self.segments - 1, state.queue + 1), (entry,)
            self.entered.add(state.queue)

    def sizes(self, segment: int) -> int:
        if self.segments == 1 or self.capacity is None:
            return 10**9
        if self.protected == 0:
            return max(1, self.size // self.segments)
        part = 1 - self.protected if segment == 0 else self.protected / (self.segments - 1)
        return max(1, math.floor(self.size * part + 1e-9))

    def make_room(self, at: int, count: int) -> None:
        for segment in reversed(range(self.segments)):
            if segment not in self.entered:
                continue
            while len(self.in_queue(segment)) > self.sizes(segment) and self.has_leaf(segment):
                block = self.oldest(segment)
                if segment == 0:
                    self.drop(block)
                    count -= 1
                    continue
                # Neighbours that fall at one time stay together: one entry for all of them.
                beyond = len(self.in_queue(segment)) - self.sizes(segment)
                entry, key = self.next_entry(), self.cached[block].key
                at_block: Block | None = block
                while at_block is not None and beyond > 0:
                    state = self.cached[at_block]
                    if (state.queue, state.key) != (segment, key):
                        break
                    state.queue, state.key = segment - 1, (entry,)
                    at_block, beyond = state.above, beyond - 1
                self.entered.add(segment - 1)
        while count > 0:
            self.drop(self.oldest(*range(self.segments)))
            count -= 1

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        held = [sum(b not in blocks for b in self.in_queue(s)) for s in range(self.segments)]
        roomy = [s for s in range(self.segments) if held[s] + len(blocks) <= self.sizes(s)]
        for block in blocks:
            self.cached[block].queue = roomy[0] if self.room and roomy else 0
            self.cached[block].key = (entry,)


class Slru3(Slru):
    segments = 3
    protected = 0.0
    room = True


class Mq(Cache):
    queues = 8
    lifetime = 1000
    ghost_share = 4.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ghost = Ghost()

    def queue_of(self, uses: int) -> int:
        return min(self.queues - 1, uses.bit_length() - 1)

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block in blocks:
            state = self.cached[block]
            state.state["uses"] += 1
            state.state["expiry"] = at + self.lifetime
            state.queue, state.key = self.queue_of(state.state["uses"]), (entry,)
        self.found = self.ghost.take(new)

    def expire(self, at: int) -> None:
        for queue in range(1, self.queues):
            if not self.has_leaf(queue):
                continue
            block = self.oldest(queue)
            if self.cached[block].state["expiry"] < at:
                entry = self.next_entry()

                def fall(state: Cached, entry: int = entry, queue: int = queue) -> None:
                    state.queue, state.key = queue - 1, (entry,)
                    state.state["expiry"] = at + self.lifetime

                self.enter_anew(block, fall)

    def victim(self) -> Block:
        block = self.oldest(*range(self.queues))
        self.ghost.add(block, 0, self.cached[block].state["uses"])
        self.ghost.limit(0, self.share(self.ghost_share))
        return block

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block, found in zip(blocks, self.found, strict=True):
            uses = 1 if found is None else found[1] + 1
            state = self.cached[block]
            state.queue, state.key = self.queue_of(uses), (entry,)
            state.state = {"uses": uses, "expiry": at + self.lifetime}


class MqShort(Mq):
    queues = 3
    lifetime = 3
    ghost_share = 0.5


SMALL, MAIN = 0, 1


class S3Fifo(Cache):
    """Yang et al., SOSP 2023, on leaves; the rules are those of ``S3Fifo`` in rust/policy."""

    small_part = 0.1
    ghost_part = 0.9
    threshold = 2
    most = 3
    fill = False
    strict = False
    grace = 0.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.small_share = self.share(self.small_part)
        self.main_share = 10**9 if self.capacity is None else self.size - self.small_share
        self.ghost = Ghost()
        self.entered = 0
        self.has_dropped = False

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        for block in blocks:
            state = self.cached[block]
            since = self.entered - state.state["entered"]
            if state.queue == MAIN or since >= self.small_share * self.grace:
                state.state["uses"] = min(self.most, state.state["uses"] + 1)
        self.known = deepest(self.ghost.take(new))

    def promote(self, block: Block | None, entry: int) -> None:
        """A block and its ancestors in small enter main together."""
        while block is not None and self.cached[block].queue == SMALL:
            state = self.cached[block]
            state.queue, state.key, state.state = MAIN, (entry,), {"uses": 0, "entered": 0}
            block = state.above

    def drop_from_main(self) -> bool:
        while self.has_leaf(MAIN):
            block = self.oldest(MAIN)
            if self.cached[block].state["uses"] == 0:
                self.drop(block)
                return True
            entry = self.next_entry()

            def again(state: Cached, entry: int = entry) -> None:
                state.key = (entry,)
                state.state["uses"] -= 1

            self.enter_anew(block, again)
        return False

    def room_in_main(self, coming: int) -> int:
        count = 0
        while self.strict and len(self.in_queue(MAIN)) + coming > self.main_share:
            if not self.drop_from_main():
                break
            count += 1
        return count

    def in_small(self, block: Block) -> int:
        """How many blocks of small lead to this one, with it."""
        at: Block | None = block
        count = 0
        while at is not None and self.cached[at].queue == SMALL:
            at, count = self.cached[at].above, count + 1
        return count

    def drop_from_small(self) -> int:
        while self.has_leaf(SMALL):
            block = self.oldest(SMALL)
            if self.cached[block].state["uses"] < self.threshold:
                self.ghost.add(block, 0)
                self.ghost.limit(0, self.share(self.ghost_part))
                self.drop(block)
                return 1
            made = self.room_in_main(self.in_small(block))
            self.promote(block, self.next_entry())
            if self.strict:
                return made
        return 0

    def make_room(self, at: int, count: int) -> None:
        dropped = 0
        while dropped < count:
            full = len(self.in_queue(SMALL)) >= self.small_share
            if self.has_leaf(SMALL) and (full or not self.has_leaf(MAIN)):
                dropped += self.drop_from_small()
            else:
                assert self.drop_from_main()
                dropped += 1
        if self.known:
            dropped += self.room_in_main(self.known)
        self.has_dropped |= dropped > 0

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        if self.known:
            self.promote(self.cached[blocks[0]].above, entry)
        known = self.known
        small = sum(b not in blocks for b in self.in_queue(SMALL)) + len(blocks)
        if self.fill and not self.has_dropped and small > self.small_share:
            known = len(blocks)
        self.entered += len(blocks) - known
        for i, block in enumerate(blocks):
            state = self.cached[block]
            state.queue, state.key = int(i < known), (entry,)
            state.state = {"uses": 0, "entered": 0 if i < known else self.entered}


class S3FifoFill(S3Fifo):
    small_part = 0.5
    threshold = 1
    fill = True


class Clock2QPlus(S3Fifo):
    small_part = 0.5
    threshold = 1
    most = 1
    grace = 0.5
