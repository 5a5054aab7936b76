//! Which blocks of windows and states are cached (vLLM's `prefix_cache_retention_interval`).

use super::layout::align;
use super::{GroupKind, GroupedCache, sliding_window};
use crate::engine::vllm::Retention;

/// The blocks of a request that one group caches.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Selection {
    /// All of them.
    all: bool,
    /// Of every so many blocks, counted from the `shift`-th, the last `needed`; 0 for none.
    period: u32,
    needed: u32,
    shift: u32,
    /// Ends of runs of `needed` blocks.
    ends: [u32; 4],
}

impl Selection {
    const ALL: Self = Self {
        all: true,
        period: 0,
        needed: 0,
        shift: 0,
        ends: [0; 4],
    };

    /// Whether a block is among those at regular distances.
    pub fn is_periodic(&self, block: u32) -> bool {
        if self.all || self.period == 0 {
            return self.all;
        }
        self.needed >= self.period
            || block >= self.shift
                && (block - self.shift) % self.period >= self.period - self.needed
    }

    /// Whether a block is cached.
    pub fn has(&self, block: u32) -> bool {
        self.is_periodic(block)
            || self
                .ends
                .iter()
                .any(|&end| block < end && block + self.needed >= end)
    }
}

impl GroupedCache {
    /// The blocks that a group caches of a request.
    pub(super) fn selection(&self, number: usize, prompt_tokens: u32, junction: u32) -> Selection {
        let class = self.layout.class(number);
        let size = class.block_size;
        let alignment = self.layout.alignment;
        let (needed, shift, is_window) = match class.kind {
            GroupKind::Full | GroupKind::ChunkedLocal { .. } => return Selection::ALL,
            GroupKind::SlidingWindow { window } => {
                let extra = u32::from(class.drops);
                (
                    sliding_window::needed_blocks(window, size) + extra,
                    extra,
                    true,
                )
            }
            GroupKind::Mamba { .. } => (1, 0, false),
        };
        let period = match self.config.retention {
            Retention::Dense if is_window => alignment / size,
            Retention::Dense => return Selection::ALL,
            Retention::PromptEnd => 0,
            Retention::Interval(interval) => interval / size,
        };
        let mut selection = Selection {
            all: false,
            period,
            needed,
            shift,
            ends: [0; 4],
        };
        if self.config.retention != Retention::Dense {
            let boundaries = self.boundaries(number, prompt_tokens, junction);
            for (end, boundary) in selection.ends.iter_mut().zip(boundaries) {
                *end = boundary.map_or(0, |tokens| align(tokens, alignment) / size + shift);
            }
        }
        selection
    }

    /// Lengths, in tokens, at which other requests are likely to go on from this one.
    fn boundaries(&self, number: usize, prompt_tokens: u32, junction: u32) -> [Option<u32>; 4] {
        let class = self.layout.class(number);
        let block = self.layout.scheduler_block;
        let before = |tokens: u32| Some(align(tokens, block).saturating_sub(block));
        let (first, second) = if self.layout.any_drops() {
            (before(prompt_tokens - 1), before(prompt_tokens))
        } else {
            (Some(prompt_tokens - 1), None)
        };
        let parting = (junction > 0).then_some(junction);
        let dropped = parting.filter(|_| class.drops);
        let dropped = dropped.and_then(|tokens| tokens.checked_sub(class.block_size));
        [first, second, parting, dropped]
    }
}
