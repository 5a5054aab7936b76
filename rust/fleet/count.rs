//! Choosing among equals, and counting what came of it.

use super::outcome::{Cause, Outcome};
use super::replicas::{Draw, Replicas};
use super::router::{Decision, Router};
use super::settings::Ties;
use crate::error::{Error, Result};

/// The replica that is taken.
pub(super) fn choose(
    decision: Decision,
    available: Replicas,
    ties: &Ties,
    request: usize,
    draw: &mut Draw,
) -> Result<usize> {
    let allowed = decision.allowed;
    if allowed.is_empty() || !allowed.without(available).is_empty() {
        return Err(Error::range(format!(
            "request {request}: the router takes a replica that is not there"
        )));
    }
    Ok(match ties {
        Ties::Lowest => allowed.lowest(),
        Ties::Random => draw.one_of(allowed),
        Ties::Recorded(choices) => {
            let replica = usize::from(choices[request]);
            if !available.has(replica) {
                return Err(Error::range(format!(
                    "request {request}: choice {replica} is no replica"
                )));
            }
            replica
        }
    })
}

/// A request that has been routed, and what there was to hit.
pub(super) struct Routed<'h> {
    pub decision: Decision,
    pub replica: usize,
    pub available: Replicas,
    /// Tokens that would hit at each replica.
    pub hits: &'h [u32],
    pub prompt_tokens: u32,
    /// Most tokens that can hit.
    pub most: u32,
    pub block: u32,
}

/// Counts a routed request.
pub(super) fn count<R: Router>(outcome: &mut Outcome, router: &R, chosen: &Routed<'_>) {
    let (replica, hits) = (chosen.replica, chosen.hits);
    let hit = hits[replica];
    let best = hits.iter().copied().max().unwrap_or(0);
    let believed = router.believed(replica);
    outcome
        .replica
        .push(u8::try_from(replica).unwrap_or(u8::MAX));
    outcome.hit_tokens.push(hit);
    outcome.best_hit_tokens.push(best);
    outcome.believed_tokens.extend(believed);
    outcome.requests[replica] += 1;
    outcome.computed_tokens[replica] += u64::from(chosen.prompt_tokens - hit);
    if best == hit {
        return;
    }
    let cause = cause(router, chosen, best, believed) as usize;
    outcome.regret_tokens_by_cause[cause] += u64::from(best - hit);
    outcome.regret_requests_by_cause[cause] += 1;
}

/// Why a better replica was not taken.
fn cause<R: Router>(router: &R, chosen: &Routed<'_>, best: u32, believed: Option<u32>) -> Cause {
    if chosen.decision.by_load {
        return Cause::Load;
    }
    let Some(believed) = believed else {
        return Cause::Missing;
    };
    let usable = |tokens: u32| tokens.min(chosen.most) / chosen.block * chosen.block;
    let own = usable(believed);
    let others = chosen
        .available
        .into_iter()
        .filter(|&w| chosen.hits[w] == best)
        .filter_map(|w| router.believed(w));
    let better = usable(others.max().unwrap_or(0));
    if better > own {
        Cause::Load
    } else if own > chosen.hits[chosen.replica] {
        Cause::Stale
    } else if better == own && own > 0 {
        Cause::Tie
    } else {
        Cause::Missing
    }
}

/// Keeps what a router saw, if that was asked for.
pub(super) fn note<R: Router>(
    outcome: &mut Outcome,
    router: &R,
    decision: Decision,
    replicas: &[u32],
) {
    let Some(seen) = &mut outcome.seen else {
        return;
    };
    seen.allowed.push(decision.allowed.0);
    seen.by_load.push(decision.by_load);
    seen.believed
        .extend((0..replicas.len()).filter_map(|w| router.believed(w)));
    router.note(&mut seen.notes);
}
