//! Lookup, allocation, caching and release, for one sequence at a time.

pub(super) mod load;
mod window;

use super::{BlockPool, KeyIndex, NULL_SLOT, ReleaseOrder, Slot};
use super::{ManagerConfig, Retention, SlidingWindow};
use crate::error::{Error, Result};
use crate::index::{to_u32, to_usize};
use crate::serving::{
    CacheEvent, CacheSnapshot, CacheUsage, Demand, Hit, KvCache, NoRoom, Progress,
};
use crate::stats::Residency;

/// What the manager holds for one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// Slots of the blocks, in order; 0 where a block left the window.
    pub table: Vec<Slot>,
    /// Leading blocks of the table that were considered for caching.
    cached: u32,
    /// A name for events.
    name: u64,
}

/// vLLM's KV-cache manager for one group of layers.
///
/// What it does for a request is a [`KvCache`]'s: lookup, admit, extend, release.
#[derive(Debug, Clone)]
pub struct Manager<I: KeyIndex> {
    config: ManagerConfig,
    pool: BlockPool<I>,
    release_order: ReleaseOrder,
    /// Slots found by the last lookup.
    hits: Vec<Slot>,
    scratch: Vec<Slot>,
}

impl<I: KeyIndex> Manager<I> {
    /// A manager of `num_slots` slots, the null block included.
    ///
    /// # Errors
    /// [`Error::Range`] if the configuration is not usable or there is no slot but the null block.
    pub fn new(num_slots: u32, config: ManagerConfig, index: I) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            release_order: config.release_order(),
            config,
            pool: BlockPool::new(num_slots, index)?,
            hits: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &BlockPool<I> {
        &self.pool
    }

    /// Sets the clock of the pool; see [`BlockPool::set_time`].
    pub fn set_time(&mut self, now: f64) {
        self.pool.set_time(now);
    }

    /// The residency of evicted blocks; see [`BlockPool::take_residency`].
    pub fn take_residency(&mut self) -> Option<Residency> {
        self.pool.take_residency()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ManagerConfig {
        &self.config
    }

    /// Starts recording events.
    pub fn record_events(&mut self) {
        self.pool.record_events();
    }

    /// Slots found by the last lookup that nobody uses.
    fn idle_hits(&self, skipped: usize) -> usize {
        let adopted = &self.hits[skipped.min(self.hits.len())..];
        let idle = |&&slot: &&Slot| slot != NULL_SLOT && self.pool.refs(slot) == 0;
        adopted.iter().filter(idle).count()
    }

    fn blocks(&self, tokens: u64) -> usize {
        let tokens = to_u32(tokens.min(u64::from(self.config.max_model_len)));
        tokens.div_ceil(self.config.block_size) as usize
    }

    fn release_slots(&mut self, slots: &[Slot]) {
        self.pool
            .release(slots, &mut self.scratch, self.release_order);
    }

    /// Caches the blocks that are full once `end` tokens are computed.
    fn cache(&mut self, lease: &mut Lease, keys: &[I::Key], progress: &Progress, end: u64) {
        let full = end.min(u64::from(progress.num_tokens)) / u64::from(self.config.block_size);
        let (first, full) = (lease.cached as usize, to_usize(full));
        if !self.config.enable_caching || full <= first {
            return;
        }
        lease.cached = to_u32(full);
        let mut stored = self.pool.records_events().then(Vec::new);
        let blocks = lease.table[first..full].iter().zip(&keys[first..full]);
        for (block, (&slot, &key)) in (first..full).zip(blocks) {
            if slot == NULL_SLOT || !self.retains(progress.prompt_tokens, block) {
                continue;
            }
            self.pool.cache(slot, key);
            if let Some(stored) = &mut stored {
                stored.push((key, to_u32(block)));
            }
        }
        if let Some(stored) = stored
            && !stored.is_empty()
        {
            let (keys, blocks) = stored.into_iter().unzip();
            self.pool.push_event(CacheEvent::Stored {
                group: 0,
                keys,
                blocks,
                name: lease.name,
            });
        }
    }

    /// Slots that an admission needs if all known tokens have to fit.
    fn required(&self, num_tokens: u32) -> usize {
        let required = self.blocks(u64::from(num_tokens));
        if let Some(SlidingWindow {
            window,
            batch_tokens: Some(batch),
            ..
        }) = self.config.sliding_window
        {
            let bound = self.blocks(u64::from(window) - 1 + u64::from(batch)) + 1;
            return required.min(bound);
        }
        required
    }

    /// Forgets all cached blocks; refused (`false`) while a slot is in use.
    pub fn reset(&mut self) -> bool {
        self.pool.reset()
    }

    /// Forgets the blocks in these slots, in use or not.
    ///
    /// # Errors
    /// [`Error::Range`] if a slot does not exist; then nothing has changed.
    pub fn evict(&mut self, slots: &[Slot]) -> Result<()> {
        let num_slots = self.pool.num_slots();
        if let Some(slot) = slots.iter().find(|&&slot| slot >= num_slots) {
            return Err(Error::range(format!(
                "slot {slot} does not exist: the cache has slots 0 to {}",
                num_slots - 1
            )));
        }
        for &slot in slots {
            self.pool.forget(slot);
        }
        Ok(())
    }
}

impl<I: KeyIndex> KvCache for Manager<I> {
    type Key = I::Key;
    type Lease = Lease;

