//! What a simulation records, in columns.

use super::{CacheEvent, CacheSnapshot, Hit, HitLimits};
use crate::index::to_f64;

/// One row per request of the trace, whichever instance serves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestLog {
    /// Prompt tokens found in the cache when the request was first admitted, in any tier.
    pub hit_tokens: Vec<u32>,
    /// Those that were not found on the device, one list per lower tier; no lists if there is no such
    /// tier.
    pub lower_hit_tokens: Vec<Vec<u32>>,
    /// Prompt tokens computed, those computed again after a preemption included.
    pub computed_tokens: Vec<u64>,
    /// All tokens computed, sampled ones included.
    pub scheduled_tokens: Vec<u64>,
    /// Step of its instance in which the request was first scheduled; steps count from 1.
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
    /// Where siblings were known to part from it when it was first admitted, in tokens, 0 if nowhere; no
    /// entries if that is so for all.
    pub junction: Vec<u32>,
    /// What limited its hit, if recorded.
    pub limits: LimitLog,
}

/// How long the hit of each request's first admission would have been with fewer constraints, see
/// [`HitLimits`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitLog {
    /// What full attention alone has.
    pub full: Vec<u32>,
    /// With windows.
    pub window: Vec<u32>,
    /// With states.
    pub state: Vec<u32>,
    /// With alignment.
    pub aligned: Vec<u32>,
}

impl LimitLog {
    fn set(&mut self, requests: usize, row: usize, limits: HitLimits) {
        let HitLimits {
            full,
            window,
            state,
            aligned,
        } = limits;
        for (column, tokens) in [
            (&mut self.full, full),
            (&mut self.window, window),
            (&mut self.state, state),
            (&mut self.aligned, aligned),
        ] {
            column.resize(requests, 0);
            column[row] = tokens;
        }
    }
}

impl RequestLog {
    /// Rows of `requests` requests to which nothing has happened.
    #[must_use]
    pub fn new(requests: usize) -> Self {
        Self {
            hit_tokens: vec![0; requests],
            lower_hit_tokens: Vec::new(),
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
            junction: Vec::new(),
            limits: LimitLog::default(),
        }
    }

    /// Writes where siblings were known to part from a request at its first admission.
    pub fn parts_at(&mut self, request: u32, junction: u32) {
        if junction > 0 {
            self.junction.resize(self.hit_tokens.len(), 0);
            self.junction[request as usize] = junction;
        }
    }

    /// Writes what limited the hit of a request's first admission.
    pub fn limited(&mut self, request: u32, limits: HitLimits) {
        self.limits
            .set(self.hit_tokens.len(), request as usize, limits);
    }

    /// Writes what the lookup of a request's first admission found.
    pub fn hit(&mut self, request: u32, hit: Hit) {
        let row = request as usize;
        self.hit_tokens[row] = hit.tokens();
        let lower = &hit.tiers[1..];
        if self.lower_hit_tokens.is_empty() {
            if lower.iter().all(|&tokens| tokens == 0) {
                return;
            }
            self.lower_hit_tokens = vec![vec![0; self.hit_tokens.len()]; lower.len()];
        }
        for (column, &tokens) in self.lower_hit_tokens.iter_mut().zip(lower) {
            column[row] = tokens;
        }
    }
}

/// What one instance did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InstanceLog {
    /// One row per step, if recorded.
    pub steps: StepLog,
    /// KV events, if recorded.
    pub events: EventLog,
    /// Admissions after a preemption.
    pub readmissions: Vec<Readmission>,
    /// Requests in the order in which they finished.
    pub finish_order: Vec<u32>,
    /// Their block tables, one after the other, each group by group, if recorded.
    pub tables: Vec<u32>,
    /// Lengths of these tables, if there are several groups.
    pub group_blocks: Vec<u32>,
    /// The whole state in each step, if recorded.
    pub states: Vec<StepState>,
    /// The free slots at the end, next to be taken first, if recorded.
    pub free_queue: Vec<u32>,
    /// Sums.
    pub totals: Totals,
}

