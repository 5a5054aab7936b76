//! Policies that rank every block by what is known of it, and drop the lowest leaf.

use std::fmt::Debug;

use super::leaves::Rank;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting};
use crate::error::Result;
use crate::index::{Ix, RequestIx, to_u32};
use crate::profile::Profile;

/// A rank for every block: the leaf with the smallest one goes first.
///
/// # What the caller guarantees
///
/// * Requests come in the order of the trace. For each, [`expiry`](Self::expiry) is asked first, then
///   [`used`](Self::used) is called for what it hits, then leaves are dropped, each told to
///   [`evicted`](Self::evicted), then [`admitted`](Self::admitted) is asked for its new blocks, once.
///
/// # What an implementor must do
///
/// * Let the second number of a rank be the request at which the state was set, so that equal ranks
///   mean one path.
/// * Let the rank of a block depend on its state and the depth of its end only.
pub trait Ranking {
    /// What is kept of blocks that came in and were used together.
    type State: Copy + PartialEq + Debug;

    /// Whether the running request's new blocks may be refused, if they rank below all others.
    fn may_refuse(&self) -> bool {
        false
    }

    /// Leaves with a rank below this one leave by themselves before `request` runs.
    fn expiry(&mut self, request: RequestIx) -> Rank {
        let _ = request;
        (0, 0)
    }

    /// New blocks come in with `request`, below blocks with the state `above`.
    fn admitted(&mut self, request: RequestIx, above: Option<&Self::State>) -> Self::State;

    /// Cached blocks are used by `request`.
    fn used(&mut self, request: RequestIx, state: &mut Self::State);

    /// The rank of the block that ends at depth `end`, in blocks.
    fn rank(&self, state: &Self::State, end: u32) -> Rank;

    /// The depth down to which the blocks above the one that ends at `end` rank no higher than it.
    fn alike_from(&self, state: &Self::State, end: u32) -> u32 {
        let _ = (state, end);
        0
    }

    /// A block of this rank was dropped for want of room.
    fn evicted(&mut self, rank: Rank) {
        let _ = rank;
    }
}

/// A [`Ranking`] as a policy. The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct Ranked<'p, R: Ranking> {
    ranking: R,
    queues: Queues<'p, R::State>,
    running: RequestIx,
    profile: &'p Profile,
    capacity: u32,
    /// State of the running request's new blocks, where it was set before others were dropped.
    admitted: Option<R::State>,
}

impl<'p, R: Ranking> Ranked<'p, R> {
    /// An empty cache.
    #[must_use]
    pub fn new(setting: &Setting<'p>, ranking: R) -> Self {
        Self {
            ranking,
            queues: Queues::new(setting.profile, 1),
            running: RequestIx::new(0),
            profile: setting.profile,
            capacity: setting.most_kept(),
            admitted: None,
        }
    }

    /// Ranks the running request's new stretches, those behind `hit`, by their own ends.
    fn rank_new(&mut self, hit: u32) {
        let mut at = self.queues.deepest();
        while let Some(ix) = at
            && self.queues.get(ix).blocks.start >= hit
        {
            let ranking = &self.ranking;
            at = self.queues.change(ix, |blocks, mark| {
                mark.rank = ranking.rank(&mark.state, blocks.end);
            });
        }
    }

    fn state_above(&self) -> Option<R::State> {
        let ix = self.queues.hit()?;
        Some(self.queues.get(ix).mark.state)
    }

    /// Drops up to `most` blocks of the lowest leaf, if it ranks below `limit`; returns how many.
    fn drop_lowest(
        &mut self,
        most: u64,
        limit: Option<Rank>,
        dropped: &mut impl FnMut(Dropped),
    ) -> Option<(u32, Rank)> {
        let ix = self.queues.oldest(0)?;
        let stretch = self.queues.get(ix);
        let (state, rank, end) = (stretch.mark.state, stretch.mark.rank, stretch.blocks.end);
        if limit.is_some_and(|limit| rank >= limit) {
            return None;
        }
        let alike = end
            - self
                .ranking
                .alike_from(&state, end)
                .max(stretch.blocks.start);
        let count = to_u32(most.min(u64::from(alike)));
        let whole = count == stretch.len();
        self.queues.drop_blocks(ix, count, dropped);
        if !whole {
            let rank = self.ranking.rank(&state, end - count);
            self.queues.change(ix, |_, mark| mark.rank = rank);
        }
        Some((count, rank))
    }
}

impl<R: Ranking> PrefixPolicy for Ranked<'_, R> {
    fn expire(&mut self, request: RequestIx, dropped: &mut impl FnMut(Dropped)) -> u64 {
        let limit = self.ranking.expiry(request);
        let mut count = 0;
        if limit > (0, 0) {
            while let Some((gone, _)) = self.drop_lowest(u64::MAX, Some(limit), dropped) {
                count += u64::from(gone);
            }
        }
        count
    }

    #[inline]
    fn take(&mut self, request: RequestIx) -> u32 {
        self.running = request;
        self.admitted = None;
        let hit = self.queues.take(request);
        let ranking = &mut self.ranking;
        self.queues.change_hits(|blocks, mark| {
            ranking.used(request, &mut mark.state);
            mark.rank = ranking.rank(&mark.state, blocks.end);
        });
        hit
    }

    #[inline]
    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut room = Room::default();
        let touched = self.profile.touched()[self.running.usize()].min(self.capacity);
        if self.ranking.may_refuse() {
            let above = self.state_above();
            self.admitted = Some(self.ranking.admitted(self.running, above.as_ref()));
        }
        while room.total() < blocks {
            let limit = self
                .admitted
                .map(|state| self.ranking.rank(&state, touched - room.refused));
            let left = blocks - room.total();
            if let Some((count, rank)) = self.drop_lowest(left, limit, dropped) {
                room.dropped += u64::from(count);
                self.ranking.evicted(rank);
            } else {
                let rank = limit.expect("as many blocks as are dropped");
                room.refused += 1;
                self.ranking.evicted(rank);
            }
        }
        room
    }

    #[inline]
    fn put(&mut self, request: RequestIx, keep: u32) {
        let hit = self.queues.hit_blocks();
        if keep > hit {
            let above = self.state_above();
            let state = match self.admitted.take() {
                Some(state) => state,
                None => self.ranking.admitted(request, above.as_ref()),
            };
            let rank = self.ranking.rank(&state, keep);
            self.queues
                .grow(request, hit..keep, Mark::new(0, rank, state));
            self.rank_new(hit);
        }
        self.queues.finish();
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.queues.validate(cached)
    }
}

/// A number as one that has the same order.
#[must_use]
pub fn ordered(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits >> 63 == 0 {
        bits | (1 << 63)
    } else {
        !bits
    }
}
