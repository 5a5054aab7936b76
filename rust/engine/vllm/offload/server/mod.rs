//! One vLLM server that offloads, on a clock.

mod scheduling;
mod step_end;

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::connector::{Connector, OffloadConfig, Offloaded};
use super::copies::Kind;
use super::log::OffloadLog;
use crate::engine::vllm::{DenseIndex, Lease, Manager, Recording, SchedulerConfig, Slot, Workload};
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::{Clock, Instance, InstanceLog, KvCache, Latency, Load, Progress, RequestLog};

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
