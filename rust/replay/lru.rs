//! LRU on runs.
//!
//! All blocks touched by request t share the recency t; what later requests have not touched again
//! of them is one stretch of t's path, the *run* of t. A request takes leading stretches from the
//! runs its pieces name and begins a run of its own. The least recent blocks are the bottom of the
//! oldest run that is not empty, and the oldest only ever moves on.

use super::Observer;
use crate::error::Result;
use crate::profile::{BATCH, Profile};
use crate::stop::Stop;

/// What is cached of a run: blocks of its request's path, from behind `top` to `bottom`.
#[derive(Clone, Copy, Default)]
struct Run {
    top: u32,
    bottom: u32,
}

impl Run {
    fn blocks(self) -> u32 {
        self.bottom.saturating_sub(self.top)
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
    let mut runs = vec![Run::default(); profile.requests()];
    let (mut cached, mut evictions, mut oldest) = (0u64, 0u64, 0usize);
    for (t, &touched) in profile.touched().iter().enumerate() {
        if t % BATCH == 0 {
            stop.check()?;
        }
        let keep = u64::from(touched).min(capacity) as u32;
        let hit = take(profile, t, &mut runs);
        observer.served(t, hit.min(limit[t]));
        // The request's own blocks are set aside before others make room.
        cached -= u64::from(hit);
        let mut excess = (cached + u64::from(keep)).saturating_sub(capacity);
        cached += u64::from(keep) - excess;
        evictions += excess;
        while excess > 0 {
            let run = &mut runs[oldest];
            let dropped = excess.min(u64::from(run.blocks())) as u32;
            if dropped > 0 {
                observer.evicted(oldest, run.bottom - dropped, run.bottom, t);
                run.bottom -= dropped;
                excess -= u64::from(dropped);
            }
            if run.blocks() == 0 {
                oldest += 1;
            }
        }
        runs[t] = Run {
            top: 0,
            bottom: keep,
        };
        observer.allocated(t, hit, keep);
    }
    Ok(evictions)
}

/// Takes the path of request `t` out of the runs; returns how many of its blocks were cached.
fn take(profile: &Profile, t: usize, runs: &mut [Run]) -> u32 {
    let (mut hit, mut start) = (0, 0);
    for piece in profile.pieces(t) {
        let run = &mut runs[piece.last_use as usize];
        // The cache is closed under ancestors: what is cached of a path leads it.
        if hit == start && run.bottom > start {
            hit = run.bottom.min(piece.end);
        }
        run.top = piece.end;
        start = piece.end;
    }
    hit
}
