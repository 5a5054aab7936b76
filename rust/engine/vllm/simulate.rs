//! The clock, arrivals, and what is recorded.

use super::record::{EventLog, RequestLog, StepLog, Totals};
use super::scheduler::Scheduled;
use super::{DenseIndex, Latency, Manager, ManagerConfig, Scheduler, SchedulerConfig, Workload};
use crate::error::{Error, Result};
use crate::stop::Stop;

/// Steps between two looks at the stop flag.
const STOP_INTERVAL: u64 = 4096;

/// When requests enter the waiting queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// When the trace says.
    Trace,
    /// All before the first step.
    Start,
    /// As soon as fewer than so many are waiting or running.
    Closed(u32),
    /// One after the other, straight through the KV-cache manager: no steps, no time.
    Sequential,
}

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

/// Everything that decides a simulation, besides the workload.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationConfig {
    /// Slots, the null block included.
    pub num_blocks: u32,
    /// The KV-cache manager.
    pub manager: ManagerConfig,
    /// The scheduler.
    pub scheduler: SchedulerConfig,
    /// Arrivals.
    pub arrivals: Arrivals,
    /// What steps cost.
    pub latency: Latency,
    /// What to keep.
    pub recording: Recording,
}

/// What a simulation gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Simulation {
    /// One row per request.
    pub requests: RequestLog,
    /// One row per step, if recorded.
    pub steps: StepLog,
    /// KV events, if recorded.
    pub events: EventLog,
    /// Sums.
    pub totals: Totals,
    /// The free slots at the end, next to be taken first, if recorded.
    pub free_queue: Vec<u32>,
}

/// Runs the workload to its end.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Range`] if the configuration is not usable, a request can never be
/// served, or the clock
/// overflows; [`Error::Interrupted`].
pub fn simulate(workload: &Workload, config: &SimulationConfig, stop: &Stop) -> Result<Simulation> {
    check(workload, config)?;
    let index = DenseIndex::new(workload.num_keys() as usize);
    let mut manager = Manager::new(config.num_blocks, config.manager.clone(), index)?;
    if config.recording.events {
        manager.record_events();
    }
    let mut scheduler = Scheduler::new(workload, config.scheduler.clone(), manager)?;
    scheduler.record_tables = config.recording.tables;
    let mut run = Run {
        workload,
        config,
        scheduler,
        step: 0,
        clock: 0,
        next: 0,
        steps: StepLog::default(),
        events: EventLog::default(),
    };
    if config.arrivals == Arrivals::Sequential {
        run.sequential(stop)?;
    } else {
        run.steps(stop)?;
    }
    Ok(run.finish())
}

fn check(workload: &Workload, config: &SimulationConfig) -> Result<()> {
    config.latency.validate()?;
    let manager = &config.manager;
    manager.validate()?;
    if manager.block_size != workload.block_size() {
        return Err(Error::invalid(format!(
            "the workload was compiled for blocks of {} tokens, not {}",
            workload.block_size(),
            manager.block_size
        )));
    }
    if matches!(config.arrivals, Arrivals::Closed(0)) {
        return Err(Error::invalid("closed loop of 0 requests: give at least 1"));
    }
    for request in 0..workload.len() as u32 {
        let prompt = workload.prompt_len(request);
        if prompt >= manager.max_model_len {
            return Err(Error::never_fits(format!(
                "request {request}: a prompt of {prompt} tokens leaves no token to sample within \
                 max_model_len {}, give more or leave the request out",
                manager.max_model_len
            )));
        }
        // The last token is never computed.
        let tokens = (prompt + workload.output_len(request)).min(manager.max_model_len) - 1;
        let blocks = tokens.div_ceil(manager.block_size);
        if manager.sliding_window.is_none() && blocks > config.num_blocks.saturating_sub(1) {
            return Err(Error::never_fits(format!(
                "request {request}: {tokens} tokens need {blocks} blocks of {} tokens and can \
                 never fit {} (the null block not counted), give more blocks",
                manager.block_size,
                config.num_blocks.saturating_sub(1)
            )));
        }
    }
    Ok(())
}

struct Run<'w> {
    workload: &'w Workload,
    config: &'w SimulationConfig,
    scheduler: Scheduler<'w>,
    /// Steps so far.
    step: u64,
    clock: u64,
    /// The next request to arrive.
    next: u32,
    steps: StepLog,
    events: EventLog,
}

