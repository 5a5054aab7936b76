//! LIRS.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ghost::Ghost;
use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting, StretchIx, share};
use crate::error::{Error, Result};
use crate::index::{RequestIx, to_u32};

parameters! {
    /// Parameters of [`Lirs`].
    LirsParameters {
        /// Share of the capacity for blocks of high inter-reference recency (HIR).
        cold: f64 = 0.01, in 0.0..=1.0;
        /// Blocks remembered after they left, as a share of the capacity.
        ghost: f64 = 1.0, in 0.0..=100.0;
    }
}

/// Resident HIR blocks, in the order in which they entered (Q).
const HIR: usize = 0;
/// LIR blocks, by their last use.
const LIR: usize = 1;

/// LIRS (Jiang and Zhang, "LIRS: An Efficient Low Inter-reference Recency Set Replacement Policy",
/// SIGMETRICS 2002) on a tree of blocks.
///
/// A block is LIR or HIR. The stack of the paper is the order of last uses, and its bottom the LIR
/// block used longest ago: an HIR block is on the stack while it was used after that one. An HIR block
/// that is used while on the stack becomes LIR; the LIR blocks beyond their share that were used longest
/// ago become HIR, the deepest first. Room is made from the oldest HIR leaf, else from the LIR leaf used
/// longest ago; dropped blocks are remembered first in, first out. Until the LIR share is full, new
/// blocks are LIR. New blocks down to the deepest one that was on the stack become LIR. The owner of
/// dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct Lirs<'p> {
    queues: Queues<'p, Recency>,
    /// The last use of each block that has left.
    ghost: Ghost<'p, u64>,
    /// LIR stretches by their last use or an earlier one, deeper ones first.
    stack: BinaryHeap<Reverse<(u64, Reverse<u32>, StretchIx)>>,
    lir_share: u64,
    remembered: u64,
    capacity: u32,
    /// Depth down to which the running request's new blocks become LIR.
    known: u32,
}

/// The last use of blocks, and whether their stretch stands in the stack.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Recency {
    used: u64,
    stacked: bool,
}

impl<'p> Lirs<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, parameters: LirsParameters) -> Self {
        let cold = share(setting.capacity, parameters.cold);
        let lir_share = setting
            .capacity
            .map_or(u64::MAX, |all| all.saturating_sub(cold));
        Self {
            queues: Queues::new(setting.profile, 2),
            ghost: Ghost::new(setting.profile, 1),
            stack: BinaryHeap::new(),
            lir_share,
            remembered: share(setting.capacity, parameters.ghost),
            capacity: setting.most_kept(),
            known: 0,
        }
    }

    /// Puts a stretch into the stack, if it is LIR and not there.
    fn stack(&mut self, ix: StretchIx) {
        let stretch = self.queues.get(ix);
        let (mark, start) = (stretch.mark, stretch.blocks.start);
        if mark.queue == LIR && !mark.state.stacked {
            self.queues.change(ix, |_, mark| mark.state.stacked = true);
            self.stack
                .push(Reverse((mark.state.used, Reverse(start), ix)));
        }
    }

    /// The LIR stretch used longest ago, the deepest if there are several.
    fn bottom(&mut self) -> Option<(StretchIx, u64)> {
        while let Some(&Reverse((used, Reverse(start), ix))) = self.stack.peek() {
            let Some(stretch) = self.queues.live(ix) else {
                self.stack.pop();
                continue;
            };
            let mark = stretch.mark;
            if !mark.state.stacked {
                // The place was given to another stretch.
                self.stack.pop();
                continue;
            }
            if (mark.queue, mark.state.used, stretch.blocks.start) == (LIR, used, start) {
                return Some((ix, used));
            }
            self.stack.pop();
            self.queues.change(ix, |_, mark| mark.state.stacked = false);
            self.stack(ix);
        }
        None
    }

    /// Makes the LIR blocks beyond their share HIR.
    fn settle(&mut self) {
        loop {
            let beyond = self.queues.blocks(LIR).saturating_sub(self.lir_share);
            let Some((ix, _)) = (beyond > 0).then(|| self.bottom()).flatten() else {
                return;
            };
            let count = beyond.min(self.queues.get(ix).len().into());
            if let Some(above) = self.queues.keep_tail(ix, to_u32(count)) {
                self.queues
                    .change(above, |_, mark| mark.state.stacked = false);
                self.stack(above);
            }
            let entry = self.queues.next_entry();
            self.queues.change(ix, |_, mark| {
                mark.queue = HIR;
                mark.rank = (0, entry);
            });
        }
    }
}

impl PrefixPolicy for Lirs<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        if let Some(cut) = self.queues.hit().filter(|_| self.queues.was_cut()) {
            self.queues
                .change(cut, |_, mark| mark.state.stacked = false);
        }
        let bottom = self.bottom().map_or(0, |(_, used)| used);
        let now = self.queues.next_entry();
        let mut at = self.queues.hit();
        while let Some(ix) = at {
            at = self.queues.change(ix, |_, mark| {
                if mark.queue == HIR && mark.state.used >= bottom {
                    mark.queue = LIR;
                }
                mark.rank = (0, now);
                mark.state.used = now;
            });
            self.stack(ix);
        }
        let mut known = 0;
        self.ghost
            .take(request, hit..self.capacity, |blocks, _, used| {
                if used >= bottom {
                    known = known.max(blocks.end);
                }
            });
        self.known = known;
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let oldest = [HIR, LIR]
                .into_iter()
                .find_map(|queue| self.queues.oldest(queue));
            let ix = oldest.expect("as many blocks as are dropped");
            let count = left.min(self.queues.get(ix).len().into());
            let gone = self.queues.drop_blocks(ix, to_u32(count), dropped);
            self.ghost.add(&gone, Some((0, gone.mark.state.used)));
            self.ghost.limit(0, self.remembered);
            left -= count;
        }
        Room::dropped(blocks)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let hit = self.queues.hit_blocks();
        if keep > hit {
            let entry = self.queues.next_entry();
            let room = self.lir_share.saturating_sub(self.queues.blocks(LIR));
            let new_lir =
                u32::try_from(room).map_or(keep, |room| keep.min(hit.saturating_add(room)));
            let known = self.known.clamp(hit, keep).max(new_lir);
            let recency = Recency {
                used: entry,
                stacked: false,
            };
            let mark = |queue| Mark::new(queue, (0, entry), recency);
            self.queues.grow(request, hit..known, mark(LIR));
            let mut at = self.queues.deepest();
            while let Some(ix) = at
                && self.queues.get(ix).blocks.start >= hit
            {
                self.stack(ix);
                at = self.queues.get(ix).above;
            }
            self.queues.grow(request, known..keep, mark(HIR));
        }
        self.queues.finish();
        self.settle();
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.ghost.validate()?;
        self.queues.validate(cached)?;
        if self.queues.blocks(LIR) > self.lir_share {
            return Err(Error::bug("lirs: more LIR blocks than their share"));
        }
        for (ix, stretch) in self.queues.iter() {
            if stretch.mark.queue == LIR && !stretch.mark.state.stacked {
                return Err(Error::bug(format!("lirs: {ix:?} is not on the stack")));
            }
        }
        Ok(())
    }
}
