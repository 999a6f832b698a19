//! Promise: with `continue_streams` a stream that breaks in the middle of text is gone on with by another provider.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{End, Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, finish, sse};
use tokio::time::{sleep, timeout};

use crate::{at, header, json as read};

const CHAT: &str = "/v1/chat/completions";

/// A gateway before one whose streams are to be gone on with, and another one that can or cannot.
async fn before(sick: &Upstream, well: &Upstream, can: bool) -> Hoosh {
    let first = at("sick", &sick.url(), "priority = 1\ncontinue_streams = true");
    let second = at("well", &well.url(), &format!("priority = 2\nprefill = {can}"));
    Hoosh::start(&(first + &second)).await
}

fn text(text: &str) -> String {
    chunk(&json!({ "content": text }).to_string())
}

/// The text of a streamed answer in the client's dialect.
fn written(body: &str, path: &str) -> String {
    let events = body.lines().filter_map(|line| {
        let data = line.strip_prefix("data: ").or_else(|| line.starts_with('{').then_some(line))?;
        serde_json::from_str::<Value>(data).ok()
    });
    let pointer = match path {
        CHAT => "/choices/0/delta/content",
        "/v1/messages" => "/delta/text",
        "/api/chat" => "/message/content",
        _ => "/candidates/0/content/parts/0/text",
    };
    events.filter_map(|event| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_rest_comes_from_another_one() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let hoosh = before(&sick, &well, true).await;
    sick.always(Script::broken_stream([text("Once upon"), text(" a ")], End::Cut));
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":3}}"#;
    well.always(Script::stream([
        text(" time,"),
        text(" long ago"),
        finish("stop"),
        sse(usage),
        sse("[DONE]"),
    ]));
    for (path, last) in [
        (CHAT, "data: [DONE]"),
        ("/v1/messages", "\"type\":\"message_stop\"}"),
        ("/api/chat", "\"done\":true"),
        ("/v1beta/models/m:streamGenerateContent?alt=sse", "\"finishReason\":\"STOP\""),
    ] {
        let mut body = chat_body("m", true).replacen('{', "{\"max_tokens\":9,", 1);
        if path == CHAT {
            body = body.replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1);
        }
        if path.starts_with("/v1beta") {
            body = r#"{"contents":[{"role":"user","parts":[{"text":"Tell me"}]}]}"#.to_owned();
        }
        let response = hoosh.post(path, body).await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "x-hoosh-provider")),
            (200, "sick"),
            "{path}"
        );
        let id = header(&response, "x-hoosh-decision").to_owned();
        let body = response.text().await.unwrap();
        assert_eq!(written(&body, path), "Once upon a time, long ago", "{path}: {body}");
        assert!(body.contains(last), "{body}");
        // It is said where the dialect has comments.
        let marks = body.matches(": x-hoosh-continued: from=sick/m; to=well/m\n\n").count();
        assert_eq!(marks, usize::from(path == CHAT || path == "/v1/messages"), "{path}: {body}");
        if path == CHAT {
            assert_eq!(body.matches("\"role\"").count(), 1, "one answer: {body}");
            // All that was written, and the prompt once.
            assert!(
                body.contains("\"completion_tokens\":7") || body.contains("\"completion_tokens\":6"),
                "{body}"
            );
        }
        let asked = well.requests(CHAT).pop().unwrap();
        let asked: Value = serde_json::from_slice(&asked.body).unwrap();
        let messages = asked["messages"].as_array().unwrap();
        // Without the space at its end, which some providers refuse.
        assert_eq!(messages.last().unwrap()["content"], "Once upon a", "{asked}");
        assert_eq!(messages.last().unwrap()["role"], "assistant");
        let decision = read(hoosh.get(&format!("/v1/decisions/{id}")).await).await;
        let results =
            [0, 1].map(|at| decision["attempts"][at]["result"].as_str().unwrap_or_default().to_owned());
        assert_eq!(results, ["failed", "answers"], "{decision}");
        assert_eq!(decision["outcome"], "answered");
    }
    let metrics = hoosh.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("hoosh_legs_total{provider=\"sick\",kind=\"broken\"} 4"), "{metrics}");
}

