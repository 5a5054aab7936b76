//! Slots that a request needs, adopts, takes and gives back.

use super::lease::GroupLease;
use super::{GroupKind, GroupedCache, GroupedLease, chunked_local, sliding_window};
use crate::engine::vllm::{NULL_SLOT, ReleaseOrder, Slot, UncachedFirst};
use crate::index::to_u32;
use crate::serving::Progress;

/// What an allocation is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Tokens computed, those found included.
    pub total: u32,
    /// Tokens once the step is computed.
    pub main: u32,
    /// Tokens that slots are taken for.
    pub slots: u32,
    /// Whether this is the check of an admission, which bounds what a window needs.
    pub capped: bool,
}

impl GroupedCache {
    /// Leading tokens that a group does not need once `computed` tokens are.
    pub(super) fn skipped(&self, number: usize, computed: u32) -> u32 {
        match self.config.groups[number].kind {
            GroupKind::SlidingWindow { window } => sliding_window::skipped(window, computed),
            GroupKind::ChunkedLocal { chunk } => chunked_local::skipped(chunk, computed),
            GroupKind::Mamba { .. } if self.config.enable_caching => computed.saturating_sub(1),
            GroupKind::Full | GroupKind::Mamba { .. } => 0,
        }
    }

    /// Found slots that nobody uses, from an index on.
    pub(super) fn idle_hits(&self, hits: &[Slot], from: usize) -> i64 {
        let adopted = &hits[from.min(hits.len())..];
        let idle = |&&slot: &&Slot| slot != NULL_SLOT && self.pool.refs(slot) == 0;
        i64::from(to_u32(adopted.iter().filter(idle).count()))
    }

    /// Slots that all groups need of the free ones; `None` if the request has to wait for the next step
    /// whatever is free. `found`: the last lookup is adopted.
    pub(super) fn needed(
        &self,
        lease: &mut GroupedLease,
        progress: &Progress,
        wanted: Wanted,
        found: bool,
    ) -> Option<i64> {
        let mut sum = 0;
        for number in 0..self.config.groups.len() {
            let hits: &[Slot] = if found { &self.found[number] } else { &[] };
            let held = &mut lease.groups[number];
            sum += match self.config.groups[number].kind {
                GroupKind::Mamba { .. } if self.config.enable_caching => {
                    self.state_needs(number, held, progress, wanted, hits)?
                }
                _ => self.blocks_needed(number, held, wanted, hits),
            };
        }
        Some(sum)
    }

    fn blocks_needed(
        &self,
        number: usize,
        held: &GroupLease,
        wanted: Wanted,
        hits: &[Slot],
    ) -> i64 {
        let size = self.config.groups[number].block_size;
        let mut required = self.required_blocks(number, wanted.slots);
        if wanted.capped
            && let Some(cap) = self.cap(number)
        {
            required = required.min(cap);
        }
        let length = held.table.len();
        if held.tracked {
            return i64::from(required.saturating_sub(to_u32(length)));
        }
        let skipped = (self.skipped(number, wanted.total) / size) as usize;
        let there = to_u32(skipped.max(hits.len() + length));
        let copies = !hits.is_empty() && !wanted.total.is_multiple_of(size);
        i64::from(required.saturating_sub(there))
            + self.idle_hits(hits, skipped.saturating_sub(length))
            + i64::from(copies)
    }

    /// Entries of a table with slots for so many tokens.
    fn required_blocks(&self, number: usize, slots: u32) -> u32 {
        let group = &self.config.groups[number];
        let blocks = slots.div_ceil(group.block_size);
        match group.kind {
            // A state for each guess.
            GroupKind::Mamba { .. } => blocks + self.config.draft_tokens,
            _ => blocks,
        }
    }

