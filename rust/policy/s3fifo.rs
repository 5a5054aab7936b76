//! S3-FIFO: a small queue that most blocks leave without having been used again.

use super::ghost::Ghost;
use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting, StretchIx, share};
use crate::error::{Error, Result};
use crate::index::{RequestIx, to_u32};

parameters! {
    /// Parameters of [`S3Fifo`].
    S3FifoParameters {
        /// Share of the capacity that the small queue has.
        small: f64 = 0.1, in 0.0..=1.0;
        /// Blocks remembered after they left the small queue, as a share of the capacity.
        ghost: f64 = 0.9, in 0.0..=100.0;
        /// Uses in the small queue from which on a block is promoted.
        threshold: u32 = 2, in 1..=255;
        /// Uses beyond which a block is not counted further.
        most: u32 = 3, in 1..=255;
        /// Until something has left, blocks that find the small queue full enter main, as in libcachesim 0.3.5.
        fill: bool = false, in false..=true;
        /// Main gives up blocks before others enter it beyond its share (QDLP).
        strict: bool = false, in false..=true;
        /// Uses of a block of the small queue do not count until this share of the queue has come after it (Clock2Q+).
        grace: f64 = 0.0, in 0.0..=1.0;
    }
}

const SMALL: usize = 0;
const MAIN: usize = 1;

/// S3-FIFO (Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023) on a tree of
/// blocks.
///
/// As in the paper there are a *small* queue of a tenth of the capacity, a *main* queue, a count of
/// uses per block up to 3, and a *ghost*: the blocks last dropped from the small queue, as many as
/// main has room for. What the paper leaves to single objects is settled for a tree as follows.
///
/// * Only leaves of the cached tree go, so "the tail of a queue" is its oldest leaf: the leaf that
///   entered the queue first. The running request's blocks are no leaves.
/// * A hit counts one use for each cached block of the request's path.
/// * Room is made block by block: from small if it holds its share (rounded down, at least 1) or
///   more, or main has no leaf; else, or if small has no leaf, from main.
/// * From small: leaves used twice or more are promoted, oldest first, until one that was not is
///   dropped into the ghost. A promoted block takes its ancestors in small along, which were used as
///   often: main stays closed under ancestors. Together they enter main anew, with no uses.
/// * From main: the oldest leaf is dropped if it has no uses left. Else it enters main anew with one
///   use less, together with the ancestors above it that entered with it and have as many uses.
/// * New blocks enter small. Those down to the deepest one that the ghost knows enter main instead,
///   and their ancestors in small are promoted with them. A block leaves the ghost when it comes back,
///   or when the ghost is full.
///
/// The parameters give its relatives: *QDLP* (Yang et al., "FIFO can be Better than LRU", HotOS 2023)
/// is `threshold=1:strict=true`; *Clock2Q+* (Lu et al., 2025) `threshold=1:most=1:grace=0.5:fill=true`.
/// The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct S3Fifo<'p> {
    queues: Queues<'p, Uses>,
    ghost: Ghost<'p, ()>,
    parameters: S3FifoParameters,
    /// Blocks from which on small gives up blocks.
    small_share: u64,
    main_share: u64,
    remembered: u64,
    capacity: u32,
    /// Blocks that have entered small.
    entered: u64,
    /// Whether anything has left.
    has_dropped: bool,
    /// Depth down to which the running request's new blocks were remembered.
    known: u32,
}

/// How often blocks were used since they entered.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Uses {
    count: u32,
    /// Blocks that had entered small then; 0 in main.
    entered: u64,
}

/// Uses of blocks that enter main.
const NONE: Uses = Uses {
    count: 0,
    entered: 0,
};

