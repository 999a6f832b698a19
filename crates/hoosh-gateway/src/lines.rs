//! The lines that calls wait in before providers that answer only so many at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoosh_core::{FailureKind, Fault, Retry, UpstreamFailure};
use hoosh_router::{Candidate, Entry, Permit, Place, Queue, QueueLimits, QueueRefusal, QueueStatus, Ticket};
use tokio::time::{Instant, timeout_at};

use crate::call::Call;
use crate::events::{EventBus, Happened};
use crate::needs;

/// How a line is.
#[derive(Debug, Clone)]
pub struct LineStatus {
    /// The provider that it is before.
    pub provider: String,
    /// The model, of which this is the part of the provider's line; `None`: the whole.
    pub model: Option<Arc<str>>,
    /// How it is.
    pub queue: QueueStatus,
}

/// The lines before those providers that have one, by their names.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lines(HashMap<String, Arc<Queue>>);

/// As many as come.
const NO_LIMITS: QueueLimits = QueueLimits { concurrent: usize::MAX, waiting: usize::MAX, per_model: None };

// === impl Lines ===

impl Lines {
    /// The lines of a new configuration. Those before the same providers go on with who waits in them; one that has no
    /// limits any more lets everybody in. One before a provider that is gone or another server is left to the calls that
    /// are in it.
    pub(crate) fn after(
        before: &Self,
        limits: impl IntoIterator<Item = (String, QueueLimits)>,
        stays: impl Fn(&str) -> bool,
    ) -> Self {
        let line = |(name, limits): (String, QueueLimits)| match before.0.get(&name).filter(|_| stays(&name))
        {
            Some(line) => {
                line.set_limits(limits);
                (name, Arc::clone(line))
            }
            None => (name, Arc::new(Queue::new(limits))),
        };
        let lines: HashMap<_, _> = limits.into_iter().map(line).collect();
        for (name, gone) in before.0.iter().filter(|(name, _)| stays(name) && !lines.contains_key(*name)) {
            tracing::debug!(provider = name, "its line is gone");
            gone.set_limits(NO_LIMITS);
        }
        Self(lines)
    }

    /// How each line is that lets only so many in, in the order of the names, and its part of each model behind it.
    pub(crate) fn status(&self) -> Vec<LineStatus> {
        let now = Instant::now().into_std();
        let mut lines: Vec<_> = self.0.iter().collect();
        lines.sort_unstable_by_key(|(name, _)| *name);
        let status = |(name, line): (&String, &Arc<Queue>)| {
            let whole = Some((None, line.status(now))).filter(|(_, whole)| whole.concurrent != usize::MAX);
            let models = line.status_of_models(now).into_iter().map(|(model, part)| (Some(model), part));
            let all = whole.into_iter().chain(models);
            all.map(|(model, queue)| LineStatus { provider: name.clone(), model, queue }).collect::<Vec<_>>()
        };
        lines.into_iter().flat_map(status).collect()
    }

    /// Waits in line before this provider, if it has one, and tells of that and for how long.
    ///
    /// # Errors
    ///
    /// If the line is full, or longer than the call has time; another provider may answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future frees the place.
    pub(crate) async fn wait(
        &self,
        candidate: &Candidate,
        call: &Call,
        deadline: Option<Instant>,
        events: &EventBus,
    ) -> Result<(Option<Permit>, Duration), UpstreamFailure> {
        let Some(line) = self.0.get(candidate.provider.name()) else { return Ok((None, Duration::ZERO)) };
        let begin = Instant::now();
        let ticket = Ticket {
            caller: call.caller.as_str(),
            model: &candidate.model,
            tier: call.tier,
            tokens: needs::tokens(call),
            deadline: deadline.map(Instant::into_std),
        };
        let entry = line.enter(&ticket, begin.into_std()).map_err(|why| refused(candidate, why))?;
        let waiting = match entry {
            Entry::Admitted(permit) => return Ok((Some(permit), Duration::ZERO)),
            Entry::Waiting(waiting) => waiting,
        };
        if let Some(place) = &call.place {
            place.take(waiting.place());
        }
        let position = waiting.position();
        tracing::debug!(id = %call.id, %candidate, position, "waits in line");
        events.tell(|| Happened::Queued { id: call.id.clone(), endpoint: candidate.into(), position });
        let waited = match deadline {
            None => Ok(waiting.await),
            Some(deadline) => timeout_at(deadline, waiting).await,
        };
        let permit = waited.map_err(|_| UpstreamFailure {
            fault: Fault::Gateway,
            ..UpstreamFailure::new(FailureKind::Timeout, "the call's time was over while it waited in line")
        })?;
        let waited = begin.elapsed();
        events.tell(|| Happened::Admitted { id: call.id.clone(), endpoint: candidate.into(), waited });
        Ok((Some(permit), waited))
    }
}

/// Where a call is in line, if it is: for whoever tells its client so while it waits.
#[derive(Debug, Default)]
pub struct PlaceInLine(Mutex<Option<Place>>);

impl PlaceInLine {
    /// How many get in before it, as things stand; `None`: it is in no line.
    pub fn position(&self) -> Option<usize> {
        self.place()?.position()
    }

    /// How long it has to wait from now, by what calls took so far; `None`: nobody knows, or it is in no line.
    pub fn expected_wait(&self) -> Option<Duration> {
        self.place()?.expected_wait()
    }

    fn take(&self, place: Place) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    fn place(&self) -> Option<Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The line is ours, so that the provider's health is none the worse for it.
fn refused(candidate: &Candidate, refusal: QueueRefusal) -> UpstreamFailure {
    let provider = candidate.provider.name();
    let after = match refusal {
        QueueRefusal::Full { .. } => None,
        QueueRefusal::TooLate { wait } => Some(wait),
    };
    UpstreamFailure {
        fault: Fault::Caller,
        retry: Retry::Anywhere { after },
        code: Some("queue_full".to_owned()),
        ..UpstreamFailure::new(FailureKind::RateLimited, format!("provider `{provider}`: {refusal}"))
    }
}
