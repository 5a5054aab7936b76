//! First in, first out.

use super::Setting;
use super::leaves::Rank;
use super::parameters;
use super::ranked::{Ranked, Ranking};
use crate::index::RequestIx;

/// Drops the blocks that came in first, whatever their use since.
///
/// Exactly: of the cached blocks on which no cached block hangs, the one that came in with the
/// earliest request goes first; of those that came with one request, the deepest. A block that comes
/// back after it was dropped comes in anew. So a block waits for everything cached below it, and an
/// old block that later requests have extended outlives its age.
#[derive(Debug, Clone, Copy)]
pub struct Fifo;

impl Fifo {
    /// An empty cache.
    #[must_use]
    pub fn build<'p>(setting: &Setting<'p>, _parameters: parameters::None) -> Ranked<'p, Self> {
        Ranked::new(setting, Self)
    }
}

impl Ranking for Fifo {
    type State = RequestIx;

    fn admitted(&mut self, request: RequestIx, _above: Option<&RequestIx>) -> RequestIx {
        request
    }

    fn used(&mut self, _request: RequestIx, _state: &mut RequestIx) {}

    fn rank(&self, came_with: &RequestIx, _end: u32) -> Rank {
        (0, came_with.get().into())
    }
}
