"""A block-by-block replay and its metrics in plain Python: slow, readable, and the witness."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np

from prefixsim.trace import Trace

Block = int


class Naive:
    """Requests as lists of chained blocks, replayed one after the other."""

    def __init__(self, trace: Trace, block_size: int, *, partial: bool = False) -> None:
        assert trace.prompts is not None
        self.trace = trace
        self.block_size = block_size
        ids_per_block = block_size // trace.id_block_size
        chain: dict[tuple[Any, ...], Block] = {}
        self.blocks: list[list[Block]] = []
        for i in range(len(trace)):
            parent: Block | str = trace.salt[i] if trace.salt is not None else ""
            ids = trace.prompts[i].tolist()
            n = int(trace.prompt_len[i])
            count = -(-n // block_size) if partial else n // block_size
            blocks = []
            for k in range(count):
                content = tuple(ids[k * ids_per_block : (k + 1) * ids_per_block])
                parent = chain.setdefault((parent, *content), len(chain))
                blocks.append(parent)
            self.blocks.append(blocks)

    def replay(self, capacity: int | None = None, last_token_rule: bool = True) -> dict[str, Any]:
        """Replay with an LRU cache, as DEFINITIONS.md has it."""
        cache: OrderedDict[Block, tuple[float, float]] = OrderedDict()  # born, last used
        hits, evicted_at, lifetimes, idle = [], [], [], []
        for i, blocks in enumerate(self.blocks):
            now, n = float(self.trace.timestamp[i]), int(self.trace.prompt_len[i])
            limit = len(blocks)
            if last_token_rule:
                limit = min(limit, max(0, n - 1) // self.block_size)
            k = 0
            while k < limit and blocks[k] in cache:
                k += 1
            hits.append(k)
            keep = blocks if capacity is None else blocks[:capacity]
            mine = {b: cache.pop(b)[0] for b in keep if b in cache}
            while capacity is not None and len(cache) + len(keep) > capacity:
                _, (born, used) = cache.popitem(last=False)
                lifetimes.append(now - born)
                idle.append(now - used)
                evicted_at.append(i)
            for b in reversed(keep):
                cache[b] = (mine.get(b, now), now)
        return {"hit_blocks": hits, "evicted_at": evicted_at, "lifetime": lifetimes, "idle": idle}

    def hit_tokens(self, hit_blocks: Iterable[int]) -> list[int]:
        """Tokens of the leading blocks; a partial block counts its own."""
        return [
            min(k * self.block_size, int(n))
            for k, n in zip(hit_blocks, self.trace.prompt_len, strict=True)
        ]

    def gaps(self, hit_blocks: Iterable[int]) -> list[tuple[int, int]]:
        """This request and the previous one with the block, for every hit block."""
        latest: dict[Block, int] = {}
        found = []
        for i, (blocks, k) in enumerate(zip(self.blocks, hit_blocks, strict=True)):
            found += [(i, latest[b]) for b in blocks[:k]]
            latest.update(dict.fromkeys(blocks, i))
        return found

    def block_hit_count(self, start: int = 0) -> list[int]:
        """How many requests from ``start`` on contain each block."""
        counts: dict[Block, int] = {}
        for blocks in self.blocks[start:]:
            for b in blocks:
                counts[b] = counts.get(b, 0) + 1
        return list(counts.values())


def distribution(values: list[float]) -> dict[str, float | None]:
    """The six numbers, by NumPy."""
    if not values:
        return dict.fromkeys(("mean", "median", "min", "max", "p90", "p99"))
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "min": float(min(values)),
        "max": float(max(values)),
        "p90": float(np.percentile(values, 90)),
        "p99": float(np.percentile(values, 99)),
    }
