//! Whole calls through scripted providers.

use futures_util::StreamExt;
use hoosh_core::{FailureKind, NoRouteCause, StreamEvent};

use super::*;
use crate::breaker::BreakerPolicy;
use crate::scripted::{Act, Scripted, failure, finish, start, text};

/// A router over these, in this order, who all serve everything.
fn router(providers: &[Arc<Scripted>]) -> Router {
    // Each act is for one call.
    let mut builder = Router::builder().retry(RetryPolicy::ONCE);
    for provider in providers {
        builder = builder.provider(Arc::clone(provider) as Arc<dyn LlmProvider>);
    }
    builder.build().unwrap()
}

fn request(model: &str) -> InferenceRequest {
    InferenceRequest { model: model.into(), prompt: "hi".into(), ..Default::default() }
}

#[tokio::test]
async fn the_next_provider_answers_when_the_first_cannot() {
    let a = Scripted::new("a", [Act::Fail(FailureKind::RateLimited)]);
    let b = Scripted::new("b", [Act::Text("hi")]);
    let c = Scripted::new("c", []);
    let answer = router(&[Arc::clone(&a), b, Arc::clone(&c)]).infer(&request("m")).await.unwrap();
    assert_eq!((&*answer.value.text, answer.attempts()), ("hi", 2));
    assert_eq!(answer.candidate.to_string(), "b/m");
    assert_eq!(answer.failures, [failure(FailureKind::RateLimited).at("a")]);
    assert_eq!((a.calls().len(), c.calls().len()), (1, 0));
}

#[tokio::test]
async fn a_failure_that_nobody_can_mend_ends_the_call() {
    let a = Scripted::new("a", [Act::Fail(FailureKind::Invalid)]);
    let b = Scripted::new("b", []);
    let error = router(&[a, Arc::clone(&b)]).infer(&request("m")).await.unwrap_err();
    assert_eq!(error, HooshError::Upstream(vec![failure(FailureKind::Invalid).at("a")]));
    assert!(b.calls().is_empty());
}