impl Run<'_> {
    fn steps(&mut self, stop: &Stop) -> Result<()> {
        let mut looks = 0;
        loop {
            if looks % STOP_INTERVAL == 0 {
                stop.check()?;
            }
            looks += 1;
            if self.scheduler.num_running() + self.scheduler.num_waiting() == 0 {
                if self.next as usize == self.workload.len() {
                    return Ok(());
                }
                if self.config.arrivals == Arrivals::Trace {
                    self.clock = self.clock.max(self.workload.arrival_ns(self.next));
                }
            }
            self.arrive();
            let quiet = self.scheduler.quiet_steps(self.step + 1);
            if quiet > 0 {
                self.pass(quiet)?;
            } else {
                self.one_step()?;
            }
            if self.config.recording.validate {
                self.scheduler.validate(self.step + 1)?;
            }
        }
    }

    /// Moves requests that have arrived to the waiting queue.
    fn arrive(&mut self) {
        while (self.next as usize) < self.workload.len() {
            let arrival = match self.config.arrivals {
                Arrivals::Trace => self.workload.arrival_ns(self.next),
                Arrivals::Start | Arrivals::Sequential => 0,
                Arrivals::Closed(limit) => {
                    if u64::from(self.next) - self.scheduler.finished >= u64::from(limit) {
                        return;
                    }
                    self.clock
                }
            };
            if arrival > self.clock {
                return;
            }
            self.scheduler.requests.arrival_ns[self.next as usize] = arrival;
            self.scheduler.waiting.push_back(self.next);
            self.next += 1;
        }
    }

    fn one_step(&mut self) -> Result<()> {
        self.step += 1;
        let done = self.scheduler.schedule(self.step, self.clock)?;
        let duration = self.config.latency.of(&done.work)?;
        self.record_step(&done, duration);
        let end = self.later(duration)?;
        self.scheduler.sample(self.step, end);
        self.clock = end;
        self.drain_events();
        Ok(())
    }

    /// Lets up to `quiet` steps pass in which only counters change.
    fn pass(&mut self, quiet: u64) -> Result<()> {
        let next_arrival = match self.config.arrivals {
            Arrivals::Trace if (self.next as usize) < self.workload.len() => {
                self.workload.arrival_ns(self.next)
            }
            _ => u64::MAX,
        };
        if let Latency::Fixed(duration) = self.config.latency
            && !self.config.recording.steps
        {
            let until_arrival = match duration {
                0 => u64::MAX,
                _ => (next_arrival - self.clock).div_ceil(duration),
            };
            let steps = quiet.min(until_arrival);
            let total = steps.checked_mul(duration).ok_or_else(clock_overflow)?;
            self.clock = self.later(total)?;
            self.step += steps;
            self.scheduler.pass(steps);
            self.add_usage(steps, total);
            return Ok(());
        }
        for _ in 0..quiet {
            let work = self.scheduler.quiet_work();
            let duration = self.config.latency.of(&work.work)?;
            self.step += 1;
            self.record_step(&work, duration);
            self.scheduler.pass(1);
            self.clock = self.later(duration)?;
            if self.clock >= next_arrival {
                break;
            }
        }
        Ok(())
    }

    fn later(&self, duration: u64) -> Result<u64> {
        self.clock.checked_add(duration).ok_or_else(clock_overflow)
    }

    fn record_step(&mut self, done: &Scheduled, duration: u64) {
        self.add_usage(1, duration);
        if self.config.recording.steps {
            self.steps.clock_ns.push(self.clock);
            self.steps.requests.push(done.requests);
            self.steps.tokens.push(done.tokens);
            self.steps.running.push(self.scheduler.num_running() as u32);
            self.steps.waiting.push(self.scheduler.num_waiting() as u32);
            self.steps
                .free
                .push(self.scheduler.manager.pool().num_free());
        }
    }

    fn add_usage(&mut self, steps: u64, duration: u64) {
        let used = self.scheduler.used();
        let totals = &mut self.scheduler.totals;
        totals.peak_used = totals.peak_used.max(used);
        totals.used_steps += f64::from(used) * steps as f64;
        totals.used_ns += f64::from(used) * duration as f64;
        totals.busy_ns += duration;
    }

    fn drain_events(&mut self) {
        if self.config.recording.events {
            for event in self.scheduler.manager.take_events() {
                self.events.push(self.step, &event);
            }
        }
    }

    /// One request at a time, without steps or time.
    fn sequential(&mut self, stop: &Stop) -> Result<()> {
        for request in 0..self.workload.len() as u32 {
            if u64::from(request) % STOP_INTERVAL == 0 {
                stop.check()?;
            }
            self.step += 1;
            self.scheduler.run_alone(request)?;
            self.add_usage(1, 0);
            self.drain_events();
            if self.config.recording.validate {
                self.scheduler.validate(self.step)?;
            }
        }
        self.step = 0;
        Ok(())
    }

    fn finish(self) -> Simulation {
        let pool = self.scheduler.manager.pool();
        let mut totals = self.scheduler.totals;
        totals.steps = self.step;
        totals.final_clock_ns = self.clock;
        totals.evictions = pool.evictions();
        totals.cached_end = pool.num_cached() as u64;
        let free_queue = if self.config.recording.tables {
            pool.free_slots().collect()
        } else {
            Vec::new()
        };
        Simulation {
            free_queue,
            requests: self.scheduler.requests,
            steps: self.steps,
            events: self.events,
            totals,
        }
    }
}

fn clock_overflow() -> Error {
    Error::invalid("the clock passes 2^64 ns (584 years): check timestamps and latency")
}
