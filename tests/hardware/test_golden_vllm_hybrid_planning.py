"""Pools as vLLM 0.33's own planner made them: layers and memory to groups and blocks."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from prefixsim.hardware.layers import Layer
from prefixsim.hardware.pool import Planning, pool_of
from tests.golden import read_json, records

SMALL = Path(__file__).parents[1] / "data" / "vllm_hybrid" / "planning.json"
FAMILY = "vllm-hybrid"


def _heads(heads: int, gpus: int) -> int:
    return max(1, heads // gpus)


def _layer(record: dict[str, Any], settings: dict[str, Any]) -> Layer:
    if record["kind"] == "mamba":
        states = tuple((elements, size) for elements, size in record["states"])
        alignment = record.get("kernel_checkpoint_alignment")
        return Layer("mamba", states=states, checkpoint_alignment=alignment)
    return Layer(
        record["kind"],
        heads=_heads(record["kv_heads"], settings["tp"]),
        width=2 * record["head_dim"],
        element_bytes=settings["kv_bytes"],
        span=record.get("window", record.get("chunk")),
    )


def planned(record: dict[str, Any]) -> dict[str, Any]:
    """The result of a record as this package plans it, in the form of the recording."""
    settings = dict(record["settings"])
    layers = [_layer(layer, settings) for layer in record["layers"]]
    memory = settings.pop("available_bytes")
    planning = Planning(**{k: v for k, v in settings.items() if k not in ("tp", "kv_bytes")})
    pool = pool_of(layers, planning, memory)
    spans = {"sliding_window": "window", "chunked_local": "chunk"}
    return {
        "block_size": pool.groups.block_size,
        "groups": [
            {
                "type": group.kind,
                "layers": list(group.layers),
                "block_size": group.block_size,
                "page_bytes": group.page_bytes,
                **({spans[group.kind]: group.span} if group.kind in spans else {}),
                "max_blocks_per_request": group.max_blocks_per_request,
            }
            for group in pool.groups.groups
        ],
        "bytes_per_block": pool.groups.bytes_per_block,
        "num_blocks": pool.num_blocks,
        "scheduler_block_size": pool.groups.scheduler_block_size,
        "hash_block_size": pool.groups.hash_block_size,
        "capacity_tokens": pool.capacity_tokens,
        "max_concurrency": round(pool.max_concurrency, 6),
    }


@pytest.mark.parametrize(
    "record",
    records(FAMILY, "planning.json", key="records")
    + records(FAMILY, "planning_random.json", key="records"),
)
def test_pools_as_recorded(record: dict[str, Any]) -> None:
    assert planned(record) == record["result"]


@pytest.mark.parametrize("record", read_json(SMALL)["records"], ids=lambda record: record["name"])
def test_pools_of_the_small_part(record: dict[str, Any]) -> None:
    assert planned(record) == record["result"]


def test_a_changed_recording_is_noticed() -> None:
    for record in read_json(SMALL)["records"]:
        for name in ("num_blocks", "bytes_per_block", "capacity_tokens", "hash_block_size"):
            tampered = deepcopy(record)
            tampered["result"][name] += 1
            assert planned(tampered) != tampered["result"]
        tampered = deepcopy(record)
        tampered["result"]["groups"][0]["layers"].pop()
        assert planned(tampered) != tampered["result"]
        tampered = deepcopy(record)
        tampered["settings"]["available_bytes"] *= 2
        assert planned(tampered) != tampered["result"]
