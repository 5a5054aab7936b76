//! SGLang's scheduler: which requests are computed in each step.
//!
//! A step computes prompts (a prefill batch) or one token of every running request (a decode batch),
//! never both; prompts go first. The rules are those of `python/sglang/srt/managers/`
//! (`scheduler.py`, `schedule_policy.py`, `schedule_batch.py`).

mod budget;
mod config;
mod decoding;
mod prefill;
mod queue;
mod quiet;
mod results;
mod state;

use std::collections::VecDeque;

use super::cache::RadixCache;
use super::lease::Lease;
use super::policy::Policy;
use super::record::{Simulation, StepKind, Totals};
use super::version::Version;
use super::workload::Workload;
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::{Readmission, RequestLog, StepWork};
use state::{Batch, Pending, Request};

pub use config::{SchedulePolicy, SchedulerConfig};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scheduled {
    pub kind: StepKind,
    /// Requests in the batch.
    pub requests: u32,
    /// Tokens computed.
    pub tokens: u64,
    pub work: StepWork,
}

/// The scheduler of one server.
#[derive(Debug)]
pub(super) struct Scheduler<'w> {
    workload: &'w Workload,
    config: SchedulerConfig,
    version: Version,
    cache: RadixCache<&'w Workload>,
    requests: Vec<Request>,
    waiting: VecDeque<u32>,
    running: Batch,
    /// The prefill batch of the step before, if it was one.
    last: Option<Batch>,
    /// The request whose prompt is partly computed.
    chunked: Option<u32>,
    /// The batch of the step before, with overlap.
    pending: Pending,
    /// The batch of this step.
    chosen: Pending,
    /// Share of the remaining `max_new_tokens` of running requests that is kept for them.
    ratio: f64,
    free_rows: u32,
    entries: u64,
    /// Tokens processed, as `hrrn` counts them.
    processed: u64,
    /// Prefill attempts under a policy that does not look at the cache.
    blind_attempts: u64,
    /// Requests of the running batch preempted by the current attempt.
    preempted: Vec<u32>,
    step: u64,
    unfinished: u64,
    finished: u64,
    totals: Totals,
    readmissions: Vec<Readmission>,
    aborted: Vec<u32>,
    lookups: queue::Lookups,
}

impl<'w> Scheduler<'w> {
    /// An idle scheduler.
    ///
    /// # Errors
    /// As [`SchedulerConfig::validate`].
    pub fn new(
        workload: &'w Workload,
        config: SchedulerConfig,
        cache: RadixCache<&'w Workload>,
    ) -> Result<Self> {
        let version = cache.tree().version();
        config.validate(version)?;
        let mut config = config;
        if cache.is_disabled() && config.schedule_policy != SchedulePolicy::Lof {
            // There is no cache to look at.
            config.schedule_policy = SchedulePolicy::Fcfs;
        }
        // Priorities reach the tree where they mean something.
        let tree_priorities =
            cache.tree().policy() == Policy::Priority || config.preemption_threshold.is_some();
        let requests = (0..to_u32(workload.len())).map(|request| {
            let priority = if tree_priorities {
                workload.priority(request)
            } else {
                0
            };
            let lease = Lease::new(request, workload.prompt_len(request), priority);
            Request::new(lease, workload.output_len(request), config.max_new_slack)
        });
        let mut scheduler = Self {
            workload,
            version,
            requests: requests.collect(),
            waiting: VecDeque::new(),
            running: Batch::default(),
            last: None,
            chunked: None,
            pending: Pending::default(),
            chosen: Pending::default(),
            ratio: 0.0,
            free_rows: config.req_pool_size,
            entries: 0,
            processed: 0,
            blind_attempts: 0,
            preempted: Vec::new(),
            step: 0,
            unfinished: 0,
            finished: 0,
            totals: Totals::default(),
            readmissions: Vec::new(),
            aborted: Vec::new(),
            lookups: queue::Lookups::default(),
            config,
            cache,
        };
        scheduler.reset_ratio();
        Ok(scheduler)
    }

    /// What it did, but for the requests, and its cache.
    pub fn into_parts(self) -> (Simulation, RadixCache<&'w Workload>) {
        let simulation = Simulation {
            readmissions: self.readmissions,
            aborted: self.aborted,
            totals: self.totals,
            ..Simulation::default()
        };
        (simulation, self.cache)
    }

