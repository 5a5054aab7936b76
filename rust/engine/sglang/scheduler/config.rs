//! Settings of the scheduler.

use super::super::version::{Version, choose};
use crate::error::{Error, Result};

/// Order of the waiting queue (SGLang's `--schedule-policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchedulePolicy {
    /// First come, first served.
    #[default]
    Fcfs,
    /// Longest cached prefix first.
    Lpm,
    /// Longest output first.
    Lof,
    /// The subtree of the cache that most waiting requests share first.
    DfsWeight,
    /// Highest response ratio next: waiting weighed against uncached tokens (0.5.23).
    Hrrn,
}

impl SchedulePolicy {
    /// All policies, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("fcfs", Self::Fcfs),
        ("lpm", Self::Lpm),
        ("lof", Self::Lof),
        ("dfs-weight", Self::DfsWeight),
        ("hrrn", Self::Hrrn),
    ];

    /// The policy of that name.
    ///
    /// # Errors
    /// [`Error::Range`] listing the names there are.
    pub fn from_name(name: &str) -> Result<Self> {
        choose("schedule_policy", name, &Self::ALL)
    }
}

/// Settings of the scheduler, by SGLang's names.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerConfig {
    /// Order of the waiting queue.
    pub schedule_policy: SchedulePolicy,
    /// Whether the next batch is chosen before the results of the last one are noticed: SGLang's
    /// default, off with `disable_overlap_schedule`.
    pub overlap: bool,
    /// Prompt tokens of one step beyond which a prompt is cut. `None`: prompts are never cut.
    pub chunked_prefill_size: Option<u32>,
    /// Prompt tokens of one step beyond which no further prompt is added.
    pub max_prefill_tokens: u32,
    /// Most running requests.
    pub max_running_requests: u32,
    /// Most requests that hold anything (rows of `req_to_token_pool`).
    pub req_pool_size: u32,
    /// Larger: fewer requests are admitted, fewer retracted.
    pub schedule_conservativeness: f64,
    /// By how many tokens `max_new_tokens` of a request exceeds its output.
    pub max_new_slack: u32,
    /// `enable_priority_scheduling`: by how much a waiting request's priority must exceed a running
    /// one's to preempt it. `None`: priorities do not matter.
    pub preemption_threshold: Option<i64>,
}

impl SchedulerConfig {
    /// # Errors
    /// A size of 0, a conservativeness that is no positive number, a policy the version does not
    /// have.
    pub fn validate(&self, version: Version) -> Result<()> {
        for (name, value) in [
            (
                "chunked_prefill_size",
                self.chunked_prefill_size.unwrap_or(1),
            ),
            ("max_prefill_tokens", self.max_prefill_tokens),
            ("max_running_requests", self.max_running_requests),
            ("req_pool_size", self.req_pool_size),
        ] {
            if value == 0 {
                return Err(Error::range(format!("{name} is 0, it must be positive")));
            }
        }
        if !(self.schedule_conservativeness >= 0.0 && self.schedule_conservativeness.is_finite()) {
            return Err(Error::range(format!(
                "schedule_conservativeness is {}, it must be a number from 0",
                self.schedule_conservativeness
            )));
        }
        if self.schedule_policy == SchedulePolicy::Hrrn && !version.is_0523() {
            return Err(Error::range(
                "schedule_policy \"hrrn\": only 0.5.23 has it, choose another",
            ));
        }
        Ok(())
    }
}
