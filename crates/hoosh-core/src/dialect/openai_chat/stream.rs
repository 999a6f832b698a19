//! Streams: read from providers, written for clients.
//!
//! Vendors depart from the dialect in how tool calls come: all with index 0, a whole call in one chunk, no id, no
//! index, the name repeated or empty in later deltas, arguments as an object. All of that is put right by the decoder.

use std::mem;

use serde::Serialize;
use serde::de::IgnoredAny;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::reply::finish_reason;
use super::request::{arguments_text, parts};
use crate::dialect::openai::tap::refuse_error;
use crate::dialect::openai::usage::{self, UsageBody};
use crate::dialect::openai::{DONE, error, write_event};
use crate::dialect::{DecodeError, DecodeStream, EncodeStream, Quirks};
use crate::error::Problem;
use crate::framing::SseFramer;
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::limits;
use crate::request::PartKind;
use crate::stream::StreamEvent;
use crate::usage::{Provenance, Usage};

// --- reading ---

pub(super) struct Decoder {
    framer: SseFramer,
    chunks: Chunks<ChatChoices>,
}

/// What both of OpenAI's streams have around their choices.
pub(in crate::dialect) struct Chunks<C> {
    quirks: Quirks,
    choices: C,
    started: bool,
    done: bool,
    usage: Option<Usage>,
    /// The unknown fields last told, so that those repeated on every chunk are told once.
    extra: Extra,
}

/// Reads the choices of a chunk.
pub(in crate::dialect) trait ReadChoice {
    /// Reads one choice and appends its events.
    fn read(&mut self, choice: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError>;

    /// Whether there was a choice, and every one has its finish reason.
    fn all_finished(&self) -> bool;
}

#[derive(Default)]
struct ChatChoices(Vec<ChatChoice>);

#[derive(Default)]
struct ChatChoice {
    index: u32,
    calls: Vec<Call>,
    finished: bool,
    extra: Extra,
}

#[derive(Default)]
struct Call {
    /// The vendor's index of it.
    index: Option<u32>,
    /// Empty until the vendor says it, or the call is told without.
    id: String,
    name: String,
    arguments: String,
    /// Whether its beginning has been told, for which its name must be known.
    told: bool,
}

impl Decoder {
    pub(super) fn new(quirks: Quirks) -> Self {
        Self { framer: SseFramer::default(), chunks: Chunks::new(quirks, ChatChoices::default()) }
    }
}

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

impl<C: ReadChoice> Chunks<C> {
    pub(in crate::dialect) fn new(quirks: Quirks, choices: C) -> Self {
        Self { quirks, choices, started: false, done: false, usage: None, extra: Extra::default() }
    }

    pub(in crate::dialect) fn is_done(&self) -> bool {
        self.done
    }

    pub(in crate::dialect) fn push(
        &mut self,
        framer: &mut SseFramer,
        bytes: &[u8],
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        let mut fault = None;
        framer.push(bytes, |event| {
            if fault.is_none() && !self.done {
                fault = self.chunk(event.data, out).err();
            }
        })?;
        match fault {
            Some(fault) => {
                self.tell_partial_usage(out);
                Err(fault)
            }
            None => Ok(()),
        }
    }

    pub(in crate::dialect) fn finish(
        &mut self,
        framer: &mut SseFramer,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        if !self.done && framer.unfinished_data() == Some(DONE) {
            self.chunk(DONE, out)?;
        }
        let complete = self.done || (self.quirks.done_optional && self.choices.all_finished());
        if complete && self.choices.all_finished() {
            out.extend(self.usage.take().map(StreamEvent::Usage));
            return Ok(());
        }
        self.tell_partial_usage(out);
        Err(DecodeError::Truncated)
    }

    fn tell_partial_usage(&mut self, out: &mut Vec<StreamEvent>) {
        let partial = self.usage.take().map(|usage| Usage { provenance: Provenance::Partial, ..usage });
        out.extend(partial.map(StreamEvent::Usage));
    }

