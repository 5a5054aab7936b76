//! Multi-Queue.

use super::ghost::Ghost;
use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting, share};
use crate::error::Result;
use crate::index::{Ix, RequestIx, to_u32};

parameters! {
    /// Parameters of [`Mq`].
    MqParameters {
        /// Number of LRU queues.
        queues: usize = 8, in 1..=64;
        /// Requests after which a block that was not used falls by one queue.
        lifetime: u64 = 1000, in 1..=u64::MAX;
        /// Blocks whose uses are remembered after they left, as a share of the capacity.
        ghost: f64 = 4.0, in 0.0..=100.0;
    }
}

/// Multi-Queue (Zhou, Philbin and Li, "The Multi-Queue Replacement Algorithm for Second Level Buffer
/// Caches", USENIX ATC 2001): LRU queues by the logarithm of the number of uses. At every request the
/// oldest leaf of each queue whose time is over falls to the young end of the queue below. Room is made
/// in the lowest queue that has a leaf; uses of dropped blocks are remembered for a while.
///
/// Of a request's new blocks, those with as many remembered uses enter together. The owner of dropped
/// blocks is the request they came in with.
#[derive(Debug)]
pub struct Mq<'p> {
    queues: Queues<'p, Uses>,
    ghost: Ghost<'p, u64>,
    rule: Rule,
    remembered: u64,
    capacity: u32,
    /// Ends and uses of stretches of the running request's new blocks that were remembered.
    known: Vec<(std::ops::Range<u32>, u64)>,
}

/// Uses of blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Uses {
    count: u64,
    /// Request after which they fall by one queue.
    expiry: u64,
}

/// Where blocks queue by their uses, and for how long.
#[derive(Debug, Clone, Copy)]
struct Rule {
    queues: usize,
    lifetime: u64,
}

impl Rule {
    fn expiry(self, now: u64) -> u64 {
        now.saturating_add(self.lifetime)
    }

    /// The place of blocks used so often, that enter their queue now.
    fn mark(self, uses: u64, now: u64, entry: u64) -> Mark<Uses> {
        let queue = (self.queues - 1).min(uses.ilog2() as usize);
        let state = Uses {
            count: uses,
            expiry: self.expiry(now),
        };
        Mark::new(queue, (0, entry), state)
    }
}

impl<'p> Mq<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, parameters: MqParameters) -> Self {
        Self {
            queues: Queues::new(setting.profile, parameters.queues),
            ghost: Ghost::new(setting.profile, 1),
            rule: Rule {
                queues: parameters.queues,
                lifetime: parameters.lifetime,
            },
            remembered: share(setting.capacity, parameters.ghost),
            capacity: setting.most_kept(),
            known: Vec::new(),
        }
    }
}

impl PrefixPolicy for Mq<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let now = request.usize() as u64;
        for queue in 1..self.rule.queues {
            let Some(ix) = self.queues.oldest(queue) else {
                continue;
            };
            if self.queues.get(ix).mark.state.expiry < now {
                let (entry, expiry) = (self.queues.next_entry(), self.rule.expiry(now));
                self.queues.enter_anew(ix, |mark| {
                    mark.queue = queue - 1;
                    mark.rank = (0, entry);
                    mark.state.expiry = expiry;
                });
            }
        }
        let hit = self.queues.take(request);
        let entry = self.queues.next_entry();
        let rule = self.rule;
        self.queues.change_hits(|_, mark| {
            *mark = rule.mark(mark.state.count + 1, now, entry);
        });
        let known = &mut self.known;
        known.clear();
        self.ghost
            .take(request, hit..self.capacity, |blocks, _, uses| {
                known.push((blocks, uses));
            });
        known.sort_unstable_by_key(|(blocks, _)| blocks.start);
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let lowest = (0..self.rule.queues).find_map(|queue| self.queues.oldest(queue));
            let ix = lowest.expect("as many blocks as are dropped");
            let count = left.min(self.queues.get(ix).len().into());
            let gone = self.queues.drop_blocks(ix, to_u32(count), dropped);
            self.ghost.add(&gone, Some((0, gone.mark.state.count)));
            self.ghost.limit(0, self.remembered);
            left -= count;
        }
        Room::dropped(blocks)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let mut start = self.queues.hit_blocks();
        let now = request.usize() as u64;
        if keep > start {
            let entry = self.queues.next_entry();
            let known = std::mem::take(&mut self.known);
            for (blocks, uses) in &known {
                let new = self.rule.mark(1, now, entry);
                self.queues.grow(request, start..blocks.start, new);
                let back = self.rule.mark(uses + 1, now, entry);
                self.queues.grow(request, blocks.clone(), back);
                start = blocks.end;
            }
            let new = self.rule.mark(1, now, entry);
            self.queues.grow(request, start..keep, new);
            self.known = known;
        }
        self.queues.finish();
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.ghost.validate()?;
        self.queues.validate(cached)
    }
}
