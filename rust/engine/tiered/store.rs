//! Blocks of a lower tier, the least recently used one dropped first.

use std::collections::HashMap;
use std::hash::Hash;

use crate::error::{Error, Result};

/// Keys of at most `capacity` blocks, in order of their last use.
///
/// Entries are a doubly linked list in a slab, whose entry 0 is the head: its `older` is the most
/// recent block, its `newer` the one that is dropped next.
///
/// ```
/// use prefixsim::engine::tiered::BlockStore;
/// let mut store = BlockStore::new(2);
/// store.insert('a');
/// store.insert('b');
/// store.touch(&'a');
/// assert_eq!(store.insert('c'), Some('b'));
/// assert_eq!(store.iter().collect::<Vec<_>>(), ['c', 'a']);
/// ```
#[derive(Debug, Clone)]
pub struct BlockStore<K> {
    capacity: usize,
    index: HashMap<K, usize>,
    entries: Vec<Entry<K>>,
    /// Entries nobody uses.
    spare: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Entry<K> {
    /// `None` in the head and in spare entries.
    key: Option<K>,
    newer: usize,
    older: usize,
}

/// The entry that is no block.
const HEAD: usize = 0;

impl<K: Copy + Eq + Hash> BlockStore<K> {
    /// An empty store.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self {
            capacity: capacity as usize,
            index: HashMap::new(),
            entries: vec![Entry {
                key: None,
                newer: HEAD,
                older: HEAD,
            }],
            spare: Vec::new(),
        }
    }

    /// Number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether a block is there.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    /// Makes a block the most recently used one; `false` if it is not there.
    pub fn touch(&mut self, key: &K) -> bool {
        let Some(&at) = self.index.get(key) else {
            return false;
        };
        self.unlink(at);
        self.link(at);
        true
    }

    /// Adds a block, or makes it the most recently used one. Returns the block that was dropped for
    /// it, which is `key` itself if nothing fits.
    pub fn insert(&mut self, key: K) -> Option<K> {
        if self.touch(&key) {
            return None;
        }
        if self.capacity == 0 {
            return Some(key);
        }
        let mut dropped = None;
        if self.index.len() == self.capacity {
            dropped = self.entries[self.entries[HEAD].newer].key;
            if let Some(last) = dropped {
                self.remove(&last);
            }
        }
        let entry = Entry {
            key: Some(key),
            newer: HEAD,
            older: HEAD,
        };
        let at = if let Some(at) = self.spare.pop() {
            self.entries[at] = entry;
            at
        } else {
            self.entries.push(entry);
            self.entries.len() - 1
        };
        self.index.insert(key, at);
        self.link(at);
        dropped
    }

    /// Takes a block out; `false` if it is not there.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(at) = self.index.remove(key) else {
            return false;
        };
        self.unlink(at);
        self.entries[at].key = None;
        self.spare.push(at);
        true
    }

    /// The blocks, most recently used first.
    pub fn iter(&self) -> impl Iterator<Item = K> + '_ {
        let mut at = HEAD;
        std::iter::from_fn(move || {
            at = self.entries[at].older;
            self.entries[at].key
        })
    }

    /// Puts an entry at the most recent end.
    fn link(&mut self, at: usize) {
        let second = self.entries[HEAD].older;
        self.entries[at].newer = HEAD;
        self.entries[at].older = second;
        self.entries[second].newer = at;
        self.entries[HEAD].older = at;
    }

    fn unlink(&mut self, at: usize) {
        let Entry { newer, older, .. } = self.entries[at];
        self.entries[newer].older = older;
        self.entries[older].newer = newer;
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        if self.index.len() > self.capacity {
            return Err(Error::bug("block store: more blocks than fit"));
        }
        if self.index.len() + self.spare.len() + 1 != self.entries.len() {
            return Err(Error::bug("block store: an entry is lost"));
        }
        let (mut at, mut linked) = (HEAD, 0);
        loop {
            let older = self.entries[at].older;
            if self.entries[older].newer != at {
                return Err(Error::bug(format!(
                    "block store: entries {at} and {older} disagree"
                )));
            }
            if older == HEAD {
                break;
            }
            let key = self.entries[older].key;
            if key.and_then(|key| self.index.get(&key)) != Some(&older) {
                return Err(Error::bug(format!("block store: entry {older} is unknown")));
            }
            linked += 1;
            if linked > self.index.len() {
                return Err(Error::bug("block store: the list does not end"));
            }
            at = older;
        }
        if linked != self.index.len() {
            return Err(Error::bug("block store: a block is not in the list"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list in order of use, which cannot be wrong.
        #[test]
        fn behaves_like_a_list(capacity in 0_u32..6, ops in prop::collection::vec((0_u8..4, 0_u8..9), 0..80)) {
            let mut store = BlockStore::new(capacity);
            let mut model: Vec<u8> = Vec::new();
            for (op, key) in ops {
                let at = model.iter().position(|&k| k == key);
                prop_assert_eq!(store.contains(&key), at.is_some());
                match op {
                    0 => {
                        prop_assert_eq!(store.remove(&key), at.is_some());
                        model.retain(|&k| k != key);
                    }
                    1 => {
                        prop_assert_eq!(store.touch(&key), at.is_some());
                        if let Some(at) = at {
                            let key = model.remove(at);
                            model.insert(0, key);
                        }
                    }
                    _ => {
                        model.retain(|&k| k != key);
                        model.insert(0, key);
                        let dropped = (model.len() > capacity as usize).then(|| model.pop()).flatten();
                        prop_assert_eq!(store.insert(key), dropped);
                    }
                }
                prop_assert_eq!(store.validate(), Ok(()));
                prop_assert_eq!(store.iter().collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(store.is_empty(), model.is_empty());
            }
        }
    }
}
