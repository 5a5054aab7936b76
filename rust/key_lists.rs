//! Keys in several lists, each of which is in one list at most.

use std::hash::Hash;

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::index::to_u32;

/// Keys in lists that are numbered from 0. Every list has an old end and a new one; taking a key out
/// of any place of any list, and putting it at a new end, cost the same however long the lists are.
///
/// The lists are rings through one slab of entries, whose first ones are the heads: a head's `newer`
/// is the oldest key of its list, its `older` the newest.
///
/// Invariants, checked by [`KeyLists::validate`]:
/// * the index knows exactly the keys in the lists, and where each is;
/// * `newer` and `older` of neighbours agree, and every ring comes back to its head.
#[derive(Debug, Clone)]
pub(crate) struct KeyLists<K> {
    index: HashMap<K, u32>,
    entries: Vec<Entry<K>>,
    /// Entries nobody uses.
    spare: Vec<u32>,
    lens: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Entry<K> {
    /// `None` in heads and in spare entries.
    key: Option<K>,
    list: u32,
    newer: u32,
    older: u32,
}

impl<K: Copy + Eq + Hash> KeyLists<K> {
    /// So many empty lists.
    pub fn new(lists: usize) -> Self {
        let head = |list| Entry {
            key: None,
            list,
            newer: list,
            older: list,
        };
        Self {
            index: HashMap::new(),
            entries: (0..to_u32(lists)).map(head).collect(),
            spare: Vec::new(),
            lens: vec![0; lists],
        }
    }

    /// Number of keys in a list.
    pub fn len(&self, list: usize) -> usize {
        self.lens[list]
    }

    /// The list a key is in.
    pub fn list_of(&self, key: &K) -> Option<usize> {
        let at = *self.index.get(key)?;
        Some(self.entries[at as usize].list as usize)
    }

    /// The keys of a list, oldest first.
    pub fn iter(&self, list: usize) -> impl Iterator<Item = K> + '_ {
        let mut at = list;
        std::iter::from_fn(move || {
            at = self.entries[at].newer as usize;
            self.entries[at].key
        })
        .fuse() // Behind the last key the list begins again.
    }

    /// The keys of a list, newest first.
    pub fn iter_back(&self, list: usize) -> impl Iterator<Item = K> + '_ {
        let mut at = list;
        std::iter::from_fn(move || {
            at = self.entries[at].older as usize;
            self.entries[at].key
        })
        .fuse() // Behind the last key the list begins again.
    }

    /// The oldest key of a list.
    pub fn oldest(&self, list: usize) -> Option<K> {
        self.iter(list).next()
    }

    /// Puts a key at the new end of a list, out of the one it is in, if it is in any.
    pub fn put(&mut self, list: usize, key: K) {
        let at = match self.index.get(&key) {
            Some(&at) => {
                self.unlink(at);
                at
            }
            None => self.new_entry(key),
        };
        self.link(list, at);
    }

    /// Takes a key out of its list; `false` if it is in none.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(at) = self.index.remove(key) else {
            return false;
        };
        self.unlink(at);
        self.entries[at as usize].key = None;
        self.spare.push(at);
        true
    }

    fn new_entry(&mut self, key: K) -> u32 {
        let entry = Entry {
            key: Some(key),
            list: 0,
            newer: 0,
            older: 0,
        };
        let at = if let Some(at) = self.spare.pop() {
            self.entries[at as usize] = entry;
            at
        } else {
            self.entries.push(entry);
            to_u32(self.entries.len() - 1)
        };
        self.index.insert(key, at);
        at
    }

    fn link(&mut self, list: usize, at: u32) {
        let head = to_u32(list);
        let before = self.entries[list].older;
        let entry = &mut self.entries[at as usize];
        entry.list = head;
        entry.newer = head;
        entry.older = before;
        self.entries[before as usize].newer = at;
        self.entries[list].older = at;
        self.lens[list] += 1;
    }

    fn unlink(&mut self, at: u32) {
        let Entry {
            list, newer, older, ..
        } = self.entries[at as usize];
        self.entries[newer as usize].older = older;
        self.entries[older as usize].newer = newer;
        self.lens[list as usize] -= 1;
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        if self.index.len() + self.spare.len() + self.lens.len() != self.entries.len() {
            return Err(Error::bug("key lists: an entry is lost"));
        }
        if self.lens.iter().sum::<usize>() != self.index.len() {
            return Err(Error::bug("key lists: a key is in no list"));
        }
        for list in 0..self.lens.len() {
            let (mut at, mut linked) = (list, 0);
            loop {
                let newer = self.entries[at].newer as usize;
                if self.entries[newer].older as usize != at {
                    return Err(Error::bug(format!(
                        "key lists: entries {at} and {newer} disagree"
                    )));
                }
                if newer == list {
                    break;
                }
                let entry = &self.entries[newer];
                let known = entry.key.and_then(|key| self.index.get(&key));
                if known != Some(&to_u32(newer)) || entry.list as usize != list {
                    return Err(Error::bug(format!("key lists: entry {newer} is unknown")));
                }
                linked += 1;
                if linked > self.lens[list] {
                    return Err(Error::bug("key lists: a list does not end"));
                }
                at = newer;
            }
            if linked != self.lens[list] {
                return Err(Error::bug("key lists: the length of a list is wrong"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against vectors, which cannot be wrong.
        #[test]
        fn behave_like_vectors(ops in prop::collection::vec((0_u8..2, 0_usize..3, 0_u8..9), 0..80)) {
            let mut lists = KeyLists::new(3);
            let mut model: Vec<Vec<u8>> = vec![Vec::new(); 3];
            for (op, list, key) in ops {
                let at = model.iter().position(|keys| keys.contains(&key));
                prop_assert_eq!(lists.list_of(&key), at);
                for keys in &mut model {
                    keys.retain(|&k| k != key);
                }
                if op == 0 {
                    prop_assert_eq!(lists.remove(&key), at.is_some());
                } else {
                    lists.put(list, key);
                    model[list].push(key);
                }
                prop_assert_eq!(lists.validate(), Ok(()));
                for (list, keys) in model.iter().enumerate() {
                    prop_assert_eq!(lists.len(list), keys.len());
                    prop_assert_eq!(lists.oldest(list), keys.first().copied());
                    prop_assert_eq!(&lists.iter(list).collect::<Vec<_>>(), keys);
                    let mut back: Vec<_> = lists.iter_back(list).collect();
                    back.reverse();
                    prop_assert_eq!(&back, keys);
                }
            }
        }
    }
}
