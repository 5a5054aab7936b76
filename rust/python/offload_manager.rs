//! `OffloadManager`.

use std::collections::{HashMap, HashSet};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::positive;
use super::request_id::RequestId;
use crate::engine::vllm::offload::{Context, EvictionPolicy, HostTier, HostTierConfig, Presence};

/// Keys to store, their slots, and the keys that were evicted for them.
type Stored = (Vec<u64>, Vec<u32>, Vec<u64>);

/// vLLM's KV offload manager: which chunks are in host memory, one call at a time.
///
/// A chunk is one or several blocks of the device, and goes by a number. Copies between the tiers are
/// prepared, which reserves room or holds the chunks, and completed when they are done.
///
/// Parameters
/// ----------
/// num_chunks : int
///     Chunks it has room for.
/// eviction_policy : {"lru", "arc"}
///     Which chunks go first; never those that are being copied.
/// store_threshold : int
///     How often a chunk has to be offered before it is stored; below 2: it is stored at once.
/// max_tracker_size : int
///     Chunks whose offers are counted at most.
///
/// Notes
/// -----
/// Source of the rules: vLLM 0.33.0, ``vllm/v1/kv_offload/cpu/manager.py``, its policies ``lru.py`` and
/// ``arc.py``, and ``vllm/v1/kv_offload/reuse_manager.py``.
///
/// Examples
/// --------
/// >>> tier = OffloadManager(2)
/// >>> tier.add_request("a", [10, 11], positions=[16, 32])
/// >>> tier.prepare_store("a", [10, 11])
/// ([10, 11], [0, 1], [])
/// >>> tier.lookup(10)
/// 'pending'
/// >>> tier.complete_store([10, 11])
/// >>> tier.lookup(10), tier.lookup(12)
/// ('hit', 'miss')
#[pyclass(name = "OffloadManager", module = "prefixsim._core")]
pub struct PyOffloadManager {
    tier: HostTier<u64>,
    contexts: HashMap<RequestId, Context<u64>>,
}

fn unknown(id: &RequestId) -> PyErr {
    PyValueError::new_err(format!("request {id}: it is not known, add it first"))
}

/// Refuses a list that has a key twice.
fn distinct(keys: &[u64]) -> PyResult<()> {
    let mut met = HashSet::new();
    match keys.iter().find(|&key| !met.insert(key)) {
        Some(key) => Err(PyValueError::new_err(format!(
            "keys: {key} is there twice, give each chunk once"
        ))),
        None => Ok(()),
    }
}

