//! How long something takes lately.

use std::time::{Duration, Instant};

use hoosh_core::limits;

/// A moving average that follows a worse time at once and forgets it slowly ("peak EWMA").
///
/// What is not asked for a while is forgotten too, so that an endpoint that was slow once is tried again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PeakEwma {
    /// Seconds.
    value: f64,
    at: Option<Instant>,
}

impl PeakEwma {
    pub(crate) fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let kept = self.weight(now);
        // A worse time counts in full.
        self.value = if took > self.value { took } else { self.value * kept + took * (1.0 - kept) };
        self.at = Some(now);
    }

    /// `None` as long as nothing was observed.
    pub(crate) fn value(&self, now: Instant) -> Option<Duration> {
        self.at.map(|_| Duration::from_secs_f64(self.value * self.weight(now)))
    }

    /// What the past still counts.
    fn weight(&self, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        (-now.saturating_duration_since(at).as_secs_f64() / limits::LATENCY_MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worse_time_counts_at_once_and_a_better_one_slowly() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ewma = PeakEwma::default();
        assert_eq!(ewma.value(start), None);
        ewma.observe(Duration::from_secs(1), at(0));
        ewma.observe(Duration::from_secs(4), at(1));
        assert_eq!(ewma.value(at(1)), Some(Duration::from_secs(4)));
        ewma.observe(Duration::from_secs(1), at(2));
        let value = ewma.value(at(2)).unwrap();
        let value = value.as_secs_f64();
        assert!(value > 3.5 && value < 4.0, "{value}");
        // Ten memories later nothing of it is left.
        assert!(ewma.value(at(2) + 10 * limits::LATENCY_MEMORY).unwrap() < Duration::from_millis(1));
    }
}
