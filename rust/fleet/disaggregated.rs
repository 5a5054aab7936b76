//! Prefill and decode pools, as far as they decide hits.

use std::sync::Arc;

use super::caches::Caches;
use super::count::{Routed, choose, count};
use super::outcome::Outcome;
use super::replicas::{Draw, Replicas};
use super::router::{Arrival, Router, View};
use super::settings::{Fleet, Ties};
use super::traffic::{Blocks, Traffic, Unit};
use super::tree::BlockTree;
use crate::error::Result;
use crate::index::{Ix, RequestIx};
use crate::stop::Stop;

/// Who decides whether a prompt is computed in the prefill pool, or where it is decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decider {
    /// Always in the prefill pool: sglang-router, production-stack.
    Always,
    /// Dynamo's `isl_bounding`: where it is decoded if few tokens are uncached there, both in number
    /// (2048) and as a share of the prompt (0.7), both strictly.
    IslBounding,
    /// llm-d's `prefix-based-pd-decider`: in the prefill pool if that many tokens are uncached where it is
    /// decoded; 0: never.
    NonCachedTokens(u32),
}

impl Decider {
    /// Tokens below which [`Decider::IslBounding`] stays local.
    const BOUND: u32 = 2048;
    /// Share of the prompt below which it does.
    const SHARE: f64 = 0.7;

    /// Whether a prompt of which `cached` tokens are cached at its decode replica is sent to the prefill
    /// pool.
    ///
    /// ```
    /// use prefixsim::fleet::Decider;
    /// assert!(!Decider::NonCachedTokens(512).remote(4000, 3520));
    /// assert!(Decider::NonCachedTokens(512).remote(4000, 3488));
    /// assert!(!Decider::IslBounding.remote(4000, 3000));
    /// assert!(Decider::IslBounding.remote(10_000, 7000));
    /// ```
    #[must_use]
    pub fn remote(self, prompt: u32, cached: u32) -> bool {
        let uncached = prompt.saturating_sub(cached);
        match self {
            Self::Always => true,
            Self::IslBounding => {
                let share = f64::from(uncached) / f64::from(prompt.max(1));
                !(uncached < Self::BOUND && share < Self::SHARE)
            }
            Self::NonCachedTokens(least) => least > 0 && prompt >= least && uncached >= least,
        }
    }
}

/// What a routing over two pools did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Disaggregated {
    /// Of the requests that went to the prefill pool, one row each.
    pub prefill: Outcome,
    /// The decode replica of each request.
    pub decode_replica: Vec<u8>,
    /// Whether each request went to the prefill pool.
    pub remote: Vec<bool>,
    /// Tokens served from a cache, per request, wherever its prompt was computed.
    pub hit_tokens: Vec<u32>,
    /// Prompt tokens that each decode replica computed.
    pub decode_computed_tokens: Vec<u64>,
    /// Requests of each decode replica.
    pub decode_requests: Vec<u64>,
}

/// A pool: its caches and what is in flight.
struct Pool {
    caches: Caches,
    loads: Vec<u32>,
    held: Vec<u32>,
    hits: Vec<u32>,
    draw: Draw,
}

impl Pool {
    fn new(tree: &BlockTree, fleet: &Fleet) -> Result<Self> {
        let count = fleet.all_replicas()?;
        Ok(Self {
            caches: Caches::new(tree, count, fleet.capacity)?,
            loads: vec![0; count],
            held: vec![0; count],
            hits: vec![0; count],
            draw: Draw::new(fleet.seed),
        })
    }

    fn look(&mut self, leaf: u32, most: u32, block: u32) {
        let all = Replicas::first(self.loads.len());
        self.caches.lookup(leaf, all, &mut self.held);
        for (hit, &held) in self.hits.iter_mut().zip(&self.held) {
            *hit = held.saturating_mul(block).min(most);
        }
    }

    fn view(&self) -> View<'_> {
        View {
            available: Replicas::first(self.loads.len()),
            loads: &self.loads,
            waiting: &self.loads,
            running: &self.loads,
            cached: &self.held,
            hits: &self.hits,
        }
    }
}

