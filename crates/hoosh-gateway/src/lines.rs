//! The lines that calls wait in before providers that answer only so many at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoosh_core::limits::IDLE_LINES_MAX;
use hoosh_core::{FailureKind, Fault, Retry, UpstreamFailure};
use hoosh_router::{Candidate, Entry, Permit, Place, Queue, QueueLimits, QueueRefusal, QueueStatus, Ticket};
use tokio::time::{Instant, timeout_at};

use crate::call::Call;
use crate::events::{EventBus, Happened};
use crate::needs;

/// How many calls a provider answers at once, and how many wait for that. `None`: as many as come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineLimits {
    /// All of its models together.
    pub provider: Option<QueueLimits>,
    /// Each of its models.
    pub each_model: Option<QueueLimits>,
}

/// How a line is.
#[derive(Debug, Clone)]
pub struct LineStatus {
    /// The provider that it is before.
    pub provider: String,
    /// The model; `None`: all of the provider's.
    pub model: Option<Arc<str>>,
    /// How it is.
    pub queue: QueueStatus,
}

/// The lines before those providers that have some, by their names.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lines(HashMap<String, ProviderLines>);

/// The lines before one provider. A call waits for its model first: a slot of the provider's is held by none that cannot run.
#[derive(Debug, Clone)]
struct ProviderLines {
    provider: Arc<Queue>,
    models: Arc<ModelLines>,
}

/// One line for each model that was asked for.
#[derive(Debug)]
struct ModelLines(Mutex<Models>);

#[derive(Debug)]
struct Models {
    limits: QueueLimits,
    queues: HashMap<Arc<str>, Arc<Queue>>,
}

/// The places that a call has among those that are answered at once. Keep it to the end of the answer.
#[derive(Debug, Default)]
#[must_use = "dropping it gives the slots away"]
pub(crate) struct Permits {
    model: Option<Permit>,
    provider: Option<Permit>,
}

/// As many as come.
const NO_LIMITS: QueueLimits = QueueLimits { concurrent: usize::MAX, waiting: usize::MAX };

// === impl Lines ===

impl Lines {
    /// The lines of a new configuration. Those before the same providers go on with who waits in them; one that has no
    /// limits any more lets everybody in. One before a provider that is gone or another server is left to the calls that
    /// are in it.
    pub(crate) fn after(
        before: &Self,
        limits: impl IntoIterator<Item = (String, LineLimits)>,
        stays: impl Fn(&str) -> bool,
    ) -> Self {
        let line = |(name, limits): (String, LineLimits)| {
            let lines = before.0.get(&name).filter(|_| stays(&name)).cloned().unwrap_or_default();
            lines.set_limits(limits);
            (name, lines)
        };
        let is_limited = |(_, limits): &(String, LineLimits)| *limits != LineLimits::default();
        let lines: HashMap<_, _> = limits.into_iter().filter(is_limited).map(line).collect();
        for (name, gone) in before.0.iter().filter(|(name, _)| stays(name) && !lines.contains_key(*name)) {
            tracing::debug!(provider = name, "its line is gone");
            gone.set_limits(LineLimits::default());
        }
        Self(lines)
    }

    /// How each line is that lets only so many in, in the order of the names.
    pub(crate) fn status(&self) -> Vec<LineStatus> {
        let now = Instant::now().into_std();
        let mut all = Vec::new();
        for (name, lines) in &self.0 {
            let models = lines.models.all();
            let queues = models.iter().map(|(model, queue)| (Some(Arc::clone(model)), queue));
            for (model, queue) in queues.chain([(None, &lines.provider)]) {
                all.push(LineStatus { provider: name.clone(), model, queue: queue.status(now) });
            }
        }
        all.retain(|line| line.queue.concurrent != usize::MAX);
        all.sort_unstable_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        all
    }

