//! What the scheduler knows of a request and of a batch.

use super::super::lease::Lease;
use super::super::record::StepKind;

/// A request of the trace.
#[allow(clippy::struct_excessive_bools)] // Independent of each other.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub lease: Lease,
    /// Output tokens noticed so far.
    pub outputs: u32,
    /// Tokens it samples.
    pub output_len: u32,
    /// Tokens it may sample, as the server knows it.
    pub max_new: u32,
    /// Known tokens found in the cache, or computed, before its next chunk.
    pub prefix: u32,
    /// End of its last chunk.
    pub end: u32,
    /// Known tokens at the last attempt to admit it.
    pub tried: u32,
    /// Prefill batches whose result will not be a token.
    pub partial_chunks: u32,
    /// Order of entry into the waiting queue.
    pub entry: u64,
    /// Tokens processed by the server when it entered the waiting queue.
    pub processed: u64,
    /// Whether it holds a row of the request pool.
    pub row: bool,
    pub admitted: bool,
    pub finished: bool,
    /// Whether it ends by length with results that are pending.
    pub ending: bool,
    /// Whether it waits after a retraction or preemption.
    pub retracted: bool,
}

impl Request {
    /// One that has not arrived.
    pub fn new(lease: Lease, output_len: u32, max_new_slack: u32) -> Self {
        Self {
            lease,
            outputs: 0,
            output_len,
            max_new: output_len.saturating_add(max_new_slack),
            prefix: 0,
            end: 0,
            tried: 0,
            partial_chunks: 0,
            entry: 0,
            processed: 0,
            row: false,
            admitted: false,
            finished: false,
            ending: false,
            retracted: false,
        }
    }

    /// Tokens of the prompt and of the output so far.
    pub fn known(&self) -> u32 {
        self.lease.prompt + self.outputs
    }
}

/// Requests computed together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub requests: Vec<u32>,
    /// Whether no request may be added for the time being.
    pub full: bool,
    /// The request that was cut when the batch was made.
    pub chunked: Option<u32>,
    /// Tokens of the prefill batch it was when it was made.
    pub prefill_tokens: u64,
}

/// A batch whose results are not noticed yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub kind: Option<StepKind>,
    pub requests: Vec<u32>,
}
