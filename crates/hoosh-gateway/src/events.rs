//! What happens while it happens: for whoever watches a gateway, apart from the books.
//!
//! This file decides what an [`Event`] is, in which order listeners hear them, and what becomes of a listener that is
//! slower than they come. Where they happen is told by the pipeline ([`Gateway`](crate::Gateway)) and by the router's health;
//! how they are written is for whoever listens.
//!
//! No event holds a key, a prompt, an answer or a vendor's sentence: listeners may be others than the callers.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::{Stream, stream};
use hoosh_budget::Alert;
use hoosh_core::dialect::Dialect;
use hoosh_core::{FailureKind, HooshError, NanoUsd, NoRouteCause, Usage, limits};
use hoosh_router::{Candidate, Health, HealthChange, HealthState, RestReason, Watch};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver};

use crate::cache::CacheUse;
use crate::call::RequestId;
use crate::settle::{CallRecord, FailedAttempt, Observer, Outcome};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place among all that the gateway has told so far. Those that nobody listened to have none.
    pub sequence: u64,
    /// When, in Unix milliseconds by the system's clock.
    pub unix_ms: u64,
    /// What.
    pub happened: Happened,
}

/// What happened. Each thing is told as one event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Happened {
    /// The health of an endpoint has changed, otherwise than by the two that follow. That a rest is over shows only when
    /// somebody asks again.
    HealthChanged(HealthChange),
    /// An endpoint failed too often and is let alone.
    BreakerOpened {
        /// Which.
        endpoint: Endpoint,
        /// For how long.
        rest: Duration,
    },
    /// An endpoint said that it has had enough, and is let alone.
    RateLimited {
        /// Which.
        endpoint: Endpoint,
        /// For how long.
        rest: Duration,
    },
    /// An attempt failed before its first output. What breaks later is the end of the call.
    AttemptFailed {
        /// Of which call.
        id: RequestId,
        /// At whom.
        endpoint: Endpoint,
        /// What happened there, see [`FailedAttempt::kind`].
        kind: &'static str,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
    },
    /// Another candidate is asked after one failed.
    FailedOver {
        /// For which call.
        id: RequestId,
        /// Who failed.
        from: Endpoint,
        /// Who is asked now.
        to: Endpoint,
    },
    /// Another candidate is asked beside one that takes longer to begin than it usually does.
    Hedged {
        /// For which call.
        id: RequestId,
        /// Who is slow.
        from: Endpoint,
        /// Who is asked too.
        to: Endpoint,
    },
    /// Another candidate goes on with a stream that broke in the middle.
    Continued {
        /// Of which call.
        id: RequestId,
        /// Whose broke.
        from: Endpoint,
        /// Who goes on.
        to: Endpoint,
    },
    /// A call has to wait in line before a provider.
    Queued {
        /// Which call.
        id: RequestId,
        /// For whom.
        endpoint: Endpoint,
        /// How many get in before it, as things stand.
        position: usize,
    },
    /// A call that had to wait has got in.
    Admitted {
        /// Which call.
        id: RequestId,
        /// To whom.
        endpoint: Endpoint,
        /// How long it waited.
        waited: Duration,
    },
    /// So much of a pool is spent, or a soft one holds more than it has left.
    PoolAlert(Box<Alert>),
    /// A call is over.
    Completed(Box<Completed>),
    /// The listener was slower than the events came, and these are lost to it alone. Its sequence is that of the last one.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// A model of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The model, in its words.
    pub model: Arc<str>,
}

/// The end of a call: what may be told of a [`CallRecord`] to others than its caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// Which call.
    pub id: RequestId,
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
    /// How it ended, see [`Outcome::as_str`].
    pub outcome: &'static str,
    /// Why there is no answer, or no whole one: one word of a small set.
    pub error: Option<&'static str>,
    /// What the cache did.
    pub cache: CacheUse,
    /// How many candidates were asked.
    pub attempts: usize,
    /// What it took.
    pub usage: Option<Usage>,
    /// What it cost; `None` where no price is known.
    pub cost: Option<NanoUsd>,
    /// From the call until the first bytes of the answer were ready.
    pub time_to_first: Option<Duration>,
    /// From the call until its end.
    pub duration: Duration,
}

