"""vLLM's scheduler from 0.11 to 0.33, one step after the other, every running request looked at.

A re-statement of what `docs/vllm.md` describes; it shares nothing with the Rust engine but the
oracle of the KV-cache manager.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.oracle.block_manager import BlockManager, Key, Request


@dataclass
class Job:
    """A request of the trace."""

    index: int
    request: Request
    outputs: list[int]
    arrival: int
    hit_tokens: int = 0
    admit_step: int = 0
    admit_clock: int = 0
    first_token_step: int = 0
    finish_step: int = 0
    finish_clock: int = 0
    sampled: int = 0
    computed_tokens: int = 0
    scheduled_tokens: int = 0
    resumes: list[tuple[int, int]] = field(default_factory=list)
    table: list[int] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return len(self.request.tokens)


@dataclass
class Config:
    max_num_seqs: int = 4
    max_num_batched_tokens: int = 2**40
    chunked: bool = True
    threshold: int = 0
    adaptive: bool = False
    reserve_full_isl: bool = True
    max_model_len: int = 2**32 - 1
    stats_at_lookup: bool = False
    lone_threshold: bool = False
    pass_over: bool = False
    stats_preempted_apart: bool = True
    dt: int = 1
    arrivals: str = "trace"
    in_flight: int = 0


class NeverFitsError(Exception):
    """A request can never be served."""


class Scheduler:
    def __init__(self, manager: BlockManager, config: Config) -> None:
        self.manager = manager
        self.config = config
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.step = 0
        self.clock = 0
        self.rows: list[tuple[int, ...]] = []
        self.stats = [0, 0, 0]
        self.stats_preempted = [0, 0, 0]
        self.evictions: list[tuple[int, int, Key]] = []
        self.stuck = 0

    def run(self, jobs: list[Job]) -> None:
        pending = list(jobs)
        while True:
            if not self.waiting and not self.running:
                if not pending:
                    return
                if self.config.arrivals == "trace":
                    self.clock = max(self.clock, pending[0].arrival)
            while pending and self.arrives(pending[0]):
                if self.config.arrivals != "trace":
                    pending[0].arrival = self.clock
                self.waiting.append(pending.pop(0))
            self.step += 1
            scheduled = self.schedule()
            self.rows.append(
                (
                    self.clock,
                    len(scheduled),
                    sum(n for _, n in scheduled),
                    len(self.running),
                    len(self.waiting),
                    len(self.manager.pool.free),
                )
            )
            self.process(scheduled)
            self.clock += self.config.dt
            evicted = self.manager.pool.evicted
            self.evictions += [(self.step, block, key) for block, key in evicted]
            evicted.clear()

    def arrives(self, job: Job) -> bool:
        if self.config.arrivals == "trace":
            return job.arrival <= self.clock
        if self.config.arrivals == "closed":
            return len(self.waiting) + len(self.running) < self.config.in_flight
        return True

    def schedule(self) -> list[tuple[Job, int]]:  # noqa: PLR0912, PLR0915
        c = self.config
        budget = c.max_num_batched_tokens
        known = len(self.running) + len(self.waiting)
        thr = c.threshold if known > 1 or c.lone_threshold else 0
        if thr and c.adaptive:
            thr = max(thr, budget // known)
        scheduled: list[tuple[Job, int]] = []
        preempted = False

        i = 0
        while i < len(self.running) and budget > 0:
            job = self.running[i]
            n = job.num_tokens - job.request.computed
            if 0 < thr < n:
                n = thr
            n = min(n, budget, c.max_model_len - job.request.computed - 1)
            if n == 0:
                i += 1
                continue
            alone = len(self.running) == 1
            while self.manager.allocate(job.request, n, [], must_fit=False, waiting=False) is None:
                preempted = True
                victim = self.running.pop()
                self.manager.free(victim.request)
                victim.request.preemptions += 1
                self.waiting.insert(0, victim)
                if victim is job:
                    break
            if job not in self.running:
                self.stuck += alone
                if self.stuck > 200:
                    raise NeverFitsError
                break
            scheduled.append((job, n))
            budget -= n
            i += 1

        passed_over: list[Job] = []
        while not preempted and budget > 0 and self.waiting and len(self.running) < c.max_num_seqs:
            job = self.waiting[0]
            hits = self.manager.lookup(job.request)
            hit = len(hits) * self.manager.bs
            n = job.num_tokens - hit
            if c.stats_at_lookup:
                self.count(job, hit)
            if 0 < thr < n:
                n = thr
            if not c.chunked and n > budget:
                if c.pass_over:
                    passed_over.append(self.waiting.pop(0))
                    continue
                break
            n = min(n, budget)
            if (
                self.manager.allocate(
                    job.request,
                    n,
                    hits,
                    must_fit=c.reserve_full_isl,
                    has_running=bool(self.running),
                )
                is None
            ):
                break
            if not c.stats_at_lookup:
                self.count(job, hit)
            self.running.append(self.waiting.pop(0))
            job.request.computed = hit
            if job.request.preemptions:
                job.resumes.append((self.step, hit))
            else:
                job.hit_tokens = hit
                job.admit_step = self.step
                job.admit_clock = self.clock
            scheduled.append((job, n))
            budget -= n

        for job in passed_over:
            self.waiting.insert(0, job)
        if not scheduled and not self.running and not preempted:
            raise NeverFitsError
        for job, n in scheduled:
            r = job.request
            job.computed_tokens += min(r.computed + n, r.prompt) - min(r.computed, r.prompt)
            job.scheduled_tokens += n
            r.computed += n
        return scheduled

    def count(self, job: Job, hit: int) -> None:
        if self.manager.caching:
            apart = job.request.preemptions and self.config.stats_preempted_apart
            stats = self.stats_preempted if apart else self.stats
            stats[0] += 1
            stats[1] += job.num_tokens
            stats[2] += hit

    def process(self, scheduled: list[tuple[Job, int]]) -> None:
        for job, _ in scheduled:
            if job.request.computed < job.num_tokens:
                continue
            job.request.tokens.append(job.outputs[job.sampled])
            job.sampled += 1
            if job.sampled == 1:
                job.first_token_step = self.step
            if job.sampled == len(job.outputs) or job.num_tokens >= self.config.max_model_len:
                job.finish_step = self.step
                job.finish_clock = self.clock + self.config.dt
                job.table = list(job.request.table)
                self.manager.free(job.request)
                self.running.remove(job)


def sequential(manager: BlockManager, jobs: list[Job]) -> None:
    """One request at a time, straight through the manager."""
    for job in jobs:
        r = job.request
        hits = manager.lookup(r)
        job.hit_tokens = len(hits) * manager.bs
        n = job.num_tokens - job.hit_tokens
        if manager.allocate(r, n, hits, must_fit=True) is None:
            raise NeverFitsError
        r.computed = r.prompt
        for token in job.outputs[:-1]:
            r.tokens.append(token)
            if manager.allocate(r, 1, [], must_fit=False, waiting=False) is None:
                raise NeverFitsError
            r.computed += 1
        job.table = list(r.table)
        manager.free(r)


def jobs_of(rows: list[Any]) -> list[Job]:
    """Jobs from rows of (prompt, outputs, arrival, salt), in order of arrival."""
    ordered = sorted(rows, key=lambda row: row[2])
    return [
        Job(i, Request(list(prompt), salt), list(outputs), arrival)
        for i, (prompt, outputs, arrival, salt) in enumerate(ordered)
    ]