#[tokio::test]
async fn what_would_not_be_what_was_meant_ends_with_an_error() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    well.always(Script::stream([text("!"), finish("stop"), sse("[DONE]")]));
    let call = chunk(
        r#"{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{"}}]}"#,
    );
    let schema = chat_body("m", true).replacen('{', r#"{"response_format":{"type":"json_object"},"#, 1);
    let plain = chat_body("m", true);
    for (can, body, pieces) in [
        (true, &plain, vec![text("I'll look. "), call]),
        (true, &schema, vec![text("{\"a\":")]),
        (true, &plain, vec![chunk(r#"{"reasoning_content":"Hm"}"#)]),
        // Nobody is known to be able to.
        (false, &plain, vec![text("Once")]),
    ] {
        let hoosh = before(&sick, &well, can).await;
        sick.always(Script::broken_stream(pieces.clone(), End::Cut));
        let body = hoosh.post(CHAT, body.clone()).await.text().await.unwrap();
        assert!(body.contains("\"error\"") && !body.contains("[DONE]"), "{pieces:?}: {body}");
        assert_eq!(well.requests(CHAT).len(), 0, "{pieces:?}");
    }
}

#[tokio::test]
async fn it_may_break_again_and_there_is_an_end_to_it() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let first = at("sick", &sick.url(), "priority = 1\ncontinue_streams = true\nprefill = true");
    let second = at("well", &well.url(), "priority = 2\nprefill = true");
    let hoosh = Hoosh::start(&(first + &second)).await;
    sick.always(Script::broken_stream([text("a ")], End::Cut));
    well.always(Script::broken_stream([text("b ")], End::Cut));
    let body = hoosh.post(CHAT, chat_body("m", true)).await.text().await.unwrap();
    assert_eq!(written(&body, CHAT), "a b a b ", "each is asked twice: {body}");
    assert!(body.contains("\"error\"") && !body.contains("[DONE]"), "{body}");
    assert_eq!((sick.requests(CHAT).len(), well.requests(CHAT).len()), (2, 2));
}

/// A piece of a completion.
fn piece(text: &str, reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "text": text, "finish_reason": reason});
    sse(&json!({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]})
        .to_string())
}

/// The body of the last request that came there.
fn last(upstream: &Upstream, path: &str) -> Value {
    serde_json::from_slice(&upstream.requests(path).pop().unwrap().body).unwrap()
}

