"""Runs recorded from vLLM's scheduler: their traces, and a comparison of every integer."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from prefixsim.engines.hashing import HashAlgorithm
from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.kv_events import request_hashes
from prefixsim.engines.vllm.simulate import Simulation, simulate
from prefixsim.hardware.latency import Fixed
from prefixsim.trace import Trace
from tests.golden import golden_root, read_json


def trace_path(name: str, recording: Path) -> Path:
    """The trace of a recording; those of other versions also use the traces of their siblings."""
    beside = recording.parents[1] / "traces" / name
    siblings = [golden_root() / family / "traces" / name for family in ("vllm", "vllm011")]
    return next((path for path in (beside, *siblings) if path.is_file()), beside)


def read_trace(path: Path, limit: int) -> Trace:
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    rows = rows[:limit] if limit else rows
    return Trace.from_prompts(
        [row["token_ids"] for row in rows],
        outputs=[row["output_token_ids"] for row in rows],
        timestamp=[row.get("timestamp_ms", 0) / 1000 for row in rows],
        salt=[row.get("cache_salt") for row in rows],
    )


def config_of(recorded: dict[str, Any]) -> VllmSettings:
    scheduler = recorded["mode"] == "scheduler"
    modes = {"all_at_start": "start", "open_loop": "trace"}
    names = (
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
    same_as_recorded: dict[str, Any] = {n: recorded[n] for n in names if n in recorded}
    retention = "prefix_cache_retention_interval"
    if retention in recorded:
        same_as_recorded["retention_interval"] = recorded[retention]
    return VllmSettings(
        version=recorded.get("version", "0.33"),
        num_blocks=recorded["num_gpu_blocks"],
        enable_caching=recorded["enable_prefix_caching"],
        sliding_window=recorded["sliding_window"] or None,
        arrivals=modes[recorded["arrivals"]] if scheduler else "sequential",
        async_scheduling=False,
        latency=Fixed(recorded.get("dt_ms", 0) / 1000),
        **same_as_recorded,
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


def evictions(run: Simulation, recorded: dict[str, Any]) -> list[list[Any]]:
    """Step, slot and hash of every evicted block."""
    events = run.raw["events"]
    requests, blocks = run.workload.origins()
    algorithm = cast("HashAlgorithm", recorded.get("hash_algo", "sha256_cbor"))
    known: dict[int, list[bytes]] = {}

    def hash_of(key: int) -> str:
        request = int(requests[key])
        if request not in known:
            known[request] = request_hashes(run, request, algorithm, recorded.get("seed"))
        return known[request][int(blocks[key])][:8].hex()

    return [
        [
            int(events["step"][i]),
            int(events["subject"][i]),
            hash_of(int(events["keys"][int(events["offsets"][i])])),
        ]
        for i in np.flatnonzero(~events["stored"]).tolist()
    ]


def check_recording(path: Path) -> None:
    """Run a recording's trace with its settings and compare all that was recorded."""
    case = read_json(path)
    check_case(case, trace_path(case["trace"], path))


def check_case(case: dict[str, Any], trace_file: Path) -> None:
    config = config_of(case["config"])
    trace = read_trace(trace_file, case["config"]["limit"])
    run = simulate(trace, config, record_steps=True, record_events=True, record_tables=True)
    recorded, totals = case["requests"], case["totals"]
    got = run.raw["requests"]

    def column(name: str) -> list[Any]:
        return [row[name] for row in recorded]

    assert got["hit_tokens"].tolist() == column("hit_tokens")
    found = tables(run)
    check_tables([found[i] for i in range(len(trace))], recorded)
    assert got["num_blocks"].tolist() == column("num_blocks")
    if run.timed:
        check_steps(run, case)
    evicted = evictions(run, case["config"])
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
        # 0.11.0 does not count preempted requests apart: nothing is counted there.
        assert list(counters) == [totals.get(key, 0) for key in keys]
        assert name == "stats_preempted" or keys[0] in totals


def check_tables(found: list[list[int]], recorded: list[dict[str, Any]]) -> None:
    """Compare block tables, where they are recorded whole, and their digests, where they are."""
    for table, row in zip(found, recorded, strict=True):
        assert "block_ids" in row or "table_sha" in row
        assert row.get("block_ids", table) == table
        joined = ",".join(map(str, table))
        digest = hashlib.sha256(joined.encode()).hexdigest()[:16]
        assert row.get("table_sha", digest) == digest


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
