//! Sliding windows: which blocks a request needs, finds, keeps and gives back.

use super::{KeyIndex, Lease, Manager, NULL_SLOT, Retention, SlidingWindow};
use crate::index::to_usize;

impl<I: KeyIndex> Manager<I> {
    /// From the end: the first run of `needed` cached blocks, or else the run at the beginning.
    pub(super) fn lookup_window(&mut self, keys: &[I::Key], needed: usize) {
        self.hits.resize(keys.len(), NULL_SLOT);
        let mut run = 0;
        for (i, key) in keys.iter().enumerate().rev() {
            let Some(slot) = self.pool.get(key) else {
                self.hits[i..=i + run].fill(NULL_SLOT);
                run = 0;
                continue;
            };
            self.hits[i] = slot;
            run += 1;
            if run == needed {
                self.hits.truncate(i + needed);
                return;
            }
        }
        self.hits.truncate(run);
    }

    /// Blocks that the next token of a sliding-window model attends to, at most.
    pub(super) fn needed_blocks(&self, sliding: SlidingWindow) -> usize {
        (sliding.window - 1).div_ceil(self.config.block_size) as usize
    }

    /// Leading blocks that no longer matter once `computed` tokens are.
    pub(super) fn skipped_blocks(&self, computed: u32) -> usize {
        let Some(sliding) = self.config.sliding_window else {
            return 0;
        };
        let tokens = (u64::from(computed) + 1).saturating_sub(u64::from(sliding.window));
        to_usize(tokens / u64::from(self.config.block_size))
    }

    /// Whether extending will release a block that left the window.
    pub(super) fn will_release(&self, lease: &Lease, computed: u32) -> bool {
        let skipped = self.skipped_blocks(computed).min(lease.table.len());
        skipped > 0 && lease.table[skipped - 1] != NULL_SLOT
    }

    /// Releases the blocks that no later token attends to.
    pub(super) fn leave_window(&mut self, lease: &mut Lease, computed: u32) {
        let skipped = self.skipped_blocks(computed).min(lease.table.len());
        let start = lease.table[..skipped]
            .iter()
            .rposition(|&slot| slot == NULL_SLOT)
            .map_or(0, |i| i + 1);
        if start < skipped {
            self.release_slots(&lease.table[start..skipped]);
            lease.table[start..skipped].fill(NULL_SLOT);
        }
    }

    /// Whether the retention interval lets a block have its hash.
    pub(super) fn retains(&self, prompt_tokens: u32, block: usize) -> bool {
        let Some(sliding) = self.config.sliding_window else {
            return true;
        };
        let needed = self.needed_blocks(sliding);
        let group = match sliding.retention {
            Retention::Dense => return true,
            Retention::PromptEnd => 0,
            Retention::Interval(tokens) => (tokens / self.config.block_size) as usize,
        };
        if group > 0 && (needed >= group || block % group >= group - needed) {
            return true;
        }
        let end = (prompt_tokens.saturating_sub(1) / self.config.block_size) as usize;
        block < end && block + needed >= end
    }
}