    pub fn workload(&self) -> &'w Workload {
        self.workload
    }

    pub fn cache(&self) -> &RadixCache<&'w Workload> {
        &self.cache
    }

    pub fn cache_mut(&mut self) -> &mut RadixCache<&'w Workload> {
        &mut self.cache
    }

    pub fn totals_mut(&mut self) -> &mut Totals {
        &mut self.totals
    }

    /// Requests finished so far.
    pub fn finished(&self) -> u64 {
        self.finished
    }

    fn request(&self, request: u32) -> &Request {
        &self.requests[request as usize]
    }

    fn request_mut(&mut self, request: u32) -> &mut Request {
        &mut self.requests[request as usize]
    }

    /// Whether no request waits or runs and every result was noticed.
    pub fn is_idle(&self) -> bool {
        self.unfinished == 0 && self.pending.kind.is_none()
    }

    pub fn num_running(&self) -> usize {
        self.running.requests.len()
    }

    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Lets a new request enter the waiting queue.
    pub fn enqueue(&mut self, request: u32) {
        self.unfinished += 1;
        self.wait(request);
    }

    /// Puts a request at the end of the waiting queue.
    fn wait(&mut self, request: u32) {
        self.entries += 1;
        let (entry, processed) = (self.entries, self.processed);
        let row = self.request_mut(request);
        row.entry = entry;
        row.processed = processed;
        self.waiting.push_back(request);
    }

    /// Chooses the batch of step `step`, which begins at `now`, and takes its memory.
    pub fn schedule(&mut self, step: u64, now: u64, log: &mut RequestLog) -> Result<Scheduled> {
        self.step = step;
        self.cache.now = step;
        self.checkpoint_chunked();
        self.merge_last();
        if self.version.is_0523() && self.drop_finished() {
            self.running.full = false;
        }
        if let Some((batch, done)) = self.prefill_batch(now, log)? {
            self.last = Some(batch);
            self.processed += done.tokens;
            return Ok(done);
        }
        let done = if self.running.requests.is_empty() {
            None
        } else {
            self.decode_batch(log)?
        };
        if done.is_some() {
            self.processed += self.running.prefill_tokens;
        }
        Ok(done.unwrap_or(Scheduled {
            kind: StepKind::Idle,
            requests: 0,
            tokens: 0,
            work: StepWork::default(),
        }))
    }

    /// Publishes the last chunk of the request whose prompt is partly computed.
    fn checkpoint_chunked(&mut self) {
        let Some(chunked) = self.chunked else {
            return;
        };
        let request = &mut self.requests[chunked as usize];
        if self.version.is_0509() || request.end > request.prefix {
            self.cache.checkpoint(&mut request.lease, request.end, true);
            request.prefix = request.end;
        }
    }

    /// Lets the requests of the last prefill batch run.
    fn merge_last(&mut self) {
        let Some(mut last) = self.last.take() else {
            return;
        };
        let before = last.requests.len();
        let (chunked, cut) = (self.chunked, last.chunked);
        last.requests.retain(|&r| {
            !self.requests[r as usize].finished && Some(r) != chunked && Some(r) != cut
        });
        if last.requests.len() < before {
            self.running.full = false;
        }
        if last.requests.is_empty() {
            return;
        }
        if self.running.requests.is_empty() {
            last.full = false;
            last.chunked = None;
            self.running = last;
        } else {
            self.running.requests.append(&mut last.requests);
        }
    }

    /// Removes finished requests from the running batch; returns whether there were any.
    fn drop_finished(&mut self) -> bool {
        let before = self.running.requests.len();
        let requests = &self.requests;
        self.running
            .requests
            .retain(|&r| !requests[r as usize].finished);
        self.running.requests.len() < before
    }

    /// Takes everything from a running request that is not in the tree, and puts its row back.
    fn retract_request(&mut self, request: u32, log: &mut RequestLog) {
        let row = &mut self.requests[request as usize];
        self.cache.drop_lease(&mut row.lease);
        row.prefix = 0;
        row.end = 0;
        row.row = false;
        row.retracted = true;
        if self.version.is_0509() {
            row.tried = 0;
        }
        self.free_rows += 1;
        self.totals.preemptions += 1;
        log.preemptions[request as usize] += 1;
    }

    /// Why a server without running requests cannot go on, if that is so: it is for ever, unless
    /// others arrive.
    pub fn stuck(&self) -> Option<Error> {
        let done = self.running.requests.is_empty()
            && self.last.is_none()
            && self.chunked.is_none()
            && self.pending.kind.is_none();
        let &request = self.waiting.front().filter(|_| done)?;
        let row = self.request(request);
        Some(Error::never_fits(format!(
            "request {request}: {} prompt tokens and up to {} output tokens do not fit a pool of {} \
             tokens, give more or leave the request out",
            row.lease.prompt,
            row.max_new,
            self.cache.capacity()
        )))
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] about the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let held = self.requests.iter().filter(|r| r.row);
        self.cache.validate(held.clone().map(|r| &r.lease))?;
        let rows = held.count() as u64;
        if rows + u64::from(self.free_rows) != u64::from(self.config.req_pool_size) {
            return Err(Error::bug(format!(
                "{rows} rows of the request pool are held"
            )));
        }
        if self.waiting.iter().any(|&r| self.request(r).row) {
            return Err(Error::bug("a waiting request holds a row"));
        }
        Ok(())
    }
}
