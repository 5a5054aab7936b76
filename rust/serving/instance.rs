//! One server on a clock.

use super::RequestLog;
use crate::error::Result;

/// How busy an instance is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that run.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Requests it has finished since the start.
    pub finished: u64,
}

/// One server on a clock: requests in, tokens and times out.
///
/// A fleet is a router and many of these; [`serve`](super::serve) drives one. Requests are numbered
/// by the trace, and instances of one fleet write into one [`RequestLog`], a row per request, whoever
/// serves it. What belongs to the instance alone (steps, events, sums) it keeps itself.
///
/// An *event* is what the engine does without being asked: for the engines here a step, which begins
/// at one time, ends at a later one, and takes note of requests in the queue only when it begins.
///
/// # What the caller guarantees
/// * Before [`enqueue`](Self::enqueue) at time `now`, the instance has been advanced until
///   [`next_event`](Self::next_event) is `None` or not before `now`; and `now` never decreases.
/// * [`advance`](Self::advance) is called only while `next_event() < Some(to)`, as in
///   `while instance.next_event().is_some_and(|time| time < to) { instance.advance(to, log)?; }`.
///   Requests that arrive at the very time of an event come before it.
/// * After an error the instance is not used any more.
///
/// # What the implementor must do
/// * Depend on nothing but its own requests and their times: a fleet of instances gives what each of
///   them gives alone.
/// * Have an event to come while any request runs or waits (or report that it can never be served).
/// * Return from `advance` after an event in which a request finished, and whenever `next_event` has
///   reached `to`. In between it may do as many events in one call as it likes, in one go where
///   nothing but counters changes.
/// * Write the row of each request in the log completely once it has finished. `arrival_ns` is
///   written by the caller.
pub trait Instance {
    /// Lets a request enter the waiting queue at `now` (nanoseconds).
    fn enqueue(&mut self, request: u32, now: u64);

    /// When the next event begins, in nanoseconds; `None` while no request runs or waits.
    fn next_event(&self) -> Option<u64>;

    /// When the last event ended, in nanoseconds, or the last idle instance was given work.
    fn now(&self) -> u64;

    /// Does the next event, and possibly further ones that begin before `to` (nanoseconds).
    ///
    /// # Errors
    /// [`Error::NeverFits`](crate::Error::NeverFits) if a request can never be served;
    /// [`Error::Range`](crate::Error::Range) if the clock overflows.
    fn advance(&mut self, to: u64, log: &mut RequestLog) -> Result<()>;

    /// Serves one request with the cache alone, without steps and time, while nothing else is there.
    ///
    /// # Errors
    /// [`Error::NeverFits`](crate::Error::NeverFits) if that is so.
    fn serve_alone(&mut self, request: u32, log: &mut RequestLog) -> Result<()>;

    /// How busy it is.
    fn load(&self) -> Load;
}
