//! Slots that hold runs of blocks.

use super::run::{Found, Held, NIL, Run};
use crate::error::{Error, Result};
use crate::stats::Residency;

/// What [`BlockPool`](crate::engine::vllm::BlockPool) is for slots, for runs of them.
///
/// The free queue is `blank ++ runs`: slots that hold nothing, as they were never taken or are put in
/// front when they are released, and then the runs, oldest first, which are taken from their ends:
///
/// ```text
///   blank 3 │ c[8..11)  b[5..8)  a[0..5) │        takes 3 + 1: blank 0 │ c[8..10)  b[5..8)  a[0..5) │
/// ```
///
/// Where a segment has several copies of a block, the one that was cached first is found.
#[derive(Debug)]
pub(super) struct RunPool {
    runs: Vec<Run>,
    spare: Vec<u32>,
    /// First and last run of each segment.
    ends: Vec<(u32, u32)>,
    oldest: u32,
    newest: u32,
    usable: u32,
    blank: u32,
    queued: u32,
    evictions: u64,
    now: f64,
    residency: Option<Residency>,
}

impl RunPool {
    pub fn new(segments: usize, usable: u32) -> Self {
        Self {
            runs: Vec::new(),
            spare: Vec::new(),
            ends: vec![(NIL, NIL); segments],
            oldest: NIL,
            newest: NIL,
            usable,
            blank: usable,
            queued: 0,
            evictions: 0,
            now: 0.0,
            residency: None,
        }
    }

    /// Sets the clock; from the first call on, the residency of evicted blocks is measured.
    pub fn set_time(&mut self, now: f64) {
        self.now = now;
        self.residency.get_or_insert_default();
    }

