"""What the core is measured beside: least recently used blocks in an OrderedDict."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["ordered_dict"]


def ordered_dict(requests: list[list[int]], capacity: int) -> int:
    """Replay requests of ready-made block ids: no hashing, reference counts or tables."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for blocks in requests:
        hit = 0
        for block in blocks:
            if block not in cache:
                break
            hit += 1
        hits += hit
        for block in reversed(blocks):
            if block in cache:
                cache.move_to_end(block)
            else:
                cache[block] = None
        while len(cache) > capacity:
            cache.popitem(last=False)
    return hits
