//! Waiting and running requests, one step at a time.
//!
//! vLLM 0.33's scheduler (`vllm/v1/core/sched/scheduler.py`): first come first served, synchronous,
//! without speculative decoding. A request that decodes changes nothing in most steps: it computes
//! one token in a slot it has. Such requests are not visited: `due` knows the next step in which each
//! of them takes a slot, completes a block, or finishes, and their counters are brought up to date
//! then ([`Scheduler::sync`]).

mod admission;
mod decoding;

use std::collections::VecDeque;

use super::latency::StepWork;
use super::record::{RequestLog, Totals};
use super::{DenseIndex, Manager, Sequence, Workload};
use crate::error::{Error, Result};

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
    /// Raises the threshold to an equal share of the step's tokens.
    pub long_prefill_token_threshold_adaptive: bool,
    /// Admits a request only if all its known tokens fit, not only the next chunk.
    pub reserve_full_isl: bool,
    /// Counts every lookup, those of requests that are not admitted included, as versions before
    /// this check did.
    pub stats_at_lookup: bool,
}

/// A running request.
#[derive(Debug, Default)]
struct Active {
    request: u32,
    /// Step at whose beginning the counters of `sequence` are right; from then on, one token a step.
    synced: u64,
    /// Tokens at which the request is finished.
    end: u32,
    sequence: Sequence,
}

/// Why the request at the head of the queue was not admitted, to know when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    /// Version of the pool before which the answer is the same.
    until: u64,
    /// Whether the answer depends on what other requests leave of the step's tokens.
    whatever_chunk: bool,
    running: usize,
    waiting: usize,
    /// Tokens that were left of the step's.
    budget: u64,
    /// Tokens looked up and found.
    queries: u64,
    hits: u64,
    preempted: bool,
}

/// The scheduler and the KV-cache manager of one engine.
#[derive(Debug)]
pub struct Scheduler<'w> {
    workload: &'w Workload,
    config: SchedulerConfig,
    pub(super) manager: Manager<DenseIndex>,
    pub(super) waiting: VecDeque<u32>,
    /// Places in `active`, in order of admission.
    running: Vec<u32>,
    /// For each running request, the next step that has to look at it.
    due: Vec<u64>,
    active: Vec<Active>,
    spare: Vec<u32>,
    /// Tokens of each request that was preempted, 0 for others.
    known: Vec<u32>,
    /// Requests this step looked at: place, tokens scheduled, and whether it was admitted just now.
    scheduled: Vec<(u32, u32, bool)>,
    refusal: Option<Refusal>,
    /// Whether this step looks at every running request.
    look_at_all: bool,
    /// Running requests whose prompt is not computed.
    prefilling: u32,
    /// Tokens computed for the running requests, at the beginning of the next step. Valid while none
    /// is prefilling.
    context: u64,
    /// The earliest step in `due`.
    next_due: u64,
    lone_preemption: (u32, u32, u32),
    pub(super) finished: u64,
    pub(super) record_tables: bool,
    pub(super) requests: RequestLog,
    pub(super) totals: Totals,
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

impl<'w> Scheduler<'w> {
    /// An idle scheduler.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Range`] if a limit is zero.
    pub fn new(
        workload: &'w Workload,
        config: SchedulerConfig,
        manager: Manager<DenseIndex>,
    ) -> Result<Self> {
        if config.max_num_seqs == 0 {
            return Err(Error::invalid("max_num_seqs is 0, it must be positive"));
        }
        if config.max_num_batched_tokens == 0 {
            return Err(Error::invalid(
                "max_num_batched_tokens is 0, it must be positive",
            ));
        }
        Ok(Self {
            workload,
            config,
            manager,
            waiting: VecDeque::new(),
            running: Vec::new(),
            due: Vec::new(),
            active: Vec::new(),
            spare: Vec::new(),
            known: vec![0; workload.len()],
            scheduled: Vec::new(),
            refusal: None,
            look_at_all: false,
            prefilling: 0,
            context: 0,
            next_due: u64::MAX,
            lone_preemption: (u32::MAX, 0, 0),
            finished: 0,
            record_tables: false,
            requests: RequestLog::new(workload.len()),
            totals: Totals::default(),
        })
    }

    /// Number of running requests.
    #[must_use]
    pub fn num_running(&self) -> usize {
        self.running.len()
    }

    /// Number of waiting requests.
    #[must_use]
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn used(&self) -> u32 {
        self.manager.pool().num_slots() - 1 - self.manager.pool().num_free()
    }

    /// The scheduling part of a step that begins at `clock_ns`.
    pub(super) fn schedule(&mut self, step: u64, clock_ns: u64) -> Result<Scheduled> {
        let threshold = self.threshold();
        let budget = self.config.max_num_batched_tokens;
        self.look_at_all = self.prefilling > 0 || self.running.len() as u64 > budget;
        self.scheduled.clear();
        let mut done = Scheduled::default();
        if self.look_at_all {
            for i in 0..self.running.len() {
                self.sync(self.running[i], step);
                self.due[i] = step;
            }
        }
        let preempted = self.schedule_running(step, budget, threshold, &mut done)?;
        let left = budget - done.tokens;
        if !preempted {
            self.schedule_waiting(step, clock_ns, left, threshold, &mut done);
        }
        if done.tokens == 0 && self.running.is_empty() && !preempted {
            let request = self.waiting[0];
            return Err(
                self.never_fits(request, "it cannot be admitted even when nothing else runs")
            );
        }
        self.totals.scheduled_tokens += done.tokens;
        Ok(done)
    }