#[tokio::test]
async fn a_raw_completion_goes_on_at_the_end_of_its_prompt() {
    const PATH: &str = "/v1/completions";
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let hoosh = before(&sick, &well, true).await;
    sick.always(Script::broken_stream([piece("Once upon ", None)], End::Cut));
    well.always(Script::stream([piece(" a time", None), piece("", Some("stop")), sse("[DONE]")]));
    let body = r#"{"model":"m","prompt":"Tell: ","stream":true,"max_tokens":50}"#;
    let text = hoosh.post(PATH, body).await.text().await.unwrap();
    assert!(text.contains(r#""text":"Once upon ""#) && text.contains(r#""text":"a time""#), "{text}");
    assert!(text.ends_with("[DONE]\n\n"), "{text}");
    assert_eq!(last(&well, PATH)["prompt"], "Tell: Once upon");
    // What leads to an end that is given is not known by its beginning.
    let asked = well.requests(PATH).len();
    let body = r#"{"model":"m","prompt":"Tell: ","suffix":" end","stream":true}"#;
    let text = hoosh.post(PATH, body).await.text().await.unwrap();
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    assert_eq!(well.requests(PATH).len(), asked);
}

#[tokio::test]
async fn ollamas_completions_go_on_as_they_were_asked() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let provider = |name: &str, upstream: &Upstream, more: &str| {
        let root = upstream.url().replace("/v1", "");
        format!("[[providers]]\ntype = \"ollama\"\nname = \"{name}\"\nbase_url = \"{root}\"\n{more}\n")
    };
    let first = provider("sick", &sick, "priority = 1\ncontinue_streams = true\nmodels = [\"*\"]");
    let second = provider("well", &well, "priority = 2\nmodels = [\"*\"]");
    let hoosh = Hoosh::start(&(first + &second)).await;
    let line = |fields: Value| {
        let mut line = json!({"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": false});
        fields.as_object().unwrap().iter().for_each(|(name, value)| line[name] = value.clone());
        format!("{line}\n").into_bytes()
    };
    // One without an end is cut.
    let lines = |lines: &[Vec<u8>], end: &str| {
        let body = lines.concat();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
        Script::Bytes(
            [head.as_bytes(), format!("{:x}\r\n", body.len()).as_bytes(), &body, end.as_bytes()].concat(),
        )
    };
    let done = json!({"done": true, "done_reason": "stop", "response": "", "message": {"role": "assistant", "content": ""}});
    for (raw, path) in [(true, "/api/generate"), (false, "/api/chat")] {
        sick.always(lines(&[line(json!({"response": "Once upon"}))], "\r\n"));
        let rest = match raw {
            true => json!({"response": " a time"}),
            false => json!({"message": {"role": "assistant", "content": " a time"}}),
        };
        well.always(lines(&[line(rest), line(done.clone())], "\r\n0\r\n\r\n"));
        let body = json!({"model": "m", "prompt": "Tell: ", "raw": raw}).to_string();
        let text = hoosh.post("/api/generate", body).await.text().await.unwrap();
        assert!(
            text.contains(r#""response":"Once upon""#) && text.contains(r#""response":" a time""#),
            "{text}"
        );
        assert!(text.contains("\"done\":true"), "{text}");
        let asked = last(&well, path);
        match raw {
            true => assert_eq!(asked["prompt"], "Tell: Once upon", "{asked}"),
            false => {
                let messages = json!([{"role": "user", "content": "Tell: "}, {"role": "assistant", "content": "Once upon"}]);
                assert_eq!(asked["messages"], messages, "{asked}");
            }
        }
    }
}

/// A gateway before one that breaks and two that may go on.
async fn before_two(sick: &Upstream, second: &Upstream, third: &Upstream) -> Hoosh {
    let first = at("sick", &sick.url(), "priority = 1\ncontinue_streams = true");
    let second = at("second", &second.url(), "priority = 2\nprefill = true");
    let third = at("third", &third.url(), "priority = 3\nprefill = true");
    Hoosh::start(&(first + &second + &third)).await
}

#[tokio::test]
async fn whoever_does_not_go_on_is_counted_and_told_of() {
    let [sick, second, third] = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    let hoosh = before_two(&sick, &second, &third).await;
    sick.always(Script::broken_stream([text("Once upon")], End::Cut));
    second.always(Script::status(500, "{}"));
    let thinks = chunk(r#"{"reasoning_content":"Hm, where was I?"}"#);
    third.always(Script::stream([thinks, text(" a time"), finish("stop"), sse("[DONE]")]));
    let body = r#"{"model":"m","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let answer = hoosh.post("/v1/messages", body).await.text().await.unwrap();
    assert_eq!(written(&answer, "/v1/messages"), "Once upon a time", "{answer}");
    assert!(!answer.contains("thinking") && answer.matches("content_block_start").count() == 2, "{answer}");
    let settled = async |ends: usize| {
        timeout(PATIENCE, async {
            while hoosh.log().matches("outcome=").count() < ends {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        let log = hoosh.log();
        log.lines().rfind(|line| line.contains("outcome=")).unwrap().to_owned()
    };
    let told = settled(1).await;
    assert!(told.contains("attempts=3") && told.contains("legs=\"broken sick/m\""), "{told}");

    // One that is given up since the client leaves has read the prompt.
    second.always(Script::Silence);
    let mut response = hoosh.post(CHAT, chat_body("m", true)).await;
    while second.requests(CHAT).len() < 2 {
        let _some = timeout(Duration::from_millis(20), response.chunk()).await;
    }
    drop(response);
    let told = settled(2).await;
    assert!(told.contains("outcome=\"cancelled\"") && told.contains("attempts=2"), "{told}");
    assert!(told.contains("given_up second/m"), "{told}");
}

#[tokio::test]
async fn to_ask_the_same_once_more_is_a_retry() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let first = at("sick", &sick.url(), "priority = 1\ncontinue_streams = true\nprefill = true");
    let second = at("well", &well.url(), "priority = 2\nprefill = true");
    let hoosh = Hoosh::start(&(first + &second + "[routing]\nfailures = 1000\n")).await;
    sick.always(Script::broken_stream([text("a ")], End::Cut));
    well.always(Script::broken_stream([text("b ")], End::Cut));
    for _ in 0..20 {
        hoosh.post(CHAT, chat_body("m", true)).await.text().await.unwrap();
    }
    let asked = sick.requests(CHAT).len() + well.requests(CHAT).len();
    // Each once for each call, ten more in advance, and one for ten calls.
    assert!((2 * 20 + 10..=2 * 20 + 12).contains(&asked), "{asked}");
}
