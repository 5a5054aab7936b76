//! Finding the reuse intervals: the `access` of a link-cut tree, made simple by knowing the tree.
//!
//! The final tree is known, so it is cut into heavy paths once, and a request's path crosses at
//! most log2(requests) of them. On one heavy path every request touches a leading part. Hence from
//! its top downwards the last use only gets older: the last uses of a heavy path are a stack of
//! intervals, the most recent on top. A request that goes down to depth d takes off every interval
//! that ends above d, cuts the next one, and puts itself on top. Every interval is put there once
//! and taken off once: O(log requests) per request, amortised, however many turns a session has.

use super::ReuseInterval;
use crate::error::{Error, Result};
use crate::forest::Forest;
use crate::index::{IndexVec, Ix, PathIx, RequestIx};
use crate::intervals::{Interval, IntervalStacks};
use crate::stop::Stop;

/// The reuse intervals of all requests, as lists in one array.
#[derive(Debug)]
pub(super) struct ReuseIntervals {
    offsets: Vec<u32>,
    intervals: Vec<ReuseInterval>,
}

impl ReuseIntervals {
    /// Runs all requests, of which number t touches `blocks[t]` blocks of `ids_per_block` ids.
    #[allow(clippy::cast_possible_truncation)] // Bounded by the check in the loop.
    pub fn new(forest: &Forest, hangs: &Hangs, blocks: &[u32], stop: &Stop) -> Result<Self> {
        let mut last_uses = LastUses::new(hangs);
        let mut offsets = Vec::with_capacity(blocks.len() + 1);
        let mut intervals: Vec<ReuseInterval> = Vec::with_capacity(blocks.len());
        let mut crossed = Vec::new();
        offsets.push(0);
        for (t, &depth) in blocks.iter().enumerate() {
            if t.is_multiple_of(Stop::INTERVAL) {
                stop.check()?;
                if intervals.len() > (u32::MAX / 2) as usize {
                    return Err(Error::range("more than 2^31 reuse intervals in one trace"));
                }
            }
            let request = RequestIx::from_usize(t);
            let from = intervals.len();
            crossed.clear();
            hangs.crossed(forest.path_of_request(request), 0..depth, |path, part| {
                crossed.push((path, part.end));
            });
            for &(path, depth) in crossed.iter().rev() {
                last_uses.touch(path, depth, request, |interval| {
                    match intervals[from..].last_mut() {
                        Some(last) if last.last_use == interval.last_use => {
                            last.end = interval.end;
                        }
                        _ => intervals.push(interval),
                    }
                });
            }
            offsets.push(intervals.len() as u32);
        }
        debug_assert_eq!(last_uses.validate(), Ok(()));
        intervals.shrink_to_fit();
        Ok(Self { offsets, intervals })
    }

    pub fn of(&self, request: RequestIx) -> &[ReuseInterval] {
        let t = request.usize();
        &self.intervals[self.offsets[t] as usize..self.offsets[t + 1] as usize]
    }

    pub fn len(&self) -> usize {
        self.intervals.len()
    }
}

/// Where a heavy path hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hang {
    /// The path it leaves; [`None`] for a path that starts at a root.
    pub up: Option<PathIx>,
    /// Depth at which it leaves that path, in blocks.
    pub start: u32,
}

/// Where all heavy paths hang.
#[derive(Debug)]
pub(crate) struct Hangs(IndexVec<PathIx, Hang>);

impl Hangs {
    pub fn new(forest: &Forest, ids_per_block: u32) -> Self {
        let hang = |path: &crate::forest::HeavyPath| Hang {
            up: path.up,
            start: path.top / ids_per_block,
        };
        Self(forest.paths().iter().map(hang).collect::<Vec<_>>().into())
    }

    #[inline]
    pub fn of(&self, path: PathIx) -> Hang {
        self.0[path]
    }

    /// Number of heavy paths.
    pub fn paths(&self) -> usize {
        self.0.len()
    }

    /// Calls `visit` with the heavy paths that hold `blocks` of the way that ends on `path`, and with
    /// which of them each holds; the deepest first.
    #[inline]
    pub fn crossed(
        &self,
        path: PathIx,
        blocks: std::ops::Range<u32>,
        mut visit: impl FnMut(PathIx, std::ops::Range<u32>),
    ) {
        let (mut path, mut depth) = (path, blocks.end);
        while depth > blocks.start {
            let Hang { up, start } = self.of(path);
            if depth > start {
                visit(path, start.max(blocks.start)..depth);
                depth = start;
            }
            match up {
                Some(up) => path = up,
                None => return,
            }
        }
    }
}

/// Who was the last to use the blocks of every heavy path.
#[derive(Debug)]
pub(crate) struct LastUses(IntervalStacks<RequestIx>);

impl LastUses {
    pub fn new(hangs: &Hangs) -> Self {
        Self(IntervalStacks::new(hangs.paths()))
    }

    /// Lets a request use a path down to `depth`, telling who used it last, from the top downwards.
    #[inline]
    pub fn touch(
        &mut self,
        path: PathIx,
        depth: u32,
        request: RequestIx,
        mut told: impl FnMut(ReuseInterval),
    ) {
        while let Some(Interval { end, value }) = self.0.top(path) {
            told(ReuseInterval {
                end: end.min(depth),
                last_use: value,
            });
            if end > depth {
                break;
            }
            self.0.pop(path);
            if end == depth {
                break;
            }
        }
        self.0.push(
            path,
            Interval {
                end: depth,
                value: request,
            },
        );
    }

    /// Tells who used the `blocks` of a path last, which are the deepest of it that are cached, and
    /// how many blocks each. They stay: what is dropped is used anew before it is dropped again.
    pub fn cached_part(
        &self,
        path: PathIx,
        blocks: std::ops::Range<u32>,
        mut told: impl FnMut(RequestIx, u32),
    ) {
        let mut start = 0;
        for Interval { end, value } in self.0.iter(path) {
            let (from, to) = (blocks.start.max(start), blocks.end.min(end));
            if from < to {
                told(value, to - from);
            }
            if end >= blocks.end {
                return;
            }
            start = end;
        }
    }

    /// Checks every invariant: downwards, intervals get deeper and older.
    pub fn validate(&self) -> Result<()> {
        self.0
            .validate(|below, above| above.end < below.end && above.value > below.value)
    }
}
