"""vLLM with offloading and its readable counterpart, side by side; its outcome; and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import prefixsim
from prefixsim.engines.vllm import VllmSettings, offload
from prefixsim.engines.vllm.simulate import (
    Simulation,
    simulate,
)
from prefixsim.engines.vllm.workload import compile_workload, core_settings
from prefixsim.errors import InputError
from prefixsim.hardware.latency import Fixed
from prefixsim.trace import Trace
from tests.oracle.offload_scheduler import Config, Req, Server

BLOCK = 2
KINDS = ("store", "load", "refused", "promote")
REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1), min_size=1, max_size=14),
        st.lists(st.integers(0, 1), min_size=1, max_size=6),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=14,
)
CONFIGS = st.fixed_dictionaries(
    {
        "num_blocks": st.integers(12, 20),
        "max_num_seqs": st.integers(1, 4),
        "max_num_batched_tokens": st.sampled_from([4, 9, 2**40]),
        "reserve_full_isl": st.booleans(),
        "watermark": st.sampled_from([0.0, 0.1]),
        "cpu_chunks": st.sampled_from([1, 3, 8, 40]),
        "blocks_per_chunk": st.sampled_from([1, 1, 2]),
        "eviction_policy": st.sampled_from(["lru", "arc"]),
        "store_threshold": st.sampled_from([0, 0, 2]),
        "offload_prompt_only": st.booleans(),
        "sync_load_tokens": st.sampled_from([0, 0, 6, 100]),
        "load_time": st.sampled_from([0, 300, 2500]),
        "store_time": st.sampled_from([0, 300, 2500]),
        "disk": st.booleans(),
        "disk_read_time": st.sampled_from([0, 700]),
        "disk_write_time": st.sampled_from([0, 700, 3000]),
        "disk_lookup": st.sampled_from(["sync", "next_step"]),
    }
)


def settings_of(c: Config) -> VllmSettings:
    return VllmSettings(
        block_size=c.block_size,
        num_blocks=c.num_blocks,
        max_num_seqs=c.max_num_seqs,
        max_num_batched_tokens=c.max_num_batched_tokens,
        reserve_full_isl=c.reserve_full_isl,
        watermark=c.watermark,
        latency=Fixed(c.dt / 1e6),
        kv_offloading_size=c.cpu_chunks * c.blocks_per_chunk,
        blocks_per_chunk=c.blocks_per_chunk,
        eviction_policy=c.eviction_policy,
        store_threshold=c.store_threshold,
        max_tracker_size=c.max_tracker_size,
        offload_prompt_only=c.offload_prompt_only,
        sync_load_budget_bytes=c.sync_load_tokens,
        bytes_per_token=1,
        load_us=c.load_time,
        store_us=c.store_time,
        offload_disk=c.disk,
        disk_read_us=c.disk_read_time,
        disk_write_us=c.disk_write_time,
        disk_lookup=c.disk_lookup,
    )


def served(trace: Trace, config: Config) -> Simulation:
    """A run in which every invariant is checked after every step."""
    settings = settings_of(config)
    workload = compile_workload(trace, BLOCK)
    wanted = core_settings(settings, trace, steps=True, events=False, tables=True)
    wanted["validate"] = True
    raw, offloaded = workload.simulate_offload(wanted, offload.core_settings(settings))
    return Simulation(trace, settings, raw, workload, offloaded)


def names(tokens: list[int]) -> list[Any]:
    return [tuple(tokens[: i + BLOCK]) for i in range(0, len(tokens) - BLOCK + 1, BLOCK)]


@given(rows=REQUESTS, options=CONFIGS)
def test_every_step_is_that_of_the_oracle(rows: list[Any], options: dict[str, Any]) -> None:
    config = Config(block_size=BLOCK, **options)
    times = [sum(gap for *_, gap in rows[: i + 1]) for i in range(len(rows))]
    requests = [
        Req(i, len(prompt), len(output), time * 1000, names([*prompt, *output]))
        for i, ((prompt, output, _), time) in enumerate(zip(rows, times, strict=True))
    ]
    oracle = Server(config, requests)
    oracle.run()
    trace = Trace.from_prompts(
        [prompt for prompt, *_ in rows],
        outputs=[output for _, output, _ in rows],
        timestamp=[time / 1000 for time in times],
    )
    run = served(trace, config)
    assert run.offloaded is not None
    ours: Any = run.offloaded["columns"]
    steps: Any = run.raw["steps"]
    counts = (
        *(steps[name] for name in ("requests", "tokens", "running", "waiting")),
        *(ours["holding"], steps["free"], ours["loaded"], ours["stored"], ours["flushed"]),
    )
    clock = (steps["clock_ns"] // 1000).tolist()
    found = zip(clock, *(c.tolist() for c in counts), strict=True)
    assert [[i, *row] for i, row in enumerate(found, start=1)] == oracle.steps
    for name, attribute in (
        ("device_hits", "device_hits"),
        ("host_hits", "host_hits"),
        ("disk_hits", "disk_hits"),
        ("loaded_chunks", "loaded"),
        ("stored_chunks", "stored"),
    ):
        assert ours[name].tolist() == [getattr(r, attribute) for r in requests], name
    parts = ("step", "kind", "request", "chunks", "evicted")
    log = zip(*(ours[f"transfer_{part}"].tolist() for part in parts), strict=True)
    transfers = [[s, KINDS[k], r, n, *([e] if k in (0, 3) else [])] for s, k, r, n, e in log]
    assert transfers == oracle.transfers
    origins = list(zip(*(c.tolist() for c in run.workload.origins()), strict=True))
    key_of = [names([*rows[r][0], *rows[r][1]])[b] for r, b in origins]
    assert [key_of[k] for k in ours["evicted"].tolist()] == [k for _, k in oracle.host_evictions]
    state = oracle.host.state()
    if config.eviction_policy == "lru":
        expected = [[key for key, *_ in state["order"]]]
    else:
        resident = [[key for key, *_ in state[name]] for name in ("t1", "t2")]
        expected = [*resident, state["b1"], state["b2"]]
    assert [[key_of[k] for k in keys.tolist()] for keys in run.offloaded["end"]] == expected
    assert run.raw["requests"]["finish_step"].tolist() == [r.finish_step for r in requests]
    check_lost(run, oracle)
    hits = run.outcome().hit_tokens
    split = np.sum(list(run.outcome().tier_hit_tokens.values()), axis=0)
    assert hits.tolist() == split.tolist()


def check_lost(run: Simulation, oracle: Server) -> None:
    """Compare why tokens behind the hits were not served, one by one."""
    outcome = run.outcome()
    stretches = outcome.lost_stretches
    assert stretches is not None
    chunk, prompt_len = oracle.config.chunk, run.trace.prompt_len
    served = [r.device_hits + r.host_hits for r in oracle.requests]
    expected = dict.fromkeys(stretches.causes, 0)
    for r, begin, causes in zip(oracle.requests, served, oracle.lost, strict=True):
        for token in range(begin, r.prompt):
            at = token // chunk - begin // chunk
            expected[causes[at] if at < len(causes) else "not_offered"] += 1
    found = stretches.within(np.array(served, dtype=np.uint32), prompt_len)
    assert {cause: int(tokens.sum()) for cause, tokens in found.items()} == expected


PLAIN: dict[str, Any] = {
    "num_blocks": 12, "max_num_seqs": 1, "max_num_batched_tokens": 4, "reserve_full_isl": False,
    "watermark": 0.0, "cpu_chunks": 1, "blocks_per_chunk": 1, "eviction_policy": "lru",
    "store_threshold": 0, "offload_prompt_only": False, "sync_load_tokens": 0, "load_time": 0,
    "store_time": 0, "disk": False, "disk_read_time": 0, "disk_write_time": 0,
    "disk_lookup": "sync",
}  # fmt: skip


# Who waits for the disk's answer lets the next one run first, and hits what that one brought.
@example(
    rows=[([1, 1], [0], 0), ([1], [1, 0], 0)],
    options={**PLAIN, "disk": True, "disk_lookup": "next_step"},
)
# Fewer chunks may go than have to.
@example(
    rows=[([0], [0, 0], 0), ([0], [1, 0], 0), ([0] * 6, [0] * 3, 0)],
    options={**PLAIN, "cpu_chunks": 3, "eviction_policy": "arc"},
)
@given(rows=REQUESTS, options=CONFIGS)
def test_causes_of_evicted_tokens_add_up(rows: list[Any], options: dict[str, Any]) -> None:
    config = Config(block_size=BLOCK, **options)
    trace = Trace.from_prompts(
        [prompt for prompt, *_ in rows],
        outputs=[output for _, output, _ in rows],
        timestamp=(np.cumsum([gap for *_, gap in rows]) / 1000).tolist(),
    )
    result = prefixsim.replay(trace, engine="vllm", settings=settings_of(config))
    fall = result.waterfall()
    assert sum(fall.totals.values()) == trace.prompt_tokens
    assert sum(fall.evicted_causes.values()) == fall.totals["evicted"]
    assert sum(fall.hit_tiers.values()) == fall.totals["hit"]


@given(rows=REQUESTS, options=CONFIGS)
def test_without_chunks_it_is_the_plain_scheduler(rows: list[Any], options: dict[str, Any]) -> None:
    """The scheduler that looks at every request is that which passes over them."""
    config = Config(block_size=BLOCK, **options)
    config.blocks_per_chunk, config.cpu_chunks = 50, 1
    trace = Trace.from_prompts(
        [prompt for prompt, *_ in rows],
        outputs=[output for _, output, _ in rows],
        timestamp=(np.cumsum([gap for *_, gap in rows]) / 1000).tolist(),
    )
    run = served(trace, config)
    plain = simulate(
        trace,
        block_size=BLOCK,
        num_blocks=config.num_blocks,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        reserve_full_isl=config.reserve_full_isl,
        watermark=config.watermark,
        latency=Fixed(config.dt / 1e6),
        async_scheduling=False,
        record_tables=True,
    )
    ours: Any = run.raw["requests"]
    theirs: Any = plain.raw["requests"]
    for name in ("hit_tokens", "computed_tokens", "scheduled_tokens", "preemptions", "num_blocks"):
        assert ours[name].tolist() == theirs[name].tolist(), name
    assert run.raw["tables"].tolist() == plain.raw["tables"].tolist()
    assert run.raw["free_queue"].tolist() == plain.raw["free_queue"].tolist()
    assert run.totals["stats"] == plain.totals["stats"]


TRACE = Trace.from_prompts(
    [range(64), range(100, 164), range(64), range(200, 264), range(64)],
    output_len=[4] * 5,
    timestamp=[0, 1, 2, 3, 4],
)
OPTIONS: dict[str, Any] = {"engine": "vllm", "num_blocks": 6, "kv_offloading_size": 20}


def test_hits_are_split_by_tier_and_leave_the_last_token() -> None:
    outcome = prefixsim.replay(TRACE, **OPTIONS).outcome
    assert outcome.hit_tokens.tolist() == [0, 0, 63, 0, 63]
    assert outcome.tier_hit_tokens["hbm"].tolist() == [0, 0, 0, 0, 0]
    assert outcome.tier_hit_tokens["dram"].tolist() == [0, 0, 63, 0, 63]
    assert outcome.computed_tokens.tolist() == [64, 64, 1, 64, 1]
    assert outcome.loaded_tokens is not None and outcome.loaded_tokens.tolist()[2] == 64
    assert outcome.stored_tokens is not None and outcome.stored_tokens.sum() == 3 * 64
    assert outcome.summary["offloading"]["load_jobs"] == 2
    assert outcome.config["kv_offloading_size"] == 20
    plain = prefixsim.replay(TRACE, engine="vllm", num_blocks=6).outcome
    assert not plain.tier_hit_tokens and "kv_offloading_size" not in plain.config


def test_without_prefix_caching_nothing_is_found_in_any_tier() -> None:
    outcome = prefixsim.replay(TRACE, **OPTIONS, enable_caching=False).outcome
    assert outcome.hit_tokens.sum() == 0 and not outcome.tier_hit_tokens


def test_the_waterfall_adds_up() -> None:
    totals = prefixsim.explain(prefixsim.replay(TRACE, **OPTIONS)).totals
    assert sum(totals.values()) == TRACE.prompt_tokens and totals["hit"] == 126


def test_a_bandwidth_is_two_times() -> None:
    slow: dict[str, Any] = {"offload_bandwidth": 1.0, "bytes_per_token": 1e6}  # 16 ms a block
    times: dict[str, Any] = {"load_us": 16_000.0, "store_us": 16_000.0}
    a, b = (prefixsim.replay(TRACE, **OPTIONS, **more).outcome for more in (slow, times))
    assert a.columns["ttft_s"].tolist() == b.columns["ttft_s"].tolist()
    assert a.columns["ttft_s"][2] > prefixsim.replay(TRACE, **OPTIONS).outcome.columns["ttft_s"][2]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"kv_offloading_size": None, "store_threshold": 2}, "give kv_offloading_size too"),
        ({"vllm_version": "0.22"}, "as 0.33 does it"),
        ({"sliding_window": 8}, "needs full attention"),
        ({"long_prefill_token_threshold": 8}, "not simulated with offloading"),
        ({"arrivals": "sequential"}, "sequential arrivals have none"),
        ({"offload_bandwidth": 1, "load_us": 5}, "say the same"),
        ({"offload_bandwidth": 1}, "need bytes_per_token"),
        ({"kv_offloading_size": "4GB"}, "bytes need bytes_per_token"),
        ({"blocks_per_chunk": 30}, "20 blocks are less than a chunk of 30"),
        ({"eviction_policy": "fifo"}, "eviction_policy"),
    ],
)
def test_what_does_not_go_with_offloading_is_refused(options: Any, problem: str) -> None:
    if "vllm_version" in options:
        options = {"version": options["vllm_version"]}
    with pytest.raises(InputError, match=problem):
        prefixsim.replay(TRACE, **{**OPTIONS, **options})
