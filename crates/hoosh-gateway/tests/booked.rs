//! What a call books, whatever becomes of it: the table of docs/budgets.md, each of its cells, in both lanes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use hoosh_budget::{Capacity, Mode, PoolId, PoolStatus, PoolTree, TokenBudget, TokenPool};
use hoosh_core::dialect::{Dialect, Operation, Quirks};
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, InferenceRequest, InferenceResponse,
    LlmProvider, ModelInfo, ProviderHealth, ProviderType, UpstreamFailure, WireBody, WireReply, WireRequest,
};
use hoosh_gateway::{
    CacheSettings, Call, CallerId, Gateway, GatewayBuilder, Reply, ReplyBody, RequestId, ResponseCache,
};
use hoosh_router::{QueueLimits, Route, RouteOptions, Router};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{sleep, timeout};

/// Six tokens of `gpt-4`, by its own vocabulary.
const WORD: &str = r#"{"choices":[{"index":0,"delta":{"content":"antidisestablishmentarianism"}}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":7}}"#;
const NOTHING: &str = r#"{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#;
const ABSURD: &str = r#"{"choices":[],"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}}"#;
const LESS: &str = r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":1}}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const DONE: &str = "[DONE]";

/// What the prompt of the calls here has by that vocabulary.
const PROMPT: u64 = 8;

/// What a provider does.
#[derive(Debug, Clone, Copy)]
enum Script {
    /// Answers with one word, and says this of usage.
    Whole(&'static str),
    /// Streams this to its end.
    Streams(&'static [&'static str]),
    /// Streams this, and breaks.
    Breaks(&'static [&'static str]),
    /// Streams this, and then nothing more.
    Stalls(&'static [&'static str]),
    /// Answers like the first after so many milliseconds.
    Late(u64),
    Fails,
    FailsLate(u64),
    Silence,
}

/// A provider that takes bodies as they are, or requests that were read: what it does is the same.
#[derive(Debug)]
struct Scripted {
    name: &'static str,
    passes: bool,
    script: Mutex<Script>,
    asked: AtomicUsize,
}

impl Scripted {
    async fn body(&self) -> Result<WireBody, UpstreamFailure> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let whole = |usage: &str| {
            let end = usage.strip_prefix(r#"{"choices":[]"#).unwrap_or("}");
            let text = format!(
                r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"antidisestablishmentarianism"}},"finish_reason":"stop"}}]{end}"#
            );
            WireBody::Full(text.into())
        };
        let pieces = |events: &'static [&'static str]| {
            let piece = |event: &&str| Ok(Bytes::from(format!("data: {event}\n\n")));
            stream::iter(events.iter().map(piece))
        };
        let broken = || UpstreamFailure::new(FailureKind::Broken, "as scripted");
        let script = *self.script.lock().unwrap();
        Ok(match script {
            Script::Whole(usage) => whole(usage),
            Script::Late(millis) => {
                sleep(Duration::from_millis(millis)).await;
                whole(USAGE)
            }
            Script::Streams(events) => WireBody::Stream(Box::pin(pieces(events))),
            Script::Breaks(events) => {
                WireBody::Stream(Box::pin(pieces(events).chain(stream::iter([Err(broken())]))))
            }
            Script::Stalls(events) => WireBody::Stream(Box::pin(pieces(events).chain(stream::pending()))),
            Script::Fails => return Err(UpstreamFailure::new(FailureKind::Failed, "as scripted")),
            Script::FailsLate(millis) => {
                sleep(Duration::from_millis(millis)).await;
                return Err(UpstreamFailure::new(FailureKind::Failed, "as scripted"));
            }
            Script::Silence => std::future::pending().await,
        })
    }
}

