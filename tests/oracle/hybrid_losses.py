"""What groups of layers agree on, length by length: why a hit is no longer than it is."""

from __future__ import annotations

from tests.oracle.hybrid_lookup import Cache
from tests.oracle.kv_groups import Request, align

LOCAL = ("sliding_window", "chunked_local")


def agreed(cache: Cache, r: Request) -> dict[str, int]:
    """The longest prefix that full attention has, and that windows, then states allow too.

    At most ``num_tokens - 1`` tokens; without full attention, any length may be agreed on.
    """
    c = cache.config
    if not c.caching:
        return dict.fromkeys(("full", "window", "state", "aligned"), 0)
    cache.extend_hashes(r)
    most = min(r.num_tokens - 1, len(r.hashes) * c.h)
    lengths = range(0, most + 1, c.h)
    full = max(
        length
        for length in lengths
        if all(allows_full(cache, r, g, length) for g in groups(cache, "full"))
    )
    window = max(
        length
        for length in lengths
        if length <= full and all(allows(cache, r, g, length) for g in groups(cache, *LOCAL))
    )
    both = [
        length
        for length in lengths
        if length <= full
        and all(allows(cache, r, g, length) for g in groups(cache, *LOCAL, "mamba"))
    ]
    aligned = max(length for length in both if length % c.alignment == 0)
    return {"full": full, "window": window, "state": max(both), "aligned": aligned}


def groups(cache: Cache, *types: str) -> list[int]:
    return [g for g, group in enumerate(cache.config.groups) if group.type in types]


def allows_full(cache: Cache, r: Request, g: int, length: int) -> bool:
    """Whether all whole blocks are there, and in fine mode the partial one behind them."""
    bs = cache.config.groups[g].block_size
    if length % bs and not cache.config.fine:
        return False
    ends = [*range(bs, length + 1, bs), *([length] if length % bs else [])]
    return all(cache.found(r, g, end) is not None for end in ends)


def allows(cache: Cache, r: Request, g: int, length: int) -> bool:
    """Whether a request may go on at a length with what a window or state group has."""
    c, group = cache.config, cache.config.groups[g]
    bs = group.block_size
    if length == 0:
        return True
    if group.type == "mamba":
        whole = length % bs == 0 or c.fine
        return whole and cache.found(r, g, length) is not None
    if length % bs:
        return False
    if group.type == "sliding_window":
        first = max(length - group.window + 1, 0) // bs
    else:
        first = align(length, group.chunk) // bs
    ends = range((first + 1) * bs, length + 1, bs)
    return all(cache.found(r, g, end) is not None for end in ends)