    fn lookup(&mut self, keys: &[I::Key], num_tokens: u32) -> Hit {
        self.hits.clear();
        if !self.config.enable_caching {
            return Hit::default();
        }
        let limit = (num_tokens.saturating_sub(1) / self.config.block_size) as usize;
        let keys = &keys[..limit.min(keys.len())];
        match self.config.sliding_window {
            None => self.pool.find_run(keys, &mut self.hits),
            Some(sliding) => self.lookup_window(keys, self.needed_blocks(sliding)),
        }
        Hit::on_device(to_u32(self.hits.len()) * self.config.block_size)
    }

    /// Also fails to find room if a reserve of [`ManagerConfig::watermark_slots`] is not left beside
    /// other requests.
    fn admit(
        &mut self,
        lease: &mut Lease,
        keys: &[I::Key],
        progress: &Progress,
        demand: Demand,
    ) -> std::result::Result<u32, NoRoom> {
        debug_assert!(lease.table.is_empty() && progress.computed == 0);
        let reserve = if demand.beside_others {
            self.config.watermark_slots as usize
        } else {
            0
        };
        let base = to_u32(self.hits.len()) * self.config.block_size;
        let skipped = self.skipped_blocks(base);
        let idle = self.idle_hits(skipped);
        let held = skipped.max(self.hits.len());
        let free = self.pool.num_free() as usize;
        let version = self.pool.version();
        if demand.must_fit {
            let required = self.required(progress.num_tokens);
            let needed = required.saturating_sub(held) + idle + reserve;
            if needed > free {
                // With full attention, `needed - free` is the length of the sequence less its blocks
                // in use and the free slots, and a change of one slot changes it by one at most.
                let full_attention = self.config.sliding_window.is_none();
                let deficit = if full_attention { needed - free } else { 1 };
                return Err(NoRoom {
                    until: version + deficit as u64,
                    whatever_chunk: true,
                });
            }
        }
        let end = u64::from(base) + u64::from(demand.new_tokens);
        let missing = self.blocks(end).saturating_sub(held);
        if missing + idle + reserve > free {
            return Err(NoRoom {
                until: version + 1,
                whatever_chunk: false,
            });
        }
        lease.table.reserve(held + missing);
        lease.table.resize(skipped, NULL_SLOT);
        for &slot in &self.hits[skipped.min(self.hits.len())..] {
            if slot != NULL_SLOT {
                self.pool.touch(slot);
            }
            lease.table.push(slot);
        }
        lease.cached = to_u32(lease.table.len());
        lease.name = demand.name;
        self.pool.take(to_u32(missing), &mut lease.table);
        self.cache(lease, keys, progress, end);
        Ok(to_u32(missing))
    }

