//! Promise: where the provider speaks the caller's dialect, bytes go through unchanged, both ways.

use testkit::{Script, chat_body, chunk, completion, finish, sse};

use crate::{header, one};

/// Odd on purpose: order, spaces, digits and fields nobody knows.
const ODD: &str = "{ \"zz\" : 12345678901234567890123 ,\n\t\"messages\":[{\"content\":\"h\\u00e4\\ud83d\\ude00\",\"role\":\"user\",\"x\":[1.50,0.1000000000000000055511151231257827]}] , \"model\" : \"up-model\",\"a\":{\"b\":null,\"c\":1e400} }";

#[tokio::test]
async fn a_request_reaches_the_provider_byte_for_byte() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));

    assert_eq!(hoosh.post("/v1/chat/completions", ODD).await.status(), 200);
    assert_eq!(String::from_utf8(upstream.requests("/chat/completions")[0].body.clone()).unwrap(), ODD);
}

#[tokio::test]
async fn only_the_model_is_changed_where_it_has_another_name() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(completion("ok")));

    let asked = ODD.replace("up-model", "up/up-model");
    assert_eq!(hoosh.post("/v1/chat/completions", asked).await.status(), 200);
    assert_eq!(String::from_utf8(upstream.requests("/chat/completions")[0].body.clone()).unwrap(), ODD);
}

#[tokio::test]
async fn an_answer_reaches_the_client_byte_for_byte() {
    let (hoosh, upstream) = one().await;
    let answer = " {\"x\" : 1.00,\n \"choices\":[{\"message\":{\"content\":\"\\u0041\",\"new\":[]}}],\"id\":12345678901234567890} ";
    upstream.always(Script::json(answer));

    let response = hoosh.post("/v1/chat/completions", chat_body("m", false)).await;
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(response.text().await.unwrap(), answer);
}

#[tokio::test]
async fn a_stream_reaches_the_client_byte_for_byte() {
    let (hoosh, upstream) = one().await;
    let usage = sse(r#"{"id":"c1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#);
    let pieces = [
        ": hello\r\n\r\ndata:{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\r\n\r\n"
            .to_owned(),
        chunk(r#"{"content":"häß","unknown":1.50}"#),
        ": still here\n\n".to_owned(),
        chunk(r#"{}"#).replace("\"finish_reason\":null", "\"finish_reason\":\"stop\""),
        usage.clone(),
        sse("[DONE]"),
    ];
    upstream.always(Script::stream(pieces.clone()));

    // Usage was asked for, so it is shown.
    let body =
        chat_body("m", true).replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
    let response = hoosh.post("/v1/chat/completions", body.clone()).await;
    assert_eq!(header(&response, "content-type"), "text/event-stream");
    assert_eq!(response.text().await.unwrap(), pieces.concat());
    assert_eq!(upstream.requests("/chat/completions")[0].body, body.as_bytes());

    // It was not, so the gateway asks for itself and keeps the event to itself.
    let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
    assert_eq!(response.text().await.unwrap(), pieces.concat().replace(&usage, ""));
    let sent = String::from_utf8(upstream.requests("/chat/completions")[1].body.clone()).unwrap();
    let body = chat_body("m", true);
    let asked = r#","stream_options":{"include_usage":true}}"#;
    assert_eq!(sent, body[..body.len() - 1].to_owned() + asked);
}

#[tokio::test]
async fn stream_options_of_null_are_filled_in_and_not_doubled() {
    let (hoosh, upstream) = one().await;
    let usage = sse(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#);
    let shown = chunk(r#"{"content":"a"}"#) + &finish("stop");
    upstream.always(Script::stream([shown.clone(), usage, sse("[DONE]")]));
    let body =
        r#"{"model":"m","stream_options" : null ,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let text = hoosh.post("/v1/chat/completions", body).await.text().await.unwrap();
    assert_eq!(text, shown + &sse("[DONE]"));
    let sent = String::from_utf8(upstream.requests("/chat/completions")[0].body.clone()).unwrap();
    assert_eq!(sent, body.replace("null", r#"{"include_usage":true}"#));
}

#[tokio::test]
async fn the_hidden_usage_is_hidden_however_the_stream_is_cut_into_pieces() {
    let (hoosh, upstream) = one().await;
    let shown = [
        chunk(r#"{"content":"a"}"#),
        chunk(r#"{"content":"b"}"#).replace("\"finish_reason\":null", "\"finish_reason\":\"stop\""),
    ];
    let usage = sse(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#);
    let whole = shown.concat() + &usage + &sse("[DONE]");
    for size in [1, 7, 64, 150, whole.len()] {
        let pieces = whole.as_bytes().chunks(size).map(<[u8]>::to_vec);
        upstream.script([Script::stream(pieces)]);
        let response = hoosh.post("/v1/chat/completions", chat_body("m", true)).await;
        assert_eq!(response.text().await.unwrap(), shown.concat() + &sse("[DONE]"), "in pieces of {size}");
    }
    assert!(hoosh.log().contains("prompt_tokens=3"), "the books have it:\n{}", hoosh.log());
}

#[tokio::test]
async fn our_key_goes_to_the_provider_and_the_clients_does_not() {
    let upstream = testkit::Upstream::start().await;
    upstream.always(Script::json(completion("ok")));
    let config =
        crate::at("up", &upstream.url(), "api_key = \"$UP_KEY\"") + "[auth]\ntokens = [\"client-token\"]\n";
    let hoosh = testkit::Hoosh::start_with(&config, &[("UP_KEY", "sk-ours")]).await;

    let request = testkit::client().post(hoosh.url("/v1/chat/completions")).bearer_auth("client-token");
    assert_eq!(request.body(chat_body("m", false)).send().await.unwrap().status(), 200);
    let head = upstream.requests("/chat/completions")[0].head.to_lowercase();
    assert!(head.contains("authorization: bearer sk-ours") && !head.contains("client-token"), "{head}");
    assert!(!hoosh.log().contains("sk-ours") && !hoosh.log().contains("client-token"), "{}", hoosh.log());
}
