//! vLLM's KV offloading: chunks of blocks in host memory, below the device.
//!
//! The behaviour is that of vLLM 0.33.0 (`vllm/v1/kv_offload/cpu/manager.py`, `policies/{lru,arc}.py`,
//! `reuse_manager.py`). From the bottom up:
//!
//! * [`HostTier`]: which chunks are in host memory, and which go when room is needed.
//! * [`Context`]: what the tier remembers of one request.

mod arc;
mod context;
mod host;
mod lru;
mod tracker;

pub use arc::ArcState;
pub use context::Context;
pub use host::{EvictionPolicy, HostChunk, HostTier, HostTierConfig, Presence, Store};
