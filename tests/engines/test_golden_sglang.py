"""The SGLang engine against runs recorded from SGLang's own code: every integer must be equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.recorded_sglang import check_case, check_hicache
from tests.golden import cases, read_json


@pytest.mark.parametrize("path", cases("sglang", "cases/*.json.gz"))
def test_golden_sglang(path: Path) -> None:
    check_case(read_json(path))


@pytest.mark.parametrize("path", cases("sglang", "hicache/*.json.gz"))
def test_golden_sglang_hicache(path: Path) -> None:
    check_hicache(read_json(path))


SMALL = [
    "r09_sched_burst_dfsweight_no_p16_lru_c192_8000",
    "u23_sched_burst_lpm_ov_p1_lru_c256_6000",
]


@pytest.mark.parametrize("name", SMALL)
def test_runs_in_the_checkout(data: Path, name: str) -> None:
    folder = data / "sglang"
    check_case(read_json(folder / "cases" / f"{name}.json.gz"), folder)


def test_a_run_that_was_tampered_with_fails(data: Path) -> None:
    folder = data / "sglang"
    case = read_json(folder / "cases" / f"{SMALL[0]}.json.gz")
    case["requests"][7]["hit_tokens"] += 16
    with pytest.raises(AssertionError):
        check_case(case, folder)
