//! How the scheduler behaves.

use crate::error::{Error, Result};

/// Guesses per step at most.
const MOST_DRAFTS: u32 = 1 << 16;

/// How the scheduler behaves; names are vLLM's.
#[allow(clippy::struct_excessive_bools)] // They are the server's switches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Requests running at once.
    pub max_num_seqs: u32,
    /// Tokens per step.
    pub max_num_batched_tokens: u64,
    /// Whether a prompt may be computed in several steps.
    pub enable_chunked_prefill: bool,
    /// Tokens of one request per step, if there are others; 0 for no limit.
    pub long_prefill_token_threshold: u64,
    /// Applies the threshold to a request that is alone too, as 0.30 and older do.
    pub lone_threshold: bool,
    /// Raises the threshold to an equal share of the step's tokens.
    pub long_prefill_token_threshold_adaptive: bool,
    /// Admits a request only if all its known tokens fit, not only the next chunk.
    pub reserve_full_isl: bool,
    /// Without chunked prefill, passes over a waiting request that exceeds what is left of the step's
    /// tokens and looks at the next one, as 0.11 does; otherwise such a request ends the admissions.
    /// Those passed over return to the head of the queue in reversed order.
    pub pass_over: bool,
    /// Counts every lookup, those of requests that are not admitted included, as 0.26 and older do.
    pub stats_at_lookup: bool,
    /// Counts lookups of preempted requests apart from the others, as 0.11.1 and newer do.
    pub stats_preempted_apart: bool,
    /// The priority policy, with one priority per request, smaller ones first; `None`: first come,
    /// first served.
    pub priorities: Option<Vec<u32>>,
    /// Schedules a step before the output of the one before it is there: two are in flight at most.
    pub async_scheduling: bool,
    /// Speculative decoding.
    pub drafts: Option<Drafts>,
}

impl SchedulerConfig {
    /// # Errors
    /// [`Error::Range`] if a limit is zero, or acceptance is not given; [`Error::Shape`] if the
    /// priorities are not those of so many requests.
    pub fn validate(&self, requests: usize) -> Result<()> {
        for (name, limit) in [
            ("max_num_seqs", u64::from(self.max_num_seqs)),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
        ] {
            if limit == 0 {
                let message = format!("{name} is 0, it must be positive");
                return Err(Error::range(message));
            }
        }
        if let Some(priorities) = &self.priorities
            && priorities.len() != requests
        {
            return Err(Error::shape(format!(
                "{} priorities for {requests} requests",
                priorities.len()
            )));
        }
        match &self.drafts {
            Some(drafts) if !(1..=MOST_DRAFTS).contains(&drafts.tokens) => {
                Err(Error::range(format!(
                    "{} draft tokens per step: give 1 to {MOST_DRAFTS}, or leave drafts out",
                    drafts.tokens
                )))
            }
            Some(drafts) if drafts.accept.is_empty() => {
                Err(Error::range("drafts without a pattern of acceptance"))
            }
            _ => Ok(()),
        }
    }
}

/// Speculative decoding: tokens are guessed, and a step verifies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drafts {
    /// Guesses after each step that samples.
    pub tokens: u32,
    /// How many of them are right: entry `n` modulo the length, where the request has `n` tokens.
    pub accept: Vec<u32>,
}

impl Drafts {
    /// How many of `drafts` guesses are right where a request has `num_tokens` tokens.
    pub(super) fn accepted(&self, num_tokens: u32, drafts: u32) -> u32 {
        self.accept[num_tokens as usize % self.accept.len()].min(drafts)
    }
}
