//! A compiled trace through a hierarchy.

use super::{Hierarchy, TierConfig};
use crate::error::Result;
use crate::forest::BlockNumbers;
use crate::index::to_usize;
use crate::profile::Profile;
use crate::stop::Stop;

/// What a hierarchy did with each request, in blocks; see [`super::Served`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TiersOutcome {
    /// Hits of each request, by tier.
    pub hits: Vec<Vec<u32>>,
    /// Blocks written for each request, by tier.
    pub written: Vec<Vec<u32>>,
    /// Blocks missed that left a tier last, by tier.
    pub gone: Vec<Vec<u32>>,
    /// Blocks missed that were too rare for a lower tier.
    pub too_rare: Vec<u32>,
    /// Blocks missed that are behind a gap.
    pub stranded: Vec<u32>,
    /// Blocks missed because loading takes longer than computing.
    pub slow: Vec<u32>,
    /// Blocks the fastest tier dropped.
    pub evictions: Vec<u32>,
}

/// Replays a profile through tiers, one request after the other.
///
/// # Errors
/// [`crate::Error::Range`] as [`Hierarchy::new`], or if there are too many blocks;
/// [`crate::Error::Interrupted`].
pub fn replay(
    profile: &Profile,
    tiers: &[TierConfig],
    compute: Option<f64>,
    last_token_rule: bool,
    stop: &Stop,
) -> Result<TiersOutcome> {
    let forest = profile.forest();
    let numbers = BlockNumbers::new(forest, forest.ids_per_block(profile.block_size())?)?;
    let mut hierarchy = Hierarchy::new(tiers, compute, to_usize(numbers.blocks()))?;
    let nodes = forest.output_node().unwrap_or(forest.prompt_node());
    let limits = profile.most_hits(last_token_rule);
    let columns = || vec![Vec::with_capacity(nodes.len()); tiers.len()];
    let mut outcome = TiersOutcome {
        hits: columns(),
        written: columns(),
        gone: columns(),
        ..TiersOutcome::default()
    };
    let mut path = Vec::new();
    for (t, &node) in nodes.iter().enumerate() {
        if t.is_multiple_of(Stop::INTERVAL) {
            stop.check()?;
        }
        numbers.path(node, profile.touched()[t], &mut path);
        let served = hierarchy.serve(&path, limits[t]);
        for (columns, row) in [
            (&mut outcome.hits, &served.hits),
            (&mut outcome.written, &served.written),
            (&mut outcome.gone, &served.gone),
        ] {
            for (column, &blocks) in columns.iter_mut().zip(row) {
                column.push(blocks);
            }
        }
        outcome.too_rare.push(served.too_rare);
        outcome.stranded.push(served.stranded);
        outcome.slow.push(served.slow);
        outcome.evictions.push(served.evictions);
    }
    debug_assert_eq!(hierarchy.validate(), Ok(()));
    Ok(outcome)
}
