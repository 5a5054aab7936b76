//! Every policy keeps its side of the contract, step by step.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Numbers are small.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use prefixsim::index::{Ix, RequestIx};
use prefixsim::policy::block_wise::{BlockWise, Hooks};
use prefixsim::policy::keyed::{Asked, Keyed, Keys, Segment};
use prefixsim::policy::{
    Dropped, Facts, Policy, PolicySource, PrefixPolicy, Room, Setting, WithPolicy,
};
use prefixsim::replay::Cache;
use prefixsim::trace::{Csr, Trace};
use prefixsim::{Forest, Profile, Stop};
use proptest::prelude::*;

/// Prompts over two tokens: continuations, beginnings and repetitions of earlier ones, or new.
fn prompts() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let step = (
        0..5u8,
        any::<prop::sample::Index>(),
        prop::collection::vec(0..2u32, 0..6),
    );
    prop::collection::vec(step, 0..40).prop_map(|steps| {
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

fn profile(prompts: &[Vec<u32>]) -> Profile {
    let lengths: Vec<u32> = prompts.iter().map(|p| p.len() as u32).collect();
    let offsets: Vec<u64> = (0..=prompts.len())
        .map(|n| lengths[..n].iter().map(|&length| u64::from(length)).sum())
        .collect();
    let tokens = prompts.concat();
    let trace = Trace::new(Csr::new(&offsets, &tokens).unwrap());
    let forest = Arc::new(Forest::compile(&trace, &Stop::default()).unwrap());
    Profile::new(forest, 1, &lengths, &Stop::default()).unwrap()
}

/// Every policy as it is without parameters, and some with.
fn policies() -> impl Iterator<Item = Policy> {
    let others = [
        "clock:bits=2",
        "gdsf:attention=3",
        "gdsf:refuse=true",
        "gdsf:attention=2:refuse=true",
        "lirs:cold=0.4",
        "lru-k:k=3:fifo=true",
        "mq:queues=3:lifetime=3:ghost=0.5",
        "s3fifo:small=0.5:threshold=1:fill=true",
        "s3fifo:small=0.4:threshold=1:strict=true",
        "s3fifo:small=0.5:threshold=1:most=1:grace=0.5",
        "slru:segments=3:protected=0:room=true",
        "t-lru:threshold=3:next=1",
        "ttl:seconds=5",
        "ttl:seconds=5:renew=false",
        "w-tinylfu:window=0.3:sample=2",
        "workload-aware:learn=3",
    ];
    let others = others.map(|text| text.parse().unwrap());
    Policy::ALL.iter().copied().chain(others)
}

/// A time and a category for every request.
struct Columns {
    timestamp: Vec<f64>,
    category: Vec<u32>,
}

impl Columns {
    fn of(prompts: &[Vec<u32>]) -> Self {
        Self {
            timestamp: (0..prompts.len()).map(|t| t as f64).collect(),
            category: prompts
                .iter()
                .map(|prompt| prompt.len() as u32 % 3)
                .collect(),
        }
    }

    fn borrow(&self) -> Facts<'_> {
        Facts {
            timestamp: &self.timestamp,
            category: Some(&self.category),
        }
    }
}

/// Drives a policy by hand, beside a set of the cached blocks.
struct Contract<'a> {
    prompts: &'a [Vec<u32>],
    capacity: u64,
    reports: bool,
}

impl WithPolicy for Contract<'_> {
    type Output = Vec<u32>;

    fn run<P: PrefixPolicy>(self, mut policy: P) -> Vec<u32> {
        let mut cached: HashSet<&[u32]> = HashSet::new();
        let (mut count, mut hits) = (0, Vec::new());
        for (t, prompt) in self.prompts.iter().enumerate() {
            let request = RequestIx::from_usize(t);
            let mut events = Vec::new();
            count -= policy.expire(request, &mut |dropped| events.push(dropped));
            for Dropped { owner, blocks } in events.drain(..) {
                for depth in blocks.rev() {
                    let block = &self.prompts[owner.usize()][..=depth as usize];
                    assert!(cached.remove(block), "was not cached");
                }
            }
            let found = policy.take(request);
            let keep = prompt.len().min(self.capacity as usize);
            let needed = count + (keep - found as usize) as u64;
            let excess = needed.saturating_sub(self.capacity);
            let room = policy.evict(excess, &mut |dropped| events.push(dropped));
            assert!(room.total() >= excess, "less room than was asked for");
            assert!(
                room.refused as usize <= keep - found as usize,
                "refused what was there"
            );
            let keep = keep - room.refused as usize;
            count = needed - room.total();
            policy.put(request, keep as u32);
            policy.validate(count).unwrap();
            if self.reports {
                let known = (1..=prompt.len())
                    .take_while(|&end| cached.contains(&prompt[..end]))
                    .count();
                assert_eq!(found as usize, known, "cached blocks that lead the path");
                for Dropped { owner, blocks } in events {
                    for depth in blocks.rev() {
                        let block = &self.prompts[owner.usize()][..=depth as usize];
                        assert!(!prompt[..found as usize].starts_with(block), "is running");
                        assert!(cached.remove(block), "was not cached");
                    }
                }
                cached.extend((1..=keep).map(|end| &prompt[..end]));
                assert_eq!(cached.len() as u64, count);
                let orphan = |block: &&&[u32]| {
                    block.len() > 1 && !cached.contains(&block[..block.len() - 1])
                };
                assert_eq!(cached.iter().find(orphan), None, "closed under ancestors");
            }
            hits.push(found);
        }
        hits
    }
}

