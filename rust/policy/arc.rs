//! ARC.

use super::ghost::Ghost;
use super::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting};
use crate::error::Result;
use crate::index::{RequestIx, to_u32};

/// Blocks used once, and the ghost of those.
const ONCE: usize = 0;
/// Blocks used more often, and the ghost of those.
const OFTEN: usize = 1;

/// ARC (Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003, Figure 4):
/// an LRU queue of blocks used once (T1) and one of blocks used more often (T2), a ghost of each (B1,
/// B2), and a target for the size of the first that moves with the hits in the ghosts.
///
/// The target is a real number. Each new block that a ghost knows moves it by *max(1, size of the
/// other ghost / size of this one)*, with the sizes before the request; new blocks down to the deepest
/// one that is known enter T2. Room is made block by block from the oldest leaf of the queue that the
/// paper's REPLACE names, or of the other if it has none. The owner of dropped blocks is the request
/// they came in with.
#[derive(Debug)]
pub struct Arc<'p> {
    queues: Queues<'p, ()>,
    ghosts: Ghost<'p, ()>,
    capacity: u64,
    most_kept: u32,
    /// Number of blocks in T1 that is aimed at.
    target: f64,
    /// Depth down to which the running request's new blocks were remembered.
    known: u32,
    /// Whether one of them was in B2.
    known_often: bool,
}

impl<'p> Arc<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, _parameters: parameters::None) -> Self {
        Self {
            queues: Queues::new(setting.profile, 2),
            ghosts: Ghost::new(setting.profile, 2),
            capacity: setting.capacity.unwrap_or(u64::MAX / 2),
            most_kept: setting.most_kept(),
            target: 0.0,
            known: 0,
            known_often: false,
        }
    }

    /// Moves the target for blocks that the ghosts knew.
    #[allow(clippy::cast_precision_loss)] // Counts of blocks.
    fn adapt(&mut self, counts: [u64; 2], sizes: [u64; 2]) {
        let [once, often] = sizes.map(|size| size as f64);
        if counts[ONCE] > 0 {
            let step = (often / once).max(1.0) * counts[ONCE] as f64;
            self.target = (self.target + step).min(self.capacity as f64);
        }
        if counts[OFTEN] > 0 {
            let step = (once / often).max(1.0) * counts[OFTEN] as f64;
            self.target = (self.target - step).max(0.0);
        }
    }

    /// Which queue gives up a block, and how many of T1's may go before the answer changes.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::float_cmp
    )] // Counts of blocks; the paper compares for equality.
    fn replace(&self) -> (usize, u64) {
        let once = self.queues.blocks(ONCE);
        let above = once as f64 > self.target;
        if once > 0 && (above || (self.known_often && once as f64 == self.target)) {
            (ONCE, (once as f64 - self.target).ceil().max(1.0) as u64)
        } else {
            (OFTEN, u64::MAX)
        }
    }
}

impl PrefixPolicy for Arc<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        let entry = self.queues.next_entry();
        self.queues
            .change_hits(|_, mark| *mark = Mark::new(OFTEN, (0, entry), ()));
        let sizes = [ONCE, OFTEN].map(|ghost| self.ghosts.len(ghost));
        let (mut known, mut counts) = (0, [0, 0]);
        self.ghosts
            .take(request, hit..self.most_kept, |blocks, ghost, ()| {
                known = known.max(blocks.end);
                counts[ghost] += u64::from(blocks.end - blocks.start);
            });
        self.known = known;
        self.known_often = counts[OFTEN] > 0;
        self.adapt(counts, sizes);
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let (queue, most) = self.replace();
            let (ix, most) = if let Some(ix) = self.queues.oldest(queue) {
                (ix, left.min(most))
            } else {
                let other = self.queues.oldest(1 - queue);
                (other.expect("as many blocks as are dropped"), left)
            };
            let count = most.min(u64::from(self.queues.get(ix).len()));
            let gone = self.queues.drop_blocks(ix, to_u32(count), dropped);
            self.ghosts.add(&gone, Some((gone.mark.queue, ())));
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
            self.queues.grow(request, hit..known, mark(OFTEN));
            self.queues.grow(request, known..keep, mark(ONCE));
        }
        self.queues.finish();
        let [once, often] = [ONCE, OFTEN].map(|queue| self.queues.blocks(queue));
        let room = self.capacity.saturating_sub(once);
        self.ghosts.limit(ONCE, room);
        let all = once + often + self.ghosts.len(ONCE);
        self.ghosts
            .limit(OFTEN, (2 * self.capacity).saturating_sub(all));
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.ghosts.validate()?;
        self.queues.validate(cached)
    }
}
