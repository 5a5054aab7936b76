//! One SGLang server on a clock.

use super::cache::RadixCache;
use super::record::{Simulation, StepLog};
use super::scheduler::{Scheduled, Scheduler, SchedulerConfig};
use super::unscheduled;
use super::workload::Workload;
use crate::error::{Error, Result};
use crate::index::{to_f64, to_u32};
use crate::serving::{Clock, Instance, Latency, Load, RequestLog};

/// What to keep besides one row per request.
#[allow(clippy::struct_excessive_bools)] // Independent of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recording {
    /// A row per step.
    pub steps: bool,
    /// A row per call of eviction.
    pub evictions: bool,
    /// The tree at the end.
    pub tree: bool,
    /// Check every invariant after every step (slow).
    pub validate: bool,
}

/// Tokens of a request beyond which it is taken for a mistake: more than any model's context. Each is
/// a step, so a length that is only claimed would cost time.
const LONGEST: u32 = 1 << 24;

/// A scheduler and its cache on a clock: steps follow each other without a gap while there are
/// requests.
///
/// With overlap the tokens of a step are noticed in the next one, whose batch was chosen without them;
/// they still carry the time at which their own step ended.
#[derive(Debug)]
pub struct Server<'w> {
    scheduler: Scheduler<'w>,
    latency: Latency,
    recording: Recording,
    /// Steps so far.
    step: u64,
    clock: Clock,
    steps: StepLog,
}

impl<'w> Server<'w> {
    /// An idle server of requests of `workload`.
    ///
    /// # Errors
    /// [`Error::Range`] if the configuration is not usable, or a request is longer than any context.
    pub fn new(
        workload: &'w Workload,
        config: SchedulerConfig,
        mut cache: RadixCache<&'w Workload>,
        latency: Latency,
        recording: Recording,
    ) -> Result<Self> {
        latency.validate()?;
        refuse_claims(workload, cache.capacity())?;
        if recording.evictions {
            cache.record_evictions();
        }
        Ok(Self {
            scheduler: Scheduler::new(workload, config, cache)?,
            latency,
            recording,
            step: 0,
            clock: Clock::default(),
            steps: StepLog::default(),
        })
    }

    /// Leading tokens of a prompt that are in the tree, of at most `limit`; changes nothing.
    #[must_use]
    pub fn peek(&self, request: u32, limit: u32) -> u32 {
        let cache = self.scheduler.cache();
        if cache.is_disabled() {
            return 0;
        }
        cache.tree().peek(request, limit).tokens
    }

    /// Ends the server: what it did, but for the requests, and its cache.
    #[must_use]
    pub fn finish(self) -> (Simulation, RadixCache<&'w Workload>) {
        let (mut simulation, cache) = self.scheduler.into_parts();
        simulation.steps = self.steps;
        simulation.totals.steps = self.step;
        simulation.totals.final_clock_ns = self.clock.now();
        (simulation, cache)
    }

    /// How long a step takes. One that computes nothing takes no time, unless all steps take the same;
    /// a server that cannot go on waits for the next request, at `to`.
    fn duration(&self, done: &Scheduled, to: u64) -> Result<u64> {
        if done.requests > 0 {
            return self.latency.of(&done.work);
        }
        let fixed = match self.latency {
            Latency::Fixed(duration) => duration,
            _ => 0,
        };
        match self.scheduler.stuck() {
            Some(stuck) if to == u64::MAX => Err(stuck),
            Some(_) if fixed == 0 => Ok(to - self.clock.now()),
            _ => Ok(fixed),
        }
    }

    /// Does quiet steps, as far as they begin before `to`; returns whether there were any.
    fn pass(&mut self, to: u64, log: &mut RequestLog) -> Result<bool> {
        let Some(mut quiet) = self.scheduler.quiet() else {
            return Ok(false);
        };
        while self.clock.now() < to
            && let Some((work, free)) = quiet.step()
        {
            let duration = self.latency.of(&work)?;
            self.step += 1;
            self.count(free, duration, duration);
            self.clock.pass(duration)?;
        }
        self.scheduler.pass(&quiet, log);
        Ok(true)
    }

    /// Counts a step's use of memory and time.
    fn count(&mut self, free: u64, duration: u64, busy: u64) {
        let cache = self.scheduler.cache();
        let held = cache.capacity() - free - cache.tree().evictable();
        let totals = self.scheduler.totals_mut();
        totals.busy_ns += busy;
        totals.peak_held = totals.peak_held.max(held);
        totals.held_steps += to_f64(held);
        totals.held_ns += to_f64(held) * to_f64(duration);
    }

    fn record(&mut self, done: &Scheduled, duration: u64) {
        let cache = self.scheduler.cache();
        let (free, evictable) = (cache.free(), cache.tree().evictable());
        let busy = if done.requests > 0 { duration } else { 0 };
        self.count(free, duration, busy);
        if self.recording.steps {
            let steps = &mut self.steps;
            steps.clock_ns.push(self.clock.now());
            steps.kind.push(done.kind as u8);
            steps.requests.push(done.requests);
            steps.tokens.push(done.tokens);
            steps.running.push(to_u32(self.scheduler.num_running()));
            steps.waiting.push(to_u32(self.scheduler.num_waiting()));
            steps.free.push(free);
            steps.evictable.push(evictable);
        }
    }
}

/// Requests that do not fit the pool are refused for that, later and by their own rules.
fn refuse_claims(workload: &Workload, capacity: u64) -> Result<()> {
    for request in workload.requests().indices() {
        let (prompt, output) = (workload.prompt_len(request), workload.output_len(request));
        let tokens = prompt + output;
        if tokens >= LONGEST && u64::from(tokens) <= capacity {
            return Err(Error::range(format!(
                "request {request}: {prompt} prompt and {output} output tokens are more than {LONGEST}, \
                 correct the lengths or leave the request out"
            )));
        }
    }
    Ok(())
}

impl Instance for Server<'_> {
    fn enqueue(&mut self, request: u32, now: u64) {
        if self.scheduler.is_idle() && now > self.clock.now() {
            self.scheduler.reset_ratio();
            self.clock.wait_until(now);
        }
        self.scheduler.enqueue(request);
    }

    fn next_event(&self) -> Option<u64> {
        (!self.scheduler.is_idle()).then(|| self.clock.now())
    }

    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn advance(&mut self, to: u64, log: &mut RequestLog) -> Result<()> {
        let single = self.recording.steps || self.recording.validate;
        if !single && self.pass(to, log)? {
            return Ok(());
        }
        self.step += 1;
        let begin = self.clock.now();
        let done = self.scheduler.schedule(self.step, begin, log)?;
        let duration = self.duration(&done, to)?;
        self.record(&done, duration);
        self.clock.pass(duration)?;
        self.scheduler.notice(begin, self.clock.now(), log);
        if self.recording.validate {
            self.scheduler.validate()?;
        }
        Ok(())
    }

    fn serve_alone(&mut self, request: u32, log: &mut RequestLog) -> Result<()> {
        let workload = self.scheduler.workload();
        unscheduled::alone(self.scheduler.cache_mut(), workload, request, log)
    }

    fn load(&self) -> Load {
        Load {
            running: to_u32(self.scheduler.num_running()),
            waiting: to_u32(self.scheduler.num_waiting()),
            finished: self.scheduler.finished(),
        }
    }
}
