//! Exact simulation of the prefix caches of LLM inference engines.
//!
//! All sequences of a trace are put into one radix tree over tokens, once. Then every block size,
//! every cache size and every policy costs time by the number of *segments* of that tree, not by the
//! number of blocks.
//!
//! ```
//! use std::sync::Arc;
//! use prefixsim::prelude::*;
//!
//! // A trace is columns that the crate borrows: here three prompts, in blocks of two tokens.
//! let prompts = Csr::new(&[0, 4, 8, 14], &[1_u32, 2, 3, 4, 7, 7, 7, 7, 1, 2, 3, 4, 5, 6])?;
//! let stop = Stop::default(); // by which another thread may end what takes long
//! let forest = Arc::new(Forest::compile(&Trace::new(prompts), &stop)?);
//! let profile = Profile::new(forest, 2, &[4, 4, 6], &stop)?;
//!
//! // A cache of four blocks, by name or by type.
//! let policy: Policy = "s3fifo".parse()?;
//! let outcome = profile.replay(policy, Cache::of(4), Facts::default(), &stop)?;
//! assert_eq!(outcome.hit_blocks, [0, 0, 2]);
//!
//! // All sizes of an LRU cache in one pass: with three blocks nothing is left of the first prompt
//! // but its beginning.
//! let curve = profile.curve(&stop)?;
//! assert_eq!([2, 3, 4].map(|blocks| curve.hit_blocks(blocks, true)), [0, 1, 2]);
//!
//! // Who used the blocks of request 2 last?
//! let reuse = profile.reuse(RequestIx::new(2));
//! assert_eq!((reuse[0].end, reuse[0].last_use), (2, RequestIx::new(0)));
//! # Ok::<(), prefixsim::Error>(())
//! ```
//!
//! # Modules, in the order the data flows
//!
//! Each may use only those above it; a test sees to that.
//!
//! * [`error`] and [`stop`]: the one error type, and the flag that ends a long computation;
//!   [`index`] and [`stats`]: index types, and summaries of weighted values;
//! * [`trace`]: the columns of a trace, borrowed; [`hash`]: chained hashes of full blocks;
//! * [`read`] and [`mod@write`]: trace files into columns and back; [`transform`] and [`generate`]:
//!   changes to traces that look at every id, and columns of synthetic workloads;
//! * [`forest`]: all sequences of a trace in one radix tree, compiled once;
//! * [`profile`]: a forest at one block size, and who used which blocks last;
//! * [`policy`]: orders of eviction, yours as well; [`curve`]: the LRU cache at every capacity;
//! * [`replay`]: caches of any capacity and policy on a profile, alone or many at once;
//! * [`serving`]: what simulated servers share: a clock, arrivals, latency, what is recorded;
//! * [`engine`]: the rules by which servers decide hits, allocation and eviction;
//! * [`fleet`]: replicas side by side, and the routers that pick one for each request.

mod bits;
pub mod curve;
pub mod engine;
pub mod error;
pub mod fleet;
pub mod forest;
pub mod generate;
pub mod hash;
pub mod index;
mod intervals;
mod key_lists;
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

pub use curve::{Curve, TtlCurve};
pub use error::{Error, Result};
pub use forest::Forest;
pub use profile::Profile;
pub use stop::Stop;

/// What most programs need: `use prefixsim::prelude::*`.
pub mod prelude {
    pub use crate::curve::Curve;
    pub use crate::error::{Error, Result};
    pub use crate::forest::Forest;
    pub use crate::index::RequestIx;
    pub use crate::policy::{Facts, Policy, PrefixPolicy};
    pub use crate::profile::Profile;
    pub use crate::replay::{Cache, Outcome};
    pub use crate::stop::Stop;
    pub use crate::trace::{Csr, Id, Trace};
}

/// The crate's page runs as a test.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct Readme;
