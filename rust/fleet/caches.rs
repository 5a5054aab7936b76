//! The prefix caches of all replicas on one tree: LRU, block for block.

use std::collections::VecDeque;

use super::replicas::Replicas;
use super::tree::{BlockTree, ROOT};
use crate::error::{Error, Result};
use crate::index::to_u32;

/// What one replica holds of one segment.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// Leading blocks of the segment.
    blocks: u32,
    /// The admission that used it last.
    used: u32,
}

/// One LRU cache per replica, all on one [`BlockTree`].
///
/// A prompt touches its path from the last block to the first, so that of two segments on one path the
/// deeper one goes first: what is held of a path is a leading part of it, and of a segment too. One mask
/// per segment says who holds its first block, so one walk from the leaf upwards finds the hit at every
/// replica.
///
/// The order of use is a queue of admissions per replica. What the oldest one used and no later one did
/// is evicted from its leaf upwards:
///
/// ```text
///   queue  7  9  12         path of 7:  root ─ a ─ b ─ c       used:  a 12, b 9, c 7
///          └ oldest                                            goes:  c, then (of 9) b
/// ```
#[derive(Debug)]
pub struct Caches {
    replicas: usize,
    capacity: Option<u64>,
    holders: Vec<Replicas>,
    /// By segment, then replica; empty if the caches have no limit.
    held: Vec<Held>,
    /// Per replica: leaf and number of the admissions that may still hold something, oldest first.
    queues: Vec<VecDeque<(u32, u32)>>,
    admissions: u32,
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
            held: vec![Held::default(); entries],
            queues: vec![VecDeque::new(); replicas],
            admissions: 0,
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
        self.admissions += 1;
        let used = self.admissions;
        let (mut at, mut added, mut lost) = (leaf, 0_u64, 0_u64);
        while at != ROOT {
            let segment = tree.segment(at);
            if segment.start < keep {
                let blocks = segment.end.min(keep) - segment.start;
                let place = self.place(at, replica);
                let before = std::mem::replace(&mut self.held[place], Held { blocks, used });
                if before.blocks == 0 {
                    self.holders[at as usize].add(replica);
                }
                added += u64::from(blocks.saturating_sub(before.blocks));
                lost += u64::from(before.blocks.saturating_sub(blocks));
            }
            at = segment.parent;
        }
        self.queues[replica].push_back((leaf, used));
        self.evictions += lost;
        self.cached[replica] = self.cached[replica] + added - lost;
        if self.cached[replica] > capacity {
            self.evict(tree, replica, capacity);
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

    /// Drops the least recently used blocks of a replica until `capacity` are left.
    fn evict(&mut self, tree: &BlockTree, replica: usize, capacity: u64) {
        while let Some(&(leaf, used)) = self.queues[replica].front() {
            let mut at = leaf;
            while at != ROOT {
                let place = self.place(at, replica);
                let held = self.held[place];
                if held.used == used && held.blocks > 0 {
                    let excess = self.cached[replica] - capacity;
                    let dropped = held.blocks.min(u32::try_from(excess).unwrap_or(u32::MAX));
                    self.cached[replica] -= u64::from(dropped);
                    self.evictions += u64::from(dropped);
                    self.held[place].blocks -= dropped;
                    if dropped < held.blocks {
                        return;
                    }
                    let holders = &mut self.holders[at as usize];
                    *holders = holders.without(Replicas::one(replica));
                    if self.cached[replica] == capacity {
                        return;
                    }
                } else if held.used > used {
                    break; // So were all above it.
                }
                at = tree.segment(at).parent;
            }
            self.queues[replica].pop_front();
        }
    }

    /// Empties the cache of a replica that is taken away; what it held does not count as evicted.
    pub fn clear(&mut self, replica: usize) {
        for holders in &mut self.holders {
            *holders = holders.without(Replicas::one(replica));
        }
        for held in self.held.iter_mut().skip(replica).step_by(self.replicas) {
            *held = Held::default();
        }
        self.queues[replica].clear();
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
            let queue = &self.queues[replica];
            let oldest = queue.front().map_or(u32::MAX, |&(_, used)| used);
            let listed = (1..to_u32(tree.len()))
                .filter(|_| self.capacity.is_some())
                .map(|at| self.held[self.place(at, replica)])
                .filter(|held| held.blocks > 0 && held.used >= oldest)
                .map(|held| u64::from(held.blocks))
                .sum::<u64>();
            if self.capacity.is_some() && listed != sum {
                return Err(Error::bug(format!(
                    "replica {replica} lists {listed} blocks"
                )));
            }
        }
        Ok(())
    }
}
