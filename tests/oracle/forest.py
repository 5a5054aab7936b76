"""Caches block by block: a block is the tuple of everything up to its end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

Block = tuple[object, ...]


@dataclass
class Request:
    """One request as the oracle sees it: its blocks, and how many of them may hit."""

    blocks: list[Block]  # touched: of the prompt, then of the output
    full: int  # how many of them are the prompt's
    limit: int  # how many of them may hit


def requests_of(
    prompts: Sequence[Sequence[int]],
    block_size: int,
    *,
    salts: Sequence[str] | None = None,
    outputs: Sequence[Sequence[int]] | None = None,
    last_token_rule: bool = True,
) -> list[Request]:
    requests = []
    for i, prompt in enumerate(prompts):
        salt = salts[i] if salts else ""
        text = [*prompt, *(outputs[i][:-1] if outputs else [])]
        ends = range(block_size, len(text) + 1, block_size)
        full = len(prompt) // block_size
        limit = max(0, len(prompt) - 1) // block_size if last_token_rule else full
        requests.append(Request([(salt, *text[:end]) for end in ends], full, limit))
    return requests


@dataclass
class Run:
    """What a replay did."""

    hits: list[int] = field(default_factory=list)
    evictions: int = 0
    lifetimes: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)


def lru(requests: list[Request], capacity: int | None, times: Sequence[float] = ()) -> Run:
    cache: OrderedDict[Block, tuple[float, float]] = OrderedDict()  # allocated, last used
    run = Run()
    for i, request in enumerate(requests):
        now = times[i] if times else float(i)
        hit = 0
        while hit < len(request.blocks) and request.blocks[hit] in cache:
            hit += 1
        run.hits.append(min(hit, request.limit))
        blocks = request.blocks if capacity is None else request.blocks[:capacity]
        aside = {block: cache.pop(block) for block in blocks if block in cache}
        while capacity is not None and len(cache) + len(blocks) > capacity:
            _, (allocated, used) = cache.popitem(last=False)
            run.evictions += 1
            run.lifetimes.append(now - allocated)
            run.idle.append(now - used)
        for block in reversed(blocks):
            cache[block] = (aside[block][0] if block in aside else now, now)
    return run


def clairvoyant(requests: list[Request], capacity: int | None) -> Run:
    cache: set[Block] = set()
    run = Run()
    for i, request in enumerate(requests):
        hit = 0
        while hit < len(request.blocks) and request.blocks[hit] in cache:
            hit += 1
        run.hits.append(min(hit, request.limit))
        blocks = request.blocks if capacity is None else request.blocks[:capacity]

        def next_use(block: Block, after: int = i) -> int:
            later = range(after + 1, len(requests))
            return next((t for t in later if block in requests[t].blocks), len(requests))

        others = cache - set(blocks)
        farthest = sorted(others, key=lambda b: (-next_use(b), -len(b)))
        room = len(others) if capacity is None else capacity - len(blocks)
        dropped = farthest[: max(0, len(others) - room)]
        run.evictions += len(dropped)
        cache = (others - set(dropped)) | set(blocks)
    return run


def best_hits(requests: list[Request], capacity: int) -> int:
    """Most hits that any policy can get: every way to choose what to drop is tried."""
    states: dict[frozenset[Block], int] = {frozenset(): 0}
    for request in requests:
        blocks = frozenset(request.blocks[:capacity])
        after: dict[frozenset[Block], int] = {}
        for cache, hits in states.items():
            hit = 0
            while hit < len(request.blocks) and request.blocks[hit] in cache:
                hit += 1
            total = hits + min(hit, request.limit)
            others = sorted(cache - blocks)
            room = capacity - len(blocks)
            for kept in _subsets(others, min(room, len(others))):
                state = blocks | frozenset(kept)
                after[state] = max(after.get(state, -1), total)
        states = after
    return max(states.values())


def _subsets(items: list[Block], size: int) -> list[list[Block]]:
    if size == 0:
        return [[]]
    if size == len(items):
        return [items]
    with_first = [[items[0], *rest] for rest in _subsets(items[1:], size - 1)]
    return with_first + _subsets(items[1:], size)


def gaps(requests: list[Request], hits: Sequence[int]) -> list[tuple[int, int]]:
    """Per hit block of every request: (this request, the latest earlier one that touched it)."""
    last: dict[Block, int] = {}
    found = []
    for i, request in enumerate(requests):
        found += [(i, last[block]) for block in request.blocks[: hits[i]]]
        last.update(dict.fromkeys(request.blocks, i))
    return found


def counts(requests: list[Request], depths: Sequence[int]) -> dict[int, int]:
    """How often blocks are among the leading ones: count -> blocks, all distinct blocks."""
    often = dict.fromkeys((b for r in requests for b in r.blocks), 0)
    for request, depth in zip(requests, depths, strict=True):
        for block in request.blocks[:depth]:
            often[block] += 1
    result: dict[int, int] = {}
    for value in often.values():
        result[value] = result.get(value, 0) + 1
    return result


def session_hits(
    requests: list[Request], sessions: Sequence[str], hits: Sequence[int]
) -> list[int]:
    """Of each request's hits, the blocks that its own session had touched before."""
    seen: dict[str, set[Block]] = {}
    result = []
    for request, session, hit in zip(requests, sessions, hits, strict=True):
        own = seen.setdefault(session, set())
        result.append(sum(block in own for block in request.blocks[:hit]))
        own.update(request.blocks)
    return result
