"""LMCache against runs recorded from its own code: every integer must be equal."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.engines.recorded_lmcache import check_beginning, check_case, mooncake, read_rows
from tests.golden import cases, read_json


@pytest.mark.parametrize("path", cases("tiers", "lmcache/*.json.gz"))
def test_golden_tiers_lmcache(path: Path) -> None:
    if not mooncake().is_file():
        pytest.skip(f"no trace {mooncake()}")
    case = read_json(path)
    check_case(case, read_rows(mooncake(), case["config"]["limit"]))


def small(data: Path) -> tuple[Any, Any]:
    """The first 70 requests of some cases, with their trace."""
    recorded = read_json(data / "tiers" / "lmcache.json.gz")
    return recorded["rows"], recorded["cases"]


def test_beginnings_of_runs_in_the_checkout(data: Path) -> None:
    rows, found = small(data)
    assert len(found) == 3
    for case in found:
        check_beginning(case, rows)


@pytest.mark.parametrize("name", ["hit_chunks", "stored_chunks", "evictions_head"])
def test_a_recording_that_was_tampered_with_fails(data: Path, name: str) -> None:
    rows, found = small(data)
    case = copy.deepcopy(found[0])
    column = case[name]["cpu"][20] if name == "evictions_head" else case[name]
    column[1] += 1
    with pytest.raises(AssertionError):
        check_beginning(case, rows)
