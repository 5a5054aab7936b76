//! Exact simulation of the prefix caches of LLM inference engines.
//!
//! A tour, in the order the data flows:
//!
//! * [`read`] and [`write`]: trace files into columns and back.
//! * [`transform`]: changes to traces that look at every id.
//! * [`error`] and [`stop`]: the one error type, and the flag that ends a long computation.

pub mod error;
#[cfg(feature = "python")]
mod python;
pub mod read;
pub mod stop;
pub mod transform;
pub mod write;

pub use error::{Error, Result};
pub use stop::Stop;
