"""Runs recorded from vLLM's scheduler with its OffloadingConnector: every integer is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefixsim.engines.vllm import VllmSettings
from prefixsim.engines.vllm.kv_events import request_hashes
from prefixsim.engines.vllm.simulate import Simulation, simulate
from prefixsim.hardware.latency import Fixed
from tests.engines.recorded_vllm import evictions, read_trace, tables
from tests.golden import golden_root

BYTES_PER_TOKEN = 8
KINDS = ("store", "load", "refused", "promote")
SAME = (
    "block_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "enable_chunked_prefill",
    "reserve_full_isl",
    "watermark",
    "enable_caching",
    "blocks_per_chunk",
    "eviction_policy",
    "store_threshold",
    "max_tracker_size",
    "offload_prompt_only",
    "sync_load_budget_bytes",
    "load_us",
    "store_us",
    "disk_read_us",
    "disk_write_us",
    "disk_lookup",
)


def trace_path(case: dict[str, Any]) -> Path:
    return golden_root() / "vllm" / "traces" / str(case["trace"])


def settings_of(config: dict[str, Any]) -> VllmSettings:
    assert config["start_after_step"]
    same: dict[str, Any] = {name: config[name] for name in SAME if name in config}
    return VllmSettings(
        num_blocks=config["num_gpu_blocks"],
        arrivals={"all_at_start": "start", "open_loop": "trace"}[config["arrivals"]],
        latency=Fixed(config["dt_ms"] / 1000),
        kv_offloading_size=config["cpu_chunks"] * config["blocks_per_chunk"],
        bytes_per_token=BYTES_PER_TOKEN,
        offload_disk=config.get("disk", False),
        **same,
    )


def digest(rows: list[list[Any]]) -> str:
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows)
    return hashlib.sha256(lines.encode()).hexdigest()


def joined(names: list[str]) -> str:
    return hashlib.sha256(",".join(names).encode()).hexdigest()


class Names:
    """Recorded names of blocks: the first bytes of their hashes."""

    def __init__(self, run: Simulation) -> None:
        self.run = run
        requests, blocks = run.workload.origins()
        self.origins = list(zip(requests.tolist(), blocks.tolist(), strict=True))
        self.known: dict[int, list[bytes]] = {}

    def __call__(self, key: int) -> str:
        request, block = self.origins[key]
        if request not in self.known:
            self.known[request] = request_hashes(self.run, request, "sha256_cbor")
        key_hash: bytes = self.known[request][block]
        return key_hash[:8].hex()


def check_case(case: dict[str, Any], trace_file: Path) -> None:
    config, totals = case["config"], case["totals"]
    trace = read_trace(trace_file, config["limit"])
    run = simulate(
        trace,
        settings_of(config),
        record_steps=True,
        record_events=True,
        record_tables=True,
    )
    assert run.offloaded is not None
    names = Names(run)
    check_requests(run, case["requests"])
    check_logs(run, case, names)
    check_end(run, case, names)
    ours = run.offloaded["totals"]
    assert ours["load_jobs"] == totals["load_jobs"]
    assert ours["store_jobs"] == totals["store_jobs"]
    assert ours["chunks_loaded"] == totals["chunks_loaded"]
    assert ours["chunks_stored"] == totals["chunks_stored"]
    assert ours["stores_refused"] == totals["store_refused"]
    assert ours["flushed_jobs"] == totals["flushed_jobs"]
    assert ours["host_evictions"] == totals["host_evictions"]
    assert ours["chunks_promoted"] == totals.get("chunks_promoted", 0)
    assert ours["promotions_refused"] == totals.get("promotions_refused", 0)
    assert ours["chunks_cascaded"] == totals.get("chunks_cascaded", 0)
    assert run.totals["steps"] == totals["steps"]
    assert run.totals["final_clock_ns"] == totals["final_clock_ms"] * 10**6
    assert run.totals["preemptions"] == totals["preemptions"]
    assert run.totals["cached_end"] == totals["device_hashes_end"]


def columns_of(run: Simulation) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the connector recorded, and the row of each request."""
    assert run.offloaded is not None
    return dict(run.offloaded["columns"]), dict(run.raw["requests"])


