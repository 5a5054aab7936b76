//! Recency and the computation that a block saves, together.

use super::Setting;
use super::leaves::Rank;
use super::parameters::parameters;
use super::ranked::{Ranked, Ranking, ordered};
use crate::index::RequestIx;

parameters! {
    /// Parameters of [`FlopAware`].
    FlopAwareParameters {
        /// Requests of recency that one unit of cost is worth: the cost of a prompt's first token is 1.
        weight: f64 = 1000.0, in 0.0..=1e12;
        /// Tokens of context at which attention costs a token as much as all else.
        attention: u64 = 8192, in 1..=u64::MAX;
    }
}

/// A score of recency and of FLOPs saved per byte, in the manner of Marconi (Pan et al., "Marconi:
/// Prefix Caching for the Era of Hybrid LLMs", MLSys 2025): the leaf with the lowest goes.
///
/// The score of a block is *last use + weight x (1 + depth / attention)*: the last use as the number
/// of the request, the depth of its end in tokens. Marconi scales both parts to 0 ... 1 over the nodes
/// that could go at each eviction and tunes the weight; here the scale is fixed, so that a score
/// changes only when its block is used.
#[derive(Debug, Clone, Copy)]
pub struct FlopAware {
    base: f64,
    per_block: f64,
}

impl FlopAware {
    /// An empty cache.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // Tokens of a context are few.
    pub fn build<'p>(setting: &Setting<'p>, parameters: FlopAwareParameters) -> Ranked<'p, Self> {
        let block = f64::from(setting.profile.block_size());
        let ranking = Self {
            base: parameters.weight,
            per_block: parameters.weight * block / parameters.attention as f64,
        };
        Ranked::new(setting, ranking)
    }
}

impl Ranking for FlopAware {
    type State = RequestIx;

    fn admitted(&mut self, request: RequestIx, _above: Option<&RequestIx>) -> RequestIx {
        request
    }

    fn used(&mut self, request: RequestIx, last_use: &mut RequestIx) {
        *last_use = request;
    }

    fn rank(&self, last_use: &RequestIx, end: u32) -> Rank {
        let score = f64::from(last_use.get()) + self.base + self.per_block * f64::from(end);
        (ordered(score), last_use.get().into())
    }
}
