//! When the blocks of a few requests left an LRU cache.

use super::{Cache, Evicted, Observer};
use crate::error::{Error, Result};
use crate::index::{IndexVec, Ix, RequestIx};
use crate::policy::{Facts, Policy};
use crate::profile::Profile;
use crate::stop::Stop;

struct Watch {
    watched: IndexVec<RequestIx, bool>,
    evictions: Vec<Evicted>,
}

impl Observer for Watch {
    fn served(&mut self, _request: RequestIx, _hit: u32) {}

    fn evicted(&mut self, evicted: &Evicted) {
        if self.watched[evicted.owner] {
            self.evictions.push(evicted.clone());
        }
    }
}

impl Profile {
    /// The evictions of blocks that one of `owners` was the last to use, in an LRU cache of
    /// `capacity` blocks, in the order in which they happen.
    ///
    /// # Errors
    /// As [`super::drive`]; [`Error::Shape`] if an owner is not there.
    pub fn lru_evictions(
        &self,
        capacity: u64,
        owners: &[u32],
        stop: &Stop,
    ) -> Result<Vec<Evicted>> {
        let mut watch = Watch {
            watched: IndexVec::filled(false, self.requests()),
            evictions: Vec::new(),
        };
        for &owner in owners {
            let owner = RequestIx::new(owner);
            if owner.usize() >= self.requests() {
                return Err(Error::shape(format!(
                    "request {owner}: the trace has {} requests only",
                    self.requests()
                )));
            }
            watch.watched[owner] = true;
        }
        self.observe(
            Policy::LRU,
            Cache::of(capacity),
            Facts::default(),
            &mut watch,
            stop,
        )?;
        Ok(watch.evictions)
    }
}
