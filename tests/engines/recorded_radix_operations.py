"""Replays of operation sequences recorded from SGLang on a RadixCache."""

from __future__ import annotations

from typing import Any

import prefixsim


def new_cache(config: dict[str, Any]) -> prefixsim.RadixCache:
    return prefixsim.RadixCache(
        config["capacity_tokens"],
        config["page_size"],
        version=config["engine"],
        policy=config["policy"],
        record_evictions=True,
        **config.get("policy_config", {}),
    )


def state(cache: prefixsim.RadixCache) -> dict[str, Any]:
    """The tree in the recorded form."""
    page = cache.page_size
    below: dict[int | None, list[Any]] = {}
    for node in cache.nodes():
        below.setdefault(node["parent"], []).append(node)
    rows: list[list[int]] = []
    stamps: list[tuple[int, int]] = []

    def visit(parent: int | None, above: int) -> None:
        def place(node: Any) -> Any:
            return (
                node["extra_key"] or "",
                node["cache_salt"] or "",
                node["tokens"][:page].tolist(),
            )

        for node in sorted(below.get(parent, []), key=place):
            tokens = node["tokens"].tolist()
            rows.append(
                [above, len(tokens), tokens[0], node["lock"], node["hits"], node["priority"]]
            )
            stamps.append((node["accessed"], node["created"]))
            visit(node["node"], len(rows) - 1)

    visit(None, -1)
    return {
        "nodes": rows,
        "access": sorted(range(len(rows)), key=lambda i: stamps[i][0]),
        "created": sorted(range(len(rows)), key=lambda i: stamps[i][1]),
        "evictable": cache.evictable_tokens,
        "protected": cache.protected_tokens,
        "free": cache.free_tokens,
    }


def apply(cache: prefixsim.RadixCache, op: list[Any]) -> int | None:
    """Carry out one recorded operation; return its result."""
    match op:
        case ["add", rid, tokens, extra_key, salt, priority]:
            names = {"extra_key": extra_key, "cache_salt": salt}
            return cache.admit(rid, tokens, priority=priority, **names)
        case ["ext", rid, upto, _]:
            assert cache.extend(rid, upto)
        case ["dec", rid, token]:
            assert cache.append(rid, token)
        case ["fin", rid]:
            cache.finish(rid)
        case ["drop", rid]:
            cache.retract(rid)
        case ["match", tokens, extra_key, salt]:
            return cache.match(tokens, extra_key=extra_key, cache_salt=salt).tokens
        case ["evict", tokens]:
            cache.evict(tokens)
        case ["reset"]:
            assert cache.reset()
        case _:
            raise AssertionError(op)
    return None


def step(cache: prefixsim.RadixCache, op: list[Any]) -> list[Any]:
    """Carry out one operation: its result, evictions and the state after it."""
    result = apply(cache, op)
    cache.validate()
    evictions = [[requested, lengths] for requested, lengths in cache.take_evictions()]
    return [result, evictions, state(cache)]


def replay_sequence(sequence: dict[str, Any]) -> int:
    """Run one sequence, comparing the whole state after every operation; return how many."""
    cache = new_cache(sequence["config"])
    for i, (op, expected) in enumerate(zip(sequence["ops"], sequence["states"], strict=True)):
        assert step(cache, op) == expected, (sequence["config"], i, op)
    return len(sequence["ops"])


def replay_edges(lines: list[dict[str, Any]]) -> int:
    """Run the edge trace; each engine starts with an empty cache of 64 tokens in pages of 4."""
    caches: dict[str, prefixsim.RadixCache] = {}
    for line in lines:
        engine = line["engine"]
        if engine not in caches:
            config = {"engine": engine, "page_size": 4, "capacity_tokens": 64, "policy": "lru"}
            caches[engine] = new_cache(config)
        expected = [line["result"], line["ev"], line["state"]]
        assert step(caches[engine], line["op"]) == expected, line["note"]
    return len(lines)
