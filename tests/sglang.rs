//! SGLang's cache without a scheduler: a trace at once against call after call, and what is inserted.

#![allow(clippy::cast_possible_truncation)] // Numbers are small.

use prefixsim::engine::sglang::{
    CacheConfig, Columns, Drive, HiCacheConfig, Insertion, OnlineCache, Overlap, Policy, Prompt,
    Recording, SchedulePolicy, SchedulerConfig, Simulation, SimulationConfig, Version, Workload,
    WritePolicy, run_hicache, simulate,
};
use prefixsim::serving::Latency;
use prefixsim::trace::{Csr, Trace};
use prefixsim::{Error, Forest, Stop};
use proptest::prelude::*;

/// Prompts over two tokens, and how many tokens each samples.
fn rows() -> impl Strategy<Value = Vec<(Vec<u32>, u32)>> {
    prop::collection::vec((prop::collection::vec(0..2u32, 1..14), 1..9u32), 1..20)
}

fn workload(rows: &[(Vec<u32>, u32)]) -> Workload {
    let mut offsets = vec![0];
    for (prompt, _) in rows {
        offsets.push(offsets[offsets.len() - 1] + prompt.len() as u64);
    }
    let ids: Vec<u32> = rows.iter().flat_map(|row| row.0.clone()).collect();
    let trace = Trace::new(Csr::new(&offsets, &ids).unwrap());
    let forest = Forest::compile(&trace, &Stop::default()).unwrap();
    let prompt_len: Vec<u32> = rows.iter().map(|row| row.0.len() as u32).collect();
    let output_len: Vec<u32> = rows.iter().map(|row| row.1).collect();
    let columns = Columns {
        prompt_len: &prompt_len,
        output_len: &output_len,
        arrival_ns: &vec![0; rows.len()],
        priority: None,
        id_rank: None,
    };
    Workload::new(&forest, &columns).unwrap()
}

fn cache(version: usize, page_size: u32, capacity: u64) -> CacheConfig {
    CacheConfig {
        version: Version::ALL[version].1,
        page_size,
        capacity_tokens: Some(capacity),
        policy: Policy::Lru,
        disabled: false,
    }
}

fn run(
    workload: &Workload,
    cache: CacheConfig,
    overlap: Overlap,
    with_output: bool,
) -> Result<Simulation, Error> {
    let config = SimulationConfig {
        cache,
        scheduler: SchedulerConfig {
            schedule_policy: SchedulePolicy::from_name("fcfs").unwrap(),
            overlap: false,
            chunked_prefill_size: None,
            max_prefill_tokens: 1000,
            max_running_requests: 10,
            req_pool_size: 10,
            schedule_conservativeness: 1.0,
            max_new_slack: 0,
            preemption_threshold: None,
        },
        drive: Drive::Unscheduled {
            overlap,
            with_output,
        },
        latency: Latency::Fixed(0),
        recording: Recording::default(),
    };
    simulate(workload, &config, &Stop::default())
}

