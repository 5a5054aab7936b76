//! One token of every running request, and whom to retract if there is no room for that.

use std::cmp::Reverse;

use super::prefill::RETRACT_STEPS;
use super::{Scheduled, Scheduler};
use crate::engine::sglang::record::StepKind;
use crate::error::{Error, Result};
use crate::index::{to_f64, to_u32};
use crate::serving::{RequestLog, StepWork};

/// `new_token_ratio` before it is scaled by the conservativeness.
const INIT_RATIO: f64 = 0.7;
/// The lowest ratio, as a share of the first.
const MIN_RATIO_FACTOR: f64 = 0.14;
/// Decode steps from the first ratio to the lowest.
const RATIO_STEPS: f64 = 600.0;

impl Scheduler<'_> {
    fn first_ratio(&self) -> f64 {
        (INIT_RATIO * self.config.schedule_conservativeness).min(1.0)
    }

    /// The ratio of a server that was idle.
    pub fn reset_ratio(&mut self) {
        self.ratio = self.first_ratio();
    }

    pub(super) fn decay_ratio(&mut self) {
        let first = self.first_ratio();
        let least = (first * MIN_RATIO_FACTOR).min(1.0);
        self.ratio = (self.ratio - (first - least) / RATIO_STEPS).max(least);
    }

    /// Lets every running request compute one token, if that is possible.
    pub(super) fn decode_batch(&mut self, log: &mut RequestLog) -> Result<Option<Scheduled>> {
        let before = self.running.requests.len();
        self.drop_finished();
        let ending = self.drop_ending();
        if self.running.requests.is_empty() {
            self.running.full = false;
            return Ok(None);
        }
        let mut batch = std::mem::take(&mut self.running.requests);
        let fits = self.check(&batch);
        if !fits && ending {
            // Memory comes back with the results.
            self.running.requests = batch;
            self.running.full = false;
            return Ok(None);
        }
        if fits {
            self.decay_ratio();
        } else {
            self.retract(&mut batch, log)?;
        }
        self.running.requests = batch;
        if self.running.requests.len() < before {
            self.running.full = false;
        }
        if self.running.requests.is_empty() {
            return Ok(None);
        }
        self.compute(log).map(Some)
    }

    /// 0.5.23 with overlap: removes the requests that end by length with results that are pending.
    fn drop_ending(&mut self) -> bool {
        if !(self.config.overlap && self.version.is_0523()) {
            return false;
        }
        let before = self.running.requests.len();
        for &request in &self.pending.requests {
            let row = &mut self.requests[request as usize];
            row.ending = row.outputs + 1 >= row.max_new;
        }
        let requests = &self.requests;
        self.running
            .requests
            .retain(|&r| !requests[r as usize].ending);
        self.running.requests.len() < before
    }

    /// Whether the requests can compute one more token each, after an eviction if need be.
    fn check(&mut self, batch: &[u32]) -> bool {
        let (tree, page) = (self.cache.tree(), self.cache.tree().page());
        let at_page_end = |&&r: &&u32| tree.in_page(self.requests[r as usize].lease.allocated) == 0;
        let need = batch.iter().filter(at_page_end).count() as u64 * u64::from(page);
        self.cache.make_room(need);
        self.cache.free() >= need
    }

    /// Retracts requests with the fewest outputs, then the longest prompts, until the others fit.
    fn retract(&mut self, batch: &mut Vec<u32>, log: &mut RequestLog) -> Result<()> {
        let requests = &self.requests;
        batch.sort_by_key(|&r| {
            let row = &requests[r as usize];
            (Reverse(row.outputs), row.lease.prompt)
        });
        let mut retracted = Vec::new();
        while (retracted.is_empty() || !self.check(batch)) && batch.len() > 1 {
            if let Some(request) = batch.pop() {
                self.retract_request(request, log);
                retracted.push(request);
                self.cache.make_room(RETRACT_STEPS * batch.len() as u64);
            }
        }
        if let &[request] = batch.as_slice()
            && !self.check(batch)
        {
            self.abort(request, log)?;
            batch.clear();
        }
        let (mut outputs, mut most) = (0, 0);
        for &request in &*batch {
            let row = self.request(request);
            outputs += u64::from(row.outputs);
            most += u64::from(row.max_new);
        }
        let assumed = to_f64(outputs + RETRACT_STEPS * batch.len() as u64);
        self.ratio = (assumed / to_f64(most + 1)).min(1.0);
        for request in retracted {
            self.wait(request);
        }
        Ok(())
    }

    /// Ends a request that has no room even alone.
    fn abort(&mut self, request: u32, log: &mut RequestLog) -> Result<()> {
        if self.version.is_0509() {
            return Err(Error::never_fits(format!(
                "request {request}: even alone it has no room to decode in a pool of {} tokens; \
                 SGLang 0.5.9 crashes here",
                self.cache.capacity()
            )));
        }
        self.retract_request(request, log);
        let row = self.request_mut(request);
        row.finished = true;
        self.unfinished -= 1;
        self.finished += 1;
        self.aborted.push(request);
        Ok(())
    }

    /// Takes the memory of one more token of every running request.
    fn compute(&mut self, log: &mut RequestLog) -> Result<Scheduled> {
        let count = self.running.requests.len() as u64;
        self.cache
            .make_room(count * u64::from(self.cache.tree().page()));
        let mut context = 0;
        for place in 0..self.running.requests.len() {
            let request = self.running.requests[place];
            let computed = self.request(request).lease.allocated;
            context += u64::from(computed);
            if !self
                .cache
                .take_one(&mut self.requests[request as usize].lease)
            {
                return Err(self.out_of_memory(request, computed + 1));
            }
            log.scheduled_tokens[request as usize] += 1;
        }
        let mut work = StepWork::default();
        work.add_decodes(count, context);
        self.totals.scheduled_tokens += count;
        let batch = std::mem::take(&mut self.running.requests);
        self.choose(StepKind::Decode, &batch);
        self.running.requests = batch;
        Ok(Scheduled {
            kind: StepKind::Decode,
            requests: to_u32(count),
            tokens: count,
            work,
        })
    }
}
