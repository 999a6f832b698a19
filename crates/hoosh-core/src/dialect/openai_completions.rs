//! OpenAI's legacy text completions. Source: platform.openai.com/docs/api-reference/completions, read 2026-11-24.
//!
//! It knows one prompt and one text: what a conversation has beyond that is reported, not dropped in silence.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::openai::chunks::{Chunks, Envelope, ReadChoice, write_problem};
use super::openai::reply::{close, is_akin, open, write_envelope, write_extra};
use super::openai::request::{note_foreign, note_shared, shared_fields, write_shared_fields};
use super::openai::usage::UsageBody;
use super::wire::{List, as_one_text, note, request_text, write_event, write_json};
use super::{Codec, DecodeError, DecodeStream, Dialect, EncodeStream, Encoded, Quirks, ReplyContext, Target};
use crate::error::{InvalidRequest, Problem};
use crate::failure::FidelityNote;
use crate::framing::SseFramer;
use crate::json::{FieldError, Object, RawJson};
use crate::request::{InferenceRequest, Part, PartKind, Role, joined_text};
use crate::response::{Choice, FinishReason, InferenceResponse};
use crate::stream::StreamEvent;

pub(super) struct OpenAiCompletions;

impl Codec for OpenAiCompletions {
    fn decode_request(&self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
        let mut object = Object::parse("", request_text(body)?)?;
        let mut request = InferenceRequest { model: object.require("model")?, ..InferenceRequest::default() };
        if let Some(raw) = object.take_raw("prompt") {
            request.prompt = prompt(raw).map_err(|problem| object.wrong("prompt", problem))?;
        }
        shared_fields(&mut object, &mut request)?;
        request.extra = object.rest();
        request.origin = Some(Dialect::OpenAiCompletions);
        Ok(request)
    }

    fn encode_request(&self, request: &InferenceRequest, target: Target<'_>) -> Encoded {
        let mut notes = Vec::new();
        let prompt = flat_prompt(request, &mut notes);
        let dropped = [
            ("tools", !request.tools.is_empty()),
            ("tool_choice", request.tool_choice.is_some()),
            ("response_format", request.response_format.is_some()),
            ("reasoning_effort", request.reasoning_effort.is_some()),
            ("reasoning", request.reasoning_budget.is_some()),
            ("parallel_tool_calls", request.parallel_tool_calls.is_some()),
            ("logprobs", request.logprobs == Some(true)),
            ("top_logprobs", request.top_logprobs.is_some()),
            ("service_tier", request.service_tier.is_some()),
            ("metadata", request.metadata.is_some()),
        ];
        let dropped = dropped.iter().filter(|(_, lost)| *lost);
        dropped.for_each(|(name, _)| note(&mut notes, FidelityNote::new(*name)));
        for tool in &request.hosted_tools {
            note(&mut notes, FidelityNote::new(format!("tools.{}", tool.kind)));
        }
        note_shared(request, target, &mut notes);
        note_foreign(request, |name| is_carried(request.origin, name), &mut notes);
        let mut body = Vec::with_capacity(256 + prompt.len());
        write_json(&RequestBody { request, target, prompt: &prompt }, &mut body);
        Encoded { body, notes, answer_tool: None }
    }

    fn decode_reply(&self, body: &[u8]) -> Result<InferenceResponse, DecodeError> {
        let mut object = open(body)?;
        let choices = object.require::<Vec<&RawValue>>("choices")?;
        let choices = choices
            .into_iter()
            .enumerate()
            .map(|(index, raw)| choice(Object::parse(format!("choices[{index}]"), raw.get())?))
            .collect::<Result<_, _>>()?;
        Ok(close(object, Dialect::OpenAiCompletions, choices)?)
    }

    fn encode_reply(&self, reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
        let mut body = Vec::with_capacity(256 + reply.text.len());
        write_json(&ReplyBody { reply, context }, &mut body);
        let mut notes = Vec::new();
        let parts = reply.choices.iter().flat_map(|choice| &choice.parts);
        parts.for_each(|part| note_lost(&part.kind, &mut notes));
        Encoded { body, notes, answer_tool: None }
    }

