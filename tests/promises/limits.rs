//! Promise: nobody gets more than its limits, whoever is over them is told so before anything is spent, and a provider that is
//! over its own is passed over.

use std::time::Duration;

use futures_util::StreamExt;
use testkit::{Hoosh, PATIENCE, Script, Upstream, chunk, client, completion, finish, sse};

use crate::{at, header, json};

const CHAT: &str = "/v1/chat/completions";
const ASKED: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const TOKENS: &str = "[auth]\ntokens = [\"one\", \"other\"]\n";

/// A gateway with these limits before one upstream that chats.
async fn limited(limits: &str) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let hoosh = Hoosh::start(&format!("{TOKENS}[limits]\n{limits}\n{}", at("up", &upstream.url(), ""))).await;
    (hoosh, upstream)
}

async fn ask(hoosh: &Hoosh, token: &str, path: &str, body: &str) -> reqwest::Response {
    let request = client().post(hoosh.url(path)).header("content-type", "application/json");
    request.bearer_auth(token).body(body.to_owned()).send().await.unwrap()
}

#[tokio::test]
async fn each_caller_has_its_own_requests_and_is_told_where_it_stands() {
    let (hoosh, upstream) = limited("requests_per_minute = 2").await;
    for remaining in ["1", "0"] {
        let answer = ask(&hoosh, "one", CHAT, ASKED).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "x-ratelimit-limit-requests"), "2");
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), remaining);
    }
    let refused = ask(&hoosh, "one", CHAT, ASKED).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), "0");
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    let error = json(refused).await;
    assert_eq!(error["error"]["code"], "rate_limit_exceeded", "{error}");
    assert_eq!(ask(&hoosh, "other", CHAT, ASKED).await.status(), 200);
    assert_eq!(upstream.requests("/chat/completions").len(), 3, "who was refused cost nothing");
}

#[tokio::test]
async fn a_refusal_is_in_the_callers_dialect() {
    let (hoosh, _upstream) = limited("requests_per_minute = 1").await;
    assert_eq!(ask(&hoosh, "one", CHAT, ASKED).await.status(), 200);
    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let refused = ask(&hoosh, "one", "/v1/messages", body).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(header(&refused, "anthropic-ratelimit-requests-limit"), "1");
    let error = json(refused).await;
    assert_eq!((&error["type"], &error["error"]["type"]), (&"error".into(), &"rate_limit_error".into()));
}