proptest! {
    #[test]
    fn all_policies_keep_the_contract(prompts in prompts(), capacity in 1..30u64) {
        let profile = profile(&prompts);
        let facts = Columns::of(&prompts);
        for policy in policies() {
            let setting = Setting::new(&profile, Some(capacity)).with_facts(facts.borrow());
            let contract = Contract {
                prompts: &prompts,
                capacity,
                reports: policy.reports_evictions(),
            };
            let hits = policy.with(setting, contract).unwrap();
            let cache = Cache::of(capacity).without_last_token_rule();
            let outcome = profile.replay(policy, cache, facts.borrow(), &Stop::default()).unwrap();
            prop_assert_eq!(outcome.hit_blocks, hits, "{} under the driver", policy.name());
        }
    }

    #[test]
    fn all_policies_find_everything_in_an_infinite_cache(prompts in prompts()) {
        let profile = profile(&prompts);
        let facts = Columns::of(&prompts);
        let in_time = |policy: &Policy| policy.name() != "ttl";
        for policy in policies().filter(in_time) {
            let cache = Cache::infinite().without_last_token_rule();
            let outcome = profile.replay(policy, cache, facts.borrow(), &Stop::default()).unwrap();
            prop_assert_eq!(outcome.evictions, 0);
            prop_assert_eq!(outcome.hit_blocks, profile.reusable_blocks());
        }
    }

    #[test]
    fn ages_of_evicted_blocks_are_told_by_every_policy_that_knows_them(
        prompts in prompts(), capacity in 1..20u64,
    ) {
        let profile = profile(&prompts);
        let facts = Columns::of(&prompts);
        for policy in policies() {
            let cache = Cache::of(capacity);
            let run = profile.replay_timed(policy, cache, facts.borrow(), &Stop::default());
            if !policy.reports_evictions() {
                prop_assert!(run.is_err());
                continue;
            }
            let outcome = run.unwrap();
            let residency = outcome.residency.unwrap();
            for ages in [&residency.lifetime, &residency.idle] {
                prop_assert_eq!(ages.weights.iter().sum::<u64>(), outcome.evictions);
                prop_assert!(ages.values.iter().all(|&age| age > 0.0));
            }
        }
    }
}

#[test]
fn a_policy_of_ones_own_is_driven_like_the_others() {
    /// Holds the latest prompt only, and never finds it.
    struct Forgetful {
        held: u64,
        latest: Option<(RequestIx, u32)>,
    }
    impl PrefixPolicy for Forgetful {
        fn take(&mut self, _request: RequestIx) -> u32 {
            0
        }
        fn evict(&mut self, blocks: u64, dropped: &mut impl FnMut(Dropped)) -> Room {
            if blocks == 0 {
                return Room::default();
            }
            let (owner, length) = self.latest.take().expect("only one is held");
            dropped(Dropped {
                owner,
                blocks: 0..length,
            });
            self.held -= u64::from(length);
            Room::dropped(length.into())
        }
        fn put(&mut self, request: RequestIx, keep: u32) {
            self.latest = Some((request, keep));
            self.held += u64::from(keep);
        }
        fn validate(&self, cached: u64) -> prefixsim::Result<()> {
            assert_eq!(self.held, cached);
            Ok(())
        }
    }
    let profile = profile(&[vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]]);
    let mut policy = Forgetful {
        held: 0,
        latest: None,
    };
    let mut hits = Vec::new();
    let evictions = prefixsim::replay::drive(
        &profile,
        &mut policy,
        Cache::of(3),
        &mut hits,
        &Stop::default(),
    );
    assert_eq!((evictions.unwrap(), hits), (6, vec![0, 0, 0]));
    policy.validate(3).unwrap();
}

