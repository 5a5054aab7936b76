//! The loop that lets a router route a trace over caches.

use std::collections::VecDeque;
use std::sync::Arc;

use super::caches::Caches;
use super::count::{Routed, choose, count, note};
use super::outcome::{Outcome, Seen};
use super::replicas::Draw;
use super::router::{Arrival, Router, TextIndex, View};
use super::routers::{RouterConfig, WithRouter};
use super::settings::{Available, Fleet, Ties};
use super::traffic::{Blocks, Traffic, Unit};
use super::tree::{AHEAD, BlockTree};
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx, to_u32};
use crate::stop::Stop;

/// Lets a router of the crate route all requests.
///
/// # Errors
/// [`Error::Range`] if the fleet makes no sense, [`Error::Interrupted`].
pub fn route(
    traffic: &Traffic,
    router: &RouterConfig,
    fleet: &Fleet,
    stop: &Stop,
) -> Result<(Outcome, Vec<TextIndex>)> {
    struct Drive<'a>(&'a Traffic, &'a Fleet, &'a Stop);
    impl WithRouter for Drive<'_> {
        type Output = (Outcome, Vec<TextIndex>);

        fn run<R: Router>(self, mut router: R) -> Result<Self::Output> {
            route_with(self.0, &mut router, self.1, self.2)
        }
    }
    let setting = fleet.setting(traffic)?;
    router.with(&setting, Drive(traffic, fleet, stop))
}

/// Lets any router route all requests.
///
/// # Errors
/// As [`route`]; [`Error::Range`] if the router takes a replica that is not available.
pub fn route_with<R: Router>(
    traffic: &Traffic,
    router: &mut R,
    fleet: &Fleet,
    stop: &Stop,
) -> Result<(Outcome, Vec<TextIndex>)> {
    let mut run = Run::new(traffic, fleet)?;
    let mut indices = Vec::new();
    let requests = traffic.requests();
    for request in 0..requests {
        if request.is_multiple_of(Stop::INTERVAL) {
            stop.check()?;
        }
        if request.is_multiple_of(AHEAD) {
            let next = request..(request + AHEAD).min(requests);
            run.ahead(&next);
            router.ahead(next);
        }
        run.step(router, RequestIx::from_usize(request))?;
        let recording = &fleet.recording;
        if recording.validate {
            run.tree.validate()?;
            run.caches.validate(&run.tree)?;
            router.validate()?;
        }
        if recording.index_after.contains(&to_u32(request + 1)) {
            indices.extend(router.index());
        }
    }
    Ok((run.finish(), indices))
}

/// One cache as large as all replicas together, fed with all requests: what a shared one would give.
///
/// # Errors
/// As [`route`].
pub fn pooled(traffic: &Traffic, fleet: &Fleet, stop: &Stop) -> Result<Outcome> {
    let replicas = fleet.replicas as u64;
    let one = Fleet {
        replicas: 1,
        capacity: fleet.capacity.map(|blocks| blocks.saturating_mul(replicas)),
        scaling: Vec::new(),
        ties: Ties::Lowest,
        ..fleet.clone()
    };
    Ok(route(traffic, &RouterConfig::RoundRobin, &one, stop)?.0)
}

/// A cache that hears of admissions late.
struct Late {
    caches: Caches,
    /// Leaf and replica of the admissions that are on their way.
    pending: VecDeque<(u32, usize)>,
    delay: usize,
}

