//! Promise: after the first token a failure is an error event, never a fake end; and a client that leaves is noticed.

use std::time::Duration;

use futures_util::StreamExt;
use testkit::{End, Hoosh, PATIENCE, Request, Script, Upstream, chat_body, chunk, finish, sse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::{at, one};

/// Goal: a stream that breaks in this way after its first token ends with an error event and no `[DONE]`.
async fn check_broken(script: Script, code: &str) {
    let upstream = Upstream::start().await;
    upstream.always(script);
    let hoosh = Hoosh::start(&at("up", &upstream.url(), "idle_timeout_secs = 0.3")).await;

    let plain = chat_body("m", true);
    let with_usage = plain.replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
    for body in [plain, with_usage] {
        let response = hoosh.post("/v1/chat/completions", body).await;
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        let mut events: Vec<serde_json::Value> = text
            .split("\n\n")
            .filter(|event| !event.is_empty())
            .map(|event| event.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok()))
            .map(|event| event.unwrap_or_else(|| panic!("a broken event in:\n{text}")))
            .collect();
        assert_eq!(events.pop().unwrap()["error"]["code"], code, "{text}");
        assert_eq!(events[0]["choices"][0]["delta"]["content"], "first token", "{text}");
        assert!(!text.contains("[DONE]") && !text.contains("\"stop\""), "{text}");
    }
    let log = hoosh.log();
    assert_eq!(log.matches("truncated").count(), 2, "{log}");
}

