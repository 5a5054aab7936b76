//! Sums of ramps: functions of the capacity that are kept as their corners.

use crate::error::{Error, Result};

/// A sum of ramps. A ramp from a to b is 0 up to capacity a, rises by one per block to b - a at
/// capacity b, and stays there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ramps {
    position: Vec<u64>,
    value: Vec<u64>,
}

impl Ramps {
    /// Adds up ramps, given where they start and where they end, each in any order.
    pub(super) fn sum(mut starts: Vec<u64>, mut ends: Vec<u64>) -> Self {
        starts.sort_unstable();
        ends.sort_unstable();
        let mut ramps = Self::default();
        let (mut s, mut e) = (0, 0);
        let (mut slope, mut value, mut before) = (0u64, 0u64, 0u64);
        while e < ends.len() {
            // Every ramp starts before it ends.
            let at = starts.get(s).map_or(ends[e], |&start| start.min(ends[e]));
            value += slope * (at - before);
            while s < starts.len() && starts[s] == at {
                slope += 1;
                s += 1;
            }
            while e < ends.len() && ends[e] == at {
                slope -= 1;
                e += 1;
            }
            ramps.position.push(at);
            ramps.value.push(value);
            before = at;
        }
        ramps.position.shrink_to_fit();
        ramps.value.shrink_to_fit();
        ramps
    }

    /// The sum at a capacity.
    ///
    /// # Panics
    /// Never: corners are ordered by position.
    #[must_use]
    pub fn at(&self, capacity: u64) -> u64 {
        let behind = self.position.partition_point(|&p| p <= capacity);
        if behind == 0 {
            return 0;
        }
        let (p0, v0) = (self.position[behind - 1], self.value[behind - 1]);
        if behind == self.position.len() {
            return v0;
        }
        let (p1, v1) = (self.position[behind], self.value[behind]);
        v0 + (v1 - v0) / (p1 - p0) * (capacity - p0)
    }

    /// Checks every invariant: corners ascend in position, values never fall, and between two
    /// corners the slope is whole.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        if self.position.len() != self.value.len() || self.value.first().is_some_and(|&v| v > 0) {
            return Err(Error::bug(
                "ramps: no value at a corner, or one before any ramp",
            ));
        }
        let corners = self.position.windows(2).zip(self.value.windows(2));
        for (p, v) in corners {
            if p[0] >= p[1] || v[0] > v[1] || !(v[1] - v[0]).is_multiple_of(p[1] - p[0]) {
                return Err(Error::bug(format!("ramps: not straight behind {}", p[0])));
            }
        }
        Ok(())
    }

    /// The sum at an infinite capacity.
    #[must_use]
    pub fn ceiling(&self) -> u64 {
        self.value.last().copied().unwrap_or(0)
    }

    /// The smallest capacity at which the sum is `value` or more; [`None`] if it never is.
    #[must_use]
    pub fn reach(&self, value: u64) -> Option<u64> {
        if value == 0 {
            return Some(0);
        }
        let behind = self.value.partition_point(|&v| v < value);
        let (&p1, &v1) = (self.position.get(behind)?, self.value.get(behind)?);
        let (p0, v0) = (self.position[behind - 1], self.value[behind - 1]);
        Some(p0 + (value - v0).div_ceil((v1 - v0) / (p1 - p0)))
    }

    /// Capacities at which the slope changes, ascending. Between two of them the sum is straight.
    #[must_use]
    pub fn corners(&self) -> &[u64] {
        &self.position
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Ramps;

    proptest! {
        #[test]
        fn equals_the_naive_sum(ramps in proptest::collection::vec((0u64..30, 1u64..9), 0..20)) {
            let sum = Ramps::sum(
                ramps.iter().map(|&(a, _)| a).collect(),
                ramps.iter().map(|&(a, n)| a + n).collect(),
            );
            prop_assert_eq!(sum.validate(), Ok(()));
            let naive = |c: u64| ramps.iter().map(|&(a, n)| c.saturating_sub(a).min(n)).sum::<u64>();
            for c in 0..45 {
                prop_assert_eq!(sum.at(c), naive(c));
            }
            prop_assert_eq!(sum.ceiling(), naive(100));
            for value in 0..=sum.ceiling() {
                let reached = sum.reach(value).unwrap();
                prop_assert!(naive(reached) >= value);
                prop_assert!(reached == 0 || naive(reached - 1) < value);
            }
            prop_assert_eq!(sum.reach(sum.ceiling() + 1), None);
        }
    }
}
