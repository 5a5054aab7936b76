//! Exact simulation of the prefix caches of LLM inference engines.
//!
//! A tour, in the order the data flows:
//!
//! * [`error`] and [`stop`]: the one error type, and the flag that ends a long computation.

pub mod error;
#[cfg(feature = "python")]
mod python;
pub mod stop;

pub use error::{Error, Result};
pub use stop::Stop;
