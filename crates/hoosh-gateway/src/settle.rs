//! The end of a call: told once, whatever the end was.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hoosh_audit::Written;
use hoosh_budget::TokenBudget;
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    FailureKind, FidelityNote, HooshError, LlmProvider, NanoUsd, Provenance, ServiceTier, UpstreamFailure,
    Usage,
};
use hoosh_router::{Candidate, LetGo};
use tokio::time::Instant;

use crate::admission::{RATE_LIMITED, Shares};
use crate::audit::Trail;
use crate::budget;
use crate::cache::{CacheUse, Found, Keeping};
use crate::call::{Call, CallerId, RequestId};
use crate::context::{ContextReceipt, Edited};
use crate::decisions::Decision;
use crate::pricing::Pricing;

/// Somebody who is told when a call is over: a log, metrics, and in time the books.
///
/// It is told on the task that ends the call, so it must be quick and must not block.
pub trait Observer: Send + Sync {
    /// A call is over. Told exactly once for each.
    fn call_settled(&self, record: &CallRecord);

    /// An attempt of a call failed before its first output; another may follow.
    fn attempt_failed(&self, _attempt: &FailedAttempt<'_>) {}
}

/// An attempt that failed before its first output.
#[derive(Debug, Clone, Copy)]
pub struct FailedAttempt<'a> {
    /// Of which call.
    pub id: &'a RequestId,
    /// At whom.
    pub candidate: &'a Candidate,
    /// Why.
    pub failure: &'a UpstreamFailure,
    /// Whether the candidate was asked at all: the line before it may be full, or the prompt too long for it.
    pub was_asked: bool,
}

/// All there is to tell of a call that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRecord {
    /// Which call.
    pub id: RequestId,
    /// Who called.
    pub caller: CallerId,
    /// In which dialect.
    pub dialect: Dialect,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The model as the caller named it.
    pub model_asked: String,
    /// The provider that answered, if one did.
    pub provider: Option<String>,
    /// The model as that provider names it.
    pub model_used: Option<String>,
    /// What the cache did. After a hit nobody was asked: usage is that of the answer when it was made, and the cost nothing.
    pub cache: CacheUse,
    /// How many candidates were asked.
    pub attempts: usize,
    /// What could not be carried between the caller's dialect and the provider's.
    pub notes: Vec<FidelityNote>,
    /// What was done to its prompt so that who answered could read it. A summary for that is a call of its own.
    pub context: Option<ContextReceipt>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it took: as the provider said, or counted here where it said nothing.
    pub usage: Option<Usage>,
    /// What it cost, its legs included; `None` where no price is known, which is not the same as nothing.
    pub cost: Option<NanoUsd>,
    /// Others whose work on it counts too. Usage is without theirs.
    pub legs: Vec<Leg>,
    /// From the call until the first bytes of the answer were ready.
    pub time_to_first: Option<Duration>,
    /// From the call until its end.
    pub duration: Duration,
}

/// Somebody beside the one that answered who worked on a call, and may want to be paid for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Leg {
    /// The provider.
    pub provider: String,
    /// The model, as that provider names it.
    pub model: String,
    /// What became of its work.
    pub kind: LegKind,
    /// What it took, counted here. `None`: that cannot be counted.
    pub usage: Option<Usage>,
    /// What it cost; `None` where that is not known.
    pub cost: Option<NanoUsd>,
}

/// What became of the work of a [`Leg`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LegKind {
    /// It was let go of: the one asked beside it was faster.
    Slow,
    /// It was asked beside a slow one, and let go of since that one was faster in the end.
    Hedge,
    /// Its stream broke in the middle, and another one went on with it.
    Broken,
    /// It was asked to go on with a stream, and given up before it did.
    GivenUp,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With a whole answer.
    Answered,
    /// Without an answer, and why.
    Failed(HooshError),
    /// With an answer that broke in the middle, and why.
    Truncated(UpstreamFailure),
    /// Its pools had no more for it: what was passed on was ended as an answer that is as long as it may be.
    Cut,
    /// The caller went away.
    Cancelled,
    /// When the gateway stopped: its answer was still coming, or waited for.
    Stopped,
}

