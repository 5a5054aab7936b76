//! One vLLM server that offloads, on a clock.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::connector::{Connector, Match, OffloadConfig, Offloaded};
use super::copies::Kind;
use super::log::OffloadLog;
use crate::engine::vllm::manager::load::Loaded;
use crate::engine::vllm::{DenseIndex, Lease, Manager, Recording, SchedulerConfig, Slot, Workload};
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::{
    Clock, Demand, Hit, Instance, InstanceLog, KvCache, Latency, Load, Progress, Readmission,
    RequestLog, StepRow, StepWork,
};

/// Steps in a row that change nothing after which nothing ever will, and preemptions of a request by
/// itself.
const STUCK: u32 = 3;

/// A request in the server.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Four facts that change independently.
struct Member {
    offloaded: Offloaded,
    progress: Progress,
    lease: Lease,
    /// Tokens at which it is finished.
    end: u32,
    /// Whether blocks are being loaded for it, and whether they are there.
    loading: bool,
    ready: bool,
    /// Whether it has finished; then its slots, until that is announced.
    finished: bool,
    slots: Vec<Slot>,
    announced: bool,
}

/// What comes of asking for an admission.
enum Answer {
    Runs,
    Skipped,
    Stop,
}

/// A scheduler that looks at every request in every step, the KV-cache manager, and a connector to host
/// memory.
///
/// The rules are those of vLLM 0.33 (`vllm/v1/core/sched/scheduler.py` with a connector): one group of
/// full attention, first come first served, synchronous, no speculative decoding. Requests wait in two
/// queues, of which those that hold blocks (loading, or loaded and not admitted) go first.
#[derive(Debug)]
pub struct OffloadServer<'w> {
    workload: &'w Workload,
    config: SchedulerConfig,
    latency: Latency,
    recording: Recording,
    manager: Manager<DenseIndex>,
    connector: Connector<'w>,
    members: Vec<Member>,
    spare: Vec<u32>,
    waiting: VecDeque<u32>,
    holding: VecDeque<u32>,
    running: Vec<u32>,
    /// Those that have a claim to room for all their known tokens: loading, loaded, or with a prompt
    /// that is not computed.
    in_flight: BTreeSet<u32>,
    /// Finished in the last step.
    finished: Vec<u32>,
    /// What this step schedules: places and tokens.
    scheduled: Vec<(u32, u32)>,
    preempted: Vec<u32>,
    /// Slots given to requests in this step, adopted ones included.
    allocated: HashSet<Slot>,
    budget: u64,
    step: u64,
    clock: Clock,
    idle_steps: u32,
    lone_preemption: (u32, u32, u32),
    num_finished: u64,
    log: InstanceLog,
}

impl<'w> OffloadServer<'w> {
    /// An idle server of requests of `workload`. For KV events the manager has to record them.
    ///
    /// # Errors
    /// [`Error::Range`] if the configuration is not usable.
    pub fn new(
        workload: &'w Workload,
        config: SchedulerConfig,
        manager: Manager<DenseIndex>,
        offload: OffloadConfig,
        latency: Latency,
        recording: Recording,
    ) -> Result<Self> {
        latency.validate()?;
        config.validate(workload.requests().len())?;
        if config.async_scheduling || config.drafts.is_some() || config.priorities.is_some() {
            return Err(Error::range(
                "offloading is simulated first come first served, synchronous, without drafts",
            ));
        }
        if config.long_prefill_token_threshold > 0 || manager.config().sliding_window.is_some() {
            return Err(Error::range(
                "offloading needs full attention and no long_prefill_token_threshold: leave them out",
            ));
        }
        if offload.blocks_per_chunk == 0 || offload.host.chunks == 0 {
            return Err(Error::range(
                "offloading needs a block per chunk and room for a chunk, or more",
            ));
        }
        Ok(Self {
            workload,
            config,
            latency,
            recording,
            manager,
            connector: Connector::new(workload, offload, recording.steps),
            members: Vec::new(),
            spare: Vec::new(),
            waiting: VecDeque::new(),
            holding: VecDeque::new(),
            running: Vec::new(),
            in_flight: BTreeSet::new(),
            finished: Vec::new(),
            scheduled: Vec::new(),
            preempted: Vec::new(),
            allocated: HashSet::new(),
            budget: 0,
            step: 0,
            clock: Clock::default(),
            idle_steps: 0,
            lone_preemption: (0, 0, 0),
            num_finished: 0,
            log: InstanceLog::default(),
        })
    }