#[test]
fn bad_arguments_are_errors() {
    let profile = profile(&[vec![1, 2], vec![1, 2]]);
    let stop = Stop::default();
    let error = |cache| {
        profile
            .replay(Policy::LRU, cache, Facts::default(), &stop)
            .unwrap_err()
    };
    assert!(error(Cache::of(0)).to_string().contains("capacity of 0"));
    let job = prefixsim::replay::Job {
        profile: &profile,
        policy: Policy::LRU,
        cache: Cache::of(2),
    };
    let error = prefixsim::replay::sweep(&[job], Facts::default(), &[2], &stop).unwrap_err();
    assert_eq!(error.to_string(), "prompt_len: 1 rows, but 2 requests");
    assert!(profile.lru_evictions(2, &[2], &stop).is_err());
    let ttl: Policy = "ttl".parse().unwrap();
    let error = profile
        .replay(ttl, Cache::of(2), Facts::default(), &stop)
        .unwrap_err();
    assert_eq!(error.to_string(), "timestamp: 0 rows, but 2 requests");
}

/// Keys that are a column of the segments.
struct Column(fn(&Segment) -> u32);

impl Keys for Column {
    fn keys(
        &mut self,
        _request: RequestIx,
        segments: &[Segment],
        keys: &mut Vec<f64>,
    ) -> prefixsim::Result<()> {
        keys.extend(segments.iter().map(|segment| f64::from(self.0(segment))));
        Ok(())
    }
}

/// A least recently used cache by hooks: the leaf whose last use is oldest.
#[derive(Default)]
struct OldestLeaf {
    leaves: HashSet<u32>,
    last_use: HashMap<u32, u32>,
}

impl OldestLeaf {
    fn used(&mut self, request: RequestIx, blocks: &[u32]) {
        let uses = blocks.iter().map(|&block| (block, request.get()));
        self.last_use.extend(uses);
    }
}

impl Hooks for OldestLeaf {
    fn hit(&mut self, request: RequestIx, blocks: &[u32]) -> prefixsim::Result<()> {
        self.used(request, blocks);
        Ok(())
    }

    fn inserted(&mut self, request: RequestIx, blocks: &[u32]) -> prefixsim::Result<()> {
        self.used(request, blocks);
        Ok(())
    }

    fn leaf(&mut self, block: u32, may_go: bool) -> prefixsim::Result<()> {
        assert!(if may_go {
            self.leaves.insert(block)
        } else {
            self.leaves.remove(&block)
        });
        Ok(())
    }

    fn victim(&mut self, _request: RequestIx) -> prefixsim::Result<u32> {
        let oldest = self.leaves.iter().min_by_key(|block| self.last_use[block]);
        Ok(*oldest.expect("there is one"))
    }

    fn dropped(&mut self, _request: RequestIx, block: u32) -> prefixsim::Result<()> {
        self.last_use.remove(&block);
        Ok(())
    }
}

/// A policy of one's own, in each of the ways there are.
enum Own {
    Keyed(Asked, fn(&Segment) -> u32),
    OldestLeaf,
}

impl PolicySource for Own {
    fn with<W: WithPolicy>(&self, setting: Setting<'_>, what: W) -> prefixsim::Result<W::Output> {
        match *self {
            Self::Keyed(asked, column) => Ok(what.run(Keyed::new(&setting, asked, Column(column)))),
            Self::OldestLeaf => Ok(what.run(BlockWise::new(&setting, OldestLeaf::default())?)),
        }
    }

    fn name(&self) -> &'static str {
        "own"
    }
}

proptest! {
    #[test]
    fn own_policies_equal_those_of_the_crate(prompts in prompts(), capacity in 1..30u64) {
        let profile = profile(&prompts);
        let last_use: fn(&Segment) -> u32 = |segment| segment.last_use.get();
        let first_use: fn(&Segment) -> u32 = |segment| segment.first_use.get();
        let uses: fn(&Segment) -> u32 = |segment| segment.uses;
        let mut pairs = vec![(Own::OldestLeaf, "lru")];
        for (column, name) in [(last_use, "lru"), (first_use, "fifo"), (uses, "lfu")] {
            pairs.push((Own::Keyed(Asked::AfterUse, column), name));
            pairs.push((Own::Keyed(Asked::Always, column), name));
        }
        for (own, name) in pairs {
            let policy: Policy = name.parse().unwrap();
            let cache = Cache::of(capacity);
            let got = profile.replay(&own, cache, Facts::default(), &Stop::default());
            let expected = profile.replay(policy, cache, Facts::default(), &Stop::default());
            prop_assert_eq!(got, expected, "as {}", name);
            let contract = Contract { prompts: &prompts, capacity, reports: true };
            own.with(Setting::new(&profile, Some(capacity)), contract).unwrap();
        }
    }
}
