"""LMCache 0.5.6 the slow way: ordered dictionaries, one chunk after the other.

A re-statement of what `docs/offloading.md` describes; it shares nothing with the core.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

Key = Any


@dataclass
class Served:
    cpu: int
    disk: int
    stored: int
    refused: bool = False


class Store:
    """One tier: chunks by how often they were used; the order is that of the policy."""

    def __init__(self, capacity: int, policy: str) -> None:
        self.capacity, self.policy = capacity, policy
        self.uses: OrderedDict[Key, int] = OrderedDict()
        self.promoted: dict[Key, int] = {}  # when it got to its number of uses
        self.time = 0

    def put(self, key: Key) -> None:
        self.uses[key] = 1
        self._stamp(key)

    def hit(self, key: Key) -> None:
        if key not in self.uses:
            return
        self.uses[key] += 1
        self._stamp(key)
        if self.policy in ("lru", "mru"):
            self.uses.move_to_end(key)

    def _stamp(self, key: Key) -> None:
        self.time += 1
        self.promoted[key] = self.time

    def victim(self, pinned: set[Key]) -> Key | None:
        order = list(self.uses)
        if self.policy == "mru":
            order.reverse()
        if self.policy == "lfu":
            order.sort(key=lambda key: (self.uses[key], self.promoted[key]))
        found = next((key for key in order if key not in pinned), None)
        if found is not None:
            del self.uses[found]
        return found


class InProcess:
    def __init__(self, policy: str, cpu: int, disk: int) -> None:
        self.cpu, self.disk = Store(cpu, policy), Store(disk, policy)
        self.evicted: list[tuple[str, Key]] = []

    def buffers(self, wanted: int, pinned: set[Key]) -> int:
        for taken in range(wanted):
            if len(self.cpu.uses) + taken >= self.cpu.capacity:
                victim = self.cpu.victim(pinned)
                if victim is None:
                    return taken
                self.evicted.append(("cpu", victim))
        return wanted

    def serve(self, keys: list[Key], _now: int) -> Served:
        cpu = disk = 0
        while cpu < len(keys) and keys[cpu] in self.cpu.uses:
            cpu += 1
        while cpu + disk < len(keys) and keys[cpu + disk] in self.disk.uses:
            disk += 1
        for key in reversed(keys[:cpu]):
            self.cpu.hit(key)
        for key in reversed(keys[cpu : cpu + disk]):
            self.disk.hit(key)
        disk = self.buffers(disk, set(keys[:cpu]))
        for key in keys[cpu : cpu + disk]:
            self.disk.hit(key)
            if key not in self.cpu.uses:
                self.cpu.put(key)
        rest = keys[cpu + disk :]
        stored = self.buffers(len(rest), set())
        for key in rest[:stored]:
            if key not in self.cpu.uses:
                self.cpu.put(key)
        for key in rest[:stored] if self.disk.capacity else []:
            if key in self.disk.uses:
                self.disk.hit(key)
                continue
            if len(self.disk.uses) >= self.disk.capacity:
                self.evicted.append(("disk", self.disk.victim(set())))
            self.disk.put(key)
        return Served(cpu, disk, stored)


@dataclass
class Server:
    policy: str
    capacity: int
    watermark: float
    ratio: float
    t1: list[Key] = field(default_factory=list)
    t2: list[Key] = field(default_factory=list)
    b1: list[Key] = field(default_factory=list)
    b2: list[Key] = field(default_factory=list)
    most: int = 0
    target: float = 0.0
    next_tick: int = 1000
    evicted: list[tuple[str, Key]] = field(default_factory=list)

    def resident(self, key: Key) -> bool:
        return key in self.t1 or key in self.t2

    def tick(self) -> None:
        used = len(self.t1) + len(self.t2)
        if not used or used / self.capacity < self.watermark:
            return
        count = max(int(used * self.ratio), 1)
        if self.policy == "lru":
            self.evicted += [("cpu", key) for key in self.t1[:count]]
            del self.t1[:count]
            return
        self.most = max(self.most, used)
        self.target = min(self.target, self.most)
        self.trim()
        for _ in range(count):
            if not self.t1 and not self.t2:
                break
            first = bool(self.t1) and (len(self.t1) >= int(self.target) or not self.t2)
            key = (self.t1 if first else self.t2).pop(0)
            (self.b1 if first else self.b2).append(key)
            self.evicted.append(("cpu", key))
        self.trim()

    def trim(self) -> None:
        while self.b1 and len(self.t1) + len(self.b1) > self.most:
            self.b1.pop(0)
        lists = (self.t1, self.t2, self.b1, self.b2)
        while sum(map(len, lists)) > 2 * self.most and (self.b2 or self.b1):
            (self.b2 or self.b1).pop(0)

    def insert(self, key: Key) -> None:
        if self.policy == "arc":
            if key in self.b1:
                step = max(1, len(self.b2) / len(self.b1))
                self.target = min(self.most, self.target + step)
                self.b1.remove(key)
            elif key in self.b2:
                step = max(1, len(self.b1) / len(self.b2))
                self.target = max(0, self.target - step)
                self.b2.remove(key)
        self.t1.append(key)
        if self.policy == "arc":
            self.most = max(self.most, len(self.t1) + len(self.t2))
            self.trim()

    def serve(self, keys: list[Key], now: int) -> Served:
        """Serve a prompt at `now`, in milliseconds."""
        while self.next_tick <= now:
            self.tick()
            self.next_tick += 1000
        hits = 0
        while hits < len(keys) and self.resident(keys[hits]):
            hits += 1
        for key in reversed(keys[:hits]):
            (self.t1 if key in self.t1 else self.t2).remove(key)
            (self.t1 if self.policy == "lru" else self.t2).append(key)
        new = [key for key in keys[hits:] if not self.resident(key)]
        if len(self.t1) + len(self.t2) + len(new) > self.capacity:
            return Served(hits, 0, 0, refused=True)
        for key in reversed(new):
            self.insert(key)
        return Served(hits, 0, len(new))
