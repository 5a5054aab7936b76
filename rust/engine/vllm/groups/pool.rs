//! Reference counts, and which slots hold which blocks of which group.

use crate::engine::vllm::{FreeQueue, NULL_SLOT, ReleaseOrder, Slot};
use crate::error::{Error, Result};
use crate::room::reserved;
use crate::serving::CacheEvent;

/// An entry of the map: of a slot under its primary key, a number below [`EXTRA`], or under a further
/// key, a number from there on.
pub(super) type Entry = u32;

/// No entry: that of the null block, which is never cached.
pub(super) const NO_ENTRY: Entry = NULL_SLOT;
pub(super) const EXTRA: Entry = 1 << 31;

/// A block of a group: what a slot is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The group.
    pub group: u32,
    /// The block, as the workload numbers it.
    pub key: u32,
}

/// A place in the ring of all entries with one key, in the order in which they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ring {
    /// Number of the key in the map.
    pub key: u32,
    /// The next entry, [`NO_ENTRY`] if this is not in use.
    pub newer: Entry,
    pub older: Entry,
}

pub(super) const UNLINKED: Ring = Ring {
    key: 0,
    newer: NO_ENTRY,
    older: NO_ENTRY,
};

#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub refs: u32,
    /// Tokens that the primary key stands for.
    pub tokens: u32,
    pub primary: Ring,
    /// The first further key, [`NO_ENTRY`] if there is none.
    pub extras: Entry,
}

const UNUSED: State = State {
    refs: 0,
    tokens: 0,
    primary: UNLINKED,
    extras: NO_ENTRY,
};

/// A further key of a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extra {
    pub ring: Ring,
    pub slot: Slot,
    /// The next one of the same slot, or of those not in use.
    pub next: Entry,
}

/// Slots `0..num_slots` of all groups with reference counts, and a map from keys to the slots that hold
/// them.
///
/// A slot has one primary key, which stands for so many tokens, and any number of further ones; none
/// without a primary one. Invariants, checked by [`SharedPool::validate`]:
/// * slot 0, the null block, is never in the queue and never referenced;
/// * a slot is in the free queue if and only if its reference count is 0, whether it is cached or not;
/// * entries with equal keys form a ring in the order in which they came, and the map knows the oldest.
#[derive(Debug, Clone)]
pub struct SharedPool {
    pub(super) free: FreeQueue,
    pub(super) slots: Vec<State>,
    pub(super) extras: Vec<Extra>,
    /// An entry of `extras` that is not in use.
    pub(super) spare: Entry,
    /// The oldest entry of each key of each group.
    pub(super) oldest: Vec<Entry>,
    pub(super) num_keys: u32,
    pub(super) distinct: u64,
    evictions: u64,
    pub(super) version: u64,
    events: Option<Vec<CacheEvent<u32>>>,
}

impl SharedPool {
    /// A pool of `num_slots` slots, the null block included, for `groups` groups of blocks that have numbers
    /// below `num_keys`.
    ///
    /// # Errors
    /// [`Error::Range`] if there is no slot but the null block, 2^31 or more, or too many blocks;
    /// [`Error::Memory`].
    pub fn new(num_slots: u32, groups: u32, num_keys: u32) -> Result<Self> {
        if !(2..EXTRA).contains(&num_slots) {
            return Err(Error::range(format!(
                "{num_slots} blocks: give 2 to {} (block 0 is the null block and never used)",
                EXTRA - 1
            )));
        }
        let entries = u64::from(groups) * u64::from(num_keys);
        if entries >= u64::from(u32::MAX) {
            return Err(Error::range(format!(
                "{groups} groups of {num_keys} distinct blocks are more than 2^32 - 1: give larger blocks"
            )));
        }
        let mut oldest = reserved(entries)?;
        oldest.resize(oldest.capacity(), NO_ENTRY);
        Ok(Self {
            free: FreeQueue::new(num_slots)?,
            slots: vec![UNUSED],
            extras: Vec::new(),
            spare: NO_ENTRY,
            oldest,
            num_keys,
            distinct: 0,
            evictions: 0,
            version: 0,
            events: None,
        })
    }

    /// Starts recording events.
    pub fn record_events(&mut self) {
        self.events.get_or_insert_default();
    }

