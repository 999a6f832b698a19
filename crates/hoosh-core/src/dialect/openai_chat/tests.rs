//! Answers of other dialects, whole and streamed: what a client gets, and what it sends back.

use serde_json::{Value, json};

use super::OpenAiChat;
use crate::dialect::{Codec, Dialect, Quirks, ReplyContext};
use crate::failure::FidelityNote;
use crate::json::RawJson;
use crate::request::{Citation, InferenceRequest, MediaSource, Message, Part, PartKind, Signature};
use crate::response::{Choice, FinishReason, InferenceResponse};
use crate::stream::{StreamEvent, fold};
use crate::tool::{ToolCall, ToolDefinition};

fn context(origin: Dialect) -> ReplyContext<'static> {
    ReplyContext { include_usage: true, origin: Some(origin), id: "1", ..ReplyContext::default() }
}

fn signature(maker: Dialect) -> Signature {
    Signature { maker, value: "s".into() }
}

fn signed(maker: Dialect, kind: PartKind) -> Part {
    Part { signature: Some(signature(maker)), ..kind.into() }
}

fn reply(origin: Dialect, parts: Vec<Part>) -> InferenceResponse {
    let choice = Choice { parts, finish_reason: Some(FinishReason::Stop), ..Choice::default() };
    InferenceResponse {
        id: "x".into(),
        origin: Some(origin),
        ..InferenceResponse::from_choices(vec![choice])
    }
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), ..ToolCall::default() }
}

fn message(reply: &InferenceResponse, context: &ReplyContext<'_>) -> (Value, Vec<FidelityNote>) {
    let encoded = OpenAiChat.encode_reply(reply, context);
    let body: Value = serde_json::from_slice(&encoded.body).unwrap();
    (body["choices"][0]["message"].clone(), encoded.notes)
}

/// The deltas written for these events, without the first that tells the role, and the notes.
fn deltas(events: &[StreamEvent], context: &ReplyContext<'_>) -> (Vec<Value>, Vec<FidelityNote>, Vec<u8>) {
    let mut encoder = OpenAiChat.stream_encoder(context);
    let mut bytes = Vec::new();
    encoder.event(&StreamEvent::Start { id: "x".into(), model: "m".into(), created: Some(1) }, &mut bytes);
    events.iter().for_each(|event| encoder.event(event, &mut bytes));
    encoder.event(&StreamEvent::Finish { choice: 0, reason: FinishReason::Stop }, &mut bytes);
    encoder.finish(&mut bytes);
    let text = String::from_utf8(bytes.clone()).unwrap();
    let chunks = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let deltas = chunks.map(|data| {
        let mut chunk: Value = serde_json::from_str(data).unwrap();
        chunk["choices"][0]["delta"].take()
    });
    let mut deltas: Vec<_> = deltas.collect();
    deltas.remove(0);
    deltas.pop();
    (deltas, encoder.take_notes(), bytes)
}

fn read(bytes: &[u8]) -> Vec<Part> {
    let mut decoder = OpenAiChat.stream_decoder(Quirks::NONE);
    let mut events = Vec::new();
    decoder.push(bytes, &mut events).unwrap();
    decoder.finish(&mut events).unwrap();
    fold(events).choices.remove(0).parts
}

/// What the gateway reads when a client sends this message back as it got it.
fn sent_back(message: &Value) -> Vec<Part> {
    let body = json!({ "model": "m", "messages": [message] }).to_string();
    OpenAiChat.decode_request(body.as_bytes()).unwrap().messages.remove(0).parts
}

#[test]
fn a_client_that_sends_the_message_back_loses_no_signature() {
    let google = call("c", "f", "{}");
    let parts = vec![
        signed(Dialect::Anthropic, PartKind::Reasoning("one".into())),
        signed(Dialect::Anthropic, PartKind::Redacted),
        signed(Dialect::OpenAiResponses, PartKind::Reasoning("two".into())),
        signed(Dialect::Gemini, PartKind::Text("hi".into())),
        signed(Dialect::Gemini, PartKind::ToolCall(google)),
    ];
    let (message, notes) = message(&reply(Dialect::Anthropic, parts.clone()), &context(Dialect::Anthropic));
    assert_eq!(message["reasoning_content"], "onetwo");
    assert_eq!(message["reasoning_details"][0]["signature"], "hoosh:anthropic:s");
    assert_eq!(message["tool_calls"][0]["extra_content"]["google"]["thought_signature"], "s");
    assert_eq!(notes, []);
    assert_eq!(sent_back(&message), parts);
}

