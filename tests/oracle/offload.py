"""vLLM's host tier the slow way: dictionaries, lists and sorting, one rule after the other.

The rules are those of vLLM 0.33 (``v1/kv_offload/cpu/manager.py``, ``policies/lru.py``,
``policies/arc.py``, ``v1/kv_offload/reuse_manager.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Key = int
Rank = tuple[int, int]


@dataclass
class Chunk:
    """A resident chunk; ``count`` is -1 while it is written, else how often it is being read."""

    slot: int
    count: int = -1


@dataclass
class Context:
    """What the tier knows of one request."""

    positions: dict[Key, int]
    seen: list[Key] = field(default_factory=list)
    inserted: set[Key] = field(default_factory=set)
    reused: set[Key] = field(default_factory=set)
    missed: set[Key] = field(default_factory=set)
    rank: int | None = None
    finished: bool = False


class Lru:
    """The chunk with the smallest rank goes first."""

    def __init__(self, chunks: dict[Key, Chunk]) -> None:
        self.chunks = chunks
        self.ranks: dict[Key, Rank] = {}
        self.counter = 0

    def _next(self) -> int:
        self.counter += 1
        return self.counter

    def _of(self, context: Context) -> int:
        if context.rank is None:
            context.rank = self._next()
        return context.rank

    def insert(self, context: Context, key: Key) -> None:
        if key in context.positions:
            self.ranks[key] = (self._of(context), -context.positions[key])
        else:
            self.ranks[key] = (self._next(), 0)

    def access(self, context: Context, keys: list[Key]) -> None:
        if not keys:
            return
        rank = self._of(context)
        for key in keys:
            if key in self.ranks and key in context.positions:
                self.ranks[key] = max(self.ranks[key], (rank, -context.positions[key]))

    def touch(self, keys: list[Key]) -> None:
        for key in reversed(keys):
            if key in self.ranks:
                self.ranks[key] = (self._next(), 0)

    miss = touch

    def finish(self, keys: list[Key], _inserted: set[Key], _reused: set[Key]) -> None:
        self.touch(keys)

    def evict(self, count: int, protected: set[Key]) -> list[Key] | None:
        order = sorted(self.ranks, key=self.ranks.__getitem__)
        idle = [k for k in order if self.chunks[k].count == 0 and k not in protected]
        if len(idle) < count:
            return None
        for key in idle[:count]:
            del self.ranks[key]
        return idle[:count]

    def remove(self, key: Key) -> None:
        del self.ranks[key]

    def state(self) -> dict[str, Any]:
        order = sorted(self.ranks, key=self.ranks.__getitem__)
        return {"order": [[k, self.chunks[k].slot, self.chunks[k].count] for k in order]}


class Arc:
    """Recent and frequent chunks in two lists, and the keys that left each in two more."""

    def __init__(self, chunks: dict[Key, Chunk], capacity: int) -> None:
        self.chunks, self.capacity = chunks, capacity
        self.t1: list[Key] = []
        self.t2: list[Key] = []
        self.b1: list[Key] = []
        self.b2: list[Key] = []
        self.target = 0.0

    def insert(self, _context: Context, key: Key) -> None:
        for ghosts in (self.b1, self.b2):
            if key in ghosts:
                ghosts.remove(key)
        self.t1.append(key)

    def access(self, context: Context, keys: list[Key]) -> None:
        pass

    @staticmethod
    def _move(key: Key, old: list[Key], new: list[Key]) -> None:
        old.remove(key)
        new.append(key)

    def _ghost(self, key: Key) -> None:
        b1, b2 = self.b1, self.b2
        if key in b1:
            self.target = min(self.target + max(1, len(b2) / len(b1)), self.capacity)
            self._move(key, b1, b1)
        elif key in b2:
            self.target = max(self.target - max(1, len(b1) / len(b2)), 0)
            self._move(key, b2, b2)

    def miss(self, keys: list[Key]) -> None:
        for key in reversed(keys):
            self._ghost(key)

    def touch(self, keys: list[Key]) -> None:
        for key in reversed(keys):
            if key in self.t1:
                pending = self.chunks[key].count == -1
                self._move(key, self.t1, self.t1 if pending else self.t2)
            elif key in self.t2:
                self._move(key, self.t2, self.t2)
            else:
                self._ghost(key)

    def finish(self, keys: list[Key], inserted: set[Key], reused: set[Key]) -> None:
        for key in reversed(keys):
            for mine in (self.t1, self.t2):
                if key in mine:
                    if key in inserted:
                        self._move(key, mine, mine)
                    elif key in reused:
                        self._move(key, mine, self.t2)
                    break

    def evict(self, count: int, protected: set[Key]) -> list[Key] | None:
        chosen: list[Key] = []
        from_t1: list[Key] = []
        from_t2: list[Key] = []

        def oldest(mine: list[Key]) -> Key | None:
            free = (k for k in mine if self.chunks[k].count == 0)
            return next((k for k in free if k not in protected and k not in chosen), None)

        for _ in range(count):
            key = None
            if len(self.t1) - len(from_t1) >= int(self.target):
                key = oldest(self.t1)
            if key is None:
                key = oldest(self.t2)
            if key is None:
                key = oldest(self.t1)
            if key is None:
                return None
            chosen.append(key)
            (from_t1 if key in self.t1 else from_t2).append(key)
        for key in from_t1:
            self._move(key, self.t1, self.b1)
        for key in from_t2:
            self._move(key, self.t2, self.b2)
        for ghosts in (self.b1, self.b2):
            del ghosts[: max(len(ghosts) - self.capacity, 0)]
        return chosen

    def remove(self, key: Key) -> None:
        (self.t1 if key in self.t1 else self.t2).remove(key)

    def state(self) -> dict[str, Any]:
        def triples(mine: list[Key]) -> list[list[int]]:
            return [[k, self.chunks[k].slot, self.chunks[k].count] for k in mine]

        return {
            "t1": triples(self.t1),
            "t2": triples(self.t2),
            "b1": list(self.b1),
            "b2": list(self.b2),
            "target_t1": self.target,
        }


class HostTier:
    """The tier: slots, chunks, contexts of requests, and how often keys were offered."""

    def __init__(self, policy: str, num_chunks: int, threshold: int, tracker: int) -> None:
        self.config = (policy, num_chunks, threshold, tracker)
        self.contexts: dict[int, Context] = {}
        self.counts: dict[Key, int] = {}
        self._clear()

    def _clear(self) -> None:
        policy, num_chunks, self.threshold, self.most_counts = self.config
        self.num_chunks = num_chunks
        self.next_slot = 0
        self.free: list[int] = []
        self.chunks: dict[Key, Chunk] = {}
        self.policy: Lru | Arc = (
            Lru(self.chunks) if policy == "lru" else Arc(self.chunks, num_chunks)
        )

    def new(self, request: int, positions: dict[Key, int]) -> None:
        self.contexts[request] = Context(positions)

    def lookup(self, key: Key) -> str:
        if key not in self.chunks:
            return "miss"
        return "pending" if self.chunks[key].count < 0 else "hit"

    def _observe(self, context: Context, keys: list[Key], reused: list[Key]) -> None:
        new = [key for key in keys if key not in context.seen]
        context.seen += new
        self.policy.access(context, new)
        context.reused |= set(reused) - context.inserted

    def prepare_load(self, request: int, keys: list[Key]) -> list[int]:
        for key in keys:
            self.chunks[key].count += 1
        self._observe(self.contexts[request], keys, keys)
        return [self.chunks[key].slot for key in keys]

    def complete_load(self, keys: list[Key]) -> None:
        for key in keys:
            self.chunks[key].count -= 1

    def _track(self, keys: list[Key]) -> None:
        for key in keys:
            if key in self.counts:
                self.counts[key] = self.counts.pop(key) + 1
        for key in keys:
            if key in self.counts:
                continue
            if len(self.counts) >= self.most_counts:
                oldest = next(iter(self.counts))
                if oldest in keys:
                    continue  # only keys of this call are left
                del self.counts[oldest]
            self.counts[key] = 1

    def prepare_store(self, request: int, keys: list[Key]) -> list[list[int]] | None:
        context = self.contexts[request]
        if self.threshold >= 2:
            self._track(keys)
        todo = [key for key in keys if key not in self.chunks]
        ready = [key for key in keys if self.lookup(key) == "hit"]
        if self.threshold >= 2:
            todo = [key for key in todo if self.counts.get(key, 0) >= self.threshold]
        self.policy.miss([key for key in todo if key not in context.missed])
        context.missed |= set(todo)
        self._observe(context, [key for key in keys if key in todo or key in ready], ready)
        if not todo:
            return [[], [], []]
        need = len(todo) - (self.num_chunks - self.next_slot) - len(self.free)
        victims: list[Key] = []
        if need > 0:
            if need > self.evictable:
                return None
            evicted = self.policy.evict(need, set(keys))
            if evicted is None:
                return None
            victims = evicted
            self.free += [self.chunks.pop(key).slot for key in victims]
        slots = []
        for key in todo:
            if self.next_slot < self.num_chunks:
                slot, self.next_slot = self.next_slot, self.next_slot + 1
            else:
                slot = self.free.pop()
            slots.append(slot)
            self.chunks[key] = Chunk(slot)
            self.policy.insert(context, key)
            context.inserted.add(key)
        return [todo, slots, victims]

    def complete_store(self, keys: list[Key], *, ok: bool) -> None:
        for key in keys:
            if self.lookup(key) == "pending":
                if ok:
                    self.chunks[key].count = 0
                else:
                    self.policy.remove(key)
                    self.free.append(self.chunks.pop(key).slot)

    def touch(self, keys: list[Key]) -> None:
        self.policy.touch(keys)

    def finish(self, request: int) -> None:
        context = self.contexts[request]
        if context.finished:
            return
        context.finished = True
        keys = list(context.seen)
        if all(key in context.positions for key in keys):
            keys.sort(key=context.positions.__getitem__)
        self.policy.finish(keys, context.inserted - context.reused, context.reused)

    def reset(self) -> None:
        self._clear()  # counts stay
        self.contexts = {r: Context(old.positions) for r, old in self.contexts.items()}

    @property
    def evictable(self) -> int:
        return sum(chunk.count == 0 for chunk in self.chunks.values())

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "free": self.free,
            "fresh": self.num_chunks - self.next_slot,
            "evictable": self.evictable,
            "pending": sum(chunk.count < 0 for chunk in self.chunks.values()),
            **self.policy.state(),
        }
        if self.threshold >= 2:
            found["counts"] = [[key, count] for key, count in self.counts.items()]
        return found
