//! Comparing sequences.

/// Elements compared by one call of the C library's vectorised comparison.
const LARGE: usize = 256;
/// Elements compared at once to find the place inside a large stretch that differs.
const SMALL: usize = 8;

/// Number of leading elements that two slices have in common.
///
/// Large stretches are compared as slices, which is the C library's vectorised `memcmp`.
///
/// ```
/// use prefixsim::trace::common_prefix;
/// assert_eq!(common_prefix(&[1, 2, 3], &[1, 2, 4, 5]), 2);
/// ```
#[must_use]
pub fn common_prefix<T: Copy + Eq>(a: &[T], b: &[T]) -> usize {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let mut at = 0;
    for size in [LARGE, SMALL] {
        while at + size <= length && a[at..at + size] == b[at..at + size] {
            at += size;
        }
    }
    while at < length && a[at] == b[at] {
        at += 1;
    }
    at
}
