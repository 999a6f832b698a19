//! Promise: with `continue_streams` a stream that breaks in the middle of text is gone on with by another provider.

use serde_json::Value;
use testkit::{End, Hoosh, Script, Upstream, chat_body, chunk, finish, sse};

use crate::{at, header, json};

const CHAT: &str = "/v1/chat/completions";

/// A gateway before one whose streams are to be gone on with, and another one that can or cannot.
async fn before(sick: &Upstream, well: &Upstream, can: bool) -> Hoosh {
    let first = at("sick", &sick.url(), "priority = 1\ncontinue_streams = true");
    let second = at("well", &well.url(), &format!("priority = 2\nprefill = {can}"));
    Hoosh::start(&(first + &second)).await
}

fn text(text: &str) -> String {
    chunk(&serde_json::json!({ "content": text }).to_string())
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
        let decision = json(hoosh.get(&format!("/v1/decisions/{id}")).await).await;
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
