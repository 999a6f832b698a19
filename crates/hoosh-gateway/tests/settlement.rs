//! Every call is told to the observers and written into the audit log exactly once, whatever its end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use hoosh_audit::{AuditLog, Fsync, KeyRing, MemorySink, Options};
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, HooshError, InferenceRequest,
    InferenceResponse, LlmProvider, ModelInfo, NanoUsd, ProviderHealth, ProviderType, Refusal,
    UpstreamFailure, WireBody, WireReply, WireRequest,
};
use hoosh_gateway::{
    Audit, CacheSettings, CacheUse, Call, CallRecord, CallerId, Gateway, Guard, Observer, Outcome, ReplyBody,
    RequestId, ResponseCache,
};
use hoosh_router::Router;
use serde_json::Value;
use tokio::task::JoinSet;

const CHUNK: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n";
const WHOLE: &str = r#"{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1000000,"completion_tokens":1000000}}"#;

/// What the provider does.
#[derive(Debug, Clone)]
enum Script {
    Whole(&'static str),
    Pieces(Vec<&'static str>),
    /// Pieces, and then silence.
    Stalls(Vec<&'static str>),
    Fails,
    Silence,
}

/// A provider that takes chat bodies as they are. It is taken for OpenAI, whose prices are known.
#[derive(Debug)]
struct Scripted(Script);

impl LlmProvider for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAi
    }

    fn is_local(&self) -> bool {
        false
    }

    fn speaks(&self, dialect: Dialect) -> bool {
        dialect == Dialect::OpenAiChat
    }

    fn forward(&self, _: WireRequest) -> BoxFuture<'_, Result<WireReply, UpstreamFailure>> {
        Box::pin(async {
            let pieces = |pieces: &[&'static str]| {
                stream::iter(pieces.to_vec()).map(|piece| Ok(Bytes::from_static(piece.as_bytes())))
            };
            let body = match &self.0 {
                Script::Whole(text) => WireBody::Full(Bytes::from_static(text.as_bytes())),
                Script::Pieces(list) => WireBody::Stream(Box::pin(pieces(list))),
                Script::Stalls(list) => WireBody::Stream(Box::pin(pieces(list).chain(stream::pending()))),
                Script::Fails => return Err(UpstreamFailure::new(FailureKind::Failed, "boom")),
                Script::Silence => std::future::pending().await,
            };
            Ok(WireReply { headers: http::HeaderMap::new(), body })
        })
    }

    fn infer<'a>(
        &'a self,
        _: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<InferenceResponse, UpstreamFailure>> {
        unimplemented_here()
    }

    fn infer_stream<'a>(
        &'a self,
        _: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<EventStream, UpstreamFailure>> {
        unimplemented_here()
    }

    fn embed<'a>(
        &'a self,
        _: &'a str,
        _: &'a EmbeddingRequest,
    ) -> BoxFuture<'a, Result<EmbeddingResponse, UpstreamFailure>> {
        unimplemented_here()
    }

    fn list_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn health_check(&self) -> BoxFuture<'_, Result<ProviderHealth, UpstreamFailure>> {
        Box::pin(async { Ok(ProviderHealth { latency: Duration::ZERO, models: None }) })
    }
}

fn unimplemented_here<'a, T>() -> BoxFuture<'a, Result<T, UpstreamFailure>> {
    Box::pin(async { Err(UpstreamFailure::new(FailureKind::Unsupported, "only passes through")) })
}

#[derive(Default)]
struct Book(Mutex<Vec<CallRecord>>);

impl Observer for Book {
    fn call_settled(&self, record: &CallRecord) {
        self.0.lock().unwrap().push(record.clone());
    }
}

#[derive(Debug)]
struct No;

impl Guard for No {
    fn check(&self, _: &Call) -> Result<(), Refusal> {
        Err(Refusal { guard: "no".into(), reason: "not today".into() })
    }
}

/// It breaks, as no guard should.
#[derive(Debug)]
struct Panics;

impl Guard for Panics {
    fn check(&self, _: &Call) -> Result<(), Refusal> {
        panic!("a guard that breaks")
    }
}

struct World {
    gateway: Gateway,
    book: Arc<Book>,
    log: Arc<AuditLog>,
    written: MemorySink,
}

impl World {
    fn new(script: Script) -> Self {
        Self::with(script, |builder| builder)
    }

    fn with(
        script: Script,
        change: impl FnOnce(hoosh_gateway::GatewayBuilder) -> hoosh_gateway::GatewayBuilder,
    ) -> Self {
        let book = Arc::new(Book::default());
        let router = Router::builder().provider(Arc::new(Scripted(script))).build().unwrap();
        let (written, keys) =
            (MemorySink::default(), KeyRing::parse(&KeyRing::draw().unwrap(), "a test").unwrap());
        let log = AuditLog::begin(Box::new(written.clone()), &keys, "settlement", Options::default());
        let log = Arc::new(log.unwrap());
        let audit = Arc::new(Audit::new(Arc::clone(&log), Fsync::Batch));
        let builder = Gateway::builder(router).observer(Arc::clone(&book) as Arc<dyn Observer>).audit(audit);
        Self { gateway: change(builder).build(), book, log, written }
    }