    fn stream_decoder(&self, quirks: Quirks) -> Box<dyn DecodeStream> {
        Box::new(Decoder { framer: SseFramer::default(), chunks: Chunks::new(quirks) })
    }

    fn stream_encoder(&self, context: &ReplyContext<'_>) -> Box<dyn EncodeStream> {
        Box::new(Encoder { envelope: Envelope::new(context, "cmpl-"), notes: Vec::new() })
    }
}

// --- requests ---

fn prompt(raw: &RawValue) -> Result<String, &'static str> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Prompt {
        One(String),
        Many(Vec<String>),
    }
    const PROBLEM: &str = "only a string works with a provider that has no completions endpoint";
    match serde_json::from_str(raw.get()) {
        Ok(Prompt::One(text)) => Ok(text),
        Ok(Prompt::Many(mut texts)) if texts.len() == 1 => texts.pop().ok_or(PROBLEM),
        Ok(Prompt::Many(_)) | Err(_) => Err(PROBLEM),
    }
}

/// The conversation as one text: as it is if one person says one thing, else with the speakers' names.
fn flat_prompt(request: &InferenceRequest, notes: &mut Vec<FidelityNote>) -> String {
    let conversation: Vec<_> = request.conversation().collect();
    let text_only = |part: &Part| matches!(part.kind, PartKind::Text(_));
    if !conversation.iter().all(|message| message.parts.iter().all(text_only)) {
        note(notes, FidelityNote::new("messages.content"));
    }
    if let [only] = &conversation[..]
        && only.role == Role::User
    {
        return joined_text(&only.parts);
    }
    note(notes, FidelityNote::new("messages.role"));
    as_one_text(conversation.iter().map(|message| (message.role, joined_text(&message.parts))))
}

struct RequestBody<'a> {
    request: &'a InferenceRequest,
    target: Target<'a>,
    prompt: &'a str,
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.target.model)?;
        map.serialize_entry("prompt", self.prompt)?;
        if let Some(most) = self.request.max_tokens {
            map.serialize_entry("max_tokens", &most)?;
        }
        write_shared_fields(self.request, self.target, &mut map)?;
        let request = self.request;
        let mut carried = request.extra.iter().filter(|(name, _)| is_carried(request.origin, name));
        carried.try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// Whether an unknown field of a request from there has its meaning here.
fn is_carried(origin: Option<Dialect>, _: &str) -> bool {
    is_akin(origin)
}

// --- replies ---

fn choice(mut object: Object<'_>) -> Result<Choice, FieldError> {
    let text: String = object.require("text")?;
    Ok(Choice {
        index: object.take("index")?.unwrap_or(0),
        parts: vec![Part::text(text)],
        finish_reason: object.take::<String>("finish_reason")?.map(|word| FinishReason::parse(&word)),
        logprobs: object.take_raw("logprobs").map(RawJson::from),
        extra: object.rest(),
    })
}

struct ReplyBody<'a> {
    reply: &'a InferenceResponse,
    context: &'a ReplyContext<'a>,
}

#[derive(Clone)]
struct ChoiceBody<'a> {
    index: u32,
    text: &'a str,
    logprobs: Option<&'a RawJson>,
    finish_reason: Option<&'a FinishReason>,
}

const OBJECT: &str = "text_completion";

impl Serialize for ReplyBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reply = self.reply;
        let texts: Vec<String> = reply.choices.iter().map(|choice| joined_text(&choice.parts)).collect();
        let choices = reply.choices.iter().zip(&texts).map(|(choice, text)| ChoiceBody {
            index: choice.index,
            text,
            logprobs: choice.logprobs.as_ref(),
            finish_reason: choice.finish_reason.as_ref(),
        });
        let mut map = serializer.serialize_map(None)?;
        write_envelope(reply, self.context, "cmpl-", OBJECT, &mut map)?;
        map.serialize_entry("choices", &List(choices))?;
        if let Some(usage) = reply.usage {
            map.serialize_entry("usage", &UsageBody(usage))?;
        }
        write_extra(reply, &mut map)?;
        map.end()
    }
}

