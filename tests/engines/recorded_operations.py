"""Replays of operation sequences recorded from vLLM 0.33 on a BlockManager."""

from __future__ import annotations

from typing import Any

import numpy as np

import prefixsim
from prefixsim._core import BlockManager


def state(manager: BlockManager) -> dict[str, Any]:
    return {
        "free": manager.free_queue().tolist(),
        "ref": {str(slot): refs for slot, refs in manager.ref_counts().items()},
        "map": {h[:8].hex(): slots for h, slots in manager.cached().items()},
    }


def as_list(slots: np.ndarray[Any, Any] | None) -> list[int] | None:
    return None if slots is None else slots.tolist()


def replay_fuzz(sequence: dict[str, Any], algorithm: Any) -> int:
    """Run one sequence, comparing the whole state after every operation; return how many."""
    manager = prefixsim.BlockManager(
        sequence["num_blocks"],
        sequence["block_size"],
        hash_algorithm=algorithm,
        sliding_window=sequence["sliding_window"] or None,
    )
    for op, expected in sequence["ops"]:
        got: Any
        match op:
            case ["add", rid, tokens, n, must_fit, outcome]:
                hit = manager.lookup(tokens)
                allocation = manager.allocate(rid, tokens, n, must_fit=must_fit)
                got = [hit, None if allocation is None else allocation.slots.tolist()]
                assert got == outcome
                assert allocation is None or allocation.hit_tokens == hit
            case ["cont", rid, n, outcome]:
                assert as_list(manager.extend(rid, n)) == outcome
            case ["dec", rid, token, outcome]:
                assert as_list(manager.append(rid, token)) == outcome
            case ["free", rid]:
                manager.free(rid)
            case ["reset", outcome]:
                assert manager.reset() == outcome
            case ["evict", slots]:
                manager.evict(slots)
            case _:
                raise AssertionError(op)
        manager.validate()
        assert state(manager) == expected, op
    return len(sequence["ops"])


def replay_edges(lines: list[dict[str, Any]]) -> None:
    manager = prefixsim.BlockManager(2)
    for line in lines:
        rid: Any = line.get("id")
        match line["op"]:
            case "new_pool":
                manager = prefixsim.BlockManager(
                    line["num_gpu_blocks"],
                    line["block_size"],
                    hash_algorithm="sha256_cbor",
                    record_events=True,
                )
            case "add":
                assert manager.lookup(line["tokens"]) == line["hit"]
                allocation = manager.allocate(rid, line["tokens"])
                got = None if allocation is None else allocation.slots.tolist()
                assert got == line["new_blocks"]
                if got is not None:
                    assert manager.table(rid).tolist() == line["table"]
            case "decode":
                assert as_list(manager.append(rid, line["token"])) == line["new_blocks"]
            case "free":
                manager.free(rid)
            case "reset_prefix_cache":
                assert manager.reset() == line["result"]
            case "evict_blocks":
                manager.evict(line["ids"])
            case other:
                raise AssertionError(other)
        manager.validate()
        expected = dict(line["state"])
        events = [
            [kind, [f"{prefixsim.published_hash(h):016x}" for h in hashes]]
            for kind, hashes in manager.take_events()
        ]
        assert events == expected.pop("events"), line
        expected["map"] = dict(expected["map"])
        assert state(manager) == expected, line
