"""The vLLM engine against the oracle, on random workloads and settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from prefixsim import _core
from prefixsim.trace import Ragged
from tests.oracle.block_manager import BlockManager as Manager
from tests.oracle.scheduler import Config, Job, NeverFitsError, Scheduler, jobs_of, sequential


def workload(jobs: list[Job], block_size: int) -> Any:
    prompts = Ragged.from_lists([job.request.tokens for job in jobs])
    outputs = Ragged.from_lists([job.outputs for job in jobs])
    return _core.VllmWorkload(
        prompts.offsets,
        prompts.values,
        1,
        prompts.lengths.astype(np.uint32),
        outputs.lengths.astype(np.uint32),
        np.array([job.arrival for job in jobs], dtype=np.uint64),
        block_size,
        salt=np.array([job.request.salt for job in jobs], dtype=np.uint32),
        output_offsets=outputs.offsets,
        output_ids=outputs.values.astype(np.uint32),
    )


BASE: dict[str, Any] = {
    "num_blocks": 100,
    "enable_caching": True,
    "max_model_len": None,
    "watermark": 0.0,
    "sliding_window": None,
    "window_cap": True,
    "retention_interval": None,
    "uncached_first": True,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 2**40,
    "enable_chunked_prefill": True,
    "pass_over": False,
    "long_prefill_token_threshold": 0,
    "long_prefill_token_threshold_adaptive": False,
    "lone_threshold": False,
    "reserve_full_isl": True,
    "stats_at_lookup": False,
    "stats_preempted_apart": True,
    "groups": None,
    "spec_method": None,
    "eagle_hits": "lookahead",
    "junction_checkpoints": False,
    "priorities": None,
    "async_scheduling": False,
    "num_speculative_tokens": 0,
    "accept": [],
    "arrivals": "trace",
    "in_flight": 1,
    "latency": 1,
    "record_steps": True,
    "record_events": True,
    "record_tables": True,
    "record_limits": False,
    "record_states": False,
    "validate": True,
}

bits = st.integers(0, 1)
rows = st.lists(
    st.tuples(
        st.builds(
            lambda tokens, times: tokens * times,
            st.lists(bits, min_size=1, max_size=10),
            st.integers(1, 3),
        ),
        st.lists(bits, min_size=1, max_size=12),
        st.integers(0, 40),
        st.sampled_from([0, 0, 0, 1]),
    ),
    min_size=1,
    max_size=14,
)
configs = st.builds(
    Config,
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.one_of(st.just(2**40), st.integers(1, 40)),
    chunked=st.booleans(),
    threshold=st.one_of(st.just(0), st.integers(1, 10)),
    adaptive=st.booleans(),
    reserve_full_isl=st.booleans(),
    max_model_len=st.sampled_from([2**32 - 1, 31, 34]),
    stats_at_lookup=st.booleans(),
    lone_threshold=st.booleans(),
    pass_over=st.booleans(),
    stats_preempted_apart=st.booleans(),
    dt=st.integers(0, 9),
    arrivals=st.sampled_from(["trace", "trace", "start", "closed"]),
    in_flight=st.integers(1, 5),
)
managers = st.fixed_dictionaries(
    {
        "num_blocks": st.integers(6, 60),
        "block_size": st.integers(1, 5),
        "caching": st.sampled_from([True, True, True, False]),
        "window": st.sampled_from([0, 0, 0, 2, 3, 7, 8, 11]),
        "retention": st.sampled_from([None, 0, 1, 2, 4]),
        "watermark": st.sampled_from([0.0, 0.0, 0.1, 0.33]),
        "uncached_first": st.sampled_from([True, True, False, "with caching", "with a window"]),
        "window_cap": st.booleans(),
    }
)


def flat(resumes: list[Job]) -> list[tuple[int, int, int]]:
    return sorted((job.index, step, hit) for job in resumes for step, hit in job.resumes)


def tables(result: dict[str, Any]) -> dict[int, list[int]]:
    ends = np.cumsum(result["requests"]["num_blocks"][result["finish_order"]]).tolist()
    starts = [0, *ends[:-1]]
    return {
        int(request): result["tables"][start:end].tolist()
        for request, start, end in zip(result["finish_order"], starts, ends, strict=True)
    }


@settings(max_examples=200, deadline=None)
@given(rows=rows, config=configs, manager=managers)
def test_every_step_is_the_oracles(  # noqa: PLR0915
    rows: list[Any], config: Config, manager: dict[str, Any]
) -> None:
    retention = manager["retention"]
    retention = None if retention is None else retention * manager["block_size"]
    jobs = jobs_of(rows)
    compiled = workload(jobs, manager["block_size"])
    oracle = Manager(
        manager["num_blocks"],
        manager["block_size"],
        caching=manager["caching"],
        window=manager["window"],
        retention=retention,
        batch_tokens=config.max_num_batched_tokens if manager["window_cap"] else None,
        max_model_len=config.max_model_len,
        watermark=manager["watermark"],
        uncached_first=manager["uncached_first"],
    )
    options = BASE | {
        "num_blocks": manager["num_blocks"],
        "enable_caching": manager["caching"],
        "max_model_len": config.max_model_len,
        "watermark": manager["watermark"],
        "sliding_window": manager["window"] or None,
        "retention_interval": retention,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "enable_chunked_prefill": config.chunked,
        "long_prefill_token_threshold": config.threshold,
        "long_prefill_token_threshold_adaptive": config.adaptive,
        "reserve_full_isl": config.reserve_full_isl,
        "stats_at_lookup": config.stats_at_lookup,
        "lone_threshold": config.lone_threshold,
        "pass_over": config.pass_over,
        "stats_preempted_apart": config.stats_preempted_apart,
        "window_cap": manager["window_cap"],
        "uncached_first": manager["uncached_first"],
        "arrivals": config.arrivals,
        "in_flight": config.in_flight,
        "latency": config.dt,
    }
    scheduler = Scheduler(oracle, config)
    size, usable = manager["block_size"], manager["num_blocks"] - 1
    last = [min(len(j.request.tokens) + len(j.outputs), config.max_model_len) - 1 for j in jobs]
    hopeless = any(job.request.prompt >= config.max_model_len for job in jobs) or (
        not manager["window"] and any(-(-tokens // size) > usable for tokens in last)
    )
    try:
        if hopeless:
            raise NeverFitsError
        scheduler.run(jobs)
    except NeverFitsError:
        event("never fits")
        with pytest.raises(ValueError, match=r"request \d+: "):
            compiled.simulate(**options)
        return

    result = compiled.simulate(**options)
    compare(result, jobs)
    steps = result["steps"]
    columns = ("clock_ns", "requests", "tokens", "running", "waiting", "free")
    assert list(zip(*(steps[c].tolist() for c in columns), strict=True)) == scheduler.rows
    requests = result["requests"]
    assert requests["admit_step"].tolist() == [job.admit_step for job in jobs]
    assert requests["first_token_step"].tolist() == [job.first_token_step for job in jobs]
    assert requests["finish_step"].tolist() == [job.finish_step for job in jobs]
    assert requests["arrival_ns"].tolist() == [job.arrival for job in jobs]
    assert requests["admit_ns"].tolist() == [job.admit_clock for job in jobs]
    assert requests["finish_ns"].tolist() == [job.finish_clock for job in jobs]
    assert requests["preemptions"].tolist() == [job.request.preemptions for job in jobs]
    assert sorted(result["resumes"]) == flat(jobs)
    assert result["free_queue"].tolist() == oracle.pool.free
    events = result["events"]
    removed = np.flatnonzero(~events["stored"]).tolist()
    got = [(int(events["step"][i]), int(events["subject"][i])) for i in removed]
    assert got == [(step, block) for step, block, _ in scheduler.evictions]
    totals = result["totals"]
    assert list(totals["stats"]) == scheduler.stats
    assert list(totals["stats_preempted"]) == scheduler.stats_preempted
    assert totals["steps"] == scheduler.step
    assert totals["final_clock_ns"] == scheduler.clock
    assert totals["evictions"] == len(scheduler.evictions)
    assert totals["cached_end"] == len(oracle.pool.map)
    assert totals["scheduled_tokens"] == sum(row[2] for row in scheduler.rows)
    assert totals["peak_used"] == max(usable - row[5] for row in scheduler.rows)
    event("preemptions" if totals["preemptions"] else "no preemptions")
    quick = compiled.simulate(**options | {"record_steps": False, "record_events": False})
    assert quick["totals"] == totals
    assert quick["requests"]["finish_ns"].tolist() == requests["finish_ns"].tolist()
    check_conservation(result, jobs)


def compare(result: dict[str, Any], jobs: list[Job]) -> None:
    requests = result["requests"]
    assert requests["hit_tokens"].tolist() == [job.hit_tokens for job in jobs]
    found = tables(result)
    assert [found[job.index] for job in jobs] == [job.table for job in jobs]


def check_conservation(result: dict[str, Any], jobs: list[Job]) -> None:
    """Each prompt token is computed, hit, or computed again after a preemption."""
    requests = result["requests"]
    assert requests["computed_tokens"].tolist() == [job.computed_tokens for job in jobs]
    assert requests["scheduled_tokens"].tolist() == [job.scheduled_tokens for job in jobs]
    for job in jobs:
        if not job.request.preemptions:
            assert job.computed_tokens == job.request.prompt - job.hit_tokens
            assert job.scheduled_tokens == job.computed_tokens + job.sampled - 1


@settings(max_examples=80, deadline=None)
@given(rows=rows, manager=managers)
def test_sequential_runs_are_the_oracles(rows: list[Any], manager: dict[str, Any]) -> None:
    jobs = jobs_of(rows)
    compiled = workload(jobs, manager["block_size"])
    retention = manager["retention"]
    retention = None if retention is None else retention * manager["block_size"]
    oracle = Manager(
        manager["num_blocks"],
        manager["block_size"],
        caching=manager["caching"],
        window=manager["window"],
        retention=retention,
        batch_tokens=2**40 if manager["window_cap"] else None,
        uncached_first=manager["uncached_first"],
    )
    options = BASE | {
        "num_blocks": manager["num_blocks"],
        "enable_caching": manager["caching"],
        "sliding_window": manager["window"] or None,
        "uncached_first": manager["uncached_first"],
        "window_cap": manager["window_cap"],
        "retention_interval": retention,
        "arrivals": "sequential",
    }
    try:
        sequential(oracle, jobs)
    except NeverFitsError:
        with pytest.raises(ValueError, match=r"request \d+: "):
            compiled.simulate(**options)
        return
    result = compiled.simulate(**options)
    compare(result, jobs)
    assert result["free_queue"].tolist() == oracle.pool.free
    assert result["totals"]["evictions"] == len(oracle.pool.evicted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs is 0"),
        ({"max_num_batched_tokens": 0}, "max_num_batched_tokens is 0"),
        ({"max_num_batched_tokens": -1}, "max_num_batched_tokens is negative"),
        ({"num_blocks": 1}, "num_blocks is 1"),
        ({"num_blocks": 4}, "request 0: 20 tokens need 5 blocks of 4 tokens and can never fit 3"),
        ({"max_model_len": 20}, "request 0: a prompt of 20 tokens leaves no token to sample"),
        ({"watermark": 1.0}, "watermark is 1"),
        ({"watermark": float("nan")}, "watermark is NaN"),
        ({"arrivals": "closed", "in_flight": 0}, "in_flight is 0"),
        ({"arrivals": "sometimes"}, "choose trace, start, closed or sequential"),
        ({"latency": [float("nan"), 0, 0, 0, 0, 0]}, "latency: a coefficient is NaN"),
        ({"latency": [-1.0, 0, 0, 0, 0, 0]}, "latency: a coefficient is -1"),
        ({"latency": [1e30, 0, 0, 0, 0, 0]}, "check the model"),
        ({"latency": 2**64 - 1, "arrivals": "start"}, "584 years"),
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 19},
            "request 0: .* cannot be admitted even when nothing else runs",
        ),
        (
            {"sliding_window": 32, "num_blocks": 5, "reserve_full_isl": False},
            "request 0: ",
        ),
    ],
)
def test_what_can_never_work_is_an_error(change: dict[str, Any], message: str) -> None:
    jobs = jobs_of([(list(range(20)), [1], 0, 0), ([5], [1, 2], 1, 0)])
    with pytest.raises(ValueError, match=message):
        workload(jobs, 4).simulate(**BASE | change)


def test_a_request_that_preempts_itself_forever_is_an_error() -> None:
    jobs = jobs_of([(list(range(20)), [7] * 30, 0, 0)])
    options = {
        "sliding_window": 40,
        "num_blocks": 8,
        "reserve_full_isl": False,
        "max_num_batched_tokens": 4,
        "enable_caching": False,
    }
    with pytest.raises(ValueError, match="over and over"):
        workload(jobs, 4).simulate(**BASE | options)
