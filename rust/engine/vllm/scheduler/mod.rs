//! Waiting and running requests, one step at a time.
//!
//! vLLM's scheduler (`vllm/v1/core/sched/scheduler.py`, 0.11 to 0.33): first come first served,
//! synchronous, without speculative decoding. What its versions do differently are fields of
//! [`SchedulerConfig`]. A request that decodes changes nothing in most steps: it computes
//! one token in a slot it has. Such requests are not visited: the [`DecodeCalendar`] knows the next
//! step in which each of them takes a slot, completes a block, or finishes, and their counters are
//! brought up to date then ([`Scheduler::sync`]). Nor is a waiting request looked up again while the
//! [`RefusalMemo`] knows the answer.

mod admission;
mod calendar;
mod config;
mod decoding;
mod refusal;
mod running;

use std::collections::VecDeque;

use calendar::DecodeCalendar;
pub use config::SchedulerConfig;
use refusal::{Lookup, RefusalMemo, Situation};

use super::Workload;
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::{InstanceLog, KvCache, Progress, RequestLog, StepWork};

/// A request in the queue.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    request: u32,
    /// Tokens it knew when it was preempted, 0 if it was not.
    known: u32,
}

/// A running request.
#[derive(Debug, Default)]
struct Active<L> {
    request: u32,
    /// Step at whose beginning `progress` is right; from then on, one token a step.
    synced: u64,
    /// Tokens at which the request is finished; 0 once it is.
    end: u32,
    progress: Progress,
    lease: L,
}

/// What a step schedules of one request.
#[derive(Debug, Clone, Copy)]
struct Part {
    place: u32,
    tokens: u32,
    kind: PartKind,
}

/// Whose tokens a step schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartKind {
    /// Those of a request that ran before the step.
    Running,
    /// Those of a request that the step admitted.
    Admitted,
}

/// A request that was preempted while nothing else ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct LonePreemption {
    request: u32,
    num_tokens: u32,
    /// How often that happened to it, one after the other.
    times: u32,
}

/// The scheduler and the KV cache of one server.
#[derive(Debug)]
pub struct Scheduler<'w, C: KvCache> {
    workload: &'w Workload,
    config: SchedulerConfig,
    cache: C,
    waiting: VecDeque<Waiting>,
    calendar: DecodeCalendar,
    /// Running requests, at the places the calendar knows them by.
    active: Vec<Active<C::Lease>>,
    /// Places nobody uses.
    spare: Vec<u32>,
    /// What this step schedules of the requests it looks at.
    scheduled: Vec<Part>,
    /// Waiting requests that this step passed over, in order.
    passed_over: Vec<Waiting>,
    refusal: RefusalMemo,
    /// Whether this step looks at every running request.
    look_at_all: bool,
    /// Running requests whose prompt is not computed.
    prefilling: u32,
    /// Tokens computed for the running requests, at the beginning of the next step. Valid while none
    /// is prefilling.
    context: u64,
    lone_preemption: LonePreemption,
    finished: u64,
    record_tables: bool,
    log: InstanceLog,
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
        if config.max_num_seqs == 0 {
            return Err(Error::range("max_num_seqs is 0, it must be positive"));
        }
        if config.max_num_batched_tokens == 0 {
            return Err(Error::range(
                "max_num_batched_tokens is 0, it must be positive",
            ));
        }
        Ok(Self {
            workload,
            config,
            cache,
            waiting: VecDeque::new(),
            calendar: DecodeCalendar::default(),
            active: Vec::new(),
            spare: Vec::new(),
            scheduled: Vec::new(),
            passed_over: Vec::new(),
            refusal: RefusalMemo::default(),
            look_at_all: false,
            prefilling: 0,
            context: 0,
            lone_preemption: LonePreemption::default(),
            finished: 0,
            record_tables: false,
            log: InstanceLog::default(),
        })
    }

    /// Keeps the block tables of finished requests.
    pub fn record_tables(&mut self) {
        self.record_tables = true;
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

    /// Lets a request wait behind all others.
    pub fn enqueue(&mut self, request: u32) {
        self.waiting.push_back(Waiting { request, known: 0 });
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
        self.look_at_all = self.prefilling > 0 || self.calendar.len() as u64 > budget;
        self.scheduled.clear();
        let mut done = Scheduled::default();
        if self.look_at_all {
            for i in 0..self.calendar.len() {
                self.sync(self.calendar.places()[i], step, log);
            }
            self.calendar.all_due(step);
        }
        let preempted = self.schedule_running(step, threshold, &mut done, log)?;
        if !preempted {
            self.schedule_waiting(step, clock_ns, threshold, &mut done, log);
        }
        if done.tokens == 0 && self.calendar.is_empty() && !preempted {
            let request = self.waiting[0].request;
            return Err(
                self.never_fits(request, "it cannot be admitted even when nothing else runs")
            );
        }
        self.log.totals.scheduled_tokens += done.tokens;
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

    /// Schedules `tokens` tokens of a request.
    fn add(
        &mut self,
        place: u32,
        tokens: u32,
        kind: PartKind,
        done: &mut Scheduled,
        log: &mut RequestLog,
    ) {
        let active = &self.active[place as usize];
        let Progress {
            computed,
            prompt_tokens,
            ..
        } = active.progress;
        if computed >= prompt_tokens && tokens == 1 {
            done.work.add_decodes(1, u64::from(computed));
        } else {
            done.work.add_prefill(computed, tokens);
        }
        let row = active.request as usize;
        let of_prompt = (computed + tokens).min(prompt_tokens) - computed.min(prompt_tokens);
        log.computed_tokens[row] += u64::from(of_prompt);
        log.scheduled_tokens[row] += u64::from(tokens);
        done.requests += 1;
        done.tokens += u64::from(tokens);
        self.scheduled.push(Part {
            place,
            tokens,
            kind,
        });
    }

    /// Checks every invariant; `step` is the next step.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    pub fn validate(&self, step: u64) -> Result<()> {
        self.calendar.validate(step)?;
        self.refusal
            .validate(self.cache.version(), self.waiting.len())?;
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
        if self.prefilling == 0 && context != self.context {
            return Err(Error::bug(format!(
                "context is {}, not {context}",
                self.context
            )));
        }
        self.cache
            .validate(leases.iter().map(|(lease, progress)| (*lease, progress)))
    }
}
