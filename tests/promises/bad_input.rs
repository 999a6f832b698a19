//! Promise: bad input gets a clear answer in the caller's dialect, and the server goes on.

use std::time::{Duration, Instant};

use testkit::{Hoosh, Script, Upstream, chat_body, completion, exchange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{header, json, one, provider};

/// Goal: this body is refused with this status, and the message holds these words.
async fn check(hoosh: &Hoosh, body: impl Into<Vec<u8>>, status: u16, words: &str) {
    let response = hoosh.post("/v1/chat/completions", body.into()).await;
    assert_eq!(response.status(), status);
    assert!(header(&response, "x-request-id").starts_with("req_"));
    let error = json(response).await["error"].clone();
    assert_eq!(error["type"], "invalid_request_error");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
}

async fn still_serves(hoosh: &Hoosh) {
    assert_eq!(hoosh.post("/v1/chat/completions", chat_body("m", false)).await.status(), 200);
}

#[tokio::test]
async fn wrong_bodies() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    check(&hoosh, "", 400, "the body is empty").await;
    check(&hoosh, "hello", 400, "not valid JSON").await;
    check(&hoosh, "{\"model\":\"m\",", 400, "not valid JSON").await;
    check(&hoosh, b"{\"model\":\"\xff\"}".to_vec(), 400, "not UTF-8").await;
    check(&hoosh, "[1,2]", 400, "expected a JSON object").await;
    check(&hoosh, "{}", 400, "`model`: is missing").await;
    check(&hoosh, r#"{"model":"m"}"#, 400, "`messages`: is missing").await;
    check(&hoosh, r#"{"model":5,"messages":[]}"#, 400, "`model`: expected a string").await;
    check(&hoosh, r#"{"model":"m","messages":{}}"#, 400, "`messages`: invalid type: map").await;
    check(&hoosh, r#"{"model":"m","messages":[{"role":"user"},{"role":7}]}"#, 400, "`messages[1].role`")
        .await;
    check(&hoosh, r#"{"model":"m","messages":[{"role":"user","content":7}]}"#, 400, "`messages[0].content`")
        .await;
    check(&hoosh, r#"{"model":"m","messages":[{"role":"user"}],"stream":"yes"}"#, 400, "`stream`").await;
    check(&hoosh, r#"{"model":"m","messages":[{"role":"user"}],"temperature":"hot"}"#, 400, "`temperature`")
        .await;
    check(&hoosh, r#"{"model":"m","model":"n","messages":[]}"#, 400, "duplicate field `model`").await;
    check(
        &hoosh,
        format!(r#"{{"model":"{}","messages":[]}}"#, "x".repeat(300)),
        400,
        "longer than 256 bytes",
    )
    .await;
    check(&hoosh, r#"{"model":"a\nb","messages":[]}"#, 400, "control characters").await;
    still_serves(&hoosh).await;
}

#[tokio::test]
async fn deep_json_does_not_overflow_anything() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    let deep = format!(
        r#"{{"model":"m","messages":[{{"role":"user"}}],"x":{}{}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    // It is valid JSON that we do not look into, so it is the provider's to judge.
    assert_eq!(hoosh.post("/v1/chat/completions", deep).await.status(), 200);
    still_serves(&hoosh).await;
}

#[tokio::test]
async fn a_body_of_100_mb() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    check(&hoosh, vec![b' '; 100 << 20], 413, "longer than 33554432 bytes").await;

    // The same without telling the length first.
    let pieces = (0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    assert_eq!(hoosh.post("/v1/chat/completions", body).await.status(), 413);
    still_serves(&hoosh).await;
}

#[tokio::test]
async fn the_limit_of_the_body_is_the_configured_one() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&format!("max_body_bytes = 2000\n{}", provider("up", &upstream))).await;
    check(&hoosh, vec![b' '; 2001], 413, "longer than 2000 bytes").await;
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let (hoosh, _upstream) = one().await;
    let response = hoosh.get("/v1/nothing").await;
    assert_eq!(response.status(), 404);
    assert_eq!(json(response).await["error"]["code"], "unknown_path");

    let response = hoosh.get("/v1/chat/completions").await;
    assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, "POST"));
    assert_eq!(json(response).await["error"]["code"], "method_not_allowed");
}

#[tokio::test]
async fn an_unknown_model_lists_near_names() {
    let upstream = Upstream::start().await;
    let config = provider("up", &upstream).replace("[\"*\"]", "[\"llama3\", \"listed*\"]");
    let hoosh = Hoosh::start(&config).await;
    for (asked, near) in [("lama3", "`llama3`"), ("lsted-model", "`listed-model`")] {
        let response = hoosh.post("/v1/chat/completions", chat_body(asked, false)).await;
        assert_eq!(response.status(), 404);
        let error = json(response).await["error"].clone();
        assert_eq!((&error["code"], &error["param"]), (&"model_not_found".into(), &"model".into()));
        assert!(error["message"].as_str().unwrap().contains(near), "{error}");
    }
}

#[tokio::test]
async fn no_or_wrong_key() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("ok")));
    let hoosh = Hoosh::start(&(provider("up", &upstream) + "[auth]\ntokens = [\"right\"]\n")).await;
    let post = |token: Option<&str>| {
        let request = testkit::client().post(hoosh.url("/v1/chat/completions")).body(chat_body("m", false));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    };
    for (token, status, code) in [
        (None, 401, "missing_api_key"),
        (Some("wrong-token"), 401, "invalid_api_key"),
        (Some("right"), 200, ""),
    ] {
        let response = post(token).send().await.unwrap();
        assert_eq!(response.status(), status);
        let text = response.text().await.unwrap();
        assert!(text.contains(code) && !text.contains("wrong-token"), "{text}");
    }
    assert_eq!(hoosh.get("/v1/models").await.status(), 401);
    assert_eq!(hoosh.get("/v1/health/providers").await.status(), 401);
    assert_eq!(hoosh.get("/v1/health").await.status(), 200);
    assert!(!hoosh.log().contains("wrong-token"));
}

#[tokio::test]
async fn what_is_no_http() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    assert_eq!(exchange(&hoosh, b"HELLO\r\n\r\n", false).await.status, 400);
    assert_eq!(exchange(&hoosh, &[0x16, 0x03, 0x01, 0x02, 0x00], true).await.status, 400);
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20));
    assert!([414, 431].contains(&exchange(&hoosh, long.as_bytes(), false).await.status));
    still_serves(&hoosh).await;
}

