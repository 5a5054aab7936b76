//! The first level of LMCache's server.

use std::hash::Hash;

use super::Served;
use crate::error::{Error, Result};
use crate::index::{to_f64, to_u32, to_usize};
use crate::key_lists::KeyLists;

/// Which chunks the server drops first (its `eviction_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerPolicy {
    /// Those whose last use is longest ago.
    #[default]
    Lru,
    /// Adaptive replacement.
    Arc,
}

impl ServerPolicy {
    /// The policy of that name.
    ///
    /// # Errors
    /// [`Error::Range`] listing the names there are.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "lru" => Ok(Self::Lru),
            "arc" => Ok(Self::Arc),
            other => Err(Error::range(format!(
                "policy {other:?}: the server has lru and arc, choose one"
            ))),
        }
    }
}

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerConfig {
    /// Chunks it has room for.
    pub chunks: u32,
    /// Which chunks go first.
    pub policy: ServerPolicy,
    /// Share of the room in use from which chunks are dropped (`trigger_watermark`).
    pub watermark: f64,
    /// Share of the chunks that is dropped then (`eviction_ratio`).
    pub ratio: f64,
}

impl ServerConfig {
    /// # Errors
    /// [`Error::Range`] if a share is not from 0 to 1, or there is no room.
    pub fn validate(&self) -> Result<()> {
        for (name, share) in [
            ("trigger_watermark", self.watermark),
            ("eviction_ratio", self.ratio),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::range(format!(
                    "{name} is {share}, it must be from 0 to 1"
                )));
            }
        }
        if self.chunks == 0 {
            return Err(Error::range("the server has room for 0 chunks, give more"));
        }
        Ok(())
    }
}

/// The lists. With LRU all chunks are in the first.
const T1: usize = 0;
const T2: usize = 1;
const B1: usize = 2;
const B2: usize = 3;

/// Between two looks at how full it is, in nanoseconds.
const TICK: u64 = 1_000_000_000;

/// The chunks in the server's memory. Room is made once a second; in between, a store that does not fit
/// is refused as a whole.
#[derive(Debug, Clone)]
pub struct Server<K> {
    config: ServerConfig,
    lists: KeyLists<K>,
    /// ARC: most chunks there ever were, by which ghosts are bounded.
    most_chunks: usize,
    /// ARC: chunks that the first list should have.
    target: f64,
    /// When it looked last.
    last_tick: u64,
}

