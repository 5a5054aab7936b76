//! Replays on a profile: exact, a few nanoseconds a reuse interval, whatever the number of blocks.

mod drive;
mod residency;
mod sweep;
mod watch;

use std::ops::Range;

pub use drive::drive;
pub use sweep::{Job, Totals, sweep};

use crate::error::{Error, Result};
use crate::index::RequestIx;
use crate::policy::{Facts, PolicySource, PrefixPolicy, Setting, WithPolicy};
use crate::profile::Profile;
use crate::stats::Residency;
use crate::stop::Stop;

/// How a trace is replayed, whatever the policy.
///
/// ```
/// use prefixsim::replay::Cache;
/// let cache = Cache::of(1_000).without_last_token_rule();
/// assert_eq!((cache.capacity, cache.last_token_rule), (Some(1_000), false));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cache {
    /// Its blocks; [`None`]: infinite.
    pub capacity: Option<u64>,
    /// Whether the last token of a prompt is always computed, so that a hit covers at most all
    /// tokens but that.
    pub last_token_rule: bool,
}

impl Cache {
    /// An infinite cache under the last-token rule.
    #[must_use]
    pub const fn infinite() -> Self {
        Self {
            capacity: None,
            last_token_rule: true,
        }
    }

    /// A cache of some blocks under the last-token rule.
    #[must_use]
    pub const fn of(blocks: u64) -> Self {
        Self {
            capacity: Some(blocks),
            ..Self::infinite()
        }
    }

    /// The same without the last-token rule.
    #[must_use]
    pub const fn without_last_token_rule(self) -> Self {
        Self {
            last_token_rule: false,
            ..self
        }
    }
}

/// What a replay did, per request and in total.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Leading blocks of each prompt served from the cache.
    pub hit_blocks: Vec<u32>,
    /// Blocks dropped from the cache.
    pub evictions: u64,
    /// How long evicted blocks had been there, if it was asked for.
    pub residency: Option<Residency>,
}

/// Blocks of the path of `owner` that were dropped at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evicted {
    /// A request on whose path they lie: in an LRU cache the one that used them last, in others the
    /// one they came with.
    pub owner: RequestIx,
    /// Their depths on that path, in blocks.
    pub blocks: Range<u32>,
    /// The request that room was made for.
    pub at: RequestIx,
}

/// Is told everything a replay does.
pub trait Observer {
    /// `request` got its first `hit` blocks from the cache.
    fn served(&mut self, request: RequestIx, hit: u32);

    /// Blocks left the cache; only from policies that [`PolicySource::reports_evictions`].
    fn evicted(&mut self, _evicted: &Evicted) {}

    /// The first `kept` blocks of the path of `request` are cached, of which those behind the first
    /// `found` came with it.
    fn cached(&mut self, _request: RequestIx, _found: u32, _kept: u32) {}
}

impl Observer for Vec<u32> {
    fn served(&mut self, _request: RequestIx, hit: u32) {
        self.push(hit);
    }
}

/// A replay that waits for its policy's type.
struct Replay<'a, O> {
    profile: &'a Profile,
    cache: Cache,
    observer: &'a mut O,
    stop: &'a Stop,
}

impl<O: Observer> WithPolicy for Replay<'_, O> {
    type Output = Result<u64>;

    fn run<P: PrefixPolicy>(self, mut policy: P) -> Result<u64> {
        let Self {
            profile,
            cache,
            observer,
            stop,
        } = self;
        drive(profile, &mut policy, cache, observer, stop)
    }
}

impl Profile {
    /// Replays the trace, and tells an observer; returns the number of evictions.
    ///
    /// # Errors
    /// As [`drive`].
    pub fn observe(
        &self,
        policy: impl PolicySource,
        cache: Cache,
        facts: Facts<'_>,
        observer: &mut impl Observer,
        stop: &Stop,
    ) -> Result<u64> {
        let replay = Replay {
            profile: self,
            cache,
            observer,
            stop,
        };
        let setting = Setting::new(self, cache.capacity).with_facts(facts);
        policy.with(setting, replay)?
    }

    /// Replays the trace through a cache.
    ///
    /// Exactly the model of block-by-block replay with one copy per block and requests that take no
    /// time; see each policy for which blocks it drops.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use prefixsim::{Forest, Profile, Stop, policy::{Facts, Policy}, replay::Cache, trace::{Csr, Trace}};
    ///
    /// let stop = Stop::default();
    /// let prompts = Csr::new(&[0, 4, 6, 10], &[1_u32, 2, 3, 4, 7, 8, 1, 2, 3, 4])?;
    /// let forest = Arc::new(Forest::compile(&Trace::new(prompts), &stop)?);
    /// let profile = Profile::new(forest, 1, &[4, 2, 4], &stop)?;
    /// let outcome = profile.replay(Policy::LRU, Cache::of(4).without_last_token_rule(), Facts::default(), &stop)?;
    /// assert_eq!((outcome.hit_blocks, outcome.evictions), (vec![0, 0, 2], 4));
    /// # Ok::<(), prefixsim::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`drive`].
    pub fn replay(
        &self,
        policy: impl PolicySource,
        cache: Cache,
        facts: Facts<'_>,
        stop: &Stop,
    ) -> Result<Outcome> {
        let mut hit_blocks = Vec::with_capacity(self.requests());
        let evictions = self.observe(policy, cache, facts, &mut hit_blocks, stop)?;
        Ok(Outcome {
            hit_blocks,
            evictions,
            residency: None,
        })
    }

    /// [`Profile::replay`] that also measures how long evicted blocks had been cached, by the
    /// timestamps of `facts`.
    ///
    /// # Errors
    /// As [`drive`]; [`Error::Shape`] if there is not one timestamp per request; [`Error::Range`] if
    /// the policy does not tell which blocks it drops.
    pub fn replay_timed(
        &self,
        policy: impl PolicySource,
        cache: Cache,
        facts: Facts<'_>,
        stop: &Stop,
    ) -> Result<Outcome> {
        if !policy.reports_evictions() {
            return Err(Error::range(format!(
                "policy {:?} leaves open which blocks it drops: their age cannot be measured",
                policy.name()
            )));
        }
        let mut recorder =
            residency::Recorder::new(self, facts.timestamp, policy.owners_used_last())?;
        let evictions = self.observe(policy, cache, facts, &mut recorder, stop)?;
        debug_assert_eq!(recorder.validate(), Ok(()));
        let (hit_blocks, residency) = recorder.finish();
        Ok(Outcome {
            hit_blocks,
            evictions,
            residency: Some(residency),
        })
    }
}
