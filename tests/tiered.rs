//! The two-tier cache, checked after every operation and against what it must equal.

#![allow(clippy::cast_possible_truncation)] // Numbers are small.

mod common;

use common::{BLOCK_SIZE, Request, checked_steps, compiled, scheduler};
use prefixsim::Stop;
use prefixsim::engine::tiered::{Fill, Tiered};
use prefixsim::engine::vllm::{
    DenseIndex, Lease, Manager, ManagerConfig, Server, SlidingWindow, Workload,
};
use prefixsim::serving::{
    Arrivals, Demand, InstanceLog, KvCache, Latency, Progress, RequestLog, serve,
};
use proptest::prelude::*;

/// Prompts from a few families with a common beginning: (family, tokens, output).
fn workload(rows: &[(u32, u32, u32)]) -> Workload {
    let tokens = |family: u32, position: u32| 1_000 * (family * (position / 10)) + position;
    let requests: Vec<Request> = (0..)
        .zip(rows)
        .map(|(i, &(family, prompt, output))| Request {
            prompt: (0..prompt)
                .map(|position| tokens(family, position))
                .collect(),
            output_len: output,
            arrival_ns: 13 * i,
        })
        .collect();
    compiled(&requests)
}

fn manager(workload: &Workload, slots: u32) -> Manager<DenseIndex> {
    let index = DenseIndex::new(workload.num_keys() as usize);
    Manager::new(slots, ManagerConfig::new(BLOCK_SIZE), index).unwrap()
}

fn tiered(workload: &Workload, slots: u32, below: u32, fill: Fill) -> Tiered<DenseIndex> {
    Tiered::new(manager(workload, slots), below, fill).unwrap()
}

/// Serves the workload with a cache, every invariant checked after every step.
fn run<C: KvCache<Key = u32>>(
    workload: &Workload,
    cache: C,
    arrivals: &Arrivals,
) -> (RequestLog, InstanceLog, C) {
    let mut server = Server::new(
        workload,
        scheduler(16),
        cache,
        Latency::Fixed(5),
        checked_steps(),
    )
    .unwrap();
    let mut log = RequestLog::new(workload.requests().len());
    let requests = workload.requests();
    serve(&mut server, requests, arrivals, &mut log, &Stop::default()).unwrap();
    let (instance, cache) = server.finish();
    (log, instance, cache)
}

fn rows() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    prop::collection::vec((0_u32..4, 1_u32..40, 1_u32..12), 1..30)
}

fn fills() -> impl Strategy<Value = Fill> {
    prop_oneof![Just(Fill::OnEviction), Just(Fill::WriteThrough)]
}

fn on_device(log: &RequestLog) -> Vec<u32> {
    let below = log.lower_hit_tokens.first();
    let lower = |i: usize| below.map_or(0, |column| column[i]);
    (0..log.hit_tokens.len())
        .map(|i| log.hit_tokens[i] - lower(i))
        .collect()
}

