//! What a run of the vLLM engine with offloading takes and gives: dictionaries, typed in `_core.pyi`.

use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arguments::positive;
use crate::engine::vllm::offload::{
    DiskConfig, DiskLookup, EvictionPolicy, HostTierConfig, OffloadConfig, OffloadLog,
};

type Column<'py, T> = Bound<'py, PyArray1<T>>;

/// As `prefixsim.engines.vllm.offload` gives them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct OffloadSettings {
    num_chunks: i64,
    blocks_per_chunk: i64,
    eviction_policy: String,
    store_threshold: u32,
    max_tracker_size: i64,
    prompt_only: bool,
    sync_load_tokens: u64,
    load_ns: u64,
    store_ns: u64,
    start_after_step: bool,
    disk: bool,
    disk_read_ns: u64,
    disk_write_ns: u64,
    disk_lookup: String,
}

impl OffloadSettings {
    /// The settings, checked.
    pub fn config(&self) -> PyResult<OffloadConfig> {
        let lookup = match self.disk_lookup.as_str() {
            "sync" => DiskLookup::Sync,
            "next_step" => DiskLookup::NextStep,
            other => {
                let message = format!("disk_lookup {other:?}: choose sync or next_step");
                return Err(PyValueError::new_err(message));
            }
        };
        let disk = DiskConfig {
            read_ns: self.disk_read_ns,
            write_ns: self.disk_write_ns,
            lookup,
        };
        Ok(OffloadConfig {
            host: HostTierConfig {
                chunks: positive("num_chunks", self.num_chunks)?,
                policy: EvictionPolicy::from_name(&self.eviction_policy)?,
                store_threshold: self.store_threshold,
                max_tracker_size: positive("max_tracker_size", self.max_tracker_size)?,
            },
            blocks_per_chunk: positive("blocks_per_chunk", self.blocks_per_chunk)?,
            prompt_only: self.prompt_only,
            sync_load_tokens: self.sync_load_tokens,
            load_ns: self.load_ns,
            store_ns: self.store_ns,
            start_after_step: self.start_after_step,
            disk: self.disk.then_some(disk),
        })
    }
}

/// Declares a dictionary of columns, made of records of the core with the same names.
macro_rules! columns {
    ($name:ident { $($field:ident: $value:ty = $source:expr),* $(,)? } of $log:ident) => {
        #[derive(IntoPyObject)]
        pub struct $name<'py> {
            $($field: Column<'py, $value>,)*
        }

        impl<'py> $name<'py> {
            fn new(py: Python<'py>, $log: &mut OffloadLog) -> Self {
                Self {
                    $($field: std::mem::take(&mut $source).into_pyarray(py),)*
                }
            }
        }
    };
}

columns! {
    Columns {
        device_hits: u32 = log.device_hits,
        host_hits: u32 = log.host_hits,
        disk_hits: u32 = log.disk_hits,
        loaded_chunks: u32 = log.loaded_chunks,
        stored_chunks: u32 = log.stored_chunks,
        lookup_request: u32 = log.lookups.request,
        lookup_step: u64 = log.lookups.step,
        lookup_device: u32 = log.lookups.device,
        lookup_host: u32 = log.lookups.host,
        fate_request: u32 = log.fates.request,
        fate_first: u32 = log.fates.first,
        fate_end: u32 = log.fates.end,
        fate: u8 = log.fates.fate,
        transfer_step: u64 = log.transfers.step,
        transfer_kind: u8 = log.transfers.kind,
        transfer_request: u32 = log.transfers.request,
        transfer_chunks: u32 = log.transfers.chunks,
        transfer_evicted: u32 = log.transfers.evicted,
        holding: u32 = log.steps.holding,
        loaded: u32 = log.steps.loaded,
        stored: u32 = log.steps.stored,
        flushed: u32 = log.steps.flushed,
        evicted_step: u64 = log.evicted_step,
        evicted: u32 = log.evicted,
    } of log
}

/// Sums.
#[derive(IntoPyObject)]
pub struct Sums {
    load_jobs: u64,
    chunks_loaded: u64,
    store_jobs: u64,
    chunks_stored: u64,
    stores_refused: u64,
    flushed_jobs: u64,
    host_evictions: u64,
    chunks_promoted: u64,
    promotions_refused: u64,
    chunks_cascaded: u64,
}

/// All of it.
#[derive(IntoPyObject)]
pub struct OffloadRun<'py> {
    columns: Columns<'py>,
    end: Vec<Column<'py, u32>>,
    target: f64,
    totals: Sums,
}

impl<'py> OffloadRun<'py> {
    /// Moves the columns to Python.
    pub fn new(py: Python<'py>, mut log: OffloadLog) -> Self {
        let end = std::mem::take(&mut log.end).into_iter();
        let totals = log.totals;
        Self {
            end: end.map(|keys| keys.into_pyarray(py)).collect(),
            target: log.target,
            columns: Columns::new(py, &mut log),
            totals: Sums {
                load_jobs: totals.load_jobs,
                chunks_loaded: totals.chunks_loaded,
                store_jobs: totals.store_jobs,
                chunks_stored: totals.chunks_stored,
                stores_refused: totals.stores_refused,
                flushed_jobs: totals.flushed_jobs,
                host_evictions: totals.host_evictions,
                chunks_promoted: totals.chunks_promoted,
                promotions_refused: totals.promotions_refused,
                chunks_cascaded: totals.chunks_cascaded,
            },
        }
    }
}
