"""The vLLM engine against runs recorded from the real scheduler: every integer must be equal."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefixsim
from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.simulate import Simulation, simulate
from prefixsim.hardware.latency import Fixed
from prefixsim.trace import Trace
from tests.conftest import DATA
from tests.golden import cases, read_json

SMALL = sorted((DATA / "vllm" / "cases").glob("*.json.gz"))


def read_trace(path: Path, limit: int) -> Trace:
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    rows = rows[:limit] if limit else rows
    return Trace.from_prompts(
        [row["token_ids"] for row in rows],
        outputs=[row["output_token_ids"] for row in rows],
        timestamp=[row.get("timestamp_ms", 0) / 1000 for row in rows],
    )


def config_of(recorded: dict[str, Any]) -> VllmSettings:
    scheduler = recorded["mode"] == "scheduler"
    modes = {"all_at_start": "start", "open_loop": "trace"}
    same = (
        "max_num_seqs",
        "max_num_batched_tokens",
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "long_prefill_token_threshold_adaptive",
        "watermark",
        "max_model_len",
        "block_size",
        "reserve_full_isl",
    )
    return VllmSettings(
        num_blocks=recorded["num_gpu_blocks"],
        enable_caching=recorded["enable_prefix_caching"],
        sliding_window=recorded["sliding_window"] or None,
        retention_interval=recorded["prefix_cache_retention_interval"],
        arrivals=modes[recorded["arrivals"]] if scheduler else "sequential",
        latency=Fixed(recorded.get("dt_ms", 0) / 1000),
        **{name: recorded[name] for name in same if name in recorded},
    )


def sha256(lines: list[str], end: str) -> str:
    return hashlib.sha256("".join(line + end for line in lines).encode()).hexdigest()


def tables(run: Simulation) -> dict[int, list[int]]:
    raw = run.raw
    ends = np.cumsum(raw["requests"]["num_blocks"][raw["finish_order"]]).tolist()
    starts = [0, *ends[:-1]]
    finished = raw["finish_order"].tolist()
    return {
        request: raw["tables"][start:end].tolist()
        for request, start, end in zip(finished, starts, ends, strict=True)
    }


def evictions(run: Simulation) -> list[list[Any]]:
    """Step, slot and hash of every evicted block."""
    trace, events = run.trace, run.raw["events"]
    requests, blocks = run.workload.origins()
    known: dict[int, list[bytes]] = {}

    def hash_of(key: int) -> str:
        request = int(requests[key])
        if request not in known:
            assert trace.prompts is not None
            assert trace.outputs is not None
            tokens = np.concatenate([trace.prompts[request], trace.outputs[request]])
            size = run.settings.tokens_per_block
            known[request] = prefixsim.hash_blocks(tokens, size, "sha256_cbor")
        return known[request][int(blocks[key])][:8].hex()

    return [
        [
            int(events["step"][i]),
            int(events["subject"][i]),
            hash_of(int(events["keys"][int(events["offsets"][i])])),
        ]
        for i in np.flatnonzero(~events["stored"]).tolist()
    ]


def check_case(case: dict[str, Any], traces: Path) -> None:
    config = config_of(case["config"])
    trace = read_trace(traces / case["trace"], case["config"]["limit"])
    run = simulate(trace, config, record_steps=True, record_events=True, record_tables=True)
    recorded, totals = case["requests"], case["totals"]
    got = run.raw["requests"]

    def column(name: str) -> list[Any]:
        return [row[name] for row in recorded]

    assert got["hit_tokens"].tolist() == column("hit_tokens")
    found = tables(run)
    assert [found[i] for i in range(len(trace))] == column("block_ids")
    assert got["num_blocks"].tolist() == column("num_blocks")
    if run.timed:
        check_steps(run, case)
    evicted = evictions(run)
    assert len(evicted) == totals["evictions"] == run.totals["evictions"]
    assert evicted[:1000] == case["evictions_head"]
    lines = [f"{slot}:{block_hash}" for _, slot, block_hash in evicted]
    assert sha256(lines, "\n") == totals["evictions_sha256"]
    free = run.raw["free_queue"].tolist()
    assert free[:1000] == case["free_order_head"]
    joined = ",".join(map(str, free))
    assert hashlib.sha256(joined.encode()).hexdigest() == totals["free_order_sha256"]
    assert run.totals["cached_end"] == totals["cached_hashes_end"]
    for name, counters in (
        ("stats", run.totals["stats"]),
        ("stats_preempted", run.totals["stats_preempted"]),
    ):
        keys = [f"{name}_{counter}" for counter in ("requests", "queries", "hits")]
        assert list(counters) == [totals[key] for key in keys]


def check_steps(run: Simulation, case: dict[str, Any]) -> None:
    recorded, totals = case["requests"], case["totals"]
    got: Mapping[str, Any] = dict(run.raw["requests"])
    for name in ("admit_step", "first_token_step", "finish_step", "preemptions"):
        assert got[name].tolist() == [row[name] for row in recorded], name
    for name in ("arrival", "admit", "finish"):
        times = [row[f"{name}_ms"] * 10**6 for row in recorded]
        assert got[f"{name}_ns"].tolist() == times, name
    resumes: dict[int, list[list[int]]] = {}
    for request, step, hit_tokens in run.raw["resumes"]:
        resumes.setdefault(request, []).append([step, hit_tokens])
    assert resumes == {i: r["resumes"] for i, r in enumerate(recorded) if "resumes" in r}
    steps: Mapping[str, Any] = dict(run.raw["steps"])
    names = ("clock_ns", "requests", "tokens", "running", "waiting", "free")
    rows = [
        [i, clock // 10**6, *rest]
        for i, (clock, *rest) in enumerate(
            zip(*(steps[name].tolist() for name in names), strict=True), start=1
        )
    ]
    assert rows[:1000] == case["step_log_head"]
    assert sha256([",".join(map(str, row)) for row in rows], "\n") == totals["step_log_sha256"]
    assert len(rows) == totals["steps"] == run.totals["steps"]
    assert run.totals["final_clock_ns"] == totals["final_clock_ms"] * 10**6
    assert run.totals["preemptions"] == totals["preemptions"]


def check_recording(path: Path) -> None:
    check_case(read_json(path), path.parents[1] / "traces")


@pytest.mark.parametrize("path", cases("vllm", "cases/*.json.gz"))
def test_golden_vllm_scheduler(path: Path) -> None:
    check_recording(path)


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.name.split(".")[0])
def test_small_recordings_inside_the_project(path: Path) -> None:
    check_recording(path)


def test_three_small_recordings_are_inside_the_project() -> None:
    assert len(SMALL) >= 3


@pytest.mark.parametrize("at", ["hit_tokens", "block_ids", "finish_step"])
def test_a_tampered_recording_fails(at: str) -> None:
    path = next(path for path in SMALL if "preempt" in path.name)
    case = read_json(path)
    row = case["requests"][len(case["requests"]) // 2]
    row[at] = row[at][::-1] if at == "block_ids" else row[at] + 16
    with pytest.raises(AssertionError):
        check_case(case, path.parents[1] / "traces")
