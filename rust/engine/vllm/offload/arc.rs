//! The ARC policy of the host tier (`v1/kv_offload/cpu/policies/arc.py`).

use std::hash::Hash;

use super::context::Context;
use crate::error::{Error, Result};
use crate::index::{to_f64, to_usize};
use crate::key_lists::KeyLists;

/// Chunks seen once, chunks seen again, and the keys of chunks that left either.
const T1: usize = 0;
const T2: usize = 1;
const B1: usize = 2;
const B2: usize = 3;

/// Adaptive replacement: how many chunks are kept for having been used once, and how many for having
/// been used again, follows the keys that come back after they left.
#[derive(Debug, Clone)]
pub(super) struct Arc<K> {
    lists: KeyLists<K>,
    capacity: usize,
    target: f64,
}

/// The lists of the ARC policy, oldest key first.
#[derive(Debug, Clone, PartialEq)]
pub struct ArcState<K> {
    /// Resident, used once.
    pub t1: Vec<K>,
    /// Resident, used again.
    pub t2: Vec<K>,
    /// Left the first list.
    pub b1: Vec<K>,
    /// Left the second list.
    pub b2: Vec<K>,
    /// Chunks that the first list should have.
    pub target_t1: f64,
}

impl<K: Copy + Eq + Hash> Arc<K> {
    pub fn new(capacity: u32) -> Self {
        Self {
            lists: KeyLists::new(4),
            capacity: capacity as usize,
            target: 0.0,
        }
    }

    /// A chunk comes in.
    pub fn insert(&mut self, key: K) {
        self.lists.put(T1, key);
    }

    /// Learns from the keys that are not resident, last to first.
    pub fn miss(&mut self, keys: &[K]) {
        for key in keys.iter().rev() {
            self.learn(*key);
        }
    }

    /// A key comes that is not resident: if it left not long ago, its list was too short.
    fn learn(&mut self, key: K) {
        let size = |list| to_f64(self.lists.len(list) as u64);
        let list = self.lists.list_of(&key);
        match list {
            Some(B1) => {
                let step = (size(B2) / size(B1)).max(1.0);
                self.target = (self.target + step).min(to_f64(self.capacity as u64));
            }
            Some(B2) => {
                let step = (size(B1) / size(B2)).max(1.0);
                self.target = (self.target - step).max(0.0);
            }
            _ => return,
        }
        if let Some(list) = list {
            self.lists.put(list, key);
        }
    }

    /// Keys are used, the first one last; `pending` says which are being written.
    pub fn touch(&mut self, keys: &[K], pending: impl Fn(&K) -> bool) {
        for key in keys.iter().rev() {
            match self.lists.list_of(key) {
                Some(T1) if pending(key) => self.lists.put(T1, *key),
                Some(T1 | T2) => self.lists.put(T2, *key),
                _ => self.learn(*key),
            }
        }
    }

    /// A request ends: what it put in becomes recent in its list, what it used again is in the second.
    pub fn finish(&mut self, context: &Context<K>, keys: &[K]) {
        for key in keys.iter().rev() {
            let Some(list @ (T1 | T2)) = self.lists.list_of(key) else {
                continue;
            };
            let facts = context.facts.get(key).copied().unwrap_or_default();
            if facts.reused {
                self.lists.put(T2, *key);
            } else if facts.inserted {
                self.lists.put(list, *key);
            }
        }
    }

    /// Takes `count` chunks among those that may go; `None`, and nothing changed, if there are fewer.
    pub fn evict(&mut self, count: usize, may_go: impl Fn(&K) -> bool) -> Option<Vec<K>> {
        let mut once = self.lists.iter(T1).filter(&may_go);
        let mut again = self.lists.iter(T2).filter(&may_go);
        let (mut victims, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        // Not negative, and at most the capacity.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let target = to_usize(self.target as u64);
        for _ in 0..count {
            let from_first = self.lists.len(T1) - first.len() >= target;
            let mut found = from_first.then(|| once.next()).flatten().map(|k| (k, true));
            if found.is_none() {
                found = again.next().map(|key| (key, false));
            }
            if found.is_none() {
                found = once.next().map(|key| (key, true));
            }
            let (key, was_first) = found?;
            victims.push(key);
            (if was_first { &mut first } else { &mut second }).push(key);
        }
        drop((once, again));
        for (left, ghosts) in [(first, B1), (second, B2)] {
            for key in left {
                self.lists.put(ghosts, key);
            }
        }
        for ghosts in [B1, B2] {
            while self.lists.len(ghosts) > self.capacity
                && let Some(oldest) = self.lists.oldest(ghosts)
            {
                self.lists.remove(&oldest);
            }
        }
        Some(victims)
    }

    pub fn remove(&mut self, key: &K) {
        self.lists.remove(key);
    }

    /// Resident chunks, those used once first, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.lists.iter(T1).chain(self.lists.iter(T2))
    }

    pub fn state(&self) -> ArcState<K> {
        ArcState {
            t1: self.lists.iter(T1).collect(),
            t2: self.lists.iter(T2).collect(),
            b1: self.lists.iter(B1).collect(),
            b2: self.lists.iter(B2).collect(),
            target_t1: self.target,
        }
    }

    pub fn validate(&self) -> Result<()> {
        self.lists.validate()?;
        let most = to_f64(self.capacity as u64);
        if !(0.0..=most).contains(&self.target) {
            return Err(Error::bug(format!(
                "host tier, ARC: a target of {} of {most} chunks",
                self.target
            )));
        }
        if [B1, B2]
            .iter()
            .any(|&list| self.lists.len(list) > self.capacity)
        {
            return Err(Error::bug("host tier, ARC: too many keys that left"));
        }
        Ok(())
    }
}