impl<K: Copy + Eq + Hash> Server<K> {
    /// An empty server.
    ///
    /// # Errors
    /// [`Error::Range`] if the configuration is not usable.
    pub fn new(config: ServerConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            lists: KeyLists::new(4),
            most_chunks: 0,
            target: 0.0,
            last_tick: 0,
        })
    }

    /// Chunks in memory.
    #[must_use]
    pub fn used(&self) -> usize {
        self.lists.len(T1) + self.lists.len(T2)
    }

    /// The lists T1, T2, B1 and B2, oldest chunk first; with LRU all chunks are in the first.
    #[must_use]
    pub fn lists(&self) -> [Vec<K>; 4] {
        [T1, T2, B1, B2].map(|list| self.lists.iter(list).collect())
    }

    /// ARC: chunks that the first list should have.
    #[must_use]
    pub fn target(&self) -> f64 {
        self.target
    }

    /// ARC: most chunks there ever were.
    #[must_use]
    pub fn most_chunks(&self) -> usize {
        self.most_chunks
    }

    fn is_arc(&self) -> bool {
        self.config.policy == ServerPolicy::Arc
    }

    /// Whether a chunk is in memory.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        matches!(self.lists.list_of(key), Some(T1 | T2))
    }

    /// Lets time pass until `now` (nanoseconds), which never decreases.
    pub fn wait(&mut self, now: u64, evicted: &mut impl FnMut(K)) {
        while self.last_tick + TICK <= now {
            self.last_tick += TICK;
            if !self.tick(evicted) {
                // Nothing happens until the next request.
                self.last_tick += (now - self.last_tick) / TICK * TICK;
            }
        }
    }

    /// Looks how full it is; returns whether chunks were dropped.
    fn tick(&mut self, evicted: &mut impl FnMut(K)) -> bool {
        let used = self.used();
        let full = to_f64(used as u64);
        if used == 0 || full / f64::from(self.config.chunks) < self.config.watermark {
            return false;
        }
        // Not negative, and at most the number of chunks.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = to_usize((full * self.config.ratio) as u64).max(1);
        if self.is_arc() {
            self.evict_arc(count, evicted);
        } else {
            for _ in 0..count {
                let Some(oldest) = self.lists.oldest(T1) else {
                    break;
                };
                self.lists.remove(&oldest);
                evicted(oldest);
            }
        }
        true
    }

    /// Serves a prompt of these chunks: uses what is found, stores the rest, all or none.
    pub fn serve(&mut self, keys: &[K]) -> Served {
        let found = keys.iter().take_while(|key| self.contains(key)).count();
        for key in keys[..found].iter().rev() {
            self.lists.put(if self.is_arc() { T2 } else { T1 }, *key);
        }
        let rest = &keys[found..];
        let new: Vec<K> = rest
            .iter()
            .copied()
            .filter(|key| !self.contains(key))
            .collect();
        let refused = self.used() + new.len() > self.config.chunks as usize;
        if !refused {
            for key in new.iter().rev() {
                self.insert(*key);
            }
        }
        Served {
            cpu_hits: to_u32(found),
            disk_hits: 0,
            stored: if refused { 0 } else { to_u32(new.len()) },
            refused,
        }
    }

    fn insert(&mut self, key: K) {
        if !self.is_arc() {
            self.lists.put(T1, key);
            return;
        }
        let size = |list| to_f64(self.lists.len(list) as u64);
        match self.lists.list_of(&key) {
            Some(B1) => {
                let step = (size(B2) / size(B1)).max(1.0);
                self.target = (self.target + step).min(to_f64(self.most_chunks as u64));
            }
            Some(B2) => {
                let step = (size(B1) / size(B2)).max(1.0);
                self.target = (self.target - step).max(0.0);
            }
            _ => {}
        }
        self.lists.put(T1, key);
        self.most_chunks = self.most_chunks.max(self.used());
        self.trim();
    }

    fn evict_arc(&mut self, count: usize, evicted: &mut impl FnMut(K)) {
        self.most_chunks = self.most_chunks.max(self.used());
        self.target = self.target.min(to_f64(self.most_chunks as u64));
        self.trim();
        for _ in 0..count {
            // Not negative, and at most the number of chunks.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let target = to_usize(self.target as u64);
            let from_first = self.lists.len(T1) >= target;
            let first = self.lists.oldest(T1).map(|key| (key, B1));
            let second = self.lists.oldest(T2).map(|key| (key, B2));
            let victim = if from_first {
                first.or(second)
            } else {
                second.or(first)
            };
            let Some((key, ghosts)) = victim else {
                break;
            };
            self.lists.put(ghosts, key);
            evicted(key);
        }
        self.trim();
    }

    /// Forgets the oldest keys that left, as far as they are too many.
    fn trim(&mut self) {
        let len = |lists: &KeyLists<K>, list| lists.len(list);
        while len(&self.lists, T1) + len(&self.lists, B1) > self.most_chunks {
            if !self.forget_oldest(B1) {
                break;
            }
        }
        while (0..4).map(|list| len(&self.lists, list)).sum::<usize>() > 2 * self.most_chunks {
            if !self.forget_oldest(B2) && !self.forget_oldest(B1) {
                break;
            }
        }
    }

    fn forget_oldest(&mut self, list: usize) -> bool {
        match self.lists.oldest(list) {
            Some(key) => self.lists.remove(&key),
            None => false,
        }
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.lists.validate()?;
        if self.used() > self.config.chunks as usize {
            return Err(Error::bug("LMCache server: more chunks than fit"));
        }
        let others = [T2, B1, B2].map(|list| self.lists.len(list));
        if !self.is_arc() && others != [0; 3] {
            return Err(Error::bug("LMCache server: LRU has one list"));
        }
        if !(0.0..=to_f64(self.most_chunks as u64)).contains(&self.target) {
            return Err(Error::bug("LMCache server: the target is out of range"));
        }
        Ok(())
    }
}