/// Says of a call that is dropped before its answer that the gateway stops, and not that its client has left.
#[derive(Debug, Default)]
pub struct StopMark(AtomicBool);

/// The duty to tell the end of a call. Dropped without an end, the caller has gone away, or the gateway stops, and that is told.
pub(crate) struct Settlement {
    observers: Arc<[Arc<dyn Observer>]>,
    pricing: Arc<Pricing>,
    /// When the call was made, for its price.
    at: u64,
    start: Instant,
    /// Gone once it is told.
    record: Option<Box<CallRecord>>,
    /// How many candidates have been asked.
    asked: AtomicUsize,
    /// What is counted elsewhere of those who are asked to go on.
    tally: Option<Arc<Tally>>,
    /// What the provider has said so far.
    pub(crate) usage: Option<Usage>,
    /// Who answers, for the price.
    provider: Option<Arc<dyn LlmProvider>>,
    /// The duty to keep the answer, and to tell those who wait for it.
    keeping: Option<Box<Keeping>>,
    /// The decision that the call goes by, which is told its end.
    decision: Option<Arc<Decision>>,
    /// Where it is booked, and what it holds there of its pools.
    budget: Option<TokenBudget>,
    reservation: Option<budget::Held>,
    /// Whether it is the gateway that drops it.
    stop: Option<Arc<StopMark>>,
    /// Its record in the audit log, and a wait for that where an answer's end has to.
    trail: Option<Trail>,
    recorded: Option<Written>,
    /// Its part in the rate limits of its caller and of who answers.
    pub(crate) shares: Shares,
}

/// What is counted of those who are asked to go on with a stream, which is out of its settlement's sight.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many have been asked.
    pub(crate) asked: AtomicUsize,
    /// Those that gave nothing, and what they read.
    given_up: Mutex<Vec<(Candidate, Usage)>>,
}

/// A wait for what is booked and recorded of a call to be kept. An error: its answer must not end as if it were.
pub(crate) type Kept = BoxFuture<'static, Result<(), HooshError>>;

// === impl FailedAttempt ===

impl FailedAttempt<'_> {
    /// One word for events and metrics: that of its [`FailureKind`](hoosh_core::FailureKind), or `queue_full`.
    pub fn kind(&self) -> &'static str {
        let kind = self.failure.kind;
        let is_of_the_line = matches!(kind, FailureKind::RateLimited | FailureKind::Timeout);
        // Of a rate limit of ours it is said as of one of theirs.
        let is_of_the_line = is_of_the_line && self.failure.code.as_deref() != Some(RATE_LIMITED);
        if !self.was_asked && is_of_the_line { "queue_full" } else { kind.as_str() }
    }
}

// === impl LegKind ===

impl LegKind {
    /// One word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Hedge => "hedge",
            Self::Broken => "broken",
            Self::GivenUp => "given_up",
        }
    }
}

// === impl Tally ===

impl Tally {
    /// One was given up that had been asked to go on with a prompt of so many tokens.
    pub(crate) fn given_up(&self, candidate: &Candidate, prompt: u64) {
        self.lock().push((candidate.clone(), read_alone(prompt)));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Candidate, Usage)>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it takes at least to have been asked: the prompt.
fn read_alone(prompt: u64) -> Usage {
    let (input, output) = (Some(prompt), Some(0));
    Usage { input, output, provenance: Provenance::Estimated, ..Usage::default() }
}

// === impl Outcome ===

impl Outcome {
    /// One word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed(_) => "failed",
            Self::Truncated(_) => "truncated",
            Self::Cut => "cut",
            Self::Cancelled => "cancelled",
            Self::Stopped => "stopped",
        }
    }
}

// === impl StopMark ===