impl Serialize for ChoiceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("text", self.text)?;
        map.serialize_entry("index", &self.index)?;
        map.serialize_entry("logprobs", &self.logprobs)?;
        map.serialize_entry("finish_reason", &self.finish_reason.map(FinishReason::as_str))?;
        map.end()
    }
}

// --- streams ---

struct Decoder {
    framer: SseFramer,
    chunks: Chunks<CompletionChoice>,
}

#[derive(Default)]
struct CompletionChoice;

impl DecodeStream for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        self.chunks.push(&mut self.framer, bytes, out)
    }

    fn is_done(&self) -> bool {
        self.chunks.is_done()
    }

    fn finish(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        self.chunks.finish(&mut self.framer, out)
    }
}

impl ReadChoice for CompletionChoice {
    fn read(
        &mut self,
        choice: u32,
        object: &mut Object<'_>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), FieldError> {
        if let Some(delta) = object.take::<String>("text")?.filter(|text| !text.is_empty()) {
            out.push(StreamEvent::Text { choice, delta });
        }
        Ok(())
    }

    fn finish(&mut self, _: u32, word: &str, _: &mut Vec<StreamEvent>) -> FinishReason {
        FinishReason::parse(word)
    }
}

struct Encoder {
    envelope: Envelope,
    notes: Vec<FidelityNote>,
}

struct ChunkBody<'a> {
    envelope: &'a Envelope,
    choice: ChoiceBody<'a>,
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        if self.envelope.take(event) {
            return;
        }
        let empty = ChoiceBody { index: 0, text: "", logprobs: None, finish_reason: None };
        let choice = match event {
            StreamEvent::Text { choice, delta } | StreamEvent::Refusal { choice, delta } => {
                ChoiceBody { index: *choice, text: delta, ..empty }
            }
            StreamEvent::Logprobs { choice, json } => {
                ChoiceBody { index: *choice, logprobs: Some(json), ..empty }
            }
            StreamEvent::Finish { choice, reason } => {
                ChoiceBody { index: *choice, finish_reason: Some(reason), ..empty }
            }
            StreamEvent::Reasoning { .. } => return note(&mut self.notes, FidelityNote::new(REASONING)),
            StreamEvent::ToolCallStart { .. } => return note(&mut self.notes, FidelityNote::new(TOOL_CALLS)),
            StreamEvent::Part { part, .. } => return note_lost(&part.kind, &mut self.notes),
            _ => return,
        };
        write_event(&ChunkBody { envelope: &self.envelope, choice }, out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.envelope.finish(OBJECT, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        write_problem(problem, out);
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        std::mem::take(&mut self.notes)
    }
}

const REASONING: &str = "choices.reasoning";
const TOOL_CALLS: &str = "choices.tool_calls";

/// Notes a piece of an answer that this dialect has no word for.
fn note_lost(kind: &PartKind, notes: &mut Vec<FidelityNote>) {
    let field = match kind {
        PartKind::Text(_) | PartKind::Refusal(_) => return,
        PartKind::Reasoning(text) if text.is_empty() => return,
        PartKind::Redacted => return,
        PartKind::Reasoning(_) => REASONING,
        PartKind::ToolCall(_) => TOOL_CALLS,
        _ => "choices.content",
    };
    note(notes, FidelityNote::new(field));
}

