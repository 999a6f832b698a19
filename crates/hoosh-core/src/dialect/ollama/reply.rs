//! Answers: a whole one is one line of a stream that holds everything.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Kind;
use super::messages::{self, CallBody};
use super::stream::Decoder;
use super::time::rfc3339;
use crate::dialect::wire::{Arguments, note, write_json};
use crate::dialect::{DecodeError, Dialect, Encoded, ReplyContext};
use crate::failure::FidelityNote;
use crate::json::{Extra, Object, RawJson};
use crate::request::PartKind;
use crate::response::{FinishReason, InferenceResponse};
use crate::stream::fold;
use crate::tool::ToolCall;
use crate::usage::Usage;

pub(super) fn decode(body: &[u8], kind: Kind, dialect: Dialect) -> Result<InferenceResponse, DecodeError> {
    let mut events = Vec::new();
    let mut decoder = Decoder::new(kind);
    decoder.line(body, &mut events)?;
    decoder.end(&mut events)?;
    Ok(InferenceResponse { origin: Some(dialect), ..fold(events) })
}

pub(super) fn calls(
    object: &mut Object<'_>,
    before: usize,
) -> Result<Vec<ToolCall>, crate::json::FieldError> {
    let calls = object.take_objects("tool_calls")?.into_iter().enumerate();
    calls.map(|(number, call)| messages::read_call(call, 0, before + number)).collect()
}

/// One line, the whole answer or a piece of it.
pub(super) struct Line<'a> {
    pub(super) kind: Kind,
    pub(super) model: &'a str,
    pub(super) created: u64,
    pub(super) text: &'a str,
    pub(super) thinking: &'a str,
    pub(super) calls: Vec<CallBody>,
    pub(super) logprobs: Option<RawJson>,
    pub(super) end: Option<End<'a>>,
}

/// What only the last line has.
pub(super) struct End<'a> {
    pub(super) reason: &'a str,
    pub(super) usage: Option<Usage>,
    pub(super) extra: Option<&'a Extra>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("created_at", &rfc3339(self.created))?;
        match self.kind {
            Kind::Chat => map.serialize_entry("message", &MessageBody(self))?,
            Kind::Generate => {
                map.serialize_entry("response", self.text)?;
                if !self.thinking.is_empty() {
                    map.serialize_entry("thinking", self.thinking)?;
                }
            }
        }
        map.serialize_entry("done", &self.end.is_some())?;
        if let Some(logprobs) = &self.logprobs {
            map.serialize_entry("logprobs", logprobs)?;
        }
        if let Some(end) = &self.end {
            map.serialize_entry("done_reason", end.reason)?;
            if let Some(usage) = end.usage {
                map.serialize_entry("prompt_eval_count", &usage.prompt_total())?;
                map.serialize_entry("eval_count", &usage.completion_total())?;
            }
            end.extra.map_or(Ok(()), |extra| {
                extra.write_without(&["message", "response", "thinking"], &mut map)
            })?;
        }
        map.end()
    }
}

struct MessageBody<'a>(&'a Line<'a>);

impl Serialize for MessageBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", "assistant")?;
        map.serialize_entry("content", line.text)?;
        if !line.thinking.is_empty() {
            map.serialize_entry("thinking", line.thinking)?;
        }
        if !line.calls.is_empty() {
            map.serialize_entry("tool_calls", &line.calls)?;
        }
        map.end()
    }
}

/// Ollama's word for why an answer ended; it says `stop` after tool calls too.
pub(super) fn done_reason<'a>(reason: Option<&'a FinishReason>, notes: &mut Vec<FidelityNote>) -> &'a str {
    match reason {
        None | Some(FinishReason::Stop | FinishReason::StopText(_) | FinishReason::ToolCalls) => "stop",
        Some(FinishReason::Length) => "length",
        Some(FinishReason::Other(word)) if matches!(word.as_str(), "load" | "unload") => word,
        Some(_) => {
            note(notes, FidelityNote::new("finish_reason"));
            "stop"
        }
    }
}

/// Ollama has OpenAI's list without the object around it.
pub(super) fn bare_logprobs(json: &RawJson) -> Option<RawJson> {
    let mut object = Object::parse("", json.get()).ok()?;
    object.take_raw("content").map(RawJson::from)
}

pub(super) fn lost_part(kind: &PartKind, chat: bool, notes: &mut Vec<FidelityNote>) {
    match kind {
        PartKind::Redacted | PartKind::Text(_) | PartKind::Reasoning(_) | PartKind::Refusal(_) => {}
        PartKind::ToolCall(_) if chat => {}
        PartKind::ToolCall(_) => note(notes, FidelityNote::new("choices.tool_calls")),
        PartKind::Other { kind, .. } => note(notes, FidelityNote::new(kind.as_str())),
        _ => note(notes, FidelityNote::new("choices.content")),
    }
}

/// Notes the parts of a usage that the two counts here hold without telling them apart.
pub(super) fn lost_usage(usage: Option<&Usage>, notes: &mut Vec<FidelityNote>) {
    let Some(usage) = usage else { return };
    let some = |parts: &[Option<u64>]| parts.iter().flatten().any(|count| *count > 0);
    if some(&[usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.audio_in]) {
        note(notes, FidelityNote::new("usage.prompt_tokens_details"));
    }
    if some(&[usage.reasoning, usage.audio_out]) {
        note(notes, FidelityNote::new("usage.completion_tokens_details"));
    }
}

pub(super) fn encode(
    reply: &InferenceResponse,
    kind: Kind,
    dialect: Dialect,
    context: &ReplyContext<'_>,
) -> Encoded {
    let mut notes = Vec::new();
    if reply.choices.len() > 1 {
        note(&mut notes, FidelityNote::new("n"));
    }
    lost_usage(reply.usage.as_ref(), &mut notes);
    let choice = reply.choices.first();
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for part in choice.iter().flat_map(|choice| &choice.parts) {
        lost_part(&part.kind, kind == Kind::Chat, &mut notes);
        if !part.citations.is_empty() {
            note(&mut notes, FidelityNote::new("annotations"));
        }
        match &part.kind {
            PartKind::Text(piece) | PartKind::Refusal(piece) => text.push_str(piece),
            PartKind::Reasoning(piece) => thinking.push_str(piece),
            PartKind::ToolCall(call) if kind == Kind::Chat => {
                if Arguments(&call.arguments).is_wrapped() {
                    note(&mut notes, FidelityNote::emulated("choices.tool_calls"));
                }
                calls.push(CallBody::new(calls.len(), &call.id, &call.name, &call.arguments));
            }
            _ => {}
        }
    }
    let own = reply.origin.is_none_or(|origin| origin.is_akin(dialect));
    let reason = done_reason(choice.and_then(|choice| choice.finish_reason.as_ref()), &mut notes);
    let line = Line {
        kind,
        model: &reply.model,
        created: reply.created.unwrap_or(context.now),
        text: &text,
        thinking: &thinking,
        calls,
        logprobs: choice.and_then(|choice| choice.logprobs.as_ref()).and_then(bare_logprobs),
        end: Some(End { reason, usage: reply.usage, extra: own.then_some(&reply.extra) }),
    };
    let mut body = Vec::with_capacity(256 + text.len());
    write_json(&line, &mut body);
    Encoded { body, notes, answer_tool: None }
}
