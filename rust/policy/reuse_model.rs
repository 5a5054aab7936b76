//! Reuse that is learnt per category of requests.

use super::parameters::parameters;
use super::queues::{Mark, Queues};
use super::{Dropped, PrefixPolicy, Room, Setting};
use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx, to_u32};

parameters! {
    /// Parameters of [`ReuseModel`].
    ReuseModelParameters {
        /// Uses of blocks of a category until its own estimate is believed; before, that of all categories is.
        learn: u64 = 1000, in 1..=u64::MAX;
    }
}

/// Categories with a queue of their own; all further ones share the last.
const MOST: usize = 64;

/// The workload-aware policy of Wang et al., "KVCache Cache in the Wild: Characterizing and Optimizing
/// KVCache Cache at a Large Cloud Provider" (USENIX ATC 2025): the leaf that is least likely to be used
/// again while it would stay goes first, deeper ones before others.
///
/// For each category of requests the share of uses that were followed by another, and the mean time
/// until then, are learnt as the trace goes. The time is taken as exponential: blocks last used *a* ago
/// are used again within their expected life *l* with probability *share x (exp(-a / mean) - exp(-(a +
/// l) / mean))*. The expected life is the mean age at which blocks leave. Within a category the one used
/// longest ago is the least likely, so the oldest leaf of each category is compared. Without categories
/// this is LRU. The owner of dropped blocks is the request they came in with.
#[derive(Debug)]
pub struct ReuseModel<'p> {
    queues: Queues<'p, f64>,
    category: Option<&'p [u32]>,
    timestamp: &'p [f64],
    categories: Vec<Estimate>,
    all: Estimate,
    /// Sum and number of ages at which blocks left.
    left: (f64, u64),
    learn: u64,
    now: f64,
}

/// What is known of the uses of a category.
#[derive(Debug, Clone, Copy, Default)]
struct Estimate {
    uses: u64,
    reuses: u64,
    gaps: f64,
}

impl Estimate {
    fn reused(&mut self, gap: f64, blocks: u32) {
        self.reuses += u64::from(blocks);
        self.gaps += gap * f64::from(blocks);
    }

    /// Probability of a use at an age between `age` and `age + life`.
    #[allow(clippy::cast_precision_loss)] // Counts of uses.
    fn probability(&self, age: f64, life: f64) -> f64 {
        if self.reuses == 0 {
            return 0.0;
        }
        let share = self.reuses as f64 / self.uses as f64;
        let mean = (self.gaps / self.reuses as f64).max(f64::MIN_POSITIVE);
        share * ((-age / mean).exp() - (-(age + life) / mean).exp())
    }
}

impl<'p> ReuseModel<'p> {
    /// An empty cache.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one category or timestamp per request.
    pub fn build(setting: &Setting<'p>, parameters: ReuseModelParameters) -> Result<Self> {
        let requests = setting.profile.requests();
        let facts = setting.facts;
        if let Some(category) = facts.category {
            Error::check_rows("category", category.len(), requests)?;
        }
        Error::check_rows("timestamp", facts.timestamp.len(), requests)?;
        let highest = facts.category.and_then(|all| all.iter().max());
        let count = highest.map_or(1, |&highest| MOST.min(highest as usize + 1));
        Ok(Self {
            queues: Queues::new(setting.profile, count),
            category: facts.category,
            timestamp: facts.timestamp,
            categories: vec![Estimate::default(); count],
            all: Estimate::default(),
            left: (0.0, 0),
            learn: parameters.learn,
            now: 0.0,
        })
    }

    fn category_of(&self, request: RequestIx) -> usize {
        let category = self.category.map_or(0, |all| all[request.usize()] as usize);
        category.min(self.categories.len() - 1)
    }

    /// The category whose oldest leaf is least likely to be used again.
    #[allow(clippy::cast_precision_loss)] // Counts of uses.
    fn victim(&mut self) -> usize {
        let (sum, count) = self.left;
        let life = if count == 0 {
            f64::MAX
        } else {
            sum / count as f64
        };
        let mut least: Option<(f64, f64, usize)> = None;
        for category in 0..self.categories.len() {
            let Some(ix) = self.queues.oldest(category) else {
                continue;
            };
            let used = self.queues.get(ix).mark.state;
            let own = &self.categories[category];
            let estimate = if own.uses < self.learn {
                &self.all
            } else {
                own
            };
            let probability = estimate.probability(self.now - used, life);
            if least.is_none_or(|(lowest, oldest, _)| (probability, used) < (lowest, oldest)) {
                least = Some((probability, used, category));
            }
        }
        least.expect("as many blocks as are dropped").2
    }
}

impl PrefixPolicy for ReuseModel<'_> {
    fn take(&mut self, request: RequestIx) -> u32 {
        self.now = self.timestamp[request.usize()];
        let hit = self.queues.take(request);
        let entry = self.queues.next_entry();
        let (now, category) = (self.now, self.category_of(request));
        let (categories, all) = (&mut self.categories, &mut self.all);
        self.queues.change_hits(|blocks, mark| {
            let (gap, count) = ((now - mark.state).max(0.0), blocks.end - blocks.start);
            categories[mark.queue].reused(gap, count);
            all.reused(gap, count);
            *mark = Mark::new(category, (0, entry), now);
        });
        hit
    }

    fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
        // What leaves counts for the requests after this one.
        let (mut left, mut gone) = (blocks, (0.0, 0));
        while left > 0 {
            let category = self.victim();
            let ix = self
                .queues
                .oldest(category)
                .expect("a leaf of that category");
            let stretch = self.queues.get(ix);
            let (age, count) = (
                self.now - stretch.mark.state,
                left.min(stretch.len().into()),
            );
            gone.0 += age * f64::from(to_u32(count));
            gone.1 += count;
            self.queues.drop_blocks(ix, to_u32(count), dropped);
            left -= count;
        }
        self.left.0 += gone.0;
        self.left.1 += gone.1;
        Room::dropped(blocks)
    }

    fn put(&mut self, request: RequestIx, keep: u32) {
        let (hit, category) = (self.queues.hit_blocks(), self.category_of(request));
        if keep > hit {
            let entry = self.queues.next_entry();
            let mark = Mark::new(category, (0, entry), self.now);
            self.queues.grow(request, hit..keep, mark);
        }
        self.queues.finish();
        self.categories[category].uses += u64::from(keep);
        self.all.uses += u64::from(keep);
    }

    fn validate(&self, cached: u64) -> Result<()> {
        self.queues.validate(cached)
    }
}
