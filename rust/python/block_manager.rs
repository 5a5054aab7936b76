//! `BlockManager` and the replay of whole traces through it.

use std::fmt;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString};

use super::hash::{AnyChain, ExtraKeys, context, positive};
use super::interrupt::interruptible;
use super::profile::set_residency;
use super::tokens::Tokens;
use crate::engine::vllm::replay::{Clock, Ids, Prompts, replay};
use crate::engine::vllm::{
    BlockManager, KeyIndex, ManagerConfig, PoolEvent, Retention, SlidingWindow, Slot, TableIndex,
};
use crate::hash::{Chain, Context, Digest, DigestChain, Xxh3Chain, Xxh3Key};

/// Requests go by `int` or `str`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum RequestId {
    Int(i64),
    Str(String),
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(id) => id.fmt(f),
            Self::Str(id) => write!(f, "{id:?}"),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for RequestId {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let bad = || PyValueError::new_err("request_id: give a str, or an int within 64 bits");
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self::Str(text.to_str()?.to_owned()));
        }
        if object.is_instance_of::<PyInt>() {
            return object.extract().map(Self::Int).map_err(|_| bad());
        }
        Err(bad())
    }
}

impl<'py> IntoPyObject<'py> for RequestId {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        Ok(match self {
            Self::Int(id) => id.into_pyobject(py)?.into_any(),
            Self::Str(id) => id.into_pyobject(py)?.into_any(),
        })
    }
}

/// What the methods need, whatever the hash algorithm.
trait Door: Send + Sync {
    fn lookup(&mut self, tokens: &[u32], context: &Context) -> crate::Result<u32>;
    fn allocate(
        &mut self,
        id: RequestId,
        tokens: &[u32],
        chunk: Option<u32>,
        context: &Context,
        must_fit: bool,
    ) -> crate::Result<Option<crate::engine::vllm::Allocation>>;
    fn extend(&mut self, id: &RequestId, chunk: Option<u32>) -> crate::Result<Option<u32>>;
    fn append(&mut self, id: &RequestId, tokens: &[u32]) -> crate::Result<Option<u32>>;
    fn free(&mut self, id: &RequestId) -> crate::Result<()>;
    fn reset(&mut self) -> bool;
    fn evict(&mut self, slots: &[Slot]) -> crate::Result<()>;
    fn table(&self, id: &RequestId) -> crate::Result<&[Slot]>;
    fn requests(&self) -> Vec<RequestId>;
    fn validate(&self) -> Result<(), String>;
    fn view(&self) -> View;
    fn free_slots(&self) -> Vec<Slot>;
    fn ref_counts(&self) -> Vec<(Slot, u32)>;
    fn cached(&self) -> Vec<(Vec<u8>, Vec<Slot>)>;
    fn take_events(&mut self) -> Vec<(&'static str, Vec<Vec<u8>>)>;
}

/// Figures of a manager.
struct View {
    num_slots: u32,
    num_free: u32,
    num_cached: usize,
    evictions: u64,
    stats: crate::engine::vllm::CacheStats,
}

type Manager<C> = BlockManager<C, RequestId>;

impl<C: Chain> Door for Manager<C>
where
    TableIndex<C::Key>: KeyIndex<Key = C::Key>,
{
    fn lookup(&mut self, tokens: &[u32], context: &Context) -> crate::Result<u32> {
        Manager::lookup(self, tokens, context)
    }

    fn allocate(
        &mut self,
        id: RequestId,
        tokens: &[u32],
        chunk: Option<u32>,
        context: &Context,
        must_fit: bool,
    ) -> crate::Result<Option<crate::engine::vllm::Allocation>> {
        Manager::allocate(self, id, tokens, chunk, context, must_fit)
    }

    fn extend(&mut self, id: &RequestId, chunk: Option<u32>) -> crate::Result<Option<u32>> {
        Manager::extend(self, id, chunk)
    }

    fn append(&mut self, id: &RequestId, tokens: &[u32]) -> crate::Result<Option<u32>> {
        Manager::append(self, id, tokens)
    }

    fn free(&mut self, id: &RequestId) -> crate::Result<()> {
        Manager::free(self, id)
    }

    fn reset(&mut self) -> bool {
        Manager::reset(self)
    }

    fn evict(&mut self, slots: &[Slot]) -> crate::Result<()> {
        Manager::evict(self, slots)
    }

    fn table(&self, id: &RequestId) -> crate::Result<&[Slot]> {
        Manager::table(self, id)
    }

    fn requests(&self) -> Vec<RequestId> {
        Manager::requests(self).cloned().collect()
    }

    fn validate(&self) -> Result<(), String> {
        Manager::validate(self)
    }

    fn view(&self) -> View {
        let pool = self.manager().pool();
        View {
            num_slots: pool.num_slots(),
            num_free: pool.num_free(),
            num_cached: pool.num_cached(),
            evictions: pool.evictions(),
            stats: self.stats(),
        }
    }

    fn free_slots(&self) -> Vec<Slot> {
        self.manager().pool().free_slots().collect()
    }

    fn ref_counts(&self) -> Vec<(Slot, u32)> {
        self.manager().pool().ref_counts().collect()
    }

    fn cached(&self) -> Vec<(Vec<u8>, Vec<Slot>)> {
        let bytes = |key| self.chain().bytes(&key).into_owned();
        let pool = self.manager().pool();
        pool.cached()
            .map(|(key, slots)| (bytes(key), slots))
            .collect()
    }

    fn take_events(&mut self) -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let events = Manager::take_events(self);
        let bytes = |key: &C::Key| self.chain().bytes(key).into_owned();
        let convert = |event| match event {
            PoolEvent::Stored { keys, .. } => ("BlockStored", keys.iter().map(bytes).collect()),
            PoolEvent::Removed { key, .. } => ("BlockRemoved", vec![bytes(&key)]),
            PoolEvent::Cleared => ("AllBlocksCleared", Vec::new()),
        };
        events.into_iter().map(convert).collect()
    }
}

