//! A policy whose keys others give, for many segments at once.

use super::leaves::Rank;
use super::queues::{Mark, Queues};
use super::ranked::ordered;
use super::{Dropped, PrefixPolicy, Room, Setting, StretchIx};
use crate::error::{Error, Result};
use crate::index::{RequestIx, to_u32};

/// When keys are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Before room is made, for the segments that were used since keys were asked for last. A key
    /// stays until its segment is used again.
    AfterUse,
    /// Before room is made, for every cached segment. The cost of a request grows with the cache.
    Always,
}

/// A segment of a cached tree: neighbouring blocks of one path that came in with one request and
/// were used by the same requests since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The request it came in with.
    pub first_use: RequestIx,
    /// The request that used it last; at first the one it came in with.
    pub last_use: RequestIx,
    /// The request that used it before that; [`None`] if there is none.
    pub previous_use: Option<RequestIx>,
    /// Requests that used it since it came in, at least 1.
    pub uses: u32,
    /// Blocks of its path before its first.
    pub depth: u32,
    /// Its blocks, at least 1.
    pub size: u32,
}

/// Gives keys to segments: the leaf with the smallest key goes first.
///
/// # What the caller guarantees
///
/// * Requests come in the order of the trace. Keys are asked for when room must be made for one of
///   them, once, before any block is dropped, for the segments that [`Asked`] says, each with the
///   request that ran last before or the running one as its last use.
/// * No segment is asked for twice in one call. Their order means nothing.
///
/// # What an implementor must do
///
/// * Append one key for each segment, in their order. Keys are numbers; one that is not a number
///   goes after all others or before, by its sign.
/// * Be deterministic.
pub trait Keys {
    /// Appends the keys of `segments` to `keys`, while `request` runs.
    ///
    /// # Errors
    /// What ends the replay.
    fn keys(&mut self, request: RequestIx, segments: &[Segment], keys: &mut Vec<f64>)
    -> Result<()>;
}

/// What is kept of blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct History {
    first_use: RequestIx,
    last_use: RequestIx,
    previous_use: Option<RequestIx>,
    uses: u32,
    /// Whether their key was asked for since they were used last.
    asked: bool,
}

/// [`Keys`] as a policy. Drops the leaf with the smallest key; among equals the one used longest ago;
/// of a segment the deepest block first. The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct Keyed<'p, K> {
    keys: K,
    asked: Asked,
    queues: Queues<'p, History>,
    running: RequestIx,
    /// The deepest stretches of the requests since keys were asked for last.
    used: Vec<StretchIx>,
    segments: Vec<Segment>,
    /// The deepest stretch of each of `segments`.
    ends: Vec<StretchIx>,
    found: Vec<f64>,
    outcome: Result<()>,
}

impl<'p, K: Keys> Keyed<'p, K> {
    /// An empty cache.
    #[must_use]
    pub fn new(setting: &Setting<'p>, asked: Asked, keys: K) -> Self {
        Self {
            keys,
            asked,
            queues: Queues::new(setting.profile, 1),
            running: RequestIx::new(0),
            used: Vec::new(),
            segments: Vec::new(),
            ends: Vec::new(),
            found: Vec::new(),
            outcome: Ok(()),
        }
    }

    /// Adds the segment that ends with a stretch; returns the stretch above it.
    fn add_segment(&mut self, end: StretchIx) -> Option<StretchIx> {
        let last = self.queues.get(end);
        let (history, bottom) = (last.mark.state, last.blocks.end);
        let (mut top, mut above) = (last.blocks.start, last.above);
        while let Some(ix) = above {
            let stretch = self.queues.get(ix);
            if stretch.mark.state != history {
                break;
            }
            (top, above) = (stretch.blocks.start, stretch.above);
        }
        self.segments.push(Segment {
            first_use: history.first_use,
            last_use: history.last_use,
            previous_use: history.previous_use,
            uses: history.uses,
            depth: top,
            size: bottom - top,
        });
        self.ends.push(end);
        above
    }

