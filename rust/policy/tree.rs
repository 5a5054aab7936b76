//! The cached part of the block tree, in stretches.

use std::num::NonZeroU32;
use std::ops::Range;

use super::Dropped;
use crate::error::{Error, Result};
use crate::index::{IndexVec, Ix, PathIx, RequestIx};
use crate::profile::Profile;

/// A stretch of a [`CachedTree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StretchIx(NonZeroU32);

impl StretchIx {
    fn place(self) -> usize {
        self.0.get() as usize - 1
    }

    #[allow(clippy::cast_possible_truncation)] // Fewer stretches than nodes and requests.
    fn of(place: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(place as u32))
    }
}

/// Neighbouring cached blocks of one path, of which the policy knows the same.
#[derive(Debug, Clone)]
pub struct Stretch<M> {
    /// A request on whose path they lie: the one they came with.
    pub owner: RequestIx,
    /// Their depths, in blocks.
    pub blocks: Range<u32>,
    /// The stretch that ends where this one starts; [`None`] at a root.
    pub above: Option<StretchIx>,
    /// What the policy knows of them.
    pub mark: M,
    /// Stretches that start where this one ends, and one more while it is pinned.
    below: u32,
    path: PathIx,
}

impl<M> Stretch<M> {
    /// Whether nothing hangs on its last block, so that it may go.
    #[must_use]
    pub fn is_leaf(&self) -> bool {
        self.below == 0
    }

    /// Number of blocks, at least 1.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.blocks.end - self.blocks.start
    }

    /// Never: a stretch has blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// The tree of cached blocks for policies that keep something of their own for each block.
///
/// ```text
///   path of request 4   0────────3─────5          stretches: 0..3 and 3..5 of request 4's path,
///   path of request 9            └──────────8     and 3..8 of request 9's; the first is no leaf
/// ```
///
/// A stretch lies on one heavy path of the forest, and others start only where it ends: it is cut
/// where a request leaves it. So a request finds the cached part of its path in O(log requests)
/// plus the stretches of the path that holds it, and walks it through [`Stretch::above`].
#[derive(Debug)]
pub struct CachedTree<'p, M> {
    profile: &'p Profile,
    stretches: Vec<Option<Stretch<M>>>,
    free: Vec<StretchIx>,
    /// The deepest stretch of each heavy path.
    tips: IndexVec<PathIx, Option<StretchIx>>,
    /// Room to list the heavy paths of a request.
    parts: Vec<(PathIx, Range<u32>)>,
}

impl<'p, M: Clone> CachedTree<'p, M> {
    /// An empty tree.
    #[must_use]
    pub fn new(profile: &'p Profile) -> Self {
        Self {
            profile,
            stretches: Vec::new(),
            free: Vec::new(),
            tips: IndexVec::filled(None, profile.forest().heavy_paths()),
            parts: Vec::new(),
        }
    }

    /// A stretch.
    ///
    /// # Panics
    /// If it is gone.
    #[must_use]
    pub fn get(&self, ix: StretchIx) -> &Stretch<M> {
        self.stretches[ix.place()].as_ref().expect("a live stretch")
    }

    /// A stretch, to change its mark.
    ///
    /// # Panics
    /// If it is gone.
    pub fn get_mut(&mut self, ix: StretchIx) -> &mut Stretch<M> {
        self.stretches[ix.place()].as_mut().expect("a live stretch")
    }

    /// A stretch, unless it is gone.
    #[must_use]
    pub fn live(&self, ix: StretchIx) -> Option<&Stretch<M>> {
        self.stretches[ix.place()].as_ref()
    }

    /// A stretch to change its mark, unless it is gone.
    pub fn live_mut(&mut self, ix: StretchIx) -> Option<&mut Stretch<M>> {
        self.stretches[ix.place()].as_mut()
    }

    /// The stretch that holds the last cached block of the path of `request`.
    #[must_use]
    pub fn find(&self, request: RequestIx) -> Option<(StretchIx, u32)> {
        let mut depth = self.profile.touched()[request.usize()];
        let mut path = self.profile.path_of(request);
        loop {
            let hang = self.profile.hang(path);
            if depth > hang.start {
                if let Some(mut at) = self.tips[path] {
                    let cached = depth.min(self.get(at).blocks.end);
                    while self.get(at).blocks.start >= cached {
                        at = self.get(at).above?;
                    }
                    return Some((at, cached));
                }
                depth = hang.start;
            }
            path = hang.up?;
        }
    }

