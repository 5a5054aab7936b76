//! Requests that decode: sampling, finishing, and the steps in which nothing happens to them.

use super::{Active, Scheduled, Scheduler};
use crate::engine::vllm::{Sequence, StepWork};

impl Scheduler<'_> {
    /// How many steps, from `step` on, change nothing but the counters of decoding requests, and
    /// their work without its context.
    pub(in crate::engine::vllm) fn quiet_steps(&self, step: u64) -> u64 {
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
    pub(in crate::engine::vllm) fn pass(&mut self, steps: u64) {
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

    pub(in crate::engine::vllm) fn quiet_work(&self) -> Scheduled {
        let mut work = StepWork::default();
        work.add_decodes(self.running.len() as u64, self.context);
        Scheduled {
            requests: self.running.len() as u32,
            tokens: self.running.len() as u64,
            work,
        }
    }

    /// Brings the counters of a decoding request to the beginning of `step`.
    pub(super) fn sync(&mut self, place: u32, step: u64) {
        let active = &mut self.active[place as usize];
        let steps = (step - active.synced) as u32;
        active.sequence.computed += steps;
        active.sequence.num_tokens += steps;
        active.synced = step;
        self.requests.scheduled_tokens[active.request as usize] += u64::from(steps);
    }

    /// The sampling part of a step, which ends at `end_ns`.
    pub(in crate::engine::vllm) fn sample(&mut self, step: u64, end_ns: u64) {
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

    pub(super) fn finish(&mut self, place: u32) {
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
}