#[tokio::test]
async fn a_cut_connection() {
    check_broken(Script::broken_stream([chunk(r#"{"content":"first token"}"#)], End::Cut), "upstream_broken")
        .await;
}

#[tokio::test]
async fn an_end_without_done() {
    check_broken(Script::stream([chunk(r#"{"content":"first token"}"#)]), "upstream_broken").await;
}

#[tokio::test]
async fn a_cut_in_the_middle_of_an_event() {
    let pieces = [chunk(r#"{"content":"first token"}"#), "data: {\"choices\":[{\"del".to_owned()];
    check_broken(Script::broken_stream(pieces, End::Cut), "upstream_broken").await;
}

#[tokio::test]
async fn garbage_in_the_middle() {
    let pieces = [chunk(r#"{"content":"first token"}"#), "data: {not json\n\n".to_owned(), sse("[DONE]")];
    check_broken(Script::stream(pieces), "upstream_garbage").await;
}

#[tokio::test]
async fn silence() {
    let script = Script::broken_stream([chunk(r#"{"content":"first token"}"#)], End::Silence);
    check_broken(script, "upstream_timeout").await;
}

#[tokio::test]
async fn an_error_that_the_provider_itself_sends_is_passed_on() {
    let (hoosh, upstream) = one().await;
    let error = sse(r#"{"error":{"message":"overloaded","type":"overloaded_error","code":"x"}}"#);
    upstream.always(Script::stream([chunk(r#"{"content":"first token"}"#), error.clone()]));

    let text = hoosh.post("/v1/chat/completions", chat_body("m", true)).await.text().await.unwrap();
    assert!(text.ends_with(&error), "{text}");
}

#[tokio::test]
async fn tokens_are_passed_on_when_they_come() {
    let (hoosh, upstream) = one().await;
    let pieces = (0..3).map(|_| (Duration::from_millis(300), chunk(r#"{"content":"x"}"#).into_bytes()));
    upstream.always(Script::Stream(pieces.collect(), End::Silence));

    let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
    let mut bytes = response.bytes_stream();
    for _ in 0..3 {
        let piece = timeout(Duration::from_secs(5), bytes.next()).await.expect("in time").unwrap().unwrap();
        assert_eq!(piece, chunk(r#"{"content":"x"}"#));
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_call_at_the_provider() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::broken_stream([chunk(r#"{"content":"x"}"#)], End::Silence));

    let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
    let mut bytes = response.bytes_stream();
    bytes.next().await.unwrap().unwrap();
    drop(bytes);
    assert!(upstream.hung_up().await < Duration::from_secs(1));
    for _ in 0..100 {
        if hoosh.log().contains("cancelled") {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the books do not say so:\n{}", hoosh.log());
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_call_too() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::Silence);

    let waiting = hoosh.post("/v1/chat/completions", chat_body("m", false));
    assert!(timeout(Duration::from_millis(300), waiting).await.is_err());
    assert!(upstream.hung_up().await < Duration::from_secs(1));
}

#[tokio::test]
async fn a_provider_that_never_closes_after_its_last_word_does_not_keep_the_client() {
    let (hoosh, upstream) = both_lanes().await;
    let pieces = [chunk(r#"{"content":"all"}"#), finish("stop"), sse("[DONE]")];
    upstream.always(Script::broken_stream(pieces, End::Silence));
    for (path, body) in BOTH_LANES {
        let whole = timeout(Duration::from_secs(2), hoosh.post(path, body).await.text()).await;
        let text = whole.expect("it ends").unwrap();
        assert!(
            text.contains("all") && text.ends_with("data: [DONE]\n\n") && !text.contains("error"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn many_streams_at_once_do_not_mix() {
    /// Streams what the request's `user` is, a little at a time, so that all are in flight at once.
    fn echo(request: &Request) -> Script {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let user = body["user"].as_str().unwrap();
        let texts = ["stream ", user, "!"].map(|text| chunk(&format!(r#"{{"content":"{text}"}}"#)));
        let pieces = texts.into_iter().chain([finish("stop"), sse("[DONE]")]);
        let pieces = pieces.map(|piece| (Duration::from_millis(5), piece.into_bytes()));
        Script::Stream(pieces.collect(), End::Proper)
    }
    let (hoosh, upstream) = both_lanes().await;
    upstream.always(Script::By(echo));
    let calls = (0..60).map(|n| {
        // Every other one is translated.
        let (path, content) = match n % 2 {
            0 => ("/v1/chat/completions", r#""model":"up/m","messages":[{"role":"user","content":"x"}]"#),
            _ => ("/v1/completions", r#""model":"deepseek/m","prompt":"x""#),
        };
        hoosh.post(path, format!(r#"{{{content},"stream":true,"user":"{n}"}}"#))
    });
    let responses = timeout(PATIENCE, futures_util::future::join_all(calls)).await.unwrap();
    for (n, response) in responses.into_iter().enumerate() {
        let text = response.text().await.unwrap();
        let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let said: String = events
            .filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok())
            .filter_map(|event| {
                let choice = &event["choices"][0];
                choice["delta"]["content"].as_str().or(choice["text"].as_str()).map(str::to_owned)
            })
            .collect();
        assert_eq!(said, format!("stream {n}!"), "{text}");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }
}

#[tokio::test]
async fn the_first_token_does_not_wait_for_the_end() {
    let (hoosh, upstream) = both_lanes().await;
    let all = chunk(r#"{"content":"all"}"#) + &finish("stop") + &sse("[DONE]");
    upstream.always(Script::broken_stream([all], End::Silence));
    for (path, body) in BOTH_LANES {
        // The quickest of a few: the machine may be busy, but a wait of ours is in each of them.
        let mut quickest = PATIENCE;
        for _ in 0..6 {
            let start = std::time::Instant::now();
            let mut bytes = hoosh.post(path, body).await.bytes_stream();
            let first = bytes.next().await.unwrap().unwrap();
            assert!(String::from_utf8_lossy(&first).contains("all"), "{first:?}");
            quickest = quickest.min(start.elapsed());
        }
        assert!(quickest < Duration::from_millis(60), "{path}: the first token came after {quickest:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_after_the_last_word_had_its_answer() {
    let (hoosh, upstream) = both_lanes().await;
    let pieces = [chunk(r#"{"content":"all"}"#), finish("stop"), sse("[DONE]")];
    upstream.always(Script::broken_stream(pieces, End::Silence));
    for (path, body) in BOTH_LANES {
        let mut bytes = hoosh.post(path, body).await.bytes_stream();
        let mut text = String::new();
        while !text.contains("[DONE]") {
            text += &String::from_utf8_lossy(&bytes.next().await.unwrap().unwrap());
        }
        drop(bytes);
        sleep(Duration::from_millis(300)).await;
    }
    let log = hoosh.log();
    assert_eq!((log.matches("answered").count(), log.matches("cancelled").count()), (2, 0), "{log}");
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_the_call_for_ever() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&at("up", &upstream.url(), "total_timeout_secs = 1")).await;
    // More than all the buffers on the way hold.
    let piece = chunk(&format!(r#"{{"content":"{}"}}"#, "x".repeat(1 << 18)));
    upstream.always(Script::stream(vec![piece; 256]));

    let body = chat_body("m", true);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(hoosh.address().parse().unwrap()).await.unwrap();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all((head + &body).as_bytes()).await.unwrap();
    let mut beginning = [0; 12];
    client.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200");

    // `limits::CLIENT_STALL_TIME_MAX`, how often that is looked at, and some.
    let held = upstream.hung_up_within(Duration::from_secs(75)).await;
    for _ in 0..100 {
        if hoosh.log().contains("outcome=") {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the provider was let go after {held:?}, but the books do not say so:\n{}", hoosh.log());
}

/// One call for each of the two lanes of [`both_lanes`].
const BOTH_LANES: [(&str, &str); 2] = [
    ("/v1/chat/completions", r#"{"model":"up/m","messages":[{"role":"user","content":"x"}],"stream":true}"#),
    ("/v1/completions", r#"{"model":"deepseek/m","prompt":"x","stream":true}"#),
];

/// A gateway before one upstream that is `up`, which is passed through, and `deepseek`, which has no completions.
async fn both_lanes() -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    let config = crate::provider("up", &upstream)
        + &format!(
            "[[providers]]\ntype = \"deepseek\"\napi_key = \"k\"\nbase_url = \"{}/v1\"\n",
            upstream.url()
        );
    (Hoosh::start(&config).await, upstream)
}