/// The whole state of a server after the scheduling of a step, before its output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepState {
    /// When the step began, in nanoseconds.
    pub clock_ns: u64,
    /// Requests scheduled and their tokens, in order.
    pub scheduled: Vec<(u32, u32)>,
    /// Requests running, in order of admission.
    pub running: Vec<u32>,
    /// Requests waiting, the next to be admitted first.
    pub waiting: Vec<u32>,
    /// Tables of the running requests, one per group.
    pub tables: Vec<Vec<Vec<u32>>>,
    /// The cache.
    pub cache: CacheSnapshot<u32>,
}

/// An admission after a preemption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readmission {
    /// The request.
    pub request: u32,
    /// Step of the admission.
    pub step: u64,
    /// Tokens found in the cache.
    pub hit_tokens: u32,
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

/// One row of a [`StepLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRow {
    /// When the step began, in nanoseconds.
    pub clock_ns: u64,
    /// Requests scheduled.
    pub requests: u32,
    /// Tokens scheduled.
    pub tokens: u64,
    /// Requests running.
    pub running: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// Free slots.
    pub free: u32,
}

impl StepLog {
    /// Appends a row.
    pub fn push(&mut self, row: StepRow) {
        self.clock_ns.push(row.clock_ns);
        self.requests.push(row.requests);
        self.tokens.push(row.tokens);
        self.running.push(row.running);
        self.waiting.push(row.waiting);
        self.free.push(row.free);
    }
}

/// KV events in the order in which they happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventLog {
    /// Step of each event.
    pub step: Vec<u64>,
    /// The group of layers, 0 if there is one.
    pub group: Vec<u32>,
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
    /// Appends an event of a step. Requests are named by their number in the trace.
    pub fn push(&mut self, step: u64, event: &CacheEvent<u32>) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        match event {
            CacheEvent::Stored {
                group,
                keys,
                blocks,
                name,
            } => {
                self.group.push(*group);
                self.stored.push(true);
                self.subject.push(u32::try_from(*name).unwrap_or(u32::MAX));
                self.keys.extend_from_slice(keys);
                self.blocks.extend_from_slice(blocks);
            }
            CacheEvent::Removed { group, slot, key } => {
                self.group.push(*group);
                self.stored.push(false);
                self.subject.push(*slot);
                self.keys.push(*key);
                self.blocks.push(0);
            }
            CacheEvent::Cleared => return,
        }
        self.step.push(step);
        self.offsets.push(self.keys.len() as u64);
    }
}

/// Counters as servers publish them, in tokens but for the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Requests admitted (or lookups made, in servers that count these).
    pub requests: u64,
    /// Tokens looked up.
    pub queries: u64,
    /// Those found in the cache.
    pub hits: u64,
}

impl CacheStats {
    /// Counts `times` lookups.
    pub fn count(&mut self, queries: u64, hits: u64, times: u64) {
        self.requests += times;
        self.queries += times * queries;
        self.hits += times * hits;
    }
}

/// What speculative decoding came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DraftStats {
    /// Outputs of steps that verified guesses, one per request.
    pub steps: u64,
    /// Guesses verified.
    pub drafts: u64,
    /// Those that were right.
    pub accepted: u64,
}

/// Sums over a whole run of one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Steps.
    pub steps: u64,
    /// Clock after the last step, in nanoseconds.
    pub final_clock_ns: u64,
    /// Statistics of requests that were not preempted.
    pub stats: CacheStats,
    /// The same for admissions after a preemption.
    pub stats_preempted: CacheStats,
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
    /// Speculative decoding.
    pub drafts: DraftStats,
}

impl Totals {
    /// Counts `steps` steps that take `duration` nanoseconds together, with `used` slots in use.
    pub fn use_slots(&mut self, used: u32, steps: u64, duration: u64) {
        self.peak_used = self.peak_used.max(used);
        self.used_steps += f64::from(used) * to_f64(steps);
        self.used_ns += f64::from(used) * to_f64(duration);
        self.busy_ns += duration;
    }
}