/// The state of a routing.
pub(super) struct Run<'a> {
    traffic: &'a Traffic,
    fleet: &'a Fleet,
    tree: Arc<BlockTree>,
    caches: Caches,
    late: Option<Late>,
    available: Available<'a>,
    loads: Vec<u32>,
    /// Leading full blocks at each replica; those that may hit; the same in tokens; as events tell.
    held: Vec<u32>,
    hits: Vec<u32>,
    cached: Vec<u32>,
    draw: Draw,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    pub fn new(traffic: &'a Traffic, fleet: &'a Fleet) -> Result<Self> {
        let most = fleet.all_replicas()?;
        let requests = traffic.requests();
        if let Ties::Recorded(choices) = &fleet.ties {
            Error::check_rows("choices", choices.len(), requests)?;
        }
        let tree = traffic.tree(Blocks::full(Unit::Tokens, fleet.block_size))?;
        let late = if fleet.event_delay > 0 {
            Some(Late {
                caches: Caches::new(&tree, most, fleet.capacity)?,
                pending: VecDeque::new(),
                delay: fleet.event_delay as usize,
            })
        } else {
            None
        };
        Ok(Self {
            traffic,
            fleet,
            caches: Caches::new(&tree, most, fleet.capacity)?,
            late,
            tree,
            available: Available::new(fleet),
            loads: vec![0; most],
            held: vec![0; most],
            hits: vec![0; most],
            cached: vec![0; most],
            draw: Draw::new(fleet.seed),
            outcome: Outcome {
                replica: Vec::with_capacity(requests),
                hit_tokens: Vec::with_capacity(requests),
                best_hit_tokens: Vec::with_capacity(requests),
                requests: vec![0; most],
                computed_tokens: vec![0; most],
                peak_in_flight: vec![0; most],
                seen: fleet.recording.seen.then(Seen::default),
                ..Outcome::default()
            },
        })
    }

    /// Adds and takes away replicas whose time has come.
    fn scale<R: Router>(&mut self, router: &mut R, now: f64) {
        let Some(gone) = self.available.at(now) else {
            return;
        };
        for replica in gone {
            self.caches.clear(replica);
            if let Some(late) = &mut self.late {
                late.caches.clear(replica);
                late.pending.retain(|&(_, other)| other != replica);
            }
        }
        router.resized(self.available.replicas);
    }

    /// Looks at what the next requests will touch.
    fn ahead(&self, next: &std::ops::Range<usize>) {
        let mut buffer = [0; AHEAD];
        self.caches.ahead(self.tree.leaves(next, &mut buffer));
    }

    fn end_earlier<R: Router>(&mut self, router: &mut R, request: RequestIx) {
        let replica = &self.outcome.replica;
        for &ended in self.traffic.prefill_ends(request) {
            router.prefill_ended(RequestIx::new(ended), replica[ended as usize].into());
        }
        for &ended in self.traffic.finishes(request) {
            let replica = usize::from(replica[ended as usize]);
            router.finished(RequestIx::new(ended), replica);
            self.loads[replica] -= 1;
        }
    }

    /// Finds what every replica holds of a prompt; returns the most tokens that can hit.
    fn look(&mut self, leaf: u32, prompt_tokens: u32) -> u32 {
        let available = self.available.replicas;
        self.caches.lookup(leaf, available, &mut self.held);
        match &mut self.late {
            None => self.cached.copy_from_slice(&self.held),
            Some(late) => {
                while late.pending.len() > late.delay {
                    if let Some((leaf, replica)) = late.pending.pop_front() {
                        late.caches.admit(leaf, replica);
                    }
                }
                late.caches.lookup(leaf, available, &mut self.cached);
            }
        }
        let block = self.fleet.block_size;
        let most = prompt_tokens.saturating_sub(1) / block;
        for (hit, &held) in self.hits.iter_mut().zip(&self.held) {
            *hit = held.min(most) * block;
        }
        most * block
    }

    pub fn step<R: Router>(&mut self, router: &mut R, request: RequestIx) -> Result<()> {
        let columns = self.traffic.columns();
        let row = request.usize();
        let arrival = Arrival {
            request,
            prompt_tokens: columns.prompt_len[row],
            session: columns.session[row],
            time: columns.timestamp[row],
        };
        self.scale(router, arrival.time);
        self.end_earlier(router, request);
        let leaf = self.tree.leaf(request);
        let most = self.look(leaf, arrival.prompt_tokens);
        let available = self.available.replicas;
        let view = View {
            available,
            loads: &self.loads,
            waiting: &self.loads,
            running: &self.loads,
            cached: &self.cached,
            hits: &self.hits,
        };
        let decision = router.route(&arrival, &view);
        let replica = choose(decision, available, &self.fleet.ties, row, &mut self.draw)?;
        note(&mut self.outcome, router, decision, &self.hits);
        count(
            &mut self.outcome,
            router,
            &Routed {
                decision,
                replica,
                available,
                hits: &self.hits,
                prompt_tokens: arrival.prompt_tokens,
                most,
                block: self.fleet.block_size,
            },
        );
        router.booked(&arrival, &view, replica);
        self.caches.admit(leaf, replica);
        if let Some(late) = &mut self.late {
            late.pending.push_back((leaf, replica));
        }
        self.loads[replica] += 1;
        let peak = &mut self.outcome.peak_in_flight[replica];
        *peak = (*peak).max(self.loads[replica]);
        Ok(())
    }

    pub fn finish(mut self) -> Outcome {
        self.outcome.evictions = self.caches.evictions();
        self.outcome.cached_blocks = self.caches.cached().iter().sum();
        self.outcome.distinct_blocks = self.caches.distinct();
        self.outcome
    }
}
