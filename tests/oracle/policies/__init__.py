"""Policies block by block: slow, readable, and the witnesses of rust/policy.

A cache holds blocks of a tree, each with all its ancestors. The loop is the same for every
policy; what differs is which leaf goes, and what is known of blocks. A block is the tuple of
everything up to its end. Each rule is written once more from its description, without stretches,
heaps or heavy paths: a queue's oldest leaf is found by looking at all blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.oracle.forest import Block, Request, Run
from tests.oracle.policies.adaptive import (
    Arc,
    Lirs,
    LirsHalf,
    WorkloadAware,
    WorkloadAwareSoon,
    WTinyLfu,
    WTinyLfuWide,
)  # fmt: skip
from tests.oracle.policies.cache import Cache, Cached
from tests.oracle.policies.queues import (
    Clock,
    Clock2,
    Clock2QPlus,
    Mq,
    MqShort,
    S3Fifo,
    S3FifoFill,
    Sieve,
    Slru,
    Slru3,
    TwoQ,
)  # fmt: skip
from tests.oracle.policies.ranked import (
    Fifo,
    FlopAware,
    Gdsf,
    GdsfDepth,
    GdsfRefuse,
    Lfu,
    Lru,
    Lru3,
    LruK,
    TailLru,
    TailLruShort,
    Ttl,
    TtlOnce,
    TtlShort,
)  # fmt: skip

__all__ = ["POLICIES", "replay"]

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
    name: str | type[Cache],
    requests: list[Request],
    capacity: int | None,
    *,
    times: Sequence[float] = (),
    categories: Sequence[int] = (),
    block_size: int = 1,
) -> Run:
    """Replay requests under a policy, one of :data:`POLICIES` or another.

    ``times`` default to one request a second, ``categories`` to none.
    """
    times = times or [float(i) for i in range(len(requests))]
    policy = POLICIES[name] if isinstance(name, str) else name
    cache = policy(capacity, requests, times, categories, block_size)
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
        cache.end(i, len(blocks))
    return run
