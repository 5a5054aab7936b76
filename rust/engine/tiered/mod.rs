//! A cache of two tiers: vLLM's manager on the device, and below it a store of blocks in host memory.
//!
//! The device is exactly the [`Manager`]: what it holds, evicts and refuses does not depend on the
//! store, because a block that comes from below takes a slot like one that is computed. Moving blocks
//! takes no time here. What is found on the device comes first, what continues it in the store second.

mod store;

use std::hash::Hash;

pub use store::BlockStore;

use super::vllm::{KeyIndex, Lease, Manager};
use crate::error::{Error, Result};
use crate::index::to_u32;
use crate::serving::{
    CacheEvent, CacheSnapshot, CacheUsage, Demand, Hit, KvCache, NoRoom, Progress,
};

/// When blocks enter the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// When the device drops them: a block is in one tier at most. A hit moves it back up.
    OnEviction,
    /// When the device caches them: the store is a copy, and sees every use.
    WriteThrough,
}

/// vLLM's manager over a store of blocks that are dropped in the order of their last use.
#[derive(Debug, Clone)]
pub struct Tiered<I: KeyIndex> {
    device: Manager<I>,
    store: BlockStore<I::Key>,
    fill: Fill,
    /// Blocks the last lookup found on the device, and after these in the store.
    found: [usize; 2],
    /// Events of the device, kept for [`KvCache::take_events`] if the caller wants them.
    events: Option<Vec<CacheEvent<I::Key>>>,
}

impl<I: KeyIndex> Tiered<I>
where
    I::Key: Hash,
{
    /// An empty store of `capacity` blocks below a manager in which nothing has happened.
    ///
    /// # Errors
    /// [`Error::Range`] if the manager does not cache, or has a sliding window.
    pub fn new(mut device: Manager<I>, capacity: u32, fill: Fill) -> Result<Self> {
        if !device.config().enable_caching || device.config().sliding_window.is_some() {
            return Err(Error::range(
                "two tiers need caching and full attention: leave out the sliding window",
            ));
        }
        device.record_events();
        Ok(Self {
            device,
            store: BlockStore::new(capacity),
            fill,
            found: [0; 2],
            events: None,
        })
    }

    /// Starts recording events of the device.
    pub fn record_events(&mut self) {
        self.events.get_or_insert_default();
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Manager<I> {
        &self.device
    }

    /// The lower tier.
    #[must_use]
    pub fn store(&self) -> &BlockStore<I::Key> {
        &self.store
    }

    /// Lets the store follow what happened on the device.
    fn follow(&mut self) {
        for event in self.device.take_events() {
            match (&event, self.fill) {
                (CacheEvent::Removed { key, .. }, Fill::OnEviction) => {
                    // Another slot may hold the same block.
                    if self.device.pool().get(key).is_none() {
                        self.store.insert(*key);
                    }
                }
                (CacheEvent::Stored { keys, .. }, Fill::OnEviction) => {
                    for key in keys {
                        self.store.remove(key);
                    }
                }
                (CacheEvent::Stored { keys, .. }, Fill::WriteThrough) => {
                    // The end of a sequence is dropped before its beginning.
                    for &key in keys.iter().rev() {
                        self.store.insert(key);
                    }
                }
                (CacheEvent::Removed { .. }, Fill::WriteThrough) | (CacheEvent::Cleared, _) => {}
            }
            if let Some(events) = &mut self.events {
                events.push(event);
            }
        }
    }
}

impl<I: KeyIndex> KvCache for Tiered<I>
where
    I::Key: Hash,
{
    type Key = I::Key;
    type Lease = Lease;

    fn lookup(&mut self, keys: &[I::Key], num_tokens: u32) -> Hit {
        let block_size = self.device.block_size();
        let device = self.device.lookup(keys, num_tokens).tokens();
        let limit = (num_tokens.saturating_sub(1) / block_size) as usize;
        let first = (device / block_size) as usize;
        let below = keys[..limit.min(keys.len())][first..]
            .iter()
            .take_while(|key| self.store.contains(key))
            .count();
        self.found = [first, below];
        Hit {
            tiers: [device, to_u32(below) * block_size, 0],
        }
    }

    fn admit(
        &mut self,
        lease: &mut Lease,
        keys: &[I::Key],
        progress: &Progress,
        demand: Demand,
    ) -> std::result::Result<u32, NoRoom> {
        let [device, below] = self.found;
        let loaded = to_u32(below) * self.device.block_size();
        // Loaded blocks take slots, and are cached, like computed ones.
        let on_device = Demand {
            new_tokens: loaded + demand.new_tokens,
            ..demand
        };
        let taken = self.device.admit(lease, keys, progress, on_device)?;
        let loads = &keys[device..device + below];
        match self.fill {
            Fill::OnEviction => {
                for key in loads {
                    self.store.remove(key);
                }
                self.follow();
            }
            Fill::WriteThrough => {
                self.follow();
                // All that was used, the beginning last.
                for key in keys[..device + below].iter().rev() {
                    self.store.touch(key);
                }
            }
        }
        Ok(taken)
    }

    fn extend(
        &mut self,
        lease: &mut Lease,
        keys: &[I::Key],
        progress: &Progress,
        new_tokens: u32,
    ) -> std::result::Result<u32, NoRoom> {
        let taken = self.device.extend(lease, keys, progress, new_tokens)?;
        self.follow();
        Ok(taken)
    }

    fn settle(&mut self, lease: &mut Lease, keys: &[I::Key], progress: &Progress) {
        self.device.settle(lease, keys, progress);
        self.follow();
    }

    fn release(&mut self, lease: &mut Lease) {
        self.device.release(lease);
    }

    fn quiet_tokens(&self, lease: &Lease, progress: &Progress) -> u32 {
        self.device.quiet_tokens(lease, progress)
    }

    fn version(&self) -> u64 {
        self.device.version()
    }

    fn enable_caching(&self) -> bool {
        true
    }

    fn max_model_len(&self) -> u32 {
        self.device.max_model_len()
    }

    fn block_size(&self) -> u32 {
        self.device.block_size()
    }

    /// That of the device.
    fn usage(&self) -> CacheUsage {
        self.device.usage()
    }

    fn table<'l>(&self, lease: &'l Lease, group: u32) -> &'l [u32] {
        self.device.table(lease, group)
    }

    /// That of the device.
    fn snapshot(&self) -> CacheSnapshot<I::Key> {
        self.device.snapshot()
    }

    fn free_queue(&self) -> Vec<u32> {
        self.device.free_queue()
    }

    fn take_events(&mut self) -> Vec<CacheEvent<I::Key>> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn validate<'l>(
        &self,
        leases: impl IntoIterator<Item = (&'l Lease, &'l Progress)>,
    ) -> Result<()> {
        self.device.validate(leases)?;
        self.store.validate()?;
        let twice = |key: &I::Key| self.device.pool().get(key).is_some();
        if self.fill == Fill::OnEviction && self.store.iter().any(|key| twice(&key)) {
            return Err(Error::bug("a block is in both tiers"));
        }
        Ok(())
    }
}