    fn call(&self, stream: bool) -> Call {
        let body = format!(
            r#"{{"model":"gpt-4o-mini","stream":{stream},"messages":[{{"role":"user","content":"x"}}]}}"#
        );
        Call::read(RequestId::new(), CallerId::new("tester"), Dialect::OpenAiChat, body.into()).unwrap()
    }

    /// The one record there is.
    #[track_caller]
    fn record(&self) -> CallRecord {
        let records = self.book.0.lock().unwrap();
        assert_eq!(records.len(), 1, "{records:?}");
        records[0].clone()
    }

    /// The one record of the audit log that is of a call: its kind, its outcome, its error.
    #[track_caller]
    fn audited(&self) -> (String, String, Option<String>) {
        self.log.close();
        let lines = String::from_utf8(self.written.lines()).unwrap();
        let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_calls = |line: &Value| matches!(line["record"]["kind"].as_str(), Some("call" | "refused"));
        let records: Vec<Value> = records.filter(of_calls).collect();
        assert_eq!(records.len(), 1, "{lines}");
        let (record, text) = (&records[0]["record"], |text: &Value| text.as_str().map(str::to_owned));
        let body = &record["body"];
        assert_eq!(body["caller"], "tester");
        (text(&record["kind"]).unwrap(), text(&body["outcome"]).unwrap(), text(&body["error"]))
    }
}

fn audited(kind: &str, outcome: &str, error: Option<&str>) -> (String, String, Option<String>) {
    (kind.to_owned(), outcome.to_owned(), error.map(str::to_owned))
}

#[tokio::test]
async fn a_whole_answer_is_booked_with_its_price() {
    let world = World::new(Script::Whole(WHOLE));
    let reply = world.gateway.call(world.call(false)).await.unwrap();
    let record = world.record();
    assert_eq!(
        (record.outcome, record.attempts, record.provider.as_deref()),
        (Outcome::Answered, 1, Some("scripted"))
    );
    // A million tokens in at $0.15 and a million out at $0.60.
    assert_eq!((record.cost, reply.head.cost), (Some(NanoUsd(750_000_000)), Some(NanoUsd(750_000_000))));
    drop(reply);
    assert_eq!(world.record().outcome, Outcome::Answered);
    assert_eq!(world.audited(), audited("call", "answered", None));
}

#[tokio::test]
async fn a_stream_is_booked_at_its_end() {
    let world = World::new(Script::Pieces(vec![CHUNK, END]));
    let reply = world.gateway.call(world.call(true)).await.unwrap();
    assert_eq!(world.book.0.lock().unwrap().len(), 0, "not before its end");
    let ReplyBody::Stream(stream) = reply.body else { panic!("a stream was asked for") };
    let bytes: Vec<Bytes> = stream.collect().await;
    assert_eq!(bytes.concat(), [CHUNK, END].concat().as_bytes());
    let record = world.record();
    assert_eq!((record.outcome, record.usage.unwrap().total()), (Outcome::Answered, 5));
    assert!(record.time_to_first.unwrap() <= record.duration);
    assert_eq!(world.audited(), audited("call", "answered", None));
}

#[tokio::test]
async fn a_broken_stream_is_booked_as_truncated() {
    let world = World::new(Script::Pieces(vec![CHUNK]));
    let reply = world.gateway.call(world.call(true)).await.unwrap();
    let ReplyBody::Stream(stream) = reply.body else { panic!("a stream was asked for") };
    let bytes = stream.collect::<Vec<Bytes>>().await.concat();
    assert!(String::from_utf8(bytes).unwrap().contains("upstream_broken"));
    assert!(
        matches!(world.record().outcome, Outcome::Truncated(failure) if failure.kind == FailureKind::Broken)
    );
    assert_eq!(world.audited(), audited("call", "truncated", Some("broken")));
}

