//! Promise: a provider that does not speak the caller's dialect is translated for, and what is lost is said.

use testkit::{End, Hoosh, Script, Upstream, chunk, completion, finish, sse};

use crate::dialects::vendor;
use crate::{header, json};

/// A gateway before an upstream that is taken for DeepSeek, which has chat and no completions.
async fn chat_only() -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    let config = format!(
        "[[providers]]\ntype = \"deepseek\"\nbase_url = \"{}/v1\"\napi_key = \"k\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    (Hoosh::start(&config).await, upstream)
}

#[tokio::test]
async fn completions_over_chat() {
    let (hoosh, upstream) = chat_only().await;
    upstream.always(Script::json(completion("there was")));

    let body = r#"{"model":"m","prompt":"once","max_tokens":7,"temperature":0.10,"echo":true,"logit_bias":{"1":-100}}"#;
    let response = hoosh.post("/v1/completions", body).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-lossy")), (200, "echo"));
    let answer = json(response).await;
    assert_eq!(
        (&answer["object"], &answer["choices"][0]["text"]),
        (&"text_completion".into(), &"there was".into())
    );
    assert_eq!(
        (&answer["choices"][0]["finish_reason"], &answer["usage"]["total_tokens"]),
        (&"stop".into(), &5.into())
    );
    assert_eq!(
        String::from_utf8(upstream.requests("/chat/completions")[0].body.clone()).unwrap(),
        r#"{"model":"m","messages":[{"role":"user","content":"once"}],"max_tokens":7,"temperature":0.10,"logit_bias":{"1":-100}}"#
    );
}

#[tokio::test]
async fn streamed_completions_over_chat() {
    let (hoosh, upstream) = chat_only().await;
    let finish = chunk("{}").replace("\"finish_reason\":null", "\"finish_reason\":\"length\"");
    let usage = sse(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#);
    upstream.always(Script::stream([
        chunk(r#"{"role":"assistant","content":""}"#),
        chunk(r#"{"content":"there "}"#),
        chunk(r#"{"content":"was"}"#),
        finish,
        usage,
        sse("[DONE]"),
    ]));
    for (options, has_usage) in [("", false), (r#","stream_options":{"include_usage":true}"#, true)] {
        let body = format!(r#"{{"model":"m","prompt":"once","stream":true{options}}}"#);
        let text = hoosh.post("/v1/completions", body).await.text().await.unwrap();
        let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
        assert_eq!(events.last(), Some(&"data: [DONE]"));
        let texts: String = events[..events.len() - 1]
            .iter()
            .map(|event| serde_json::from_str::<serde_json::Value>(&event["data: ".len()..]).unwrap())
            .filter_map(|event| event["choices"][0]["text"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(texts, "there was");
        assert_eq!(text.contains("\"total_tokens\":5"), has_usage, "{text}");
        assert!(text.contains("\"finish_reason\":\"length\""), "{text}");
    }
    assert!(hoosh.log().contains("completion_tokens=2"), "the books have it:\n{}", hoosh.log());
}

#[tokio::test]
async fn a_translated_stream_that_breaks_ends_with_an_error_event() {
    let (hoosh, upstream) = chat_only().await;
    upstream.always(Script::broken_stream([chunk(r#"{"content":"there "}"#)], End::Cut));
    let text = hoosh
        .post("/v1/completions", r#"{"model":"m","prompt":"once","stream":true}"#)
        .await
        .text()
        .await
        .unwrap();
    assert!(
        text.contains("there ") && text.contains("upstream_broken") && !text.contains("[DONE]"),
        "{text}"
    );
}

#[tokio::test]
async fn what_only_the_dialect_itself_can_carry_is_refused_and_said() {
    let (hoosh, _upstream) = chat_only().await;
    let response = hoosh.post("/v1/completions", r#"{"model":"m","prompt":["a","b"]}"#).await;
    assert_eq!(response.status(), 400);
    let error = json(response).await["error"].clone();
    assert_eq!(error["param"], "prompt");
    assert!(error["message"].as_str().unwrap().contains("only a string works"), "{error}");
}

/// Goal: what a server sends between the pieces of a call does not tear the call apart in dialects that have one piece at
/// a time, or calls only whole.
#[tokio::test]
async fn text_inside_a_call_stays_outside_it() {
    let call = |rest: &str| chunk(&format!(r#"{{"tool_calls":[{{"index":0,{rest}}}]}}"#));
    let stream = [
        call(r#""id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":"}"#),
        chunk(r#"{"content":"wait"}"#),
        call(r#""function":{"arguments":"1}"}"#),
        finish("tool_calls"),
        sse("[DONE]"),
    ];
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.always(Script::stream(stream));
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    let body = format!(r#"{{"model":"m","max_tokens":9,"stream":true,{messages}}}"#);
    let text = hoosh.post("/v1/messages", body).await.text().await.unwrap();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<serde_json::Value> = events.map(|data| serde_json::from_str(data).unwrap()).collect();
    let (mut open, mut arguments, mut said) = (None, String::new(), String::new());
    for event in &events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => assert_eq!(open.replace(event["index"].clone()), None, "{text}"),
            "content_block_stop" => assert_eq!(open.take().as_ref(), Some(&event["index"]), "{text}"),
            "content_block_delta" => {
                assert_eq!(open.as_ref(), Some(&event["index"]), "{text}");
                arguments.push_str(event["delta"]["partial_json"].as_str().unwrap_or_default());
                said.push_str(event["delta"]["text"].as_str().unwrap_or_default());
            }
            _ => {}
        }
    }
    assert_eq!((arguments.as_str(), said.as_str()), (r#"{"a":1}"#, "wait"), "{text}");

    let path = "/v1beta/models/m:streamGenerateContent?alt=sse";
    let text = hoosh.post(path, r#"{"contents":[{"parts":[{"text":"x"}]}]}"#).await.text().await.unwrap();
    assert_eq!(text.matches("functionCall").count(), 1, "{text}");
    assert!(text.contains(r#""args":{"a":1}"#) && text.contains(r#""text":"wait""#), "{text}");
}
