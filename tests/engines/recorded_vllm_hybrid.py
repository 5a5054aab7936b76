"""Runs of vLLM's scheduler with several KV cache groups, drafts and priorities, and comparisons.

Every integer of a recording is compared: per request, per step, evictions and the free queue; of
the small runs also the whole state after each step.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from prefixsim import _core
from tests.golden import golden_root

Json = dict[str, Any]


def _head(major: int, value: int) -> bytes:
    """The head of a canonical CBOR item."""
    if value < 24:
        return bytes([major << 5 | value])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << (8 * size):
            return bytes([major << 5 | code]) + value.to_bytes(size, "big")
    raise ValueError(value)


def block_hashes(tokens: list[int], unit: int, *, lookahead: bool) -> list[bytes]:
    """vLLM's hashes (``sha256_cbor``) every ``unit`` tokens, with lookahead of the next one too."""
    seed = b"vllm-none-hash"
    parent = hashlib.sha256(_head(3, len(seed)) + seed).digest()
    hashes = []
    for end in range(unit, len(tokens) + (0 if lookahead else 1), unit):
        block = tokens[end - unit : end]
        items = b"".join(_head(0, token) for token in block)
        extra = b"\x82\xf6" + _head(0, tokens[end]) if lookahead else b"\xf6"
        data = b"\x83" + _head(2, 32) + parent + _head(4, unit) + items + extra
        parent = hashlib.sha256(data).digest()
        hashes.append(parent)
    return hashes


def group_of(recorded: Json) -> Json:
    return {
        "type": recorded["type"],
        "block_size": recorded["block_size"],
        "window": recorded.get("window", 0),
        "chunk": recorded.get("chunk", 0),
        "checkpoint_blocks": recorded.get("checkpoint_blocks", 0),
        "checkpoint_alignment": recorded.get("checkpoint_alignment", 0),
        "eagle": recorded.get("eagle", False),
    }


def hash_unit(config: Json) -> int:
    sizes = [group["block_size"] for group in config["groups"]]
    if not config["enable_prefix_caching"]:
        return math.lcm(*sizes)
    return config["prefix_match_unit"] or math.gcd(*sizes)


def settings_of(config: Json, requests: int, **changes: Any) -> Json:
    """What the core takes, for a recorded configuration."""
    same = (
        "max_model_len",
        "watermark",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "long_prefill_token_threshold_adaptive",
        "reserve_full_isl",
        "async_scheduling",
        "spec_method",
        "num_speculative_tokens",
        "accept",
        "eagle_hits",
    )
    priorities = config["priorities"]
    return {
        **{name: config[name] for name in same},
        "num_blocks": config["num_gpu_blocks"],
        "enable_caching": config["enable_prefix_caching"],
        "groups": [group_of(group) for group in config["groups"]],
        "junction_checkpoints": config["mamba_shared_prefix_checkpoint"],
        "retention_interval": config["prefix_cache_retention_interval"],
        "priorities": [priorities[i % len(priorities)] for i in range(requests)]
        if config["policy"] == "priority"
        else None,
        "sliding_window": None,
        "window_cap": True,
        "uncached_first": True,
        "pass_over": False,
        "lone_threshold": False,
        "stats_at_lookup": False,
        "stats_preempted_apart": True,
        "arrivals": {"all_at_start": "start", "open_loop": "trace"}[config["arrivals"]],
        "in_flight": 1,
        "latency": config["dt_ms"] * 10**6,
        "record_steps": True,
        "record_events": True,
        "record_tables": True,
        "record_limits": False,
        "record_states": False,
        "validate": False,
        **changes,
    }


@dataclass
class Trace:
    """The rows of a recorded trace, and the core's compiled form of it."""

    rows: list[Json]
    unit: int
    lookahead: bool
    workload: Any

    def hash_names(self) -> list[str]:
        """The first 8 bytes of the hash of each key of the workload."""
        requests, positions = (column.tolist() for column in self.workload.origins())
        known: dict[int, list[bytes]] = {}
        for request in set(requests):
            row = self.rows[request]
            tokens = row["token_ids"] + row["output_token_ids"]
            known[request] = block_hashes(tokens, self.unit, lookahead=self.lookahead)
        pairs = zip(requests, positions, strict=True)
        return [known[request][position][:8].hex() for request, position in pairs]


