"""The cached tree block by block, and what every policy may say and ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.forest import Block, Request

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

    def end(self, at: int, kept: int) -> None:
        """The request is over, and so many blocks of it are cached."""

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
