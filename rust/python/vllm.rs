//! The vLLM engine.

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::{Ids, num_slots, positive, prompts};
use super::interrupt::interruptible;
use super::served_fleet::{ServedFleet, served};
use super::vllm_offload::{OffloadRun, OffloadSettings};
use super::vllm_results::{Origins, Run};
use super::vllm_settings::simulation_config;
use crate::engine::vllm::offload::simulate_offload;
use crate::engine::vllm::{CacheConfig, Room, Workload, simulate};
use crate::fleet::{GroupedReplica, VllmReplica};

/// A trace compiled for the vLLM engine: every full block as a number, derived once.
///
/// `ids` are tokens (uint32) or hash ids (uint64) of `unit` tokens each; outputs that are not given
/// are taken to be unlike any others. With `lookahead` blocks also cover the next token. `arrival_ns` in nanoseconds, ascending. Requests that do not fit
/// `num_blocks` and `max_model_len` are refused before any block is named.
#[pyclass(frozen, module = "prefixsim._core")]
pub struct VllmWorkload(Workload);

impl VllmWorkload {
    /// The compiled trace.
    pub fn core(&self) -> &Workload {
        &self.0
    }
}

#[pymethods]
impl VllmWorkload {
    #[new]
    #[pyo3(signature = (
        offsets, ids, unit, prompt_len, output_len, arrival_ns, block_size, *,
        salt=None, output_offsets=None, output_ids=None, num_blocks=None, max_model_len=None,
        lookahead=false
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
        block_size: i64,
        salt: Option<PyReadonlyArray1<'_, u32>>,
        output_offsets: Option<PyReadonlyArray1<'_, u64>>,
        output_ids: Option<PyReadonlyArray1<'_, u32>>,
        num_blocks: Option<i64>,
        max_model_len: Option<i64>,
        lookahead: bool,
    ) -> PyResult<Self> {
        let block_size = positive("block_size", block_size)?;
        let mut room = Room::UNBOUNDED;
        room.num_blocks = num_blocks.map(num_slots).transpose()?;
        if let Some(length) = max_model_len {
            room.max_model_len = positive("max_model_len", length)?;
        }
        let prompts = prompts(
            &offsets,
            &ids,
            unit,
            &prompt_len,
            salt.as_ref(),
            output_offsets.as_ref(),
            output_ids.as_ref(),
        )?;
        let (output_len, arrival_ns) = (output_len.as_slice()?, arrival_ns.as_slice()?);
        let workload = interruptible(py, |stop| {
            let compile = if lookahead {
                Workload::compile_with_lookahead
            } else {
                Workload::compile
            };
            compile(&prompts, output_len, arrival_ns, block_size, room, stop)
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

    /// Run the engine; see `prefixsim.engines.vllm` for the settings, all of which have to be given.
    #[pyo3(signature = (**settings))]
    fn simulate<'py>(
        &self,
        py: Python<'py>,
        settings: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Run<'py>> {
        let config = simulation_config(settings, self.0.block_size())?;
        let simulation = interruptible(py, |stop| simulate(&self.0, &config, stop))?;
        Ok(Run::new(py, simulation))
    }

    /// Serve with many engines of the same settings, where a router sends each request.
    fn serve_fleet<'py>(
        &self,
        py: Python<'py>,
        fleet: ServedFleet<'py>,
        settings: Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let config = simulation_config(Some(&settings), self.0.block_size())?;
        let requests = self.0.requests();
        match config.cache {
            CacheConfig::One(_) => served(py, &fleet, requests, |count, delay| {
                let made = (0..count).map(|_| VllmReplica::new(&self.0, &config, delay));
                made.collect()
            }),
            CacheConfig::Groups(_) => served(py, &fleet, requests, |count, delay| {
                let made = (0..count).map(|_| GroupedReplica::new(&self.0, &config, delay));
                made.collect()
            }),
        }
    }

    /// Run the engine with a connector to host memory; see `prefixsim.engines.vllm.offload`.
    fn simulate_offload<'py>(
        &self,
        py: Python<'py>,
        settings: &Bound<'py, PyDict>,
        offload: OffloadSettings,
    ) -> PyResult<(Run<'py>, OffloadRun<'py>)> {
        let config = simulation_config(Some(settings), self.0.block_size())?;
        let offload = offload.config()?;
        let (simulation, log) = interruptible(py, |stop| {
            simulate_offload(&self.0, &config, &offload, stop)
        })?;
        Ok((Run::new(py, simulation), OffloadRun::new(py, log)))
    }
}
