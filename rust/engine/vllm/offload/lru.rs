//! The LRU policy of the host tier (`v1/kv_offload/cpu/policies/lru.py`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::Hash;

use std::collections::HashMap;

use super::context::{Context, Rank};
use crate::error::{Error, Result};

/// Chunks by rank. A chunk that a request puts in or uses gets the request's rank, at its position;
/// when the request ends, all its chunks become the most recent ones, its end first.
#[derive(Debug, Clone)]
pub(super) struct Lru<K> {
    ranks: HashMap<K, Rank>,
    order: BTreeMap<Rank, K>,
    time: u64,
}

impl<K: Copy + Eq + Hash> Lru<K> {
    pub fn new() -> Self {
        Self {
            ranks: HashMap::new(),
            order: BTreeMap::new(),
            time: 0,
        }
    }

    fn now(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    fn time_of(&mut self, context: &mut Context<K>) -> u64 {
        *context.rank.get_or_insert_with(|| self.now())
    }

    /// Gives a chunk a place, the old one being its own if it had one.
    fn place(&mut self, key: K, rank: Rank) {
        if let Some(old) = self.ranks.insert(key, rank) {
            self.order.remove(&old);
        }
        self.order.insert(rank, key);
    }

    /// A chunk comes in.
    pub fn insert(&mut self, context: &mut Context<K>, key: K) {
        let rank = match context.position(&key) {
            Some(position) => Rank {
                time: self.time_of(context),
                position: Reverse(position),
            },
            None => Rank {
                time: self.now(),
                position: Reverse(0),
            },
        };
        self.place(key, rank);
    }

    /// A request meets chunks for the first time.
    pub fn access(&mut self, context: &mut Context<K>, keys: &[K]) {
        if keys.is_empty() {
            return;
        }
        let time = self.time_of(context);
        for key in keys {
            let (Some(&old), Some(position)) = (self.ranks.get(key), context.position(key)) else {
                continue;
            };
            let rank = Rank {
                time,
                position: Reverse(position),
            };
            if rank > old {
                self.place(*key, rank);
            }
        }
    }

    /// Makes chunks the most recent ones, the first most of all.
    pub fn touch(&mut self, keys: &[K]) {
        for key in keys.iter().rev() {
            if self.ranks.contains_key(key) {
                let rank = Rank {
                    time: self.now(),
                    position: Reverse(0),
                };
                self.place(*key, rank);
            }
        }
    }

    /// Takes the `count` chunks that go first among those that may; `None` if there are fewer.
    pub fn evict(&mut self, count: usize, may_go: impl Fn(&K) -> bool) -> Option<Vec<K>> {
        let order = self.order.values().copied();
        let victims: Vec<K> = order.filter(|key| may_go(key)).take(count).collect();
        if victims.len() < count {
            return None;
        }
        for key in &victims {
            self.remove(key);
        }
        Some(victims)
    }

    pub fn remove(&mut self, key: &K) {
        if let Some(rank) = self.ranks.remove(key) {
            self.order.remove(&rank);
        }
    }

    /// Chunks in order, the first to go first.
    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.order.values().copied()
    }

    pub fn validate(&self) -> Result<()> {
        let known = |(rank, key): (&Rank, &K)| self.ranks.get(key) == Some(rank);
        if self.order.len() != self.ranks.len() || !self.order.iter().all(known) {
            return Err(Error::bug("host tier, LRU: ranks and order disagree"));
        }
        if self.order.keys().any(|rank| rank.time > self.time) {
            return Err(Error::bug("host tier, LRU: a rank is in the future"));
        }
        Ok(())
    }
}
