//! GreedyDual-Size-Frequency, and LFU with dynamic ageing as its special case.

use super::Setting;
use super::leaves::Rank;
use super::parameters::parameters;
use super::ranked::{Ranked, Ranking, ordered};
use crate::index::RequestIx;

parameters! {
    /// Parameters of [`Gdsf`].
    GdsfParameters {
        /// Tokens of context at which attention costs a token as much as all else; 0: the cost of a block does not grow with its depth.
        attention: u64 = 0, in 0..=u64::MAX;
        /// Refuse new blocks that rank below all others, as libcachesim 0.3.5 does; else they always come in, as in the paper.
        refuse: bool = false, in false..=true;
    }
}

/// GDSF (Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
/// Policy", HP Laboratories HPL-98-69R1, 1998) on blocks, which all have one size.
///
/// A block's key is *age + uses x cost*, set anew at every use; the leaf with the smallest goes, and
/// its key becomes the age, if that is larger. Among equals the one whose key was set first goes.
/// The cost is what computing a token anew takes, relative to the first of a prompt: *1 + depth /
/// attention*, where depth is the end of the block in tokens. With a constant cost this is LFU with
/// dynamic ageing (Arlitt et al., "Evaluating Content Management Techniques for Web Proxy Caches",
/// 1999).
#[derive(Debug, Clone, Copy)]
pub struct Gdsf {
    age: f64,
    /// What a block of depth costs more than its neighbour above.
    cost_per_block: f64,
    refuse: bool,
}

/// What a key is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    age: f64,
    uses: f64,
    last: RequestIx,
}

impl Gdsf {
    /// An empty cache.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // Tokens of a context are few.
    pub fn build<'p>(setting: &Setting<'p>, parameters: GdsfParameters) -> Ranked<'p, Self> {
        let block = f64::from(setting.profile.block_size());
        let cost_per_block = match parameters.attention {
            0 => 0.0,
            tokens => block / tokens as f64,
        };
        let ranking = Self {
            age: 0.0,
            cost_per_block,
            refuse: parameters.refuse,
        };
        Ranked::new(setting, ranking)
    }
}

impl Ranking for Gdsf {
    type State = Key;

    fn may_refuse(&self) -> bool {
        self.refuse
    }

    fn admitted(&mut self, request: RequestIx, _above: Option<&Key>) -> Key {
        Key {
            age: self.age,
            uses: 1.0,
            last: request,
        }
    }

    fn used(&mut self, request: RequestIx, key: &mut Key) {
        *key = Key {
            age: self.age,
            uses: key.uses + 1.0,
            last: request,
        };
    }

    fn rank(&self, key: &Key, end: u32) -> Rank {
        let cost = 1.0 + f64::from(end) * self.cost_per_block;
        (ordered(key.age + key.uses * cost), key.last.get().into())
    }

    fn evicted(&mut self, rank: Rank) {
        // Keys are not negative: the order of `ordered` is theirs with the sign bit set.
        self.age = self.age.max(f64::from_bits(rank.0 ^ (1 << 63)));
    }
}
