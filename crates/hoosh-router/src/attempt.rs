//! The loop around [`Failover`] for whoever has nothing else to do between two attempts.

use std::pin::pin;
use std::sync::{Arc, OnceLock};

use futures_util::future::{Either, select};
use hoosh_core::{HooshError, Retry, UpstreamFailure};
use tokio::time::{Instant, sleep, timeout};

use crate::breaker::RestReason;
use crate::failover::{Failover, Step};
use crate::health::{Attempt, Health};
use crate::hedge::{Hedging, LetGo};
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
    /// Who was being asked too, and what it did may be paid for.
    pub let_go: Option<LetGo<'p>>,
}

/// The right to ask one candidate, to be made use of when all is ready for it: a wait in line is no part of an attempt.
#[derive(Debug)]
pub struct Opening<'p> {
    /// Who is asked.
    pub candidate: &'p Candidate,
    /// Whether it is asked beside another one that is slow.
    pub is_hedge: bool,
    /// When it was, for whom that matters.
    began: Option<Arc<OnceLock<std::time::Instant>>>,
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
        let now = now();
        let attempt = self.health.begin(self.candidate, self.seed, now, self.insists);
        if let (Ok(_), Some(began)) = (&attempt, &self.began) {
            began.get_or_init(|| now);
        }
        attempt.map_err(Missed::Resting)
    }
}

impl Missed {
    /// Whether nobody else could do better.
    fn is_for_all(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.retry == Retry::Never)
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
        let insists = failover.insists();
        let opening =
            Opening { candidate, is_hedge: false, began: None, health: Arc::clone(health), seed, insists };
        let (candidate, asked, let_go) = match terms.hedging.filter(|_| candidate.options.hedges) {
            None => (candidate, call(opening).await, None),
            // In a box, so that calls that are not hedged have no room for two.
            Some(hedging) => Box::pin(hedged(&mut failover, opening, hedging, &mut call)).await,
        };
        match asked {
            Ok(value) => {
                return Ok(Attempted { value, candidate, failures: failover.into_failures(), let_go });
            }
            Err(missed) => observe(&mut failover, candidate, missed),
        }
    }
    Err(gave_up(plan, failover))
}

/// Asks one candidate, and if that takes longer than it usually does, another one beside it. Gives the outcome that came
/// last: the failure before it is told to `failover`. Who was still being asked is let go of.
async fn hedged<'p, T, F, Fut>(
    failover: &mut Failover<'p>,
    opening: Opening<'p>,
    hedging: Hedging<'p>,
    call: &mut F,
) -> (&'p Candidate, Result<T, Missed>, Option<LetGo<'p>>)
where
    F: FnMut(Opening<'p>) -> Fut,
    Fut: Future<Output = Result<T, Missed>>,
{
    let (first, health, seed) = (opening.candidate, Arc::clone(&opening.health), opening.seed);
    hedging.budget.earn();
    let Some(usual) = health.usual(first, hedging.streams) else { return (first, call(opening).await, None) };
    let [first_began, second_began] = [(); 2].map(|()| Arc::new(OnceLock::new()));
    let mut first_asked = pin!(call(Opening { began: Some(Arc::clone(&first_began)), ..opening }));
    if let Ok(asked) = timeout(usual, &mut first_asked).await {
        return (first, asked, None);
    }
    let beside = failover.beside().filter(|_| hedging.budget.spend());
    let Some(second) = beside else { return (first, first_asked.await, None) };
    let opening = Opening {
        candidate: second,
        is_hedge: true,
        began: Some(Arc::clone(&second_began)),
        health: Arc::clone(&health),
        seed: seed.with(1),
        insists: false,
    };
    let second_asked = pin!(call(opening));
    let (winner, asked, loser, loser_began, other) = match select(first_asked, second_asked).await {
        Either::Left((asked, other)) => (first, asked, second, second_began, Either::Right(other)),
        Either::Right((asked, other)) => (second, asked, first, first_began, Either::Left(other)),
    };
    match asked {
        Err(missed) if !missed.is_for_all() => {
            observe(failover, winner, missed);
            let asked = match other {
                Either::Left(first) => first.await,
                Either::Right(second) => second.await,
            };
            (loser, asked, None)
        }
        asked => {
            let after = loser_began.get().map(|began| now().saturating_duration_since(*began));
            let let_go =
                after.map(|after| LetGo { candidate: loser, is_hedge: std::ptr::eq(loser, second), after });
            if let (Some(LetGo { after, .. }), Ok(_)) = (&let_go, &asked) {
                health.took_longer(loser, *after, hedging.streams, now());
            }
            (winner, asked, let_go)
        }
    }
}

fn observe(failover: &mut Failover<'_>, candidate: &Candidate, missed: Missed) {
    match missed {
        Missed::Failed(failure) => failover.observe(candidate, failure, now()),
        Missed::Resting(until) => failover.resting(candidate, until),
    }
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
