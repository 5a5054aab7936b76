//! The invariants of the pool.

use super::{BlockPool, KeyIndex, NIL, NULL_SLOT};
use crate::error::{Error, Result};

impl<I: KeyIndex> BlockPool<I> {
    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.free.validate()?;
        if self.slots.len() != self.free.taken_end() as usize || self.keys.len() != self.slots.len()
        {
            return Err(Error::bug(format!(
                "{} slots known of {}",
                self.slots.len(),
                self.free.taken_end()
            )));
        }
        let mut cached = 0;
        for (slot, state) in (0..).zip(&self.slots) {
            let free = self.free.contains(slot);
            if slot == NULL_SLOT && (state.refs != 0 || state.newer != NIL) {
                return Err(Error::bug("the null block is in use"));
            }
            if slot != NULL_SLOT && free != (state.refs == 0) {
                return Err(Error::bug(format!(
                    "slot {slot}: {} references, in queue: {free}",
                    state.refs
                )));
            }
            if (state.newer == NIL) != (state.older == NIL) {
                return Err(Error::bug(format!("slot {slot}: half of a ring")));
            }
            cached += usize::from(state.newer != NIL);
        }
        let mut in_rings = 0;
        for (key, ring) in self.cached() {
            in_rings += ring.len();
            if self.get(&key) != Some(ring[0]) {
                return Err(Error::bug(format!(
                    "slot {}: the index does not find it",
                    ring[0]
                )));
            }
            for (i, &slot) in ring.iter().enumerate() {
                let older = ring[(i + ring.len() - 1) % ring.len()];
                if self.keys[slot as usize] != key || self.slots[slot as usize].older != older {
                    return Err(Error::bug(format!(
                        "slot {slot}: broken ring of duplicates"
                    )));
                }
            }
        }
        if in_rings != cached {
            return Err(Error::bug(format!(
                "{cached} cached slots, {in_rings} reachable"
            )));
        }
        Ok(())
    }
}