    fn extend(
        &mut self,
        lease: &mut Lease,
        keys: &[I::Key],
        progress: &Progress,
        new_tokens: u32,
    ) -> std::result::Result<u32, NoRoom> {
        if self.config.sliding_window.is_some() {
            self.leave_window(lease, progress.settled());
        }
        let end = u64::from(progress.computed) + u64::from(new_tokens);
        let missing = self.blocks(end).saturating_sub(lease.table.len());
        if missing > 0 {
            if missing > self.pool.num_free() as usize {
                return Err(NoRoom {
                    until: self.pool.version() + 1,
                    whatever_chunk: false,
                });
            }
            self.pool.take(to_u32(missing), &mut lease.table);
        }
        self.cache(lease, keys, progress, end);
        Ok(to_u32(missing))
    }

    fn settle(&mut self, lease: &mut Lease, keys: &[I::Key], progress: &Progress) {
        self.cache(lease, keys, progress, u64::from(progress.settled()));
    }

    fn release(&mut self, lease: &mut Lease) {
        self.release_slots(&lease.table);
        lease.table.clear();
        lease.cached = 0;
    }

    fn quiet_tokens(&self, lease: &Lease, progress: &Progress) -> u32 {
        let size = self.config.block_size;
        let at = progress.computed % size;
        let to_new_block = (size - at) % size;
        let mut tokens = to_new_block;
        if self.config.enable_caching && progress.in_flight == 0 {
            // Otherwise a block is cached by the step that takes the next one.
            let to_full_block = size - 1 - at;
            tokens = tokens.min(to_full_block);
        }
        if let Some(sliding) = self.config.sliding_window {
            let settled = progress.settled();
            if self.will_release(lease, settled) {
                return 0;
            }
            // A block leaves the window when `settled + 1 - window` is a multiple of its size.
            let phase = (sliding.window - 1) % size;
            tokens = tokens.min((phase + size - settled % size) % size);
        }
        tokens
    }

    fn version(&self) -> u64 {
        self.pool.version()
    }

    fn enable_caching(&self) -> bool {
        self.config.enable_caching
    }

    fn max_model_len(&self) -> u32 {
        self.config.max_model_len
    }

    fn block_size(&self) -> u32 {
        self.config.block_size
    }

    fn usage(&self) -> CacheUsage {
        CacheUsage {
            usable: self.pool.num_slots() - 1,
            free: self.pool.num_free(),
            cached: self.pool.num_cached() as u64,
            evictions: self.pool.evictions(),
        }
    }

    fn table<'l>(&self, lease: &'l Lease, _: u32) -> &'l [u32] {
        &lease.table
    }

    fn snapshot(&self) -> CacheSnapshot<I::Key> {
        CacheSnapshot {
            free: self.free_queue(),
            refs: self.pool.ref_counts().collect(),
            cached: self
                .pool
                .cached()
                .map(|(key, slots)| (0, key, slots))
                .collect(),
        }
    }

    fn free_queue(&self) -> Vec<u32> {
        self.pool.free_slots().collect()
    }

    fn take_events(&mut self) -> Vec<CacheEvent<I::Key>> {
        self.pool.take_events()
    }

    fn validate<'l>(
        &self,
        leases: impl IntoIterator<Item = (&'l Lease, &'l Progress)>,
    ) -> Result<()> {
        self.pool.validate()?;
        let mut refs = std::collections::BTreeMap::<Slot, u32>::new();
        for (lease, progress) in leases {
            if lease.cached as usize > lease.table.len() {
                return Err(Error::bug(format!(
                    "{lease:?}: more blocks cached than held"
                )));
            }
            if lease.table.len() < self.blocks(u64::from(progress.computed)) {
                return Err(Error::bug(format!(
                    "{lease:?}, {progress:?}: computed tokens without a slot"
                )));
            }
            for &slot in lease.table.iter().filter(|&&slot| slot != NULL_SLOT) {
                *refs.entry(slot).or_default() += 1;
            }
        }
        if !refs.into_iter().eq(self.pool.ref_counts()) {
            return Err(Error::bug("reference counts differ from the block tables"));
        }
        if !self.config.enable_caching && self.pool.num_cached() > 0 {
            return Err(Error::bug("blocks are cached although caching is off"));
        }
        Ok(())
    }
}
