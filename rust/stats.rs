//! Statistics of weighted values, and how long evicted blocks had been cached.

use crate::index::to_f64;

/// Values, each as often as its weight says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weighted {
    /// The values, in no particular order.
    pub values: Vec<f64>,
    /// How often each occurs.
    pub weights: Vec<u64>,
}

impl Weighted {
    pub(crate) fn add(&mut self, value: f64, weight: u32) {
        if self.values.last() == Some(&value)
            && let Some(last) = self.weights.last_mut()
        {
            *last += u64::from(weight);
        } else {
            self.values.push(value);
            self.weights.push(u64::from(weight));
        }
    }
}

/// Times of evicted blocks, one value per eviction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Residency {
    /// Seconds from allocation to eviction.
    pub lifetime: Weighted,
    /// Seconds from the last use to eviction.
    pub idle: Weighted,
}

/// Mean, extremes and percentiles of values, each counted as often as its weight says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Σ value·weight / Σ weight.
    pub mean: f64,
    /// The middle value, or the mean of the two.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// 90th percentile, interpolated between neighbours.
    pub p90: f64,
    /// 99th percentile, interpolated between neighbours.
    pub p99: f64,
}

/// Summarises values as if each were repeated `weight` times; [`None`] if there is nothing.
///
/// Percentiles are those of `numpy.percentile` with linear interpolation.
///
/// ```
/// let summary = prefixsim::stats::weighted_summary(&[(1.0, 3), (5.0, 1)]).unwrap();
/// assert_eq!((summary.mean, summary.median, summary.max), (2.0, 1.0, 5.0));
/// ```
#[must_use]
pub fn weighted_summary(values: &[(f64, u64)]) -> Option<Summary> {
    let mut items: Vec<(f64, u64)> = values.iter().copied().filter(|&(_, w)| w > 0).collect();
    let (mut min, mut max) = (items.first()?.0, items.first()?.0);
    let (mut total, mut sum) = (0, 0.0);
    for &(value, weight) in &items {
        min = if value.total_cmp(&min).is_lt() {
            value
        } else {
            min
        };
        max = if value.total_cmp(&max).is_gt() {
            value
        } else {
            max
        };
        total += weight;
        sum += value * to_f64(weight);
    }
    let places = [0.5, 0.9, 0.99].map(|share| share * to_f64(total - 1));
    // Shares of a count: not negative, and no larger.
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
    let below = places.map(|place| place.floor() as u64);
    let mut ranks: Vec<u64> = below
        .iter()
        .flat_map(|&rank| [rank, (rank + 1).min(total - 1)])
        .collect();
    ranks.sort_unstable();
    ranks.dedup();
    let mut found = Vec::with_capacity(ranks.len());
    select(&mut items, 0, &ranks, &mut found);
    let at = |rank: u64| found[ranks.partition_point(|&r| r < rank)];
    let percentile = |i: usize| {
        let (a, b) = (at(below[i]), at((below[i] + 1).min(total - 1)));
        let part = places[i] - places[i].floor();
        if part < 0.5 {
            a + (b - a) * part
        } else {
            b - (b - a) * (1.0 - part)
        }
    };
    Some(Summary {
        mean: sum / to_f64(total),
        median: percentile(0),
        min,
        max,
        p90: percentile(1),
        p99: percentile(2),
    })
}

/// Below this many items, sorting them is the fastest way to find a rank.
const SORTED: usize = 32;

/// Appends to `found` the values that have these ascending `ranks`, of which `before` lie in front
/// of `items`; quickselect that only goes where a rank is.
fn select(items: &mut [(f64, u64)], before: u64, ranks: &[u64], found: &mut Vec<f64>) {
    if ranks.is_empty() {
        return;
    }
    if items.len() <= SORTED {
        items.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut upto, mut ranks) = (before, ranks);
        for &(value, weight) in items.iter() {
            upto += weight;
            let here = ranks.partition_point(|&rank| rank < upto);
            found.extend(std::iter::repeat_n(value, here));
            ranks = &ranks[here..];
        }
        return;
    }
    let middle = items.len() / 2;
    let (left, pivot, right) = items.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0));
    let start = before + left.iter().map(|&(_, weight)| weight).sum::<u64>();
    let end = start + pivot.1;
    let (first, rest) = ranks.split_at(ranks.partition_point(|&rank| rank < start));
    let (here, last) = rest.split_at(rest.partition_point(|&rank| rank < end));
    select(left, before, first, found);
    found.extend(std::iter::repeat_n(pivot.0, here.len()));
    select(right, end, last, found);
}
