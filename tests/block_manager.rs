//! Random operations on the `BlockManager`, with every invariant checked after each of them.
//! (Its results are compared with the Python oracle in `tests/test_block_manager.py`.)

use prefixsim::engine::vllm::{
    Admission, BlockManager, ManagerConfig, Retention, SlidingWindow, UncachedFirst,
};
use prefixsim::hash::{Chain, Context, DigestAlgorithm, DigestChain, Xxh3Chain};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Allocate(Vec<u32>, Option<u32>, bool),
    Extend(u32),
    Append(Vec<u32>),
    Free,
    Reset,
    Evict(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let tokens = || prop::collection::vec(0_u32..2, 1..20);
    prop_oneof![
        4 => (tokens(), prop::option::of(1_u32..9), any::<bool>())
            .prop_map(|(tokens, chunk, must_fit)| Op::Allocate(tokens, chunk, must_fit)),
        2 => (1_u32..9).prop_map(Op::Extend),
        4 => tokens().prop_map(Op::Append),
        2 => Just(Op::Free),
        1 => Just(Op::Reset),
        1 => (0_u32..40).prop_map(Op::Evict),
    ]
}

fn configs() -> impl Strategy<Value = ManagerConfig> {
    let retention = prop_oneof![
        Just(Retention::Dense),
        Just(Retention::PromptEnd),
        Just(Retention::Interval(8)),
    ];
    let window = prop::option::of((2_u32..14, retention, prop::option::of(1_u32..9)));
    let limit = prop_oneof![3 => Just(u32::MAX), 1 => 1_u32..25];
    let numbers = (0_u32..3, limit);
    let uncached_first = prop_oneof![
        2 => Just(UncachedFirst::Always),
        1 => Just(UncachedFirst::WithCaching),
        1 => Just(UncachedFirst::WithWindow),
        1 => Just(UncachedFirst::Never),
    ];
    (numbers, uncached_first, window).prop_map(|((shift, limit), uncached_first, window)| {
        ManagerConfig {
            uncached_first,
            max_model_len: limit,
            sliding_window: window.map(|(window, retention, batch_tokens)| SlidingWindow {
                window,
                retention,
                batch_tokens,
            }),
            ..ManagerConfig::new(1 << shift)
        }
    })
}

/// Runs the operations; errors are fine as long as nothing breaks.
fn run<C: Chain>(
    mut cache: BlockManager<C, usize>,
    ops: Vec<(Op, usize)>,
) -> Result<(), TestCaseError>
where
    prefixsim::engine::vllm::TableIndex<C::Key>: prefixsim::engine::vllm::KeyIndex<Key = C::Key>,
{
    let plain = Context::default();
    for (next, (op, pick)) in ops.into_iter().enumerate() {
        let mut live: Vec<usize> = cache.requests().copied().collect();
        live.sort_unstable();
        let chosen = live
            .get(pick % live.len().max(1))
            .copied()
            .unwrap_or(usize::MAX);
        match op {
            Op::Allocate(tokens, chunk, must_fit) => {
                let hit = cache.lookup(&tokens, &plain).unwrap();
                prop_assert!((hit as usize) < tokens.len());
                if let Ok(Some(a)) =
                    cache.allocate(next, &tokens, &plain, Admission { chunk, must_fit })
                {
                    prop_assert_eq!(a.hit_tokens, hit);
                }
            }
            Op::Extend(chunk) => drop(cache.extend(&chosen, Some(chunk))),
            Op::Append(tokens) => drop(cache.append(&chosen, &tokens)),
            Op::Free => drop(cache.free(&chosen)),
            Op::Reset => {
                let unused = |id| cache.table(id).unwrap().iter().all(|&slot| slot == 0);
                let idle = live.iter().all(unused);
                prop_assert_eq!(cache.reset(), idle);
            }
            Op::Evict(slot) => drop(cache.evict(&[slot])),
        }
        prop_assert_eq!(cache.validate(), Ok(()));
    }
    Ok(())
}

proptest! {
    #[test]
    fn invariants_hold_after_every_operation(
        config in configs(),
        num_blocks in prop::option::weighted(0.9, 2_u32..40),
        ops in prop::collection::vec((op(), any::<usize>()), 1..60),
    ) {
        run(BlockManager::new(num_blocks, config, Xxh3Chain).unwrap(), ops)?;
    }

    #[test]
    fn invariants_hold_with_the_hashes_of_vllm(
        config in configs(),
        ops in prop::collection::vec((op(), any::<usize>()), 1..30),
    ) {
        let chain = DigestChain::new(DigestAlgorithm::Sha256Cbor, None);
        run(BlockManager::new(Some(20), config, chain).unwrap(), ops)?;
    }
}

#[test]
fn more_tokens_than_max_model_len_are_refused_before_anything_changes() {
    let plain = Context::default();
    let mut config = ManagerConfig::new(1);
    config.max_model_len = 3;
    let mut cache = BlockManager::<_, &str>::new(Some(10), config, Xxh3Chain).unwrap();
    let refused = cache.allocate("a", &[1, 2, 3, 4], &plain, Admission::default());
    assert!(refused.unwrap_err().to_string().contains("max_model_len 3"));
    assert_eq!((cache.requests().count(), cache.stats().requests), (0, 0));
    assert_eq!(cache.validate(), Ok(()));
    cache
        .allocate("a", &[1, 2], &plain, Admission::default())
        .unwrap();
    assert!(cache.append(&"a", &[3, 4]).is_err());
    assert_eq!(cache.progress(&"a").unwrap().num_tokens, 2);
    assert_eq!(cache.append(&"a", &[3]), Ok(Some(1)));
    assert_eq!(cache.validate(), Ok(()));
}

/// Prompts longer than a lookup hashes in one go: where the first block differs from the cached ones
/// decides, at every place around the seams.
#[test]
fn lookups_of_long_prompts_find_what_is_admitted() {
    const BLOCKS: u32 = 600;
    let config = ManagerConfig::new(2);
    let plain = Context::default();
    let whole: Vec<u32> = (0..=2 * BLOCKS).collect();
    let mut cache = BlockManager::new(None, config, Xxh3Chain).unwrap();
    assert_eq!(cache.lookup(&whole, &plain), Ok(0));
    let admission = || Admission {
        chunk: None,
        must_fit: false,
    };
    cache
        .allocate(0_usize, &whole, &plain, admission())
        .unwrap();
    for block in [0, 1, 254, 255, 256, 257, 511, 512, 513, BLOCKS - 1, BLOCKS] {
        let mut other = whole.clone();
        other[2 * block as usize] = 7_000_000;
        assert_eq!(cache.lookup(&other, &plain), Ok(2 * block), "{block}");
    }
    assert_eq!(
        cache.lookup(&whole[..2 * BLOCKS as usize], &plain),
        Ok(2 * BLOCKS - 2)
    );
    assert!(cache.lookup(&[], &plain).is_err());
}
