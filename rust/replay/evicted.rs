//! When the blocks of a few requests left an LRU cache.

use super::{Observer, lru};
use crate::error::{Error, Result};
use crate::profile::Profile;
use crate::stop::Stop;

/// Blocks of one request's path that were dropped at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// The request that had used the blocks last.
    pub victim: u32,
    /// Leading blocks of its path that stayed, or had gone to later requests.
    pub keep: u32,
    /// Leading blocks of its path that ended where the dropped ones did.
    pub had: u32,
    /// The request that room was made for.
    pub now: u32,
}

struct Watch {
    watched: Vec<bool>,
    evictions: Vec<Eviction>,
}

impl Observer for Watch {
    fn served(&mut self, _request: usize, _hit: u32) {}

    fn evicted(&mut self, victim: usize, keep: u32, had: u32, now: usize) {
        if self.watched[victim] {
            self.evictions.push(Eviction {
                victim: victim as u32,
                keep,
                had,
                now: now as u32,
            });
        }
    }
}

impl Profile {
    /// The evictions of blocks that one of `victims` was the last to use, in an LRU cache of
    /// `capacity` blocks, in the order in which they happen.
    ///
    /// # Errors
    /// [`Error::Shape`] if a victim is not there; [`Error::Interrupted`] if asked to stop.
    pub fn lru_evictions(
        &self,
        capacity: u64,
        victims: &[u32],
        stop: &Stop,
    ) -> Result<Vec<Eviction>> {
        let mut watch = Watch {
            watched: vec![false; self.requests()],
            evictions: Vec::new(),
        };
        for &victim in victims {
            *watch.watched.get_mut(victim as usize).ok_or_else(|| {
                Error::shape(format!(
                    "request {victim}: the trace has {} requests only",
                    self.requests()
                ))
            })? = true;
        }
        lru::replay(self, Some(capacity), true, &mut watch, stop)?;
        Ok(watch.evictions)
    }
}