#[tokio::test]
async fn every_failure_is_told_when_nobody_answers() {
    let a = Scripted::new("a", [Act::Fail(FailureKind::Connect)]);
    let b = Scripted::new("b", [Act::Fail(FailureKind::NotFound)]);
    let error = router(&[a, b]).infer(&request("m")).await.unwrap_err();
    let failures = vec![failure(FailureKind::Connect).at("a"), failure(FailureKind::NotFound).at("b")];
    assert_eq!(error, HooshError::Upstream(failures));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_goes_on_in_the_next_router_but_for_other_servers() {
    let once = BreakerPolicy { failures: 1, ..BreakerPolicy::default() };
    let next = |health: &Arc<Health>, act: &[Act]| {
        let (a, b) = (Scripted::new("a", act.to_vec()), Scripted::new("b", act.to_vec()));
        let builder = Router::builder().retry(RetryPolicy::ONCE).health(Arc::clone(health));
        builder.provider(a as _).provider(b as _).build().unwrap()
    };
    let failing = next(&Arc::new(Health::new(once)), &[Act::Fail(FailureKind::Connect)]);
    failing.infer(&request("m")).await.unwrap_err();

    // `b` is another server now: the first knows that both rest, the second knows nothing of it.
    let health = Arc::new(failing.health().after(BreakerPolicy::default(), |name| name == "a"));
    let answer = next(&health, &[Act::Text("hi")]).infer(&request("m")).await.unwrap();
    assert_eq!((answer.candidate.to_string(), answer.attempts()), ("b/m".to_owned(), 1));
    let error = failing.infer(&request("m")).await.unwrap_err();
    assert!(matches!(error, HooshError::Resting { .. }), "{error:?}");
    let known = health.after(once, |_| false).endpoints(now());
    assert!(known.is_empty(), "who is gone is forgotten: {known:?}");
}

#[tokio::test]
async fn a_model_that_nobody_serves_is_asked_of_nobody() {
    let a = Scripted::new("a", []);
    let route = Route { models: vec!["llama3".into()], ..Route::to("a") };
    let router = Router::builder().provider(Arc::clone(&a) as _).route(route).build().unwrap();
    let error = router.infer(&request("lama3")).await.unwrap_err();
    let no_route = NoRoute {
        model: "lama3".into(),
        considered: vec![],
        near: vec!["llama3".into()],
        cause: NoRouteCause::Model,
    };
    assert_eq!(error, HooshError::NoRoute(no_route));
    assert!(a.calls().is_empty());
}

#[tokio::test]
async fn a_provider_is_asked_by_its_own_name_for_the_model() {
    let a = Scripted::new("a", [Act::Text("1"), Act::Text("2")]);
    let router =
        Router::builder().provider(Arc::clone(&a) as _).alias("fast", ["a/llama3:8b"]).build().unwrap();
    router.infer(&request("fast")).await.unwrap();
    router.infer(&request("a/org/model")).await.unwrap();
    assert_eq!(a.calls(), ["llama3:8b", "org/model"]);
}

#[tokio::test]
async fn embeddings_fail_over_too() {
    let a = Scripted::new("a", [Act::Fail(FailureKind::Unsupported)]);
    let b = Scripted::new("b", [Act::Text("hi")]);
    let request = EmbeddingRequest { model: "m".into(), input: vec!["hi".into()], ..Default::default() };
    let answer = router(&[a, b]).embed(&request).await.unwrap();
    assert_eq!((answer.value.embeddings, answer.candidate.provider.name()), (vec![vec![0.5, 0.5]], "b"));
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_output_is_taken_over_in_silence() {
    let a = Scripted::new("a", [Act::Stream(vec![Ok(start()), Ok(text("")), Err(FailureKind::Failed)])]);
    let b = Scripted::new("b", [Act::Fail(FailureKind::Connect)]);
    let c = Scripted::new("c", [Act::Text("hi")]);
    let answer = router(&[a, b, c]).infer_stream(&request("m")).await.unwrap();
    assert_eq!(answer.attempts(), 3);
    assert_eq!(answer.failures[0], failure(FailureKind::Failed).at("a"));
    let events: Vec<_> = answer.value.events.collect().await;
    assert_eq!(events, [Ok(start()), Ok(text("hi")), Ok(finish())]);
}

#[tokio::test]
async fn a_stream_that_fails_after_its_first_output_is_not_taken_over() {
    let a = Scripted::new("a", [Act::Stream(vec![Ok(start()), Ok(text("h")), Err(FailureKind::Broken)])]);
    let b = Scripted::new("b", []);
    let answer = router(&[a, Arc::clone(&b)]).infer_stream(&request("m")).await.unwrap();
    let events: Vec<Result<StreamEvent, _>> = answer.value.events.collect().await;
    assert_eq!(events, [Ok(start()), Ok(text("h")), Err(failure(FailureKind::Broken).at("a"))]);
    assert!(b.calls().is_empty());
}

fn first_of(router: &Router, model: &str) -> String {
    router.plan(&Query { model, ..Query::default() }).unwrap().candidates[0].provider.name().to_owned()
}

fn taking_turns() -> Router {
    let provider = |name| Scripted::new(name, []) as Arc<dyn LlmProvider>;
    let builder = Router::builder().strategy(Strategy::RoundRobin);
    builder.provider(provider("a")).provider(provider("b")).build().unwrap()
}

#[test]
fn providers_of_equal_priority_take_turns() {
    let router = taking_turns();
    let firsts: Vec<String> = (0..4).map(|_| first_of(&router, "m")).collect();
    assert_eq!(firsts, ["a", "b", "a", "b"]);
    assert_eq!(first_of(&router.clone(), "m"), "a");
    assert_eq!(first_of(&router, "m"), "b", "a clone takes the same turns");
}

#[test]
fn two_models_that_are_asked_alternately_both_reach_every_provider() {
    let router = taking_turns();
    let firsts: Vec<(String, String)> =
        (0..2).map(|_| (first_of(&router, "chat"), first_of(&router, "embed"))).collect();
    assert_eq!(firsts, [("a".into(), "a".into()), ("b".into(), "b".into())]);
}

#[test]
fn providers_are_found_by_name_and_listed_in_order() {
    let router = taking_turns();
    assert_eq!(router.provider("b").map(|provider| provider.name()), Some("b"));
    assert!(router.provider("c").is_none());
    let names: Vec<&str> = router.providers().map(|provider| provider.name()).collect();
    assert_eq!(names, ["a", "b"]);
}

/// A server awaits these inside a connection's task. Never called.
#[expect(dead_code, reason = "that it compiles is the fact")]
fn calls_can_move_between_threads(router: &Router, chat: &InferenceRequest, embed: &EmbeddingRequest) {
    fn check<T: Send>(_: T) {}
    check(router.infer(chat));
    check(router.infer_stream(chat));
    check(router.embed(embed));
    check(router.clone());
}
