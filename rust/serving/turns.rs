//! Clients who wait for answers: a turn is sent after the answer to the one before, and think time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::arrivals::Run;
use super::{Instance, Requests};
use crate::error::{Error, Result};

/// A request that follows no other.
pub const FIRST: u32 = u32::MAX;

/// Which request each one follows, and how long its client waits after the answer to that.
///
/// A request is sent when the one it follows has been answered and `think_ns` have passed, but not
/// before `not_before_ns`; one that follows none, at `not_before_ns`. With `clients`, requests are
/// sent in their order by so many clients instead: each sends its next one `think_ns` after the
/// answer to its last, and after that to the one it follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns {
    /// The request before, in the order of the trace; [`FIRST`] if there is none.
    pub after: Vec<u32>,
    /// Nanoseconds from that answer to this request.
    pub think_ns: Vec<u64>,
    /// Nanoseconds from the start of the trace.
    pub not_before_ns: Vec<u64>,
    /// How many clients there are, if they are a closed loop.
    pub clients: Option<u32>,
}

impl Turns {
    /// # Errors
    /// [`Error::Range`] if a request follows itself or a later one, or there are no clients;
    /// [`Error::Shape`] if the columns differ in length.
    pub fn validate(&self) -> Result<()> {
        if self.think_ns.len() != self.after.len() || self.not_before_ns.len() != self.after.len() {
            return Err(Error::shape("the columns of the turns differ in length"));
        }
        if self.clients == Some(0) {
            return Err(Error::range("closed loop of 0 clients: give at least 1"));
        }
        for (request, &before) in (0_u32..).zip(&self.after) {
            if before != FIRST && before >= request {
                return Err(Error::range(format!(
                    "request {request} follows request {before}, which does not come before it"
                )));
            }
        }
        Ok(())
    }
}

/// What is ready to be sent, and what waits for an answer.
struct Clients<'t> {
    turns: &'t Turns,
    /// When, and which: the earliest first, the first of the trace among equals.
    ready: BinaryHeap<Reverse<(u64, u32)>>,
    /// Open traffic: the request that follows each. Closed: one whose client is ready, and since when.
    waiting: HashMap<u32, (u32, u64)>,
    /// When each request was answered; `None` before.
    answered: Vec<Option<u64>>,
    /// Closed: the next request to be sent.
    next: u32,
    in_flight: Vec<u32>,
}

impl<'t> Clients<'t> {
    fn new(turns: &'t Turns) -> Self {
        let mut clients = Self {
            turns,
            ready: BinaryHeap::new(),
            waiting: HashMap::new(),
            answered: vec![None; turns.after.len()],
            next: 0,
            in_flight: Vec::new(),
        };
        if let Some(number) = turns.clients {
            for _ in 0..number {
                clients.client_is_free(0, false);
            }
        } else {
            for (request, &before) in (0_u32..).zip(&turns.after) {
                if before == FIRST {
                    let time = turns.not_before_ns[request as usize];
                    clients.ready.push(Reverse((time, request)));
                } else {
                    clients.waiting.insert(before, (request, 0));
                }
            }
        }
        clients
    }

    /// A client has its answer at `now`: it sends the next request of the trace.
    fn client_is_free(&mut self, now: u64, thinks: bool) {
        let request = self.next;
        let Some(&before) = self.turns.after.get(request as usize) else {
            return;
        };
        self.next += 1;
        let pause = if thinks {
            self.turns.think_ns[request as usize]
        } else {
            0
        };
        let time = now.saturating_add(pause);
        match self.answered.get(before as usize) {
            Some(None) => {
                self.waiting.insert(before, (request, time));
            }
            Some(&Some(answer)) => self.ready.push(Reverse((time.max(answer), request))),
            None => self.ready.push(Reverse((time, request))),
        }
    }

    fn answer(&mut self, request: u32, now: u64) {
        self.answered[request as usize] = Some(now);
        if let Some((next, since)) = self.waiting.remove(&request) {
            let row = next as usize;
            let time = if self.turns.clients.is_some() {
                since.max(now)
            } else {
                let thought = now.saturating_add(self.turns.think_ns[row]);
                thought.max(self.turns.not_before_ns[row])
            };
            self.ready.push(Reverse((time, next)));
        }
        if self.turns.clients.is_some() {
            self.client_is_free(now, true);
        }
    }
}

/// Lets clients send all requests, and the instance serve them to the end.
pub(super) fn drive<I: Instance>(
    run: &mut Run<'_, I>,
    requests: &Requests,
    turns: &Turns,
) -> Result<()> {
    if turns.after.len() != requests.len() {
        return Err(Error::shape("the turns are not those of the trace"));
    }
    let mut clients = Clients::new(turns);
    loop {
        let next = clients.ready.peek().map(|&Reverse(sent)| sent);
        let until = next.map_or(u64::MAX, |(time, _)| time);
        if run.instance.next_event().is_some_and(|event| event < until) {
            run.look()?;
            let before = run.instance.load().finished;
            run.instance.advance(until, run.log)?;
            if run.instance.load().finished > before {
                take_answers(run, &mut clients);
            }
        } else if let Some((time, request)) = next {
            clients.ready.pop();
            clients.in_flight.push(request);
            run.log.arrival_ns[request as usize] = time;
            run.instance.enqueue(request, time);
        } else {
            return Ok(());
        }
    }
}

/// Gives the answers that are there to the clients who wait for them.
fn take_answers<I: Instance>(run: &Run<'_, I>, clients: &mut Clients<'_>) {
    let (done, still): (Vec<u32>, Vec<u32>) = std::mem::take(&mut clients.in_flight)
        .into_iter()
        .partition(|&request| run.log.finish_step[request as usize] != 0);
    clients.in_flight = still;
    for request in done {
        clients.answer(request, run.log.finish_ns[request as usize]);
    }
}