/// What a successful :meth:`BlockManager.allocate` gives.
///
/// Attributes
/// ----------
/// hit_tokens : int
///     Prompt tokens found in the cache.
/// slots : ndarray of uint32
///     Slots newly taken, in order; :meth:`BlockManager.table` has all.
#[pyclass(frozen, get_all, module = "prefixsim._core")]
pub struct Allocation {
    hit_tokens: u32,
    slots: Py<PyArray1<u32>>,
}

#[pymethods]
impl Allocation {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let slots = self.slots.bind(py).len()?;
        Ok(format!(
            "Allocation(hit_tokens={}, slots=<{slots}>)",
            self.hit_tokens
        ))
    }
}

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
    door: Box<dyn Door>,
    block_size: u32,
    bounded: bool,
}

pub fn window(
    sliding_window: Option<i64>,
    retention_interval: Option<i64>,
    max_num_batched_tokens: Option<i64>,
) -> PyResult<Option<SlidingWindow>> {
    let Some(window) = sliding_window else {
        return Ok(None);
    };
    let retention = match retention_interval {
        None => Retention::Dense,
        Some(0) => Retention::PromptEnd,
        Some(interval) => Retention::Interval(positive("retention_interval", interval)?),
    };
    let batch_tokens = match max_num_batched_tokens {
        None => None,
        Some(tokens) => Some(positive("max_num_batched_tokens", tokens)?),
    };
    let window = positive("sliding_window", window)?;
    Ok(Some(SlidingWindow {
        window,
        retention,
        batch_tokens,
    }))
}

pub fn num_blocks_argument(num_blocks: Option<i64>) -> PyResult<Option<u32>> {
    let convert = |n: i64| match u32::try_from(n) {
        Ok(n) if n >= 2 => Ok(n),
        _ => Err(PyValueError::new_err(format!(
            "num_blocks is {n}: give at least 2, as block 0 is the null block, or None for no limit"
        ))),
    };
    num_blocks.map(convert).transpose()
}

fn chunk_argument(chunk: Option<i64>) -> PyResult<Option<u32>> {
    chunk.map(|chunk| positive("num_tokens", chunk)).transpose()
}

