//! vLLM's KV offloading: chunks of blocks in host memory, below the device.
//!
//! The behaviour is that of vLLM 0.33.0: the tier (`vllm/v1/kv_offload/cpu/manager.py`,
//! `policies/{lru,arc}.py`, `reuse_manager.py`), the tier below it (`kv_offload/tiering/manager.py`) and
//! the connector (`kv_connector/v1/offloading/scheduler.py`). From the bottom up:
//!
//! * [`HostTier`]: which chunks are in host memory, and which go when room is needed.
//! * [`Context`]: what the tier remembers of one request.
//! * [`OffloadServer`]: a server whose scheduler loads from the tiers and stores into them.
//! * [`simulate_offload`]: a workload served to its end.

mod arc;
mod connector;
mod context;
mod copies;
mod disk;
mod host;
mod log;
mod lru;
mod server;
mod simulate;
mod tracker;

pub use arc::ArcState;
pub use connector::OffloadConfig;
pub use context::Context;
pub use disk::{DiskConfig, DiskLookup};
pub use host::{EvictionPolicy, HostChunk, HostTier, HostTierConfig, Presence, Store};
pub use log::{
    Fate, FateLog, LookupLog, OffloadLog, OffloadSteps, OffloadTotals, TransferKind, TransferLog,
};
pub use server::OffloadServer;
pub use simulate::simulate_offload;
