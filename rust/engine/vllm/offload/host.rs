//! Which chunks are in host memory, and which go when room is needed.

use std::hash::Hash;

use std::collections::{HashMap, HashSet};

use super::arc::{Arc, ArcState};
use super::context::Context;
use super::lru::Lru;
use super::tracker::Tracker;
use crate::error::{Error, Result};
use crate::index::to_u32;

/// Which chunks go first (vLLM's `eviction_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EvictionPolicy {
    /// Those whose last use is longest ago.
    #[default]
    Lru,
    /// Adaptive replacement.
    Arc,
}

impl EvictionPolicy {
    /// The policy of that name.
    ///
    /// # Errors
    /// [`Error::Range`] listing the names there are.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "lru" => Ok(Self::Lru),
            "arc" => Ok(Self::Arc),
            other => Err(Error::range(format!(
                "eviction_policy {other:?}: choose lru or arc"
            ))),
        }
    }
}

/// How the host tier behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostTierConfig {
    /// Chunks it has room for.
    pub chunks: u32,
    /// Which chunks go first.
    pub policy: EvictionPolicy,
    /// How often a chunk has to be offered before it is stored; below 2: it is stored at once.
    pub store_threshold: u32,
    /// Chunks whose offers are counted at most.
    pub max_tracker_size: u32,
}

impl HostTierConfig {
    /// LRU, everything is stored; the tracker's size is vLLM's default.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        Self {
            chunks,
            policy: EvictionPolicy::Lru,
            store_threshold: 0,
            max_tracker_size: 64_000,
        }
    }
}

/// Whether a chunk is in the tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is not.
    Miss,
    /// It is being written and cannot be read yet.
    Pending,
    /// It is.
    Hit,
}

/// A resident chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostChunk {
    /// Where it lies.
    pub slot: u32,
    /// How often it is being read; `None` while it is being written.
    pub readers: Option<u32>,
}

/// What is to be stored, if the tier takes an offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Store<K> {
    /// The chunks to copy; those that are there already are not among them.
    pub keys: Vec<K>,
    /// Where each goes.
    pub slots: Vec<u32>,
    /// Chunks that were dropped for them.
    pub evicted: Vec<K>,
}

#[derive(Debug, Clone)]
enum Order<K> {
    Lru(Lru<K>),
    Arc(Arc<K>),
}

/// vLLM's offload manager: the chunks in host memory.
///
/// A copy between the tiers is prepared, which reserves a slot or holds the chunk, and completed when
/// it is done. Chunks that are being copied are never dropped.
///
/// ```
/// use prefixsim::engine::vllm::offload::{Context, HostTier, HostTierConfig, Presence};
/// let mut tier = HostTier::new(HostTierConfig::new(2));
/// let mut request = Context::new();
/// let store = tier.prepare_store(&mut request, &['a', 'b']).unwrap();
/// assert_eq!(store.slots, [0, 1]);
/// assert_eq!(tier.lookup(&'a'), Presence::Pending);
/// tier.complete_store(&store.keys, true);
/// tier.finish(&mut request);
/// // The end of a sequence goes before its beginning.
/// let store = tier.prepare_store(&mut Context::new(), &['c']).unwrap();
/// assert_eq!(store.evicted, ['b']);
/// ```
#[derive(Debug, Clone)]
pub struct HostTier<K> {
    config: HostTierConfig,
    chunks: HashMap<K, HostChunk>,
    order: Order<K>,
    tracker: Tracker<K>,
    /// Slots below it were used.
    next_slot: u32,
    /// Slots that were used and are free, the last one taken first.
    free: Vec<u32>,
    /// Chunks nobody copies.
    idle: usize,
}

impl<K: Copy + Eq + Hash> HostTier<K> {
    /// An empty tier.
    #[must_use]
    pub fn new(config: HostTierConfig) -> Self {
        Self {
            config,
            chunks: HashMap::new(),
            order: Self::new_order(&config),
            tracker: Tracker::new(config.max_tracker_size as usize),
            next_slot: 0,
            free: Vec::new(),
            idle: 0,
        }
    }

    fn new_order(config: &HostTierConfig) -> Order<K> {
        match config.policy {
            EvictionPolicy::Lru => Order::Lru(Lru::new()),
            EvictionPolicy::Arc => Order::Arc(Arc::new(config.chunks)),
        }
    }

    /// How it behaves.
    #[must_use]
    pub fn config(&self) -> &HostTierConfig {
        &self.config
    }

    /// Whether a chunk is there. Changes nothing.
    #[must_use]
    pub fn lookup(&self, key: &K) -> Presence {
        match self.chunks.get(key) {
            None => Presence::Miss,
            Some(HostChunk { readers: None, .. }) => Presence::Pending,
            Some(_) => Presence::Hit,
        }
    }

