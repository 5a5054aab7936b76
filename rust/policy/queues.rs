//! The cached tree with its leaves in queues: what most policies are made from.

use std::collections::HashSet;
use std::fmt::Debug;
use std::ops::Range;

use super::leaves::{Leaves, Rank};
use super::{CachedTree, Dropped, Stretch, StretchIx};
use crate::error::{Error, Result};
use crate::index::{PathIx, RequestIx, to_u32};
use crate::profile::Profile;

/// What a policy knows of the blocks of a stretch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark<S> {
    /// The queue they stand in, from 0.
    pub queue: usize,
    /// Their place in it.
    pub rank: Rank,
    /// Whatever else the policy keeps.
    pub state: S,
    /// Whether the stretch stands among the leaves with this rank, be it one or not.
    listed: bool,
}

impl<S> Mark<S> {
    /// A place in a queue.
    pub const fn new(queue: usize, rank: Rank, state: S) -> Self {
        Self {
            queue,
            rank,
            state,
            listed: false,
        }
    }
}

impl<S: PartialEq> Mark<S> {
    /// Whether blocks with either mark entered together and are known alike.
    fn is_like(&self, other: &Self) -> bool {
        (self.queue, self.rank, &self.state) == (other.queue, other.rank, &other.state)
    }
}

/// Blocks that have left the cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Gone<S> {
    /// What was known of them.
    pub mark: Mark<S>,
    /// The heavy path they lay on.
    pub(super) path: PathIx,
    /// Their depths, in blocks.
    pub blocks: Range<u32>,
}

/// The cached tree whose leaves stand in queues.
///
/// The rules that all policies built on it share, where their papers speak of single objects:
///
/// * Only leaves of the cached tree go, so "the oldest of a queue" is the oldest leaf in it.
/// * A request uses all blocks of its path at one time. Blocks that entered a queue at one time and
///   are known alike are one stretch, and the deepest of them goes first.
/// * The running request's blocks are no leaves while it runs.
///
/// A policy calls [`take`](Self::take) when a request begins, changes the marks of what the request
/// hits, drops leaves, and ends it with [`grow`](Self::grow) for new blocks and
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct Queues<'p, S> {
    tree: CachedTree<'p, Mark<S>>,
    leaves: Vec<Leaves>,
    /// Number of blocks in each queue.
    blocks: Vec<u64>,
    /// Number of the last entry.
    entries: u64,
    /// The deepest stretch that the running request found, and how many blocks lead to its end.
    found: Option<(StretchIx, u32)>,
    /// The deepest stretch of the running request.
    deepest: Option<StretchIx>,
    was_cut: bool,
}

impl<'p, S: Copy + PartialEq + Debug> Queues<'p, S> {
    /// An empty cache with some queues.
    #[must_use]
    pub fn new(profile: &'p Profile, queues: usize) -> Self {
        Self {
            tree: CachedTree::new(profile),
            leaves: (0..queues).map(|_| Leaves::default()).collect(),
            blocks: vec![0; queues],
            entries: 0,
            found: None,
            deepest: None,
            was_cut: false,
        }
    }

    /// The number of the next entry into a queue, from 1.
    pub fn next_entry(&mut self) -> u64 {
        self.entries += 1;
        self.entries
    }

    /// Number of blocks in a queue.
    #[must_use]
    pub fn blocks(&self, queue: usize) -> u64 {
        self.blocks[queue]
    }

    /// A stretch.
    #[must_use]
    pub fn get(&self, ix: StretchIx) -> &Stretch<Mark<S>> {
        self.tree.get(ix)
    }

    /// A stretch, unless it is gone.
    #[must_use]
    pub fn live(&self, ix: StretchIx) -> Option<&Stretch<Mark<S>>> {
        self.tree.live(ix)
    }

    /// Begins a request: returns how many leading blocks of its path are cached, which stay until
    /// [`finish`](Self::finish).
    pub fn take(&mut self, request: RequestIx) -> u32 {
        self.found = self.tree.find(request);
        self.deepest = None;
        let Some((whole, hit)) = self.found else {
            return 0;
        };
        let ix = self.split(whole, hit);
        self.was_cut = ix != whole;
        self.tree.pin(ix);
        self.found = Some((ix, hit));
        self.deepest = Some(ix);
        hit
    }

