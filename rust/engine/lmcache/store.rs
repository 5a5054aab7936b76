//! The chunks of one tier, and which goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::error::{Error, Result};
use crate::key_lists::KeyLists;

/// Which chunk goes first (LMCache's `cache_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CachePolicy {
    /// The one whose last use is longest ago.
    #[default]
    Lru,
    /// The least often used one, of these the one that got there first.
    Lfu,
    /// The one that came in first.
    Fifo,
    /// The one used last.
    Mru,
}

impl CachePolicy {
    /// All policies, by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("lru", Self::Lru),
        ("lfu", Self::Lfu),
        ("fifo", Self::Fifo),
        ("mru", Self::Mru),
    ];

    /// The policy of that name.
    ///
    /// # Errors
    /// [`Error::Range`] listing the names there are.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found
            .map(|&(_, policy)| policy)
            .ok_or_else(|| Error::range(format!("policy {name:?}: choose lru, lfu, fifo or mru")))
    }
}

/// How often a chunk was used, and its place among those used as often.
type Frequency = (u64, u64);

/// The chunks of one tier. Room is made one chunk at a time.
///
/// ```
/// use prefixsim::engine::lmcache::{CachePolicy, ChunkStore};
/// let mut store = ChunkStore::new(2, CachePolicy::Lru);
/// store.put('a');
/// store.put('b');
/// store.hit(&'a');
/// assert_eq!(store.evict(|_| true), Some('b'));
/// ```
#[derive(Debug, Clone)]
pub struct ChunkStore<K> {
    capacity: usize,
    policy: CachePolicy,
    /// All chunks: with LRU and MRU by their last use, else as they came in.
    order: KeyLists<K>,
    /// With LFU: how often each was used, both ways.
    frequency: HashMap<K, Frequency>,
    by_frequency: BTreeMap<Frequency, K>,
    /// Puts and hits so far.
    time: u64,
}

impl<K: Copy + Eq + Hash> ChunkStore<K> {
    /// An empty store.
    #[must_use]
    pub fn new(capacity: u32, policy: CachePolicy) -> Self {
        Self {
            capacity: capacity as usize,
            policy,
            order: KeyLists::new(1),
            frequency: HashMap::new(),
            by_frequency: BTreeMap::new(),
            time: 0,
        }
    }

    /// Number of chunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len(0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Chunks it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether a chunk is there.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.order.list_of(key).is_some()
    }

    /// Adds a chunk that is not there; the caller made room.
    pub fn put(&mut self, key: K) {
        debug_assert!(!self.contains(&key));
        self.order.put(0, key);
        if self.policy == CachePolicy::Lfu {
            self.count(key, 1);
        }
    }

    /// Uses a chunk; does nothing if it is not there.
    pub fn hit(&mut self, key: &K) {
        if !self.contains(key) {
            return;
        }
        match self.policy {
            CachePolicy::Lru | CachePolicy::Mru => self.order.put(0, *key),
            CachePolicy::Fifo => {}
            CachePolicy::Lfu => {
                let (uses, _) = self.frequency[key];
                self.count(*key, uses + 1);
            }
        }
    }

    fn count(&mut self, key: K, uses: u64) {
        self.time += 1;
        let new = (uses, self.time);
        if let Some(old) = self.frequency.insert(key, new) {
            self.by_frequency.remove(&old);
        }
        self.by_frequency.insert(new, key);
    }

    /// Takes out the chunk that goes first among those that may.
    pub fn evict(&mut self, may_go: impl Fn(&K) -> bool) -> Option<K> {
        let victim = match self.policy {
            CachePolicy::Lru | CachePolicy::Fifo => self.order.iter(0).find(|key| may_go(key)),
            CachePolicy::Mru => self.order.iter_back(0).find(|key| may_go(key)),
            CachePolicy::Lfu => {
                let mut keys = self.by_frequency.values().copied();
                keys.find(|key| may_go(key))
            }
        }?;
        self.order.remove(&victim);
        if let Some(place) = self.frequency.remove(&victim) {
            self.by_frequency.remove(&place);
        }
        Some(victim)
    }

    /// The chunks: with LRU and MRU by their last use, the oldest first; else as they came in.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        self.order.iter(0).collect()
    }

    /// With LFU: how many chunks were used how often, ascending.
    #[must_use]
    pub fn frequencies(&self) -> Vec<(u64, u64)> {
        let mut found: BTreeMap<u64, u64> = BTreeMap::new();
        for &(uses, _) in self.by_frequency.keys() {
            *found.entry(uses).or_default() += 1;
        }
        found.into_iter().collect()
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.order.validate()?;
        if self.len() > self.capacity {
            return Err(Error::bug("chunk store: more chunks than fit"));
        }
        let counted = if self.policy == CachePolicy::Lfu {
            self.len()
        } else {
            0
        };
        let agree = |(place, key): (&Frequency, &K)| {
            self.frequency.get(key) == Some(place) && self.contains(key)
        };
        if self.frequency.len() != counted
            || self.by_frequency.len() != counted
            || !self.by_frequency.iter().all(agree)
        {
            return Err(Error::bug("chunk store: frequencies and chunks disagree"));
        }
        Ok(())
    }
}
