//! What a simulation keeps, in columns.

use super::cache::{EvictionLog, EvictionTotals};
use crate::serving::{Readmission, RequestLog};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// Nothing; results may be noticed.
    Idle,
    /// Prompts are computed.
    Prefill,
    /// Every running request computes one token.
    Decode,
}

/// One row per step, as it was after the batch was chosen and before results were noticed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepLog {
    /// When the step began, in nanoseconds. Step numbers are row numbers, from 1.
    pub clock_ns: Vec<u64>,
    /// What it does: 0 nothing, 1 prefill, 2 decode.
    pub kind: Vec<u8>,
    /// Requests in the batch.
    pub requests: Vec<u32>,
    /// Tokens computed.
    pub tokens: Vec<u64>,
    /// Requests in the running batch.
    pub running: Vec<u32>,
    /// Requests waiting.
    pub waiting: Vec<u32>,
    /// Free tokens of the pool.
    pub free: Vec<u64>,
    /// Tokens in nodes that nothing holds.
    pub evictable: Vec<u64>,
}

/// Sums over a whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Steps.
    pub steps: u64,
    /// Clock after the last step, in nanoseconds.
    pub final_clock_ns: u64,
    /// Duration of all steps that computed something, in nanoseconds.
    pub busy_ns: u64,
    /// Retractions and preemptions.
    pub preemptions: u64,
    /// Tokens computed.
    pub scheduled_tokens: u64,
    /// Evictions.
    pub evicted: EvictionTotals,
    /// Free tokens at the end.
    pub free_end: u64,
    /// Tokens at the end in nodes that nothing holds.
    pub evictable_end: u64,
    /// Most tokens held by requests at once, after a batch was chosen.
    pub peak_held: u64,
    /// Tokens held by requests, summed over steps.
    pub held_steps: f64,
    /// Tokens held by requests, weighted by the duration of steps in nanoseconds.
    pub held_ns: f64,
}

/// A node of the tree at the end of a run: parent (row, or none) and tokens.
pub type TreeRow = (Option<u32>, u32);

/// What a simulation gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Simulation {
    /// One row per request.
    pub requests: RequestLog,
    /// Admissions after a retraction.
    pub readmissions: Vec<Readmission>,
    /// Requests that were aborted because not even they alone had room to decode.
    pub aborted: Vec<u32>,
    /// One row per step, if recorded.
    pub steps: StepLog,
    /// One row per call of eviction, if recorded.
    pub evictions: EvictionLog,
    /// Sums.
    pub totals: Totals,
    /// The nodes left at the end, if recorded; parents come before children.
    pub tree: Vec<TreeRow>,
}
