//! What a forest and a profile say of a trace besides hits, against counting prefix by prefix.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Numbers are small.
#![allow(clippy::cast_sign_loss)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use prefixsim::index::RequestIx;
use prefixsim::policy::{Facts, Policy};
use prefixsim::replay::{Cache, Job, sweep};
use prefixsim::stats::weighted_summary;
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
    prop::collection::vec(step, 1..24).prop_map(|steps| {
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

fn lengths(prompts: &[Vec<u32>]) -> Vec<u32> {
    prompts.iter().map(|prompt| prompt.len() as u32).collect()
}

fn offsets<T>(lists: &[Vec<T>]) -> Vec<u64> {
    let ends = lists.iter().scan(0, |end, list| {
        *end += list.len() as u64;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

fn forest(prompts: &[Vec<u32>], outputs: Option<&[Vec<u32>]>) -> Forest {
    let (starts, tokens) = (offsets(prompts), prompts.concat());
    let trace = Trace::new(Csr::new(&starts, &tokens).unwrap());
    let Some(outputs) = outputs else {
        return Forest::compile(&trace, &Stop::default()).unwrap();
    };
    let (starts, tokens) = (offsets(outputs), outputs.concat());
    let trace = trace.outputs(Csr::new(&starts, &tokens).unwrap()).unwrap();
    Forest::compile(&trace.keep_last_output_token(), &Stop::default()).unwrap()
}

fn profile(prompts: &[Vec<u32>], block: u32) -> Profile {
    let forest = Arc::new(forest(prompts, None));
    Profile::new(forest, block, &lengths(prompts), &Stop::default()).unwrap()
}

/// The full blocks of a prompt, each as the tokens up to its end.
fn blocks(prompt: &[u32], size: u32) -> impl DoubleEndedIterator<Item = &[u32]> {
    let size = size as usize;
    (1..=prompt.len() / size).map(move |k| &prompt[..k * size])
}

fn requests_with(prompts: &[Vec<u32>], prefix: &[u32]) -> u32 {
    prompts.iter().filter(|p| p.starts_with(prefix)).count() as u32
}

/// A percentile of a sorted list, as `NumPy` interpolates it.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let (a, b) = (sorted[low], sorted[(low + 1).min(sorted.len() - 1)]);
    a + (b - a) * part
}

proptest! {
    #[test]
    fn summaries(items in prop::collection::vec((-40..40i32, 0..5u64), 0..120)) {
        let items: Vec<(f64, u64)> = items.into_iter().map(|(v, w)| (f64::from(v), w)).collect();
        let mut all: Vec<f64> = (items.iter())
            .flat_map(|&(value, weight)| std::iter::repeat_n(value, weight as usize))
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        let Some(found) = weighted_summary(&items) else {
            prop_assert!(all.is_empty());
            return Ok(());
        };
        prop_assert!((found.mean - all.iter().sum::<f64>() / all.len() as f64).abs() < 1e-9);
        prop_assert_eq!((found.min, found.max), (all[0], all[all.len() - 1]));
        for (told, share) in [(found.median, 0.5), (found.p90, 0.9), (found.p99, 0.99)] {
            prop_assert!((told - percentile(&all, share)).abs() < 1e-9, "{}", share);
        }
    }

    #[test]
    fn shared_prefixes(prompts in prompts(), count in 0..6usize) {
        let all: HashSet<&[u32]> = prompts.iter().flat_map(|p| (1..=p.len()).map(|k| &p[..k])).collect();
        let mut expected: Vec<_> = (all.iter())
            .filter_map(|&prefix| {
                let requests = requests_with(&prompts, prefix);
                let goes_on = |token| requests_with(&prompts, &[prefix, &[token]].concat()) == requests;
                (requests > 1 && !goes_on(0) && !goes_on(1)).then(|| {
                    let first = prompts.iter().position(|p| p.starts_with(prefix)).unwrap();
                    let saved = prefix.len() as u32 * (requests - 1);
                    (Reverse(saved), first as u32, prefix.len() as u32, requests)
                })
            })
            .collect();
        expected.sort_unstable();
        let told = |count| {
            let found = forest(&prompts, None).shared_prefixes(count);
            found.ids.into_iter().zip(found.requests).zip(found.first).collect::<Vec<_>>()
        };
        let expected: Vec<_> = expected.into_iter().map(|(_, first, ids, requests)| ((ids, requests), first)).collect();
        prop_assert_eq!(&told(usize::MAX), &expected);
        prop_assert_eq!(&told(count)[..], &expected[..count.min(expected.len())]);
    }

    #[test]
    fn losses(prompts in prompts(), ends in prop::collection::vec((0..12u32, 0..12u32), 24), count in 0..6usize) {
        let (from, to): (Vec<u32>, Vec<u32>) =
            ends[..prompts.len()].iter().map(|&(a, b)| (a.min(b), a.max(b))).unzip();
        // Lost tokens by what leads to them, and who loses some.
        let mut lost: HashMap<&[u32], Vec<usize>> = HashMap::new();
        for (i, prompt) in prompts.iter().enumerate() {
            for end in from[i] as usize..(to[i] as usize).min(prompt.len()) {
                lost.entry(&prompt[..=end]).or_default().push(i);
            }
        }
        let forest = forest(&prompts, None);
        let mut expected = Vec::new();
        let below_roots = forest.parent().iter().enumerate().filter(|&(node, &above)| node != above as usize);
        for (node, &above) in below_roots {
            let example = &prompts[forest.representative()[node] as usize];
            let (start, end) = (forest.end()[above as usize], forest.end()[node]);
            let owners: Vec<&Vec<usize>> = (start + 1..=end)
                .filter_map(|depth| lost.get(&example[..depth as usize]))
                .collect();
            let tokens = owners.iter().map(|owners| owners.len() as u64).sum::<u64>();
            let requests = owners.into_iter().flatten().collect::<HashSet<_>>().len() as u32;
            if tokens > 0 {
                expected.push((Reverse(tokens), node, u64::from(start), u64::from(end), requests));
            }
        }
        expected.sort_unstable();
        for count in [count, usize::MAX] {
            let found = forest.segment_losses(&from, &to, count).unwrap();
            let few = &expected[..count.min(expected.len())];
            prop_assert_eq!(found.tokens, few.iter().map(|row| row.0.0).collect::<Vec<_>>());
            prop_assert_eq!(found.start, few.iter().map(|row| row.2).collect::<Vec<_>>());
            prop_assert_eq!(found.end, few.iter().map(|row| row.3).collect::<Vec<_>>());
            prop_assert_eq!(found.requests, few.iter().map(|row| row.4).collect::<Vec<_>>());
        }
        prop_assert!(forest.segment_losses(&from[1..], &to, 1).is_err());
        prop_assert!(forest.segment_losses(&from, &to[1..], 1).is_err());
        let mut bad = from.clone();
        bad[0] = to[0] + 1;
        prop_assert!(forest.segment_losses(&bad, &to, 1).is_err());
    }

    #[test]
    fn sessions(prompts in prompts(), outputs in prop::collection::vec(prop::collection::vec(0..2u32, 0..4), 24), session in prop::collection::vec(0..4u32, 24)) {
        let (outputs, session) = (&outputs[..prompts.len()], &session[..prompts.len()]);
        let expected: Vec<u32> = (0..prompts.len())
            .map(|i| {
                let said = (0..i).filter(|&j| session[j] == session[i]).map(|j| {
                    let whole = [&prompts[j][..], &outputs[j]].concat();
                    prompts[i].iter().zip(&whole).take_while(|(a, b)| a == b).count() as u32
                });
                said.max().unwrap_or(0)
            })
            .collect();
        let forest = forest(&prompts, Some(outputs));
        let stop = Stop::default();
        prop_assert_eq!(forest.session_depth(session, &stop).unwrap(), expected);
        prop_assert!(forest.session_depth(&session[1..], &stop).is_err());
    }

    #[test]
    fn gaps_and_counts(prompts in prompts(), size in 1..4u32, share in prop::collection::vec(0..100u32, 24)) {
        let profile = profile(&prompts, size);
        let reusable = profile.reusable_blocks();
        let hits: Vec<u32> = (reusable.iter().zip(&share)).map(|(&n, share)| n * share / 99).collect();
        let hits: Vec<u32> = hits.iter().zip(&reusable).map(|(&hit, &most)| hit.min(most)).collect();
        let mut latest: HashMap<&[u32], u32> = HashMap::new();
        let mut runs: Vec<(u32, u32, u64)> = Vec::new();
        let mut hit_by: HashMap<&[u32], u64> = HashMap::new();
        for (i, prompt) in prompts.iter().enumerate() {
            for (k, block) in blocks(prompt, size).enumerate() {
                let before = latest.insert(block, i as u32);
                *hit_by.entry(block).or_default() += u64::from((k as u32) < hits[i]);
                if k as u32 >= hits[i] {
                    continue;
                }
                match runs.last_mut() {
                    Some(run) if (run.0, Some(run.1)) == (i as u32, before) => run.2 += 1,
                    _ => runs.push((i as u32, before.unwrap(), 1)),
                }
            }
        }
        let gaps = profile.gaps(&hits).unwrap();
        let told: Vec<_> = (gaps.request.iter().zip(&gaps.previous).zip(&gaps.blocks))
            .map(|((&request, &previous), &blocks)| (request, previous, blocks))
            .collect();
        prop_assert_eq!(told, runs);
        for i in 0..prompts.len() {
            let mut more = reusable.clone();
            more[i] += 1;
            prop_assert!(profile.gaps(&more).is_err());
        }

        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for &count in hit_by.values() {
            *counts.entry(count).or_default() += 1;
        }
        let (values, weights): (Vec<u64>, Vec<u64>) = counts.into_iter().unzip();
        prop_assert_eq!(profile.block_counts(&hits).unwrap(), (values, weights));
        let full: Vec<u32> = prompts.iter().map(|p| p.len() as u32 / size).collect();
        prop_assert_eq!(profile.full_blocks(), &full[..]);
        prop_assert!(profile.block_counts(&full).is_ok());
        for i in 0..prompts.len() {
            let mut deeper = full.clone();
            deeper[i] += 1;
            prop_assert!(profile.block_counts(&deeper).is_err());
        }
        prop_assert!(profile.block_counts(&full[1..]).is_err());
    }

    #[test]
    fn working_sets(prompts in prompts(), size in 1..4u32, bounds in prop::collection::vec(0..24u32, 0..5)) {
        let profile = profile(&prompts, size);
        let mut bounds: Vec<u32> = bounds.into_iter().map(|b| b % (prompts.len() as u32 + 1)).collect();
        bounds.sort_unstable();
        let expected: Vec<u64> = (bounds.windows(2))
            .map(|window| {
                let range = window[0] as usize..window[1] as usize;
                let distinct: HashSet<&[u32]> = prompts[range].iter().flat_map(|p| blocks(p, size)).collect();
                distinct.len() as u64
            })
            .collect();
        prop_assert_eq!(profile.working_set(&bounds).unwrap(), expected);
        prop_assert!(profile.working_set(&[0, prompts.len() as u32 + 1]).is_err());
        prop_assert!(profile.working_set(&[1, 0]).is_err());
    }

    #[test]
    fn capacities_and_ages(prompts in prompts(), size in 1..4u32, rule in any::<bool>()) {
        let (profile, stop) = (profile(&prompts, size), Stop::default());
        let curve = profile.curve(&stop).unwrap();
        let hits = |capacity| curve.hit_blocks(capacity, rule);
        prop_assert_eq!(curve.ceiling(rule), hits(u64::MAX >> 1));
        for wanted in 0..=curve.ceiling(rule) {
            let capacity = curve.capacity_for(wanted, rule).unwrap();
            prop_assert!(hits(capacity) >= wanted);
            prop_assert!(capacity == 0 || hits(capacity - 1) < wanted);
        }
        prop_assert_eq!(curve.capacity_for(curve.ceiling(rule) + 1, rule), None);
        prop_assert_eq!(curve.unique_blocks(), profile.unique_blocks());

        // Ages of evicted blocks of an LRU cache, block by block.
        let capacity = (profile.unique_blocks() / 2).max(1);
        let timestamp: Vec<f64> = (0..prompts.len()).map(|t| (t * t) as f64).collect();
        let mut order: Vec<(&[u32], f64, f64, u32)> = Vec::new(); // oldest use first
        let (mut lifetimes, mut idle) = (Vec::new(), Vec::new());
        let mut evicted: Vec<(u32, Vec<u32>)> = vec![(0, Vec::new()); prompts.len()];
        for (t, prompt) in prompts.iter().enumerate() {
            let now = timestamp[t];
            let kept: Vec<&[u32]> = blocks(prompt, size).take(capacity as usize).collect();
            let born = |block: &[u32]| order.iter().find(|row| row.0 == block).map_or(now, |row| row.1);
            let next: Vec<_> = kept.iter().rev().map(|&block| (block, born(block), now, t as u32)).collect();
            order.retain(|row| !kept.contains(&row.0));
            while order.len() + next.len() > capacity as usize {
                let (block, born, used, owner) = order.remove(0);
                lifetimes.push(now - born);
                idle.push(now - used);
                evicted[owner as usize].1.push(block.len() as u32 / size - 1);
            }
            order.extend(next);
        }
        let run = profile.replay_timed(Policy::LRU, Cache::of(capacity), Facts { timestamp: &timestamp, category: None }, &stop).unwrap();
        let residency = run.residency.unwrap();
        for (told, mut naive) in [(residency.lifetime, lifetimes), (residency.idle, idle)] {
            let mut all: Vec<f64> = (told.values.iter().zip(&told.weights))
                .flat_map(|(&value, &weight)| std::iter::repeat_n(value, weight as usize))
                .collect();
            all.sort_unstable_by(f64::total_cmp);
            naive.sort_unstable_by(f64::total_cmp);
            prop_assert_eq!(all, naive);
        }
        for (owner, (_, mut blocks)) in (0..).zip(evicted) {
            let told = profile.lru_evictions(capacity, &[owner], &stop).unwrap();
            prop_assert!(told.iter().all(|one| one.owner == RequestIx::new(owner)));
            let mut found: Vec<u32> = told.into_iter().flat_map(|one| one.blocks).collect();
            found.sort_unstable();
            blocks.sort_unstable();
            prop_assert_eq!(found, blocks);
        }
    }

    #[test]
    fn sweeps_add_up_what_replays_say(prompts in prompts(), capacity in 1..20u64) {
        let (profile, stop) = (profile(&prompts, 2), Stop::default());
        let cache = Cache::of(capacity);
        let jobs: Vec<Job<'_>> = (Policy::ALL.iter())
            .map(|&policy| Job { profile: &profile, policy, cache })
            .collect();
        let timestamp: Vec<f64> = (0..prompts.len()).map(|t| t as f64).collect();
        let facts = Facts { timestamp: &timestamp, category: None };
        let swept = sweep(&jobs, facts, &lengths(&prompts), &stop).unwrap();
        for (job, totals) in jobs.iter().zip(swept) {
            let run = profile.replay(job.policy, cache, facts, &stop).unwrap();
            let hits = run.hit_blocks.iter().copied().map(u64::from).sum::<u64>();
            prop_assert_eq!((totals.hit_blocks, totals.evictions), (hits, run.evictions));
            for (&hit, &limit) in run.hit_blocks.iter().zip(profile.limit()) {
                prop_assert!(hit <= limit);
            }
        }
    }
}
