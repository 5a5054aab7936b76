//! Exact simulation of the prefix caches of LLM inference engines.
//!
//! A tour, in the order the data flows:
//!
//! * [`error`] and [`stop`]: the one error type, and the flag that ends a long computation.
//! * [`hash`]: chained hashes of full blocks.
//! * [`engine`]: the rules by which servers decide hits, allocation and eviction.

pub mod engine;
pub mod error;
pub mod hash;
#[cfg(feature = "python")]
mod python;
pub mod stop;

pub use error::{Error, Result};
pub use stop::Stop;
