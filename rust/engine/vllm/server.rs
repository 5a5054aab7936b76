//! One vLLM server on a clock.

use super::scheduler::Scheduled;
use super::{Scheduler, SchedulerConfig, Workload};
use crate::error::Result;
use crate::index::to_u32;
use crate::serving::{Clock, Instance, InstanceLog, KvCache, Latency, Load, RequestLog, StepRow};

/// What to keep besides one row per request.
#[allow(clippy::struct_excessive_bools)] // Independent of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recording {
    /// A row per step.
    pub steps: bool,
    /// KV events.
    pub events: bool,
    /// Block tables of finished requests, and the free queue at the end.
    pub tables: bool,
    /// Check every invariant after every step (slow).
    pub validate: bool,
}

/// A scheduler and its cache on a clock: steps follow each other without a gap while there are
/// requests. A step takes note of requests that have arrived when it begins; its tokens are there
/// when it ends.
#[derive(Debug)]
pub struct Server<'w, C: KvCache> {
    scheduler: Scheduler<'w, C>,
    latency: Latency,
    recording: Recording,
    /// Steps so far.
    step: u64,
    clock: Clock,
}

impl<'w, C: KvCache<Key = u32>> Server<'w, C> {
    /// An idle server of requests of `workload`. For KV events the cache has to record them.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) if the configuration is not usable.
    pub fn new(
        workload: &'w Workload,
        config: SchedulerConfig,
        cache: C,
        latency: Latency,
        recording: Recording,
    ) -> Result<Self> {
        latency.validate()?;
        let mut scheduler = Scheduler::new(workload, config, cache)?;
        if recording.tables {
            scheduler.record_tables();
        }
        Ok(Self {
            scheduler,
            latency,
            recording,
            step: 0,
            clock: Clock::default(),
        })
    }

    /// The scheduler.
    #[must_use]
    pub fn scheduler(&self) -> &Scheduler<'w, C> {
        &self.scheduler
    }

    /// Ends the server: what it did, and its cache.
    #[must_use]
    pub fn finish(self) -> (InstanceLog, C) {
        let (mut log, cache) = self.scheduler.into_parts();
        let usage = cache.usage();
        log.totals.steps = self.step;
        log.totals.final_clock_ns = self.clock.now();
        log.totals.evictions = usage.evictions;
        log.totals.cached_end = usage.cached;
        if self.recording.tables {
            log.free_queue = cache.free_queue();
        }
        (log, cache)
    }

    fn is_idle(&self) -> bool {
        self.scheduler.num_running() + self.scheduler.num_waiting() == 0
    }

    fn one_step(&mut self, log: &mut RequestLog) -> Result<()> {
        self.step += 1;
        let done = self.scheduler.schedule(self.step, self.clock.now(), log)?;
        let duration = self.latency.of(&done.work)?;
        self.record_step(&done, duration);
        self.clock.pass(duration)?;
        self.scheduler.sample(self.step, self.clock.now(), log);
        self.drain_events();
        Ok(())
    }

    /// Lets up to `quiet` steps that begin before `to` pass, in which only counters change.
    fn pass(&mut self, quiet: u64, to: u64) -> Result<()> {
        if let Latency::Fixed(duration) = self.latency
            && !self.recording.steps
        {
            let before = match duration {
                0 => u64::MAX,
                _ => (to - self.clock.now()).div_ceil(duration),
            };
            let steps = quiet.min(before);
            let total = self.clock.pass_steps(steps, duration)?;
            self.step += steps;
            self.scheduler.pass(steps);
            self.add_usage(steps, total);
            return Ok(());
        }
        for _ in 0..quiet {
            let work = self.scheduler.quiet_work();
            let duration = self.latency.of(&work.work)?;
            self.step += 1;
            self.record_step(&work, duration);
            self.scheduler.pass(1);
            self.clock.pass(duration)?;
            if self.clock.now() >= to {
                break;
            }
        }
        Ok(())
    }

    fn record_step(&mut self, done: &Scheduled, duration: u64) {
        self.add_usage(1, duration);
        if self.recording.steps {
            let row = StepRow {
                clock_ns: self.clock.now(),
                requests: done.requests,
                tokens: done.tokens,
                running: to_u32(self.scheduler.num_running()),
                waiting: to_u32(self.scheduler.num_waiting()),
                free: self.scheduler.cache().usage().free,
            };
            self.scheduler.log_mut().steps.push(row);
        }
    }

    fn add_usage(&mut self, steps: u64, duration: u64) {
        let used = self.scheduler.cache().usage().used();
        let totals = &mut self.scheduler.log_mut().totals;
        totals.use_slots(used, steps, duration);
    }

    fn drain_events(&mut self) {
        if self.recording.events {
            for event in self.scheduler.cache_mut().take_events() {
                self.scheduler.log_mut().events.push(self.step, &event);
            }
        }
    }

    fn validate_if_asked(&self) -> Result<()> {
        if self.recording.validate {
            self.scheduler.validate(self.step + 1)?;
        }
        Ok(())
    }
}

impl<C: KvCache<Key = u32>> Instance for Server<'_, C> {
    fn enqueue(&mut self, request: u32, now: u64) {
        if self.is_idle() {
            self.clock.wait_until(now);
        }
        self.scheduler.enqueue(request);
    }

    fn next_event(&self) -> Option<u64> {
        (!self.is_idle()).then_some(self.clock.now())
    }

    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn advance(&mut self, to: u64, log: &mut RequestLog) -> Result<()> {
        let quiet = self.scheduler.quiet_steps(self.step + 1);
        if quiet > 0 {
            self.pass(quiet, to)?;
        } else {
            self.one_step(log)?;
        }
        self.validate_if_asked()
    }

    /// Counts as a step for events and validation, but takes no time.
    fn serve_alone(&mut self, request: u32, log: &mut RequestLog) -> Result<()> {
        self.step += 1;
        self.scheduler.run_alone(request, log)?;
        self.add_usage(1, 0);
        self.drain_events();
        self.validate_if_asked()
    }

    fn load(&self) -> Load {
        Load {
            running: to_u32(self.scheduler.num_running()),
            waiting: to_u32(self.scheduler.num_waiting()),
            finished: self.scheduler.num_finished(),
        }
    }
}
