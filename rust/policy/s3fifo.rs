//! S3-FIFO: a small queue that most blocks leave without having been used again.

use std::collections::HashSet;

use super::leaves::Leaves;
use super::{CachedTree, Dropped, PrefixPolicy, Setting, StretchIx};
use crate::error::{Error, Result};
use crate::index::{PathIx, RequestIx};
use crate::intervals::{Interval, IntervalStacks};
use crate::profile::Profile;

/// Uses beyond which a block is not counted further.
const MOST_USES: u8 = 3;
/// Uses in the small queue from which on a block is promoted.
const PROMOTED: u8 = 2;

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
/// * Room is made block by block: from small if it holds a tenth of the capacity (rounded down, at
///   least 1) or more, or main has no leaf; else, or if small has no leaf, from main.
/// * From small: the oldest leaf is promoted if it was used twice or more, else dropped into the
///   ghost. A promoted block takes its ancestors in small along, which were used as often: main stays
///   closed under ancestors. Together they enter main anew, with no uses.
/// * From main: the oldest leaf is dropped if it has no uses left. Else it enters main anew with one
///   use less, together with the ancestors above it that entered with it and have as many uses.
/// * New blocks enter small. Those down to the deepest one that the ghost knows enter main instead,
///   and their ancestors in small are promoted with them. A block leaves the ghost when it comes back,
///   or when as many others as the ghost holds have been dropped into it.
///
/// The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct S3Fifo<'p> {
    tree: CachedTree<'p, Mark>,
    /// The stretches that may go, by when they entered the queue; small, then main.
    leaves: [Leaves; 2],
    /// Number of blocks in small.
    small: u64,
    /// Blocks from which on small gives up blocks.
    small_share: u64,
    /// Number of the next entry into a queue.
    next_entry: u64,
    ghost: Ghost<'p>,
    /// The deepest stretch of the running request, and how many blocks lead to its end.
    running: Option<(StretchIx, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

/// Where blocks queue, and how often they were used since they entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    queue: Queue,
    entry: u64,
    uses: u8,
    /// Whether it stands among the leaves with this entry, be it one or not.
    noted: bool,
}

impl Mark {
    /// Not used yet.
    fn new(queue: Queue, entry: u64) -> Self {
        Self {
            queue,
            entry,
            uses: 0,
            noted: false,
        }
    }

    /// What makes blocks move together.
    fn kind(&self) -> (Queue, u64, u8) {
        (self.queue, self.entry, self.uses)
    }
}

/// The blocks last dropped from the small queue.
///
/// Every block dropped into the ghost gets the next number; it is remembered while its number is
/// among the last `room`. Along a heavy path the dropped blocks follow the cached ones, and those
/// dropped last lie on top: a stack of intervals whose value is the number of the deepest block, or
/// [`None`] for blocks that were dropped from main.
#[derive(Debug)]
struct Ghost<'p> {
    profile: &'p Profile,
    stacks: IntervalStacks<Option<u64>>,
    /// Blocks that it holds.
    room: u64,
    /// Number of the last block dropped into it, from 1.
    dropped: u64,
}

impl Ghost<'_> {
    /// Notes that `blocks` of a path have been dropped, from the deepest up.
    fn add(&mut self, path: PathIx, blocks: std::ops::Range<u32>, remember: bool) {
        let count = u64::from(blocks.end - blocks.start);
        let number = remember.then_some(self.dropped + 1);
        if remember {
            self.dropped += count;
        }
        let continues = self.stacks.top(path).is_some_and(|top| {
            let behind = u64::from(top.end.saturating_sub(blocks.end));
            number == top.value.map(|first| first + behind)
        });
        if !continues {
            self.stacks.push(
                path,
                Interval {
                    end: blocks.end,
                    value: number,
                },
            );
        }
    }

    /// Takes out the `blocks` of the path of a request, which come back, and returns the depth of the
    /// deepest one that was remembered.
    fn take(&mut self, request: RequestIx, blocks: std::ops::Range<u32>) -> Option<u32> {
        let forgotten = self.dropped.saturating_sub(self.room);
        let (profile, stacks) = (self.profile, &mut self.stacks);
        let mut deepest = None;
        profile.on_paths(request, blocks, |path, part| {
            let mut start = part.start;
            while let Some(top) = stacks.top(path) {
                if let Some(first) = top.value {
                    // The block at depth d has number first + (end - d).
                    let newer = (first + u64::from(top.end)).saturating_sub(forgotten + 1);
                    let depth = u64::from(top.end.min(part.end)).min(newer);
                    if depth > u64::from(start) {
                        deepest = deepest.max(u32::try_from(depth).ok());
                    }
                }
                if top.end > part.end {
                    break;
                }
                stacks.pop(path);
                start = top.end;
            }
        });
        deepest
    }
}

