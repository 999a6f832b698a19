//! Whole answers: inference and embeddings, their errors and their times.

use std::time::Duration;

use hoosh_client::{
    CallMeta, ClientError, EmbeddingRequest, FidelityNote, FinishReason, HooshClient, InferenceStream,
    NanoUsd, Retry, Timeout, TransportKind,
};

use crate::script::{Act, Gateway, Seen, answer, ok, question};

const REPLY: &str = r#"{"id":"x","object":"chat.completion","created":17,"model":"llama3:8b",
    "choices":[{"index":0,"message":{"role":"assistant","content":"häß 日本"},"finish_reason":"stop"}],
    "usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;

#[tokio::test]
async fn a_question_gets_its_answer() {
    let mut gateway = Gateway::playing([ok(REPLY)]);
    let response = gateway.client().infer(&question()).await.unwrap();

    assert_eq!((response.text.as_str(), response.model.as_str()), ("häß 日本", "llama3:8b"));
    assert_eq!(response.finish_reason(), Some(&FinishReason::Stop));
    assert_eq!(response.usage.unwrap().total(), 7);
    assert_eq!(response.notes, []);

    let request = gateway.request().await;
    assert_eq!(request.line(), "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(request.body, r#"{"model":"llama3","messages":[{"role":"user","content":"hi"}]}"#);
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn what_the_gateway_says_in_headers_comes_along() {
    let headers = [
        "x-request-id: 01J",
        "x-hoosh-provider: ollama",
        "x-hoosh-model: llama3:8b",
        "x-hoosh-attempts: 2",
        "x-hoosh-cost: 0.000012500",
        "x-hoosh-lossy: logit_bias,seed",
    ];
    let gateway = Gateway::playing([Act::Answer(answer("200 OK", &headers, REPLY))]);
    let (response, meta) = gateway.client().infer_with_meta(&question()).await.unwrap();

    let mut expect = CallMeta::default();
    expect.request_id = Some("01J".into());
    expect.provider = Some("ollama".into());
    expect.model = Some("llama3:8b".into());
    expect.attempts = Some(2);
    expect.cost = Some(NanoUsd(12_500));
    expect.lossy = ["logit_bias", "seed"].map(FidelityNote::new).into();
    assert_eq!(response.notes, expect.lossy);
    assert_eq!(meta, expect);
}

#[tokio::test]
async fn a_model_that_there_is_not_comes_back_with_names_like_it() {
    let body = r#"{"error":{"message":"no provider serves the model `lama3`; did you mean `llama3`?",
        "type":"invalid_request_error","param":"model","code":"model_not_found"}}"#;
    let gateway = Gateway::playing([Act::Answer(answer("404 Not Found", &["x-request-id: 01J"], body))]);
    let error = gateway.client().infer(&question()).await.unwrap_err();

    let expect = ClientError::Api {
        status: Some(404),
        code: Some("model_not_found".into()),
        message: "no provider serves the model `lama3`; did you mean `llama3`?".into(),
        param: Some("model".into()),
        retry: Retry::Elsewhere,
        request_id: Some("01J".into()),
    };
    assert_eq!(error, expect);
    assert_eq!(
        error.to_string(),
        "the gateway answered 404 (model_not_found): no provider serves the model `lama3`; did you mean `llama3`? \
         [request 01J]"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_no_more_tried() {
    let body = r#"{"error":{"message":"the key is not known","type":"authentication_error","code":"invalid_api_key"}}"#;
    let mut gateway = Gateway::playing([Act::Answer(answer("401 Unauthorized", &[], body))]);
    let client = HooshClient::builder(&gateway.url).token("hk-123").build();
    let error = client.infer(&question()).await.unwrap_err();

    assert_eq!((error.status(), error.code()), (Some(401), Some("invalid_api_key")));
    assert!(!error.is_retryable());
    assert_eq!(gateway.request().await.header("authorization"), Some("Bearer hk-123"));
}

#[tokio::test]
async fn a_limit_says_when_to_come_back() {
    let body = r#"{"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
    let gateway = Gateway::playing([Act::Answer(answer("429 Too Many Requests", &["retry-after: 7"], body))]);
    let error = gateway.client().infer(&question()).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn an_error_of_something_else_is_told_as_it_is() {
    let html = Act::Answer(answer("502 Bad Gateway", &["content-type: text/html"], "<html>nginx</html>"));
    let cut = Act::Answer(b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nhalf of it".to_vec());
    let moved = Act::Answer(answer("308 Permanent Redirect", &["location: https://elsewhere/"], ""));
    let client = Gateway::playing([html, cut, moved]).client();

    let error = client.infer(&question()).await.unwrap_err();
    assert_eq!(error.to_string(), "the gateway answered 502: <html>nginx</html>");
    assert!(error.is_retryable());

    let error = client.infer(&question()).await.unwrap_err();
    assert_eq!(error.to_string(), "the gateway answered 500: half of it");

    let error = client.infer(&question()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the gateway answered 308: it redirects to `https://elsewhere/`, which is not followed; use the URL that it names"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn an_answer_that_is_none_is_said_to_be_none() {
    let html = Act::Answer(answer("200 OK", &["content-type: text/html; charset=utf-8"], "<html>"));
    let reported = ok(r#"{"error":{"message":"it broke","code":"upstream_broken"}}"#);
    let gateway = Gateway::playing([ok("garbage"), ok("{}"), html, reported]);
    let (client, url) = (gateway.client(), &gateway.url);

    for expected in [
        format!("{url}: the answer is unreadable: expected value"),
        format!("{url}: the answer is unreadable: `choices`: is missing"),
        format!("{url}: the answer is `text/html`, not JSON; is that a hoosh gateway?"),
    ] {
        let error = client.infer(&question()).await.unwrap_err();
        assert!(matches!(error, ClientError::Decode { .. }) && !error.is_retryable());
        assert_eq!(error.to_string(), expected);
    }
    let error = client.infer(&question()).await.unwrap_err();
    assert_eq!(error.to_string(), "the gateway broke the answer off (upstream_broken): it broke");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    let half = Act::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\":[".to_vec());
    let nothing = Act::Answer(Vec::new());
    let client = Gateway::playing([half, nothing]).client();
    for _ in 0..2 {
        let error = client.infer(&question()).await.unwrap_err();
        assert!(matches!(error, ClientError::Transport { kind: TransportKind::Broken, .. }), "{error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn nobody_at_home_is_no_connection() {
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let error = HooshClient::new(&url).infer(&question()).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { kind: TransportKind::Connect, .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("{url}: no connection: Connection refused")), "{error}");
    assert!(error.is_retryable() && !error.is_timeout());
}

#[tokio::test]
async fn a_bad_url_or_token_is_an_error_of_the_first_call() {
    let error = HooshClient::new("localhost:8088").infer(&question()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "gateway URL `localhost:8088`: has no scheme; did you mean `http://localhost:8088`?"
    );
    let client = HooshClient::builder("http://localhost:1").token("hk\n123").build();
    assert_eq!(client.health().await, Err(ClientError::Token));
}

/// Stops the clock once the gateway has the request, so that it then runs to the first of the client's times.
async fn stopping_the_clock<T>(gateway: &mut Gateway, call: impl Future<Output = T>) -> T {
    let stop = async {
        gateway.request().await;
        tokio::time::pause();
    };
    // Joined by hand, since all there is to join with is in crates that a client does without.
    let (mut call, mut stop) = (std::pin::pin!(call), std::pin::pin!(stop));
    let mut stopped = false;
    std::future::poll_fn(|context| {
        stopped = stopped || stop.as_mut().poll(context).is_ready();
        call.as_mut().poll(context)
    })
    .await
}

#[track_caller]
fn check_timeout(error: &ClientError, which: Timeout, ends_in: &str) {
    assert!(
        matches!(error, ClientError::Transport { kind: TransportKind::Timeout(found), .. } if *found == which),
        "{error:?}"
    );
    assert!(error.to_string().ends_with(ends_in), "{error}");
    assert!(error.is_timeout() && error.is_retryable());
}

#[tokio::test]
async fn a_gateway_that_never_answers_is_waited_for_as_long_as_the_call_may_take() {
    let mut gateway = Gateway::playing([Act::Hang(Vec::new())]);
    let (client, question) = (gateway.client(), question());
    let error = stopping_the_clock(&mut gateway, client.infer(&question)).await.unwrap_err();
    check_timeout(&error, Timeout::Total, ": the call was not done within 605 s");
    assert_eq!(gateway.seen().await, Seen::Closed);
}

#[tokio::test]
async fn a_stream_that_never_begins_is_waited_for_less_long() {
    let mut gateway = Gateway::playing([Act::Hang(Vec::new()), Act::Hang(Vec::new())]);
    let (client, question) = (gateway.client(), question());
    let error = stopping_the_clock(&mut gateway, client.infer_stream(&question)).await.unwrap_err();
    check_timeout(&error, Timeout::FirstByte, ": no answer within 245 s");
    assert_eq!(gateway.seen().await, Seen::Closed);

    tokio::time::resume();
    let client = HooshClient::builder(&gateway.url).first_byte_timeout(Duration::from_millis(1500)).build();
    let error = stopping_the_clock(&mut gateway, client.infer_stream(&question)).await.unwrap_err();
    check_timeout(&error, Timeout::FirstByte, ": no answer within 1.5 s");
}

#[tokio::test]
async fn a_look_is_never_waited_for_long() {
    let mut gateway = Gateway::playing([Act::Hang(Vec::new())]);
    let client = gateway.client();
    let error = stopping_the_clock(&mut gateway, client.health()).await.unwrap_err();
    check_timeout(&error, Timeout::Total, ": the call was not done within 10 s");
}

#[tokio::test]
async fn half_an_answer_and_then_silence_is_idle() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\":[".to_vec();
    let mut gateway = Gateway::playing([Act::Hang(half)]);
    // In real time: the clock could only be stopped once the head has come, which nobody is told.
    let client = HooshClient::builder(&gateway.url).idle_timeout(Duration::from_millis(50)).build();
    let error = client.infer(&question()).await.unwrap_err();
    check_timeout(&error, Timeout::Idle, ": the answer stopped: nothing more came for 0.05 s");
    gateway.request().await;
    assert_eq!(gateway.seen().await, Seen::Closed);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_does_not_open_is_given_up() {
    // A listener whose queue is full drops what knocks, as a host behind a firewall does.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while queue.len() < 64 {
        let knock = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(100), knock).await {
            Ok(connected) => queue.push(connected.unwrap()),
            Err(_) => break,
        }
    }

    let client =
        HooshClient::builder(format!("http://{address}")).connect_timeout(Duration::from_millis(50)).build();
    let error = client.infer(&question()).await.unwrap_err();
    check_timeout(&error, Timeout::Connect, ": no connection within 0.05 s");
}

#[tokio::test]
async fn embeddings_come_in_either_form() {
    // 1.0 and -2.5 as little-endian f32s.
    let floats = r#"{"object":"list","model":"e","data":[{"index":0,"embedding":[1.0,-2.5]}],"usage":{"prompt_tokens":4,"total_tokens":4}}"#;
    let base64 = r#"{"object":"list","model":"e","data":[{"index":0,"embedding":"AACAPwAAIMA="}]}"#;
    let headed = Act::Answer(answer("200 OK", &["x-hoosh-provider: ollama"], floats));
    let mut gateway = Gateway::playing([headed, ok(base64), ok("{}")]);
    let client = gateway.client();
    let request = EmbeddingRequest { model: "nomic".into(), input: vec!["a".into()], ..Default::default() };

    let (response, meta) = client.embeddings_with_meta(&request).await.unwrap();
    assert_eq!(response.embeddings, [[1.0, -2.5]]);
    assert_eq!(response.usage.unwrap().input, Some(4));
    assert_eq!(meta.provider.as_deref(), Some("ollama"));
    let sent = gateway.request().await;
    assert_eq!(sent.line(), "POST /v1/embeddings HTTP/1.1");
    assert_eq!(sent.body, r#"{"model":"nomic","input":["a"]}"#);

    assert_eq!(client.embeddings(&request).await.unwrap().embeddings, [[1.0, -2.5]]);
    assert!(matches!(client.embeddings(&request).await, Err(ClientError::Decode { .. })));
}

#[tokio::test]
async fn the_token_is_in_no_debug_and_no_error() {
    let builder = HooshClient::builder("http://user:s3cret@localhost").token("s3cret");
    let shown = format!("{builder:?}");
    assert!(!shown.contains("s3cret") && shown.contains("<redacted>"), "{shown}");
    let client = builder.build();
    let shown = format!("{client:?} {:#?}", client.health().await);
    assert!(!shown.contains("s3cret") && shown.contains("<redacted>"), "{shown}");

    let client = HooshClient::builder("http://127.0.0.1:1").token("s3cret").build();
    let shown = format!("{client:?} {:?}", client.health().await);
    assert!(!shown.contains("s3cret"), "{shown}");
    let client = HooshClient::builder("http://127.0.0.1:1").token("s3cret\n").build();
    assert!(!format!("{client:?} {:?}", client.health().await).contains("s3cret"));
}

#[test]
fn a_client_can_be_shared_and_its_calls_moved() {
    fn shared<T: Clone + Send + Sync + std::fmt::Debug>() {}
    fn moved<T: Send + Unpin>() {}
    fn sent<T: Send>(_: T) {}
    shared::<HooshClient>();
    moved::<InferenceStream>();
    let client = HooshClient::new("http://localhost:8088");
    let (question, request) = (question(), EmbeddingRequest::default());
    sent(client.infer(&question));
    sent(client.infer_stream(&question));
    sent(client.embeddings(&request));
    sent((client.list_models(), client.model("m"), client.health(), client.providers()));
}
