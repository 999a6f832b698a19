//! Promise: every dialect is served over providers of every dialect, byte for byte where both speak the same.

use testkit::{End, Hoosh, Script, Upstream, chunk, client, completion, finish, sse};

use crate::{header, json};

/// A gateway before an upstream that is taken for this vendor.
pub(crate) async fn vendor(kind: &str) -> (Hoosh, Upstream) {
    vendor_with(kind, "").await
}

/// The same with more settings of the provider.
pub(crate) async fn vendor_with(kind: &str, more: &str) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    let config = format!(
        "[[providers]]\ntype = \"{kind}\"\nbase_url = \"{}\"\napi_key = \"k\"\nmodels = [\"*\"]\n{more}",
        upstream.url()
    );
    (Hoosh::start(&config).await, upstream)
}

pub(crate) const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#;
pub(crate) const GENERATED: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5}}"#;
pub(crate) const OLLAMA: &str = r#"{"model":"up","created_at":"2026-11-24T10:00:00Z","message":{"role":"assistant","content":"hi"},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}"#;
pub(crate) const RESPONSE: &str = r#"{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"up","output":[{"type":"message","id":"m","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}"#;

pub(crate) fn named(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

pub(crate) fn anthropic_stream() -> Vec<String> {
    vec![
        named(
            "message_start",
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
        ),
        named(
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        ),
        named("ping", r#"{"type": "ping"}"#),
        named(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#,
        ),
        named("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
        named(
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#,
        ),
        named("message_stop", r#"{"type":"message_stop"}"#),
    ]
}

/// Goal: a body goes to a provider of its dialect as it came, and the answer comes back as it came.
async fn check_passed(kind: &str, path: &str, upstream_path: &str, body: &str, reply: Script, shown: &str) {
    let (hoosh, upstream) = vendor(kind).await;
    upstream.always(reply);
    let response = hoosh.post(path, body.to_owned()).await;
    assert_eq!(response.status(), 200, "{path}: {}", response.text().await.unwrap());
    assert_eq!(header(&response, "x-hoosh-lossy"), "");
    assert_eq!(response.text().await.unwrap(), shown, "{path}");
    let sent = upstream.requests(upstream_path);
    assert_eq!(sent.len(), 1, "{upstream_path}");
    assert_eq!(String::from_utf8_lossy(&sent[0].body), body, "{path}");
    assert!(hoosh.log().contains("prompt_tokens=3"), "the books have it:\n{}", hoosh.log());
}

#[tokio::test]
async fn a_call_of_each_dialect_is_passed_through_byte_for_byte() {
    let odd = r#""odd" : [1.50, "h\u00e4"]"#;
    let body =
        format!(r#"{{ "model":"m","max_tokens":9,{odd},"messages":[ {{"role":"user","content":"x"}}]}}"#);
    check_passed("anthropic", "/v1/messages", "/v1/messages", &body, Script::json(MESSAGE), MESSAGE).await;
    let streamed = body.replace("{ ", r#"{ "stream":true, "#).replacen(r#"[ {"stream":true, "#, "[ {", 1);
    let stream = anthropic_stream();
    check_passed(
        "anthropic",
        "/v1/messages",
        "/v1/messages",
        &streamed,
        Script::stream(stream.clone()),
        &stream.concat(),
    )
    .await;

    let body = format!(r#"{{{odd},"contents":[{{"parts":[{{"text":"x"}}]}}]}}"#);
    let path = "/v1beta/models/gemini-x:generateContent";
    check_passed("google", path, path, &body, Script::json(GENERATED), GENERATED).await;
    let path = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse";
    let stream = format!("data: {GENERATED}\r\n\r\n");
    check_passed("google", path, path, &body, Script::stream([stream.clone()]), &stream).await;

    let body =
        format!(r#"{{"model":"m","stream":false,{odd},"messages":[{{"role":"user","content":"x"}}]}}"#);
    check_passed("ollama", "/api/chat", "/api/chat", &body, Script::json(OLLAMA), OLLAMA).await;
    let body = format!(r#"{{"model":"m",{odd},"input":"x"}}"#);
    check_passed("openai", "/v1/responses", "/v1/responses", &body, Script::json(RESPONSE), RESPONSE).await;
}

#[tokio::test]
async fn a_message_that_does_not_begin_is_begun() {
    let (hoosh, upstream) = vendor("anthropic").await;
    let rest = anthropic_stream().split_off(1);
    upstream.always(Script::stream(rest.clone()));
    let body = r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let text = hoosh.post("/v1/messages", body).await.text().await.unwrap();
    assert!(text.starts_with("event: message_start\n") && text.ends_with(&rest.concat()), "{text}");
}

#[tokio::test]
async fn ollamas_lines_are_passed_through_too() {
    let (hoosh, upstream) = vendor("ollama").await;
    let first = OLLAMA.replace(
        r#""done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2"#,
        r#""done":false"#,
    );
    upstream.always(Script::Bytes(lines(&[&first, OLLAMA])));
    let response =
        hoosh.post("/api/chat", r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#).await;
    assert_eq!(header(&response, "content-type"), "application/x-ndjson");
    assert_eq!(response.text().await.unwrap(), format!("{first}\n{OLLAMA}\n"));
}

/// A whole HTTP answer of these lines.
pub(crate) fn lines(lines: &[&str]) -> Vec<u8> {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n";
    format!("{head}{body}").into_bytes()
}

/// Goal: a call of any dialect is answered by an upstream that only chats, in the caller's words.
async fn check_translated(path: &str, body: &str, wanted: &str) {
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.always(Script::json(completion("hi")));
    let response = hoosh.post(path, body.to_owned()).await;
    assert_eq!(response.status(), 200, "{path}");
    let answer = response.text().await.unwrap();
    assert!(answer.contains(wanted), "{path}: {answer}");
    assert!(hoosh.log().contains("completion_tokens=2"), "{}", hoosh.log());
}

#[tokio::test]
async fn a_call_of_each_dialect_is_translated() {
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    check_translated(
        "/v1/messages",
        &format!(r#"{{"model":"m","max_tokens":9,{messages}}}"#),
        r#""stop_reason":"end_turn""#,
    )
    .await;
    check_translated("/v1/responses", r#"{"model":"m","input":"x"}"#, r#""status":"completed""#).await;
    check_translated(
        "/api/chat",
        &format!(r#"{{"model":"m","stream":false,{messages}}}"#),
        r#""done_reason":"stop""#,
    )
    .await;
    check_translated("/api/generate", r#"{"model":"m","stream":false,"prompt":"x"}"#, r#""response":"hi""#)
        .await;
    let contents = r#"{"contents":[{"parts":[{"text":"x"}]}]}"#;
    check_translated("/v1beta/models/m:generateContent", contents, r#""finishReason":"STOP""#).await;
    check_translated("/v1/models/m:generateContent", contents, r#""totalTokenCount":5"#).await;
}

#[tokio::test]
async fn gemini_without_alt_sse_streams_one_json_list() {
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.always(Script::stream([
        chunk(r#"{"content":"h"}"#),
        chunk(r#"{"content":"i"}"#),
        finish("stop"),
        sse("[DONE]"),
    ]));
    let response = hoosh
        .post("/v1beta/models/m:streamGenerateContent", r#"{"contents":[{"parts":[{"text":"x"}]}]}"#)
        .await;
    assert_eq!(header(&response, "content-type"), "application/json");
    let chunks: Vec<serde_json::Value> = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let texts: String = chunks
        .iter()
        .map(|chunk| chunk["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, "hi");
    assert_eq!(chunks.last().unwrap()["candidates"][0]["finishReason"], "STOP");
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_each_dialects_own_error() {
    let messages = r#""messages":[{"role":"user","content":"x"}],"stream":true"#;
    for (path, body, wanted) in [
        ("/v1/messages", format!(r#"{{"model":"m","max_tokens":9,{messages}}}"#), r#""type":"error""#),
        (
            "/v1/responses",
            r#"{"model":"m","input":"x","stream":true}"#.to_owned(),
            r#"event: response.failed"#,
        ),
        ("/api/chat", format!(r#"{{"model":"m",{messages}}}"#), r#"{"error":"#),
        (
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            r#"{"contents":[{"parts":[{"text":"x"}]}]}"#.to_owned(),
            r#""status":"UNAVAILABLE""#,
        ),
    ] {
        let (hoosh, upstream) = vendor("deepseek").await;
        upstream.always(Script::broken_stream([chunk(r#"{"content":"half"}"#)], End::Cut));
        let mut response = hoosh.post(path, body).await;
        let mut text = String::new();
        let is_cut = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(text.contains("half") && text.contains(wanted), "{path}: {text}");
        assert_eq!(is_cut, path.starts_with("/v1beta"), "{path}");
    }
}

#[tokio::test]
async fn errors_come_in_the_callers_dialect_with_its_class() {
    let (hoosh, upstream) = vendor("deepseek").await;
    let slow = r#"{"error":{"message":"slow down","type":"rate_limit","code":"rate_limit"}}"#;
    upstream.always(Script::Reply { status: 429, headers: "retry-after: 7\r\n".into(), body: slow.into() });
    let messages = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    for (path, body, pointer, word) in [
        ("/v1/messages", r#"{"model":"m"}"#, "/error/type", "invalid_request_error"),
        // Nothing is made up for a model that is told nothing.
        ("/v1beta/models/m:generateContent", r#"{"contents":[]}"#, "/error/message", "`contents`: is empty"),
        ("/v1/responses", r#"{"model":"m"}"#, "/error/message", "`input`: is empty"),
        ("/v1beta/models/m:tune", "{}", "/error/status", "NOT_FOUND"),
        ("/v1beta/nothing", "{}", "/error/status", "NOT_FOUND"),
        (
            "/api/chat",
            r#"{"model":"m","messages":7}"#,
            "/error",
            "messages: invalid type: integer `7`, expected a list of messages at line 1 column 25",
        ),
        ("/v1/responses", r#"{"model":"m","input":7}"#, "/error/type", "invalid_request_error"),
        (
            "/v1/responses",
            r#"{"model":"m","input":"x","previous_response_id":5}"#,
            "/error/param",
            "previous_response_id",
        ),
        (
            "/v1/responses",
            r#"{"model":"m","input":"x","previous_response_id":"resp_0"}"#,
            "/error/code",
            "previous_response_not_found",
        ),
        ("/v1/responses", r#"{"model":"m","input":"x","conversation":"c"}"#, "/error/param", "conversation"),
        ("/v1/responses", r#"{"model":"m","input":"x","tool_choice":"zzz"}"#, "/error/param", "tool_choice"),
        // Last, since whoever is over its limits is not asked again before the time is over.
        ("/v1/messages", messages, "/error/type", "rate_limit_error"),
        (
            "/v1beta/models/m:generateContent",
            r#"{"contents":[{"parts":[{"text":"x"}]}]}"#,
            "/error/status",
            "RESOURCE_EXHAUSTED",
        ),
    ] {
        let response = hoosh.post(path, body).await;
        if word.contains("rate") || word.contains("EXHAUSTED") {
            assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "7"), "{path}");
        }
        let answer = json(response).await;
        let told = answer.pointer(pointer).and_then(|word| word.as_str()).unwrap_or_default();
        assert!(told.contains(word) || path == "/api/chat" && told.contains("messages"), "{path}: {answer}");
    }
    let response = hoosh.post("/v1/messages", messages).await;
    let id = header(&response, "request-id").to_owned();
    assert!(id.starts_with("req_"), "Anthropic's SDK looks for it there");
    assert_eq!(json(response).await["request_id"], id);
}

#[tokio::test]
async fn usage_that_nobody_reports_is_counted() {
    let (hoosh, upstream) = vendor("deepseek").await;
    let whole = String::from_utf8(completion("one two three")).unwrap();
    let whole = whole.split(",\"usage\"").next().unwrap().to_owned() + "}";
    upstream.always(Script::json(whole));
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello world"}]}"#;
    assert_eq!(hoosh.post("/v1/chat/completions", body).await.status(), 200);
    assert!(
        hoosh.log().contains("prompt_tokens=9 completion_tokens=3 usage=\"estimated\""),
        "{}",
        hoosh.log()
    );
    let answer = json(
        hoosh
            .post(
                "/v1/messages",
                r#"{"model":"gpt-4o","max_tokens":9,"messages":[{"role":"user","content":"hello world"}]}"#,
            )
            .await,
    )
    .await;
    assert_eq!((&answer["usage"]["input_tokens"], &answer["usage"]["output_tokens"]), (&9.into(), &3.into()));
}

#[tokio::test]
async fn tokens_are_counted_beforehand() {
    let (hoosh, upstream) = vendor("deepseek").await;
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello world"}]}"#;
    let response = hoosh.post("/v1/messages/count_tokens", body).await;
    assert_eq!(header(&response, "x-hoosh-lossy"), "count_tokens (emulated)");
    assert_eq!(json(response).await, serde_json::json!({ "input_tokens": 9 }));
    let body = r#"{"contents":[{"parts":[{"text":"hello world"}]}]}"#;
    let counted = json(hoosh.post("/v1beta/models/gpt-4o:countTokens", body).await).await;
    assert_eq!(counted, serde_json::json!({ "totalTokens": 9 }));
    assert!(upstream.requests("/chat/completions").is_empty());

    // One of the dialect's own that lacks this part of it is no reason to fail.
    let (hoosh, upstream) = vendor("anthropic").await;
    upstream.always(Script::status(404, r#"{"error":"no such path"}"#));
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hello world"}]}"#;
    let response = hoosh.post("/v1/messages/count_tokens", body).await;
    assert_eq!(header(&response, "x-hoosh-lossy"), "count_tokens (emulated)");
}

#[tokio::test]
async fn rate_limits_of_the_provider_are_told_in_the_callers_names() {
    let (hoosh, upstream) = vendor("anthropic").await;
    let headers = "anthropic-ratelimit-requests-remaining: 9\r\nset-cookie: secret=1\r\n";
    upstream.always(Script::Reply { status: 200, headers: headers.into(), body: MESSAGE.into() });
    let response = hoosh
        .post("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#)
        .await;
    assert_eq!(header(&response, "x-ratelimit-remaining-requests"), "9");
    assert_eq!(header(&response, "anthropic-ratelimit-requests-remaining"), "9");
    assert_eq!(header(&response, "set-cookie"), "");
}

#[tokio::test]
async fn anthropics_beta_headers_go_along_and_its_keys_are_taken() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(MESSAGE));
    let config = format!(
        "[auth]\ntokens = [\"t\"]\n[[providers]]\ntype = \"anthropic\"\nbase_url = \"{}\"\napi_key = \"vendor-key\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    let hoosh = Hoosh::start(&config).await;
    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    let request = client()
        .post(hoosh.url("/v1/messages"))
        .header("x-api-key", "t")
        .header("anthropic-beta", "new-thing");
    assert_eq!(
        request.header("anthropic-version", "2023-06-01").body(body).send().await.unwrap().status(),
        200
    );
    let sent = upstream.requests("/messages")[0].head.to_ascii_lowercase();
    assert!(sent.contains("anthropic-beta: new-thing") && sent.contains("x-api-key: vendor-key"), "{sent}");
    assert!(!sent.contains("x-api-key: t\r"), "{sent}");
    let google = client().get(hoosh.url("/v1beta/models?key=t")).send().await.unwrap();
    assert_eq!(google.status(), 200);
    assert_eq!(client().get(hoosh.url("/api/tags")).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn lists_of_models_come_in_each_dialects_form() {
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.listing(testkit::listing(&["m-1"]));
    let gemini = json(hoosh.get("/v1beta/models").await).await;
    assert_eq!(gemini["models"][0]["name"], "models/m-1");
    let tags = json(hoosh.get("/api/tags").await).await;
    assert_eq!(tags["models"][0]["name"], "m-1");
    let anthropic =
        client().get(hoosh.url("/v1/models")).header("anthropic-version", "2023-06-01").send().await.unwrap();
    assert_eq!(json(anthropic).await["data"][0]["type"], "model");
    let one = client().get(hoosh.url("/v1/models/deepseek%2Fm-1")).header("anthropic-version", "2023-06-01");
    assert_eq!(json(one.send().await.unwrap()).await["display_name"], "m-1");
    let shown = json(hoosh.post("/api/show", r#"{"model":"m-1"}"#).await).await;
    assert_eq!(shown["capabilities"][0], "completion");
    assert_eq!(hoosh.post("/api/show", r#"{"model":"nobody"}"#).await.status(), 404);
    assert!(json(hoosh.get("/api/version").await).await["version"].is_string());
    assert_eq!(json(hoosh.get("/api/ps").await).await, serde_json::json!({ "models": [] }));
}

#[tokio::test]
async fn reranking_and_moderation_are_passed_through_to_those_who_can() {
    let ranked =
        r#"{"results":[{"index":0,"relevance_score":0.9}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    let body = r#"{"model":"m","query":"q","documents":["a"]}"#;
    check_passed("llamacpp", "/v1/rerank", "/v1/rerank", body, Script::json(ranked), ranked).await;
    let (hoosh, upstream) = vendor("openai").await;
    upstream.always(Script::json(r#"{"id":"modr-1","model":"o","results":[{"flagged":false}]}"#));
    assert_eq!(hoosh.post("/v1/moderations", r#"{"input":"x"}"#).await.status(), 200);
    let (hoosh, _upstream) = vendor("deepseek").await;
    let response = hoosh.post("/v1/rerank", body).await;
    assert_eq!(response.status(), 400);
    assert!(json(response).await["error"]["message"].as_str().unwrap().contains("it has no rerank"));
}

#[tokio::test]
async fn signatures_of_other_vendors_keep_a_body_from_being_passed_through() {
    let (hoosh, upstream) = vendor("anthropic").await;
    upstream.always(Script::json(MESSAGE));
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":99,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"hoosh:gemini:c2ln"},{"type":"text","text":"a"}]},{"role":"user","content":"y"}]}"#;
    let response = hoosh.post("/v1/messages", body).await;
    assert_eq!(response.status(), 200);
    let sent = String::from_utf8(upstream.requests("/messages")[0].body.clone()).unwrap();
    assert!(!sent.contains("hoosh:gemini") && sent.contains("\"a\""), "{sent}");

    // Nor does one that nobody signed, which a model without signatures thought.
    let unsigned = body.replace("hoosh:gemini:c2ln", "");
    assert_eq!(hoosh.post("/v1/messages", unsigned).await.status(), 200);
    let sent = String::from_utf8(upstream.requests("/messages")[1].body.clone()).unwrap();
    assert!(!sent.contains("thinking") && sent.contains("\"a\""), "{sent}");
}
