//! The prefix caches of all replicas on one tree: LRU, block for block.

use std::collections::VecDeque;

use super::replicas::Replicas;
use super::rows::Rows;
use super::tree::{BlockTree, Node, OLDEST, ROOT, above, look_ahead};
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
    /// The segments, and who holds the first block of each.
    nodes: Vec<Node<Replicas>>,
    /// By segment; empty if the caches have no limit.
    held: Rows<Held, 8>,
    /// Per replica: leaf and number of the admissions that may still hold something, oldest first.
    queues: Vec<VecDeque<(u32, u32)>>,
    /// Per replica: oldest admissions that were looked at.
    looked: Vec<usize>,
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
        let segments = capacity.map_or(0, |_| tree.len());
        Ok(Self {
            replicas,
            capacity,
            nodes: tree.nodes(Replicas::NONE),
            held: Rows::new(segments, replicas),
            queues: vec![VecDeque::new(); replicas],
            looked: vec![0; replicas],
            admissions: 0,
            cached: vec![0; replicas],
            evictions: 0,
        })
    }

    /// Looks at what the next requests will touch, which end at these segments.
    pub(super) fn ahead(&self, leaves: &mut [u32]) {
        let nodes = &self.nodes;
        match self.capacity {
            None => look_ahead(leaves, |_, at| (above(nodes, at), 0)),
            Some(_) => look_ahead(leaves, |_, at| {
                (above(nodes, at), self.held.get(at, 0).used)
            }),
        }
    }

    /// Looks at what the oldest admissions of a replica used.
    fn oldest_ahead(&mut self, replica: usize) {
        let queue = &self.queues[replica];
        let count = queue.len().min(OLDEST);
        let (mut leaves, mut numbers) = ([ROOT; OLDEST], [0; OLDEST]);
        for (place, &(leaf, used)) in queue.iter().take(OLDEST).enumerate() {
            (leaves[place], numbers[place]) = (leaf, used);
        }
        look_ahead(&mut leaves[..count], |lane, at| {
            let used = self.held.get(at, replica).used;
            let ends = used > numbers[lane];
            (if ends { ROOT } else { above(&self.nodes, at) }, used)
        });
        self.looked[replica] = count;
    }

    /// Writes how many leading blocks of the path to `leaf` each replica of `of` holds.
    #[inline]
    pub fn lookup(&self, leaf: u32, of: Replicas, blocks: &mut [u32]) {
        blocks.fill(0);
        let (mut at, mut open) = (leaf, of);
        while at != ROOT && !open.is_empty() {
            let Node {
                segment,
                kept: holders,
            } = self.nodes[at as usize];
            let found = holders.and(open);
            open = open.without(found);
            if self.capacity.is_none() {
                for replica in found {
                    blocks[replica] = segment.end;
                }
            } else {
                for replica in found {
                    blocks[replica] = segment.start + self.held.get(at, replica).blocks;
                }
            }
            at = segment.parent;
        }
    }

    /// Puts the path to `leaf` into the cache of a replica, as the most recently used.
    #[inline]
    pub fn admit(&mut self, leaf: u32, replica: usize) {
        let Some(capacity) = self.capacity else {
            self.admit_unlimited(leaf, replica);
            return;
        };
        let keep = u32::try_from(capacity).unwrap_or(u32::MAX);
        self.admissions += 1;
        let used = self.admissions;
        let (mut at, mut added, mut lost) = (leaf, 0_u64, 0_u64);
        while at != ROOT {
            let node = &mut self.nodes[at as usize];
            let segment = node.segment;
            if segment.start < keep {
                node.kept.add(replica);
                let blocks = segment.end.min(keep) - segment.start;
                let before =
                    std::mem::replace(self.held.get_mut(at, replica), Held { blocks, used });
                added += u64::from(blocks.saturating_sub(before.blocks));
                lost += u64::from(before.blocks.saturating_sub(blocks));
            }
            at = segment.parent;
        }
        self.queues[replica].push_back((leaf, used));
        self.evictions += lost;
        self.cached[replica] = self.cached[replica] + added - lost;
        if self.cached[replica] > capacity {
            self.evict(replica, capacity);
        }
    }

    fn admit_unlimited(&mut self, leaf: u32, replica: usize) {
        let mut at = leaf;
        while at != ROOT && !self.nodes[at as usize].kept.has(replica) {
            let node = &mut self.nodes[at as usize];
            node.kept.add(replica);
            self.cached[replica] += u64::from(node.segment.blocks());
            at = node.segment.parent;
        }
    }

    /// Drops the least recently used blocks of a replica until `capacity` are left.
    fn evict(&mut self, replica: usize, capacity: u64) {
        while let Some(&(leaf, used)) = self.queues[replica].front() {
            if self.looked[replica] == 0 {
                self.oldest_ahead(replica);
            }
            let mut at = leaf;
            while at != ROOT {
                let held = self.held.get(at, replica);
                if held.used == used && held.blocks > 0 {
                    let excess = self.cached[replica] - capacity;
                    let dropped = held.blocks.min(u32::try_from(excess).unwrap_or(u32::MAX));
                    self.cached[replica] -= u64::from(dropped);
                    self.evictions += u64::from(dropped);
                    self.held.get_mut(at, replica).blocks -= dropped;
                    if dropped < held.blocks {
                        return;
                    }
                    let holders = &mut self.nodes[at as usize].kept;
                    *holders = holders.without(Replicas::one(replica));
                    if self.cached[replica] == capacity {
                        return;
                    }
                } else if held.used > used {
                    break; // So were all above it.
                }
                at = self.nodes[at as usize].segment.parent;
            }
            self.queues[replica].pop_front();
            self.looked[replica] -= 1;
        }
    }

    /// Empties the cache of a replica that is taken away; what it held does not count as evicted.
    pub fn clear(&mut self, replica: usize) {
        for node in &mut self.nodes {
            node.kept = node.kept.without(Replicas::one(replica));
        }
        self.held.clear(replica);
        self.queues[replica].clear();
        self.looked[replica] = 0;
        self.cached[replica] = 0;
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
    pub fn distinct(&self) -> u64 {
        let most = |(at, node): (u32, &Node<Replicas>)| {
            let held = |replica| match self.capacity {
                None => node.segment.blocks(),
                Some(_) => self.held.get(at, replica).blocks,
            };
            u64::from(node.kept.into_iter().map(held).max().unwrap_or(0))
        };
        (0..).zip(&self.nodes).map(most).sum()
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
                let holds = self.nodes[at as usize].kept.has(replica);
                let blocks = match self.capacity {
                    None if holds => segment.blocks(),
                    None => 0,
                    Some(_) => self.held.get(at, replica).blocks,
                };
                if (blocks > 0) != holds || blocks > segment.blocks() {
                    return Err(Error::bug(format!("segment {at} of replica {replica}")));
                }
                let up = segment.parent;
                if blocks > 0 && up != ROOT && !self.nodes[up as usize].kept.has(replica) {
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
                .map(|at| self.held.get(at, replica))
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
