//! Segmented LRU.

use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting};
use crate::error::Result;
use crate::index::{RequestIx, to_u32};

parameters! {
    /// Parameters of [`Slru`].
    SlruParameters {
        /// Number of segments.
        segments: usize = 2, in 1..=16;
        /// Share of the capacity that the segments above the lowest have together, in equal parts; 0: all segments have equal parts.
        protected: f64 = 0.8, in 0.0..=1.0;
        /// New blocks enter the lowest segment that has room, as in libcachesim 0.3.5; else always the lowest, as in the paper.
        room: bool = false, in false..=true;
    }
}

/// Segmented LRU (Karedla, Love and Wherry, "Caching Strategies to Improve Disk System Performance",
/// Computer 27(3), 1994): LRU queues of fixed sizes. A hit moves blocks to the young end one segment
/// higher; what a segment then has beyond its size falls to the young end of the one below, from its
/// oldest leaf. Room is made in the lowest segment that has a leaf.
///
/// New blocks enter the lowest, *probation*. A segment of 0 blocks is one of 1. The running request's
/// own blocks do not fall. The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct Slru<'p> {
    queues: Queues<'p, ()>,
    sizes: Vec<u64>,
    room: bool,
    /// One bit for each segment that the running request's blocks have entered.
    entered: u32,
}

impl<'p> Slru<'p> {
    /// An empty cache.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn build(setting: &Setting<'p>, parameters: SlruParameters) -> Self {
        let SlruParameters {
            segments,
            protected,
            room,
        } = parameters;
        let size = |share: f64| {
            // A share such as 1 - 0.8 is a little less than what is meant.
            let blocks = |all: u64| (all as f64 * share + 1e-9) as u64;
            setting.capacity.map_or(u64::MAX, |all| blocks(all).max(1))
        };
        let sizes = (0..segments).map(|segment| match segment {
            _ if segments == 1 => u64::MAX,
            _ if protected == 0.0 => size(1.0 / segments as f64),
            0 => size(1.0 - protected),
            _ => size(protected / (segments - 1) as f64),
        });
        Self {
            queues: Queues::new(setting.profile, segments),
            sizes: sizes.collect(),
            room,
            entered: 0,
        }
    }

    /// Lets fall what a segment has beyond its size; returns how many blocks left the cache, or 1 or
    /// more if some fell into the segment below.
    fn settle(&mut self, segment: usize, dropped: &mut impl FnMut(Dropped)) -> u64 {
        let mut count = 0;
        loop {
            let beyond = self
                .queues
                .blocks(segment)
                .saturating_sub(self.sizes[segment]);
            let Some(ix) = (beyond > 0).then(|| self.queues.oldest(segment)).flatten() else {
                return count;
            };
            if segment == 0 {
                count += self.queues.drop_tail(ix, beyond, dropped, |_| ());
                continue;
            }
            let entry = self.queues.next_entry();
            self.queues.move_tail(ix, beyond, |mark| {
                count += 1;
                *mark = Mark::new(segment - 1, (0, entry), ());
            });
        }
    }

    /// The segment that new blocks enter.
    fn segment_for(&self, new: u32) -> usize {
        let has_room =
            |&segment: &usize| self.queues.blocks(segment) + u64::from(new) <= self.sizes[segment];
        let with_room = (0..self.sizes.len()).find(has_room).filter(|_| self.room);
        with_room.unwrap_or(0)
    }
}

impl PrefixPolicy for Slru<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        let entry = self.queues.next_entry();
        let (highest, mut entered) = (self.sizes.len() - 1, 0);
        self.queues.change_hits(|_, mark| {
            *mark = Mark::new(highest.min(mark.queue + 1), (0, entry), ());
            entered |= 1 << mark.queue;
        });
        self.entered = entered;
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut count = 0;
        for segment in (0..self.sizes.len()).rev() {
            if self.entered >> segment & 1 == 0 {
                continue;
            }
            let fell = self.settle(segment, dropped);
            if segment == 0 {
                count += fell;
            } else if fell > 0 {
                self.entered |= 1 << (segment - 1);
            }
        }
        while count < blocks {
            let lowest = (0..self.sizes.len()).find_map(|segment| self.queues.oldest(segment));
            let ix = lowest.expect("as many blocks as are dropped");
            let some = (blocks - count).min(self.queues.get(ix).len().into());
            self.queues.drop_blocks(ix, to_u32(some), dropped);
            count += some;
        }
        Room::dropped(count)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let hit = self.queues.hit_blocks();
        if keep > hit {
            let entry = self.queues.next_entry();
            let segment = self.segment_for(keep - hit);
            self.queues
                .grow(request, hit..keep, Mark::new(segment, (0, entry), ()));
        }
        self.queues.finish();
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.queues.validate(cached)
    }
}
