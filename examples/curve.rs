//! How large a cache do these chats need? `cargo run --release --example curve`
//!
//! Ten thousand sessions of ten turns share four system prompts; each turn repeats the whole
//! conversation before it. The curve at every cache size comes from one pass.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Numbers are small.

use std::sync::Arc;
use std::time::Instant;

use prefixsim::trace::{Csr, Trace};
use prefixsim::{Forest, Profile, Result, Stop};

const SESSIONS: u32 = 10_000;
const TURNS: usize = 10;
const SYSTEM_PROMPT: usize = 300;
const TURN: usize = 120;
const AT_ONCE: u32 = 1_000;

fn main() -> Result<()> {
    let (offsets, tokens) = chats();
    let stop = Stop::default();
    let started = Instant::now();
    let trace = Trace::new(Csr::new(&offsets, &tokens)?);
    let forest = Arc::new(Forest::compile(&trace, &stop)?);
    let lengths: Vec<u32> = offsets
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as u32)
        .collect();
    let profile = Profile::new(forest, 16, &lengths, &stop)?;
    let curve = profile.curve(&stop)?;
    println!(
        "{} requests, {} tokens, {} distinct blocks of 16: every cache size in {:.2} s",
        profile.requests(),
        tokens.len(),
        profile.unique_blocks(),
        started.elapsed().as_secs_f64()
    );
    let blocks: u64 = profile.full_blocks().iter().map(|&n| u64::from(n)).sum();
    for share in [1, 2, 5, 10, 20, 50, 100] {
        let capacity = profile.unique_blocks() * share / 100;
        let rate = curve.hit_blocks(capacity, true) as f64 / blocks as f64;
        println!(
            "{capacity:>9} blocks: {:5.1} % of all blocks are hits",
            100.0 * rate
        );
    }
    Ok(())
}

/// Prompts in the order in which they arrive: a thousand sessions take turns, then the next.
fn chats() -> (Vec<u64>, Vec<u32>) {
    let mut offsets = vec![0];
    let mut tokens = Vec::new();
    for first in (0..SESSIONS).step_by(AT_ONCE as usize) {
        for turn in 1..=TURNS {
            for session in first..first + AT_ONCE {
                let system = session % 4;
                tokens.extend((0..SYSTEM_PROMPT as u32).map(|i| system * 1000 + i));
                tokens.extend((0..(turn * TURN) as u32).map(|i| 10_000 + session * 7919 + i));
                offsets.push(tokens.len() as u64);
            }
        }
    }
    (offsets, tokens)
}