impl LlmProvider for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAi
    }

    fn is_local(&self) -> bool {
        false
    }

    fn speaks(&self, dialect: Dialect) -> bool {
        self.passes || dialect.operation() == Operation::Plain
    }

    fn forward(&self, _: WireRequest) -> BoxFuture<'_, Result<WireReply, UpstreamFailure>> {
        Box::pin(async { Ok(WireReply { headers: http::HeaderMap::new(), body: self.body().await? }) })
    }

    fn infer<'a>(
        &'a self,
        _: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<InferenceResponse, UpstreamFailure>> {
        Box::pin(async {
            let WireBody::Full(body) = self.body().await? else { panic!("it streams") };
            Ok(Dialect::OpenAiChat.codec().unwrap().decode_reply(&body).unwrap())
        })
    }

    fn infer_stream<'a>(
        &'a self,
        _: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<EventStream, UpstreamFailure>> {
        Box::pin(async {
            let WireBody::Stream(bytes) = self.body().await? else { panic!("it does not stream") };
            let mut decoder = Dialect::OpenAiChat.codec().unwrap().stream_decoder(Quirks::NONE);
            let events = bytes.flat_map(move |piece| {
                let mut events = Vec::new();
                let pushed = match piece {
                    Ok(piece) if piece.ends_with(b"[DONE]\n\n") => {
                        decoder.push(&piece, &mut events).unwrap();
                        decoder.finish(&mut events).map_err(UpstreamFailure::from)
                    }
                    Ok(piece) => decoder.push(&piece, &mut events).map_err(UpstreamFailure::from),
                    Err(failure) => {
                        let _truncated = decoder.finish(&mut events);
                        Err(failure)
                    }
                };
                stream::iter(events.into_iter().map(Ok).chain(pushed.err().map(Err)))
            });
            Ok(EventStream::new(events))
        })
    }

    fn embed<'a>(
        &'a self,
        _: &'a str,
        _: &'a EmbeddingRequest,
    ) -> BoxFuture<'a, Result<EmbeddingResponse, UpstreamFailure>> {
        Box::pin(async {
            self.body().await?;
            let usage = match *self.script.lock().unwrap() {
                Script::Whole(USAGE) => Some(hoosh_core::Usage { input: Some(20), ..Default::default() }),
                _ => None,
            };
            Ok(EmbeddingResponse { embeddings: vec![vec![0.5]], usage, ..Default::default() })
        })
    }

    fn list_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn health_check(&self) -> BoxFuture<'_, Result<ProviderHealth, UpstreamFailure>> {
        Box::pin(async { Ok(ProviderHealth { latency: Duration::ZERO, models: None }) })
    }
}

/// A gateway with a hard pool before providers that are asked in their order.
struct World {
    gateway: Gateway,
    budget: TokenBudget,
    providers: Vec<Arc<Scripted>>,
}

impl World {
    fn new(passes: bool, scripts: &[Script], tokens: u64) -> Self {
        Self::with(passes, scripts, tokens, RouteOptions::default(), |builder| builder)
    }

    fn with(
        passes: bool,
        scripts: &[Script],
        tokens: u64,
        options: RouteOptions,
        change: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let mut pool = TokenPool::new(PoolId::new("key", "tester").unwrap());
        pool.capacity = Capacity::tokens(tokens);
        let budget = TokenBudget::in_memory(vec![pool]).unwrap();
        let names = ["a", "b", "c"];
        let scripted = scripts.iter().zip(names).map(|(script, name)| {
            let (script, asked) = (Mutex::new(*script), AtomicUsize::new(0));
            Arc::new(Scripted { name, passes, script, asked })
        });
        let providers: Vec<_> = scripted.collect();
        let targets = providers.iter().map(|provider| format!("{}/gpt-4", provider.name));
        let mut router = Router::builder().hedge_percent(100).alias("fast", targets);
        for (provider, priority) in providers.iter().zip(1..) {
            let route = Route { priority, options, ..Route::to(provider.name) };
            router = router.provider(Arc::clone(provider) as Arc<dyn LlmProvider>).route(route);
        }
        let builder = Gateway::builder(router.build().unwrap()).budget(budget.clone());
        Self { gateway: change(builder).build(), budget, providers }
    }

    fn call(&self, stream: bool) -> Call {
        let body = format!(
            r#"{{"model":"fast","max_tokens":40,"stream":{stream},"messages":[{{"role":"user","content":"x"}}]}}"#
        );
        self.of(Dialect::OpenAiChat, body)
    }

