//! The one loop that drives every policy.

use super::{Cache, Evicted, Observer};
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx};
use crate::policy::{Dropped, PrefixPolicy};
use crate::profile::Profile;
use crate::stop::Stop;

/// Replays the trace through `cache` under a policy, and tells the observer; returns the number of
/// evictions.
///
/// Requests run one after the other and take no time. The running request's own blocks are set aside
/// before others make room. A request with more blocks than the cache keeps its first ones.
///
/// # Errors
/// [`Error::Range`] if the capacity is 0; [`Error::Interrupted`] if asked to stop; what
/// [`PrefixPolicy::check`] says.
pub fn drive<P: PrefixPolicy, O: Observer>(
    profile: &Profile,
    policy: &mut P,
    cache: Cache,
    observer: &mut O,
    stop: &Stop,
) -> Result<u64> {
    if cache.capacity == Some(0) {
        return Err(Error::range(
            "a capacity of 0 blocks, give 1 or more (or None for an infinite cache)",
        ));
    }
    let capacity = cache.capacity.unwrap_or(u64::MAX);
    let most_hits = profile.most_hits(cache.last_token_rule);
    let (mut cached, mut evictions) = (0_u64, 0_u64);
    for (t, &touched) in profile.touched().iter().enumerate() {
        if t.is_multiple_of(Stop::INTERVAL) {
            stop.check()?;
        }
        let at = RequestIx::from_usize(t);
        let mut tell = |Dropped { owner, blocks }: Dropped| {
            observer.evicted(&Evicted { owner, blocks, at });
        };
        let expired = policy.expire(at, &mut tell);
        cached -= expired;
        let found = policy.take(at);
        let keep = u32::try_from(capacity).map_or(touched, |blocks| blocks.min(touched));
        let needed = cached + u64::from(keep - found);
        let room = policy.evict(needed.saturating_sub(capacity), &mut tell);
        let keep = keep - room.refused;
        cached = needed - room.total();
        evictions += expired + room.dropped;
        policy.put(at, keep);
        policy.check()?;
        observer.served(at, found.min(most_hits[t]));
        observer.cached(at, found, keep);
    }
    Ok(evictions)
}