/// Names of what can happen, to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// [`Happened::HealthChanged`].
    HealthChanged,
    /// [`Happened::BreakerOpened`].
    BreakerOpened,
    /// [`Happened::RateLimited`].
    RateLimited,
    /// [`Happened::AttemptFailed`].
    AttemptFailed,
    /// [`Happened::FailedOver`].
    FailedOver,
    /// [`Happened::Hedged`].
    Hedged,
    /// [`Happened::Continued`].
    Continued,
    /// [`Happened::Queued`].
    Queued,
    /// [`Happened::Admitted`].
    Admitted,
    /// [`Happened::PoolAlert`].
    PoolAlert,
    /// [`Happened::Completed`].
    Completed,
    /// [`Happened::Lagged`].
    Lagged,
}

/// What carries events from where they happen to all who listen. A clone is the same one.
///
/// Telling costs next to nothing while nobody listens, and never waits for a listener.
#[derive(Clone)]
pub struct EventBus(Arc<Bus>);

/// What [`EventBus`] shares; it is told by the pipeline as an observer and by the health as a watcher.
struct Bus {
    sender: broadcast::Sender<Arc<Event>>,
    /// The sequence of the last event. Held while one is sent, so that all hear them in their order.
    last: Mutex<u64>,
}

/// Events as they happen, from when it was made on: a [`Stream`] that ends with the gateway.
///
/// It keeps up to [`EVENTS_KEPT_MAX`](limits::EVENTS_KEPT_MAX) that are not taken yet. Of more than that the oldest are lost
/// and a [`Happened::Lagged`] stands in their place; nobody else notices.
///
/// # Cancel safety
///
/// Whoever waits for the next one may stop and wait again; none is lost by that.
pub struct Listener(Pin<Box<dyn Stream<Item = Arc<Event>> + Send>>);

// === impl EventBus ===

impl EventBus {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self(Arc::new(Bus {
            sender: broadcast::Sender::new(limits::EVENTS_KEPT_MAX),
            last: Mutex::default(),
        }))
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        let (receiver, last) = {
            let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
            (self.0.sender.subscribe(), *last)
        };
        Listener(Box::pin(stream::unfold((receiver, last), next)))
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.0.sender.receiver_count()
    }

    /// Tells of a pool, which is watched by whoever opened its books.
    pub fn pool_alert(&self, alert: &Alert) {
        self.tell(|| Happened::PoolAlert(Box::new(alert.clone())));
    }

    /// Tells what happened; nothing is made of it if nobody listens.
    pub(crate) fn tell(&self, happened: impl FnOnce() -> Happened) {
        self.0.tell(happened);
    }

    /// Itself as one who is told of calls.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.0) as Arc<dyn Observer>
    }

    /// Tells of this health for as long as there is the bus. Twice is once, so that a gateway made anew over the same health
    /// does not tell everything twice.
    pub(crate) fn watch(&self, health: &Health) {
        let watcher: Weak<Bus> = Arc::downgrade(&self.0);
        health.watch(watcher);
    }
}

impl Default for EventBus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus").field("listeners", &self.listeners()).finish_non_exhaustive()
    }
}

// === impl Bus ===

impl Bus {
    fn tell(&self, happened: impl FnOnce() -> Happened) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        let happened = happened();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        let event = Event { sequence: *last, unix_ms: unix_ms(), happened };
        // The last listener may have left since.
        let _heard = self.sender.send(Arc::new(event));
    }
}

/// Read by people beside other logs; nothing is decided by it.
#[allow(clippy::disallowed_methods, reason = "no clock but the system's says which day it is")]
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Observer for Bus {
    fn call_settled(&self, record: &CallRecord) {
        self.tell(|| Happened::Completed(Box::new(record.into())));
    }

    fn attempt_failed(&self, attempt: &FailedAttempt<'_>) {
        self.tell(|| Happened::AttemptFailed {
            id: attempt.id.clone(),
            endpoint: attempt.candidate.into(),
            kind: attempt.kind(),
            status: attempt.failure.status,
        });
    }
}

impl Watch for Bus {
    fn health_changed(&self, change: &HealthChange) {
        self.tell(|| {
            let endpoint = |model: &Arc<str>| Endpoint {
                provider: Arc::clone(&change.provider),
                model: Arc::clone(model),
            };
            match (change.state, &change.model) {
                (HealthState::Resting { rest, .. }, Some(model)) if change.opens_breaker() => {
                    Happened::BreakerOpened { endpoint: endpoint(model), rest }
                }
                (HealthState::Resting { rest, why: RestReason::RateLimited }, Some(model)) => {
                    Happened::RateLimited { endpoint: endpoint(model), rest }
                }
                _ => Happened::HealthChanged(change.clone()),
            }
        });
    }
}

// === impl Listener ===

