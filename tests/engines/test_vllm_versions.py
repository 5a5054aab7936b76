"""Versions of vLLM: which there are, what they refuse, and that upgrades show."""

from __future__ import annotations

from typing import Any

import pytest

import prefixsim
from prefixsim import Trace
from prefixsim.engines.hashing import hash_blocks
from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.kv_events import request_hashes
from prefixsim.engines.vllm.settings import VERSIONS, rules_of
from prefixsim.engines.vllm.simulate import compile_workload, simulate

SIMULATED = [f"0.{minor}" for minor in range(11, 34)]


def test_each_version_is_in_one_range() -> None:
    patches = [f"{minor}.{patch}" for minor in SIMULATED for patch in range(4)]
    for version in [*SIMULATED, *patches]:
        assert sum(rules.includes(version) for rules in VERSIONS) == 1, version


@pytest.mark.parametrize(
    ("version", "first"),
    [
        ("0.33", "0.31"),
        ("0.31.0", "0.31"),
        ("0.30.9", "0.29"),
        ("0.22.1", "0.20.2"),
        ("0.20.2", "0.20.2"),
        ("0.20", "0.20.0"),
        ("0.20.1", "0.20.0"),
        ("0.11", "0.11.0"),
        ("0.11.2", "0.11.1"),
    ],
)
def test_ranges(version: str, first: str) -> None:
    assert rules_of(version).first == first


@pytest.mark.parametrize("version", ["0.10", "0.10.2", "0.34", "1.0", "0", "", "latest", "0.3³"])
def test_other_versions_say_so(version: str) -> None:
    with pytest.raises(prefixsim.InputError, match=r"give one from 0\.11\.0 to 0\.33"):
        VllmSettings(version=version)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": "0.23", "watermark": 0.1}, "watermark: vLLM 0.23 has none"),
        (
            {"version": "0.30", "long_prefill_token_threshold_adaptive": True},
            "vLLM 0.30 has no such setting, it came with 0.31",
        ),
        ({"version": "0.20.1", "sliding_window": 64}, "give version 0.20.2"),
    ],
)
def test_settings_a_version_has_not_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(prefixsim.InputError, match=message):
        VllmSettings(**settings)


def test_each_version_runs() -> None:
    trace = Trace.from_prompts([list(range(i, i + 50)) for i in range(8)], output_len=[9] * 8)
    for version in SIMULATED:
        run = simulate(trace, VllmSettings(num_blocks=30, version=version))
        assert run.outcome().config["version"] == version
        assert len(run.outcome().hit_tokens) == len(trace)


def test_salts_are_tagged_from_0_31_on() -> None:
    tokens = list(range(40))
    trace = Trace.from_prompts([tokens], outputs=[[1]], salt=["tenant"])
    bare = hash_blocks([*tokens, 1], 16, "sha256_cbor", extra_keys=[("tenant",)])
    tagged = hash_blocks([*tokens, 1], 16, "sha256_cbor", salt="tenant")
    for version, hashes in (("0.30", bare), ("0.31", tagged)):
        run = simulate(trace, VllmSettings(num_blocks=30, version=version))
        assert request_hashes(run, 0, "sha256_cbor") == hashes


def test_the_core_wants_each_setting_once() -> None:
    workload = compile_workload(Trace.from_prompts([[1, 2, 3]], output_len=[1]), 16)
    run: Any = workload.simulate
    with pytest.raises(TypeError, match="no settings"):
        run()
    with pytest.raises(TypeError, match="num_blocks: it is missing"):
        run(enable_caching=True)