    /// A request meets `keys`, of which `reused` were there to be read.
    fn observe(&mut self, context: &mut Context<K>, keys: &[K], reused: &[K]) {
        let mut new = Vec::new();
        for &key in keys {
            let facts = context.facts_mut(key);
            if !facts.seen {
                facts.seen = true;
                new.push(key);
            }
        }
        context.seen.extend_from_slice(&new);
        if let Order::Lru(lru) = &mut self.order {
            lru.access(context, &new);
        }
        for &key in reused {
            let facts = context.facts_mut(key);
            facts.reused |= !facts.inserted;
        }
    }

    /// Holds a chunk that is there for a reader; no access is recorded.
    ///
    /// # Errors
    /// [`Error::Range`] if it is not there; then nothing has changed.
    pub fn hold(&mut self, key: &K) -> Result<u32> {
        let chunk = self.chunks.get_mut(key);
        let Some(HostChunk {
            slot,
            readers: Some(readers),
        }) = chunk
        else {
            return Err(Error::range(
                "prepare_load: a chunk is not there, look it up first",
            ));
        };
        *readers += 1;
        self.idle -= usize::from(*readers == 1);
        Ok(*slot)
    }

    /// Holds chunks to be read. Returns where they lie.
    ///
    /// # Errors
    /// [`Error::Range`] if one is not there; then nothing has changed.
    pub fn prepare_load(&mut self, context: &mut Context<K>, keys: &[K]) -> Result<Vec<u32>> {
        if keys.iter().any(|key| self.lookup(key) != Presence::Hit) {
            return Err(Error::range(
                "prepare_load: a chunk is not there, look it up first",
            ));
        }
        let slots = keys.iter().map(|key| self.hold(key)).collect();
        self.observe(context, keys, keys);
        slots
    }

    /// Gives back chunks that were read.
    ///
    /// # Errors
    /// [`Error::Range`] if nobody reads one of them; those before it are given back.
    pub fn complete_load(&mut self, keys: &[K]) -> Result<()> {
        for key in keys {
            let Some(HostChunk {
                readers: Some(readers @ 1..),
                ..
            }) = self.chunks.get_mut(key)
            else {
                return Err(Error::range("complete_load: nobody reads such a chunk"));
            };
            *readers -= 1;
            self.idle += usize::from(*readers == 0);
        }
        Ok(())
    }

    /// Offers chunks of a request. Returns what is to be copied; `None` if there is no room, though the
    /// offer is remembered.
    pub fn prepare_store(&mut self, context: &mut Context<K>, keys: &[K]) -> Option<Store<K>> {
        let threshold = self.config.store_threshold;
        if threshold >= 2 {
            self.tracker.count(keys);
        }
        let (mut todo, mut ready, mut met) = (Vec::new(), Vec::new(), Vec::new());
        for &key in keys {
            match self.lookup(&key) {
                Presence::Miss if threshold >= 2 && self.tracker.of(&key) < threshold => continue,
                Presence::Miss => todo.push(key),
                Presence::Hit => ready.push(key),
                Presence::Pending => continue,
            }
            met.push(key);
        }
        let mut missed = Vec::new();
        for &key in &todo {
            let facts = context.facts_mut(key);
            if !facts.missed {
                facts.missed = true;
                missed.push(key);
            }
        }
        if let Order::Arc(arc) = &mut self.order {
            arc.miss(&missed);
        }
        self.observe(context, &met, &ready);
        if todo.is_empty() {
            return Some(Store {
                keys: Vec::new(),
                slots: Vec::new(),
                evicted: Vec::new(),
            });
        }
        let free = self.fresh() as usize + self.free.len();
        let evicted = self.make_room(todo.len().saturating_sub(free), keys)?;
        let mut slots = Vec::with_capacity(todo.len());
        for &key in &todo {
            slots.push(self.insert(context, key));
        }
        Some(Store {
            keys: todo,
            slots,
            evicted,
        })
    }

    /// Drops `count` chunks, none of which is among `protected`.
    fn make_room(&mut self, count: usize, protected: &[K]) -> Option<Vec<K>> {
        if count == 0 {
            return Some(Vec::new());
        }
        if count > self.idle {
            return None;
        }
        let protected: HashSet<K> = protected.iter().copied().collect();
        let chunks = &self.chunks;
        let may_go = |key: &K| {
            let idle = chunks.get(key).is_some_and(|c| c.readers == Some(0));
            idle && !protected.contains(key)
        };
        let victims = match &mut self.order {
            Order::Lru(lru) => lru.evict(count, may_go)?,
            Order::Arc(arc) => arc.evict(count, may_go)?,
        };
        for key in &victims {
            if let Some(chunk) = self.chunks.remove(key) {
                self.free.push(chunk.slot);
            }
        }
        self.idle -= victims.len();
        Some(victims)
    }