    fn of(&self, dialect: Dialect, body: String) -> Call {
        Call::read(RequestId::new(), CallerId::new("tester"), dialect, body.into()).unwrap()
    }

    async fn status(&self) -> PoolStatus {
        let pools = self.budget.ledger().statuses(None, 1, Timestamp::now()).await.unwrap();
        pools.into_iter().next().unwrap()
    }

    /// What is booked, when nothing is held any more and nothing went beyond what was.
    #[track_caller]
    fn booked(&self) -> u64 {
        let status = self.status().now_or_never().unwrap();
        assert_eq!((status.reserved.tokens, status.overrun.tokens), (0, 0), "{status:?}");
        status.settled.tokens
    }
}

async fn to_the_end(reply: Reply) {
    if let ReplyBody::Stream(stream) = reply.body {
        stream.collect::<Vec<_>>().await;
    }
}

/// What is booked of one call that is taken to its end.
async fn ended(passes: bool, script: Script) -> u64 {
    let world = World::new(passes, &[script], 1_000);
    let is_stream = !matches!(script, Script::Whole(_) | Script::Late(_));
    if let Ok(reply) = world.gateway.call(world.call(is_stream)).await {
        to_the_end(reply).await;
    }
    world.booked()
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ends_books_what_is_known_of_it() {
    let counted = PROMPT + 6;
    for passes in [true, false] {
        for (script, expect) in [
            // Whole: the provider's word, unless it says none or none that can be.
            (Script::Whole(USAGE), 27),
            (Script::Whole(""), counted),
            (Script::Whole(NOTHING), counted),
            (Script::Whole(ABSURD), counted),
            (Script::Whole(LESS), 3),
            // Streamed.
            (Script::Streams(&[WORD, STOP, USAGE, DONE]), 27),
            (Script::Streams(&[WORD, STOP, DONE]), counted),
            (Script::Streams(&[WORD, STOP, NOTHING, DONE]), counted),
            (Script::Streams(&[WORD, STOP, ABSURD, DONE]), counted),
            (Script::Streams(&[WORD, STOP, LESS, DONE]), 3),
            // Broken before the first output: nothing; after it: what was said, and what was passed on.
            (Script::Fails, 0),
            (Script::Breaks(&[]), 0),
            (Script::Breaks(&[WORD, WORD]), PROMPT + 12),
            (Script::Breaks(&[USAGE, WORD, WORD]), 20 + 12),
            (Script::Breaks(&[WORD, ABSURD]), counted),
        ] {
            assert_eq!(ended(passes, script).await, expect, "passed through: {passes}, {script:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_pays_for_what_it_got() {
    for passes in [true, false] {
        // Before anybody is asked, and while it waits in line.
        let world = World::new(passes, &[Script::Silence], 1_000);
        drop(world.gateway.call(world.call(true)));
        assert_eq!(world.booked(), 0);
        let one = QueueLimits { concurrent: 1, waiting: 9, per_model: None };
        let world =
            World::with(passes, &[Script::Stalls(&[WORD])], 1_000, RouteOptions::default(), |builder| {
                builder.queue("a", one)
            });
        let first = world.gateway.call(world.call(true)).await.unwrap();
        assert!(timeout(Duration::from_secs(1), world.gateway.call(world.call(true))).await.is_err());
        assert_eq!(world.status().await.settled.tokens, 0, "who waited was not asked");
        // In the middle: the prompt, and the word it was given.
        let ReplyBody::Stream(mut stream) = first.body else { panic!("it streams") };
        assert!(stream.next().await.is_some());
        drop(stream);
        assert_eq!(world.booked(), PROMPT + 6);
        // Of many words those that it took.
        const MANY: &[&str] = &[WORD, WORD, WORD, WORD, WORD];
        for taken in 1..=3 {
            let world = World::new(true, &[Script::Stalls(MANY)], 1_000);
            let reply = world.gateway.call(world.call(true)).await.unwrap();
            let ReplyBody::Stream(stream) = reply.body else { panic!("it streams") };
            stream.take(taken).collect::<Vec<_>>().await;
            assert_eq!(world.booked(), PROMPT + 6 * taken as u64);
        }
        // After somebody was asked, before any output.
        let world = World::new(passes, &[Script::Silence], 1_000);
        assert!(timeout(Duration::from_secs(1), world.gateway.call(world.call(true))).await.is_err());
        assert_eq!(world.booked(), PROMPT);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_over_and_one_that_is_stopped_pay_like_one_whose_client_left() {
    for passes in [true, false] {
        let limit = Some(Duration::from_secs(5));
        let options = RouteOptions::default();
        let world =
            World::with(passes, &[Script::Silence], 1_000, options, |builder| builder.answer_time_max(limit));
        assert!(world.gateway.call(world.call(true)).await.is_err());
        assert_eq!(world.booked(), PROMPT, "the time was over while one was asked");
        let world = World::new(passes, &[Script::Stalls(&[WORD])], 1_000);
        let ReplyBody::Stream(mut stream) = world.gateway.call(world.call(true)).await.unwrap().body else {
            panic!("it streams")
        };
        assert!(stream.next().await.is_some() && stream.stop().is_some());
        assert_eq!(world.booked(), PROMPT + 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_cut_at_the_token_where_its_pool_ends_and_holds_more_while_that_has_some() {
    const MANY: &[&str] = &[WORD, WORD, WORD, WORD, WORD, WORD, WORD, WORD, WORD, WORD, STOP, DONE];
    for passes in [true, false] {
        for (tokens, words) in [(20, 2), (25, 2), (26, 3)] {
            let world = World::new(passes, &[Script::Streams(MANY)], tokens);
            let reply = world.gateway.call(world.call(true)).await.unwrap();
            assert_eq!(reply.head.budget_limit, Some(tokens - PROMPT));
            to_the_end(reply).await;
            assert_eq!(world.booked(), PROMPT + 6 * words, "{passes}: of {tokens}");
        }
        // The 40 tokens that it was to write at most it does not keep to, and its pool has more.
        let world = World::new(passes, &[Script::Streams(MANY)], 1_000);
        let reply = world.gateway.call(world.call(true)).await.unwrap();
        assert_eq!(reply.head.budget_limit, None);
        to_the_end(reply).await;
        assert_eq!(world.booked(), PROMPT + 60);
    }
}

#[tokio::test(start_paused = true)]
async fn others_who_were_asked_are_in_it() {
    for passes in [true, false] {
        // One that failed takes nothing, tried again or not.
        let world = World::new(passes, &[Script::Fails, Script::Whole(USAGE)], 1_000);
        to_the_end(world.gateway.call(world.call(false)).await.unwrap()).await;
        assert_eq!(world.booked(), 27);
        // From the cache nothing is taken.
        let cache = || {
            Arc::new(ResponseCache::new(CacheSettings { any_temperature: true, ..CacheSettings::default() }))
        };
        let world = World::with(passes, &[Script::Whole(USAGE)], 1_000, RouteOptions::default(), |builder| {
            builder.cache(cache())
        });
        for _ in 0..3 {
            to_the_end(world.gateway.call(world.call(false)).await.unwrap()).await;
        }
        assert_eq!(world.booked(), 27);
    }
    // The part that broke, and who went on with it: both have read the prompt.
    let continues = RouteOptions { continues: true, prefills: Some(true), ..RouteOptions::default() };
    let scripts = [Script::Breaks(&[WORD]), Script::Streams(&[WORD, STOP, USAGE, DONE])];
    let world = World::with(false, &scripts, 1_000, continues, |builder| builder);
    to_the_end(world.gateway.call(world.call(true)).await.unwrap()).await;
    assert_eq!(world.booked(), PROMPT + 6 + 27);
    // Nobody goes on where nothing is left to read the prompt once more.
    let world = World::with(false, &scripts, PROMPT + 40 + 9, continues, |builder| builder);
    to_the_end(world.gateway.call(world.call(true)).await.unwrap()).await;
    let asked = world.providers.iter().map(|one| one.asked.load(Ordering::Relaxed));
    assert_eq!((asked.collect::<Vec<_>>(), world.booked()), (vec![1, 0], PROMPT + 6));
}

#[tokio::test(start_paused = true)]
async fn a_second_one_is_asked_beside_a_slow_one_only_where_its_prompt_is_held_too() {
    let hedging = RouteOptions { hedges: true, ..RouteOptions::default() };
    for (left, slow, expect, asked) in [
        (PROMPT + 40 + PROMPT, Script::Late(900), 27 + PROMPT, 1),
        // The slow one answers; and if it fails, the other is asked in its place.
        (PROMPT + 40 + PROMPT - 1, Script::Late(900), 27, 0),
        (PROMPT + 40 + PROMPT - 1, Script::FailsLate(900), 27, 1),
    ] {
        const USED: u64 = 20 * 27;
        let scripts = [Script::Late(20), Script::Late(20)];
        let world = World::with(true, &scripts, USED + left, hedging, |builder| builder);
        for _ in 0..20 {
            to_the_end(world.gateway.call(world.call(false)).await.unwrap()).await;
        }
        // Known to be fast, it is slow now.
        *world.providers[0].script.lock().unwrap() = slow;
        to_the_end(world.gateway.call(world.call(false)).await.unwrap()).await;
        assert_eq!(world.booked(), USED + expect);
        assert_eq!(world.providers[1].asked.load(Ordering::Relaxed), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_conversation_is_booked_too() {
    let embedding = r#"{"model":"fast","input":["antidisestablishmentarianism","x"]}"#;
    let moderation = r#"{"model":"fast","input":"antidisestablishmentarianism, and more of it"}"#;
    let count = r#"{"model":"fast","messages":[{"role":"user","content":"x"}]}"#;
    for (script, dialect, body, expect) in [
        (Script::Whole(USAGE), Dialect::OpenAiEmbeddings, embedding, 20),
        (Script::Whole(""), Dialect::OpenAiEmbeddings, embedding, 7),
        // Nobody says, and a token is some four bytes.
        (Script::Whole(""), Dialect::Moderations, moderation, moderation.len() as u64 / 4),
        (Script::Whole(""), Dialect::AnthropicCount, count, 0),
    ] {
        let world = World::new(false, &[script], 1_000);
        let asked = world.gateway.call(world.of(dialect, body.to_owned())).await;
        assert!(asked.is_ok(), "{dialect}: {asked:?}");
        assert_eq!(world.booked(), expect, "{dialect}, {script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_soft_pool_holds_more_as_a_stream_grows_and_a_lease_is_renewed_where_chunks_pass() {
    const MANY: &[&str] = &[WORD; 200];
    for is_renewed in [true, false] {
        let world = World::new(true, &[Script::Stalls(MANY)], 100);
        let mut pool = TokenPool::new(PoolId::new("key", "tester").unwrap());
        (pool.capacity, pool.mode) = (Capacity::tokens(100), Mode::Soft);
        let now = Timestamp::now();
        world.budget.reconfigured(PoolTree::new(vec![pool]).unwrap(), now).await.unwrap();
        let ReplyBody::Stream(mut stream) = world.gateway.call(world.call(true)).await.unwrap().body else {
            panic!("it streams")
        };
        assert_eq!(world.status().await.reserved.tokens, PROMPT + 40);
        for _ in 0..10 {
            stream.next().await.unwrap();
        }
        assert_eq!(world.status().await.reserved.tokens, PROMPT + 40 + 256);
        // The ledger goes by the clock, the half of the lease by the runtime's.
        std::thread::sleep(Duration::from_millis(60));
        if is_renewed {
            tokio::time::advance(Duration::from_secs(1_801)).await;
        }
        stream.next().await.unwrap();
        let over = now + SignedDuration::from_secs(3_600) + SignedDuration::from_millis(50);
        let expired = world.budget.ledger().reap(over).await.unwrap();
        assert_eq!(expired, usize::from(!is_renewed));
        stream.take(189).collect::<Vec<_>>().await;
        assert_eq!(world.booked(), PROMPT + 6 * 200, "beyond what it has, as it is soft");
    }
}
