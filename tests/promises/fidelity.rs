//! Promise: what a provider cannot be told is reported, refused or kept quiet, as the caller wants it.

use testkit::{Hoosh, Script, Upstream, client, completion};

use crate::dialects::{MESSAGE, anthropic_stream, named, vendor, vendor_with};
use crate::{header, json};

#[tokio::test]
async fn what_cannot_be_said_is_reported_refused_or_kept_quiet() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"seed":7,"logit_bias":{"1":1}}"#;
    let (hoosh, upstream) = vendor("anthropic").await;
    upstream.always(Script::json(MESSAGE));
    let response = hoosh.post("/v1/chat/completions", body).await;
    let lossy = header(&response, "x-hoosh-lossy").to_owned();
    assert!(lossy.contains("seed") && lossy.contains("logit_bias"), "{lossy}");
    let metrics = hoosh.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains(r#"hoosh_fidelity_notes_total{field="seed",kind="lost",dialect="openai_chat",provider="anthropic"} 1"#), "{metrics}");

    let ask = async |mode: &str| {
        let request =
            client().post(hoosh.url("/v1/chat/completions")).header("x-hoosh-fidelity", mode.to_owned());
        request.header("content-type", "application/json").body(body).send().await.unwrap()
    };
    let refused = ask("strict").await;
    assert_eq!(refused.status(), 400);
    let error = json(refused).await["error"].clone();
    assert_eq!(error["code"], "not_expressible");
    assert!(error["message"].as_str().unwrap().contains("`anthropic`: not logit_bias, seed"), "{error}");
    assert_eq!(upstream.requests("/messages").len(), 1, "nobody was asked");
    assert_eq!(header(&ask("silent").await, "x-hoosh-lossy"), "");
    assert_eq!(ask("loudly").await.status(), 400);

    // Said for the provider, it holds without a word of the caller's.
    let (strict, upstream) = vendor_with("anthropic", "lossy = \"strict\"\n").await;
    upstream.always(Script::json(MESSAGE));
    assert_eq!(strict.post("/v1/chat/completions", body).await.status(), 400);
    let plain = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(strict.post("/v1/chat/completions", plain).await.status(), 200);
}

#[tokio::test]
async fn a_strict_call_goes_to_a_provider_that_can_be_told_all() {
    let (lossy, faithful) = (Upstream::start().await, Upstream::start().await);
    lossy.always(Script::json(MESSAGE));
    faithful.always(Script::json(completion("hi")));
    let provider = |kind: &str, upstream: &Upstream, priority: u32| {
        format!(
            "[[providers]]\ntype = \"{kind}\"\nbase_url = \"{}\"\napi_key = \"k\"\nmodels = [\"*\"]\npriority = {priority}\n",
            upstream.url()
        )
    };
    let config = format!(
        "lossy = \"strict\"\n{}{}",
        provider("anthropic", &lossy, 1),
        provider("deepseek", &faithful, 2)
    );
    let hoosh = Hoosh::start(&config).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"seed":7}"#;
    let response = hoosh.post("/v1/chat/completions", body).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-provider")), (200, "deepseek"));
    assert!(lossy.requests("/messages").is_empty());
}

#[tokio::test]
async fn what_is_lost_late_stands_in_a_comment_of_the_stream() {
    let (hoosh, upstream) = vendor("anthropic").await;
    let mut stream = anthropic_stream();
    stream.splice(1..1, [
        named("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#),
        named("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
    ]);
    upstream.always(Script::stream(stream));
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let text = hoosh.post("/v1/chat/completions", body).await.text().await.unwrap();
    assert!(text.contains("\n: x-hoosh-lossy: ") && text.contains("server_tool_use"), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn whatever_fields_are_called_the_header_can_be_read() {
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.always(Script::json(completion("hi")));
    let ask = async |fields: &str| {
        let messages = r#""messages":[{"role":"user","content":"x"}]"#;
        let body = format!(r#"{{"model":"m","max_tokens":9,{fields},{messages}}}"#);
        let response = hoosh.post("/v1/messages", body).await;
        assert_eq!(response.status(), 200);
        header(&response, "x-hoosh-lossy").to_owned()
    };
    assert_eq!(ask(r#""a\nb":1,"ü":1,"container":"c""#).await, "a%0Ab, %C3%BC, container");
    // What says nothing is not lost.
    assert_eq!(ask(r#""container":null,"mcp_servers":[]"#).await, "");
    let many: Vec<String> = (0..2_000).map(|number| format!(r#""field{number}":1"#)).collect();
    let lossy = ask(&many.join(",")).await;
    assert!(lossy.len() < 8_000 && lossy.contains("field0,") && lossy.ends_with("and_others"), "{lossy}");
    let long = ask(&format!(r#""{}":1"#, "x".repeat(5_000))).await;
    assert!(long.len() < 100, "{long}");
    // A caller cannot make the metrics grow.
    let metrics = hoosh.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains(r#"field="other""#) && metrics.lines().count() < 20, "{metrics}");
}

#[tokio::test]
async fn broken_arguments_of_a_call_are_told() {
    let (hoosh, upstream) = vendor("anthropic").await;
    upstream.always(Script::json(MESSAGE));
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{broken"}}]},{"role":"tool","tool_call_id":"c","content":"r"}]}"#;
    let response = hoosh.post("/v1/chat/completions", body).await;
    assert_eq!(header(&response, "x-hoosh-lossy"), "messages[1].tool_calls (emulated)");
}

#[tokio::test]
async fn what_is_new_inside_an_object_is_told_by_its_name() {
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.always(Script::json(completion("hi")));
    let body = r#"{"model":"m","max_tokens":9,"output_config":{"task_budget":{"type":"tokens","total":9}},"messages":[{"role":"user","content":"x"}]}"#;
    let response = hoosh.post("/v1/messages", body).await;
    assert_eq!(header(&response, "x-hoosh-lossy"), "output_config.task_budget");

    // To Anthropic it goes even where the body has to be written anew.
    let (hoosh, upstream) = vendor("anthropic").await;
    upstream.always(Script::json(MESSAGE));
    let thought = r#""messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"a"}]},"#;
    let body = body.replace("\"messages\":[", thought);
    let response = hoosh.post("/v1/messages", body).await;
    assert_eq!(header(&response, "x-hoosh-lossy"), "messages.reasoning");
    let sent = String::from_utf8(upstream.requests("/messages")[0].body.clone()).unwrap();
    assert!(sent.contains(r#""output_config":{"task_budget":{"type":"tokens","total":9}}"#), "{sent}");
}
