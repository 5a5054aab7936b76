//! Ghost queues: blocks that are remembered after they have left the cache.

use std::collections::BTreeMap;
use std::ops::Range;

use super::queues::Gone;
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx};
use crate::intervals::{Interval, IntervalStacks};
use crate::profile::Profile;

/// Ghost queues, first in, first out, with something remembered of every block.
///
/// Every block that goes into a queue gets its next number. Along a heavy path the dropped blocks
/// follow the cached ones, and those dropped last lie on top: a stack of intervals whose value is
/// the queue and the number of the deepest block, or [`None`] for blocks that are not remembered.
#[derive(Debug)]
pub struct Ghost<'p, V> {
    profile: &'p Profile,
    stacks: IntervalStacks<Option<Kept<V>>>,
    queues: Vec<Numbers>,
}

/// An interval of remembered blocks; the block whose end lies at depth d has number
/// `first + (end - d)`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kept<V> {
    queue: usize,
    first: u64,
    value: V,
}

/// The numbers of one queue that are remembered: those behind `forgotten`, but for some `holes`.
#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    forgotten: u64,
    held: u64,
    /// First and last numbers of blocks that came back.
    holes: BTreeMap<u64, u64>,
}

impl Numbers {
    /// Forgets the oldest numbers until `room` are left.
    fn limit(&mut self, room: u64) {
        while self.held > room {
            let next = self.holes.first_key_value();
            let (next, end) = next.map_or((self.last + 1, self.last + 1), |(&a, &b)| (a, b));
            let count = (self.held - room).min(next - 1 - self.forgotten);
            self.forgotten += count;
            self.held -= count;
            if self.forgotten + 1 == next {
                self.holes.pop_first();
                self.forgotten = end.min(self.last);
            }
        }
    }

    /// Takes out the remembered ones of a range of numbers.
    fn take(&mut self, first: u64, last: u64) {
        let first = first.max(self.forgotten + 1);
        if first <= last {
            self.held -= last - first + 1;
            self.holes.insert(first, last);
        }
    }
}

impl<'p, V: Copy + PartialEq> Ghost<'p, V> {
    /// Empty queues.
    #[must_use]
    pub fn new(profile: &'p Profile, queues: usize) -> Self {
        Self {
            profile,
            stacks: IntervalStacks::new(profile.forest().heavy_paths()),
            queues: (0..queues).map(|_| Numbers::default()).collect(),
        }
    }

    /// Number of blocks remembered in a queue.
    #[must_use]
    pub fn len(&self, queue: usize) -> u64 {
        self.queues[queue].held
    }

    /// Forgets the oldest blocks of a queue until `room` are left.
    pub fn limit(&mut self, queue: usize, room: u64) {
        self.queues[queue].limit(room);
    }

    /// Notes blocks that have left the cache, the deepest first: in a queue with a value, or that
    /// they are not remembered.
    pub fn add<S>(&mut self, gone: &Gone<S>, kept: Option<(usize, V)>) {
        let count = u64::from(gone.blocks.end - gone.blocks.start);
        let kept = kept.map(|(queue, value)| {
            let numbers = &mut self.queues[queue];
            let first = numbers.last + 1;
            numbers.last += count;
            numbers.held += count;
            Kept {
                queue,
                first,
                value,
            }
        });
        let continues = self.stacks.top(gone.path).is_some_and(|top| {
            let behind = u64::from(top.end.saturating_sub(gone.blocks.end));
            let as_top = top.value.map(|above| Kept {
                first: above.first + behind,
                ..above
            });
            as_top == kept
        });
        if !continues {
            let end = gone.blocks.end;
            self.stacks.push(gone.path, Interval { end, value: kept });
        }
    }

    /// Takes out the `blocks` of the path of a request, which come back, and tells of each stretch
    /// that was remembered its depths, queue and value; from the deepest path up, on each downwards.
    pub fn take(
        &mut self,
        request: RequestIx,
        blocks: Range<u32>,
        mut known: impl FnMut(Range<u32>, usize, V),
    ) {
        let (profile, stacks, queues) = (self.profile, &mut self.stacks, &mut self.queues);
        let end = blocks.end.min(profile.touched()[request.usize()]);
        if blocks.start >= end {
            return;
        }
        profile.on_paths(request, blocks.start..end, |path, part| {
            let mut start = part.start;
            while start < part.end
                && let Some(top) = stacks.top(path)
            {
                if let Some(kept) = top.value {
                    let numbers = &mut queues[kept.queue];
                    let at = |depth: u32| kept.first + u64::from(top.end - depth);
                    // Of those that are left, the ones dropped last lie highest.
                    let end = top.end.min(part.end);
                    let newer = (at(0) - 1).saturating_sub(numbers.forgotten);
                    let depth = u32::try_from(newer).map_or(end, |newer| end.min(newer));
                    if depth > start {
                        numbers.take(at(depth), at(start) - 1);
                        known(start..depth, kept.queue, kept.value);
                    }
                }
                if top.end > part.end {
                    break;
                }
                stacks.pop(path);
                start = start.max(top.end);
            }
        });
    }

    /// Takes out blocks as [`take`](Self::take) does, and returns the depth of the deepest one that
    /// was remembered, 0 if none was.
    pub fn take_deepest(&mut self, request: RequestIx, blocks: Range<u32>) -> u32 {
        let mut deepest = 0;
        self.take(request, blocks, |known, _, _| {
            deepest = deepest.max(known.end);
        });
        deepest
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.stacks.validate(|below, above| above.end < below.end)?;
        for (queue, numbers) in self.queues.iter().enumerate() {
            let missing: u64 = numbers
                .holes
                .iter()
                .map(|(first, last)| last - first + 1)
                .sum();
            if numbers.held + missing + numbers.forgotten != numbers.last {
                return Err(Error::bug(format!("ghost queue {queue} miscounts")));
            }
        }
        Ok(())
    }
}
