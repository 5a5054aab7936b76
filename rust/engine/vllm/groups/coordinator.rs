//! The longest prefix that all groups agree on.
//!
//! Each class of groups is asked for the longest prefix that it can go on from, within what the classes
//! before it left, until nobody has less to offer (vLLM's `HybridKVCacheCoordinator`).

use super::layout::align;
use super::{Class, GroupKind, Layout, SharedPool, chunked_local, full, mamba, sliding_window};
use crate::engine::vllm::Slot;

/// What a class said, in this search.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer {
    /// The length it found.
    length: Option<u32>,
    /// Whether a block was dropped for the drafter at this length.
    dropped: bool,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// What a request gets.
    All,
    /// No block is dropped for the drafter.
    NoDrop,
    /// Nor do lengths have to be multiples of more than each class's own block.
    Unaligned,
}

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Agreement {
    /// The length that all classes agree on, in tokens.
    pub hit: u32,
    /// The longest length that any class went along with.
    pub best: u32,
}

/// A search for the blocks of one request.
pub(super) struct Search<'s> {
    pub pool: &'s SharedPool,
    pub layout: &'s Layout,
    /// Keys of the hashes that are known.
    pub keys: &'s [u32],
    /// Slots found for each group, with nulls where nothing is needed.
    pub found: &'s mut [Vec<Slot>],
    /// One per class.
    pub answers: &'s mut [Answer],
    pub rules: Rules,
}

impl Search<'_> {
    /// What lengths of a class are multiples of.
    pub fn alignment(&self, class: &Class) -> u32 {
        match self.rules {
            Rules::Unaligned => self.layout.alignment.min(class.block_size),
            Rules::All | Rules::NoDrop => self.layout.alignment,
        }
    }

    /// Hashes per block of a class.
    pub fn hashes_per_block(&self, class: &Class) -> usize {
        (class.block_size / self.layout.hash_unit) as usize
    }

    /// Empties what was found for a class, but for so many nulls.
    pub fn start(&mut self, class: &Class, nulls: usize) {
        for &member in &class.members {
            self.found[member].clear();
            self.found[member].resize(nulls, 0);
        }
    }

    /// Keeps so many entries of what was found for a class.
    pub fn truncate(&mut self, class: &Class, entries: usize) {
        for &member in &class.members {
            self.found[member].truncate(entries);
        }
    }

    /// The slot in which a member of a class has the block behind a hash.
    pub fn slot(&self, member: usize, hash: usize) -> Option<Slot> {
        let group = crate::index::to_u32(member);
        self.pool.get(group, *self.keys.get(hash)?)
    }

    /// Appends the block behind a hash, if every member of the class has it.
    pub fn push(&mut self, class: &Class, hash: usize) -> bool {
        for (number, &member) in class.members.iter().enumerate() {
            let Some(slot) = self.slot(member, hash) else {
                for &before in &class.members[..number] {
                    self.found[before].pop();
                }
                return false;
            };
            self.found[member].push(slot);
        }
        true
    }

    fn ask(&mut self, class: &Class, limit: u32, drop: bool) -> u32 {
        match class.kind {
            GroupKind::Full => full::find(self, class, limit, drop),
            GroupKind::SlidingWindow { window } => {
                sliding_window::find(self, class, window, limit, drop)
            }
            GroupKind::ChunkedLocal { chunk } => chunked_local::find(self, class, chunk, limit),
            GroupKind::Mamba { .. } => mamba::find(self, class, limit),
        }
    }

    /// Looks for the longest prefix of a request with `num_tokens` tokens that the classes for which
    /// `asked` is true agree on.
    pub fn agree(&mut self, num_tokens: u32, asked: impl Fn(&Class) -> bool) -> Agreement {
        let layout = self.layout;
        let all = &layout.classes;
        let mut hit = num_tokens.saturating_sub(1);
        if layout.is_one_group() {
            let drops = all[0].drops && self.rules == Rules::All;
            let hit = self.ask(&all[0], hit, drops);
            return Agreement { hit, best: hit };
        }
        let known = crate::index::to_u32(self.keys.len()) * layout.hash_unit;
        self.answers.fill(Answer::default());
        let mut best = 0;
        loop {
            let mut current = hit;
            for (number, class) in all.iter().enumerate().filter(|(_, class)| asked(class)) {
                let is_full = class.kind == GroupKind::Full;
                if is_full && let Some(length) = self.answers[number].length {
                    current = current.min(length);
                    continue;
                }
                let drops = class.drops && self.rules == Rules::All;
                let drop = drops && !self.answers[number].dropped;
                let is_mamba = matches!(class.kind, GroupKind::Mamba { .. });
                let limit = if drop && !is_mamba {
                    // The block that is dropped may lie behind.
                    (current + self.dropped(class)).min(known)
                } else {
                    current
                };
                let length = self.ask(class, limit, drop);
                if drop {
                    self.answers[number].dropped = true;
                } else if length < current {
                    self.answers
                        .iter_mut()
                        .for_each(|answer| answer.dropped = false);
                }
                current = length;
                self.answers[number].length = Some(length);
                best = best.max(current);
            }
            if current >= hit {
                break;
            }
            hit = current;
            if all.len() == 2 && all[0].kind == GroupKind::Full {
                // What full attention has, it has at any shorter length.
                break;
            }
        }
        for class in all.iter().filter(|class| class.kind == GroupKind::Full) {
            self.truncate(class, hit.div_ceil(class.block_size) as usize);
        }
        Agreement { hit, best }
    }

    /// Tokens that a class drops for the drafter.
    fn dropped(&self, class: &Class) -> u32 {
        let inside = self.layout.fine && class.kind == GroupKind::Full;
        if inside {
            self.layout.hash_unit.min(class.block_size)
        } else {
            class.block_size
        }
    }

    /// Rounds a number of blocks of a class down, so that its tokens are aligned.
    pub fn aligned_blocks(&self, class: &Class, blocks: usize) -> usize {
        let tokens = crate::index::to_u32(blocks) * class.block_size;
        let step = self.alignment(class).max(class.block_size);
        (align(tokens, step) / class.block_size) as usize
    }
}
