//! The loop that lets a router route a trace over caches.

use std::collections::VecDeque;
use std::sync::Arc;

use super::caches::Caches;
use super::outcome::{Cause, Outcome, Seen};
use super::replicas::{Draw, MOST_REPLICAS, Replicas};
use super::router::{Arrival, Decision, Router, Setting, TextIndex, View};
use super::routers::{RouterConfig, WithRouter};
use super::traffic::{Blocks, Traffic, Unit};
use super::tree::BlockTree;
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx, to_u32};
use crate::stop::Stop;

/// Which of several replicas that a rule takes with equal right is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ties {
    /// The one with the lowest number.
    Lowest,
    /// One drawn from the seed.
    Random,
    /// What was recorded, one per request.
    Recorded(Vec<u8>),
}

/// A change of the number of replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Seconds of the trace.
    pub time: f64,
    /// Replicas that are added, or taken away if negative: the last ones first.
    pub replicas: i32,
}

/// What to keep for those who check a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Keep [`Seen`].
    pub seen: bool,
    /// Numbers of requests after which the router's index is kept.
    pub index_after: Vec<u32>,
    /// Check every invariant after every request (slow).
    pub validate: bool,
}

/// Everything that decides a routing, besides the traffic and the router.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Replicas at the start.
    pub replicas: usize,
    /// Blocks of each replica's cache; [`None`]: no limit.
    pub capacity: Option<u64>,
    /// Tokens of a block.
    pub block_size: u32,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// What decides between equals.
    pub ties: Ties,
    /// Requests by which events of the caches reach the router late.
    pub event_delay: u32,
    /// Changes of the number of replicas, in order of time.
    pub scaling: Vec<Scaling>,
    /// What to keep.
    pub recording: Recording,
}

impl Fleet {
    /// Replicas of `capacity` blocks, with ties drawn from seed 0.
    #[must_use]
    pub const fn new(replicas: usize, capacity: Option<u64>, block_size: u32) -> Self {
        Self {
            replicas,
            capacity,
            block_size,
            seed: 0,
            ties: Ties::Random,
            event_delay: 0,
            scaling: Vec::new(),
            recording: Recording {
                seen: false,
                index_after: Vec::new(),
                validate: false,
            },
        }
    }

    /// Replicas that there are at some time: those at the start, and each one that is added has a number
    /// of its own.
    ///
    /// # Errors
    /// [`Error::Range`] if there is a moment without replicas, or more than [`MOST_REPLICAS`] have a
    /// number; if changes are not in order of time.
    pub fn all_replicas(&self) -> Result<usize> {
        let mut count = i64::try_from(self.replicas).unwrap_or(i64::MAX);
        let mut all = count;
        let mut last = f64::NEG_INFINITY;
        for change in &self.scaling {
            count = count.saturating_add(i64::from(change.replicas));
            all = all.saturating_add(i64::from(change.replicas.max(0)));
            if count < 1 {
                return Err(Error::range(format!(
                    "no replica is left at {} s, keep at least 1",
                    change.time
                )));
            }
            if change.time < last {
                return Err(Error::range(
                    "changes of the replicas are not in order of time",
                ));
            }
            last = change.time;
        }
        match usize::try_from(all) {
            Ok(all) if (1..=MOST_REPLICAS).contains(&all) => Ok(all),
            _ => Err(Error::range(format!(
                "{all} replicas, give 1 to {MOST_REPLICAS}"
            ))),
        }
    }

    /// What a router of this fleet is made from.
    ///
    /// # Errors
    /// As [`Fleet::all_replicas`].
    pub fn setting<'t>(&self, traffic: &'t Traffic) -> Result<Setting<'t>> {
        Ok(Setting {
            traffic,
            replicas: self.all_replicas()?,
            available: Replicas::first(self.replicas),
            block_size: self.block_size,
            seed: self.seed,
        })
    }
}

/// Which replicas take requests, as time passes.
#[derive(Debug)]
pub(super) struct Available<'a> {
    changes: &'a [Scaling],
    pub replicas: Replicas,
    next: usize,
}

impl<'a> Available<'a> {
    pub fn new(fleet: &'a Fleet) -> Self {
        Self {
            changes: &fleet.scaling,
            replicas: Replicas::first(fleet.replicas),
            next: fleet.replicas,
        }
    }

