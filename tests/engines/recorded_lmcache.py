"""Runs recorded from LMCache: their traces in chunks, and a comparison of every integer."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prefixsim.engines.lmcache.settings import LmcacheSettings
from prefixsim.engines.lmcache.simulate import run
from prefixsim.trace import Trace
from tests.golden import golden_root

CHUNK = 256
ENDS = {"inproc": ("end_cpu", "end_disk"), "mp": ("end_t1", "end_t2", "end_b1", "end_b2")}


def mooncake() -> Path:
    """The trace that all cases were recorded on; it need not be there."""
    data = golden_root().parent / "data"
    return data / "mooncake" / "conversation_trace.jsonl.gz"


def read_rows(path: Path, limit: int) -> list[dict[str, Any]]:
    lines = gzip.decompress(path.read_bytes()).splitlines()
    return [json.loads(line) for line in (lines[:limit] if limit else lines)]


def chunk_ids(row: dict[str, Any]) -> list[int]:
    """A hash id of 512 tokens is two chunks; the last, partial one of a prompt is none."""
    halves = [2 * block + half for block in row["hash_ids"] for half in (0, 1)]
    return halves[: row["input_length"] // CHUNK]


def trace_of(rows: list[dict[str, Any]]) -> Trace:
    prompts = []
    for row in rows:
        partial = [10**12] if row["input_length"] % CHUNK else []
        prompts.append(chunk_ids(row) + partial)
    table = pa.table(
        {
            "hash_ids": pa.array(prompts, pa.list_(pa.uint64())),
            "prompt_len": [row["input_length"] for row in rows],
            "timestamp": [row["timestamp"] / 1000 for row in rows],
        }
    )
    return Trace.from_arrow(table, id_block_size=CHUNK)


def settings_of(config: dict[str, Any]) -> LmcacheSettings:
    return LmcacheSettings(
        block_size=CHUNK,
        num_blocks=config["cpu_chunks"],
        disk_blocks=config["disk_chunks"],
        lmcache_mode={"inproc": "in-process", "mp": "server"}[config["mode"]],
        cache_policy=config["policy"].lower(),
        trigger_watermark=config["watermark"],
        eviction_ratio=config["ratio"],
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def named(workload: Any, rows: list[dict[str, Any]]) -> Any:
    """The chunk id of each block of a workload; -1 for those of outputs."""
    requests, positions = (column.tolist() for column in workload.origins())
    ids = [chunk_ids(row) for row in rows]
    found = [ids[r][p] if p < len(ids[r]) else -1 for r, p in zip(requests, positions, strict=True)]
    return np.array(found)


def check_beginning(case: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Compare the first requests of a run, and the evictions until then."""
    workload, found = run(trace_of(rows), settings_of(case["config"]), validate=True)
    ids = named(workload, rows)
    assert (found["cpu_hits"] + found["disk_hits"]).tolist() == case["hit_chunks"]
    assert found["stored"].tolist() == case["stored_chunks"]
    assert found["cpu_hits"].tolist() == case.get("cpu_hit_chunks", case["hit_chunks"])
    for tier, expected in case["evictions_head"].items():
        at, keys = (found[f"{tier}_evicted_at"], found[f"{tier}_evicted"])  # type: ignore[literal-required]
        evicted = [[a + 1, k] for a, k in zip(at.tolist(), ids[keys].tolist(), strict=True)]
        assert evicted[: len(expected)] == expected and len(evicted) >= len(expected)


def check_case(case: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Compare hits, stores, refusals, evictions in order, and what each tier holds at the end."""
    config, totals = case["config"], case["totals"]
    workload, found = run(trace_of(rows), settings_of(config), validate=len(rows) <= 1500)
    ids = named(workload, rows)
    hits = found["cpu_hits"] + found["disk_hits"]
    assert hits.tolist() == case["hit_chunks"]
    assert found["stored"].tolist() == case["stored_chunks"]
    if "cpu_hit_chunks" in case:
        assert found["cpu_hits"].tolist() == case["cpu_hit_chunks"]
    refused = np.flatnonzero(found["refused"]).tolist()
    assert refused == case.get("store_refused", [])
    if config["mode"] == "mp":
        assert len(refused) == totals["stores_refused"]
    assert totals["hit_chunks"] == hits.sum() and totals["stored_chunks"] == found["stored"].sum()
    logs = {
        "cpu": (found["cpu_evicted_at"], found["cpu_evicted"]),
        "disk": (found["disk_evicted_at"], found["disk_evicted"]),
    }
    for tier, (at, keys) in logs.items():
        evicted = [[a + 1, k] for a, k in zip(at.tolist(), ids[keys].tolist(), strict=True)]
        assert len(evicted) == totals[f"{tier}_evictions"]
        assert evicted[:300] == case["evictions_head"].get(tier, [])
        lines = "".join(f"{a}:{k}\n" for a, k in evicted)
        assert sha256(lines) == totals[f"{tier}_evictions_sha256"]
    check_end(totals, config, found, ids)


def check_end(totals: dict[str, Any], config: dict[str, Any], found: Any, ids: Any) -> None:
    names = ENDS[config["mode"]] if "end_order" not in totals else ("end_order",)
    compared = 0
    for name, keys in zip(names, found["end"], strict=False):
        if name not in totals:
            continue
        end, expected = ids[keys].tolist(), totals[name]
        assert len(end) == expected["n"], name
        assert end[: len(expected["head"])] == expected["head"], name
        assert sha256(",".join(map(str, end))) == expected["sha256"], name
        compared += 1
    assert compared == sum(isinstance(total, dict) for total in totals.values())
    if config["policy"] == "LFU":
        assert [list(row) for row in found["frequencies"]] == totals["end_freq_cpu"]
    if config["policy"] == "ARC":
        assert found["target"] == totals["end_target_t1"]
        assert found["most_chunks"] == totals["end_capacity"]