impl<'p> S3Fifo<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, parameters: S3FifoParameters) -> Self {
        let small_share = share(setting.capacity, parameters.small);
        Self {
            queues: Queues::new(setting.profile, 2),
            ghost: Ghost::new(setting.profile, 1),
            parameters,
            small_share,
            main_share: setting
                .capacity
                .map_or(u64::MAX, |all| all.saturating_sub(small_share)),
            remembered: share(setting.capacity, parameters.ghost),
            capacity: setting.most_kept(),
            entered: 0,
            has_dropped: false,
            known: 0,
        }
    }

    /// Moves a stretch and its ancestors in small to main.
    fn promote(&mut self, from: StretchIx, entry: u64) {
        let mut at = Some(from);
        while let Some(ix) = at
            && self.queues.get(ix).mark.queue == SMALL
        {
            at = self
                .queues
                .change(ix, |_, mark| *mark = Mark::new(MAIN, (0, entry), NONE));
        }
    }

    /// Number of blocks of small that end with a stretch and lead to it.
    fn blocks_in_small(&self, last: StretchIx) -> u64 {
        let (mut at, mut count) = (Some(last), 0);
        while let Some(ix) = at
            && self.queues.get(ix).mark.queue == SMALL
        {
            count += u64::from(self.queues.get(ix).len());
            at = self.queues.get(ix).above;
        }
        count
    }

    /// Drops up to `most` blocks of the oldest leaf of main without uses; returns how many.
    fn drop_from_main(&mut self, most: u64, dropped: &mut impl FnMut(Dropped)) -> Option<u64> {
        loop {
            let ix = self.queues.oldest(MAIN)?;
            let stretch = self.queues.get(ix);
            if stretch.mark.state.count == 0 {
                let count = most.min(u64::from(stretch.len()));
                let gone = self.queues.drop_blocks(ix, to_u32(count), dropped);
                self.ghost.add(&gone, None);
                return Some(count);
            }
            let entry = self.queues.next_entry();
            self.queues.enter_anew(ix, |mark| {
                mark.rank = (0, entry);
                mark.state.count -= 1;
            });
        }
    }

    /// Drops blocks of main until `coming` more are within its share.
    fn make_room_in_main(&mut self, coming: u64, dropped: &mut impl FnMut(Dropped)) -> u64 {
        let mut count = 0;
        while self.parameters.strict {
            let beyond = (self.queues.blocks(MAIN) + coming).saturating_sub(self.main_share);
            let some = (beyond > 0).then(|| self.drop_from_main(beyond, dropped));
            match some.flatten() {
                Some(some) => count += some,
                None => break,
            }
        }
        count
    }

    /// Drops up to `most` blocks of the oldest leaf of small that is not promoted; returns how many.
    fn drop_from_small(&mut self, most: u64, dropped: &mut impl FnMut(Dropped)) -> u64 {
        while let Some(ix) = self.queues.oldest(SMALL) {
            let stretch = self.queues.get(ix);
            let length = u64::from(stretch.len());
            if stretch.mark.state.count < self.parameters.threshold {
                // Until small holds less than its share, if main has a leaf then.
                let beyond = self.queues.blocks(SMALL).saturating_sub(self.small_share) + 1;
                let limited = self.queues.oldest(MAIN).is_some();
                let most = if limited { most.min(beyond) } else { most };
                let count = most.min(length);
                let gone = self.queues.drop_blocks(ix, to_u32(count), dropped);
                self.ghost.add(&gone, Some((0, ())));
                self.ghost.limit(0, self.remembered);
                return count;
            }
            let made = self.make_room_in_main(self.blocks_in_small(ix), dropped);
            let entry = self.queues.next_entry();
            self.promote(ix, entry);
            if self.parameters.strict {
                return made;
            }
        }
        0
    }
}

impl PrefixPolicy for S3Fifo<'_> {
    #[allow(clippy::cast_precision_loss)] // Counts of blocks.
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        let grace = self.small_share as f64 * self.parameters.grace;
        let (most, entered) = (self.parameters.most, self.entered);
        self.queues.change_hits(|_, mark| {
            let counts = mark.queue == MAIN || (entered - mark.state.entered) as f64 >= grace;
            if counts {
                mark.state.count = most.min(mark.state.count + 1);
            }
        });
        self.known = self.ghost.take_deepest(request, hit..self.capacity);
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut count = 0;
        while count < blocks {
            let left = blocks - count;
            let full = self.queues.blocks(SMALL) >= self.small_share;
            let small = self.queues.oldest(SMALL).is_some();
            let main = self.queues.oldest(MAIN).is_some();
            count += if small && (full || !main) {
                self.drop_from_small(left, dropped)
            } else {
                let some = self.drop_from_main(left, dropped);
                some.expect("as many blocks as are dropped")
            };
        }
        let coming = self.known.saturating_sub(self.queues.hit_blocks());
        if coming > 0 {
            count += self.make_room_in_main(coming.into(), dropped);
        }
        self.has_dropped |= count > 0;
        Room::dropped(count)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let hit = self.queues.hit_blocks();
        if keep > hit {
            let entry = self.queues.next_entry();
            let mut known = self.known.clamp(hit, keep);
            if known > hit
                && let Some(ix) = self.queues.hit()
            {
                self.promote(ix, entry);
            }
            let in_small = self.queues.blocks(SMALL) + u64::from(keep - hit);
            if self.parameters.fill && !self.has_dropped && in_small > self.small_share {
                known = keep;
            }
            self.queues
                .grow(request, hit..known, Mark::new(MAIN, (0, entry), NONE));
            self.entered += u64::from(keep - known);
            let uses = Uses {
                count: 0,
                entered: self.entered,
            };
            self.queues
                .grow(request, known..keep, Mark::new(SMALL, (0, entry), uses));
        }
        self.queues.finish();
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.ghost.validate()?;
        self.queues.validate(cached)?;
        for (ix, stretch) in self.queues.iter() {
            if stretch.mark.state.count > self.parameters.most {
                return Err(Error::bug(format!("s3fifo: {ix:?} has a wrong mark")));
            }
            let closed = |above| self.queues.get(above).mark.queue == MAIN || self.parameters.fill;
            if stretch.mark.queue == MAIN && !stretch.above.is_none_or(closed) {
                return Err(Error::bug("s3fifo: main is not closed under ancestors"));
            }
        }
        Ok(())
    }
}
