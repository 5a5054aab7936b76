//! How the scheduler behaves.

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
}
