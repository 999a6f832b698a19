//! Every recording in every client's dialect: its text, its calls and its usage arrive, whole and streamed.

use std::fs;

use hoosh_core::dialect::{Dialect, Quirks};
use hoosh_core::{InferenceResponse, Part, PartKind, StreamEvent, fold};

use super::{as_stream, context, decode, decode_with, files, fixtures, transcripts, written};

/// The dialects in which clients hold conversations.
const CLIENTS: [Dialect; 5] =
    [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::Anthropic, Dialect::Gemini, Dialect::OllamaChat];

/// What a stream that leaves out its last word is allowed.
const LENIENT: Quirks = Quirks { done_optional: true, ..Quirks::NONE };

/// Folders of recordings of many vendors.
const VENDORS: [(&str, Dialect); 5] = [
    ("anthropic", Dialect::Anthropic),
    ("gemini", Dialect::Gemini),
    ("openai_chat", Dialect::OpenAiChat),
    ("openai_completion", Dialect::OpenAiCompletions),
    ("openai_responses", Dialect::OpenAiResponses),
];

/// How recordings of servers on our own machine begin.
const LOCAL: [(&str, Dialect); 11] = [
    ("llamacpp-anthropic-messages", Dialect::Anthropic),
    ("llamacpp-anthropic-tools", Dialect::Anthropic),
    ("llamacpp-responses", Dialect::OpenAiResponses),
    ("llamacpp-smollm2-completions", Dialect::OpenAiCompletions),
    ("llamacpp-smollm2-", Dialect::OpenAiChat),
    ("ollama-v1-chat", Dialect::OpenAiChat),
    ("ollama-v1-messages", Dialect::Anthropic),
    ("ollama-v1-responses", Dialect::OpenAiResponses),
    ("ollama-chat", Dialect::OllamaChat),
    ("ollama-generate", Dialect::OllamaGenerate),
    ("ollama-unload", Dialect::OllamaGenerate),
];

#[test]
fn our_transcripts_arrive_everywhere() {
    let dialects = [&CLIENTS[..], &[Dialect::OpenAiCompletions, Dialect::OllamaGenerate]].concat();
    for dialect in dialects {
        for (name, bytes) in transcripts(dialect) {
            let events = decode(dialect, &[&bytes]).unwrap_or_else(|error| panic!("{name}: {error}"));
            check_stream(&name, dialect, &events);
        }
    }
}

#[test]
fn recordings_of_vendors_arrive_everywhere() {
    let Some(root) = fixtures() else { return };
    let (mut streams, mut answers) = (0, 0);
    for (folder, dialect) in VENDORS {
        for file in files(&root.join("transcripts").join(folder), "") {
            let name = file.display().to_string();
            let bytes = fs::read(&file).unwrap();
            if name.ends_with(".json") {
                answers += check_answer(&name, dialect, &bytes);
                continue;
            }
            let text = String::from_utf8(bytes).unwrap();
            let stream = if name.ends_with(".sse") { text } else { as_stream(&text) };
            match decode_with(dialect, LENIENT, &[stream.as_bytes()]) {
                Ok(events) => {
                    check_stream(&name, dialect, &events);
                    streams += 1;
                }
                // Broken by whoever recorded them, or an error of the vendor's.
                Err(error) => {
                    let known = ["spliced", "openai-error", "fallback-tool-call"];
                    assert!(known.iter().any(|known| name.contains(known)), "{name}: {error}");
                }
            }
        }
    }
    assert!(streams > 50 && answers > 25, "{streams} streams and {answers} answers");
}

#[test]
fn recordings_of_local_servers_arrive_everywhere() {
    let Some(root) = fixtures() else { return };
    let mut count = 0;
    for file in files(&root.join("local"), ".response.raw") {
        let name = file.file_name().unwrap().display().to_string();
        let Some((_, dialect)) = LOCAL.iter().find(|(begin, _)| name.starts_with(begin)) else { continue };
        let raw = fs::read(&file).unwrap();
        let body = body_of(&raw);
        count += 1;
        if name.contains("stream") {
            let events =
                decode_with(*dialect, LENIENT, &[body]).unwrap_or_else(|error| panic!("{name}: {error}"));
            check_stream(&name, *dialect, &events);
        } else {
            assert_eq!(check_answer(&name, *dialect, body), 1, "{name}");
        }
    }
    assert!(count > 30, "{count} recordings");
}

/// The body of an HTTP answer.
fn body_of(raw: &[u8]) -> &[u8] {
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    &raw[end + 4..]
}

fn check_stream(name: &str, dialect: Dialect, events: &[StreamEvent]) {
    let sent = InferenceResponse { origin: Some(dialect), ..fold(events.iter().cloned()) };
    for client in CLIENTS {
        let shown = written(client, &context(dialect), events);
        let read = decode(client, &[&shown]).unwrap_or_else(|error| panic!("{name} for {client}: {error}"));
        check_said(name, client, &sent, &fold(read));
    }
    check_whole(name, dialect, &sent);
}

/// Checks a whole answer, and says whether it is one.
fn check_answer(name: &str, dialect: Dialect, body: &[u8]) -> usize {
    match dialect.codec().unwrap().decode_reply(body) {
        Ok(reply) => {
            check_whole(name, dialect, &reply);
            1
        }
        Err(error) => {
            let text = String::from_utf8_lossy(body);
            assert!(text.contains("error") || name.contains("transcription"), "{name}: {error}");
            0
        }
    }
}

fn check_whole(name: &str, dialect: Dialect, sent: &InferenceResponse) {
    for client in CLIENTS {
        let codec = client.codec().unwrap();
        let shown = codec.encode_reply(sent, &context(dialect)).body;
        let read = codec.decode_reply(&shown).unwrap_or_else(|error| panic!("{name} for {client}: {error}"));
        check_said(name, client, sent, &read);
    }
}

fn check_said(name: &str, client: Dialect, sent: &InferenceResponse, read: &InferenceResponse) {
    let how = format!("{name} for {client}");
    let has = |wanted: fn(&Part) -> bool| sent.choices.iter().any(|choice| choice.parts.iter().any(wanted));
    // Dialects without a field for them write refusals and pictures as text.
    if !has(|part| matches!(part.kind, PartKind::Refusal(_) | PartKind::Image { .. })) {
        assert_eq!(read.text, sent.text, "{how}: the text");
    }
    let calls = |reply: &InferenceResponse| -> Vec<(String, serde_json::Value)> {
        let argument = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| serde_json::json!({}));
        let first = reply.choices.first().map(|choice| choice.parts.as_slice()).unwrap_or_default();
        let calls = first.iter().filter_map(|part| match &part.kind {
            PartKind::ToolCall(call) => Some((call.name.clone(), argument(&call.arguments))),
            _ => None,
        });
        calls.collect()
    };
    assert_eq!(calls(read), calls(sent), "{how}: the calls");
    let tokens =
        |reply: &InferenceResponse| reply.usage.map(|usage| (usage.prompt_total(), usage.completion_total()));
    if let Some(tokens_sent) = tokens(sent) {
        assert_eq!(tokens(read), Some(tokens_sent), "{how}: the usage");
    }
}
