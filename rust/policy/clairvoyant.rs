//! The clairvoyant reference, on stretches.

use super::{Dropped, PrefixPolicy, Room, Setting};
use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::index::{IndexVec, Ix, RequestIx};
use crate::profile::NextUses;

/// Knows the future: drops the blocks used again last (Belady, IBM Systems Journal 5(2), 1966),
/// deeper ones first among equals, and before all those never used again.
///
/// Ancestors are used again no later than descendants, so the cache stays closed under ancestors,
/// and what is cached with next use u is one stretch of u's path. At its turn u finds its stretch.
/// Room is made from the blocks never used again, then from the bottom of the stretch whose use is
/// farthest. Which of the blocks never used again go is left open, so evictions are not told.
#[derive(Debug)]
pub struct Clairvoyant<'p> {
    next_uses: &'p NextUses,
    stretches: IndexVec<RequestIx, Stretch>,
    /// The requests whose stretch is not empty.
    filled: Bits,
    /// Cached blocks that are never used again.
    dead: u64,
}

/// Cached blocks behind the first `top` up to `bottom` of the path of the request that uses them
/// next.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    top: u32,
    bottom: u32,
}

impl<'p> Clairvoyant<'p> {
    /// An empty cache.
    #[must_use]
    pub fn new(setting: Setting<'p>) -> Self {
        let requests = setting.profile.requests();
        Self {
            next_uses: setting.profile.next_uses(),
            stretches: IndexVec::filled(Stretch::default(), requests),
            filled: Bits::new(requests),
            dead: 0,
        }
    }
}

impl PrefixPolicy for Clairvoyant<'_> {
    #[inline]
    fn take(&mut self, request: RequestIx) -> u32 {
        let Stretch { top, bottom } = self.stretches[request];
        if bottom == top {
            return 0;
        }
        debug_assert_eq!(top, 0, "closed under ancestors");
        self.filled.clear(request.usize());
        self.stretches[request] = Stretch::default();
        bottom
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // At most the blocks of a stretch.
    fn evict(&mut self, blocks: u64, _dropped: &mut impl FnMut(Dropped)) -> Room {
        let dead = blocks.min(self.dead);
        self.dead -= dead;
        let mut left = blocks - dead;
        while left > 0 {
            let farthest = self.filled.last().expect("as many blocks as are dropped");
            let stretch = &mut self.stretches[RequestIx::from_usize(farthest)];
            let count = left.min(u64::from(stretch.bottom - stretch.top));
            stretch.bottom -= count as u32;
            left -= count;
            if stretch.bottom == stretch.top {
                self.filled.clear(farthest);
            }
        }
        Room::dropped(blocks)
    }

    #[inline]
    fn put(&mut self, request: RequestIx, keep: u32) {
        let mut start = 0;
        for next in self.next_uses.of(request) {
            let end = next.end.min(keep);
            if start >= end {
                break;
            }
            let stretch = &mut self.stretches[next.request];
            if stretch.top == stretch.bottom {
                stretch.bottom = end;
                self.filled.set(next.request.usize());
            }
            stretch.top = start;
            start = end;
        }
        self.dead += u64::from(keep - start);
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.filled.validate()?;
        let mut held = self.dead;
        for (request, stretch) in self.stretches.enumerate() {
            held += u64::from(stretch.bottom - stretch.top);
            if self.filled.contains(request.usize()) != (stretch.bottom > stretch.top) {
                return Err(Error::bug(format!(
                    "clairvoyant: request {request} mismarked"
                )));
            }
        }
        if held != cached {
            return Err(Error::bug(format!(
                "clairvoyant: {held} blocks held, not {cached}"
            )));
        }
        Ok(())
    }
}