    /// Blocks that a request holds at most in a group, at an admission.
    fn cap(&self, number: usize) -> Option<u32> {
        let batch = self.config.batch_tokens?;
        let size = self.config.groups[number].block_size;
        let longest = self.config.max_model_len;
        match self.config.groups[number].kind {
            GroupKind::SlidingWindow { window } => {
                let tokens = (window - 1).saturating_add(batch).min(longest);
                Some(tokens.div_ceil(size) + 1)
            }
            GroupKind::ChunkedLocal { chunk } => {
                Some(chunk.saturating_add(batch).min(longest).div_ceil(size))
            }
            GroupKind::Full | GroupKind::Mamba { .. } => None,
        }
    }

    /// Lets a request have what the last lookup found.
    pub(super) fn adopt(&mut self, lease: &mut GroupedLease, total: u32) {
        for number in 0..self.config.groups.len() {
            let size = self.config.groups[number].block_size;
            let skipped = (self.skipped(number, total) / size) as usize;
            let held = &mut lease.groups[number];
            let hits = &self.found[number];
            held.table.resize(skipped, NULL_SLOT);
            held.table
                .extend_from_slice(&hits[skipped.min(hits.len())..]);
            held.cached = to_u32(held.table.len());
            held.tracked = true;
            for &slot in &held.table[skipped..] {
                if slot != NULL_SLOT {
                    self.pool.touch(slot);
                }
            }
            if let Some(&last) = held.table.last()
                && self.layout.fine
                && !total.is_multiple_of(size)
            {
                let index = (total / size) as usize;
                held.copy = Some((index, last));
                held.cached = to_u32(index);
            }
        }
    }

    /// Takes slots for all groups, group by group.
    pub(super) fn grow(&mut self, lease: &mut GroupedLease, wanted: Wanted) {
        for number in 0..self.config.groups.len() {
            let held = &mut lease.groups[number];
            match self.config.groups[number].kind {
                GroupKind::Mamba { .. } if self.config.enable_caching => {
                    self.grow_states(number, held, wanted.main);
                }
                _ => {
                    let required = self.required_blocks(number, wanted.slots) as usize;
                    if let Some(copy) = held.copy.take() {
                        let slot = self.pool.take_one();
                        self.copy_held(number, held, copy, slot);
                    }
                    let missing = required.saturating_sub(held.table.len());
                    if missing > 0 {
                        self.pool.take(missing, &mut held.table);
                    }
                }
            }
        }
    }

    /// Gives back, in all groups, what nothing after the first `computed` tokens needs.
    pub(super) fn leave(&mut self, lease: &mut GroupedLease, computed: u32) {
        for number in 0..self.config.groups.len() {
            let size = self.config.groups[number].block_size;
            let skipped = (self.skipped(number, computed) / size) as usize;
            let held = &mut lease.groups[number];
            let end = skipped.min(held.table.len());
            let start = match self.config.groups[number].kind {
                GroupKind::Full => continue,
                GroupKind::Mamba { .. } if computed <= 1 => continue,
                GroupKind::Mamba { .. } => {
                    let start = held.retired;
                    held.retired = end.max(start);
                    start
                }
                _ => {
                    let is_null = |&slot: &Slot| slot == NULL_SLOT;
                    held.table[..end]
                        .iter()
                        .rposition(is_null)
                        .map_or(0, |i| i + 1)
                }
            };
            if start < end {
                let order = self.release_order(number);
                let slots = held.table[start..end].iter().rev().copied();
                self.pool.release(slots, &mut self.scratch, order);
                held.table[start..end].fill(NULL_SLOT);
            }
        }
    }

    /// Where the slots of a group enter the free queue.
    pub(super) fn release_order(&self, number: usize) -> ReleaseOrder {
        let has_window = matches!(
            self.config.groups[number].kind,
            GroupKind::SlidingWindow { .. } | GroupKind::ChunkedLocal { .. }
        );
        let uncached_first = match self.config.uncached_first {
            UncachedFirst::Always => true,
            UncachedFirst::WithCaching => self.config.enable_caching,
            UncachedFirst::WithWindow => has_window,
            UncachedFirst::Never => false,
        };
        if uncached_first {
            ReleaseOrder::UncachedFirst
        } else {
            ReleaseOrder::AllLast
        }
    }
}
