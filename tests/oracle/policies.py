"""Policies block by block: slow, readable, and the witnesses of rust/policy.

A cache holds blocks of a tree, each with all its ancestors. The loop is the same for every policy;
what differs is which leaf goes, and what is known of blocks. A block is the tuple of everything up to
its end. Each rule is written once more from its description, without stretches, heaps or heavy paths:
a queue's oldest leaf is found by looking at all blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.forest import Block, Request, Run

Key = tuple[Any, ...]


@dataclass
class Cached:
    """What is known of a cached block."""

    above: Block | None  # the block before it
    depth: int  # 1 for the first block of a sequence
    owner: int  # the request it came with
    born: float
    used: float
    queue: int = 0
    key: Key = ()  # place in the queue: smaller goes first
    state: dict[str, Any] = field(default_factory=dict)


class Cache:
    """What all policies share."""

    def __init__(
        self, capacity: int | None, requests: list[Request], times: Sequence[float],
        categories: Sequence[int], block_size: int,
    ) -> None:  # fmt: skip
        self.capacity = capacity
        self.size = 10**9 if capacity is None else capacity
        self.requests = requests
        self.times = times
        self.categories = categories
        self.block_size = block_size
        self.cached: dict[Block, Cached] = {}
        self.running: set[Block] = set()
        self.entries = 0
        self.drop: Callable[[Block], None] = lambda block: None
        self.refused = 0

    # What a policy may say.

    def expire(self, at: int) -> None:
        """Drop what leaves by itself."""

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        """The request uses cached blocks, and will bring new ones."""

    def make_room(self, at: int, count: int) -> None:
        """Drop blocks until there is room."""
        while count > 0:
            self.drop(self.victim())
            count -= 1

    def victim(self) -> Block:
        return self.oldest()

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        """The request's new blocks, behind those that were there."""

    # What it may ask.

    def share(self, part: float) -> int:
        return max(1, int(self.size * part))

    def next_entry(self) -> int:
        self.entries += 1
        return self.entries

    def leaves(self) -> list[Block]:
        parents = {state.above for state in self.cached.values()}
        return [b for b in self.cached if b not in parents and b not in self.running]

    def in_queue(self, queue: int) -> list[Block]:
        return [b for b, state in self.cached.items() if state.queue == queue]

    def order(self, block: Block) -> Key:
        state = self.cached[block]
        return (*state.key, -state.depth)

    def queue_leaves(self, queue: int) -> list[Block]:
        leaves = [b for b in self.leaves() if self.cached[b].queue == queue]
        return sorted(leaves, key=self.order)

    def oldest(self, *queues: int) -> Block:
        """The oldest leaf of the first of some queues that has one."""
        return next(leaf for queue in queues or (0,) for leaf in self.queue_leaves(queue)[:1])

    def has_leaf(self, queue: int) -> bool:
        return bool(self.queue_leaves(queue))

    def enter_anew(self, block: Block, change: Callable[[Cached], None]) -> None:
        """Change a block, and with it all above that entered with it and are known alike."""
        first = self.cached[block]
        alike = (first.queue, first.key, dict(first.state))
        at: Block | None = block
        while at is not None:
            state = self.cached[at]
            if (state.queue, state.key, state.state) != alike:
                return
            change(state)
            at = state.above


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
        self.end = len(blocks) + len(new)

    def make_room(self, at: int, count: int) -> None:
        self.state = self.admitted(at, None)
        self.refused = 0
        for _ in range(count):
            depth = self.end - self.refused
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


