"""vLLM 0.33's scheduler with its OffloadingConnector, one step after the other.

A re-statement of what `docs/offloading.md` describes; it shares nothing with the core but the
oracles of the KV-cache manager and of the host tier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.block_manager import BlockManager, Request, cdiv
from tests.oracle.offload import HostTier


@dataclass
class Config:
    num_blocks: int = 64
    block_size: int = 4
    max_num_seqs: int = 4
    max_num_batched_tokens: int = 2**40
    enable_chunked_prefill: bool = True
    reserve_full_isl: bool = True
    watermark: float = 0.0
    max_model_len: int = 2**32 - 1
    dt: int = 1000
    cpu_chunks: int = 16
    blocks_per_chunk: int = 1
    eviction_policy: str = "lru"
    store_threshold: int = 0
    max_tracker_size: int = 64_000
    offload_prompt_only: bool = True
    sync_load_tokens: int = 0
    load_time: int = 0
    store_time: int = 0
    start_after_step: bool = True
    disk: bool = False
    disk_read_time: int = 0
    disk_write_time: int = 0
    disk_lookup: str = "sync"

    @property
    def chunk(self) -> int:
        """Tokens per chunk."""
        return self.block_size * self.blocks_per_chunk


class Req(Request):
    """A request of the trace, whose blocks have names."""

    def __init__(self, index: int, prompt: int, output: int, arrival: int, keys: Sequence[Any]):
        super().__init__([0] * prompt)
        self.index, self.end, self.arrival, self.keys = index, prompt + output, arrival, keys
        self.next = 0
        self.jobs: set[int] = set()
        self.loading = self.ready = False
        self.blocks: list[int] = []  # its table, when it finished
        self.promoted: set[Hashable] = set()
        self.lookups: list[list[int]] = []
        self.device_hits = self.host_hits = self.disk_hits = -1
        self.loaded = self.stored = 0
        self.admit_step = self.first_token_step = self.finish_step = 0
        self.admit_clock = self.finish_clock = 0
        self.final_table: list[int] = []

    def key(self, block: int, _block_size: int) -> Any:
        return self.keys[block]

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)


@dataclass
class Copy:
    """A copy between the device and the host."""

    number: int
    kind: str
    request: Req
    keys: list[Any]
    blocks: set[int] = field(default_factory=set)
    end: int | None = None
    watched: bool = False


class Channel:
    """Copies one after the other."""

    def __init__(self, time: int) -> None:
        self.time, self.free = time, 0
        self.queue: deque[Any] = deque()

    def enter(self, job: Any, earliest: int) -> None:
        job.end = self.free = max(self.free, earliest) + self.time * len(job.keys)
        self.queue.append(job)

    def end_now(self, job: Any, now: int) -> None:
        for other in self.queue:
            other.end = min(other.end, now)
            if other is job:
                return

    def done(self, now: int) -> list[Any]:
        found = []
        while self.queue and self.queue[0].end <= now:
            found.append(self.queue.popleft())
        return found


@dataclass
class DiskJob:
    keys: list[Any]
    end: int = 0


class Server:
    def __init__(self, config: Config, requests: list[Req]) -> None:
        self.config = config
        self.cache = BlockManager(
            config.num_blocks,
            config.block_size,
            watermark=config.watermark,
            max_model_len=config.max_model_len,
        )
        self.host = HostTier(
            config.eviction_policy,
            config.cpu_chunks,
            config.store_threshold,
            config.max_tracker_size,
        )
        self.arrivals = deque(requests)
        self.waiting: deque[Req] = deque()
        self.holding: deque[Req] = deque()
        self.running: list[Req] = []
        self.in_flight: set[int] = set()
        self.just_finished: list[Req] = []
        self.requests = requests
        self.copies: dict[int, Copy] = {}
        self.number = 0
        self.being_loaded: dict[Any, int] = {}
        self.channels = {
            "store": Channel(config.store_time),
            "load": Channel(config.load_time),
            "sync": Channel(config.load_time),
        }
        self.deferred: list[Copy] = []
        self.disk: set[Any] = set()
        self.disk_read = Channel(config.disk_read_time)
        self.disk_write = Channel(config.disk_write_time)
        self.disk_questions: set[Any] = set()
        self.disk_answers: dict[Any, bool] = {}
        self.promotions: dict[int, list[Any]] = {}
        self.fates: dict[Any, str] = {}  # why a chunk is not in host memory
        self.lost: list[list[str]] = [[] for _ in requests]  # by chunk, behind what was served
        self.step = self.clock = self.budget = 0
        self.transfers: list[list[Any]] = []
        self.steps: list[list[int]] = []
        self.host_evictions: list[tuple[int, Any]] = []
        self.device_evictions: list[tuple[int, int, Any]] = []
        self.totals = dict.fromkeys(
            (
                "preemptions",
                "store_refused",
                "flushed_jobs",
                "chunks_promoted",
                "promotions_refused",
                "chunks_cascaded",
            ),
            0,
        )

    # What the host tier and the disk say.

    def chunk_key(self, r: Req, chunk: int) -> Any:
        return r.keys[(chunk + 1) * self.config.blocks_per_chunk - 1]

    def chunk_keys(self, r: Req, start: int, end: int) -> list[Any]:
        keys = [self.chunk_key(r, i) for i in range(start, end)]
        positions = self.host.contexts[r.index].positions
        positions.update({key: (start + i + 1) * self.config.chunk for i, key in enumerate(keys)})
        return keys

    def evicted(self, keys: list[Any]) -> None:
        self.host_evictions += [(self.step, key) for key in keys]
        self.fates |= dict.fromkeys(keys, "dram")

    def find(self, r: Req, key: Any) -> str:
        found = self.host.lookup(key)
        if found != "miss" or not self.config.disk:
            return found
        if self.config.disk_lookup == "next_step":
            if key not in self.disk_answers:
                self.disk_questions.add(key)
                return "retry"
            there = self.disk_answers[key]
        else:
            there = key in self.disk
        if not there:
            return "miss"
        room = self.host.prepare_store(r.index, [key])
        if room is None or not room[0]:
            self.totals["promotions_refused"] += 1
            self.fates[key] = "refused"
            return "miss"
        self.evicted(room[2])
        self.totals["chunks_promoted"] += 1
        self.transfers.append([self.step, "promote", r.index, 1, len(room[2])])
        self.promotions.setdefault(r.index, []).append(key)
        r.promoted.add(key)
        return "pending"

    def matched(self, r: Req, local: int) -> tuple[int, bool] | None:  # noqa: PLR0911
        """Tokens to load beyond the device hit, and whether asynchronously; None: later."""
        tpc = self.config.chunk
        r.next = 0
        if r.jobs:
            return None
        top = r.num_tokens // tpc * tpc
        if top - local < tpc:
            return 0, False
        first, found, later = local // tpc, 0, False
        for key in self.chunk_keys(r, first, cdiv(top, tpc)):
            answer = self.find(r, key)
            if answer == "miss":
                break
            found += 1
            later |= answer != "hit"
        if not found:
            return 0, False
        if later:
            return None
        n = min(top, tpc * (first + found)) - local
        if n < tpc:
            return 0, False
        if any(k in self.being_loaded for k in self.chunk_keys(r, first, cdiv(local + n, tpc))):
            return None
        if local + n < r.num_tokens and self.sync_tokens + n <= self.config.sync_load_tokens:
            self.sync_tokens += n
            return n, False
        return n, True

    # The scheduler.

    def allocate(
        self, r: Req, total: int, n: int, hits: list[int], *, ext: int, sync: bool
    ) -> bool:
        """Take room for `n` tokens after `total`; `ext` of these are loaded."""
        pool, bs = self.cache.pool, self.config.block_size
        idle = sum(pool.refs[b] == 0 for b in hits)
        held = len(r.table) + len(hits)
        wm = self.cache.watermark_blocks if self.running else 0
        reserved = 0
        if ext and not sync:
            others = (self.requests[i] for i in self.in_flight)
            reserved = sum(max(cdiv(o.num_tokens, bs) - len(o.table), 0) for o in others)
        if self.config.reserve_full_isl:
            most = cdiv(min(r.num_tokens, self.config.max_model_len), bs)
            if max(most - held, 0) + idle + wm > len(pool.free):
                return False
        missing = max(cdiv(min(total + n, self.config.max_model_len), bs) - held, 0)
        if missing + idle + wm > len(pool.free) - reserved:
            return False
        for block in hits:
            if pool.refs[block] == 0:
                pool.free.remove(block)
            pool.refs[block] += 1
        r.table += hits
        r.cached = max(r.cached, len(r.table))
        r.table += [pool.take() for _ in range(missing)]
        if not ext or sync:
            self.cache.cache(r, min(total + n, r.num_tokens))
        return True

    def schedule_running(self) -> bool:
        budget = self.budget
        i, any_preempted = 0, False
        while i < len(self.running) and budget > 0:
            r = self.running[i]
            n = min(r.num_tokens - r.computed, budget, self.config.max_model_len - r.computed - 1)
            if n == 0:
                i += 1
                continue
            old = len(r.table)
            while self.cache.allocate(r, n, [], must_fit=False, waiting=False) is None:
                victim = self.running.pop()
                self.cache.free(victim)
                victim.preemptions += 1
                self.totals["preemptions"] += 1
                self.in_flight.discard(victim.index)
                self.preempted.append(victim)
                self.waiting.appendleft(victim)
                any_preempted = True
                if victim is r:
                    break
            if i >= len(self.running) or self.running[i] is not r:
                break
            self.allocated.update(r.table[old:])
            self.scheduled.append((r, n))
            budget -= n
            i += 1
        self.budget = budget
        return any_preempted

    def schedule_waiting(self) -> None:
        skipped: list[Req] = []
        while (
            self.budget > 0
            and (self.holding or self.waiting)
            and len(self.running) < self.config.max_num_seqs
        ):
            queue = self.holding or self.waiting
            r = queue[0]
            answer = self.admit(r)
            if answer == "stop":
                break
            queue.popleft()
            if answer == "skip":
                skipped.append(r)
        for r in reversed(skipped):
            held = r.computed > 0 or r.loading
            (self.holding if held else self.waiting).appendleft(r)

    def admit(self, r: Req) -> str:
        if r.loading:
            if not r.ready:
                return "skip"
            self.cache.cache(r, r.computed)
            if r.computed == r.num_tokens:
                r.computed -= 1
            r.loading = r.ready = False
        hits: list[int] = []
        ext, wait = 0, False
        if r.computed == 0:
            hits = self.cache.lookup(r)
            found = self.matched(r, len(hits) * self.config.block_size)
            if found is None:
                return "skip"
            ext, wait = found
        local = len(hits) * self.config.block_size
        total = r.computed + local + ext
        n = 0 if wait else r.num_tokens - total
        if not self.config.enable_chunked_prefill and n > self.budget:
            return "stop"
        n = min(n, self.budget)
        if not self.allocate(r, total, n, hits, ext=ext, sync=not wait):
            return "stop"
        self.allocated.update(r.table)
        if r.computed == 0:
            self.found(r, local, ext, wait=wait)
        r.computed = total
        if wait:
            r.loading = True
            self.in_flight.add(r.index)
            return "skip"
        self.running.append(r)
        self.scheduled.append((r, n))
        self.budget -= n
        if total + n < r.num_tokens:
            self.in_flight.add(r.index)
        if not r.admit_step:
            r.admit_step, r.admit_clock = self.step, self.clock
        return "admitted"

    def found(self, r: Req, local: int, ext: int, *, wait: bool) -> None:
        """An admission with what both tiers have."""
        r.lookups.append([self.step, local, ext])
        tpc = self.config.chunk
        from_disk = 0
        if ext:
            first, end = local // tpc, cdiv(local + ext, tpc)
            keys = self.chunk_keys(r, first, end)
            self.host.prepare_load(r.index, keys)
            self.start("load" if wait else "sync", r, keys)
            r.loaded += len(keys)
            r.next = end
            if wait:
                for key in keys:
                    self.being_loaded[key] = self.being_loaded.get(key, 0) + 1
            for i, key in enumerate(keys):
                begin = max((first + i) * tpc, local)
                from_disk += ((first + i + 1) * tpc - begin) * (key in r.promoted)
        if r.device_hits < 0:
            r.device_hits, r.host_hits, r.disk_hits = local, ext, from_disk
            for chunk in range((local + ext) // tpc, r.prompt // tpc):
                key = self.chunk_key(r, chunk)
                there = key in self.host.chunks
                fate = "stranded" if there else self.fates.get(key, "not_offered")
                self.lost[r.index].append(fate)
        r.promoted.clear()

    def start(self, kind: str, r: Req, keys: list[Any], blocks: Sequence[int] = ()) -> Copy:
        self.number += 1
        copy = Copy(self.number, kind, r, keys, set(blocks))
        self.copies[copy.number] = copy
        self.new_copies.append(copy)
        r.jobs.add(copy.number)
        if kind != "store":
            self.transfers.append([self.step, "load", r.index, len(keys)])
        return copy

    # The end of schedule().

    def to_flush(self) -> set[int]:
        new = {copy.number for copy in self.new_copies if copy.kind != "store"}
        found = {number for r in self.preempted for number in r.jobs if number not in new}
        for copy in self.copies.values():
            if copy.watched and copy.blocks & self.allocated:
                found.add(copy.number)
        return found

    def offer(self, r: Req, after: int, table: list[int]) -> Copy | None:
        config = self.config
        limit = min(after, r.num_tokens)
        if config.offload_prompt_only:
            limit = min(limit, r.prompt)
        end = min(limit // config.chunk, len(table) // config.blocks_per_chunk)
        if r.next >= end:
            r.next = end
            return None
        first = r.next
        keys = self.chunk_keys(r, first, end)
        store = self.host.prepare_store(r.index, keys)
        if store is None:
            self.totals["store_refused"] += 1
            self.transfers.append([self.step, "refused", r.index, len(keys)])
            self.fates |= dict.fromkeys(keys, "refused")
            return None
        r.next = end
        todo, _, victims = store
        self.evicted(victims)
        self.fates |= dict.fromkeys(keys, "too_rare")
        if not todo:
            return None
        r.stored += len(todo)
        self.transfers.append([self.step, "store", r.index, len(todo), len(victims)])
        bpc = config.blocks_per_chunk
        wanted = set(todo)
        places = [first + i for i, key in enumerate(keys) if key in wanted]
        return self.start(
            "store", r, todo, [b for i in places for b in table[i * bpc : (i + 1) * bpc]]
        )

    def end_of_schedule(self) -> set[int]:
        flush = self.to_flush()
        for r, n in self.scheduled:
            self.offer(r, r.computed + n, r.table)
        for r in self.just_finished:
            copy = self.offer(r, max(r.prompt, r.num_tokens - 1), r.blocks)
            if copy is not None:
                copy.watched = True
                if copy.blocks & self.allocated:
                    flush.add(copy.number)
        for r in self.just_finished:
            self.host.finish(r.index)
        self.just_finished = []
        for keys in self.promotions.values():
            self.disk_read.enter(DiskJob(keys), self.clock)
        self.promotions = {}
        self.disk_answers = {key: key in self.disk for key in self.disk_questions}
        self.disk_questions = set()
        return flush

    # The copy engine.

    def work(self, flush: set[int], dt: int) -> list[Copy]:
        now, later = self.clock, self.clock + (dt if self.config.start_after_step else 0)
        store, load, sync = (self.channels[kind] for kind in ("store", "load", "sync"))
        stores = [copy for copy in self.new_copies if copy.kind == "store"]
        if flush:
            for copy in self.deferred:
                store.enter(copy, later)
            self.deferred = []
            for copy in [c for c in stores if c.number in flush]:
                store.enter(copy, later)
            stores = [c for c in stores if c.number not in flush]
            for number in sorted(flush):
                copy = self.copies[number]
                self.channels[copy.kind].end_now(copy, now)
                self.totals["flushed_jobs"] += 1
        for copy in self.deferred:
            store.enter(copy, later)
        for copy in self.new_copies:
            if copy.kind == "load":
                load.enter(copy, later)
            elif copy.kind == "sync":
                sync.enter(copy, now)
                sync.end_now(copy, now)
                self.totals["flushed_jobs"] += 1
        self.deferred = stores
        return [copy for channel in (store, load, sync) for copy in channel.done(now)]

    def report(self, copy: Copy) -> None:
        copy.request.jobs.discard(copy.number)
        del self.copies[copy.number]
        if copy.kind == "store":
            self.host.complete_store(copy.keys, ok=True)
            if self.config.disk:
                for key in copy.keys:
                    self.host.chunks[key].count += 1
                self.totals["chunks_cascaded"] += len(copy.keys)
                self.disk_write.enter(DiskJob(copy.keys), self.clock)
            return
        self.host.complete_load(copy.keys)
        if copy.kind == "load":
            copy.request.ready = True
            for key in copy.keys:
                self.being_loaded[key] -= 1
                if not self.being_loaded[key]:
                    del self.being_loaded[key]

    def disk_jobs(self) -> None:
        for job in self.disk_write.done(self.clock):
            self.disk.update(job.keys)
            self.host.complete_load(job.keys)
        for job in self.disk_read.done(self.clock):
            self.host.complete_store(job.keys, ok=True)

    # The loop.

    def busy(self) -> bool:
        queues = (self.waiting, self.holding, self.running, self.just_finished, self.copies)
        return any(queues) or bool(self.disk_read.queue or self.disk_write.queue)

    def one_step(self) -> None:
        self.step += 1
        self.budget = self.config.max_num_batched_tokens
        self.scheduled: list[tuple[Req, int]] = []
        self.preempted: list[Req] = []
        self.allocated: set[int] = set()
        self.new_copies: list[Copy] = []
        self.sync_tokens = 0
        evicted = len(self.cache.pool.evicted)
        self.disk_jobs()
        if not self.schedule_running():
            self.schedule_waiting()
        flush = self.end_of_schedule()
        self.device_evictions += [(self.step, *e) for e in self.cache.pool.evicted[evicted:]]
        started = {kind: [c for c in self.new_copies if c.kind == kind] for kind in self.channels}
        chunks = {kind: sum(len(c.keys) for c in found) for kind, found in started.items()}
        self.steps.append(
            [
                self.step,
                self.clock,
                len(self.scheduled),
                sum(n for _, n in self.scheduled),
                len(self.running),
                len(self.waiting),
                len(self.holding),
                len(self.cache.pool.free),
                chunks["load"] + chunks["sync"],
                chunks["store"],
                len(flush),
            ]
        )
        reports = self.work(flush, self.config.dt)
        end = self.clock + self.config.dt
        for r, n in self.scheduled:
            self.output(r, n, end)
        for copy in reports:
            self.report(copy)
        self.clock = end

    def output(self, r: Req, n: int, end: int) -> None:
        r.computed += n
        if r.computed < r.num_tokens:
            return
        self.in_flight.discard(r.index)
        r.tokens.append(0)
        r.first_token_step = r.first_token_step or self.step
        if r.num_tokens < min(r.end, self.config.max_model_len):
            return
        r.finish_step, r.finish_clock = self.step, end
        r.final_table = r.blocks = list(r.table)
        for number in r.jobs:
            self.copies[number].watched = True
        self.running.remove(r)
        self.cache.free(r)
        self.just_finished.append(r)

    def run(self) -> None:
        for r in self.requests:
            self.host.new(r.index, {})
        while True:
            if not self.busy():
                if not self.arrivals:
                    return
                self.clock = max(self.clock, self.arrivals[0].arrival)
            while self.arrivals and self.arrivals[0].arrival <= self.clock:
                self.waiting.append(self.arrivals.popleft())
            self.one_step()
