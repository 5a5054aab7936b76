//! The SGLang engine.

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::{Ids, positive};
use super::arrivals::ArrivalSetting;
use super::forest::Columns as TraceColumns;
use super::interrupt::interruptible;
use super::latency::LatencySettings;
use super::served_fleet::{ServedFleet, served};
use super::sglang_results::to_dict;
use super::sglang_settings::{capacity_argument, policy};
use crate::engine::sglang::{
    CacheConfig, Columns, Drive, HiCacheConfig, Overlap, Recording, SchedulePolicy,
    SchedulerConfig, SimulationConfig, Version, Workload, WritePolicy, run_hicache, simulate,
};
use crate::fleet::SglangReplica;
use crate::forest::Forest;
use crate::trace::Csr;

/// A trace compiled for the SGLang engine.
///
/// `ids` are tokens (uint32) or hash ids (uint64) of `unit` tokens each; outputs that are not given
/// are taken to be unlike any others. `arrival_ns` in nanoseconds, ascending; `salt` numbers the
/// namespaces; `id_rank` orders the requests by id, where that decides.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct SglangWorkload(Workload);

/// Who decides when requests run, from Python.
fn drive(
    py: Python<'_>,
    arrivals: &ArrivalSetting,
    in_flight: i64,
    with_output: bool,
) -> PyResult<Drive> {
    if let Some(scheduled) = arrivals.read(py, in_flight)? {
        return Ok(Drive::Scheduled(scheduled));
    }
    let in_flight = || positive("in_flight", in_flight);
    let overlap = match arrivals.name() {
        "sequential" => Overlap::Sequential,
        "concurrent" => Overlap::Concurrent(in_flight()?),
        "batch" => Overlap::Batch(in_flight()?),
        _ => {
            let choices = "trace, start, closed, sequential, concurrent or batch";
            return Err(arrivals.unknown(choices));
        }
    };
    Ok(Drive::Unscheduled {
        overlap,
        with_output,
    })
}