    fn chunk(&mut self, data: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        if data == DONE {
            self.done = true;
            return Ok(());
        }
        let text = std::str::from_utf8(data)
            .map_err(|_| FieldError { path: String::new(), problem: "it is not UTF-8".to_owned() })?;
        let mut object = Object::parse("", text)?;
        refuse_error(object.take_raw("error"))?;
        object.take_raw("object");
        let id: String = object.take("id")?.unwrap_or_default();
        let model: String = object.take("model")?.unwrap_or_default();
        let created = object.take_raw("created").and_then(|raw| raw.get().parse().ok());
        let choices = object.take_objects("choices")?;
        if let Some(raw) = object.take_raw("usage") {
            // Some vendors (xAI, Perplexity) send running totals: the last counts, and is told at the end.
            self.usage = usage::decode(raw.get()).or(self.usage);
        }
        if self.usage.is_none()
            && let Some(mut groq) = object.take_object("x_groq")?
        {
            self.usage = groq.take_raw("usage").and_then(|raw| usage::decode(raw.get()));
        }
        // Azure sends a chunk about the prompt before the answer's own envelope.
        if !self.started && !choices.is_empty() {
            self.started = true;
            out.push(StreamEvent::Start { id, model, created });
        }
        // Before the choices, so that whoever writes this chunk again has them in it.
        tell_new_fields(object.rest(), &mut self.extra, None, out);
        for choice in choices {
            self.choices.read(choice, out)?;
        }
        Ok(())
    }
}

/// Tells the unknown fields that are new or have changed.
fn tell_new_fields(fields: Extra, known: &mut Extra, choice: Option<u32>, out: &mut Vec<StreamEvent>) {
    let mut news = Extra::default();
    for (name, value) in fields.iter() {
        if known.get(name) != Some(value) && value.get() != "null" {
            news.insert(name, value.clone());
            known.insert(name, value.clone());
        }
    }
    if !news.is_empty() {
        out.push(StreamEvent::Extra { choice, fields: news });
    }
}

impl ReadChoice for ChatChoices {
    fn read(&mut self, mut object: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let index = object.take("index")?.unwrap_or(0);
        let at = match self.0.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None => {
                if self.0.len() >= limits::CHOICES_MAX {
                    return Err(object.wrong("index", format!("is beyond {} choices", limits::CHOICES_MAX)));
                }
                self.0.push(ChatChoice { index, ..ChatChoice::default() });
                self.0.len() - 1
            }
        };
        let state = &mut self.0[at];
        if let Some(delta) = object.take_object("delta")? {
            state.delta(delta, out)?;
        }
        if let Some(raw) = object.take_raw("logprobs") {
            out.push(StreamEvent::Logprobs { choice: index, json: RawJson::from(raw) });
        }
        // Some servers send an empty reason until there is one.
        if let Some(word) = object.take::<String>("finish_reason")?.filter(|word| !word.is_empty()) {
            // Some servers repeat it on the chunks that follow.
            if !mem::replace(&mut state.finished, true) {
                let reason = finish_reason(&word, !state.calls.is_empty());
                out.push(StreamEvent::Finish { choice: index, reason });
            }
        }
        Ok(())
    }

    fn all_finished(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|choice| choice.finished)
    }
}

impl ChatChoice {
    fn delta(&mut self, mut delta: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let choice = self.index;
        delta.take_raw("role");
        for name in ["reasoning_content", "reasoning"] {
            if let Some(delta) = delta.take::<&RawValue>(name)?.and_then(text_of) {
                out.push(StreamEvent::Reasoning { choice, delta });
                break;
            }
        }
        // The same text under the other name is not told twice.
        delta.take_raw("reasoning");
        for part in parts(&mut delta, "content")? {
            match part.kind {
                PartKind::Text(text) if !text.is_empty() => {
                    out.push(StreamEvent::Text { choice, delta: text })
                }
                PartKind::Reasoning(text) if !text.is_empty() => {
                    out.push(StreamEvent::Reasoning { choice, delta: text });
                }
                _ => {}
            }
        }
        if let Some(text) = delta.take::<String>("refusal")?.filter(|text| !text.is_empty()) {
            out.push(StreamEvent::Refusal { choice, delta: text });
        }
        for call in delta.take_objects("tool_calls")? {
            self.tool_call(call, out)?;
        }
        tell_new_fields(delta.rest(), &mut self.extra, Some(choice), out);
        Ok(())
    }

