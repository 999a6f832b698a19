//! A conversation as turns of this dialect: instructions apart, and user and model by turns.

use std::borrow::Cow;
use std::collections::HashMap;

use super::body::{Content, Inline, PartBody, What};
use super::calls::is_made_up;
use super::model::Model;
use super::part::guessed_type;
use crate::dialect::Dialect;
use crate::dialect::wire::{Arguments, note};
use crate::failure::FidelityNote;
use crate::request::{MediaSource, Message, Part, PartKind, Role};
use crate::tool::{ToolCall, ToolResult};

/// What stands for the signature that Gemini 3 wants on a call in the history, where another model made the call.
///
/// Source: ai.google.dev/gemini-api/docs/thought-signatures (FAQ: transferring history from a different model), read
/// 2026-11-24.
const SKIP_SIGNATURE: &str = "skip_thought_signature_validator";

/// Where uploaded files are.
const UPLOADS: &str = "https://generativelanguage.googleapis.com/v1beta/";

/// The conversation as it is written, and what is needed to write on.
pub(super) struct Turns<'a> {
    pub(super) system: Vec<PartBody<'a>>,
    pub(super) contents: Vec<Content<'a>>,
    /// The calls so far by their ids: which they are, and the tools they call.
    calls: HashMap<&'a str, (usize, &'a str)>,
    model: Model<'a>,
    /// Whether unknown fields are of this dialect.
    akin: bool,
    /// Whether the request came in this dialect.
    own: bool,
}

/// Where a part stands, for notes.
struct Place<'n> {
    message: usize,
    notes: &'n mut Vec<FidelityNote>,
}

impl Place<'_> {
    fn lost(&mut self, field: &str) {
        note(self.notes, FidelityNote::new(format!("messages[{}].{field}", self.message)));
    }

    fn emulated(&mut self, field: &str) {
        note(self.notes, FidelityNote::emulated(format!("messages[{}].{field}", self.message)));
    }
}

impl<'a> Turns<'a> {
    pub(super) fn new(model: Model<'a>, akin: bool, own: bool) -> Self {
        Self { system: Vec::new(), contents: Vec::new(), calls: HashMap::new(), model, akin, own }
    }

    /// Adds a message, the one of that number to the caller.
    pub(super) fn push(&mut self, index: usize, message: &'a Message, notes: &mut Vec<FidelityNote>) {
        let mut place = Place { message: index, notes };
        if message.name.is_some() {
            place.lost("name");
        }
        for (name, _) in message.extra.iter() {
            place.lost(name);
        }
        if matches!(message.role, Role::System | Role::Developer) {
            return self.instruct(message, &mut place);
        }
        let mut parts = Vec::with_capacity(message.parts.len());
        for part in &message.parts {
            self.part(part, message.role, &mut parts, &mut place);
        }
        let role = if message.role == Role::Assistant { "model" } else { "user" };
        if role == "model" && self.model.is_third() && !self.own {
            sign_first_call(&mut parts);
        }
        match self.contents.last_mut() {
            _ if parts.is_empty() => {}
            Some(last) if last.role == Some(role) => last.parts.append(&mut parts),
            _ => self.contents.push(Content { role: Some(role), parts }),
        }
    }

