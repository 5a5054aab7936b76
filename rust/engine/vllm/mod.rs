//! vLLM V1, block for block: the KV-cache manager.
//!
//! The behaviour is that of vLLM 0.33.0 (`vllm/v1/core/{block_pool,kv_cache_manager,
//! single_type_kv_cache_manager,kv_cache_utils}.py`). From the bottom up:
//!
//! * [`FreeQueue`]: the slots nobody uses, in the order in which they will be taken.
//! * [`BlockPool`]: reference counts, and which slots hold which block.
//! * [`Manager`]: lookup, allocation, caching and release for one sequence at a time, for one KV-cache
//!   group of full or sliding-window attention.
//! * [`groups`]: the same for several groups, with windows and states of their own.
//! * [`BlockManager`]: requests by name, tokens in, slots out, one call at a time.
//! * [`replay`]: a whole trace through the manager in one call, without time.
//! * [`Workload`]: a trace compiled for the scheduler, if its lengths fit a [`Room`].
//! * [`Scheduler`]: waiting and running requests, one step at a time.
//! * [`Server`]: the scheduler on a clock, an [`Instance`](crate::serving::Instance).
//! * [`simulate`]: a workload served to its end.
//! * [`offload`]: chunks of blocks in host memory, below the device.

#![warn(clippy::cast_possible_truncation)]

mod block_manager;
mod block_names;
mod block_pool;
mod config;
mod forest_replay;
mod free_queue;
pub mod groups;
mod key_index;
mod manager;
pub mod offload;
pub mod replay;
mod runs;
mod scheduler;
mod server;
mod simulate;
mod workload;

pub use block_manager::{Admission, Allocation, BlockManager};
pub use block_pool::{BlockPool, ReleaseOrder};
pub use config::{ManagerConfig, Retention, SlidingWindow, UncachedFirst};
pub use forest_replay::{ForestLengths, replay_forest};
pub use free_queue::FreeQueue;
pub use key_index::{Blank, DenseIndex, KeyIndex, TableIndex};
pub use manager::{Lease, Manager};
pub use scheduler::{Drafts, Scheduler, SchedulerConfig};
pub use server::{Recording, Server};
pub use simulate::{CacheConfig, Simulation, SimulationConfig, simulate};
pub use workload::{Room, Workload};

/// A physical block of the simulated cache (vLLM's `block_id`). Slot 0 is the null block.
pub type Slot = u32;

/// The null block: never allocated, stands for blocks that left a sliding window.
pub const NULL_SLOT: Slot = 0;
