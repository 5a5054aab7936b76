"""vLLM 0.33's scheduler with drafts, priorities and two batches in flight, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.hybrid import Manager
from tests.oracle.kv_groups import CacheConfig, Group, Key, Request


@dataclass
class Job:
    """A request of the trace."""

    index: int
    request: Request
    outputs: list[int]
    arrival: int
    priority: int = 0
    sampled: int = 0
    drafts: int = 0
    placeholders: int = 0
    stale: int = 0
    in_prefill: bool = False  # after the last step it was in
    finished: bool = False
    hit_tokens: int = 0
    junction: int = 0
    admit_step: int = 0
    admit_clock: int = 0
    first_token_step: int = 0
    first_token_clock: int = 0
    finish_step: int = 0
    finish_clock: int = 0
    computed_tokens: int = 0
    scheduled_tokens: int = 0
    resumes: list[tuple[int, int]] = field(default_factory=list)
    tables: list[list[int]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return self.request.num_tokens

    @property
    def rank(self) -> tuple[int, int]:
        return (self.priority, self.index)


@dataclass(frozen=True)
class Config:
    cache: CacheConfig
    max_num_seqs: int = 4
    chunked: bool = True
    adaptive: bool = False
    reserve_full_isl: bool = True
    priority: bool = False
    accept: tuple[int, ...] = (0,)
    dt: int = 1


@dataclass
class Scheduled:
    """What a step does for one request."""

    job: Job
    tokens: int
    drafts: int = 0
    padded: bool = False
    samples: bool = False


@dataclass
class Batch:
    step: int
    requests: list[Scheduled]


class NeverFitsError(Exception):
    """A request can never be served."""


class LivelockError(Exception):
    """Requests keep preempting each other, and none gets on."""


class Scheduler:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.manager = Manager(config.cache)
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.step = 0
        self.clock = 0
        self.unreported = False
        self.rows: list[tuple[int, ...]] = []
        self.stats = [0, 0, 0]
        self.stats_preempted = [0, 0, 0]
        self.spec = [0, 0, 0]  # steps, drafts, accepted
        self.evictions: list[tuple[int, int, Key]] = []
        self.idle_steps = 0
        self.most_steps = 10**9
        self.seen: Callable[[Batch], None] = lambda _: None

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting or self.running)

    def run(self, jobs: list[Job]) -> None:
        """Run a trace; `seen` is called after each `schedule()`."""
        pending = list(jobs)
        queue: list[Batch] = []
        asynchronous = self.config.cache.asynchronous
        while True:
            if not (self.unfinished or queue or (asynchronous and self.unreported)):
                if not pending:
                    return
                self.clock = max(self.clock, pending[0].arrival)
            while pending and pending[0].arrival <= self.clock:
                self.enqueue(pending.pop(0))
            if not asynchronous:
                batch = self.schedule()
                self.clock += self.config.dt
                self.process(batch)
                continue
            if self.unfinished or self.unreported:
                batch = self.schedule()
                queue.append(batch)
                more = bool(batch.requests) or self.unfinished or self.unreported
                if len(queue) < 2 and more:
                    continue
            batch = queue.pop(0)
            if batch.requests:
                self.clock += self.config.dt
                self.process(batch)

    def enqueue(self, job: Job) -> None:
        self.waiting.append(job)
        self.sort()

    def sort(self) -> None:
        if self.config.priority:
            self.waiting.sort(key=lambda job: job.rank)

    # A step

    def schedule(self) -> Batch:
        cache = self.config.cache
        self.step += 1
        self.unreported = False
        self.manager.begin_step()
        known = len(self.running) + len(self.waiting)
        threshold = cache.long_prefill_threshold if known > 1 else 0
        if threshold and self.config.adaptive:
            threshold = max(threshold, cache.batch_tokens // known)
        batch: list[Scheduled] = []
        budget, preempted = self.schedule_running(batch, threshold)
        if not preempted:
            self.admit(batch, budget, threshold)
        self.manager.end_step()
        for s in batch:
            self.advance(s)
        self.idle_steps = 0 if batch or not self.unfinished else self.idle_steps + 1
        if self.idle_steps > 200:
            raise NeverFitsError
        if self.step > self.most_steps:
            raise LivelockError
        self.log_evictions()
        found = Batch(self.step, batch)
        free = len(self.manager.pool.free)
        tokens = sum(s.tokens for s in batch)
        self.rows.append(
            (self.clock, len(batch), tokens, len(self.running), len(self.waiting), free)
        )
        self.seen(found)
        return found

    def log_evictions(self) -> None:
        evicted = self.manager.pool.evicted
        self.evictions += [(self.step, block, key) for block, key in evicted]
        evicted.clear()

    def advance(self, s: Scheduled) -> None:
        r, job = s.job.request, s.job
        job.computed_tokens += min(r.computed + s.tokens, r.prompt) - min(r.computed, r.prompt)
        job.scheduled_tokens += s.tokens
        r.computed += s.tokens
        r.in_flight += s.tokens
        s.samples = r.computed >= r.num_tokens + job.placeholders
        job.in_prefill = not s.samples
        if s.samples and self.config.cache.asynchronous:
            job.placeholders += 1 + s.drafts
            job.drafts = self.config.cache.drafts

    def schedule_running(self, batch: list[Scheduled], threshold: int) -> tuple[int, bool]:
        """Schedule running requests; return the budget that is left and whether any gave way."""
        cache = self.config.cache
        budget, preempted, i = cache.batch_tokens, False, 0
        while i < len(self.running) and budget > 0:
            job = self.running[i]
            r, ahead = job.request, job.placeholders
            if ahead and r.computed + 2 - ahead >= r.prompt + len(job.outputs):
                i += 1
                continue
            n = r.num_tokens + job.drafts + ahead - r.computed
            if 0 < threshold < n:
                n = threshold
            n = min(n, budget, cache.max_model_len - r.computed - 1)
            n = self.manager.cut(r, r.computed, n) if n > 0 else n
            if n <= 0:
                i += 1
                continue
            room = False
            none: list[list[int]] = [[] for _ in cache.groups]
            while job in self.running:
                room = self.manager.allocate(r, n, 0, none)
                if room:
                    break
                preempted = True
                victim = self.victim()
                place = self.running.index(victim)
                self.running.remove(victim)
                for s in [s for s in batch if s.job is victim]:
                    budget += s.tokens
                    batch.remove(s)
                if place < i:
                    i -= 1
                self.preempt(victim)
            if not room:
                continue  # the next request, if there is one, is now at this place
            drafts = max(min(job.drafts, n + r.computed - r.num_tokens - ahead), 0)
            job.drafts = 0
            batch.append(Scheduled(job, n, drafts))
            budget -= n
            i += 1
        return budget, preempted

    def victim(self) -> Job:
        if self.config.priority:
            return max(self.running, key=lambda job: job.rank)
        return self.running[-1]

    def preempt(self, job: Job) -> None:
        self.manager.free(job.request)
        job.request.preemptions += 1
        job.drafts = job.placeholders = 0
        job.stale, job.request.in_flight = job.request.in_flight, 0
        self.waiting.insert(0, job)
        self.sort()

    def admit(self, batch: list[Scheduled], budget: int, threshold: int) -> None:
        cache, running = self.config.cache, list(batch)
        while budget > 0 and self.waiting and len(self.running) < self.config.max_num_seqs:
            job = self.waiting[0]
            assert not job.stale
            r = job.request
            hits, hit = self.manager.lookup(r)
            left = n = r.num_tokens - hit
            if 0 < threshold < n:
                n = threshold
            if not self.config.chunked and n > budget:
                return
            n = min(n, budget)
            s = Scheduled(job, n)
            if left == 1 and self.pads(running, hit):
                if 1 + cache.drafts > budget:
                    return
                s = Scheduled(job, 1 + cache.drafts, cache.drafts, padded=True)
            cut = self.manager.cut(r, hit, s.tokens)
            if cut < s.tokens:
                s = Scheduled(job, 1 if s.padded else cut)
            if s.tokens <= 0:
                return
            if not self.manager.allocate(
                r,
                s.tokens,
                hit,
                hits,
                must_fit=self.config.reserve_full_isl,
                has_running=bool(self.running),
            ):
                return
            self.count(job, hit)
            self.running.append(self.waiting.pop(0))
            r.computed = hit
            batch.append(s)
            budget -= s.tokens

    def pads(self, running: list[Scheduled], hit: int) -> bool:
        """Whether a request with one token left is given drafts that are never verified."""
        cache = self.config.cache
        return (
            cache.drafts > 0
            and not any(s.job.in_prefill for s in running)
            and bool(running or hit)
            and hit + 1 + cache.drafts + 1 <= cache.max_model_len
        )

    def count(self, job: Job, hit: int) -> None:
        again = job.request.preemptions > 0
        if self.config.cache.caching:
            stats = self.stats_preempted if again else self.stats
            stats[0] += 1
            stats[1] += job.num_tokens
            stats[2] += hit
        if again:
            job.resumes.append((self.step, hit))
        else:
            job.hit_tokens, job.junction = hit, job.request.junction
            job.admit_step, job.admit_clock = self.step, self.clock

    # Outputs

    def process(self, batch: Batch) -> None:
        for s in batch.requests:
            if not s.job.finished:
                self.process_one(s, batch.step)
        self.log_evictions()

    def process_one(self, s: Scheduled, step: int) -> None:  # noqa: PLR0912
        job, r, cache = s.job, s.job.request, self.config.cache
        stale = job.stale > 0
        if stale:
            job.stale -= s.tokens
        else:
            r.in_flight -= s.tokens
        if not s.samples:
            return
        accept = self.config.accept[r.num_tokens % len(self.config.accept)]
        accepted = 0 if s.padded else min(accept, s.drafts)
        if s.drafts:
            self.spec[0] += 1
            self.spec[1] += s.drafts
            self.spec[2] += accepted
        if not stale:
            r.computed -= s.drafts - accepted
            if cache.asynchronous:
                job.placeholders -= s.drafts - accepted
        done, appended = False, 0
        while appended < accepted + 1 and not done:
            r.tokens.append(job.outputs[job.sampled])
            job.sampled += 1
            appended += 1
            done = job.sampled == len(job.outputs) or r.num_tokens >= cache.max_model_len
        if job.sampled == appended:
            job.first_token_step, job.first_token_clock = step, self.clock
        if not stale:
            r.computed -= accepted + 1 - appended
            if cache.asynchronous:
                job.placeholders -= accepted + 1
            else:
                job.drafts = cache.drafts
            if cache.asynchronous or cache.drafts:
                self.manager.cache(r, r.computed - r.in_flight)
        if done:
            self.finish(job, step)

    def finish(self, job: Job, step: int) -> None:
        job.finished = True
        job.finish_step, job.finish_clock = step, self.clock
        job.tables = [list(held.table) for held in job.request.held]
        self.manager.free(job.request)
        if job in self.running:
            self.running.remove(job)
        else:
            self.waiting.remove(job)
        self.unreported = True


def config_of(recorded: dict[str, Any]) -> Config:
    """The configuration of a recorded run."""
    groups = tuple(Group(**group) for group in recorded["groups"])
    return Config(
        CacheConfig(
            groups,
            recorded["num_gpu_blocks"],
            caching=recorded["enable_prefix_caching"],
            prefix_match_unit=recorded["prefix_match_unit"],
            retention=recorded["prefix_cache_retention_interval"],
            max_model_len=recorded["max_model_len"],
            batch_tokens=recorded["max_num_batched_tokens"],
            long_prefill_threshold=recorded["long_prefill_token_threshold"],
            watermark=recorded["watermark"],
            asynchronous=recorded["async_scheduling"],
            spec_method=recorded["spec_method"],
            drafts=recorded["num_speculative_tokens"],
            eagle_hits=recorded["eagle_hits"],
            junction_checkpoints=recorded["mamba_shared_prefix_checkpoint"],
        ),
        max_num_seqs=recorded["max_num_seqs"],
        chunked=recorded["enable_chunked_prefill"],
        adaptive=recorded["long_prefill_token_threshold_adaptive"],
        reserve_full_isl=recorded["reserve_full_isl"],
        priority=recorded["policy"] == "priority",
        accept=tuple(recorded["accept"]),
        dt=recorded["dt_ms"],
    )
