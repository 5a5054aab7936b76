//! First in, first out.

use std::collections::BTreeSet;

use super::{CachedTree, Dropped, PrefixPolicy, Setting, StretchIx};
use crate::error::{Error, Result};
use crate::index::RequestIx;

/// Drops the blocks that came in first, whatever their use since.
///
/// Exactly: of the cached blocks on which no cached block hangs, the one that came in with the
/// earliest request goes first; of those that came with one request, the deepest. A block that comes
/// back after it was dropped comes in anew. So a block waits for everything cached below it, and an
/// old block that later requests have extended outlives its age. The owner of dropped blocks is the
/// request they came in with.
#[derive(Debug)]
pub struct Fifo<'p> {
    tree: CachedTree<'p, ()>,
    /// The stretches that may go, by the request they came with.
    leaves: BTreeSet<(RequestIx, StretchIx)>,
    /// The deepest stretch of the running request, and how many blocks lead to its end.
    running: Option<(StretchIx, u32)>,
}

impl<'p> Fifo<'p> {
    /// An empty cache.
    #[must_use]
    pub fn new(setting: Setting<'p>) -> Self {
        Self {
            tree: CachedTree::new(setting.profile),
            leaves: BTreeSet::new(),
            running: None,
        }
    }

    fn key(&self, ix: StretchIx) -> (RequestIx, StretchIx) {
        (self.tree.get(ix).owner, ix)
    }

    fn note_leaf(&mut self, ix: StretchIx) {
        if self.tree.get(ix).is_leaf() {
            self.leaves.insert(self.key(ix));
        }
    }
}

impl PrefixPolicy for Fifo<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        self.running = self.tree.find(request);
        let Some((ix, hit)) = &mut self.running else {
            return 0;
        };
        *ix = self.tree.cut(*ix, *hit);
        let (ix, hit) = (*ix, *hit);
        self.leaves.remove(&self.key(ix));
        self.tree.pin(ix);
        hit
    }

    #[allow(clippy::cast_possible_truncation)] // At most the blocks of a stretch.
    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> u64 {
        let mut left = blocks;
        while left > 0 {
            let &key = self.leaves.first().expect("as many blocks as are dropped");
            let whole = self.tree.get(key.1).len();
            let count = left.min(u64::from(whole)) as u32;
            let (blocks, above) = self.tree.trim(key.1, count);
            dropped(blocks);
            left -= u64::from(count);
            if count == whole {
                self.leaves.remove(&key);
                if let Some(above) = above {
                    self.note_leaf(above);
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
        let deepest = self.tree.grow(request, hit..keep, above, &());
        if let Some(ix) = above {
            self.tree.unpin(ix);
        }
        if let Some(ix) = deepest {
            self.note_leaf(ix);
        }
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.tree.validate(cached)?;
        let leaves = self.tree.iter().filter(|(_, stretch)| stretch.is_leaf());
        let expected: BTreeSet<_> = leaves.map(|(ix, stretch)| (stretch.owner, ix)).collect();
        if expected != self.leaves {
            return Err(Error::bug("fifo: the leaves noted are not the leaves"));
        }
        Ok(())
    }
}
