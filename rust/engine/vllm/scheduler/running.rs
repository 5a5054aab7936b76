//! Running requests: their tokens in a step, and who is preempted if slots run out.

use super::{LonePreemption, PartKind, Scheduled, Scheduler, Waiting};
use crate::error::Result;
use crate::index::to_u32;
use crate::serving::{KvCache, Progress, RequestLog};

/// A request that preempts itself this often without getting anywhere is stuck.
const STUCK: u32 = 3;

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
    pub(super) fn chunk(&self, progress: &Progress, threshold: u64, budget: u64) -> u32 {
        let mut tokens = u64::from(progress.num_tokens - progress.computed);
        if threshold > 0 && threshold < tokens {
            tokens = threshold;
        }
        let limit = self.cache.max_model_len() - progress.computed - 1;
        to_u32(tokens.min(budget).min(u64::from(limit)))
    }

    /// Takes room for further tokens of a running request; `false` if there is none.
    pub(super) fn extend(&mut self, place: u32, tokens: u32) -> bool {
        let active = &mut self.active[place as usize];
        let keys = self.workload.keys(active.request);
        self.cache
            .extend(&mut active.lease, keys, &active.progress, tokens)
            .is_ok()
    }

    /// Takes the blocks of the request admitted last, because `wanting` needs some, and puts it at the
    /// head of the queue. Returns its place.
    pub(super) fn preempt_last(
        &mut self,
        step: u64,
        wanting: u32,
        log: &mut RequestLog,
    ) -> Result<u32> {
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
}
