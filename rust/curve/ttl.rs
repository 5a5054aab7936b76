//! The hit curve over the time to live, for all times in one pass.
//!
//! In an unlimited cache whose blocks live for some seconds after their last use, a request hits the
//! blocks of its path that were used no longer ago than that. Each of its reuse intervals has one last
//! use, so it has one age; downwards they only get older, so what is alive is a prefix. An interval
//! therefore adds one step to the curve, at its age. The cache is the *working set* of Denning (CACM
//! 11(5), 1968): how many blocks it holds on average follows from the same ages.
//!
//! Without renewal on use there is no such pass: when a block came in depends on the time to live.

use crate::error::{Error, Result};
use crate::index::{Ix, RequestIx};
use crate::profile::Profile;
use crate::stop::Stop;

/// Hits and mean size of an unlimited cache at every time to live, renewed on use.
///
/// Equal to a replay under [`Ttl`](crate::policy::Ttl) with `renew=true` at infinite capacity, to the
/// last bit of its comparison: a block used at `u` is found at `t` if `u + seconds >= t`.
#[derive(Debug, Clone, PartialEq)]
pub struct TtlCurve {
    /// Hits that the last-token rule leaves.
    counted: Steps,
    /// Hits that the rule takes away: at most one block of a request.
    held_back: Steps,
    held: Held,
}

impl TtlCurve {
    /// Hit blocks at a time to live in seconds.
    #[must_use]
    pub fn hit_blocks(&self, seconds: f64, last_token_rule: bool) -> u64 {
        let held_back = if last_token_rule {
            0
        } else {
            self.held_back.at(seconds)
        };
        self.counted.at(seconds) + held_back
    }

    /// The shortest time to live, in seconds, with `hit_blocks` hits or more; [`None`] if there is
    /// none.
    #[must_use]
    pub fn seconds_for(&self, hit_blocks: u64, last_token_rule: bool) -> Option<f64> {
        if hit_blocks == 0 {
            return Some(0.0);
        }
        let enough = |&at: &f64| self.hit_blocks(at, last_token_rule) >= hit_blocks;
        let first = |steps: &Steps| {
            let place = steps.at.partition_point(|at| !enough(at));
            steps.at.get(place).copied()
        };
        let held_back = (!last_token_rule).then(|| first(&self.held_back)).flatten();
        match (first(&self.counted), held_back) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Times to live, in seconds and ascending, at which the hits step up.
    #[must_use]
    pub fn steps(&self, last_token_rule: bool) -> Vec<f64> {
        let mut steps = self.counted.at.clone();
        if !last_token_rule {
            steps.extend(&self.held_back.at);
            steps.sort_unstable_by(f64::total_cmp);
            steps.dedup();
        }
        steps
    }

    /// What the cache holds from the first request to the last, in block-seconds: blocks times how
    /// long they are there.
    #[must_use]
    pub fn block_seconds(&self, seconds: f64) -> f64 {
        self.held.at(seconds)
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`Error::Bug`] naming the first one that does not hold.
    pub fn validate(&self) -> Result<()> {
        self.counted.validate()?;
        self.held_back.validate()?;
        self.held.validate()
    }
}

/// A sum of steps: each adds its blocks from some seconds on.
#[derive(Debug, Clone, Default, PartialEq)]
struct Steps {
    at: Vec<f64>,
    value: Vec<u64>,
}

impl Steps {
    fn sum(mut steps: Vec<(f64, u64)>) -> Self {
        steps.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut sum, mut value) = (Self::default(), 0);
        for (at, blocks) in steps {
            value += blocks;
            if sum.at.last().is_some_and(|&last| last >= at) {
                sum.value.pop();
            } else {
                sum.at.push(at);
            }
            sum.value.push(value);
        }
        sum.at.shrink_to_fit();
        sum.value.shrink_to_fit();
        sum
    }

    fn at(&self, seconds: f64) -> u64 {
        let behind = self.at.partition_point(|&at| at <= seconds);
        behind.checked_sub(1).map_or(0, |last| self.value[last])
    }

    fn validate(&self) -> Result<()> {
        let ascend = self.at.windows(2).all(|at| at[0] < at[1])
            && self.value.windows(2).all(|value| value[0] < value[1]);
        if self.at.len() != self.value.len() || !ascend || self.at.iter().any(|&at| at < 0.0) {
            return Err(Error::bug("ttl curve: steps do not ascend"));
        }
        Ok(())
    }
}

/// How long blocks stay from one use to the next, or to the end.
#[derive(Debug, Clone, Default, PartialEq)]
struct Held {
    /// Ascending, in seconds.
    gap: Vec<f64>,
    /// Blocks with this gap or a shorter one.
    blocks: Vec<u64>,
    /// Their block-seconds in an unlimited time.
    block_seconds: Vec<f64>,
}

