"""LMCache and its readable counterpart, side by side; its outcome; and bad input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.engines.lmcache.settings import IN_PROCESS, SERVER, LmcacheSettings
from prefixsim.engines.lmcache.simulate import run
from prefixsim.errors import InputError
from prefixsim.trace import Trace
from tests.oracle.lmcache import InProcess, Server

PROMPTS = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=11), min_size=1, max_size=25)


def chunks(prompt: list[int]) -> list[tuple[int, ...]]:
    return [tuple(prompt[: i + 2]) for i in range(0, len(prompt) - 1, 2)]


def check(
    prompts: list[list[int]], times: list[int], settings: LmcacheSettings, oracle: Any
) -> None:
    """Hits, stores, evictions and the chunks that are left, against the oracle."""
    trace = Trace.from_prompts(prompts, timestamp=[time / 1000 for time in times])
    workload, found = run(trace, settings, validate=True)
    requests, places = workload.origins()
    names = [
        chunks(prompts[r])[p] if p < len(chunks(prompts[r])) else None
        for r, p in zip(requests.tolist(), places.tolist(), strict=True)
    ]
    served = [oracle.serve(chunks(p), time) for p, time in zip(prompts, times, strict=True)]
    assert found["cpu_hits"].tolist() == [s.cpu for s in served]
    assert found["disk_hits"].tolist() == [s.disk for s in served]
    assert found["stored"].tolist() == [s.stored for s in served]
    assert found["refused"].tolist() == [s.refused for s in served]
    for tier in ("cpu", "disk"):
        keys = found["cpu_evicted" if tier == "cpu" else "disk_evicted"].tolist()
        assert [names[k] for k in keys] == [key for t, key in oracle.evicted if t == tier]
    ends = [[names[k] for k in keys] for keys in found["end"]]
    if isinstance(oracle, InProcess):
        assert ends == [list(oracle.cpu.uses), list(oracle.disk.uses)]
    else:
        assert ends == [oracle.t1, oracle.t2, oracle.b1, oracle.b2]
        assert found["target"] == oracle.target


@given(
    prompts=PROMPTS,
    policy=st.sampled_from(IN_PROCESS),
    cpu=st.integers(1, 12),
    disk=st.sampled_from([0, 0, 1, 5, 20]),
)
def test_both_stores_do_what_the_oracle_does(
    prompts: list[list[int]], policy: str, cpu: int, disk: int
) -> None:
    settings = LmcacheSettings(block_size=2, num_blocks=cpu, disk_blocks=disk, cache_policy=policy)
    check(prompts, [0] * len(prompts), settings, InProcess(policy, cpu, disk))


@given(
    prompts=PROMPTS,
    gaps=st.lists(st.integers(0, 2500), min_size=25, max_size=25),
    policy=st.sampled_from(SERVER),
    cpu=st.integers(1, 20),
    shares=st.tuples(st.sampled_from([0.0, 0.5, 0.8, 1.0]), st.sampled_from([0.0, 0.2, 0.7, 1.0])),
)
def test_the_server_does_what_the_oracle_does(
    prompts: list[list[int]],
    gaps: list[int],
    policy: str,
    cpu: int,
    shares: tuple[float, float],
) -> None:
    watermark, ratio = shares
    times = [sum(gaps[:i]) for i in range(len(prompts))]
    settings = LmcacheSettings(
        block_size=2,
        num_blocks=cpu,
        lmcache_mode="server",
        cache_policy=policy,
        trigger_watermark=watermark,
        eviction_ratio=ratio,
    )
    check(prompts, times, settings, Server(policy, cpu, watermark, ratio))


@given(
    prompts=PROMPTS,
    policy=st.sampled_from(IN_PROCESS),
    cpu=st.integers(1, 12),
    disk=st.sampled_from([0, 1, 5]),
)
def test_causes_of_evicted_tokens_are_those_of_a_log(
    prompts: list[list[int]], policy: str, cpu: int, disk: int
) -> None:
    """Token by token, from what the oracle had in its tiers and last dropped."""
    oracle = InProcess(policy, cpu, disk)
    last: dict[Any, str] = {}
    causes: list[list[str]] = []
    for prompt in prompts:
        keys = chunks(prompt)
        there = [key in oracle.cpu.uses or key in oracle.disk.uses for key in keys]
        causes.append(
            [
                "stranded" if here else last.get(key, "not_offered")
                for key, here in zip(keys, there, strict=True)
            ]
        )
        before = len(oracle.evicted)
        served = oracle.serve(keys, 0)
        for tier, key in oracle.evicted[before:]:
            last[key] = {"cpu": "dram", "disk": "disk"}[tier]
        hits = served.cpu + served.disk
        last |= dict.fromkeys(keys[hits + served.stored :], "refused")
    result = prefixsim.replay(
        Trace.from_prompts(prompts), engine="lmcache", block_size=2, num_blocks=cpu,
        disk_blocks=disk, cache_policy=policy,
    )  # fmt: skip
    fall = result.waterfall()
    expected = dict.fromkeys(("not_offered", "refused", "stranded", "dram", "disk"), 0)
    for own, start, end in zip(causes, *fall.stretch("evicted"), strict=True):
        for token in range(start, end):
            expected[own[token // 2]] += 1
    assert fall.evicted_causes == expected
    assert sum(expected.values()) == fall.totals["evicted"]
    assert sum(fall.hit_tiers.values()) == fall.totals["hit"]


TRACE = Trace.from_prompts(
    [range(1024), range(1024), range(600), range(5000, 6000), range(1024)],
    timestamp=range(5),
)


def test_hits_are_split_by_tier_and_leave_the_last_token() -> None:
    result = prefixsim.replay(TRACE, engine="lmcache", num_blocks=6, disk_blocks=40)
    outcome = result.outcome
    assert outcome.hit_tokens.tolist() == [0, 1023, 512, 0, 1023]
    assert outcome.tier_hit_tokens["dram"].tolist() == [0, 1023, 512, 0, 768]
    assert outcome.tier_hit_tokens["disk"].tolist() == [0, 0, 0, 0, 255]
    assert outcome.computed_tokens.tolist() == [1024, 1, 88, 1000, 1]
    assert outcome.loaded_tokens is not None and outcome.loaded_tokens.tolist()[4] == 1024
    assert outcome.stored_tokens is not None and outcome.stored_tokens.sum() == 7 * 256
    totals = prefixsim.explain(result).totals
    assert sum(totals.values()) == TRACE.prompt_tokens and totals["last_token"] == 2


def test_the_warm_up_is_not_counted_and_caching_can_be_off() -> None:
    options: dict[str, Any] = {"engine": "lmcache", "num_blocks": 6}
    whole = prefixsim.replay(TRACE, **options).outcome.counters["evictions"]
    late = prefixsim.replay(TRACE, warmup=0.9, **options).outcome.counters["evictions"]
    assert 0 <= late < whole
    off = prefixsim.replay(TRACE, enable_caching=False, **options)
    assert off.outcome.hit_tokens.sum() == 0


def test_a_disk_in_bytes() -> None:
    result = prefixsim.replay(
        TRACE, engine="lmcache", num_blocks="3MB", disk_blocks="10MB", bytes_per_token=2000
    )
    assert result.config["num_blocks"] == 5 and result.config["disk_blocks"] == 19


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"cache_policy": "arc"}, "'arc': LMCache has lru and lfu and fifo and mru"),
        ({"lmcache_mode": "server", "cache_policy": "lfu"}, "LMCache has lru and arc"),
        ({"lmcache_mode": "server", "disk_blocks": 5}, "first level is memory alone"),
        ({"cache_outputs": True}, "not generated tokens"),
        ({"disk_blocks": "4GB"}, "disk_blocks 4GB: bytes need bytes_per_token"),
        ({"trigger_watermark": 1.5}, "trigger_watermark"),
    ],
)
def test_what_lmcache_does_not_have_is_refused(options: Any, problem: str) -> None:
    trace = Trace.from_prompts([range(300)], outputs=[range(3)])
    with pytest.raises(InputError, match=problem):
        prefixsim.replay(trace, engine="lmcache", num_blocks=5, **options)
