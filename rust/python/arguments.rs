//! Arguments that several classes and functions take, and results that several give.

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::vllm::replay::{self, Prompts};
use crate::engine::vllm::{Retention, SlidingWindow};
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

/// A sliding window; `max_num_batched_tokens` bounds what a request holds at once, if it is given.
pub fn window(
    sliding_window: Option<i64>,
    retention_interval: Option<i64>,
    max_num_batched_tokens: Option<i64>,
) -> PyResult<Option<SlidingWindow>> {
    let Some(window) = sliding_window else {
        return Ok(None);
    };
    let retention = retention(retention_interval)?;
    let batch_tokens = match max_num_batched_tokens {
        None => None,
        Some(tokens) => Some(positive("max_num_batched_tokens", tokens)?),
    };
    let window = positive("sliding_window", window)?;
    Ok(Some(SlidingWindow {
        window,
        retention,
        batch_tokens,
    }))
}

/// Which blocks of windows and states are cached.
pub fn retention(interval: Option<i64>) -> PyResult<Retention> {
    Ok(match interval {
        None => Retention::Dense,
        Some(0) => Retention::PromptEnd,
        Some(interval) => Retention::Interval(positive("retention_interval", interval)?),
    })
}

/// Slots of a cache, the null block included.
pub fn num_slots(num_blocks: i64) -> PyResult<u32> {
    match u32::try_from(num_blocks) {
        Ok(num_blocks) if num_blocks >= 2 => Ok(num_blocks),
        _ => Err(PyValueError::new_err(format!(
            "num_blocks is {num_blocks}: give at least 2, as block 0 is the null block"
        ))),
    }
}

/// Slots of a cache that may have no limit.
pub fn num_blocks_argument(num_blocks: Option<i64>) -> PyResult<Option<u32>> {
    num_blocks.map(num_slots).transpose()
}

/// Tokens to compute next.
pub fn chunk_argument(chunk: Option<i64>) -> PyResult<Option<u32>> {
    chunk.map(|chunk| positive("num_tokens", chunk)).transpose()
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