impl Held {
    #[allow(clippy::cast_precision_loss)] // Counts of blocks, in a product with a time.
    fn sum(mut gaps: Vec<(f64, u64)>) -> Self {
        gaps.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut held, mut blocks, mut block_seconds) = (Self::default(), 0, 0.0);
        for (gap, count) in gaps {
            blocks += count;
            block_seconds += gap * count as f64;
            held.gap.push(gap);
            held.blocks.push(blocks);
            held.block_seconds.push(block_seconds);
        }
        held
    }

    #[allow(clippy::cast_precision_loss)] // As above.
    fn at(&self, seconds: f64) -> f64 {
        let behind = self.gap.partition_point(|&gap| gap <= seconds);
        let (before, whole) = match behind.checked_sub(1) {
            Some(last) => (self.blocks[last], self.block_seconds[last]),
            None => (0, 0.0),
        };
        let cut = self.blocks.last().map_or(0, |all| all - before);
        if cut == 0 {
            whole
        } else {
            whole + seconds * cut as f64
        }
    }

    fn validate(&self) -> Result<()> {
        let ascend = self.gap.windows(2).all(|gap| gap[0] <= gap[1])
            && self.blocks.windows(2).all(|blocks| blocks[0] <= blocks[1]);
        if !ascend || self.gap.iter().any(|&gap| gap < 0.0) {
            return Err(Error::bug("ttl curve: gaps do not ascend"));
        }
        Ok(())
    }
}

impl Profile {
    /// The curve over the time to live, renewed on use, of an unlimited cache.
    ///
    /// `timestamp` is when each request arrived, in seconds, ascending.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use prefixsim::{Forest, Profile, Stop, trace::{Csr, Trace}};
    ///
    /// let stop = Stop::default();
    /// let prompts = Csr::new(&[0, 2, 4, 6], &[1_u32, 2, 1, 2, 1, 2])?;
    /// let forest = Arc::new(Forest::compile(&Trace::new(prompts), &stop)?);
    /// let profile = Profile::new(forest, 1, &[2, 2, 2], &stop)?;
    /// let curve = profile.ttl_curve(&[0.0, 0.0, 60.0], &stop)?;
    /// assert_eq!(curve.hit_blocks(59.0, false), 2); // the second request
    /// assert_eq!(curve.hit_blocks(60.0, false), 4); // and the one at 60 s
    /// assert_eq!(curve.seconds_for(3, false), Some(60.0));
    /// // At 5 s and 65 s it would be the float before 60: 5 s more are 65 s once rounded.
    /// # Ok::<(), prefixsim::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one timestamp per request; [`Error::Range`] if they do not
    /// ascend; [`Error::Interrupted`] if asked to stop.
    pub fn ttl_curve(&self, timestamp: &[f64], stop: &Stop) -> Result<TtlCurve> {
        Error::check_rows("timestamp", timestamp.len(), self.requests())?;
        // Not "goes back": a time that is no number compares with none.
        let ascend = |pair: &[f64]| pair[0] <= pair[1];
        if let Some(row) = timestamp.windows(2).position(|pair| !ascend(pair)) {
            return Err(Error::range(format!(
                "timestamp: request {} is earlier than the one before it, sort the trace",
                row + 1
            )));
        }
        let end = timestamp.last().copied().unwrap_or(0.0);
        let (mut counted, mut held_back, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut left: Vec<u64> = vec![0; self.requests()];
        for (t, &touched) in self.touched().iter().enumerate() {
            if t.is_multiple_of(Stop::INTERVAL) {
                stop.check()?;
            }
            let (limit, full) = (self.limit()[t], self.full_blocks()[t]);
            let mut start = 0;
            for interval in self.reuse(RequestIx::from_usize(t)) {
                let last_use = interval.last_use.usize();
                let at = shortest_time_to_live(timestamp[last_use], timestamp[t]);
                let end = interval.end;
                let add = |steps: &mut Vec<_>, from: u32, to: u32| {
                    if from < to {
                        steps.push((at, u64::from(to - from)));
                    }
                };
                add(&mut counted, start, end.min(limit));
                add(&mut held_back, start.max(limit), end.min(full));
                let blocks = u64::from(end - start);
                gaps.push((timestamp[t] - timestamp[last_use], blocks));
                left[last_use] -= blocks;
                start = end;
            }
            left[t] = u64::from(touched);
        }
        let last_uses = left
            .iter()
            .zip(timestamp)
            .filter(|&(&blocks, _)| blocks > 0);
        gaps.extend(last_uses.map(|(&blocks, &used)| (end - used, blocks)));
        Ok(TtlCurve {
            counted: Steps::sum(counted),
            held_back: Steps::sum(held_back),
            held: Held::sum(gaps),
        })
    }
}

/// The smallest number of seconds with `used + seconds >= now`, as floating point has it.
fn shortest_time_to_live(used: f64, now: f64) -> f64 {
    let alive = |bits: u64| used + f64::from_bits(bits) >= now;
    if alive(0) {
        return 0.0;
    }
    // Numbers above zero are in the order of their bits.
    let (mut low, mut high) = ((now - used).to_bits(), (now - used).to_bits());
    let mut step = 1;
    while !alive(high) {
        low = high;
        high += step;
        step *= 2;
    }
    while alive(low) {
        high = low;
        low = low.saturating_sub(step);
        step *= 2;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if alive(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    f64::from_bits(high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::shortest_time_to_live;

    proptest! {
        #[test]
        fn no_shorter_time_is_enough(used in -1e10..1e10, gap in prop_oneof![0.0..1e-6, 0.0..1e6]) {
            let now = used + gap;
            let seconds = shortest_time_to_live(used, now);
            prop_assert!(used + seconds >= now);
            if seconds > 0.0 {
                prop_assert!(used + f64::from_bits(seconds.to_bits() - 1) < now);
            }
        }
    }
}
