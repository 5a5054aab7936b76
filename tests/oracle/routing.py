"""Routers as their rules read; shares no code with the core.

``allowed(i, loads, runs)`` is the set of replicas that a router takes with equal right; ``loads``
are requests in flight, ``runs`` leading full blocks in each cache.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from tests.oracle.fleet import Router, chain

__all__ = [
    "Aibrix",
    "CacheAware",
    "Dynamo",
    "Greedy",
    "LeastLoaded",
    "Llmd",
    "PrefixAware",
    "RoundRobin",
    "Sticky",
    "WorkOracle",
    "ring",
]


def least(values: Sequence[Any], among: Sequence[int] | None = None) -> set[int]:
    """Where a list is smallest."""
    places = range(len(values)) if among is None else among
    smallest = min(values[w] for w in places)
    return {w for w in places if values[w] == smallest}


class RoundRobin(Router):
    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        return {i % self.replicas}


class LeastLoaded(Router):
    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        return {min(least(loads))}


class Sticky(Router):
    """A session stays where it began."""

    def setup(self, mode: str = "random") -> None:
        self.mode, self.bound = mode, dict[str, int]()
        self.flying: list[tuple[str, int]] = []

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        key = self.requests[i].key
        if key in self.bound:
            return {self.bound[key]}
        if self.mode == "min_load":
            return least(loads)
        if self.mode == "min_group":
            groups = [len({k for k, v in self.flying if v == w}) for w in range(self.replicas)]
            return least(groups)
        return set(range(self.replicas))

    def book(self, i: int, w: int) -> None:
        self.bound[self.requests[i].key] = w
        self.flying.append((self.requests[i].key, w))

    def finished(self, i: int, w: int) -> None:
        self.flying.remove((self.requests[i].key, w))


def ring(points: Callable[[int], Iterator[int]], replicas: int, key: int, *, behind: bool) -> int:
    """The replica of the first point at (or behind) a key, around a ring."""
    all_points = sorted((p, w) for w in range(replicas) for p in points(w))
    reached = [(p, w) for p, w in all_points if (p > key if behind else p >= key)]
    return (reached or all_points)[0][1]


def md5_points(url: str) -> Iterator[int]:
    for i in range(160):
        yield int(hashlib.md5(f"{url}-{i}".encode()).hexdigest(), 16)


@dataclass
class Node:
    """A node of the tree of texts."""

    text: str
    tenants: set[int]
    owner: int | None
    children: dict[str, Node] = field(default_factory=dict)


class CacheAware(Router):
    """sglang-router's cache_aware, without eviction."""

    def setup(self, threshold: float = 0.3, difference: int = 64, ratio: float = 1.5) -> None:
        self.threshold, self.difference, self.ratio = threshold, difference, ratio
        self.root = Node("", set(range(self.replicas)), None)

    def match(self, text: str) -> tuple[int, int | None]:
        node, done = self.root, 0
        while done < len(text) and text[done] in node.children:
            node = node.children[text[done]]
            common = common_prefix(node.text, text[done:])
            done += common
            if common < len(node.text):
                break
        return done, node.owner

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        text, most, fewest = self.requests[i].text, max(loads), min(loads)
        ratio = np.float32(self.ratio)
        uneven = np.float32(most) > np.float32(fewest) * ratio
        if most - fewest <= self.difference or not uneven:
            done, owner = self.match(text)
            share = np.float32(done) / np.float32(len(text)) if text else np.float32(0)
            if share > np.float32(self.threshold) and owner is not None:
                return {owner}
        return {min(least(loads))}

    def book(self, i: int, w: int) -> None:
        node, text = self.root, self.requests[i].text
        while text:
            child = node.children.get(text[0])
            if child is None:
                node.children[text[0]] = Node(text, {w}, w)
                return
            common = common_prefix(child.text, text)
            if common < len(child.text):
                upper = Node(child.text[:common], set(child.tenants), child.owner)
                child.text = child.text[common:]
                upper.children[child.text[0]] = child
                node.children[text[0]] = child = upper
            child.tenants.add(w)
            node, text = child, text[common:]


def common_prefix(a: str, b: str) -> int:
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y),
                min(len(a), len(b)))  # fmt: skip


class Dynamo(Router):
    """Dynamo's cost; exact fractions, so that ties are ties."""

    def setup(self, block: int, *, events: bool = True, credit: int = 1) -> None:
        self.block, self.events, self.credit = block, events, credit
        self.prefill = [0] * self.replicas
        self.booked: dict[int, int] = {}
        self.flying: list[list[int]] = [[] for _ in range(self.replicas)]
        self.sent: list[set[Any]] = [set() for _ in range(self.replicas)]

    def blocks(self, i: int) -> list[tuple[Any, ...]]:
        return chain(self.requests[i].tokens, self.block)

    def overlap(self, i: int, w: int, runs: list[int]) -> int:
        return runs[w] if self.events else leading(self.blocks(i), self.sent[w])

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        n, blocks, costs = len(self.requests[i].tokens), self.blocks(i), []
        self.now = [self.overlap(i, w, runs) for w in range(self.replicas)]
        for w in range(self.replicas):
            active = {b for j in self.flying[w] for b in self.blocks(j)}
            raw = Fraction(self.prefill[w] + n, self.block)
            new = len(blocks) - leading(blocks, active)
            cost = max(Fraction(0), raw - self.credit * self.now[w]) + len(active) + new
            costs.append(cost)
        return least(costs)

    def book(self, i: int, w: int) -> None:
        n = len(self.requests[i].tokens)
        self.booked[i] = max(0, n - min(self.now[w] * self.block, n))
        self.prefill[w] += self.booked[i]
        self.flying[w].append(i)
        self.sent[w] |= set(self.blocks(i))

    def prefill_ended(self, i: int, w: int) -> None:
        self.prefill[w] -= self.booked[i]

    def finished(self, i: int, w: int) -> None:
        self.flying[w].remove(i)