    fn tool_call(&mut self, mut object: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let choice = self.index;
        let index: Option<u32> = object.take("index")?;
        let id = object.take::<String>("id")?.filter(|id| !id.is_empty());
        let mut function = object.take_object("function")?;
        let (name, arguments) = match &mut function {
            Some(function) => (
                function.take::<String>("name")?.filter(|name| !name.is_empty()),
                function.take_raw("arguments").map(arguments_text).filter(|text| !text.is_empty()),
            ),
            None => (None, None),
        };
        let known = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let at =
            match known.filter(|at| !self.calls[*at].is_followed_by(index, id.as_deref(), name.as_deref())) {
                Some(at) => at,
                None => {
                    if self.calls.len() >= limits::TOOL_CALLS_MAX {
                        return Err(
                            object.wrong("index", format!("is beyond {} tool calls", limits::TOOL_CALLS_MAX))
                        );
                    }
                    self.calls.push(Call { index, ..Call::default() });
                    self.calls.len() - 1
                }
            };
        let call = &mut self.calls[at];
        if call.name.is_empty() {
            call.name = name.unwrap_or_default();
        }
        if call.id.is_empty() {
            call.id = id.unwrap_or_default();
        }
        // An id may come before the name, but not later than the first arguments.
        if !call.told && (!call.name.is_empty() || arguments.is_some()) {
            call.told = true;
            if call.id.is_empty() {
                call.id = format!("call_{choice}_{at}");
            }
            let (id, name) = (call.id.clone(), call.name.clone());
            out.push(StreamEvent::ToolCallStart { choice, call: at as u32, id, name });
        }
        if let Some(arguments) = arguments {
            call.arguments.push_str(&arguments);
            out.push(StreamEvent::ToolCallDelta { choice, call: at as u32, arguments });
        }
        Ok(())
    }
}

impl Call {
    /// Whether a delta at the same place begins another call: it names a tool, and says by another id, by another name, or
    /// by coming after whole arguments that it is not this one. An id alone says nothing: some servers make up a new one
    /// for every delta.
    fn is_followed_by(&self, index: Option<u32>, id: Option<&str>, name: Option<&str>) -> bool {
        let Some(name) = name else { return false };
        if !self.told {
            return false;
        }
        match id {
            Some(id) => id != self.id,
            None => {
                index.is_none()
                    || name != self.name
                    || serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok()
            }
        }
    }
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(raw.get()).ok().filter(|text| !text.is_empty())
}

// --- writing ---

pub(super) struct Encoder {
    envelope: Envelope,
    include_usage: bool,
    /// Choices whose role has been told.
    opened: Vec<u32>,
}

/// What stands around every chunk.
#[derive(Default)]
pub(in crate::dialect) struct Envelope {
    pub(in crate::dialect) id: String,
    pub(in crate::dialect) model: String,
    pub(in crate::dialect) created: u64,
    pub(in crate::dialect) extra: Extra,
    pub(in crate::dialect) usage: Option<Usage>,
}

impl Encoder {
    pub(super) fn new(include_usage: bool) -> Self {
        Self { envelope: Envelope::default(), include_usage, opened: Vec::new() }
    }

    fn chunk(&mut self, choice: u32, delta: Delta<'_>, out: &mut Vec<u8>) {
        let role = !self.opened.contains(&choice);
        if role {
            self.opened.push(choice);
        }
        let body = ChunkBody { envelope: &self.envelope, choice: ChoiceBody { choice, role, delta } };
        write_event(&body, out);
    }
}

