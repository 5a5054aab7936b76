//! SGLang, exactly: its radix cache and the scheduler that decides hits.
//!
//! The behaviour is that of SGLang 0.5.9, 0.5.16 and 0.5.23 on one rank with full attention. From the
//! bottom up:
//!
//! * [`Version`]: whose rules; [`Policy`]: the order of eviction.
//! * [`Sequences`]: the tokens that keys are ranges of.
//! * [`Trie`]: the shape of the tree.
//! * [`RadixTree`]: matching, inserting, locking and evicting.
//! * [`RadixCache`]: the tree, the pool of pages, and the requests that hold some of both.
//! * [`OnlineCache`]: the online cache: requests by name, tokens in, hits out.
//! * [`Workload`]: a trace compiled for the engine.
//! * [`Server`]: the scheduler on a clock, an [`Instance`](crate::serving::Instance).
//! * [`simulate`]: a trace through the scheduler, or through the cache alone.

mod cache;
mod hicache;
mod lease;
mod leaves;
mod namespace;
mod online;
mod policy;
mod record;
mod scheduler;
mod sequences;
mod server;
mod simulate;
mod tree;
mod trie;
mod unscheduled;
mod version;
mod workload;

pub use cache::{CacheConfig, EvictionLog, EvictionTotals, RadixCache};
pub use hicache::{HiCacheConfig, HiCacheLog, HiCacheTotals, WritePolicy, run_hicache};
pub use lease::Lease;
pub use namespace::{Namespace, Prompt};
pub use online::{NodeView, OnlineCache};
pub use policy::Policy;
pub use record::{Simulation, StepKind, StepLog, Totals, TreeRow};
pub use scheduler::{SchedulePolicy, SchedulerConfig};
pub use sequences::{Sequences, TokenBuffers};
pub use server::{Recording, Server};
pub use simulate::{Drive, SimulationConfig, simulate};
pub use tree::{Insertion, Match, RadixTree};
pub use trie::{Node, NodeId, Trie};
pub use unscheduled::Overlap;
pub use version::Version;
pub use workload::{Columns, Workload};
