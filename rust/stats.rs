//! Statistics of weighted values.

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
    let mut sorted: Vec<(f64, u64)> = values.iter().copied().filter(|&(_, w)| w > 0).collect();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (sorted.first()?.0, sorted.last()?.0);
    let sum: f64 = sorted.iter().map(|&(v, w)| v * w as f64).sum();
    // From here on the weights are running totals: how many values come up to here.
    let mut total = 0;
    for (_, weight) in &mut sorted {
        total += *weight;
        *weight = total;
    }
    let at = |rank: u64| sorted[sorted.partition_point(|&(_, upto)| upto <= rank)].0;
    let percentile = |share: f64| {
        let place = share * (total - 1) as f64;
        // Never negative: a share of a count.
        #[allow(clippy::cast_sign_loss)]
        let below = place.floor() as u64;
        let (a, b) = (at(below), at((below + 1).min(total - 1)));
        let part = place - place.floor();
        if part < 0.5 {
            a + (b - a) * part
        } else {
            b - (b - a) * (1.0 - part)
        }
    };
    Some(Summary {
        mean: sum / total as f64,
        median: percentile(0.5),
        min: first,
        max: last,
        p90: percentile(0.9),
        p99: percentile(0.99),
    })
}
