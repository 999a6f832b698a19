use std::sync::Mutex;

use hoosh_core::{FailureKind, HooshError};
use tokio::time::{Instant, sleep};

use super::*;
use crate::attempt::{Attempted, Opening, now};
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

/// What became of a call: who answered when, who was let go of, and all that was asked, with the time of each.
#[derive(Debug, PartialEq)]
struct Seen {
    answered: Result<(String, u128), usize>,
    let_go: Option<(String, u128)>,
    asked: Vec<(String, u128, bool)>,
}

async fn call(router: &Router, a: Course, b: Course) -> Seen {
    let (start, asked) = (Instant::now(), Mutex::new(Vec::new()));
    let plan = router.plan(&crate::Query { model: "m", ..crate::Query::default() }).unwrap();
    let terms = crate::Terms { hedging: Some(router.hedging(false)), ..router.terms() };
    let ask = async |opening: Opening<'_>| {
        let attempt = opening.begin()?;
        let name = opening.candidate.provider.name().to_owned();
        let (millis, end) = if name == "a" { a } else { b };
        asked.lock().unwrap().push((name, start.elapsed().as_millis(), opening.is_hedge));
        sleep(Duration::from_millis(millis)).await;
        attempt.judge(end.map_err(failure), now())
    };
    let result: Result<Attempted<'_, _>, HooshError> = router.attempt(&plan, terms, ask).await;
    let took = start.elapsed().as_millis();
    let let_go = result.as_ref().ok().and_then(|done| done.let_go);
    let answered = result.map(|done| {
        let ((), attempt) = done.value;
        attempt.succeed(now());
        (done.candidate.provider.name().to_owned(), took)
    });
    Seen {
        answered: answered.map_err(|error| match error {
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
    let cases: [(Course, Course, Seen); 6] = [
        ((20, Ok(())), (1, Ok(())), seen(Ok(("a", 20)), None, &slow[..1])),
        ((500, Ok(())), (30, Ok(())), seen(Ok(("b", 50)), Some(("a", 50)), &slow)),
        ((40, Ok(())), (30, Ok(())), seen(Ok(("a", 40)), Some(("b", 20)), &slow)),
        // One of the two fails: the other one is waited for.
        ((30, Err(FailureKind::Failed)), (30, Ok(())), seen(Ok(("b", 50)), None, &slow)),
        ((90, Ok(())), (30, Err(FailureKind::Failed)), seen(Ok(("a", 90)), None, &slow)),
        // What nobody can mend ends it.
        ((30, Err(FailureKind::Invalid)), (900, Ok(())), seen(Err(1), None, &slow)),
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
async fn the_share_is_kept_and_slow_is_learned() {
    let router = used_to_twenty(true, 1).await;
    let mut hedged = 0;
    for turn in 0..3_200 {
        let took = if turn % 32 == 0 { 500 } else { 20 };
        hedged += usize::from(call(&router, (took, Ok(())), (30, Ok(()))).await.asked.len() > 1);
    }
    // Ten in advance, and one of a hundred calls.
    assert!((40..=10 + 32).contains(&hedged), "{hedged}");
    // Who was let go of is known to be slow.
    let router = used_to_twenty(true, 100).await;
    call(&router, (9_000, Ok(())), (30, Ok(()))).await;
    let known = router.health().endpoints(now()).into_iter().find(|one| &*one.provider == "a").unwrap();
    assert!(known.time_to_first.unwrap() > Duration::from_millis(45), "{known:?}");
}

#[tokio::test(start_paused = true)]
async fn both_may_fail_and_all_of_it_is_told() {
    let router = used_to_twenty(true, 100).await;
    let failed = Err(FailureKind::Failed);
    let seen = call(&router, (30, failed), (30, failed)).await;
    assert!(seen.answered.is_err_and(|failures| failures >= 2) && seen.let_go.is_none());
}
