use std::sync::Mutex;

use hoosh_core::limits::{ATTEMPTS_MAX, HEDGE_LOSSES_MAX};
use hoosh_core::{FailureKind, HooshError};
use tokio::time::{Instant, sleep};

use super::*;
use crate::attempt::{Attempted, Opening, Unanswered, now};
use crate::router::Router;
use crate::scripted::{Scripted, failure};
use crate::table::{Route, RouteOptions};

fn after(millis: impl IntoIterator<Item = u64>) -> Option<u128> {
    let mut recent = Recent::default();
    millis.into_iter().for_each(|millis| recent.observe(Duration::from_millis(millis)));
    recent.p95().map(|p95| (p95.as_micros() + 500) / 1000)
}

#[test]
fn the_usual_is_what_nineteen_of_twenty_stay_below() {
    assert_eq!(after(1..20), None, "too few");
    assert_eq!(after((1..=20).map(|n| n * 10)), Some(190));
    assert_eq!(after((1..=20).rev().map(|n| n * 10)), Some(190));
    // Only the latest count.
    assert_eq!(after((0..100).map(|_| 900).chain((0..64).map(|_| 20))), Some(20));
    assert_eq!(after((0..64).map(|_| 0)), Some(HEDGE_WAIT_MIN.as_millis()));
}

/// How asking one goes: after so many milliseconds it answers, or fails like this.
type Course = (u64, Result<(), FailureKind>);

fn router(hedges: bool, percent: u32) -> Router {
    let route = |name: &str, priority| Route {
        priority,
        options: RouteOptions { hedges, ..RouteOptions::default() },
        ..Route::to(name)
    };
    let router = Router::builder().provider(Scripted::new("a", [])).provider(Scripted::new("b", []));
    router.route(route("a", 1)).route(route("b", 2)).hedge_percent(percent).build().unwrap()
}

/// What became of a call: who answered when, or how many failed; who was let go of; and all that was asked, with the time of
/// each.
#[derive(Debug, PartialEq)]
struct Seen {
    answered: Result<(String, u128), usize>,
    let_go: Option<(String, u128)>,
    asked: Vec<(String, u128, bool)>,
}

async fn call(router: &Router, a: Course, b: Course) -> Seen {
    call_in_line(router, 0, a, b).await
}

/// The same where `a` has a line in which so many milliseconds are waited first.
async fn call_in_line(router: &Router, in_line: u64, a: Course, b: Course) -> Seen {
    let (start, asked) = (Instant::now(), Mutex::new(Vec::new()));
    let plan = router.plan(&crate::Query { model: "m", ..crate::Query::default() }).unwrap();
    let terms = crate::Terms { hedging: Some(router.hedging(false)), ..router.terms() };
    let ask = async |opening: Opening<'_>| {
        let name = opening.candidate.provider.name().to_owned();
        if name == "a" {
            sleep(Duration::from_millis(in_line)).await;
        }
        let attempt = opening.begin()?;
        let (millis, end) = if name == "a" { a } else { b };
        asked.lock().unwrap().push((name, start.elapsed().as_millis(), opening.is_hedge));
        sleep(Duration::from_millis(millis)).await;
        attempt.judge(end.map_err(failure), now())
    };
    let result: Result<Attempted<'_, _>, Unanswered<'_>> = router.attempt(&plan, terms, ask).await;
    let took = start.elapsed().as_millis();
    let let_go = match &result {
        Ok(done) => done.let_go,
        Err(unanswered) => unanswered.let_go.as_deref().copied(),
    };
    let answered = result.map(|done| {
        let ((), attempt) = done.value;
        attempt.succeed(now());
        (done.candidate.provider.name().to_owned(), took)
    });
    Seen {
        answered: answered.map_err(|unanswered| match unanswered.error {
            HooshError::Upstream(failures) => failures.len(),
            other => panic!("{other}"),
        }),
        let_go: let_go.map(|one| (one.candidate.provider.name().to_owned(), one.after.as_millis())),
        asked: asked.into_inner().unwrap(),
    }
}

fn seen(
    answered: Result<(&str, u128), usize>,
    let_go: Option<(&str, u128)>,
    asked: &[(&str, u128, bool)],
) -> Seen {
    let owned = |(name, millis): (&str, u128)| (name.to_owned(), millis);
    Seen {
        answered: answered.map(owned),
        let_go: let_go.map(owned),
        asked: asked.iter().map(|&(name, millis, is_hedge)| (name.to_owned(), millis, is_hedge)).collect(),
    }
}

