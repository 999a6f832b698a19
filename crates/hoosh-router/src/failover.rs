//! Who is next, decided by what happened so far.
//!
//! A plain object that is told outcomes and the time. Whoever drives it does the asking and the waiting:
//! [`Router::attempt`](crate::Router::attempt), or a pipeline that has more to do around each attempt.

use std::time::{Duration, Instant};

use hoosh_core::limits::{ATTEMPTS_MAX, RETRY_AFTER_MAX};
use hoosh_core::{FailureKind, Retry, UpstreamFailure};

use crate::plan::{Candidate, Plan};
use crate::retry::{OnExhausted, RetryPolicy, Terms};

/// The walk along a plan.
///
/// Each candidate is tried once before any is tried again. Then those whose failure another try can mend are, after a wait
/// that doubles, or as long as the provider said; at most [`ATTEMPTS_MAX`] tries in all. A failure that nobody can mend
/// ([`Retry::Never`]) ends it.
#[derive(Debug)]
pub struct Failover<'p> {
    stands: Vec<Stand<'p>>,
    terms: Terms<'p>,
    /// Who was asked last.
    last: usize,
    asked: usize,
    failures: Vec<UpstreamFailure>,
    insists: bool,
    /// How long it has waited so far.
    waited: Duration,
    /// When the first may be asked again of those who were found resting although the plan has them.
    found_resting: Option<Instant>,
}

/// How it stands with one candidate.
#[derive(Debug)]
struct Stand<'p> {
    candidate: &'p Candidate,
    tries: u32,
    ready: Ready,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Now,
    At(Instant),
    Never,
}

/// What to do now.
#[derive(Debug, Clone, Copy)]
pub enum Step<'p> {
    /// Ask this one, and tell if it [fails](Failover::observe).
    Try(&'p Candidate),
    /// Everybody who is left is to be let alone: ask again after this time.
    Wait(Duration),
    /// Nobody is left, or nobody could help.
    GiveUp,
}

// === impl Failover ===

impl<'p> Failover<'p> {
    /// At the start of a plan.
    pub fn new(plan: &'p Plan, terms: Terms<'p>) -> Self {
        let stand = |candidate, ready| Stand { candidate, tries: 0, ready };
        let mut stands: Vec<_> =
            plan.candidates.iter().map(|candidate| stand(candidate, Ready::Now)).collect();
        match terms.policy.on_exhausted {
            OnExhausted::Reject => {}
            OnExhausted::Queue => {
                let resting = plan.resting.iter();
                stands.extend(resting.map(|resting| stand(&resting.candidate, Ready::At(resting.until))));
            }
            OnExhausted::LeastBad if stands.is_empty() => {
                let soonest = plan.resting.iter().min_by_key(|resting| resting.until);
                stands.extend(soonest.map(|resting| stand(&resting.candidate, Ready::Now)));
            }
            OnExhausted::LeastBad => {}
        }
        let insists = terms.policy.on_exhausted == OnExhausted::LeastBad && plan.candidates.is_empty();
        let (failures, waited, found_resting) = (Vec::new(), Duration::ZERO, None);
        Self { stands, terms, last: 0, asked: 0, failures, insists, waited, found_resting }
    }

    /// Whether a candidate is asked although it is to be let alone.
    pub fn insists(&self) -> bool {
        self.insists
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Step<'p> {
        let is_late = self.terms.deadline.is_some_and(|deadline| deadline <= now);
        if self.asked == ATTEMPTS_MAX || is_late {
            return Step::GiveUp;
        }
        loop {
            let Some((at, ready)) = self.soonest() else { return Step::GiveUp };
            if let Some(until) = ready
                && until > now
            {
                return self.wait(until.saturating_duration_since(now), now);
            }
            let is_first = self.stands[at].tries == 0;
            if !is_first && self.terms.budget.is_some_and(|budget| !budget.spend()) {
                self.stands[at].ready = Ready::Never;
                continue;
            }
            (self.last, self.asked) = (at, self.asked + 1);
            return Step::Try(self.stands[at].candidate);
        }
    }

    /// The one that is to be asked next: those who can be asked at once in their order, then whoever can be the soonest.
    fn soonest(&self) -> Option<(usize, Option<Instant>)> {
        if let Some(at) = self.stands.iter().position(|stand| stand.ready == Ready::Now) {
            return Some((at, None));
        }
        let ready = self.stands.iter().enumerate().filter_map(|(at, stand)| match stand.ready {
            Ready::At(until) => Some((at, until)),
            Ready::Now | Ready::Never => None,
        });
        ready.min_by_key(|(_, until)| *until).map(|(at, until)| (at, Some(until)))
    }

