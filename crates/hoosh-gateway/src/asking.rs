//! Asking one candidate, whether for an answer or for the rest of one: its line, the attempt, and who is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hoosh_core::{FailureKind, UpstreamFailure};
use hoosh_router::{Candidate, Missed, Opening};
use tokio::time::{Instant, timeout_at};

use crate::admission::Admissions;
use crate::call::Call;
use crate::decisions::Decision;
use crate::events::EventBus;
use crate::gateway::Held;
use crate::lines::Lines;
use crate::settle::{FailedAttempt, Observer};

/// What it takes to ask candidates for a call.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) call: &'a Call,
    pub(crate) decision: &'a Decision,
    pub(crate) lines: &'a Lines,
    pub(crate) admissions: &'a Admissions,
    pub(crate) events: &'a EventBus,
    pub(crate) observers: &'a [Arc<dyn Observer>],
    /// How many have been asked.
    pub(crate) asked: &'a AtomicUsize,
}

impl Asking<'_> {
    /// Waits in line before a candidate and has it asked then. Gives what it gave, what is to be kept to the end of that, and
    /// how long it waited.
    pub(crate) async fn ask<T>(
        &self,
        opening: &Opening<'_>,
        deadline: Option<Instant>,
        ask: impl Future<Output = Result<T, UpstreamFailure>>,
    ) -> Result<(T, Held, Duration), Missed> {
        let candidate = opening.candidate;
        let waited = self.lines.wait(candidate, self.call, deadline, self.events).await;
        let (permit, queued) = waited.map_err(|failure| self.not_asked(candidate, failure))?;
        let share = self.admissions.ask(candidate, self.call);
        let mut share = share.map_err(|failure| self.not_asked(candidate, failure))?;
        let attempt = opening.begin()?;
        self.begun(candidate);
        let asked = match deadline {
            None => ask.await,
            // A provider that hangs is told from a client that leaves.
            Some(deadline) => timeout_at(deadline, ask).await.unwrap_or_else(|_| Err(out_of_time(candidate))),
        };
        let asked = asked.map_err(|failure| {
            share.give_back();
            self.decision.failed(candidate, &failure);
            self.tell(candidate, failure, true)
        });
        let (value, attempt) = attempt.judge(asked, Instant::now().into_std())?;
        Ok((value, Held { attempt, permit, share }, queued))
    }

    /// A candidate is asked.
    pub(crate) fn begun(&self, candidate: &Candidate) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.decision.ask(candidate);
    }

    /// A candidate could not be asked.
    pub(crate) fn not_asked(&self, candidate: &Candidate, failure: UpstreamFailure) -> UpstreamFailure {
        self.decision.ask(candidate);
        self.decision.failed(candidate, &failure);
        self.tell(candidate, failure, false)
    }

    fn tell(&self, candidate: &Candidate, failure: UpstreamFailure, was_asked: bool) -> UpstreamFailure {
        let failure = UpstreamFailure { was_asked, ..failure };
        tracing::warn!(id = %self.call.id, %failure, "attempt failed");
        let attempt = FailedAttempt { id: &self.call.id, candidate, failure: &failure, was_asked };
        self.observers.iter().for_each(|observer| observer.attempt_failed(&attempt));
        failure
    }
}

/// The provider was still silent when the call's time was over.
fn out_of_time(candidate: &Candidate) -> UpstreamFailure {
    let failure = UpstreamFailure::new(FailureKind::Timeout, "the call's time was over first");
    failure.at(candidate.provider.name())
}