/// One of which it is known that it answers within 20 ms.
async fn used_to_twenty(hedges: bool, percent: u32) -> Router {
    let router = router(hedges, percent);
    for _ in 0..HEDGE_SAMPLES {
        call(&router, (20, Ok(())), (0, Ok(()))).await;
    }
    router
}

#[tokio::test(start_paused = true)]
async fn one_that_is_slower_than_usual_is_not_waited_for_alone() {
    let slow = [("a", 0, false), ("b", 20, true)];
    let invalid = Err(FailureKind::Invalid);
    let cases: [(Course, Course, Seen); 9] = [
        ((20, Ok(())), (1, Ok(())), seen(Ok(("a", 20)), None, &slow[..1])),
        ((500, Ok(())), (30, Ok(())), seen(Ok(("b", 50)), Some(("a", 50)), &slow)),
        ((40, Ok(())), (30, Ok(())), seen(Ok(("a", 40)), Some(("b", 20)), &slow)),
        // One of the two fails: the other one is waited for.
        ((30, Err(FailureKind::Failed)), (30, Ok(())), seen(Ok(("b", 50)), None, &slow)),
        ((90, Ok(())), (30, Err(FailureKind::Failed)), seen(Ok(("a", 90)), None, &slow)),
        // What nobody can mend ends it, and the other one is let go of.
        ((30, invalid), (900, Ok(())), seen(Err(1), Some(("b", 10)), &slow)),
        // But not what only the one beside it finds wrong.
        ((90, Ok(())), (30, invalid), seen(Ok(("a", 90)), None, &slow)),
        ((90, invalid), (30, invalid), seen(Err(2), None, &slow)),
        ((30, Err(FailureKind::Failed)), (90, invalid), seen(Err(2), None, &slow)),
    ];
    for (a, b, expect) in cases {
        let router = used_to_twenty(true, 100).await;
        assert_eq!(call(&router, a, b).await, expect, "{a:?} {b:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_beside_where_it_is_not_allowed_or_not_known_to_be_slow() {
    let alone = seen(Ok(("a", 500)), None, &[("a", 0, false)]);
    let router = used_to_twenty(false, 100).await;
    assert_eq!(call(&router, (500, Ok(())), (1, Ok(()))).await, alone);
    let fresh = self::router(true, 100);
    assert_eq!(call(&fresh, (500, Ok(())), (1, Ok(()))).await, alone);
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_line_is_not_slow() {
    let router = used_to_twenty(true, 100).await;
    let waited = call_in_line(&router, 300, (20, Ok(())), (1, Ok(()))).await;
    assert_eq!(waited, seen(Ok(("a", 320)), None, &[("a", 300, false)]));
    let slow = call_in_line(&router, 300, (500, Ok(())), (30, Ok(()))).await;
    let asked = [("a", 300, false), ("b", 320, true)];
    assert_eq!(slow, seen(Ok(("b", 350)), Some(("a", 50)), &asked));
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_a_slow_one_costs_one_try_of_many() {
    let names: Vec<String> = (0..ATTEMPTS_MAX).map(|at| format!("p{at}")).collect();
    let mut builder = Router::builder().hedge_percent(1);
    for (priority, name) in names.iter().enumerate() {
        let options = RouteOptions { hedges: true, ..RouteOptions::default() };
        let priority = priority as u32;
        builder =
            builder.provider(Scripted::new(name, [])).route(Route { priority, options, ..Route::to(name) });
    }
    let router = builder.retry(crate::RetryPolicy::ONCE).build().unwrap();
    let plan = router.plan(&crate::Query { model: "m", ..crate::Query::default() }).unwrap();
    for candidate in plan.candidates.iter().flat_map(|one| [one; HEDGE_SAMPLES]) {
        router.begin(candidate, crate::Seed(1), now()).unwrap().succeed(now());
    }
    while router.hedging(false).budget.spend() {}
    let last = names.last().unwrap();
    let ask = async |opening: Opening<'_>| {
        let attempt = opening.begin()?;
        sleep(Duration::from_millis(100)).await;
        let is_well = opening.candidate.provider.name() == last;
        attempt.judge(if is_well { Ok(()) } else { Err(failure(FailureKind::Failed)) }, now())
    };
    let terms = crate::Terms { hedging: Some(router.hedging(false)), ..router.terms() };
    let answered: Result<Attempted<'_, _>, Unanswered<'_>> = router.attempt(&plan, terms, ask).await;
    assert_eq!(answered.unwrap().candidate.provider.name(), last);
}

#[tokio::test(start_paused = true)]
async fn the_share_is_kept_and_slow_is_learned() {
    let router = used_to_twenty(true, 1).await;
    let mut hedged = 0;
    for turn in 0..3_200 {
        let took = if turn % 32 == 0 { 500 } else { 20 };
        hedged += usize::from(call(&router, (took, Ok(())), (30, Ok(()))).await.asked.len() > 1);
    }
    // Ten in advance, and one of a hundred calls.
    assert!((40..=10 + 32).contains(&hedged), "{hedged}");
    // A new configuration does not begin with a burst.
    let next =
        Router::builder().provider(Scripted::new("a", [])).hedges_after(&router).hedge_percent(7).build();
    let (next, left) = (next.unwrap(), router.hedging(false).budget);
    while left.spend() {}
    assert!(!next.hedging(false).budget.spend());
    // Who was let go of is known to be slow, but not how slow: what is usual stays as it was.
    let router = used_to_twenty(true, 100).await;
    call(&router, (9_000, Ok(())), (30, Ok(()))).await;
    let known = router.health().endpoints(now()).into_iter().find(|one| &*one.provider == "a").unwrap();
    assert!(known.time_to_first.unwrap() > Duration::from_millis(45), "{known:?}");
    for _ in 0..2 * HEDGE_SAMPLES {
        let asked = call(&router, (9_000, Ok(())), (0, Ok(()))).await.asked;
        let after = asked.iter().find(|(name, _, is_hedge)| name == "b" && *is_hedge).map(|(_, at, _)| *at);
        assert!(after.is_none_or(|after| after == 20), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_let_alone_in_the_end() {
    let router = used_to_twenty(true, 100).await;
    let failures = crate::BreakerPolicy::default().failures;
    let state = || {
        let known = router.health().endpoints(now());
        known.into_iter().find(|one| &*one.provider == "a").unwrap().state
    };
    let hangs = (90_000, Ok(()));
    for lost in 1..HEDGE_LOSSES_MAX + failures {
        assert_eq!(state(), crate::HealthState::Well, "after {lost}");
        assert_eq!(call(&router, hangs, (1, Ok(()))).await.asked.len(), 2);
    }
    assert!(matches!(state(), crate::HealthState::Resting { .. }), "{:?}", state());
    assert_eq!(call(&router, hangs, (1, Ok(()))).await.asked, [("b".to_owned(), 0, false)]);
    // The call that is to find out whether it is well is no reason to ask it again at once.
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(call(&router, hangs, (1, Ok(()))).await.asked.len(), 2);
    assert_eq!(call(&router, hangs, (1, Ok(()))).await.asked, [("b".to_owned(), 0, false)]);
    // It is asked again in time, and one answer makes it well.
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(call(&router, (20, Ok(())), (1, Ok(()))).await.answered.unwrap().0, "a");
    assert_eq!(state(), crate::HealthState::Well);
    // One loss more is none in a row.
    call(&router, hangs, (1, Ok(()))).await;
    assert_eq!(state(), crate::HealthState::Well);
}

#[tokio::test(start_paused = true)]
async fn both_may_fail_and_all_of_it_is_told() {
    let router = used_to_twenty(true, 100).await;
    let failed = Err(FailureKind::Failed);
    let seen = call(&router, (30, failed), (30, failed)).await;
    assert!(seen.answered.is_err_and(|failures| failures >= 2) && seen.let_go.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_the_one_beside_finds_wrong_does_not_end_it_for_the_others() {
    let builder = ["a", "b", "c"].into_iter().enumerate().fold(Router::builder(), |builder, (at, name)| {
        let options = RouteOptions { hedges: true, ..RouteOptions::default() };
        let route = Route { priority: at as u32, options, ..Route::to(name) };
        builder.provider(Scripted::new(name, [])).route(route)
    });
    let router = builder.hedge_percent(100).build().unwrap();
    let plan = router.plan(&crate::Query { model: "m", ..crate::Query::default() }).unwrap();
    for _ in 0..HEDGE_SAMPLES {
        router.begin(&plan.candidates[0], crate::Seed(1), now()).unwrap().succeed(now());
    }
    let ask = async |opening: Opening<'_>| {
        let attempt = opening.begin()?;
        let (millis, end) = match opening.candidate.provider.name() {
            "a" => (90, Err(failure(FailureKind::Failed))),
            "b" => (30, Err(failure(FailureKind::Invalid))),
            _ => (1, Ok(())),
        };
        sleep(Duration::from_millis(millis)).await;
        attempt.judge(end, now())
    };
    let terms = crate::Terms { hedging: Some(router.hedging(false)), ..router.terms() };
    let answered: Result<Attempted<'_, _>, Unanswered<'_>> = router.attempt(&plan, terms, ask).await;
    let answered = answered.unwrap();
    assert_eq!((answered.candidate.provider.name(), answered.failures.len()), ("c", 2));
}