impl Envelope {
    /// Takes in an event that changes the envelope; whether it was one.
    pub(in crate::dialect) fn take(&mut self, event: &StreamEvent) -> bool {
        match event {
            StreamEvent::Start { id, model, created } => {
                (self.id, self.model, self.created) = (id.clone(), model.clone(), created.unwrap_or(0));
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Extra { choice: None, fields } => {
                for (name, value) in fields.iter() {
                    self.extra.insert(name, value.clone());
                }
            }
            _ => return false,
        }
        true
    }

    pub(in crate::dialect) fn write<M: SerializeMap>(
        &self,
        object: &str,
        map: &mut M,
    ) -> Result<(), M::Error> {
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("object", object)?;
        map.serialize_entry("created", &self.created)?;
        map.serialize_entry("model", &self.model)?;
        self.extra.write(map)
    }

    /// Appends the end of a stream: usage if it was asked for, and `[DONE]`.
    pub(in crate::dialect) fn finish(&self, object: &str, include_usage: bool, out: &mut Vec<u8>) {
        struct UsageChunk<'a>(&'a Envelope, &'a str, Usage);
        impl Serialize for UsageChunk<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                self.0.write(self.1, &mut map)?;
                map.serialize_entry("choices", &[(); 0])?;
                map.serialize_entry("usage", &UsageBody(self.2))?;
                map.end()
            }
        }
        if let Some(usage) = self.usage.filter(|_| include_usage) {
            write_event(&UsageChunk(self, object, usage), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// Appends an error as the last event of a stream.
pub(in crate::dialect) fn write_problem(problem: &Problem, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    error::encode_into(problem, out);
    out.extend_from_slice(b"\n\n");
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        if self.envelope.take(event) {
            if matches!(event, StreamEvent::Start { .. }) {
                self.chunk(0, Delta::Opening, out);
            }
            return;
        }
        match event {
            StreamEvent::Text { choice, delta } => self.chunk(*choice, Delta::Field("content", delta), out),
            StreamEvent::Reasoning { choice, delta } => {
                self.chunk(*choice, Delta::Field("reasoning_content", delta), out);
            }
            StreamEvent::Refusal { choice, delta } => {
                self.chunk(*choice, Delta::Field("refusal", delta), out)
            }
            StreamEvent::ToolCallStart { choice, call, id, name } => {
                self.chunk(*choice, Delta::CallStart { call: *call, id, name }, out);
            }
            StreamEvent::ToolCallDelta { choice, call, arguments } => {
                self.chunk(*choice, Delta::CallMore { call: *call, arguments }, out);
            }
            StreamEvent::Logprobs { choice, json } => self.chunk(*choice, Delta::Logprobs(json), out),
            StreamEvent::Finish { choice, reason } => {
                self.chunk(*choice, Delta::Finish(reason.as_str()), out)
            }
            StreamEvent::Extra { choice: Some(choice), fields } => {
                self.chunk(*choice, Delta::Extra(fields), out)
            }
            StreamEvent::Start { .. } | StreamEvent::Usage(_) | StreamEvent::Extra { choice: None, .. } => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.envelope.finish(OBJECT, self.include_usage, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        write_problem(problem, out);
    }
}

const OBJECT: &str = "chat.completion.chunk";

struct ChunkBody<'a> {
    envelope: &'a Envelope,
    choice: ChoiceBody<'a>,
}

struct ChoiceBody<'a> {
    choice: u32,
    role: bool,
    delta: Delta<'a>,
}

enum Delta<'a> {
    Opening,
    Field(&'static str, &'a str),
    CallStart { call: u32, id: &'a str, name: &'a str },
    CallMore { call: u32, arguments: &'a str },
    Logprobs(&'a RawJson),
    Finish(&'a str),
    Extra(&'a Extra),
}

struct DeltaBody<'a>(&'a ChoiceBody<'a>);

impl Serialize for ChunkBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.envelope.write(OBJECT, &mut map)?;
        map.serialize_entry("choices", &[&self.choice])?;
        map.end()
    }
}

impl Serialize for ChoiceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &self.choice)?;
        map.serialize_entry("delta", &DeltaBody(self))?;
        if let Delta::Logprobs(json) = self.delta {
            map.serialize_entry("logprobs", json)?;
        }
        let reason = if let Delta::Finish(reason) = self.delta { Some(reason) } else { None };
        map.serialize_entry("finish_reason", &reason)?;
        map.end()
    }
}