/// Lets two routers route all requests: one picks where a request is decoded, the other, if the decider
/// sends it to the prefill pool, where its prompt is computed.
///
/// A request is in flight at its decode replica until it ends, at its prefill replica until its prompt is
/// computed. A prompt that is computed in the prefill pool is cached there and, as its KV is transferred,
/// at the decode replica. The number of replicas does not change.
///
/// # Errors
/// As [`super::route_with`].
pub fn disaggregate<P: Router, D: Router>(
    traffic: &Traffic,
    (prefill_router, decode_router): (&mut P, &mut D),
    (prefill_fleet, decode_fleet): (&Fleet, &Fleet),
    decider: Decider,
    stop: &Stop,
) -> Result<Disaggregated> {
    let block = prefill_fleet.block_size;
    let tree: Arc<BlockTree> = traffic.tree(Blocks::full(Unit::Tokens, block))?;
    let mut prefill = Pool::new(&tree, prefill_fleet)?;
    let mut decode = Pool::new(&tree, decode_fleet)?;
    let columns = traffic.columns();
    let count_of = |pool: &Pool| pool.loads.len();
    let mut done = Disaggregated {
        prefill: Outcome {
            requests: vec![0; count_of(&prefill)],
            computed_tokens: vec![0; count_of(&prefill)],
            peak_in_flight: vec![0; count_of(&prefill)],
            ..Outcome::default()
        },
        decode_computed_tokens: vec![0; count_of(&decode)],
        decode_requests: vec![0; count_of(&decode)],
        ..Disaggregated::default()
    };
    // The prefill replica of each request, if it has one.
    let mut at_prefill: Vec<Option<usize>> = Vec::with_capacity(traffic.requests());
    let lowest = Ties::Lowest;
    for row in 0..traffic.requests() {
        if row.is_multiple_of(Stop::INTERVAL) {
            stop.check()?;
        }
        let request = RequestIx::from_usize(row);
        for &ended in traffic.prefill_ends(request) {
            let ended_ix = RequestIx::new(ended);
            decode_router.prefill_ended(ended_ix, done.decode_replica[ended as usize].into());
            if let Some(replica) = at_prefill[ended as usize] {
                prefill_router.prefill_ended(ended_ix, replica);
                prefill_router.finished(ended_ix, replica);
                prefill.loads[replica] -= 1;
            }
        }
        for &ended in traffic.finishes(request) {
            let replica = usize::from(done.decode_replica[ended as usize]);
            decode_router.finished(RequestIx::new(ended), replica);
            decode.loads[replica] -= 1;
        }
        let arrival = Arrival {
            request,
            prompt_tokens: columns.prompt_len[row],
            session: columns.session[row],
            time: columns.timestamp[row],
        };
        let leaf = tree.leaf(request);
        let most = arrival.prompt_tokens.saturating_sub(1) / block * block;
        decode.look(leaf, most, block);
        let decision = decode_router.route(&arrival, &decode.view());
        let available = Replicas::first(decode.loads.len());
        let mut draw = decode.draw.clone();
        let ties = match &decode_fleet.ties {
            Ties::Recorded(_) => &lowest,
            other => other,
        };
        let at = choose(decision, available, ties, row, &mut draw)?;
        decode_router.booked(&arrival, &decode.view(), at);
        decode.draw = draw;
        done.decode_replica
            .push(u8::try_from(at).unwrap_or(u8::MAX));
        done.decode_requests[at] += 1;
        decode.loads[at] += 1;
        let remote = decider.remote(arrival.prompt_tokens, decode.hits[at]);
        done.remote.push(remote);
        let mut hit = decode.hits[at];
        at_prefill.push(None);
        if remote {
            prefill.look(leaf, most, block);
            let decision = prefill_router.route(&arrival, &prefill.view());
            let available = Replicas::first(prefill.loads.len());
            let mut draw = prefill.draw.clone();
            let to = choose(decision, available, &prefill_fleet.ties, row, &mut draw)?;
            prefill.draw = draw;
            let routed = Routed {
                decision,
                replica: to,
                available,
                hits: &prefill.hits,
                prompt_tokens: arrival.prompt_tokens,
                most,
                block,
            };
            count(&mut done.prefill, prefill_router, &routed);
            prefill_router.booked(&arrival, &prefill.view(), to);
            hit = prefill.hits[to];
            prefill.caches.admit(leaf, to);
            prefill.loads[to] += 1;
            let peak = &mut done.prefill.peak_in_flight[to];
            *peak = (*peak).max(prefill.loads[to]);
            at_prefill[row] = Some(to);
        } else {
            done.decode_computed_tokens[at] += u64::from(arrival.prompt_tokens - hit);
        }
        decode.caches.admit(leaf, at);
        done.hit_tokens.push(hit);
    }
    done.prefill.evictions = prefill.caches.evictions();
    done.prefill.cached_blocks = prefill.caches.cached().iter().sum();
    done.prefill.distinct_blocks = prefill.caches.distinct();
    Ok(done)
}
