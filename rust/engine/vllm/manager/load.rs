//! Admissions that bring blocks up from a lower tier.

use super::Manager;
use crate::engine::vllm::{KeyIndex, Lease};
use crate::index::to_u32;
use crate::serving::{Demand, Progress};

/// What an admission brings along, beside what the device has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine::vllm) struct Loaded {
    /// Tokens after those found on the device that come from below.
    pub tokens: u32,
    /// Whether they are there only later, and the blocks for them get no key until then.
    pub later: bool,
    /// Free slots that others have a claim to.
    pub reserved: u32,
}

impl<I: KeyIndex> Manager<I> {
    /// Takes the blocks that the last lookup found, if nothing is computed yet, room for what comes
    /// from below, and for `demand.new_tokens` after that. Full attention only. `false`, and nothing
    /// changed, if there is no room.
    pub(in crate::engine::vllm) fn admit_loaded(
        &mut self,
        lease: &mut Lease,
        keys: &[I::Key],
        progress: &Progress,
        demand: Demand,
        loaded: Loaded,
    ) -> bool {
        debug_assert!(self.config.sliding_window.is_none());
        if progress.computed > 0 {
            self.hits.clear();
        }
        let reserve = if demand.beside_others {
            self.config.watermark_slots as usize
        } else {
            0
        };
        let found = to_u32(self.hits.len()) * self.config.block_size;
        let base = u64::from(progress.computed) + u64::from(found) + u64::from(loaded.tokens);
        let idle = self.idle_hits(0);
        let held = lease.table.len() + self.hits.len();
        let free = self.pool.num_free() as usize;
        let most = self.blocks(u64::from(progress.num_tokens));
        if demand.must_fit && most.saturating_sub(held) + idle + reserve > free {
            return false;
        }
        let end = base + u64::from(demand.new_tokens);
        let missing = self.blocks(end).saturating_sub(held);
        if missing + idle + reserve + loaded.reserved as usize > free {
            return false;
        }
        for &slot in &self.hits {
            self.pool.touch(slot);
            lease.table.push(slot);
        }
        lease.cached = lease.cached.max(to_u32(lease.table.len()));
        lease.name = demand.name;
        self.pool.take(to_u32(missing), &mut lease.table);
        if !loaded.later {
            self.cache(lease, keys, progress, end);
        }
        true
    }

    /// Gives keys to the blocks of all computed tokens: what was loaded is there.
    pub(in crate::engine::vllm) fn cache_computed(
        &mut self,
        lease: &mut Lease,
        keys: &[I::Key],
        progress: &Progress,
    ) {
        self.cache(lease, keys, progress, u64::from(progress.computed));
    }
}
