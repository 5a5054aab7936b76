//! Whole traces through the block manager.

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::{Ids, num_blocks_argument, positive, prompts};
use super::forest_replay::replayed;
use super::interrupt::interruptible;
use crate::engine::vllm::ManagerConfig;
use crate::engine::vllm::replay::{Clock, replay};

/// Replay a whole trace through :class:`BlockManager` in one call.
///
/// Every block of the token lists is hashed, as a server does. The engine numbers the blocks of a
/// forest instead (:func:`replay_forest_blocks`); this is the witness that tests compare it with.
///
/// Requests are admitted in order and ``concurrency`` of them hold their slots at once; the oldest is
/// freed when a further one is admitted, and earlier if its slots are needed. ``ids`` are tokens
/// (uint32), or hash ids (uint64) of ``unit`` tokens each. Output tokens are appended one by one,
/// the last of a request never. Returns ``hit_tokens`` and ``request_evictions`` per request, and
/// the totals ``evictions``, ``allocated``, ``peak_used`` and ``cached_end``. With ``timestamp``
/// also ``lifetime_s`` and ``idle_s`` of the blocks evicted from request ``measured_from`` on, as
/// values and how often each occurs.
#[pyfunction]
#[pyo3(signature = (
    offsets, ids, unit, prompt_len, salt, block_size, num_blocks, enable_caching, concurrency,
    output_offsets=None, output_ids=None, timestamp=None, measured_from=0
))]
#[allow(clippy::too_many_arguments)]
pub fn replay_block_manager<'py>(
    py: Python<'py>,
    offsets: PyReadonlyArray1<'py, u64>,
    ids: Ids<'py>,
    unit: i64,
    prompt_len: PyReadonlyArray1<'py, u32>,
    salt: Option<PyReadonlyArray1<'py, u32>>,
    block_size: i64,
    num_blocks: Option<i64>,
    enable_caching: bool,
    concurrency: i64,
    output_offsets: Option<PyReadonlyArray1<'py, u64>>,
    output_ids: Option<PyReadonlyArray1<'py, u32>>,
    timestamp: Option<PyReadonlyArray1<'py, f64>>,
    measured_from: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let mut config = ManagerConfig::new(positive("block_size", block_size)?);
    config.enable_caching = enable_caching;
    let num_blocks = num_blocks_argument(num_blocks)?;
    let concurrency = positive("concurrency", concurrency)?;
    let prompts = prompts(
        &offsets,
        &ids,
        unit,
        &prompt_len,
        salt.as_ref(),
        output_offsets.as_ref(),
        output_ids.as_ref(),
    )?;
    let clock = match &timestamp {
        Some(timestamp) => Some(Clock {
            timestamp: timestamp.as_slice()?,
            measured_from,
        }),
        None => None,
    };
    let outcome = interruptible(py, |stop| {
        replay(&prompts, &config, num_blocks, concurrency, clock, stop)
    })?;
    replayed(py, outcome)
}
