//! Promise: who waits for a stream is told so.

use std::time::Duration;

use testkit::{End, Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, completion, finish, sse};
use tokio::time::{sleep, timeout};

use crate::{at, header, json};

const CHAT: &str = "/v1/chat/completions";

/// A gateway that tells every tenth of a second, before one provider.
async fn before(upstream: &Upstream, keys: &str) -> Hoosh {
    let server = "waiting_comment_secs = 0.1\ndrain_timeout_secs = 1\n";
    Hoosh::start(&format!("{server}{}", at("up", &upstream.url(), keys))).await
}

/// A stream that begins after this time.
fn late(wait: Duration) -> Script {
    let whole = [chunk(r#"{"content":"Paris"}"#), finish("stop"), sse("[DONE]")].concat();
    Script::Stream(vec![(wait, whole.into_bytes())], End::Proper)
}

const LONG: Duration = Duration::from_millis(350);

#[tokio::test]
async fn comments_come_before_a_late_answer_and_its_headers_as_comments() {
    let upstream = Upstream::start().await;
    let hoosh = before(&upstream, "").await;
    upstream.always(late(LONG));
    let response = hoosh.post(CHAT, chat_body("m", true)).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "text/event-stream"));
    assert_eq!(header(&response, "x-hoosh-provider"), "", "nobody knows yet");
    let text = response.text().await.unwrap();
    let (waited, rest) = text.split_once(": x-hoosh-").unwrap();
    let told = waited.matches(": waiting for the provider\n\n").count();
    assert!((2..=4).contains(&told), "{text}");
    assert_eq!(waited.len(), told * ": waiting for the provider\n\n".len(), "{text}");
    let (head, events) = rest.split_once("\n\n").unwrap();
    for field in ["provider: up", "model: m", "attempts: 1"] {
        assert!(head.contains(field), "{field} in {text}");
    }
    assert!(
        events.starts_with("data: ") && events.contains("Paris") && events.ends_with("[DONE]\n\n"),
        "{text}"
    );

    // One that is in time looks as ever, and so does one that is not streamed.
    upstream.always(late(Duration::ZERO));
    let response = hoosh.post(CHAT, chat_body("m", true)).await;
    assert_eq!(header(&response, "x-hoosh-provider"), "up");
    assert!(!response.text().await.unwrap().contains(": waiting"));
    upstream.always(Script::Stream(vec![(LONG, completion("hi"))], End::Proper));
    assert_eq!(header(&hoosh.post(CHAT, chat_body("m", false)).await, "x-hoosh-provider"), "up");
}

#[tokio::test]
async fn an_error_after_the_beginning_is_an_event_of_the_dialect() {
    let upstream = Upstream::start().await;
    let hoosh = before(&upstream, "first_byte_timeout_secs = 0.3\n[routing]\nretries = 0").await;
    upstream.always(Script::Silence);
    let messages =
        r#"{"model":"m","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let responses = r#"{"model":"m","stream":true,"input":"hi"}"#;
    for (path, body, event) in [
        (CHAT, chat_body("m", true), "data: {\"error\":{"),
        ("/v1/messages", messages.to_owned(), "event: error\ndata: {\"type\":\"error\","),
        ("/v1/responses", responses.to_owned(), "event: error\ndata: {\"type\":\"error\","),
    ] {
        let response = hoosh.post(path, body).await;
        assert_eq!(response.status(), 200, "{path}");
        let text = response.text().await.unwrap();
        let (comments, end) = text.rsplit_once(": waiting for the provider\n\n").unwrap();
        assert!(comments.split("\n\n").all(|one| matches!(one, "" | ": waiting for the provider")), "{text}");
        assert!(end.starts_with(event) && end.contains("time"), "{path}: {text}");
    }
    assert_eq!(hoosh.log().matches("outcome=\"failed\"").count(), 3, "{}", hoosh.log());
    // Gemini's clients would not see it.
    let path = "/v1beta/models/m:streamGenerateContent?alt=sse";
    let response = hoosh.post(path, r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#).await;
    assert_eq!(response.status(), 504);
}

#[tokio::test]
async fn who_is_in_line_is_told_how_many_are_ahead_and_who_leaves_frees_the_place() {
    let upstream = Upstream::start().await;
    let hoosh = before(&upstream, "max_concurrent = 1\nmax_waiting = 5").await;
    upstream.always(Script::broken_stream([chunk(r#"{"content":"Par"}"#)], End::Silence));
    let running = hoosh.post(CHAT, chat_body("m", true)).await;
    let (first, second) =
        tokio::join!(hoosh.post(CHAT, chat_body("m", true)), hoosh.post(CHAT, chat_body("m", true)));
    let mut heads = Vec::new();
    let mut waiting = Vec::new();
    for mut response in [first, second] {
        let head = response.chunk().await.unwrap().unwrap();
        heads.push(String::from_utf8_lossy(&head).lines().next().unwrap().to_owned());
        waiting.push(response);
    }
    heads.sort_unstable();
    assert_eq!(heads, [": waiting in line, 0 ahead", ": waiting in line, 1 ahead"]);

    let in_line = async || {
        let status = json(hoosh.get("/v1/queue/status").await).await;
        status["queues"][0]["waiting"]["normal"].as_u64().unwrap()
    };
    assert_eq!(in_line().await, 2);
    drop(waiting.pop());
    timeout(PATIENCE, async {
        while in_line().await != 1 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    upstream.always(late(Duration::ZERO));
    drop(running);
    let text = waiting.pop().unwrap().text().await.unwrap();
    assert!(text.contains(": x-hoosh-queue-ms: ") && text.ends_with("[DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn a_server_that_stops_tells_those_who_still_wait() {
    let upstream = Upstream::start().await;
    let mut hoosh = before(&upstream, "").await;
    upstream.always(Script::Silence);
    let response = hoosh.post(CHAT, chat_body("m", true)).await;
    hoosh.signal("TERM");
    let text = timeout(PATIENCE, response.text()).await.unwrap().unwrap();
    assert!(text.contains(r#""code":"stopping""#) && !text.contains("[DONE]"), "{text}");
    assert_eq!(hoosh.ended().await, Some(0));
    let log = hoosh.log();
    assert!(log.contains("outcome=\"stopped\"") && !log.contains("cancelled"), "{log}");
}

#[tokio::test]
async fn zero_tells_nobody() {
    let upstream = Upstream::start().await;
    let config = format!("waiting_comment_secs = 0\n{}", at("up", &upstream.url(), ""));
    let hoosh = Hoosh::start(&config).await;
    upstream.always(late(LONG));
    let response = hoosh.post(CHAT, chat_body("m", true)).await;
    assert_eq!(header(&response, "x-hoosh-provider"), "up");
    assert!(!response.text().await.unwrap().contains(": waiting"));
}