    /// The deepest stretch that the running request found.
    #[must_use]
    pub fn hit(&self) -> Option<StretchIx> {
        self.found.map(|(ix, _)| ix)
    }

    /// Whether that stretch was cut off from a longer one for the running request.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// The deepest stretch of the running request so far.
    #[must_use]
    pub fn deepest(&self) -> Option<StretchIx> {
        self.deepest
    }

    /// How many leading blocks the running request found.
    #[must_use]
    pub fn hit_blocks(&self) -> u32 {
        self.found.map_or(0, |(_, blocks)| blocks)
    }

    /// Cuts a stretch at a depth; returns the upper part, the lower one keeps its index.
    fn split(&mut self, whole: StretchIx, depth: u32) -> StretchIx {
        let upper = self.tree.cut(whole, depth);
        if upper != whole {
            // It is the lower part that stands among the leaves.
            self.tree.get_mut(upper).mark.listed = false;
        }
        upper
    }

    /// Cuts all but the last `count` blocks of a stretch off: it keeps its index. Returns the part
    /// above, if there is one.
    pub fn keep_tail(&mut self, ix: StretchIx, count: u32) -> Option<StretchIx> {
        let blocks = &self.get(ix).blocks;
        let depth = blocks.end - count;
        (depth > blocks.start).then(|| self.split(ix, depth))
    }

    /// Changes what is known of a stretch; returns the one above it.
    pub fn change(
        &mut self,
        ix: StretchIx,
        change: impl FnOnce(&Range<u32>, &mut Mark<S>),
    ) -> Option<StretchIx> {
        let stretch = self.tree.get_mut(ix);
        let (queue, rank, length) = (stretch.mark.queue, stretch.mark.rank, stretch.len());
        change(&stretch.blocks, &mut stretch.mark);
        let above = stretch.above;
        let new = stretch.mark.queue;
        if (queue, rank) != (new, stretch.mark.rank) {
            stretch.mark.listed = false;
            self.blocks[queue] -= u64::from(length);
            self.blocks[new] += u64::from(length);
            self.list(ix);
        }
        above
    }

    /// Changes what is known of each stretch that the running request found, from the deepest up.
    pub fn change_hits(&mut self, mut change: impl FnMut(&Range<u32>, &mut Mark<S>)) {
        let mut at = self.hit();
        while let Some(ix) = at {
            at = self.change(ix, &mut change);
        }
    }

    /// Changes a stretch, and with it all above that entered with it and are known alike: they
    /// enter anew together.
    pub fn enter_anew(&mut self, from: StretchIx, change: impl FnMut(&mut Mark<S>)) {
        self.move_tail(from, u64::MAX, change);
    }

    /// Changes the last blocks of a leaf, at most `most`, and of what lies above it and is known
    /// alike: they move together.
    pub fn move_tail(&mut self, leaf: StretchIx, most: u64, mut change: impl FnMut(&mut Mark<S>)) {
        let old = self.get(leaf).mark;
        let (mut at, mut left) = (Some(leaf), most);
        while let Some(ix) = at
            && left > 0
            && old.is_like(&self.get(ix).mark)
        {
            let count = left.min(self.get(ix).len().into());
            self.keep_tail(ix, to_u32(count));
            left -= count;
            at = self.change(ix, |_, mark| change(mark));
        }
    }

    /// Drops the last blocks of a leaf, at most `most`, and of what lies above it and is known alike;
    /// tells of each stretch, and returns how many.
    pub fn drop_tail(
        &mut self,
        leaf: StretchIx,
        most: u64,
        dropped: &mut impl FnMut(Dropped),
        mut gone: impl FnMut(&Gone<S>),
    ) -> u64 {
        let old = self.get(leaf).mark;
        let (mut at, mut left) = (Some(leaf), most);
        while let Some(ix) = at
            && left > 0
            && self.get(ix).is_leaf()
            && old.is_like(&self.get(ix).mark)
        {
            at = self.get(ix).above;
            let count = left.min(self.get(ix).len().into());
            gone(&self.drop_blocks(ix, to_u32(count), dropped));
            left -= count;
        }
        most - left
    }