    /// The residency of what was evicted since the last call.
    pub fn take_residency(&mut self) -> Residency {
        self.residency
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    pub fn usable(&self) -> u32 {
        self.usable
    }

    pub fn free(&self) -> u32 {
        self.blank + self.queued
    }

    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Finds blocks `start..end` of a segment up to the first one that is not cached; returns where
    /// that is.
    pub fn find(&self, segment: u32, start: u32, end: u32, found: &mut Vec<Found>) -> u32 {
        let mut at = start;
        while at < end {
            let Some((run, covered)) = self.cover(segment, at) else {
                break;
            };
            let covered = covered.min(end);
            found.push(Found {
                run,
                start: at,
                end: covered,
            });
            at = covered;
        }
        at
    }

    /// The first run that has a block, and up to where it is the first to have the blocks after it.
    fn cover(&self, segment: u32, block: u32) -> Option<(u32, u32)> {
        let (mut at, mut end) = (self.ends[segment as usize].0, NIL);
        while at != NIL {
            let run = &self.runs[at as usize];
            if run.start > block {
                end = end.min(run.start);
            } else if block < run.end {
                return Some((at, end.min(run.end)));
            }
            at = run.after;
        }
        None
    }

    /// How many of these blocks nobody uses.
    pub fn idle(&self, found: &[Found]) -> u32 {
        let idle = |found: &&Found| self.runs[found.run as usize].refs == 0;
        let blocks = found.iter().filter(idle).map(|f| f.end - f.start);
        blocks.sum()
    }

    /// Uses blocks that a lookup found.
    pub fn adopt(&mut self, found: Found) -> Held {
        let mut at = found.run;
        while self.runs[at as usize].end <= found.start {
            at = self.runs[at as usize].rest;
        }
        if self.runs[at as usize].start < found.start {
            at = self.split(at, found.start);
        }
        if found.end < self.runs[at as usize].end {
            self.split(at, found.end);
        }
        if self.runs[at as usize].refs == 0 {
            self.unqueue(at);
        }
        let run = &mut self.runs[at as usize];
        run.refs += 1;
        run.used = self.now;
        Held {
            run: at,
            end: found.end,
        }
    }

    /// Takes slots from the front of the free queue. The caller has checked that there are as many.
    pub fn take(&mut self, count: u32) {
        let blank = count.min(self.blank);
        self.blank -= blank;
        let mut left = count - blank;
        while left > 0 {
            let at = self.oldest;
            let run = &mut self.runs[at as usize];
            let dropped = left.min(run.end - run.start);
            left -= dropped;
            self.evictions += u64::from(dropped);
            if let Some(residency) = &mut self.residency {
                residency.lifetime.add(self.now - run.taken, dropped);
                residency.idle.add(self.now - run.used, dropped);
            }
            if dropped < run.end - run.start {
                run.end -= dropped;
                self.queued -= dropped;
            } else {
                self.unqueue(at);
                self.forget(at);
            }
        }
    }

    /// Caches blocks `start..end` of a segment in slots that were taken.
    pub fn cache(&mut self, segment: u32, start: u32, end: u32) -> Held {
        let run = self.add(Run {
            segment,
            start,
            end,
            refs: 1,
            older: NIL,
            newer: NIL,
            before: NIL,
            after: NIL,
            rest: NIL,
            taken: self.now,
            used: self.now,
        });
        self.list(run, self.ends[segment as usize].1);
        Held { run, end }
    }

    /// Gives back slots that hold nothing.
    pub fn release_blank(&mut self, count: u32) {
        self.blank += count;
    }

    /// Gives back blocks; those behind them come first.
    pub fn release(&mut self, held: Held) {
        let run = &self.runs[held.run as usize];
        if run.end < held.end {
            let rest = Held {
                run: run.rest,
                end: held.end,
            };
            self.release(rest);
        }
        let run = &mut self.runs[held.run as usize];
        run.refs -= 1;
        if run.refs == 0 {
            self.enqueue(held.run);
        }
    }

    /// Makes a run end at a block; returns what is behind it.
    fn split(&mut self, at: u32, block: u32) -> u32 {
        let run = self.runs[at as usize];
        let rest = self.add(Run {
            start: block,
            ..run
        });
        let upper = &mut self.runs[at as usize];
        (upper.end, upper.rest) = (block, rest);
        self.list(rest, at);
        if run.refs == 0 {
            self.link(rest, run.older, at);
        }
        rest
    }

    fn add(&mut self, run: Run) -> u32 {
        if let Some(at) = self.spare.pop() {
            self.runs[at as usize] = run;
            return at;
        }
        self.runs.push(run);
        crate::index::to_u32(self.runs.len() - 1)
    }

    /// Puts a run behind another one of its segment.
    fn list(&mut self, at: u32, before: u32) {
        let ends = &mut self.ends[self.runs[at as usize].segment as usize];
        let after = if before == NIL {
            std::mem::replace(&mut ends.0, at)
        } else {
            std::mem::replace(&mut self.runs[before as usize].after, at)
        };
        if after == NIL {
            ends.1 = at;
        } else {
            self.runs[after as usize].before = at;
        }
        let run = &mut self.runs[at as usize];
        (run.before, run.after) = (before, after);
    }

    fn forget(&mut self, at: u32) {
        let run = self.runs[at as usize];
        let ends = &mut self.ends[run.segment as usize];
        if run.before == NIL {
            ends.0 = run.after;
        } else {
            self.runs[run.before as usize].after = run.after;
        }
        if run.after == NIL {
            ends.1 = run.before;
        } else {
            self.runs[run.after as usize].before = run.before;
        }
        self.spare.push(at);
    }

    /// Puts a run into the free queue, as the newest; as one with the newest, if it can be.
    fn enqueue(&mut self, at: u32) {
        let run = self.runs[at as usize];
        self.queued += run.blocks();
        if let Some(newest) = self.runs.get_mut(self.newest as usize)
            && newest.segment == run.segment
            && newest.start == run.end
            && (newest.before == at || newest.after == at)
            && (newest.taken, newest.used) == (run.taken, run.used)
        {
            newest.start = run.start;
            self.forget(at);
            return;
        }
        self.link(at, self.newest, NIL);
    }

    fn link(&mut self, at: u32, older: u32, newer: u32) {
        let run = &mut self.runs[at as usize];
        (run.older, run.newer) = (older, newer);
        if older == NIL {
            self.oldest = at;
        } else {
            self.runs[older as usize].newer = at;
        }
        if newer == NIL {
            self.newest = at;
        } else {
            self.runs[newer as usize].older = at;
        }
    }

    fn unqueue(&mut self, at: u32) {
        let run = self.runs[at as usize];
        self.queued -= run.blocks();
        if run.older == NIL {
            self.oldest = run.newer;
        } else {
            self.runs[run.older as usize].newer = run.newer;
        }
        if run.newer == NIL {
            self.newest = run.older;
        } else {
            self.runs[run.newer as usize].older = run.older;
        }
    }

    /// The runs of a segment, in the order in which they were cached.
    fn copies(&self, segment: usize) -> impl Iterator<Item = &Run> {
        let mut at = self.ends[segment].0;
        std::iter::from_fn(move || {
            let run = self.runs.get(at as usize)?;
            at = run.after;
            Some(run)
        })
    }

    /// Distinct blocks that are cached.
    pub fn distinct(&self) -> u64 {
        let mut spans = Vec::new();
        let mut blocks = 0;
        for segment in 0..self.ends.len() {
            spans.clear();
            spans.extend(self.copies(segment).map(|run| (run.start, run.end)));
            spans.sort_unstable();
            let mut reached = 0;
            for &(start, end) in &spans {
                blocks += u64::from(end.saturating_sub(reached.max(start)));
                reached = reached.max(end);
            }
        }
        blocks
    }

    /// Checks every invariant: lists, the free queue, and what they add up to.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        let (mut idle, mut listed) = (0, 0);
        for segment in 0..self.ends.len() {
            for run in self.copies(segment) {
                if run.segment as usize != segment || run.start >= run.end {
                    return Err(Error::bug(format!("{run:?} is in the wrong place")));
                }
                listed += 1;
                idle += u32::from(run.refs == 0) * run.blocks();
            }
        }
        let (mut at, mut older, mut queued) = (self.oldest, NIL, 0);
        while let Some(run) = self.runs.get(at as usize) {
            if run.refs != 0 || run.older != older {
                return Err(Error::bug(format!("{run:?} is queued wrongly")));
            }
            queued += run.blocks();
            (older, at) = (at, run.newer);
        }
        let sums = (idle, queued, older, listed);
        let kept = self.runs.len() - self.spare.len();
        if sums != (self.queued, self.queued, self.newest, kept) {
            return Err(Error::bug(format!("{sums:?} do not add up")));
        }
        Ok(())
    }
}
