//! Whoever works on a call beside the one that answers is in its books.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    Choice, ContextPolicy, ContextRule, EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind,
    FinishReason, InferenceRequest, InferenceResponse, LlmProvider, ModelInfo, Part, ProviderHealth,
    ProviderType, StreamEvent, UpstreamFailure,
};
use hoosh_gateway::{Call, CallRecord, CallerId, Gateway, LegKind, Observer, Outcome, ReplyBody, RequestId};
use hoosh_router::{Route, RouteOptions, Router};
use tokio::time::{Instant, sleep};

type Answer<'a, T> = BoxFuture<'a, Result<T, UpstreamFailure>>;

/// What a provider does, after so many milliseconds.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Answers, or streams this much.
    Says(u64, &'static str),
    /// Streams this much, and breaks.
    Breaks(&'static str),
    Fails(u64, FailureKind),
}

/// A provider for core's types, of a kind whose prices are known.
#[derive(Debug)]
struct Scripted(&'static str, Mutex<Act>);

impl Scripted {
    async fn plays(&self) -> Result<(&'static str, bool), UpstreamFailure> {
        let act = *self.1.lock().unwrap();
        match act {
            Act::Says(millis, text) => {
                sleep(Duration::from_millis(millis)).await;
                Ok((text, false))
            }
            Act::Breaks(text) => Ok((text, true)),
            Act::Fails(millis, kind) => {
                sleep(Duration::from_millis(millis)).await;
                Err(UpstreamFailure::new(kind, "as scripted").at(self.0))
            }
        }
    }
}

impl LlmProvider for Scripted {
    fn name(&self) -> &str {
        self.0
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAi
    }

    fn is_local(&self) -> bool {
        false
    }

    fn infer<'a>(&'a self, _: &'a str, _: &'a InferenceRequest) -> Answer<'a, InferenceResponse> {
        Box::pin(async {
            let (text, _) = self.plays().await?;
            let choice = Choice { parts: vec![Part::text(text)], ..Choice::default() };
            Ok(InferenceResponse::from_choices(vec![choice]))
        })
    }

    fn infer_stream<'a>(&'a self, _: &'a str, _: &'a InferenceRequest) -> Answer<'a, EventStream> {
        Box::pin(async {
            let (text, breaks) = self.plays().await?;
            let start = StreamEvent::Start { id: "1".into(), model: "m".into(), created: None };
            let said = StreamEvent::Text { choice: 0, delta: text.to_owned() };
            let end = match breaks {
                true => Err(UpstreamFailure::new(FailureKind::Broken, "as scripted").at(self.0)),
                false => Ok(StreamEvent::Finish { choice: 0, reason: FinishReason::Stop }),
            };
            Ok(EventStream::new(stream::iter([Ok(start), Ok(said), end])))
        })
    }

    fn embed<'a>(&'a self, _: &'a str, _: &'a EmbeddingRequest) -> Answer<'a, EmbeddingResponse> {
        Box::pin(async { Err(UpstreamFailure::new(FailureKind::Unsupported, "no vectors")) })
    }

    fn list_models(&self) -> Answer<'_, Vec<ModelInfo>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn health_check(&self) -> Answer<'_, ProviderHealth> {
        Box::pin(async { Ok(ProviderHealth { latency: Duration::ZERO, models: None }) })
    }
}

#[derive(Default)]
struct Book(Mutex<Vec<CallRecord>>);

impl Observer for Book {
    fn call_settled(&self, record: &CallRecord) {
        self.0.lock().unwrap().push(record.clone());
    }
}

/// A gateway before providers that are asked in their order, for `gpt-4` by the name `fast`.
struct World {
    gateway: Gateway,
    book: Arc<Book>,
    providers: Vec<Arc<Scripted>>,
}

/// A word that has six tokens for `gpt-4`, by its own vocabulary.
const WORD: &str = "antidisestablishmentarianism";

