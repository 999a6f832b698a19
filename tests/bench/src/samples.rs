//! Percentiles by exact sorting: a histogram's buckets would be wider than the differences looked for.

use std::time::Duration;

/// Times of one phase, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    nanos: Vec<u64>,
}

/// The two percentiles that the bars are about, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The middle of some values, the mean of the two middle ones if their count is even; NaN for none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.get(half), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(middle), 1) => *middle,
        (Some(upper), _) => f64::midpoint(sorted[half - 1], *upper),
    }
}

// === impl Samples ===

impl Samples {
    pub(crate) fn push(&mut self, took: Duration) {
        self.push_ns(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn push_ns(&mut self, nanos: u64) {
        self.nanos.push(nanos);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.nanos.append(&mut other.nanos);
    }

    /// How many samples there are, and how many of them are at least `limit`.
    pub(crate) fn at_least(&self, limit: Duration) -> (usize, usize) {
        let over = self.nanos.iter().filter(|nanos| u128::from(**nanos) >= limit.as_nanos()).count();
        (self.nanos.len(), over)
    }

    /// The percentiles by nearest rank: each is a sample that was really seen; NaN if there is none.
    pub(crate) fn quantiles(mut self) -> Quantiles {
        self.nanos.sort_unstable();
        let rank = |percent: usize| {
            let position = (self.nanos.len() * percent).div_ceil(100).saturating_sub(1);
            self.nanos.get(position).map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0)
        };
        Quantiles { p50: rank(50), p99: rank(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_sample_by_nearest_rank() {
        let mut samples = Samples::default();
        for micros in (1..=200).rev() {
            samples.push(Duration::from_micros(micros));
        }
        assert_eq!(samples.quantiles(), Quantiles { p50: 100.0, p99: 198.0 });
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
