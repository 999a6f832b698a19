//! Promise: when a provider fails before its first output, the next one answers and the client sees 200.

use std::sync::Arc;
use std::time::Duration;

use testkit::{End, Hoosh, Script, Upstream, chat_body, chunk, completion, refused_port, sse};
use tokio::io::AsyncWriteExt;

use crate::{at, header, json, provider};

/// Goal: a first provider that fails in this way is passed over, for whole answers and for streams.
async fn check(first: String, second: &Upstream) {
    let hoosh = Hoosh::start(&(first + &provider("second", second))).await;
    second.script([Script::json(completion("from the second")), good_stream()]);

    let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
    assert_eq!(response.status(), 200, "{}", hoosh.log());
    assert_eq!(
        (header(&response, "x-hoosh-attempts"), header(&response, "x-hoosh-provider")),
        ("2", "second")
    );
    assert_eq!(json(response).await["choices"][0]["message"]["content"], "from the second");

    let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-attempts")), (200, "2"));
    let text = response.text().await.unwrap();
    assert!(text.contains("streamed by the second") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

fn good_stream() -> Script {
    let finish = chunk("{}").replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
    Script::stream([chunk(r#"{"content":"streamed by the second"}"#), finish, sse("[DONE]")])
}

async fn check_script(script: Script) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.always(script);
    check(
        at("first", &first.url(), "priority = 1\nfirst_byte_timeout_secs = 0.5\ntotal_timeout_secs = 0.7"),
        &second,
    )
    .await;
    assert_eq!(first.requests("/chat/completions").len(), 2);
}

#[tokio::test]
async fn connection_refused() {
    let url = format!("http://127.0.0.1:{}", refused_port());
    check(at("first", &url, "priority = 1"), &Upstream::start().await).await;
}

#[tokio::test]
async fn name_not_found() {
    check(at("first", "http://no-such-host.invalid", "priority = 1"), &Upstream::start().await).await;
}

#[tokio::test]
async fn tls_not_agreed() {
    let port = self_signed_server().await;
    check(at("first", &format!("https://localhost:{port}"), "priority = 1"), &Upstream::start().await).await;
}

#[tokio::test]
async fn tls_with_somebody_who_speaks_none() {
    let plain = Upstream::start().await;
    check(at("first", &plain.url().replace("http://", "https://"), "priority = 1"), &Upstream::start().await)
        .await;
}

#[tokio::test]
async fn status_500() {
    check_script(Script::status(500, r#"{"error":{"message":"boom"}}"#)).await;
}

#[tokio::test]
async fn status_429() {
    let script = Script::Reply { status: 429, headers: "retry-after: 30\r\n".into(), body: b"{}".into() };
    check_script(script).await;
}

#[tokio::test]
async fn our_key_refused() {
    check_script(Script::status(401, r#"{"error":{"message":"bad key sk-123"}}"#)).await;
}

#[tokio::test]
async fn silence_before_the_first_byte() {
    check_script(Script::Silence).await;
}

#[tokio::test]
async fn hang_up_before_the_first_byte() {
    check_script(Script::HangUp).await;
}

#[tokio::test]
async fn garbage_instead_of_http() {
    check_script(Script::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".into())).await;
}

#[tokio::test]
async fn garbage_instead_of_json() {
    check_script(Script::json("<html>hello</html>")).await;
}

#[tokio::test]
async fn json_that_is_no_answer() {
    check_script(Script::json(r#"{"hello":"world"}"#)).await;
}

#[tokio::test]
async fn a_redirect_to_elsewhere() {
    let script =
        Script::Reply { status: 302, headers: "location: http://x.invalid/\r\n".into(), body: Vec::new() };
    check_script(script).await;
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_output() {
    for broken in [
        Script::broken_stream([chunk(r#"{"role":"assistant","content":""}"#)], End::Cut),
        Script::broken_stream(Vec::<String>::new(), End::Proper),
        Script::stream([sse(r#"{"error":{"message":"overloaded","code":503}}"#)]),
        Script::stream(["data: garbage\n\n"]),
        Script::stream([chunk(r#"{"role":"assistant"}"#), sse("[DONE]")]),
    ] {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        first.always(broken.clone());
        second.always(good_stream());
        let config = at("first", &first.url(), "priority = 1") + &provider("second", &second);
        let hoosh = Hoosh::start(&config).await;

        let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
        assert_eq!(header(&response, "x-hoosh-attempts"), "2", "{broken:?}");
        let text = response.text().await.unwrap();
        assert!(text.contains("streamed by the second") && !text.contains("error"), "{broken:?}: {text}");
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_not_tried_elsewhere() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.always(Script::status(
        400,
        r#"{"error":{"message":"temperature is too hot","param":"temperature","code":"too_hot"}}"#,
    ));
    let hoosh =
        Hoosh::start(&(at("first", &first.url(), "priority = 1") + &provider("second", &second))).await;

    let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-attempts")), (400, "1"));
    let error = json(response).await["error"].clone();
    assert_eq!(error["message"], "temperature is too hot");
    assert_eq!((&error["param"], &error["code"]), (&"temperature".into(), &"too_hot".into()));
    assert_eq!(second.requests("/chat/completions").len(), 0);
}

#[tokio::test]
async fn when_all_fail_the_client_is_told_without_secrets() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.always(Script::status(401, r#"{"error":{"message":"Incorrect API key provided: sk-secret"}}"#));
    second.always(Script::Reply { status: 429, headers: "retry-after: 7\r\n".into(), body: b"{}".into() });
    let hoosh =
        Hoosh::start(&(at("first", &first.url(), "priority = 1") + &provider("second", &second))).await;

    let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-attempts")), (502, "2"));
    let text = response.text().await.unwrap();
    assert!(text.contains("upstream_credentials") && !text.contains("sk-secret"), "{text}");

    let only = Hoosh::start(&provider("second", &second)).await;
    let response = only.post("/v1/chat/completions", chat_body("m", false)).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "7"));
    assert_eq!(json(response).await["error"]["type"], "rate_limit_error");
}

#[tokio::test]
async fn the_deadline_of_the_server_holds_over_all_attempts() {
    let silent = Upstream::start().await;
    silent.always(Script::Silence);
    let hoosh = Hoosh::start(&format!("request_timeout_secs = 0.5\n{}", provider("silent", &silent))).await;

    let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
    assert_eq!(response.status(), 504);
    assert_eq!(json(response).await["error"]["code"], "deadline_exceeded");
    assert!(silent.hung_up().await < Duration::from_secs(1), "the call is cancelled at the provider");
}

#[tokio::test]
async fn round_robin_takes_turns() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.always(Script::json(completion("a")));
    second.always(Script::json(completion("b")));
    let config = format!("strategy = \"round_robin\"\n{}{}", provider("a", &first), provider("b", &second));
    let hoosh = Hoosh::start(&config).await;
    for _ in 0..4 {
        assert_eq!(hoosh.post("/v1/chat/completions", chat_body("m", false)).await.status(), 200);
    }
    let calls = [&first, &second].map(|upstream| upstream.requests("/chat/completions").len());
    assert_eq!(calls, [2, 2]);
}

/// A TLS server whose certificate nobody trusts.
async fn self_signed_server() -> u16 {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(stream).await {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
            }
        }
    });
    port
}
