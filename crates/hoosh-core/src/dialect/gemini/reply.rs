//! Whole answers: read from providers, written for clients.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::body::{Inline, PartBody, What};
use super::calls::is_made_up;
use super::decode::{REASON, Reader, USAGE, is_blocked};
use super::grounding::{self, GroundingBody};
use super::part::{guessed_type, redacted_for_client, signature_for_client};
use super::usage::UsageBody;
use crate::dialect::wire::{Arguments, note, write_json};
use crate::dialect::{DecodeError, Dialect, Encoded, ReplyContext};
use crate::failure::FidelityNote;
use crate::json::{Extra, FieldError};
use crate::request::{Citation, MediaSource, Part, PartKind, joined_text};
use crate::response::{Choice, FinishReason, InferenceResponse};
use crate::stream::fold;
use crate::tool::ToolCall;
use crate::usage::Usage;

pub(super) fn decode(body: &[u8]) -> Result<InferenceResponse, DecodeError> {
    let mut reader = Reader::default();
    let mut events = Vec::new();
    reader.chunk(body, &mut events)?;
    if !reader.has_choices() {
        return Err(FieldError { path: "candidates".to_owned(), problem: "is missing".to_owned() }.into());
    }
    reader.close(&mut events);
    Ok(InferenceResponse { origin: Some(Dialect::Gemini), ..fold(events) })
}

pub(super) fn encode(reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
    let akin = is_akin(reply.origin);
    let mut notes = Vec::new();
    let is_refused = akin && is_blocked(&reply.extra);
    let choices = reply.choices.iter().filter(|choice| !(is_refused && choice.parts.is_empty()));
    let candidates: Vec<_> = choices.map(|choice| candidate(choice, akin, &mut notes)).collect();
    let id = if reply.id.is_empty() { context.id } else { &reply.id };
    let envelope = Envelope { id, model: &reply.model, extra: Some(&reply.extra).filter(|_| akin) };
    let mut body = Vec::with_capacity(512 + reply.text.len());
    write_json(&AnswerBody { candidates: &candidates, usage: reply.usage, envelope }, &mut body);
    Encoded { body, notes, answer_tool: None }
}

/// Whether unknown fields from there have the same meaning here.
pub(super) fn is_akin(origin: Option<Dialect>) -> bool {
    origin.is_none_or(|origin| origin.is_akin(Dialect::Gemini))
}

fn candidate<'a>(choice: &'a Choice, akin: bool, notes: &mut Vec<FidelityNote>) -> Candidate<'a> {
    if choice.logprobs.is_some() {
        note(notes, FidelityNote::new("logprobs"));
    }
    let all = choice.parts.iter();
    let citations: Vec<_> =
        all.flat_map(|part| &part.citations).filter(|citation| is_foreign(citation)).collect();
    Candidate {
        index: choice.index,
        parts: choice.parts.iter().filter_map(|part| client_part(part, akin, notes)).collect(),
        reason: choice.finish_reason.as_ref(),
        text: if citations.is_empty() { Cow::Borrowed("") } else { Cow::Owned(joined_text(&choice.parts)) },
        citations,
        extra: Some(&choice.extra).filter(|_| akin),
    }
}

/// Whether a source is not yet in the metadata that rides along.
pub(super) fn is_foreign(citation: &Citation) -> bool {
    citation.maker != Dialect::Gemini
}

/// A part as a client sees it.
pub(super) fn client_part<'a>(
    part: &'a Part,
    akin: bool,
    notes: &mut Vec<FidelityNote>,
) -> Option<PartBody<'a>> {
    let signature = match (&part.kind, &part.signature) {
        (PartKind::Redacted, Some(signature)) => Some(redacted_for_client(signature).into()),
        (_, signature) => signature.as_ref().map(signature_for_client),
    };
    let what = match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => {
            if text.is_empty() && signature.is_none() {
                return None;
            }
            What::Text { text, thought: false }
        }
        PartKind::Reasoning(text) => What::Text { text, thought: true },
        PartKind::Redacted => What::Text { text: "", thought: true },
        PartKind::Image { source, .. } => media(source, None),
        PartKind::File { source, filename } => media(source, filename.as_deref()),
        PartKind::Audio { data, format } => {
            What::Inline(Inline { media_type: format!("audio/{format}").into(), data, filename: None })
        }
        PartKind::ToolCall(call) => {
            if Arguments(&call.arguments).is_wrapped() {
                note(notes, FidelityNote::emulated("choices.tool_calls"));
            }
            call_of(call, akin)
        }
        PartKind::Other { maker: Dialect::Gemini, json, .. } => What::Raw(json),
        PartKind::Other { kind, .. } => {
            note(notes, FidelityNote::new(kind.as_str()));
            return None;
        }
        PartKind::ToolResult(_) => {
            note(notes, FidelityNote::new("tool_result"));
            return None;
        }
    };
    Some(PartBody { what, signature, extra: Some(&part.extra).filter(|extra| akin && !extra.is_empty()) })
}

