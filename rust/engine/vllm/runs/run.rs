//! A run of blocks, and what is known of one.

pub(super) const NIL: u32 = u32::MAX;

/// Slots that hold consecutive blocks of a segment, with equal histories.
///
/// If nobody uses them they are in the free queue, the last block first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub segment: u32,
    /// Blocks of the sequence before it, and up to its end.
    pub start: u32,
    pub end: u32,
    pub refs: u32,
    /// Neighbours in the free queue.
    pub older: u32,
    pub newer: u32,
    /// Neighbours among the runs of the segment, in the order in which they were cached.
    pub before: u32,
    pub after: u32,
    /// What was split off from its end last; of use to those that hold both.
    pub rest: u32,
    /// When its slots were taken, and last found by a lookup, in seconds.
    pub taken: f64,
    pub used: f64,
}

impl Run {
    pub fn blocks(&self) -> u32 {
        self.end - self.start
    }
}

/// Blocks `start..end` that a lookup found in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub run: u32,
    pub start: u32,
    pub end: u32,
}

/// Blocks up to `end` that a request holds, from the beginning of a run, which may have been split since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub run: u32,
    pub end: u32,
}
