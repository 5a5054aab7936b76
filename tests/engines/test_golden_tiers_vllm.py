"""vLLM with offloading against runs recorded from its own code: every integer must be equal."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.engines.recorded_offload import check_case, trace_path
from tests.golden import cases, read_json


@pytest.mark.parametrize("path", cases("tiers", "vllm/*.json.gz"))
def test_golden_tiers_vllm(path: Path) -> None:
    case = read_json(path)
    check_case(case, trace_path(case))


def in_checkout(data: Path) -> tuple[Any, Path]:
    case = read_json(data / "tiers" / "vllm" / "closed_lru_300_2000.json.gz")
    return case, data / "vllm" / "traces" / case["trace"]


def test_a_run_in_the_checkout(data: Path) -> None:
    check_case(*in_checkout(data))


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("requests", "host_hit_tokens"),
        ("requests", "stored_chunks"),
        ("totals", "flushed_jobs"),
        ("totals", "transfers_sha256"),
        ("totals", "step_log_sha256"),
        ("host", "order_sha256"),
    ],
)
def test_a_run_that_was_tampered_with_fails(data: Path, where: str, name: str) -> None:
    recorded, trace = in_checkout(data)
    case = copy.deepcopy(recorded)
    part = case[where][len(case[where]) // 2] if where == "requests" else case[where]
    part[name] = part[name][::-1] if isinstance(part[name], str) else part[name] + 1
    with pytest.raises(AssertionError):
        check_case(case, trace)
