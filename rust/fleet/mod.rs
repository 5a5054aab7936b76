//! A fleet: replicas side by side, and the router that picks one for each request.
//!
//! Replicas are LRU caches on one tree of all prompts ([`Caches`]), or full engines on one clock
//! ([`serve_fleet`]). Routers see what real ones see: their own index of routed text, events of the
//! caches, requests in flight. [`route`] lets one router route a trace and says, besides hits, what
//! each request would have hit at the best replica: its *regret*.
//!
//! * [`Traffic`]: the requests, their trees in tokens, characters and bytes, and how long they stay;
//! * [`BlockTree`]: a forest at one block size; [`Caches`]: the caches of all replicas on it;
//! * [`Router`]: the contract; [`routers`]: the rules; [`RouterConfig`]: the registry;
//! * [`route`], [`pooled`], [`disaggregate`], [`serve_fleet`]: what drives them.

mod caches;
mod count;
mod disaggregated;
mod engines;
mod outcome;
mod replicas;
mod router;
pub mod routers;
mod rows;
mod run;
mod settings;
mod traffic;
mod tree;

pub use caches::Caches;
pub use disaggregated::{Decider, Disaggregated, disaggregate};
pub use engines::{
    BlockChange, BlockEvents, GroupedReplica, Replica, SglangReplica, VllmReplica, serve_fleet,
};
pub use outcome::{Cause, Outcome, Seen};
pub use replicas::{Draw, MOST_REPLICAS, Members, Replicas};
pub use router::{Arrival, Decision, Router, Setting, TextIndex, TextNode, View};
pub use routers::{RouterConfig, WithRouter, blake3_key};
pub use run::{pooled, route, route_with};
pub use settings::{Fleet, Recording, Scaling, Ties};
pub use traffic::{Blocks, Columns, Source, Traffic, Unit};
pub use tree::{BlockTree, Measure, ROOT, Segment};
