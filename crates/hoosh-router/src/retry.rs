//! Who may be asked again, how long after, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hoosh_core::limits;

use crate::hedge::Hedging;
use crate::random::Seed;

/// When and how often a candidate that failed is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of the same candidate after its first, once all others have failed too. Default: 1; clients try again
    /// themselves, and what each of them and the gateway does is multiplied.
    pub retries: u32,
    /// Longest that a call waits for candidates that failed or are let alone, all its waits together. Default: 5 s; whoever
    /// waits longer is better told when to come back.
    pub wait_max: Duration,
    /// What is done when all who could answer are let alone. Default: [`OnExhausted::Reject`].
    pub on_exhausted: OnExhausted,
}

/// What is done when all who could answer are let alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnExhausted {
    /// The caller is told when to come back.
    #[default]
    Reject,
    /// The first who may be asked again is waited for, as long as the policy waits.
    Queue,
    /// The one who may be asked again the soonest is asked in spite of it.
    LeastBad,
}

/// What is left for tries beyond the first of each call: each call earns a part of one, so that a provider that fails, or is
/// slow, all of the time does not get twice the calls.
#[derive(Debug)]
pub struct RetryBudget {
    /// In parts of a try. Shared with the budget that goes on from this one.
    saved: Arc<AtomicU32>,
    /// What a call earns.
    share: u32,
    /// What a try costs.
    price: u32,
}

/// The terms of one walk along a plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// When and how often to ask again.
    pub policy: RetryPolicy,
    /// What the caller has left for that. `None`: as much as the policy allows.
    pub budget: Option<&'a RetryBudget>,
    /// On which terms a second one is asked beside one that is slow. `None`: nobody is.
    pub hedging: Option<Hedging<'a>>,
    /// When it must have succeeded; nobody is waited for longer.
    pub deadline: Option<Instant>,
    /// Where chance begins.
    pub seed: Seed,
}

// === impl RetryPolicy ===

impl RetryPolicy {
    /// Nobody is asked twice or waited for.
    pub const ONCE: Self = Self { retries: 0, wait_max: Duration::ZERO, on_exhausted: OnExhausted::Reject };

    /// The wait after so many tries (1 for the first): twice as long each time, and from half of that to all of it by
    /// chance, so that those who failed together do not come back together.
    pub(crate) fn backoff(tries: u32, seed: Seed) -> Duration {
        let doubled = limits::RETRY_BACKOFF_FIRST.saturating_mul(1 << (tries.max(1) - 1).min(16));
        doubled.min(limits::RETRY_BACKOFF_MAX).mul_f64(0.5 + seed.fraction() / 2.0)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 1, wait_max: Duration::from_secs(5), on_exhausted: OnExhausted::default() }
    }
}

// === impl OnExhausted ===

impl OnExhausted {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reject, Self::Queue, Self::LeastBad];

    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Queue => "queue",
            Self::LeastBad => "least_bad",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

// === impl RetryBudget ===

impl RetryBudget {
    /// One try for every ten calls.
    pub fn new() -> Self {
        Self::full(1, limits::RETRY_BUDGET_CALLS)
    }

    /// So many tries for every hundred calls.
    pub fn percent(percent: u32) -> Self {
        Self::full(percent.min(100), 100)
    }

    /// So many from now on, going on from what is left of another budget [by percent](Self::percent), which goes on with it.
    pub(crate) fn percent_after(before: &Self, percent: u32) -> Self {
        Self { saved: Arc::clone(&before.saved), ..Self::percent(percent) }
    }

    /// Full, since a first burst of failures is no reason to be mean.
    fn full(share: u32, price: u32) -> Self {
        let saved = Arc::new(AtomicU32::new(limits::RETRY_BUDGET_MAX.saturating_mul(price)));
        Self { saved, share, price }
    }

    /// A call has begun.
    pub fn earn(&self) {
        self.save(self.share);
    }

    /// Gives one try back that was not made.
    pub fn refund(&self) {
        self.save(self.price);
    }

    fn save(&self, parts: u32) {
        let most = limits::RETRY_BUDGET_MAX.saturating_mul(self.price);
        let more = |saved: u32| Some(saved.saturating_add(parts).min(most));
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes one try, if there is one.
    pub fn spend(&self) -> bool {
        let less = |saved: u32| saved.checked_sub(self.price);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_vary() {
        for (tries, most) in [(1, 250), (2, 500), (3, 1_000), (6, 8_000), (40, 8_000)] {
            let waits: Vec<u128> =
                (0..200).map(|salt| RetryPolicy::backoff(tries, Seed(1).with(salt)).as_millis()).collect();
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{tries}: {waits:?}");
            assert!(waits.iter().max().unwrap() - waits.iter().min().unwrap() > most / 4);
        }
    }

    #[test]
    fn a_tenth_of_the_calls_may_be_tries_after_the_first() {
        let budget = RetryBudget::new();
        let burst = (0..100).filter(|_| budget.spend()).count();
        assert_eq!(burst, limits::RETRY_BUDGET_MAX as usize);
        let later = (0..1_000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(later.count(), 100);
    }

    #[test]
    fn so_many_of_a_hundred_are_exactly_that() {
        for percent in [1, 5, 30, 75, 99, 100] {
            let budget = RetryBudget::percent(percent);
            while budget.spend() {}
            let made = (0..1_000).filter(|_| {
                budget.earn();
                budget.spend()
            });
            assert_eq!(made.count(), 10 * percent as usize, "{percent}");
            // And the next one has what is left.
            budget.refund();
            let next = RetryBudget::percent_after(&budget, 1);
            assert!(next.spend() && !next.spend() && !budget.spend());
        }
    }
}
