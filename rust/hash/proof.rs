//! A second hash of prefixes, under keys that are drawn anew in every process.
//!
//! XXH3 has no key, so blocks that collide can be constructed. Against keys that nobody knows nothing
//! can be: this hash is a polynomial over the tokens modulo the prime 2^61 - 1, twice with independent
//! keys, and two given prefixes of n blocks agree in it with probability at most (n / 2^61)^2. It decides
//! only whether equal [`super::Xxh3Key`]s are the same prefix; nothing that is printed depends on it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;

use crate::index::to_u32;

const PRIME: u64 = (1 << 61) - 1;
/// Words that have a factor of their own; longer blocks take further rounds.
const ROUND: usize = GROUPS * GROUP;
const GROUPS: usize = 16;
/// Words whose products are summed before the sum is reduced: it stays below 2^126.
const GROUP: usize = 16;

/// What two prefixes must have in common to be one.
pub(super) type Proof = [u64; 2];

/// The keys of one polynomial.
struct Lane {
    factors: [[u64; GROUP]; GROUPS],
    round: u64,
    block: u64,
    extra: u64,
    one: u64,
}

static LANES: LazyLock<Box<[Lane; 2]>> = LazyLock::new(|| Box::new([Lane::draw(), Lane::draw()]));

impl Lane {
    fn draw() -> Self {
        // Keyed by the operating system's random numbers.
        let random = RandomState::new();
        let mut drawn = 0_u64;
        let mut key = || {
            drawn += 1;
            random.hash_one(drawn) % (PRIME - 1) + 1
        };
        Self {
            factors: std::array::from_fn(|_| std::array::from_fn(|_| key())),
            round: key(),
            block: key(),
            extra: key(),
            one: key(),
        }
    }

    /// A sum of products of neighbours, each with a factor added, round after round.
    #[inline]
    fn words(&self, words: &[u32]) -> u64 {
        if let Ok(words) = <&[u32; GROUP]>::try_from(words) {
            // The common size: no loop is left.
            return products(words, &self.factors[0]);
        }
        words.chunks(ROUND).fold(0, |before, words| {
            let mut sum = 0;
            for (words, factors) in words.chunks(GROUP).zip(&self.factors) {
                let mut group = [0; GROUP];
                group[..words.len()].copy_from_slice(words);
                sum += u128::from(products(&group, factors));
            }
            reduce(u128::from(before) * u128::from(self.round) + sum)
        })
    }

    #[inline]
    fn step(&self, parent: u64, words: u64, factor: u64) -> u64 {
        let sum = u128::from(parent) + u128::from(words) + u128::from(self.one);
        reduce(u128::from(reduce(sum)) * u128::from(factor))
    }
}

/// (w0 + f0)(w1 + f1) + (w2 + f2)(w3 + f3) + ...: two lists of words agree in it for at most one value
/// of the factor that stands beside the first word they differ in.
#[inline]
fn products(words: &[u32; GROUP], factors: &[u64; GROUP]) -> u64 {
    let mut sum = 0_u128;
    for i in (0..GROUP).step_by(2) {
        let left = u64::from(words[i]) + factors[i];
        let right = u64::from(words[i + 1]) + factors[i + 1];
        sum += u128::from(left) * u128::from(right);
    }
    reduce(sum)
}

/// A number modulo the prime.
#[inline]
#[allow(clippy::cast_possible_truncation)] // The low bits of each part are what is asked for.
fn reduce(number: u128) -> u64 {
    let parts = (number as u64 & PRIME) + ((number >> 61) as u64 & PRIME) + (number >> 122) as u64;
    let folded = (parts & PRIME) + (parts >> 61);
    if folded >= PRIME {
        folded - PRIME
    } else {
        folded
    }
}

/// Of the tokens of one block.
#[inline]
pub(super) fn block(tokens: &[u32]) -> Proof {
    let [a, b] = &**LANES;
    [a.words(tokens), b.words(tokens)]
}

/// Of the hash ids of one block.
#[allow(clippy::cast_possible_truncation)] // Both halves.
pub(super) fn ids(ids: &[u64]) -> Proof {
    let words: Vec<u32> = ids
        .iter()
        .flat_map(|&id| [id as u32, (id >> 32) as u32])
        .collect();
    block(&words)
}

/// Of bytes of any length.
pub(super) fn bytes(bytes: &[u8]) -> Proof {
    let words: Vec<u32> = std::iter::once(to_u32(bytes.len()))
        .chain(bytes.iter().map(|&byte| u32::from(byte)))
        .collect();
    block(&words)
}

/// Of a prefix and the block behind it.
#[inline]
pub(super) fn child(parent: Proof, block: Proof) -> Proof {
    let [a, b] = &**LANES;
    [
        a.step(parent[0], block[0], a.block),
        b.step(parent[1], block[1], b.block),
    ]
}

/// Of a prefix and what isolates the next block.
pub(super) fn extra(parent: Proof, values: Proof) -> Proof {
    let [a, b] = &**LANES;
    [
        a.step(parent[0], values[0], a.extra),
        b.step(parent[1], values[1], b.extra),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_that_of_the_prime() {
        let prime = u128::from(PRIME);
        let large = (prime - 1) * (prime - 1);
        for number in [
            0,
            1,
            prime - 1,
            prime,
            prime + 1,
            3 * prime,
            large,
            (1 << 123) - 1,
        ] {
            assert_eq!(u128::from(reduce(number)), number % prime, "{number}");
        }
        let factors = [PRIME - 1; GROUP];
        let word = u128::from(u32::MAX) + prime - 1;
        let exact = word * word % prime * 8 % prime;
        assert_eq!(u128::from(products(&[u32::MAX; GROUP], &factors)), exact);
    }

    #[test]
    fn order_place_and_length_count() {
        let long: Vec<u32> = (0..600).collect();
        let mut turned = long.clone();
        turned.swap(3, 3 + ROUND);
        let all = [
            block(&long),
            block(&turned),
            block(&long[1..]),
            block(&[1, 2]),
            block(&[2, 1]),
            child(child([3, 3], block(&[1])), block(&[2])),
            child(child([3, 3], block(&[2])), block(&[1])),
            extra(block(&[1]), block(&[2])),
            child(child([0, 0], [0, 0]), [0, 0]),
            child([0, 0], [0, 0]),
            bytes(b"ab"),
            bytes(b"ab\0"),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(
                all[i + 1..].iter().all(|b| a[0] != b[0] && a[1] != b[1]),
                "{i}"
            );
        }
        assert_eq!(ids(&[1 << 32 | 7]), block(&[7, 1]));
    }
}
