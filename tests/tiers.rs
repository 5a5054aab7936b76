//! Hierarchies of any rules on random trees of blocks: every invariant after every request.

use prefixsim::engine::tiers::{Hierarchy, OrderPolicy, Sees, TierConfig, Write};
use proptest::prelude::*;

const BLOCKS: u32 = 14;

/// The tree of blocks: each block's parent is an earlier one, or none.
fn trees() -> impl Strategy<Value = Vec<Option<u32>>> {
    let parents = (0..BLOCKS).map(|block| prop::option::of(0..block.max(1)).boxed());
    parents.collect::<Vec<_>>().prop_map(|mut tree| {
        tree[0] = None;
        tree
    })
}

fn path(tree: &[Option<u32>], end: u32) -> Vec<u32> {
    let mut path = vec![end];
    while let Some(parent) = tree[path[path.len() - 1] as usize] {
        path.push(parent);
    }
    path.reverse();
    path
}

fn tiers() -> impl Strategy<Value = TierConfig> {
    let write = prop_oneof![
        Just((false, Write::Through)),
        Just((false, Write::Back)),
        Just((true, Write::Back)),
    ];
    let sees = prop_oneof![Just(Sees::All), Just(Sees::FromLoads), Just(Sees::Misses)];
    let rules = (write, sees, 1_u32..4, any::<bool>());
    let times = (0.0_f64..2.0, 0.0_f64..2.0);
    (
        prop::option::weighted(0.9, 0_u64..9),
        0_usize..4,
        rules,
        times,
    )
        .prop_map(
            |(capacity, policy, ((exclusive, write), sees, min_uses, head_first), times)| {
                TierConfig {
                    policy: OrderPolicy::ALL[policy],
                    exclusive,
                    write,
                    min_uses,
                    sees,
                    head_first,
                    latency: times.0,
                    seconds_per_block: times.1,
                    ..TierConfig::new(capacity)
                }
            },
        )
}

proptest! {
    #[test]
    fn every_invariant_holds_after_every_request(
        tree in trees(),
        top in (1_u64..8, 0_usize..4),
        lower in prop::collection::vec(tiers(), 0..3),
        compute in prop::option::of(0.0_f64..2.0),
        ends in prop::collection::vec((0..BLOCKS, 0_u32..9), 0..60),
    ) {
        let first = TierConfig { policy: OrderPolicy::ALL[top.1], ..TierConfig::new(Some(top.0)) };
        let mut configs = vec![first];
        configs.extend(lower);
        let mut hierarchy = Hierarchy::new(&configs, compute, BLOCKS as usize).unwrap();
        let mut known = std::collections::HashSet::new();
        for (end, limit) in ends {
            let path = path(&tree, end);
            let served = hierarchy.serve(&path, limit);
            let hits: u32 = served.hits.iter().sum();
            let lost = served.gone.iter().sum::<u32>() + served.too_rare + served.stranded + served.slow;
            let within = path.iter().take(limit as usize);
            let had = within.take_while(|block| known.contains(*block)).count();
            prop_assert_eq!((hits + lost) as usize, had, "each known block is a hit or a loss");
            known.extend(path);
            prop_assert_eq!(hierarchy.validate(), Ok(()));
        }
    }

    /// Inclusive LRU tiers hit what the largest alone hits, exclusive ones what one of all hits.
    #[test]
    fn hierarchies_hit_what_one_cache_hits(
        tree in trees(),
        sizes in prop::collection::vec(1_u64..7, 1..4),
        exclusive in any::<bool>(),
        ends in prop::collection::vec(0..BLOCKS, 0..60),
    ) {
        let lower = |size: &u64| TierConfig {
            exclusive,
            write: if exclusive { Write::Back } else { Write::Through },
            ..TierConfig::new(Some(*size))
        };
        let mut configs = vec![TierConfig::new(Some(sizes[0]))];
        configs.extend(sizes[1..].iter().map(lower));
        let whole = if exclusive { sizes.iter().sum() } else { *sizes.iter().max().unwrap() };
        let mut many = Hierarchy::new(&configs, None, BLOCKS as usize).unwrap();
        let mut one = Hierarchy::new(&[TierConfig::new(Some(whole))], None, BLOCKS as usize).unwrap();
        for end in ends {
            let path = path(&tree, end);
            let hits: u32 = many.serve(&path, BLOCKS).hits.iter().sum();
            prop_assert_eq!(hits, one.serve(&path, BLOCKS).hits[0]);
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let through = TierConfig {
        exclusive: true,
        ..TierConfig::new(Some(3))
    };
    let never = TierConfig {
        latency: f64::NAN,
        ..TierConfig::new(Some(3))
    };
    let top = TierConfig::new(Some(3));
    for (tiers, said) in [
        (vec![], "0 tiers: give 1 to 16"),
        (
            vec![TierConfig::new(Some(0))],
            "the fastest tier holds nothing",
        ),
        (vec![top, through], "tier 1 is exclusive"),
        (vec![top, never], "tier 1: a time is negative or not finite"),
    ] {
        let refused = Hierarchy::new(&tiers, None, 4).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}
