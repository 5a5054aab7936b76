//! Which computed blocks become cached, and under which keys.

use super::layout::align;
use super::pool::GroupKey;
use super::{GroupKind, GroupedCache, GroupedLease};
use crate::engine::vllm::{NULL_SLOT, Slot};
use crate::index::to_u32;
use crate::serving::{CacheEvent, Progress};

/// What is known of a request whose blocks are cached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'k> {
    /// Keys of the hashes that are known.
    pub keys: &'k [u32],
    pub progress: &'k Progress,
    /// Tokens computed before the step.
    pub before: u32,
}

impl GroupedCache {
    /// Caches, in all groups, what is full once `end` tokens are computed.
    pub(super) fn cache(
        &mut self,
        lease: &mut GroupedLease,
        keys: &[u32],
        progress: &Progress,
        end: u32,
        before: u32,
    ) {
        if !self.config.enable_caching {
            return;
        }
        let hashes = self.layout.hashes(progress.num_tokens) as usize;
        let known = Known {
            keys: &keys[..hashes.min(keys.len())],
            progress,
            before,
        };
        for number in 0..self.config.groups.len() {
            let usable = self.usable(number, end);
            let first = lease.groups[number].cached;
            self.cache_full_blocks(number, lease, &known, usable);
            let class = self.layout.class(number);
            match class.kind {
                GroupKind::Full if class.block_size > self.layout.hash_unit => {
                    let table = &lease.groups[number].table;
                    self.cache_tail(number, table, known.keys, progress, usable);
                }
                GroupKind::Mamba { .. } => {
                    self.cache_state(number, lease, &known, usable, first);
                }
                _ => {}
            }
        }
    }

    /// Tokens up to which a group caches, once `end` tokens are computed: where others cannot follow, up to
    /// what all have blocks for.
    fn usable(&self, number: usize, end: u32) -> u32 {
        if self.layout.is_one_group() || self.layout.fine {
            return end;
        }
        let aligned = align(end, self.layout.scheduler_block);
        let class = self.layout.class(number);
        if class.drops && aligned > 0 {
            return end.min(aligned + class.block_size);
        }
        aligned
    }

    fn cache_full_blocks(
        &mut self,
        number: usize,
        lease: &mut GroupedLease,
        known: &Known<'_>,
        usable: u32,
    ) {
        let unit = self.layout.hash_unit;
        let size = self.layout.class(number).block_size;
        let held = &mut lease.groups[number];
        let end = usable.min(to_u32(known.keys.len()) * unit) / size;
        let first = held.cached;
        if end <= first {
            return;
        }
        held.cached = end;
        held.tracked = true;
        let selection = self.selection(number, known.progress.prompt_tokens, lease.junction);
        let group = to_u32(number);
        let mut stored = self.pool.records_events().then(Vec::new);
        for block in first..end {
            let slot = lease.groups[number].table[block as usize];
            if slot == NULL_SLOT || !selection.has(block) {
                continue;
            }
            let tokens = (block + 1) * size;
            let key = known.keys[(tokens / unit) as usize - 1];
            self.pool.forget(slot);
            self.pool.insert(GroupKey { group, key }, slot, tokens);
            if let Some(stored) = &mut stored {
                stored.push((key, block));
            }
        }
        if let Some(stored) = stored
            && !stored.is_empty()
        {
            let (keys, blocks) = stored.into_iter().unzip();
            self.pool.push_event(CacheEvent::Stored {
                group,
                keys,
                blocks,
                name: lease.name,
            });
        }
    }

    /// Lists a slot under a key of the first `tokens` tokens, which end inside its block. With `replace`, or
    /// if the block stands for fewer tokens so far, it loses the keys it has.
    pub(super) fn cache_part(&mut self, slot: Slot, key: GroupKey, tokens: u32, replace: bool) {
        if slot == NULL_SLOT {
            return;
        }
        let is_listed = self.pool.is_listed(slot, key);
        let shorter = self
            .pool
            .primary(slot)
            .is_some_and(|(_, other)| other < tokens);
        if replace || (!is_listed && shorter) {
            self.pool.forget(slot);
        }
        self.pool.insert(key, slot, tokens);
    }
}
