//! Replicas that are full engines with time, on one clock.

mod grouped;
mod sglang;
mod vllm;

pub use grouped::GroupedReplica;
pub use sglang::SglangReplica;
pub use vllm::{BlockChange, BlockEvents, VllmReplica};

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::{Error, Result};
use crate::fleet::count::{Routed, choose, count, note};
use crate::fleet::outcome::{Outcome, Seen};
use crate::fleet::replicas::{Draw, Replicas};
use crate::fleet::router::{Arrival, Router, View};
use crate::fleet::settings::{Available, Fleet};
use crate::fleet::traffic::Traffic;
use crate::index::{Ix, RequestIx};
use crate::serving::{Instance, RequestLog, Requests};
use crate::stop::Stop;

/// An engine whose cache others can look into.
pub trait Replica {
    /// The engine.
    type Server: Instance;

    /// The engine.
    fn server(&self) -> &Self::Server;

    /// The engine, to let it work.
    fn server_mut(&mut self) -> &mut Self::Server;

    /// Takes note of what the engine did up to now.
    fn observe(&mut self) {}

    /// Leading tokens of a prompt that are cached now.
    fn cached(&self, request: u32) -> u32;

    /// The same, as far as its events have told by `now` (nanoseconds).
    fn told(&mut self, request: u32, now: u64) -> u32;
}

/// What is still to be told to the router, in order of time: first tokens before ends, then by number.
type Notices = BinaryHeap<Reverse<(u64, bool, u32)>>;

/// The state of a fleet of engines.
struct Serving<'a, P> {
    traffic: &'a Traffic,
    fleet: &'a Fleet,
    replicas: Vec<P>,
    available: Available<'a>,
    /// Requests of each instance of which something is still to be told.
    open: Vec<Vec<u32>>,
    notices: Notices,
    loads: Vec<u32>,
    waiting: Vec<u32>,
    running: Vec<u32>,
    hits: Vec<u32>,
    cached: Vec<u32>,
    draw: Draw,
    outcome: Outcome,
}

/// Lets engines serve all requests, each where the router sends it. Engines are numbered as replicas.
///
/// Of the outcome, `hit_tokens` is what each request would have found when it was routed; what it found
/// when it was admitted is in the log.
///
/// # Errors
/// [`Error::NeverFits`] if a request can never be served; [`Error::Range`] if there are not as many
/// engines as replicas, or as [`super::route`]; [`Error::Interrupted`].
pub fn serve_fleet<P: Replica, R: Router>(
    replicas: Vec<P>,
    requests: &Requests,
    traffic: &Traffic,
    router: &mut R,
    fleet: &Fleet,
    log: &mut RequestLog,
    stop: &Stop,
) -> Result<(Outcome, Vec<P>)> {
    let count = fleet.all_replicas()?;
    if replicas.len() != count {
        let engines = replicas.len();
        return Err(Error::range(format!(
            "{engines} engines for {count} replicas"
        )));
    }
    Error::check_rows("requests", requests.len(), traffic.requests())?;
    let mut serving = Serving {
        traffic,
        fleet,
        replicas,
        available: Available::new(fleet),
        open: vec![Vec::new(); count],
        notices: BinaryHeap::new(),
        loads: vec![0; count],
        waiting: vec![0; count],
        running: vec![0; count],
        hits: vec![0; count],
        cached: vec![0; count],
        draw: Draw::new(fleet.seed),
        outcome: Outcome {
            requests: vec![0; count],
            computed_tokens: vec![0; count],
            peak_in_flight: vec![0; count],
            seen: fleet.recording.seen.then(Seen::default),
            ..Outcome::default()
        },
    };
    for request in requests.indices() {
        let now = requests.arrival_ns(request);
        serving.advance(now, log, stop)?;
        serving.tell(router, now);
        serving.route(router, request, now, log)?;
    }
    serving.advance(u64::MAX, log, stop)?;
    serving.tell(router, u64::MAX);
    serving.outcome.computed_tokens.fill(0);
    for (row, &replica) in serving.outcome.replica.iter().enumerate() {
        serving.outcome.computed_tokens[usize::from(replica)] += log.computed_tokens[row];
    }
    Ok((serving.outcome, serving.replicas))
}

