//! The routers that come with the crate, one file per rule or family.
//!
//! Adding one: a file with the type and its [`Router`] implementation, and a line in the registry below.

mod aibrix;
mod dynamo;
mod hashing;
mod llmd;
mod llmd_index;
mod production_stack;
mod recency;
mod references;
mod sglang;
mod simple;
mod sticky;
mod tenant_tree;
#[cfg(test)]
mod unit_vectors;

pub use aibrix::{Aibrix, AibrixConfig};
pub use dynamo::{Dynamo, DynamoConfig};
pub use hashing::{ConsistentHash, HashModulo, SessionRing, blake3_key};
pub use llmd::{Llmd, LlmdConfig};
pub use production_stack::PrefixAware;
pub use references::{Greedy, WorkOracle};
pub use sglang::{CacheAware, CacheAwareConfig};
pub use simple::{LeastLoaded, PowerOfTwo, Random, RoundRobin};
pub use sticky::{Assignment, Sticky};
pub use tenant_tree::TenantTree;

use super::router::{Router, Setting};
use crate::error::Result;

/// A router by name, with its settings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RouterConfig {
    /// See [`RoundRobin`].
    RoundRobin,
    /// See [`Random`].
    Random,
    /// See [`LeastLoaded`].
    LeastLoaded,
    /// See [`PowerOfTwo`].
    PowerOfTwo,
    /// See [`ConsistentHash`].
    ConsistentHash {
        /// Names of the replicas.
        urls: Vec<String>,
        /// Points of a replica.
        points: u32,
    },
    /// See [`Sticky`].
    Sticky {
        /// Where a new session goes.
        assignment: Assignment,
        /// Seconds after which an idle session is forgotten.
        idle_s: f64,
    },
    /// See [`CacheAware`].
    CacheAware(CacheAwareConfig),
    /// See [`HashModulo`].
    HashModulo,
    /// See [`Dynamo`].
    Dynamo(DynamoConfig),
    /// See [`Llmd`].
    Llmd(LlmdConfig),
    /// See [`PrefixAware`].
    PrefixAware {
        /// Characters that have to match.
        least_match: u32,
    },
    /// See [`SessionRing`].
    SessionRing {
        /// Names of the replicas.
        urls: Vec<String>,
    },
    /// See [`Aibrix`].
    Aibrix(AibrixConfig),
    /// See [`Greedy`].
    Greedy,
    /// See [`WorkOracle`].
    WorkOracle,
}

/// Something to do with a router whose type is chosen by name: see [`RouterConfig::with`].
pub trait WithRouter {
    /// What comes of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    /// Its own.
    fn run<R: Router>(self, router: R) -> Result<Self::Output>;
}

impl RouterConfig {
    /// Makes the router, and does something with it.
    ///
    /// # Errors
    /// As [`Traffic::tree`](super::Traffic::tree), and what `what` returns.
    pub fn with<W: WithRouter>(&self, setting: &Setting<'_>, what: W) -> Result<W::Output> {
        match self {
            Self::RoundRobin => what.run(RoundRobin::new()),
            Self::Random => what.run(Random),
            Self::LeastLoaded => what.run(LeastLoaded),
            Self::PowerOfTwo => what.run(PowerOfTwo::new(setting)),
            Self::ConsistentHash { urls, points } => {
                what.run(ConsistentHash::new(setting, urls.clone(), *points))
            }
            Self::Sticky { assignment, idle_s } => {
                what.run(Sticky::new(setting, *assignment, *idle_s))
            }
            Self::CacheAware(config) => what.run(CacheAware::new(setting, *config)?),
            Self::HashModulo => what.run(HashModulo::new(setting)),
            Self::Dynamo(config) => what.run(Dynamo::new(setting, *config)?),
            Self::Llmd(config) => what.run(Llmd::new(setting, *config)?),
            Self::PrefixAware { least_match } => what.run(PrefixAware::new(setting, *least_match)?),
            Self::SessionRing { urls } => what.run(SessionRing::new(setting, urls.clone())),
            Self::Aibrix(config) => what.run(Aibrix::new(setting, *config)?),
            Self::Greedy => what.run(Greedy::default()),
            Self::WorkOracle => what.run(WorkOracle::new(setting)),
        }
    }
}
