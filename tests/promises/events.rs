//! Promise: an operator sees what happens while it happens, and nobody is the slower for it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use testkit::{End, Hoosh, PATIENCE, Script, Upstream, chat_body, client, client_builder, completion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{at, header, json, one, provider};

const CHAT: &str = "/v1/chat/completions";
const EVENTS: &str = "/v1/events";

/// A listener, and what has come and is not looked at yet.
struct Events {
    response: reqwest::Response,
    bytes: Vec<u8>,
}

impl Events {
    /// Listens; what happens after this is heard.
    async fn of(hoosh: &Hoosh, query: &str) -> Self {
        let response = hoosh.get(&format!("{EVENTS}{query}")).await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "content-type")),
            (200, "text/event-stream")
        );
        Self { response, bytes: Vec::new() }
    }

    /// The next event, its name and number being those in its data; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
                let frame: Vec<u8> = self.bytes.drain(..end + 2).collect();
                let frame = String::from_utf8(frame).unwrap();
                if frame == ": listening\n\n" {
                    continue;
                }
                let lines: Vec<&str> = frame.lines().collect();
                let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
                assert_eq!(lines[0], format!("event: {}", data["type"].as_str().unwrap()));
                assert_eq!(lines[1], format!("id: {}", data["sequence"]));
                return Some(data);
            }
            self.bytes.extend_from_slice(&self.response.chunk().await.unwrap()?);
        }
    }

    /// As many as that.
    async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.next().await.expect("an event"));
        }
        events
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

async fn ask(hoosh: &Hoosh) -> reqwest::Response {
    hoosh.post(CHAT, chat_body("m", false)).await
}

/// The line of a metric.
async fn metric(hoosh: &Hoosh, line: &str) -> bool {
    let text = hoosh.get("/metrics").await.text().await.unwrap();
    text.lines().any(|one| one == line) || panic!("no `{line}` in\n{text}")
}

