//! The output of a step: tokens are sampled, and requests finish.

use super::{Batch, Part, Scheduler, Waiting};
use crate::index::to_u32;
use crate::serving::{KvCache, RequestLog};

impl<C: KvCache<Key = u32>> Scheduler<'_, C> {
    /// Takes in the output of the oldest step in flight, which ends at `end_ns`. Returns whether a request
    /// finished.
    pub(in crate::engine::vllm) fn sample(&mut self, end_ns: u64, log: &mut RequestLog) -> bool {
        let Some(Batch { step, mut parts }) = self.flights.pop_front() else {
            return false;
        };
        let before = self.finished;
        for part in parts.drain(..) {
            let active = &self.active[part.place as usize];
            if active.request == part.request && active.end > 0 {
                self.output(part, step, end_ns, log);
            } else {
                self.stale_output(part, step, end_ns, log);
            }
        }
        self.spare_parts = parts;
        let finished = self.finished > before;
        if finished {
            let active = &self.active;
            self.calendar.retain(|place| active[place as usize].end > 0);
        }
        finished
    }

    /// Tokens that a step samples of a request with `num_tokens` tokens: one, and the guesses that are
    /// right. Counts them.
    fn sampled(&mut self, part: Part, num_tokens: u32) -> u32 {
        let Some(drafts) = &self.config.drafts else {
            return 1;
        };
        if part.drafts == 0 {
            return 1;
        }
        let accepted = if part.padded {
            0
        } else {
            drafts.accepted(num_tokens, part.drafts)
        };
        let stats = &mut self.log.totals.drafts;
        stats.steps += 1;
        stats.drafts += u64::from(part.drafts);
        stats.accepted += u64::from(accepted);
        1 + accepted
    }

    /// The output of a running request.
    fn output(&mut self, part: Part, step: u64, end_ns: u64, log: &mut RequestLog) {
        let place = part.place as usize;
        let is_async = self.config.async_scheduling;
        if is_async {
            self.active[place].progress.in_flight -= part.tokens;
        }
        if !part.samples {
            return;
        }
        let sampled = self.sampled(part, self.active[place].progress.num_tokens);
        let active = &mut self.active[place];
        let progress = &mut active.progress;
        let appended = sampled.min(active.end - progress.num_tokens);
        progress.num_tokens += appended;
        // Guesses that are wrong, and tokens behind the end, were computed in vain.
        let in_vain = 1 + part.drafts - appended;
        progress.computed -= in_vain;
        self.context -= u64::from(in_vain);
        if is_async {
            active.placeholders -= 1 + part.drafts;
        } else if let Some(drafts) = &self.config.drafts {
            active.drafts = drafts.tokens;
        }
        if is_async || self.config.drafts.is_some() {
            let keys = self.workload.keys(part.request);
            self.cache.settle(&mut active.lease, keys, &active.progress);
        }
        let row = part.request as usize;
        if log.first_token_step[row] == 0 {
            log.first_token_step[row] = step;
            log.first_token_ns[row] = end_ns;
        }
        if active.progress.num_tokens >= active.end {
            self.context -= u64::from(active.progress.computed);
            log.finish_step[row] = step;
            log.finish_ns[row] = end_ns;
            self.finish(part.place, log);
        }
    }

    /// The output of a request that does not run any more: one that was preempted still gets its tokens.
    fn stale_output(&mut self, part: Part, step: u64, end_ns: u64, log: &mut RequestLog) {
        let is_this = |waiting: &Waiting| waiting.request == part.request;
        let Some(at) = self.waiting.iter().position(is_this) else {
            return;
        };
        if !part.samples {
            return;
        }
        let known = self.waiting[at].known;
        let end = self.end(part.request);
        let known = (known + self.sampled(part, known)).min(end);
        self.waiting[at].known = known;
        self.refusal.forget();
        let row = part.request as usize;
        if log.first_token_step[row] == 0 {
            log.first_token_step[row] = step;
            log.first_token_ns[row] = end_ns;
        }
        if known >= end {
            // It holds nothing.
            self.waiting.remove(at);
            log.finish_step[row] = step;
            log.finish_ns[row] = end_ns;
            self.log.finish_order.push(part.request);
            if self.record_tables && self.cache.num_groups() > 1 {
                let groups = self.cache.num_groups();
                self.log.group_blocks.extend((0..groups).map(|_| 0));
            }
            self.finished += 1;
        }
    }

    /// Tokens at which a request is finished.
    pub(super) fn end(&self, request: u32) -> u32 {
        let requests = self.workload.requests();
        let wanted = requests.prompt_len(request) + requests.output_len(request);
        wanted.min(self.cache.max_model_len())
    }

    /// Gives back what a finished request holds; the caller takes its place from the calendar.
    pub(super) fn finish(&mut self, place: u32, log: &mut RequestLog) {
        let active = &mut self.active[place as usize];
        let (cache, lease) = (&mut self.cache, &mut active.lease);
        log.num_blocks[active.request as usize] = cache.held_blocks(lease);
        self.log.finish_order.push(active.request);
        if self.record_tables {
            let groups = cache.num_groups();
            for group in 0..groups {
                let table = cache.table(lease, group);
                self.log.tables.extend_from_slice(table);
                if groups > 1 {
                    self.log.group_blocks.push(to_u32(table.len()));
                }
            }
        }
        cache.release(lease);
        active.end = 0;
        self.spare.push(place);
        self.finished += 1;
    }
}
