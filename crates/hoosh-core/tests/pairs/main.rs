//! Every dialect a client may speak over every dialect a provider may speak.
//!
//! The codecs stand in for all four sides: what a client writes is what its dialect's codec writes, what a vendor sees is
//! what its dialect's codec reads. What the official SDKs make of it is tested in `tests/sdk`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

mod agent;
mod conformance;

use hoosh_core::dialect::{Codec, Dialect, Encoded, Quirks, ReplyContext, Target};
use hoosh_core::{
    FidelityNote, InferenceRequest, InferenceResponse, InvalidRequest, PartKind, StreamEvent, fold,
};

/// The dialects in which conversations are held, by the names people know them by.
const DIALECTS: [(Dialect, &str); 5] = [
    (Dialect::OpenAiChat, "chat completions"),
    (Dialect::OpenAiResponses, "responses"),
    (Dialect::Anthropic, "messages"),
    (Dialect::Gemini, "generateContent"),
    (Dialect::OllamaChat, "Ollama chat"),
];

/// A model of each vendor's, since what is said depends on the model in some dialects.
fn model_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "claude-sonnet-4-5",
        Dialect::Gemini => "gemini-3-pro",
        Dialect::OllamaChat => "gpt-oss:20b",
        _ => "gpt-5",
    }
}

fn codec(dialect: Dialect) -> &'static dyn Codec {
    dialect.codec().unwrap()
}

fn target(dialect: Dialect, stream: bool) -> Target<'static> {
    Target { model: model_of(dialect), stream, quirks: Quirks::NONE }
}

/// What the gateway reads of a request that a client of this dialect writes, and what the client could not say.
fn from_client(
    client: Dialect,
    request: &InferenceRequest,
) -> Result<(InferenceRequest, Vec<FidelityNote>), InvalidRequest> {
    let Encoded { body, notes, .. } = codec(client).encode_request(request, target(client, false));
    let mut read = codec(client).decode_request(&body)?;
    // Gemini has it in the URL.
    read.model = "asked".to_owned();
    Ok((read, notes))
}

/// What a vendor of this dialect sees of a request, and what it is not told.
fn to_vendor(provider: Dialect, request: &InferenceRequest) -> (InferenceRequest, Encoded) {
    let encoded = codec(provider).encode_request(request, target(provider, false));
    let seen = codec(provider)
        .decode_request(&encoded.body)
        .unwrap_or_else(|error| panic!("{provider}: {error}\n{}", String::from_utf8_lossy(&encoded.body)));
    (seen, encoded)
}

/// The events of a whole answer.
fn events_of(reply: &InferenceResponse) -> Vec<StreamEvent> {
    let start =
        StreamEvent::Start { id: reply.id.clone(), model: reply.model.clone(), created: reply.created };
    let mut events = vec![start];
    for choice in &reply.choices {
        let (choice, mut call) = (choice, 0);
        for part in &choice.parts {
            let index = choice.index;
            match &part.kind {
                PartKind::Text(text) => {
                    // In two pieces, as streams come.
                    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap();
                    for delta in [&text[..middle], &text[middle..]] {
                        events.push(StreamEvent::Text { choice: index, delta: delta.to_owned() });
                    }
                }
                PartKind::Reasoning(text) => {
                    events.push(StreamEvent::Reasoning { choice: index, delta: text.clone() });
                }
                PartKind::ToolCall(made) => {
                    let (id, name) = (made.id.clone(), made.name.clone());
                    events.push(StreamEvent::ToolCallStart { choice: index, call, id, name });
                    let arguments = made.arguments.clone();
                    events.push(StreamEvent::ToolCallDelta { choice: index, call, arguments });
                    call += 1;
                }
                _ => events.push(StreamEvent::Part { choice: index, part: part.clone() }),
            }
            if let Some(signature) = &part.signature {
                events.push(StreamEvent::Signature { choice: index, signature: signature.clone() });
            }
            for citation in &part.citations {
                events.push(StreamEvent::Citation { choice: index, citation: citation.clone() });
            }
        }
        events.extend(
            choice.finish_reason.clone().map(|reason| StreamEvent::Finish { choice: choice.index, reason }),
        );
    }
    events.extend(reply.usage.map(StreamEvent::Usage));
    events
}

/// What a client of one dialect reads of an answer that a vendor of another gives.
fn answer(
    provider: Dialect,
    client: Dialect,
    request: &InferenceRequest,
    reply: &InferenceResponse,
    streamed: bool,
) -> InferenceResponse {
    let context = ReplyContext {
        request: Some(request),
        id: "0192",
        now: 1_700_000_000,
        include_usage: true,
        origin: Some(provider),
        json_list: false,
        previous_id: None,
    };
    if !streamed {
        let sent = codec(provider).encode_reply(reply, &context).body;
        let read = codec(provider).decode_reply(&sent).unwrap_or_else(|error| panic!("{provider}: {error}"));
        let shown = codec(client).encode_reply(&read, &context).body;
        return codec(client).decode_reply(&shown).unwrap_or_else(|error| panic!("{client}: {error}"));
    }
    let sent = written(provider, &context, &events_of(reply));
    let events = read(provider, &sent);
    let shown = written(client, &context, &events);
    fold(read(client, &shown))
}

fn written(dialect: Dialect, context: &ReplyContext<'_>, events: &[StreamEvent]) -> Vec<u8> {
    let mut encoder = codec(dialect).stream_encoder(context);
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.event(event, &mut out));
    encoder.finish(&mut out);
    out
}

fn read(dialect: Dialect, bytes: &[u8]) -> Vec<StreamEvent> {
    let mut decoder = codec(dialect).stream_decoder(Quirks::NONE);
    let mut events = Vec::new();
    let done = decoder.push(bytes, &mut events).and_then(|()| decoder.finish(&mut events));
    done.unwrap_or_else(|error| panic!("{dialect}: {error}\n{}", String::from_utf8_lossy(bytes)));
    events
}