impl Serialize for ChunkBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.envelope.write(OBJECT, &mut map)?;
        map.serialize_entry("choices", &[&self.choice])?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Message;
    use crate::stream::fold;

    const TARGET: Target<'_> = Target { model: "m", stream: false, quirks: Quirks::NONE };
    const CONTEXT: ReplyContext<'_> = ReplyContext {
        include_usage: true,
        request: None,
        id: "",
        now: 0,
        origin: Some(Dialect::OpenAiCompletions),
        json_list: false,
        previous_id: None,
    };

    #[test]
    fn a_request_survives_a_round_trip() {
        let body = r#"{"model":"m","prompt":"once","max_tokens":5,"temperature":0.10,"stop":["x"],"echo":true,"suffix":"end","logprobs":2}"#;
        let request = OpenAiCompletions.decode_request(body.as_bytes()).unwrap();
        let encoded = OpenAiCompletions.encode_request(&request, TARGET);
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&encoded.body), value(body.as_bytes()));
        assert_eq!(encoded.notes, []);
    }

    #[test]
    fn what_chat_has_no_word_for_is_noted_there() {
        let body = br#"{"model":"m","prompt":["once"],"echo":true,"logit_bias":{"1":2}}"#;
        let request = OpenAiCompletions.decode_request(body).unwrap();
        let encoded = Dialect::OpenAiChat.codec().unwrap().encode_request(&request, TARGET);
        assert_eq!(
            String::from_utf8(encoded.body).unwrap(),
            r#"{"model":"m","messages":[{"role":"user","content":"once"}],"logit_bias":{"1":2}}"#
        );
        assert_eq!(encoded.notes, [FidelityNote::new("echo")]);
    }

    #[test]
    fn several_prompts_need_the_dialect_itself() {
        for prompt in [r#"["a","b"]"#, "[1,2]", "7"] {
            let body = format!(r#"{{"model":"m","prompt":{prompt}}}"#);
            let error = OpenAiCompletions.decode_request(body.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("`prompt`: only a string"), "{error}");
        }
    }

    #[test]
    fn a_conversation_becomes_one_text_and_says_so() {
        let request = InferenceRequest {
            messages: vec![Message::user("hi"), Message::assistant("hello"), Message::user("bye")],
            ..Default::default()
        };
        let encoded = OpenAiCompletions.encode_request(&request, TARGET);
        assert_eq!(
            String::from_utf8(encoded.body).unwrap(),
            r#"{"model":"m","prompt":"User: hi\nAssistant: hello\nUser: bye\nAssistant:"}"#
        );
        assert_eq!(encoded.notes, [FidelityNote::new("messages.role")]);

        // An answer that has begun is gone on with.
        let messages = vec![Message::user("hi"), Message::assistant("hel")];
        let begun = InferenceRequest { messages, ..Default::default() };
        let prompt = |dialect: Dialect| {
            let encoded = dialect.codec().unwrap().encode_request(&begun, TARGET);
            serde_json::from_slice::<serde_json::Value>(&encoded.body).unwrap()["prompt"].clone()
        };
        assert_eq!(prompt(Dialect::OpenAiCompletions), "User: hi\nAssistant: hel");
        assert_eq!(prompt(Dialect::OllamaGenerate), "User: hi\nAssistant: hel");
    }

    #[test]
    fn answers_and_streams_survive_a_round_trip() {
        let body = br#"{"id":"x","object":"text_completion","created":1,"model":"m","choices":[{"text":"hi","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
        let reply = OpenAiCompletions.decode_reply(body).unwrap();
        assert_eq!(OpenAiCompletions.encode_reply(&reply, &CONTEXT).body, body);

        let mut encoder = OpenAiCompletions.stream_encoder(&CONTEXT);
        let mut bytes = Vec::new();
        for event in [
            StreamEvent::Start { id: "x".into(), model: "m".into(), created: Some(1) },
            StreamEvent::Text { choice: 0, delta: "h".into() },
            StreamEvent::Text { choice: 0, delta: "i".into() },
            StreamEvent::Finish { choice: 0, reason: FinishReason::Stop },
            StreamEvent::Usage(reply.usage.unwrap()),
        ] {
            encoder.event(&event, &mut bytes);
        }
        encoder.finish(&mut bytes);
        let mut decoder = OpenAiCompletions.stream_decoder(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(&bytes, &mut events).unwrap();
        decoder.finish(&mut events).unwrap();
        assert_eq!(InferenceResponse { origin: reply.origin, ..fold(events) }, reply);
    }
}