#[tokio::test]
async fn a_dropped_stream_is_booked_as_cancelled() {
    let world = World::new(Script::Stalls(vec![CHUNK]));
    let reply = world.gateway.call(world.call(true)).await.unwrap();
    let ReplyBody::Stream(mut stream) = reply.body else { panic!("a stream was asked for") };
    stream.next().await.unwrap();
    drop(stream);
    assert_eq!(world.record().outcome, Outcome::Cancelled);
    assert_eq!(world.audited(), audited("call", "cancelled", None));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_booked_as_cancelled() {
    let world = World::new(Script::Silence);
    let waiting = tokio::time::timeout(Duration::from_secs(60), world.gateway.call(world.call(false)));
    assert!(waiting.await.is_err());
    assert_eq!(world.record().outcome, Outcome::Cancelled);
    assert_eq!(world.audited(), audited("call", "cancelled", None));
}

#[tokio::test(start_paused = true)]
async fn the_time_for_an_answer_is_kept() {
    let limit = Duration::from_secs(7);
    let world = World::with(Script::Silence, |builder| builder.answer_time_max(Some(limit)));
    assert_eq!(world.gateway.call(world.call(true)).await.unwrap_err(), HooshError::Deadline(limit));
    let record = world.record();
    assert_eq!((record.outcome, record.duration), (Outcome::Failed(HooshError::Deadline(limit)), limit));
    assert_eq!(world.audited(), audited("call", "failed", Some("deadline_exceeded")));
}

#[tokio::test]
async fn failed_and_refused_calls_are_booked_too() {
    let world = World::new(Script::Fails);
    let error = world.gateway.call(world.call(false)).await.unwrap_err();
    assert_eq!((world.record().outcome, world.record().attempts), (Outcome::Failed(error), 2));
    assert_eq!(world.audited(), audited("call", "failed", Some("upstream_error")));

    let world = World::with(Script::Fails, |builder| builder.guard(Arc::new(No)));
    let error = world.gateway.call(world.call(false)).await.unwrap_err();
    assert!(matches!(&error, HooshError::Refused(refusal) if refusal.reason == "not today"));
    assert_eq!((world.record().outcome, world.record().attempts), (Outcome::Failed(error), 0));
    assert_eq!(world.audited(), audited("refused", "refused", Some("no")));
}

#[tokio::test]
async fn a_call_that_breaks_us_leaves_its_record() {
    let world = Arc::new(World::with(Script::Whole(WHOLE), |builder| builder.guard(Arc::new(Panics))));
    let mut calls = JoinSet::new();
    let other = Arc::clone(&world);
    calls.spawn(async move { other.gateway.call(other.call(false)).await.map(drop) });
    assert!(calls.join_next().await.unwrap().unwrap_err().is_panic());
    assert_eq!(world.audited(), audited("call", "failed", Some("internal_error")));
}

/// A cache that keeps whatever it can.
fn cache() -> Arc<ResponseCache> {
    Arc::new(ResponseCache::new(CacheSettings { any_temperature: true, ..CacheSettings::default() }))
}

#[tokio::test]
async fn a_kept_answer_is_booked_as_a_call_that_costs_nothing() {
    let world = World::with(Script::Pieces(vec![CHUNK, END]), |builder| builder.cache(cache()));
    let mut told = Vec::new();
    for _ in 0..2 {
        let reply = world.gateway.call(world.call(true)).await.unwrap();
        let ReplyBody::Stream(stream) = reply.body else { panic!("a stream was asked for") };
        assert_eq!(stream.collect::<Vec<Bytes>>().await.concat(), [CHUNK, END].concat().as_bytes());
        told.append(&mut world.book.0.lock().unwrap());
    }
    let [first, again] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((first.cache, first.attempts), (CacheUse::Miss, 1));
    assert!(first.cost.is_some_and(|cost| cost > NanoUsd(0)));
    assert_eq!((again.cache, again.attempts, again.cost), (CacheUse::Hit, 0, Some(NanoUsd(0))));
    assert_eq!(
        (&again.outcome, &again.provider, again.usage),
        (&Outcome::Answered, &first.provider, first.usage)
    );
}

#[tokio::test]
async fn a_last_word_is_kept_though_the_client_does_not_wait_for_the_end() {
    let world = World::with(Script::Stalls(vec![CHUNK, END]), |builder| builder.cache(cache()));
    let reply = world.gateway.call(world.call(true)).await.unwrap();
    let ReplyBody::Stream(mut stream) = reply.body else { panic!("a stream was asked for") };
    assert_eq!(stream.next().await.unwrap(), CHUNK);
    assert_eq!(stream.next().await.unwrap(), END);
    drop(stream);
    assert_eq!(world.record().outcome, Outcome::Answered);
    assert_eq!(world.gateway.call(world.call(true)).await.unwrap().head.cache, CacheUse::Hit);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_while_it_waits_is_booked_too() {
    let world = World::with(Script::Silence, |builder| builder.cache(cache()));
    let second = Duration::from_secs(1);
    let leader = tokio::time::timeout(2 * second, world.gateway.call(world.call(false)));
    let waiter = tokio::time::timeout(second, world.gateway.call(world.call(false)));
    assert!(matches!(tokio::join!(leader, waiter), (Err(_), Err(_))));
    let told: Vec<_> = world
        .book
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|record| (record.outcome.clone(), record.cache, record.attempts))
        .collect();
    let cancelled = |attempts| (Outcome::Cancelled, CacheUse::Miss, attempts);
    assert_eq!(told, [cancelled(0), cancelled(1)]);
}