#[pymethods]
impl PyOffloadManager {
    #[new]
    #[pyo3(signature = (
        num_chunks, *, eviction_policy="lru", store_threshold=0, max_tracker_size=64_000
    ))]
    fn new(
        num_chunks: i64,
        eviction_policy: &str,
        store_threshold: u32,
        max_tracker_size: i64,
    ) -> PyResult<Self> {
        let config = HostTierConfig {
            chunks: positive("num_chunks", num_chunks)?,
            policy: EvictionPolicy::from_name(eviction_policy)?,
            store_threshold,
            max_tracker_size: positive("max_tracker_size", max_tracker_size)?,
        };
        Ok(Self {
            tier: HostTier::new(config),
            contexts: HashMap::new(),
        })
    }

    /// Number of chunks in the tier.
    fn __len__(&self) -> usize {
        self.tier.len()
    }

    fn __repr__(&self) -> String {
        format!(
            "<OffloadManager: {} of {} chunks>",
            self.tier.len(),
            self.tier.config().chunks
        )
    }

    /// Let a request begin.
    ///
    /// Parameters
    /// ----------
    /// request_id : str or int
    /// keys : sequence of int
    ///     Its chunks, in the order of its tokens.
    /// positions : sequence of int, optional
    ///     Tokens up to the end of each chunk, ascending. Without them its chunks are evicted in the
    ///     order in which they came in, not last to first.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If the request is there already, a key is given twice, or positions do not ascend.
    #[pyo3(signature = (request_id, keys, positions=None))]
    fn add_request(
        &mut self,
        request_id: RequestId,
        keys: Vec<u64>,
        positions: Option<Vec<u32>>,
    ) -> PyResult<()> {
        if self.contexts.contains_key(&request_id) {
            let message = format!("request {request_id}: it is there already");
            return Err(PyValueError::new_err(message));
        }
        distinct(&keys)?;
        let mut context = Context::new();
        if let Some(positions) = positions {
            let ascend = positions.windows(2).all(|pair| pair[0] < pair[1]);
            if positions.len() != keys.len() || !ascend {
                return Err(PyValueError::new_err(
                    "positions: give one for each key, ascending",
                ));
            }
            for (key, position) in keys.into_iter().zip(positions) {
                context.know(key, position);
            }
        }
        self.contexts.insert(request_id, context);
        Ok(())
    }

    /// Return ``"hit"``, ``"miss"``, or ``"pending"``: being written, and not readable yet.
    fn lookup(&self, key: u64) -> &'static str {
        match self.tier.lookup(&key) {
            Presence::Hit => "hit",
            Presence::Miss => "miss",
            Presence::Pending => "pending",
        }
    }

    /// Hold chunks that are to be read; return their slots.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If the request is not known, or a chunk is not there.
    fn prepare_load(&mut self, request_id: RequestId, keys: Vec<u64>) -> PyResult<Vec<u32>> {
        distinct(&keys)?;
        let context = self.contexts.get_mut(&request_id);
        let context = context.ok_or_else(|| unknown(&request_id))?;
        Ok(self.tier.prepare_load(context, &keys)?)
    }

    /// Give back chunks that were read.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If nobody reads one of them.
    fn complete_load(&mut self, keys: Vec<u64>) -> PyResult<()> {
        Ok(self.tier.complete_load(&keys)?)
    }

    /// Offer chunks of a request.
    ///
    /// Returns
    /// -------
    /// tuple of three lists, or None
    ///     Keys to copy (those already there are left out), the slot of each, and the keys evicted for
    ///     them; ``None`` if the store is refused, as too many chunks are being copied.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If the request is not known, or a key is given twice.
    fn prepare_store(&mut self, request_id: RequestId, keys: Vec<u64>) -> PyResult<Option<Stored>> {
        distinct(&keys)?;
        let context = self.contexts.get_mut(&request_id);
        let context = context.ok_or_else(|| unknown(&request_id))?;
        let store = self.tier.prepare_store(context, &keys);
        Ok(store.map(|store| (store.keys, store.slots, store.evicted)))
    }

    /// End copies into the tier; with ``ok=False`` they failed, and the chunks are gone.
    #[pyo3(signature = (keys, *, ok=true))]
    fn complete_store(&mut self, keys: Vec<u64>, ok: bool) {
        self.tier.complete_store(&keys, ok);
    }

    /// Make chunks the most recently used ones, the first most of all.
    fn touch(&mut self, keys: Vec<u64>) {
        self.tier.touch(&keys);
    }

    /// Let a request end; copies it prepared may still be completed.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     If the request is not known.
    fn finish(&mut self, request_id: RequestId) -> PyResult<()> {
        let context = self.contexts.get_mut(&request_id);
        let context = context.ok_or_else(|| unknown(&request_id))?;
        self.tier.finish(context);
        Ok(())
    }

    /// Forget all chunks, and what requests did; how often chunks were offered is remembered.
    fn reset(&mut self) {
        self.tier.reset();
        for context in self.contexts.values_mut() {
            context.restart();
        }
    }

    /// Return the whole state.
    ///
    /// Returns
    /// -------
    /// dict
    ///     ``free``: slots that were used, the last one taken first; ``fresh``: slots never used;
    ///     ``evictable``, ``pending``: numbers of chunks. With LRU ``order``: rows of key, slot and count
    ///     (how often it is being read; -1: being written), the first to go first. With ARC ``t1``
    ///     and ``t2``: such rows, ``b1`` and ``b2``: keys, ``target_t1``. With a threshold ``counts``:
    ///     rows of key and count, oldest first.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tier = &self.tier;
        let row = |key: u64| {
            let chunk = tier.get(&key);
            let slot = chunk.map(|chunk| i64::from(chunk.slot));
            let readers = chunk.and_then(|chunk| chunk.readers);
            (key, slot.unwrap_or(-1), readers.map_or(-1, i64::from))
        };
        let rows = |keys: Vec<u64>| keys.into_iter().map(row).collect::<Vec<_>>();
        let state = PyDict::new(py);
        state.set_item("free", tier.free_slots())?;
        state.set_item("fresh", tier.fresh())?;
        state.set_item("evictable", tier.idle())?;
        state.set_item("pending", tier.pending())?;
        match tier.arc() {
            None => state.set_item("order", rows(tier.keys()))?,
            Some(arc) => {
                state.set_item("t1", rows(arc.t1))?;
                state.set_item("t2", rows(arc.t2))?;
                state.set_item("b1", arc.b1)?;
                state.set_item("b2", arc.b2)?;
                state.set_item("target_t1", arc.target_t1)?;
            }
        }
        if tier.config().store_threshold >= 2 {
            state.set_item("counts", tier.counts())?;
        }
        Ok(state)
    }

    /// Check every invariant.
    ///
    /// Raises
    /// ------
    /// RuntimeError
    ///     Naming the first one that does not hold.
    fn validate(&self) -> PyResult<()> {
        Ok(self.tier.validate()?)
    }
}