impl Serialize for DeltaBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Call<'a> {
            index: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            r#type: Option<&'static str>,
            function: Function<'a>,
        }
        #[derive(Serialize)]
        struct Function<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a str>,
            arguments: &'a str,
        }
        let mut map = serializer.serialize_map(None)?;
        if self.0.role {
            map.serialize_entry("role", "assistant")?;
        }
        match self.0.delta {
            Delta::Opening => map.serialize_entry("content", "")?,
            Delta::Field(name, text) => map.serialize_entry(name, text)?,
            Delta::CallStart { call, id, name } => {
                let function = Function { name: Some(name), arguments: "" };
                let call = Call { index: call, id: Some(id), r#type: Some("function"), function };
                map.serialize_entry("tool_calls", &[call])?;
            }
            Delta::CallMore { call, arguments } => {
                let call = Call {
                    index: call,
                    id: None,
                    r#type: None,
                    function: Function { name: None, arguments },
                };
                map.serialize_entry("tool_calls", &[call])?;
            }
            Delta::Extra(fields) => fields.write(&mut map)?,
            Delta::Logprobs(_) | Delta::Finish(_) => {}
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::{FinishReason, InferenceResponse};
    use crate::stream::fold;

    fn decode(stream: &str) -> Result<InferenceResponse, DecodeError> {
        let mut decoder = Decoder::new(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(stream.as_bytes(), &mut events)?;
        decoder.finish(&mut events)?;
        Ok(fold(events))
    }

    fn stream_of(deltas: &[&str]) -> String {
        let chunk = |delta: &&str| {
            format!(
                "data: {{\"id\":\"x\",\"created\":1,\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n"
            )
        };
        let chunks: String = deltas.iter().map(chunk).collect();
        chunks
            + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
    }

    #[track_caller]
    fn check_calls(deltas: &[&str], expected: &[(&str, &str, &str)]) {
        let reply = decode(&stream_of(deltas)).unwrap();
        let calls: Vec<_> = reply
            .tool_calls()
            .map(|call| (call.id.as_str(), call.name.as_str(), call.arguments.as_str()))
            .collect();
        assert_eq!(calls, expected);
        assert_eq!(reply.finish_reason(), Some(&FinishReason::ToolCalls));
    }

    #[test]
    fn tool_calls_as_openai_sends_them() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#,
            ],
            &[("a", "f", r#"{"x":1}"#), ("b", "g", "{}")],
        );
    }

    #[test]
    fn tool_calls_that_all_have_index_0() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"{\"y\":2}"}}]}"#,
            ],
            &[("a", "f", "{}"), ("b", "f", r#"{"y":2}"#)],
        );
    }

    #[test]
    fn tool_calls_without_index_or_id_and_with_objects() {
        check_calls(
            &[
                r#"{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}"#,
                r#"{"tool_calls":[{"function":{"name":"g","arguments":"{"}}]}"#,
                r#"{"tool_calls":[{"function":{"arguments":"}"}}]}"#,
            ],
            &[("call_0_0", "f", r#"{"a":1}"#), ("call_0_1", "g", "{}")],
        );
    }

    #[test]
    fn tool_calls_with_the_name_or_id_repeated() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"name":"","arguments":"{"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}]}"#,
            ],
            &[("a", "f", "{}")],
        );
    }

    #[test]
    fn tool_calls_that_all_have_index_0_and_no_id() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a\":1}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"name":"g","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"name":"g","arguments":"{\"b\":2}"}}]}"#,
            ],
            &[("call_0_0", "f", r#"{"a":1}"#), ("call_0_1", "g", "{}"), ("call_0_2", "g", r#"{"b":2}"#)],
        );
    }

    #[test]
    fn tool_calls_with_a_new_id_on_every_delta_or_the_id_before_the_name() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a"}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"c","function":{"arguments":"{"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"d","function":{"arguments":"}"}}]}"#,
            ],
            &[("a", "f", "{}")],
        );
    }

    #[test]
    fn a_stream_without_its_end_is_cut() {
        let whole = stream_of(&[r#"{"content":"hi"}"#]);
        let end = whole.find("[DONE]").unwrap() + "[DONE]".len();
        for cut in 0..end {
            assert_eq!(decode(&whole[..cut]), Err(DecodeError::Truncated), "cut at {cut}");
        }
        assert_eq!(decode(&whole[..end]).unwrap().text, "hi");
        assert_eq!(decode("data: [DONE]\n\n"), Err(DecodeError::Truncated), "nothing was said");
    }

    #[test]
    fn usage_of_a_cut_stream_is_partial() {
        let mut decoder = Decoder::new(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n", &mut events).unwrap();
        assert_eq!(decoder.finish(&mut events), Err(DecodeError::Truncated));
        let Some(StreamEvent::Usage(usage)) = events.last() else { panic!("{events:?}") };
        assert_eq!((usage.input, usage.provenance), (Some(3), Provenance::Partial));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let deltas = [
            r#"{"role":"assistant","reasoning":"hm"}"#,
            r#"{"content":"häß "}"#,
            r#"{"content":"日本"}"#,
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#,
            r#"{"annotations":[1]}"#,
        ];
        let mut decoder = Decoder::new(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(stream_of(&deltas).as_bytes(), &mut events).unwrap();
        decoder.finish(&mut events).unwrap();
        events.push(StreamEvent::Usage(Usage { input: Some(1), output: Some(2), ..Usage::default() }));

        let mut encoder = Encoder::new(true);
        let mut bytes = Vec::new();
        events.iter().for_each(|event| encoder.event(event, &mut bytes));
        encoder.finish(&mut bytes);
        assert_eq!(decode(std::str::from_utf8(&bytes).unwrap()).unwrap(), fold(events));
    }

    #[test]
    fn an_error_ends_a_stream_without_done() {
        let mut bytes = Vec::new();
        let problem = Problem::new(crate::error::ProblemKind::Upstream, "upstream_broken", "it broke off");
        Encoder::new(false).problem(&problem, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("data: {\"error\":{\"message\":\"it broke off\"") && !text.contains("[DONE]")
        );
    }
}