def leading(blocks: Sequence[Any], held: set[Any]) -> int:
    return next((k for k, b in enumerate(blocks) if b not in held), len(blocks))


class Llmd(Router):
    """llm-d's approximate index, with a prefix and a queue scorer."""

    def setup(self, block: int = 64, capacity: int = 31_250) -> None:
        self.block, self.capacity = max(64, block), capacity
        self.lru: list[OrderedDict[Any, None]] = [OrderedDict() for _ in range(self.replicas)]
        self.pods: dict[Any, set[int]] = {}

    def blocks(self, i: int) -> list[tuple[Any, ...]]:
        return chain(self.requests[i].tokens, self.block, partial=True)

    def matches(self, i: int) -> list[int]:
        counts = [0] * self.replicas
        for block in self.blocks(i):
            pods = self.pods.get(block)
            if not pods:
                break
            for w in pods:
                counts[w] += 1
        return counts

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        counts, total = self.matches(i), len(self.blocks(i))
        most, fewest = max(loads), min(loads)
        scores = []
        for w in range(self.replicas):
            prefix = counts[w] / total if total else 0.0
            queue = 1.0 if most == fewest else (most - loads[w]) / (most - fewest)
            scores.append(-(3.0 * prefix + 2.0 * queue))
        return least(scores)

    def book(self, i: int, w: int) -> None:
        lru = self.lru[w]
        for block in self.blocks(i):
            lru.pop(block, None)
            lru[block] = None
            if len(lru) > self.capacity:
                gone, _ = lru.popitem(last=False)
                self.pods[gone].discard(w)
            self.pods.setdefault(block, set())
        for block in self.blocks(i):
            self.pods[block].add(w)


class PrefixAware(Router):
    """production-stack's trie of chunks."""

    def setup(self) -> None:
        self.had: dict[Any, set[int]] = {}

    def chunks(self, i: int) -> list[tuple[Any, ...]]:
        return chain(self.requests[i].text, 128, partial=True)

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        candidates = set(range(self.replicas))
        for chunk in self.chunks(i):
            both = candidates & self.had.get(chunk, set())
            if not both:
                break
            candidates = both
        return candidates

    def book(self, i: int, w: int) -> None:
        for chunk in self.chunks(i):
            self.had.setdefault(chunk, set()).add(w)


class Aibrix(Router):
    """AIBrix's table, an LRU that is entered first block first."""

    def setup(self, difference: int = 8, most_blocks: int = 200_000) -> None:
        self.difference, self.most_blocks = difference, most_blocks
        self.table: OrderedDict[Any, set[int]] = OrderedDict()

    def blocks(self, i: int) -> list[tuple[Any, ...]]:
        return chain(self.requests[i].text.encode(), 4)

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        ready = set(range(self.replicas))
        if max(loads) - min(loads) > self.difference:
            ready = least(loads)
        everyone, blocks = least(loads), self.blocks(i)
        percent: dict[int, int] = {}
        left = ready
        for k, block in enumerate(blocks):
            left = left & self.table.get(block, set())
            if not left:
                break
            percent |= dict.fromkeys(left, (k + 1) * 100 // len(blocks))
        mean = sum(loads) / len(loads)
        spread = 0.0
        if len(loads) > 1:
            squares = sum((x - mean) ** 2 for x in loads)
            spread = (squares / (len(loads) - 1)) ** 0.5
        fit = [w for w in percent if loads[w] <= mean + spread]
        if not fit:
            return everyone
        best = min((-percent[w], loads[w]) for w in fit)
        return {w for w in fit if (-percent[w], loads[w]) == best}

    def book(self, i: int, w: int) -> None:
        for block in self.blocks(i):
            pods = self.table.pop(block, set())
            self.table[block] = pods | {w}
            if len(self.table) > self.most_blocks:
                self.table.popitem(last=False)


class Greedy(Router):
    """The largest hit."""

    knows_all = True

    def setup(self, block: int) -> None:
        self.block = block

    def hit(self, i: int, run: int) -> int:
        return min(run, max(0, len(self.requests[i].tokens) - 1) // self.block) * self.block

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        order = [(-self.hit(i, runs[w]), loads[w], w) for w in range(self.replicas)]
        return least(order)


class WorkOracle(Greedy):
    """The fewest uncached tokens in flight."""

    def setup(self, block: int) -> None:
        super().setup(block)
        self.work, self.own = [0] * self.replicas, dict[int, int]()

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        n = len(self.requests[i].tokens)
        hits = [self.hit(i, runs[w]) for w in range(self.replicas)]
        self.uncached = [n - hit for hit in hits]
        order = [(self.work[w] + self.uncached[w], -hits[w], loads[w], w)
                 for w in range(self.replicas)]  # fmt: skip
        return least(order)

    def book(self, i: int, w: int) -> None:
        self.own[i] = self.uncached[w]
        self.work[w] += self.own[i]

    def finished(self, i: int, w: int) -> None:
        self.work[w] -= self.own[i]
