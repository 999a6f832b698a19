//! A remote provider that comes back is found out by asking it for something free, before a call has to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join, ready};
use futures_util::{FutureExt, StreamExt};
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, InferenceRequest, InferenceResponse,
    LlmProvider, ModelInfo, ProviderHealth, ProviderType, UpstreamFailure, WireBody, WireReply, WireRequest,
};
use hoosh_gateway::{Call, CallerId, Gateway, Happened, RequestId};
use hoosh_router::{HealthState, RetryPolicy, Router};
use tokio::time::{Instant, sleep};

/// How it answers.
#[derive(Debug, Clone, PartialEq)]
enum Mood {
    Well,
    Fails(UpstreamFailure),
    Silent,
}

#[derive(Debug)]
struct Remote {
    is_local: bool,
    calls: Mutex<Mood>,
    checks: Mutex<Mood>,
    asked: AtomicUsize,
    checked: AtomicUsize,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, UpstreamFailure>>;

fn never<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(ready(Err(UpstreamFailure::new(FailureKind::Unsupported, "only passes through"))))
}

impl LlmProvider for Remote {
    fn name(&self) -> &str {
        "remote"
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAi
    }

    fn is_local(&self) -> bool {
        self.is_local
    }

    fn speaks(&self, dialect: Dialect) -> bool {
        dialect == Dialect::OpenAiChat
    }

    fn forward(&self, _: WireRequest) -> Answer<'_, WireReply> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mood = self.calls.lock().unwrap().clone();
        Box::pin(async move {
            match mood {
                Mood::Well => {
                    let body = Bytes::from_static(br#"{"choices":[{"message":{"content":"x"}}]}"#);
                    Ok(WireReply { headers: http::HeaderMap::new(), body: WireBody::Full(body) })
                }
                Mood::Fails(failure) => Err(failure.at("remote")),
                Mood::Silent => std::future::pending().await,
            }
        })
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
        self.checked.fetch_add(1, Ordering::Relaxed);
        let mood = self.checks.lock().unwrap().clone();
        Box::pin(async move {
            match mood {
                Mood::Well => Ok(ProviderHealth { latency: Duration::ZERO, models: Some(1) }),
                Mood::Fails(failure) => Err(failure),
                Mood::Silent => std::future::pending().await,
            }
        })
    }
}

struct World {
    remote: Arc<Remote>,
    gateway: Gateway,
}

// === impl World ===

impl World {
    /// A provider whose calls fail like this, as often as opens its breaker for 5 s.
    async fn failing(with: UpstreamFailure) -> Self {
        let mood = || Mutex::new(Mood::Fails(with.clone()));
        let (asked, checked) = Default::default();
        let remote = Arc::new(Remote { is_local: false, calls: mood(), checks: mood(), asked, checked });
        let world = Self::of(remote);
        for _ in 0..5 {
            assert!(!world.call().await);
        }
        world
    }

    fn of(remote: Arc<Remote>) -> Self {
        let router = Router::builder().retry(RetryPolicy::ONCE).provider(Arc::clone(&remote) as _);
        Self { gateway: Gateway::builder(router.build().unwrap()).build(), remote }
    }

    /// Whether a call is answered.
    async fn call(&self) -> bool {
        let body = Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
        let call = Call::read(RequestId::new(), CallerId::new("c"), Dialect::OpenAiChat, body).unwrap();
        self.gateway.call(call).await.is_ok()
    }

    fn calls(&self, mood: Mood) {
        *self.remote.calls.lock().unwrap() = mood;
    }

    fn checks(&self, mood: Mood) {
        *self.remote.checks.lock().unwrap() = mood;
    }

    /// How often it was called, and how often asked for something free.
    fn counts(&self) -> (usize, usize) {
        (self.remote.asked.load(Ordering::Relaxed), self.remote.checked.load(Ordering::Relaxed))
    }

    fn state(&self) -> HealthState {
        let health = self.gateway.router().health();
        health.endpoints(Instant::now().into_std()).remove(0).state
    }
}

fn down() -> UpstreamFailure {
    UpstreamFailure::from_status(503, None, "down")
}

