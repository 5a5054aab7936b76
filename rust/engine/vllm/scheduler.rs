//! Waiting and running requests, one step at a time.
//!
//! vLLM 0.33's scheduler (`vllm/v1/core/sched/scheduler.py`): first come first served, synchronous,
//! without speculative decoding. A request that decodes changes nothing in most steps: it computes
//! one token in a slot it has. Such requests are not visited: `due` knows the next step in which each
//! of them takes a slot, completes a block, or finishes, and their counters are brought up to date
//! then ([`Scheduler::sync`]).

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
    /// [`Error::Invalid`] if a limit is zero.
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

    /// How many steps, from `step` on, change nothing but the counters of decoding requests, and
    /// their work without its context.
    pub(super) fn quiet_steps(&self, step: u64) -> u64 {
        let budget = self.config.max_num_batched_tokens;
        let decoding = self.prefilling == 0 && self.running.len() as u64 <= budget;
        if self.running.is_empty()
            || !decoding
            || self.may_admit(budget - self.running.len() as u64)
        {
            return 0;
        }
        self.next_due.saturating_sub(step)
    }

    /// Lets `steps` quiet steps pass. The work of each is that of [`Scheduler::quiet_work`] before it.
    pub(super) fn pass(&mut self, steps: u64) {
        let tokens = steps * self.running.len() as u64;
        self.context += tokens;
        self.totals.scheduled_tokens += tokens;
        if self.config.stats_at_lookup
            && let Some(refusal) = self.refusal.filter(|_| !self.waiting.is_empty())
            && self.room_for_more(self.config.max_num_batched_tokens - self.running.len() as u64)
        {
            self.count(refusal.queries, refusal.hits, refusal.preempted, steps);
        }
    }

    pub(super) fn quiet_work(&self) -> Scheduled {
        let mut work = StepWork::default();
        work.add_decodes(self.running.len() as u64, self.context);
        Scheduled {
            requests: self.running.len() as u32,
            tokens: self.running.len() as u64,
            work,
        }
    }

    fn room_for_more(&self, budget: u64) -> bool {
        budget > 0 && self.running.len() < self.config.max_num_seqs as usize
    }

    /// Whether asking for the admission of the first waiting request could succeed.
    fn may_admit(&self, budget: u64) -> bool {
        if self.waiting.is_empty() || !self.room_for_more(budget) {
            return false;
        }
        let Some(refusal) = self.refusal else {
            return true;
        };
        let same = if refusal.whatever_chunk {
            (refusal.running == 0) == self.running.is_empty()
        } else {
            refusal.budget == budget
                && refusal.running == self.running.len()
                && refusal.waiting == self.waiting.len()
        };
        !same || self.manager.pool().version() >= refusal.until
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

    /// Brings the counters of a decoding request to the beginning of `step`.
    fn sync(&mut self, place: u32, step: u64) {
        let active = &mut self.active[place as usize];
        let steps = (step - active.synced) as u32;
        active.sequence.computed += steps;
        active.sequence.num_tokens += steps;
        active.synced = step;
        self.requests.scheduled_tokens[active.request as usize] += u64::from(steps);
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

    fn schedule_waiting(
        &mut self,
        step: u64,
        clock_ns: u64,
        mut budget: u64,
        threshold: u64,
        done: &mut Scheduled,
    ) {
        if !self.may_admit(budget) && !self.waiting.is_empty() && self.room_for_more(budget) {
            if self.config.stats_at_lookup
                && let Some(refusal) = self.refusal
            {
                self.count(refusal.queries, refusal.hits, refusal.preempted, 1);
            }
            return;
        }
        while self.room_for_more(budget)
            && let Some(&request) = self.waiting.front()
        {
            let Some((place, hit_tokens, tokens)) = self.admit(request, budget, threshold) else {
                break;
            };
            self.waiting.pop_front();
            self.active[place as usize].synced = step;
            self.running.push(place);
            self.due.push(step);
            let row = request as usize;
            if self.requests.preemptions[row] > 0 {
                self.requests.resumes.push((request, step, hit_tokens));
            } else {
                self.requests.hit_tokens[row] = hit_tokens;
                self.requests.admit_step[row] = step;
                self.requests.admit_ns[row] = clock_ns;
            }
            self.add(place, tokens, true, done);
            budget -= u64::from(tokens);
        }
    }

    /// Tries to admit a request: its place, hit tokens, and tokens to compute.
    fn admit(&mut self, request: u32, budget: u64, threshold: u64) -> Option<(u32, u32, u32)> {
        let keys = self.workload.keys(request);
        let known = self.known[request as usize];
        let prompt = self.workload.prompt_len(request);
        let num_tokens = known.max(prompt);
        let hits = self.manager.lookup(keys, num_tokens);
        let (queries, preempted) = (u64::from(num_tokens), known > 0);
        if self.config.stats_at_lookup {
            self.count(queries, u64::from(hits), preempted, 1);
        }
        let mut refusal = Refusal {
            until: self.manager.pool().version() + 1,
            whatever_chunk: false,
            running: self.running.len(),
            waiting: self.waiting.len(),
            budget,
            queries,
            hits: u64::from(hits),
            preempted,
        };
        let mut tokens = u64::from(num_tokens - hits);
        if threshold > 0 && threshold < tokens {
            tokens = threshold;
        }
        if !self.config.enable_chunked_prefill && tokens > budget {
            self.refusal = Some(refusal);
            return None;
        }
        let tokens = tokens.min(budget) as u32;
        let place = self.spare.pop().unwrap_or_else(|| {
            self.active.push(Active::default());
            self.active.len() as u32 - 1
        });
        let active = &mut self.active[place as usize];
        active.request = request;
        active.end =
            (prompt + self.workload.output_len(request)).min(self.manager.config().max_model_len);
        active.sequence.restart(prompt, u64::from(request));
        active.sequence.num_tokens = num_tokens;
        let must_fit = self.config.reserve_full_isl;
        let beside = !self.running.is_empty();
        let admitted = self
            .manager
            .admit(&mut active.sequence, keys, tokens, must_fit, beside);
        if let Err(no_room) = admitted {
            self.spare.push(place);
            // The statistics want to know what each lookup finds, even if it is refused anyway.
            if !self.config.stats_at_lookup {
                refusal.until = no_room.until;
                refusal.whatever_chunk = no_room.whatever_chunk;
            }
            self.refusal = Some(refusal);
            return None;
        }
        self.refusal = None;
        if !self.config.stats_at_lookup {
            self.count(queries, u64::from(hits), preempted, 1);
        }
        Some((place, hits, tokens))
    }

    /// Adds to vLLM's prefix-cache statistics.
    fn count(&mut self, queries: u64, hits: u64, preempted: bool, times: u64) {
        if !self.manager.config().enable_caching {
            return;
        }
        let totals = &mut self.totals;
        let stats = if preempted {
            &mut totals.stats_preempted
        } else {
            &mut totals.stats
        };
        stats[0] += times;
        stats[1] += times * queries;
        stats[2] += times * hits;
    }

    /// The sampling part of a step, which ends at `end_ns`.
    pub(super) fn sample(&mut self, step: u64, end_ns: u64) {
        let admitted = self
            .scheduled
            .iter()
            .filter(|(_, _, admitted)| *admitted)
            .count();
        // Each of the others computed a token, unless `context` is computed anew below.
        self.context += (self.running.len() - admitted) as u64;
        let mut finished = false;
        for i in 0..self.scheduled.len() {
            let (place, tokens, admitted) = self.scheduled[i];
            let active = &mut self.active[place as usize];
            active.sequence.computed += tokens;
            active.synced = step + 1;
            if admitted {
                self.context += u64::from(active.sequence.computed);
            }
            if active.sequence.computed < active.sequence.num_tokens {
                continue;
            }
            active.sequence.num_tokens += 1;
            let request = active.request as usize;
            if self.requests.first_token_step[request] == 0 {
                self.requests.first_token_step[request] = step;
                self.requests.first_token_ns[request] = end_ns;
            }
            if active.sequence.num_tokens >= active.end {
                let computed = u64::from(active.sequence.computed);
                self.context = self.context.saturating_sub(computed);
                self.requests.finish_step[request] = step;
                self.requests.finish_ns[request] = end_ns;
                self.finish(place);
                finished = true;
            }
        }
        if finished {
            self.remove_finished();
        }
        self.plan(step);
    }

    fn finish(&mut self, place: u32) {
        let active = &mut self.active[place as usize];
        let request = active.request as usize;
        self.requests.num_blocks[request] = active.sequence.table.len() as u32;
        self.requests.finish_order.push(active.request);
        if self.record_tables {
            self.requests
                .tables
                .extend_from_slice(&active.sequence.table);
        }
        self.manager.release(&mut active.sequence);
        active.end = 0;
        self.spare.push(place);
        self.finished += 1;
    }

    fn remove_finished(&mut self) {
        let active = &self.active;
        let mut kept = 0;
        for i in 0..self.running.len() {
            if active[self.running[i] as usize].end > 0 {
                self.running[kept] = self.running[i];
                self.due[kept] = self.due[i];
                kept += 1;
            }
        }
        self.running.truncate(kept);
        self.due.truncate(kept);
    }

    /// Decides when to look again at each request that this step looked at.
    fn plan(&mut self, step: u64) {
        self.prefilling = 0;
        let mut context = 0;
        self.next_due = u64::MAX;
        for i in 0..self.running.len() {
            if self.due[i] <= step {
                let active = &mut self.active[self.running[i] as usize];
                // Also of those that the step's tokens did not suffice for.
                active.synced = step + 1;
                let Sequence {
                    computed,
                    num_tokens,
                    prompt_tokens,
                    ..
                } = active.sequence;
                context += u64::from(computed);
                let prefilling = computed < prompt_tokens || num_tokens - computed > 1;
                let active = &self.active[self.running[i] as usize];
                let quiet = if prefilling {
                    0
                } else {
                    self.steps_to_change(active)
                };
                self.prefilling += u32::from(prefilling);
                self.due[i] = step + 1 + u64::from(quiet);
            }
            self.next_due = self.next_due.min(self.due[i]);
        }
        if self.look_at_all {
            self.context = context;
        }
    }

    /// Steps in which a decoding request only computes a token in a slot it has.
    fn steps_to_change(&self, active: &Active) -> u32 {
        let config = self.manager.config();
        let size = config.block_size;
        let position = active.sequence.computed;
        let at = position % size;
        let to_new_block = (size - at) % size;
        let to_full_block = size - 1 - at;
        let to_finish = active.end - 2 - position;
        let mut steps = to_new_block.min(to_finish);
        if config.enable_caching {
            steps = steps.min(to_full_block);
        }
        if let Some(sliding) = config.sliding_window {
            if self.manager.will_release(&active.sequence) {
                return 0;
            }
            // A block leaves the window when `computed + 1 - window` is a multiple of its size.
            let phase = (sliding.window - 1) % size;
            steps = steps.min((phase + size - at) % size);
        }
        steps
    }

    /// Serves one request with the cache manager alone: its whole prompt at once, then token by token.
    pub(super) fn run_alone(&mut self, request: u32) -> Result<()> {
        let Some((place, hits, tokens)) = self.admit(request, u64::MAX, 0) else {
            return Err(self.never_fits(request, "it cannot be admitted though nothing else runs"));
        };
        self.requests.hit_tokens[request as usize] = hits;
        self.add(place, tokens, true, &mut Scheduled::default());
        self.scheduled.clear();
        let mut sampled = 0;
        self.active[place as usize].sequence.computed += tokens;
        while self.active[place as usize].sequence.num_tokens + 1 < self.active[place as usize].end
        {
            self.active[place as usize].sequence.num_tokens += 1;
            if !self.grow(place, 1) {
                return Err(self.never_fits(request, "its output does not fit"));
            }
            self.active[place as usize].sequence.computed += 1;
            sampled += 1;
        }
        self.requests.scheduled_tokens[request as usize] += sampled;
        self.totals.scheduled_tokens += u64::from(tokens) + sampled;
        self.totals.peak_used = self.totals.peak_used.max(self.used());
        self.finish(place);
        Ok(())
    }

    fn never_fits(&self, request: u32, why: &str) -> Error {
        let pool = self.manager.pool();
        Error::invalid(format!(
            "request {request}: a prompt of {} tokens does not fit {} blocks of {} tokens and {} \
             tokens per step: {why}; give more",
            self.workload.prompt_len(request),
            pool.num_slots() - 1,
            self.manager.config().block_size,
            self.config.max_num_batched_tokens,
        ))
    }

    /// Checks every invariant; `step` is the next step.
    ///
    /// # Errors
    /// What is wrong, if anything is.
    pub fn validate(&self, step: u64) -> std::result::Result<(), String> {
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
                return Err(format!("request {} is finished but runs", active.request));
            }
            sequences.push(sequence);
        }
        if self.prefilling == 0 && context != self.context {
            return Err(format!("context is {}, not {context}", self.context));
        }
        self.manager.validate(&sequences)
    }
}
