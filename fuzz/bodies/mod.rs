//! What fuzz targets run on their input; `tests/fuzz_corpus.rs` replays the corpus through the same.
//!
//! Input is read byte by byte as choices, so that every input means something and small changes of it
//! are small changes of what happens. A body panics where the core breaks a promise.

#![allow(dead_code)] // Each target runs one of them.
#![allow(clippy::cast_possible_truncation)] // Numbers are small.

mod caches;
mod forests;
mod readers;

pub use caches::{block_manager, sglang, vllm};
pub use forests::{forest, forest_file};
pub use readers::readers;

use prefixsim::Error;

/// A body, and the name of its target and its corpus.
pub type Body = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Body; 6] = [
    ("readers", readers),
    ("forest", forest),
    ("forest_file", forest_file),
    ("block_manager", block_manager),
    ("vllm", vllm),
    ("sglang", sglang),
];

/// Input as choices; zeros once it has ended.
struct Choices<'d>(&'d [u8]);

impl Choices<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    /// From 0 to below `limit`, which is at most 256.
    fn below(&mut self, limit: u32) -> u32 {
        u32::from(self.byte()) % limit
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Up to `longest` tokens of a small alphabet, from bits.
    fn tokens(&mut self, longest: u32) -> Vec<u32> {
        let count = self.below(longest + 1);
        let mut bits = 0;
        (0..count)
            .map(|i| {
                if i.is_multiple_of(8) {
                    bits = u32::from(self.byte());
                }
                bits >> (i % 8) & 1
            })
            .collect()
    }
}

/// Lists in one array with offsets.
fn csr(lists: &[Vec<u32>]) -> (Vec<u64>, Vec<u32>) {
    let mut offsets = vec![0];
    for list in lists {
        offsets.push(offsets[offsets.len() - 1] + list.len() as u64);
    }
    (offsets, lists.concat())
}

/// A refusal is an answer, a broken invariant is not.
fn sound<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Err(Error::Bug(what)) => panic!("{what}"),
        other => other.ok(),
    }
}