impl StopMark {
    /// The gateway stops: the call is dropped next.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Settlement ===

impl Settlement {
    pub(crate) fn open(call: &Call, observers: Arc<[Arc<dyn Observer>]>, pricing: Arc<Pricing>) -> Self {
        let record = CallRecord {
            id: call.id.clone(),
            caller: call.caller.clone(),
            dialect: call.dialect,
            stream: call.head.stream,
            model_asked: call.head.model.clone(),
            provider: None,
            model_used: None,
            cache: CacheUse::Off,
            attempts: 0,
            notes: Vec::new(),
            context: None,
            outcome: Outcome::Cancelled,
            usage: None,
            cost: None,
            legs: Vec::new(),
            time_to_first: None,
            duration: Duration::ZERO,
        };
        Self {
            observers,
            pricing,
            at: call.id.unix_seconds(),
            start: Instant::now(),
            record: Some(Box::new(record)),
            usage: None,
            provider: None,
            keeping: None,
            decision: None,
            budget: None,
            reservation: None,
            shares: Shares::default(),
            asked: AtomicUsize::new(0),
            tally: None,
            stop: call.stop.clone(),
            trail: call.trail.clone(),
            recorded: None,
        }
    }

    /// It was decided who is asked.
    pub(crate) fn decided(&mut self, decision: &Arc<Decision>) {
        self.decision = Some(Arc::clone(decision));
    }

    /// It is booked here.
    pub(crate) fn booked_in(&mut self, budget: Option<&TokenBudget>) {
        self.budget = budget.cloned();
    }

    /// What it holds of its pools already.
    pub(crate) fn held(&mut self) -> Option<&mut budget::Held> {
        self.reservation.as_mut()
    }

    /// It holds this of its pools, until it is settled.
    pub(crate) fn holds(&mut self, held: Option<budget::Held>) {
        self.reservation = held;
    }

    /// Holds more for those who work on it beside who answers. `None`: no pool is charged for it.
    pub(crate) fn purse(&self) -> Option<budget::Purse> {
        self.reservation.as_ref().map(budget::Held::purse)
    }

    /// Whether an answer has to wait for what is booked to be kept.
    pub(crate) fn is_strict(&self) -> bool {
        let is_recorded = self.trail.as_ref().is_some_and(Trail::waits);
        is_recorded || self.budget.as_ref().is_some_and(|budget| budget.ledger().is_strict())
    }

    /// Where it is booked an answer may have to wait for that: answers when all that is booked so far is kept. `None`: it need not.
    pub(crate) fn kept(&mut self) -> Option<Kept> {
        let booked = self.budget.as_ref().and_then(|budget| budget.ledger().kept());
        let recorded = self.recorded.take();
        if booked.is_none() && recorded.is_none() {
            return None;
        }
        Some(Box::pin(async move {
            if let Some(booked) = booked
                && let Err(fault) = booked.await
            {
                tracing::error!(%fault, "an answer ends before it is kept that it was booked");
            }
            match recorded {
                Some(recorded) => {
                    recorded.await.map(drop).map_err(|error| HooshError::Unrecorded(error.to_string()))
                }
                None => Ok(()),
            }
        }))
    }

    /// How many candidates have been asked, for whoever asks one more.
    pub(crate) fn asked(&self) -> &AtomicUsize {
        &self.asked
    }

    /// Where those are counted who are asked to go on with the answer.
    pub(crate) fn tally(&mut self) -> Arc<Tally> {
        Arc::clone(self.tally.get_or_insert_default())
    }

