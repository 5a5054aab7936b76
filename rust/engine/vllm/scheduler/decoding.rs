//! Requests that decode: sampling, finishing, and the steps in which nothing happens to them.

use super::{PartKind, Scheduled, Scheduler};
use crate::index::to_u32;
use crate::serving::{KvCache, Progress, RequestLog, StepWork};

impl<C: KvCache<Key = u32>> Scheduler<'_, C> {
    /// How many steps, from `step` on, change nothing but the counters of decoding requests.
    pub(in crate::engine::vllm) fn quiet_steps(&self, step: u64) -> u64 {
        let budget = self.config.max_num_batched_tokens;
        let running = self.calendar.len() as u64;
        let decoding = self.prefilling == 0 && running <= budget;
        if running == 0 || !decoding || self.may_admit(budget - running) {
            return 0;
        }
        self.calendar.next_due().saturating_sub(step)
    }

    /// Lets `steps` quiet steps pass. The work of each is that of [`Scheduler::quiet_work`] before it.
    pub(in crate::engine::vllm) fn pass(&mut self, steps: u64) {
        let running = self.calendar.len() as u64;
        let tokens = steps * running;
        self.context += tokens;
        self.log.totals.scheduled_tokens += tokens;
        if self.config.stats_at_lookup
            && !self.waiting.is_empty()
            && let Some(lookup) = self.refusal.lookup()
            && self.room_for_more(self.config.max_num_batched_tokens - running)
        {
            self.count(lookup, steps);
        }
    }

    /// What a quiet step computes.
    pub(in crate::engine::vllm) fn quiet_work(&self) -> Scheduled {
        let running = self.calendar.len();
        let mut work = StepWork::default();
        work.add_decodes(running as u64, self.context);
        Scheduled {
            requests: to_u32(running),
            tokens: running as u64,
            work,
        }
    }

    /// Brings the counters of a decoding request to the beginning of `step`.
    pub(super) fn sync(&mut self, place: u32, step: u64, log: &mut RequestLog) {
        let active = &mut self.active[place as usize];
        let steps = to_u32(step - active.synced);
        active.progress.computed += steps;
        active.progress.num_tokens += steps;
        active.synced = step;
        log.scheduled_tokens[active.request as usize] += u64::from(steps);
    }

    /// The sampling part of a step, which ends at `end_ns`.
    pub(in crate::engine::vllm) fn sample(&mut self, step: u64, end_ns: u64, log: &mut RequestLog) {
        let admitted = self
            .scheduled
            .iter()
            .filter(|part| part.kind == PartKind::Admitted)
            .count();
        // Each of the others computed a token, unless `context` is computed anew below.
        self.context += (self.calendar.len() - admitted) as u64;
        let mut finished = false;
        for i in 0..self.scheduled.len() {
            let part = self.scheduled[i];
            let active = &mut self.active[part.place as usize];
            let progress = &mut active.progress;
            progress.computed += part.tokens;
            active.synced = step + 1;
            if part.kind == PartKind::Admitted {
                self.context += u64::from(progress.computed);
            }
            if progress.computed < progress.num_tokens {
                continue;
            }
            progress.num_tokens += 1;
            let row = active.request as usize;
            if log.first_token_step[row] == 0 {
                log.first_token_step[row] = step;
                log.first_token_ns[row] = end_ns;
            }
            if progress.num_tokens >= active.end {
                let computed = u64::from(progress.computed);
                self.context = self.context.saturating_sub(computed);
                log.finish_step[row] = step;
                log.finish_ns[row] = end_ns;
                self.finish(part.place, log);
                finished = true;
            }
        }
        if finished {
            let active = &self.active;
            self.calendar.retain(|place| active[place as usize].end > 0);
        }
        self.plan(step);
    }

    pub(super) fn finish(&mut self, place: u32, log: &mut RequestLog) {
        let active = &mut self.active[place as usize];
        log.num_blocks[active.request as usize] = self.cache.held_blocks(&active.lease);
        self.log.finish_order.push(active.request);
        if self.record_tables {
            self.cache.copy_table(&active.lease, &mut self.log.tables);
        }
        self.cache.release(&mut active.lease);
        active.end = 0;
        self.spare.push(place);
        self.finished += 1;
    }

    /// Decides when to look again at each request that this step looked at.
    fn plan(&mut self, step: u64) {
        let (mut prefilling, mut context) = (0, 0);
        let (active, cache) = (&mut self.active, &self.cache);
        self.calendar.plan(step, |place| {
            let active = &mut active[place as usize];
            // Also of those that the step's tokens did not suffice for.
            active.synced = step + 1;
            let Progress {
                computed,
                num_tokens,
                prompt_tokens,
            } = active.progress;
            context += u64::from(computed);
            if computed < prompt_tokens || num_tokens - computed > 1 {
                prefilling += 1;
                return 0;
            }
            let to_finish = active.end - 2 - computed;
            cache
                .quiet_tokens(&active.lease, &active.progress)
                .min(to_finish)
        });
        self.prefilling = prefilling;
        if self.look_at_all {
            self.context = context;
        }
    }
}
