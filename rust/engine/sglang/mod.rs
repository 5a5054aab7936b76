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
//! * [`OnlineCache`]: the online door: requests by name, tokens in, hits out.

mod cache;
mod leaves;
mod online;
mod policy;
mod sequences;
mod tree;
mod trie;
mod version;

pub use cache::{CacheConfig, EvictionLog, EvictionTotals, Lease, RadixCache};
pub use online::{Namespace, NodeView, OnlineCache, Prompt};
pub use policy::Policy;
pub use sequences::{Sequences, TokenBuffers};
pub use tree::{Insertion, Match, RadixTree};
pub use trie::{Node, NodeId, Trie};
pub use version::Version;
