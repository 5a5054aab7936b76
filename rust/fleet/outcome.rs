//! What a routing of a trace did.

/// Why requests missed tokens that another replica held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The router knew of a better replica, and chose another one because of load.
    Load,
    /// It believed the better replica to hold less than it did.
    Missing,
    /// It believed the chosen replica to hold more than it did.
    Stale,
    /// It believed both to hold the same.
    Tie,
}

impl Cause {
    /// All of them, in the order of [`Outcome::regret_tokens_by_cause`].
    pub const ALL: [Self; 4] = [Self::Load, Self::Missing, Self::Stale, Self::Tie];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Tie => "tie",
        }
    }
}

/// What a routing of a trace did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The replica of each request.
    pub replica: Vec<u8>,
    /// Leading tokens of each prompt served from its replica's cache.
    pub hit_tokens: Vec<u32>,
    /// What the replica with the most would have served.
    pub best_hit_tokens: Vec<u32>,
    /// Tokens that the router believed to be cached at the chosen replica; empty if its rule does not
    /// look at caches.
    pub believed_tokens: Vec<u32>,
    /// Sum over requests of best less served, by [`Cause`].
    pub regret_tokens_by_cause: [u64; 4],
    /// Requests that missed something, by [`Cause`].
    pub regret_requests_by_cause: [u64; 4],
    /// Requests of each replica.
    pub requests: Vec<u64>,
    /// Prompt tokens that each replica computed.
    pub computed_tokens: Vec<u64>,
    /// Most requests in flight at each replica.
    pub peak_in_flight: Vec<u32>,
    /// Blocks dropped from all caches.
    pub evictions: u64,
    /// Blocks cached at the end, each copy counted.
    pub cached_blocks: u64,
    /// Distinct blocks cached at the end.
    pub distinct_blocks: u64,
    /// What is recorded for those who check a rule, if they asked.
    pub seen: Option<Seen>,
}

/// What a router saw, request by request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The replicas it took with equal right, as a mask.
    pub allowed: Vec<u64>,
    /// Whether it left its view of the caches aside because of load.
    pub by_load: Vec<bool>,
    /// What it believed of each replica in tokens, one row per request; empty as above.
    pub believed: Vec<u32>,
    /// What it has of its own to tell, row by row; see each router.
    pub notes: Vec<f64>,
}
