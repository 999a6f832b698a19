//! Ten thousand calls over five providers that fail, in made-up time: whom each strategy asks, and when.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, ready};
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, InferenceRequest, InferenceResponse,
    LlmProvider, ModelInfo, ProviderHealth, ProviderType, UpstreamFailure,
};
use hoosh_router::{
    Attempt, BreakerPolicy, Failover, Health, HealthChange, HealthState, Moment, Query, RetryPolicy, Route,
    Router, Seed, Step, Strategy, Terms, Turn, Watch,
};

/// A provider whose calls the simulation answers itself.
#[derive(Debug)]
struct Simulated(&'static str);

type Answer<'a, T> = BoxFuture<'a, Result<T, UpstreamFailure>>;

fn never<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(ready(Err(UpstreamFailure::new(FailureKind::Unsupported, "it is simulated"))))
}

impl LlmProvider for Simulated {
    fn name(&self) -> &str {
        self.0
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAiCompatible
    }

    fn is_local(&self) -> bool {
        false
    }

    fn infer<'a>(&'a self, _: &'a str, _: &'a InferenceRequest) -> Answer<'a, InferenceResponse> {
        never()
    }

    fn infer_stream<'a>(&'a self, _: &'a str, _: &'a InferenceRequest) -> Answer<'a, EventStream> {
        never()
    }

    fn embed<'a>(&'a self, _: &'a str, _: &'a EmbeddingRequest) -> Answer<'a, EmbeddingResponse> {
        never()
    }

    fn list_models(&self) -> Answer<'_, Vec<ModelInfo>> {
        never()
    }

    fn health_check(&self) -> Answer<'_, ProviderHealth> {
        never()
    }
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

const POLICY: BreakerPolicy =
    BreakerPolicy { failures: 5, rest: Duration::from_secs(5), rest_max: Duration::from_secs(300) };

fn named(name: &str) -> &'static str {
    NAMES.into_iter().find(|known| *known == name).unwrap()
}

/// What became of the calls.
#[derive(Debug, Default)]
struct Seen {
    asked: HashMap<&'static str, usize>,
    answered: usize,
    /// Calls to the sick one in its rest, beside the probes.
    to_an_open_breaker: usize,
    /// Calls that found out whether the sick one is well.
    probes: usize,
    /// How often it was let alone.
    rests: usize,
}

/// Calls that a probe takes to end, during which others may not ask.
const PROBE_CALLS: u64 = 5;

/// Ten thousand calls, one every 10 ms: `sick` fails from the first second to the fortieth, `d` every fifth time.
fn simulate(strategy: Strategy, sick: &str) -> Seen {
    let told = Arc::new(Rests::default());
    let health = Health::new(POLICY).watched(Arc::clone(&told) as Arc<dyn Watch>);
    let mut builder = Router::builder().health(Arc::new(health));
    for name in NAMES {
        builder = builder.provider(Arc::new(Simulated(name)));
    }
    let router = builder.build().unwrap();
    let (start, mut seen) = (Instant::now(), Seen::default());
    // Until when the sick one must be let alone, by the rest that was told; and the probe that is under way.
    let (mut open_until, mut probe) = (None::<Instant>, None::<(u64, Attempt, bool)>);
    for call in 0..10_000_u64 {
        let now = start + Duration::from_millis(10 * call);
        let fails = (1_000..40_000).contains(&(10 * call));
        let seed = Seed(0).with(call);
        if let Some((_, attempt, is_well)) = probe.take_if(|(end, ..)| *end == call) {
            match is_well {
                true => attempt.succeed(now),
                false => attempt.fail(&UpstreamFailure::from_status(500, None, "boom"), now),
            }
        }
        let rests = |seen: &mut Seen, open_until: &mut Option<Instant>| {
            if let Some(rest) = told.take(sick) {
                seen.rests += 1;
                *open_until = Some(now + rest);
            }
        };
        rests(&mut seen, &mut open_until);
        let query = Query { model: "m", ..Query::default() };
        let moment = Moment { now, turn: Turn(call), seed };
        let plan = router.table().plan(&query, strategy, &moment).unwrap();
        let mut failover =
            Failover::new(&plan, Terms { policy: RetryPolicy::ONCE, seed, ..Terms::default() });
        while let Step::Try(candidate) = failover.next(now) {
            let name = named(candidate.provider.name());
            let attempt = match router.begin(candidate, seed, now) {
                Ok(attempt) => attempt,
                Err(until) => {
                    failover.resting(candidate, until);
                    continue;
                }
            };
            *seen.asked.entry(name).or_default() += 1;
            let is_well = !((name == sick && fails) || (name == "d" && seed.with(9).below(5) == 0));
            if name == sick {
                let is_open = open_until.is_some_and(|until| now < until);
                seen.to_an_open_breaker += usize::from(is_open || probe.is_some());
                if attempt.is_probe() {
                    seen.probes += 1;
                    probe = Some((call + PROBE_CALLS, attempt, is_well));
                    if is_well {
                        seen.answered += 1;
                        break;
                    }
                    failover.observe(candidate, UpstreamFailure::from_status(500, None, "boom"), now);
                    continue;
                }
            }
            if is_well {
                attempt.succeed(now + Duration::from_millis(5));
                seen.answered += 1;
                break;
            }
            let failure = UpstreamFailure::from_status(500, None, "boom");
            attempt.fail(&failure, now);
            failover.observe(candidate, failure, now);
            rests(&mut seen, &mut open_until);
        }
    }
    seen
}

/// Who goes first where the strategy alone decides is the one that is sick, so that it is asked at all.
fn sick_for(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Priority | Strategy::Cheapest | Strategy::LocalFirst => "a",
        _ => "c",
    }
}

