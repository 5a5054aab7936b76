//! Orders of eviction: which blocks of a prefix cache go first.
//!
//! A cached block is of use only while all blocks before it are cached. So what a cache of
//! prefixes holds is a tree of blocks closed under ancestors, and a policy is a rule that takes
//! away leaves. [`PrefixPolicy`] is the contract between such a rule and the loop that drives it,
//! [`crate::replay::drive`]; [`Policy`] is the registry of the rules that come with the crate.
//! A rule of your own implements the trait in your crate and is driven in the same way.
//!
//! Adding a policy here: one file with the type and its trait implementation, and one line in
//! the registry below.

mod clairvoyant;
mod fifo;
mod leaves;
mod lru;
mod s3fifo;
mod tree;

use std::ops::Range;
use std::str::FromStr;

pub use clairvoyant::Clairvoyant;
pub use fifo::Fifo;
pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use tree::{CachedTree, Stretch, StretchIx};

use crate::error::{Error, Result};
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

/// The order in which a cache of prefixes gives up blocks.
///
/// # What the driver guarantees
///
/// * Requests come in the order of the trace, each once. For each it calls
///   [`expire`](Self::expire), then [`take`](Self::take), then [`evict`](Self::evict) if room is
///   needed, then [`put`](Self::put).
/// * `evict` asks for no more blocks than are in the cache besides those `take` returned.
/// * `put` gives back at least the blocks that `take` returned, and at most the capacity.
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

    /// Drops at least `blocks` blocks, none of them the running request's; returns how many.
    ///
    /// Policies that [`Policy::reports_evictions`] tell `dropped` of each of them.
    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> u64;

    /// Ends a request: the first `keep` blocks of its path are cached, those `take` returned and
    /// those that came behind them.
    fn put(&mut self, request: RequestIx, keep: u32);

    /// Checks every invariant, between two requests; `cached` is the driver's count of cached
    /// blocks.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    fn validate(&self, cached: u64) -> Result<()>;
}

/// What a policy is made from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Setting<'p> {
    /// The trace at a block size.
    pub profile: &'p Profile,
    /// Blocks of the cache; [`None`]: infinite.
    pub capacity: Option<u64>,
}

impl<'p> Setting<'p> {
    /// A cache of `capacity` blocks ([`None`]: infinite) for a profile.
    #[must_use]
    pub fn new(profile: &'p Profile, capacity: Option<u64>) -> Self {
        Self { profile, capacity }
    }
}

/// Something to do with a policy whose type is chosen by name: see [`Policy::with`].
pub trait WithPolicy {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<P: PrefixPolicy>(self, policy: P) -> Self::Output;
}

macro_rules! registry {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, reports $reports:literal;)*) => {
        /// The policies that come with the crate, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Policy {
            $($(#[$doc])* $variant,)*
        }

        impl Policy {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether it tells which blocks it drops, so that their age can be measured.
            #[must_use]
            pub const fn reports_evictions(self) -> bool {
                match self { $(Self::$variant => $reports,)* }
            }

            /// Makes the policy, and does something with it.
            pub fn with<W: WithPolicy>(self, setting: Setting<'_>, what: W) -> W::Output {
                match self { $(Self::$variant => what.run($variant::new(setting)),)* }
            }
        }
    };
}

registry! {
    /// See [`struct@Lru`].
    Lru = "lru", reports true;
    /// See [`struct@Clairvoyant`].
    Clairvoyant = "clairvoyant", reports false;
    /// See [`struct@Fifo`].
    Fifo = "fifo", reports true;
    /// See [`struct@S3Fifo`].
    S3Fifo = "s3fifo", reports true;
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.iter().find(|policy| policy.name() == name);
        known.copied().ok_or_else(|| {
            let names: Vec<String> = Self::ALL
                .iter()
                .map(|policy| format!("{:?}", policy.name()))
                .collect();
            Error::range(format!(
                "policy {name:?}: choose from {}",
                names.join(", ").replace('"', "'")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_others_refused() {
        for &policy in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        assert_eq!(
            "mru".parse::<Policy>().unwrap_err().to_string(),
            "policy \"mru\": choose from 'lru', 'clairvoyant', 'fifo', 's3fifo'"
        );
    }
}