def check_requests(run: Simulation, recorded: list[dict[str, Any]]) -> None:
    ours, log = columns_of(run)
    columns = {
        "device_hit_tokens": ours["device_hits"],
        "host_hit_tokens": ours["host_hits"],
        "disk_hit_tokens": ours["disk_hits"],
        "loaded_chunks": ours["loaded_chunks"],
        "stored_chunks": ours["stored_chunks"],
        "preemptions": log["preemptions"],
        "admit_step": log["admit_step"],
        "first_token_step": log["first_token_step"],
        "finish_step": log["finish_step"],
    }
    for name, column in columns.items():
        default = 0 if name == "disk_hit_tokens" else None
        assert column.tolist() == [row.get(name, default) for row in recorded], name
    for name in ("arrival", "admit", "finish"):
        times = [row[f"{name}_ms"] * 10**6 for row in recorded]
        assert log[f"{name}_ns"].tolist() == times, name
    lookups: dict[int, list[list[int]]] = {}
    parts = (ours[f"lookup_{part}"].tolist() for part in ("request", "step", "device", "host"))
    for request, step, device, host in zip(*parts, strict=True):
        lookups.setdefault(request, []).append([step, device, host])
    for i, row in enumerate(recorded):
        assert row.get("lookups", lookups[i][:1]) == lookups[i]
    found = tables(run)
    for i, row in enumerate(recorded):
        assert joined([str(slot) for slot in found[i]])[:16] == row["table_sha"]


def check_logs(run: Simulation, case: dict[str, Any], names: Names) -> None:
    ours, _ = columns_of(run)
    steps: Mapping[str, Any] = dict(run.raw["steps"])
    totals = case["totals"]
    ids = [row["id"] for row in case["requests"]]
    transfers: list[list[Any]] = []
    parts = ("step", "kind", "request", "chunks", "evicted")
    columns = (ours[f"transfer_{part}"].tolist() for part in parts)
    for step, kind, request, chunks, evicted in zip(*columns, strict=True):
        more = [evicted] if KINDS[kind] in ("store", "promote") else []
        transfers.append([step, KINDS[kind], ids[request], chunks, *more])
    host = [
        [step, names(key)]
        for step, key in zip(ours["evicted_step"].tolist(), ours["evicted"].tolist(), strict=True)
    ]
    counts = (
        *(steps[name] for name in ("requests", "tokens", "running", "waiting")),
        ours["holding"],
        steps["free"],
        *(ours[name] for name in ("loaded", "stored", "flushed")),
    )
    rows = [
        [i, clock // 10**6, *rest]
        for i, (clock, *rest) in enumerate(
            zip(steps["clock_ns"].tolist(), *(c.tolist() for c in counts), strict=True), start=1
        )
    ]
    device = evictions(run, case["config"])
    for name, log in (
        ("step_log", rows),
        ("transfers", transfers),
        ("host_evictions", host),
        ("device_evictions", device),
    ):
        head = case[f"{name}_head"]
        assert log[: len(head)] == head, name
        assert len(log) == totals.get("steps" if name == "step_log" else name)
        assert digest(log) == totals[f"{name}_sha256"], name


def check_end(run: Simulation, case: dict[str, Any], names: Names) -> None:
    assert run.offloaded is not None
    recorded, totals = case["host"], case["totals"]
    free = [str(slot) for slot in run.raw["free_queue"].tolist()]
    assert len(free) == totals["free_blocks_end"]
    assert joined(free) == totals["free_order_sha256"]
    end = [[names(key) for key in keys.tolist()] for keys in run.offloaded["end"]]
    if case["config"]["eviction_policy"] == "lru":
        (order,) = end
        assert len(order) == recorded["chunks_end"]
        assert order[: len(recorded["order"])] == recorded["order"]
        assert joined(order) == recorded["order_sha256"]
        return
    assert run.offloaded["target"] == recorded["target_t1"]
    named = dict(zip(("t1", "t2", "b1", "b2"), end, strict=True))
    assert {name: len(keys) for name, keys in named.items()} == recorded["sizes"]
    for name, keys in named.items():
        assert keys[: len(recorded[name])] == recorded[name], name
    whole = "|".join(",".join(keys) for keys in end)
    assert hashlib.sha256(whole.encode()).hexdigest() == recorded["order_sha256"]
