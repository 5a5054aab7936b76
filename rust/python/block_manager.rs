//! `BlockManager`.

use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList};

use super::allocation::Allocation;
use super::any_block_manager::{AnyBlockManager, each};
use super::arguments::{chunk_argument, num_blocks_argument, positive, window};
use super::hash::{AnyChain, ExtraKeys, context};
use super::request_id::RequestId;
use super::tokens::Tokens;
use crate::engine::vllm::{Admission, ManagerConfig};
use crate::serving::{CacheUsage, KvCache};

/// vLLM 0.33's KV-cache manager, block for block, one call at a time.
///
/// A prompt is admitted with :meth:`allocate`, further chunks of it are computed with :meth:`extend`,
/// sampled tokens are added with :meth:`append`, and :meth:`free` ends the request. Its full blocks
/// stay cached until their slots are taken for something else.
///
/// Parameters
/// ----------
/// num_blocks : int or None
///     Slots of the cache, as in vLLM's ``num_gpu_blocks``: the null block 0 is one of them and never
///     used. ``None``: no limit, and nothing is ever evicted.
/// block_size : int
///     Tokens per block.
/// enable_caching : bool
///     ``False``: nothing is ever found.
/// hash_algorithm : {"xxh3", "sha256_cbor", "sha256", "xxhash_cbor", "xxhash"}
///     See :func:`prefixsim.hash_blocks`.
/// hash_seed : str, optional
///     The server's ``PYTHONHASHSEED``.
/// sliding_window : int, optional
///     Attention window in tokens. ``None``: full attention.
/// retention_interval : int, optional
///     Which blocks of a sliding-window model are cached: ``None`` all, 0 those at the end of the
///     prompt, else also those at the end of every so many tokens.
/// max_num_batched_tokens : int, optional
///     Bounds what a sliding-window request needs to be admitted.
/// max_model_len : int, optional
///     Tokens beyond which no slot is taken.
/// record_events : bool
///     Keep what :meth:`take_events` returns.
///
/// Examples
/// --------
/// >>> cache = BlockManager(num_blocks=100, block_size=4)
/// >>> cache.allocate("a", [1, 2, 3, 4, 5]).hit_tokens
/// 0
/// >>> cache.free("a")
/// >>> cache.allocate("b", [1, 2, 3, 4, 6]).hit_tokens
/// 4
#[pyclass(name = "BlockManager", module = "prefixsim._core")]
pub struct PyBlockManager {
    manager: AnyBlockManager,
    block_size: u32,
    bounded: bool,
}

impl PyBlockManager {
    fn cache_usage(&self) -> CacheUsage {
        each!(&self.manager, manager => manager.manager().usage())
    }

    /// The last `count` slots of a request's table.
    fn new_slots<'py>(
        &self,
        py: Python<'py>,
        id: &RequestId,
        count: Option<u32>,
    ) -> PyResult<Option<Bound<'py, PyArray1<u32>>>> {
        let Some(count) = count else {
            return Ok(None);
        };
        let table = each!(&self.manager, manager => manager.table(id))?;
        let start = table.len() - count as usize;
        Ok(Some(PyArray1::from_slice(py, &table[start..])))
    }
}

