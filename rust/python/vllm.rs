//! The vLLM engine.

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arguments::positive;
use super::block_manager::{num_slots, window};
use super::interrupt::interruptible;
use super::vllm_results::{Origins, Run};
use crate::engine::vllm::replay::{Ids, Prompts};
use crate::engine::vllm::{
    ManagerConfig, Recording, SchedulerConfig, SimulationConfig, Workload, simulate,
};
use crate::serving::{Arrivals, Latency, Linear};

/// A trace compiled for the vLLM engine: every full block as a number, derived once.
///
/// `ids` are tokens (uint32) or hash ids (uint64) of `unit` tokens each; outputs that are not given
/// are taken to be unlike any others. `arrival_ns` in nanoseconds, ascending.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct VllmWorkload(Workload);

/// Nanoseconds; coefficients in the order of `Linear`.
#[derive(FromPyObject)]
pub enum LatencySettings {
    Fixed(u64),
    Linear([f64; 6]),
    Roofline(f64, [f64; 6], [f64; 6]),
}

fn linear(c: [f64; 6]) -> Linear {
    Linear {
        base: c[0],
        prefill_tokens: c[1],
        prefill_pairs: c[2],
        prefill_context: c[3],
        decodes: c[4],
        decode_context: c[5],
    }
}

impl From<LatencySettings> for Latency {
    fn from(settings: LatencySettings) -> Self {
        match settings {
            LatencySettings::Fixed(ns) => Self::Fixed(ns),
            LatencySettings::Linear(c) => Self::Linear(linear(c)),
            LatencySettings::Roofline(overhead, compute, memory) => Self::Roofline {
                overhead,
                compute: linear(compute),
                memory: linear(memory),
            },
        }
    }
}

fn arrivals_argument(arrivals: &str, in_flight: i64) -> PyResult<Arrivals> {
    match arrivals {
        "trace" => Ok(Arrivals::Trace),
        "start" => Ok(Arrivals::Start),
        "closed" => Ok(Arrivals::Closed(positive("in_flight", in_flight)?)),
        "sequential" => Ok(Arrivals::Sequential),
        other => {
            let message = format!("arrivals {other:?}: choose trace, start, closed or sequential");
            Err(PyValueError::new_err(message))
        }
    }
}

/// Slots that a share of the cache is.
#[allow(clippy::cast_sign_loss)] // Checked before.
fn watermark_slots(watermark: f64, num_blocks: u32) -> PyResult<u32> {
    if !(0.0..1.0).contains(&watermark) {
        let message = format!("watermark is {watermark}, it must be from 0 to below 1");
        return Err(PyValueError::new_err(message));
    }
    Ok((watermark * f64::from(num_blocks)) as u32)
}

