"""Providers' prompt caches, request by request over whole prefixes: slow and short."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["entries", "every_prefix", "units"]

Prompt = tuple[int, ...]


def every_prefix(
    prompts: Sequence[Prompt], times: Sequence[float], ttl: float, minimum: int, step: int
) -> list[int]:
    """Tokens that each request reads, where every long enough prefix of whole steps is kept."""
    used: dict[Prompt, float] = {}
    read = []
    for prompt, now in zip(prompts, times, strict=True):
        lengths = range(minimum, len(prompt) + 1, step)
        hit = 0
        for length in lengths:
            at = used.get(prompt[:length])
            if at is None or now - at > ttl:
                break
            hit = length
        used |= {prompt[:length]: now for length in lengths}
        read.append(hit)
    return read


def entries(
    prompts: Sequence[Prompt], times: Sequence[float], ttl: float, minimum: int
) -> tuple[list[int], list[int], float, int]:
    """Read and written tokens with one breakpoint at the end, token-seconds, tokens read again."""
    used: dict[Prompt, float] = {}
    fresh: dict[Prompt, tuple[int, float]] = {}  # what a write added, and when
    read, written, held, again = [], [], 0.0, 0
    unread: set[Prompt] = set()
    for prompt, now in zip(prompts, times, strict=True):
        if len(prompt) < minimum:
            read.append(0)
            written.append(0)
            continue
        alive = [p for p, at in used.items() if prompt[: len(p)] == p and now - at <= ttl]
        hit = max(map(len, alive), default=0)
        for prefix in alive:
            used[prefix] = now
            if prefix in unread:
                unread.discard(prefix)
                again += fresh[prefix][0]
        if hit < len(prompt):
            if prompt in used:
                held += fresh[prompt][0] * (used[prompt] + ttl - fresh[prompt][1])
            fresh[prompt] = (len(prompt) - hit, now)
            used[prompt] = now
            unread.add(prompt)
        read.append(hit)
        written.append(len(prompt) - hit)
    held += sum(tokens * (used[p] + ttl - since) for p, (tokens, since) in fresh.items())
    return read, written, held, again


def units(
    prompts: Sequence[Prompt],
    outputs: Sequence[Prompt],
    times: Sequence[float],
    ttl: float,
    minimum: int,
) -> list[int]:
    """Tokens read where units end at prompts, at outputs, and where requests part."""
    used: dict[Prompt, float] = {}
    before: list[Prompt] = []
    read = []
    for prompt, output, now in zip(prompts, outputs, times, strict=True):
        whole = prompt + output[:-1]
        alive = [p for p, at in used.items() if prompt[: len(p)] == p and now - at <= ttl]
        hit = max(map(len, alive), default=0)
        for prefix in alive:
            used[prefix] = now
        common = max((_common(whole, other) for other in before), default=0)
        ends = {len(prompt), len(whole)}
        if common < len(whole):
            ends.add(common)
        for end in ends:
            if end >= minimum and end > hit:
                used[whole[:end]] = now
        before.append(whole)
        read.append(hit)
    return read


def _common(one: Prompt, other: Prompt) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
