//! The vLLM engine.

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::block_manager::{num_blocks_argument, window};
use super::hash::positive;
use super::interrupt::interruptible;
use crate::engine::vllm::replay::{Ids, Prompts};
use crate::engine::vllm::{
    ManagerConfig, Recording, SchedulerConfig, Simulation, SimulationConfig, Workload, simulate,
};
use crate::serving::{Arrivals, CacheStats, Latency, Linear};

/// A trace compiled for the vLLM engine: every full block as a number, derived once.
///
/// `ids` are tokens (uint32) or hash ids (uint64) of `unit` tokens each; outputs that are not given
/// are taken to be unlike any others. `arrival_ns` in nanoseconds, ascending.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct VllmWorkload(Workload);

/// A table of settings whose keys are all required.
#[allow(clippy::struct_excessive_bools)] // They are the server's switches.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Settings {
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
    arrivals: String,
    in_flight: i64,
    latency: LatencySettings,
    record_steps: bool,
    record_events: bool,
    record_tables: bool,
    validate: bool,
}

/// Nanoseconds; coefficients in the order of `Linear`.
#[derive(FromPyObject)]
enum LatencySettings {
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

impl Settings {
    fn config(self, block_size: u32) -> PyResult<SimulationConfig> {
        let Some(num_blocks) = num_blocks_argument(Some(self.num_blocks))? else {
            unreachable!("a number of blocks was given");
        };
        let batched = u64::try_from(self.max_num_batched_tokens)
            .map_err(|_| PyValueError::new_err("max_num_batched_tokens is negative"))?;
        if !(0.0..1.0).contains(&self.watermark) {
            let message = format!(
                "watermark is {}, it must be from 0 to below 1",
                self.watermark
            );
            return Err(PyValueError::new_err(message));
        }
        let mut manager = ManagerConfig::new(block_size);
        manager.enable_caching = self.enable_caching;
        if let Some(length) = self.max_model_len {
            manager.max_model_len = positive("max_model_len", length)?;
        }
        #[allow(clippy::cast_sign_loss)]
        {
            manager.watermark_slots = (self.watermark * f64::from(num_blocks)) as u32;
        }
        let batch_bound = batched.min(u64::from(u32::MAX)).cast_signed();
        manager.sliding_window = window(
            self.sliding_window,
            self.retention_interval,
            Some(batch_bound),
        )?;
        manager.uncached_first = self.uncached_first;
        let arrivals = match self.arrivals.as_str() {
            "trace" => Arrivals::Trace,
            "start" => Arrivals::Start,
            "closed" => Arrivals::Closed(positive("in_flight", self.in_flight)?),
            "sequential" => Arrivals::Sequential,
            other => {
                let message =
                    format!("arrivals {other:?}: choose trace, start, closed or sequential");
                return Err(PyValueError::new_err(message));
            }
        };
        Ok(SimulationConfig {
            num_blocks,
            manager,
            scheduler: SchedulerConfig {
                max_num_seqs: positive("max_num_seqs", self.max_num_seqs)?,
                max_num_batched_tokens: batched,
                enable_chunked_prefill: self.enable_chunked_prefill,
                long_prefill_token_threshold: self.long_prefill_token_threshold,
                long_prefill_token_threshold_adaptive: self.long_prefill_token_threshold_adaptive,
                reserve_full_isl: self.reserve_full_isl,
                stats_at_lookup: self.stats_at_lookup,
            },
            arrivals,
            latency: match self.latency {
                LatencySettings::Fixed(ns) => Latency::Fixed(ns),
                LatencySettings::Linear(c) => Latency::Linear(linear(c)),
                LatencySettings::Roofline(overhead, compute, memory) => Latency::Roofline {
                    overhead,
                    compute: linear(compute),
                    memory: linear(memory),
                },
            },
            recording: Recording {
                steps: self.record_steps,
                events: self.record_events,
                tables: self.record_tables,
                validate: self.validate,
            },
        })
    }
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
    fn origins<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let origins = self.0.origins();
        let pair = (
            origins.request.into_pyarray(py),
            origins.position.into_pyarray(py),
        );
        Ok(pair.into_pyobject(py)?.into_any())
    }

