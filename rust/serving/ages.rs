//! How long evicted blocks had been in their slots, and unused.
//!
//! A block lives from the moment its slot is taken, and is used when a lookup finds it, as vLLM
//! measures it (`vllm/v1/core/kv_cache_metrics.py`).

use crate::stats::Residency;

/// Times of the slots of one pool, in seconds. Slots are numbered by the pool.
#[derive(Debug, Clone, Default)]
pub struct Ages {
    now: f64,
    slots: Vec<Age>,
    residency: Residency,
}

#[derive(Debug, Clone, Copy, Default)]
struct Age {
    taken: f64,
    used: f64,
}

impl Ages {
    /// Sets the clock, in seconds.
    pub fn set_time(&mut self, now: f64) {
        self.now = now;
    }

    /// A slot was taken for a new block.
    pub fn take(&mut self, slot: u32) {
        let slot = slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, Age::default());
        }
        self.slots[slot] = Age {
            taken: self.now,
            used: self.now,
        };
    }

    /// The block of a slot was found by a lookup.
    pub fn touch(&mut self, slot: u32) {
        self.slots[slot as usize].used = self.now;
    }

    /// The block of a slot was dropped.
    pub fn evict(&mut self, slot: u32) {
        let age = self.slots[slot as usize];
        self.residency.lifetime.add(self.now - age.taken, 1);
        self.residency.idle.add(self.now - age.used, 1);
    }

    /// What was measured since the last call.
    pub fn take_residency(&mut self) -> Residency {
        std::mem::take(&mut self.residency)
    }
}