def _csr(lists: Iterable[list[int]]) -> tuple[Any, Any]:
    lists = list(lists)
    offsets = np.cumsum([0, *map(len, lists)]).astype(np.uint64)
    return offsets, np.array([token for row in lists for token in row], dtype=np.uint32)


def compile_trace(rows: list[Json], config: Json) -> Trace:
    lookahead = config["spec_method"] == "eagle" and config["eagle_hits"] == "lookahead"
    unit = hash_unit(config)
    offsets, ids = _csr(row["token_ids"] for row in rows)
    output_offsets, output_ids = _csr(row["output_token_ids"] for row in rows)
    workload = _core.VllmWorkload(
        offsets,
        ids,
        1,
        np.diff(offsets).astype(np.uint32),
        np.diff(output_offsets).astype(np.uint32),
        np.array([row.get("timestamp_ms", 0) for row in rows], dtype=np.uint64) * 10**6,
        unit,
        output_offsets=output_offsets,
        output_ids=output_ids,
        lookahead=lookahead,
    )
    return Trace(rows, unit, lookahead, workload)


def read_rows(case: Json, path: Path) -> list[Json]:
    """The rows of a case's trace, which lies beside it or with the runs of one group."""
    names = (path.parents[1] / "traces", golden_root() / "vllm" / "traces")
    found = next(folder / case["trace"] for folder in names if (folder / case["trace"]).is_file())
    rows = [json.loads(line) for line in gzip.decompress(found.read_bytes()).splitlines()]
    limit = case["config"]["limit"]
    return rows[:limit] if limit else rows


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def lines_sha256(lines: Iterable[str]) -> str:
    return sha256("".join(f"{line}\n" for line in lines))


def check_requests(run: Any, recorded: list[Json], groups: int) -> None:
    got = run["requests"]
    for name in ("hit_tokens", "admit_step", "first_token_step", "finish_step", "preemptions"):
        assert got[name].tolist() == [row[name] for row in recorded], name
    for name in ("arrival", "admit", "first_token", "finish"):
        times = [row[f"{name}_ms"] * 10**6 for row in recorded]
        assert got[f"{name}_ns"].tolist() == times, name
    resumes: dict[int, list[list[int]]] = {}
    for request, step, hit_tokens in run["resumes"]:
        resumes.setdefault(request, []).append([step, hit_tokens])
    assert resumes == {i: r["resumes"] for i, r in enumerate(recorded) if "resumes" in r}
    junction = run["junction"].tolist() or [0] * len(recorded)
    assert junction == [row.get("junction", 0) for row in recorded]
    found = tables(run, groups)
    for request, row in enumerate(recorded):
        assert [len(table) for table in found[request]] == row["num_blocks"], request
        assert row.get("block_ids", found[request]) == found[request], request
        joined = ";".join(",".join(map(str, table)) for table in found[request])
        assert sha256(joined)[:16] == row["table_sha"], request


def tables(run: Any, groups: int) -> dict[int, list[list[int]]]:
    order = run["finish_order"].tolist()
    lengths = run["group_blocks"] if groups > 1 else run["requests"]["num_blocks"][order]
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]]
    slots = run["tables"].tolist()
    parts = [slots[start:end] for start, end in zip(starts, ends, strict=True)]
    return {request: parts[i * groups : (i + 1) * groups] for i, request in enumerate(order)}


def evictions(run: Any, names: list[str]) -> list[list[Any]]:
    """Step, slot, group and hash of each evicted block."""
    events = run["events"]
    removed = np.flatnonzero(~events["stored"])
    keys = events["keys"][events["offsets"][removed].astype(np.int64)] if len(removed) else []
    columns = (events[name][removed].tolist() for name in ("step", "subject", "group"))
    return [
        [step, slot, group, names[key]]
        for step, slot, group, key in zip(*columns, map(int, keys), strict=True)
    ]