#[test]
fn no_strategy_sends_more_than_the_probe_to_an_open_breaker_and_every_call_is_answered() {
    for strategy in Strategy::ALL.into_iter().filter(|strategy| *strategy != Strategy::Direct) {
        let sick = sick_for(strategy);
        let seen = simulate(strategy, sick);
        assert!(seen.asked[sick] > 20 && seen.rests >= 3, "{strategy}: {seen:?}");
        assert_eq!(seen.to_an_open_breaker, 0, "{strategy}: {seen:?}");
        assert!(seen.probes > 0 && seen.probes <= seen.rests, "{strategy}: {seen:?}");
        assert_eq!(seen.answered, 10_000, "{strategy}: {seen:?}");
    }
}

#[test]
fn a_provider_that_is_well_again_is_used_again() {
    // It is asked in turn for the first second, then by a probe after 5, 10, 20 and 40 s of rest, the last of which finds
    // it well: 23 of 100 s are left, in which it is asked in turn.
    let seen = simulate(Strategy::RoundRobin, "c");
    assert!((400..500).contains(&seen.asked["c"]), "{seen:?}");
    assert_eq!(seen.probes, 4, "{seen:?}");
}

/// The latest rest of each provider that was told and not taken yet.
#[derive(Default)]
struct Rests(Mutex<HashMap<String, Duration>>);

impl Rests {
    fn take(&self, provider: &str) -> Option<Duration> {
        self.0.lock().unwrap().remove(provider)
    }
}

impl Watch for Rests {
    fn health_changed(&self, change: &HealthChange) {
        if let HealthState::Resting { rest, .. } = change.state
            && !rest.is_zero()
        {
            self.0.lock().unwrap().insert(change.provider.to_string(), rest);
        }
    }
}

#[test]
fn shares_follow_the_weights_within_two_percent() {
    let weights = [50, 25, 15, 8, 2];
    let mut builder = Router::builder();
    for (name, weight) in NAMES.into_iter().zip(weights) {
        builder = builder.provider(Arc::new(Simulated(name))).route(Route { weight, ..Route::to(name) });
    }
    let router = builder.build().unwrap();
    let mut firsts: HashMap<&str, usize> = HashMap::new();
    for call in 0..10_000_u64 {
        let moment = Moment { now: Instant::now(), turn: Turn(call), seed: Seed(1).with(call) };
        let query = Query { model: "m", ..Query::default() };
        let plan = router.table().plan(&query, Strategy::Weighted, &moment).unwrap();
        *firsts.entry(named(plan.candidates[0].provider.name())).or_default() += 1;
    }
    for (name, percent) in NAMES.into_iter().zip(weights) {
        assert!(firsts[name].abs_diff(percent as usize * 100) <= 200, "{name}: {firsts:?}");
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Watch for Told {
    fn health_changed(&self, change: &HealthChange) {
        let model = change.model.as_deref().unwrap_or("*");
        let state = match change.state {
            HealthState::Resting { rest, why } => format!("resting {} s, {}", rest.as_secs(), why.as_str()),
            state => state.as_str().to_owned(),
        };
        self.0.lock().unwrap().push(format!("{}/{model}: {state}", change.provider));
    }
}

#[test]
fn what_changes_is_told_and_a_machine_that_comes_back_is_asked_at_once() {
    let told = Arc::new(Told::default());
    let health = Arc::new(Health::new(POLICY).watched(Arc::clone(&told) as Arc<dyn Watch>));
    let builder = Router::builder().health(Arc::clone(&health)).provider(Arc::new(Simulated("a")));
    let router = builder.build().unwrap();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let plan = |seconds| {
        let moment = Moment { now: at(seconds), turn: Turn(0), seed: Seed(0) };
        router.table().plan(&Query { model: "m", ..Query::default() }, Strategy::Priority, &moment)
    };
    let refused = UpstreamFailure::new(FailureKind::Connect, "refused");
    let candidate = plan(0).unwrap().candidates.remove(0);
    for _ in 0..POLICY.failures {
        router.begin(&candidate, Seed(0), at(0)).unwrap().fail(&refused, at(0));
    }
    assert!(plan(1).unwrap().candidates.is_empty());
    assert_eq!(health.troubled().len(), 1);
    health.heartbeat("a", true, at(0));
    assert!(health.troubled().is_empty(), "it is there, whatever one of its models does");
    (1..=3).for_each(|beat| health.heartbeat("a", false, at(beat)));
    let away = plan(60).unwrap();
    assert!(away.candidates.is_empty());
    assert_eq!(away.resting[0].why.as_str(), "it gives no sign of life");
    health.heartbeat("a", true, at(61));
    let back = router.begin(&plan(61).unwrap().candidates[0], Seed(0), at(61)).unwrap();
    assert!(back.is_probe());
    back.succeed(at(62));
    assert!(health.troubled().is_empty());
    // An answer is a sign of life too, and so is that nobody looks any more.
    for sign in 0..2 {
        (70..73).for_each(|beat| health.heartbeat("a", false, at(beat)));
        assert!(plan(73).unwrap().candidates.is_empty());
        match sign {
            // A call that began before it was given up.
            0 => router.begin(&candidate, Seed(0), at(73)).unwrap().succeed(at(73)),
            _ => health.unwatched("a", at(73)),
        }
        assert_eq!(plan(73).unwrap().candidates.len(), 1);
    }
    let expect = [
        "a/m: resting 5 s, it failed too often",
        "a/*: suspect",
        "a/*: offline",
        "a/*: well",
        "a/m: probing",
        "a/m: well",
        "a/*: suspect",
        "a/*: offline",
        "a/*: well",
        "a/*: suspect",
        "a/*: offline",
        "a/*: well",
    ];
    assert_eq!(*told.0.lock().unwrap(), expect);
}
