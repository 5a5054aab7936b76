"""Other versions of vLLM against runs recorded from their wheels: every integer must be equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefixsim.engines.vllm.settings import VERSIONS, rules_of
from tests.engines.recorded_vllm import check_case, check_recording, trace_path
from tests.golden import cases, read_json

WORDS = {"all": True, "none": False, "caching": "with caching", "window": "with a window"}


@pytest.mark.parametrize("path", cases("vllm-versions", "cases/*.json.gz"))
def test_golden_vllm_versions(path: Path) -> None:
    check_recording(path)


@pytest.mark.parametrize("path", cases("vllm011", "cases/*.json.gz"))
def test_golden_vllm_0_11_0(path: Path) -> None:
    check_recording(path)


@pytest.mark.parametrize("at", ["hit_tokens", "table_sha", "stats_hits", "evictions_sha256"])
@pytest.mark.parametrize("path", cases("vllm-versions", "cases/v0.23_*.json.gz")[:1])
def test_a_tampered_recording_fails(path: Path, at: str) -> None:
    case = read_json(path)
    row = case["requests"][-1] if at in case["requests"][-1] else case["totals"]
    row[at] = row[at] + 16 if isinstance(row[at], int) else row[at][::-1]
    with pytest.raises(AssertionError):
        check_case(case, trace_path(case["trace"], path))


@pytest.mark.parametrize("path", cases("vllm-versions", "profiles.json"))
def test_the_table_of_rules_is_the_recorded_one(path: Path) -> None:
    profiles: list[dict[str, Any]] = read_json(path)["profiles"]
    for profile in profiles:
        for version in profile["versions"]:
            rules = rules_of(version)
            assert rules.uncached_first == WORDS[profile["free_front"]], version
            assert rules.reserve_full_isl == profile["reserve_full_isl"], version
            assert rules.stats_at_lookup == (profile["stats"] == "lookup"), version
            assert rules.retention_interval == profile["retention_default"], version
            assert rules.lone_threshold == profile["lone_threshold"], version
            assert rules.has_adaptive_threshold == profile["threshold_adaptive"], version
            assert rules.pass_over == (profile["nochunk"] == "skip"), version
            assert rules.stats_preempted_apart == profile["stats_preempted_apart"], version
            assert rules.tagged_keys == (profile["salt_key"] == "pair"), version
            assert rules.has_watermark == profile["watermark"], version
            assert rules.stops_on_tight_windows == (profile["window_cap"] == "always"), version
            assert rules.window_cap == (profile["window_cap"] != "none"), version
    assert {rules_of(p["versions"][0]).first for p in profiles} == {r.first for r in VERSIONS}
