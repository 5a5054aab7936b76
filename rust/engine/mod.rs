//! Engines: the rules by which inference servers decide hits, allocation and eviction.

// Lengths are checked where the workload is made; ratios of the scheduler are Python floats.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
pub mod sglang;
pub mod tiered;
pub mod tiers;
pub mod vllm;
