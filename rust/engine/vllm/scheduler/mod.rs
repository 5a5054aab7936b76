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
mod decoding;
mod refusal;

use std::collections::VecDeque;

use calendar::DecodeCalendar;
use refusal::{Lookup, RefusalMemo, Situation};

use super::Workload;
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::{InstanceLog, KvCache, Progress, RequestLog, StepWork};

/// How the scheduler behaves; names are vLLM's.
#[allow(clippy::struct_excessive_bools)] // They are the server's switches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Requests running at once.
    pub max_num_seqs: u32,
    /// Tokens per step.
    pub max_num_batched_tokens: u64,
    /// Whether a prompt may be computed in several steps.
    pub enable_chunked_prefill: bool,
    /// Tokens of one request per step, if there are others; 0 for no limit.
    pub long_prefill_token_threshold: u64,
    /// Applies the threshold to a request that is alone too, as 0.30 and older do.
    pub lone_threshold: bool,
    /// Raises the threshold to an equal share of the step's tokens.
    pub long_prefill_token_threshold_adaptive: bool,
    /// Admits a request only if all its known tokens fit, not only the next chunk.
    pub reserve_full_isl: bool,
    /// Without chunked prefill, passes over a waiting request that exceeds what is left of the step's
    /// tokens and looks at the next one, as 0.11 does; otherwise such a request ends the admissions.
    /// Those passed over return to the head of the queue in reversed order.
    pub pass_over: bool,
    /// Counts every lookup, those of requests that are not admitted included, as 0.26 and older do.
    pub stats_at_lookup: bool,
    /// Counts lookups of preempted requests apart from the others, as 0.11.1 and newer do.
    pub stats_preempted_apart: bool,
}

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

/// A request that preempts itself this often without getting anywhere is stuck.
const STUCK: u32 = 3;

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

    /// Schedules running requests; returns whether one was preempted.
    fn schedule_running(
        &mut self,
        step: u64,
        threshold: u64,
        done: &mut Scheduled,
        log: &mut RequestLog,
    ) -> Result<bool> {
        let budget = self.config.max_num_batched_tokens;
        let mut preempted = false;
        // Decodes that are not looked at, and what is computed for those that are.
        let (mut passed, mut looked_at) = (0, 0);
        let mut i = 0;
        while i < self.calendar.len() && done.tokens < budget {
            if !self.calendar.is_due(i, step) {
                passed += 1;
                done.tokens += 1;
                i += 1;
                continue;
            }
            let place = self.calendar.places()[i];
            self.sync(place, step, log);
            let progress = self.active[place as usize].progress;
            let tokens = self.chunk(&progress, threshold, budget - done.tokens);
            if tokens == 0 {
                i += 1;
                continue;
            }
            while !self.extend(place, tokens) {
                preempted = true;
                if self.preempt_last(step, place, log)? == place {
                    break;
                }
            }
            if self.calendar.places().get(i) != Some(&place) {
                break;
            }
            looked_at += u64::from(progress.computed);
            self.add(place, tokens, PartKind::Running, done, log);
            i += 1;
        }
        if passed > 0 {
            // Only without prefills, when `context` is that of all running requests.
            done.requests += passed;
            done.work
                .add_decodes(u64::from(passed), self.context - looked_at);
        }
        Ok(preempted)
    }

    /// Tokens to schedule for a running request.
    fn chunk(&self, progress: &Progress, threshold: u64, budget: u64) -> u32 {
        let mut tokens = u64::from(progress.num_tokens - progress.computed);
        if threshold > 0 && threshold < tokens {
            tokens = threshold;
        }
        let limit = self.cache.max_model_len() - progress.computed - 1;
        to_u32(tokens.min(budget).min(u64::from(limit)))
    }

    /// Takes room for further tokens of a running request; `false` if there is none.
    fn extend(&mut self, place: u32, tokens: u32) -> bool {
        let active = &mut self.active[place as usize];
        let keys = self.workload.keys(active.request);
        self.cache
            .extend(&mut active.lease, keys, &active.progress, tokens)
            .is_ok()
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

    /// Takes the blocks of the request admitted last, because `wanting` needs some, and puts it at the
    /// head of the queue. Returns its place.
    fn preempt_last(&mut self, step: u64, wanting: u32, log: &mut RequestLog) -> Result<u32> {
        let alone = self.calendar.len() == 1;
        let Some(place) = self.calendar.pop() else {
            unreachable!("the request that needs slots is running");
        };
        self.sync(place, step, log);
        let active = &mut self.active[place as usize];
        let request = active.request;
        let Progress {
            computed,
            num_tokens,
            ..
        } = active.progress;
        self.cache.release(&mut active.lease);
        log.preemptions[request as usize] += 1;
        self.log.totals.preemptions += 1;
        // `context` counts decodes only; while requests are prefilling it is computed anew.
        self.context = self.context.saturating_sub(u64::from(computed));
        self.waiting.push_front(Waiting {
            request,
            known: num_tokens,
        });
        self.refusal.forget();
        self.spare.push(place);
        if alone && place == wanting {
            let last = self.lone_preemption;
            let again = last.request == request && last.num_tokens == num_tokens;
            self.lone_preemption = LonePreemption {
                request,
                num_tokens,
                times: if again { last.times + 1 } else { 1 },
            };
            if self.lone_preemption.times == STUCK {
                let why = "it preempts itself over and over, with nothing else running";
                return Err(self.never_fits(request, why));
            }
        }
        Ok(place)
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
