//! Promise: a provider that does not speak the caller's dialect is translated for, and what is lost is said.

use testkit::{End, Hoosh, Script, Upstream, chunk, completion, sse};

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