    /// Ends the server: what it did, and what its connector did.
    #[must_use]
    pub fn finish(mut self) -> (InstanceLog, OffloadLog) {
        let usage = self.manager.usage();
        let totals = &mut self.log.totals;
        totals.steps = self.step;
        totals.final_clock_ns = self.clock.now();
        totals.evictions = usage.evictions;
        totals.cached_end = usage.cached;
        if self.recording.tables {
            self.log.free_queue = self.manager.free_queue();
        }
        (self.log, self.connector.into_log())
    }

    fn is_idle(&self) -> bool {
        let requests = self.waiting.len() + self.holding.len() + self.running.len();
        requests + self.finished.len() == 0 && !self.connector.is_busy()
    }

    fn member(&mut self, place: u32) -> &mut Member {
        &mut self.members[place as usize]
    }

    fn one_step(&mut self, log: &mut RequestLog) -> Result<()> {
        self.step += 1;
        let now = self.clock.now();
        self.budget = self.config.max_num_batched_tokens;
        self.scheduled.clear();
        self.preempted.clear();
        self.allocated.clear();
        self.connector.begin_step(self.step, now)?;
        self.schedule_running(log)?;
        if self.preempted.is_empty() {
            self.schedule_waiting(log)?;
        }
        let flush = self.end_schedule();
        let work = self.count_work(log);
        self.check_stuck()?;
        let duration = self.latency.of(&work)?;
        let (loaded, stored) = self.connector.copies.started();
        self.record_step(duration, &flush, (loaded, stored));
        let end = self.clock.after(duration)?;
        let (reports, waits) = self.connector.copies.work(&flush, now, end);
        self.connector.log.totals.flushed_jobs += waits;
        self.clock.pass(duration)?;
        self.sample(log);
        for copy in reports {
            self.connector.report(&copy, now)?;
            let member = self.member(copy.place);
            member.offloaded.done(copy.number);
            member.ready |= copy.kind == Kind::Load;
            self.leave(copy.place);
        }
        if duration == 0 && self.scheduled.is_empty() && self.finished.is_empty() {
            // Steps that take no time would wait for ever.
            if let Some(next) = self.connector.next_end() {
                self.clock.wait_until(next);
            }
        }
        self.drain_events();
        Ok(())
    }

    /// Schedules running requests, and preempts the last ones where slots run out.
    fn schedule_running(&mut self, log: &mut RequestLog) -> Result<()> {
        let mut i = 0;
        while i < self.running.len() && self.budget > 0 {
            let place = self.running[i];
            let member = &mut self.members[place as usize];
            let progress = member.progress;
            let limit = self
                .manager
                .max_model_len()
                .saturating_sub(progress.computed + 1);
            let tokens = u64::from(progress.num_tokens - progress.computed).min(self.budget);
            let tokens = to_u32(tokens.min(u64::from(limit)));
            if tokens == 0 {
                i += 1;
                continue;
            }
            let held = member.lease.table.len();
            loop {
                let member = &mut self.members[place as usize];
                let keys = self.workload.keys(member.offloaded.request);
                let taken = self
                    .manager
                    .extend(&mut member.lease, keys, &progress, tokens);
                if taken.is_ok() || self.preempt_last(place, log)? == place {
                    break;
                }
            }
            if self.running.get(i) != Some(&place) {
                break;
            }
            let table = &self.members[place as usize].lease.table;
            self.allocated.extend(&table[held..]);
            self.scheduled.push((place, tokens));
            self.budget -= u64::from(tokens);
            i += 1;
        }
        Ok(())
    }

    /// Takes the blocks of the request admitted last, because `wanting` needs some, and puts it at the
    /// head of the queue. Returns its place.
    fn preempt_last(&mut self, wanting: u32, log: &mut RequestLog) -> Result<u32> {
        let alone = self.running.len() == 1;
        let Some(place) = self.running.pop() else {
            unreachable!("the request that needs slots is running");
        };
        let member = &mut self.members[place as usize];
        let (request, num_tokens) = (member.offloaded.request, member.progress.num_tokens);
        self.manager.release(&mut member.lease);
        member.progress.computed = 0;
        self.in_flight.remove(&place);
        log.preemptions[request as usize] += 1;
        self.log.totals.preemptions += 1;
        self.waiting.push_front(place);
        self.preempted.push(place);
        if alone && place == wanting {
            let (last, tokens, times) = self.lone_preemption;
            let again = last == request && tokens == num_tokens;
            let times = if again { times + 1 } else { 1 };
            self.lone_preemption = (request, num_tokens, times);
            if times == STUCK {
                let why = "it preempts itself over and over, with nothing else running";
                return Err(self.never_fits(request, why));
            }
        }
        Ok(place)
    }

