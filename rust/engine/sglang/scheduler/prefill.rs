//! Choosing the prompts of a step.

use super::budget::{Budget, CLIP_MAX_NEW, Verdict, float, whole};
use super::{Batch, Scheduled, Scheduler};
use crate::engine::sglang::record::StepKind;
use crate::engine::sglang::version::Version;
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::{Readmission, RequestLog, StepWork};

/// Output tokens assumed for each request that stays when others are retracted
/// (`SGLANG_RETRACT_DECODE_STEPS`).
pub(super) const RETRACT_STEPS: u64 = 20;

/// A prefill batch while it is put together.
struct Forming {
    budget: Budget,
    requests: Vec<u32>,
    /// The request whose prompt was cut.
    cut: Option<u32>,
}

impl Scheduler<'_> {
    /// The prompts to compute next, if there are any.
    pub(super) fn prefill_batch(
        &mut self,
        now: u64,
        log: &mut RequestLog,
    ) -> Result<Option<(Batch, Scheduled)>> {
        let priorities = self.config.preemption_threshold.is_some();
        if priorities || (self.version.is_0523() && self.running.requests.is_empty()) {
            self.running.full = false;
        }
        if (self.running.full || self.waiting.is_empty()) && self.chunked.is_none() {
            return Ok(None);
        }
        // 0.5.9 asks the wrong way round whether a prompt is partly computed.
        let may_stop = self.chunked.is_none() != self.version.is_0509();
        if self.slots(0) <= 0 && may_stop && !priorities {
            self.running.full = true;
            return Ok(None);
        }
        self.order_waiting();
        let mut forming = Forming {
            budget: self.budget(),
            requests: Vec::new(),
            cut: None,
        };
        let continued = self.continue_chunked(&mut forming);
        self.admit_waiting(&mut forming, log);
        let requeued = std::mem::take(&mut self.preempted);
        if forming.requests.is_empty() {
            if self.version.is_0523() {
                self.requeue(requeued);
            }
            return Ok(None);
        }
        // The first that does not fit ends the search: those added are the first of the queue.
        let added = forming.requests.len() - usize::from(continued);
        self.waiting.drain(..added);
        self.requeue(requeued);
        if forming.cut.is_some() {
            self.chunked = forming.cut;
        }
        if let Some(chunked) = self.chunked {
            self.request_mut(chunked).partial_chunks += 1;
        }
        self.start(forming, now, log).map(Some)
    }

    /// Lets preempted requests wait again.
    fn requeue(&mut self, preempted: Vec<u32>) {
        for request in preempted {
            self.wait(request);
        }
    }

    /// Requests that may still be added, if `held` of the batch hold a row already.
    fn slots(&self, held: u32) -> i64 {
        let running = i64::from(to_u32(self.running.requests.len()));
        let slots = i64::from(self.config.max_running_requests) - running;
        match self.version {
            Version::Radix0509 => slots,
            Version::Radix0516 => slots.min(i64::from(self.free_rows)),
            _ => slots.min(i64::from(self.free_rows) + i64::from(held)),
        }
    }

    fn budget(&self) -> Budget {
        let reserve = |&r: &u32| self.decode_reserve(r);
        Budget {
            reserved: self.running.requests.iter().map(reserve).sum(),
            added: 0,
            input: i64::from(self.config.max_prefill_tokens),
            chunk: self.config.chunked_prefill_size.map(i64::from),
            slack: if self.version.is_0509() {
                0
            } else {
                i64::from(self.cache.tree().page())
            },
        }
    }

    /// Tokens kept for the output of a running request.
    fn decode_reserve(&self, request: u32) -> f64 {
        let row = self.request(request);
        let rest = row.max_new.saturating_sub(row.outputs).min(CLIP_MAX_NEW);
        f64::from(rest) * self.ratio
    }

    fn ceil(&self, tokens: u32) -> i64 {
        self.cache.ceil(tokens).cast_signed()
    }

    /// Adds the next chunk of the prompt that is partly computed; returns whether there was one.
    fn continue_chunked(&mut self, forming: &mut Forming) -> bool {
        let Some(chunked) = self.chunked else {
            return false;
        };
        let available = self.cache.available();
        let chunk = forming.budget.chunk.unwrap_or(i64::MAX);
        let mut room = chunk.min(whole(forming.budget.total(available)));
        if room <= 0 {
            room = chunk;
        }
        let row = &mut self.requests[chunked as usize];
        let rest = i64::from(row.known() - row.prefix);
        let tokens = u32::try_from(rest.min(room)).unwrap_or(0);
        row.end = row.prefix + tokens;
        let complete = i64::from(tokens) == rest;
        let reserve = if complete {
            row.max_new.min(CLIP_MAX_NEW)
        } else {
            0
        };
        let tokens = self.ceil(tokens);
        forming.budget.charge(tokens, reserve);
        forming.requests.push(chunked);
        if complete {
            self.chunked = None;
        }
        true
    }

    /// Adds requests of the waiting queue in order, until one does not fit.
    fn admit_waiting(&mut self, forming: &mut Forming, log: &mut RequestLog) {
        let held = to_u32(forming.requests.len());
        for place in 0..self.waiting.len() {
            let request = self.waiting[place];
            let available = self.cache.available();
            if self.version.is_0523() && forming.budget.verdict(available) == Verdict::Other {
                break;
            }
            if i64::from(to_u32(forming.requests.len())) >= self.slots(held) {
                self.running.full = true;
            }
            if self.running.full && !self.preempt(request, forming, log) {
                break;
            }
            match self.admit(request, forming) {
                Verdict::Continue => {}
                Verdict::NoToken => {
                    self.running.full = !self.version.is_0523()
                        || !forming.requests.is_empty()
                        || !self.running.requests.is_empty();
                    break;
                }
                Verdict::Other => break,
            }
        }
    }

    /// Looks a waiting request up and adds it if it fits.
    fn admit(&mut self, request: u32, forming: &mut Forming) -> Verdict {
        let row = &mut self.requests[request as usize];
        let known = row.known();
        let found = self.cache.admit(&mut row.lease, known);
        (row.prefix, row.tried) = (found, known);
        let verdict = self.fit(request, forming);
        if let Some(refusal) = verdict {
            let row = &mut self.requests[request as usize];
            self.cache.drop_lease(&mut row.lease);
            return refusal;
        }
        forming.budget.verdict(self.cache.available())
    }

    /// Adds a request that holds its prefix to the batch, or says why not.
    fn fit(&mut self, request: u32, forming: &mut Forming) -> Option<Verdict> {
        let row = self.request(request);
        let (known, prefix) = (row.known(), row.prefix);
        let rest = known - prefix;
        let output = row.max_new.saturating_sub(row.outputs).min(CLIP_MAX_NEW);
        let reserve = row.max_new.min(CLIP_MAX_NEW);
        let need = i64::from(rest) + i64::from(output) + forming.budget.slack;
        if float(need) >= forming.budget.total(self.cache.available()) {
            return Some(Verdict::NoToken);
        }
        let pages = self.ceil(rest);
        let uncut = forming.budget.chunk.is_none() || self.version.is_0509();
        if uncut && !forming.requests.is_empty() && pages >= forming.budget.input {
            return Some(Verdict::Other);
        }
        let mut end = known;
        if let Some(chunk) = forming.budget.chunk
            && pages > chunk
        {
            let page = i64::from(self.cache.tree().page());
            let cut = i64::from(prefix) + chunk.div_euclid(page) * page;
            let cut = cut.div_euclid(page) * page;
            if cut <= i64::from(prefix) {
                return Some(Verdict::Other);
            }
            end = u32::try_from(cut).unwrap_or(known);
            forming.cut = Some(request);
        }
        let reserve = if end < known { 0 } else { reserve };
        let tokens = self.ceil(end - prefix);
        forming.budget.charge(tokens, reserve);
        forming.requests.push(request);
        self.request_mut(request).end = end;
        None
    }

    /// Retracts running requests of lower priority so that `request` fits, if priorities count and
    /// that is enough.
    fn preempt(&mut self, request: u32, forming: &mut Forming, log: &mut RequestLog) -> bool {
        let Some(threshold) = self.config.preemption_threshold else {
            return false;
        };
        let priority = |r: u32| self.workload.priority(r);
        let mut candidates: Vec<u32> = self.running.requests.clone();
        candidates.retain(|&r| !self.request(r).finished);
        candidates.sort_by_key(|&r| (priority(r), std::cmp::Reverse(self.request(r).entry)));
        let row = self.request(request);
        // A request that was never tried counts as having no tokens: so does the server.
        let rest = i64::from(row.tried) - i64::from(row.prefix);
        let need = rest + i64::from(row.max_new.min(CLIP_MAX_NEW));
        let mut lack = float(need) - forming.budget.total(self.cache.available());
        let mut taken = Vec::new();
        for candidate in candidates {
            if priority(request) - priority(candidate) <= threshold {
                break;
            }
            lack -= self.decode_reserve(candidate);
            taken.push(candidate);
            if lack <= 0.0 {
                break;
            }
        }
        if taken.is_empty() || lack > 0.0 {
            return false;
        }
        let mut left = self.running.requests.len() as u64;
        for r in self.running.requests.clone() {
            if taken.contains(&r) {
                forming.budget.reserved -= self.decode_reserve(r);
                self.retract_request(r, log);
                left -= 1;
                self.cache.make_room(RETRACT_STEPS * left);
            }
        }
        self.running.requests.retain(|r| !taken.contains(r));
        self.preempted.extend(taken);
        true
    }

    /// Takes the memory of a batch and writes down who is in it.
    fn start(
        &mut self,
        forming: Forming,
        now: u64,
        log: &mut RequestLog,
    ) -> Result<(Batch, Scheduled)> {
        let mut work = StepWork::default();
        let page = u64::from(self.cache.tree().page());
        for &request in &forming.requests {
            let row = self.request(request);
            work.add_prefill(row.prefix, row.end - row.prefix);
        }
        let count = forming.requests.len() as u64;
        let pages = if page > 1 { count * page } else { 0 };
        self.cache.make_room(work.prefill_tokens + pages);
        for &request in &forming.requests {
            self.take(request, self.request(request).end)?;
            let step = self.step;
            let row = &mut self.requests[request as usize];
            let at = request as usize;
            let tokens = u64::from(row.end - row.prefix);
            log.computed_tokens[at] += tokens;
            log.scheduled_tokens[at] += tokens;
            if row.row {
                continue;
            }
            row.row = true;
            row.retracted = false;
            self.free_rows -= 1;
            if row.admitted {
                self.readmissions.push(Readmission {
                    request,
                    step,
                    hit_tokens: row.prefix,
                });
            } else {
                row.admitted = true;
                log.hit_tokens[at] = row.prefix;
                log.admit_step[at] = step;
                log.admit_ns[at] = now;
            }
        }
        self.totals.scheduled_tokens += work.prefill_tokens;
        self.choose(StepKind::Prefill, &forming.requests);
        let done = Scheduled {
            kind: StepKind::Prefill,
            requests: to_u32(count),
            tokens: work.prefill_tokens,
            work,
        };
        let batch = Batch {
            requests: forming.requests,
            full: false,
            chunked: self.chunked,
            prefill_tokens: work.prefill_tokens,
        };
        Ok((batch, done))
    }

    /// Takes pages so that the first `upto` tokens of a request have KV.
    pub(super) fn take(&mut self, request: u32, upto: u32) -> Result<()> {
        if self
            .cache
            .take(&mut self.requests[request as usize].lease, upto)
        {
            return Ok(());
        }
        Err(self.out_of_memory(request, upto))
    }

    pub(super) fn out_of_memory(&self, request: u32, upto: u32) -> Error {
        Error::never_fits(format!(
            "request {request}: the server runs out of memory at {upto} tokens, as SGLang would: its \
             pool of {} tokens is too small",
            self.cache.capacity()
        ))
    }
}
