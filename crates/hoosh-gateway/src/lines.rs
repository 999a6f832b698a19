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

/// One line for each provider that has one, by its name.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lines(HashMap<String, Arc<Queue>>);

impl Lines {
    /// The lines of a new configuration. Those before the same providers go on with who waits in them; one that has no
    /// limits any more lets everybody in. One before a provider that is gone or another server is left to the calls that
    /// are in it.
    pub(crate) fn after(
        before: &Self,
        limits: impl IntoIterator<Item = (String, QueueLimits)>,
        stays: impl Fn(&str) -> bool,
    ) -> Self {
        let line = |(name, limits): (String, QueueLimits)| {
            let queue = match before.0.get(&name).filter(|_| stays(&name)) {
                Some(queue) => Arc::clone(queue),
                None => Arc::new(Queue::new(limits)),
            };
            queue.set_limits(limits);
            (name, queue)
        };
        let lines: HashMap<_, _> = limits.into_iter().map(line).collect();
        for (name, queue) in before.0.iter().filter(|(name, _)| stays(name) && !lines.contains_key(*name)) {
            tracing::debug!(provider = name, "its line is gone");
            queue.set_limits(QueueLimits { concurrent: usize::MAX, waiting: usize::MAX });
        }
        Self(lines)
    }

    /// How each line is, in the order of the providers' names.
    pub(crate) fn status(&self) -> Vec<(&str, QueueStatus)> {
        let now = Instant::now().into_std();
        let mut all: Vec<_> = self.0.iter().map(|(name, queue)| (name.as_str(), queue.status(now))).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// Waits in line before this provider, if it has one, and tells of that and for how long. The permit is to be kept to the end of the answer.
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
        let provider = candidate.provider.name();
        let Some(queue) = self.0.get(provider) else { return Ok((None, Duration::ZERO)) };
        let ticket = Ticket {
            caller: call.caller.as_str(),
            tier: call.tier,
            tokens: needs::tokens(call),
            deadline: deadline.map(Instant::into_std),
        };
        let entry =
            queue.enter(&ticket, Instant::now().into_std()).map_err(|refusal| refused(provider, refusal))?;
        let waiting = match entry {
            Entry::Admitted(permit) => return Ok((Some(permit), Duration::ZERO)),
            Entry::Waiting(waiting) => waiting,
        };
        if let Some(place) = &call.place {
            place.take(waiting.place());
        }
        tracing::debug!(id = %call.id, provider, position = waiting.position(), "waits in line");
        events.tell(|| Happened::Queued {
            id: call.id.clone(),
            endpoint: candidate.into(),
            position: waiting.position(),
        });
        let begin = Instant::now();
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
fn refused(provider: &str, refusal: QueueRefusal) -> UpstreamFailure {
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