    /// Admits waiting requests while there is room; those that have to wait for a copy are skipped.
    fn schedule_waiting(&mut self, log: &mut RequestLog) -> Result<()> {
        let mut skipped = Vec::new();
        while self.budget > 0 && self.running.len() < self.config.max_num_seqs as usize {
            let held = !self.holding.is_empty();
            let queue = if held { &self.holding } else { &self.waiting };
            let Some(&place) = queue.front() else {
                break;
            };
            let answer = self.admit(place, log)?;
            if matches!(answer, Answer::Stop) {
                break;
            }
            if held {
                self.holding.pop_front();
            } else {
                self.waiting.pop_front();
            }
            if matches!(answer, Answer::Skipped) {
                skipped.push(place);
            }
        }
        for place in skipped.into_iter().rev() {
            let member = self.member(place);
            if member.progress.computed > 0 || member.loading {
                self.holding.push_front(place);
            } else {
                self.waiting.push_front(place);
            }
        }
        Ok(())
    }

    /// Tries to admit a request, or to have its blocks loaded.
    fn admit(&mut self, place: u32, log: &mut RequestLog) -> Result<Answer> {
        let member = &mut self.members[place as usize];
        let request = member.offloaded.request;
        let keys = self.workload.keys(request);
        if member.loading {
            if !member.ready {
                return Ok(Answer::Skipped);
            }
            self.manager
                .cache_computed(&mut member.lease, keys, &member.progress);
            let last = member.progress.num_tokens - 1;
            member.progress.computed = member.progress.computed.min(last);
            (member.loading, member.ready) = (false, false);
        }
        let progress = member.progress;
        let is_new = progress.computed == 0;
        let (mut local, mut tokens, mut sync) = (0, 0, true);
        if is_new {
            local = self.manager.lookup(keys, progress.num_tokens).tokens();
            match self
                .connector
                .matched(&mut member.offloaded, progress.num_tokens, local)
            {
                Match::Later => return Ok(Answer::Skipped),
                Match::Tokens { tokens: t, sync: s } => (tokens, sync) = (t, s),
            }
        }
        let total = progress.computed + local + tokens;
        let mut chunk = 0;
        if sync {
            let left = u64::from(progress.num_tokens - total);
            if !self.config.enable_chunked_prefill && left > self.budget {
                return Ok(Answer::Stop);
            }
            chunk = to_u32(left.min(self.budget));
        }
        let demand = Demand {
            name: u64::from(request),
            new_tokens: chunk,
            must_fit: self.config.reserve_full_isl,
            beside_others: !self.running.is_empty(),
        };
        let loaded = Loaded {
            tokens,
            later: !sync,
            reserved: if sync { 0 } else { self.reserved() },
        };
        let member = &mut self.members[place as usize];
        if !self
            .manager
            .admit_loaded(&mut member.lease, keys, &progress, demand, loaded)
        {
            return Ok(Answer::Stop);
        }
        self.allocated.extend(&member.lease.table);
        member.progress.computed = total;
        if is_new {
            let first = self.note_lookup(place, local, tokens, log);
            let of = &mut self.members[place as usize].offloaded;
            self.connector
                .admitted(of, place, local, (tokens, sync), first)?;
        }
        let member = &mut self.members[place as usize];
        if !sync {
            member.loading = true;
            self.in_flight.insert(place);
            return Ok(Answer::Skipped);
        }
        if total + chunk < progress.num_tokens {
            self.in_flight.insert(place);
        }
        self.running.push(place);
        self.scheduled.push((place, chunk));
        self.budget -= u64::from(chunk);
        let row = request as usize;
        if log.admit_step[row] == 0 {
            log.admit_step[row] = self.step;
            log.admit_ns[row] = self.clock.now();
        }
        Ok(Answer::Runs)
    }

    /// Slots that requests whose prompt is not complete still need.
    fn reserved(&self) -> u32 {
        let size = self.manager.block_size();
        let needed = self.in_flight.iter().map(|&place| {
            let member = &self.members[place as usize];
            let blocks = member.progress.num_tokens.div_ceil(size);
            blocks.saturating_sub(to_u32(member.lease.table.len()))
        });
        needed.sum()
    }

