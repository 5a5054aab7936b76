//! Reference counts, and which slots hold which block.

mod check;

use super::{FreeQueue, KeyIndex, NULL_SLOT, Slot};
use crate::error::{Error, Result};
use crate::serving::{Ages, CacheEvent};
use crate::stats::Residency;

/// No duplicate: the slot holds no hashed block.
const NIL: Slot = NULL_SLOT;

/// Slots `0..num_slots` with reference counts, and a map from keys to the slots that hold them.
///
/// Invariants, checked by [`BlockPool::validate`]:
/// * slot 0, the null block, is never in the queue and never referenced;
/// * a slot is in the free queue if and only if its reference count is 0, whether it is cached or not;
/// * slots with equal keys form a ring in the order in which they were cached, and the index knows
///   the oldest.
#[derive(Debug, Clone)]
pub struct BlockPool<I: KeyIndex> {
    free: FreeQueue,
    slots: Vec<State>,
    /// Key of each slot; meaningless where the slot is not cached.
    keys: Vec<I::Key>,
    index: I,
    num_slots: u32,
    evictions: u64,
    /// Counts changes of single slots, so that callers know when asking again is pointless.
    version: u64,
    events: Option<Vec<CacheEvent<I::Key>>>,
    ages: Option<Ages>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    refs: u32,
    /// The next and previous slot with the same key, in a ring; [`NIL`] if the slot is not cached.
    newer: Slot,
    older: Slot,
}

/// Where the block after one in slot `last` probably is, if the block before that is in slot `before`:
/// as far from `last` as that is from `before`. Slots that were never used are taken in ascending
/// order, those of a released sequence in descending order, so that neighbours of a sequence mostly lie
/// one apart, and at a fixed distance if several requests took turns.
///
/// The guess may be no slot at all, [`NIL`] or beyond the end; the caller checks it. It wraps around
/// instead of being cut, as it is only a guess.
fn predict_next_slot(last: Slot, before: Slot) -> Slot {
    last.wrapping_add(last.wrapping_sub(before))
}

/// Where released slots enter the free queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseOrder {
    /// Uncached ones at the front, most recent use first; cached ones at the back, so that the end of
    /// a sequence is evicted before its beginning.
    UncachedFirst,
    /// All at the back.
    AllLast,
}

/// # Errors
/// [`Error::Range`] if there is no slot but the null block, or there are 2^32 - 1.
pub(super) fn check_slots(num_slots: u32) -> Result<()> {
    if !(2..u32::MAX).contains(&num_slots) {
        return Err(Error::range(format!(
            "{num_slots} blocks: give 2 to {} (block 0 is the null block and never used)",
            u32::MAX - 1
        )));
    }
    Ok(())
}

/// Pools up to this size get their memory at the start, larger ones as it is used.
const RESERVED: u32 = 1 << 18;

const UNUSED: State = State {
    refs: 0,
    newer: NIL,
    older: NIL,
};

impl<I: KeyIndex> BlockPool<I> {
    /// A pool of `num_slots` slots, the null block included.
    ///
    /// # Errors
    /// [`Error::Range`] if there is no slot but the null block, or there are 2^32 - 1.
    pub fn new(num_slots: u32, index: I) -> Result<Self> {
        check_slots(num_slots)?;
        let mut pool = Self {
            free: FreeQueue::new(num_slots)?,
            slots: Vec::new(),
            keys: Vec::new(),
            index,
            num_slots,
            evictions: 0,
            version: 0,
            events: None,
            ages: None,
        };
        if num_slots <= RESERVED {
            pool.slots.reserve_exact(num_slots as usize);
            pool.keys.reserve_exact(num_slots as usize);
            pool.index.reserve(num_slots as usize);
        }
        pool.slots.push(UNUSED);
        pool.keys.push(I::blank());
        Ok(pool)
    }

    /// Starts recording events.
    pub fn record_events(&mut self) {
        self.events.get_or_insert_default();
    }

    /// The events since the last call. Empty if they are not recorded.
    pub fn take_events(&mut self) -> Vec<CacheEvent<I::Key>> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn records_events(&self) -> bool {
        self.events.is_some()
    }

