"""A hierarchy of tiers block by block: slow, readable, and the witness of surface and engine.

Rules of a request, whose blocks are its path:

1. Each block of the path is looked for in the fastest tier that has it. The blocks found without a
   gap from the start, at most ``limit``, are hits; where loading is slower than computing, fewer.
2. The path leaves every exclusive tier.
3. The path enters the fastest tier. What that drops, and what of the path has no room, is written
   to the tier below, if that tier is written back; what that drops goes further down.
4. Tiers that are written through take what they see of the path, from the fastest down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.oracle.forest import Block, Request

NEVER = 10**9


@dataclass
class Tier:
    """One tier: its rules, and its blocks in the order in which they came or were used."""

    capacity: int
    policy: str = "lru"
    exclusive: bool = False
    write: str = "through"
    min_uses: int = 1
    sees: str = "all"
    head_first: bool = False
    latency: float = 0.0
    seconds_per_block: float = 0.0
    order: list[Block] = field(default_factory=list)
    counts: dict[Block, int] = field(default_factory=dict)

    def use(self, block: Block) -> None:
        """A block comes in, or is used again."""
        known = block in self.counts
        self.counts[block] = self.counts.get(block, 0) + 1
        if known and self.policy == "fifo":
            return
        if known:
            self.order.remove(block)
        self.order.append(block)

    def remove(self, block: Block) -> None:
        if block in self.counts:
            self.order.remove(block)
            del self.counts[block]

    def victims(self, count: int, kept: Sequence[Block] = ()) -> list[Block]:
        """Drop blocks, none of those kept; in the order in which they go."""
        order = self.order[::-1] if self.policy == "mru" else self.order
        if self.policy == "lfu":
            order = sorted(order, key=lambda b: self.counts[b])
        found = [block for block in order if block not in kept][: max(0, count)]
        for block in found:
            self.remove(block)
        return found


@dataclass
class Served:
    """What became of one request; blocks."""

    hits: list[int]  # by tier
    written: list[int]  # by tier
    lost: dict[str, int]  # known blocks that missed, by cause
    evictions: int  # from the fastest tier


class Hierarchy:
    """Tiers, the fastest first. ``compute``: seconds per block, if loading is a choice."""

    def __init__(self, tiers: list[Tier], compute: float | None = None) -> None:
        self.tiers = tiers
        self.compute = compute
        self.uses: dict[Block, int] = {}
        self.left: dict[Block, str] = {}
        self.evictions = 0

    def serve(self, request: Request) -> Served:
        path = request.blocks
        where = [next((k for k, t in enumerate(self.tiers) if b in t.counts), -1) for b in path]
        found = next((i for i, k in enumerate(where) if k < 0), len(path))
        reach = min(found, request.limit)
        hit = self.worth_loading(where[:reach], request.limit)
        hits = [where[:hit].count(k) for k in range(len(self.tiers))]
        lost = self.losses(path, where, hit, reach, request.limit)
        for block in path:
            self.uses[block] = self.uses.get(block, 0) + 1
        written = [0] * len(self.tiers)
        self.evictions = 0

        for tier in self.tiers[1:]:
            if tier.exclusive:
                for block in path:
                    tier.remove(block)
        outside = self.put(0, path, 0, written)
        for block in reversed(outside):
            self.drop(0, block, written)
        loads = [i for i in range(hit) if where[i] > 0]
        missed = next((i for i in range(hit) if where[i] != 0), hit)
        for k, tier in enumerate(self.tiers[1:], start=1):
            if tier.write == "through":
                start = {"all": 0, "from-loads": loads[0] if loads else 0, "misses": missed}
                self.put(k, path, start[tier.sees], written)
        assert all(len(tier.order) <= tier.capacity for tier in self.tiers)
        return Served(hits, written, lost, self.evictions)

    def worth_loading(self, where: list[int], limit: int) -> int:
        """How many of the blocks found are used: all, or where less time is lost."""
        if self.compute is None:
            return len(where)
        start = next((i for i, k in enumerate(where) if k > 0), len(where))
        ends = [i for i in range(start, len(where)) if i == start or where[i] != where[i - 1]]
        best, least = 0, float("inf")
        for cut in sorted({*ends, len(where)}):
            seconds = 0.0
            for k, tier in enumerate(self.tiers):
                count = where[:cut].count(k)
                if k > 0 and count:
                    seconds += tier.latency + count * tier.seconds_per_block
            seconds += (limit - cut) * self.compute
            if seconds <= least:
                best, least = cut, seconds
        return best

    def losses(
        self, path: list[Block], where: list[int], hit: int, reach: int, limit: int
    ) -> dict[str, int]:
        lost: dict[str, int] = {}
        for i in range(hit, min(limit, len(path))):
            if path[i] not in self.uses:
                break
            if i < reach:
                cause = "slow"
            elif where[i] >= 0:
                cause = "stranded"
            else:
                cause = self.left[path[i]]
            lost[cause] = lost.get(cause, 0) + 1
        return lost

    def put(self, k: int, path: list[Block], start: int, written: list[int]) -> list[Block]:
        """What a tier sees of the path enters it, as far as there is room besides that itself.

        What is there already is used, its beginning last; what comes in does so in the same order,
        or beginning first. Returns what has no room.
        """
        tier, seen = self.tiers[k], path[start:]
        there = [b for b in seen if b in tier.counts]
        absent = [
            b for b in seen if b not in tier.counts and self.uses[b] >= tier.min_uses
        ]  # fmt: skip
        room = tier.capacity - len(there)
        entering, outside = absent[:room], absent[room:]
        victims = tier.victims(len(tier.order) + len(entering) - tier.capacity, seen)
        written[k] += len(entering)
        self.evictions += len(victims) if k == 0 else 0
        if tier.head_first:
            moves = there[::-1] + entering
        else:
            moves = [b for b in reversed(seen) if b in there or b in entering]
        for block in moves:
            tier.use(block)
        for block in victims:
            self.drop(k, block, written)
        return outside

    def drop(self, k: int, block: Block, written: list[int]) -> None:
        """A block has left a tier: what is below may take it."""
        below = self.tiers[k + 1] if k + 1 < len(self.tiers) else None
        if below is not None and below.write == "back" and self.uses[block] >= below.min_uses:
            if block not in below.counts:
                written[k + 1] += below.capacity > 0
                for victim in below.victims(len(below.order) + 1 - below.capacity):
                    self.drop(k + 1, victim, written)
            if below.capacity > 0:
                below.use(block)
            else:
                self.drop(k + 1, block, written)
        self.note(block, k)

    def note(self, block: Block, k: int) -> None:
        """Remember of a block that is nowhere which tier it left last, or that it was too rare."""
        if not any(block in tier.counts for tier in self.tiers):
            rare = any(self.uses[block] < tier.min_uses for tier in self.tiers[1:])
            self.left[block] = "threshold" if rare else f"tier {k}"


def replay(
    requests: list[Request], tiers: list[Tier], compute: float | None = None
) -> list[Served]:
    hierarchy = Hierarchy(tiers, compute)
    return [hierarchy.serve(request) for request in requests]


def inclusive(capacities: Sequence[int]) -> list[Tier]:
    return [Tier(capacity) for capacity in capacities]


def exclusive(capacities: Sequence[int]) -> list[Tier]:
    top, *below = capacities
    return [Tier(top), *(Tier(c, exclusive=True, write="back") for c in below)]
