//! When requests enter the waiting queue, and the loop that lets them.

use super::turns::{Turns, drive};
use super::{Instance, RequestLog, Requests};
use crate::error::{Error, Result};
use crate::stop::Stop;

/// Events between two looks at the stop flag.
const STOP_INTERVAL: u64 = 4096;

/// When requests enter the waiting queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrivals {
    /// When the trace says.
    Trace,
    /// All before the first step.
    Start,
    /// As soon as fewer than so many are waiting or running.
    Closed(u32),
    /// One after the other, straight through the cache: no steps, no time.
    Sequential,
    /// When clients send them, who wait for answers.
    Clients(Turns),
}

impl Arrivals {
    /// # Errors
    /// [`Error::Range`] for a closed loop of no requests, or turns that come before what they follow.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Closed(0) => Err(Error::range("closed loop of 0 requests: give at least 1")),
            Self::Clients(turns) => turns.validate(),
            _ => Ok(()),
        }
    }
}

/// Lets one instance serve all requests, to the end.
///
/// # Errors
/// [`Error::NeverFits`] if a request can never be served; [`Error::Range`] if the clock overflows, or
/// the arrivals make no sense; [`Error::Interrupted`].
pub fn serve<I: Instance>(
    instance: &mut I,
    requests: &Requests,
    arrivals: &Arrivals,
    log: &mut RequestLog,
    stop: &Stop,
) -> Result<()> {
    arrivals.validate()?;
    let mut run = Run {
        instance,
        log,
        stop,
        looks: 0,
    };
    match arrivals {
        Arrivals::Trace => {
            for request in requests.indices() {
                run.enqueue(request, requests.arrival_ns(request))?;
            }
        }
        Arrivals::Start => {
            for request in requests.indices() {
                run.enqueue(request, 0)?;
            }
        }
        Arrivals::Closed(limit) => run.closed(requests, *limit)?,
        Arrivals::Sequential => return run.sequential(requests),
        Arrivals::Clients(turns) => return drive(&mut run, requests, turns),
    }
    run.advance_to(u64::MAX)
}

/// One instance that serves, and what it has done.
pub(super) struct Run<'r, I> {
    pub(super) instance: &'r mut I,
    pub(super) log: &'r mut RequestLog,
    stop: &'r Stop,
    /// Events, or a bound of them, since the start.
    looks: u64,
}

impl<I: Instance> Run<'_, I> {
    pub(super) fn look(&mut self) -> Result<()> {
        if self.looks.is_multiple_of(STOP_INTERVAL) {
            self.stop.check()?;
        }
        self.looks += 1;
        Ok(())
    }

    fn advance_to(&mut self, to: u64) -> Result<()> {
        while self.instance.next_event().is_some_and(|time| time < to) {
            self.look()?;
            self.instance.advance(to, self.log)?;
        }
        Ok(())
    }

    fn enqueue(&mut self, request: u32, now: u64) -> Result<()> {
        self.advance_to(now)?;
        self.log.arrival_ns[request as usize] = now;
        self.instance.enqueue(request, now);
        Ok(())
    }

    /// A request arrives when another one has finished.
    fn closed(&mut self, requests: &Requests, limit: u32) -> Result<()> {
        for request in requests.indices() {
            while u64::from(request) - self.instance.load().finished >= u64::from(limit) {
                self.look()?;
                self.instance.advance(u64::MAX, self.log)?;
            }
            let now = self.instance.now();
            self.log.arrival_ns[request as usize] = now;
            self.instance.enqueue(request, now);
        }
        Ok(())
    }

    fn sequential(&mut self, requests: &Requests) -> Result<()> {
        for request in requests.indices() {
            self.look()?;
            self.instance.serve_alone(request, self.log)?;
        }
        Ok(())
    }
}
