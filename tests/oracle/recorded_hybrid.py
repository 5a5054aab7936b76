"""Recorded runs of vLLM with several groups, and a comparison of the oracle with every integer."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.oracle.hybrid_scheduler import Batch, Job, Scheduler, config_of
from tests.oracle.kv_groups import Hashes, Request


def cbor(value: object) -> bytes:
    """The canonical encoding of what hashes are made of."""
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return _head(0, value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(3, len(text)) + text
    assert isinstance(value, tuple)
    return _head(4, len(value)) + b"".join(map(cbor, value))


def _head(major: int, size: int) -> bytes:
    if size < 24:
        return bytes([major << 5 | size])
    for code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if size < 1 << (8 * width):
            return bytes([major << 5 | code]) + size.to_bytes(width, "big")
    raise OverflowError(size)


class Digests:
    """vLLM's hash of each filed chain, ``sha256_cbor``."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self.found: list[bytes] = []
        self.root = hashlib.sha256(cbor("vllm-none-hash")).digest()

    def short(self, number: int) -> str:
        while len(self.found) <= number:
            parent, tokens, salt, following = self.hashes.chains[len(self.found)]
            extra: object = None if salt is None else (("cache_salt", salt),)
            if following is not None:
                extra = (extra, following)
            before = self.root if parent is None else self.found[parent]
            self.found.append(hashlib.sha256(cbor((before, tokens, extra))).digest())
        return self.found[number][:8].hex()


def jobs_of(run: dict[str, Any], rows: list[dict[str, Any]]) -> list[Job]:
    priorities = run["config"]["priorities"]
    from_start = run["config"]["arrivals"] == "all_at_start"
    return [
        Job(
            i,
            Request(list(row["token_ids"]), row.get("cache_salt")),
            list(row["output_token_ids"]),
            0 if from_start else row.get("timestamp_ms", 0),
            priorities[i % len(priorities)],
        )
        for i, row in enumerate(rows)
    ]


def check_run(run: dict[str, Any]) -> None:
    """Compare the state after every step, and what came of every request."""
    scheduler = Scheduler(config_of(run["config"]))
    manager, pool = scheduler.manager, scheduler.manager.pool
    cache = scheduler.config.cache
    assert run["derived"] == {
        "scheduler_block_size": cache.scheduler_block_size,
        "hash_block_size": cache.h,
        "hit_alignment": cache.alignment,
    }
    digests = Digests(manager.hashes)
    ids = [row["id"] for row in run["trace"]]
    steps = iter(run["steps"])

    def seen(batch: Batch) -> None:
        recorded = next(steps)
        got = {
            "clock": scheduler.clock,
            "sched": [[ids[s.job.index], s.tokens] for s in batch.requests],
            "running": [ids[job.index] for job in scheduler.running],
            "waiting": [ids[job.index] for job in scheduler.waiting],
            "tables": {
                ids[job.index]: [held.table for held in job.request.held]
                for job in scheduler.running
            },
            "free": pool.free,
            "ref": {str(b): n for b, n in enumerate(pool.refs) if n > 0},
            "map": {f"{g}:{digests.short(n)}": blocks for (g, n), blocks in pool.map.items()},
        }
        assert got == recorded, f"step {scheduler.step}"

    scheduler.seen = seen
    jobs = jobs_of(run, run["trace"])
    scheduler.run(jobs)
    assert next(steps, None) is None
    for job, row in zip(jobs, run["requests"], strict=True):
        check_request(job, row)
    evictions = [[step, b, g, digests.short(n)] for step, b, (g, n) in scheduler.evictions]
    assert evictions == run["evictions"]
    totals = run["totals"]
    counted = {
        "steps": scheduler.step,
        "final_clock_ms": scheduler.clock,
        "preemptions": sum(job.request.preemptions for job in jobs),
        "cached_hashes_end": len(pool.map),
        "free_blocks_end": len(pool.free),
    }
    for name, stats in (
        ("stats", scheduler.stats),
        ("stats_preempted", scheduler.stats_preempted),
    ):
        names = ("requests", "queries", "hits")
        counted |= {f"{name}_{n}": v for n, v in zip(names, stats, strict=True)}
    names = ("spec_steps", "spec_drafts", "spec_accepted")
    counted |= dict(zip(names, scheduler.spec, strict=True))
    assert {name: totals[name] for name in counted} == counted


def check_request(job: Job, row: dict[str, Any]) -> None:
    got = {
        "arrival_ms": job.arrival,
        "prompt_tokens": job.request.prompt,
        "hit_tokens": job.hit_tokens,
        "admit_step": job.admit_step,
        "admit_ms": job.admit_clock,
        "first_token_step": job.first_token_step,
        "first_token_ms": job.first_token_clock,
        "finish_step": job.finish_step,
        "finish_ms": job.finish_clock,
        "preemptions": job.request.preemptions,
        "num_blocks": [len(table) for table in job.tables],
        "block_ids": job.tables,
    }
    assert {name: row[name] for name in got} == got
    assert job.junction == row.get("junction", 0)
    assert [list(resume) for resume in job.resumes] == row.get("resumes", [])
