use std::sync::Arc;

use hoosh_core::{ContextRule, FailureKind};

use super::*;
use crate::retry::RetryBudget;
use crate::scripted::{failure, plan, resting};

const ONCE: Terms<'_> = Terms {
    policy: RetryPolicy::ONCE,
    budget: None,
    hedging: None,
    deadline: None,
    seed: crate::random::Seed(1),
};

/// Walks a plan of that many candidates, who fail in these ways, and compares whom it asks.
fn check(candidates: usize, failures: &[FailureKind], terms: Terms<'_>, expect: &[&str]) {
    let names: Vec<String> = (0..candidates).map(|index| format!("p{index}")).collect();
    let plan = plan(names.iter().map(String::as_str));
    let mut failover = Failover::new(&plan, terms);
    let mut now = Instant::now();
    let mut asked = Vec::new();
    let mut failures = failures.iter().cycle();
    loop {
        match failover.next(now) {
            Step::Try(candidate) => {
                asked.push(candidate.provider.name());
                let kind = *failures.next().expect("some failure");
                failover.observe(candidate, failure(kind).at(candidate.provider.name()), now);
            }
            Step::Wait(wait) => now += wait,
            Step::GiveUp => break,
        }
    }
    assert_eq!(asked, expect);
    assert!(matches!(failover.next(now), Step::GiveUp), "giving up is for good");
    let told: Vec<String> = failover.into_failures().into_iter().map(|failure| failure.provider).collect();
    assert_eq!(told, expect);
}

#[test]
fn each_candidate_is_tried_once_and_in_order() {
    check(3, &[FailureKind::Connect], ONCE, &["p0", "p1", "p2"]);
    check(3, &[FailureKind::NotFound, FailureKind::RateLimited], ONCE, &["p0", "p1", "p2"]);
    check(1, &[FailureKind::Failed], ONCE, &["p0"]);
    check(0, &[FailureKind::Failed], ONCE, &[]);
}

#[test]
fn a_failure_that_nobody_can_mend_ends_the_call() {
    check(3, &[FailureKind::Invalid], Terms::default(), &["p0"]);
    check(3, &[FailureKind::Timeout, FailureKind::Invalid], Terms::default(), &["p0", "p1"]);
}

#[test]
fn what_was_too_long_for_one_who_was_asked_is_for_all_who_read_no_more() {
    let mut plan = plan(["p0", "p1", "p2"]);
    for (candidate, window) in plan.candidates.iter_mut().zip([400, 400, 500]) {
        candidate.context = Some(Arc::new(ContextRule { window: Some(window), ..ContextRule::default() }));
    }
    for (was_asked, expect) in [(true, "p2"), (false, "p1")] {
        let (mut failover, now) = (Failover::new(&plan, ONCE), Instant::now());
        let failure = UpstreamFailure { was_asked, ..failure(FailureKind::ContextLength) };
        let Step::Try(first) = failover.next(now) else { panic!("somebody is there") };
        failover.observe(first, failure, now);
        let Step::Try(second) = failover.next(now) else { panic!("one reads more") };
        assert_eq!(second.provider.name(), expect, "asked: {was_asked}");
    }
}

#[test]
fn a_long_plan_is_not_walked_to_its_end() {
    let names: Vec<String> = (0..ATTEMPTS_MAX).map(|index| format!("p{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    check(ATTEMPTS_MAX + 5, &[FailureKind::Connect], Terms::default(), &names);
}

#[test]
fn all_are_asked_before_one_is_asked_again() {
    // Who is first in the second round is a matter of chance: with this seed the other one.
    check(2, &[FailureKind::Failed], Terms::default(), &["p0", "p1", "p1", "p0"]);
    // What no second try can mend is not tried a second time.
    check(2, &[FailureKind::NotFound, FailureKind::Failed], Terms::default(), &["p0", "p1", "p1"]);
    let thrice = RetryPolicy { retries: 2, ..RetryPolicy::default() };
    check(1, &[FailureKind::Failed], Terms { policy: thrice, ..Terms::default() }, &["p0", "p0", "p0"]);
}

#[test]
fn a_caller_who_has_spent_its_tries_gets_no_more() {
    let budget = RetryBudget::new();
    while budget.spend() {}
    let terms = Terms { budget: Some(&budget), ..Terms::default() };
    check(2, &[FailureKind::Failed], terms, &["p0", "p1"]);
}

#[test]
fn the_providers_own_word_on_when_to_come_back_is_kept() {
    let plan = plan(["a"]);
    let now = Instant::now();
    let after = |seconds| UpstreamFailure::from_status(429, Some(Duration::from_secs(seconds)), "slow down");
    let mut failover = Failover::new(&plan, Terms::default());
    assert!(matches!(failover.next(now), Step::Try(_)));
    failover.observe(&plan.candidates[0], after(3), now);
    assert!(matches!(failover.next(now), Step::Wait(wait) if wait == Duration::from_secs(3)));
    assert!(matches!(failover.next(now + Duration::from_secs(3)), Step::Try(_)));

    // Longer than anybody waits, or than the call has time: then the caller is told.
    let mut failover = Failover::new(&plan, Terms::default());
    failover.next(now);
    failover.observe(&plan.candidates[0], after(60), now);
    assert!(matches!(failover.next(now), Step::GiveUp));
    let deadline = Some(now + Duration::from_secs(2));
    let mut failover = Failover::new(&plan, Terms { deadline, ..Terms::default() });
    failover.next(now);
    failover.observe(&plan.candidates[0], after(3), now);
    assert!(matches!(failover.next(now), Step::GiveUp));
}

#[test]
fn what_is_done_when_all_are_let_alone_is_the_policys_to_say() {
    let now = Instant::now();
    let plan = resting([("a", 4), ("b", 2)], now);
    let terms = |on_exhausted| Terms {
        policy: RetryPolicy { on_exhausted, ..RetryPolicy::default() },
        ..Terms::default()
    };
    let mut rejecting = Failover::new(&plan, terms(OnExhausted::Reject));
    assert!(matches!(rejecting.next(now), Step::GiveUp));
    let mut least_bad = Failover::new(&plan, terms(OnExhausted::LeastBad));
    assert!(matches!(least_bad.next(now), Step::Try(one) if one.provider.name() == "b"));
    let mut waiting = Failover::new(&plan, terms(OnExhausted::Queue));
    assert!(matches!(waiting.next(now), Step::Wait(wait) if wait == Duration::from_secs(2)));
    let later = now + Duration::from_secs(2);
    assert!(matches!(waiting.next(later), Step::Try(one) if one.provider.name() == "b"));
    // Somebody else was faster.
    waiting.resting(&plan.resting[1].candidate, later + Duration::from_secs(60));
    assert!(matches!(waiting.next(later), Step::Wait(wait) if wait == Duration::from_secs(2)));
    // And once more: two and two seconds are behind it, and five are all that it waits.
    let last = later + Duration::from_secs(2);
    assert!(matches!(waiting.next(last), Step::Try(one) if one.provider.name() == "a"));
    waiting.resting(&plan.resting[0].candidate, last + Duration::from_secs(2));
    assert!(matches!(waiting.next(last), Step::GiveUp));
}
