//! Content blocks, in requests as well as in answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::dialect::Dialect;
use crate::dialect::wire::{Arguments, List, entry};
use crate::failure::FidelityNote;
use crate::json::{FieldError, Object, RawJson};
use crate::request::{CacheMark, Citation, MediaSource, Part, PartKind, Signature};
use crate::tool::{ToolCall, ToolResult};

// --- reading ---

/// Content as a string or a list of blocks.
pub(super) fn parts(object: &mut Object<'_>, name: &str) -> Result<Vec<Part>, FieldError> {
    let path = object.path_of(name);
    let Some(raw) = object.take_raw(name) else { return Ok(Vec::new()) };
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get())
            .map_err(|error| object.wrong(name, crate::json::problem(&error)))?;
        return Ok(vec![Part::text(text)]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| object.wrong(name, "expected a string or a list of content blocks"))?;
    let mut parts = Vec::with_capacity(items.len());
    for (index, raw) in items.into_iter().enumerate() {
        add(part(&format!("{path}[{index}]"), raw)?, &mut parts);
    }
    Ok(parts)
}

/// Adds a piece; a foreign signature goes to the piece it follows.
pub(super) fn add(part: Part, parts: &mut Vec<Part>) {
    match (&part.kind, &part.signature, parts.last_mut()) {
        (PartKind::Redacted, Some(signature), Some(last)) if signature.maker != Dialect::Anthropic => {
            last.signature = Some(signature.clone());
        }
        _ => parts.push(part),
    }
}

pub(super) fn part(path: &str, raw: &RawValue) -> Result<Part, FieldError> {
    let mut object = Object::parse(path, raw.get())?;
    let word: String = object.require("type")?;
    let cache = cache_mark(&mut object)?;
    let mut signature = None;
    let mut citations = Vec::new();
    let kind = match word.as_str() {
        "text" => {
            let listed: Vec<&RawValue> = object.take("citations")?.unwrap_or_default();
            citations = listed.into_iter().map(citation).collect();
            PartKind::Text(object.require("text")?)
        }
        "thinking" => {
            signature = signature_in(&mut object, "signature")?;
            PartKind::Reasoning(object.require("thinking")?)
        }
        "redacted_thinking" => {
            signature = signature_in(&mut object, "data")?;
            PartKind::Redacted
        }
        "image" => PartKind::Image { source: source(&mut object)?, detail: None },
        // A document made of blocks has no counterpart elsewhere.
        "document" if !is_of_blocks(raw) => {
            PartKind::File { source: source(&mut object)?, filename: object.take("title")? }
        }
        "tool_use" => {
            let arguments = object.take_raw("input").map_or("{}", RawValue::get).to_owned();
            let (id, name) = (object.require("id")?, object.require("name")?);
            PartKind::ToolCall(ToolCall { id, name, arguments, ..ToolCall::default() })
        }
        "tool_result" => {
            let call_id = object.require("tool_use_id")?;
            let is_error = object.take("is_error")?.unwrap_or(false);
            PartKind::ToolResult(ToolResult { call_id, content: parts(&mut object, "content")?, is_error })
        }
        _ => {
            let kind = PartKind::Other { maker: Dialect::Anthropic, kind: word, json: raw.into() };
            return Ok(Part { cache, ..kind.into() });
        }
    };
    Ok(Part { signature, cache, citations, extra: object.rest(), ..kind.into() })
}

fn signature_in(object: &mut Object<'_>, name: &str) -> Result<Option<Signature>, FieldError> {
    let text = object.take::<String>(name)?.filter(|text| !text.is_empty());
    Ok(text.map(|text| Signature::from_wire(Dialect::Anthropic, text)))
}

fn is_of_blocks(raw: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        source: Source<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Source<'a> {
        #[serde(borrow)]
        r#type: std::borrow::Cow<'a, str>,
    }
    serde_json::from_str::<Document<'_>>(raw.get()).is_ok_and(|document| document.source.r#type == "content")
}