impl World {
    fn of(names: &[&'static str], options: RouteOptions, context: Option<ContextRule>) -> Self {
        let providers: Vec<_> =
            names.iter().map(|name| Arc::new(Scripted(name, Mutex::new(Act::Says(0, ""))))).collect();
        let context = context.map(Arc::new);
        let targets = names.iter().map(|name| format!("{name}/gpt-4"));
        let mut router = Router::builder().hedge_percent(100).alias("fast", targets);
        for (provider, priority) in providers.iter().zip(1..) {
            let route = Route { priority, options, context: context.clone(), ..Route::to(provider.0) };
            router = router.provider(Arc::clone(provider) as Arc<dyn LlmProvider>).route(route);
        }
        let book = Arc::new(Book::default());
        let gateway = Gateway::builder(router.build().unwrap());
        Self { gateway: gateway.observer(Arc::clone(&book) as Arc<dyn Observer>).build(), book, providers }
    }

    fn act(&self, acts: &[Act]) {
        self.providers.iter().zip(acts).for_each(|(provider, act)| *provider.1.lock().unwrap() = *act);
    }

    /// A call of these turns, to the end of its answer, and its record.
    async fn call(&self, stream: bool, messages: &[&str]) -> CallRecord {
        let turn = |(at, text): (usize, &&str)| {
            let role = if at % 2 == 0 { "user" } else { "assistant" };
            format!(r#"{{"role":"{role}","content":"{text}"}}"#)
        };
        let messages: Vec<_> = messages.iter().enumerate().map(turn).collect();
        let body = format!(r#"{{"model":"fast","stream":{stream},"messages":[{}]}}"#, messages.join(","));
        let caller = CallerId::new("tester");
        let call = Call::read(RequestId::new(), caller, Dialect::OpenAiChat, body.into()).unwrap();
        if let Ok(reply) = self.gateway.call(call).await
            && let ReplyBody::Stream(stream) = reply.body
        {
            stream.collect::<Vec<_>>().await;
        }
        self.book.0.lock().unwrap().pop().unwrap()
    }

    /// One of which it is known that the first answers within 20 ms.
    async fn used_to_twenty(context: Option<ContextRule>) -> Self {
        let hedging = RouteOptions { hedges: true, ..RouteOptions::default() };
        let world = Self::of(&["a", "b"], hedging, context);
        world.act(&[Act::Says(20, "x"), Act::Says(0, "x")]);
        for _ in 0..20 {
            world.call(false, &["x"]).await;
        }
        world
    }
}

/// The legs of a call: who, what became of it, and the tokens of its prompt.
fn legs(record: &CallRecord) -> Vec<(&str, LegKind, Option<u64>)> {
    let leg = |leg: &'_ hoosh_gateway::Leg| leg.usage.and_then(|usage| usage.input);
    record.legs.iter().map(|one| (one.provider.as_str(), one.kind, leg(one))).collect()
}

#[tokio::test(start_paused = true)]
async fn one_let_go_of_since_the_other_failed_for_good_is_booked() {
    let world = World::used_to_twenty(None).await;
    world.act(&[Act::Fails(30, FailureKind::Invalid), Act::Says(900, "x")]);
    let record = world.call(false, &["x"]).await;
    assert!(matches!(record.outcome, Outcome::Failed(_)), "{record:?}");
    assert_eq!((record.attempts, legs(&record)), (2, vec![("b", LegKind::Hedge, Some(8))]));
    assert_eq!(record.cost, record.legs[0].cost);
    assert!(record.cost.is_some_and(|cost| cost.0 > 0));
}

#[tokio::test(start_paused = true)]
async fn one_let_go_of_is_booked_with_what_it_was_sent() {
    let world = World::used_to_twenty(None).await;
    world.act(&[Act::Says(900, "x"), Act::Says(0, "x")]);
    // As its own model counts, whatever name the model was asked for by.
    assert_eq!(legs(&world.call(false, &[WORD]).await), [("a", LegKind::Slow, Some(13))]);
    // And what was left of it.
    let rule =
        ContextRule { policy: Some(ContextPolicy::DropOldest), window: Some(40), ..ContextRule::default() };
    let world = World::used_to_twenty(Some(rule)).await;
    world.act(&[Act::Says(900, "x"), Act::Says(0, "x")]);
    let record = world.call(false, &[WORD; 9]).await;
    let sent = record.context.as_ref().unwrap().tokens;
    assert!(sent < 40, "{record:?}");
    assert_eq!(legs(&record), [("a", LegKind::Slow, Some(sent))]);
}

fn continued() -> World {
    let options = RouteOptions { continues: true, prefills: Some(true), ..RouteOptions::default() };
    World::of(&["a", "b", "c"], options, None)
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_leaves_time_for_the_next_and_is_booked() {
    let world = continued();
    world.act(&[Act::Breaks("Once "), Act::Says(90_000, "x"), Act::Says(0, "upon a time")]);
    let start = Instant::now();
    let record = world.call(true, &["x"]).await;
    assert_eq!((record.outcome.clone(), start.elapsed().as_secs()), (Outcome::Answered, 10));
    // The prompt, and the text that was there; three tokens stand around a message.
    let expect = [("a", LegKind::Broken, Some(8)), ("b", LegKind::GivenUp, Some(8 + 3 + 1 + 1))];
    assert_eq!((record.attempts, legs(&record)), (3, expect.to_vec()));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_to_go_on_is_counted() {
    let world = continued();
    world.act(&[Act::Breaks("Once "), Act::Fails(0, FailureKind::Failed), Act::Says(0, "upon")]);
    let record = world.call(true, &["x"]).await;
    assert_eq!((record.attempts, legs(&record).len()), (3, 1));
    world.act(&[
        Act::Breaks("Once "),
        Act::Fails(0, FailureKind::Failed),
        Act::Fails(0, FailureKind::Failed),
    ]);
    let record = world.call(true, &["x"]).await;
    assert!(matches!(record.outcome, Outcome::Truncated(_)), "{record:?}");
    // The first once more, which breaks again, and then the others once more.
    assert_eq!(record.attempts, 6, "{record:?}");
}
