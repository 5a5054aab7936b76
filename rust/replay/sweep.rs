//! Many replays at once.

use rayon::prelude::*;

use super::{Cache, Observer};
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx};
use crate::policy::{Facts, Policy, PolicySource};
use crate::profile::Profile;
use crate::stop::Stop;

/// One configuration to replay.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a, S = Policy> {
    /// The trace at a block size.
    pub profile: &'a Profile,
    /// What makes the policy.
    pub policy: S,
    /// The cache.
    pub cache: Cache,
}

impl<S: PolicySource> Job<'_, S> {
    /// The same, with its policy borrowed.
    #[must_use]
    pub fn by_reference(&self) -> Job<'_, &S> {
        Job {
            profile: self.profile,
            policy: &self.policy,
            cache: self.cache,
        }
    }

    /// Replays it, on this thread.
    ///
    /// # Errors
    /// As [`sweep`].
    pub fn run(&self, facts: Facts<'_>, prompt_len: &[u32], stop: &Stop) -> Result<Totals> {
        let profile = self.profile;
        Error::check_rows("prompt_len", prompt_len.len(), profile.requests())?;
        let mut sum = Sum {
            block_size: profile.block_size(),
            prompt_len,
            totals: Totals::default(),
        };
        sum.totals.evictions = profile.observe(&self.policy, self.cache, facts, &mut sum, stop)?;
        Ok(sum.totals)
    }
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
pub fn sweep<S: PolicySource>(
    jobs: &[Job<'_, S>],
    facts: Facts<'_>,
    prompt_len: &[u32],
    stop: &Stop,
) -> Result<Vec<Totals>> {
    jobs.par_iter()
        .with_max_len(1)
        .map(|job| job.run(facts, prompt_len, stop))
        .collect()
}
