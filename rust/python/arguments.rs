//! Arguments that several classes and functions take, and results that several give.

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::vllm::replay::{self, Prompts};
use crate::replay::Cache;
use crate::stats::{Residency, Weighted};

/// A column of `u32`, borrowed from `NumPy`.
pub type Indices<'py> = PyReadonlyArray1<'py, u32>;

/// Either kind of id column: token ids or hash ids.
#[derive(FromPyObject)]
pub enum Ids<'py> {
    /// Token ids.
    #[pyo3(transparent)]
    Tokens(PyReadonlyArray1<'py, u32>),
    /// Hash ids.
    #[pyo3(transparent)]
    Hashes(PyReadonlyArray1<'py, u64>),
}

/// A positive 32-bit argument.
pub fn positive(name: &str, value: i64) -> PyResult<u32> {
    match u32::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(PyValueError::new_err(format!(
            "{name} is {value}, it must be positive and less than 2^32"
        ))),
    }
}

/// The prompts of a trace, and its outputs if both columns of them are given; `unit` tokens per hash
/// id.
pub fn prompts<'a>(
    offsets: &'a PyReadonlyArray1<'_, u64>,
    ids: &'a Ids<'_>,
    unit: i64,
    prompt_len: &'a Indices<'_>,
    salt: Option<&'a Indices<'_>>,
    output_offsets: Option<&'a PyReadonlyArray1<'_, u64>>,
    output_ids: Option<&'a Indices<'_>>,
) -> PyResult<Prompts<'a>> {
    let ids = match ids {
        Ids::Tokens(tokens) => replay::Ids::Tokens(tokens.as_slice()?),
        Ids::Hashes(hashes) => replay::Ids::Hashes(hashes.as_slice()?, positive("unit", unit)?),
    };
    let outputs = match (output_offsets, output_ids) {
        (Some(offsets), Some(ids)) => Some((offsets.as_slice()?, ids.as_slice()?)),
        _ => None,
    };
    Ok(Prompts {
        offsets: offsets.as_slice()?,
        ids,
        prompt_len: prompt_len.as_slice()?,
        salt: salt.map(|salt| salt.as_slice()).transpose()?,
        outputs,
    })
}

/// A cache of the core.
pub fn cache(capacity: Option<u64>, last_token_rule: bool) -> Cache {
    let cache = capacity.map_or(Cache::infinite(), Cache::of);
    if last_token_rule {
        cache
    } else {
        cache.without_last_token_rule()
    }
}

/// Adds the residency of evicted blocks, if it was measured, to what a replay gives.
pub fn set_residency(dict: &Bound<'_, PyDict>, residency: Option<Residency>) -> PyResult<()> {
    let py = dict.py();
    if let Some(residency) = residency {
        let arrays = |w: Weighted| (w.values.into_pyarray(py), w.weights.into_pyarray(py));
        dict.set_item("lifetime_s", arrays(residency.lifetime))?;
        dict.set_item("idle_s", arrays(residency.idle))?;
    }
    Ok(())
}
