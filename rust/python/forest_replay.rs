//! Compiled traces through the block manager.

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::{num_blocks_argument, positive, set_residency};
use super::forest::Forest;
use super::interrupt::interruptible;
use crate::engine::vllm::replay::{Clock, ReplayOutcome};
use crate::engine::vllm::{ForestLengths, ManagerConfig, replay_forest};

/// Replay a compiled trace through :class:`BlockManager` in one call.
///
/// As :func:`replay_block_manager`, but the forest says which blocks are the same: nothing is hashed.
/// ``output_offsets`` appends the outputs, with which the forest must have been compiled.
#[pyfunction]
#[pyo3(signature = (
    forest, prompt_len, block_size, num_blocks, enable_caching, concurrency, *,
    output_offsets=None, timestamp=None, measured_from=0
))]
#[allow(clippy::too_many_arguments)] // Keyword arguments of one Python call.
pub fn replay_forest_blocks<'py>(
    py: Python<'py>,
    forest: &Forest,
    prompt_len: PyReadonlyArray1<'py, u32>,
    block_size: i64,
    num_blocks: Option<i64>,
    enable_caching: bool,
    concurrency: i64,
    output_offsets: Option<PyReadonlyArray1<'py, u64>>,
    timestamp: Option<PyReadonlyArray1<'py, f64>>,
    measured_from: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let mut config = ManagerConfig::new(positive("block_size", block_size)?);
    config.enable_caching = enable_caching;
    let num_blocks = num_blocks_argument(num_blocks)?;
    let concurrency = positive("concurrency", concurrency)?;
    let lengths = ForestLengths {
        prompt_len: prompt_len.as_slice()?,
        output_offsets: match &output_offsets {
            Some(offsets) => Some(offsets.as_slice()?),
            None => None,
        },
    };
    let clock = match &timestamp {
        Some(timestamp) => Some(Clock {
            timestamp: timestamp.as_slice()?,
            measured_from,
        }),
        None => None,
    };
    let core = forest.core();
    let outcome = interruptible(py, |stop| {
        replay_forest(core, lengths, &config, num_blocks, concurrency, clock, stop)
    })?;
    replayed(py, outcome)
}

/// What a replay gives, by name.
pub(super) fn replayed(py: Python<'_>, outcome: ReplayOutcome) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    let evictions: u64 = outcome
        .evictions
        .iter()
        .map(|&count| u64::from(count))
        .sum();
    dict.set_item("hit_tokens", outcome.hit_tokens.into_pyarray(py))?;
    dict.set_item("request_evictions", outcome.evictions.into_pyarray(py))?;
    dict.set_item("evictions", evictions)?;
    dict.set_item("allocated", outcome.allocated)?;
    dict.set_item("peak_used", outcome.peak_used)?;
    dict.set_item("cached_end", outcome.cached_end)?;
    set_residency(&dict, outcome.residency)?;
    Ok(dict)
}
