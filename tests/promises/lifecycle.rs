//! Promise: a stop signal lets calls in flight finish, and a second one does not wait.

use std::time::Duration;

use futures_util::StreamExt;
use testkit::{End, Hoosh, Kept, Script, Upstream, chat_body, chunk, completion, sse};

use crate::{one, provider};

fn slow_stream() -> Script {
    let finish = chunk("{}").replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
    let pieces = [
        (0, chunk(r#"{"content":"a"}"#)),
        (800, chunk(r#"{"content":"b"}"#)),
        (0, finish),
        (0, sse("[DONE]")),
    ];
    let pieces = pieces.map(|(wait, piece)| (Duration::from_millis(wait), piece.into_bytes()));
    Script::Stream(pieces.into(), End::Proper)
}

#[tokio::test]
async fn a_stream_in_flight_finishes_after_the_stop_signal() {
    let (mut hoosh, upstream) = one().await;
    upstream.always(slow_stream());
    let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
    let mut bytes = response.bytes_stream();
    bytes.next().await.unwrap().unwrap();
    hoosh.signal("TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(tokio::net::TcpStream::connect(hoosh.address()).await.is_err(), "no new connections");

    let mut rest = Vec::new();
    while let Some(piece) = bytes.next().await {
        rest.extend_from_slice(&piece.unwrap());
    }
    assert!(String::from_utf8(rest).unwrap().ends_with("data: [DONE]\n\n"));
    assert_eq!(hoosh.ended().await, Some(0));
}

#[tokio::test]
async fn the_drain_time_is_kept_and_a_second_signal_does_not_wait() {
    for second in [false, true] {
        let upstream = Upstream::start().await;
        upstream.always(Script::broken_stream([chunk(r#"{"content":"a"}"#)], End::Silence));
        let seconds = if second { 30 } else { 1 };
        let mut hoosh =
            Hoosh::start(&format!("drain_timeout_secs = {seconds}\n{}", provider("up", &upstream))).await;
        let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
        let start = std::time::Instant::now();
        hoosh.signal("INT");
        if second {
            tokio::time::sleep(Duration::from_millis(200)).await;
            hoosh.signal("INT");
        }
        let code = hoosh.ended().await;
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        if second {
            assert_eq!(code, Some(1), "stopped at once");
        } else {
            // The stop was asked for, and what had not finished by the limit was told in the log.
            assert_eq!(code, Some(0), "drained as configured");
            assert!(took > Duration::from_millis(900), "the call in flight had only {took:?}");
            assert!(hoosh.log().contains("drain time passed"), "{}", hoosh.log());
            // Nor does the client take the half for the whole.
            let text = response.text().await.unwrap();
            assert!(text.contains(r#""code":"stopping""#) && !text.contains("[DONE]"), "{text}");
            assert!(hoosh.log().contains(r#"outcome="stopped""#), "{}", hoosh.log());
        }
    }
}

#[tokio::test]
async fn http2_without_tls_is_served() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    let client = testkit::client_builder().http2_prior_knowledge().build().unwrap();
    let response =
        client.post(hoosh.url("/v1/chat/completions")).body(chat_body("m", false)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, reqwest::Version::HTTP_2));
}

#[tokio::test]
async fn a_kept_connection_serves_many_calls() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));
    let mut connection = Kept::open(&hoosh).await;
    for _ in 0..20 {
        let reply = connection.post("/v1/chat/completions", &chat_body("m", false)).await;
        assert_eq!((reply.status, reply.body.contains("\"ok\"")), (200, true), "{reply:?}");
    }
    assert_eq!(upstream.requests("/chat/completions").len(), 20);
    // One, and now and then a second that was begun while the first was on its way back into the pool.
    let connections = upstream.connections();
    assert!(connections <= 3, "{connections} connections to the provider for calls one after the other");
}
