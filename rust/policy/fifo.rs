//! First in, first out.

use std::collections::HashSet;

use super::leaves::Leaves;
use super::{CachedTree, Dropped, PrefixPolicy, Setting, StretchIx};
use crate::error::{Error, Result};
use crate::index::{RequestIx, to_u32};

/// Drops the blocks that came in first, whatever their use since.
///
/// Exactly: of the cached blocks on which no cached block hangs, the one that came in with the
/// earliest request goes first; of those that came with one request, the deepest. A block that comes
/// back after it was dropped comes in anew. So a block waits for everything cached below it, and an
/// old block that later requests have extended outlives its age. The owner of dropped blocks is the
/// request they came in with.
#[derive(Debug)]
pub struct Fifo<'p> {
    tree: CachedTree<'p, Noted>,
    /// The stretches that may go, by the request they came with.
    leaves: Leaves,
    /// The deepest stretch of the running request, and how many blocks lead to its end.
    running: Option<(StretchIx, u32)>,
}

/// Whether a stretch stands among the leaves, be it one or not.
#[derive(Debug, Clone, Copy, Default)]
struct Noted(bool);

impl<'p> Fifo<'p> {
    /// An empty cache.
    #[must_use]
    pub fn new(setting: Setting<'p>) -> Self {
        Self {
            tree: CachedTree::new(setting.profile),
            leaves: Leaves::default(),
            running: None,
        }
    }

    fn note_leaf(&mut self, ix: StretchIx) {
        let stretch = self.tree.get_mut(ix);
        if stretch.is_leaf() && !stretch.mark.0 {
            stretch.mark.0 = true;
            self.leaves.push(stretch.owner.get().into(), ix);
        }
    }

    /// The leaf that came in first. Blocks that came with one request lie on one path, so at most one
    /// of them is a leaf.
    fn oldest(&mut self) -> Option<StretchIx> {
        let tree = &mut self.tree;
        let first = self.leaves.first(|owner, ix| {
            let Some(stretch) = tree.live(ix) else {
                return false;
            };
            if u64::from(stretch.owner.get()) != owner {
                return false;
            }
            stretch.mark.0 = stretch.is_leaf();
            stretch.mark.0
        });
        first.map(|(_, ix)| ix)
    }
}

impl PrefixPolicy for Fifo<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        self.running = self.tree.find(request);
        let Some((ix, hit)) = &mut self.running else {
            return 0;
        };
        let whole = *ix;
        *ix = self.tree.cut(whole, *hit);
        let (ix, hit) = (*ix, *hit);
        if ix != whole {
            // It is the lower part that stands among the leaves.
            self.tree.get_mut(ix).mark.0 = false;
        }
        self.tree.pin(ix);
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> u64 {
        let mut left = blocks;
        while left > 0 {
            let ix = self.oldest().expect("as many blocks as are dropped");
            let count = to_u32(left.min(u64::from(self.tree.get(ix).len())));
            let (blocks, above) = self.tree.trim(ix, count);
            dropped(blocks);
            left -= u64::from(count);
            if let Some(above) = above {
                self.note_leaf(above);
            }
        }
        blocks
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let (above, hit) = match self.running.take() {
            None => (None, 0),
            Some((ix, hit)) => (Some(ix), hit),
        };
        let deepest = self.tree.grow(request, hit..keep, above, &Noted::default());
        if let Some(ix) = above {
            self.tree.unpin(ix);
        }
        if let Some(ix) = deepest {
            self.note_leaf(ix);
        }
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.tree.validate(cached)?;
        let noted: HashSet<_> = self.leaves.iter().collect();
        for (ix, stretch) in self.tree.iter() {
            let (is_noted, key) = (stretch.mark.0, u64::from(stretch.owner.get()));
            if (stretch.is_leaf() || is_noted) && !(is_noted && noted.contains(&(key, ix))) {
                return Err(Error::bug(format!("fifo: {ix:?} is not noted as a leaf")));
            }
        }
        Ok(())
    }
}
