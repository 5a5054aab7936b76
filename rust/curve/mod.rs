//! The LRU hit curve for all capacities in one pass.
//!
//! LRU has the inclusion property (Mattson et al., IBM Systems Journal 9(2), 1970): a block hits if
//! and only if the capacity is at least its stack distance. Of a reuse interval last used by request t, the
//! block at depth d of the path has as distance d plus the number of blocks of *other* paths that
//! were touched after t: what lies above it on its own path is more recent than itself, too, but
//! counted in d. So an interval adds one ramp to the curve, and a Fenwick tree over the requests, which
//! holds how many blocks each was the last to touch, tells where the ramp starts.

mod ramps;
mod ttl;

pub use ramps::Ramps;
pub use ttl::TtlCurve;

use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx};
use crate::profile::Profile;
use crate::stop::Stop;

/// Hits and evictions of an LRU cache at every capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// Hits that the last-token rule leaves.
    counted: Ramps,
    /// Hits that the rule takes away: at most one block of a request.
    held_back: Ramps,
    /// Blocks of outputs found in the cache; never a hit.
    outputs: Ramps,
    /// Blocks that requests put in: of each its touched ones, up to the capacity.
    sizes: Ramps,
    unique_blocks: u64,
}

impl Curve {
    /// Hit blocks at a capacity, in blocks.
    #[must_use]
    pub fn hit_blocks(&self, capacity: u64, last_token_rule: bool) -> u64 {
        let held_back = if last_token_rule {
            0
        } else {
            self.held_back.at(capacity)
        };
        self.counted.at(capacity) + held_back
    }

    /// Hit blocks of an infinite cache.
    #[must_use]
    pub fn ceiling(&self, last_token_rule: bool) -> u64 {
        self.hit_blocks(self.unique_blocks, last_token_rule)
    }

    /// Blocks dropped at a capacity.
    #[must_use]
    pub fn evictions(&self, capacity: u64) -> u64 {
        let found =
            self.counted.at(capacity) + self.held_back.at(capacity) + self.outputs.at(capacity);
        self.sizes.at(capacity) - found - capacity.min(self.unique_blocks)
    }

    /// The smallest capacity with `hit_blocks` hits or more; [`None`] if there is none.
    #[must_use]
    pub fn capacity_for(&self, hit_blocks: u64, last_token_rule: bool) -> Option<u64> {
        if last_token_rule {
            return self.counted.reach(hit_blocks);
        }
        if hit_blocks > self.ceiling(false) {
            return None;
        }
        let (mut low, mut high) = (0, self.unique_blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.hit_blocks(middle, false) >= hit_blocks {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(low)
    }

    /// Distinct blocks of the trace: the capacity from which on nothing is evicted.
    #[must_use]
    pub fn unique_blocks(&self) -> u64 {
        self.unique_blocks
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        for ramps in [&self.counted, &self.held_back, &self.outputs, &self.sizes] {
            ramps.validate()?;
        }
        let hits = self.counted.ceiling() + self.held_back.ceiling() + self.outputs.ceiling();
        if self.sizes.ceiling() != hits + self.unique_blocks {
            return Err(Error::bug("curve: blocks are neither hits nor distinct"));
        }
        Ok(())
    }

    /// Capacities between which the hits under the last-token rule are straight lines, ascending.
    #[must_use]
    pub fn corners(&self) -> &[u64] {
        self.counted.corners()
    }
}

/// Where ramps start and end.
#[derive(Default)]
struct Events {
    starts: Vec<u64>,
    ends: Vec<u64>,
}

impl Events {
    /// The blocks at depths `from + 1..=to` of a path, with `others` more recent ones elsewhere.
    fn add(&mut self, others: u64, from: u32, to: u32) {
        if from < to {
            self.starts.push(others + u64::from(from));
            self.ends.push(others + u64::from(to));
        }
    }

    fn sum(self) -> Ramps {
        Ramps::sum(self.starts, self.ends)
    }
}

impl Profile {
    /// The LRU curve: hits and evictions at every capacity, with the last-token rule and without.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] if asked to stop.
    pub fn curve(&self, stop: &Stop) -> Result<Curve> {
        let mut recent = Fenwick::new(self.requests());
        let (mut counted, mut held_back, mut outputs) =
            (Events::default(), Events::default(), Events::default());
        let mut sizes = Events::default();
        for (t, &touched) in self.touched().iter().enumerate() {
            if t.is_multiple_of(Stop::INTERVAL) {
                stop.check()?;
            }
            let (limit, full) = (self.limit()[t], self.full_blocks()[t]);
            let mut start = 0;
            for interval in self.reuse(RequestIx::from_usize(t)) {
                let last_use = interval.last_use.usize();
                // The blocks above on this path were taken out of the tree before.
                let others = if last_use + 1 == t {
                    0
                } else {
                    recent.behind(last_use)
                };
                let end = interval.end;
                counted.add(others, start, end.min(limit));
                held_back.add(others, start.max(limit), end.min(full));
                outputs.add(others, start.max(full), end);
                recent.take(last_use, u64::from(end - start));
                start = end;
            }
            recent.add(t, u64::from(touched));
            sizes.add(0, 0, touched);
        }
        debug_assert_eq!(recent.validate(), Ok(()));
        drop(recent);
        Ok(Curve {
            counted: counted.sum(),
            held_back: held_back.sum(),
            outputs: outputs.sum(),
            sizes: sizes.sum(),
            unique_blocks: self.unique_blocks(),
        })
    }
}

/// Counts per request, and sums over all requests behind one (Fenwick, 1994).
struct Fenwick {
    sums: Vec<u64>,
    total: u64,
}

impl Fenwick {
    fn new(requests: usize) -> Self {
        Self {
            sums: vec![0; requests + 1],
            total: 0,
        }
    }

    fn add(&mut self, request: usize, blocks: u64) {
        self.total += blocks;
        let mut at = request + 1;
        while at < self.sums.len() {
            self.sums[at] += blocks;
            at += at & at.wrapping_neg();
        }
    }

    fn take(&mut self, request: usize, blocks: u64) {
        self.total -= blocks;
        let mut at = request + 1;
        while at < self.sums.len() {
            self.sums[at] -= blocks;
            at += at & at.wrapping_neg();
        }
    }

    /// Checks every invariant: the sums add up to the total, and no count is negative.
    fn validate(&self) -> Result<()> {
        let mut at = self.sums.len() - 1;
        let mut sum = 0;
        while at > 0 {
            sum += self.sums[at];
            at &= at - 1;
        }
        if sum != self.total || self.sums.iter().any(|&part| part > self.total) {
            return Err(Error::bug("fenwick: the sums do not add up to the total"));
        }
        Ok(())
    }

    /// Blocks last touched by requests after `request`.
    fn behind(&self, request: usize) -> u64 {
        let mut at = request + 1;
        let mut before = 0;
        while at > 0 {
            before += self.sums[at];
            at &= at - 1;
        }
        self.total - before
    }
}
