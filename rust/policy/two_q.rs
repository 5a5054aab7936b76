//! 2Q.

use super::ghost::Ghost;
use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting, share};
use crate::error::Result;
use crate::index::{RequestIx, to_u32};

parameters! {
    /// Parameters of [`TwoQ`].
    TwoQParameters {
        /// Share of the capacity beyond which blocks seen once leave first.
        once: f64 = 0.25, in 0.0..=1.0;
        /// Blocks remembered after they left, as a share of the capacity.
        ghost: f64 = 0.5, in 0.0..=100.0;
    }
}

/// Blocks seen once, first in, first out.
const ONCE: usize = 0;
/// Blocks seen again after they had left, the one used longest ago first.
const AGAIN: usize = 1;

/// 2Q (Johnson and Shasha, "2Q: A Low Overhead High Performance Buffer Management Replacement
/// Algorithm", VLDB 1994), the full version: new blocks queue first in, first out (A1in); those that
/// leave it are remembered (A1out), and if they come back while they are, they enter an LRU queue (Am).
///
/// New blocks down to the deepest one that is remembered enter Am. Room is made from A1in while it
/// holds more than its share, else from Am; from the other queue where one has no leaf. Shares are
/// rounded down, at least 1. The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct TwoQ<'p> {
    queues: Queues<'p, ()>,
    ghost: Ghost<'p, ()>,
    once: u64,
    remembered: u64,
    capacity: u32,
    /// Depth down to which the running request's new blocks were remembered.
    known: u32,
}

impl<'p> TwoQ<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, parameters: TwoQParameters) -> Self {
        Self {
            queues: Queues::new(setting.profile, 2),
            ghost: Ghost::new(setting.profile, 1),
            once: share(setting.capacity, parameters.once),
            remembered: share(setting.capacity, parameters.ghost),
            capacity: setting.most_kept(),
            known: 0,
        }
    }
}

impl PrefixPolicy for TwoQ<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        let entry = self.queues.next_entry();
        self.queues.change_hits(|_, mark| {
            if mark.queue == AGAIN {
                mark.rank = (0, entry);
            }
        });
        self.known = self.ghost.take_deepest(request, hit..self.capacity);
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let beyond = self.queues.blocks(ONCE).saturating_sub(self.once);
            let again = self.queues.oldest(AGAIN);
            let once = self.queues.oldest(ONCE);
            let (ix, most) = match (once, again) {
                (Some(ix), None) => (ix, left),
                (Some(ix), _) if beyond > 0 => (ix, left.min(beyond)),
                (_, again) => (again.expect("as many blocks as are dropped"), left),
            };
            let count = most.min(u64::from(self.queues.get(ix).len()));
            let gone = self.queues.drop_blocks(ix, to_u32(count), dropped);
            let once = gone.mark.queue == ONCE;
            self.ghost.add(&gone, once.then_some((0, ())));
            self.ghost.limit(0, self.remembered);
            left -= count;
        }
        Room::dropped(blocks)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let hit = self.queues.hit_blocks();
        if keep > hit {
            let entry = self.queues.next_entry();
            let known = self.known.clamp(hit, keep);
            let mark = |queue| Mark::new(queue, (0, entry), ());
            self.queues.grow(request, hit..known, mark(AGAIN));
            self.queues.grow(request, known..keep, mark(ONCE));
        }
        self.queues.finish();
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.ghost.validate()?;
        self.queues.validate(cached)
    }
}
