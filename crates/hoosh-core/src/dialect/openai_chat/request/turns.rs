//! A conversation as this dialect has it: one tool's result a message, and media only in what a user says.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::dialect::Dialect;
use crate::dialect::openai_chat::content::{CacheBody, PartBody, unsaid};
use crate::dialect::openai_chat::message::{Style, write_fields};
use crate::dialect::wire::{entry, note};
use crate::failure::FidelityNote;
use crate::request::{CacheMark, Message, Part, PartKind, Role, joined_text};
use crate::tool::ToolResult;

/// One message as it is written.
pub(super) enum Turn<'a> {
    Message(&'a Message),
    /// Other dialects put several results, or results and text, into one message.
    Result {
        message: &'a Message,
        part: &'a Part,
        result: &'a ToolResult,
    },
    /// Media that tools returned, each with the call it came from: said by the user, since a result is text here.
    Media(Vec<(&'a str, &'a Part)>),
}

/// The messages to write, with notes of what of them cannot be said.
pub(super) fn turns<'a>(
    conversation: &'a [Cow<'a, Message>],
    style: &Style<'_>,
    notes: &mut Vec<FidelityNote>,
) -> Vec<Turn<'a>> {
    let mut turns = Vec::with_capacity(conversation.len());
    let mut media = Vec::new();
    for (index, message) in conversation.iter().enumerate() {
        let message: &'a Message = message;
        for part in &message.parts {
            match &part.kind {
                PartKind::ToolResult(result) => {
                    turns.push(Turn::Result { message, part, result });
                    media.extend(media_of(result, index, style, notes));
                }
                _ => note_unsaid(part, message.role, index, style, notes),
            }
        }
        note_unknown(message, index, style, notes);
        let is_rest = |part: &Part| !matches!(part.kind, PartKind::ToolResult(_));
        if message.role != Role::Tool && (message.parts.is_empty() || message.parts.iter().any(is_rest)) {
            // All results must follow the calls, so the media wait for the last of them.
            flush(&mut media, &mut turns);
            turns.push(Turn::Message(message));
        }
    }
    flush(&mut media, &mut turns);
    turns
}

fn flush<'a>(media: &mut Vec<(&'a str, &'a Part)>, turns: &mut Vec<Turn<'a>>) {
    if !media.is_empty() {
        turns.push(Turn::Media(std::mem::take(media)));
    }
}

fn media_of<'a>(
    result: &'a ToolResult,
    index: usize,
    style: &Style<'_>,
    notes: &mut Vec<FidelityNote>,
) -> Vec<(&'a str, &'a Part)> {
    if result.is_error {
        // The text says what went wrong; that it is an error has no word.
        note(notes, FidelityNote::new(format!("messages[{index}].is_error")));
    }
    let mut media = Vec::new();
    for part in &result.content {
        match &part.kind {
            PartKind::Text(_) => {}
            PartKind::Image { .. } | PartKind::Audio { .. } | PartKind::File { .. }
                if unsaid(part, style).is_none() =>
            {
                note(notes, FidelityNote::emulated(format!("messages[{index}].content")));
                media.push((result.call_id.as_str(), part));
            }
            PartKind::Other { kind, .. } => {
                note(notes, FidelityNote::new(format!("messages[{index}].content.{kind}")));
            }
            _ => note(notes, FidelityNote::new(format!("messages[{index}].content"))),
        }
    }
    media
}

fn note_unsaid(part: &Part, role: Role, index: usize, style: &Style<'_>, notes: &mut Vec<FidelityNote>) {
    let drawn = role == Role::Assistant && matches!(part.kind, PartKind::Image { .. }) && !style.akin;
    if let Some(kind) = unsaid(part, style).or(drawn.then_some("image")) {
        note(notes, FidelityNote::new(format!("messages[{index}].content.{kind}")));
    }
    if part.citations.iter().any(|citation| citation.maker != Dialect::OpenAiChat) {
        note(notes, FidelityNote::new("messages.annotations"));
    }
}

/// Notes what this provider refuses of a message, where others take it.
fn note_unknown(message: &Message, index: usize, style: &Style<'_>, notes: &mut Vec<FidelityNote>) {
    let has = |wanted: fn(&PartKind) -> bool| message.parts.iter().any(|part| wanted(&part.kind));
    let given = [
        ("name", message.name.is_some() && !style.knows("name")),
        ("reasoning", has(|kind| matches!(kind, PartKind::Reasoning(_))) && style.reasoning_name().is_none()),
        ("refusal", has(|kind| matches!(kind, PartKind::Refusal(_))) && !style.knows("refusal")),
    ];
    for (field, _) in given.into_iter().filter(|(_, is_lost)| *is_lost) {
        note(notes, FidelityNote::new(format!("messages[{index}].{field}")));
    }
}

/// The mark of a result, which is on its text in other dialects.
fn cache_of(part: &Part, result: &ToolResult) -> Option<CacheMark> {
    part.cache.or_else(|| result.content.iter().rev().find_map(|part| part.cache))
}

#[derive(Clone)]
pub(super) struct TurnBody<'a>(pub(super) &'a Turn<'a>, pub(super) Style<'a>);

impl Serialize for TurnBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(turn, style) = self;
        let mut map = serializer.serialize_map(None)?;
        let message = match turn {
            Turn::Media(media) => {
                map.serialize_entry("role", "user")?;
                map.serialize_entry("content", &MediaBody(media, *style))?;
                return map.end();
            }
            Turn::Result { message, part, result } => {
                map.serialize_entry("role", "tool")?;
                map.serialize_entry("tool_call_id", &result.call_id)?;
                map.serialize_entry("content", &joined_text(&result.content))?;
                if let Some(mark) = cache_of(part, result).filter(|_| style.quirks.cache_marks) {
                    map.serialize_entry("cache_control", &CacheBody(mark))?;
                }
                message
            }
            Turn::Message(message) => {
                map.serialize_entry("role", role(message, style))?;
                write_fields(&message.parts, message.role == Role::Assistant, *style, &mut map)?;
                message
            }
        };
        entry(&mut map, "name", &message.name.as_ref().filter(|_| style.knows("name")))?;
        if style.akin {
            message.extra.write(&mut map)?;
        }
        map.end()
    }
}

/// Developer is a word of OpenAI's own, who reads `system` as the same; DeepSeek and Mistral refuse it, and so do the
/// templates of many local models.
fn role(message: &Message, style: &Style<'_>) -> &'static str {
    match message.role {
        Role::Developer if !style.akin && !style.quirks.max_completion_tokens => Role::System.as_str(),
        role => role.as_str(),
    }
}

/// The media of tool results, each call's behind a line that says whose they are.
struct MediaBody<'a>(&'a [(&'a str, &'a Part)], Style<'a>);

impl Serialize for MediaBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Piece<'a> {
            Label { r#type: &'static str, text: String },
            Part(PartBody<'a>),
        }
        let mut pieces = Vec::with_capacity(self.0.len() + 1);
        let mut last = None;
        for (call_id, part) in self.0 {
            if last != Some(call_id) {
                let text = format!("Returned by the tool call `{call_id}`:");
                pieces.push(Piece::Label { r#type: "text", text });
                last = Some(call_id);
            }
            pieces.push(Piece::Part(PartBody { part, style: self.1 }));
        }
        pieces.serialize(serializer)
    }
}
