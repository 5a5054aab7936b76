"""Policies block by block: slow, readable, and the witnesses of rust/policy.

A cache holds blocks of a tree, each with all its ancestors. The loop is the same for every policy;
what differs is which leaf goes. A block is the tuple of everything up to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.oracle.forest import Block, Request, Run


@dataclass
class Cached:
    """What is known of a cached block."""

    above: Block | None  # the block before it
    depth: int  # 1 for the first block of a sequence
    owner: int  # the request it came with
    born: float
    used: float
    queue: str = "small"
    entry: int = 0  # when it entered its queue
    uses: int = 0


class Fifo:
    """The leaf that came in first goes first; of those of one request, the deepest."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.cached: dict[Block, Cached] = {}
        self.running: set[Block] = set()

    def leaves(self) -> list[Block]:
        parents = {state.above for state in self.cached.values()}
        return [b for b in self.cached if b not in parents and b not in self.running]

    def hit(self, blocks: Sequence[Block]) -> None:
        """The request's cached blocks are used once more."""

    def victim(self) -> Block:
        return min(self.leaves(), key=lambda b: (self.cached[b].owner, -self.cached[b].depth))

    def dropped(self, block: Block) -> None:
        """A block has left the cache."""

    def came(self, blocks: Sequence[Block]) -> None:
        """The request's new blocks, behind those that were there."""


class S3Fifo(Fifo):
    """Yang et al., SOSP 2023, on leaves; the rules are those of ``S3Fifo`` in rust/policy."""

    def __init__(self, capacity: int | None) -> None:
        super().__init__(capacity)
        blocks = 10**9 if capacity is None else capacity
        self.small_share = max(1, blocks // 10)
        self.ghost_room = blocks - self.small_share
        self.ghost: dict[Block, int] = {}  # number of the drop
        self.drops = 0
        self.entries = 0

    def hit(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            self.cached[block].uses = min(3, self.cached[block].uses + 1)

    def promote(self, block: Block | None) -> None:
        """A block and its ancestors in small enter main together."""
        self.entries += 1
        while block is not None and self.cached[block].queue == "small":
            state = self.cached[block]
            state.queue, state.entry, state.uses = "main", self.entries, 0
            block = state.above

    def enter_anew(self, block: Block | None) -> None:
        """A block of main, with the ancestors that are like it, goes to the end of the queue."""
        assert block is not None
        first = self.cached[block]
        alike = (first.queue, first.entry, first.uses)
        self.entries += 1
        while block is not None:
            state = self.cached[block]
            if (state.queue, state.entry, state.uses) != alike:
                break
            state.entry, state.uses = self.entries, state.uses - 1
            block = state.above

    def victim(self) -> Block:
        while True:
            leaves = sorted(self.leaves(), key=lambda b: self.cached[b].entry)
            small = [b for b in leaves if self.cached[b].queue == "small"]
            main = [b for b in leaves if self.cached[b].queue == "main"]
            held = sum(state.queue == "small" for state in self.cached.values())
            if small and (held >= self.small_share or not main):
                if self.cached[small[0]].uses < 2:
                    return small[0]
                self.promote(small[0])
            else:
                if self.cached[main[0]].uses == 0:
                    return main[0]
                self.enter_anew(main[0])

    def dropped(self, block: Block) -> None:
        if self.cached[block].queue == "small":
            self.drops += 1
            self.ghost[block] = self.drops

    def came(self, blocks: Sequence[Block]) -> None:
        numbers = [self.ghost.pop(block, 0) for block in blocks]
        known = [k for k, n in enumerate(numbers) if n > max(0, self.drops - self.ghost_room)]
        self.entries += 1
        for block in blocks:
            self.cached[block].entry = self.entries
        if known:
            self.promote(blocks[known[-1]])


POLICIES = {"fifo": Fifo, "s3fifo": S3Fifo}


def replay(
    name: str, requests: list[Request], capacity: int | None, times: Sequence[float] = ()
) -> Run:
    cache = POLICIES[name](capacity)
    cached = cache.cached
    run = Run()
    for i, request in enumerate(requests):
        now = times[i] if times else float(i)
        hit = 0
        while hit < len(request.blocks) and request.blocks[hit] in cached:
            hit += 1
        run.hits.append(min(hit, request.limit))
        blocks = request.blocks if capacity is None else request.blocks[:capacity]
        cache.running = set(blocks)
        cache.hit(blocks[:hit])
        while capacity is not None and len(cached) + len(blocks) - hit > capacity:
            victim = cache.victim()
            cache.dropped(victim)
            state = cached.pop(victim)
            run.evictions += 1
            run.lifetimes.append(now - state.born)
            run.idle.append(now - state.used)
        for block in blocks[:hit]:
            cached[block].used = now
        for depth in range(hit, len(blocks)):
            above = blocks[depth - 1] if depth else None
            cached[blocks[depth]] = Cached(above, depth + 1, i, now, now)
        if len(blocks) > hit:
            cache.came(blocks[hit:])
    return run