proptest! {
    #[test]
    fn one_after_the_other(
        rows in rows(), version in 0..4usize, page in 1..4u32, spare in 0..40u64, with_output: bool,
    ) {
        let need = rows.iter().map(|row| row.0.len() as u64 + u64::from(row.1)).max().unwrap();
        let config = cache(version, page, need + u64::from(page) * 2 + spare);
        let at_once = run(&workload(&rows), config, Overlap::Sequential, with_output).unwrap();
        let mut online = OnlineCache::new(&config).unwrap();
        for (i, (tokens, output)) in rows.iter().enumerate() {
            let prompt = Prompt { tokens, ..Prompt::default() };
            let hit = online.admit(i, prompt, 0).unwrap();
            prop_assert_eq!(hit, at_once.requests.hit_tokens[i]);
            let computed = u64::from(tokens.len() as u32 - hit);
            prop_assert_eq!(at_once.requests.computed_tokens[i], computed);
            prop_assert!(online.extend(&i, None).unwrap());
            for t in 1..*output * u32::from(with_output) {
                prop_assert!(online.append(&i, &[100 * (i as u32 + 1) + t]).unwrap());
            }
            online.finish(&i).unwrap();
            online.validate().unwrap();
        }
        let (free, evictable) = (online.cache().free(), online.cache().tree().evictable());
        prop_assert_eq!((at_once.totals.free_end, at_once.totals.evictable_end), (free, evictable));
    }

    #[test]
    fn nothing_overlaps_where_one_runs(rows in rows(), version in 0..4usize, page in 1..4u32) {
        let workload = workload(&rows);
        let alone = run(&workload, cache(version, page, 10_000), Overlap::Sequential, true).unwrap();
        for overlap in [Overlap::Concurrent(1), Overlap::Concurrent(3)] {
            let run = run(&workload, cache(version, page, 10_000), overlap, true).unwrap();
            // Prompts are published when they are computed, with room for everything.
            prop_assert_eq!(&run.requests.hit_tokens, &alone.requests.hit_tokens);
        }
        let batch = run(&workload, cache(version, page, 10_000), Overlap::Batch(1), false).unwrap();
        let alone = run(&workload, cache(version, page, 10_000), Overlap::Sequential, false).unwrap();
        prop_assert_eq!(&batch.requests.hit_tokens, &alone.requests.hit_tokens);
        // A batch finds what was there before it, whatever is in it.
        let all = run(&workload, cache(version, page, 10_000), Overlap::Batch(1000), false).unwrap();
        prop_assert!(all.requests.hit_tokens.iter().all(|&hit| hit == 0));
        for bad in [Overlap::Concurrent(0), Overlap::Batch(0)] {
            prop_assert!(run(&workload, cache(0, 1, 10), bad, false).is_err());
        }
    }

    #[test]
    fn batches_and_concurrency_in_little_room(
        rows in rows(), version in 0..4usize, page in 1..4u32, spare in 0..30u64, at_once in 1..5u32,
    ) {
        let need = rows.iter().map(|row| row.0.len() as u64 + u64::from(row.1)).max().unwrap();
        let config = cache(version, page, need + u64::from(page) * 3 + spare);
        let workload = workload(&rows);
        for (overlap, output) in [(Overlap::Batch(at_once), false), (Overlap::Concurrent(at_once), true)] {
            match run(&workload, config, overlap, output) {
                Err(Error::NeverFits { .. }) => {}
                done => {
                    let done = done.unwrap();
                    let capacity = config.capacity_tokens.unwrap() / u64::from(page) * u64::from(page);
                    let held = done.totals.free_end + done.totals.evictable_end;
                    prop_assert_eq!(held, capacity, "something is still held");
                }
            }
        }
    }

    #[test]
    fn two_tiers_find_no_less_than_one(
        rows in rows(), unified: bool, page in 1..4u32, spare in 0..30u64, host in 1..60u64, write in 0..3usize,
    ) {
        let need = rows.iter().map(|row| row.0.len() as u64 + u64::from(row.1)).max().unwrap();
        let capacity = need + u64::from(page) * 2 + spare;
        let version = if unified { Version::Unified0523 } else { Version::Radix0516 };
        let name = ["write_through", "write_through_selective", "write_back"][write];
        let config = HiCacheConfig {
            version,
            page_size: page,
            capacity_tokens: capacity,
            host_tokens: host + u64::from(page),
            policy: Policy::Lru,
            write_policy: WritePolicy::from_name(name).unwrap(),
        };
        let workload = workload(&rows);
        let log = run_hicache(&workload, &config, true, true, &Stop::default()).unwrap();
        for (i, (prompt, _)) in rows.iter().enumerate() {
            prop_assert!(log.device_tokens[i] + log.host_tokens[i] < prompt.len() as u32);
            prop_assert!(log.loaded_tokens[i] == 0 || log.loaded_tokens[i] == log.host_tokens[i]);
        }
    }
}

#[test]
fn prompts_are_inserted_without_a_request() {
    let mut cache: OnlineCache<u32> = OnlineCache::new(&cache(0, 1, 8)).unwrap();
    let insertion = Insertion {
        priority: 0,
        inserted: 0,
        chunked: false,
    };
    let prompt = |tokens| Prompt {
        tokens,
        ..Prompt::default()
    };
    let (before, first) = cache
        .insert(prompt(&[1, 2, 3, 4]), &insertion)
        .unwrap()
        .unwrap();
    assert_eq!(
        (before, cache.find(prompt(&[1, 2, 3, 4, 5])).unwrap().0),
        (0, 4)
    );
    assert_eq!(
        cache
            .insert(prompt(&[1, 2, 3, 4]), &insertion)
            .unwrap()
            .unwrap(),
        (4, first)
    );
    cache.lock(first).unwrap();
    assert!(
        cache.insert(prompt(&[7; 5]), &insertion).unwrap().is_none(),
        "four tokens are locked"
    );
    cache.unlock(first).unwrap();
    assert!(cache.unlock(first).is_err());
    assert_eq!(
        cache
            .insert(prompt(&[7; 5]), &insertion)
            .unwrap()
            .unwrap()
            .0,
        0
    );
    // The number of a node that is gone means nothing any more, though it is given again.
    assert!(cache.lock(first).is_err());
    assert_eq!(cache.evict(100), 5);
    let (_, second) = cache
        .insert(prompt(&[1, 2, 3, 4]), &insertion)
        .unwrap()
        .unwrap();
    assert_ne!(first, second);
    assert!(cache.lock(first).is_err());
    assert!(cache.lock(second).is_ok());
    cache.validate().unwrap();
}

proptest! {
    #[test]
    fn nodes_know_the_longest_prompt_through_them(
        prompts in prop::collection::vec(prop::collection::vec(0..2u32, 1..10), 1..20),
    ) {
        let config = CacheConfig { capacity_tokens: None, ..cache(0, 1, 1) };
        let mut online: OnlineCache<u32> = OnlineCache::new(&config).unwrap();
        let insertion = Insertion { priority: 0, inserted: 0, chunked: false };
        for tokens in &prompts {
            online.insert(Prompt { tokens, ..Prompt::default() }, &insertion).unwrap().unwrap();
        }
        let tree = online.cache().tree();
        for (_, node) in tree.nodes() {
            let path = &tree.trie().sequences().tokens(node.sequence)[..node.end as usize];
            let through = prompts.iter().filter(|prompt| prompt.starts_with(path));
            prop_assert_eq!(Some(node.longest as usize), through.map(Vec::len).max());
        }
    }
}
