//! Promise: after the first token a failure is an error event, never a fake end; and a client that leaves is noticed.

use std::time::Duration;

use futures_util::StreamExt;
use testkit::{End, Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, sse};
use tokio::time::{sleep, timeout};

use crate::{at, one};

/// Goal: a stream that breaks in this way after its first token ends with an error event and no `[DONE]`.
async fn check_broken(script: Script, code: &str) {
    let upstream = Upstream::start().await;
    upstream.always(script);
    let hoosh = Hoosh::start(&at("up", &upstream.url(), "idle_timeout_secs = 0.3")).await;

    let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    let last: serde_json::Value =
        serde_json::from_str(events.last().unwrap().trim_start_matches("data: ")).unwrap();
    assert_eq!(last["error"]["code"], code, "{text}");
    assert!(
        events[0].contains("first token") && !text.contains("[DONE]") && !text.contains("\"stop\""),
        "{text}"
    );
    assert!(
        hoosh.log().contains("outcome=\"truncated\"") || hoosh.log().contains("outcome=truncated"),
        "{}",
        hoosh.log()
    );
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
    let finish = chunk("{}").replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
    let script = Script::broken_stream([chunk(r#"{"content":"all"}"#), finish, sse("[DONE]")], End::Silence);
    let upstream = Upstream::start().await;
    upstream.always(script);
    // One that is passed through, and one that is translated.
    let config = crate::provider("up", &upstream)
        + &format!(
            "[[providers]]\ntype = \"deepseek\"\napi_key = \"k\"\nbase_url = \"{}/v1\"\n",
            upstream.url()
        );
    let hoosh = Hoosh::start(&config).await;
    for (path, body) in [
        ("/v1/chat/completions", chat_body("up/m", true)),
        ("/v1/completions", r#"{"model":"deepseek/m","prompt":"x","stream":true}"#.to_owned()),
    ] {
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
    let (hoosh, upstream) = one().await;
    let text = |n: usize| {
        let finish = chunk("{}").replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
        vec![chunk(&format!(r#"{{"content":"stream {n}"}}"#)), finish, sse("[DONE]")]
    };
    let calls = (0..50).map(|n| {
        upstream.script([Script::stream(text(n))]);
        hoosh.post("/v1/chat/completions", chat_body("m", true))
    });
    let responses = timeout(PATIENCE, futures_util::future::join_all(calls)).await.unwrap();
    let mut seen = Vec::new();
    for response in responses {
        seen.push(response.text().await.unwrap());
    }
    seen.sort();
    let mut expected: Vec<String> = (0..50).map(|n| text(n).concat()).collect();
    expected.sort();
    assert_eq!(seen, expected);
}
