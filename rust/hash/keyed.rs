//! A hash of two numbers under keys that are drawn anew in every process.
//!
//! Tables are looked up by it: whoever writes a trace cannot know which entries fall together, so none
//! can be written that makes a table slow. Nothing that is printed depends on it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// What is added to a word, and what it is multiplied by, which is odd.
static KEYS: LazyLock<[u64; 2]> = LazyLock::new(|| {
    // Keyed by the operating system's random numbers.
    let random = RandomState::new();
    [random.hash_one(0), random.hash_one(1) | 1]
});

/// A number that nobody outside the process knows.
#[inline]
pub(crate) fn secret() -> u64 {
    KEYS[0]
}

/// The upper and the lower half of a product: each of its bits depends on all of both numbers.
#[inline]
pub(crate) fn hash(a: u64, b: u64) -> u64 {
    let [added, factor] = *KEYS;
    let once = folded(a ^ added, factor);
    folded(once ^ b, factor.rotate_left(23) | 1)
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // Both halves are taken.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_that_differ_in_few_bits_fall_apart() {
        let pairs = (0..64_u64).flat_map(|a| (0..64).map(move |b| (a << 32, b << 20)));
        let buckets: HashSet<u64> = pairs.map(|(a, b)| hash(a, b) & 0xFFFF).collect();
        // 4,096 thrown into 65,536 places leave about 3,970 of them taken.
        assert!(buckets.len() > 3700, "{} places", buckets.len());
        assert_eq!(hash(1, 2), hash(1, 2));
    }
}
