//! SIEVE.

use std::collections::BTreeMap;

use super::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting, StretchIx};
use crate::error::{Error, Result};
use crate::index::{RequestIx, to_u32};

/// SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): a queue in order of coming, one bit
/// that a use sets, and a hand that moves from old to young and stays where it is between evictions:
/// a leaf under it whose bit is set loses it, one without leaves the cache. Past the youngest leaf it
/// begins at the oldest.
///
/// The hand stops at leaves only: a block with cached blocks below keeps its bit, but for those that
/// came in with the leaf that loses it and were used like it. The owner of dropped
/// blocks is the request they came in with.
#[derive(Debug)]
pub struct Sieve<'p> {
    queues: Queues<'p, bool>,
    /// The leaves by when they came in, and some that are none any more.
    by_entry: BTreeMap<u64, StretchIx>,
    /// The hand stands before the first leaf that came in at this or later.
    hand: u64,
}

impl<'p> Sieve<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, _parameters: parameters::None) -> Self {
        Self {
            queues: Queues::new(setting.profile, 1),
            by_entry: BTreeMap::new(),
            hand: 0,
        }
    }

    fn list(&mut self, ix: StretchIx) {
        let stretch = self.queues.get(ix);
        if stretch.is_leaf() {
            self.by_entry.insert(stretch.mark.rank.1, ix);
        }
    }

    /// Moves the hand to the first leaf at `from` or younger; if there is none, before the oldest.
    fn move_to(&mut self, from: u64) -> Option<StretchIx> {
        self.hand = 0;
        while let Some((&entry, &ix)) = self.by_entry.range(from..).next() {
            let stretch = self.queues.live(ix);
            if stretch.is_some_and(|leaf| leaf.is_leaf() && leaf.mark.rank.1 == entry) {
                self.hand = entry;
                return Some(ix);
            }
            self.by_entry.remove(&entry);
        }
        None
    }
}

impl PrefixPolicy for Sieve<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        self.queues.change_hits(|_, mark| mark.state = true);
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let under = self.move_to(self.hand).or_else(|| self.move_to(0));
            let ix = under.expect("as many blocks as are dropped");
            let stretch = self.queues.get(ix);
            if stretch.mark.state {
                self.queues.enter_anew(ix, |mark| mark.state = false);
                self.move_to(self.hand + 1);
                continue;
            }
            let above = stretch.above;
            let count = left.min(u64::from(stretch.len()));
            let whole = count == u64::from(stretch.len());
            self.queues.drop_blocks(ix, to_u32(count), dropped);
            left -= count;
            if whole {
                self.by_entry.remove(&self.hand);
                if let Some(above) = above {
                    self.list(above);
                }
                self.move_to(self.hand);
            }
        }
        Room::dropped(blocks)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let hit = self.queues.hit_blocks();
        if keep > hit {
            let entry = self.queues.next_entry();
            self.queues
                .grow(request, hit..keep, Mark::new(0, (0, entry), false));
        }
        if let Some(ix) = self.queues.finish() {
            self.list(ix);
        }
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.queues.validate(cached)?;
        for (ix, stretch) in self.queues.iter() {
            if stretch.is_leaf() && self.by_entry.get(&stretch.mark.rank.1) != Some(&ix) {
                return Err(Error::bug(format!("sieve: {ix:?} is not listed as a leaf")));
            }
        }
        Ok(())
    }
}
