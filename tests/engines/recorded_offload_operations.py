"""Replays of operation sequences recorded from vLLM's host tier."""

from __future__ import annotations

import json
from typing import Any, Protocol

import prefixsim


class Tier(Protocol):
    """What the core and the readable counterpart have in common."""

    def new(self, request: int, positions: dict[int, int]) -> None: ...
    def lookup(self, key: int) -> str: ...
    def prepare_load(self, request: int, keys: list[int]) -> list[int]: ...
    def complete_load(self, keys: list[int]) -> None: ...
    def prepare_store(self, request: int, keys: list[int]) -> Any: ...
    def complete_store(self, keys: list[int], *, ok: bool) -> None: ...
    def touch(self, keys: list[int]) -> None: ...
    def finish(self, request: int) -> None: ...
    def reset(self) -> None: ...
    def state(self) -> dict[str, Any]: ...


class Core:
    """The core, called like its readable counterpart."""

    def __init__(self, policy: Any, num_chunks: int, threshold: int, tracker: int) -> None:
        self.tier = prefixsim.OffloadManager(
            num_chunks,
            eviction_policy=policy,
            store_threshold=threshold,
            max_tracker_size=tracker,
        )

    def new(self, request: int, positions: dict[int, int]) -> None:
        keys = list(positions)
        self.tier.add_request(request, keys, list(positions.values()))

    def lookup(self, key: int) -> str:
        return self.tier.lookup(key)

    def prepare_load(self, request: int, keys: list[int]) -> list[int]:
        return self.tier.prepare_load(request, keys)

    def complete_load(self, keys: list[int]) -> None:
        self.tier.complete_load(keys)

    def prepare_store(self, request: int, keys: list[int]) -> Any:
        found = self.tier.prepare_store(request, keys)
        return None if found is None else list(found)

    def complete_store(self, keys: list[int], *, ok: bool) -> None:
        self.tier.complete_store(keys, ok=ok)

    def touch(self, keys: list[int]) -> None:
        self.tier.touch(keys)

    def finish(self, request: int) -> None:
        self.tier.finish(request)

    def reset(self) -> None:
        self.tier.reset()

    def state(self) -> dict[str, Any]:
        self.tier.validate()
        state: dict[str, Any] = json.loads(json.dumps(self.tier.state()))
        return state


def config_of(sequence: dict[str, Any]) -> tuple[Any, int, int, int]:
    names = ("policy", "num_chunks", "store_threshold", "max_tracker_size")
    policy, num_chunks, threshold, tracker = (sequence[name] for name in names)
    return policy, num_chunks, threshold, tracker


def apply(tier: Tier, op: list[Any]) -> None:
    """Carry out one recorded operation and compare its result."""
    match op:
        case ["new", rid, keys, positioned]:
            places = {key: 16 * (i + 1) for i, key in enumerate(keys)} if positioned else {}
            tier.new(rid, places)
        case ["lookup", _, keys, results]:
            assert [tier.lookup(key) for key in keys] == results
        case ["prepare_load", rid, keys, slots]:
            assert tier.prepare_load(rid, keys) == slots
        case ["complete_load", _, keys]:
            tier.complete_load(keys)
        case ["prepare_store", rid, keys, result]:
            assert tier.prepare_store(rid, keys) == result
        case ["complete_store", _, keys, ok]:
            tier.complete_store(keys, ok=ok)
        case ["touch", _, keys]:
            tier.touch(keys)
        case ["finish", rid]:
            tier.finish(rid)
        case ["reset"]:
            tier.reset()
        case _:
            raise AssertionError(op)


def replay_sequence(tier: Tier, sequence: dict[str, Any]) -> int:
    """Run one sequence, comparing the whole state after every operation; return how many."""
    for i, (op, expected) in enumerate(sequence["ops"]):
        apply(tier, op)
        assert tier.state() == expected, (i, op)
    return len(sequence["ops"])
