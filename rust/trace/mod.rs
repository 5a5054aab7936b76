//! A trace as the core sees it: columns borrowed from the caller, never copied.

mod common;
mod csr;
mod id;
mod sequences;

pub use common::common_prefix;
pub use csr::Csr;
pub use id::Id;
pub use sequences::Trace;
