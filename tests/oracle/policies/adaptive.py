"""Policies that learn from the trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.oracle.forest import Block
from tests.oracle.policies.cache import Cache
from tests.oracle.policies.queues import Ghost, deepest


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

    def end(self, at: int, kept: int) -> None:
        while len(self.in_queue(LIR)) > self.lir_share:
            lir = self.in_queue(LIR)
            used = min(self.cached[b].state["used"] for b in lir)
            last = [b for b in lir if self.cached[b].state["used"] == used]
            block = max(last, key=lambda b: self.cached[b].depth)
            beyond, entry = len(lir) - self.lir_share, self.next_entry()
            lowest: Block | None = block
            while lowest is not None and beyond > 0 and lowest in last:
                state = self.cached[lowest]
                state.queue, state.key = HIR, (entry,)
                lowest, beyond = state.above, beyond - 1


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
        return int(state["uses"]) >> (self.halvings - int(state["halvings"]))

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

    def end(self, at: int, kept: int) -> None:
        for queue, size in ((WINDOW, self.window_share), (PROTECTED, self.protected_share)):
            while len(self.in_queue(queue)) > size and self.has_leaf(queue):
                self.fall(self.oldest(queue), len(self.in_queue(queue)) - size)
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

    def end(self, at: int, kept: int) -> None:
        for known in (self.known[self.category(at)], self.all):
            known["uses"] += kept


class WorkloadAwareSoon(WorkloadAware):
    learn = 3
