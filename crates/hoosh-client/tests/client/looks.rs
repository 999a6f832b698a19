//! What the gateway knows without asking a model: models, health, providers.

use std::time::Duration;

use hoosh_client::{ClientError, ModelInfo, ProviderCondition, Readiness};

use crate::script::{Act, Gateway, answer, ok};

#[tokio::test]
async fn models_are_read_whatever_else_is_said_of_them() {
    let gateway = Gateway::playing([ok(r#"{"object":"list","data":[
        {"id":"llama3:8b","object":"model","created":17,"owned_by":"ollama","hoosh":{"provider":"local",
         "context_window":8192,"output_max":2048,"input":["text","image","smell"],"output":["text"],"tools":true,
         "reasoning":false,"temperature":"maybe","deprecated":null,"new":[1]}},
        {"id":"gpt-4o","created":"yesterday","owned_by":"openai","hoosh":"none"},
        {"id":"bare"}]}"#)]);
    let models = gateway.client().list_models().await.unwrap();

    let [llama, gpt, bare] = &models[..] else { panic!("{models:?}") };
    let expect = ModelInfo {
        context_window: Some(8192),
        output_max: Some(2048),
        input: llama.input,
        output: llama.output,
        tools: Some(true),
        reasoning: Some(false),
        created: Some(17),
        owned_by: Some("ollama".into()),
        ..ModelInfo::named("local", "llama3:8b")
    };
    assert_eq!((llama, llama.input.to_string().as_str()), (&expect, "text, image"));
    assert_eq!(*gpt, ModelInfo { owned_by: Some("openai".into()), ..ModelInfo::named("openai", "gpt-4o") });
    assert_eq!(*bare, ModelInfo::named("", "bare"));
}

#[tokio::test]
async fn one_model_is_asked_for_by_its_name() {
    let missing = r#"{"error":{"message":"no provider serves the model `x`","code":"model_not_found"}}"#;
    let mut gateway = Gateway::playing([
        ok(r#"{"id":"meta/llama 3","owned_by":"openrouter"}"#),
        Act::Answer(answer("404 Not Found", &[], missing)),
    ]);
    let client = gateway.client();

    let model = client.model("openrouter/meta/llama 3").await.unwrap();
    assert_eq!(model.id, "meta/llama 3");
    assert_eq!(gateway.request().await.line(), "GET /v1/models/openrouter/meta/llama%203 HTTP/1.1");

    let error = client.model("x").await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(404), Some("model_not_found")));
}

#[tokio::test]
async fn a_list_that_is_none_names_what_is_wrong() {
    let gateway = Gateway::playing([ok("{}"), ok(r#"{"data":[{"id":"a"},{"name":"b"}]}"#), ok("nope")]);
    let (client, url) = (gateway.client(), &gateway.url);
    for expected in [
        format!("{url}: the answer is unreadable: `data`: is missing or not a list"),
        format!("{url}: the answer is unreadable: `data[1].id`: is missing or not a string"),
        format!("{url}: the answer is unreadable: it is not JSON (expected ident at line 1 column 2)"),
    ] {
        assert_eq!(client.list_models().await.unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn health_is_told_even_by_a_gateway_that_is_stopping() {
    let ready = ok(r#"{"status":"ok","version":"2.0.0","providers":3,"uptime":9}"#);
    let draining = Act::Answer(answer("503 Service Unavailable", &[], r#"{"status":"draining"}"#));
    let odd = ok(r#"{"status":"dreaming"}"#);
    let down = Act::Answer(answer("503 Service Unavailable", &["retry-after: 3"], "upstream is down"));
    let mut gateway = Gateway::playing([ready, draining, odd, down, ok("[]")]);
    let client = gateway.client();

    let health = client.health().await.unwrap();
    assert!(health.is_ok());
    assert_eq!((health.version.as_deref(), health.providers), (Some("2.0.0"), Some(3)));
    assert_eq!(gateway.request().await.line(), "GET /v1/health HTTP/1.1");

    let health = client.health().await.unwrap();
    assert_eq!((health.status, health.version, health.providers), (Readiness::Draining, None, None));
    assert_eq!(client.health().await.unwrap().status, Readiness::Other("dreaming".into()));

    let error = client.health().await.unwrap_err();
    assert_eq!(error.to_string(), "the gateway answered 503: upstream is down");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert!(matches!(client.health().await, Err(ClientError::Decode { .. })));
}

#[tokio::test]
async fn providers_are_told_even_if_none_is_healthy() {
    let list = r#"{"providers":[
        {"name":"a","type":"ollama","base_url":"http://localhost:11434","status":"healthy","latency_ms":12,"models":3,"error":null,"more":1},
        {"name":"b","type":"openai","status":"unhealthy","latency_ms":1.5,"models":null,"error":"connection refused"},
        {"name":"c","status":"resting"}]}"#;
    let mut gateway = Gateway::playing([
        ok(list),
        Act::Answer(answer("503 Service Unavailable", &[], list)),
        ok(r#"{"providers":[{}]}"#),
    ]);
    let client = gateway.client();

    let providers = client.providers().await.unwrap();
    assert_eq!(gateway.request().await.line(), "GET /v1/health/providers HTTP/1.1");
    assert_eq!(client.providers().await.unwrap(), providers);

    let [a, b, c] = &providers[..] else { panic!("{providers:?}") };
    assert!(a.is_healthy() && !b.is_healthy() && !c.is_healthy());
    assert_eq!((a.name.as_str(), a.provider_type.as_str(), a.models), ("a", "ollama", Some(3)));
    assert_eq!(
        (a.base_url.as_deref(), a.latency),
        (Some("http://localhost:11434"), Some(Duration::from_millis(12)))
    );
    assert_eq!((b.models, b.error.as_deref()), (None, Some("connection refused")));
    assert_eq!(c.status, ProviderCondition::Other("resting".into()));

    let error = client.providers().await.unwrap_err().to_string();
    assert!(error.ends_with("`providers[0].status`: is missing or not a string"), "{error}");
}