    /// Adds and takes away replicas whose time has come; returns those that are gone, if anything has
    /// changed.
    pub fn at(&mut self, now: f64) -> Option<Replicas> {
        let before = self.replicas;
        while let Some((change, rest)) = self.changes.split_first()
            && change.time <= now
        {
            self.changes = rest;
            for _ in 0..change.replicas.unsigned_abs() {
                if change.replicas > 0 {
                    self.replicas.add(self.next);
                    self.next += 1;
                } else {
                    let last = self.replicas.nth(self.replicas.len() - 1);
                    self.replicas = self.replicas.without(Replicas::one(last));
                }
            }
        }
        (self.replicas != before).then(|| before.without(self.replicas))
    }
}

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
    for request in 0..traffic.requests() {
        if request.is_multiple_of(Stop::INTERVAL) {
            stop.check()?;
        }
        run.step(router, RequestIx::from_usize(request))?;
        let recording = &fleet.recording;
        if recording.validate {
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
        let (tree, available) = (&self.tree, self.available.replicas);
        self.caches.lookup(tree, leaf, available, &mut self.held);
        match &mut self.late {
            None => self.cached.copy_from_slice(&self.held),
            Some(late) => {
                while late.pending.len() > late.delay {
                    if let Some((leaf, replica)) = late.pending.pop_front() {
                        late.caches.admit(tree, leaf, replica);
                    }
                }
                late.caches.lookup(tree, leaf, available, &mut self.cached);
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
        self.caches.admit(&self.tree, leaf, replica);
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
        self.outcome.distinct_blocks = self.caches.distinct(&self.tree);
        self.outcome
    }
}

/// The replica that is taken.
pub(super) fn choose(
    decision: Decision,
    available: Replicas,
    ties: &Ties,
    request: usize,
    draw: &mut Draw,
) -> Result<usize> {
    let allowed = decision.allowed;
    if allowed.is_empty() || !allowed.without(available).is_empty() {
        return Err(Error::range(format!(
            "request {request}: the router takes a replica that is not there"
        )));
    }
    Ok(match ties {
        Ties::Lowest => allowed.lowest(),
        Ties::Random => draw.one_of(allowed),
        Ties::Recorded(choices) => {
            let replica = usize::from(choices[request]);
            if !available.has(replica) {
                return Err(Error::range(format!(
                    "request {request}: choice {replica} is no replica"
                )));
            }
            replica
        }
    })
}

/// A request that has been routed, and what there was to hit.
pub(super) struct Routed<'h> {
    pub decision: Decision,
    pub replica: usize,
    pub available: Replicas,
    /// Tokens that would hit at each replica.
    pub hits: &'h [u32],
    pub prompt_tokens: u32,
    /// Most tokens that can hit.
    pub most: u32,
    pub block: u32,
}

/// Counts a routed request.
pub(super) fn count<R: Router>(outcome: &mut Outcome, router: &R, chosen: &Routed<'_>) {
    let (replica, hits) = (chosen.replica, chosen.hits);
    let hit = hits[replica];
    let best = hits.iter().copied().max().unwrap_or(0);
    let believed = router.believed(replica);
    outcome
        .replica
        .push(u8::try_from(replica).unwrap_or(u8::MAX));
    outcome.hit_tokens.push(hit);
    outcome.best_hit_tokens.push(best);
    outcome.believed_tokens.extend(believed);
    outcome.requests[replica] += 1;
    outcome.computed_tokens[replica] += u64::from(chosen.prompt_tokens - hit);
    if best == hit {
        return;
    }
    let cause = cause(router, chosen, best, believed) as usize;
    outcome.regret_tokens_by_cause[cause] += u64::from(best - hit);
    outcome.regret_requests_by_cause[cause] += 1;
}

/// Why a better replica was not taken.
fn cause<R: Router>(router: &R, chosen: &Routed<'_>, best: u32, believed: Option<u32>) -> Cause {
    if chosen.decision.by_load {
        return Cause::Load;
    }
    let Some(believed) = believed else {
        return Cause::Missing;
    };
    let usable = |tokens: u32| tokens.min(chosen.most) / chosen.block * chosen.block;
    let own = usable(believed);
    let others = chosen
        .available
        .into_iter()
        .filter(|&w| chosen.hits[w] == best)
        .filter_map(|w| router.believed(w));
    let better = usable(others.max().unwrap_or(0));
    if better > own {
        Cause::Load
    } else if own > chosen.hits[chosen.replica] {
        Cause::Stale
    } else if better == own && own > 0 {
        Cause::Tie
    } else {
        Cause::Missing
    }
}

/// Keeps what a router saw, if that was asked for.
pub(super) fn note<R: Router>(
    outcome: &mut Outcome,
    router: &R,
    decision: Decision,
    replicas: &[u32],
) {
    let Some(seen) = &mut outcome.seen else {
        return;
    };
    seen.allowed.push(decision.allowed.0);
    seen.by_load.push(decision.by_load);
    seen.believed
        .extend((0..replicas.len()).filter_map(|w| router.believed(w)));
    router.note(&mut seen.notes);
}
