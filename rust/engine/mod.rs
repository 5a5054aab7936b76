//! Engines: the rules by which inference servers decide hits, allocation and eviction.

pub mod lmcache;
pub mod sglang;
pub mod tiered;
pub mod tiers;
pub mod vllm;