#[pymethods]
impl SglangWorkload {
    #[new]
    #[pyo3(signature = (
        offsets, ids, unit, prompt_len, output_len, arrival_ns, *, salt=None, session=None,
        output_offsets=None, output_ids=None, priority=None, id_rank=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        offsets: PyReadonlyArray1<'_, u64>,
        ids: Ids<'_>,
        unit: i64,
        prompt_len: PyReadonlyArray1<'_, u32>,
        output_len: PyReadonlyArray1<'_, u32>,
        arrival_ns: PyReadonlyArray1<'_, u64>,
        salt: Option<PyReadonlyArray1<'_, u32>>,
        session: Option<PyReadonlyArray1<'_, u32>>,
        output_offsets: Option<PyReadonlyArray1<'_, u64>>,
        output_ids: Option<PyReadonlyArray1<'_, u32>>,
        priority: Option<PyReadonlyArray1<'_, i32>>,
        id_rank: Option<PyReadonlyArray1<'_, u32>>,
    ) -> PyResult<Self> {
        let columns = TraceColumns {
            offsets: offsets.as_slice()?,
            tokens_per_id: positive("unit", unit)?,
            prompt_len: prompt_len.as_slice()?,
            partial_blocks: unit > 1,
            salt: salt.as_ref().map(|column| column.as_slice()).transpose()?,
            session: session
                .as_ref()
                .map(|column| column.as_slice())
                .transpose()?,
        };
        let forest = match &ids {
            Ids::Tokens(tokens) => {
                let mut trace = columns.trace(tokens.as_slice()?)?;
                if let (Some(offsets), Some(ids)) = (&output_offsets, &output_ids) {
                    trace = trace.outputs(Csr::new(offsets.as_slice()?, ids.as_slice()?)?)?;
                }
                let trace = trace.keep_last_output_token();
                interruptible(py, |stop| Forest::compile(&trace, stop))?
            }
            Ids::Hashes(hashes) => {
                let trace = columns.trace(hashes.as_slice()?)?;
                interruptible(py, |stop| Forest::compile(&trace, stop))?
            }
        };
        let columns = Columns {
            prompt_len: prompt_len.as_slice()?,
            output_len: output_len.as_slice()?,
            arrival_ns: arrival_ns.as_slice()?,
            priority: priority
                .as_ref()
                .map(|column| column.as_slice())
                .transpose()?,
            id_rank: id_rank
                .as_ref()
                .map(|column| column.as_slice())
                .transpose()?,
        };
        Ok(Self(py.detach(|| Workload::new(&forest, &columns))?))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Run the engine, or many where `fleet` is given; see `prefixsim.engines.sglang` for the settings.
    #[pyo3(signature = (
        *, version, page_size, capacity_tokens, enable_caching, policy, protected_threshold,
        threshold, next_prompt_estimate, schedule_policy, overlap, chunked_prefill_size, max_prefill_tokens,
        max_running_requests, req_pool_size, schedule_conservativeness, max_new_slack,
        preemption_threshold, arrivals, in_flight, with_output, latency, record_steps=false,
        record_evictions=false, record_tree=false, validate=false, fleet=None
    ))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // The server's switches.
    fn simulate<'py>(
        &self,
        py: Python<'py>,
        version: &str,
        page_size: i64,
        capacity_tokens: Option<i64>,
        enable_caching: bool,
        policy: &str,
        protected_threshold: u32,
        threshold: i64,
        next_prompt_estimate: i64,
        schedule_policy: &str,
        overlap: bool,
        chunked_prefill_size: Option<i64>,
        max_prefill_tokens: i64,
        max_running_requests: i64,
        req_pool_size: i64,
        schedule_conservativeness: f64,
        max_new_slack: u32,
        preemption_threshold: Option<i64>,
        arrivals: ArrivalSetting,
        in_flight: i64,
        with_output: bool,
        latency: LatencySettings,
        record_steps: bool,
        record_evictions: bool,
        record_tree: bool,
        validate: bool,
        fleet: Option<ServedFleet<'py>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let chunk = chunked_prefill_size.map(|size| positive("chunked_prefill_size", size));
        let config = SimulationConfig {
            cache: CacheConfig {
                version: Version::from_name(version)?,
                page_size: positive("page_size", page_size)?,
                capacity_tokens: capacity_argument(capacity_tokens)?,
                policy: self::policy(policy, protected_threshold, threshold, next_prompt_estimate)?,
                disabled: !enable_caching,
            },
            scheduler: SchedulerConfig {
                schedule_policy: SchedulePolicy::from_name(schedule_policy)?,
                overlap,
                chunked_prefill_size: chunk.transpose()?,
                max_prefill_tokens: positive("max_prefill_tokens", max_prefill_tokens)?,
                max_running_requests: positive("max_running_requests", max_running_requests)?,
                req_pool_size: positive("req_pool_size", req_pool_size)?,
                schedule_conservativeness,
                max_new_slack,
                preemption_threshold,
            },
            drive: drive(py, &arrivals, in_flight, with_output)?,
            latency: latency.into(),
            recording: Recording {
                steps: record_steps,
                evictions: record_evictions,
                tree: record_tree,
                validate,
            },
        };
        if let Some(fleet) = fleet {
            return served(py, &fleet, self.0.requests(), |count, delay| {
                let made = (0..count).map(|_| SglangReplica::new(&self.0, &config, delay));
                made.collect()
            });
        }
        let simulation = interruptible(py, |stop| simulate(&self.0, &config, stop))?;
        to_dict(py, simulation)
    }

    /// Run the cache of two tiers, one request after the other; see `prefixsim.engines.sglang`.
    #[pyo3(signature = (
        *, version, page_size, capacity_tokens, host_tokens, policy, protected_threshold,
        threshold, next_prompt_estimate, write_policy, with_output, validate=false
    ))]
    #[allow(clippy::too_many_arguments)]
    fn hicache<'py>(
        &self,
        py: Python<'py>,
        version: &str,
        page_size: i64,
        capacity_tokens: i64,
        host_tokens: i64,
        policy: &str,
        protected_threshold: u32,
        threshold: i64,
        next_prompt_estimate: i64,
        write_policy: &str,
        with_output: bool,
        validate: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let config = HiCacheConfig {
            version: Version::from_name(version)?,
            page_size: positive("page_size", page_size)?,
            capacity_tokens: u64::from(positive("capacity_tokens", capacity_tokens)?),
            host_tokens: u64::from(positive("host_tokens", host_tokens)?),
            policy: self::policy(policy, protected_threshold, threshold, next_prompt_estimate)?,
            write_policy: WritePolicy::from_name(write_policy)?,
        };
        let log = interruptible(py, |stop| {
            run_hicache(&self.0, &config, with_output, validate, stop)
        })?;
        let result = PyDict::new(py);
        for (name, column) in [
            ("device_tokens", log.device_tokens),
            ("host_tokens", log.host_tokens),
            ("loaded_tokens", log.loaded_tokens),
        ] {
            result.set_item(name, column.into_pyarray(py))?;
        }
        for (name, column) in [
            ("requested", log.requested),
            ("freed", log.freed),
            ("call_ends", log.call_ends),
        ] {
            result.set_item(name, column.into_pyarray(py))?;
        }
        let (totals, sums) = (PyDict::new(py), log.totals);
        for (name, value) in [
            ("written", sums.written),
            ("loaded", sums.loaded),
            ("host_evicted", sums.host_evicted),
            ("free_end", sums.free_end),
            ("evictable_end", sums.evictable_end),
            ("host_free_end", sums.host_free_end),
        ] {
            totals.set_item(name, value)?;
        }
        result.set_item("totals", totals)?;
        Ok(result)
    }
}