impl PyBlockManager {
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
        let table = self.door.table(id)?;
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
        let door: Box<dyn Door> = match AnyChain::new(hash_algorithm, hash_seed)? {
            AnyChain::Xxh3(chain) => {
                door::<Xxh3Chain, Xxh3Key>(num_blocks, config, chain, record_events)?
            }
            AnyChain::Digest(chain) => {
                door::<DigestChain, Digest>(num_blocks, config, chain, record_events)?
            }
        };
        Ok(Self {
            door,
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
        Ok(self.door.lookup(&tokens.as_slice(), &context)?)
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
        let Some(allocation) = self.door.allocate(id, &tokens, chunk, &context, must_fit)? else {
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
        let taken = self.door.extend(&request_id, chunk_argument(num_tokens)?)?;
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
            self.door.append(&request_id, &[token])?
        } else if tokens.is_instance_of::<PyInt>() {
            let message = format!("token {tokens}: token ids are integers from 0 to 2^32 - 1");
            return Err(PyValueError::new_err(message));
        } else {
            let tokens: Tokens<'_> = tokens.extract()?;
            self.door.append(&request_id, &tokens.as_slice())?
        };
        self.new_slots(py, &request_id, taken)
    }

    /// End a request and release its slots, its last block first.
    fn free(&mut self, request_id: RequestId) -> PyResult<()> {
        Ok(self.door.free(&request_id)?)
    }

    /// Forget all cached blocks. Refused (``False``) while a request holds slots.
    fn reset(&mut self) -> bool {
        self.door.reset()
    }

    /// Forget the blocks in these slots, in use or not.
    fn evict(&mut self, slots: Tokens<'_>) -> PyResult<()> {
        Ok(self.door.evict(&slots.as_slice())?)
    }

    /// The slots of a request, in order; 0 where a block left the sliding window.
    fn table<'py>(
        &self,
        py: Python<'py>,
        request_id: RequestId,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        Ok(PyArray1::from_slice(py, self.door.table(&request_id)?))
    }

    /// Check every invariant; for tests.
    fn validate(&self) -> PyResult<()> {
        self.door.validate().map_err(|problem| {
            PyRuntimeError::new_err(format!("a bug of prefixsim, please report it: {problem}"))
        })
    }

    /// Ids of the requests that hold slots.
    #[getter]
    fn requests(&self) -> Vec<RequestId> {
        self.door.requests()
    }

    /// Slots, the null block included; ``None`` without a limit.
    #[getter]
    fn num_blocks(&self) -> Option<u32> {
        self.bounded.then(|| self.door.view().num_slots)
    }

    /// Tokens per block.
    #[getter]
    fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Slots nobody uses, cached or not; ``None`` without a limit.
    #[getter]
    fn num_free(&self) -> Option<u32> {
        self.bounded.then(|| self.door.view().num_free)
    }

    /// Slots in use.
    #[getter]
    fn num_used(&self) -> u32 {
        let view = self.door.view();
        view.num_slots - 1 - view.num_free
    }

    /// Distinct blocks in the cache.
    #[getter]
    fn num_cached(&self) -> usize {
        self.door.view().num_cached
    }

    /// Share of the usable slots in use; 0 without a limit.
    #[getter]
    fn usage(&self) -> f64 {
        if !self.bounded {
            return 0.0;
        }
        let view = self.door.view();
        1.0 - f64::from(view.num_free) / f64::from(view.num_slots - 1)
    }

    /// How many cached blocks were dropped because their slot was taken.
    #[getter]
    fn evictions(&self) -> u64 {
        self.door.view().evictions
    }

    /// Counters as vLLM publishes them: ``requests``, ``queries`` and ``hits``, the latter in tokens.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.door.view().stats;
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
        Ok(self.door.free_slots().into_pyarray(py))
    }

    /// Reference counts above 0, by slot.
    fn ref_counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (slot, refs) in self.door.ref_counts() {
            dict.set_item(slot, refs)?;
        }
        Ok(dict)
    }

    /// Each cached block hash with its slots, oldest first.
    fn cached<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (key, slots) in self.door.cached() {
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
        let events = self.door.take_events();
        PyList::new(
            py,
            events
                .into_iter()
                .map(convert)
                .collect::<PyResult<Vec<_>>>()?,
        )
    }

    fn __repr__(&self) -> String {
        let view = self.door.view();
        let used = view.num_slots - 1 - view.num_free;
        if self.bounded {
            let usable = view.num_slots - 1;
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

fn door<C: Chain<Key = K> + 'static, K>(
    num_blocks: Option<u32>,
    config: ManagerConfig,
    chain: C,
    record_events: bool,
) -> PyResult<Box<dyn Door>>
where
    TableIndex<K>: KeyIndex<Key = K>,
{
    let mut manager = Manager::new(num_blocks, config, chain)?;
    if record_events {
        manager.record_events();
    }
    Ok(Box::new(manager))
}

/// Replay a whole trace through :class:`BlockManager` in one call.
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
    ids: &Bound<'py, PyAny>,
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
    let tokens = ids.extract::<PyReadonlyArray1<'py, u32>>().ok();
    let hashes = ids.extract::<PyReadonlyArray1<'py, u64>>().ok();
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
    let salt = match &salt {
        Some(salt) => Some(salt.as_slice()?),
        None => None,
    };
    let prompts = Prompts {
        offsets: offsets.as_slice()?,
        ids,
        prompt_len: prompt_len.as_slice()?,
        salt,
        outputs,
    };
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
