//! `RadixCache`.

use numpy::PyArray1;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList};

use super::arguments::positive;
use super::request_id::RequestId;
use super::sglang_settings::{capacity_argument, policy};
use super::tokens::Tokens;
use crate::engine::sglang::{CacheConfig, Insertion, OnlineCache, Prompt, Version};
use crate::index::to_usize;

/// What :meth:`RadixCache.match` and :meth:`RadixCache.insert` give.
///
/// Attributes
/// ----------
/// tokens : int
///     Leading tokens that are in the cache, or were before the insertion: whole pages.
/// node : int
///     Handle of the node where the prefix ends, for :meth:`RadixCache.lock`.
///
/// Examples
/// --------
/// >>> cache = RadixCache(100)
/// >>> cache.insert([1, 2, 3]).tokens, cache.match([1, 2, 4]).tokens
/// (0, 2)
#[pyclass(frozen, get_all, module = "prefixsim._core")]
pub struct RadixMatch {
    tokens: u32,
    node: u64,
}

#[pymethods]
impl RadixMatch {
    fn __repr__(&self) -> String {
        format!("RadixMatch(tokens={}, node={})", self.tokens, self.node)
    }
}

fn radix_match((tokens, node): (u32, u64)) -> RadixMatch {
    RadixMatch { tokens, node }
}

/// SGLang's radix cache, node for node, one call at a time.
///
/// There are two levels. :meth:`match`, :meth:`insert`, :meth:`evict`, :meth:`lock` and :meth:`unlock`
/// work on the tree. :meth:`admit`, :meth:`extend`, :meth:`append`, :meth:`finish` and
/// :meth:`retract` do what SGLang's scheduler does for a request, with its share of the pool.
///
/// Parameters
/// ----------
/// capacity_tokens : int or None
///     Tokens of the pool (SGLang's ``max_total_num_tokens``), rounded down to whole pages. ``None``:
///     no limit, and nothing is evicted unless asked for.
/// page_size : int
///     Tokens per page. Nothing shorter than a page is shared.
/// version : {"unified-0.5.23", "radix-0.5.23", "radix-0.5.16", "radix-0.5.9"}
///     Whose rules: release and tree. The first is what the server of 0.5.23 builds.
/// policy : {"lru", "lfu", "fifo", "mru", "filo", "priority", "slru", "tlru"}
///     Order of eviction (``--radix-eviction-policy``). ``slru`` came after 0.5.9, ``tlru`` belongs to
///     the unified tree.
/// protected_threshold : int
///     ``slru``: hits from which a node is protected.
/// threshold, next_prompt_estimate : int
///     ``tlru``: tokens that may be lost, and by how many the next prompt is expected to be longer.
/// record_evictions : bool
///     Keep what :meth:`take_evictions` returns.
///
/// Notes
/// -----
/// Source of the rules: SGLang 0.5.9, 0.5.16 and 0.5.23, ``python/sglang/srt/mem_cache/``
/// (``radix_cache.py``, ``unified_radix_cache.py``, ``evict_policy.py``).
///
/// Examples
/// --------
/// >>> cache = RadixCache(100)
/// >>> cache.admit("a", [1, 2, 3, 4, 5])
/// 0
/// >>> cache.extend("a")
/// True
/// >>> cache.finish("a")
/// >>> cache.admit("b", [1, 2, 3, 4, 5, 6])
/// 5
#[pyclass(name = "RadixCache", module = "prefixsim._core")]
pub struct PyRadixCache {
    cache: OnlineCache<RequestId>,
    page_size: u32,
    bounded: bool,
}

