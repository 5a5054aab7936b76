//! Least frequently used.

use super::Setting;
use super::leaves::Rank;
use super::parameters;
use super::ranked::{Ranked, Ranking};
use crate::index::RequestIx;

/// Drops the leaf used by the fewest requests since it came in; among equals the one that reached
/// its count first. Counts of dropped blocks are forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Lfu;

/// How often blocks were used, and when last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uses {
    count: u64,
    last: RequestIx,
}

impl Lfu {
    /// An empty cache.
    #[must_use]
    pub fn build<'p>(setting: &Setting<'p>, _parameters: parameters::None) -> Ranked<'p, Self> {
        Ranked::new(setting, Self)
    }
}

impl Ranking for Lfu {
    type State = Uses;

    fn admitted(&mut self, request: RequestIx, _above: Option<&Uses>) -> Uses {
        Uses {
            count: 1,
            last: request,
        }
    }

    fn used(&mut self, request: RequestIx, uses: &mut Uses) {
        uses.count += 1;
        uses.last = request;
    }

    fn rank(&self, uses: &Uses, _end: u32) -> Rank {
        (uses.count, uses.last.get().into())
    }
}
