//! LMCache.

use numpy::IntoPyArray;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::interrupt::interruptible;
use super::vllm::VllmWorkload;
use crate::engine::lmcache::{
    CachePolicy, InProcessConfig, LmcacheConfig, ServerConfig, ServerPolicy, replay,
};

/// Replay the prompts of a workload, whose blocks are the chunks, through LMCache.
///
/// ``mode`` is ``in-process`` or ``server``; see `prefixsim.engines.lmcache` for the settings.
#[pyfunction]
#[pyo3(signature = (
    workload, *, mode, cache_policy, cpu_chunks, disk_chunks, trigger_watermark, eviction_ratio,
    validate=false
))]
#[allow(clippy::too_many_arguments)] // Keyword arguments of one Python call.
pub fn replay_lmcache<'py>(
    py: Python<'py>,
    workload: &VllmWorkload,
    mode: &str,
    cache_policy: &str,
    cpu_chunks: u32,
    disk_chunks: u32,
    trigger_watermark: f64,
    eviction_ratio: f64,
    validate: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let config = match mode {
        "in-process" => LmcacheConfig::InProcess(InProcessConfig {
            cpu_chunks,
            disk_chunks,
            policy: CachePolicy::from_name(cache_policy)?,
        }),
        "server" => LmcacheConfig::Server(ServerConfig {
            chunks: cpu_chunks,
            policy: ServerPolicy::from_name(cache_policy)?,
            watermark: trigger_watermark,
            ratio: eviction_ratio,
        }),
        other => {
            let message = format!("mode {other:?}: choose in-process or server");
            return Err(PyValueError::new_err(message));
        }
    };
    let core = workload.core();
    let log = interruptible(py, |stop| replay(core, config, validate, stop))?;
    let result = PyDict::new(py);
    for (name, column) in [
        ("cpu_hits", log.cpu_hits),
        ("disk_hits", log.disk_hits),
        ("stored", log.stored),
        ("cpu_evicted", log.cpu_evicted),
        ("cpu_evicted_at", log.cpu_evicted_at),
        ("disk_evicted", log.disk_evicted),
        ("disk_evicted_at", log.disk_evicted_at),
        ("lost_request", log.lost.request),
        ("lost_first", log.lost.first),
        ("lost_end", log.lost.end),
    ] {
        result.set_item(name, column.into_pyarray(py))?;
    }
    result.set_item("lost_cause", log.lost.cause.into_pyarray(py))?;
    result.set_item("refused", log.refused.into_pyarray(py))?;
    let end: Vec<_> = log.end.into_iter().map(|k| k.into_pyarray(py)).collect();
    result.set_item("end", end)?;
    result.set_item("frequencies", log.frequencies)?;
    result.set_item("target", log.target)?;
    result.set_item("most_chunks", log.most_chunks)?;
    Ok(result)
}
