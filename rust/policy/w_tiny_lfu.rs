//! W-TinyLFU.

use super::ghost::Ghost;
use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting, StretchIx, share};
use crate::error::Result;
use crate::index::RequestIx;

parameters! {
    /// Parameters of [`WTinyLfu`].
    WTinyLfuParameters {
        /// Share of the capacity that the window has.
        window: f64 = 0.01, in 0.0..=1.0;
        /// Share of the rest that is protected.
        protected: f64 = 0.8, in 0.0..=1.0;
        /// Uses of blocks, as a multiple of the capacity, after which all counts are halved; so many blocks are remembered after they left.
        sample: f64 = 10.0, in 1.0..=1000.0;
    }
}

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;
/// Uses beyond which a block is not counted further.
const MOST: u32 = 15;

/// W-TinyLFU (Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
/// Transactions on Storage 13(4), 2017): new blocks enter an LRU window; what leaves it enters the
/// segmented LRU behind it only if it was used more often than what would have to go for it.
///
/// Uses are counted exactly, where the paper has a sketch of as many: up to 15 for a block, remembered
/// after it left, and all halved after every `sample` uses. Candidate and victim are the oldest leaves
/// of window and probation (of protected, if that has none); the one of them that loses gives up as many
/// blocks as room is needed for. The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct WTinyLfu<'p> {
    queues: Queues<'p, Count>,
    ghost: Ghost<'p, Count>,
    window: u64,
    protected: u64,
    sample: u64,
    capacity: u32,
    /// Uses of blocks since the last halving.
    uses: u64,
    halvings: u32,
    /// Counts of stretches of the running request's new blocks that were remembered.
    known: Vec<(std::ops::Range<u32>, u32)>,
}

/// Uses of blocks, as of a number of halvings.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Count {
    uses: u32,
    halvings: u32,
}

impl Count {
    fn at(self, halvings: u32) -> u32 {
        self.uses.checked_shr(halvings - self.halvings).unwrap_or(0)
    }

    fn one_more(self, halvings: u32) -> Self {
        Self {
            uses: MOST.min(self.at(halvings) + 1),
            halvings,
        }
    }
}

impl<'p> WTinyLfu<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, parameters: WTinyLfuParameters) -> Self {
        let window = share(setting.capacity, parameters.window);
        let rest = setting.capacity.map(|all| all.saturating_sub(window));
        Self {
            queues: Queues::new(setting.profile, 3),
            ghost: Ghost::new(setting.profile, 1),
            window,
            protected: share(rest, parameters.protected),
            sample: share(setting.capacity, parameters.sample),
            capacity: setting.most_kept(),
            uses: 0,
            halvings: 0,
            known: Vec::new(),
        }
    }

    /// Moves what a queue has beyond its size to the young end of probation.
    fn settle(&mut self, queue: usize, size: u64) {
        loop {
            let beyond = self.queues.blocks(queue).saturating_sub(size);
            let Some(ix) = (beyond > 0).then(|| self.queues.oldest(queue)).flatten() else {
                return;
            };
            self.move_to_probation(ix, beyond);
        }
    }

    /// Moves the last blocks of a leaf, at most `most`, to the young end of probation.
    fn move_to_probation(&mut self, ix: StretchIx, most: u64) {
        let entry = self.queues.next_entry();
        self.queues.move_tail(ix, most, |mark| {
            mark.queue = PROBATION;
            mark.rank = (0, entry);
        });
    }

    fn drop(&mut self, ix: StretchIx, most: u64, dropped: &mut impl FnMut(Dropped)) -> u64 {
        let (ghost, sample) = (&mut self.ghost, self.sample);
        self.queues.drop_tail(ix, most, dropped, |gone| {
            ghost.add(gone, Some((0, gone.mark.state)));
            ghost.limit(0, sample);
        })
    }

    fn uses_of(&self, ix: StretchIx) -> u32 {
        self.queues.get(ix).mark.state.at(self.halvings)
    }
}

impl PrefixPolicy for WTinyLfu<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        let (entry, halvings) = (self.queues.next_entry(), self.halvings);
        self.queues.change_hits(|_, mark| {
            let queue = if mark.queue == WINDOW {
                WINDOW
            } else {
                PROTECTED
            };
            *mark = Mark::new(queue, (0, entry), mark.state.one_more(halvings));
        });
        let known = &mut self.known;
        known.clear();
        self.ghost
            .take(request, hit..self.capacity, |blocks, _, count| {
                known.push((blocks, count.at(halvings)));
            });
        known.sort_unstable_by_key(|(blocks, _)| blocks.start);
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let full = self.queues.blocks(WINDOW) >= self.window;
            let candidate = self.queues.oldest(WINDOW);
            let victim = [PROBATION, PROTECTED]
                .into_iter()
                .find_map(|queue| self.queues.oldest(queue));
            left -= match (candidate, victim) {
                (Some(candidate), Some(victim)) if full => {
                    let wins = self.uses_of(candidate) > self.uses_of(victim);
                    let loser = if wins { victim } else { candidate };
                    let count = self.drop(loser, left, dropped);
                    if wins {
                        self.move_to_probation(candidate, u64::MAX);
                    }
                    count
                }
                (_, Some(victim)) => self.drop(victim, left, dropped),
                (candidate, None) => {
                    let ix = candidate.expect("as many blocks as are dropped");
                    self.drop(ix, left, dropped)
                }
            };
        }
        Room::dropped(blocks)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let mut start = self.queues.hit_blocks();
        if keep > start {
            let (entry, halvings) = (self.queues.next_entry(), self.halvings);
            let mark = |uses: u32| {
                let count = Count { uses, halvings };
                Mark::new(WINDOW, (0, entry), count.one_more(halvings))
            };
            for (blocks, uses) in std::mem::take(&mut self.known) {
                self.queues.grow(request, start..blocks.start, mark(0));
                start = blocks.end;
                self.queues.grow(request, blocks, mark(uses));
            }
            self.queues.grow(request, start..keep, mark(0));
        }
        self.queues.finish();
        self.settle(WINDOW, self.window);
        self.settle(PROTECTED, self.protected);
        self.uses += u64::from(keep);
        if self.uses >= self.sample {
            self.uses = 0;
            self.halvings += 1;
        }
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.ghost.validate()?;
        self.queues.validate(cached)
    }
}