impl<P: Replica> Serving<'_, P> {
    /// Lets every engine do what begins before `to`, and notes what came of it.
    fn advance(&mut self, to: u64, log: &mut RequestLog, stop: &Stop) -> Result<()> {
        for (w, replica) in self.replicas.iter_mut().enumerate() {
            let mut moved = false;
            while replica.server().next_event().is_some_and(|time| time < to) {
                stop.check()?;
                replica.server_mut().advance(to, log)?;
                replica.observe();
                moved = true;
            }
            if !moved {
                continue;
            }
            let notices = &mut self.notices;
            self.open[w].retain_mut(|request| {
                // The highest bit: the first token was told already.
                let (row, told) = (*request & !FIRST, *request & FIRST != 0);
                let at = row as usize;
                if !told && log.first_token_step[at] > 0 {
                    notices.push(Reverse((log.first_token_ns[at], false, row)));
                    *request |= FIRST;
                }
                let ended = log.finish_step[at] > 0;
                if ended {
                    notices.push(Reverse((log.finish_ns[at], true, row)));
                }
                !ended
            });
        }
        Ok(())
    }

    /// Tells the router what it can know by `now`.
    fn tell<R: Router>(&mut self, router: &mut R, now: u64) {
        while let Some(&Reverse((time, ended, request))) = self.notices.peek()
            && time <= now
        {
            self.notices.pop();
            let replica = usize::from(self.outcome.replica[request as usize]);
            if ended {
                router.finished(RequestIx::new(request), replica);
                self.loads[replica] -= 1;
            } else {
                router.prefill_ended(RequestIx::new(request), replica);
            }
        }
    }

    /// Looks into every cache; returns the most tokens that can hit.
    fn look(&mut self, request: u32, prompt_tokens: u32, now: u64) -> u32 {
        let block = self.fleet.block_size;
        let most = prompt_tokens.saturating_sub(1) / block * block;
        for (w, replica) in self.replicas.iter_mut().enumerate() {
            let load = replica.server().load();
            (self.waiting[w], self.running[w]) = (load.waiting, load.running);
            let taken = self.available.replicas.has(w);
            let (now, told) = if taken {
                (replica.cached(request), replica.told(request, now))
            } else {
                (0, 0)
            };
            self.hits[w] = now.min(most) / block * block;
            self.cached[w] = told / block;
        }
        most
    }

    fn route<R: Router>(
        &mut self,
        router: &mut R,
        request: u32,
        now: u64,
        log: &mut RequestLog,
    ) -> Result<()> {
        let columns = self.traffic.columns();
        let row = request as usize;
        let arrival = Arrival {
            request: RequestIx::from_usize(row),
            prompt_tokens: columns.prompt_len[row],
            session: columns.session[row],
            time: columns.timestamp[row],
        };
        if self.available.at(arrival.time).is_some() {
            router.resized(self.available.replicas);
        }
        let most = self.look(request, arrival.prompt_tokens, now);
        let available: Replicas = self.available.replicas;
        let view = View {
            available,
            loads: &self.loads,
            waiting: &self.waiting,
            running: &self.running,
            cached: &self.cached,
            hits: &self.hits,
        };
        let decision = router.route(&arrival, &view);
        let replica = choose(decision, available, &self.fleet.ties, row, &mut self.draw)?;
        note(&mut self.outcome, router, decision, &self.hits);
        let chosen = Routed {
            decision,
            replica,
            available,
            hits: &self.hits,
            prompt_tokens: arrival.prompt_tokens,
            most,
            block: self.fleet.block_size,
        };
        count(&mut self.outcome, router, &chosen);
        router.booked(&arrival, &view, replica);
        self.loads[replica] += 1;
        let peak = &mut self.outcome.peak_in_flight[replica];
        *peak = (*peak).max(self.loads[replica]);
        log.arrival_ns[row] = now;
        self.replicas[replica].server_mut().enqueue(request, now);
        self.open[replica].push(request);
        Ok(())
    }
}

/// Requests are fewer than 2^30.
const FIRST: u32 = 1 << 31;
