//! How long evicted blocks had been cached, and unused.
//!
//! Along a heavy path, what is cached leads it, and no block came before its ancestor. So the times
//! of allocation of a path's cached blocks are a stack of intervals, the latest at the bottom of the
//! path, where eviction takes away.

use super::{Evicted, Observer};
use crate::error::{Error, Result};
use crate::index::{Ix, PathIx, RequestIx};
use crate::intervals::{Interval, IntervalStacks};
use crate::profile::{LastUses, Profile};
use crate::stats::Residency;

/// Keeps the allocations of every heavy path, the deepest on top.
pub(super) struct Recorder<'a> {
    profile: &'a Profile,
    timestamp: &'a [f64],
    hit_blocks: Vec<u32>,
    residency: Residency,
    came_with: IntervalStacks<RequestIx>,
    /// Who used blocks last, where the owners of evicted blocks are others.
    last_uses: Option<LastUses>,
}

impl<'a> Recorder<'a> {
    /// Records a replay; `owners_used_last` says whether the owner of evicted blocks is always the
    /// request that used them last.
    pub fn new(profile: &'a Profile, timestamp: &'a [f64], owners_used_last: bool) -> Result<Self> {
        Error::check_rows("timestamp", timestamp.len(), profile.requests())?;
        Ok(Self {
            profile,
            timestamp,
            hit_blocks: Vec::with_capacity(profile.requests()),
            residency: Residency::default(),
            came_with: IntervalStacks::new(profile.forest().heavy_paths()),
            last_uses: (!owners_used_last).then(|| LastUses::new(profile.hangs())),
        })
    }

    pub fn finish(self) -> (Vec<u32>, Residency) {
        (self.hit_blocks, self.residency)
    }

    /// Checks every invariant: downwards, intervals get deeper and younger.
    pub fn validate(&self) -> Result<()> {
        if let Some(last_uses) = &self.last_uses {
            last_uses.validate()?;
        }
        self.came_with
            .validate(|below, above| above.end > below.end && above.value > below.value)
    }

    /// Drops the blocks of `path`, which starts at depth `start`, that lie behind `keep`.
    fn trim(&mut self, path: PathIx, start: u32, keep: u32, now: f64) {
        while let Some(Interval { end, value }) = self.came_with.top(path) {
            if end <= keep {
                return;
            }
            let top = self.came_with.second(path).map_or(start, |next| next.end);
            let lifetime = now - self.timestamp[value.usize()];
            self.residency.lifetime.add(lifetime, end - top.max(keep));
            if top < keep {
                self.came_with.set_end(path, keep);
                return;
            }
            self.came_with.pop(path);
        }
    }
}

impl Observer for Recorder<'_> {
    fn served(&mut self, _request: RequestIx, hit: u32) {
        self.hit_blocks.push(hit);
    }

    fn evicted(&mut self, evicted: &Evicted) {
        let Evicted { owner, blocks, at } = evicted.clone();
        let now = self.timestamp[at.usize()];
        let profile = self.profile;
        if self.last_uses.is_none() {
            let idle = now - self.timestamp[owner.usize()];
            self.residency.idle.add(idle, blocks.end - blocks.start);
        }
        profile.on_paths(owner, blocks, |path, part| {
            let start = profile.hang(path).start;
            if let Some(last_uses) = &mut self.last_uses {
                let (timestamp, idle) = (self.timestamp, &mut self.residency.idle);
                last_uses.cached_part(path, part.clone(), |request, count| {
                    idle.add(now - timestamp[request.usize()], count);
                });
            }
            self.trim(path, start, part.start, now);
        });
    }

    fn cached(&mut self, request: RequestIx, found: u32, kept: u32) {
        let profile = self.profile;
        if let Some(last_uses) = &mut self.last_uses {
            profile.on_paths(request, 0..kept, |path, part| {
                last_uses.touch(path, part.end, request, |_| ());
            });
        }
        profile.on_paths(request, found..kept, |path, part| {
            self.came_with.push(
                path,
                Interval {
                    end: part.end,
                    value: request,
                },
            );
        });
    }
}
