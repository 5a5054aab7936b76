//! A block manager of any hash algorithm.

use pyo3::prelude::*;

use super::hash::AnyChain;
use super::request_id::RequestId;
use crate::engine::vllm::{BlockManager, KeyIndex, ManagerConfig, Slot, TableIndex};
use crate::hash::{Chain, DigestChain, Xxh3Chain};
use crate::serving::CacheEvent;

/// The algorithms, told apart once per call; see [`each`].
pub enum AnyBlockManager {
    Xxh3(BlockManager<Xxh3Chain, RequestId>),
    Digest(BlockManager<DigestChain, RequestId>),
}

/// Does the same with whichever manager it is: `each!(&mut any, manager => manager.reset())`.
macro_rules! each {
    ($any:expr, $manager:ident => $call:expr) => {
        match $any {
            $crate::python::any_block_manager::AnyBlockManager::Xxh3($manager) => $call,
            $crate::python::any_block_manager::AnyBlockManager::Digest($manager) => $call,
        }
    };
}
pub(super) use each;

/// An event as `(type, block hashes)`.
pub type NamedEvent = (&'static str, Vec<Vec<u8>>);

impl AnyBlockManager {
    pub fn new(num_blocks: Option<u32>, config: ManagerConfig, chain: AnyChain) -> PyResult<Self> {
        Ok(match chain {
            AnyChain::Xxh3(chain) => Self::Xxh3(BlockManager::new(num_blocks, config, chain)?),
            AnyChain::Digest(chain) => Self::Digest(BlockManager::new(num_blocks, config, chain)?),
        })
    }

    /// Each cached block hash with its slots, oldest first.
    pub fn cached(&self) -> Vec<(Vec<u8>, Vec<Slot>)> {
        each!(self, manager => cached(manager))
    }

    /// The events since the last call.
    pub fn take_events(&mut self) -> Vec<NamedEvent> {
        each!(self, manager => take_events(manager))
    }
}

fn cached<C: Chain>(manager: &BlockManager<C, RequestId>) -> Vec<(Vec<u8>, Vec<Slot>)>
where
    TableIndex<C::Key>: KeyIndex<Key = C::Key>,
{
    let bytes = |key| manager.chain().bytes(&key).into_owned();
    let cached = manager.manager().pool().cached();
    cached.map(|(key, slots)| (bytes(key), slots)).collect()
}

fn take_events<C: Chain>(manager: &mut BlockManager<C, RequestId>) -> Vec<NamedEvent>
where
    TableIndex<C::Key>: KeyIndex<Key = C::Key>,
{
    let events = manager.take_events();
    let bytes = |key: &C::Key| manager.chain().bytes(key).into_owned();
    let named = |event| match event {
        CacheEvent::Stored { keys, .. } => ("BlockStored", keys.iter().map(bytes).collect()),
        CacheEvent::Removed { key, .. } => ("BlockRemoved", vec![bytes(&key)]),
        CacheEvent::Cleared => ("AllBlocksCleared", Vec::new()),
    };
    events.into_iter().map(named).collect()
}
