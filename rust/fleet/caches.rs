//! The prefix caches of all replicas on one tree: LRU, block for block.

use super::replicas::Replicas;
use super::tree::{BlockTree, ROOT};
use crate::error::{Error, Result};
use crate::index::to_u32;

const NIL: u32 = u32::MAX;

/// What one replica holds of one segment, and its neighbours in that replica's order of use.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Leading blocks of the segment.
    blocks: u32,
    /// The segment used before it.
    older: u32,
    /// The segment used after it.
    newer: u32,
}

const NOTHING: Held = Held {
    blocks: 0,
    older: NIL,
    newer: NIL,
};

/// One LRU cache per replica, all on one [`BlockTree`].
///
/// A prompt touches its path from the last block to the first, so that of two segments on one path the
/// deeper one goes first: what is held of a path is a leading part of it, and of a segment too. One mask
/// per segment says who holds its first block, so one walk from the leaf upwards finds the hit at every
/// replica.
#[derive(Debug)]
pub struct Caches {
    replicas: usize,
    capacity: Option<u64>,
    holders: Vec<Replicas>,
    /// By segment, then replica; empty if the caches have no limit.
    held: Vec<Held>,
    oldest: Vec<u32>,
    newest: Vec<u32>,
    cached: Vec<u64>,
    evictions: u64,
}

impl Caches {
    /// Empty caches of `capacity` blocks each ([`None`]: no limit).
    ///
    /// # Errors
    /// [`Error::Range`] for a capacity of 0.
    pub fn new(tree: &BlockTree, replicas: usize, capacity: Option<u64>) -> Result<Self> {
        if capacity == Some(0) {
            return Err(Error::range(
                "replicas of 0 blocks, give 1 or more (or None for no limit)",
            ));
        }
        let entries = capacity.map_or(0, |_| tree.len() * replicas);
        Ok(Self {
            replicas,
            capacity,
            holders: vec![Replicas::NONE; tree.len()],
            held: vec![NOTHING; entries],
            oldest: vec![NIL; replicas],
            newest: vec![NIL; replicas],
            cached: vec![0; replicas],
            evictions: 0,
        })
    }

    /// Writes how many leading blocks of the path to `leaf` each replica of `of` holds.
    #[inline]
    pub fn lookup(&self, tree: &BlockTree, leaf: u32, of: Replicas, blocks: &mut [u32]) {
        blocks.fill(0);
        let (mut at, mut open) = (leaf, of);
        while at != ROOT && !open.is_empty() {
            let segment = tree.segment(at);
            let found = self.holders[at as usize].and(open);
            open = open.without(found);
            if self.capacity.is_none() {
                for replica in found {
                    blocks[replica] = segment.end;
                }
            } else {
                for replica in found {
                    blocks[replica] = segment.start + self.held[self.place(at, replica)].blocks;
                }
            }
            at = segment.parent;
        }
    }

    /// Puts the path to `leaf` into the cache of a replica, as the most recently used.
    #[inline]
    pub fn admit(&mut self, tree: &BlockTree, leaf: u32, replica: usize) {
        let Some(capacity) = self.capacity else {
            self.admit_unlimited(tree, leaf, replica);
            return;
        };
        let keep = u32::try_from(capacity).unwrap_or(u32::MAX);
        let mut at = leaf;
        while at != ROOT {
            let segment = tree.segment(at);
            if segment.start < keep {
                self.touch(at, replica, segment.end.min(keep) - segment.start);
            }
            at = segment.parent;
        }
        while self.cached[replica] > capacity {
            let excess = self.cached[replica] - capacity;
            self.evict(replica, u32::try_from(excess).unwrap_or(u32::MAX));
        }
    }

    fn admit_unlimited(&mut self, tree: &BlockTree, leaf: u32, replica: usize) {
        let mut at = leaf;
        while at != ROOT && !self.holders[at as usize].has(replica) {
            let segment = tree.segment(at);
            self.holders[at as usize].add(replica);
            self.cached[replica] += u64::from(segment.blocks());
            at = segment.parent;
        }
    }

