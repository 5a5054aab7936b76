//! Many replays at once.

use rayon::prelude::*;

use super::{Cache, Observer};
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx};
use crate::policy::{Facts, Policy};
use crate::profile::Profile;
use crate::stop::Stop;

/// One configuration to replay.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The trace at a block size.
    pub profile: &'a Profile,
    /// The policy.
    pub policy: Policy,
    /// The cache.
    pub cache: Cache,
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
    fn served(&mut self, request: RequestIx, hit: u32) {
        let tokens = u64::from(hit) * u64::from(self.block_size);
        self.totals.hit_blocks += u64::from(hit);
        // A partial block that is kept counts its own tokens.
        self.totals.hit_tokens += tokens.min(u64::from(self.prompt_len[request.usize()]));
        self.totals.requests_with_hit += u64::from(hit > 0);
    }
}

/// Replays every job, on all cores; totals in the order of the jobs.
///
/// `prompt_len` is the length of each prompt in tokens.
///
/// # Errors
/// [`Error::Shape`] if `prompt_len` is not one row per request of every profile; else as
/// [`super::drive`].
pub fn sweep(
    jobs: &[Job<'_>],
    facts: Facts<'_>,
    prompt_len: &[u32],
    stop: &Stop,
) -> Result<Vec<Totals>> {
    for job in jobs {
        Error::check_rows("prompt_len", prompt_len.len(), job.profile.requests())?;
    }
    jobs.par_iter()
        .with_max_len(1)
        .map(
            |&Job {
                 profile,
                 policy,
                 cache,
             }| {
                let mut sum = Sum {
                    block_size: profile.block_size(),
                    prompt_len,
                    totals: Totals::default(),
                };
                sum.totals.evictions = profile.observe(policy, cache, facts, &mut sum, stop)?;
                Ok(sum.totals)
            },
        )
        .collect()
}