#[test]
fn a_stream_tells_the_signatures_too() {
    let reasoning = |delta: &str| StreamEvent::Reasoning { choice: 0, delta: delta.into() };
    let sign = |maker| StreamEvent::Signature { choice: 0, signature: signature(maker) };
    let events = [
        reasoning("o"),
        reasoning("ne"),
        sign(Dialect::Anthropic),
        reasoning("two"),
        sign(Dialect::Anthropic),
        StreamEvent::Part { choice: 0, part: signed(Dialect::Anthropic, PartKind::Redacted) },
        StreamEvent::Text { choice: 0, delta: "hi".into() },
        sign(Dialect::Gemini),
        StreamEvent::ToolCallStart { choice: 0, call: 0, id: "c".into(), name: "f".into() },
        sign(Dialect::Gemini),
        StreamEvent::ToolCallDelta { choice: 0, call: 0, arguments: "{}".into() },
    ];
    let expected = fold(events.clone()).choices.remove(0).parts;
    for origin in [Dialect::Anthropic, Dialect::Gemini] {
        let (_, notes, bytes) = deltas(&events, &context(origin));
        assert_eq!(read(&bytes), expected, "{origin}");
        assert_eq!(notes, []);
    }
    // A signature comes with the whole text that it signs.
    let (told, ..) = deltas(&events, &context(Dialect::Anthropic));
    assert_eq!(told[3], json!({ "reasoning_content": "two" }));
    assert_eq!(
        told[4]["reasoning_details"],
        json!([{ "type": "reasoning.text", "text": "two", "signature": "hoosh:anthropic:s", "index": 1 }])
    );
}

#[test]
fn openrouters_stream_is_read() {
    let chunk =
        |delta: Value| format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": delta }] }));
    let text = |index: u32, text: &str| json!({ "reasoning": text, "reasoning_details": [{ "type": "reasoning.text", "text": text, "index": index, "format": "anthropic-claude-v1" }] });
    let stream = [
        chunk(text(0, "a")),
        chunk(text(0, "b")),
        chunk(json!({ "reasoning_details": [{ "type": "reasoning.text", "signature": "s", "index": 0 }] })),
        chunk(text(1, "c")),
        chunk(text(2, "d")),
        chunk(json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "data": "e", "index": 3 }] })),
        chunk(json!({ "content": "hi" })),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
            .to_owned(),
    ];
    let value = |value: &str| Some(Signature { maker: Dialect::OpenAiChat, value: value.into() });
    let thought = |text: &str| Part::from(PartKind::Reasoning(text.into()));
    assert_eq!(
        read(stream.concat().as_bytes()),
        [
            Part { signature: value("s"), ..thought("ab") },
            thought("c"),
            thought("d"),
            Part { signature: value("e"), ..PartKind::Redacted.into() },
            Part::text("hi"),
        ]
    );
}

