//! Requests that decode: the steps in which nothing happens to them.

use super::{Part, PartKind, Scheduled, Scheduler};
use crate::index::to_u32;
use crate::serving::{KvCache, Progress, RequestLog, StepWork};

impl<C: KvCache<Key = u32>> Scheduler<'_, C> {
    /// How many steps, from `step` on, change nothing but the counters of decoding requests.
    pub(in crate::engine::vllm) fn quiet_steps(&self, step: u64) -> u64 {
        let budget = self.config.max_num_batched_tokens;
        let running = self.calendar.len() as u64;
        let decoding = self.prefilling == 0 && running <= budget && !self.never_quiet;
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
        if let Some(batch) = self.flights.back_mut() {
            batch.step += steps;
        }
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

    /// Brings the counters of a decoding request to the beginning of `step`. With asynchronous scheduling
    /// the step before is in flight, and now has a part of this request.
    #[inline]
    pub(super) fn sync(&mut self, place: u32, step: u64, log: &mut RequestLog) {
        let active = &mut self.active[place as usize];
        if !active.quiet {
            return;
        }
        let steps = to_u32(step - active.synced);
        active.progress.computed += steps;
        active.progress.num_tokens += steps;
        active.synced = step;
        active.quiet = false;
        log.scheduled_tokens[active.request as usize] += u64::from(steps);
        if self.config.async_scheduling {
            self.take_part(place);
        }
    }

    /// Gives the step in flight a part of a request that decodes.
    fn take_part(&mut self, place: u32) {
        let request = self.active[place as usize].request;
        if let Some(batch) = self.flights.back_mut() {
            batch.parts.push(Part {
                place,
                request,
                tokens: 1,
                drafts: 0,
                kind: PartKind::Running,
                padded: false,
                samples: true,
            });
        }
    }

    /// Decides, at the end of `step`, when to look again at each request that it looked at.
    pub(in crate::engine::vllm) fn plan(&mut self, step: u64) {
        let mut prefilling = 0;
        let (active, cache) = (&mut self.active, &self.cache);
        let in_flight = u32::from(self.config.async_scheduling);
        let never = self.never_quiet;
        let mut any_quiet = false;
        self.calendar.plan(step, |place| {
            let active = &mut active[place as usize];
            // Also of those that the step's tokens did not suffice for.
            active.synced = step + 1;
            let Progress {
                computed,
                num_tokens,
                prompt_tokens,
                ..
            } = active.progress;
            if computed < prompt_tokens || num_tokens + active.placeholders - computed > 1 {
                prefilling += 1;
                return 0;
            }
            let steady = active.progress.in_flight == in_flight
                && active.placeholders == in_flight
                && num_tokens > prompt_tokens;
            if never || !steady {
                return 0;
            }
            let to_finish = active.end.saturating_sub(computed + 2);
            let steps = cache
                .quiet_tokens(&active.lease, &active.progress)
                .min(to_finish);
            active.quiet = steps > 0;
            any_quiet |= active.quiet;
            steps
        });
        self.prefilling = prefilling;
        if any_quiet && let Some(batch) = self.flights.back_mut() {
            // From now on `sync` counts their tokens.
            let active = &self.active;
            batch.parts.retain(|part| {
                let active = &active[part.place as usize];
                active.request != part.request || active.end == 0 || !active.quiet
            });
        }
    }
}