    /// Most tokens of one request in this step; 0 for no limit.
    fn threshold(&self) -> u64 {
        let requests = self.running.len() as u64 + self.waiting.len() as u64;
        let threshold = self.config.long_prefill_token_threshold;
        if requests <= 1 || threshold == 0 {
            return 0;
        }
        if self.config.long_prefill_token_threshold_adaptive {
            return threshold.max(self.config.max_num_batched_tokens / requests);
        }
        threshold
    }

    fn schedule_running(
        &mut self,
        step: u64,
        budget: u64,
        threshold: u64,
        done: &mut Scheduled,
    ) -> Result<bool> {
        let mut preempted = false;
        // Decodes that are not looked at, and what is computed for them.
        let (mut passed, mut looked_at) = (0, 0);
        let mut i = 0;
        while i < self.running.len() && done.tokens < budget {
            if self.due[i] > step {
                passed += 1;
                done.tokens += 1;
                i += 1;
                continue;
            }
            let place = self.running[i];
            self.sync(place, step);
            let Sequence {
                computed,
                num_tokens,
                ..
            } = self.active[place as usize].sequence;
            let tokens = self.chunk(computed, num_tokens, threshold, budget - done.tokens);
            if tokens == 0 {
                i += 1;
                continue;
            }
            loop {
                if self.grow(place, tokens) {
                    break;
                }
                preempted = true;
                let alone = self.running.len() == 1;
                if self.preempt_last(step, place, alone)? == place {
                    break;
                }
            }
            if self.running.get(i) != Some(&place) {
                break;
            }
            looked_at += u64::from(computed);
            self.add(place, tokens, false, done);
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
    fn chunk(&self, computed: u32, num_tokens: u32, threshold: u64, budget: u64) -> u32 {
        let mut tokens = u64::from(num_tokens - computed);
        if threshold > 0 && threshold < tokens {
            tokens = threshold;
        }
        let limit = u64::from(self.manager.config().max_model_len - computed - 1);
        tokens.min(budget).min(limit) as u32
    }

    fn grow(&mut self, place: u32, tokens: u32) -> bool {
        let active = &mut self.active[place as usize];
        let keys = self.workload.keys(active.request);
        self.manager
            .grow(&mut active.sequence, keys, tokens)
            .is_some()
    }

    /// Schedules `tokens` tokens of a request.
    fn add(&mut self, place: u32, tokens: u32, admitted: bool, done: &mut Scheduled) {
        let active = &self.active[place as usize];
        let Sequence {
            computed,
            prompt_tokens,
            ..
        } = active.sequence;
        if computed >= prompt_tokens && tokens == 1 {
            done.work.add_decodes(1, u64::from(computed));
        } else {
            done.work.add_prefill(computed, tokens);
        }
        let request = active.request as usize;
        let of_prompt = (computed + tokens).min(prompt_tokens) - computed.min(prompt_tokens);
        self.requests.computed_tokens[request] += u64::from(of_prompt);
        self.requests.scheduled_tokens[request] += u64::from(tokens);
        done.requests += 1;
        done.tokens += u64::from(tokens);
        self.scheduled.push((place, tokens, admitted));
    }

    /// Takes the slots of the request admitted last and puts it at the head of the queue. Returns it.
    fn preempt_last(&mut self, step: u64, wanting: u32, alone: bool) -> Result<u32> {
        let Some(place) = self.running.pop() else {
            unreachable!("the request that needs slots is running");
        };
        self.due.pop();
        self.sync(place, step);
        let active = &mut self.active[place as usize];
        let request = active.request;
        let (computed, num_tokens) = (active.sequence.computed, active.sequence.num_tokens);
        self.manager.release(&mut active.sequence);
        self.known[request as usize] = num_tokens;
        self.requests.preemptions[request as usize] += 1;
        self.totals.preemptions += 1;
        // `context` counts decodes only; while requests are prefilling it is computed anew.
        self.context = self.context.saturating_sub(u64::from(computed));
        self.waiting.push_front(request);
        self.refusal = None;
        self.spare.push(place);
        if alone && place == wanting {
            let (last, tokens, times) = self.lone_preemption;
            let again = last == request && tokens == num_tokens;
            self.lone_preemption = (request, num_tokens, if again { times + 1 } else { 1 });
            if self.lone_preemption.2 == STUCK {
                let why = "it preempts itself over and over, with nothing else running";
                return Err(self.never_fits(request, why));
            }
        }
        Ok(place)
    }

    /// Checks every invariant; `step` is the next step.
    ///
    /// # Errors
    /// [`crate::Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self, step: u64) -> Result<()> {
        let mut sequences = Vec::new();
        let mut context = 0;
        for &place in &self.running {
            let active = &self.active[place as usize];
            let steps = (step - active.synced) as u32;
            let mut sequence = active.sequence.clone();
            sequence.computed += steps;
            sequence.num_tokens += steps;
            context += u64::from(sequence.computed);
            if sequence.num_tokens >= active.end {
                return Err(Error::bug(format!(
                    "request {} is finished but runs",
                    active.request
                )));
            }
            sequences.push(sequence);
        }
        if self.prefilling == 0 && context != self.context {
            return Err(Error::bug(format!(
                "context is {}, not {context}",
                self.context
            )));
        }
        self.manager.validate(&sequences)
    }
}
