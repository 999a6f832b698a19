//! What an assistant says, in the history of a request as well as in an answer: read and written.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::citations::{self, CitationBody};
use super::content::{PartBody, parts, unsaid};
use super::freeform;
use super::reasoning::{self, ExtraContent};
use crate::dialect::nested;
use crate::dialect::wire::{List, entry, text_or_json};
use crate::dialect::{Dialect, Quirks};
use crate::json::{Extra, FieldError, Object};
use crate::request::{Part, PartKind, joined_text};
use crate::tool::ToolCall;

/// How messages are written, which depends on who reads them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style<'a> {
    /// Whether it is a client, who keeps the signatures of every maker for us; a provider knows its own.
    pub(super) for_client: bool,
    /// Whether unknown fields are of this dialect.
    pub(super) akin: bool,
    /// Whether ids of files are OpenAI's.
    pub(super) knows_files: bool,
    /// What the reader takes.
    pub(super) quirks: Quirks,
    /// Tools whose calls are free text.
    pub(super) freeform: &'a [&'a str],
}

impl Style<'_> {
    /// Whether the reader takes the field of a message.
    pub(super) fn knows(&self, field: &str) -> bool {
        let is_it = |unknown: &&str| unknown.strip_prefix("messages.") == Some(field);
        !self.quirks.unknown_fields.iter().any(is_it)
    }

    /// The field for the text of an assistant's reasoning. DeepSeek's name is the one that most servers read; Groq's
    /// and Cerebras' is OpenRouter's.
    pub(super) fn reasoning_name(&self) -> Option<&'static str> {
        ["reasoning_content", "reasoning"].into_iter().find(|name| self.knows(name))
    }

    /// The signature of a piece of reasoning, as this reader shall have it.
    pub(super) fn signature<'p>(&self, part: &'p Part) -> Option<Cow<'p, str>> {
        let signature = part.signature.as_ref()?;
        if self.for_client {
            return Some(signature.to_wire(Dialect::OpenAiChat));
        }
        signature.for_maker(Dialect::OpenAiChat).map(Cow::Borrowed)
    }

    /// The signature of a piece that Google's dialect has a place for. A provider gets it only from a client of this
    /// dialect: the provider may be Google's own endpoint, and where it is not, the client got it there.
    fn thought_signature<'p>(&self, part: &'p Part) -> Option<Cow<'p, str>> {
        let signature = part.signature.as_ref().filter(|_| self.knows("extra_content"))?;
        if self.for_client {
            return Some(signature.to_wire(Dialect::Gemini));
        }
        // As a client of this dialect keeps it, with the name of another maker in it if there is one.
        let own = signature.for_maker(Dialect::Gemini).or(signature.for_maker(Dialect::OpenAiChat));
        own.filter(|_| self.akin).map(Cow::Borrowed)
    }
}

// --- reading ---

/// Reasoning, content, pictures, refusal, tool calls.
pub(super) fn assistant_parts(object: &mut Object<'_>) -> Result<Vec<Part>, FieldError> {
    let content = parts(object, "content")?;
    let mut all = reasoning::take(object)?;
    all.extend(content);
    all.extend(images(object)?);
    let citations = citations::take(object);
    if !citations.is_empty() {
        last_text(&mut all).citations = citations;
    }
    // Where there is more beside it, all of it rides with the message.
    if let Some(signature) = reasoning::take_thought_signature(object)
        && object.peek("extra_content").is_none()
    {
        last_text(&mut all).signature = Some(signature);
    }
    let refusal: Option<String> = object.take("refusal")?;
    all.extend(refusal.filter(|text| !text.is_empty()).map(|text| PartKind::Refusal(text).into()));
    for call in object.take_objects("tool_calls")? {
        all.push(tool_call(call)?);
    }
    Ok(all)
}

/// The last piece of text, made if there is none: what belongs to the message as a whole is kept there.
fn last_text(parts: &mut Vec<Part>) -> &mut Part {
    let at = parts.iter().rposition(|part| matches!(part.kind, PartKind::Text(_)));
    let at = at.unwrap_or_else(|| {
        parts.push(Part::text(""));
        parts.len() - 1
    });
    &mut parts[at]
}

/// Pictures the model made, as OpenRouter has them: content parts beside the content.
pub(super) fn images(object: &mut Object<'_>) -> Result<Vec<Part>, FieldError> {
    // Elsewhere the name may mean anything.
    match object.peek("images").map(RawValue::get) {
        Some(list) if list.starts_with('[') && list.contains("image_url") => parts(object, "images"),
        _ => Ok(Vec::new()),
    }
}

fn tool_call(mut object: Object<'_>) -> Result<Part, FieldError> {
    let id = object.take("id")?.unwrap_or_default();
    object.take_raw("type");
    object.take_raw("index");
    let signature = reasoning::take_thought_signature(&mut object);
    let (name, arguments, inner) = match object.take_object("custom")? {
        Some(mut custom) => {
            let input: String = custom.take("input")?.unwrap_or_default();
            (custom.require("name")?, freeform::arguments(&input), ("custom", custom))
        }
        None => {
            let mut function = object.take_object("function")?.ok_or_else(|| object.missing("function"))?;
            let arguments = function.take_raw("arguments").map(text_or_json).unwrap_or_default();
            (function.require("name")?, arguments, ("function", function))
        }
    };
    let mut extra = object.rest();
    nested::keep(&mut extra, inner.0, inner.1);
    let call = ToolCall { id, name, arguments, extra };
    Ok(Part { signature, ..PartKind::ToolCall(call).into() })
}

