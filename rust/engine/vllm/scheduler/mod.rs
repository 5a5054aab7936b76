//! Waiting and running requests, one step at a time.
//!
//! vLLM's scheduler (`vllm/v1/core/sched/{scheduler,async_scheduler}.py`, 0.11 to 0.33). What its
//! versions do differently are fields of [`SchedulerConfig`].
//!
//! A step is scheduled ([`Scheduler::schedule`]), and is a [`Batch`] in flight until its output is
//! there ([`Scheduler::sample`]): before the next step is scheduled, or with asynchronous scheduling
//! one step later.
//!
//! A request that decodes changes nothing in most steps: it computes one token in a slot it has. Such
//! requests are not visited, and have no part in a batch: the [`DecodeCalendar`] knows the next step in
//! which each of them takes a slot, completes a block, or finishes, and their counters are brought up
//! to date then ([`Scheduler::sync`]). Nor is a waiting request looked up again while the
//! [`RefusalMemo`] knows the answer. With speculative decoding every request is visited in every step.

mod admission;
mod batch;
mod calendar;
mod config;
mod decoding;
mod outputs;
mod preemption;
mod queue;
mod refusal;
mod running;

use std::collections::VecDeque;

use batch::{Batch, Part, PartKind};
use calendar::DecodeCalendar;
pub use config::{Drafts, SchedulerConfig};
use preemption::Stuck;
use queue::{Queue, Waiting};
use refusal::{Lookup, RefusalMemo, Situation};

use super::Workload;
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::{InstanceLog, KvCache, Progress, RequestLog, StepState, StepWork};

/// A running request.
#[derive(Debug, Default)]
struct Active<L> {
    request: u32,
    /// Step at whose beginning `progress` is right; from then on, one token a step.
    synced: u64,
    /// Tokens at which the request is finished; 0 once it is.
    end: u32,
    progress: Progress,
    /// Guessed tokens that its next step verifies.
    drafts: u32,
    /// Tokens that steps in flight sample, guesses included.
    placeholders: u32,
    /// Whether the step that scheduled it last left a part of its known tokens.
    prefilling: bool,
    /// Whether it is passed over until it is due, its tokens being counted by [`Scheduler::sync`].
    quiet: bool,
    lease: L,
}

/// The scheduler and the KV cache of one server.
#[derive(Debug)]
pub struct Scheduler<'w, C: KvCache> {
    workload: &'w Workload,
    config: SchedulerConfig,
    cache: C,
    waiting: Queue,
    calendar: DecodeCalendar,
    /// Running requests, at the places the calendar knows them by.
    active: Vec<Active<C::Lease>>,
    /// Places nobody uses.
    spare: Vec<u32>,
    /// What this step schedules of the requests it looks at.
    scheduled: Vec<Part>,
    /// Steps whose output is not there, oldest first.
    flights: VecDeque<Batch>,
    /// An empty list for the next step.
    spare_parts: Vec<Part>,
    /// The running requests that this step schedules.
    runs: Runs,
    /// Waiting requests that this step passed over, in order.
    passed_over: Vec<Waiting>,
    refusal: RefusalMemo,
    /// Whether every step looks at every running request.
    never_quiet: bool,
    /// Running requests whose prompt is not computed.
    prefilling: u32,
    /// Tokens computed for the running requests, at the beginning of the next step.
    context: u64,
    stuck: Stuck,
    finished: u64,
    record_tables: bool,
    record_limits: bool,
    log: InstanceLog,
}

/// What a step schedules of running requests, before it looks at waiting ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Runs {
    /// Whether it schedules any.
    any: bool,
    /// Whether one of them is still in its prefill.
    prefilling: bool,
}

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Scheduled {
    pub requests: u32,
    pub tokens: u64,
    pub work: StepWork,
}

impl<'w, C: KvCache<Key = u32>> Scheduler<'w, C> {
    /// An idle scheduler.
    ///
    /// # Errors
    /// [`Error::Range`] if a limit is zero.
    pub fn new(workload: &'w Workload, config: SchedulerConfig, cache: C) -> Result<Self> {
        config.validate(workload.requests().len())?;
        Ok(Self {
            workload,
            never_quiet: config.drafts.is_some(),
            config,
            cache,
            waiting: Queue::default(),
            calendar: DecodeCalendar::default(),
            active: Vec::new(),
            spare: Vec::new(),
            scheduled: Vec::new(),
            flights: VecDeque::new(),
            spare_parts: Vec::new(),
            runs: Runs::default(),
            passed_over: Vec::new(),
            refusal: RefusalMemo::default(),
            prefilling: 0,
            context: 0,
            stuck: Stuck::default(),
            finished: 0,
            record_tables: false,
            record_limits: false,
            log: InstanceLog::default(),
        })
    }

    /// Keeps the block tables of finished requests.
    pub fn record_tables(&mut self) {
        self.record_tables = true;
    }