    /// How many candidates have been asked so far.
    pub(crate) fn attempts(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Somebody answers.
    pub(crate) fn answered_by(&mut self, provider: &Arc<dyn LlmProvider>, model: &str) {
        self.provider = Some(Arc::clone(provider));
        if let Some(record) = &mut self.record {
            record.provider = Some(provider.name().to_owned());
            record.model_used = Some(model.to_owned());
            record.time_to_first = Some(self.start.elapsed());
        }
    }

    /// How long the call has been under way.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What the cache does for the call.
    pub(crate) fn cache(&mut self, cache: CacheUse, keeping: Option<Box<Keeping>>) {
        self.keeping = keeping;
        if let Some(record) = &mut self.record {
            record.cache = cache;
        }
    }

    pub(crate) fn cache_use(&self) -> CacheUse {
        self.record.as_ref().map_or(CacheUse::Off, |record| record.cache)
    }

    /// A kept answer is given again.
    pub(crate) fn answered_again(&mut self, found: &Found) {
        self.cache(found.cache_use(), None);
        if let Some(record) = &mut self.record {
            record.provider = Some(found.entry.provider.clone());
            record.model_used = Some(found.entry.model.clone());
            record.time_to_first = Some(self.start.elapsed());
            record.notes.extend(found.entry.notes.iter().cloned());
            record.context.clone_from(&found.entry.context);
        }
    }

    /// The caller is given these bytes of an answer.
    pub(crate) fn give(&mut self, bytes: &Bytes) {
        if let Some(keeping) = &mut self.keeping {
            keeping.take(bytes);
        }
        if let Some(trail) = &self.trail {
            trail.gives(bytes);
        }
    }

    /// Whether the caller is told what could not be carried.
    pub(crate) fn tell_notes(&mut self, tells: bool) {
        if let Some(keeping) = &mut self.keeping {
            keeping.tells_notes = tells;
        }
    }

    /// The prompt was brought into what who answers reads.
    pub(crate) fn shortened(&mut self, receipt: Option<ContextReceipt>) {
        if let Some(record) = &mut self.record {
            record.context = receipt;
        }
    }

    /// More has been lost.
    pub(crate) fn note(&mut self, notes: impl IntoIterator<Item = FidelityNote>) {
        if let Some(record) = &mut self.record {
            record.notes.extend(notes);
        }
    }

    /// The failure with the name of who answers on it.
    pub(crate) fn named(&self, failure: UpstreamFailure) -> UpstreamFailure {
        match &self.provider {
            Some(provider) if failure.provider.is_empty() => provider.own(failure),
            _ => failure,
        }
    }

    /// Somebody was let go of. It has read the prompt by then, or what was sent instead; of what it wrote nothing was seen.
    pub(crate) fn let_go(&mut self, call: &Call, let_go: &LetGo<'_>, sent: Option<&Edited>) {
        let LetGo { candidate, is_hedge, .. } = *let_go;
        let prompt = match sent {
            Some(edited) => Some(edited.receipt.tokens),
            None => call.prompt_tokens_for(&candidate.model),
        };
        let kind = if is_hedge { LegKind::Hedge } else { LegKind::Slow };
        self.leg(&*candidate.provider, &candidate.model, kind, prompt.map(read_alone));
    }

    /// The stream of who answers broke after so much, and another one goes on with it.
    pub(crate) fn continued_by(&mut self, candidate: &Candidate, before: Option<Usage>) {
        self.shares.broke(before);
        let model = self.record.as_mut().and_then(|record| record.model_used.take());
        if let (Some(provider), Some(model)) = (self.provider.take(), model) {
            self.leg(&*provider, &model, LegKind::Broken, before);
        }
        // What two have written is nobody's answer to the question.
        self.keeping = None;
        self.usage = None;
        let first = self.record.as_ref().and_then(|record| record.time_to_first);
        self.answered_by(&candidate.provider, &candidate.model);
        if let Some(record) = &mut self.record {
            record.time_to_first = first;
        }
    }

    fn leg(&mut self, provider: &dyn LlmProvider, model: &str, kind: LegKind, usage: Option<Usage>) {
        let cost = self.pricing.cost(provider, model, usage.as_ref(), self.at);
        if let Some(record) = &mut self.record {
            let (provider, model) = (provider.name().to_owned(), model.to_owned());
            record.legs.push(Leg { provider, model, kind, usage, cost });
        }
    }

    /// What the usage seen so far costs, and the legs.
    pub(crate) fn cost(&self) -> Option<NanoUsd> {
        let record = self.record.as_ref()?;
        // What is given again was paid for before.
        if record.cache.is_again() {
            return Some(NanoUsd(0));
        }
        let own = match (&self.provider, &record.model_used) {
            (Some(provider), Some(model)) => {
                self.pricing.cost(&**provider, model, self.usage.as_ref(), self.at)?
            }
            // Nobody answered, and somebody worked on it all the same.
            _ if !record.legs.is_empty() => NanoUsd(0),
            _ => return None,
        };
        record.legs.iter().try_fold(own, |sum, leg| Some(NanoUsd(sum.0.saturating_add(leg.cost?.0))))
    }

    /// Tells the end. Only the first end counts.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if let Some(tally) = self.tally.take() {
            self.asked.fetch_add(tally.asked.load(Ordering::Relaxed), Ordering::Relaxed);
            let given_up = std::mem::take(&mut *tally.lock());
            for (candidate, usage) in given_up {
                self.leg(&*candidate.provider, &candidate.model, LegKind::GivenUp, Some(usage));
            }
        }
        let cost = self.cost();
        let Some(mut record) = self.record.take() else { return };
        record.attempts = self.attempts();
        if outcome != Outcome::Answered
            && let Some(usage) = &mut self.usage
        {
            // What was counted stays an estimate.
            if usage.provenance == Provenance::Reported {
                usage.provenance = Provenance::Partial;
            }
        }
        (record.usage, record.cost, record.duration) = (self.usage, cost, self.start.elapsed());
        if record.cost.is_none() {
            self.tell_unpriced(&record);
        }
        record.outcome = outcome;
        self.record_it(&record);
        self.shares.settle(&record);
        if let Some(decision) = self.decision.take() {
            decision.end(record.outcome.as_str());
        }
        if let Some(keeping) = self.keeping.take() {
            keeping.end(&record);
        }
        if self.budget.is_some() {
            budget::book(self.budget.as_ref(), self.reservation.take(), &record, self.known_cost(&record));
        }
        self.observers.iter().for_each(|observer| observer.call_settled(&record));
    }

