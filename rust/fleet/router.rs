//! The contract of a router.

use super::replicas::Replicas;
use super::traffic::Traffic;
use crate::error::Result;
use crate::index::RequestIx;

/// A request at the moment when it is routed.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The request.
    pub request: RequestIx,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Its session.
    pub session: u32,
    /// When it comes, in seconds of the trace.
    pub time: f64,
}

/// What can be known of the replicas at the moment when a request is routed; one value per replica.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    /// Replicas that take requests.
    pub available: Replicas,
    /// Requests in flight, this one not counted.
    pub loads: &'v [u32],
    /// Requests that wait for their first step; where replicas have no time, those in flight.
    pub waiting: &'v [u32],
    /// Requests that run; where replicas have no time, those in flight.
    pub running: &'v [u32],
    /// Leading full blocks of the prompt in the cache, as the cache's events tell: late, if they are.
    pub cached: &'v [u32],
    /// Leading tokens of the prompt that would hit: the truth, for references.
    pub hits: &'v [u32],
}

/// Where a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Replicas that the rule takes with equal right; never empty.
    pub allowed: Replicas,
    /// Whether the rule left its view of the caches aside because of load.
    pub by_load: bool,
}

impl Decision {
    /// One replica.
    #[must_use]
    pub const fn one(replica: usize) -> Self {
        Self::among(Replicas::one(replica))
    }

    /// Any of some.
    #[must_use]
    pub const fn among(allowed: Replicas) -> Self {
        Self {
            allowed,
            by_load: false,
        }
    }

    /// Any of some, because of load.
    #[must_use]
    pub const fn by_load(allowed: Replicas) -> Self {
        Self {
            allowed,
            by_load: true,
        }
    }
}

/// The rule that picks a replica for each request.
///
/// # What the caller guarantees
/// * For each request in the order of the trace: [`prefill_ended`](Self::prefill_ended) and
///   [`finished`](Self::finished) for all earlier requests that this is true of by now, then
///   [`route`](Self::route), then [`booked`](Self::booked) with one of the replicas that were allowed.
/// * The view is the same for `route` and `booked`: it does not contain the request itself.
/// * At least one replica is available. When that set changes, [`resized`](Self::resized) is called
///   before the next request. A replica that is gone still finishes its requests.
///
/// # What an implementor must do
/// * Return a set that is not empty, of available replicas only. Where the real router draws at random
///   among equals, the set holds them all and the caller draws; a rule that draws with other chances
///   draws itself, from a seed.
/// * Depend on nothing but what it is told: equal calls give equal sets.
/// * Change nothing in `route` that `booked` would have to undo: any of the allowed replicas may come.
pub trait Router {
    /// Picks.
    fn route(&mut self, arrival: &Arrival, view: &View<'_>) -> Decision;

    /// The requests that come next, by their places in the trace: a router may read what it will need
    /// of its memory. Nothing that it decides may depend on this call.
    fn ahead(&mut self, requests: std::ops::Range<usize>) {
        let _ = requests;
    }

    /// Tokens of the prompt just routed that the router believes to be cached at a replica; [`None`] if
    /// its rule does not look at caches.
    fn believed(&self, replica: usize) -> Option<u32> {
        let _ = replica;
        None
    }

    /// The request just routed went to `replica`.
    fn booked(&mut self, arrival: &Arrival, view: &View<'_>, replica: usize) {
        let _ = (arrival, view, replica);
    }

    /// The prompt of a request at `replica` is computed.
    fn prefill_ended(&mut self, request: RequestIx, replica: usize) {
        let _ = (request, replica);
    }

    /// A request at `replica` has ended.
    fn finished(&mut self, request: RequestIx, replica: usize) {
        let _ = (request, replica);
    }

    /// From now on these replicas take requests.
    fn resized(&mut self, available: Replicas) {
        let _ = available;
    }

    /// Appends what the router has of its own to tell about the request just routed, for those who check
    /// its rule; equally many numbers each time.
    fn note(&self, notes: &mut Vec<f64>) {
        let _ = notes;
    }

    /// Its index as it is now, if it is a tree of texts.
    fn index(&self) -> Option<TextIndex> {
        None
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// A router's tree of texts at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextIndex {
    /// Its nodes, the root first.
    pub nodes: Vec<TextNode>,
    /// Characters counted for each replica.
    pub sizes: Vec<u64>,
}

/// A node of a tree of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextNode {
    /// Number of the node above it; its own for the root.
    pub parent: u32,
    /// A request whose text passes through it.
    pub request: u32,
    /// Characters of that text at which it begins.
    pub start: u32,
    /// Characters at which it ends.
    pub end: u32,
    /// The replicas it is counted for.
    pub tenants: Replicas,
    /// The replica that answers for it.
    pub owner: u32,
}

/// What a router is made from.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'t> {
    /// The requests.
    pub traffic: &'t Traffic,
    /// Most replicas there will be.
    pub replicas: usize,
    /// Those that take requests from the start.
    pub available: Replicas,
    /// Tokens of an engine block.
    pub block_size: u32,
    /// Seed of what it draws.
    pub seed: u64,
}