class Arc(Cache):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ghosts = Ghost()
        self.target = 0.0

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block in blocks:
            self.cached[block].queue, self.cached[block].key = 1, (entry,)
        once, often = self.ghosts.count(0), self.ghosts.count(1)
        found = self.ghosts.take(new)
        self.known = deepest(found)
        in_once = sum(item is not None and item[0] == 0 for item in found)
        in_often = sum(item is not None and item[0] == 1 for item in found)
        self.in_often = in_often > 0
        if in_once:
            self.target = min(self.size, self.target + max(1.0, often / once) * in_once)
        if in_often:
            self.target = max(0.0, self.target - max(1.0, once / often) * in_often)

    def victim(self) -> Block:
        once = len(self.in_queue(0))
        from_once = once > 0 and (once > self.target or (self.in_often and once == self.target))
        block = self.oldest(*((0, 1) if from_once else (1, 0)))
        self.ghosts.add(block, self.cached[block].queue)
        return block

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        for i, block in enumerate(blocks):
            self.cached[block].queue = int(i < self.known)
            self.cached[block].key = (entry,)
        self.ghosts.limit(0, max(0, self.size - len(self.in_queue(0))))
        others = len(self.cached) + self.ghosts.count(0)
        self.ghosts.limit(1, max(0, 2 * self.size - others))


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
        at, count = block, 0
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


HIR, LIR = 0, 1


class Lirs(Cache):
    cold = 0.01
    ghost_part = 1.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ghost = Ghost()
        self.lir_share = 10**9 if self.capacity is None else self.size - self.share(self.cold)

    def bottom(self) -> int:
        used = [self.cached[b].state["used"] for b in self.in_queue(LIR)]
        return min(used, default=0)

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        bottom, now = self.bottom(), self.next_entry()
        for block in blocks:
            state = self.cached[block]
            if state.queue == HIR and state.state["used"] >= bottom:
                state.queue = LIR
            state.key, state.state["used"] = (now,), now
        found = self.ghost.take(new)
        on_stack = [None if f is None or f[1] < bottom else f for f in found]
        self.known = deepest(on_stack)

    def victim(self) -> Block:
        block = self.oldest(HIR, LIR)
        self.ghost.add(block, 0, self.cached[block].state["used"])
        self.ghost.limit(0, self.share(self.ghost_part))
        return block

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        lir = sum(b not in blocks for b in self.in_queue(LIR))
        known = max(self.known, min(len(blocks), max(0, self.lir_share - lir)))
        for i, block in enumerate(blocks):
            state = self.cached[block]
            state.queue, state.key, state.state = int(i < known), (entry,), {"used": entry}

    def settle(self) -> None:
        while len(self.in_queue(LIR)) > self.lir_share:
            lir = self.in_queue(LIR)
            used = min(self.cached[b].state["used"] for b in lir)
            last = [b for b in lir if self.cached[b].state["used"] == used]
            block = max(last, key=lambda b: self.cached[b].depth)
            beyond, entry = len(lir) - self.lir_share, self.next_entry()
            at: Block | None = block
            while at is not None and beyond > 0 and at in last:
                state = self.cached[at]
                state.queue, state.key = HIR, (entry,)
                at, beyond = state.above, beyond - 1


class LirsHalf(Lirs):
    cold = 0.4


WINDOW, PROBATION, PROTECTED = 0, 1, 2


