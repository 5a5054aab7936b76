//! What llm-d's router knows of caches by what it sent: an LRU of blocks per replica.

use super::recency::{Entry, HeadsFirst, Segments};
use crate::error::Error;
use crate::fleet::replicas::Replicas;
use crate::fleet::rows::Rows;
use crate::fleet::tree::{BlockTree, Node, ROOT, above, look_ahead};

/// The approximate index: an LRU of blocks per replica, entered first block first, and who has which.
///
/// A replica that lost an early block is still credited for later ones while another one holds the gap,
/// and a prompt longer than the index leaves entries that no eviction removes.
#[derive(Debug)]
pub(super) struct Approximate {
    lists: Vec<HeadsFirst>,
    index: Index,
    capacity: u64,
    /// The segments of the prompt, the last one first.
    path: Vec<u32>,
}

/// Who has what of each segment.
#[derive(Debug)]
struct Index {
    nodes: Vec<Node<Holders>>,
    entries: Rows<Entry, 8>,
    /// Leading blocks that are listed without being in the LRU; nothing is asked of those who have none.
    stale: Rows<u32, 16>,
}

#[derive(Debug, Clone, Copy)]
struct Holders {
    /// Replicas that have something.
    had: Replicas,
    /// Those of them with leading blocks that are listed without being in the LRU.
    stale: Replicas,
}

/// The entries of one replica.
struct Own<'i>(&'i mut Index, usize);

impl Segments for Own<'_> {
    #[inline]
    fn above(&self, at: u32) -> u32 {
        self.0.nodes[at as usize].segment.parent
    }

    #[inline]
    fn entry(&mut self, at: u32) -> &mut Entry {
        self.0.entries.get_mut(at, self.1)
    }

    #[inline]
    fn lost(&mut self, at: u32, all: bool) {
        let holders = &mut self.0.nodes[at as usize].kept;
        if all && !holders.stale.has(self.1) {
            holders.had = holders.had.without(Replicas::one(self.1));
        }
    }
}

impl Index {
    /// Leading blocks of a segment that are listed without being in the LRU, and blocks up to where
    /// those of the LRU begin.
    #[inline]
    fn parts(&self, at: u32, size: u32, replica: usize) -> (u32, u32) {
        let stale = if self.nodes[at as usize].kept.stale.has(replica) {
            self.stale.get(at, replica)
        } else {
            0
        };
        (stale, size - self.entries.get(at, replica).kept)
    }
}

impl Approximate {
    pub fn new(tree: &BlockTree, replicas: usize, capacity: u64) -> Self {
        let nobody = Holders {
            had: Replicas::NONE,
            stale: Replicas::NONE,
        };
        let longest = tree.longest();
        let any_stale = u64::from(longest) > capacity;
        Self {
            lists: (0..replicas).map(|_| HeadsFirst::new()).collect(),
            index: Index {
                nodes: tree.nodes(nobody),
                entries: Rows::new(tree.len(), replicas),
                stale: Rows::new(if any_stale { tree.len() } else { 0 }, replicas),
            },
            capacity,
            path: Vec::new(),
        }
    }

    pub fn ahead(&self, leaves: &mut [u32]) {
        let index = &self.index;
        look_ahead(leaves, |_, at| {
            (above(&index.nodes, at), index.entries.get(at, 0).used)
        });
    }

    /// Blocks of a path that each replica is credited with: all of its own before the first block that
    /// nobody has.
    pub fn find(&mut self, leaf: u32, of: Replicas, matched: &mut [u32]) {
        matched.fill(0);
        self.path.clear();
        let mut at = leaf;
        while at != ROOT {
            self.path.push(at);
            at = self.index.nodes[at as usize].segment.parent;
        }
        for &at in self.path.iter().rev() {
            let node = &self.index.nodes[at as usize];
            let size = node.segment.blocks();
            let those = node.kept.had.and(of);
            let (mut head, mut tail) = (0, size);
            for replica in those {
                let (stale, gone) = self.index.parts(at, size, replica);
                (head, tail) = (head.max(stale), tail.min(gone));
            }
            let stop = if head < tail { head } else { size };
            for replica in those {
                let (stale, gone) = self.index.parts(at, size, replica);
                matched[replica] += stale.min(stop) + stop.saturating_sub(gone.max(stale));
            }
            if stop < size {
                return;
            }
        }
    }

    /// Enters the prompt just looked for.
    pub fn book(&mut self, replica: usize) {
        let Some(&leaf) = self.path.first() else {
            return;
        };
        let (list, index) = (&mut self.lists[replica], &mut self.index);
        let one = Replicas::one(replica);
        list.begin(leaf, 0.0);
        for &at in self.path.iter().rev() {
            let node = &mut index.nodes[at as usize];
            list.touch(index.entries.get_mut(at, replica), node.segment.blocks());
            node.kept.had.add(replica);
            node.kept.stale = node.kept.stale.without(one);
        }
        let blocks = u64::from(index.nodes[leaf as usize].segment.end);
        list.shrink(self.capacity, &mut Own(index, replica));
        let Ok(outside) = u32::try_from(blocks.saturating_sub(self.capacity)) else {
            return;
        };
        for &at in self.path.iter().rev() {
            let node = &mut index.nodes[at as usize];
            let segment = node.segment;
            if segment.start >= outside {
                break;
            }
            node.kept.had.add(replica);
            node.kept.stale.add(replica);
            *index.stale.get_mut(at, replica) = outside.min(segment.end) - segment.start;
        }
    }

    pub fn validate(&self) -> crate::Result<()> {
        for (replica, list) in self.lists.iter().enumerate() {
            let entry = |(at, _)| self.index.entries.get(at, replica);
            list.validate((0..).zip(&self.index.nodes).map(entry))?;
            for (at, node) in (0..).zip(&self.index.nodes) {
                let size = node.segment.blocks();
                let (stale, gone) = self.index.parts(at, size, replica);
                if node.kept.had.has(replica) != (stale > 0 || gone < size) {
                    return Err(Error::bug(format!("segment {at} of replica {replica}")));
                }
            }
        }
        Ok(())
    }
}