    /// Puts it into the audit log. One that failed is not over before its caller is told so, nor one whose task panics: whoever takes
    /// requests in knows with which status.
    fn record_it(&mut self, record: &CallRecord) {
        let Some(trail) = &self.trail else { return };
        if std::thread::panicking() {
            return;
        }
        trail.settled(record);
        if !matches!(record.outcome, Outcome::Failed(_)) {
            self.recorded = trail.close_durably();
        }
    }

    /// What is known of what a call cost: a part whose price is not known counts at its usual price, or as nothing.
    fn known_cost(&self, record: &CallRecord) -> NanoUsd {
        if let Some(cost) = record.cost {
            return cost;
        }
        let usual = |usage: Usage| Usage { service_tier: ServiceTier::Standard, ..usage };
        let own = match (&self.provider, &record.model_used, record.usage.map(usual)) {
            (Some(provider), Some(model), Some(usage)) => {
                self.pricing.cost(&**provider, model, Some(&usage), self.at)
            }
            _ => None,
        };
        let parts = own.into_iter().chain(record.legs.iter().filter_map(|leg| leg.cost));
        parts.fold(NanoUsd::ZERO, NanoUsd::saturating_add)
    }

    /// Tells of whose usage is known and whose price is not.
    fn tell_unpriced(&self, record: &CallRecord) {
        for leg in record.legs.iter().filter(|leg| leg.cost.is_none()) {
            if let Some(usage) = &leg.usage {
                self.pricing.unpriced(&leg.provider, &leg.model, usage);
            }
        }
        if let (Some(provider), Some(model), Some(usage)) =
            (&self.provider, &record.model_used, &record.usage)
            && self.pricing.cost(&**provider, model, Some(usage), self.at).is_none()
        {
            self.pricing.unpriced(provider.name(), model, usage);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        let is_stopped = self.stop.as_ref().is_some_and(|stop| stop.is_set());
        self.settle(if is_stopped { Outcome::Stopped } else { Outcome::Cancelled });
    }
}