impl<'p> S3Fifo<'p> {
    /// An empty cache.
    #[must_use]
    pub fn new(setting: Setting<'p>) -> Self {
        let capacity = setting.capacity.unwrap_or(u64::MAX);
        let small_share = (capacity / 10).max(1);
        Self {
            tree: CachedTree::new(setting.profile),
            leaves: [Leaves::default(), Leaves::default()],
            small: 0,
            small_share,
            next_entry: 0,
            ghost: Ghost {
                profile: setting.profile,
                stacks: IntervalStacks::new(setting.profile.forest().heavy_paths()),
                room: capacity - small_share,
                dropped: 0,
            },
            running: None,
        }
    }

    fn new_entry(&mut self) -> u64 {
        self.next_entry += 1;
        self.next_entry
    }

    /// Adds a stretch to the leaves of its queue, if it is one.
    fn note_leaf(&mut self, ix: StretchIx) {
        let stretch = self.tree.get_mut(ix);
        if stretch.is_leaf() && !stretch.mark.noted {
            stretch.mark.noted = true;
            let Mark { queue, entry, .. } = stretch.mark;
            self.leaves[queue as usize].push(entry, ix);
        }
    }

    /// The oldest leaf of a queue.
    ///
    /// Blocks that entered together lie on one path, so at most one of them is a leaf.
    fn oldest(&mut self, queue: Queue) -> Option<StretchIx> {
        let tree = &mut self.tree;
        let first = self.leaves[queue as usize].first(|entry, ix| {
            let Some(stretch) = tree.live(ix) else {
                return false;
            };
            if (stretch.mark.queue, stretch.mark.entry) != (queue, entry) {
                return false;
            }
            stretch.mark.noted = stretch.is_leaf();
            stretch.mark.noted
        });
        first.map(|(_, ix)| ix)
    }

    /// Moves a stretch and its ancestors in small to main.
    fn promote(&mut self, from: StretchIx, entry: u64) {
        let mut at = Some(from);
        while let Some(ix) = at
            && self.tree.get(ix).mark.queue == Queue::Small
        {
            let stretch = self.tree.get_mut(ix);
            stretch.mark = Mark::new(Queue::Main, entry);
            self.small -= u64::from(stretch.len());
            at = stretch.above;
        }
        self.note_leaf(from);
    }

    /// Lets a stretch of main, and those above it that are alike, enter main anew.
    fn enter_anew(&mut self, from: StretchIx) {
        let entry = self.new_entry();
        let old = self.tree.get(from).mark.kind();
        let mut at = Some(from);
        while let Some(ix) = at
            && let stretch = self.tree.get_mut(ix)
            && stretch.mark.kind() == old
        {
            stretch.mark.entry = entry;
            stretch.mark.uses -= 1;
            stretch.mark.noted = false;
            at = stretch.above;
        }
        self.note_leaf(from);
    }

    /// Drops the last `count` blocks of a leaf.
    fn drop_blocks(&mut self, ix: StretchIx, count: u32, dropped: &mut impl FnMut(Dropped)) {
        let stretch = self.tree.get(ix);
        let (queue, path) = (stretch.mark.queue, self.tree.path(ix));
        let (gone, above) = self.tree.trim(ix, count);
        if queue == Queue::Small {
            self.small -= u64::from(count);
        }
        self.ghost
            .add(path, gone.blocks.clone(), queue == Queue::Small);
        dropped(gone);
        if let Some(above) = above {
            self.note_leaf(above);
        }
    }
}

