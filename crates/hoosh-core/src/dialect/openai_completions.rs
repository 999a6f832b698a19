//! OpenAI's legacy text completions. Source: platform.openai.com/docs/api-reference/completions, read 2026-11-24.
//!
//! It knows one prompt and one text: what a conversation has beyond that is reported, not dropped in silence.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::openai::chunks::{Chunks, Envelope, ReadChoice, write_problem};
use super::openai::reply::{close, open};
use super::openai::request::{shared_fields, write_shared_fields};
use super::openai::usage::UsageBody;
use super::openai::{List, write_event, write_json};
use super::{Codec, DecodeError, DecodeStream, Dialect, EncodeStream, Encoded, Quirks, Target};
use crate::error::{InvalidRequest, Problem};
use crate::failure::FidelityNote;
use crate::framing::SseFramer;
use crate::json::{FieldError, Object, RawJson};
use crate::limits;
use crate::request::{InferenceRequest, Part, PartKind, Role, joined_text};
use crate::response::{Choice, FinishReason, InferenceResponse};
use crate::stream::StreamEvent;

pub(super) struct OpenAiCompletions;

impl Codec for OpenAiCompletions {
    fn decode_request(&self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
        let text = std::str::from_utf8(body).map_err(|_| InvalidRequest::new("", "the body is not UTF-8"))?;
        let mut object = Object::parse("", text)?;
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
        ];
        notes.extend(dropped.iter().filter(|(_, lost)| *lost).map(|(name, _)| FidelityNote::new(*name)));
        let mut body = Vec::with_capacity(256 + prompt.len());
        write_json(&RequestBody { request, target, prompt: &prompt }, &mut body);
        Encoded { body, notes }
    }

    fn decode_reply(&self, body: &[u8]) -> Result<InferenceResponse, DecodeError> {
        let mut object = open(body)?;
        let choices = object.require::<Vec<&RawValue>>("choices")?;
        let choices = choices
            .into_iter()
            .enumerate()
            .map(|(index, raw)| choice(Object::parse(format!("choices[{index}]"), raw.get())?))
            .collect::<Result<_, _>>()?;
        Ok(close(object, choices)?)
    }

    fn encode_reply(&self, reply: &InferenceResponse) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + reply.text.len());
        write_json(&ReplyBody(reply), &mut out);
        out
    }

    fn stream_decoder(&self, quirks: Quirks) -> Box<dyn DecodeStream> {
        Box::new(Decoder {
            framer: SseFramer::default(),
            chunks: Chunks::new(quirks, CompletionChoices::default()),
        })
    }

    fn stream_encoder(&self, include_usage: bool) -> Box<dyn EncodeStream> {
        Box::new(Encoder { envelope: Envelope::default(), include_usage })
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
        notes.push(FidelityNote::new("messages.content"));
    }
    if let [only] = &conversation[..]
        && only.role == Role::User
    {
        return joined_text(&only.parts);
    }
    notes.push(FidelityNote::new("messages.role"));
    let turns = conversation.iter().map(|message| {
        let speaker = message.role.as_str();
        format!("{}{}: {}\n", speaker[..1].to_uppercase(), &speaker[1..], joined_text(&message.parts))
    });
    turns.collect::<String>() + "Assistant:"
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
        self.request.extra.write(&mut map)?;
        map.end()
    }
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

struct ReplyBody<'a>(&'a InferenceResponse);

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
        let reply = self.0;
        let texts: Vec<String> = reply.choices.iter().map(|choice| joined_text(&choice.parts)).collect();
        let choices = reply.choices.iter().zip(&texts).map(|(choice, text)| ChoiceBody {
            index: choice.index,
            text,
            logprobs: choice.logprobs.as_ref(),
            finish_reason: choice.finish_reason.as_ref(),
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &reply.id)?;
        map.serialize_entry("object", OBJECT)?;
        map.serialize_entry("created", &reply.created.unwrap_or(0))?;
        map.serialize_entry("model", &reply.model)?;
        map.serialize_entry("choices", &List(choices))?;
        if let Some(usage) = reply.usage {
            map.serialize_entry("usage", &UsageBody(usage))?;
        }
        reply.extra.write(&mut map)?;
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
    chunks: Chunks<CompletionChoices>,
}

/// The choices seen, each with whether it has finished.
#[derive(Default)]
struct CompletionChoices(Vec<(u32, bool)>);

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

impl ReadChoice for CompletionChoices {
    fn read(&mut self, mut object: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let choice = object.take("index")?.unwrap_or(0);
        let at = match self.0.iter().position(|(index, _)| *index == choice) {
            Some(at) => at,
            None => {
                if self.0.len() >= limits::CHOICES_MAX {
                    return Err(object.wrong("index", format!("is beyond {} choices", limits::CHOICES_MAX)));
                }
                self.0.push((choice, false));
                self.0.len() - 1
            }
        };
        if let Some(delta) = object.take::<String>("text")?.filter(|text| !text.is_empty()) {
            out.push(StreamEvent::Text { choice, delta });
        }
        if let Some(raw) = object.take_raw("logprobs") {
            out.push(StreamEvent::Logprobs { choice, json: raw.into() });
        }
        // Some servers send an empty reason until there is one.
        if let Some(word) = object.take::<String>("finish_reason")?.filter(|word| !word.is_empty())
            && !std::mem::replace(&mut self.0[at].1, true)
        {
            out.push(StreamEvent::Finish { choice, reason: FinishReason::parse(&word) });
        }
        Ok(())
    }

    fn all_finished(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, finished)| *finished)
    }
}

struct Encoder {
    envelope: Envelope,
    include_usage: bool,
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
            // No word for reasoning and tool calls here; a request of this dialect cannot ask for tools.
            _ => return,
        };
        write_event(&ChunkBody { envelope: &self.envelope, choice }, out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.envelope.finish(OBJECT, self.include_usage, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        write_problem(problem, out);
    }
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
    }

    #[test]
    fn answers_and_streams_survive_a_round_trip() {
        let body = br#"{"id":"x","object":"text_completion","created":1,"model":"m","choices":[{"text":"hi","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
        let reply = OpenAiCompletions.decode_reply(body).unwrap();
        assert_eq!(OpenAiCompletions.encode_reply(&reply), body);

        let mut encoder = OpenAiCompletions.stream_encoder(true);
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
        assert_eq!(fold(events), reply);
    }
}
