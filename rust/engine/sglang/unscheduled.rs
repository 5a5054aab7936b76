//! A trace through the cache without a scheduler: no steps, no time.
//!
//! Three ways to overlap requests: one after the other, several in flight, or batch by batch.

use std::collections::VecDeque;

use super::cache::RadixCache;
use super::lease::Lease;
use super::workload::Workload;
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::RequestLog;
use crate::stop::Stop;

/// Requests between two looks at the stop flag.
const STOP_INTERVAL: u32 = 1024;

/// How requests overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// They do not.
    Sequential,
    /// At most so many are in flight; the oldest ends when a further one is admitted, or earlier if
    /// its memory is needed.
    Concurrent(u32),
    /// At most so many are admitted together and end together.
    Batch(u32),
}

/// Runs all requests of a trace; `with_output`: outputs are computed and cached, too.
pub(super) fn run<'w>(
    cache: &mut RadixCache<&'w Workload>,
    workload: &'w Workload,
    overlap: Overlap,
    with_output: bool,
    log: &mut RequestLog,
    stop: &Stop,
) -> Result<()> {
    let mut run = Run {
        workload,
        cache,
        with_output,
        log,
    };
    match overlap {
        Overlap::Sequential => run.sequential(stop),
        Overlap::Concurrent(0) | Overlap::Batch(0) => {
            Err(Error::range("0 requests at once: give at least 1"))
        }
        Overlap::Concurrent(limit) => run.concurrent(limit as usize, stop),
        Overlap::Batch(size) => run.batches(size, stop),
    }
}

/// Serves one request while nothing else is there.
pub(super) fn alone<'w>(
    cache: &mut RadixCache<&'w Workload>,
    workload: &'w Workload,
    request: u32,
    log: &mut RequestLog,
) -> Result<()> {
    let mut run = Run {
        workload,
        cache,
        with_output: true,
        log,
    };
    run.alone(request)
}

/// A run of a trace through the cache.
struct Run<'r, 'w> {
    workload: &'w Workload,
    cache: &'r mut RadixCache<&'w Workload>,
    with_output: bool,
    log: &'r mut RequestLog,
}

impl Run<'_, '_> {
    fn count(&self) -> u32 {
        to_u32(self.workload.len())
    }

    fn lease(&self, request: u32) -> Lease {
        let workload = self.workload;
        Lease::new(
            request,
            workload.prompt_len(request),
            workload.priority(request),
        )
    }

    /// Output tokens of a request.
    fn output(&self, request: u32) -> u32 {
        if self.with_output {
            self.workload.output_len(request)
        } else {
            0
        }
    }

    fn page_if_several(&self) -> u64 {
        match self.cache.tree().page() {
            1 => 0,
            page => u64::from(page),
        }
    }

    fn admitted(&mut self, lease: &Lease) {
        let request = lease.sequence as usize;
        self.log.hit_tokens[request] = lease.allocated;
        self.log.computed_tokens[request] = u64::from(lease.prompt - lease.allocated);
    }

    fn sequential(&mut self, stop: &Stop) -> Result<()> {
        for request in 0..self.count() {
            look(request, stop)?;
            self.alone(request)?;
        }
        Ok(())
    }

    /// Serves one request while nothing else is there.
    fn alone(&mut self, request: u32) -> Result<()> {
        self.cache.now = u64::from(request) + 1;
        let mut lease = self.lease(request);
        let prompt = lease.prompt;
        self.cache.admit(&mut lease, prompt);
        self.admitted(&lease);
        self.prefill(&mut lease)?;
        if self.output(request) > 1 {
            let prompt = lease.prompt;
            self.cache.checkpoint(&mut lease, prompt, false);
            self.decode(&mut lease)?;
        }
        let end = lease.allocated;
        self.cache.finish(&mut lease, end);
        Ok(())
    }

    /// Computes the rest of a prompt.
    fn prefill(&mut self, lease: &mut Lease) -> Result<()> {
        let rest = u64::from(lease.prompt - lease.allocated);
        self.cache.make_room(rest + self.page_if_several());
        self.take(lease, lease.prompt)
    }

