//! Columns of generated workloads: many ranges, each `length` values from `start` on, laid out
//! one after the other.
//!
//! A generated prompt is a concatenation of parts of *streams* (a system prompt, a document, a
//! session). A stream is an interval of the 64-bit integers, so a part is a range, and shared text
//! is the same range. [`Content`] says what a position of the integers holds.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::index::to_usize;
use crate::room::reserved;
use crate::stop::Stop;
use crate::trace::Id;

/// What a generated list holds at position `p` of the 64-bit integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The position itself.
    Position,
    /// A hash of the position, 63 bits.
    Hash,
    /// A hash of the position, below the given number of token ids.
    Token(u32),
}

impl Content {
    fn at(self, position: u64) -> u64 {
        match self {
            Self::Position => position,
            Self::Hash => mix(position) >> 1,
            Self::Token(vocabulary) => {
                ((u128::from(mix(position)) * u128::from(vocabulary)) >> 64) as u64
            }
        }
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014): a bijection.
pub(crate) fn mix(position: u64) -> u64 {
    let mut z = position.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Ranges handled between two looks at the stop flag, and by one thread at a time.
const GROUP: usize = 4096;

/// Lays out the values of all ranges, on all cores.
///
/// ```
/// use prefixsim::generate::{Content, expand};
/// let values: Vec<u64> =
///     expand(&[10, 7], &[3, 2], Content::Position, &prefixsim::Stop::default())?;
/// assert_eq!(values, [10, 11, 12, 7, 8]);
/// # Ok::<(), prefixsim::Error>(())
/// ```
///
/// # Errors
/// If `starts` and `lengths` differ in length, or on a stop.
pub fn expand<T: Id>(
    starts: &[u64],
    lengths: &[u64],
    content: Content,
    stop: &Stop,
) -> Result<Vec<T>> {
    if starts.len() != lengths.len() {
        return Err(Error::shape(format!(
            "{} starts and {} lengths of ranges, expected as many of one as of the other",
            starts.len(),
            lengths.len()
        )));
    }
    let total = lengths
        .iter()
        .try_fold(0_u64, |sum, &length| sum.checked_add(length))
        .unwrap_or(u64::MAX);
    let mut values = reserved(total)?;
    values.resize(to_usize(total), T::default());
    let mut rest = values.as_mut_slice();
    let mut groups = Vec::with_capacity(starts.len().div_ceil(GROUP));
    for (starts, lengths) in starts.chunks(GROUP).zip(lengths.chunks(GROUP)) {
        let size = to_usize(lengths.iter().sum());
        let (group, after) = rest.split_at_mut(size);
        rest = after;
        groups.push((starts, lengths, group));
    }
    groups
        .into_par_iter()
        .try_for_each(|(starts, lengths, mut group)| {
            stop.check()?;
            for (&start, &length) in starts.iter().zip(lengths) {
                let (range, after) = group.split_at_mut(to_usize(length));
                group = after;
                for (value, position) in range.iter_mut().zip(0u64..) {
                    *value = T::from_low_bits(content.at(start.wrapping_add(position)));
                }
            }
            Ok(())
        })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ranges_keep_their_places() {
        let lengths: Vec<u64> = (0..20_000).map(|i| i % 7).collect();
        let starts: Vec<u64> = (0..20_000).map(|i| i * 1_000).collect();
        let values: Vec<u64> =
            expand(&starts, &lengths, Content::Position, &Stop::default()).unwrap();
        let expected: Vec<u64> = starts
            .iter()
            .zip(&lengths)
            .flat_map(|(&start, &length)| start..start + length)
            .collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn tokens_stay_below_the_vocabulary_and_use_all_of_it() {
        let values: Vec<u32> =
            expand(&[5], &[10_000], Content::Token(100), &Stop::default()).unwrap();
        let mut seen = [0u32; 100];
        for value in values {
            seen[value as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (50..200).contains(&n)));
    }

    #[test]
    fn hashes_of_neighbours_are_unrelated_and_fit_63_bits() {
        let values: Vec<u64> = expand(&[0], &[1_000], Content::Hash, &Stop::default()).unwrap();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), values.len());
        assert!(values.iter().all(|&v| v < 1 << 63));
        assert!(values.windows(2).filter(|w| w[0] < w[1]).count() < 600);
    }

    #[test]
    fn a_stop_and_a_mismatch_are_errors() {
        let stop = Stop::default();
        assert!(expand::<u64>(&[1], &[], Content::Hash, &stop).is_err());
        stop.request();
        assert_eq!(
            expand::<u64>(&[1], &[1], Content::Hash, &stop),
            Err(Error::Interrupted)
        );
    }
}
