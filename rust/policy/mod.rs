//! Orders of eviction: which blocks of a prefix cache go first.
//!
//! A cached block is of use only while all blocks before it are cached. So what a cache of
//! prefixes holds is a tree of blocks closed under ancestors, and a policy is a rule that takes
//! away leaves. [`PrefixPolicy`] is the contract between such a rule and the loop that drives it,
//! [`crate::replay::drive`]; [`Policy`] is the registry of the rules that come with the crate.
//! A rule of your own implements the trait in your crate and is driven in the same way; with a
//! [`PolicySource`] that makes it, everything that takes a policy by name takes yours. Where a key for
//! each block says it all, [`ranked::Ranking`] or [`keyed::Keys`] is less to write.
//!
//! Adding a policy here: one file with the type and its trait implementation, and one line in
//! `registry.rs`.

mod arc;
pub mod block_wise;
mod clairvoyant;
mod clock;
mod fifo;
mod flop_aware;
mod gdsf;
pub mod ghost;
pub mod keyed;
mod leaves;
mod lfu;
mod lirs;
mod lru;
mod lru_k;
mod mq;
pub mod parameters;
pub mod queues;
mod random;
pub mod ranked;
mod registry;
mod reuse_model;
mod s3fifo;
mod sieve;
mod slru;
mod tail_lru;
mod tree;
mod ttl;
mod two_q;
mod w_tiny_lfu;

use std::ops::Range;

pub use arc::Arc;
pub use clairvoyant::Clairvoyant;
pub use clock::{Clock, ClockParameters};
pub use fifo::Fifo;
pub use flop_aware::{FlopAware, FlopAwareParameters};
pub use gdsf::{Gdsf, GdsfParameters};
pub use leaves::Rank;
pub use lfu::Lfu;
pub use lirs::{Lirs, LirsParameters};
pub use lru::Lru;
pub use lru_k::{LruK, LruKParameters};
pub use mq::{Mq, MqParameters};
pub use random::{Random, RandomParameters};
pub use registry::Policy;
pub use reuse_model::{ReuseModel, ReuseModelParameters};
pub use s3fifo::{S3Fifo, S3FifoParameters};
pub use sieve::Sieve;
pub use slru::{Slru, SlruParameters};
pub use tail_lru::{TailLru, TailLruParameters};
pub use tree::{CachedTree, Stretch, StretchIx};
pub use ttl::{Ttl, TtlParameters};
pub use two_q::{TwoQ, TwoQParameters};
pub use w_tiny_lfu::{WTinyLfu, WTinyLfuParameters};

use crate::error::Result;
use crate::index::RequestIx;
use crate::profile::Profile;

/// Blocks that leave the cache: `blocks` (depths, from the root of the tree) of the path of
/// `owner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// A request on whose path they lie; each policy says which.
    pub owner: RequestIx,
    /// Depths on that path, in blocks.
    pub blocks: Range<u32>,
}

/// What [`PrefixPolicy::evict`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Blocks that were dropped.
    pub dropped: u64,
    /// Blocks at the end of the running request's path that will not be kept.
    pub refused: u32,
}

impl Room {
    /// Room from dropped blocks alone.
    #[must_use]
    pub const fn dropped(blocks: u64) -> Self {
        Self {
            dropped: blocks,
            refused: 0,
        }
    }

    /// Blocks of room that were made.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.dropped + self.refused as u64
    }
}

/// The order in which a cache of prefixes gives up blocks.
///
/// # What the driver guarantees
///
/// * Requests come in the order of the trace, each once. For each it calls
///   [`expire`](Self::expire), then [`take`](Self::take), then [`evict`](Self::evict), with 0 if no
///   room is needed, then [`put`](Self::put).
/// * `evict` asks for no more blocks than are in the cache besides those `take` returned.
/// * `put` gives back at least the blocks that `take` returned, and at most the capacity; fewer than
///   the request's by as many as were refused.
///
/// # What an implementor must do
///
/// * Keep the cache closed under ancestors: drop whole suffixes, never a block with cached blocks
///   below it.
/// * Never drop a block of the running request, between its `take` and its `put`.
/// * Be deterministic, and count exactly: the driver's number of cached blocks is derived from
///   what these methods return.
///
/// [`Profile::reuse`] tells, without looking at a tree, which earlier request used each stretch of
/// a path last; [`CachedTree`] keeps the cached tree in stretches for policies that need to know
/// more of their blocks.
pub trait PrefixPolicy {
    /// Drops blocks that leave by themselves before `request` runs, such as those whose time is
    /// over, and returns how many.
    fn expire(&mut self, request: RequestIx, dropped: &mut impl FnMut(Dropped)) -> u64 {
        let _ = (request, dropped);
        0
    }

