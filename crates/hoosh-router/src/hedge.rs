//! Asking a second candidate beside the first, once that takes longer to begin than nearly all answers before it.
//!
//! The first answer that begins is taken and the other call is let go of, which may be paid for all the same.

use std::time::Duration;

use hoosh_core::limits::{HEDGE_SAMPLES, HEDGE_SAMPLES_MIN, HEDGE_WAIT_MIN};

use crate::plan::Candidate;
use crate::retry::RetryBudget;

/// The terms on which a second candidate is asked, for routes that [allow it](crate::RouteOptions::hedges).
#[derive(Debug, Clone, Copy)]
pub struct Hedging<'a> {
    /// What is left for it over all calls.
    pub budget: &'a RetryBudget,
    /// Whether a stream is asked for, whose first output comes sooner than a whole answer.
    pub streams: bool,
}

/// Somebody who was being asked and has been let go of, since another was faster.
#[derive(Debug, Clone, Copy)]
pub struct LetGo<'p> {
    /// Who.
    pub candidate: &'p Candidate,
    /// Whether it was the one that was asked second.
    pub is_hedge: bool,
    /// After how long.
    pub after: Duration,
}

/// How long the latest answers of an endpoint took to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recent {
    /// Seconds, the oldest overwritten first.
    seconds: [f32; HEDGE_SAMPLES],
    seen: usize,
}

// === impl Recent ===

impl Recent {
    pub(crate) fn observe(&mut self, took: Duration) {
        self.seconds[self.seen % HEDGE_SAMPLES] = took.as_secs_f32();
        self.seen += 1;
    }

    /// What nineteen of twenty stayed below. `None`: too few are known to say what is usual.
    pub(crate) fn p95(&self) -> Option<Duration> {
        if self.seen < HEDGE_SAMPLES_MIN {
            return None;
        }
        let mut sorted = self.seconds;
        let known = &mut sorted[..self.seen.min(HEDGE_SAMPLES)];
        let at = (known.len() * 95).div_ceil(100).saturating_sub(1);
        let (_, p95, _) = known.select_nth_unstable_by(at, f32::total_cmp);
        Some(Duration::from_secs_f32(*p95).max(HEDGE_WAIT_MIN))
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self { seconds: [0.0; HEDGE_SAMPLES], seen: 0 }
    }
}

#[cfg(test)]
mod tests;