    /// Adds a stretch to the leaves of its queue, if it is one.
    fn list(&mut self, ix: StretchIx) {
        let stretch = self.tree.get_mut(ix);
        if stretch.is_leaf() && !stretch.mark.listed {
            stretch.mark.listed = true;
            let Mark { queue, rank, .. } = stretch.mark;
            self.leaves[queue].push(rank, ix);
        }
    }

    /// Forgets which stretches are leaves: those whose mark is changed next are listed anew.
    pub fn unlist_all(&mut self) {
        for leaves in &mut self.leaves {
            *leaves = Leaves::default();
        }
        for stretch in self.tree.iter_mut() {
            stretch.mark.listed = false;
        }
    }

    /// Adds a stretch to the leaves of its queue, with the place that it has, if it is one.
    pub fn relist(&mut self, ix: StretchIx) {
        self.list(ix);
    }

    /// The leaf of a queue that goes first.
    pub fn oldest(&mut self, queue: usize) -> Option<StretchIx> {
        let tree = &mut self.tree;
        let first = self.leaves[queue].first(|rank, ix| {
            let Some(stretch) = tree.live_mut(ix) else {
                return false;
            };
            if (stretch.mark.queue, stretch.mark.rank) != (queue, rank) {
                return false;
            }
            stretch.mark.listed = stretch.is_leaf();
            stretch.mark.listed
        });
        first.map(|(_, ix)| ix)
    }

    /// Drops the last `count` blocks of a leaf.
    pub fn drop_blocks(
        &mut self,
        ix: StretchIx,
        count: u32,
        dropped: &mut impl FnMut(Dropped),
    ) -> Gone<S> {
        let mark = self.get(ix).mark;
        let path = self.tree.path(ix);
        let (gone, above) = self.tree.trim(ix, count);
        self.blocks[mark.queue] -= u64::from(count);
        let blocks = gone.blocks.clone();
        dropped(gone);
        if let Some(above) = above {
            self.list(above);
        }
        Gone { mark, path, blocks }
    }

    /// Adds new blocks below those that the running request has.
    pub fn grow(&mut self, request: RequestIx, blocks: Range<u32>, mark: Mark<S>) {
        self.blocks[mark.queue] += u64::from(blocks.end - blocks.start);
        self.deepest = self.tree.grow(request, blocks, self.deepest, &mark);
    }

    /// Ends the running request; returns its deepest stretch, which may be a leaf now.
    pub fn finish(&mut self) -> Option<StretchIx> {
        if let Some((ix, _)) = self.found.take() {
            self.tree.unpin(ix);
        }
        let deepest = self.deepest.take()?;
        self.list(deepest);
        Some(deepest)
    }

    /// The stretches, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (StretchIx, &Stretch<Mark<S>>)> {
        self.tree.iter()
    }

    /// Checks every invariant, between two requests; `cached` is the number of blocks.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self, cached: u64) -> Result<()> {
        self.tree.validate(cached)?;
        let listed: Vec<HashSet<_>> = self.leaves.iter().map(|q| q.iter().collect()).collect();
        let mut blocks = vec![0; self.blocks.len()];
        for (ix, stretch) in self.tree.iter() {
            let mark = &stretch.mark;
            blocks[mark.queue] += u64::from(stretch.len());
            let is_listed = listed[mark.queue].contains(&(mark.rank, ix));
            if (stretch.is_leaf() || mark.listed) && !(mark.listed && is_listed) {
                return Err(Error::bug(format!("{ix:?} is not listed as a leaf")));
            }
        }
        if blocks != self.blocks {
            let counts = &self.blocks;
            return Err(Error::bug(format!("{blocks:?} in queues, not {counts:?}")));
        }
        Ok(())
    }
}