    fn insert(&mut self, context: &mut Context<K>, key: K) -> u32 {
        let slot = self.free_slot();
        let chunk = HostChunk {
            slot,
            readers: None,
        };
        self.chunks.insert(key, chunk);
        match &mut self.order {
            Order::Lru(lru) => lru.insert(context, key),
            Order::Arc(arc) => arc.insert(key),
        }
        context.facts_mut(key).inserted = true;
        slot
    }

    fn free_slot(&mut self) -> u32 {
        if self.next_slot < self.config.chunks {
            self.next_slot += 1;
            return self.next_slot - 1;
        }
        let Some(slot) = self.free.pop() else {
            unreachable!("room was made before");
        };
        slot
    }

    /// Ends copies into the tier: the chunks can be read, or if the copy failed they are gone. Chunks
    /// that are not being written are left as they are.
    pub fn complete_store(&mut self, keys: &[K], ok: bool) {
        for key in keys {
            let Some(chunk) = self.chunks.get_mut(key) else {
                continue;
            };
            if chunk.readers.is_some() {
                continue;
            }
            if ok {
                chunk.readers = Some(0);
                self.idle += 1;
                continue;
            }
            self.free.push(chunk.slot);
            self.chunks.remove(key);
            match &mut self.order {
                Order::Lru(lru) => lru.remove(key),
                Order::Arc(arc) => arc.remove(key),
            }
        }
    }

    /// Chunks are used, the first one last; those that are not there are passed over by LRU.
    pub fn touch(&mut self, keys: &[K]) {
        match &mut self.order {
            Order::Lru(lru) => lru.touch(keys),
            Order::Arc(arc) => {
                let chunks = &self.chunks;
                arc.touch(keys, |key| {
                    chunks.get(key).is_some_and(|c| c.readers.is_none())
                });
            }
        }
    }

    /// A request ends. Does nothing the second time.
    pub fn finish(&mut self, context: &mut Context<K>) {
        let Some(keys) = context.finish() else {
            return;
        };
        match &mut self.order {
            Order::Lru(lru) => lru.touch(&keys),
            Order::Arc(arc) => arc.finish(context, &keys),
        }
    }

    /// Forgets all chunks. What was offered how often is remembered; contexts have to be
    /// [restarted](Context::restart), and copies that are not complete are dropped.
    pub fn reset(&mut self) {
        self.chunks.clear();
        self.order = Self::new_order(&self.config);
        self.next_slot = 0;
        self.free.clear();
        self.idle = 0;
    }

    /// Slots that were never used.
    #[must_use]
    pub fn fresh(&self) -> u32 {
        self.config.chunks - self.next_slot
    }

    /// Slots that were used and are free; the last one is taken first.
    #[must_use]
    pub fn free_slots(&self) -> &[u32] {
        &self.free
    }

    /// Chunks nobody copies.
    #[must_use]
    pub fn idle(&self) -> u32 {
        to_u32(self.idle)
    }

    /// Chunks that are being written.
    #[must_use]
    pub fn pending(&self) -> u32 {
        let pending = self.chunks.values().filter(|c| c.readers.is_none());
        to_u32(pending.count())
    }

    /// Number of chunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// A resident chunk.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<HostChunk> {
        self.chunks.get(key).copied()
    }

    /// The resident chunks: with LRU the first to go first, with ARC those used once, oldest first, and
    /// then those used again.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        match &self.order {
            Order::Lru(lru) => lru.keys().collect(),
            Order::Arc(arc) => arc.keys().collect(),
        }
    }

    /// The lists of the ARC policy; `None` with another.
    #[must_use]
    pub fn arc(&self) -> Option<ArcState<K>> {
        match &self.order {
            Order::Lru(_) => None,
            Order::Arc(arc) => Some(arc.state()),
        }
    }

    /// How often keys were offered, the oldest first; empty without a threshold.
    #[must_use]
    pub fn counts(&self) -> Vec<(K, u32)> {
        self.tracker.iter().collect()
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        match &self.order {
            Order::Lru(lru) => lru.validate()?,
            Order::Arc(arc) => arc.validate()?,
        }
        self.tracker.validate()?;
        let keys = self.keys();
        if keys.len() != self.chunks.len() || !keys.iter().all(|k| self.chunks.contains_key(k)) {
            return Err(Error::bug("host tier: chunks and their order disagree"));
        }
        let idle = self.chunks.values().filter(|c| c.readers == Some(0));
        if idle.count() != self.idle {
            return Err(Error::bug("host tier: the idle chunks are counted wrongly"));
        }
        let mut slots: Vec<u32> = self.chunks.values().map(|c| c.slot).collect();
        slots.extend_from_slice(&self.free);
        slots.sort_unstable();
        if !slots.iter().copied().eq(0..self.next_slot) || self.next_slot > self.config.chunks {
            return Err(Error::bug("host tier: a slot is lost or used twice"));
        }
        Ok(())
    }
}
