//! Least recently used, on runs.

use super::{Dropped, PrefixPolicy, Room, Setting};
use crate::error::{Error, Result};
use crate::index::{IndexVec, Ix, RequestIx};
use crate::profile::Profile;

/// Drops the blocks used longest ago; of those used at one time the deepest first.
///
/// All blocks touched by request t share the recency t; what later requests have not touched again
/// of them is one stretch of t's path, the *run* of t. A request takes leading stretches from the
/// runs its reuse intervals name and begins a run of its own. The least recent blocks are the bottom
/// of the oldest run that is not empty, and the oldest only ever moves on. The owner of dropped
/// blocks is the request that used them last.
#[derive(Debug)]
pub struct Lru<'p> {
    profile: &'p Profile,
    runs: IndexVec<RequestIx, Run>,
    /// No run before this one holds a block.
    oldest: usize,
}

/// What is cached of a run: blocks of its request's path, from behind `top` to `bottom`.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    top: u32,
    bottom: u32,
}

impl Run {
    fn blocks(self) -> u32 {
        self.bottom.saturating_sub(self.top)
    }
}

impl<'p> Lru<'p> {
    /// An empty cache.
    #[must_use]
    pub fn new(setting: Setting<'p>) -> Self {
        Self {
            profile: setting.profile,
            runs: IndexVec::filled(Run::default(), setting.profile.requests()),
            oldest: 0,
        }
    }
}

impl PrefixPolicy for Lru<'_> {
    #[inline]
    fn take(&mut self, request: RequestIx) -> u32 {
        let (mut hit, mut start) = (0, 0);
        for interval in self.profile.reuse(request) {
            let run = &mut self.runs[interval.last_use];
            // The cache is closed under ancestors: what is cached of a path leads it.
            if hit == start && run.bottom > start {
                hit = run.bottom.min(interval.end);
            }
            run.top = interval.end;
            start = interval.end;
        }
        hit
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // At most the blocks of a run.
    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let owner = RequestIx::from_usize(self.oldest);
            let run = &mut self.runs[owner];
            let count = left.min(u64::from(run.blocks())) as u32;
            if count > 0 {
                dropped(Dropped {
                    owner,
                    blocks: run.bottom - count..run.bottom,
                });
                run.bottom -= count;
                left -= u64::from(count);
            }
            if run.blocks() == 0 {
                self.oldest += 1;
            }
        }
        Room::dropped(blocks)
    }

    #[inline]
    fn put(&mut self, request: RequestIx, keep: u32) {
        self.runs[request] = Run {
            top: 0,
            bottom: keep,
        };
    }

    fn validate(&self, cached: u64) -> Result<()> {
        let held: u64 = self.runs.iter().map(|run| u64::from(run.blocks())).sum();
        if held != cached {
            return Err(Error::bug(format!("lru: {held} blocks held, not {cached}")));
        }
        if self.runs.iter().take(self.oldest).any(|r| r.blocks() > 0) {
            return Err(Error::bug("lru: an older run than the oldest holds blocks"));
        }
        Ok(())
    }
}
