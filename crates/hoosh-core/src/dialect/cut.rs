//! The proper end of a stream that is passed through unread and must go no further: that of an answer which was as long as it
//! may be, in the words of its dialect.
//!
//! What is half written stays so: the arguments of a tool call that is cut are no whole JSON, as vendors leave them, and the reason
//! says why.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::openai::usage::UsageBody;
use super::wire::{write_event, write_line, write_named_event};
use super::{Dialect, StreamForm};
use crate::framing::{LineFramer, SseFramer};
use crate::usage::Usage;

/// Follows what of a stream its reader was given, so that it can be ended anywhere between two events.
///
/// ```
/// use hoosh_core::dialect::{Dialect, Shears};
/// use hoosh_core::Usage;
///
/// let mut shears = Shears::of(Dialect::OpenAiChat).ok_or("it streams")?;
/// shears.passed(b"data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Once\"}}]}\n\n");
/// let mut end = Vec::new();
/// shears.cut(&Usage::default(), false, &mut end);
/// let end = String::from_utf8(end)?;
/// assert!(end.contains(r#""finish_reason":"length""#) && end.ends_with("data: [DONE]\n\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Shears {
    dialect: Dialect,
    framer: Framer,
    passed: Passed,
}

enum Framer {
    Sse(SseFramer),
    Lines(LineFramer),
}

/// What is known of the stream so far, as far as its end repeats it.
enum Passed {
    Chunks(Chunks),
    Messages { block: Option<u64> },
    Gemini(Chunks),
    Ollama { model: Option<String>, created_at: Option<String> },
    Responses(Box<Responses>),
}

/// Answers beside each other, and what every chunk of theirs has.
#[derive(Default)]
struct Chunks {
    /// In their order, as they came first: name and JSON.
    head: Vec<(&'static str, Box<RawValue>)>,
    /// Whether each answer is finished, by its index.
    choices: BTreeMap<u64, bool>,
}

#[derive(Default)]
struct Responses {
    sequence: u64,
    response: Value,
    /// By their place, the finished ones as they are.
    items: BTreeMap<u64, Item>,
}

#[derive(Default)]
struct Item {
    json: Value,
    is_done: bool,
    /// The texts in it, by their place.
    parts: BTreeMap<u64, Text>,
    arguments: String,
}

#[derive(Default)]
struct Text {
    text: String,
    is_refusal: bool,
    is_done: bool,
}

// === impl Shears ===

impl Shears {
    /// `None`: the dialect does not stream.
    pub fn of(dialect: Dialect) -> Option<Self> {
        let passed = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiCompletions => Passed::Chunks(Chunks::default()),
            Dialect::Gemini => Passed::Gemini(Chunks::default()),
            Dialect::Anthropic => Passed::Messages { block: None },
            Dialect::OllamaChat | Dialect::OllamaGenerate => Passed::Ollama { model: None, created_at: None },
            Dialect::OpenAiResponses => Passed::Responses(Box::default()),
            _ => return None,
        };
        let framer = match dialect.stream_form() {
            StreamForm::Sse => Framer::Sse(SseFramer::default()),
            StreamForm::Lines => Framer::Lines(LineFramer::default()),
        };
        Some(Self { dialect, framer, passed })
    }

    /// These bytes were passed on. What cannot be read in them is passed over: it was read before, by whoever watches the stream.
    pub fn passed(&mut self, bytes: &[u8]) {
        let passed = &mut self.passed;
        // An event that is too long ends the stream elsewhere.
        let _framed = match &mut self.framer {
            Framer::Sse(framer) => framer.push(bytes, |event| passed.event(event.data)),
            Framer::Lines(framer) => framer.push(bytes, |line| passed.event(line.data)),
        };
    }

