//! How long evicted blocks had been cached, and unused.
//!
//! Along a heavy path, what is cached leads it, and no block came before its ancestor. So the times
//! of allocation of a path's cached blocks are a stack of intervals, the latest at the bottom of the
//! path, where eviction takes away.

use super::Observer;
use crate::error::{Error, Result};
use crate::forest::NONE;
use crate::profile::Profile;
use crate::stats::Residency;

/// Blocks of a path up to `end`, from the end of the entry below, that came with `request`.
#[derive(Clone, Copy)]
struct Allocation {
    end: u32,
    request: u32,
    below: u32,
}

/// Keeps the allocations of every heavy path.
pub(super) struct Recorder<'a> {
    profile: &'a Profile,
    timestamp: &'a [f64],
    hit_blocks: Vec<u32>,
    residency: Residency,
    deepest: Vec<u32>,
    slab: Vec<Allocation>,
    free: u32,
}

impl<'a> Recorder<'a> {
    pub fn new(profile: &'a Profile, timestamp: &'a [f64]) -> Result<Self> {
        if timestamp.len() != profile.requests() {
            return Err(Error::shape(format!(
                "timestamp: {} rows, but {} requests",
                timestamp.len(),
                profile.requests()
            )));
        }
        Ok(Self {
            profile,
            timestamp,
            hit_blocks: Vec::with_capacity(profile.requests()),
            residency: Residency::default(),
            deepest: vec![NONE; profile.forest().heavy_paths()],
            slab: Vec::new(),
            free: NONE,
        })
    }

    pub fn finish(self) -> (Vec<u32>, Residency) {
        (self.hit_blocks, self.residency)
    }

    fn push(&mut self, path: u32, end: u32, request: u32) {
        let entry = Allocation {
            end,
            request,
            below: self.deepest[path as usize],
        };
        let place = self.free;
        self.deepest[path as usize] = if place == NONE {
            self.slab.push(entry);
            (self.slab.len() - 1) as u32
        } else {
            self.free = self.slab[place as usize].below;
            self.slab[place as usize] = entry;
            place
        };
    }

    /// Drops the blocks of `path`, which starts at depth `start`, that lie behind `keep`.
    fn trim(&mut self, path: u32, start: u32, keep: u32, now: f64) {
        loop {
            let place = self.deepest[path as usize];
            if place == NONE {
                return;
            }
            let entry = self.slab[place as usize];
            if entry.end <= keep {
                return;
            }
            let top = if entry.below == NONE {
                start
            } else {
                self.slab[entry.below as usize].end
            };
            let lifetime = now - self.timestamp[entry.request as usize];
            self.residency
                .lifetime
                .add(lifetime, entry.end - top.max(keep));
            if top < keep {
                self.slab[place as usize].end = keep;
                return;
            }
            self.deepest[path as usize] = entry.below;
            self.slab[place as usize].below = std::mem::replace(&mut self.free, place);
        }
    }

    /// Calls `visit(self, path, start, depth)` for the heavy paths that hold the blocks of a request
    /// behind the first `from` up to `to`, the deepest first.
    fn on_paths(
        &mut self,
        request: usize,
        from: u32,
        to: u32,
        mut visit: impl FnMut(&mut Self, u32, u32, u32),
    ) {
        let (mut path, mut depth) = (self.profile.path_of(request), to);
        while depth > from {
            let (up, start) = self.profile.above(path);
            if depth > start {
                visit(self, path, start, depth);
                depth = start;
            }
            path = up;
        }
    }
}

impl Observer for Recorder<'_> {
    fn served(&mut self, _request: usize, hit: u32) {
        self.hit_blocks.push(hit);
    }

    fn evicted(&mut self, victim: usize, keep: u32, had: u32, now: usize) {
        let now = self.timestamp[now];
        self.residency
            .idle
            .add(now - self.timestamp[victim], had - keep);
        self.on_paths(victim, keep, had, |recorder, path, start, _| {
            recorder.trim(path, start, keep.max(start), now);
        });
    }

    fn allocated(&mut self, request: usize, from: u32, to: u32) {
        self.on_paths(request, from, to, |recorder, path, _, depth| {
            recorder.push(path, depth, request as u32);
        });
    }
}
