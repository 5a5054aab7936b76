"""The SGLang engine from Python: settings, times, tiers, and what it says beside vLLM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefixsim
from prefixsim.engines.sglang import VERSIONS
from prefixsim.engines.sglang.settings import SglangSettings
from prefixsim.engines.sglang.simulate import compile_workload, simulate
from prefixsim.errors import InputError
from prefixsim.hardware.latency import Fixed
from prefixsim.study.compare import compare, differences
from prefixsim.trace import Trace


def chats(sessions: int = 12, turns: int = 4) -> Trace:
    """Conversations with answers under one system prompt."""
    rng = np.random.default_rng(0)
    rows = []
    for session in range(sessions):
        prompt = [*range(50), 10_000 + session, *rng.integers(100, 5000, 29).tolist()]
        for turn in range(turns):
            answer = rng.integers(100, 5000, 20).tolist()
            rows.append((session + turn * 15.0, list(prompt), answer))
            prompt += [*answer, *rng.integers(100, 5000, 25).tolist()]
    rows.sort(key=lambda row: row[0])
    times, prompts, outputs = zip(*rows, strict=True)
    return Trace.from_prompts(list(prompts), outputs=list(outputs), timestamp=list(times))


def test_tokens_are_the_grain_and_outputs_are_found_again() -> None:
    result = prefixsim.replay(chats(), engine="sglang")
    assert result.config["block_size"] == result.config["page_size"] == 1
    # Turn t + 1 repeats the prompt and the answer but for its last token.
    hits = result.outcome.hit_tokens.reshape(4, 12)
    assert hits[0].tolist() == [0] + [50] * 11
    assert hits[1].tolist() == [80 + 19] * 12
    assert result.waterfall().totals["evicted"] == 0


def test_page_size_and_block_size_are_one_setting() -> None:
    trace = chats()
    paged = prefixsim.replay(trace, engine="sglang", page_size=16, num_blocks=60)
    blocked = prefixsim.replay(trace, engine="sglang", block_size=16, num_blocks=60)
    assert paged.outcome.hit_tokens.tolist() == blocked.outcome.hit_tokens.tolist()
    assert not np.any(paged.outcome.hit_tokens % 16)
    with pytest.raises(InputError, match="both are the tokens per page"):
        prefixsim.replay(trace, engine="sglang", page_size=16, block_size=32)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("policy", ["fcfs", "lpm", "lof", "dfs-weight"])
def test_every_version_serves_everyone_and_adds_up(version: str, policy: str) -> None:
    trace = chats()
    result = prefixsim.replay(
        trace,
        engine="sglang",
        num_blocks=700,
        sglang_version=version,
        schedule_policy=policy,
        arrivals="closed:6",
        chunked_prefill_size=64,
    )
    columns = result.outcome.columns
    assert np.all(columns["finish_step"] >= columns["first_token_step"])
    assert np.all(columns["first_token_step"] >= columns["admit_step"])
    assert np.all(columns["e2e_s"] >= columns["ttft_s"])
    assert sum(result.waterfall().totals.values()) == trace.prompt_tokens
    assert result.outcome.counters["evictions"] > 0


def test_without_a_cache_nothing_hits_and_all_is_computed() -> None:
    trace = chats()
    result = prefixsim.replay(trace, engine="sglang", num_blocks=700, enable_caching=False)
    assert not result.outcome.hit_tokens.any()
    assert int(result.outcome.computed_tokens.sum()) >= trace.prompt_tokens
    assert result.outcome.counters["evictions"] == 0


def test_hits_are_split_by_tier() -> None:
    trace = chats()
    run: dict[str, Any] = {"engine": "sglang", "num_blocks": 600, "arrivals": "sequential"}
    small = prefixsim.replay(trace, **run)
    tiered = prefixsim.replay(trace, **run, enable_hierarchical_cache=True, hicache_ratio=4.0)
    tiers = tiered.outcome.tier_hit_tokens
    assert list(tiers) == ["hbm", "dram"]
    assert tiers["dram"].any()
    assert tiered.outcome.hit_tokens.sum() > small.outcome.hit_tokens.sum()
    assert int(tiers["dram"].sum()) == tiered.outcome.summary["host_loaded"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enable_hierarchical_cache": True}, "give arrivals='sequential'"),
        (
            {"enable_hierarchical_cache": True, "arrivals": "sequential"},
            "give num_blocks",
        ),
        (
            {
                "enable_hierarchical_cache": True,
                "arrivals": "sequential",
                "num_blocks": 500,
                "sglang_version": "radix-0.5.9",
            },
            "give version unified-0.5.23 or radix-0.5.16",
        ),
        ({"sglang_version": "0.4"}, "choose one of"),
        ({"schedule_policy": "hrrn", "sglang_version": "radix-0.5.16"}, "only 0.5.23 has it"),
        ({"radix_eviction_policy": "tlru", "sglang_version": "radix-0.5.23"}, "does not have it"),
        ({"num_blocks": 40}, "do not fit a pool of 40"),
        ({"num_blocks": 40, "arrivals": "sequential"}, "do not fit a pool of 40"),
    ],
)
def test_what_cannot_be_simulated_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prefixsim.replay(chats(), engine="sglang", **options)


def test_time_is_the_sum_of_steps() -> None:
    trace = Trace.from_prompts([range(40)], output_len=[5])
    run = simulate(trace, SglangSettings(num_blocks=100, latency=Fixed(0.5)), record_steps=True)
    assert run.times["ttft_s"].tolist() == [0.5]
    assert run.times["e2e_s"].tolist() == [2.5]
    kinds = run.steps().column("kind").to_pylist()
    assert kinds == ["prefill", "decode", "decode", "decode", "decode", "idle"]


def test_servers_stand_side_by_side_in_words() -> None:
    found = compare(chats(), engine=["vllm", "sglang"], block_size=16, num_blocks=100)
    assert {settings["engine"] for settings, _ in found.runs} == {"vllm", "sglang"}
    table = differences(found.engines)
    assert table is not None
    told = {(row[0], row[1]) for row in table.rows}
    for aspect in ("granularity", "outputs", "eviction", "scheduling"):
        assert {(aspect, "vllm"), (aspect, "sglang")} <= told


@settings(max_examples=60)
@given(data=st.data())
def test_every_invariant_holds_after_every_step(data: st.DataObject) -> None:
    """Random traces under random settings, checked by the core after each step."""
    prompts = data.draw(
        st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=10), min_size=1, max_size=12)
    )
    outputs = [data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=8)) for _ in prompts]
    times = sorted(data.draw(st.integers(0, 10)) for _ in prompts)
    trace = Trace.from_prompts(prompts, outputs=outputs, timestamp=[float(t) for t in times])
    page = data.draw(st.sampled_from([1, 2, 4]))
    version = data.draw(st.sampled_from(VERSIONS))
    policies = ["lru", "lfu", "fifo", "mru", "filo", "priority"]
    try:
        run = compile_workload(trace).simulate(
            version=version,
            page_size=page,
            capacity_tokens=data.draw(st.integers(24, 60)),
            enable_caching=data.draw(st.booleans()),
            policy=data.draw(st.sampled_from(policies)),
            protected_threshold=2,
            threshold=0,
            next_prompt_estimate=0,
            schedule_policy=data.draw(st.sampled_from(["fcfs", "lpm", "lof", "dfs-weight"])),
            overlap=data.draw(st.booleans()),
            chunked_prefill_size=data.draw(st.sampled_from([None, 4, 8])),
            max_prefill_tokens=data.draw(st.sampled_from([6, 100])),
            max_running_requests=data.draw(st.integers(1, 6)),
            req_pool_size=8,
            schedule_conservativeness=data.draw(st.sampled_from([0.0, 0.3, 1.0])),
            max_new_slack=data.draw(st.sampled_from([0, 3])),
            preemption_threshold=data.draw(st.sampled_from([None, 0])),
            arrivals="trace",
            in_flight=1,
            with_output=True,
            latency=10**9,
            validate=True,
        )
    except ValueError as error:
        assert "do not fit" in str(error) or "no room" in str(error) or "memory" in str(error)
        return
    finished = (run["requests"]["finish_step"] > 0).sum()
    assert finished + len(run["aborted"]) == len(trace)
    assert run["totals"]["free_end"] + run["totals"]["evictable_end"] >= 24 // page * page