    /// Brings the conversation into an order that Google takes.
    pub(super) fn close(&mut self, notes: &mut Vec<FidelityNote>) {
        // It refuses instructions without anything said.
        if self.contents.is_empty() && !self.system.is_empty() {
            note(notes, FidelityNote::emulated("messages[0].role"));
            let parts = std::mem::take(&mut self.system);
            self.contents.push(Content { role: Some("user"), parts });
        }
        if self.own {
            return;
        }
        // Calls without ids are answered in their order, before anything else is said.
        let calls = &self.calls;
        let rank = |part: &PartBody<'_>| match &part.what {
            What::Result { result, .. } => {
                calls.get(result.call_id.as_str()).map_or(usize::MAX - 1, |(number, _)| *number)
            }
            _ => usize::MAX,
        };
        let users = self.contents.iter_mut().filter(|content| content.role == Some("user"));
        for content in users {
            content.parts.sort_by_cached_key(rank);
        }
    }

    fn instruct(&mut self, message: &'a Message, place: &mut Place<'_>) {
        if !self.contents.is_empty() {
            // It is heard before what was said before it.
            place.emulated("role");
        }
        for part in &message.parts {
            match &part.kind {
                PartKind::Text(text) => {
                    let extra = self.extra(part, place);
                    self.system.push(PartBody { extra, ..What::Text { text, thought: false }.into() });
                }
                _ => place.lost("content"),
            }
        }
    }

    /// The unknown fields of a part, if they can be said.
    fn extra(&self, part: &'a Part, place: &mut Place<'_>) -> Option<&'a crate::json::Extra> {
        if part.cache.is_some() {
            note(place.notes, FidelityNote::new("cache_control"));
        }
        if !part.citations.is_empty() && !self.own {
            place.lost("citations");
        }
        if self.akin {
            return Some(&part.extra).filter(|extra| !extra.is_empty());
        }
        for (name, _) in part.extra.iter() {
            note(place.notes, FidelityNote::new(name));
        }
        None
    }

    fn part(&mut self, part: &'a Part, role: Role, out: &mut Vec<PartBody<'a>>, place: &mut Place<'_>) {
        let signature = part.signature.as_ref().and_then(|signature| signature.for_maker(Dialect::Gemini));
        let mut later = Vec::new();
        let what = match &part.kind {
            // Clients send an empty text beside calls.
            PartKind::Text(text) if text.is_empty() && signature.is_none() && role == Role::Assistant => {
                return;
            }
            PartKind::Text(text) => What::Text { text, thought: false },
            PartKind::Reasoning(text) if text.is_empty() && signature.is_none() => return,
            PartKind::Reasoning(text) => What::Text { text, thought: true },
            PartKind::Redacted if signature.is_none() => return,
            PartKind::Redacted => What::Text { text: "", thought: true },
            PartKind::Refusal(text) => {
                place.emulated("refusal");
                What::Text { text, thought: false }
            }
            PartKind::Image { source, detail } => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    place.lost("content.detail");
                }
                match self.media(part, source, None, place) {
                    Some(what) => what,
                    None => return,
                }
            }
            PartKind::Audio { data, format } => What::Inline(audio(data, format)),
            PartKind::File { source, filename } => {
                match self.media(part, source, filename.as_deref(), place) {
                    Some(what) => what,
                    None => return,
                }
            }
            PartKind::ToolCall(call) => self.call(call, place),
            PartKind::ToolResult(result) => self.result(result, &mut later, place),
            PartKind::Other { maker: Dialect::Gemini, json, .. } => What::Raw(json),
            PartKind::Other { kind, .. } => return note(place.notes, FidelityNote::new(kind.as_str())),
        };
        let extra = self.extra(part, place);
        out.push(PartBody { what, signature: signature.map(Into::into), extra });
        out.append(&mut later);
    }

    fn media(
        &self,
        part: &Part,
        source: &'a MediaSource,
        filename: Option<&'a str>,
        place: &mut Place<'_>,
    ) -> Option<What<'a>> {
        // Only Vertex takes names.
        let named = filename.filter(|_| self.own);
        if filename.is_some() && !self.own {
            place.lost("content.filename");
        }
        let uri: Cow<'a, str> = match source {
            MediaSource::Base64 { media_type, data } => {
                let media_type = media_type.as_str().into();
                return Some(What::Inline(Inline { media_type, data, filename: named }));
            }
            MediaSource::Url(url) => url.as_str().into(),
            MediaSource::FileId(id) if id.contains("://") => id.as_str().into(),
            MediaSource::FileId(id) if id.starts_with("files/") => format!("{UPLOADS}{id}").into(),
            // An upload at another provider.
            MediaSource::FileId(_) => {
                place.lost("content");
                return None;
            }
        };
        let media_type = guessed_type(&uri);
        if media_type.is_none() && !self.own && matches!(source, MediaSource::Url(_)) && part.extra.is_empty()
        {
            // Google finds out by itself what is there, or says that it cannot.
            place.emulated("content");
        }
        Some(What::File { uri, media_type, filename: named })
    }

    fn call(&mut self, call: &'a ToolCall, place: &mut Place<'_>) -> What<'a> {
        let number = self.calls.len();
        self.calls.insert(&call.id, (number, &call.name));
        if Arguments(&call.arguments).is_wrapped() {
            place.emulated("tool_calls");
        }
        for (name, _) in call.extra.iter().filter(|_| !self.akin) {
            note(place.notes, FidelityNote::new(name));
        }
        What::Call {
            id: Some(call.id.as_str()).filter(|id| !id.is_empty() && !is_made_up(id)),
            name: &call.name,
            arguments: &call.arguments,
            extra: Some(&call.extra).filter(|_| self.akin),
        }
    }

    fn result(
        &mut self,
        result: &'a ToolResult,
        later: &mut Vec<PartBody<'a>>,
        place: &mut Place<'_>,
    ) -> What<'a> {
        let call = self.calls.get(result.call_id.as_str());
        let name = call.map_or(result.call_id.as_str(), |(_, name)| name);
        let id = Some(result.call_id.as_str()).filter(|id| call.is_some() && !is_made_up(id));
        let mut media = Vec::new();
        for part in &result.content {
            let what = match &part.kind {
                PartKind::Text(_) => continue,
                PartKind::Image { source, .. } => self.media(part, source, None, place),
                PartKind::File { source, filename } => self.media(part, source, filename.as_deref(), place),
                PartKind::Audio { data, format } => Some(What::Inline(audio(data, format))),
                _ => {
                    place.lost("content");
                    None
                }
            };
            match what {
                None => {}
                Some(What::Inline(inline)) if self.own || self.model.is_third() => media.push(inline),
                // Older models take media only beside the result.
                Some(what) => {
                    place.emulated("content");
                    later.push(what.into());
                }
            }
        }
        What::Result { id, name, result, media }
    }
}

fn audio<'a>(data: &'a str, format: &str) -> Inline<'a> {
    let kind = if format == "pcm16" { "pcm" } else { format };
    Inline { media_type: format!("audio/{kind}").into(), data, filename: None }
}

/// Of several calls in one turn only the first is signed.
fn sign_first_call(parts: &mut [PartBody<'_>]) {
    let first = parts.iter_mut().find(|part| matches!(part.what, What::Call { .. }));
    if let Some(call) = first.filter(|call| call.signature.is_none()) {
        call.signature = Some(SKIP_SIGNATURE.into());
    }
}
