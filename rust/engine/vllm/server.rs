//! One vLLM server on a clock.

use std::collections::VecDeque;

use super::scheduler::Scheduled;
use super::{Scheduler, SchedulerConfig, Workload};
use crate::error::Result;
use crate::index::to_u32;
use crate::serving::{
    CacheEvent, Clock, Instance, InstanceLog, KvCache, Latency, Load, RequestLog, StepRow,
};

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
    /// What limits the hit of each request.
    pub limits: bool,
    /// The whole state in every step (slow).
    pub states: bool,
    /// Check every invariant after every step (slow).
    pub validate: bool,
}

/// A scheduler and its cache on a clock: steps follow each other without a gap while there are
/// requests. A step takes note of requests that have arrived when it begins; its tokens are there
/// when it ends.
///
/// With asynchronous scheduling a step is scheduled when the one before begins to run, and the loop is
/// that of `vllm/v1/engine/core.py` (`step_with_batch_queue`): two steps are in flight at most, and
/// one more is scheduled, empty, after the last request has finished.
#[derive(Debug)]
pub struct Server<'w, C: KvCache> {
    scheduler: Scheduler<'w, C>,
    latency: Latency,
    recording: Recording,
    /// Steps so far.
    step: u64,
    clock: Clock,
    /// What the steps in flight take in nanoseconds, `None` where nothing is computed.
    durations: VecDeque<Option<u64>>,
    /// Whether a request finished since the last step was scheduled.
    unreported: bool,
}

/// Steps that are scheduled before the output of the oldest is awaited.
const QUEUE: usize = 2;

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
        if recording.limits {
            scheduler.record_limits();
        }
        if recording.states {
            scheduler.look_always();
        }
        Ok(Self {
            scheduler,
            latency,
            recording,
            step: 0,
            clock: Clock::default(),
            durations: VecDeque::new(),
            unreported: false,
        })
    }

    /// The scheduler.
    #[must_use]
    pub fn scheduler(&self) -> &Scheduler<'w, C> {
        &self.scheduler
    }

    /// The events of the cache since the last call, if it records them and the server does not.
    pub fn take_cache_events(&mut self) -> Vec<CacheEvent<u32>> {
        self.scheduler.cache_mut().take_events()
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

    fn has_requests(&self) -> bool {
        self.scheduler.num_running() + self.scheduler.num_waiting() > 0
    }

    fn is_idle(&self) -> bool {
        !self.has_requests() && !self.unreported && self.durations.is_empty()
    }

    /// Schedules a step; returns how long it takes.
    fn schedule(&mut self, log: &mut RequestLog) -> Result<(Scheduled, u64)> {
        self.step += 1;
        let done = self.scheduler.schedule(self.step, self.clock.now(), log)?;
        let duration = self.latency.of(&done.work)?;
        self.record_step(&done, duration);
        if self.recording.states {
            let state = self.scheduler.state(self.clock.now());
            self.scheduler.log_mut().states.push(state);
        }
        Ok((done, duration))
    }

    fn one_step(&mut self, log: &mut RequestLog) -> Result<()> {
        let (_, duration) = self.schedule(log)?;
        self.clock.pass(duration)?;
        self.scheduler.sample(self.clock.now(), log);
        self.scheduler.plan(self.step);
        self.drain_events();
        Ok(())
    }

    /// Schedules a step if there is something to do, then awaits the output of the oldest in flight if
    /// that was the second one, or there is nothing else to do.
    fn one_round(&mut self, log: &mut RequestLog) -> Result<()> {
        if self.has_requests() || self.unreported {
            self.unreported = false;
            let (done, duration) = self.schedule(log)?;
            let runs = done.tokens > 0;
            self.durations.push_back(runs.then_some(duration));
            if self.durations.len() < QUEUE && (runs || self.has_requests()) {
                self.scheduler.plan(self.step);
                self.drain_events();
                return Ok(());
            }
        }
        if let Some(Some(duration)) = self.durations.pop_front() {
            self.clock.pass(duration)?;
        }
        self.unreported |= self.scheduler.sample(self.clock.now(), log);
        self.scheduler.plan(self.step);
        self.drain_events();
        Ok(())
    }

    /// Lets up to `quiet` steps that begin before `to` pass, in which only counters change.
    fn pass(&mut self, quiet: u64, to: u64) -> Result<()> {
        self.unreported = false;
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
            let mut duration = self.latency.of(&work.work)?;
            self.step += 1;
            self.record_step(&work, duration);
            self.scheduler.pass(1);
            if let Some(Some(in_flight)) = self.durations.back_mut() {
                // This step is in flight now, and the one before has run.
                std::mem::swap(in_flight, &mut duration);
            }
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
        } else if self.scheduler.is_async() {
            self.one_round(log)?;
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