    /// Computes all output tokens but the last.
    fn decode(&mut self, lease: &mut Lease) -> Result<()> {
        let end = lease.prompt + self.output(lease.sequence).max(1) - 1;
        let page = u64::from(self.cache.tree().page());
        while lease.allocated < end {
            self.cache.make_room(page);
            let free_pages = self.cache.free() / page;
            let in_page = self.cache.ceil(lease.allocated) - u64::from(lease.allocated);
            // Up to the token that takes the last free page nothing is evicted.
            let quiet = in_page + free_pages.saturating_sub(1) * page + 1;
            let rest = u64::from(end - lease.allocated);
            self.take(lease, lease.allocated + to_u32(quiet.min(rest)))?;
        }
        Ok(())
    }

    fn take(&mut self, lease: &mut Lease, upto: u32) -> Result<()> {
        if self.cache.take(lease, upto) {
            return Ok(());
        }
        Err(Error::never_fits(format!(
            "request {}: {upto} tokens do not fit a pool of {} tokens beside what else is held, give \
             more or leave the request out",
            lease.sequence,
            self.cache.capacity()
        )))
    }

    fn finish_oldest(&mut self, running: &mut VecDeque<Lease>) {
        if let Some(mut lease) = running.pop_front() {
            let end = lease.allocated;
            self.cache.finish(&mut lease, end);
        }
    }

    fn concurrent(&mut self, limit: usize, stop: &Stop) -> Result<()> {
        let mut running = VecDeque::new();
        let page = u64::from(self.cache.tree().page());
        for request in 0..self.count() {
            look(request, stop)?;
            self.cache.now = u64::from(request) + 1;
            while running.len() >= limit {
                self.finish_oldest(&mut running);
            }
            let mut lease = self.lease(request);
            loop {
                let prompt = lease.prompt;
                self.cache.admit(&mut lease, prompt);
                let rest = u64::from(lease.prompt - lease.allocated);
                let need = rest + page + u64::from(self.output(request));
                if need < self.cache.available() || running.is_empty() {
                    break;
                }
                self.cache.drop_lease(&mut lease);
                self.finish_oldest(&mut running);
            }
            self.admitted(&lease);
            self.prefill(&mut lease)?;
            let prompt = lease.prompt;
            self.cache.checkpoint(&mut lease, prompt, false);
            self.decode(&mut lease)?;
            running.push_back(lease);
        }
        while !running.is_empty() {
            self.finish_oldest(&mut running);
        }
        Ok(())
    }

    fn batches(&mut self, size: u32, stop: &Stop) -> Result<()> {
        let mut next = 0;
        let mut batch: Vec<Lease> = Vec::new();
        let page = u64::from(self.cache.tree().page());
        while next < self.count() {
            look(next, stop)?;
            self.cache.now = u64::from(next) + 1;
            let (mut reserved, mut demand) = (0, 0);
            while next < self.count() && batch.len() < size as usize {
                let mut lease = self.lease(next);
                let prompt = lease.prompt;
                self.cache.admit(&mut lease, prompt);
                let rest = lease.prompt - lease.allocated;
                let fits = u64::from(rest) + page + reserved < self.cache.available();
                if !fits && !batch.is_empty() {
                    self.cache.drop_lease(&mut lease);
                    break;
                }
                reserved += self.cache.ceil(rest) + page;
                demand += u64::from(rest) + self.page_if_several();
                self.admitted(&lease);
                batch.push(lease);
                next += 1;
            }
            self.cache.make_room(demand);
            for lease in &mut batch {
                self.take(lease, lease.prompt)?;
            }
            for mut lease in batch.drain(..) {
                let end = lease.allocated;
                self.cache.finish(&mut lease, end);
            }
        }
        Ok(())
    }
}

fn look(request: u32, stop: &Stop) -> Result<()> {
    if request.is_multiple_of(STOP_INTERVAL) {
        stop.check()?;
    }
    Ok(())
}