class WTinyLfu(Cache):
    window = 0.01
    sample = 10.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ghost = Ghost()
        self.window_share = self.share(self.window)
        rest = self.size - self.window_share
        self.protected_share = max(1, int(rest * 0.8))
        self.halvings = self.uses = 0

    def count(self, state: dict[str, Any]) -> int:
        return int(state["uses"]) >> (self.halvings - state["halvings"])

    def more(self, uses: int) -> dict[str, Any]:
        return {"uses": min(15, uses + 1), "halvings": self.halvings}

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block in blocks:
            state = self.cached[block]
            state.queue = WINDOW if state.queue == WINDOW else PROTECTED
            state.key, state.state = (entry,), self.more(self.count(state.state))
        self.found = self.ghost.take(new)

    def lose(self, block: Block) -> None:
        self.ghost.add(block, 0, dict(self.cached[block].state))
        self.ghost.limit(0, self.share(self.sample))
        self.drop(block)

    def fall(self, block: Block, most: int) -> None:
        """A block and those above it that are alike enter probation together."""
        first, entry = self.cached[block], self.next_entry()
        alike = (first.queue, first.key, dict(first.state))
        at: Block | None = block
        while at is not None and most > 0:
            state = self.cached[at]
            if (state.queue, state.key, state.state) != alike:
                return
            state.queue, state.key = PROBATION, (entry,)
            at, most = state.above, most - 1

    def make_room(self, at: int, count: int) -> None:
        while count > 0:
            full = len(self.in_queue(WINDOW)) >= self.window_share
            windows = self.queue_leaves(WINDOW)
            victims = self.queue_leaves(PROBATION) or self.queue_leaves(PROTECTED)
            wins = False
            if windows and victims and full:
                candidate = windows[0]
                uses = [self.count(self.cached[b].state) for b in (candidate, victims[0])]
                wins = uses[0] > uses[1]
                loser = victims[0] if wins else candidate
            else:
                loser = (victims or windows)[0]
            first = self.cached[loser]
            alike = (first.queue, first.key, dict(first.state))
            at_block: Block | None = loser
            while at_block is not None and count > 0 and at_block in self.leaves():
                state = self.cached[at_block]
                if (state.queue, state.key, state.state) != alike:
                    break
                self.lose(at_block)
                at_block, count = state.above, count - 1
            if wins:
                self.fall(candidate, 10**9)

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block, found in zip(blocks, self.found, strict=True):
            state = self.cached[block]
            uses = 0 if found is None else self.count(found[1])
            state.key, state.state = (entry,), self.more(uses)

    def settle(self) -> None:
        for queue, size in ((WINDOW, self.window_share), (PROTECTED, self.protected_share)):
            while len(self.in_queue(queue)) > size and self.has_leaf(queue):
                self.fall(self.oldest(queue), len(self.in_queue(queue)) - size)

    def ended(self, kept: int) -> None:
        self.uses += kept
        if self.uses >= self.share(self.sample):
            self.uses = 0
            self.halvings += 1


class WTinyLfuWide(WTinyLfu):
    window = 0.3
    sample = 2.0


class WorkloadAware(Cache):
    learn = 1000

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        count = min(64, max(self.categories, default=0) + 1)
        self.known = [{"uses": 0, "reuses": 0, "gaps": 0.0} for _ in range(count)]
        self.all = {"uses": 0, "reuses": 0, "gaps": 0.0}
        self.ages = 0.0
        self.left = 0

    def category(self, at: int) -> int:
        return min(len(self.known) - 1, self.categories[at]) if self.categories else 0

    def hit(self, at: int, blocks: Sequence[Block], new: Sequence[Block]) -> None:
        entry, now = self.next_entry(), self.times[at]
        for block in reversed(blocks):
            state = self.cached[block]
            gap = max(0.0, now - state.state["used"])
            for known in (self.known[state.queue], self.all):
                known["reuses"] += 1
                known["gaps"] += gap
            state.queue, state.key, state.state = self.category(at), (entry,), {"used": now}

    def make_room(self, at: int, count: int) -> None:
        life = self.ages / self.left if self.left else 1.7976931348623157e308
        now, ages, left = self.times[at], 0.0, 0
        for _ in range(count):
            heads = [b for q in range(len(self.known)) for b in self.queue_leaves(q)[:1]]

            def chance(block: Block) -> tuple[float, float]:
                state = self.cached[block]
                known = self.known[state.queue]
                if known["uses"] < self.learn:
                    known = self.all
                used = state.state["used"]
                if not known["reuses"]:
                    return 0.0, used
                mean = max(known["gaps"] / known["reuses"], 2.2250738585072014e-308)
                soon = math.exp(-(now - used) / mean) - math.exp(-(now - used + life) / mean)
                return known["reuses"] / known["uses"] * soon, used

            block = min(heads, key=chance)
            ages, left = ages + now - self.cached[block].state["used"], left + 1
            self.drop(block)
        self.ages, self.left = self.ages + ages, self.left + left

    def came(self, at: int, blocks: Sequence[Block]) -> None:
        entry = self.next_entry()
        for block in blocks:
            state = self.cached[block]
            state.queue, state.key = self.category(at), (entry,)
            state.state = {"used": self.times[at]}

    def ended_at(self, at: int, kept: int) -> None:
        for known in (self.known[self.category(at)], self.all):
            known["uses"] += kept