    /// Records what an admission found; returns whether it is the first one of the request.
    fn note_lookup(&mut self, place: u32, local: u32, tokens: u32, log: &mut RequestLog) -> bool {
        let member = &self.members[place as usize];
        let request = member.offloaded.request;
        let preempted = log.preemptions[request as usize] > 0;
        if self.manager.enable_caching() {
            let totals = &mut self.log.totals;
            let stats = if preempted {
                &mut totals.stats_preempted
            } else {
                &mut totals.stats
            };
            stats.count(u64::from(member.progress.num_tokens), u64::from(local), 1);
        }
        // The last token of a prompt is computed, wherever the others are.
        let last = member.progress.num_tokens - 1;
        let tokens = tokens.min(last - local);
        if preempted {
            self.log.readmissions.push(Readmission {
                request,
                step: self.step,
                hit_tokens: local + tokens,
            });
        } else {
            log.hit(
                request,
                Hit {
                    tiers: [local, tokens, 0],
                },
            );
        }
        !preempted
    }

    /// What comes after the scheduling of a step; returns the copies that have to be done before it
    /// computes.
    fn end_schedule(&mut self) -> BTreeSet<u64> {
        let connector = &mut self.connector;
        let mut flush = BTreeSet::new();
        for &place in &self.preempted {
            flush.extend(connector.of_preempted(&self.members[place as usize].offloaded));
        }
        let allocated = &self.allocated;
        flush.extend(
            connector
                .copies
                .threatened(|slot| allocated.contains(&slot)),
        );
        for &(place, tokens) in &self.scheduled {
            let member = &mut self.members[place as usize];
            let known = member.progress.num_tokens;
            let after = member.progress.computed + tokens;
            let table = &member.lease.table;
            connector.offer(&mut member.offloaded, place, (after, known), table);
        }
        for &place in &self.finished {
            let member = &mut self.members[place as usize];
            let Progress {
                prompt_tokens,
                num_tokens,
                ..
            } = member.progress;
            let after = prompt_tokens.max(num_tokens - 1);
            let of = &mut member.offloaded;
            let offered = connector.offer(of, place, (after, num_tokens), &member.slots);
            if let Some(number) = offered {
                connector.copies.watch(number);
                let slots = connector.copies.get(number).map(|copy| &copy.slots);
                if slots.is_some_and(|slots| slots.iter().any(|slot| allocated.contains(slot))) {
                    flush.insert(number);
                }
            }
        }
        for &place in &self.finished {
            let member = &mut self.members[place as usize];
            connector.finish(&mut member.offloaded);
            member.announced = true;
        }
        connector.end_schedule(self.clock.now());
        for place in std::mem::take(&mut self.finished) {
            self.leave(place);
        }
        flush
    }

    /// Lets a request go that has finished, if that was announced and its copies are done.
    fn leave(&mut self, place: u32) {
        let member = self.member(place);
        if member.announced && !member.offloaded.has_jobs() {
            *member = Member::default();
            self.spare.push(place);
        }
    }

    /// What the step computes.
    fn count_work(&mut self, log: &mut RequestLog) -> StepWork {
        let mut work = StepWork::default();
        for &(place, tokens) in &self.scheduled {
            let member = &self.members[place as usize];
            let Progress {
                computed,
                prompt_tokens,
                ..
            } = member.progress;
            if computed >= prompt_tokens && tokens == 1 {
                work.add_decodes(1, u64::from(computed));
            } else {
                work.add_prefill(computed, tokens);
            }
            let row = member.offloaded.request as usize;
            let of_prompt = (computed + tokens).min(prompt_tokens) - computed.min(prompt_tokens);
            log.computed_tokens[row] += u64::from(of_prompt);
            log.scheduled_tokens[row] += u64::from(tokens);
            self.log.totals.scheduled_tokens += u64::from(tokens);
        }
        work
    }

    fn record_step(&mut self, duration: u64, flush: &BTreeSet<u64>, chunks: (u32, u32)) {
        let usage = self.manager.usage();
        self.log.totals.use_slots(usage.used(), 1, duration);
        if self.recording.steps {
            self.log.steps.push(StepRow {
                clock_ns: self.clock.now(),
                requests: to_u32(self.scheduled.len()),
                tokens: self.scheduled.iter().map(|&(_, t)| u64::from(t)).sum(),
                running: to_u32(self.running.len()),
                waiting: to_u32(self.waiting.len()),
                free: usage.free,
            });
            let steps = &mut self.connector.log.steps;
            steps.holding.push(to_u32(self.holding.len()));
            steps.loaded.push(chunks.0);
            steps.stored.push(chunks.1);
            steps.flushed.push(to_u32(flush.len()));
        }
    }

