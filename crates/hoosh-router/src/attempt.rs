//! The loop around [`Failover`] for whoever has nothing else to do between two attempts.

use std::sync::Arc;

use hoosh_core::{HooshError, UpstreamFailure};
use tokio::time::{Instant, sleep};

use crate::breaker::RestReason;
use crate::failover::{Failover, Step};
use crate::health::{Attempt, Health};
use crate::plan::{Candidate, Plan};
use crate::random::Seed;
use crate::retry::Terms;

/// A success, and what it took to get there.
#[derive(Debug)]
pub struct Attempted<'p, T> {
    /// What the candidate gave.
    pub value: T,
    /// Who gave it.
    pub candidate: &'p Candidate,
    /// What failed before, in order.
    pub failures: Vec<UpstreamFailure>,
}

/// The right to ask one candidate, to be made use of when all is ready for it: a wait in line is no part of an attempt.
#[derive(Debug)]
pub struct Opening<'p> {
    /// Who is asked.
    pub candidate: &'p Candidate,
    health: Arc<Health>,
    seed: Seed,
    insists: bool,
}

/// Why a candidate gave nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Missed {
    /// It failed, or something before it did.
    Failed(UpstreamFailure),
    /// It was not asked, since it is let alone until then: others have found that out since the plan was made.
    Resting(std::time::Instant),
}

// === impl Opening ===

impl Opening<'_> {
    /// Asks now. What is heard goes into the attempt.
    ///
    /// # Errors
    ///
    /// [`Missed::Resting`].
    pub fn begin(&self) -> Result<Attempt, Missed> {
        self.health.begin(self.candidate, self.seed, now(), self.insists).map_err(Missed::Resting)
    }
}

impl From<UpstreamFailure> for Missed {
    fn from(failure: UpstreamFailure) -> Self {
        Self::Failed(failure)
    }
}

/// Calls one candidate after the other until one succeeds, and waits between where that can help; see
/// [`Router::attempt`](crate::Router::attempt).
pub(crate) async fn attempt<'p, T, F, Fut>(
    plan: &'p Plan,
    health: &Arc<Health>,
    terms: Terms<'p>,
    mut call: F,
) -> Result<Attempted<'p, T>, HooshError>
where
    F: FnMut(Opening<'p>) -> Fut,
    Fut: Future<Output = Result<T, Missed>>,
{
    let mut failover = Failover::new(plan, terms);
    loop {
        let candidate = match failover.next(now()) {
            Step::Try(candidate) => candidate,
            Step::Wait(wait) => {
                sleep(wait).await;
                continue;
            }
            Step::GiveUp => break,
        };
        let seed = terms.seed.with(failover.failures().len() as u64);
        let opening = Opening { candidate, health: Arc::clone(health), seed, insists: failover.insists() };
        match call(opening).await {
            Ok(value) => return Ok(Attempted { value, candidate, failures: failover.into_failures() }),
            Err(Missed::Failed(failure)) => failover.observe(failure, now()),
            Err(Missed::Resting(until)) => failover.resting(until),
        }
    }
    Err(gave_up(plan, failover))
}

/// The runtime's clock, which tests can stop.
pub(crate) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn gave_up(plan: &Plan, failover: Failover<'_>) -> HooshError {
    let now = now();
    let resting = plan.resting.iter().map(|one| one.until).chain(failover.found_resting());
    let soonest = resting.min().filter(|_| failover.failures().is_empty());
    let Some(soonest) = soonest else { return HooshError::Upstream(failover.into_failures()) };
    let considered =
        plan.resting.iter().map(|one| (one.candidate.to_string(), one.why.as_str().to_owned())).collect();
    let limited = failover.found_resting().is_none()
        && plan.resting.iter().all(|one| one.why == RestReason::RateLimited);
    HooshError::Resting { considered, after: soonest.saturating_duration_since(now), limited }
}
