//! The `PyO3` module `prefixsim._core`: conversion between Python and the core, nothing else.

// PyO3 hands arguments over by value.
#![allow(clippy::needless_pass_by_value)]
// Doc comments here become docstrings in NumPy's style.
#![allow(clippy::doc_markdown)]

use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;

mod allocation;
mod any_block_manager;
mod any_policy;
mod arguments;
mod arrivals;
mod block_manager;
mod curve;
mod digest;
mod fleet;
mod forest;
mod forest_replay;
mod generate;
mod hash;
mod ids;
mod interrupt;
mod latency;
mod lmcache;
mod offload_manager;
mod pool;
mod profile;
mod radix_cache;
mod read;
mod replay;
mod request_id;
mod routers;
mod served_fleet;
mod sglang;
mod sglang_results;
mod sglang_settings;
mod tiers;
mod tokens;
mod vllm;
mod vllm_offload;
mod vllm_results;
mod vllm_settings;

/// The one place where errors of the core become exceptions: what the caller can mend is a
/// `ValueError`, a bug of the core a `RuntimeError`.
impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Shape(_)
            | Error::Range(_)
            | Error::NeverFits(_)
            | Error::Damaged(_)
            | Error::Row { .. } => PyValueError::new_err(message),
            Error::Interrupted => PyKeyboardInterrupt::new_err(message),
            Error::Memory { .. } => PyMemoryError::new_err(message),
            Error::Bug(_) => PyRuntimeError::new_err(message),
        }
    }
}

#[pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::allocation::Allocation;
    #[pymodule_export]
    use super::block_manager::PyBlockManager;
    #[pymodule_export]
    use super::curve::{Curve, TtlCurve};
    #[pymodule_export]
    use super::digest::digest_columns;
    #[pymodule_export]
    use super::fleet::FleetTraffic;
    #[pymodule_export]
    use super::forest::{Forest, compile_forest, forest_options, load_forest};
    #[pymodule_export]
    use super::forest_replay::replay_forest_blocks;
    #[pymodule_export]
    use super::generate::{expand_ids, expand_tokens};
    #[pymodule_export]
    use super::hash::hash_blocks;
    #[pymodule_export]
    use super::ids::{json_lists, keyed_hashes, tree_numbers};
    #[pymodule_export]
    use super::lmcache::replay_lmcache;
    #[pymodule_export]
    use super::offload_manager::PyOffloadManager;
    #[pymodule_export]
    use super::profile::{
        Profile, policies, policy_has_ages, policy_name, policy_parameters, sweep, weighted_summary,
    };
    #[pymodule_export]
    use super::radix_cache::{PyRadixCache, RadixMatch};
    #[pymodule_export]
    use super::read::JsonlReader;
    #[pymodule_export]
    use super::replay::replay_block_manager;
    #[pymodule_export]
    use super::routers::{RoutedRequest, RouterView};
    #[pymodule_export]
    use super::sglang::SglangWorkload;
    #[pymodule_export]
    use super::tiers::replay_tiers;
    #[pymodule_export]
    use super::vllm::VllmWorkload;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("DEBUG_BUILD", cfg!(debug_assertions))
    }
}