#[tokio::test]
async fn half_closed_sockets() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    // A body that ends before its declared length.
    let cut = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"model\"";
    let reply = exchange(&hoosh, cut, true).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.body.contains("body_cut_off"), "{reply:?}");
    // A head that ends in the middle: there is nobody to answer.
    let _closed = exchange(&hoosh, b"POST /v1/chat/comp", true).await;
    // A whole request, after which the client says that it is gone: its call is cancelled and nobody is answered.
    let gone = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        chat_body("m", false).len()
    );
    let _closed = exchange(&hoosh, (gone + &chat_body("m", false)).as_bytes(), true).await;
    still_serves(&hoosh).await;
}

#[tokio::test]
async fn slow_loris() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    let start = Instant::now();
    let connections = [&b""[..], b"P", b"PRI * HTTP/2", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"];
    let closed = connections.map(async |beginning| {
        let mut stream = tokio::net::TcpStream::connect(hoosh.address()).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        // A trickle does not keep it open.
        while start.elapsed() < Duration::from_secs(25) {
            let _ = stream.write_all(if beginning.len() > 20 { b"x: y\r\n" } else { b"" }).await;
            let read = tokio::time::timeout(Duration::from_millis(500), stream.read_buf(&mut answer)).await;
            if let Ok(Ok(0) | Err(_)) = read {
                return start.elapsed();
            }
        }
        panic!("a silent connection stayed open ({beginning:?})");
    });
    for closed in futures_util::future::join_all(closed).await {
        assert!(closed > Duration::from_secs(10), "closed after {closed:?}");
    }
    still_serves(&hoosh).await;
}

#[tokio::test]
async fn a_body_that_does_not_come() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&format!("body_timeout_secs = 0.5\n{}", provider("up", &upstream))).await;
    let slow =
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{";
    let reply = exchange(&hoosh, slow, false).await;
    assert_eq!(reply.status, 408, "{reply:?}");
}

#[tokio::test]
async fn compressed_bodies_are_refused_and_said() {
    let (hoosh, _upstream) = one().await;
    let request =
        testkit::client().post(hoosh.url("/v1/chat/completions")).header("content-encoding", "gzip");
    let response = request.body("x").send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(json(response).await["error"]["code"], "unsupported_encoding");
}

#[tokio::test]
async fn pages_of_other_sites_cannot_spend_where_no_key_is_wanted() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    for (origin, status) in [("https://evil.example", 403), ("http://localhost:3000", 200)] {
        let request = testkit::client().post(hoosh.url("/v1/chat/completions")).header("origin", origin);
        // What a page may send without asking first.
        let request = request.header("content-type", "text/plain").body(chat_body("m", false));
        assert_eq!(request.send().await.unwrap().status(), status, "{origin}");
    }
    assert_eq!(upstream.requests("/chat/completions").len(), 1);
}

#[tokio::test]
async fn a_path_without_its_version_is_pointed_to_the_right_one() {
    let (hoosh, _upstream) = one().await;
    let response = hoosh.post("/chat/completions", chat_body("m", false)).await;
    assert_eq!(response.status(), 404);
    assert!(response.text().await.unwrap().contains("did you mean /v1/chat/completions?"));
}
