"""The vLLM engine with groups, drafts, priorities and batches in flight against the oracle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from prefixsim import _core
from prefixsim.trace import Ragged
from tests.engines.test_vllm_engine import BASE
from tests.oracle.hybrid_losses import agreed
from tests.oracle.hybrid_scheduler import (
    Batch,
    Config,
    Job,
    LivelockError,
    NeverFitsError,
    Scheduler,
)
from tests.oracle.kv_groups import CacheConfig, Group, Request

LONGEST = 128  # tokens of a request; without caching a state's block holds them

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
    max_size=12,
)


def jobs_of(drawn: list[Any], priorities: list[int]) -> list[Job]:
    ordered = sorted(drawn, key=lambda row: row[2])
    return [
        Job(i, Request(list(p), salt), list(o), at, priorities[i % len(priorities)])
        for i, (p, o, at, salt) in enumerate(ordered)
    ]


@st.composite
def group_lists(draw: st.DrawFn, *, chunks: bool) -> tuple[Group, ...]:
    """Groups whose block sizes are small multiples of one size."""
    unit = draw(st.sampled_from([1, 2, 2, 3]))
    sizes = st.sampled_from([unit, unit, 2 * unit, 4 * unit])
    same = draw(st.booleans())
    whole = draw(sizes)
    found: list[Group] = []
    types = ["full", "full", "sliding_window", "mamba", *(["chunked_local"] if chunks else [])]
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(types))
        size = whole if same else draw(sizes)
        again = draw(st.booleans())
        if found and again:
            found.append(found[draw(st.integers(0, len(found) - 1))])
            continue
        window = draw(st.integers(2, 14)) if kind == "sliding_window" else 0
        chunk = draw(st.integers(2, 14)) if kind == "chunked_local" else 0
        checkpoint = draw(st.sampled_from([0, 0, 1, 2, 4])) if kind == "mamba" else 0
        found.append(
            Group(
                kind,
                size,
                window,
                chunk,
                checkpoint_blocks=int(checkpoint > 0),
                checkpoint_alignment=checkpoint or None,
                eagle=draw(st.sampled_from([False, False, True])),
            )
        )
    return tuple(found)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    spec = draw(st.sampled_from([None, None, "eagle", "ngram"]))
    groups = draw(group_lists(chunks=spec != "eagle"))
    caching = draw(st.sampled_from([True, True, True, True, False]))
    whole = math.lcm(*(g.block_size for g in groups))
    if not caching:
        long = whole * -(-LONGEST // whole)
        groups = tuple(
            Group(g.type, long, eagle=g.eagle) if g.type == "mamba" else g for g in groups
        )
    unit = math.gcd(*(g.block_size for g in groups))
    units = [None, *(u for u in (1, 2, 3) if unit % u == 0)]
    every = draw(st.sampled_from([0, 0, None, 1, 2]))
    cache = CacheConfig(
        groups,
        draw(st.integers(8, 70)),
        caching=caching,
        prefix_match_unit=draw(st.sampled_from(units)) if len(groups) > 1 else None,
        retention=every and every * whole if caching else 0,
        max_model_len=LONGEST,
        batch_tokens=draw(st.one_of(st.just(2**30), st.integers(4, 40))),
        long_prefill_threshold=draw(st.sampled_from([0, 0, 3, 8])),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.2])),
        asynchronous=draw(st.booleans()) and spec != "ngram",
        spec_method=spec,
        drafts=draw(st.integers(1, 4)) if spec else 0,
        eagle_hits=draw(st.sampled_from(["lookahead", "drop", "nodrop"])),
        junction_checkpoints=draw(st.booleans()),
    )
    chunked = [g.block_size for g in groups if g.type == "chunked_local"]
    assume(all(size == cache.alignment for size in chunked))
    return Config(
        cache,
        max_num_seqs=draw(st.integers(1, 6)),
        chunked=draw(st.booleans()),
        adaptive=draw(st.booleans()),
        reserve_full_isl=draw(st.booleans()),
        priority=draw(st.booleans()),
        accept=tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))),
        dt=draw(st.integers(1 if cache.asynchronous else 0, 9)),
    )


def workload(jobs: list[Job], cache: CacheConfig) -> Any:
    prompts = Ragged.from_lists([job.request.tokens for job in jobs])
    outputs = Ragged.from_lists([job.outputs for job in jobs])
    return _core.VllmWorkload(
        prompts.offsets,
        prompts.values,
        1,
        prompts.lengths.astype(np.uint32),
        outputs.lengths.astype(np.uint32),
        np.array([job.arrival for job in jobs], dtype=np.uint64),
        cache.h,
        salt=np.array([job.request.salt for job in jobs], dtype=np.uint32),
        output_offsets=outputs.offsets,
        output_ids=outputs.values.astype(np.uint32),
        lookahead=bool(cache.looks_ahead),
    )


def options_of(config: Config, jobs: list[Job]) -> dict[str, Any]:
    cache = config.cache
    return BASE | {
        "num_blocks": cache.num_blocks,
        "enable_caching": cache.caching,
        "max_model_len": cache.max_model_len,
        "watermark": cache.watermark,
        "retention_interval": cache.retention,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": cache.batch_tokens,
        "enable_chunked_prefill": config.chunked,
        "long_prefill_token_threshold": cache.long_prefill_threshold,
        "long_prefill_token_threshold_adaptive": config.adaptive,
        "reserve_full_isl": config.reserve_full_isl,
        "latency": config.dt,
        "groups": [
            {
                "type": g.type,
                "block_size": g.block_size,
                "window": g.window,
                "chunk": g.chunk,
                "checkpoint_blocks": g.checkpoint_blocks,
                "checkpoint_alignment": g.checkpoint_alignment or 0,
                "eagle": g.eagle,
            }
            for g in cache.groups
        ],
        "priorities": [job.priority for job in jobs] if config.priority else None,
        "async_scheduling": cache.asynchronous,
        "spec_method": cache.spec_method,
        "num_speculative_tokens": cache.drafts,
        "eagle_hits": cache.eagle_hits,
        "accept": list(config.accept),
        "junction_checkpoints": cache.junction_checkpoints,
        "record_limits": True,
        "record_states": True,
    }


def state_of(scheduler: Scheduler, batch: Batch) -> dict[str, Any]:
    pool = scheduler.manager.pool
    return {
        "clock_ns": scheduler.clock,
        "scheduled": [(s.job.index, s.tokens) for s in batch.requests],
        "running": [job.index for job in scheduler.running],
        "waiting": [job.index for job in scheduler.waiting],
        "tables": [[list(h.table) for h in job.request.held] for job in scheduler.running],
        "free": list(pool.free),
        "refs": [(b, n) for b, n in enumerate(pool.refs) if n > 0],
        "cached": sorted((g, list(blocks)) for (g, _), blocks in pool.map.items()),
    }


def tables_of(result: dict[str, Any], groups: int) -> dict[int, list[list[int]]]:
    finished = result["finish_order"].tolist()
    lengths = result["group_blocks"].reshape(-1, groups).tolist()
    if not lengths:  # one group of full attention, which has no lengths of its own
        lengths = result["requests"]["num_blocks"][finished].reshape(-1, 1).tolist()
    ids = iter(result["tables"].tolist())
    return {
        request: [[next(ids) for _ in range(n)] for n in row]
        for request, row in zip(finished, lengths, strict=True)
    }


# An exported state whose look-ahead hash waits for a token that is not sampled yet.
UNHASHED_STATE = Config(
    CacheConfig(
        groups=(
            Group("full", 1),
            Group("mamba", 1, checkpoint_blocks=1, checkpoint_alignment=1),
        ),
        num_blocks=9,
        retention=None,
        max_model_len=128,
        batch_tokens=2**30,
        spec_method="eagle",
        drafts=1,
        eagle_hits="lookahead",
    ),
    max_num_seqs=1,
    chunked=False,
    reserve_full_isl=False,
    accept=(0,),
    dt=0,
)


@settings(max_examples=40, deadline=None)
@example(rows=[([0], [0], 0, 0), ([0], [0, 0, 0], 0, 0)], config=UNHASHED_STATE, priorities=[0])
@given(rows=rows, config=configs(), priorities=st.lists(st.integers(0, 2), min_size=1, max_size=3))
def test_every_step_is_the_oracles(rows: list[Any], config: Config, priorities: list[int]) -> None:
    cache = config.cache
    jobs = jobs_of(rows, priorities)
    compiled = workload(jobs, cache)
    options = options_of(config, jobs)
    scheduler = Scheduler(config)
    scheduler.most_steps = 2000
    states: list[dict[str, Any]] = []
    losses: dict[int, dict[str, int]] = {}
    lookup = scheduler.manager.lookup

    def with_losses(r: Request) -> Any:
        index = next(job.index for job in jobs if job.request is r)
        if r.preemptions == 0:
            losses[index] = agreed(scheduler.manager, r)
        return lookup(r)

    scheduler.manager.lookup = with_losses  # type: ignore[method-assign]
    scheduler.seen = lambda batch: states.append(state_of(scheduler, batch))
    try:
        scheduler.run(jobs)
    except LivelockError:
        event("livelock")
        return
    except NeverFitsError:
        event("never fits")
        with pytest.raises(ValueError, match=r"request \d+: "):
            compiled.simulate(**options)
        return
    result = compiled.simulate(**options)
    for step, (got, expected) in enumerate(zip(result["states"], states, strict=False), 1):
        got["cached"] = sorted((g, blocks) for g, _, blocks in got["cached"])
        assert got == expected, f"step {step}"
    compare(result, scheduler, jobs)
    compare_losses(result, losses, cache)
    kinds = sorted({g.type for g in cache.groups})
    event(" ".join(kinds))
    event("preemptions" if result["totals"]["preemptions"] else "no preemptions")
    quick = compiled.simulate(
        **options | {"record_states": False, "record_events": False, "record_limits": False}
    )
    assert quick["totals"] == result["totals"]


def compare(result: dict[str, Any], scheduler: Scheduler, jobs: list[Job]) -> None:
    """Compare what came of every request, and all sums."""
    requests, totals = result["requests"], result["totals"]
    columns = {
        "hit_tokens": [job.hit_tokens for job in jobs],
        "admit_step": [job.admit_step for job in jobs],
        "first_token_step": [job.first_token_step for job in jobs],
        "finish_step": [job.finish_step for job in jobs],
        "admit_ns": [job.admit_clock for job in jobs],
        "finish_ns": [job.finish_clock for job in jobs],
        "preemptions": [job.request.preemptions for job in jobs],
        "num_blocks": [sum(map(len, job.tables)) for job in jobs],
    }
    assert {name: requests[name].tolist() for name in columns} == columns
    junctions = result["junction"].tolist() or [0] * len(jobs)
    assert junctions == [job.junction for job in jobs]
    found = tables_of(result, len(scheduler.config.cache.groups))
    assert [found[job.index] for job in jobs] == [job.tables for job in jobs]
    resumes = sorted((job.index, step, hit) for job in jobs for step, hit in job.resumes)
    assert sorted(result["resumes"]) == resumes
    events = result["events"]
    removed = np.flatnonzero(~events["stored"]).tolist()
    got = [tuple(int(events[c][i]) for c in ("step", "subject", "group")) for i in removed]
    assert got == [(step, block, g) for step, block, (g, _) in scheduler.evictions]
    steps = result["steps"]
    names = ("clock_ns", "requests", "tokens", "running", "waiting", "free")
    assert list(zip(*(steps[c].tolist() for c in names), strict=True)) == scheduler.rows
    pool = scheduler.manager.pool
    assert result["free_queue"].tolist() == pool.free
    assert list(totals["stats"]) == scheduler.stats
    assert list(totals["stats_preempted"]) == scheduler.stats_preempted
    assert list(totals["drafts"]) == scheduler.spec
    assert totals["evictions"] == len(scheduler.evictions)
    assert totals["steps"] == scheduler.step
    assert totals["final_clock_ns"] == scheduler.clock
    assert totals["cached_end"] == len(pool.map)


def compare_losses(
    result: dict[str, Any], losses: dict[int, dict[str, int]], cache: CacheConfig
) -> None:
    """Lengths that groups agree on descend; they are the greatest there are but for chunks."""
    hits = result["requests"]["hit_tokens"].tolist()
    names = ("full", "window", "state", "aligned")
    columns = {name: result["limits"][name].tolist() for name in names}
    for i, hit in enumerate(hits):
        lengths = [columns[name][i] for name in names]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[-1] >= hit
        if any(g.type == "chunked_local" for g in cache.groups):
            continue
        # Without full attention any length may be agreed on, until windows and states are asked.
        full = any(g.type == "full" for g in cache.groups)
        known = names if full else names[2:]
        assert {n: columns[n][i] for n in known} == {n: losses[i][n] for n in known}