#[pymethods]
impl VllmWorkload {
    #[new]
    #[pyo3(signature = (
        offsets, ids, unit, prompt_len, output_len, arrival_ns, block_size, *,
        salt=None, output_offsets=None, output_ids=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        offsets: PyReadonlyArray1<'_, u64>,
        ids: &Bound<'_, PyAny>,
        unit: i64,
        prompt_len: PyReadonlyArray1<'_, u32>,
        output_len: PyReadonlyArray1<'_, u32>,
        arrival_ns: PyReadonlyArray1<'_, u64>,
        block_size: i64,
        salt: Option<PyReadonlyArray1<'_, u32>>,
        output_offsets: Option<PyReadonlyArray1<'_, u64>>,
        output_ids: Option<PyReadonlyArray1<'_, u32>>,
    ) -> PyResult<Self> {
        let block_size = positive("block_size", block_size)?;
        let tokens = ids.extract::<PyReadonlyArray1<'_, u32>>().ok();
        let hashes = ids.extract::<PyReadonlyArray1<'_, u64>>().ok();
        let ids = match (&tokens, &hashes) {
            (Some(tokens), _) => Ids::Tokens(tokens.as_slice()?),
            (_, Some(hashes)) => Ids::Hashes(hashes.as_slice()?, positive("unit", unit)?),
            _ => {
                return Err(PyValueError::new_err(
                    "ids: give an array of uint32 or uint64",
                ));
            }
        };
        let outputs = match (&output_offsets, &output_ids) {
            (Some(offsets), Some(ids)) => Some((offsets.as_slice()?, ids.as_slice()?)),
            _ => None,
        };
        let salt = salt.as_ref().map(|salt| salt.as_slice()).transpose()?;
        let prompts = Prompts {
            offsets: offsets.as_slice()?,
            ids,
            prompt_len: prompt_len.as_slice()?,
            salt,
            outputs,
        };
        let (output_len, arrival_ns) = (output_len.as_slice()?, arrival_ns.as_slice()?);
        let workload = interruptible(py, |stop| {
            Workload::compile(&prompts, output_len, arrival_ns, block_size, stop)
        })?;
        Ok(Self(workload))
    }

    fn __len__(&self) -> usize {
        self.0.requests().len()
    }

    /// Number of distinct full blocks, outputs included.
    #[getter]
    fn unique_blocks(&self) -> u32 {
        self.0.num_keys()
    }

    /// First request, and position in it, of each block.
    fn origins<'py>(&self, py: Python<'py>) -> Origins<'py> {
        let origins = self.0.origins();
        (
            origins.request.into_pyarray(py),
            origins.position.into_pyarray(py),
        )
    }

    /// Run the engine; see `prefixsim.engines.vllm` for the settings.
    #[pyo3(signature = (
        *, num_blocks, enable_caching, max_model_len, watermark, sliding_window,
        retention_interval, uncached_first, max_num_seqs, max_num_batched_tokens,
        enable_chunked_prefill, long_prefill_token_threshold,
        long_prefill_token_threshold_adaptive, reserve_full_isl, stats_at_lookup, arrivals,
        in_flight, latency, record_steps=false, record_events=false, record_tables=false,
        validate=false
    ))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // The server's switches.
    fn simulate<'py>(
        &self,
        py: Python<'py>,
        num_blocks: i64,
        enable_caching: bool,
        max_model_len: Option<i64>,
        watermark: f64,
        sliding_window: Option<i64>,
        retention_interval: Option<i64>,
        uncached_first: bool,
        max_num_seqs: i64,
        max_num_batched_tokens: i64,
        enable_chunked_prefill: bool,
        long_prefill_token_threshold: u64,
        long_prefill_token_threshold_adaptive: bool,
        reserve_full_isl: bool,
        stats_at_lookup: bool,
        arrivals: &str,
        in_flight: i64,
        latency: LatencySettings,
        record_steps: bool,
        record_events: bool,
        record_tables: bool,
        validate: bool,
    ) -> PyResult<Run<'py>> {
        let num_blocks = num_slots(num_blocks)?;
        let batched = u64::try_from(max_num_batched_tokens)
            .map_err(|_| PyValueError::new_err("max_num_batched_tokens is negative"))?;
        let watermark_slots = watermark_slots(watermark, num_blocks)?;
        let mut manager = ManagerConfig::new(self.0.block_size());
        manager.enable_caching = enable_caching;
        if let Some(length) = max_model_len {
            manager.max_model_len = positive("max_model_len", length)?;
        }
        manager.watermark_slots = watermark_slots;
        let batch_bound = batched.min(u64::from(u32::MAX)).cast_signed();
        manager.sliding_window = window(sliding_window, retention_interval, Some(batch_bound))?;
        manager.uncached_first = uncached_first;
        let config = SimulationConfig {
            num_blocks,
            manager,
            arrivals: arrivals_argument(arrivals, in_flight)?,
            scheduler: SchedulerConfig {
                max_num_seqs: positive("max_num_seqs", max_num_seqs)?,
                max_num_batched_tokens: batched,
                enable_chunked_prefill,
                long_prefill_token_threshold,
                long_prefill_token_threshold_adaptive,
                reserve_full_isl,
                stats_at_lookup,
            },
            latency: latency.into(),
            recording: Recording {
                steps: record_steps,
                events: record_events,
                tables: record_tables,
                validate,
            },
        };
        let simulation = interruptible(py, |stop| simulate(&self.0, &config, stop))?;
        Ok(Run::new(py, simulation))
    }
}
