"""SGLang's radix cache, the slow and readable way: tokens in lists, a walk for every question.

Written from the description of the recorded behaviour, without a look at the core. Four profiles:
the classic tree of 0.5.9, 0.5.16 and 0.5.23, and the unified tree of 0.5.23.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Any

Namespace = tuple[str, str]


@dataclass(eq=False)
class Node:
    key: list[int]
    parent: Node | None
    namespace: Namespace = ("", "")
    children: list[Node] = field(default_factory=list)
    lock: int = 0
    hits: int = 0
    priority: int = 0
    accessed: float = 0.0
    created: float = 0.0
    longest: int = 0

    @property
    def depth(self) -> int:
        """Tokens from the root to the end of the node."""
        return len(self.key) + (self.parent.depth if self.parent else 0)

    @property
    def evictable(self) -> bool:
        return self.parent is not None and self.lock == 0 and not self.children

    def path(self) -> list[Node]:
        """The node and those above it, without the root."""
        return [] if self.parent is None else [self, *self.parent.path()]


@dataclass
class Request:
    tokens: list[int]
    namespace: Namespace
    prompt: int
    priority: int
    node: Node
    allocated: int = 0
    in_tree: int = 0
    inserted: int = 0


class Tree:
    """The tree and the pool of pages."""

    def __init__(
        self,
        engine: str,
        page: int,
        capacity: int,
        policy: str = "lru",
        *,
        threshold: int = 0,
        next_prompt_estimate: int = 0,
        protected_threshold: int = 2,
    ) -> None:
        self.engine = engine
        self.unified = engine == "unified-0.5.23"
        self.new = engine.endswith("0.5.23")
        self.page = page
        self.capacity = self.free = capacity // page * page
        self.policy = policy
        self.threshold = threshold
        self.estimate = next_prompt_estimate
        self.protected_threshold = protected_threshold
        self.clock = count(1)
        self.root = Node([], None, lock=1)
        self.evictions: list[list[Any]] = []

    # The tree.

    def nodes(self) -> list[Node]:
        found, rest = [], list(self.root.children)
        while rest:
            node = rest.pop()
            found.append(node)
            rest += node.children
        return found

    def floor(self, n: int) -> int:
        return n // self.page * self.page

    def ceil(self, n: int) -> int:
        return -(-n // self.page) * self.page

    def child(self, node: Node, tokens: list[int], namespace: Namespace) -> Node | None:
        first = tokens[: self.page]
        for child in node.children:
            if child.namespace == namespace and child.key[: self.page] == first:
                return child
        return None

    def common(self, a: list[int], b: list[int]) -> int:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
        return self.floor(len(list(same)))

    def split(self, lower: Node, k: int) -> Node:
        parent = lower.parent
        assert parent is not None
        upper = Node(lower.key[:k], parent, lower.namespace, [lower])
        upper.lock, upper.hits, upper.priority = lower.lock, lower.hits, lower.priority
        upper.longest = lower.longest
        parent.children[parent.children.index(lower)] = upper
        lower.parent, lower.key = upper, lower.key[k:]
        upper.accessed, upper.created = next(self.clock), next(self.clock)
        if self.unified:
            upper.created = lower.created
            lower.accessed = next(self.clock)
        return upper

    def match(self, tokens: list[int], namespace: Namespace, limit: int) -> tuple[int, Node]:
        tokens = tokens[: self.floor(min(len(tokens), limit))]
        node, at = self.root, 0
        if not tokens:
            return 0, node
        now = next(self.clock)
        while at < len(tokens) and (child := self.child(node, tokens[at:], namespace)):
            if not self.unified:
                child.accessed = now
            k = self.common(child.key, tokens[at:])
            at += k
            node = self.split(child, k) if k < len(child.key) else child
            if node is not child:
                break
        if self.unified:
            stamp = next(self.clock)
            for i, touched in enumerate(node.path()):
                touched.accessed = stamp - i * 1e-5
        return at, node

    def insert(
        self,
        tokens: list[int],
        namespace: Namespace,
        priority: int,
        inserted: int,
        *,
        chunked: bool,
    ) -> tuple[int, Node]:
        tokens = tokens[: self.floor(len(tokens))]

        def count_use(node: Node, end: int) -> None:
            if self.engine == "radix-0.5.16":
                node.hits += not chunked
            elif self.new:
                node.hits += end > inserted

        now = next(self.clock)
        node, at = self.root, 0
        while at < len(tokens) and (child := self.child(node, tokens[at:], namespace)):
            child.accessed = next(self.clock) if self.unified else now
            k = self.common(child.key, tokens[at:])
            if k < len(child.key):
                child = self.split(child, k)
            child.priority = max(child.priority, priority)
            at += k
            count_use(child, at)
            node = child
        matched = at
        if at < len(tokens):
            leaf = Node(tokens[at:], node, namespace, priority=priority, longest=len(tokens))
            leaf.accessed, leaf.created = next(self.clock), next(self.clock)
            node.children.append(leaf)
            count_use(leaf, len(tokens))
            for above in node.path():
                if above.longest >= len(tokens):
                    break
                above.longest = len(tokens)
            node = leaf
        return matched, node

    def lock(self, node: Node, by: int) -> None:
        for locked in node.path():
            locked.lock += by
            assert locked.lock >= 0

    def size(self, *, locked: bool) -> int:
        return sum(len(n.key) for n in self.nodes() if (n.lock > 0) == locked)

    # Eviction.

    def order(self, node: Node) -> tuple[float, float]:
        needed = max(node.longest + self.estimate - self.threshold, 0)
        first: dict[str, float] = {
            "lru": 0,
            "fifo": node.created,
            "filo": -node.created,
            "lfu": node.hits,
            "priority": node.priority,
            "slru": int(node.hits >= self.protected_threshold),
            "tlru": -int(node.depth - len(node.key) >= needed),
        }
        return (0, -node.accessed) if self.policy == "mru" else (first[self.policy], node.accessed)

    def evict(self, wanted: int) -> None:
        heap = [(self.order(n), id(n), n) for n in self.nodes() if n.evictable]
        heapq.heapify(heap)
        gone: list[int] = []
        while sum(gone) < wanted and heap:
            leaf = heapq.heappop(heap)[2]
            parent = leaf.parent
            assert parent is not None
            parent.children.remove(leaf)
            gone.append(len(leaf.key))
            if parent.evictable:
                heapq.heappush(heap, (self.order(parent), id(parent), parent))
        self.free += sum(gone)
        self.evictions.append([wanted, gone])

    def make_room(self, demand: int) -> None:
        if demand > self.free:
            self.evict(demand - self.free if self.new else demand)

    # Requests.

    def namespace(self, extra_key: str | None, salt: str | None) -> Namespace:
        extra_key, salt = extra_key or "", salt or ""
        return (extra_key, salt) if self.new else (salt + extra_key, "")

    def admit(self, tokens: list[int], namespace: Namespace, priority: int) -> Request:
        matched, node = self.match(tokens, namespace, len(tokens) - 1)
        self.lock(node, 1)
        request = Request(list(tokens), namespace, len(tokens), priority, node)
        request.allocated = request.in_tree = matched
        return request

    def take(self, r: Request, upto: int) -> None:
        self.free -= self.ceil(upto) - self.ceil(r.allocated)
        assert self.free >= 0
        r.allocated = upto

    def fits(self, r: Request, upto: int) -> bool:
        need = self.ceil(upto) - self.ceil(r.allocated)
        return need <= self.free + self.size(locked=False)

    def checkpoint(self, r: Request, upto: int, *, chunked: bool) -> None:
        key = r.tokens[: self.floor(upto)]
        matched, end = self.insert(key, r.namespace, r.priority, r.inserted, chunked=chunked)
        if self.new:
            r.inserted = max(r.inserted, len(key))
            p = self.floor(r.prompt)
            if 0 < p < len(key):
                self.insert(key[:p], r.namespace, r.priority + 1, p, chunked=False)
        self.free += matched - r.in_tree
        if not self.unified:
            end = self.match(key, r.namespace, len(key))[1]
        self.lock(r.node, -1)
        self.lock(end, 1)
        r.node, r.in_tree = end, len(key)

    def extend(self, r: Request, upto: int, *, last: bool) -> None:
        self.make_room(upto - r.allocated + (self.page if self.page > 1 else 0))
        self.take(r, upto)
        self.checkpoint(r, upto, chunked=not last)

    def append(self, r: Request, token: int) -> None:
        self.make_room(self.page)
        self.take(r, r.allocated + 1)
        r.tokens.append(token)

    def finish(self, r: Request) -> None:
        upto = r.allocated
        if self.new:
            self.checkpoint(r, upto, chunked=False)
        else:
            key = r.tokens[: self.floor(upto)]
            matched, _ = self.insert(key, r.namespace, r.priority, 0, chunked=False)
            self.free += matched - r.in_tree
            r.in_tree = len(key)
        self.drop(r)

    def drop(self, r: Request) -> None:
        self.free += self.ceil(r.allocated) - r.in_tree
        self.lock(r.node, -1)

    # What is compared.

    def state(self) -> dict[str, Any]:
        rows: list[list[int]] = []
        order: list[Node] = []

        def visit(node: Node, above: int) -> None:
            for child in sorted(node.children, key=lambda c: (*c.namespace, c.key[: self.page])):
                key = child.key
                rows.append([above, len(key), key[0], child.lock, child.hits, child.priority])
                order.append(child)
                visit(child, len(rows) - 1)

        visit(self.root, -1)
        return {
            "nodes": rows,
            "access": sorted(range(len(rows)), key=lambda i: order[i].accessed),
            "created": sorted(range(len(rows)), key=lambda i: order[i].created),
            "evictable": self.size(locked=False),
            "protected": self.size(locked=True),
            "free": self.free,
        }
