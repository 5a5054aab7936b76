//! The map from keys to slots: entries, and the rings that link those with equal keys.

use super::pool::{EXTRA, Entry, Extra, GroupKey, NO_ENTRY, Ring, SharedPool, UNLINKED};
use crate::engine::vllm::Slot;
use crate::index::to_u32;

impl SharedPool {
    pub(super) fn number(&self, of: GroupKey) -> u32 {
        of.group * self.num_keys + of.key
    }

    pub(super) fn named(&self, number: u32) -> GroupKey {
        GroupKey {
            group: number / self.num_keys,
            key: number % self.num_keys,
        }
    }

    pub(super) fn slot_of(&self, entry: Entry) -> Slot {
        if entry < EXTRA {
            entry
        } else {
            self.extras[(entry - EXTRA) as usize].slot
        }
    }

    pub(super) fn ring(&self, entry: Entry) -> &Ring {
        if entry < EXTRA {
            &self.slots[entry as usize].primary
        } else {
            &self.extras[(entry - EXTRA) as usize].ring
        }
    }

    fn ring_mut(&mut self, entry: Entry) -> &mut Ring {
        if entry < EXTRA {
            &mut self.slots[entry as usize].primary
        } else {
            &mut self.extras[(entry - EXTRA) as usize].ring
        }
    }

    /// The further keys of a slot.
    pub(super) fn extras_of(&self, slot: Slot) -> impl Iterator<Item = (Entry, &Extra)> + '_ {
        let mut at = self.slots[slot as usize].extras;
        std::iter::from_fn(move || {
            let entry = at;
            let extra = (entry != NO_ENTRY).then(|| &self.extras[(entry - EXTRA) as usize])?;
            at = extra.next;
            Some((entry, extra))
        })
    }

    /// Whether a slot is listed under a key.
    #[must_use]
    pub fn is_listed(&self, slot: Slot, under: GroupKey) -> bool {
        let number = self.number(under);
        let primary = &self.slots[slot as usize].primary;
        let is_primary = primary.newer != NO_ENTRY && primary.key == number;
        is_primary
            || self
                .extras_of(slot)
                .any(|(_, extra)| extra.ring.key == number)
    }

    /// Lists a slot under a key that stands for `tokens` tokens; does nothing if it is.
    pub fn insert(&mut self, under: GroupKey, slot: Slot, tokens: u32) {
        if self.is_listed(slot, under) {
            return;
        }
        self.version += 1;
        let entry = if self.is_cached(slot) {
            self.new_extra(slot)
        } else {
            self.slots[slot as usize].tokens = tokens;
            slot
        };
        let key = self.number(under);
        let oldest = self.oldest[key as usize];
        if oldest == NO_ENTRY {
            self.oldest[key as usize] = entry;
            self.distinct += 1;
            *self.ring_mut(entry) = Ring {
                key,
                newer: entry,
                older: entry,
            };
            return;
        }
        let newest = self.ring(oldest).older;
        *self.ring_mut(entry) = Ring {
            key,
            newer: oldest,
            older: newest,
        };
        self.ring_mut(newest).newer = entry;
        self.ring_mut(oldest).older = entry;
    }

    /// An entry for a further key of a slot, behind those it has.
    fn new_extra(&mut self, slot: Slot) -> Entry {
        let last = self.extras_of(slot).last().map(|(entry, _)| entry);
        let extra = Extra {
            ring: UNLINKED,
            slot,
            next: NO_ENTRY,
        };
        let entry = if self.spare == NO_ENTRY {
            self.extras.push(extra);
            EXTRA + to_u32(self.extras.len() - 1)
        } else {
            let entry = self.spare;
            let at = (entry - EXTRA) as usize;
            self.spare = self.extras[at].next;
            self.extras[at] = extra;
            entry
        };
        match last {
            Some(last) => self.extras[(last - EXTRA) as usize].next = entry,
            None => self.slots[slot as usize].extras = entry,
        }
        entry
    }

    fn unlink(&mut self, entry: Entry) {
        let Ring { key, newer, older } = *self.ring(entry);
        if newer == entry {
            self.oldest[key as usize] = NO_ENTRY;
            self.distinct -= 1;
        } else {
            if self.oldest[key as usize] == entry {
                self.oldest[key as usize] = newer;
            }
            self.ring_mut(older).newer = newer;
            self.ring_mut(newer).older = older;
        }
        *self.ring_mut(entry) = UNLINKED;
    }

    /// Lets a slot forget all its blocks. Returns whether it had any.
    pub fn forget(&mut self, slot: Slot) -> bool {
        if !self.is_cached(slot) {
            return false;
        }
        self.version += 1;
        self.unlink(slot);
        let mut at = std::mem::replace(&mut self.slots[slot as usize].extras, NO_ENTRY);
        while at != NO_ENTRY {
            self.unlink(at);
            let extra = &mut self.extras[(at - EXTRA) as usize];
            let next = std::mem::replace(&mut extra.next, self.spare);
            self.spare = at;
            at = next;
        }
        true
    }

    /// Lets `to` take over all blocks of `from`.
    pub fn move_keys(&mut self, from: Slot, to: Slot) {
        let Some((primary, tokens)) = self.primary(from) else {
            return;
        };
        let extras: Vec<u32> = self
            .extras_of(from)
            .map(|(_, extra)| extra.ring.key)
            .collect();
        self.forget(from);
        self.insert(primary, to, tokens);
        for number in extras {
            self.insert(self.named(number), to, 0);
        }
    }
}
