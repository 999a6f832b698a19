//! The pieces of a message's content: read and written.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::message::Style;
use crate::dialect::Dialect;
use crate::dialect::nested;
use crate::dialect::wire::{media_source, url_of};
use crate::json::{Extra, FieldError, Object};
use crate::request::{CacheMark, MediaSource, Part, PartKind, joined_text};

// --- reading ---

/// Content as a string or a list of parts.
pub(super) fn parts(object: &mut Object<'_>, name: &str) -> Result<Vec<Part>, FieldError> {
    let Some(raw) = object.take_raw(name) else { return Ok(Vec::new()) };
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get())
            .map_err(|error| object.wrong(name, crate::json::problem(&error)))?;
        return Ok(vec![Part::text(text)]);
    }
    let path = object.path_of(name);
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| object.wrong(name, "expected a string or a list of parts"))?;
    items.into_iter().enumerate().map(|(index, raw)| part(&format!("{path}[{index}]"), raw)).collect()
}

fn part(path: &str, raw: &RawValue) -> Result<Part, FieldError> {
    let mut object = Object::parse(path, raw.get())?;
    let word: String = object.require("type")?;
    let mut inner = None;
    let kind = match word.as_str() {
        "text" => PartKind::Text(object.require("text")?),
        "refusal" => PartKind::Refusal(object.require("refusal")?),
        "image_url" => {
            let mut image = object.take_object("image_url")?.ok_or_else(|| object.missing("image_url"))?;
            let (source, detail) = (media_source(image.require("url")?), image.take("detail")?);
            inner = Some(("image_url", image));
            PartKind::Image { source, detail }
        }
        "input_audio" => {
            let mut audio =
                object.take_object("input_audio")?.ok_or_else(|| object.missing("input_audio"))?;
            let (data, format) = (audio.require("data")?, audio.require("format")?);
            inner = Some(("input_audio", audio));
            PartKind::Audio { data, format }
        }
        "file" => {
            let mut file = object.take_object("file")?.ok_or_else(|| object.missing("file"))?;
            let source = match (file.take::<String>("file_id")?, file.take::<String>("file_data")?) {
                (Some(id), _) => MediaSource::FileId(id),
                (None, Some(data)) => media_source(data),
                (None, None) => return Err(file.missing("file_data")),
            };
            let filename = file.take("filename")?;
            inner = Some(("file", file));
            PartKind::File { source, filename }
        }
        // Mistral's form of reasoning: a list of text parts under `thinking`.
        "thinking" => PartKind::Reasoning(joined_text(&parts(&mut object, "thinking")?)),
        _ => return Ok(PartKind::Other { maker: Dialect::OpenAiChat, kind: word, json: raw.into() }.into()),
    };
    let cache = take_cache(&mut object);
    let mut extra = object.rest();
    if let Some((name, rest)) = inner {
        nested::keep(&mut extra, name, rest);
    }
    Ok(Part { cache, extra, ..kind.into() })
}

/// Takes a `cache_control` that we know, as OpenRouter and LiteLLM have it from Anthropic; another stays where it is.
pub(super) fn take_cache(object: &mut Object<'_>) -> Option<CacheMark> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wire<'a> {
        r#type: &'a str,
        ttl: Option<&'a str>,
    }
    let wire: Wire<'_> = serde_json::from_str(object.peek("cache_control")?.get()).ok()?;
    let mark = match (wire.r#type, wire.ttl) {
        ("ephemeral", None | Some("5m")) => CacheMark::FiveMinutes,
        ("ephemeral", Some("1h")) => CacheMark::OneHour,
        _ => return None,
    };
    object.take_raw("cache_control");
    Some(mark)
}

// --- writing ---

/// Why a piece cannot be written as content: the word to note it by.
pub(super) fn unsaid<'a>(part: &'a Part, style: &Style<'_>) -> Option<&'a str> {
    match &part.kind {
        PartKind::Other { maker, kind, .. } if *maker != Dialect::OpenAiChat => Some(kind),
        // Pictures have no ids here.
        PartKind::Image { source: MediaSource::FileId(_), .. } => Some("image"),
        PartKind::File { source: MediaSource::FileId(_), .. } if !style.knows_files => Some("file"),
        PartKind::Audio { .. } if style.for_client => Some("audio"),
        PartKind::File { .. } if style.for_client => Some("file"),
        _ => None,
    }
}

#[derive(Clone)]
pub(super) struct PartBody<'a> {
    pub(super) part: &'a Part,
    pub(super) style: Style<'a>,
}

impl Serialize for PartBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { part, style } = self;
        if let PartKind::Other { json, .. } = &part.kind {
            return json.serialize(serializer);
        }
        let none = Extra::default();
        let extra = if style.akin { &part.extra } else { &none };
        let mut map = serializer.serialize_map(None)?;
        match &part.kind {
            PartKind::Text(text) => {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", text)?;
            }
            PartKind::Image { source, detail } => {
                map.serialize_entry("type", "image_url")?;
                let detail = detail.as_deref().map(|detail| ("detail", detail));
                let fields = [Some(("url", &*url_of(source))), detail];
                map.serialize_entry("image_url", &Nested { fields, name: "image_url", extra })?;
            }
            PartKind::Audio { data, format } => {
                map.serialize_entry("type", "input_audio")?;
                let fields = [Some(("data", data.as_str())), Some(("format", format.as_str()))];
                map.serialize_entry("input_audio", &Nested { fields, name: "input_audio", extra })?;
            }
            PartKind::File { source, filename } => {
                map.serialize_entry("type", "file")?;
                let url = url_of(source);
                let place = match source {
                    MediaSource::FileId(id) => ("file_id", id.as_str()),
                    MediaSource::Url(_) | MediaSource::Base64 { .. } => ("file_data", &*url),
                };
                let fields = [Some(place), filename.as_deref().map(|name| ("filename", name))];
                map.serialize_entry("file", &Nested { fields, name: "file", extra })?;
            }
            // The caller sorts these out before.
            PartKind::Reasoning(_)
            | PartKind::Redacted
            | PartKind::Refusal(_)
            | PartKind::ToolCall(_)
            | PartKind::ToolResult(_)
            | PartKind::Other { .. } => {}
        }
        if let Some(mark) = part.cache.filter(|_| style.quirks.cache_marks) {
            map.serialize_entry("cache_control", &CacheBody(mark))?;
        }
        nested::write_others(extra, &["image_url", "input_audio", "file"], &mut map)?;
        map.end()
    }
}

/// A nested object of strings with what was kept of it.
struct Nested<'a> {
    fields: [Option<(&'a str, &'a str)>; 2],
    name: &'static str,
    extra: &'a Extra,
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.fields.iter().flatten().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        nested::write(self.extra, self.name, &mut map)?;
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
