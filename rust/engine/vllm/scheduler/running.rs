//! Running requests: their tokens in a step.

use super::{PartKind, Runs, Scheduled, Scheduler};
use crate::error::Result;
use crate::index::to_u32;
use crate::serving::{KvCache, Progress, RequestLog};

/// Decodes that a step does not look at, and what is computed for those that it does.
#[derive(Debug, Default)]
struct Looks {
    passed: u32,
    looked_at: u64,
}

impl<C: KvCache<Key = u32>> Scheduler<'_, C> {
    /// Schedules running requests; returns whether one was preempted.
    pub(super) fn schedule_running(
        &mut self,
        step: u64,
        threshold: u64,
        done: &mut Scheduled,
        log: &mut RequestLog,
    ) -> Result<bool> {
        let budget = self.config.max_num_batched_tokens;
        self.runs = Runs::default();
        let mut preempted = false;
        let mut looks = Looks::default();
        let mut i = 0;
        while i < self.calendar.len() && done.tokens < budget {
            if !self.calendar.is_due(i, step) {
                looks.passed += 1;
                done.tokens += 1;
                i += 1;
                continue;
            }
            let place = self.calendar.places()[i];
            self.sync(place, step, log);
            let computed = self.active[place as usize].progress.computed;
            looks.looked_at += u64::from(computed);
            let tokens = self.running_chunk(place, threshold, budget - done.tokens);
            if tokens == 0 {
                i += 1;
                continue;
            }
            let mut fits = self.extend(place, tokens);
            while !fits {
                preempted = true;
                let victim = self.victim();
                if victim < i {
                    self.take_back(victim, step, done, &mut looks);
                    i -= 1;
                }
                if self.preempt(victim, step, place, log)? == place {
                    looks.looked_at -= u64::from(computed);
                    break;
                }
                fits = self.extend(place, tokens);
            }
            if fits {
                self.runs.any = true;
                self.runs.prefilling |= self.active[place as usize].prefilling;
                self.add(place, tokens, PartKind::Running);
                done.tokens += u64::from(tokens);
                i += 1;
            }
        }
        if looks.passed > 0 {
            self.runs.any = true;
            done.requests += looks.passed;
            let context = self.context - looks.looked_at;
            done.work.add_decodes(u64::from(looks.passed), context);
            self.context += u64::from(looks.passed);
        }
        Ok(preempted)
    }

    /// Takes back what this step scheduled of the `i`-th running request, which is to be preempted.
    fn take_back(&mut self, i: usize, step: u64, done: &mut Scheduled, looks: &mut Looks) {
        let place = self.calendar.places()[i];
        if !self.calendar.is_due(i, step) {
            looks.passed -= 1;
            done.tokens -= 1;
            return;
        }
        let computed = self.active[place as usize].progress.computed;
        looks.looked_at -= u64::from(computed);
        if let Some(at) = self.scheduled.iter().position(|part| part.place == place) {
            done.tokens -= u64::from(self.scheduled.remove(at).tokens);
        }
    }

    /// Tokens to schedule for a running request.
    fn running_chunk(&self, place: u32, threshold: u64, budget: u64) -> u32 {
        let active = &self.active[place as usize];
        let Progress {
            computed,
            num_tokens,
            ..
        } = active.progress;
        if active.placeholders > 0 && self.ends_in_flight(place) {
            return 0;
        }
        let known = num_tokens + active.drafts + active.placeholders;
        let mut tokens = u64::from(known.saturating_sub(computed));
        if threshold > 0 && threshold < tokens {
            tokens = threshold;
        }
        let limit = self.cache.max_model_len().saturating_sub(computed + 1);
        let tokens = to_u32(tokens.min(budget).min(u64::from(limit)));
        let lease = Some(&active.lease);
        self.cache.chunk(lease, &active.progress, tokens)
    }

    /// Whether a step in flight samples the last token of a request.
    fn ends_in_flight(&self, place: u32) -> bool {
        let active = &self.active[place as usize];
        let requests = self.workload.requests();
        let wanted = requests.prompt_len(active.request) + requests.output_len(active.request);
        active.progress.computed + 2 - active.placeholders >= wanted
    }

    /// Takes room for further tokens of a running request; `false` if there is none.
    pub(super) fn extend(&mut self, place: u32, tokens: u32) -> bool {
        let active = &mut self.active[place as usize];
        let keys = self.workload.keys(active.request);
        self.cache
            .extend(&mut active.lease, keys, &active.progress, tokens)
            .is_ok()
    }
}
