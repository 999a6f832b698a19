//! The loop around [`Failover`] for whoever has nothing else to do between two attempts.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::task::AtomicWaker;
use hoosh_core::{HooshError, Retry, UpstreamFailure};
use tokio::time::{Instant, sleep, sleep_until};

use crate::breaker::RestReason;
use crate::failover::{Failover, Step};
use crate::health::{Attempt, Health};
use crate::hedge::{Hedging, LetGo};
use crate::plan::{Candidate, Plan};
use crate::random::Seed;
use crate::retry::{RetryBudget, Terms};

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

/// Nobody answered.
#[derive(Debug)]
pub struct Unanswered<'p> {
    /// Why.
    pub error: HooshError,
    /// Who was still being asked when one beside it failed in a way that nobody can mend; it may be paid for.
    /// In a box, since it seldom is.
    pub let_go: Option<Box<LetGo<'p>>>,
}

/// The right to ask one candidate, to be made use of when all is ready for it: a wait in line is no part of an attempt.
#[derive(Debug)]
pub struct Opening<'p> {
    /// Who is asked.
    pub candidate: &'p Candidate,
    /// Whether it is asked beside another one that is slow.
    pub is_hedge: bool,
    /// Told when it is, where that matters.
    begun: Option<Arc<Begun>>,
    health: Arc<Health>,
    seed: Seed,
    insists: bool,
}

/// When an attempt began, which may come long after its opening was given.
#[derive(Debug, Default)]
struct Begun {
    at: OnceLock<std::time::Instant>,
    waker: AtomicWaker,
}

/// Why a candidate gave nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Missed {
    /// It failed, or something before it did.
    Failed(UpstreamFailure),
    /// It was not asked, since it is let alone until then: others have found that out since the plan was made.
    Resting(std::time::Instant),
    /// It was to be asked beside another one and was not, since whoever asks would not have both. It may still be asked in its place.
    Declined,
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
        if let (Ok(_), Some(begun)) = (&attempt, &self.begun) {
            begun.at.get_or_init(|| now);
            begun.waker.wake();
        }
        attempt.map_err(Missed::Resting)
    }
}

// === impl Begun ===

impl Begun {
    /// Waits until so long after it.
    async fn and(&self, then: Duration) {
        let at = poll_fn(|context| {
            // Before looking, so that a beginning in between is not missed.
            self.waker.register(context.waker());
            self.at.get().map_or(Poll::Pending, |at| Poll::Ready(*at))
        });
        sleep_until(Instant::from_std(at.await + then)).await;
    }
}

// === impl Missed ===

impl Missed {
    /// Whether nobody else could do better.
    fn is_for_all(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.retry == Retry::Never)
    }

    /// The same while another one is being asked, which may think otherwise of the request.
    fn of_one(self) -> Self {
        match self {
            Self::Failed(failure) if failure.retry == Retry::Never => {
                Self::Failed(UpstreamFailure { retry: Retry::Elsewhere, ..failure })
            }
            missed => missed,
        }
    }
}

impl From<UpstreamFailure> for Missed {
    fn from(failure: UpstreamFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unanswered<'_>> for HooshError {
    fn from(unanswered: Unanswered<'_>) -> Self {
        unanswered.error
    }
}

impl From<HooshError> for Unanswered<'_> {
    fn from(error: HooshError) -> Self {
        Self { error, let_go: None }
    }
}

/// Calls one candidate after the other until one succeeds, and waits between where that can help; see
/// [`Router::attempt`](crate::Router::attempt).
pub(crate) async fn attempt<'p, T, F, Fut>(
    plan: &'p Plan,
    health: &Arc<Health>,
    terms: Terms<'p>,
    mut call: F,
) -> Result<Attempted<'p, T>, Unanswered<'p>>
where
    F: FnMut(Opening<'p>) -> Fut,
    Fut: Future<Output = Result<T, Missed>>,
{
    let mut failover = Failover::new(plan, terms);
    let let_go = loop {
        let candidate = match failover.next(now()) {
            Step::Try(candidate) => candidate,
            Step::Wait(wait) => {
                sleep(wait).await;
                continue;
            }
            Step::GiveUp => break None,
        };
        let seed = terms.seed.with(failover.failures().len() as u64);
        let insists = failover.insists();
        let opening =
            Opening { candidate, is_hedge: false, begun: None, health: Arc::clone(health), seed, insists };
        let (candidate, asked, let_go) = match terms.hedging.filter(|_| candidate.options.hedges) {
            None => (candidate, call(opening).await, None),
            // In a box, so that calls that are not hedged have no room for two.
            Some(hedging) => Box::pin(hedged(&mut failover, opening, hedging, &mut call)).await,
        };
        match asked {
            Ok(value) => {
                return Ok(Attempted { value, candidate, failures: failover.into_failures(), let_go });
            }
            Err(missed) => {
                observe(&mut failover, candidate, missed);
                if let_go.is_some() {
                    // Somebody is let go of only where nobody could do better.
                    break let_go;
                }
            }
        }
    };
    Err(Unanswered { error: gave_up(plan, failover), let_go: let_go.map(Box::new) })
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
    let [first_begun, second_begun] = [(); 2].map(|()| Arc::<Begun>::default());
    let mut first_asked = pin!(call(Opening { begun: Some(Arc::clone(&first_begun)), ..opening }));
    // It is slow by the time that it is asked: a wait in line is none of its own.
    if let Either::Left((asked, _)) = select(first_asked.as_mut(), pin!(first_begun.and(usual))).await {
        return (first, asked, None);
    }
    let Some(second) = beside(failover, hedging.budget) else { return (first, first_asked.await, None) };
    let opening = Opening {
        candidate: second,
        is_hedge: true,
        begun: Some(Arc::clone(&second_begun)),
        health: Arc::clone(&health),
        seed: seed.with(1),
        insists: false,
    };
    let second_asked = pin!(call(opening));
    let (asked, loser, loser_begun) = match select(first_asked, second_asked).await {
        Either::Left((Err(missed), second_asked)) if !missed.is_for_all() => {
            observe(failover, first, missed);
            return (second, second_asked.await, None);
        }
        Either::Right((Err(missed), first_asked)) => {
            if matches!(missed, Missed::Resting(_) | Missed::Declined) {
                hedging.budget.refund();
            }
            // What one finds wrong with the request may be all right for the other.
            observe(failover, second, missed.of_one());
            return (first, first_asked.await, None);
        }
        Either::Left((asked, _)) => (asked, second, second_begun),
        Either::Right((asked, _)) => (asked, first, first_begun),
    };
    let is_hedge = std::ptr::eq(loser, second);
    let let_go = loser_begun.at.get().map(|began| {
        let after = now().saturating_duration_since(*began);
        if asked.is_ok() {
            health.lost(loser, *began, is_hedge, seed, now());
        }
        LetGo { candidate: loser, is_hedge, after }
    });
    (if is_hedge { first } else { second }, asked, let_go)
}

/// Who is asked beside the first, if the budget allows it.
fn beside<'p>(failover: &mut Failover<'p>, budget: &RetryBudget) -> Option<&'p Candidate> {
    // In this order, since a try counts as made from here on.
    if !budget.spend() {
        return None;
    }
    let second = failover.beside();
    if second.is_none() {
        budget.refund();
    }
    second
}

fn observe(failover: &mut Failover<'_>, candidate: &Candidate, missed: Missed) {
    match missed {
        Missed::Failed(failure) => failover.observe(candidate, failure, now()),
        Missed::Resting(until) => failover.resting(candidate, until),
        Missed::Declined => failover.declined(candidate),
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
