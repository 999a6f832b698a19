//! Streamed answers: split anywhere, cut anywhere, silent, and dropped.

use std::time::Duration;

use hoosh_client::{
    ClientError, FinishReason, HooshClient, InferenceResponse, InferenceStream, StreamEvent, Timeout,
    TransportKind,
};

use crate::script::{Act, Gateway, Seen, ok, piece, question, stream, stream_head};

const TRANSCRIPT: &str = "data: {\"id\":\"x\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hä\"}}]}\r\n\r\n\
    : ping\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ß 日本🦀\"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n\
    data: [DONE]\n\n";

const FIRST: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";

async fn begun(gateway: &Gateway) -> InferenceStream {
    gateway.client().infer_stream(&question()).await.unwrap()
}

/// All events, and the error after them if there is one. What comes after the end is asked for too: nothing may.
async fn all(mut stream: InferenceStream) -> (Vec<StreamEvent>, Option<ClientError>) {
    let mut events = Vec::new();
    let mut failure = None;
    while let Some(event) = stream.next().await {
        assert_eq!(failure, None, "nothing follows an error");
        match event {
            Ok(event) => events.push(event),
            Err(error) => failure = Some(error),
        }
    }
    assert!(stream.next().await.is_none(), "the end stays the end");
    (events, failure)
}

#[track_caller]
fn check_answer(response: &InferenceResponse) {
    assert_eq!(response.text, "häß 日本🦀");
    assert_eq!(response.finish_reason(), Some(&FinishReason::Stop));
    assert_eq!(response.usage.unwrap().total(), 3);
}

fn is_text(event: &StreamEvent, text: &str) -> bool {
    matches!(event, StreamEvent::Text { delta, .. } if delta == text)
}

#[tokio::test]
async fn a_stream_cut_in_two_anywhere_gives_the_same_answer() {
    let bytes = TRANSCRIPT.as_bytes();
    let cuts = 0..=bytes.len();
    let script = cuts.clone().map(|at| Act::Answer(stream([&bytes[..at], &bytes[at..]])));
    let gateway = Gateway::playing(script);
    let client = gateway.client();
    for _ in cuts {
        check_answer(&client.infer_stream(&question()).await.unwrap().collect().await.unwrap());
    }
}