#[pymethods]
impl PyBlockManager {
    #[new]
    #[pyo3(signature = (
        num_blocks, block_size=16, enable_caching=true, *, hash_algorithm="xxh3", hash_seed=None,
        sliding_window=None, retention_interval=None, max_num_batched_tokens=None,
        max_model_len=None, record_events=false
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        num_blocks: Option<i64>,
        block_size: i64,
        enable_caching: bool,
        hash_algorithm: &str,
        hash_seed: Option<&str>,
        sliding_window: Option<i64>,
        retention_interval: Option<i64>,
        max_num_batched_tokens: Option<i64>,
        max_model_len: Option<i64>,
        record_events: bool,
    ) -> PyResult<Self> {
        let mut config = ManagerConfig::new(positive("block_size", block_size)?);
        config.enable_caching = enable_caching;
        config.sliding_window = window(sliding_window, retention_interval, max_num_batched_tokens)?;
        if let Some(length) = max_model_len {
            config.max_model_len = positive("max_model_len", length)?;
        }
        let num_blocks = num_blocks_argument(num_blocks)?;
        let block_size = config.block_size;
        let chain = AnyChain::new(hash_algorithm, hash_seed)?;
        let mut manager = AnyBlockManager::new(num_blocks, config, chain)?;
        if record_events {
            each!(&mut manager, manager => manager.record_events());
        }
        Ok(Self {
            manager,
            block_size,
            bounded: num_blocks.is_some(),
        })
    }

    /// Prompt tokens that :meth:`allocate` would find in the cache. Changes nothing.
    ///
    /// A multiple of the block size, and at most ``len(tokens) - 1``: the last token is always computed.
    #[pyo3(signature = (tokens, *, salt=None, lora=None, multimodal=None, extra_keys=None))]
    fn lookup(
        &mut self,
        tokens: Tokens<'_>,
        salt: Option<&str>,
        lora: Option<(String, String)>,
        multimodal: Option<Vec<(String, usize, usize)>>,
        extra_keys: Option<ExtraKeys>,
    ) -> PyResult<u32> {
        let context = context(salt, lora, multimodal, extra_keys)?;
        Ok(each!(&mut self.manager, manager => manager.lookup(&tokens.as_slice(), &context))?)
    }

    /// Admit a request: find its longest cached prefix and take slots for what follows.
    ///
    /// Parameters
    /// ----------
    /// request_id : str or int
    /// tokens : sequence of int
    ///     Token ids of the whole prompt; a uint32 array is not copied.
    /// num_tokens : int, optional
    ///     Size of the first chunk, not counting hits. Default: all that is not in the cache.
    /// must_fit : bool
    ///     Whether there has to be room for the whole prompt, or only for the chunk.
    /// salt : str, optional
    ///     Isolation key: equal tokens under different salts share nothing.
    /// lora : (str, str), optional
    ///     Name and path of the adapter.
    /// multimodal : list of (identifier, offset, length), optional
    ///     Images and the like, by ascending offset.
    /// extra_keys : list, optional
    ///     Extra hash keys per block, in place of the three above.
    ///
    /// Returns
    /// -------
    /// Allocation or None
    ///     ``None``: there is not enough room; nothing has changed.
    #[pyo3(signature = (
        request_id, tokens, num_tokens=None, *,
        must_fit=true, salt=None, lora=None, multimodal=None, extra_keys=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn allocate(
        &mut self,
        py: Python<'_>,
        request_id: RequestId,
        tokens: Tokens<'_>,
        num_tokens: Option<i64>,
        must_fit: bool,
        salt: Option<&str>,
        lora: Option<(String, String)>,
        multimodal: Option<Vec<(String, usize, usize)>>,
        extra_keys: Option<ExtraKeys>,
    ) -> PyResult<Option<Allocation>> {
        let context = context(salt, lora, multimodal, extra_keys)?;
        let chunk = chunk_argument(num_tokens)?;
        let tokens = tokens.as_slice();
        let id = request_id.clone();
        let admission = Admission { chunk, must_fit };
        let allocated = each!(&mut self.manager, manager => {
            manager.allocate(id, &tokens, &context, admission)
        })?;
        let Some(allocation) = allocated else {
            return Ok(None);
        };
        let slots = self.new_slots(py, &request_id, Some(allocation.new_slots))?;
        Ok(slots.map(|slots| Allocation {
            hit_tokens: allocation.hit_tokens,
            slots: slots.unbind(),
        }))
    }

    /// Take slots for the next chunk of a request's known tokens.
    ///
    /// ``num_tokens`` defaults to all that are not computed yet. Returns the slots newly taken, or
    /// ``None`` if there is not enough room.
    #[pyo3(signature = (request_id, num_tokens=None))]
    fn extend<'py>(
        &mut self,
        py: Python<'py>,
        request_id: RequestId,
        num_tokens: Option<i64>,
    ) -> PyResult<Option<Bound<'py, PyArray1<u32>>>> {
        let chunk = chunk_argument(num_tokens)?;
        let taken = each!(&mut self.manager, manager => manager.extend(&request_id, chunk))?;
        self.new_slots(py, &request_id, taken)
    }

    /// Add one sampled token, or several, and take slots for as many.
    ///
    /// Returns the slots newly taken, or ``None`` if there is not enough room; the tokens stay known
    /// then and :meth:`extend` tries again. The last token an engine samples is never computed: do
    /// not append it.
    fn append<'py>(
        &mut self,
        py: Python<'py>,
        request_id: RequestId,
        tokens: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyArray1<u32>>>> {
        let taken = if let Ok(token) = tokens.extract::<u32>() {
            each!(&mut self.manager, manager => manager.append(&request_id, &[token]))?
        } else if tokens.is_instance_of::<PyInt>() {
            let message = format!("token {tokens}: token ids are integers from 0 to 2^32 - 1");
            return Err(PyValueError::new_err(message));
        } else {
            let tokens: Tokens<'_> = tokens.extract()?;
            let tokens = tokens.as_slice();
            each!(&mut self.manager, manager => manager.append(&request_id, &tokens))?
        };
        self.new_slots(py, &request_id, taken)
    }

    /// End a request and release its slots, its last block first.
    fn free(&mut self, request_id: RequestId) -> PyResult<()> {
        Ok(each!(&mut self.manager, manager => manager.free(&request_id))?)
    }

    /// Forget all cached blocks. Refused (``False``) while a request holds slots.
    fn reset(&mut self) -> bool {
        each!(&mut self.manager, manager => manager.reset())
    }

    /// Forget the blocks in these slots, in use or not.
    fn evict(&mut self, slots: Tokens<'_>) -> PyResult<()> {
        Ok(each!(&mut self.manager, manager => manager.evict(&slots.as_slice()))?)
    }

    /// The slots of a request, in order; 0 where a block left the sliding window.
    fn table<'py>(
        &self,
        py: Python<'py>,
        request_id: RequestId,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let table = each!(&self.manager, manager => manager.table(&request_id))?;
        Ok(PyArray1::from_slice(py, table))
    }

    /// Check every invariant; for tests.
    fn validate(&self) -> PyResult<()> {
        Ok(each!(&self.manager, manager => manager.validate())?)
    }

    /// Ids of the requests that hold slots.
    #[getter]
    fn requests(&self) -> Vec<RequestId> {
        each!(&self.manager, manager => manager.requests().cloned().collect())
    }

    /// Slots, the null block included; ``None`` without a limit.
    #[getter]
    fn num_blocks(&self) -> Option<u32> {
        self.bounded.then(|| self.cache_usage().usable + 1)
    }

    /// Tokens per block.
    #[getter]
    fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Slots nobody uses, cached or not; ``None`` without a limit.
    #[getter]
    fn num_free(&self) -> Option<u32> {
        self.bounded.then(|| self.cache_usage().free)
    }

    /// Slots in use.
    #[getter]
    fn num_used(&self) -> u32 {
        self.cache_usage().used()
    }

    /// Distinct blocks in the cache.
    #[getter]
    fn num_cached(&self) -> u64 {
        self.cache_usage().cached
    }

    /// Share of the usable slots in use; 0 without a limit.
    #[getter]
    fn usage(&self) -> f64 {
        if !self.bounded {
            return 0.0;
        }
        let usage = self.cache_usage();
        1.0 - f64::from(usage.free) / f64::from(usage.usable)
    }

    /// How many cached blocks were dropped because their slot was taken.
    #[getter]
    fn evictions(&self) -> u64 {
        self.cache_usage().evictions
    }

    /// Counters as vLLM publishes them: ``requests``, ``queries`` and ``hits``, the latter in tokens.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = each!(&self.manager, manager => manager.stats());
        let dict = PyDict::new(py);
        dict.set_item("requests", stats.requests)?;
        dict.set_item("queries", stats.queries)?;
        dict.set_item("hits", stats.hits)?;
        Ok(dict)
    }

    /// The free slots, next to be taken first.
    fn free_queue<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u32>>> {
        if !self.bounded {
            return Err(PyValueError::new_err(
                "a cache without a limit has no free queue to list",
            ));
        }
        let queue = each!(&self.manager, manager => manager.manager().free_queue());
        Ok(queue.into_pyarray(py))
    }

    /// Reference counts above 0, by slot.
    fn ref_counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        each!(&self.manager, manager => {
            for (slot, refs) in manager.manager().pool().ref_counts() {
                dict.set_item(slot, refs)?;
            }
        });
        Ok(dict)
    }

    /// Each cached block hash with its slots, oldest first.
    fn cached<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (key, slots) in self.manager.cached() {
            dict.set_item(PyBytes::new(py, &key), slots)?;
        }
        Ok(dict)
    }

    /// The KV events since the last call, as ``(type, [block hash, ...])``.
    ///
    /// Types are vLLM's ``BlockStored``, ``BlockRemoved`` and ``AllBlocksCleared``. Empty without
    /// ``record_events``.
    fn take_events<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let convert = |(kind, keys): (&str, Vec<Vec<u8>>)| {
            let keys: Vec<_> = keys.iter().map(|key| PyBytes::new(py, key)).collect();
            (kind.to_owned(), keys).into_pyobject(py)
        };
        let events = self.manager.take_events();
        PyList::new(
            py,
            events
                .into_iter()
                .map(convert)
                .collect::<PyResult<Vec<_>>>()?,
        )
    }

    fn __repr__(&self) -> String {
        let usage = self.cache_usage();
        let used = usage.used();
        if self.bounded {
            let usable = usage.usable;
            format!(
                "<BlockManager: {used} of {usable} blocks of {} in use>",
                self.block_size
            )
        } else {
            format!(
                "<BlockManager: {used} blocks of {} in use, no limit>",
                self.block_size
            )
        }
    }
}