    /// Keeps what limits the hit of each request.
    pub fn record_limits(&mut self) {
        self.record_limits = true;
    }

    /// Number of running requests.
    #[must_use]
    pub fn num_running(&self) -> usize {
        self.calendar.len()
    }

    /// Number of waiting requests.
    #[must_use]
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Number of requests finished so far.
    #[must_use]
    pub fn num_finished(&self) -> u64 {
        self.finished
    }

    /// Whether a step is scheduled before the output of the one before is there.
    pub(super) fn is_async(&self) -> bool {
        self.config.async_scheduling
    }

    /// The whole state after the scheduling of a step that began at `clock_ns`.
    pub(super) fn state(&self, clock_ns: u64) -> StepState {
        let groups = self.cache.num_groups();
        let places = self.calendar.places().iter();
        let active: Vec<_> = places.map(|&place| &self.active[place as usize]).collect();
        let table = |lease, group| self.cache.table(lease, group).to_vec();
        let tables = |lease| (0..groups).map(|group| table(lease, group)).collect();
        StepState {
            clock_ns,
            scheduled: self.last_batch(),
            running: active.iter().map(|active| active.request).collect(),
            waiting: self.waiting.iter().map(|waiting| waiting.request).collect(),
            tables: active.iter().map(|active| tables(&active.lease)).collect(),
            cache: self.cache.snapshot(),
        }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &C {
        &self.cache
    }

    pub(super) fn cache_mut(&mut self) -> &mut C {
        &mut self.cache
    }

    pub(super) fn log_mut(&mut self) -> &mut InstanceLog {
        &mut self.log
    }

    /// Ends the scheduler: its log, and its cache.
    pub(super) fn into_parts(self) -> (InstanceLog, C) {
        (self.log, self.cache)
    }

    /// Looks at every request in every step, so that all of them have parts in the batches.
    pub(super) fn look_always(&mut self) {
        self.never_quiet = true;
    }

    /// Lets a request wait: behind all others, or those of its priority.
    pub fn enqueue(&mut self, request: u32) {
        self.stuck.forget();
        self.wait(Waiting { request, known: 0 });
    }

    /// The scheduling part of a step that begins at `clock_ns`.
    pub(super) fn schedule(
        &mut self,
        step: u64,
        clock_ns: u64,
        log: &mut RequestLog,
    ) -> Result<Scheduled> {
        let threshold = self.threshold();
        let budget = self.config.max_num_batched_tokens;
        if self.prefilling > 0 || self.calendar.len() as u64 > budget {
            for i in 0..self.calendar.len() {
                self.sync(self.calendar.places()[i], step, log);
            }
            self.calendar.all_due(step);
        }
        if self.config.drafts.is_some() {
            // What a request may have also depends on the requests that run.
            self.refusal.forget();
        }
        self.cache.begin_step();
        let mut done = Scheduled::default();
        let preempted = self.schedule_running(step, threshold, &mut done, log)?;
        if !preempted {
            self.schedule_waiting(step, clock_ns, threshold, &mut done, log);
        }
        self.cache.end_step();
        if done.tokens == 0 && !preempted {
            self.check_stuck()?;
        }
        self.launch(step, &mut done, log);
        Ok(done)
    }

    /// Most tokens of one request in this step; 0 for no limit.
    fn threshold(&self) -> u64 {
        let requests = self.calendar.len() as u64 + self.waiting.len() as u64;
        let threshold = self.config.long_prefill_token_threshold;
        let lone = requests <= 1 && !self.config.lone_threshold;
        if lone || threshold == 0 {
            return 0;
        }
        if self.config.long_prefill_token_threshold_adaptive {
            return threshold.max(self.config.max_num_batched_tokens / requests.max(1));
        }
        threshold
    }

    /// Checks every invariant; `step` is the next step.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    pub fn validate(&self, step: u64) -> Result<()> {
        self.calendar.validate(step)?;
        self.refusal
            .validate(self.cache.version(), self.waiting.len())?;
        self.validate_flights()?;
        let mut leases = Vec::new();
        let mut context = 0;
        for &place in self.calendar.places() {
            let active = &self.active[place as usize];
            let steps = to_u32(step - active.synced);
            let progress = Progress {
                computed: active.progress.computed + steps,
                num_tokens: active.progress.num_tokens + steps,
                ..active.progress
            };
            context += u64::from(progress.computed);
            if progress.num_tokens >= active.end {
                return Err(Error::bug(format!(
                    "request {} is finished but runs",
                    active.request
                )));
            }
            leases.push((&active.lease, progress));
        }
        if context != self.context {
            return Err(Error::bug(format!(
                "context is {}, not {context}",
                self.context
            )));
        }
        self.cache
            .validate(leases.iter().map(|(lease, progress)| (*lease, progress)))
    }
}
