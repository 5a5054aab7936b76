//! Replays on a profile: exact, a few nanoseconds a piece, whatever the number of blocks.

mod clairvoyant;
mod evicted;
mod lru;
mod residency;
mod sweep;

pub use evicted::Eviction;
pub use sweep::{Job, Policy, Totals, sweep};

use crate::error::Result;
use crate::profile::Profile;
use crate::stats::Residency;
use crate::stop::Stop;

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

/// Hears of everything a replay does.
pub(crate) trait Observer {
    /// `request` got its first `hit` blocks from the cache.
    fn served(&mut self, request: usize, hit: u32);

    /// To make room for `now`, the blocks behind the first `keep` of the first `had` blocks of
    /// `victim` were dropped.
    fn evicted(&mut self, _victim: usize, _keep: u32, _had: u32, _now: usize) {}

    /// Of `request`'s blocks, those behind the first `from` up to `to` came into the cache.
    fn allocated(&mut self, _request: usize, _from: u32, _to: u32) {}
}

impl Observer for Vec<u32> {
    fn served(&mut self, _request: usize, hit: u32) {
        self.push(hit);
    }
}

impl Profile {
    /// Replays the trace through an LRU cache of `capacity` blocks ([`None`]: infinite).
    ///
    /// Exactly the model of block-by-block replay with one copy per block, tail-first eviction and
    /// requests that take no time. With `last_token_rule` a hit covers at most all tokens of a
    /// prompt but the last. With `timestamp` (seconds, per request) the residency of evicted blocks
    /// is recorded.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] if asked to stop; [`crate::Error::Shape`] if `timestamp` is
    /// not
    /// one per request.
    pub fn lru(
        &self,
        capacity: Option<u64>,
        last_token_rule: bool,
        timestamp: Option<&[f64]>,
        stop: &Stop,
    ) -> Result<Outcome> {
        let Some(timestamp) = timestamp else {
            let mut hit_blocks = Vec::with_capacity(self.requests());
            let evictions = lru::replay(self, capacity, last_token_rule, &mut hit_blocks, stop)?;
            return Ok(Outcome {
                hit_blocks,
                evictions,
                residency: None,
            });
        };
        let mut observer = residency::Recorder::new(self, timestamp)?;
        let evictions = lru::replay(self, capacity, last_token_rule, &mut observer, stop)?;
        let (hit_blocks, residency) = observer.finish();
        Ok(Outcome {
            hit_blocks,
            evictions,
            residency: Some(residency),
        })
    }

    /// Replays the trace through a cache of `capacity` blocks that knows the future: the blocks used
    /// again last are dropped first (Belady, IBM Systems Journal 5(2), 1966), deeper ones first
    /// among equals; those of the running request stay.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] if asked to stop.
    pub fn clairvoyant(
        &self,
        capacity: Option<u64>,
        last_token_rule: bool,
        stop: &Stop,
    ) -> Result<Outcome> {
        let mut hit_blocks = Vec::with_capacity(self.requests());
        let evictions =
            clairvoyant::replay(self, capacity, last_token_rule, &mut hit_blocks, stop)?;
        Ok(Outcome {
            hit_blocks,
            evictions,
            residency: None,
        })
    }
}
