//! LRU that first gives up what does not hurt the slowest answers.

use super::Setting;
use super::leaves::Rank;
use super::parameters::parameters;
use super::ranked::{Ranked, Ranking};
use crate::index::{Ix, RequestIx};
use crate::profile::Profile;

parameters! {
    /// Parameters of [`TailLru`].
    TailLruParameters {
        /// Prompt tokens that may be computed within the time to first token that is aimed at.
        threshold: u32 = 2048, in 0..=u32::MAX;
        /// New tokens that the next turn of a conversation is expected to bring.
        next: u32 = 256, in 0..=u32::MAX;
    }
}

/// T-LRU (Zhang et al., "Tail-Optimized Caching for LLM Inference", 2025): of a conversation of L
/// tokens whose next turn brings Q more, the blocks behind token L + Q - threshold are free to go, as
/// the next turn stays within the threshold without them. Free leaves go first, then the others, both
/// in the order of their last use.
///
/// L is the length of the longest request that used the blocks last.
#[derive(Debug, Clone, Copy)]
pub struct TailLru<'p> {
    profile: &'p Profile,
    /// Blocks at the end of a conversation that are free.
    free_blocks: u32,
}

/// Blocks by their last use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Use {
    last: RequestIx,
    /// Blocks that end deeper than this are free.
    free_behind: u32,
}

impl<'p> TailLru<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, parameters: TailLruParameters) -> Ranked<'p, Self> {
        let spare = parameters.threshold.saturating_sub(parameters.next);
        let ranking = Self {
            profile: setting.profile,
            free_blocks: spare / setting.profile.block_size(),
        };
        Ranked::new(setting, ranking)
    }

    fn use_of(&self, request: RequestIx) -> Use {
        let blocks = self.profile.touched()[request.usize()];
        Use {
            last: request,
            free_behind: blocks.saturating_sub(self.free_blocks),
        }
    }
}

impl Ranking for TailLru<'_> {
    type State = Use;

    fn admitted(&mut self, request: RequestIx, _above: Option<&Use>) -> Use {
        self.use_of(request)
    }

    fn used(&mut self, request: RequestIx, state: &mut Use) {
        *state = self.use_of(request);
    }

    fn rank(&self, state: &Use, end: u32) -> Rank {
        let needed = end <= state.free_behind;
        (needed.into(), state.last.get().into())
    }

    fn alike_from(&self, state: &Use, end: u32) -> u32 {
        if end > state.free_behind {
            state.free_behind
        } else {
            0
        }
    }
}
