//! Hierarchies of one's own: any number of tiers, each with a size, a policy and rules of writing.
//!
//! Requests run one after the other, as in [`crate::replay`]. The blocks of a request are its path:
//!
//! 1. Each block is looked for in the fastest tier that has it. The blocks found without a gap from
//!    the start are hits, at most as many as the last-token rule allows; where a tier is slow and
//!    what computing costs is known, only as many as it takes less time to load than to compute.
//! 2. The path leaves every exclusive tier.
//! 3. The path enters the fastest tier. What that drops for it, and what of the path has no room, is
//!    written to the tier below if that is written back; what that drops goes further down.
//! 4. Tiers that are written through take what they see of the path, from the fastest down.
//!
//! What a tier sees of a path does not drop blocks of its own: if it is longer than the tier, its
//! first blocks enter. A load from a tier that keeps a copy does not refresh the copy, writing does.
//!
//! With LRU everywhere and every tier written through, all hits together are those of one LRU cache
//! of the largest tier's size; with every lower tier exclusive, of the sum of the sizes.

mod hierarchy;
mod order;
mod replay;

pub use hierarchy::{Hierarchy, Served};
pub use order::{Order, OrderPolicy};
pub use replay::{TiersOutcome, replay};

/// When blocks are written to a lower tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// When a request has them.
    Through,
    /// When the tier above drops them.
    Back,
}

/// Which part of a request's path a tier that is written through sees: writes, and refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// All of it.
    All,
    /// All of it; if the request loads, from its first loaded block on. As vLLM 0.33's offloading
    /// connector, in `v1/kv_offload/cpu` and `kv_connector/v1/offloading/scheduler.py`.
    FromLoads,
    /// What the fastest tier did not have.
    Misses,
}

/// One tier.
///
/// ```
/// use prefixsim::engine::tiers::TierConfig;
/// let dram = TierConfig { exclusive: true, write: prefixsim::engine::tiers::Write::Back, ..TierConfig::new(Some(100)) };
/// assert_eq!(dram.capacity, Some(100));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TierConfig {
    /// Blocks; [`None`]: without limit.
    pub capacity: Option<u64>,
    /// Order in which it drops blocks.
    pub policy: OrderPolicy,
    /// Whether a block that is used leaves it.
    pub exclusive: bool,
    /// When blocks are written to it.
    pub write: Write,
    /// Uses of a block, the present one included, from which on it is written.
    pub min_uses: u32,
    /// What it sees of a path, if it is written through.
    pub sees: Sees,
    /// Whether of new blocks the beginning is written first, so that it is dropped first.
    pub head_first: bool,
    /// Seconds per request that loads from it.
    pub latency: f64,
    /// Seconds per block that is loaded from it.
    pub seconds_per_block: f64,
}

impl TierConfig {
    /// A tier of LRU order that is written through and sees everything, and loads in no time.
    #[must_use]
    pub fn new(capacity: Option<u64>) -> Self {
        Self {
            capacity,
            policy: OrderPolicy::Lru,
            exclusive: false,
            write: Write::Through,
            min_uses: 1,
            sees: Sees::All,
            head_first: false,
            latency: 0.0,
            seconds_per_block: 0.0,
        }
    }
}