    pub(super) fn push_event(&mut self, event: CacheEvent<I::Key>) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }

    /// Sets the clock, in seconds; from the first call on, the residency of evicted blocks is measured.
    pub fn set_time(&mut self, now: f64) {
        self.ages.get_or_insert_default().set_time(now);
    }

    /// The residency of the blocks evicted since the last call, if there is a clock.
    pub fn take_residency(&mut self) -> Option<Residency> {
        self.ages.as_mut().map(Ages::take_residency)
    }

    /// Number of slots, the null block included.
    #[must_use]
    pub fn num_slots(&self) -> u32 {
        self.num_slots
    }

    /// Number of free slots.
    #[must_use]
    pub fn num_free(&self) -> u32 {
        self.free.len()
    }

    /// Number of distinct keys that are cached.
    #[must_use]
    pub fn num_cached(&self) -> usize {
        self.index.len()
    }

    /// How many slots lost their block because they were taken for another one.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Counts changes of single slots (taken, cached, forgotten, touched, released); never too low.
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
            .filter(|(_, s)| s.refs > 0)
            .map(|(slot, s)| (slot, s.refs))
    }

    /// Each cached key with its slots, oldest first; in no particular order of keys.
    pub fn cached(&self) -> impl Iterator<Item = (I::Key, Vec<Slot>)> + '_ {
        self.index.slots().into_iter().map(|oldest| {
            let mut ring = vec![oldest];
            let mut at = self.slots[oldest as usize].newer;
            while at != oldest {
                ring.push(at);
                at = self.slots[at as usize].newer;
            }
            (self.keys[oldest as usize], ring)
        })
    }

    /// The oldest slot that holds the block.
    #[must_use]
    pub fn get(&self, key: &I::Key) -> Option<Slot> {
        self.index.get(&self.keys, key)
    }

    /// Appends the slots of the leading keys that are cached, the oldest of each.
    ///
    /// Blocks of one sequence mostly lie at a constant distance from each other, as they were taken
    /// together: such a guess is right, and cheaper than the index, if that slot has the key and no
    /// other does.
    pub fn find_run(&self, keys: &[I::Key], found: &mut Vec<Slot>) {
        found.reserve(keys.len());
        let (mut last, mut guess) = (NIL, NIL);
        for key in keys {
            let guessed = guess as usize;
            let right = self.slots.get(guessed).is_some_and(|state| {
                state.newer == guess && guess != NIL && self.keys[guessed] == *key
            });
            let slot = if right { Some(guess) } else { self.get(key) };
            let Some(slot) = slot else {
                return;
            };
            found.push(slot);
            guess = predict_next_slot(slot, last);
            last = slot;
        }
    }

    /// Whether the slot holds a cached block.
    #[must_use]
    pub fn is_cached(&self, slot: Slot) -> bool {
        self.slots[slot as usize].newer != NIL
    }

    /// Reference count of a slot.
    #[must_use]
    pub fn refs(&self, slot: Slot) -> u32 {
        self.slots[slot as usize].refs
    }

    /// Adds a reference to a cached slot, which leaves the free queue if it was there.
    pub fn touch(&mut self, slot: Slot) {
        let state = &mut self.slots[slot as usize];
        if state.refs == 0 {
            self.free.unlink(slot);
        }
        state.refs += 1;
        if let Some(ages) = &mut self.ages {
            ages.touch(slot);
        }
        self.version += 1;
    }

    /// Takes `count` slots from the front of the free queue onto the end of `table`, evicting what
    /// they hold. The caller has checked that there are as many.
    pub fn take(&mut self, count: u32, table: &mut Vec<Slot>) {
        self.version += u64::from(count);
        let start = table.len();
        table.reserve(count as usize);
        for _ in 0..count {
            let Some(slot) = self.free.pop_front() else {
                unreachable!("the caller checked the number of free slots");
            };
            table.push(slot);
        }
        // A pass of its own: one step does not wait for the next link of the queue.
        for &slot in &table[start..] {
            if slot as usize == self.slots.len() {
                self.slots.push(State { refs: 1, ..UNUSED });
                self.keys.push(I::blank());
            } else {
                debug_assert_eq!(self.slots[slot as usize].refs, 0);
                if self.forget(slot) {
                    self.evictions += 1;
                    if let Some(ages) = &mut self.ages {
                        ages.evict(slot);
                    }
                }
                self.slots[slot as usize].refs = 1;
            }
            if let Some(ages) = &mut self.ages {
                ages.take(slot);
            }
        }
    }

    /// Lets a slot hold the block of `key`, in addition to others that do.
    pub fn cache(&mut self, slot: Slot, key: I::Key) {
        debug_assert!(!self.is_cached(slot), "slot {slot} is cached already");
        self.version += 1;
        self.keys[slot as usize] = key;
        let oldest = self.index.get_or_insert(&self.keys, slot);
        let state = &mut self.slots[slot as usize];
        (state.newer, state.older) = (slot, slot);
        if let Some(oldest) = oldest {
            let newest = self.slots[oldest as usize].older;
            self.slots[slot as usize].newer = oldest;
            self.slots[slot as usize].older = newest;
            self.slots[newest as usize].newer = slot;
            self.slots[oldest as usize].older = slot;
        }
    }

    /// Lets a slot forget its block. Returns whether it had one.
    pub fn forget(&mut self, slot: Slot) -> bool {
        // A slot that was never taken is free and empty.
        let State { newer, older, .. } = self.slots.get(slot as usize).copied().unwrap_or(UNUSED);
        if newer == NIL {
            return false;
        }
        self.version += 1;
        if newer == slot {
            self.index.remove(&self.keys, slot);
        } else {
            if self.index.get(&self.keys, &self.keys[slot as usize]) == Some(slot) {
                self.index.replace(&self.keys, slot, newer);
            }
            self.slots[older as usize].newer = newer;
            self.slots[newer as usize].older = older;
        }
        self.slots[slot as usize].newer = NIL;
        self.slots[slot as usize].older = NIL;
        if self.records_events() {
            let key = self.keys[slot as usize];
            self.push_event(CacheEvent::Removed {
                group: 0,
                slot,
                key,
            });
        }
        true
    }

    /// Drops one reference from each slot of `slots`, last to first. Those that nobody uses any more
    /// enter the free queue in the order given. Null blocks are skipped.
    ///
    /// `scratch` is emptied; it saves an allocation.
    pub fn release(&mut self, slots: &[Slot], scratch: &mut Vec<Slot>, order: ReleaseOrder) {
        let uncached_first = order == ReleaseOrder::UncachedFirst;
        self.version += slots.len() as u64;
        scratch.clear();
        for &slot in slots.iter().rev() {
            if slot == NULL_SLOT {
                continue;
            }
            let state = &mut self.slots[slot as usize];
            debug_assert!(state.refs > 0, "slot {slot} is released too often");
            state.refs -= 1;
            if state.refs == 0 {
                if state.newer == NIL && uncached_first {
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

    /// Forgets all cached blocks; refused (`false`) while a slot is in use.
    pub fn reset(&mut self) -> bool {
        if self.free.len() != self.num_slots - 1 {
            return false;
        }
        self.version += 1;
        self.index.clear();
        for state in &mut self.slots {
            state.newer = NIL;
            state.older = NIL;
        }
        self.push_event(CacheEvent::Cleared);
        true
    }
}