#[pymethods]
impl PyRadixCache {
    #[new]
    #[pyo3(signature = (
        capacity_tokens, page_size=1, *, version="unified-0.5.23", policy="lru",
        protected_threshold=2, threshold=0, next_prompt_estimate=0, record_evictions=false
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        capacity_tokens: Option<i64>,
        page_size: i64,
        version: &str,
        policy: &str,
        protected_threshold: u32,
        threshold: i64,
        next_prompt_estimate: i64,
        record_evictions: bool,
    ) -> PyResult<Self> {
        let page_size = positive("page_size", page_size)?;
        let config = CacheConfig {
            version: Version::from_name(version)?,
            page_size,
            capacity_tokens: capacity_argument(capacity_tokens)?,
            policy: self::policy(policy, protected_threshold, threshold, next_prompt_estimate)?,
            disabled: false,
        };
        let mut cache = OnlineCache::new(&config)?;
        if record_evictions {
            cache.record_evictions();
        }
        Ok(Self {
            cache,
            page_size,
            bounded: capacity_tokens.is_some(),
        })
    }

    /// Find the longest prefix of a prompt in the cache.
    ///
    /// Nothing is held. As in SGLang the nodes on the way become more recent, and a node that the
    /// prompt leaves half-way is split.
    ///
    /// Parameters
    /// ----------
    /// tokens : sequence of int
    ///     Token ids; a uint32 array is fastest.
    /// extra_key, cache_salt : str, optional
    ///     The namespace: equal tokens in different namespaces share nothing. Before 0.5.23 salt and
    ///     extra key are joined into one string.
    ///
    /// Returns
    /// -------
    /// RadixMatch
    #[pyo3(name = "match", signature = (tokens, *, extra_key=None, cache_salt=None))]
    fn find(
        &mut self,
        tokens: Tokens<'_>,
        extra_key: Option<&str>,
        cache_salt: Option<&str>,
    ) -> PyResult<RadixMatch> {
        let tokens = &tokens.as_slice();
        let prompt = Prompt {
            tokens,
            extra_key,
            cache_salt,
        };
        Ok(self.cache.find(prompt).map(radix_match)?)
    }

    /// Put the whole pages of a prompt into the cache, evicting others if there is no room.
    ///
    /// Parameters
    /// ----------
    /// tokens : sequence of int
    ///     Token ids.
    /// extra_key, cache_salt : str, optional
    ///     The namespace, see :meth:`match`.
    /// priority : int
    ///     The nodes on the path get at least this priority.
    /// chunked : bool
    ///     A chunk that is not the prompt's last: 0.5.16 does not count it as a use.
    ///
    /// Returns
    /// -------
    /// RadixMatch or None
    ///     What was there before, and the node where the inserted tokens end. ``None``: there is not
    ///     enough room; nothing has changed.
    #[pyo3(signature = (tokens, *, extra_key=None, cache_salt=None, priority=0, chunked=false))]
    fn insert(
        &mut self,
        tokens: Tokens<'_>,
        extra_key: Option<&str>,
        cache_salt: Option<&str>,
        priority: i32,
        chunked: bool,
    ) -> PyResult<Option<RadixMatch>> {
        let tokens = &tokens.as_slice();
        let prompt = Prompt {
            tokens,
            extra_key,
            cache_salt,
        };
        let insertion = Insertion {
            priority: i64::from(priority),
            inserted: 0,
            chunked,
        };
        Ok(self.cache.insert(prompt, &insertion)?.map(radix_match))
    }

    /// Evict leaves until at least ``tokens`` tokens are gone or none is left; return how many went.
    ///
    /// Whole nodes go, so more than asked for may go.
    fn evict(&mut self, tokens: u64) -> u64 {
        self.cache.evict(tokens)
    }

    /// Keep a node and all above it from eviction, until :meth:`unlock`.
    fn lock(&mut self, node: u64) -> PyResult<()> {
        Ok(self.cache.lock(node)?)
    }

    /// Take one :meth:`lock` back.
    fn unlock(&mut self, node: u64) -> PyResult<()> {
        Ok(self.cache.unlock(node)?)
    }

    /// Admit a request: find its longest cached prefix and hold it.
    ///
    /// Parameters
    /// ----------
    /// request_id : str or int
    /// tokens : sequence of int
    ///     Token ids of the whole prompt.
    /// extra_key, cache_salt : str, optional
    ///     The namespace, see :meth:`match`.
    /// priority : int
    ///     The request's priority in the tree.
    ///
    /// Returns
    /// -------
    /// int
    ///     Tokens found: whole pages, and at most one less than the prompt has.
    #[pyo3(signature = (request_id, tokens, *, extra_key=None, cache_salt=None, priority=0))]
    fn admit(
        &mut self,
        request_id: RequestId,
        tokens: Tokens<'_>,
        extra_key: Option<&str>,
        cache_salt: Option<&str>,
        priority: i32,
    ) -> PyResult<u32> {
        let tokens = &tokens.as_slice();
        let prompt = Prompt {
            tokens,
            extra_key,
            cache_salt,
        };
        Ok(self.cache.admit(request_id, prompt, i64::from(priority))?)
    }

    /// Compute a request's tokens up to ``upto`` (default: all) and publish their whole pages.
    ///
    /// Evicts if needed. Returns ``False`` if there is not enough room; nothing has changed then.
    #[pyo3(signature = (request_id, upto=None))]
    fn extend(&mut self, request_id: RequestId, upto: Option<i64>) -> PyResult<bool> {
        let upto = upto.map(|upto| positive("upto", upto)).transpose()?;
        Ok(self.cache.extend(&request_id, upto)?)
    }

    /// Add one sampled token, or several, that are fed to the model.
    ///
    /// The last token an engine samples is never computed: do not append it. Returns ``False`` if
    /// there is not enough room; nothing has changed then.
    fn append(&mut self, request_id: RequestId, tokens: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Ok(token) = tokens.extract::<u32>() {
            return Ok(self.cache.append(&request_id, &[token])?);
        }
        if tokens.is_instance_of::<PyInt>() {
            let message = format!("token {tokens}: token ids are integers from 0 to 2^32 - 1");
            return Err(PyValueError::new_err(message));
        }
        let tokens: Tokens<'_> = tokens.extract()?;
        Ok(self.cache.append(&request_id, &tokens.as_slice())?)
    }

    /// End a request: what is computed stays cached in whole pages.
    fn finish(&mut self, request_id: RequestId) -> PyResult<()> {
        Ok(self.cache.finish(&request_id)?)
    }

    /// Take everything back from a request that it did not publish, and forget it.
    fn retract(&mut self, request_id: RequestId) -> PyResult<()> {
        Ok(self.cache.retract(&request_id)?)
    }

    /// Empty the cache. Refused (``False``) while something is held.
    fn reset(&mut self) -> bool {
        self.cache.reset()
    }

    /// The evictions since the last call, as ``(tokens asked for, [tokens of each node])``.
    ///
    /// Empty without ``record_evictions``.
    fn take_evictions(&mut self) -> Vec<(u64, Vec<u32>)> {
        let log = self.cache.take_evictions();
        let mut start = 0;
        let row = |(&requested, &end): (&u64, &u64)| {
            let lengths = log.lengths[start..to_usize(end)].to_vec();
            start = to_usize(end);
            (requested, lengths)
        };
        log.requested.iter().zip(&log.ends).map(row).collect()
    }

    /// All nodes but the root, in no order.
    ///
    /// Returns
    /// -------
    /// list of dict
    ///     ``node`` and ``parent`` (handles; ``None`` below the root), ``tokens`` (uint32 array),
    ///     ``extra_key``, ``cache_salt``, ``lock``, ``hits``, ``priority``, ``accessed`` and
    ///     ``created`` (only their order means something).
    fn nodes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let nodes = PyList::empty(py);
        for node in self.cache.nodes() {
            let row = PyDict::new(py);
            row.set_item("node", node.handle)?;
            row.set_item("parent", node.parent)?;
            row.set_item("tokens", PyArray1::from_slice(py, node.tokens))?;
            row.set_item("extra_key", &node.namespace.extra_key)?;
            row.set_item("cache_salt", &node.namespace.cache_salt)?;
            row.set_item("lock", node.lock)?;
            row.set_item("hits", node.hits)?;
            row.set_item("priority", node.priority)?;
            row.set_item("accessed", node.accessed)?;
            row.set_item("created", node.created)?;
            nodes.append(row)?;
        }
        Ok(nodes)
    }

    /// Check every invariant; for tests.
    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.cache.validate()).map_err(|problem| {
            PyRuntimeError::new_err(format!("a bug of prefixsim, please report it: {problem}"))
        })
    }

    /// Ids of the requests that hold something.
    #[getter]
    fn requests(&self) -> Vec<RequestId> {
        self.cache.requests().cloned().collect()
    }

    /// Tokens of the pool; ``None`` without a limit.
    #[getter]
    fn capacity_tokens(&self) -> Option<u64> {
        self.bounded.then(|| self.cache.cache().capacity())
    }

    /// Tokens per page.
    #[getter]
    fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Tokens in pages that nobody owns; ``None`` without a limit.
    #[getter]
    fn free_tokens(&self) -> Option<u64> {
        self.bounded.then(|| self.cache.cache().free())
    }

    /// Tokens in nodes that nothing holds.
    #[getter]
    fn evictable_tokens(&self) -> u64 {
        self.cache.cache().tree().evictable()
    }

    /// Tokens in nodes that a request or a lock holds.
    #[getter]
    fn protected_tokens(&self) -> u64 {
        self.cache.cache().tree().protected()
    }

    /// Tokens evicted so far.
    #[getter]
    fn evicted_tokens(&self) -> u64 {
        self.cache.evicted().tokens
    }

    /// Nodes evicted so far.
    #[getter]
    fn evictions(&self) -> u64 {
        self.cache.evicted().nodes
    }

    fn __repr__(&self) -> String {
        let tree = self.cache.cache().tree();
        let tokens = tree.evictable() + tree.protected();
        if self.bounded {
            let capacity = self.cache.cache().capacity();
            format!("<RadixCache: {tokens} of {capacity} tokens cached>")
        } else {
            format!("<RadixCache: {tokens} tokens cached, no limit>")
        }
    }
}
