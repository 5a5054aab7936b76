//! LMCache: chunks of prompts in host memory and on disk, below any engine.
//!
//! The behaviour is that of LMCache 0.5.6, requests one after the other. Inside a process
//! (`v1/cache_engine.py`, `v1/storage_backend/{local_cpu,local_disk}_backend.py`, `cache_policy/*`) there
//! are two stores, each with its own order; as a server of its own (`v1/distributed/*`) there is one, in
//! which room is made once a second.
//!
//! * [`ChunkStore`]: the chunks of one tier, and which goes first.
//! * [`InProcess`]: host memory and disk inside the process of an engine.
//! * [`Server`]: the first level of the server.
//! * [`replay`]: a whole trace through either.

mod in_process;
mod replay;
mod server;
mod store;

pub use in_process::{InProcess, InProcessConfig};
pub use replay::{Cause, LmcacheConfig, LmcacheLog, Stretches, replay};
pub use server::{Server, ServerConfig, ServerPolicy};
pub use store::{CachePolicy, ChunkStore};

/// What one request did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Leading chunks found in host memory.
    pub cpu_hits: u32,
    /// Chunks after these found on disk.
    pub disk_hits: u32,
    /// Chunks for which room in host memory was made.
    pub stored: u32,
    /// Whether a store was refused for want of room.
    pub refused: bool,
}

/// A tier of LMCache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Host memory.
    Cpu,
    /// Disk.
    Disk,
}
