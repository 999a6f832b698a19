//! Who is next, decided by what happened so far.
//!
//! A plain object that is told outcomes. Whoever drives it does the asking: [`attempt`](fn@crate::attempt), or a pipeline
//! that has more to do around each attempt.

use std::iter::Take;
use std::slice;

use hoosh_core::limits::ATTEMPTS_MAX;
use hoosh_core::{Retry, UpstreamFailure};

use crate::plan::{Candidate, Plan};

/// The walk along a plan.
///
/// Each candidate is tried once, at most [`ATTEMPTS_MAX`] in all. A failure that no other provider can mend
/// ([`Retry::Never`]) ends it.
#[derive(Debug)]
pub struct Failover<'p> {
    rest: Take<slice::Iter<'p, Candidate>>,
    failures: Vec<UpstreamFailure>,
}

/// What to do now.
#[derive(Debug, Clone, Copy)]
pub enum Step<'p> {
    /// Ask this one, and [tell](Failover::observe) if it fails.
    Try(&'p Candidate),
    /// Nobody is left, or nobody could help.
    GiveUp,
}

// === impl Failover ===

impl<'p> Failover<'p> {
    /// At the start of a plan.
    pub fn new(plan: &'p Plan) -> Self {
        Self { rest: plan.candidates.iter().take(ATTEMPTS_MAX), failures: Vec::new() }
    }

    /// What to do now. Each call moves on by one candidate.
    #[expect(
        clippy::should_implement_trait,
        reason = "a step depends on what was observed; it is no iterator"
    )]
    pub fn next(&mut self) -> Step<'p> {
        self.rest.next().map_or(Step::GiveUp, Step::Try)
    }

    /// Learns how the attempt that [`next`](Self::next) last asked for failed.
    pub fn observe(&mut self, failure: UpstreamFailure) {
        match failure.retry {
            Retry::Never => self.rest = [].iter().take(0),
            Retry::Elsewhere | Retry::Anywhere { .. } => {}
        }
        self.failures.push(failure);
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
mod tests {
    use hoosh_core::FailureKind;

    use super::*;
    use crate::scripted::{failure, plan};

    /// Walks a plan of that many candidates, who fail in these ways, and compares whom it asks.
    fn check(candidates: usize, failures: &[FailureKind], expect: &[&str]) {
        let names: Vec<String> = (0..candidates).map(|index| format!("p{index}")).collect();
        let plan = plan(names.iter().map(String::as_str));
        let mut failover = Failover::new(&plan);
        let mut asked = Vec::new();
        let mut failures = failures.iter().cycle();
        while let Step::Try(candidate) = failover.next() {
            asked.push(candidate.provider.name());
            let kind = *failures.next().expect("some failure");
            failover.observe(failure(kind).at(candidate.provider.name()));
        }
        assert_eq!(asked, expect);
        assert!(matches!(failover.next(), Step::GiveUp), "giving up is for good");
        assert_eq!(failover.failures().len(), expect.len());
        let told: Vec<String> =
            failover.into_failures().into_iter().map(|failure| failure.provider).collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn each_candidate_is_tried_once_and_in_order() {
        check(3, &[FailureKind::Connect], &["p0", "p1", "p2"]);
        check(3, &[FailureKind::NotFound, FailureKind::RateLimited], &["p0", "p1", "p2"]);
        check(1, &[FailureKind::Failed], &["p0"]);
        check(0, &[FailureKind::Failed], &[]);
    }

    #[test]
    fn a_failure_that_nobody_can_mend_ends_the_call() {
        check(3, &[FailureKind::Invalid], &["p0"]);
        check(3, &[FailureKind::Timeout, FailureKind::Invalid], &["p0", "p1"]);
    }

    #[test]
    fn a_long_plan_is_not_walked_to_its_end() {
        let names: Vec<String> = (0..ATTEMPTS_MAX).map(|index| format!("p{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        check(ATTEMPTS_MAX + 5, &[FailureKind::Connect], &names);
    }
}