    /// Waits in line before this model and this provider, if they have lines, and tells of that and for how long.
    ///
    /// # Errors
    ///
    /// If a line is full, or longer than the call has time; another provider may answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future frees the places.
    pub(crate) async fn wait(
        &self,
        candidate: &Candidate,
        call: &Call,
        deadline: Option<Instant>,
        events: &EventBus,
    ) -> Result<(Permits, Duration), UpstreamFailure> {
        let Some(lines) = self.0.get(candidate.provider.name()) else {
            return Ok((Permits::default(), Duration::ZERO));
        };
        let begin = Instant::now();
        let (mut permits, mut has_waited) = (Permits::default(), false);
        let model = lines.models.line(&candidate.model);
        for (queue, permit) in
            [(model.as_ref(), &mut permits.model), (Some(&lines.provider), &mut permits.provider)]
        {
            let Some(queue) = queue else { continue };
            let (got, waited) = wait_in(queue, candidate, call, deadline, events).await?;
            *permit = Some(got);
            has_waited |= waited;
        }
        if !has_waited {
            return Ok((permits, Duration::ZERO));
        }
        let waited = begin.elapsed();
        events.tell(|| Happened::Admitted { id: call.id.clone(), endpoint: candidate.into(), waited });
        Ok((permits, waited))
    }
}

/// Waits in one line; whether it had to.
async fn wait_in(
    queue: &Arc<Queue>,
    candidate: &Candidate,
    call: &Call,
    deadline: Option<Instant>,
    events: &EventBus,
) -> Result<(Permit, bool), UpstreamFailure> {
    let ticket = Ticket {
        caller: call.caller.as_str(),
        tier: call.tier,
        tokens: needs::tokens(call),
        deadline: deadline.map(Instant::into_std),
    };
    let entry = queue.enter(&ticket, Instant::now().into_std()).map_err(|why| refused(candidate, why))?;
    let waiting = match entry {
        Entry::Admitted(permit) => return Ok((permit, false)),
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
    Ok((permit, true))
}

// === impl ProviderLines ===

impl ProviderLines {
    fn set_limits(&self, limits: LineLimits) {
        self.provider.set_limits(limits.provider.unwrap_or(NO_LIMITS));
        self.models.set_limits(limits.each_model.unwrap_or(NO_LIMITS));
    }
}

impl Default for ProviderLines {
    fn default() -> Self {
        let models = Models { limits: NO_LIMITS, queues: HashMap::new() };
        Self { provider: Arc::new(Queue::new(NO_LIMITS)), models: Arc::new(ModelLines(Mutex::new(models))) }
    }
}

// === impl ModelLines ===

impl ModelLines {
    /// The line before a model; `None`: there is no limit.
    fn line(&self, model: &Arc<str>) -> Option<Arc<Queue>> {
        let Models { limits, queues } = &mut *self.lock();
        if *limits == NO_LIMITS {
            return None;
        }
        if let Some(queue) = queues.get(model) {
            return Some(Arc::clone(queue));
        }
        // Callers may ask for any name. Whoever runs or waits holds its line too.
        if queues.len() >= IDLE_LINES_MAX {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        let queue = Arc::new(Queue::new(*limits));
        queues.insert(Arc::clone(model), Arc::clone(&queue));
        Some(queue)
    }

    fn set_limits(&self, limits: QueueLimits) {
        let queues = {
            let mut models = self.lock();
            models.limits = limits;
            models.queues.values().cloned().collect::<Vec<_>>()
        };
        // Outside the lock: those who get in by it are woken.
        queues.iter().for_each(|queue| queue.set_limits(limits));
    }

    fn all(&self) -> Vec<(Arc<str>, Arc<Queue>)> {
        self.lock().queues.iter().map(|(model, queue)| (Arc::clone(model), Arc::clone(queue))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Models> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Permits ===

impl Permits {
    /// The call was answered: the lines learn what it took.
    pub(crate) fn finish(self, now: std::time::Instant) {
        [self.model, self.provider].into_iter().flatten().for_each(|permit| permit.finish(now));
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