    /// Cuts a stretch at `depth`, and returns the part above it; the part below keeps its index.
    /// The whole stretch is returned if it ends there.
    pub fn cut(&mut self, ix: StretchIx, depth: u32) -> StretchIx {
        let lower = self.get(ix);
        debug_assert!(lower.blocks.start < depth && depth <= lower.blocks.end);
        if lower.blocks.end == depth {
            return ix;
        }
        let mut upper = lower.clone();
        upper.blocks.end = depth;
        upper.below = 1;
        let upper = self.add(upper);
        let lower = self.get_mut(ix);
        lower.blocks.start = depth;
        lower.above = Some(upper);
        upper
    }

    /// Adds the `blocks` of the path of `owner`, which hang on the end of `above`; returns the
    /// deepest of the new stretches, or `above` if there are no blocks.
    pub fn grow(
        &mut self,
        owner: RequestIx,
        blocks: Range<u32>,
        above: Option<StretchIx>,
        mark: &M,
    ) -> Option<StretchIx> {
        let mut parts = std::mem::take(&mut self.parts);
        self.profile
            .on_paths(owner, blocks, |path, part| parts.push((path, part)));
        let mut above = above;
        for (path, blocks) in parts.drain(..).rev() {
            if let Some(above) = above {
                self.get_mut(above).below += 1;
            }
            let new = self.add(Stretch {
                owner,
                blocks,
                above,
                mark: mark.clone(),
                below: 0,
                path,
            });
            self.tips[path] = Some(new);
            above = Some(new);
        }
        self.parts = parts;
        above
    }

    /// Takes the last `count` blocks of a leaf away. If that is all of it, the stretch above is
    /// returned; it may be a leaf now.
    pub fn trim(&mut self, ix: StretchIx, count: u32) -> (Dropped, Option<StretchIx>) {
        let stretch = self.get_mut(ix);
        debug_assert!(stretch.is_leaf() && count <= stretch.len());
        let end = stretch.blocks.end;
        stretch.blocks.end -= count;
        let dropped = Dropped {
            owner: stretch.owner,
            blocks: end - count..end,
        };
        if !stretch.blocks.is_empty() {
            return (dropped, None);
        }
        let (path, above) = (stretch.path, stretch.above);
        self.stretches[ix.place()] = None;
        self.free.push(ix);
        let mut tip = None;
        if let Some(above) = above {
            let stretch = self.get_mut(above);
            stretch.below -= 1;
            tip = (stretch.path == path).then_some(above);
        }
        self.tips[path] = tip;
        (dropped, above)
    }

    /// Keeps a stretch, and with it all above it, from being a leaf until [`CachedTree::unpin`].
    pub fn pin(&mut self, ix: StretchIx) {
        self.get_mut(ix).below += 1;
    }

    /// Ends what [`CachedTree::pin`] began.
    pub fn unpin(&mut self, ix: StretchIx) {
        self.get_mut(ix).below -= 1;
    }

    /// The stretches, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (StretchIx, &Stretch<M>)> {
        let with_index = |(place, stretch)| Some((StretchIx::of(place), Option::as_ref(stretch)?));
        self.stretches.iter().enumerate().filter_map(with_index)
    }

    /// The stretches, in no particular order, to change their marks.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stretch<M>> {
        self.stretches.iter_mut().filter_map(Option::as_mut)
    }

    /// The heavy path a stretch lies on.
    pub(crate) fn path(&self, ix: StretchIx) -> PathIx {
        self.get(ix).path
    }

    fn add(&mut self, stretch: Stretch<M>) -> StretchIx {
        if let Some(ix) = self.free.pop() {
            self.stretches[ix.place()] = Some(stretch);
            return ix;
        }
        self.stretches.push(Some(stretch));
        StretchIx::of(self.stretches.len() - 1)
    }

    /// Checks every invariant, with nothing pinned; `cached` is the number of blocks.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self, cached: u64) -> Result<()> {
        let mut below = vec![0; self.stretches.len()];
        let mut held = 0;
        for (ix, stretch) in self.iter() {
            held += u64::from(stretch.len());
            let starts_at = match stretch.above {
                None => 0,
                Some(above) => {
                    below[above.place()] += 1;
                    let Some(above) = &self.stretches[above.place()] else {
                        return Err(Error::bug(format!("{ix:?} hangs on one that is gone")));
                    };
                    above.blocks.end
                }
            };
            let hang = self.profile.hang(stretch.path);
            if stretch.blocks.start != starts_at
                || stretch.is_empty()
                || stretch.blocks.start < hang.start
                || self.tips[stretch.path].is_none()
            {
                return Err(Error::bug(format!("{ix:?} is in the wrong place")));
            }
        }
        for (ix, stretch) in self.iter() {
            if below[ix.place()] != stretch.below {
                return Err(Error::bug(format!("{ix:?} miscounts what hangs on it")));
            }
        }
        if held != cached {
            return Err(Error::bug(format!("{held} blocks held, not {cached}")));
        }
        Ok(())
    }
}
