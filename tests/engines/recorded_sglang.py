"""Runs recorded from SGLang: their traces, and a comparison of every integer."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from prefixsim._core import SglangWorkload
from tests.golden import golden_root

KINDS = {0: "-", 1: "e", 2: "d"}

#: Parameters of eviction policies, where a record does not state them.
_NO_PARAMETERS = {"protected_threshold": 2, "threshold": 0, "next_prompt_estimate": 0}

#: Settings of a recorded run that the record does not state.
BASE: dict[str, Any] = {
    "enable_caching": True,
    **_NO_PARAMETERS,
    "schedule_policy": "fcfs",
    "overlap": False,
    "chunked_prefill_size": None,
    "max_prefill_tokens": 16384,
    "max_running_requests": 64,
    "req_pool_size": 64,
    "schedule_conservativeness": 1.0,
    "max_new_slack": 0,
    "preemption_threshold": None,
    "in_flight": 1,
    "with_output": True,
    "latency": 0,
    "record_steps": True,
    "record_evictions": True,
    "record_tree": True,
    "validate": False,
}


def read_rows(path: Path, limit: int) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return rows[:limit] if limit else rows


def namespace(row: dict[str, Any], engine: str) -> tuple[str, str]:
    """What a request is cached under; before 0.5.23 the HTTP layer joins salt and extra key."""
    extra_key, salt = row.get("extra_key") or "", row.get("cache_salt") or ""
    return (extra_key, salt) if engine.endswith("0.5.23") else (salt + extra_key, "")


def compile_rows(rows: list[dict[str, Any]], engine: str, *, outputs: bool) -> SglangWorkload:
    def csr(lists: list[list[int]]) -> tuple[Any, Any]:
        offsets = np.concatenate([[0], np.cumsum([len(tokens) for tokens in lists])])
        return offsets.astype(np.uint64), np.array([t for ids in lists for t in ids], np.uint32)

    codes: dict[tuple[str, str], int] = {}
    salts = [codes.setdefault(namespace(row, engine), len(codes)) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: str(rows[i]["id"]))
    rank = np.empty(len(rows), np.uint32)
    rank[order] = np.arange(len(rows))
    offsets, ids = csr([row["token_ids"] for row in rows])
    output_offsets, output_ids = csr([row["output_token_ids"] if outputs else [] for row in rows])
    return SglangWorkload(
        offsets,
        ids,
        1,
        np.array([len(row["token_ids"]) for row in rows], np.uint32),
        np.array([len(row["output_token_ids"]) if outputs else 0 for row in rows], np.uint32),
        np.array([row.get("timestamp_ms", 0) * 10**6 for row in rows], np.uint64),
        salt=np.array(salts, np.uint32),
        output_offsets=output_offsets,
        output_ids=output_ids,
        priority=np.array([row.get("priority", 0) for row in rows], np.int32),
        id_rank=rank,
    )


def settings_of(case: dict[str, Any]) -> dict[str, Any]:
    config = case["config"]
    settings = BASE | {
        "version": case["engine"],
        "page_size": config["page_size"],
        "capacity_tokens": config["capacity_tokens"],
        "policy": config["policy"],
        **config.get("policy_config", {}),
    }
    if config["kind"] == "simple":
        return settings | {
            "arrivals": config["mode"],
            "in_flight": config["k"],
            "with_output": config["with_output"],
        }
    same = (
        "schedule_policy",
        "overlap",
        "chunked_prefill_size",
        "max_prefill_tokens",
        "max_running_requests",
        "req_pool_size",
        "schedule_conservativeness",
        "max_new_slack",
    )
    priorities = config.get("priority_scheduling", False)
    return (
        settings
        | {name: config[name] for name in same}
        | {
            "arrivals": {"open_loop": "trace", "all_at_start": "start"}[config["arrivals"]],
            "latency": config["dt_ms"] * 10**6,
            "preemption_threshold": config["preemption_threshold"] if priorities else None,
        }
    )


def digest(rows: list[Any]) -> str:
    lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    return hashlib.sha256(lines.encode()).hexdigest()


def shape(tree: list[tuple[int | None, int]]) -> dict[str, Any]:
    """The tree at the end in the recorded form."""
    below: list[list[str]] = [[] for _ in tree]
    roots: list[str] = []
    for row in reversed(range(len(tree))):
        parent, length = tree[row]
        text = f"({length}{''.join(sorted(below[row]))})"
        (roots if parent is None else below[parent]).append(text)
    return {
        "nodes": len(tree),
        "leaves": sum(not children for children in below),
        "shape_sha256": hashlib.sha256("".join(sorted(roots)).encode()).hexdigest(),
    }


def eviction_rows(run: Any) -> list[list[Any]]:
    log = run["evictions"]
    ends = log["ends"].tolist()
    lengths = log["lengths"].tolist()
    starts = [0, *ends[:-1]]
    return [
        [at, requested, lengths[start:end]]
        for at, requested, start, end in zip(
            log["at"].tolist(), log["requested"].tolist(), starts, ends, strict=True
        )
    ]


def check_case(case: dict[str, Any], folder: Path | None = None) -> None:
    """Run a recorded case and compare everything that was recorded."""
    config, totals = case["config"], case["totals"]
    rows = read_rows((folder or golden_root() / "sglang") / case["trace"], case["limit"])
    scheduled = config["kind"] == "scheduler"
    outputs = scheduled or config["with_output"]
    workload = compile_rows(rows, case["engine"], outputs=outputs)
    run = workload.simulate(**settings_of(case))
    recorded, got = case["requests"], run["requests"]
    assert [row["id"] for row in rows] == [row["id"] for row in recorded]
    if scheduled:
        check_steps(run, case)
        # Without a row per step, steps in which only counters change are done in one go.
        at_once = workload.simulate(**settings_of(case) | {"record_steps": False})
        check_same(at_once, run)
    assert got["hit_tokens"].tolist() == [row["hit_tokens"] for row in recorded]
    evicted = eviction_rows(run)
    assert evicted[:1500] == case["evictions_head"]
    assert digest(evicted) == totals["evictions_sha256"]
    assert shape(run["tree"]) == case["tree_end"]
    for name in ("evict_calls", "evicted_nodes", "evicted_tokens", "free_end", "evictable_end"):
        assert run["totals"][name] == totals[name], name
    assert int(got["hit_tokens"].sum()) == totals["hit_tokens"]


def check_same(run: Any, expected: Any) -> None:
    """Compare two runs in everything but the rows of steps."""
    for name, column in expected["requests"].items():
        assert run["requests"][name].tolist() == column.tolist(), name
    for name, column in expected["evictions"].items():
        assert run["evictions"][name].tolist() == column.tolist(), name
    for name in ("readmissions", "aborted", "tree", "totals"):
        assert run[name] == expected[name], name


def check_steps(run: Any, case: dict[str, Any]) -> None:
    recorded, totals, got = case["requests"], case["totals"], run["requests"]
    steps = run["steps"]
    names = ("requests", "tokens", "running", "waiting", "free", "evictable")
    rows = [
        [i, clock // 10**6, KINDS[kind], *rest]
        for i, (clock, kind, *rest) in enumerate(
            zip(*(steps[name].tolist() for name in ("clock_ns", "kind", *names)), strict=True),
            start=1,
        )
    ]
    for row, expected in zip(rows, case["step_log_head"], strict=False):
        assert row == expected
    assert digest(rows) == totals["step_log_sha256"]
    assert len(rows) == totals["steps"] == run["totals"]["steps"]
    assert run["totals"]["final_clock_ns"] == totals["final_clock_ms"] * 10**6
    for name in ("admit_step", "first_token_step", "finish_step"):
        assert got[name].tolist() == [row[name] or 0 for row in recorded], name
    assert got["hit_tokens"].tolist() == [row["cached_tokens"] for row in recorded]
    readmits: dict[int, list[list[int]]] = {}
    for request, step, hit in run["readmissions"]:
        readmits.setdefault(request, []).append([step, hit])
    assert readmits == {i: r["readmits"] for i, r in enumerate(recorded) if "readmits" in r}
    assert sorted(run["aborted"]) == [i for i, r in enumerate(recorded) if r.get("aborted")]


def check_hicache(case: dict[str, Any], folder: Path | None = None) -> None:
    """Run a recorded case with a host tier and compare everything that was recorded."""
    config, totals, recorded = case["config"], case["totals"], case["requests"]
    rows = read_rows((folder or golden_root() / "sglang") / case["trace"], case["limit"])
    version = {"hiradix-0.5.16": "radix-0.5.16"}.get(case["engine"], case["engine"])
    run = compile_rows(rows, version, outputs=config["with_output"]).hicache(
        version=version,
        page_size=config["page_size"],
        capacity_tokens=config["capacity_tokens"],
        host_tokens=config["host_tokens"],
        policy=config["policy"],
        **_NO_PARAMETERS | config.get("policy_config", {}),
        write_policy=config["write_policy"],
        with_output=config["with_output"],
        validate=len(rows) <= 600,
    )
    starts = [0, *run["call_ends"].tolist()]
    calls = list(zip(run["requested"].tolist(), run["freed"].tolist(), strict=True))
    found = zip(
        *(run[name].tolist() for name in ("device_tokens", "host_tokens", "loaded_tokens")),
        strict=True,
    )
    for i, (device, host, loaded) in enumerate(found):
        theirs = recorded[i]
        ours = {"id": rows[i]["id"], "n": len(rows[i]["token_ids"])}
        ours |= {"d": device, "h": host, "l": loaded}
        if evicted := [list(call) for call in calls[starts[i] : starts[i + 1]]]:
            ours["ev"] = evicted
        assert ours == theirs, i
    sums = run["totals"]
    expected = {name: totals[name] for name in sums}
    assert sums == expected
    assert int(run["device_tokens"].sum()) == totals["device_hit"]
    assert int(run["loaded_tokens"].sum()) == totals["host_loaded"]
