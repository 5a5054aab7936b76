//! How much a prefill batch may still take.

use crate::index::to_f64;

/// Tokens kept for a request's output at most (`CLIP_MAX_NEW_TOKENS`).
pub(super) const CLIP_MAX_NEW: u32 = 4096;

/// Whether a batch takes further requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes.
    Continue,
    /// No: there is no memory.
    NoToken,
    /// No: it is large enough.
    Other,
}

/// The budget of one prefill batch (`PrefillAdder`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Tokens reserved for running requests and for what was added, outputs included.
    pub reserved: f64,
    /// Tokens that what was added computes.
    pub added: i64,
    /// Prompt tokens the step may still compute.
    pub input: i64,
    /// Prompt tokens before one is cut; none: never.
    pub chunk: Option<i64>,
    /// A page that each request may need besides.
    pub slack: i64,
}

impl Budget {
    /// Takes `tokens` to compute, in whole pages, and `reserve` for the output.
    pub fn charge(&mut self, tokens: i64, reserve: u32) {
        self.reserved += float(tokens + self.slack + i64::from(reserve));
        self.added += tokens + self.slack;
        self.input -= tokens;
        if let Some(chunk) = &mut self.chunk {
            *chunk -= tokens;
        }
    }

    /// Tokens left beside what is reserved, given those that are free or evictable.
    pub fn total(&self, available: u64) -> f64 {
        to_f64(available) - self.reserved
    }

    /// Whether there is room for more.
    pub fn verdict(&self, available: u64) -> Verdict {
        if self.total(available) <= 0.0 || available.cast_signed() - self.added <= 0 {
            Verdict::NoToken
        } else if self.input <= 0 || self.chunk.is_some_and(|chunk| chunk <= 0) {
            Verdict::Other
        } else {
            Verdict::Continue
        }
    }
}

/// Tokens as the number that ratios of the scheduler make of them: Python's floats, which are exact
/// up to 2^53.
#[allow(clippy::cast_precision_loss)] // As said.
pub(super) const fn float(tokens: i64) -> f64 {
    tokens as f64
}

/// The whole tokens of a float, as Python's `int` cuts it.
#[allow(clippy::cast_possible_truncation)] // Tokens of a pool are below 2^62.
pub(super) const fn whole(tokens: f64) -> i64 {
    tokens as i64
}