fn source(object: &mut Object<'_>) -> Result<MediaSource, FieldError> {
    let mut source = object.take_object("source")?.ok_or_else(|| object.missing("source"))?;
    let word: String = source.require("type")?;
    Ok(match word.as_str() {
        "base64" => {
            MediaSource::Base64 { media_type: source.require("media_type")?, data: source.require("data")? }
        }
        "text" => {
            let media_type = source.take("media_type")?.unwrap_or_else(|| "text/plain".to_owned());
            MediaSource::Base64 { media_type, data: STANDARD.encode(source.require::<String>("data")?) }
        }
        "url" => MediaSource::Url(source.require("url")?),
        "file" => MediaSource::FileId(source.require("file_id")?),
        other => return Err(source.wrong("type", format!("`{other}` is none of base64, text, url, file"))),
    })
}

/// The mark up to which a prompt is cached.
pub(super) fn cache_mark(object: &mut Object<'_>) -> Result<Option<CacheMark>, FieldError> {
    let Some(mut mark) = object.take_object("cache_control")? else { return Ok(None) };
    Ok(Some(match mark.take::<String>("ttl")?.as_deref() {
        Some("1h") => CacheMark::OneHour,
        _ => CacheMark::FiveMinutes,
    }))
}

/// Reads a citation; what it rests on is kept whole.
pub(super) fn citation(raw: &RawValue) -> Citation {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Wire {
        url: Option<String>,
        title: Option<String>,
        document_title: Option<String>,
        cited_text: Option<String>,
    }
    let wire: Wire = serde_json::from_str(raw.get()).unwrap_or_default();
    Citation {
        url: wire.url,
        title: wire.title.or(wire.document_title),
        quote: wire.cited_text,
        span: None,
        maker: Dialect::Anthropic,
        json: raw.into(),
    }
}

// --- writing ---

/// A piece as a content block; pieces that are none are sorted out by [`lost`] before.
#[derive(Clone, Copy)]
pub(super) struct Block<'a>(pub(super) &'a Part);

/// Why a piece cannot be a block, for a note; `None` if it can.
pub(super) fn lost(part: &Part) -> Option<&str> {
    match &part.kind {
        PartKind::Audio { .. } => Some("input_audio"),
        PartKind::Other { maker, kind, .. } if *maker != Dialect::Anthropic => Some(kind),
        _ => None,
    }
}

impl Serialize for Block<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = self.0;
        if let PartKind::Other { json, .. } = &part.kind {
            return json.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        let word = match &part.kind {
            PartKind::Reasoning(_) => "thinking",
            PartKind::Redacted => "redacted_thinking",
            PartKind::Image { .. } => "image",
            PartKind::File { .. } => "document",
            PartKind::ToolCall(_) => "tool_use",
            PartKind::ToolResult(_) => "tool_result",
            _ => "text",
        };
        map.serialize_entry("type", word)?;
        match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => {
                map.serialize_entry("text", text)?;
                let citations = part.citations.iter().filter_map(CitationBody::of);
                if citations.clone().next().is_some() {
                    map.serialize_entry("citations", &List(citations))?;
                }
            }
            PartKind::Reasoning(text) => {
                map.serialize_entry("thinking", text)?;
                let signature = part.signature.as_ref().map(|one| one.to_wire(Dialect::Anthropic));
                map.serialize_entry("signature", &*signature.unwrap_or_default())?;
            }
            PartKind::Redacted => {
                let data = part.signature.as_ref().map(|one| one.to_wire(Dialect::Anthropic));
                map.serialize_entry("data", &*data.unwrap_or_default())?;
            }
            PartKind::Image { source, .. } => map.serialize_entry("source", &SourceBody(source))?,
            PartKind::File { source, filename } => {
                map.serialize_entry("source", &SourceBody(source))?;
                entry(&mut map, "title", filename)?;
            }
            PartKind::ToolCall(call) => {
                map.serialize_entry("id", &call.id)?;
                map.serialize_entry("name", &call.name)?;
                map.serialize_entry("input", &Arguments(&call.arguments))?;
                call.extra.write(&mut map)?;
            }
            PartKind::ToolResult(result) => {
                map.serialize_entry("tool_use_id", &result.call_id)?;
                write_result(result, &mut map)?;
            }
            PartKind::Audio { .. } | PartKind::Other { .. } => {}
        }
        if let Some(mark) = part.cache {
            map.serialize_entry("cache_control", &CacheBody(mark))?;
        }
        part.extra.write(&mut map)?;
        map.end()
    }
}

