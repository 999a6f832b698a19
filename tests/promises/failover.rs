//! Promise: when a provider fails before its first output, the next one answers and the client sees 200.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::{End, Hoosh, Script, Upstream, chat_body, chunk, completion, finish, refused_port, sse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    Script::stream([chunk(r#"{"content":"streamed by the second"}"#), finish("stop"), sse("[DONE]")])
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
    // It answers well: only its certificate is in the way.
    let (port, _) = self_signed_server().await;
    check(at("first", &format!("https://localhost:{port}"), "priority = 1"), &Upstream::start().await).await;
}

#[tokio::test]
async fn tls_with_somebody_whom_the_system_trusts() {
    // The same server, so that the test before is one of its certificate and of nothing else.
    let (port, certificate) = self_signed_server().await;
    let mut roots = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut roots, certificate.as_bytes()).unwrap();
    let config = at("first", &format!("https://localhost:{port}"), "");
    let hoosh = Hoosh::start_with(&config, &[("SSL_CERT_FILE", roots.path().to_str().unwrap())]).await;
    let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
    assert_eq!(response.status(), 200, "{}", hoosh.log());
    assert_eq!(json(response).await["choices"][0]["message"]["content"], "from one whom nobody trusts");
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
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let limited = "retry-after: 30\r\n";
    first.always(Script::Reply { status: 429, headers: limited.into(), body: b"{}".into() });
    second.always(Script::json(completion("from the second")));
    let hoosh =
        Hoosh::start(&(at("first", &first.url(), "priority = 1") + &provider("second", &second))).await;
    // The first says when to come back, and is not asked again before that.
    for attempts in ["2", "1", "1"] {
        let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
        assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-attempts")), (200, attempts));
    }
    assert_eq!(first.requests("/chat/completions").len(), 1);
}

#[tokio::test]
async fn what_only_this_provider_does_not_take() {
    for status in [405, 413] {
        check_script(Script::status(status, r#"{"error":{"message":"not here"}}"#)).await;
        check_script(Script::status(status, "<html>not here</html>")).await;
    }
}

#[tokio::test]
async fn an_error_whose_body_never_ends() {
    let head = "HTTP/1.1 503 X\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
    for stall in [head.to_owned(), format!("{head}{{\"error\":{{\"message\":\"overl")] {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        first.always(Script::Stall(stall.into_bytes()));
        second.script([Script::json(completion("from the second")), good_stream()]);
        let config = at("first", &first.url(), "priority = 1") + &provider("second", &second);
        let hoosh = Hoosh::start(&config).await;
        for stream in [false, true] {
            let start = Instant::now();
            let response = hoosh.post("/v1/chat/completions", chat_body("m", stream)).await;
            assert_eq!(header(&response, "x-hoosh-provider"), "second");
            assert!(response.text().await.unwrap().contains("the second"));
            assert!(start.elapsed() < Duration::from_millis(2500), "it took {:?}", start.elapsed());
        }
    }
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
async fn when_one_is_busy_and_the_other_lacks_the_model_the_client_is_told_to_come_back() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.always(Script::Reply { status: 429, headers: "retry-after: 7\r\n".into(), body: b"{}".into() });
    second.always(Script::status(404, r#"{"error":{"message":"no such model","code":"model_not_found"}}"#));
    let hoosh =
        Hoosh::start(&(at("first", &first.url(), "priority = 1") + &provider("second", &second))).await;

    let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
    assert_eq!(
        (response.status().as_u16(), header(&response, "retry-after"), header(&response, "x-hoosh-attempts")),
        (429, "7", "2")
    );
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

/// A TLS server that answers well and whose certificate, given in PEM, nobody trusts.
async fn self_signed_server() -> (u16, String) {
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
                let mut request = Vec::new();
                // Every request of these tests ends with a brace or, without a body, with the blank line.
                while !request.ends_with(b"}") && !request.ends_with(b"\r\n\r\n") {
                    if matches!(tls.read_buf(&mut request).await, Ok(0) | Err(_)) {
                        break;
                    }
                }
                let streamed = request.windows(13).any(|part| part == b"\"stream\":true");
                let text = "from one whom nobody trusts";
                let (kind, body) = match streamed {
                    false => ("application/json", completion(text)),
                    true => {
                        let first = chunk(&format!(r#"{{"content":"{text}"}}"#));
                        ("text/event-stream", (first + &finish("stop") + &sse("[DONE]")).into_bytes())
                    }
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = tls.write_all(&[head.as_bytes(), &body].concat()).await;
                let _ = tls.shutdown().await;
            }
        }
    });
    (port, certified.cert.pem())
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_no_failed_attempt() {
    let upstream = Upstream::start().await;
    let config = format!(
        "[[providers]]\ntype = \"deepseek\"\nbase_url = \"{}\"\napi_key = \"k\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    let hoosh = Hoosh::start(&config).await;
    // The second request is hung up on, but it came on the connection of the first.
    upstream.script([Script::json(completion("a")), Script::HangUp, Script::json(completion("b"))]);
    for _ in 0..2 {
        let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
        assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-attempts")), (200, "1"));
    }
    assert_eq!(upstream.requests("/chat/completions").len(), 3);
}
