//! A set of small integers that knows its largest.

use crate::error::{Error, Result};

/// Bits in layers: a bit of a layer tells whether a word of the layer below is not zero.
#[derive(Debug, Clone)]
pub(crate) struct Bits {
    layers: Vec<Vec<u64>>,
}

impl Bits {
    /// An empty set of numbers below `size`.
    pub fn new(size: usize) -> Self {
        let mut layers = Vec::new();
        let mut words = size.div_ceil(64).max(1);
        loop {
            layers.push(vec![0; words]);
            if words == 1 {
                return Self { layers };
            }
            words = words.div_ceil(64);
        }
    }

    /// Adds a number.
    pub fn set(&mut self, mut number: usize) {
        for layer in &mut self.layers {
            let word = &mut layer[number / 64];
            let known = *word != 0;
            *word |= 1 << (number % 64);
            if known {
                return;
            }
            number /= 64;
        }
    }

    /// Takes a number out.
    pub fn clear(&mut self, mut number: usize) {
        for layer in &mut self.layers {
            let word = &mut layer[number / 64];
            *word &= !(1 << (number % 64));
            if *word != 0 {
                return;
            }
            number /= 64;
        }
    }

    /// Whether a number is in the set.
    pub fn contains(&self, number: usize) -> bool {
        self.layers[0][number / 64] >> (number % 64) & 1 == 1
    }

    /// Checks every invariant: a bit is set if and only if its word below is not zero.
    pub fn validate(&self) -> Result<()> {
        for pair in self.layers.windows(2) {
            for (number, &word) in pair[0].iter().enumerate() {
                if (pair[1][number / 64] >> (number % 64) & 1 == 1) != (word != 0) {
                    return Err(Error::bug(format!(
                        "bits: word {number} is wrongly summed up"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The largest number of the set.
    pub fn last(&self) -> Option<usize> {
        let mut number = 0;
        for layer in self.layers.iter().rev() {
            let word = layer[number];
            if word == 0 {
                return None;
            }
            number = number * 64 + word.ilog2() as usize;
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Bits;

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(
            size in 1usize..9000,
            steps in proptest::collection::vec((any::<bool>(), any::<proptest::sample::Index>()), 0..200),
        ) {
            let mut bits = Bits::new(size);
            let mut set = BTreeSet::new();
            for (add, index) in steps {
                let number = index.index(size);
                if add {
                    bits.set(number);
                    set.insert(number);
                } else {
                    bits.clear(number);
                    set.remove(&number);
                }
                prop_assert_eq!(bits.last(), set.last().copied());
                prop_assert_eq!(bits.contains(number), add);
                prop_assert_eq!(bits.validate(), Ok(()));
            }
        }
    }
}