    /// Appends the end. `include_usage`: whether the reader asked for a chunk of usage, where that is to be asked for.
    pub fn cut(&mut self, usage: &Usage, include_usage: bool, out: &mut Vec<u8>) {
        match &mut self.passed {
            Passed::Chunks(chunks) => {
                let is_chat = self.dialect == Dialect::OpenAiChat;
                let finish = |index: u64| match is_chat {
                    true => json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": "length"}),
                    false => json!({"index": index, "text": "", "logprobs": null, "finish_reason": "length"}),
                };
                let choices: Vec<Value> = chunks.unfinished().map(finish).collect();
                write_event(&chunks.with([("choices", json!(choices))]), out);
                if include_usage {
                    let usage = serde_json::to_value(UsageBody(*usage)).unwrap_or_default();
                    write_event(&chunks.with([("choices", json!([])), ("usage", usage)]), out);
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            Passed::Messages { block } => {
                if let Some(index) = block.take() {
                    let stop = json!({"type": "content_block_stop", "index": index});
                    write_named_event("content_block_stop", &stop, out);
                }
                let delta = json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": "max_tokens", "stop_sequence": null},
                    "usage": {"output_tokens": usage.completion_total()},
                });
                write_named_event("message_delta", &delta, out);
                write_named_event("message_stop", &json!({"type": "message_stop"}), out);
            }
            Passed::Gemini(chunks) => {
                let finish = |index: u64| {
                    json!({
                        "content": {"parts": [{"text": ""}], "role": "model"},
                        "finishReason": "MAX_TOKENS",
                        "index": index,
                    })
                };
                let candidates: Vec<Value> = chunks.unfinished().map(finish).collect();
                let usage = json!({
                    "promptTokenCount": usage.prompt_total(),
                    "candidatesTokenCount": usage.completion_total(),
                    "totalTokenCount": usage.total(),
                });
                write_event(&chunks.with([("candidates", json!(candidates)), ("usageMetadata", usage)]), out);
            }
            Passed::Ollama { model, created_at } => {
                let mut last = json!({
                    "model": model,
                    "created_at": created_at,
                    "done": true,
                    "done_reason": "length",
                    "prompt_eval_count": usage.prompt_total(),
                    "eval_count": usage.completion_total(),
                });
                match self.dialect {
                    Dialect::OllamaChat => last["message"] = json!({"role": "assistant", "content": ""}),
                    _ => last["response"] = json!(""),
                }
                write_line(&last, out);
            }
            Passed::Responses(responses) => responses.cut(usage, out),
        }
    }
}

// === impl Passed ===

impl Passed {
    fn event(&mut self, data: &[u8]) {
        match self {
            Self::Chunks(chunks) => chunks.chunk(data),
            Self::Gemini(chunks) => chunks.gemini(data),
            Self::Messages { block } => {
                #[derive(Deserialize)]
                struct Event<'a> {
                    #[serde(borrow)]
                    r#type: Cow<'a, str>,
                    index: Option<u64>,
                }
                match serde_json::from_slice::<Event<'_>>(data) {
                    Ok(event) if event.r#type == "content_block_start" => *block = event.index,
                    Ok(event) if event.r#type == "content_block_stop" => *block = None,
                    _ => {}
                }
            }
            Self::Ollama { model, created_at } => {
                #[derive(Deserialize)]
                struct Line {
                    model: Option<String>,
                    created_at: Option<String>,
                }
                if let Ok(line) = serde_json::from_slice::<Line>(data) {
                    *model = model.take().or(line.model);
                    *created_at = line.created_at.or(created_at.take());
                }
            }
            Self::Responses(responses) => {
                if let Ok(event) = serde_json::from_slice(data) {
                    responses.event(event);
                }
            }
        }
    }
}

// === impl Chunks ===

