//! Steps in which every running request computes a token and nothing else happens.
//!
//! While no request can join, none ends and memory suffices, a step changes counters only. Several
//! of them are done in one go; what they give is what single steps give.

use super::Scheduler;
use crate::engine::sglang::record::StepKind;
use crate::serving::{RequestLog, StepWork};

/// A stretch of quiet steps while it is run through.
#[derive(Debug)]
pub(in crate::engine::sglang) struct Quiet {
    /// Running requests.
    requests: u64,
    /// Their tokens before the next step.
    context: u64,
    /// Free tokens of the pool.
    free: u64,
    /// Requests by the steps until they need a page, modulo the page size.
    by_step: Vec<u32>,
    page: u64,
    /// Steps until a request ends.
    left: u32,
    done: u32,
}

impl Quiet {
    /// What the next step computes and the free tokens while it does; none if it would not be quiet.
    pub fn step(&mut self) -> Option<(StepWork, u64)> {
        if self.done == self.left || self.requests * self.page > self.free {
            return None;
        }
        let place = self.done as usize % self.by_step.len();
        self.free -= u64::from(self.by_step[place]) * self.page;
        let mut work = StepWork::default();
        work.add_decodes(self.requests, self.context);
        self.context += self.requests;
        self.done += 1;
        Some((work, self.free))
    }
}

impl Scheduler<'_> {
    /// The quiet steps that come next, if the next step is one.
    pub fn quiet(&self) -> Option<Quiet> {
        let running = &self.running.requests;
        let closed = self.running.full && self.config.preemption_threshold.is_none();
        let calm = self.last.is_none() && self.chunked.is_none() && !running.is_empty();
        if !calm || !(closed || self.waiting.is_empty()) {
            return None;
        }
        if self.config.overlap
            && (self.pending.kind != Some(StepKind::Decode) || self.pending.requests != *running)
        {
            return None;
        }
        let page = self.cache.tree().page();
        let mut quiet = Quiet {
            requests: running.len() as u64,
            context: 0,
            free: self.cache.free(),
            by_step: vec![0; page as usize],
            page: u64::from(page),
            left: u32::MAX,
            done: 0,
        };
        for &request in running {
            let row = self.request(request);
            if row.finished || row.outputs + 1 >= row.output_len {
                return None;
            }
            quiet.left = quiet.left.min(row.output_len - 1 - row.outputs);
            let computed = row.lease.allocated;
            quiet.context += u64::from(computed);
            let in_page = self.cache.tree().in_page(computed);
            let steps = if in_page == 0 { 0 } else { page - in_page };
            quiet.by_step[steps as usize] += 1;
        }
        (quiet.requests * quiet.page <= quiet.free).then_some(quiet)
    }

    /// Counts what quiet steps have changed.
    pub fn pass(&mut self, quiet: &Quiet, log: &mut RequestLog) {
        for &request in &self.running.requests {
            let row = &mut self.requests[request as usize];
            row.outputs += quiet.done;
            row.lease.allocated += quiet.done;
            log.scheduled_tokens[request as usize] += u64::from(quiet.done);
        }
        self.cache.set_free(quiet.free);
        for _ in 0..quiet.done {
            self.decay_ratio();
        }
        let steps = u64::from(quiet.done);
        self.processed += steps * self.running.prefill_tokens;
        self.totals.scheduled_tokens += steps * quiet.requests;
    }
}