class WorkloadAwareSoon(WorkloadAware):
    learn = 3


POLICIES: dict[str, type[Cache]] = {
    "lru": Lru,
    "fifo": Fifo,
    "s3fifo": S3Fifo,
    "s3fifo:small=0.5:threshold=1:fill=true": S3FifoFill,
    "s3fifo:small=0.5:threshold=1:most=1:grace=0.5": Clock2QPlus,
    "sieve": Sieve,
    "clock": Clock,
    "clock:bits=2": Clock2,
    "lfu": Lfu,
    "gdsf": Gdsf,
    "gdsf:attention=3": GdsfDepth,
    "gdsf:refuse=true": GdsfRefuse,
    "flop-aware": FlopAware,
    "lru-k": LruK,
    "lru-k:k=3:fifo=true": Lru3,
    "slru": Slru,
    "slru:segments=3:protected=0:room=true": Slru3,
    "2q": TwoQ,
    "mq": Mq,
    "mq:queues=3:lifetime=3:ghost=0.5": MqShort,
    "arc": Arc,
    "lirs": Lirs,
    "lirs:cold=0.4": LirsHalf,
    "w-tinylfu": WTinyLfu,
    "w-tinylfu:window=0.3:sample=2": WTinyLfuWide,
    "t-lru": TailLru,
    "t-lru:threshold=3:next=1": TailLruShort,
    "workload-aware": WorkloadAware,
    "workload-aware:learn=3": WorkloadAwareSoon,
    "ttl": Ttl,
    "ttl:seconds=3": TtlShort,
    "ttl:seconds=3:renew=false": TtlOnce,
}


def replay(
    name: str,
    requests: list[Request],
    capacity: int | None,
    times: Sequence[float] = (),
    categories: Sequence[int] = (),
    block_size: int = 1,
) -> Run:
    times = times or [float(i) for i in range(len(requests))]
    cache = POLICIES[name](capacity, requests, times, categories, block_size)
    cached, run = cache.cached, Run()
    now = 0.0

    def drop(block: Block) -> None:
        state = cached.pop(block)
        run.evictions += 1
        run.lifetimes.append(now - state.born)
        run.idle.append(now - state.used)

    cache.drop = drop
    for i, request in enumerate(requests):
        now = times[i]
        cache.running = set()
        cache.expire(i)
        hit = 0
        while hit < len(request.blocks) and request.blocks[hit] in cached:
            hit += 1
        run.hits.append(min(hit, request.limit))
        blocks = request.blocks if capacity is None else request.blocks[:capacity]
        cache.running = set(blocks)
        cache.refused = 0
        cache.hit(i, blocks[:hit], blocks[hit:])
        excess = 0 if capacity is None else len(cached) + len(blocks) - hit - capacity
        cache.make_room(i, max(0, excess))
        blocks = blocks[: len(blocks) - cache.refused]
        for block in blocks[:hit]:
            cached[block].used = now
        for depth in range(hit, len(blocks)):
            above = blocks[depth - 1] if depth else None
            cached[blocks[depth]] = Cached(above, depth + 1, i, now, now)
        if len(blocks) > hit:
            cache.came(i, blocks[hit:])
        cache.running = set()
        for step, arguments in (("settle", ()), ("ended", (len(blocks),)), ("ended_at", (i, len(blocks)))):  # fmt: skip
            if hasattr(cache, step):
                getattr(cache, step)(*arguments)
    return run