fn citation(maker: Dialect, url: Option<&str>) -> Citation {
    let json = RawJson::parse(r#"{"theirs":1}"#).unwrap();
    Citation { url: url.map(str::to_owned), title: None, quote: Some("q".into()), span: None, maker, json }
}

#[test]
fn citations_with_a_page_are_annotations() {
    let cited = |url| Part { citations: vec![citation(Dialect::Anthropic, url)], ..Part::text("x") };
    let (written, notes) =
        message(&reply(Dialect::Anthropic, vec![cited(Some("u"))]), &context(Dialect::Anthropic));
    let expected = json!([{ "type": "url_citation", "url_citation":
        { "content": "q", "end_index": 0, "start_index": 0, "title": "", "url": "u" } }]);
    assert_eq!((&written["annotations"], notes), (&expected, vec![]));
    assert_eq!(sent_back(&written)[0].citations[0].url.as_deref(), Some("u"));

    let (written, notes) =
        message(&reply(Dialect::Anthropic, vec![cited(None)]), &context(Dialect::Anthropic));
    assert_eq!((written.get("annotations"), notes), (None, vec![FidelityNote::new("choices.citations")]));

    let event = |url| StreamEvent::Citation { choice: 0, citation: citation(Dialect::Anthropic, url) };
    let (told, notes, bytes) = deltas(&[event(Some("u")), event(None)], &context(Dialect::Anthropic));
    assert_eq!(told, [json!({ "annotations": expected })]);
    assert_eq!(notes, [FidelityNote::new("choices.citations")]);
    assert_eq!(read(&bytes)[0].citations[0].url.as_deref(), Some("u"));
}

#[test]
fn pictures_are_shown_and_what_has_no_form_is_noted() {
    let source = MediaSource::Base64 { media_type: "image/png".into(), data: "AA".into() };
    let image: Part = PartKind::Image { source, detail: None }.into();
    let sound: Part = PartKind::Audio { data: "AA".into(), format: "wav".into() }.into();
    let json = RawJson::parse("{}").unwrap();
    let odd: Part = PartKind::Other { maker: Dialect::Anthropic, kind: "odd".into(), json }.into();
    let parts = vec![Part::text("see"), image.clone(), sound, odd];
    let events: Vec<_> =
        parts.iter().map(|part| StreamEvent::Part { choice: 0, part: part.clone() }).collect();
    let lost = [FidelityNote::new("choices.audio"), FidelityNote::new("choices.odd")];
    let expected = json!([{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } }]);

    let (written, notes) = message(&reply(Dialect::Gemini, parts), &context(Dialect::Gemini));
    assert_eq!((&written["content"], &written["images"]), (&"see".into(), &expected));
    assert_eq!(notes, lost);
    assert_eq!(sent_back(&written), [Part::text("see"), image.clone()]);

    let (told, notes, bytes) = deltas(&events, &context(Dialect::Gemini));
    assert_eq!(told, [json!({ "content": "see" }), json!({ "images": expected })]);
    assert_eq!(notes, lost);
    assert_eq!(read(&bytes), [Part::text("see"), image]);
}

#[test]
fn free_text_calls_come_as_the_client_defined_them() {
    let schema = RawJson::parse("{}").unwrap();
    let request = InferenceRequest {
        messages: vec![Message::user("x")],
        tools: vec![ToolDefinition { freeform: true, ..ToolDefinition::new("p", "d", schema) }],
        ..Default::default()
    };
    let context = ReplyContext { request: Some(&request), ..context(Dialect::Anthropic) };
    let parts = vec![PartKind::ToolCall(call("c", "p", r#"{"input":"a\n"}"#)).into()];
    let (written, _) = message(&reply(Dialect::Anthropic, parts.clone()), &context);
    assert_eq!(
        written["tool_calls"][0],
        json!({ "id": "c", "type": "custom", "custom": { "name": "p", "input": "a\n" } })
    );
    assert_eq!(sent_back(&written), parts);

    let more =
        |arguments: &str| StreamEvent::ToolCallDelta { choice: 0, call: 0, arguments: arguments.into() };
    let start = StreamEvent::ToolCallStart { choice: 0, call: 0, id: "c".into(), name: "p".into() };
    let (told, _, bytes) = deltas(&[start, more(r#"{"inp"#), more(r#"ut":"a\n"}"#)], &context);
    assert_eq!(told[1], json!({ "tool_calls": [{ "index": 0, "custom": { "input": "a\n" } }] }));
    assert_eq!(read(&bytes), parts);
}

#[test]
fn the_words_of_others_are_not_told() {
    let choice = Choice {
        parts: vec![Part::text("x")],
        finish_reason: Some(FinishReason::Other("pause_turn".into())),
        logprobs: Some(RawJson::parse("{}").unwrap()),
        ..Choice::default()
    };
    let reply = InferenceResponse {
        origin: Some(Dialect::Anthropic),
        ..InferenceResponse::from_choices(vec![choice.clone()])
    };
    let encoded = OpenAiChat.encode_reply(&reply, &context(Dialect::Anthropic));
    let body: Value = serde_json::from_slice(&encoded.body).unwrap();
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["choices"][0]["logprobs"], Value::Null);
    let notes = [FidelityNote::new("choices.logprobs"), FidelityNote::emulated("choices.finish_reason")];
    assert_eq!(encoded.notes, notes);

    let own = InferenceResponse { origin: None, ..reply };
    let back =
        OpenAiChat.decode_reply(&OpenAiChat.encode_reply(&own, &ReplyContext::default()).body).unwrap();
    assert_eq!(back.choices, [choice]);
}