    /// The events since the last call. Empty if they are not recorded.
    pub fn take_events(&mut self) -> Vec<CacheEvent<u32>> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn records_events(&self) -> bool {
        self.events.is_some()
    }

    pub(super) fn push_event(&mut self, event: CacheEvent<u32>) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }

    /// Number of free slots.
    #[must_use]
    pub fn num_free(&self) -> u32 {
        self.free.len()
    }

    /// Number of distinct keys, of each group, that are cached.
    #[must_use]
    pub fn num_cached(&self) -> u64 {
        self.distinct
    }

    /// How many slots lost their block because they were taken for another one.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Counts changes of single slots; never too low.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The free slots, next to be taken first.
    pub fn free_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.free.iter()
    }

    /// Slots with a reference count above 0, and their counts, by slot.
    pub fn ref_counts(&self) -> impl Iterator<Item = (Slot, u32)> + '_ {
        (0..)
            .zip(&self.slots)
            .filter(|(_, state)| state.refs > 0)
            .map(|(slot, state)| (slot, state.refs))
    }

    /// The oldest slot that holds the block.
    #[must_use]
    pub fn get(&self, group: u32, key: u32) -> Option<Slot> {
        let entry = self.oldest[(group * self.num_keys + key) as usize];
        (entry != NO_ENTRY).then(|| self.slot_of(entry))
    }

    /// Whether the slot holds a cached block.
    #[must_use]
    pub fn is_cached(&self, slot: Slot) -> bool {
        self.slots[slot as usize].primary.newer != NO_ENTRY
    }

    /// Primary key of a slot, and the tokens it stands for.
    #[must_use]
    pub fn primary(&self, slot: Slot) -> Option<(GroupKey, u32)> {
        let state = &self.slots[slot as usize];
        (state.primary.newer != NO_ENTRY).then(|| (self.named(state.primary.key), state.tokens))
    }

    /// Reference count of a slot.
    #[must_use]
    pub fn refs(&self, slot: Slot) -> u32 {
        self.slots[slot as usize].refs
    }

    /// Adds a reference to a slot, which leaves the free queue if it was there.
    pub fn touch(&mut self, slot: Slot) {
        let state = &mut self.slots[slot as usize];
        if state.refs == 0 {
            self.free.unlink(slot);
        }
        state.refs += 1;
        self.version += 1;
    }

    /// Takes a slot from the front of the free queue, evicting what it holds. The caller has checked that
    /// there is one.
    pub fn take_one(&mut self) -> Slot {
        self.version += 1;
        let Some(slot) = self.free.pop_front() else {
            unreachable!("the caller checked the number of free slots");
        };
        if slot as usize == self.slots.len() {
            self.slots.push(UNUSED);
        } else {
            self.evict(slot);
        }
        self.slots[slot as usize].refs = 1;
        slot
    }

    /// Takes `count` slots onto the end of `table`; see [`Self::take_one`].
    pub fn take(&mut self, count: usize, table: &mut Vec<Slot>) {
        for _ in 0..count {
            let slot = self.take_one();
            table.push(slot);
        }
    }

    /// Lets a slot drop its blocks, counted as an eviction if it had any.
    pub fn evict(&mut self, slot: Slot) {
        let Some((GroupKey { group, key }, _)) = self.primary(slot) else {
            return;
        };
        self.forget(slot);
        self.evictions += 1;
        self.push_event(CacheEvent::Removed { group, slot, key });
    }

    /// Drops one reference from each slot, in this order. Those that nobody uses any more enter the free
    /// queue. Null blocks are skipped. `scratch` is emptied; it saves an allocation.
    pub fn release(
        &mut self,
        slots: impl Iterator<Item = Slot>,
        scratch: &mut Vec<Slot>,
        order: ReleaseOrder,
    ) {
        let uncached_first = order == ReleaseOrder::UncachedFirst;
        scratch.clear();
        for slot in slots {
            if slot == NULL_SLOT {
                continue;
            }
            self.version += 1;
            let state = &mut self.slots[slot as usize];
            debug_assert!(state.refs > 0, "slot {slot} is released too often");
            state.refs -= 1;
            if state.refs == 0 {
                if state.primary.newer == NO_ENTRY && uncached_first {
                    scratch.push(slot);
                } else {
                    self.free.push_back(slot);
                }
            }
        }
        for slot in scratch.drain(..).rev() {
            self.free.push_front(slot);
        }
    }
}
