//! The forest and its replays against a model that keeps every block, without Python.

#![allow(clippy::cast_possible_truncation)] // Numbers are small.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use prefixsim::forest::Columns;
use prefixsim::index::RequestIx;
use prefixsim::policy::{Facts, Policy};
use prefixsim::replay::{Cache, Job, sweep};
use prefixsim::trace::{Csr, Trace};
use prefixsim::{Error, Forest, Profile, Stop};
use proptest::prelude::*;

/// Prompts over two tokens: continuations, beginnings and repetitions of earlier ones, or new.
fn prompts() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let step = (
        0..5u8,
        any::<prop::sample::Index>(),
        prop::collection::vec(0..2u32, 0..6),
    );
    prop::collection::vec(step, 0..24).prop_map(|steps| {
        let mut prompts: Vec<Vec<u32>> = Vec::new();
        for (kind, index, fresh) in steps {
            let earlier = if prompts.is_empty() {
                Vec::new()
            } else {
                prompts[index.index(prompts.len())].clone()
            };
            prompts.push(match kind {
                0 => fresh,
                1 => earlier,
                2 => earlier[..fresh.len().min(earlier.len())].to_vec(),
                _ => [earlier, fresh].concat(),
            });
        }
        prompts
    })
}

struct Case {
    offsets: Vec<u64>,
    tokens: Vec<u32>,
    lengths: Vec<u32>,
}

impl Case {
    fn of(prompts: &[Vec<u32>]) -> Self {
        let mut offsets = vec![0];
        for prompt in prompts {
            offsets.push(offsets.last().unwrap() + prompt.len() as u64);
        }
        Self {
            offsets,
            tokens: prompts.concat(),
            lengths: prompts.iter().map(|p| p.len() as u32).collect(),
        }
    }

    fn forest(&self, salt: Option<&[u32]>, session: Option<&[u32]>) -> Forest {
        let mut trace = Trace::new(Csr::new(&self.offsets, &self.tokens).unwrap());
        if let Some(codes) = salt {
            trace = trace.salt(codes).unwrap();
        }
        if let Some(codes) = session {
            trace = trace.session(codes).unwrap();
        }
        Forest::compile(&trace, &Stop::default()).unwrap()
    }

    fn profile(&self, block_size: u32) -> Profile {
        let forest = Arc::new(self.forest(None, None));
        Profile::new(forest, block_size, &self.lengths, &Stop::default()).unwrap()
    }
}

/// Block after block: hits per request (rule off) and evictions.
fn lru(prompts: &[Vec<u32>], block: usize, capacity: usize) -> (Vec<u32>, u64) {
    let mut order: Vec<&[u32]> = Vec::new(); // least recently used first
    let (mut hits, mut evictions) = (Vec::new(), 0);
    for prompt in prompts {
        let blocks: Vec<&[u32]> = (1..=prompt.len() / block)
            .map(|k| &prompt[..k * block])
            .collect();
        let hit = blocks.iter().take_while(|b| order.contains(b)).count();
        hits.push(hit as u32);
        let kept = &blocks[..blocks.len().min(capacity)];
        order.retain(|b| !kept.contains(b));
        let excess = (order.len() + kept.len()).saturating_sub(capacity);
        order.drain(..excess);
        evictions += excess as u64;
        order.extend(kept.iter().rev());
    }
    (hits, evictions)
}