#[tokio::test(start_paused = true)]
async fn one_that_is_well_again_is_asked_before_its_rest_is_over() {
    let world = World::failing(down()).await;
    let mut events = world.gateway.events();
    assert!(!world.call().await);
    assert_eq!(world.counts(), (5, 0), "it is let alone");
    world.calls(Mood::Well);
    world.checks(Mood::Well);
    sleep(Duration::from_secs(1)).await;
    world.gateway.probe().await;
    // Half open: the next call is the one that finds out.
    assert!(
        matches!(world.state(), HealthState::Resting { rest: Duration::ZERO, .. }),
        "{:?}",
        world.state()
    );
    let told: Vec<Happened> = std::iter::from_fn(|| events.next().now_or_never().flatten())
        .map(|event| event.happened.clone())
        .filter(|happened| matches!(happened, Happened::HealthChanged(_)))
        .collect();
    let [Happened::HealthChanged(change)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&*change.provider, change.model.as_deref()), ("remote", Some("m")));
    assert!(matches!(change.state, HealthState::Resting { rest: Duration::ZERO, .. }), "{change:?}");
    world.gateway.probe().await;
    assert_eq!(world.counts(), (5, 1), "there is nothing left to find out");
    assert!(world.call().await);
    assert_eq!((world.state(), world.counts()), (HealthState::Well, (6, 1)));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_well_rests_as_long_as_it_would_have() {
    let world = World::failing(down()).await;
    for _ in 0..4 {
        sleep(Duration::from_secs(1)).await;
        world.gateway.probe().await;
    }
    assert!(!world.call().await);
    assert_eq!(world.counts(), (5, 4));
    // The rest of 5 s is a tenth longer at most, whatever was found out in it.
    world.calls(Mood::Well);
    sleep(Duration::from_millis(1_600)).await;
    world.gateway.probe().await;
    assert_eq!(world.counts(), (5, 4), "a call finds out now");
    assert!(world.call().await);
}

#[tokio::test(start_paused = true)]
async fn one_whose_calls_fail_although_it_is_well_otherwise_costs_one_call_and_no_more() {
    let world = World::failing(down()).await;
    world.checks(Mood::Well);
    world.gateway.probe().await;
    assert!(!world.call().await);
    assert_eq!(world.counts(), (6, 1));
    for _ in 0..9 {
        sleep(Duration::from_secs(1)).await;
        world.gateway.probe().await;
        assert!(!world.call().await);
    }
    assert_eq!(world.counts(), (6, 1), "its list is not believed again");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_twice_at_once_and_for_longer_than_a_probe_may_take() {
    let world = World::failing(down()).await;
    world.checks(Mood::Silent);
    let start = Instant::now();
    join(world.gateway.probe(), world.gateway.probe()).await;
    assert_eq!((world.counts(), start.elapsed()), ((5, 1), hoosh_core::limits::PROBE_TIME_MAX));
    // One that was given up locks nobody out.
    let world = World::failing(down()).await;
    world.checks(Mood::Silent);
    assert!(world.gateway.probe().now_or_never().is_none());
    world.checks(Mood::Well);
    world.calls(Mood::Well);
    world.gateway.probe().await;
    assert!(world.call().await);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_a_refused_key_and_a_machine_here_are_not_probed() {
    let after = Some(Duration::from_secs(60));
    for failure in [
        UpstreamFailure::from_status(429, None, "slow"),
        UpstreamFailure::from_status(429, after, "slow"),
        UpstreamFailure::from_status(503, after, "later"),
        UpstreamFailure::from_status(401, None, "bad key"),
    ] {
        let world = World::failing(failure.clone()).await;
        world.checks(Mood::Well);
        world.gateway.probe().await;
        assert_eq!(world.counts().1, 0, "{failure:?}");
    }
    let world = World::of(Arc::new(Remote {
        is_local: true,
        calls: Mutex::new(Mood::Fails(down())),
        checks: Mutex::new(Mood::Well),
        asked: AtomicUsize::new(0),
        checked: AtomicUsize::new(0),
    }));
    for _ in 0..5 {
        world.call().await;
    }
    world.gateway.probe().await;
    assert_eq!(world.counts(), (5, 0), "heartbeats look after it");
}
