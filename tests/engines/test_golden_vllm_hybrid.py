"""vLLM with several KV cache groups, drafts, priorities, async scheduling, as recorded."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

from tests.conftest import DATA
from tests.engines.recorded_vllm_hybrid import check_case, check_small, read_rows
from tests.golden import cases, read_json, records

FAMILY = "vllm-hybrid"
CASES = cases(FAMILY, "cases/*.json.gz")
PLAIN = [case for case in CASES if "plain" in str(case.id) and "eagle" not in str(case.id)]


SMALL = read_json(DATA / "vllm_hybrid" / "micro.json.gz")["seqs"]


def runs(name: str) -> list[ParameterSet]:
    """The runs of a file, named by their place and kind."""
    found = records(FAMILY, name, key="seqs")
    named = []
    for i, param in enumerate(found):
        record = param.values[0]
        if not isinstance(record, dict):
            return found
        named.append(pytest.param(record, id=f"{i}-{record['kind']}"))
    return named


@pytest.mark.parametrize("record", runs("micro.json"))
def test_golden_vllm_hybrid_micro(record: dict[str, Any]) -> None:
    check_small(record)


@pytest.mark.parametrize("record", SMALL, ids=lambda record: record["kind"])
def test_small_hybrid_recordings_inside_the_project(record: dict[str, Any]) -> None:
    check_small(record)


@pytest.mark.parametrize("record", runs("fuzz_sched.json.gz"))
def test_golden_vllm_hybrid_fuzz(record: dict[str, Any]) -> None:
    check_small(record)


@pytest.mark.parametrize("path", CASES)
def test_golden_vllm_hybrid_case(path: Path) -> None:
    case = read_json(path)
    check_case(case, read_rows(case, path))


@pytest.mark.parametrize("path", PLAIN)
def test_golden_vllm_hybrid_plain_manager(path: Path) -> None:
    case = read_json(path)
    check_case(case, read_rows(case, path), groups=None)


@pytest.mark.parametrize(
    "at", ["hit_tokens", "block_ids", "finish_step", "first_token_ms", "table_sha", "evictions"]
)
def test_a_tampered_golden_vllm_hybrid_case_fails(at: str) -> None:
    path = next(
        case.values[0] for case in CASES if case.id in ("mamba_unit16_preempt_200", "absent")
    )
    if path is None:
        pytest.skip("no recordings")
    assert isinstance(path, Path)
    case = read_json(path)
    row = case["requests"][len(case["requests"]) // 3]
    if at == "evictions":
        case["totals"]["evictions_sha256"] = "0" * 64
    elif at == "block_ids":
        row[at] = row[at][::-1]
    elif at == "table_sha":
        row[at] = "0" * 16
    else:
        row[at] += 16
    with pytest.raises(AssertionError):
        check_case(case, read_rows(case, path))


@pytest.mark.parametrize("part", ["tables", "free", "ref", "map", "sched"])
def test_a_tampered_golden_vllm_hybrid_state_fails(part: str) -> None:
    record = SMALL[0]
    tampered = copy.deepcopy(record)
    state = tampered["steps"][2]
    if isinstance(state[part], dict):
        state[part].pop(next(iter(state[part])))
    else:
        state[part].pop()
    with pytest.raises(AssertionError):
        check_small(tampered)