proptest! {
    /// One after the other, the device does what it does without a store below.
    #[test]
    fn the_device_does_not_notice(rows in rows(), below in 0_u32..40, fill in fills()) {
        let workload = workload(&rows);
        let (plain, _, device) = run(&workload, manager(&workload, 17), &Arrivals::Sequential);
        let cache = tiered(&workload, 17, below, fill);
        let (log, _, cache) = run(&workload, cache, &Arrivals::Sequential);
        prop_assert_eq!(on_device(&log), plain.hit_tokens);
        prop_assert_eq!(log.num_blocks, plain.num_blocks);
        prop_assert_eq!(cache.free_queue(), device.free_queue());
    }

    /// Two exclusive tiers hit what one cache of their sum hits. (A prompt of whole blocks computes
    /// its last one again and holds it twice, on the device only: none here.)
    #[test]
    fn exclusive_tiers_are_their_sum(mut rows in rows(), below in 0_u32..40) {
        for row in &mut rows {
            row.1 = row.1 / BLOCK_SIZE * BLOCK_SIZE + 1;
        }
        let workload = workload(&rows);
        let cache = tiered(&workload, 17, below, Fill::OnEviction);
        let (log, _, _) = run(&workload, cache, &Arrivals::Sequential);
        let sum = manager(&workload, 17 + below);
        let (expected, _, _) = run(&workload, sum, &Arrivals::Sequential);
        prop_assert_eq!(log.hit_tokens, expected.hit_tokens);
    }

    /// A store that is large enough and written through loses nothing, whatever the order of service:
    /// with all requests one after the other, each finds what an unlimited cache has.
    #[test]
    fn a_large_store_loses_nothing(rows in rows(), fill in fills()) {
        let workload = workload(&rows);
        let cache = tiered(&workload, 17, 10_000, fill);
        let (log, _, _) = run(&workload, cache, &Arrivals::Sequential);
        let unlimited = manager(&workload, 10_000);
        let (expected, _, _) = run(&workload, unlimited, &Arrivals::Sequential);
        prop_assert_eq!(log.hit_tokens, expected.hit_tokens);
    }

    /// Steps, chunks, preemptions: every invariant holds after each, and every token is accounted for.
    #[test]
    fn a_scheduler_runs_on_it(rows in rows(), below in 0_u32..40, fill in fills()) {
        let workload = workload(&rows);
        let (log, instance, cache) =
            run(&workload, tiered(&workload, 17, below, fill), &Arrivals::Trace);
        prop_assert_eq!(cache.usage().used(), 0);
        prop_assert!(cache.store().len() <= below as usize);
        for (row, &(_, prompt, _)) in rows.iter().enumerate() {
            let hit = log.hit_tokens[row];
            prop_assert!(hit < prompt);
            if log.preemptions[row] == 0 {
                prop_assert_eq!(log.computed_tokens[row], u64::from(prompt - hit));
            }
        }
        prop_assert_eq!(instance.finish_order.len(), rows.len());
        if below == 0 {
            let plain = run(&workload, manager(&workload, 17), &Arrivals::Trace);
            prop_assert_eq!(log, plain.0);
            prop_assert_eq!(instance, plain.1);
        }
    }

    /// The store that is written through, against a list.
    #[test]
    fn the_store_keeps_what_was_used_last(rows in rows(), below in 1_u32..30) {
        let workload = workload(&rows);
        let mut cache = tiered(&workload, 40, below, Fill::WriteThrough);
        let mut model: Vec<u32> = Vec::new();
        for (request, &(_, prompt, _)) in (0..).zip(&rows) {
            let keys = workload.keys(request);
            let keys = &keys[..(prompt / BLOCK_SIZE) as usize];
            let hit = cache.lookup(keys, prompt);
            let device = (hit.tiers[0] / BLOCK_SIZE) as usize;
            let limit = ((prompt - 1) / BLOCK_SIZE) as usize;
            let found = keys[device..limit].iter().take_while(|key| model.contains(key)).count();
            prop_assert_eq!(hit.tiers[1], found as u32 * BLOCK_SIZE);
            let (mut lease, mut progress) = (Lease::default(), Progress::new(prompt));
            let demand = Demand {
                new_tokens: prompt - hit.tokens(),
                ..Demand::default()
            };
            cache.admit(&mut lease, keys, &progress, demand).unwrap();
            progress.computed = prompt;
            prop_assert_eq!(cache.validate([(&lease, &progress)]), Ok(()));
            // What was stored, then all that was hit and is still there; the beginning last each time.
            for key in keys[device..].iter().rev() {
                model.retain(|other| other != key);
                model.insert(0, *key);
                model.truncate(below as usize);
            }
            for key in keys[..device + found].iter().rev() {
                if model.contains(key) {
                    model.retain(|other| other != key);
                    model.insert(0, *key);
                }
            }
            prop_assert_eq!(cache.store().iter().collect::<Vec<_>>(), model.clone());
            cache.release(&mut lease);
            prop_assert_eq!(cache.validate([]), Ok(()));
        }
    }
}

#[test]
fn hits_are_told_by_tier() {
    // The second prompt shares two blocks with the first, and takes the slots of five others.
    let rows = [(1, 33, 1), (2, 33, 1), (1, 33, 1)];
    let workload = workload(&rows);
    let cache = tiered(&workload, 11, 100, Fill::OnEviction);
    let (log, _, _) = run(&workload, cache, &Arrivals::Sequential);
    assert_eq!(log.hit_tokens, [0, 8, 32]);
    assert_eq!(log.lower_hit_tokens, [[0, 0, 20], [0, 0, 0]]);
    assert_eq!(log.computed_tokens, [33, 25, 1]);
}

#[test]
fn what_cannot_have_two_tiers_is_refused() {
    let mut config = ManagerConfig::new(BLOCK_SIZE);
    config.sliding_window = Some(SlidingWindow {
        window: 8,
        retention: prefixsim::engine::vllm::Retention::Dense,
        batch_tokens: None,
    });
    let device = Manager::new(10, config, DenseIndex::new(1)).unwrap();
    assert!(Tiered::new(device, 10, Fill::OnEviction).is_err());
}
