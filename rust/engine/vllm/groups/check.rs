//! The invariants of the pool, of its groups and of what is held for requests.

use std::collections::BTreeMap;

use super::pool::{Entry, NO_ENTRY};
use super::{GroupKind, GroupedCache, GroupedLease, SharedPool};
use crate::engine::vllm::{NULL_SLOT, Slot};
use crate::error::{Error, Result};
use crate::serving::Progress;

impl SharedPool {
    /// The entries of a key, oldest first.
    fn entries(&self, number: usize) -> impl Iterator<Item = Entry> + '_ {
        let oldest = self.oldest[number];
        let mut at = oldest;
        std::iter::from_fn(move || {
            let entry = at;
            if entry == NO_ENTRY {
                return None;
            }
            let newer = self.ring(entry).newer;
            at = if newer == oldest { NO_ENTRY } else { newer };
            Some(entry)
        })
    }

    /// Each cached key of each group with its slots, oldest first.
    pub fn cached(&self) -> impl Iterator<Item = (u32, u32, Vec<Slot>)> + '_ {
        (0..).zip(&self.oldest).filter_map(|(number, &oldest)| {
            let key = (oldest != NO_ENTRY).then(|| self.named(number))?;
            let slots = self
                .entries(number as usize)
                .map(|entry| self.slot_of(entry));
            Some((key.group, key.key, slots.collect()))
        })
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.free.validate()?;
        let mut listed = 0;
        for (slot, state) in (0..).zip(&self.slots) {
            let free = self.free.contains(slot);
            let cached = state.primary.newer != NO_ENTRY;
            if slot == NULL_SLOT && (state.refs != 0 || cached) {
                return Err(Error::bug("the null block is in use"));
            }
            if slot != NULL_SLOT && free != (state.refs == 0) {
                return Err(Error::bug(format!(
                    "slot {slot}: {} references, in queue: {free}",
                    state.refs
                )));
            }
            if !cached && state.extras != NO_ENTRY {
                return Err(Error::bug(format!(
                    "slot {slot}: no primary key, but others"
                )));
            }
            if self.extras_of(slot).any(|(_, extra)| extra.slot != slot) {
                return Err(Error::bug(format!("slot {slot}: a key of another slot")));
            }
            listed += usize::from(cached) + self.extras_of(slot).count();
        }
        let (mut entries, mut distinct) = (0, 0);
        for number in 0..self.oldest.len() {
            for entry in self.entries(number) {
                let ring = self.ring(entry);
                if ring.key as usize != number || self.ring(ring.newer).older != entry {
                    return Err(Error::bug(format!(
                        "entry {entry}: broken ring of key {number}"
                    )));
                }
                entries += 1;
                if entries > listed {
                    return Err(Error::bug(format!("key {number}: its ring does not end")));
                }
            }
            distinct += u64::from(self.oldest[number] != NO_ENTRY);
        }
        if entries != listed || distinct != self.num_cached() {
            return Err(Error::bug(format!(
                "{listed} keys of slots, {entries} in the map; {distinct} distinct, not {}",
                self.num_cached()
            )));
        }
        Ok(())
    }
}

impl GroupedCache {
    /// Checks every invariant of the pool, of each group, and of the leases, all that hold something.
    pub(super) fn check<'l>(
        &self,
        leases: impl Iterator<Item = (&'l GroupedLease, &'l Progress)>,
    ) -> Result<()> {
        self.pool.validate()?;
        if self.holds.iter().any(|held| !held.is_empty()) {
            return Err(Error::bug("a copied block is held between steps"));
        }
        let mut refs = BTreeMap::<Slot, u32>::new();
        for (lease, progress) in leases {
            for number in 0..self.config.groups.len() {
                self.check_table(number, lease, progress)?;
                for &slot in &lease.groups[number].table {
                    if slot != NULL_SLOT {
                        *refs.entry(slot).or_default() += 1;
                    }
                }
            }
        }
        if !refs.into_iter().eq(self.pool.ref_counts()) {
            return Err(Error::bug("reference counts differ from the block tables"));
        }
        if !self.config.enable_caching && self.pool.num_cached() > 0 {
            return Err(Error::bug("blocks are cached although caching is off"));
        }
        Ok(())
    }

    fn check_table(&self, number: usize, lease: &GroupedLease, progress: &Progress) -> Result<()> {
        let group = &self.config.groups[number];
        let held = &lease.groups[number];
        let bug = |what: &str| {
            Err(Error::bug(format!(
                "group {number}: {what}: {held:?}, {progress:?}"
            )))
        };
        let needed = progress.computed.div_ceil(group.block_size) as usize;
        if held.table.len() < needed {
            return bug("computed tokens without a slot");
        }
        if held.cached as usize > held.table.len() {
            return bug("more blocks cached than held");
        }
        let foreign = |&&slot: &&Slot| {
            self.pool
                .primary(slot)
                .is_some_and(|(key, _)| key.group as usize != number)
        };
        if held.table.iter().find(foreign).is_some() {
            return bug("a block of another group");
        }
        let is_null = |index: usize| held.table[index] == NULL_SLOT;
        match group.kind {
            GroupKind::Full if (0..held.table.len()).any(is_null) => {
                bug("full attention lacks a block")
            }
            GroupKind::SlidingWindow { window } => {
                let start = (progress.computed + 1).saturating_sub(window) / group.block_size;
                let lacks = (start as usize..needed).any(is_null);
                if lacks {
                    bug("a block in the window is missing")
                } else {
                    Ok(())
                }
            }
            // In other chunks a lookup can leave out a block that two of them share, as vLLM's does.
            GroupKind::ChunkedLocal { chunk } if chunk.is_multiple_of(group.block_size) => {
                let start = progress.computed / chunk * chunk / group.block_size;
                let lacks = (start as usize..needed).any(is_null);
                if lacks {
                    bug("a block of the chunk is missing")
                } else {
                    Ok(())
                }
            }
            GroupKind::Mamba { .. } if held.started => {
                // The running state, and one per guess.
                let states = 1 + self.config.draft_tokens as usize;
                let first = held.table.len().checked_sub(states);
                let lacks = first.is_none_or(|first| (first..held.table.len()).any(is_null));
                if lacks {
                    bug("a running state is missing")
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }
}