impl PrefixPolicy for S3Fifo<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        self.running = self.tree.find(request);
        let Some((ix, hit)) = self.running else {
            return 0;
        };
        let whole = ix;
        let ix = self.tree.cut(whole, hit);
        if ix != whole {
            // It is the lower part that stands among the leaves.
            self.tree.get_mut(ix).mark.noted = false;
        }
        self.running = Some((ix, hit));
        self.tree.pin(ix);
        let mut at = Some(ix);
        while let Some(ix) = at {
            let stretch = self.tree.get_mut(ix);
            stretch.mark.uses = MOST_USES.min(stretch.mark.uses + 1);
            at = stretch.above;
        }
        hit
    }

    #[allow(clippy::cast_possible_truncation)] // At most the blocks of a stretch.
    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> u64 {
        let mut left = blocks;
        while left > 0 {
            let full = self.small >= self.small_share;
            let order = if full {
                [Queue::Small, Queue::Main]
            } else {
                [Queue::Main, Queue::Small]
            };
            let oldest = order.into_iter().find_map(|queue| self.oldest(queue));
            let ix = oldest.expect("as many blocks as are dropped");
            let stretch = self.tree.get(ix);
            let (mark, most) = (stretch.mark, left.min(u64::from(stretch.len())));
            match mark.queue {
                Queue::Small if mark.uses >= PROMOTED => {
                    let entry = self.new_entry();
                    self.promote(ix, entry);
                }
                Queue::Main if mark.uses > 0 => self.enter_anew(ix),
                queue => {
                    // From small until it holds less than its share, if main has a leaf then.
                    let beyond = self.small.saturating_sub(self.small_share) + 1;
                    let limited = queue == Queue::Small
                        && full
                        && most > beyond
                        && self.oldest(Queue::Main).is_some();
                    let count = if limited { beyond } else { most };
                    self.drop_blocks(ix, count as u32, dropped);
                    left -= count;
                }
            }
        }
        blocks
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let (above, hit) = match self.running.take() {
            None => (None, 0),
            Some((ix, hit)) => (Some(ix), hit),
        };
        let mut deepest = above;
        if keep > hit {
            let (mut start, entry) = (hit, self.new_entry());
            if let Some(known) = self.ghost.take(request, hit..keep) {
                if let Some(ix) = above {
                    self.promote(ix, entry);
                }
                let mark = Mark::new(Queue::Main, entry);
                deepest = self.tree.grow(request, hit..known, deepest, &mark);
                start = known;
            }
            let mark = Mark::new(Queue::Small, entry);
            deepest = self.tree.grow(request, start..keep, deepest, &mark);
            self.small += u64::from(keep - start);
        }
        if let Some(ix) = above {
            self.tree.unpin(ix);
        }
        if let Some(ix) = deepest {
            self.note_leaf(ix);
        }
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.tree.validate(cached)?;
        self.ghost
            .stacks
            .validate(|below, above| above.end < below.end)?;
        let noted: [HashSet<_>; 2] = [0, 1].map(|queue| self.leaves[queue].iter().collect());
        let mut small = 0;
        for (ix, stretch) in self.tree.iter() {
            let Mark {
                queue, entry, uses, ..
            } = stretch.mark;
            if queue == Queue::Small {
                small += u64::from(stretch.len());
            } else if let Some(above) = stretch.above
                && self.tree.get(above).mark.queue == Queue::Small
            {
                return Err(Error::bug("s3fifo: main is not closed under ancestors"));
            }
            if uses > MOST_USES || entry > self.next_entry {
                return Err(Error::bug(format!("s3fifo: {ix:?} has a wrong mark")));
            }
            let listed = noted[queue as usize].contains(&(entry, ix));
            if (stretch.is_leaf() || stretch.mark.noted) && !(stretch.mark.noted && listed) {
                return Err(Error::bug(format!("s3fifo: {ix:?} is not noted as a leaf")));
            }
        }
        if small != self.small {
            return Err(Error::bug(format!(
                "s3fifo: {small} blocks in small, not {}",
                self.small
            )));
        }
        Ok(())
    }
}
