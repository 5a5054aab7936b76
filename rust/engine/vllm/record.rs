//! What a simulation keeps, in columns.

use super::{PoolEvent, Slot};

/// One row per request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestLog {
    /// Prompt tokens found in the cache when the request was first admitted.
    pub hit_tokens: Vec<u32>,
    /// Prompt tokens computed, those computed again after a preemption included.
    pub computed_tokens: Vec<u64>,
    /// All tokens computed, sampled ones included.
    pub scheduled_tokens: Vec<u64>,
    /// Step in which the request was first scheduled; steps count from 1.
    pub admit_step: Vec<u64>,
    /// Step that sampled its first token.
    pub first_token_step: Vec<u64>,
    /// Step that sampled its last token.
    pub finish_step: Vec<u64>,
    /// When it entered the waiting queue, in nanoseconds.
    pub arrival_ns: Vec<u64>,
    /// When its first step began.
    pub admit_ns: Vec<u64>,
    /// When the step of its first token ended.
    pub first_token_ns: Vec<u64>,
    /// When the step of its last token ended.
    pub finish_ns: Vec<u64>,
    /// How often it was preempted.
    pub preemptions: Vec<u32>,
    /// Blocks it held at the end, null blocks included.
    pub num_blocks: Vec<u32>,
    /// Request, step and hit tokens of each admission after a preemption.
    pub resumes: Vec<(u32, u64, u32)>,
    /// Requests in the order in which they finished.
    pub finish_order: Vec<u32>,
    /// Their block tables, one after the other, if recorded.
    pub tables: Vec<Slot>,
}

impl RequestLog {
    pub(super) fn new(requests: usize) -> Self {
        Self {
            hit_tokens: vec![0; requests],
            computed_tokens: vec![0; requests],
            scheduled_tokens: vec![0; requests],
            admit_step: vec![0; requests],
            first_token_step: vec![0; requests],
            finish_step: vec![0; requests],
            arrival_ns: vec![0; requests],
            admit_ns: vec![0; requests],
            first_token_ns: vec![0; requests],
            finish_ns: vec![0; requests],
            preemptions: vec![0; requests],
            num_blocks: vec![0; requests],
            ..Self::default()
        }
    }
}

/// One row per step, as it was after scheduling and before its tokens were sampled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepLog {
    /// When the step began, in nanoseconds. Step numbers are row numbers, from 1.
    pub clock_ns: Vec<u64>,
    /// Requests scheduled.
    pub requests: Vec<u32>,
    /// Tokens scheduled.
    pub tokens: Vec<u64>,
    /// Requests running.
    pub running: Vec<u32>,
    /// Requests waiting.
    pub waiting: Vec<u32>,
    /// Free slots.
    pub free: Vec<u32>,
}

/// KV events in the order in which they happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventLog {
    /// Step of each event.
    pub step: Vec<u64>,
    /// `true`: blocks were stored; `false`: one was removed.
    pub stored: Vec<bool>,
    /// Request that stored them; slot that lost its block.
    pub subject: Vec<u32>,
    /// Where the keys of each event begin, and one entry more.
    pub offsets: Vec<u64>,
    /// Block ids of the workload.
    pub keys: Vec<u32>,
    /// Position of each block in its request; 0 if it was removed.
    pub blocks: Vec<u32>,
}

impl EventLog {
    pub(super) fn push(&mut self, step: u64, event: &PoolEvent<u32>) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        match event {
            PoolEvent::Stored {
                keys,
                blocks,
                sequence,
            } => {
                self.stored.push(true);
                self.subject.push(*sequence as u32);
                self.keys.extend_from_slice(keys);
                self.blocks.extend_from_slice(blocks);
            }
            PoolEvent::Removed { slot, key } => {
                self.stored.push(false);
                self.subject.push(*slot);
                self.keys.push(*key);
                self.blocks.push(0);
            }
            PoolEvent::Cleared => return,
        }
        self.step.push(step);
        self.offsets.push(self.keys.len() as u64);
    }
}

/// Sums over a whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Steps.
    pub steps: u64,
    /// Clock after the last step, in nanoseconds.
    pub final_clock_ns: u64,
    /// vLLM's statistics of requests that were not preempted: requests, and tokens looked up and hit.
    pub stats: [u64; 3],
    /// The same for admissions after a preemption.
    pub stats_preempted: [u64; 3],
    /// Preemptions.
    pub preemptions: u64,
    /// Slots whose block was dropped because they were taken.
    pub evictions: u64,
    /// Tokens computed.
    pub scheduled_tokens: u64,
    /// Most slots in use at once, after scheduling.
    pub peak_used: u32,
    /// Slots in use after scheduling, summed over steps.
    pub used_steps: f64,
    /// Slots in use after scheduling, weighted by the duration of steps in nanoseconds.
    pub used_ns: f64,
    /// Duration of all steps in nanoseconds: the time the engine was not idle.
    pub busy_ns: u64,
    /// Distinct blocks in the cache at the end.
    pub cached_end: u64,
}
