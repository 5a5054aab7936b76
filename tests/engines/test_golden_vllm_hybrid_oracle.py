"""The oracle of vLLM with several groups against recorded runs: every step, block by block."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.golden import golden_root, read_json, records
from tests.oracle.recorded_hybrid import check_run

SMALL = Path(__file__).parents[1] / "data" / "vllm_hybrid" / "micro.json.gz"
MICRO: list[dict[str, Any]] = read_json(SMALL)["seqs"]


def named(run: dict[str, Any]) -> str:
    return str(run["kind"])


@pytest.mark.parametrize("run", MICRO, ids=named)
def test_micro_run(run: dict[str, Any]) -> None:
    check_run(run)


def test_the_small_copy_is_the_recording() -> None:
    path = golden_root() / "vllm-hybrid" / "micro.json"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    assert read_json(path)["seqs"] == MICRO


@pytest.mark.parametrize("run", records("vllm-hybrid", "fuzz_sched.json.gz", key="seqs"))
def test_golden_vllm_hybrid_fuzz_run(run: dict[str, Any]) -> None:
    check_run(run)


@pytest.mark.parametrize("at", ["free", "map", "tables", "ref", "sched"])
@pytest.mark.parametrize("run", MICRO[::5], ids=named)
def test_a_changed_step_is_noticed(run: dict[str, Any], at: str) -> None:
    tampered = deepcopy(run)
    state = tampered["steps"][-1]
    state[at] = [] if state[at] else [0]
    with pytest.raises(AssertionError):
        check_run(tampered)


@pytest.mark.parametrize("at", ["hit_tokens", "finish_ms", "num_blocks", "block_ids"])
def test_a_changed_request_is_noticed(at: str) -> None:
    tampered = deepcopy(MICRO[0])
    row = tampered["requests"][-1]
    row[at] = row[at] + 1 if isinstance(row[at], int) else [*row[at], 1]
    with pytest.raises(AssertionError):
        check_run(tampered)
