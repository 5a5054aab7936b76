//! Random replacement.

use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting, StretchIx};
use crate::error::{Error, Result};
use crate::generate::mix;
use crate::index::{RequestIx, to_u32, to_usize};

parameters! {
    /// Parameters of [`Random`].
    RandomParameters {
        /// Seed of the drawing.
        seed: u64 = 0, in 0..=u64::MAX;
    }
}

/// Drops a leaf drawn at random, every one with the same chance; of blocks that came in together as
/// many as room is needed for.
///
/// The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct Random<'p> {
    /// The state says whether a stretch stands among the leaves.
    queues: Queues<'p, bool>,
    /// The leaves, and some that are none any more.
    leaves: Vec<StretchIx>,
    /// Seed and number of the last draw, as one.
    drawn: u64,
}

impl<'p> Random<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, parameters: RandomParameters) -> Self {
        Self {
            queues: Queues::new(setting.profile, 1),
            leaves: Vec::new(),
            drawn: mix(parameters.seed),
        }
    }

    fn list(&mut self, ix: StretchIx) {
        let stretch = self.queues.get(ix);
        if stretch.is_leaf() && !stretch.mark.state {
            self.queues.change(ix, |_, mark| mark.state = true);
            self.leaves.push(ix);
        }
    }

    fn draw(&mut self) -> StretchIx {
        loop {
            self.drawn = self.drawn.wrapping_add(1);
            let place = to_usize(mix(self.drawn) % self.leaves.len() as u64);
            let ix = self.leaves[place];
            let Some(stretch) = self.queues.live(ix) else {
                self.leaves.swap_remove(place);
                continue;
            };
            if stretch.is_leaf() {
                return ix;
            }
            self.queues.change(ix, |_, mark| mark.state = false);
            self.leaves.swap_remove(place);
        }
    }
}

impl PrefixPolicy for Random<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        if let Some(cut) = self.queues.hit().filter(|_| self.queues.was_cut()) {
            // It is the lower part that stands among the leaves.
            self.queues.change(cut, |_, mark| mark.state = false);
        }
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let ix = self.draw();
            let stretch = self.queues.get(ix);
            let above = stretch.above;
            let count = left.min(u64::from(stretch.len()));
            let whole = count == u64::from(stretch.len());
            self.queues.drop_blocks(ix, to_u32(count), dropped);
            left -= count;
            if whole && let Some(above) = above {
                self.list(above);
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
            if stretch.is_leaf() && !self.leaves.contains(&ix) {
                return Err(Error::bug(format!(
                    "random: {ix:?} is not listed as a leaf"
                )));
            }
        }
        Ok(())
    }
}
