//! How often chunks were offered to the host tier (`v1/kv_offload/reuse_manager.py`).

use std::hash::Hash;

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::key_lists::KeyLists;

/// The counts of the keys offered last. A key that was forgotten starts again at 1.
#[derive(Debug, Clone)]
pub(super) struct Tracker<K> {
    order: KeyLists<K>,
    counts: HashMap<K, u32>,
    most: usize,
}

impl<K: Copy + Eq + Hash> Tracker<K> {
    pub fn new(most: usize) -> Self {
        Self {
            order: KeyLists::new(1),
            counts: HashMap::new(),
            most,
        }
    }

    /// Counts keys that are offered together; none of them drops another.
    pub fn count(&mut self, keys: &[K]) {
        let mut new = Vec::new();
        for key in keys {
            if let Some(count) = self.counts.get_mut(key) {
                *count += 1;
                self.order.put(0, *key);
            } else {
                new.push(*key);
            }
        }
        let together: HashSet<K> = keys.iter().copied().collect();
        for key in new {
            if self.counts.len() >= self.most {
                let Some(oldest) = self.order.oldest(0) else {
                    return;
                };
                if together.contains(&oldest) {
                    return;
                }
                self.order.remove(&oldest);
                self.counts.remove(&oldest);
            }
            self.counts.insert(key, 1);
            self.order.put(0, key);
        }
    }

    pub fn of(&self, key: &K) -> u32 {
        self.counts.get(key).copied().unwrap_or(0)
    }

    /// Keys and counts, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        self.order.iter(0).map(|key| (key, self.of(&key)))
    }

    pub fn validate(&self) -> Result<()> {
        self.order.validate()?;
        if self.counts.len() > self.most || self.order.len(0) != self.counts.len() {
            return Err(Error::bug("host tier: counts without an order"));
        }
        if self.iter().any(|(_, count)| count == 0) {
            return Err(Error::bug("host tier: a key was offered 0 times"));
        }
        Ok(())
    }
}
