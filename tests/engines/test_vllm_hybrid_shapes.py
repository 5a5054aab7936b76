"""What models of several shapes hit on one recorded trace: the table of docs/hybrid.md."""

from __future__ import annotations

from typing import Any

import pytest

import prefixsim
from tests.engines.recorded_vllm import read_trace
from tests.golden import golden_root

STATES = {"kv_groups": "full@544,mamba@544:3"}
MTP = {**STATES, "spec_method": "mtp", "num_speculative_tokens": 2, "spec_acceptance": (1,)}
SHAPES: dict[str, tuple[dict[str, Any], int]] = {
    "full": ({}, 329_520),
    "windows": ({"kv_groups": "full,sliding_window=256:5"}, 299_552),
    "states": (STATES, 209_984),
    "states, all kept": ({**STATES, "retention_interval": None}, 216_512),
    "states, unit 32": ({**STATES, "prefix_match_unit": 32}, 300_000),
    "states, MTP": (MTP, 209_984),
    "states, MTP, drop": ({**MTP, "eagle_hits": "drop"}, 93_024),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_golden_vllm_hybrid_shape(shape: str) -> None:
    path = golden_root() / "vllm-hybrid" / "traces" / "hybrid_a.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    given, hits = SHAPES[shape]
    found = prefixsim.replay(
        read_trace(path, 0),
        engine="vllm",
        latency="60ms",
        max_num_batched_tokens=2048,
        async_scheduling=False,
        **given,
    )
    assert found.summary["prompt_tokens"] == 385_818
    assert found.summary["hit_tokens"] == hits