// --- writing ---

/// What stands in `content`; an assistant's pictures and all that is not content have their own fields.
fn is_content(part: &Part, is_assistant: bool, style: &Style<'_>) -> bool {
    match part.kind {
        PartKind::ToolCall(_) | PartKind::ToolResult(_) | PartKind::Refusal(_) => false,
        PartKind::Image { .. } if is_assistant => false,
        _ => !reasoning::is_detail(part) && unsaid(part, style).is_none(),
    }
}

/// Content, refusal, reasoning, tool calls and what surrounds them.
pub(super) fn write_fields<M: SerializeMap>(
    parts: &[Part],
    is_assistant: bool,
    style: Style<'_>,
    map: &mut M,
) -> Result<(), M::Error> {
    let content = parts.iter().filter(|part| is_content(part, is_assistant, &style));
    let is_plain = |part: &Part| {
        matches!(part.kind, PartKind::Text(_))
            && (part.extra.is_empty() || !style.akin)
            && (part.cache.is_none() || !style.quirks.cache_marks)
    };
    match (content.clone().next(), content.clone().all(is_plain)) {
        (None, _) => map.serialize_entry("content", &())?,
        (Some(_), true) => map.serialize_entry("content", &joined_text(parts))?,
        (Some(_), false) => {
            map.serialize_entry("content", &List(content.map(|part| PartBody { part, style })))?
        }
    }
    let text_of = |wanted: fn(&PartKind) -> Option<&str>| -> Option<String> {
        let texts: Vec<&str> = parts.iter().filter_map(|part| wanted(&part.kind)).collect();
        (!texts.is_empty()).then(|| texts.concat())
    };
    let refusal = text_of(|kind| match kind {
        PartKind::Refusal(text) => Some(text),
        _ => None,
    });
    let reasoning = text_of(|kind| match kind {
        PartKind::Reasoning(text) if !text.is_empty() => Some(text),
        _ => None,
    });
    entry(map, "refusal", &refusal.filter(|_| style.knows("refusal")))?;
    if let Some(name) = style.reasoning_name() {
        entry(map, name, &reasoning)?;
    }
    if is_assistant { write_assistant_fields(parts, style, map) } else { Ok(()) }
}

fn write_assistant_fields<M: SerializeMap>(
    parts: &[Part],
    style: Style<'_>,
    map: &mut M,
) -> Result<(), M::Error> {
    let details = reasoning::details(parts, style);
    if !details.is_empty() && style.knows("reasoning_details") {
        map.serialize_entry("reasoning_details", &details)?;
    }
    let is_image =
        |part: &&Part| matches!(part.kind, PartKind::Image { .. }) && unsaid(part, &style).is_none();
    let images = parts.iter().filter(is_image).map(|part| PartBody { part, style });
    if (style.for_client || style.akin) && style.knows("images") && images.clone().next().is_some() {
        map.serialize_entry("images", &List(images))?;
    }
    let citations = parts.iter().flat_map(|part| &part.citations).filter(|one| {
        if style.for_client { citations::is_said(one) } else { one.maker == Dialect::OpenAiChat }
    });
    if citations.clone().next().is_some() && style.knows("annotations") {
        map.serialize_entry("annotations", &List(citations.map(CitationBody)))?;
    }
    let signed_text = |part: &&Part| matches!(part.kind, PartKind::Text(_)) && part.signature.is_some();
    if let Some(signature) = parts.iter().rfind(signed_text).and_then(|part| style.thought_signature(part)) {
        map.serialize_entry("extra_content", &ExtraContent::new(&signature))?;
    }
    let calls = parts.iter().filter_map(|part| match &part.kind {
        PartKind::ToolCall(call) => Some(CallBody { call, part, style }),
        _ => None,
    });
    if calls.clone().next().is_some() {
        map.serialize_entry("tool_calls", &List(calls))?;
    }
    Ok(())
}

#[derive(Clone)]
struct CallBody<'a> {
    call: &'a ToolCall,
    part: &'a Part,
    style: Style<'a>,
}

impl Serialize for CallBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { call, part, style } = self;
        let none = Extra::default();
        let extra = if style.akin { &call.extra } else { &none };
        let is_custom = style.freeform.contains(&call.name.as_str());
        let form = if is_custom { "custom" } else { "function" };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &call.id)?;
        map.serialize_entry("type", form)?;
        map.serialize_entry(form, &Called { call, is_custom, form, extra })?;
        // Where there was more beside the signature, all of it is kept there.
        if extra.get("extra_content").is_none()
            && let Some(signature) = style.thought_signature(part)
        {
            map.serialize_entry("extra_content", &ExtraContent::new(&signature))?;
        }
        nested::write_others(extra, &["custom", "function"], &mut map)?;
        map.end()
    }
}

struct Called<'a> {
    call: &'a ToolCall,
    is_custom: bool,
    form: &'static str,
    extra: &'a Extra,
}

impl Serialize for Called<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.call.name)?;
        match self.is_custom {
            true => map.serialize_entry("input", &*freeform::input(&self.call.arguments))?,
            false => map.serialize_entry("arguments", &self.call.arguments)?,
        }
        nested::write(self.extra, self.form, &mut map)?;
        map.end()
    }
}