    /// Run the engine. `settings` needs every key; see `prefixsim.engines.vllm`.
    fn simulate<'py>(
        &self,
        py: Python<'py>,
        settings: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let settings: Settings = settings.extract()?;
        let config = settings.config(self.0.block_size())?;
        let simulation = interruptible(py, |stop| simulate(&self.0, &config, stop))?;
        to_dict(py, simulation)
    }
}

fn to_dict(py: Python<'_>, simulation: Simulation) -> PyResult<Bound<'_, PyDict>> {
    let Simulation {
        requests: r,
        server,
    } = simulation;
    let (s, e, totals) = (server.steps, server.events, server.totals);
    let stats = |s: CacheStats| [s.requests, s.queries, s.hits];
    let resumes: Vec<(u32, u64, u32)> = server
        .readmissions
        .iter()
        .map(|again| (again.request, again.step, again.hit_tokens))
        .collect();
    let requests = PyDict::new(py);
    requests.set_item("hit_tokens", r.hit_tokens.into_pyarray(py))?;
    requests.set_item("computed_tokens", r.computed_tokens.into_pyarray(py))?;
    requests.set_item("scheduled_tokens", r.scheduled_tokens.into_pyarray(py))?;
    requests.set_item("admit_step", r.admit_step.into_pyarray(py))?;
    requests.set_item("first_token_step", r.first_token_step.into_pyarray(py))?;
    requests.set_item("finish_step", r.finish_step.into_pyarray(py))?;
    requests.set_item("arrival_ns", r.arrival_ns.into_pyarray(py))?;
    requests.set_item("admit_ns", r.admit_ns.into_pyarray(py))?;
    requests.set_item("first_token_ns", r.first_token_ns.into_pyarray(py))?;
    requests.set_item("finish_ns", r.finish_ns.into_pyarray(py))?;
    requests.set_item("preemptions", r.preemptions.into_pyarray(py))?;
    requests.set_item("num_blocks", r.num_blocks.into_pyarray(py))?;
    let steps = PyDict::new(py);
    steps.set_item("clock_ns", s.clock_ns.into_pyarray(py))?;
    steps.set_item("requests", s.requests.into_pyarray(py))?;
    steps.set_item("tokens", s.tokens.into_pyarray(py))?;
    steps.set_item("running", s.running.into_pyarray(py))?;
    steps.set_item("waiting", s.waiting.into_pyarray(py))?;
    steps.set_item("free", s.free.into_pyarray(py))?;
    let events = PyDict::new(py);
    events.set_item("step", e.step.into_pyarray(py))?;
    events.set_item("stored", e.stored.into_pyarray(py))?;
    events.set_item("subject", e.subject.into_pyarray(py))?;
    events.set_item("offsets", e.offsets.into_pyarray(py))?;
    events.set_item("keys", e.keys.into_pyarray(py))?;
    events.set_item("blocks", e.blocks.into_pyarray(py))?;
    let sums = PyDict::new(py);
    sums.set_item("steps", totals.steps)?;
    sums.set_item("final_clock_ns", totals.final_clock_ns)?;
    sums.set_item("stats", stats(totals.stats))?;
    sums.set_item("stats_preempted", stats(totals.stats_preempted))?;
    sums.set_item("preemptions", totals.preemptions)?;
    sums.set_item("evictions", totals.evictions)?;
    sums.set_item("scheduled_tokens", totals.scheduled_tokens)?;
    sums.set_item("peak_used", totals.peak_used)?;
    sums.set_item("used_steps", totals.used_steps)?;
    sums.set_item("used_ns", totals.used_ns)?;
    sums.set_item("busy_ns", totals.busy_ns)?;
    sums.set_item("cached_end", totals.cached_end)?;
    let dict = PyDict::new(py);
    dict.set_item("requests", requests)?;
    dict.set_item("resumes", resumes)?;
    dict.set_item("finish_order", server.finish_order.into_pyarray(py))?;
    dict.set_item("tables", server.tables.into_pyarray(py))?;
    dict.set_item("steps", steps)?;
    dict.set_item("events", events)?;
    dict.set_item("totals", sums)?;
    dict.set_item("free_queue", server.free_queue.into_pyarray(py))?;
    Ok(dict)
}
