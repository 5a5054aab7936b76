//! Forests against a model that keeps every prefix, and forests from bytes.

use std::collections::HashSet;
use std::sync::Arc;

use prefixsim::policy::{Facts, Policy};
use prefixsim::replay::Cache;
use prefixsim::trace::{Csr, Trace};
use prefixsim::{Forest, Profile, Stop};
use xxhash_rust::xxh3::Xxh3;

use super::{Choices, csr, sound};

const HEAD: usize = 80;
const DIGEST: [u8; 16] = *b"0123456789abcdef";

/// Up to 24 prompts: new ones, beginnings of earlier ones, and what goes on after them.
fn prompts(choices: &mut Choices<'_>) -> Vec<Vec<u32>> {
    let mut prompts: Vec<Vec<u32>> = Vec::new();
    for _ in 0..choices.below(25) {
        let mut prompt = Vec::new();
        if !prompts.is_empty() && choices.flag() {
            prompt.clone_from(&prompts[choices.below(prompts.len() as u32) as usize]);
            prompt.truncate(choices.below(32) as usize);
        }
        prompt.extend(choices.tokens(12));
        prompts.push(prompt);
    }
    prompts
}

/// Hits per request of an LRU cache that keeps a list of prefixes, least recently used first.
fn lru(prompts: &[Vec<u32>], block: usize, capacity: usize) -> Vec<u32> {
    let mut order: Vec<&[u32]> = Vec::new();
    let mut hits = Vec::new();
    for prompt in prompts {
        let blocks: Vec<&[u32]> = (1..=prompt.len() / block)
            .map(|k| &prompt[..k * block])
            .collect();
        hits.push(blocks.iter().take_while(|b| order.contains(b)).count() as u32);
        let kept = &blocks[..blocks.len().min(capacity)];
        order.retain(|b| !kept.contains(b));
        let excess = (order.len() + kept.len()).saturating_sub(capacity);
        order.drain(..excess);
        order.extend(kept.iter().rev());
    }
    hits
}

/// A forest holds each prefix once; replays and the curve say what the list of prefixes says.
pub fn forest(data: &[u8]) {
    let mut choices = Choices(data);
    let block = choices.below(6) + 1;
    let capacity = choices.below(32) + 1;
    let prompts = prompts(&mut choices);
    let salt: Vec<u32> = prompts.iter().map(|_| choices.below(3)).collect();
    let (offsets, tokens) = csr(&prompts);
    let stop = Stop::default();
    let rows = || Trace::new(Csr::new(&offsets, &tokens).unwrap());

    let salted = Forest::compile(&rows().salt(&salt).unwrap(), &stop).unwrap();
    salted.validate().unwrap();
    let distinct: HashSet<(u32, &[u32])> = (prompts.iter().zip(&salt))
        .flat_map(|(p, &s)| {
            (1..=p.len() / block as usize).map(move |k| (s, &p[..k * block as usize]))
        })
        .collect();
    assert_eq!(salted.unique_blocks(block).unwrap(), distinct.len() as u64);

    let forest = Arc::new(Forest::compile(&rows(), &stop).unwrap());
    let lengths: Vec<u32> = prompts.iter().map(|p| p.len() as u32).collect();
    let profile = Profile::new(forest, block, &lengths, &stop).unwrap();
    profile.validate().unwrap();
    let expected = lru(&prompts, block as usize, capacity as usize);
    let cache = Cache::of(u64::from(capacity)).without_last_token_rule();
    let run = profile
        .replay(Policy::LRU, cache, Facts::default(), &stop)
        .unwrap();
    assert_eq!(run.hit_blocks, expected);
    let curve = profile.curve(&stop).unwrap();
    curve.validate().unwrap();
    let total: u64 = expected.iter().copied().map(u64::from).sum();
    assert_eq!(curve.hit_blocks(u64::from(capacity), false), total);
    let best = profile
        .replay(Policy::CLAIRVOYANT, cache, Facts::default(), &stop)
        .unwrap();
    assert!(best.hit_blocks.iter().copied().map(u64::from).sum::<u64>() >= total);
}

/// Puts the right checksum on bytes that were changed by hand.
fn seal(bytes: &mut [u8]) {
    let mut hasher = Xxh3::new();
    hasher.update(&bytes[..64]);
    hasher.update(&bytes[HEAD..]);
    let sum = hasher.digest128().to_le_bytes();
    bytes[64..HEAD].copy_from_slice(&sum);
}

/// Bytes under a right checksum are refused, or a forest of the trace that holds the same blocks.
pub fn forest_file(data: &[u8]) {
    let mut choices = Choices(data);
    let prompts = prompts(&mut choices);
    let (offsets, tokens) = csr(&prompts);
    let trace = Trace::new(Csr::new(&offsets, &tokens).unwrap());
    let forest = Forest::compile(&trace, &Stop::default()).unwrap();
    let mut bytes = forest.to_bytes(DIGEST);
    for _ in 0..choices.below(8) {
        let words = (bytes.len() / 4) as u32;
        let at = (choices.below(256) << 8 | choices.below(256)) % words;
        let value = match choices.below(24) {
            23 => u32::MAX,
            small => small,
        };
        bytes[at as usize * 4..][..4].copy_from_slice(&value.to_le_bytes());
    }
    bytes.truncate(bytes.len() - choices.below(8) as usize % 5);
    bytes.extend(&choices.0[..choices.0.len().min(16)]);
    seal(&mut bytes);
    let Some(read) = sound(Forest::from_bytes(&bytes, DIGEST, &trace)) else {
        return;
    };
    read.validate().unwrap();
    if read.tokens_per_id() == forest.tokens_per_id() {
        for size in 1..9 {
            assert_eq!(read.unique_blocks(size), forest.unique_blocks(size));
        }
    }
}