impl Chunks {
    fn chunk(&mut self, data: &[u8]) {
        #[derive(Deserialize)]
        struct Chunk<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
            #[serde(borrow)]
            object: Option<&'a RawValue>,
            #[serde(borrow)]
            created: Option<&'a RawValue>,
            #[serde(borrow)]
            model: Option<&'a RawValue>,
            #[serde(borrow)]
            system_fingerprint: Option<&'a RawValue>,
            #[serde(borrow, default)]
            choices: Option<Vec<Choice<'a>>>,
        }
        #[derive(Deserialize)]
        struct Choice<'a> {
            index: Option<u64>,
            #[serde(borrow)]
            finish_reason: Option<Cow<'a, str>>,
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return };
        let choices = chunk.choices.unwrap_or_default();
        // Azure sends a chunk about the prompt before the answer's own.
        if self.choices.is_empty() && !choices.is_empty() {
            self.begin([
                ("id", chunk.id),
                ("object", chunk.object),
                ("created", chunk.created),
                ("model", chunk.model),
                ("system_fingerprint", chunk.system_fingerprint),
            ]);
        }
        for choice in choices {
            self.note(choice.index, choice.finish_reason.is_some_and(|reason| !reason.is_empty()));
        }
    }

    fn gemini(&mut self, data: &[u8]) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Chunk<'a> {
            #[serde(borrow)]
            model_version: Option<&'a RawValue>,
            #[serde(borrow)]
            response_id: Option<&'a RawValue>,
            #[serde(borrow, default)]
            candidates: Option<Vec<Candidate<'a>>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Candidate<'a> {
            index: Option<u64>,
            #[serde(borrow)]
            finish_reason: Option<Cow<'a, str>>,
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return };
        if self.choices.is_empty() {
            self.begin([("modelVersion", chunk.model_version), ("responseId", chunk.response_id)]);
        }
        for candidate in chunk.candidates.unwrap_or_default() {
            self.note(candidate.index, candidate.finish_reason.is_some());
        }
    }

    fn begin<const N: usize>(&mut self, head: [(&'static str, Option<&RawValue>); N]) {
        let there = head.into_iter().filter_map(|(name, raw)| Some((name, raw?.to_owned())));
        self.head = there.collect();
    }

    fn note(&mut self, index: Option<u64>, is_finished: bool) {
        *self.choices.entry(index.unwrap_or(0)).or_default() |= is_finished;
    }

    /// Those that have to be ended; the first where none has begun, since every answer has one.
    fn unfinished(&self) -> impl Iterator<Item = u64> {
        let first = self.choices.is_empty().then_some(0);
        let open = self.choices.iter().filter(|(_, is_finished)| !**is_finished).map(|(index, _)| *index);
        first.into_iter().chain(open)
    }

    /// A chunk with these fields.
    fn with<const N: usize>(&self, fields: [(&str, Value); N]) -> Value {
        let head = self
            .head
            .iter()
            .map(|(name, raw)| ((*name).to_owned(), serde_json::from_str(raw.get()).unwrap_or_default()));
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::Object(head.chain(fields).collect())
    }
}

// === impl Responses ===

impl Responses {
    fn event(&mut self, mut event: Value) {
        if let Some(sequence) = event["sequence_number"].as_u64() {
            self.sequence = sequence + 1;
        }
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        if matches!(&*kind, "response.created" | "response.in_progress" | "response.queued") {
            self.response = event["response"].take();
            return;
        }
        let Some(at) = event["output_index"].as_u64() else { return };
        let part_at = event["content_index"].as_u64().unwrap_or(0);
        let item = self.items.entry(at).or_default();
        match &*kind {
            "response.output_item.added" => item.json = event["item"].take(),
            "response.output_item.done" => {
                (item.json, item.is_done) = (event["item"].take(), true);
                item.parts.clear();
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                let part = item.parts.entry(part_at).or_default();
                part.is_refusal = kind == "response.refusal.delta";
                part.text.push_str(event["delta"].as_str().unwrap_or_default());
            }
            "response.content_part.done" => {
                let part = item.parts.entry(part_at).or_default();
                part.is_done = true;
                if let Some(text) = event["part"]["text"].as_str() {
                    text.clone_into(&mut part.text);
                }
            }
            "response.function_call_arguments.delta" => {
                item.arguments.push_str(event["delta"].as_str().unwrap_or_default());
            }
            "response.function_call_arguments.done" => {
                event["arguments"].as_str().unwrap_or_default().clone_into(&mut item.arguments);
            }
            _ => {}
        }
    }

    fn tell(&mut self, kind: &str, mut event: Value, out: &mut Vec<u8>) {
        event["type"] = kind.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        write_named_event(kind, &event, out);
    }

    fn cut(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        let mut output = Vec::new();
        for (at, mut item) in std::mem::take(&mut self.items) {
            if item.json.is_null() {
                continue; // nothing of it was shown
            }
            if !item.is_done {
                self.end_item(at, &mut item, out);
            }
            output.push(item.json);
        }
        let mut response = self.response.take();
        if !response.is_object() {
            response = json!({"object": "response"});
        }
        response["status"] = "incomplete".into();
        response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        response["output"] = output.into();
        response["usage"] = json!({
            "input_tokens": usage.prompt_total(),
            "input_tokens_details": {"cached_tokens": usage.cache_read.unwrap_or(0)},
            "output_tokens": usage.completion_total(),
            "output_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(0)},
            "total_tokens": usage.total(),
        });
        self.tell("response.incomplete", json!({"response": response}), out);
    }

    /// Ends an item that is half written: its texts are told as they are, its arguments are not told to be done.
    fn end_item(&mut self, at: u64, item: &mut Item, out: &mut Vec<u8>) {
        let id = item.json["id"].clone();
        let mut content = Vec::new();
        for (part_at, part) in std::mem::take(&mut item.parts) {
            let (name, kind) = match part.is_refusal {
                true => ("refusal", "refusal"),
                false => ("text", "output_text"),
            };
            let mut json = json!({"type": kind, name: part.text});
            if !part.is_refusal {
                json["annotations"] = json!([]);
            }
            if !part.is_done {
                let place = json!({"item_id": id, "output_index": at, "content_index": part_at});
                let mut text = place.clone();
                text[name] = part.text.into();
                let mut whole = place;
                whole["part"] = json.clone();
                self.tell(&format!("response.{kind}.done"), text, out);
                self.tell("response.content_part.done", whole, out);
            }
            content.push(json);
        }
        if !content.is_empty() {
            item.json["content"] = content.into();
        }
        if !item.arguments.is_empty() {
            item.json["arguments"] = std::mem::take(&mut item.arguments).into();
        }
        item.json["status"] = "incomplete".into();
        let done = json!({"output_index": at, "item": item.json});
        self.tell("response.output_item.done", done, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Quirks, Tap};
    use crate::response::FinishReason;
    use crate::stream::StreamEvent;

    /// The stream up to there and its end: each dialect's own reader takes it for a whole answer that was too long.
    #[track_caller]
    fn check(dialect: Dialect, passed: &str, text: &str) -> String {
        let mut shears = Shears::of(dialect).unwrap();
        // In whatever pieces.
        passed.as_bytes().chunks(7).for_each(|piece| shears.passed(piece));
        let usage = Usage { input: Some(3), output: Some(2), ..Usage::default() };
        let mut end = Vec::new();
        shears.cut(&usage, true, &mut end);
        let whole = [passed.as_bytes(), &end].concat();
        let mut decoder = dialect.codec().unwrap().stream_decoder(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(&whole, &mut events).unwrap();
        decoder.finish(&mut events).unwrap();
        let told: String = events
            .iter()
            .filter_map(|event| match event {
                StreamEvent::Text { delta, .. } => Some(delta.as_str()),
                StreamEvent::ToolCallDelta { arguments, .. } => Some(arguments.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(told, text, "{dialect}: {events:?}");
        let reasons: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                StreamEvent::Finish { reason, .. } => Some(reason.clone()),
                _ => None,
            })
            .collect();
        assert!(
            !reasons.is_empty() && reasons.iter().all(|reason| *reason == FinishReason::Length),
            "{reasons:?}"
        );
        let mut tap: Box<dyn Tap> = dialect.tap(Quirks::NONE);
        let mut framer = SseFramer::default();
        let mut lines = LineFramer::default();
        match dialect.stream_form() {
            StreamForm::Sse => framer.push(&whole, |event| assert!(tap.event(event.data).is_ok())).unwrap(),
            StreamForm::Lines => lines.push(&whole, |line| assert!(tap.event(line.data).is_ok())).unwrap(),
        }
        assert!(tap.is_complete(), "{dialect}");
        assert_eq!(tap.usage().unwrap().completion_total(), 2, "{dialect}");
        String::from_utf8(end).unwrap()
    }

    #[test]
    fn a_stream_of_chunks_is_ended_for_each_answer_in_it() {
        let chunk = |index: u32, more: &str| {
            format!(
                "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\",\"choices\":[{{\"index\":{index},{more}}}]}}\n\n"
            )
        };
        let text = r#""delta":{"content":"a"},"finish_reason":null"#;
        let all = chunk(0, text) + &chunk(1, text) + &chunk(1, r#""delta":{},"finish_reason":"length""#);
        let end = check(Dialect::OpenAiChat, &all, "aa");
        assert!(end.contains(r#""id":"c1""#) && end.contains(r#""created":7"#), "{end}");
        assert_eq!(end.matches("\"length\"").count(), 1, "{end}");
        let call = chunk(
            0,
            r#""delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":"{\"a"}}]}"#,
        );
        check(Dialect::OpenAiChat, &call, "{\"a");
        check(Dialect::OpenAiCompletions, &chunk(0, r#""text":"a","finish_reason":null"#), "a");
    }

    #[test]
    fn a_message_is_ended_inside_its_block_or_between_two() {
        let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n\
            event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
            event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
        let end = check(Dialect::Anthropic, start, "a");
        assert!(end.starts_with("event: content_block_stop\n"), "{end}");
        let stop = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
        let end = check(Dialect::Anthropic, &format!("{start}{stop}"), "a");
        assert!(end.starts_with("event: message_delta\n"), "{end}");
    }

    #[test]
    fn gemini_and_ollama_have_their_own_words_for_it() {
        let chunk = r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"index":0}],"modelVersion":"g"}"#;
        let end = check(Dialect::Gemini, &format!("data: {chunk}\n\n"), "a");
        assert!(end.contains("MAX_TOKENS") && end.contains(r#""modelVersion":"g""#), "{end}");
        let line = r#"{"model":"m","created_at":"2026-11-24T00:00:00Z","message":{"role":"assistant","content":"a"},"done":false}"#;
        let end = check(Dialect::OllamaChat, &format!("{line}\n"), "a");
        assert!(end.contains(r#""created_at":"2026-11-24T00:00:00Z""#), "{end}");
        let line = r#"{"model":"m","created_at":"2026-11-24T00:00:00Z","response":"a","done":false}"#;
        check(Dialect::OllamaGenerate, &format!("{line}\n"), "a");
    }

    #[test]
    fn a_response_is_incomplete_with_all_that_was_written() {
        let event = |kind: &str, rest: &str, number: u32| {
            format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},{rest}}}\n\n")
        };
        let begin = event(
            "response.created",
            r#""response":{"id":"r","object":"response","created_at":7,"model":"m","status":"in_progress","output":[]}"#,
            0,
        ) + &event(
            "response.output_item.added",
            r#""output_index":0,"item":{"id":"i","type":"message","role":"assistant","status":"in_progress","content":[]}"#,
            1,
        ) + &event(
            "response.content_part.added",
            r#""output_index":0,"item_id":"i","content_index":0,"part":{"type":"output_text","text":"","annotations":[]}"#,
            2,
        ) + &event(
            "response.output_text.delta",
            r#""output_index":0,"item_id":"i","content_index":0,"delta":"a""#,
            3,
        );
        let end = check(Dialect::OpenAiResponses, &begin, "a");
        let last: Value = serde_json::from_str(end.trim().rsplit_once("data: ").unwrap().1).unwrap();
        assert_eq!(last["sequence_number"], 7, "{end}");
        let response = &last["response"];
        assert_eq!((&response["id"], &response["status"]), (&"r".into(), &"incomplete".into()));
        assert_eq!(response["output"][0]["content"][0]["text"], "a", "{end}");
        let call = event("response.created", r#""response":{"id":"r","output":[]}"#, 0)
            + &event(
                "response.output_item.added",
                r#""output_index":0,"item":{"id":"i","type":"function_call","call_id":"t","name":"f","arguments":"","status":"in_progress"}"#,
                1,
            )
            + &event(
                "response.function_call_arguments.delta",
                r#""output_index":0,"item_id":"i","delta":"{\"a""#,
                2,
            );
        let end = check(Dialect::OpenAiResponses, &call, "{\"a");
        assert!(!end.contains("arguments.done") && end.contains(r#""arguments":"{\"a""#), "{end}");
    }
}