fn write_result<M: SerializeMap>(result: &ToolResult, map: &mut M) -> Result<(), M::Error> {
    let is_empty = |part: &&Part| matches!(&part.kind, PartKind::Text(text) if text.is_empty());
    let shown = result.content.iter().filter(|part| !is_empty(part) && lost(part).is_none());
    match &result.content[..] {
        [Part { kind: PartKind::Text(text), cache: None, extra, .. }] if extra.is_empty() => {
            map.serialize_entry("content", text)?;
        }
        _ => map.serialize_entry("content", &List(shown.map(Block)))?,
    }
    if result.is_error {
        map.serialize_entry("is_error", &true)?;
    }
    Ok(())
}

struct SourceBody<'a>(&'a MediaSource);

impl Serialize for SourceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            MediaSource::Url(url) => {
                map.serialize_entry("type", "url")?;
                map.serialize_entry("url", url)?;
            }
            MediaSource::Base64 { media_type, data } => {
                // Plain text is a kind of its own here.
                let text = media_type.starts_with("text/").then(|| STANDARD.decode(data).ok()).flatten();
                let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
                map.serialize_entry("type", if text.is_some() { "text" } else { "base64" })?;
                map.serialize_entry("media_type", if text.is_some() { "text/plain" } else { media_type })?;
                map.serialize_entry("data", text.as_ref().unwrap_or(data))?;
            }
            MediaSource::FileId(id) => {
                map.serialize_entry("type", "file")?;
                map.serialize_entry("file_id", id)?;
            }
        }
        map.end()
    }
}

pub(super) struct CacheBody(pub(super) CacheMark);

impl Serialize for CacheBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "ephemeral")?;
        if self.0 == CacheMark::OneHour {
            map.serialize_entry("ttl", "1h")?;
        }
        map.end()
    }
}

/// A citation in this dialect: its own as it came, another's if it names a page.
#[derive(Clone, Copy)]
pub(super) enum CitationBody<'a> {
    Own(&'a RawJson),
    Page(&'a Citation, &'a str),
}

impl<'a> CitationBody<'a> {
    pub(super) fn of(citation: &'a Citation) -> Option<Self> {
        if citation.maker == Dialect::Anthropic {
            return Some(Self::Own(&citation.json));
        }
        citation.url.as_deref().map(|url| Self::Page(citation, url))
    }
}

impl Serialize for CitationBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Own(json) => json.serialize(serializer),
            Self::Page(citation, url) => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("type", "web_search_result_location")?;
                map.serialize_entry("url", url)?;
                map.serialize_entry("title", &citation.title)?;
                map.serialize_entry("cited_text", citation.quote.as_deref().unwrap_or(""))?;
                // The SDKs want it; only Anthropic's own could be sent back.
                map.serialize_entry("encrypted_index", "")?;
                map.end()
            }
        }
    }
}

/// Notes what of an answer's piece cannot be shown.
pub(super) fn note_lost(part: &Part, notes: &mut Vec<FidelityNote>) {
    use crate::dialect::wire::note;
    match &part.kind {
        PartKind::Image { .. } | PartKind::File { .. } => note(notes, FidelityNote::new("content.image")),
        PartKind::ToolCall(call) if Arguments(&call.arguments).is_wrapped() => {
            note(notes, FidelityNote::emulated("content.tool_use"));
        }
        _ => {
            if let Some(kind) = lost(part) {
                note(notes, FidelityNote::new(format!("content.{kind}")));
            }
        }
    }
    if part.citations.iter().any(|citation| CitationBody::of(citation).is_none()) {
        note(notes, FidelityNote::new("content.citations"));
    }
}
