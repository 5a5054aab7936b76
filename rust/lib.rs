//! Exact simulation of the prefix caches of LLM inference engines.
//!
//! A tour, in the order the data flows:
//!
//! * [`read`] and [`mod@write`]: trace files into columns and back;
//! * [`trace`]: its columns, borrowed;
//! * [`transform`]: changes to traces that look at every id;
//! * [`forest`]: all sequences of a trace in one radix tree, compiled once;
//! * [`profile`]: a forest at one block size, and who used which blocks last;
//! * [`replay`]: LRU and clairvoyant caches of any capacity on a profile, alone or many at once;
//! * [`curve`]: the LRU cache at every capacity, in one pass;
//! * [`hash`]: chained hashes of full blocks;
//! * [`engine`]: the rules by which servers decide hits, allocation and eviction;
//! * [`serving`]: what simulated servers share: a clock, arrivals, latency, what is recorded;
//! * [`generate`]: columns of synthetic workloads;
//! * [`stats`]: summaries of weighted values;
//! * [`error`] and [`stop`]: the one error type, and the flag that ends a long computation.

mod bits;
pub mod curve;
pub mod engine;
pub mod error;
pub mod forest;
pub mod generate;
pub mod hash;
pub mod index;
mod intervals;
pub mod policy;
pub mod profile;
#[cfg(feature = "python")]
mod python;
pub mod read;
pub mod replay;
mod room;
pub mod serving;
pub mod stats;
pub mod stop;
pub mod trace;
pub mod transform;
pub mod write;

pub use curve::Curve;
pub use error::{Error, Result};
pub use forest::Forest;
pub use profile::Profile;
pub use stop::Stop;

/// The crate's page runs as a test.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct Readme;