#[tokio::test]
async fn a_stream_may_come_byte_by_byte() {
    let mut gateway = Gateway::playing([Act::Answer(stream(TRANSCRIPT.as_bytes().chunks(1)))]);
    check_answer(&begun(&gateway).await.collect().await.unwrap());

    let request = gateway.request().await;
    assert_eq!(request.header("accept"), Some("text/event-stream"));
    assert!(
        request.body.ends_with(r#""stream":true,"stream_options":{"include_usage":true}}"#),
        "{}",
        request.body
    );
}

#[tokio::test]
async fn a_stream_cut_short_anywhere_is_an_error() {
    // The end is complete once `[DONE]` is there, with or without the blank line after it.
    let complete = TRANSCRIPT.len() - "\n\n".len();
    let bytes = TRANSCRIPT.as_bytes();
    let ended = (0..complete).step_by(7).map(|end| Act::Answer(stream([&bytes[..end]])));
    let broken = (0..complete)
        .step_by(7)
        .map(|end| Act::Answer([stream_head(&[]), piece(&[b": \n", &bytes[..end]].concat())].concat()));
    let script: Vec<Act> = ended.chain(broken).collect();
    let count = script.len();
    let client = Gateway::playing(script).client();
    for _ in 0..count {
        let (_, failure) = all(client.infer_stream(&question()).await.unwrap()).await;
        let failure = failure.expect("a cut stream never ends cleanly");
        assert!(matches!(failure, ClientError::Transport { kind: TransportKind::Broken, .. }), "{failure:?}");
        assert!(failure.is_retryable());
    }
}

#[tokio::test]
async fn what_came_before_the_cut_is_told_before_the_error() {
    let gateway = Gateway::playing([Act::Answer([stream_head(&[]), piece(FIRST)].concat())]);
    let (events, failure) = all(begun(&gateway).await).await;
    assert!(is_text(events.last().unwrap(), "hi"), "{events:?}");
    assert!(failure.is_some());
}

#[tokio::test]
async fn an_error_in_the_stream_is_its_end() {
    let error =
        b"data: {\"error\":{\"message\":\"provider `a` broke off\",\"code\":\"upstream_broken\"}}\n\n";
    // What follows the error is not looked at, were it the best of ends.
    let body = [FIRST, error, TRANSCRIPT.as_bytes()].concat();
    let script = Act::Answer([stream_head(&["x-request-id: 01J"]), piece(&body), piece(b"")].concat());
    let gateway = Gateway::playing([script.clone(), script]);

    let (events, failure) = all(begun(&gateway).await).await;
    assert!(is_text(events.last().unwrap(), "hi"), "{events:?}");
    let failure = failure.unwrap();
    assert_eq!((failure.status(), failure.code()), (None, Some("upstream_broken")));
    assert_eq!(
        failure.to_string(),
        "the gateway broke the answer off (upstream_broken): provider `a` broke off [request 01J]"
    );
    assert!(failure.is_retryable());

    assert_eq!(begun(&gateway).await.collect().await, Err(failure));
}

#[tokio::test]
async fn what_the_gateway_says_is_known_before_the_first_event() {
    let head = stream_head(&["x-hoosh-provider: ollama", "x-hoosh-attempts: 1", "x-hoosh-lossy: seed"]);
    let script = Act::Answer([head, piece(TRANSCRIPT.as_bytes()), piece(b"")].concat());
    let stream = begun(&Gateway::playing([script])).await;
    let meta = stream.meta().clone();
    assert_eq!((meta.provider.as_deref(), meta.attempts, meta.cost), (Some("ollama"), Some(1), None));
    assert_eq!(stream.collect().await.unwrap().notes, meta.lossy);
}

#[tokio::test]
async fn what_is_no_stream_is_refused() {
    let garbage = Act::Answer(stream([&b"data: {]\n\n"[..]]));
    let client = Gateway::playing([ok("{}"), garbage]).client();
    let error = client.infer_stream(&question()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the answer is `application/json`, not an event stream; is that a hoosh gateway?")
    );
    let (events, failure) = all(client.infer_stream(&question()).await.unwrap()).await;
    assert!(events.is_empty());
    assert!(matches!(failure, Some(ClientError::Decode { .. })), "{failure:?}");
}

#[tokio::test]
async fn silence_inside_a_stream_is_not_waited_out() {
    let mut gateway = Gateway::playing([Act::Hang([stream_head(&[]), piece(FIRST)].concat())]);
    let mut stream = begun(&gateway).await;
    while !is_text(&stream.next().await.unwrap().unwrap(), "hi") {}

    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 125);
    assert!(
        matches!(error, ClientError::Transport { kind: TransportKind::Timeout(Timeout::Idle), .. }),
        "{error:?}"
    );
    assert!(error.to_string().ends_with(": the answer stopped: nothing more came for 125 s"), "{error}");
    assert!(stream.next().await.is_none());

    // The connection closes with the error, not only with the stream.
    gateway.request().await;
    assert_eq!(gateway.seen().await, Seen::Closed);
}

#[tokio::test]
async fn the_total_time_holds_for_a_stream_too() {
    let gateway = Gateway::playing([Act::Hang([stream_head(&[]), piece(FIRST)].concat())]);
    let client = HooshClient::builder(&gateway.url).total_timeout(Duration::from_secs(30)).build();
    let mut stream = client.infer_stream(&question()).await.unwrap();
    while !is_text(&stream.next().await.unwrap().unwrap(), "hi") {}

    tokio::time::pause();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(error.to_string().ends_with(": the call was not done within 30 s"), "{error}");
}

#[tokio::test]
async fn a_caller_who_takes_long_over_an_event_loses_nothing() {
    let rest = TRANSCRIPT.as_bytes();
    let gateway = Gateway::playing([Act::Answer(stream([&rest[..110], &rest[110..]]))]);
    let mut stream = begun(&gateway).await;
    stream.next().await.unwrap().unwrap();

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(300)).await;
    tokio::time::resume();
    assert_eq!(stream.collect().await.unwrap().finish_reason(), Some(&FinishReason::Stop));
}

#[tokio::test]
async fn dropping_a_stream_cancels_the_call() {
    let mut gateway = Gateway::playing([Act::Hang([stream_head(&[]), piece(FIRST)].concat())]);
    let mut stream = begun(&gateway).await;
    stream.next().await.unwrap().unwrap();
    gateway.request().await;
    drop(stream);
    assert_eq!(gateway.seen().await, Seen::Closed);
}
