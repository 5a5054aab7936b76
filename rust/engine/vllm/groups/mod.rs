//! Several KV-cache groups over one pool: hybrid models.
//!
//! A *group* is a set of layers that share one block table. All groups take their slots from one pool,
//! and a prefix is found only where every group can go on from it. The behaviour is that of vLLM 0.33.0
//! (`vllm/v1/core/{kv_cache_coordinator,single_type_kv_cache_manager,block_pool}.py`):
//!
//! * [`SharedPool`]: reference counts, and which slots hold which blocks of which group.
//! * [`GroupsConfig`], [`Group`], [`GroupKind`]: what there is; [`Layout`]: what follows from that.
//! * `full`, `sliding_window`, `chunked_local`, `mamba`: what each kind finds, needs and keeps.
//! * `coordinator`: the longest prefix that all of them agree on.
//! * `retention`: which blocks are cached.
//! * [`GroupedCache`]: all of it, as a [`KvCache`](crate::serving::KvCache).

mod allocation;
mod cache;
mod caching;
mod check;
mod chunked_local;
mod config;
mod coordinator;
mod copies;
mod full;
mod keys;
mod layout;
mod lease;
mod losses;
mod mamba;
mod pool;
mod retention;
mod sliding_window;

pub use cache::GroupedCache;
pub use config::{EagleHits, Group, GroupKind, GroupsConfig};
pub use layout::{Class, Layout};
pub use lease::GroupedLease;
pub use pool::SharedPool;
