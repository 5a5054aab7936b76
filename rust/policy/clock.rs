//! CLOCK, and its generalisation with counters.

use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting};
use crate::error::Result;
use crate::index::{RequestIx, to_u32};

parameters! {
    /// Parameters of [`Clock`].
    ClockParameters {
        /// Bits of the counter of uses.
        bits: u32 = 1, in 1..=16;
    }
}

/// CLOCK (Corbato, "A Paging Experiment with the Multics System", 1968): a queue in which a leaf that
/// was used since it last came to the front goes to the end, with one use less, together with the
/// blocks above it that entered with it and were used as often; one that was not leaves.
///
/// With one bit this is second chance; with more, generalised CLOCK (Smith, "Sequentiality and
/// Prefetching in Database Systems", TODS 1978). The owner of dropped blocks is the request they came
/// in with.
#[derive(Debug)]
pub struct Clock<'p> {
    queues: Queues<'p, u32>,
    most_uses: u32,
}

impl<'p> Clock<'p> {
    /// An empty cache.
    #[must_use]
    pub fn build(setting: &Setting<'p>, parameters: ClockParameters) -> Self {
        Self {
            queues: Queues::new(setting.profile, 1),
            most_uses: (1 << parameters.bits) - 1,
        }
    }
}

impl PrefixPolicy for Clock<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        let hit = self.queues.take(request);
        let most = self.most_uses;
        self.queues
            .change_hits(|_, mark| mark.state = most.min(mark.state + 1));
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        let mut left = blocks;
        while left > 0 {
            let ix = self
                .queues
                .oldest(0)
                .expect("as many blocks as are dropped");
            let stretch = self.queues.get(ix);
            if stretch.mark.state == 0 {
                let count = left.min(u64::from(stretch.len()));
                self.queues.drop_blocks(ix, to_u32(count), dropped);
                left -= count;
                continue;
            }
            let entry = self.queues.next_entry();
            self.queues.enter_anew(ix, |mark| {
                mark.rank = (0, entry);
                mark.state -= 1;
            });
        }
        Room::dropped(blocks)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let hit = self.queues.hit_blocks();
        if keep > hit {
            let entry = self.queues.next_entry();
            self.queues
                .grow(request, hit..keep, Mark::new(0, (0, entry), 0));
        }
        self.queues.finish();
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.queues.validate(cached)
    }
}