def check_totals(run: Any, totals: Json, evicted: list[list[Any]]) -> None:
    got = run["totals"]
    for name, expected in (
        ("steps", totals["steps"]),
        ("final_clock_ns", totals["final_clock_ms"] * 10**6),
        ("preemptions", totals["preemptions"]),
        ("evictions", totals["evictions"]),
        ("cached_end", totals["cached_hashes_end"]),
        ("stats", tuple(totals[f"stats_{c}"] for c in ("requests", "queries", "hits"))),
        (
            "stats_preempted",
            tuple(totals[f"stats_preempted_{c}"] for c in ("requests", "queries", "hits")),
        ),
        ("drafts", tuple(totals[f"spec_{c}"] for c in ("steps", "drafts", "accepted"))),
    ):
        assert got[name] == expected, name
    assert int(run["requests"]["hit_tokens"].sum()) == totals["hit_tokens"]
    lines = (f"{slot}:{group}:{name}" for _, slot, group, name in evicted)
    assert lines_sha256(lines) == totals["evictions_sha256"]
    free = run["free_queue"].tolist()
    assert len(free) == totals["free_blocks_end"]
    assert sha256(",".join(map(str, free))) == totals["free_order_sha256"]
    rows = step_rows(run)
    assert lines_sha256(",".join(map(str, row)) for row in rows) == totals["step_log_sha256"]


def step_rows(run: Any) -> list[list[int]]:
    names = ("clock_ns", "requests", "tokens", "running", "waiting", "free")
    columns = zip(*(run["steps"][name].tolist() for name in names), strict=True)
    return [[i, clock // 10**6, *rest] for i, (clock, *rest) in enumerate(columns, start=1)]


def check_case(case: Json, rows: list[Json], **changes: Any) -> None:
    """Run a case and compare all of it."""
    config = case["config"]
    trace = compile_trace(rows, config)
    run = trace.workload.simulate(**settings_of(config, len(rows), **changes))
    check_requests(run, case["requests"], len(config["groups"]))
    evicted = evictions(run, trace.hash_names())
    assert evicted[:1000] == case["evictions_head"]
    assert run["free_queue"].tolist()[:1000] == case["free_order_head"]
    assert step_rows(run)[:1000] == case["step_log_head"]
    check_totals(run, case["totals"], evicted)


def state_of(state: Any, ids: list[str], names: list[str]) -> Json:
    """A recorded state, from the core's."""
    tables = zip(state["running"], state["tables"], strict=True)
    return {
        "clock": state["clock_ns"] // 10**6,
        "sched": [[ids[request], tokens] for request, tokens in state["scheduled"]],
        "running": [ids[request] for request in state["running"]],
        "waiting": [ids[request] for request in state["waiting"]],
        "tables": {ids[request]: table for request, table in tables},
        "free": state["free"],
        "ref": {str(slot): count for slot, count in state["refs"]},
        "map": {f"{group}:{names[key]}": slots for group, key, slots in state["cached"]},
    }


def check_small(record: Json) -> None:
    """Run a small recording with the whole state after each step, and as it is run otherwise."""
    rows, config = record["trace"], record["config"]
    trace = compile_trace(rows, config)
    names = trace.hash_names()
    ids = [row["id"] for row in rows]
    changes = {"validate": True, "record_limits": True}
    for states in (True, False):
        settings = settings_of(config, len(rows), **changes, record_states=states)
        run = trace.workload.simulate(**settings)
        for step, (got, expected) in enumerate(zip(run["states"], record["steps"], strict=False)):
            found = state_of(got, ids, names)
            for part, value in expected.items():
                assert found[part] == value, f"step {step + 1}: {part}"
        assert len(run["states"]) == (len(record["steps"]) if states else 0)
        check_requests(run, record["requests"], len(config["groups"]))
        evicted = evictions(run, names)
        assert evicted == record["evictions"]
        check_totals(run, record["totals"], evicted)
        check_limits(run)


def check_limits(run: Any) -> None:
    """The lengths with more and more constraints never ascend, and end with the hit."""
    limits = [run["limits"][name] for name in ("full", "window", "state", "aligned")]
    columns = [column for column in (*limits, run["requests"]["hit_tokens"]) if len(column)]
    for longer, shorter in pairwise(columns):
        assert (longer >= shorter).all()