    /// Makes a segment, of which `blocks` are held now, the newest.
    #[inline]
    fn touch(&mut self, at: u32, replica: usize, blocks: u32) {
        let place = self.place(at, replica);
        let before = self.held[place];
        if before.blocks > 0 {
            self.unlink(at, replica);
        } else {
            self.holders[at as usize].add(replica);
        }
        self.cached[replica] += u64::from(blocks);
        self.cached[replica] -= u64::from(before.blocks);
        self.evictions += u64::from(before.blocks.saturating_sub(blocks));
        let older = self.newest[replica];
        self.held[place] = Held {
            blocks,
            older,
            newer: NIL,
        };
        if older == NIL {
            self.oldest[replica] = at;
        } else {
            let place = self.place(older, replica);
            self.held[place].newer = at;
        }
        self.newest[replica] = at;
    }

    #[inline]
    fn unlink(&mut self, at: u32, replica: usize) {
        let Held { older, newer, .. } = self.held[self.place(at, replica)];
        if older == NIL {
            self.oldest[replica] = newer;
        } else {
            let place = self.place(older, replica);
            self.held[place].newer = newer;
        }
        if newer == NIL {
            self.newest[replica] = older;
        } else {
            let place = self.place(newer, replica);
            self.held[place].older = older;
        }
    }

    /// Drops up to `excess` blocks of the oldest segment.
    #[inline]
    fn evict(&mut self, replica: usize, excess: u32) {
        let at = self.oldest[replica];
        let place = self.place(at, replica);
        let dropped = self.held[place].blocks.min(excess);
        self.cached[replica] -= u64::from(dropped);
        self.evictions += u64::from(dropped);
        if dropped < self.held[place].blocks {
            self.held[place].blocks -= dropped;
            return;
        }
        self.unlink(at, replica);
        self.held[place] = NOTHING;
        let holders = &mut self.holders[at as usize];
        *holders = holders.without(Replicas::one(replica));
    }

    /// Empties the cache of a replica that is taken away; what it held does not count as evicted.
    pub fn clear(&mut self, replica: usize) {
        for holders in &mut self.holders {
            *holders = holders.without(Replicas::one(replica));
        }
        for held in self.held.iter_mut().skip(replica).step_by(self.replicas) {
            *held = NOTHING;
        }
        (self.oldest[replica], self.newest[replica]) = (NIL, NIL);
        self.cached[replica] = 0;
    }

    #[inline]
    fn place(&self, at: u32, replica: usize) -> usize {
        at as usize * self.replicas + replica
    }

    /// Blocks that each replica holds.
    #[must_use]
    pub fn cached(&self) -> &[u64] {
        &self.cached
    }

    /// Blocks dropped since the start.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Distinct blocks held anywhere.
    #[must_use]
    pub fn distinct(&self, tree: &BlockTree) -> u64 {
        let most = |at: usize| {
            let segment = tree.segment(to_u32(at));
            if self.capacity.is_none() {
                return segment.blocks();
            }
            let held = self.holders[at].into_iter();
            held.map(|replica| self.held[at * self.replicas + replica].blocks)
                .max()
                .unwrap_or(0)
        };
        (0..self.holders.len())
            .filter(|&at| !self.holders[at].is_empty())
            .map(|at| u64::from(most(at)))
            .sum()
    }

    /// Checks every invariant: masks, sums, order of use, closed under what is above.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self, tree: &BlockTree) -> Result<()> {
        for replica in 0..self.replicas {
            let mut sum = 0;
            for at in 1..to_u32(tree.len()) {
                let segment = tree.segment(at);
                let holds = self.holders[at as usize].has(replica);
                let blocks = match self.capacity {
                    None if holds => segment.blocks(),
                    None => 0,
                    Some(_) => self.held[self.place(at, replica)].blocks,
                };
                if (blocks > 0) != holds || blocks > segment.blocks() {
                    return Err(Error::bug(format!("segment {at} of replica {replica}")));
                }
                let up = segment.parent;
                if blocks > 0 && up != ROOT && !self.holders[up as usize].has(replica) {
                    return Err(Error::bug(format!("segment {at} is cached without {up}")));
                }
                sum += u64::from(blocks);
            }
            if sum != self.cached[replica] || self.capacity.is_some_and(|most| sum > most) {
                return Err(Error::bug(format!("replica {replica} holds {sum} blocks")));
            }
            let (mut at, mut listed) = (self.oldest[replica], 0);
            while at != NIL {
                let held = self.held[self.place(at, replica)];
                listed += u64::from(held.blocks);
                at = held.newer;
            }
            if self.capacity.is_some() && listed != sum {
                return Err(Error::bug(format!(
                    "replica {replica} lists {listed} blocks"
                )));
            }
        }
        Ok(())
    }
}