    fn wait(&mut self, wait: Duration, now: Instant) -> Step<'p> {
        let is_too_late = self.terms.deadline.is_some_and(|deadline| now + wait >= deadline);
        // All waits together: one who is found resting again and again would be waited for without an end.
        if self.waited + wait > self.terms.policy.wait_max || is_too_late {
            return Step::GiveUp;
        }
        self.waited += wait;
        Step::Wait(wait)
    }

    /// Who can be asked beside the one that [`next`](Self::next) last asked for: the first that has not been asked. The
    /// outcomes of both are told.
    pub fn beside(&mut self) -> Option<&'p Candidate> {
        if self.asked == ATTEMPTS_MAX {
            return None;
        }
        let fresh = |stand: &Stand<'_>| stand.ready == Ready::Now && stand.tries == 0;
        let at = (0..self.stands.len()).find(|&at| at != self.last && fresh(&self.stands[at]))?;
        self.asked += 1;
        Some(self.stands[at].candidate)
    }

    /// Learns how an attempt failed.
    pub fn observe(&mut self, candidate: &Candidate, failure: UpstreamFailure, now: Instant) {
        let Some(at) = self.place(candidate) else { return };
        let seed = self.terms.seed.with(self.asked as u64);
        let stand = &mut self.stands[at];
        stand.tries += 1;
        let can_again = stand.tries <= self.terms.policy.retries;
        stand.ready = match failure.retry {
            Retry::Anywhere { after } if can_again => {
                let wait = RetryPolicy::backoff(stand.tries, seed);
                Ready::At(now + wait.max(after.unwrap_or_default().min(RETRY_AFTER_MAX)))
            }
            Retry::Anywhere { .. } | Retry::Elsewhere | Retry::Never => Ready::Never,
        };
        if failure.retry == Retry::Never {
            self.stands.iter_mut().for_each(|stand| stand.ready = Ready::Never);
        }
        // What we find too long for one by its own rule may be let through by the next one's.
        if failure.kind == FailureKind::ContextLength && failure.was_asked {
            self.pass_over_shorter(at);
        }
        self.failures.push(failure);
    }

    /// What was too long for one is too long for all that are known to read no more.
    fn pass_over_shorter(&mut self, at: usize) {
        let window = |stand: &Stand<'_>| stand.candidate.window();
        let Some(too_short) = window(&self.stands[at]) else { return };
        for stand in &mut self.stands {
            if window(stand).is_some_and(|window| window <= too_short) {
                stand.ready = Ready::Never;
            }
        }
    }

    /// Learns that one who was to be asked is let alone until then, which others have found out since the plan was made. It
    /// was not asked.
    pub fn resting(&mut self, candidate: &Candidate, until: Instant) {
        let Some(at) = self.place(candidate) else { return };
        // It was not asked, so that nothing of this try counts.
        self.asked -= 1;
        if let Some(budget) = self.terms.budget.filter(|_| self.stands[at].tries > 0) {
            budget.refund();
        }
        self.found_resting = Some(self.found_resting.map_or(until, |soonest| soonest.min(until)));
        let waits = self.terms.policy.on_exhausted == OnExhausted::Queue || self.stands[at].tries > 0;
        self.stands[at].ready = if waits { Ready::At(until) } else { Ready::Never };
    }

    /// Learns that the one [`beside`](Self::beside) was not asked after all. It can be, as if nobody had thought of it.
    pub fn declined(&mut self, candidate: &Candidate) {
        if let Some(at) = self.place(candidate) {
            self.asked -= 1;
            // Only who has never been asked is asked beside another. One that is declined by itself would be so without an end.
            self.stands[at].ready = if at == self.last { Ready::Never } else { Ready::Now };
        }
    }

    fn place(&self, candidate: &Candidate) -> Option<usize> {
        self.stands.iter().position(|stand| std::ptr::eq(stand.candidate, candidate))
    }

    /// When the first may be asked again of those who were found [`resting`](Self::resting).
    pub fn found_resting(&self) -> Option<Instant> {
        self.found_resting
    }

    /// What failed so far, in order.
    pub fn failures(&self) -> &[UpstreamFailure] {
        &self.failures
    }

    /// What failed, in order.
    pub fn into_failures(self) -> Vec<UpstreamFailure> {
        self.failures
    }
}

#[cfg(test)]
mod tests;
