//! Many replays at once.

use rayon::prelude::*;

use super::{Observer, clairvoyant, lru};
use crate::error::Result;
use crate::profile::Profile;
use crate::stop::Stop;

/// Which blocks are dropped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The least recently used, tail first.
    Lru,
    /// Those used again last.
    Clairvoyant,
}

/// One configuration to replay.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The trace at a block size.
    pub profile: &'a Profile,
    /// The policy.
    pub policy: Policy,
    /// Blocks of the cache; [`None`]: infinite.
    pub capacity: Option<u64>,
}

/// What a replay did in total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Blocks of prompts served from the cache.
    pub hit_blocks: u64,
    /// Tokens of prompts served from the cache.
    pub hit_tokens: u64,
    /// Requests with at least one hit block.
    pub requests_with_hit: u64,
    /// Blocks dropped from the cache.
    pub evictions: u64,
}

/// Adds up hits as they come.
struct Sum<'a> {
    block_size: u32,
    prompt_len: &'a [u32],
    totals: Totals,
}

impl Observer for Sum<'_> {
    fn served(&mut self, request: usize, hit: u32) {
        let tokens = u64::from(hit) * u64::from(self.block_size);
        self.totals.hit_blocks += u64::from(hit);
        // A partial block that is kept counts its own tokens.
        self.totals.hit_tokens += tokens.min(u64::from(self.prompt_len[request]));
        self.totals.requests_with_hit += u64::from(hit > 0);
    }
}

/// Replays every job, on all cores; totals in the order of the jobs.
///
/// `prompt_len` is the length of each prompt in tokens.
///
/// # Errors
/// [`crate::Error::Interrupted`] if asked to stop.
pub fn sweep(
    jobs: &[Job<'_>],
    prompt_len: &[u32],
    last_token_rule: bool,
    stop: &Stop,
) -> Result<Vec<Totals>> {
    jobs.par_iter()
        .with_max_len(1)
        .map(|job| {
            let mut sum = Sum {
                block_size: job.profile.block_size(),
                prompt_len,
                totals: Totals::default(),
            };
            let (profile, capacity) = (job.profile, job.capacity);
            sum.totals.evictions = match job.policy {
                Policy::Lru => lru::replay(profile, capacity, last_token_rule, &mut sum, stop),
                Policy::Clairvoyant => {
                    clairvoyant::replay(profile, capacity, last_token_rule, &mut sum, stop)
                }
            }?;
            Ok(sum.totals)
        })
        .collect()
}
