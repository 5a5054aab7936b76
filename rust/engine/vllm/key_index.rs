//! From a block's key to the slot that was first to hold it.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Slot;
use crate::hash::BlockKey;

/// A map from keys to slots whose keys are stored elsewhere: `keys[slot]` is the key of a slot.
pub trait KeyIndex: Send + Sync {
    /// What a block is found by.
    type Key: Copy + Eq + Send + Sync + std::fmt::Debug;

    /// The slot of a key.
    fn get(&self, keys: &[Self::Key], key: &Self::Key) -> Option<Slot>;

    /// The slot of a key; if there is none, `slot` from now on, and `None`.
    ///
    /// The caller has set `keys[slot]` to `key`.
    fn get_or_insert(&mut self, keys: &[Self::Key], slot: Slot) -> Option<Slot>;

    /// Lets `new` take the place of `old`, which has the same key.
    fn replace(&mut self, keys: &[Self::Key], old: Slot, new: Slot);

    /// Forgets the key of `slot`, which is the one stored for it.
    fn remove(&mut self, keys: &[Self::Key], slot: Slot);

    /// Forgets everything.
    fn clear(&mut self);

    /// Makes room for so many keys, before there are any.
    fn reserve(&mut self, keys: usize);

    /// Number of keys.
    fn len(&self) -> usize;

    /// Whether there are no keys.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slots stored, in no particular order.
    fn slots(&self) -> Vec<Slot>;

    /// A key to fill unused places with.
    fn blank() -> Self::Key;
}

/// For hashes: open addressing with 5 bytes per entry; the keys stay with the slots.
#[derive(Debug, Clone)]
pub struct TableIndex<K> {
    table: HashTable<Slot>,
    blank: std::marker::PhantomData<K>,
}

impl<K> Default for TableIndex<K> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            blank: std::marker::PhantomData,
        }
    }
}

impl<K: BlockKey + Blank> KeyIndex for TableIndex<K> {
    type Key = K;

    fn get(&self, keys: &[K], key: &K) -> Option<Slot> {
        let same = |&slot: &Slot| keys[slot as usize] == *key;
        self.table.find(key.bits(), same).copied()
    }

    fn get_or_insert(&mut self, keys: &[K], slot: Slot) -> Option<Slot> {
        let key = keys[slot as usize];
        let same = |&other: &Slot| keys[other as usize] == key;
        let hash = |&other: &Slot| keys[other as usize].bits();
        match self.table.entry(key.bits(), same, hash) {
            Entry::Occupied(entry) => Some(*entry.get()),
            Entry::Vacant(entry) => {
                entry.insert(slot);
                None
            }
        }
    }

    fn replace(&mut self, keys: &[K], old: Slot, new: Slot) {
        let entry = self
            .table
            .find_mut(keys[old as usize].bits(), |&s| s == old);
        debug_assert!(entry.is_some(), "slot {old} is not in the index");
        if let Some(slot) = entry {
            *slot = new;
        }
    }

    fn remove(&mut self, keys: &[K], slot: Slot) {
        let entry = self
            .table
            .find_entry(keys[slot as usize].bits(), |&s| s == slot);
        debug_assert!(entry.is_ok(), "slot {slot} is not in the index");
        if let Ok(entry) = entry {
            entry.remove();
        }
    }

    fn clear(&mut self) {
        self.table.clear();
    }

    fn reserve(&mut self, keys: usize) {
        self.table = HashTable::with_capacity(keys);
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn slots(&self) -> Vec<Slot> {
        self.table.iter().copied().collect()
    }

    fn blank() -> K {
        K::BLANK
    }
}

/// A value for keys that are not set.
pub trait Blank {
    /// Never looked at.
    const BLANK: Self;
}

impl Blank for crate::hash::Xxh3Key {
    const BLANK: Self = Self::BLANK;
}

impl Blank for crate::hash::Digest {
    const BLANK: Self = Self([0; 32]);
}

/// For compiled block ids `0..n`: an array.
#[derive(Debug, Clone, Default)]
pub struct DenseIndex {
    slots: Vec<Slot>,
    len: usize,
}

const ABSENT: Slot = super::NULL_SLOT;

impl DenseIndex {
    /// For keys below `num_keys`.
    #[must_use]
    pub fn new(num_keys: usize) -> Self {
        Self {
            slots: vec![ABSENT; num_keys],
            len: 0,
        }
    }
}

impl KeyIndex for DenseIndex {
    type Key = u32;

    fn get(&self, _: &[u32], key: &u32) -> Option<Slot> {
        let slot = self.slots[*key as usize];
        (slot != ABSENT).then_some(slot)
    }

    fn get_or_insert(&mut self, keys: &[u32], slot: Slot) -> Option<Slot> {
        let entry = &mut self.slots[keys[slot as usize] as usize];
        if *entry != ABSENT {
            return Some(*entry);
        }
        *entry = slot;
        self.len += 1;
        None
    }

    fn replace(&mut self, keys: &[u32], old: Slot, new: Slot) {
        self.slots[keys[old as usize] as usize] = new;
    }

    fn remove(&mut self, keys: &[u32], slot: Slot) {
        self.slots[keys[slot as usize] as usize] = ABSENT;
        self.len -= 1;
    }

    fn clear(&mut self) {
        self.slots.fill(ABSENT);
        self.len = 0;
    }

    fn reserve(&mut self, _: usize) {}

    fn len(&self) -> usize {
        self.len
    }

    fn slots(&self) -> Vec<Slot> {
        self.slots
            .iter()
            .copied()
            .filter(|&s| s != ABSENT)
            .collect()
    }

    fn blank() -> u32 {
        u32::MAX
    }
}