    /// Lists the segments used since keys were asked for last.
    fn list_used(&mut self) {
        let mut used = std::mem::take(&mut self.used);
        for end in used.drain(..) {
            let mut at = Some(end);
            while let Some(ix) = at
                && !self.queues.get(ix).mark.state.asked
            {
                at = self.add_segment(ix);
                self.mark_asked(ix, at);
            }
        }
        self.used = used;
    }

    /// Marks a stretch and those above it, up to `until`, as asked for.
    fn mark_asked(&mut self, from: StretchIx, until: Option<StretchIx>) {
        let mut at = Some(from);
        while at != until
            && let Some(ix) = at
        {
            at = self.queues.change(ix, |_, mark| mark.state.asked = true);
        }
    }

    /// Lists every segment, and takes all stretches from the leaves.
    fn list_all(&mut self) {
        self.used.clear();
        let goes_on = |ix: StretchIx| {
            let stretch = self.queues.get(ix);
            let above = stretch.above?;
            (self.queues.get(above).mark.state == stretch.mark.state).then_some(above)
        };
        let mut inner: Vec<StretchIx> = Vec::new();
        let mut all: Vec<StretchIx> = Vec::new();
        for (ix, _) in self.queues.iter() {
            all.push(ix);
            inner.extend(goes_on(ix));
        }
        inner.sort_unstable();
        all.retain(|ix| inner.binary_search(ix).is_err());
        self.queues.unlist_all();
        for end in all {
            self.add_segment(end);
        }
    }

    /// Asks for keys, and ranks segments by them.
    fn ask(&mut self) {
        self.segments.clear();
        self.ends.clear();
        self.found.clear();
        match self.asked {
            Asked::AfterUse => self.list_used(),
            Asked::Always => self.list_all(),
        }
        if self.segments.is_empty() || self.outcome.is_err() {
            return;
        }
        let asked = self
            .keys
            .keys(self.running, &self.segments, &mut self.found);
        self.outcome = asked.and_then(|()| {
            let (keys, segments) = (self.found.len(), self.segments.len());
            if keys == segments {
                return Ok(());
            }
            Err(Error::shape(format!(
                "request {}: {keys} keys for {segments} segments",
                self.running
            )))
        });
        for ((segment, &end), &key) in self.segments.iter().zip(&self.ends).zip(&self.found) {
            let rank: Rank = (ordered(key), segment.last_use.get().into());
            let top = segment.depth;
            let mut at = Some(end);
            while let Some(ix) = at
                && self.queues.get(ix).blocks.start >= top
            {
                at = self.queues.change(ix, |_, mark| mark.rank = rank);
                self.queues.relist(ix);
            }
        }
    }
}

impl<K: Keys> PrefixPolicy for Keyed<'_, K> {
    fn take(&mut self, request: RequestIx) -> u32 {
        self.running = request;
        let hit = self.queues.take(request);
        self.queues.change_hits(|_, mark| {
            let history = &mut mark.state;
            history.previous_use = Some(history.last_use);
            history.last_use = request;
            history.uses += 1;
            history.asked = false;
        });
        self.used.extend(self.queues.hit());
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        if blocks > 0 {
            self.ask();
        }
        let mut left = blocks;
        while left > 0
            && let Some(ix) = self.queues.oldest(0)
        {
            let length = self.queues.get(ix).len();
            let count = left.min(length.into());
            self.queues.drop_blocks(ix, to_u32(count), dropped);
            left -= count;
        }
        Room::dropped(blocks - left)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let hit = self.queues.hit_blocks();
        if keep > hit {
            let history = History {
                first_use: request,
                last_use: request,
                previous_use: None,
                uses: 1,
                asked: false,
            };
            // No rank yet: its key is asked for before anything is dropped.
            let mark = Mark::new(0, (0, 0), history);
            self.queues.grow(request, hit..keep, mark);
            self.used.extend(self.queues.deepest());
        }
        self.queues.finish();
    }

    fn check(&self) -> Result<()> {
        self.outcome.clone()
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.queues.validate(cached)
    }
}