    /// Begins a request, and returns how many leading blocks of its path are cached. They stay
    /// until [`put`](Self::put).
    fn take(&mut self, request: RequestIx) -> u32;

    /// Makes room for at least `blocks` blocks: drops others than the running request's, or refuses
    /// the last of its new ones.
    ///
    /// Policies that [`Policy::reports_evictions`] tell `dropped` of each block they drop.
    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room;

    /// Ends a request: the first `keep` blocks of its path are cached, those `take` returned and
    /// those that came behind them.
    fn put(&mut self, request: RequestIx, keep: u32);

    /// Whether it can go on: asked after each request. Rules that run other people's code say here
    /// that it failed; until they are asked they drop whatever may go.
    ///
    /// # Errors
    /// What ends the replay.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Checks every invariant, between two requests; `cached` is the driver's count of cached
    /// blocks.
    ///
    /// # Errors
    /// [`crate::Error::Bug`] naming the first one that does not hold.
    fn validate(&self, cached: u64) -> Result<()>;
}

/// What is known of the requests besides their tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// When each arrived, in seconds; empty if that is not known.
    pub timestamp: &'a [f64],
    /// The number of each one's category, from 0.
    pub category: Option<&'a [u32]>,
}

/// What a policy is made from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Setting<'p> {
    /// The trace at a block size.
    pub profile: &'p Profile,
    /// Blocks of the cache; [`None`]: infinite.
    pub capacity: Option<u64>,
    /// What is known of the requests.
    pub facts: Facts<'p>,
}

impl<'p> Setting<'p> {
    /// A cache of `capacity` blocks ([`None`]: infinite) for a profile.
    #[must_use]
    pub fn new(profile: &'p Profile, capacity: Option<u64>) -> Self {
        Self {
            profile,
            capacity,
            facts: Facts::default(),
        }
    }

    /// The same with facts of the requests.
    #[must_use]
    pub fn with_facts(self, facts: Facts<'p>) -> Self {
        Self { facts, ..self }
    }

    /// Most blocks of one request that are kept.
    #[must_use]
    pub fn most_kept(&self) -> u32 {
        let capacity = self.capacity.map(u32::try_from);
        capacity
            .and_then(std::result::Result::ok)
            .unwrap_or(u32::MAX)
    }
}

/// A share of the capacity in whole blocks, at least 1; of an infinite one infinitely many.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // Counts of blocks; casts of floats saturate.
pub fn share(capacity: Option<u64>, share: f64) -> u64 {
    capacity.map_or(u64::MAX, |blocks| ((blocks as f64 * share) as u64).max(1))
}

/// Makes policies: a [`Policy`] those that come with the crate, a type of your own yours. Whatever
/// replays takes either.
///
/// # What the caller guarantees
///
/// * Each replay makes a policy of its own; replays may run at once.
///
/// # What an implementor must do
///
/// * Make equal policies of equal settings.
pub trait PolicySource: Sync {
    /// Makes the policy, and does something with it.
    ///
    /// # Errors
    /// Why it cannot be made of this setting.
    fn with<W: WithPolicy>(&self, setting: Setting<'_>, what: W) -> Result<W::Output>;

    /// Its name, for messages.
    fn name(&self) -> &str;

    /// Whether it tells which blocks it drops, so that their age can be measured.
    fn reports_evictions(&self) -> bool {
        true
    }

    /// Whether the owner of dropped blocks is always the request that used them last.
    fn owners_used_last(&self) -> bool {
        false
    }
}

/// Something to do with a policy whose type is chosen by name: see [`PolicySource::with`].
pub trait WithPolicy {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<P: PrefixPolicy>(self, policy: P) -> Self::Output;
}

impl<S: PolicySource> PolicySource for &S {
    fn with<W: WithPolicy>(&self, setting: Setting<'_>, what: W) -> Result<W::Output> {
        S::with(self, setting, what)
    }

    fn name(&self) -> &str {
        S::name(self)
    }

    fn reports_evictions(&self) -> bool {
        S::reports_evictions(self)
    }

    fn owners_used_last(&self) -> bool {
        S::owners_used_last(self)
    }
}