async fn next(
    (mut receiver, last): (Receiver<Arc<Event>>, u64),
) -> Option<(Arc<Event>, (Receiver<Arc<Event>>, u64))> {
    let event = match receiver.recv().await {
        Ok(event) => event,
        Err(RecvError::Closed) => return None,
        Err(RecvError::Lagged(missed)) => Arc::new(Event {
            // Every event that has a sequence was sent, so those that are missing are the next ones.
            sequence: last + missed,
            unix_ms: unix_ms(),
            happened: Happened::Lagged { missed },
        }),
    };
    let sequence = event.sequence;
    Some((event, (receiver, sequence)))
}

impl Stream for Listener {
    type Item = Arc<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Arc<Event>>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

// === impl Happened ===

impl Happened {
    /// Its name.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::HealthChanged(_) => EventKind::HealthChanged,
            Self::BreakerOpened { .. } => EventKind::BreakerOpened,
            Self::RateLimited { .. } => EventKind::RateLimited,
            Self::AttemptFailed { .. } => EventKind::AttemptFailed,
            Self::FailedOver { .. } => EventKind::FailedOver,
            Self::Hedged { .. } => EventKind::Hedged,
            Self::Continued { .. } => EventKind::Continued,
            Self::Queued { .. } => EventKind::Queued,
            Self::Admitted { .. } => EventKind::Admitted,
            Self::PoolAlert(_) => EventKind::PoolAlert,
            Self::Completed(_) => EventKind::Completed,
            Self::Lagged { .. } => EventKind::Lagged,
        }
    }
}

// === impl EventKind ===

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::HealthChanged,
        Self::BreakerOpened,
        Self::RateLimited,
        Self::AttemptFailed,
        Self::FailedOver,
        Self::Hedged,
        Self::Continued,
        Self::Queued,
        Self::Admitted,
        Self::PoolAlert,
        Self::Completed,
        Self::Lagged,
    ];

    /// One word for the wire and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HealthChanged => "health_changed",
            Self::BreakerOpened => "breaker_opened",
            Self::RateLimited => "rate_limited",
            Self::AttemptFailed => "attempt_failed",
            Self::FailedOver => "failed_over",
            Self::Hedged => "hedged",
            Self::Continued => "continued",
            Self::Queued => "queued",
            Self::Admitted => "admitted",
            Self::PoolAlert => "pool_alert",
            Self::Completed => "completed",
            Self::Lagged => "lagged",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

// === impl Endpoint ===

impl From<&Candidate> for Endpoint {
    fn from(candidate: &Candidate) -> Self {
        Self { provider: candidate.provider.name().into(), model: Arc::clone(&candidate.model) }
    }
}

// === impl Completed ===

impl From<&CallRecord> for Completed {
    fn from(record: &CallRecord) -> Self {
        Self {
            id: record.id.clone(),
            dialect: record.dialect,
            stream: record.stream,
            model_asked: record.model_asked.clone(),
            provider: record.provider.clone(),
            model_used: record.model_used.clone(),
            outcome: record.outcome.as_str(),
            error: match &record.outcome {
                Outcome::Answered | Outcome::Cancelled | Outcome::Cut | Outcome::Stopped => None,
                Outcome::Failed(error) => Some(word(error)),
                Outcome::Truncated(failure) => Some(failure.kind.as_str()),
            },
            cache: record.cache,
            attempts: record.attempts,
            usage: record.usage,
            cost: record.cost,
            time_to_first: record.time_to_first,
            duration: record.duration,
        }
    }
}

/// Why there is no answer, in one word of ours: a code may be a vendor's.
fn word(error: &HooshError) -> &'static str {
    match error {
        HooshError::InvalidRequest(_) => "invalid_request",
        HooshError::NoRoute(no_route) => match no_route.cause {
            NoRouteCause::Model | NoRouteCause::Conditions => "no_route",
            NoRouteCause::TooLong { .. } => FailureKind::ContextLength.as_str(),
            NoRouteCause::Unable | NoRouteCause::OverLimit { .. } => "invalid_request",
        },
        HooshError::Refused(_) => "refused",
        HooshError::Limited(_) => FailureKind::RateLimited.as_str(),
        HooshError::Lossy(_) => "not_expressible",
        HooshError::Resting { .. } => "resting",
        HooshError::Upstream(failures) => failures.last().map_or("no_candidate", |last| last.kind.as_str()),
        HooshError::Exhausted { .. } => "exhausted",
        HooshError::Deadline(_) => "deadline",
        HooshError::Unrecorded(_) => "unrecorded",
    }
}

#[cfg(test)]
mod tests;