proptest! {
    #[test]
    fn forests_hold_every_prefix_once(prompts in prompts(), salts in prop::collection::vec(0..3u32, 24)) {
        let case = Case::of(&prompts);
        let salt = &salts[..prompts.len()];
        let session: Vec<u32> = (0..prompts.len() as u32).map(|i| i % 4).collect();
        let forest = case.forest(Some(salt), Some(&session));
        forest.validate().unwrap();
        for block in 1..8usize {
            let distinct: HashSet<(u32, &[u32])> = prompts
                .iter()
                .zip(salt)
                .flat_map(|(p, &s)| (1..=p.len() / block).map(move |k| (s, &p[..k * block])))
                .collect();
            prop_assert_eq!(forest.unique_blocks(block as u32).unwrap(), distinct.len() as u64);
        }
        // Equal prompts under one salt end at one node, different ones at different nodes.
        let mut ends = HashMap::new();
        for (i, prompt) in prompts.iter().enumerate() {
            let node = forest.prompt_node()[i];
            prop_assert_eq!(forest.end()[node as usize], prompt.len() as u32);
            prop_assert_eq!(*ends.entry((salt[i], prompt)).or_insert(node), node);
        }
        let nodes: HashSet<u32> = ends.values().copied().collect();
        prop_assert_eq!(nodes.len(), ends.len());
    }

    #[test]
    fn replays_and_curve_agree_with_the_model(prompts in prompts(), block in 1..6u32) {
        let case = Case::of(&prompts);
        let profile = case.profile(block);
        profile.validate().unwrap();
        let stop = Stop::default();
        let curve = profile.curve(&stop).unwrap();
        curve.validate().unwrap();
        for capacity in 1..=profile.unique_blocks() + 1 {
            let (hits, evictions) = lru(&prompts, block as usize, capacity as usize);
            let cache = Cache::of(capacity).without_last_token_rule();
            let run = profile.replay(Policy::LRU, cache, Facts::default(), &stop).unwrap();
            prop_assert_eq!(&run.hit_blocks, &hits);
            prop_assert_eq!(run.evictions, evictions);
            let total: u64 = hits.iter().copied().map(u64::from).sum();
            prop_assert_eq!(curve.hit_blocks(capacity, false), total);
            prop_assert_eq!(curve.evictions(capacity), evictions);
            let best = profile.replay(Policy::CLAIRVOYANT, cache, Facts::default(), &stop).unwrap();
            prop_assert!(best.hit_blocks.iter().copied().map(u64::from).sum::<u64>() >= total);
        }
        let infinite = profile.replay(Policy::LRU, Cache::infinite().without_last_token_rule(), Facts::default(), &stop).unwrap();
        prop_assert_eq!(&infinite.hit_blocks, &profile.reusable_blocks());
    }

    #[test]
    fn sessions_change_nothing_but_the_time_it_takes(prompts in prompts(), sessions in 1..5u32) {
        let case = Case::of(&prompts);
        let session: Vec<u32> = (0..prompts.len() as u32).map(|i| i % sessions).collect();
        let (with, without) = (case.forest(None, Some(&session)), case.forest(None, None));
        prop_assert_eq!(with.nodes(), without.nodes());
        let profile = |forest: Forest| {
            Profile::new(Arc::new(forest), 2, &case.lengths, &Stop::default()).unwrap()
        };
        let (with, without) = (profile(with), profile(without));
        for t in 0..prompts.len() {
            let t = RequestIx::new(t as u32);
            prop_assert_eq!(with.reuse(t), without.reuse(t));
        }
    }
}

#[test]
fn everything_stops_when_asked() {
    let prompts: Vec<Vec<u32>> = (0..3).map(|i| vec![i, 1, 2]).collect();
    let case = Case::of(&prompts);
    let profile = case.profile(1);
    let stop = Stop::default();
    stop.request();
    let stopped = Some(Error::Interrupted);
    let facts = Facts {
        timestamp: &[0.0, 1.0, 2.0],
        category: None,
    };
    for &policy in Policy::ALL {
        assert_eq!(
            profile.replay(policy, Cache::of(2), facts, &stop).err(),
            stopped
        );
    }
    assert_eq!(profile.curve(&stop).err(), stopped);
    let job = Job {
        profile: &profile,
        policy: Policy::LRU,
        cache: Cache::of(2),
    };
    assert_eq!(sweep(&[job], facts, &case.lengths, &stop).err(), stopped);
    let trace = Trace::new(Csr::new(&case.offsets, &case.tokens).unwrap());
    assert_eq!(Forest::compile(&trace, &stop).err(), stopped);
}

#[test]
fn damaged_columns_are_refused() {
    let refused = |offsets: &[u64]| Csr::new(offsets, &[1u32, 2]).err().map(|e| e.to_string());
    assert!(refused(&[]).unwrap().contains("empty"));
    assert!(refused(&[0, 3]).unwrap().contains("there are 2 values"));
    assert!(
        refused(&[0, 2, 1])
            .unwrap()
            .contains("list 1 runs from 2 to 1")
    );
    let parts = |parent: Vec<u32>, end: Vec<u32>, node: Vec<u32>| {
        let columns = Columns {
            tokens_per_id: 1,
            partial_blocks: false,
            parent,
            end,
            representative: vec![0, 0],
            prompt_node: node,
            output_node: None,
        };
        Forest::from_columns(columns).map(|_| ())
    };
    assert!(parts(vec![0, 0], vec![0, 2], vec![1]).is_ok());
    assert!(parts(vec![0, 0], vec![0, 0], vec![1]).is_err());
    assert!(parts(vec![1, 1], vec![0, 2], vec![1]).is_err());
    assert!(parts(vec![0, 0], vec![0, 2], vec![2]).is_err());
}
