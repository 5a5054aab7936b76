//! The clairvoyant reference on stretches.
//!
//! Turned around, the pieces tell the future: a piece of request u last used by t means that this
//! stretch of t's path is next used by u, and what no piece names is never used again. Ancestors
//! are used again no later than descendants, so the cache stays closed under ancestors, and what is
//! cached with next use u is one stretch [lo, hi) of u's path. At its turn u finds its first hi
//! blocks. Room is made from the blocks never used again, then from the bottom of the stretch whose
//! use is farthest.

use super::Observer;
use crate::bits::Bits;
use crate::error::Result;
use crate::profile::{BATCH, Profile};
use crate::stop::Stop;

/// Cached blocks behind the first `lo` up to `hi` of the path of the request that uses them next.
#[derive(Clone, Copy, Default)]
struct Stretch {
    lo: u32,
    hi: u32,
}

struct Cache {
    stretches: Vec<Stretch>,
    filled: Bits,
    /// Cached blocks that are never used again.
    dead: u64,
}

impl Cache {
    fn evict(&mut self, mut excess: u64) {
        let dropped = excess.min(self.dead);
        self.dead -= dropped;
        excess -= dropped;
        while excess > 0 {
            let farthest = self.filled.last().expect("as many blocks as are dropped");
            let stretch = &mut self.stretches[farthest];
            let dropped = excess.min(u64::from(stretch.hi - stretch.lo));
            stretch.hi -= dropped as u32;
            excess -= dropped;
            if stretch.hi == stretch.lo {
                self.filled.clear(farthest);
            }
        }
    }

    /// Puts in the first `keep` blocks of a request whose stretches are next used as `uses` says.
    fn put(&mut self, keep: u32, uses: &[(u32, u32)]) {
        let mut start = 0;
        for &(end, next) in uses {
            let end = end.min(keep);
            if start >= end {
                break;
            }
            let stretch = &mut self.stretches[next as usize];
            if stretch.lo == stretch.hi {
                stretch.hi = end;
                self.filled.set(next as usize);
            }
            stretch.lo = start;
            start = end;
        }
        self.dead += u64::from(keep - start);
    }
}

/// Replays through `capacity` blocks; returns the number of evictions.
pub(super) fn replay(
    profile: &Profile,
    capacity: Option<u64>,
    last_token_rule: bool,
    observer: &mut impl Observer,
    stop: &Stop,
) -> Result<u64> {
    let capacity = capacity.unwrap_or(u64::MAX);
    let limit = profile.most_hits(last_token_rule);
    let next_uses = profile.next_uses();
    let mut cache = Cache {
        stretches: vec![Stretch::default(); profile.requests()],
        filled: Bits::new(profile.requests()),
        dead: 0,
    };
    let (mut cached, mut evictions) = (0u64, 0u64);
    for (t, &touched) in profile.touched().iter().enumerate() {
        if t % BATCH == 0 {
            stop.check()?;
        }
        let keep = u64::from(touched).min(capacity) as u32;
        let Stretch { lo, hi } = cache.stretches[t];
        let mut hit = 0;
        if hi > lo {
            debug_assert_eq!(lo, 0, "closed under ancestors");
            cache.filled.clear(t);
            hit = hi;
        }
        observer.served(t, hit.min(limit[t]));
        cached -= u64::from(hit);
        let excess = (cached + u64::from(keep)).saturating_sub(capacity);
        cached += u64::from(keep) - excess;
        evictions += excess;
        cache.evict(excess);
        cache.put(keep, next_uses.of_request(t));
    }
    Ok(evictions)
}