    /// The sampling part of a step, which has ended.
    fn sample(&mut self, log: &mut RequestLog) {
        let end_ns = self.clock.now();
        for i in 0..self.scheduled.len() {
            let (place, tokens) = self.scheduled[i];
            let member = &mut self.members[place as usize];
            member.progress.computed += tokens;
            if member.progress.computed < member.progress.num_tokens {
                continue;
            }
            self.in_flight.remove(&place);
            member.progress.num_tokens += 1;
            let row = member.offloaded.request as usize;
            if log.first_token_step[row] == 0 {
                log.first_token_step[row] = self.step;
                log.first_token_ns[row] = end_ns;
            }
            if member.progress.num_tokens >= member.end {
                log.finish_step[row] = self.step;
                log.finish_ns[row] = end_ns;
                log.num_blocks[row] = to_u32(member.lease.table.len());
                self.end_request(place);
            }
        }
        let members = &self.members;
        self.running
            .retain(|&place| !members[place as usize].finished);
    }

    fn end_request(&mut self, place: u32) {
        let member = &mut self.members[place as usize];
        member.finished = true;
        member.slots.clone_from(&member.lease.table);
        self.log.finish_order.push(member.offloaded.request);
        if self.recording.tables {
            self.log.tables.extend_from_slice(&member.slots);
        }
        self.connector.watch(&member.offloaded);
        self.manager.release(&mut member.lease);
        self.finished.push(place);
        self.num_finished += 1;
    }

    /// Called after scheduling.
    ///
    /// # Errors
    /// [`Error::Range`] if the step does nothing, and no later one will do more.
    fn check_stuck(&mut self) -> Result<()> {
        let moves = !self.scheduled.is_empty()
            || !self.preempted.is_empty()
            || !self.finished.is_empty()
            || self.connector.is_busy();
        if moves {
            self.idle_steps = 0;
            return Ok(());
        }
        self.idle_steps += 1;
        let queues = self.holding.iter().chain(&self.waiting);
        match queues.chain(&self.running).next() {
            Some(&place) if self.idle_steps > STUCK => {
                let request = self.members[place as usize].offloaded.request;
                Err(self.never_fits(request, "no request gets any further"))
            }
            _ => Ok(()),
        }
    }

    fn never_fits(&self, request: u32, why: &str) -> Error {
        Error::range(format!(
            "request {request}: a prompt of {} tokens does not fit {} blocks of {} tokens and {} \
             tokens per step: {why}; give more",
            self.workload.requests().prompt_len(request),
            self.manager.usage().usable,
            self.manager.block_size(),
            self.config.max_num_batched_tokens,
        ))
    }

    fn drain_events(&mut self) {
        if self.recording.events {
            for event in self.manager.take_events() {
                self.log.events.push(self.step, &event);
            }
        }
    }

    /// Checks every invariant, between two steps.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.connector.validate()?;
        let mut places: Vec<u32> = self.running.clone();
        places.extend(self.holding.iter().chain(&self.waiting));
        let members = places.iter().map(|&place| &self.members[place as usize]);
        let holding = members.clone().filter(|m| !m.lease.table.is_empty());
        self.manager
            .validate(holding.map(|member| (&member.lease, &member.progress)))?;
        if members.clone().any(|member| member.finished) {
            return Err(Error::bug("a finished request is in a queue"));
        }
        places.sort_unstable();
        places.dedup();
        let queued = self.running.len() + self.holding.len() + self.waiting.len();
        if places.len() != queued {
            return Err(Error::bug("a request is in two queues"));
        }
        Ok(())
    }
}

impl Instance for OffloadServer<'_> {
    fn enqueue(&mut self, request: u32, now: u64) {
        if self.is_idle() {
            self.clock.wait_until(now);
        }
        let requests = self.workload.requests();
        let prompt = requests.prompt_len(request);
        let place = self.spare.pop().unwrap_or_else(|| {
            self.members.push(Member::default());
            to_u32(self.members.len() - 1)
        });
        let most = self.manager.max_model_len();
        self.members[place as usize] = Member {
            offloaded: Offloaded::new(request),
            progress: Progress::new(prompt),
            end: (prompt + requests.output_len(request)).min(most),
            ..Member::default()
        };
        self.waiting.push_back(place);
        self.idle_steps = 0;
    }

    fn next_event(&self) -> Option<u64> {
        (!self.is_idle()).then_some(self.clock.now())
    }

    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn advance(&mut self, _: u64, log: &mut RequestLog) -> Result<()> {
        self.one_step(log)?;
        if self.recording.validate {
            self.validate()?;
        }
        Ok(())
    }

    fn serve_alone(&mut self, _: u32, _: &mut RequestLog) -> Result<()> {
        Err(Error::range(
            "offloading needs steps and time: sequential arrivals have none",
        ))
    }

    fn load(&self) -> Load {
        Load {
            running: to_u32(self.running.len()),
            waiting: to_u32(self.waiting.len() + self.holding.len()),
            finished: self.num_finished,
        }
    }
}