fn call_of(call: &ToolCall, akin: bool) -> What<'_> {
    What::Call {
        id: Some(call.id.as_str()).filter(|id| !id.is_empty() && !is_made_up(id)),
        name: &call.name,
        arguments: &call.arguments,
        extra: Some(&call.extra).filter(|_| akin),
    }
}

fn media<'a>(source: &'a MediaSource, filename: Option<&'a str>) -> What<'a> {
    match source {
        MediaSource::Base64 { media_type, data } => {
            What::Inline(Inline { media_type: media_type.as_str().into(), data, filename })
        }
        MediaSource::Url(uri) | MediaSource::FileId(uri) => {
            What::File { uri: uri.as_str().into(), media_type: guessed_type(uri), filename }
        }
    }
}

// --- the answer around its candidates, in a stream too ---

pub(super) struct Candidate<'a> {
    pub(super) index: u32,
    pub(super) parts: Vec<PartBody<'a>>,
    pub(super) reason: Option<&'a FinishReason>,
    /// Sources that its unknown fields do not hold, and the text they are for.
    pub(super) citations: Vec<&'a Citation>,
    pub(super) text: Cow<'a, str>,
    /// Its unknown fields, if they are of this dialect.
    pub(super) extra: Option<&'a Extra>,
}

pub(super) struct Envelope<'a> {
    pub(super) id: &'a str,
    pub(super) model: &'a str,
    /// Unknown fields, if they are of this dialect.
    pub(super) extra: Option<&'a Extra>,
}

pub(super) struct AnswerBody<'a> {
    pub(super) candidates: &'a [Candidate<'a>],
    pub(super) usage: Option<Usage>,
    pub(super) envelope: Envelope<'a>,
}

impl Serialize for AnswerBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let extra = self.envelope.extra;
        let mut map = serializer.serialize_map(None)?;
        if !self.candidates.is_empty() {
            map.serialize_entry("candidates", self.candidates)?;
        }
        if let Some(usage) = self.usage {
            let rest = extra.and_then(|extra| extra.get(USAGE)).and_then(super::config::fields_of);
            map.serialize_entry("usageMetadata", &UsageBody(usage, rest.as_ref()))?;
        }
        map.serialize_entry("modelVersion", self.envelope.model)?;
        for (name, value) in extra.into_iter().flat_map(Extra::iter).filter(|(name, _)| *name != USAGE) {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("responseId", self.envelope.id)?;
        map.end()
    }
}

impl Serialize for Candidate<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Parts<'a, 'b>(&'a [PartBody<'b>]);
        impl Serialize for Parts<'_, '_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                if !self.0.is_empty() {
                    map.serialize_entry("parts", self.0)?;
                }
                map.serialize_entry("role", "model")?;
                map.end()
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("content", &Parts(&self.parts))?;
        if let Some(reason) = self.reason {
            self.write_reason(reason, &mut map)?;
        }
        map.serialize_entry("index", &self.index)?;
        if !self.citations.is_empty() {
            map.serialize_entry(grounding::NAME, &GroundingBody(&self.citations, &self.text))?;
        }
        let extra = self.extra.into_iter().flat_map(Extra::iter).filter(|(name, _)| *name != REASON);
        for (name, value) in extra.filter(|(name, _)| self.citations.is_empty() || *name != grounding::NAME) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Candidate<'_> {
    fn write_reason<M: SerializeMap>(&self, reason: &FinishReason, map: &mut M) -> Result<(), M::Error> {
        if let Some(exact) = self.extra.and_then(|extra| extra.get(REASON)) {
            return map.serialize_entry(REASON, exact);
        }
        match reason {
            FinishReason::Stop | FinishReason::StopText(_) | FinishReason::ToolCalls => {
                map.serialize_entry(REASON, "STOP")
            }
            FinishReason::Length => map.serialize_entry(REASON, "MAX_TOKENS"),
            FinishReason::ContentFilter | FinishReason::Refusal => map.serialize_entry(REASON, "SAFETY"),
            FinishReason::Other(word) if self.extra.is_some() => map.serialize_entry(REASON, word),
            FinishReason::Other(word) => {
                map.serialize_entry(REASON, "OTHER")?;
                map.serialize_entry("finishMessage", word)
            }
        }
    }
}