#[tokio::test]
async fn tokens_are_reserved_by_an_estimate_and_corrected_by_what_it_took() {
    let (hoosh, upstream) = limited("tokens_per_minute = 1000").await;
    let usage = r#"{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}"#;
    let answer = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"hi"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
    );
    upstream.always(Script::json(answer));
    let first = ask(&hoosh, "one", CHAT, ASKED).await;
    assert_eq!(first.status(), 200);
    let reserved: u64 = header(&first, "x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((400..500).contains(&reserved), "500 of answer and the prompt are reserved: {reserved}");
    // Of the 515 only 100 were taken, so that another 515 fit.
    let second = ask(&hoosh, "one", CHAT, ASKED).await;
    assert_eq!(second.status(), 200);
    // 200 are gone, and 900 do not fit into the rest.
    let large = r#"{"model":"m","max_tokens":900,"messages":[{"role":"user","content":"hi"}]}"#;
    let refused = ask(&hoosh, "one", CHAT, large).await;
    assert_eq!(refused.status(), 429);
    let left: u64 = header(&refused, "x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((800..850).contains(&left), "{left}");
}

#[tokio::test]
async fn a_stream_holds_its_slot_to_its_end() {
    let (hoosh, upstream) = limited("concurrent = 1").await;
    let pieces = [chunk(r#"{"content":"h"}"#), chunk(r#"{"content":"i"}"#), finish("stop"), sse("[DONE]")];
    let slow = pieces.map(|piece| (Duration::from_millis(150), piece.into_bytes())).to_vec();
    upstream.script([Script::Stream(slow, testkit::End::Proper)]);
    let body = ASKED.replacen('{', r#"{"stream":true,"#, 1);
    let stream = ask(&hoosh, "one", CHAT, &body).await;
    assert_eq!(stream.status(), 200);
    let refused = ask(&hoosh, "one", CHAT, ASKED).await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (429, "1"));
    assert_eq!(ask(&hoosh, "other", CHAT, ASKED).await.status(), 200);
    let mut bytes = stream.bytes_stream();
    while bytes.next().await.is_some() {}
    // The slot is free when the client has the last byte, or a moment later.
    let start = std::time::Instant::now();
    while ask(&hoosh, "one", CHAT, ASKED).await.status() != 200 {
        assert!(start.elapsed() < PATIENCE, "its slot is still taken");
    }
}

#[tokio::test]
async fn a_cancelled_stream_gives_its_slot_back() {
    let (hoosh, upstream) = limited("concurrent = 1").await;
    let first = (Duration::ZERO, chunk(r#"{"content":"h"}"#).into_bytes());
    upstream.script([Script::Stream(vec![first], testkit::End::Silence)]);
    let body = ASKED.replacen('{', r#"{"stream":true,"#, 1);
    let stream = ask(&hoosh, "one", CHAT, &body).await;
    drop(stream);
    let start = std::time::Instant::now();
    while ask(&hoosh, "one", CHAT, ASKED).await.status() != 200 {
        assert!(start.elapsed() < PATIENCE, "its slot is still taken");
    }
}

#[tokio::test]
async fn ours_are_told_where_the_provider_tells_its_own() {
    let (hoosh, upstream) = limited("requests_per_day = 50").await;
    let headers = "x-ratelimit-limit-requests: 9999\r\nx-ratelimit-limit-tokens: 7777\r\n".to_owned();
    upstream.always(Script::Reply { status: 200, headers, body: completion("hi") });
    let answer = ask(&hoosh, "one", CHAT, ASKED).await;
    assert_eq!(header(&answer, "x-ratelimit-limit-requests"), "50");
    assert_eq!(header(&answer, "x-ratelimit-limit-tokens"), "7777");
}

#[tokio::test]
async fn a_provider_over_its_limit_is_passed_over_and_all_of_them_are_429() {
    let [one, other] = [Upstream::start().await, Upstream::start().await];
    one.always(Script::json(completion("one")));
    other.always(Script::json(completion("other")));
    let limited = |name: &str, upstream: &Upstream, priority: u32| {
        at(name, &upstream.url(), &format!("priority = {priority}\nrate_limit_rpm = 2"))
    };
    let config = format!("{}{}", limited("one", &one, 1), limited("other", &other, 2));
    let hoosh = Hoosh::start(&config).await;
    let mut by = Vec::new();
    for _ in 0..4 {
        let answer = hoosh.post(CHAT, ASKED).await;
        assert_eq!(answer.status(), 200);
        by.push(header(&answer, "x-hoosh-provider").to_owned());
    }
    assert_eq!(by, ["one", "one", "other", "other"]);
    let refused = hoosh.post(CHAT, ASKED).await;
    assert_eq!(refused.status(), 429);
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(json(refused).await["error"]["code"], "rate_limit_exceeded");
    assert_eq!((one.requests("/chat/completions").len(), other.requests("/chat/completions").len()), (2, 2));
}

#[tokio::test]
async fn a_reload_forgets_nothing_of_what_was_used() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let config = |limit: u32| {
        format!("{TOKENS}[limits]\nrequests_per_minute = {limit}\n{}", at("up", &upstream.url(), ""))
    };
    let hoosh = Hoosh::start(&config(2)).await;
    for _ in 0..2 {
        assert_eq!(ask(&hoosh, "one", CHAT, ASKED).await.status(), 200);
    }
    hoosh.configure(&config(3));
    hoosh.signal("HUP");
    let start = std::time::Instant::now();
    loop {
        let answer = ask(&hoosh, "other", CHAT, ASKED).await;
        if header(&answer, "x-ratelimit-limit-requests") == "3" {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it was not reloaded");
    }
    let third = ask(&hoosh, "one", CHAT, ASKED).await;
    assert_eq!((third.status().as_u16(), header(&third, "x-ratelimit-limit-requests")), (200, "3"));
    assert_eq!(ask(&hoosh, "one", CHAT, ASKED).await.status(), 429);
}

#[tokio::test]
async fn a_providers_tokens_are_corrected_too_and_failures_take_none() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&at("up", &upstream.url(), "rate_limit_tpm = 600")).await;
    // Each is taken for 515 at first; three of these would not fit if they stayed so.
    upstream.script([Script::status(400, r#"{"error":{"message":"no"}}"#)]);
    assert_eq!(hoosh.post(CHAT, ASKED).await.status(), 400);
    let pieces = [chunk(r#"{"content":"hi"}"#), finish("stop"), sse("[DONE]")];
    upstream.script([Script::stream(pieces)]);
    let streamed = hoosh.post(CHAT, ASKED.replacen('{', r#"{"stream":true,"#, 1)).await;
    assert!(streamed.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    upstream.always(Script::json(completion("hi")));
    let start = std::time::Instant::now();
    while hoosh.post(CHAT, ASKED).await.status() != 200 {
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "it would take 40 s until they are back by themselves"
        );
    }
}
