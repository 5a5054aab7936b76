//! LRU-K.

use super::Setting;
use super::leaves::Rank;
use super::parameters::parameters;
use super::ranked::{Ranked, Ranking};
use crate::index::RequestIx;

parameters! {
    /// Parameters of [`LruK`].
    LruKParameters {
        /// The use, counted from the last, whose time decides.
        k: usize = 2, in 1..=MOST;
        /// Among blocks used less than k times the one that came in first goes, as in libcachesim 0.3.5; else the one used longest ago.
        fifo: bool = false, in false..=true;
    }
}

/// The largest k.
const MOST: usize = 8;

/// LRU-K (O'Neil, O'Neil and Weikum, "The LRU-K Page Replacement Algorithm for Database Disk
/// Buffering", SIGMOD 1993): drops the leaf whose k-th last use is longest ago; before those the ones
/// used less than k times.
///
/// The correlated reference period is 0, and uses of dropped blocks are forgotten (a retained
/// information period of 0).
#[derive(Debug, Clone, Copy)]
pub struct LruK {
    parameters: LruKParameters,
}

/// The last uses of blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LastUses {
    first: RequestIx,
    /// The last ones, from the latest; only the first `count` are uses.
    last: [RequestIx; MOST],
    count: usize,
}

impl LruK {
    /// An empty cache.
    #[must_use]
    pub fn build<'p>(setting: &Setting<'p>, parameters: LruKParameters) -> Ranked<'p, Self> {
        Ranked::new(setting, Self { parameters })
    }
}

impl Ranking for LruK {
    type State = LastUses;

    fn admitted(&mut self, request: RequestIx, _above: Option<&LastUses>) -> LastUses {
        LastUses {
            first: request,
            last: [request; MOST],
            count: 1,
        }
    }

    fn used(&mut self, request: RequestIx, uses: &mut LastUses) {
        uses.last.copy_within(..MOST - 1, 1);
        uses.last[0] = request;
        uses.count = MOST.min(uses.count + 1);
    }

    fn rank(&self, uses: &LastUses, _end: u32) -> Rank {
        let LruKParameters { k, fifo } = self.parameters;
        let (full, at) = if uses.count >= k {
            (1, uses.last[k - 1])
        } else if fifo {
            (0, uses.first)
        } else {
            (0, uses.last[0])
        };
        (full, at.get().into())
    }
}
