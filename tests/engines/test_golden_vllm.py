"""The vLLM engine against runs recorded from the real scheduler: every integer must be equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DATA
from tests.engines.recorded_vllm import check_case, check_recording, trace_path
from tests.golden import cases, read_json

SMALL = sorted((DATA / "vllm" / "cases").glob("*.json.gz"))


@pytest.mark.parametrize("path", cases("vllm", "cases/*.json.gz"))
def test_golden_vllm_scheduler(path: Path) -> None:
    check_recording(path)


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.name.split(".")[0])
def test_small_recordings_inside_the_project(path: Path) -> None:
    check_recording(path)


def test_three_small_recordings_are_inside_the_project() -> None:
    assert len(SMALL) >= 3


@pytest.mark.parametrize("at", ["hit_tokens", "block_ids", "finish_step"])
def test_a_tampered_recording_fails(at: str) -> None:
    path = next(path for path in SMALL if "preempt" in path.name)
    case = read_json(path)
    row = case["requests"][len(case["requests"]) // 2]
    row[at] = row[at][::-1] if at == "block_ids" else row[at] + 16
    with pytest.raises(AssertionError):
        check_case(case, trace_path(case["trace"], path))
