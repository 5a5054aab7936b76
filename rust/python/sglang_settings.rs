//! Settings of SGLang's cache, from Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::engine::sglang::Policy;

/// The policy of a name, with its parameters.
pub fn policy(
    name: &str,
    protected_threshold: u32,
    threshold: i64,
    next_prompt_estimate: i64,
) -> PyResult<Policy> {
    Ok(match Policy::from_name(name)? {
        Policy::Slru { .. } => Policy::Slru {
            protected_threshold,
        },
        Policy::Tlru { .. } => Policy::Tlru {
            threshold,
            next_prompt_estimate,
        },
        plain => plain,
    })
}

/// Tokens of the pool, from Python.
pub fn capacity_argument(capacity_tokens: Option<i64>) -> PyResult<Option<u64>> {
    let Some(tokens) = capacity_tokens else {
        return Ok(None);
    };
    u64::try_from(tokens).map(Some).map_err(|_| {
        PyValueError::new_err(format!("capacity_tokens is {tokens}, it must be positive"))
    })
}
