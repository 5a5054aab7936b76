//! One interface to block managers of every hash algorithm, and what requests go by.

use std::fmt;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

use crate::engine::vllm::{Allocation, BlockManager, KeyIndex, ManagerConfig, Slot, TableIndex};
use crate::hash::{Chain, Context};
use crate::serving::{CacheEvent, CacheStats};

/// Requests go by `int` or `str`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
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
pub trait Door: Send + Sync {
    fn lookup(&mut self, tokens: &[u32], context: &Context) -> crate::Result<u32>;
    fn allocate(
        &mut self,
        id: RequestId,
        tokens: &[u32],
        chunk: Option<u32>,
        context: &Context,
        must_fit: bool,
    ) -> crate::Result<Option<Allocation>>;
    fn extend(&mut self, id: &RequestId, chunk: Option<u32>) -> crate::Result<Option<u32>>;
    fn append(&mut self, id: &RequestId, tokens: &[u32]) -> crate::Result<Option<u32>>;
    fn free(&mut self, id: &RequestId) -> crate::Result<()>;
    fn reset(&mut self) -> bool;
    fn evict(&mut self, slots: &[Slot]) -> crate::Result<()>;
    fn table(&self, id: &RequestId) -> crate::Result<&[Slot]>;
    fn requests(&self) -> Vec<RequestId>;
    fn validate(&self) -> crate::Result<()>;
    fn view(&self) -> View;
    fn free_slots(&self) -> Vec<Slot>;
    fn ref_counts(&self) -> Vec<(Slot, u32)>;
    fn cached(&self) -> Vec<(Vec<u8>, Vec<Slot>)>;
    fn take_events(&mut self) -> Vec<(&'static str, Vec<Vec<u8>>)>;
}

/// Figures of a manager.
pub struct View {
    pub num_slots: u32,
    pub num_free: u32,
    pub num_cached: usize,
    pub evictions: u64,
    pub stats: CacheStats,
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
    ) -> crate::Result<Option<Allocation>> {
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

    fn validate(&self) -> crate::Result<()> {
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
            CacheEvent::Stored { keys, .. } => ("BlockStored", keys.iter().map(bytes).collect()),
            CacheEvent::Removed { key, .. } => ("BlockRemoved", vec![bytes(&key)]),
            CacheEvent::Cleared => ("AllBlocksCleared", Vec::new()),
        };
        events.into_iter().map(convert).collect()
    }
}

/// A manager behind the interface.
pub fn door<C: Chain<Key = K> + 'static, K>(
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
