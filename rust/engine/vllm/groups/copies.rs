//! Copies: a prefix that ends inside a block is continued in another one, as that block goes on being
//! written.

use super::GroupedCache;
use super::lease::GroupLease;
use crate::engine::vllm::Slot;

impl GroupedCache {
    /// Continues a found block in `slot`, which takes its place in the table. Both are held to the end of
    /// the step, when the copy is made.
    pub(super) fn copy_held(
        &mut self,
        number: usize,
        held: &mut GroupLease,
        (index, from): (usize, Slot),
        slot: Slot,
    ) {
        held.table[index] = slot;
        self.pool.touch(slot);
        self.holds[number].extend([from, slot]);
    }

    /// Keeps a state of a running request: `slot` is the copy, and takes over what the block is cached as.
    pub(super) fn copy_state(&mut self, number: usize, from: Slot, slot: Slot) {
        self.pool.move_keys(from, slot);
        self.pool.touch(from);
        if let Some((key, _)) = self.pool.primary(slot) {
            self.created.insert(key);
        }
        self.holds[number].extend([from, slot]);
    }

    /// Gives back, at the end of a step, what was held for its copies.
    pub(super) fn release_holds(&mut self) {
        if self.holds.iter().all(Vec::is_empty) {
            return;
        }
        let order = self.release_order(0);
        let slots = self.holds.iter().flatten().copied();
        self.pool.release(slots, &mut self.scratch, order);
        self.holds.iter_mut().for_each(Vec::clear);
    }
}
