"""A fleet, block by block: caches as ordered dictionaries, and the loop that lets a router route.

Shares no code with the core.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Request", "Router", "chain", "simulate"]


@dataclass(frozen=True)
class Request:
    """A prompt as tokens and text, how long it stays, and its session."""

    tokens: tuple[int, ...]
    text: str = ""
    hold: int = 0
    key: str = ""


def chain(items: Sequence[Any], size: int, *, partial: bool = False) -> list[tuple[Any, ...]]:
    """The blocks of a prompt, each as all that comes up to its end."""
    ends = list(range(size, len(items) + 1, size))
    if partial and len(items) % size:
        ends.append(len(items))
    return [tuple(items[:end]) for end in ends]


class Cache:
    """One LRU cache of blocks."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.blocks: OrderedDict[Any, None] = OrderedDict()
        self.evictions = 0

    def run(self, blocks: Sequence[Any]) -> int:
        return next((i for i, b in enumerate(blocks) if b not in self.blocks), len(blocks))

    def admit(self, blocks: Sequence[Any]) -> None:
        kept = blocks if self.capacity is None else blocks[: self.capacity]
        for block in kept:
            self.blocks.pop(block, None)
        room = len(self.blocks) if self.capacity is None else self.capacity - len(kept)
        while len(self.blocks) > room:
            self.blocks.popitem(last=False)
            self.evictions += 1
        for block in reversed(kept):
            self.blocks[block] = None


class Router:
    """Takes no notice of anything."""

    knows_all = False
    """Whether it sees caches as they are, not as events tell."""

    def __init__(self, requests: Sequence[Request], replicas: int, **settings: Any) -> None:
        self.requests, self.replicas = requests, replicas
        self.setup(**settings)

    def setup(self, *args: Any, **settings: Any) -> None: ...

    def allowed(self, i: int, loads: list[int], runs: list[int]) -> set[int]:
        raise NotImplementedError

    def book(self, i: int, w: int) -> None: ...

    def prefill_ended(self, i: int, w: int) -> None: ...

    def finished(self, i: int, w: int) -> None: ...


def simulate(
    requests: Sequence[Request], router: Router, capacity: int | None, block: int, *, delay: int = 0
) -> dict[str, Any]:
    """Route all requests, the lowest number at ties; return what the core should."""
    replicas = router.replicas
    caches = [Cache(capacity) for _ in range(replicas)]
    late = [Cache(capacity) for _ in range(replicas)]
    on_the_way: list[tuple[list[Any], int]] = []
    loads, peak = [0] * replicas, [0] * replicas
    done: dict[str, Any] = {"replica": [], "hit_tokens": [], "best_hit_tokens": [], "allowed": []}
    for i, request in enumerate(requests):
        for ending in ("prefill", "finish"):
            for j, w in enumerate(done["replica"]):
                hold = requests[j].hold // 4 if ending == "prefill" else requests[j].hold
                if j + 1 + hold == i:
                    if ending == "prefill":
                        router.prefill_ended(j, w)
                    else:
                        router.finished(j, w)
                        loads[w] -= 1
        blocks = chain(request.tokens, block)
        while len(on_the_way) > delay:
            old, w = on_the_way.pop(0)
            late[w].admit(old)
        truth = [cache.run(blocks) for cache in caches]
        known = [cache.run(blocks) for cache in late] if delay else truth
        seen = truth if router.knows_all else known
        allowed = router.allowed(i, list(loads), seen)
        w = min(allowed)
        router.book(i, w)
        most = max(0, len(request.tokens) - 1) // block
        hits = [min(run, most) * block for run in truth]
        done["replica"].append(w)
        done["allowed"].append(sum(1 << v for v in allowed))
        done["hit_tokens"].append(hits[w])
        done["best_hit_tokens"].append(max(hits))
        caches[w].admit(blocks)
        on_the_way.append((blocks, w))
        loads[w] += 1
        peak[w] = max(peak[w], loads[w])
    done["peak_in_flight"] = peak
    done["evictions"] = sum(cache.evictions for cache in caches)
    done["cached_blocks"] = sum(len(cache.blocks) for cache in caches)
    done["distinct_blocks"] = len({b for cache in caches for b in cache.blocks})
    return done
