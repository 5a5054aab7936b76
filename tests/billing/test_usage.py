"""What providers' caches read and write, against slow oracles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefixsim
from prefixsim import Trace
from prefixsim.billing.bill import block_ends
from prefixsim.billing.rules import provider_named
from prefixsim.billing.usage import Replayer
from tests.oracle import api_caching

Prompt = tuple[int, ...]
_PROMPT = st.lists(st.integers(0, 1), min_size=1, max_size=14).map(tuple)


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[Prompt], list[Prompt], list[float]]:
    prompts: list[Prompt] = []
    outputs: list[Prompt] = []
    for _ in range(draw(st.integers(1, 10))):
        start: Prompt = ()
        other = draw(st.integers(-4, 8))
        if 0 <= other < len(prompts):
            start = (prompts[other] + outputs[other])[: draw(st.integers(0, 20))]
        prompts.append(start + draw(_PROMPT))
        outputs.append(draw(_PROMPT))
    gaps = [draw(st.integers(0, 6)) for _ in prompts]
    return prompts, outputs, np.cumsum(gaps).astype(float).tolist()


@given(traffic(), st.integers(1, 12), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_cache_of_every_prefix(
    traffic: tuple[list[Prompt], list[Prompt], list[float]], ttl: int, minimum: int, step: int
) -> None:
    prompts, _, times = traffic
    rules = replace(provider_named("openai"), minimum=minimum, granularity=step, ttl=f"{ttl}s")
    trace = Trace.from_prompts(prompts, timestamp=times)
    found = Replayer(trace).usage(rules)
    assert found.read.tolist() == api_caching.every_prefix(prompts, times, ttl, minimum, step)
    assert (found.read + found.written + found.rest).tolist() == list(map(len, prompts))
    assert 0 <= found.reread_tokens <= int(found.written.sum())


@given(traffic(), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_every_time_to_live_hits_as_the_policy_does(
    traffic: tuple[list[Prompt], list[Prompt], list[float]], ttl: int
) -> None:
    prompts, _, times = traffic
    rules = replace(provider_named("gemini"), minimum=1, granularity=1, ttl=f"{ttl}s")
    trace = Trace.from_prompts(prompts, timestamp=times)
    result = prefixsim.replay(
        trace, policy=f"ttl:seconds={ttl}", block_size=1, last_token_rule=False
    )
    read = int(Replayer(trace).usage(rules).read.sum())
    assert read == result.summary["hit_tokens"]
    curve = prefixsim.ttl_curve(trace, block_size=1, last_token_rule=False)
    assert read == curve.blocks_reused(ttl)


@given(traffic(), st.integers(1, 12), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_entries_end_at_breakpoints(
    traffic: tuple[list[Prompt], list[Prompt], list[float]], ttl: int, minimum: int
) -> None:
    prompts, _, times = traffic
    rules = replace(provider_named("anthropic"), minimum=minimum, ttl=f"{ttl}s")
    trace = Trace.from_prompts(prompts, timestamp=times)
    found = Replayer(trace).usage(rules)
    read, written, held, again = api_caching.entries(prompts, times, ttl, minimum)
    assert found.read.tolist() == read
    assert found.written.tolist() == written
    assert found.token_hours * 3600 == pytest.approx(held)
    assert found.reread_tokens == again


@given(traffic(), st.integers(1, 12), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_units_end_at_prompts_outputs_and_partings(
    traffic: tuple[list[Prompt], list[Prompt], list[float]], ttl: int, minimum: int
) -> None:
    prompts, outputs, times = traffic
    rules = replace(provider_named("deepseek"), minimum=minimum, ttl=f"{ttl}s")
    trace = Trace.from_prompts(prompts, outputs=outputs, timestamp=times)
    found = Replayer(trace).usage(rules)
    assert found.read.tolist() == api_caching.units(prompts, outputs, times, ttl, minimum)


def test_breakpoints_where_prompts_part_are_read_by_the_next() -> None:
    rules = provider_named("anthropic", "claude-sonnet-4-5")
    shared = list(range(2000))
    prompts = [shared + list(range(k * 10_000, k * 10_000 + 1500)) for k in range(1, 5)]
    trace = Trace.from_prompts(prompts)
    replayer = Replayer(trace)
    assert replayer.usage(rules).read.tolist() == [0, 0, 0, 0]
    both = replayer.usage(rules, "shared+end")
    assert both.read.tolist() == [0, 2000, 2000, 2000]
    assert both.written.tolist() == [3500, 1500, 1500, 1500]
    only = replayer.usage(rules, "shared")
    assert only.written.tolist() == [2000, 0, 0, 0]
    assert only.rest.tolist() == [1500, 1500, 1500, 1500]


def test_the_look_back_is_20_blocks() -> None:
    rules = replace(provider_named("anthropic"), minimum=1)
    blocks = [9, 1, 2, 3]
    prompts = [blocks * 2, blocks * 22, blocks * 43]
    trace = Trace.from_prompts(prompts)
    known = Replayer(trace, block_ends(trace, 9)).usage(rules)
    assert known.read.tolist() == [0, 8, 0]
    assert Replayer(trace).usage(rules).read.tolist() == [0, 8, 88]


def test_salts_share_nothing() -> None:
    prompt = list(range(2000))
    trace = Trace.from_prompts([prompt] * 3, salt=["a", "b", "a"])
    for name in ("openai", "anthropic", "deepseek"):
        read = Replayer(trace).usage(provider_named(name)).read > 0
        assert read.tolist() == [False, False, True]


def test_a_stored_prefix_is_paid_once_for_its_time() -> None:
    rules = replace(provider_named("gemini-explicit"), minimum=1024)
    shared = list(range(2000))
    prompts = [[*shared, 10_000 + k] for k in range(4)]
    trace = Trace.from_prompts(prompts, timestamp=[0, 60, 3000, 4000])
    found = Replayer(trace).usage(rules)
    assert found.read.tolist() == [2000] * 4
    assert found.written.tolist() == [2000, 0, 0, 2000]
    assert found.rest.tolist() == [1, 1, 1, 1]
    assert found.token_hours == 4000


def test_hash_ids_are_known_in_blocks() -> None:
    path = np.arange(8, dtype=np.uint64)
    trace = Trace.from_prompts([[1]] * 2)
    hashed = trace.replace(
        prompts=prefixsim.trace.columns.Ragged.from_lists([path[:6], path], np.uint64),
        prompt_len=np.array([3000, 4000], dtype=np.uint32),
        id_block_size=512,
    )
    assert Replayer(hashed).usage(provider_named("openai")).read.tolist() == [0, 2560]