#[tokio::test]
async fn a_call_that_moves_on_is_told_step_by_step() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let keys = "priority = 1\napi_key = \"sk-secret\"";
    let hoosh = Hoosh::start(&(at("sick", &sick.url(), keys) + &provider("well", &well))).await;
    sick.always(Script::status(500, r#"{"error":{"message":"the vendor's own sentence, sk-secret"}}"#));
    well.always(Script::json(completion("the answer")));
    let mut events = Events::of(&hoosh, "").await;
    let response = ask(&hoosh).await;
    let id = header(&response, "x-request-id").to_owned();
    let told = events.take(3).await;
    assert_eq!(names(&told), ["attempt_failed", "failed_over", "completed"]);
    let sequences: Vec<u64> = told.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3]);
    for event in &told {
        assert_eq!(event["request_id"], id.as_str());
        assert!(event["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
        let text = event.to_string();
        for private in ["sentence", "sk-secret", "Paris", "the answer"] {
            assert!(!text.contains(private), "{text}");
        }
    }
    let [failed, moved, completed] = told.try_into().unwrap();
    let at = |event: &Value| (event["provider"].clone(), event["model"].clone());
    assert_eq!((at(&failed), at(&moved)), (("sick".into(), "m".into()), ("well".into(), "m".into())));
    assert_eq!((&failed["kind"], &failed["status"]), (&"failed".into(), &500.into()));
    assert_eq!((&moved["from_provider"], &moved["from_model"]), (&"sick".into(), &"m".into()));
    assert_eq!((&completed["outcome"], &completed["attempts"]), (&"answered".into(), &2.into()));
    assert_eq!((&completed["dialect"], &completed["provider"]), (&"openai_chat".into(), &"well".into()));
    assert!(completed["prompt_tokens"].is_u64() && completed["duration_ms"].is_u64(), "{completed}");

    metric(&hoosh, r#"hoosh_attempts_failed_total{provider="sick",kind="failed",asked="true"} 1"#).await;
    let calls = r#"hoosh_calls_total{outcome="answered",dialect="openai_chat",provider="well"} 1"#;
    metric(&hoosh, calls).await;
}

#[tokio::test]
async fn a_breaker_that_opens_and_a_rate_limit_are_told() {
    let upstream = Upstream::start().await;
    let routing = "[routing]\nretries = 0\nfailures = 2\nrest_secs = 0.3\nheartbeat_secs = 0\n";
    let hoosh = Hoosh::start(&(provider("up", &upstream) + routing)).await;
    let mut events = Events::of(&hoosh, "").await;
    upstream.always(Script::status(503, "{}"));
    for _ in 0..2 {
        ask(&hoosh).await;
    }
    let told = events.take(5).await;
    let expected = ["attempt_failed", "completed", "attempt_failed", "breaker_opened", "completed"];
    assert_eq!(names(&told), expected);
    assert_eq!((&told[3]["provider"], &told[3]["model"]), (&"up".into(), &"m".into()));
    assert!(told[3]["rest_ms"].as_u64().unwrap() >= 250, "{}", told[3]);
    assert_eq!((&told[4]["outcome"], &told[4]["error"]), (&"failed".into(), &"failed".into()));
    metric(&hoosh, r#"hoosh_breaker_opened_total{provider="up"} 1"#).await;

    tokio::time::sleep(Duration::from_millis(400)).await;
    let limited = Script::Reply { status: 429, headers: "retry-after: 60\r\n".into(), body: b"{}".into() };
    upstream.script([Script::json(completion("hi")), limited]);
    for _ in 0..2 {
        ask(&hoosh).await;
    }
    let told = events.take(6).await;
    let states = |event: &Value| event["state"].as_str().map(str::to_owned);
    assert_eq!(states(&told[0]).as_deref(), Some("probing"), "{}", told[0]);
    let mut recovery = names(&told[1..3]);
    recovery.sort_unstable();
    assert_eq!(recovery, ["completed", "health_changed"], "it is well again");
    assert_eq!(names(&told[3..]), ["attempt_failed", "rate_limited", "completed"]);
    assert!(told[4]["rest_ms"].as_u64().unwrap() > 50_000, "{}", told[4]);
}

#[tokio::test]
async fn a_call_in_line_is_told_when_it_waits_and_when_it_gets_in() {
    let upstream = Upstream::start().await;
    let config =
        at("up", &upstream.url(), "max_concurrent = 1\nmax_waiting = 1") + "[routing]\nretries = 0\n";
    let hoosh = Hoosh::start(&config).await;
    upstream.always(Script::Stream(vec![(Duration::from_millis(300), completion("hi"))], End::Proper));
    let mut events = Events::of(&hoosh, "?types=queued,admitted,attempt_failed").await;
    join_all((0..3).map(|_| ask(&hoosh))).await;
    let told = events.take(3).await;
    let of = |name: &str| told.iter().find(|event| event["type"] == name).unwrap().clone();
    let (queued, admitted, refused) = (of("queued"), of("admitted"), of("attempt_failed"));
    assert_eq!((&queued["position"], &queued["provider"]), (&0.into(), &"up".into()));
    assert_eq!(queued["request_id"], admitted["request_id"]);
    assert!(admitted["waited_ms"].as_u64().unwrap() >= 200, "{admitted}");
    assert_eq!(refused["kind"], "queue_full", "the third has no place in line");
    // Nobody was asked in it, which is no failure of the provider's.
    metric(&hoosh, r#"hoosh_attempts_failed_total{provider="up",kind="queue_full",asked="false"} 1"#).await;
}

#[tokio::test]
async fn a_filter_keeps_the_rest_away_and_knows_its_names() {
    let (hoosh, upstream) = one().await;
    upstream.script([Script::status(500, "{}"), Script::json(completion("hi"))]);
    let mut events = Events::of(&hoosh, "?types=completed").await;
    ask(&hoosh).await;
    let told = events.take(1).await;
    assert_eq!((names(&told), &told[0]["sequence"]), (vec!["completed"], &2.into()));
    for (query, says) in [("?types=completed,done", "no events `done`"), ("?type=completed", "`types` is")] {
        let refused = hoosh.get(&format!("{EVENTS}{query}")).await;
        assert_eq!(refused.status(), 400);
        let message = json(refused).await["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{message}");
    }
}

/// A listener that reads no more than the beginning.
async fn lazy(hoosh: &Hoosh) -> TcpStream {
    let mut lazy = TcpStream::connect(hoosh.address()).await.unwrap();
    lazy.write_all(format!("GET {EVENTS} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes()).await.unwrap();
    let mut first = [0; 64];
    lazy.read_exact(&mut first).await.unwrap();
    lazy
}

#[tokio::test]
async fn a_listener_that_does_not_read_is_told_so_and_slows_nobody() {
    let (mut hoosh, upstream) = one().await;
    upstream.always(Script::status(400, r#"{"error":{"message":"bad"}}"#));
    let (mut slow, stuck) = (lazy(&hoosh).await, lazy(&hoosh).await);
    let mut quick = Events::of(&hoosh, "?types=completed").await;

    // Some megabytes, for what the sockets hold, and the events that are kept.
    let client = client_builder().build().unwrap();
    let body = chat_body(&"m".repeat(250), false);
    let calls = 12_000;
    let asked = stream::iter(0..calls).for_each_concurrent(64, |_| {
        let request = client.post(hoosh.url(CHAT)).header("content-type", "application/json");
        let sent = request.body(body.clone()).send();
        async {
            let response = sent.await.unwrap();
            assert_eq!(response.status(), 400);
            response.bytes().await.unwrap();
        }
    });
    let heard = async {
        for _ in 0..calls {
            assert_eq!(quick.next().await.unwrap()["type"], "completed");
        }
    };
    tokio::join!(asked, heard);

    let mut text = Vec::new();
    let read = async {
        let mut piece = vec![0; 1 << 16];
        while !String::from_utf8_lossy(&text).contains("event: lagged") {
            // What is searched next begins with the end of this, where the word may be cut.
            text.drain(..text.len().saturating_sub(16));
            let count = slow.read(&mut piece).await.unwrap();
            assert!(count > 0, "the connection was closed");
            text.extend_from_slice(&piece[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("it is told how many it missed");

    // Nor does a server that stops wait for one that takes nothing at all.
    let start = Instant::now();
    hoosh.signal("TERM");
    assert_eq!(hoosh.ended().await, Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(stuck);
}

#[tokio::test]
async fn only_who_has_a_token_listens() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(
        &(provider("up", &upstream) + "[auth]\ntokens = [\"user\"]\nadmin_tokens = [\"secret-token\"]\n"),
    )
    .await;
    assert_eq!(hoosh.get(&format!("{EVENTS}?key=user")).await.status(), 403);
    assert_eq!(hoosh.get(EVENTS).await.status(), 401);
    let listens = client().get(hoosh.url(EVENTS)).bearer_auth("secret-token").send().await.unwrap();
    assert_eq!(listens.status(), 200);
    assert_eq!(hoosh.get(&format!("{EVENTS}?key=secret-token&types=completed")).await.status(), 200);
}

#[tokio::test]
async fn listeners_have_a_bound_and_leave_nothing_behind() {
    let (hoosh, _upstream) = one().await;
    let mut listeners = Vec::new();
    for _ in 0..64 {
        listeners.push(Events::of(&hoosh, "").await);
    }
    let refused = hoosh.get(EVENTS).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(json(refused).await["error"]["code"], "too_many_listeners");
    drop(listeners);
    let start = Instant::now();
    while hoosh.get(EVENTS).await.status() != 200 {
        assert!(start.elapsed() < Duration::from_secs(5), "those who left are counted still");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_listeners() {
    for client in [client_builder(), client_builder().http2_prior_knowledge()] {
        let (mut hoosh, _upstream) = one().await;
        let response = client.build().unwrap().get(hoosh.url(EVENTS)).send().await.unwrap();
        let mut events = Events { response, bytes: Vec::new() };
        let start = Instant::now();
        hoosh.signal("TERM");
        assert!(events.next().await.is_none(), "a proper end");
        assert_eq!(hoosh.ended().await, Some(0));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}
