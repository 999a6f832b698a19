//! Reasoning and the signatures that must come back with it.
//!
//! The text is in `reasoning_content` (DeepSeek, llama.cpp) or `reasoning` (Groq, OpenRouter, vLLM). Signatures have no
//! place in OpenAI's own form: OpenRouter has them in `reasoning_details`, beside the same text in pieces, and Google in
//! `extra_content` of the tool call or message they sign.
//! Source: openrouter.ai/docs/use-cases/reasoning-tokens, ai.google.dev/gemini-api/docs/thought-signatures, both read
//! 2026-11-24.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Serialize as DeriveSerialize};
use serde_json::value::RawValue;

use super::message::Style;
use crate::dialect::Dialect;
use crate::dialect::nested;
use crate::dialect::wire::entry;
use crate::json::{FieldError, Object, RawJson};
use crate::request::{Part, PartKind, Signature};

const TEXT: &str = "reasoning.text";
const SUMMARY: &str = "reasoning.summary";
const ENCRYPTED: &str = "reasoning.encrypted";

// --- reading ---

/// The reasoning of a whole message, in pieces if there are any: text that comes in both forms is taken once.
pub(super) fn take(object: &mut Object<'_>) -> Result<Vec<Part>, FieldError> {
    let content: Option<String> = object.take("reasoning_content")?;
    let text = content.or_else(|| take_short(object)).filter(|text| !text.is_empty());
    let mut parts: Vec<Part> = take_details(object).into_iter().map(|detail| detail.part).collect();
    let Some(text) = text else { return Ok(parts) };
    let in_details = |part: &Part| matches!(&part.kind, PartKind::Reasoning(text) if !text.is_empty());
    if !parts.iter().any(in_details) {
        // Details that only sign, as a stream of ours adds up to them.
        match parts.iter_mut().find(|part| matches!(part.kind, PartKind::Reasoning(_))) {
            Some(part) => part.kind = PartKind::Reasoning(text),
            None => parts.insert(0, PartKind::Reasoning(text).into()),
        }
    }
    Ok(parts)
}

/// The text under `reasoning`, where other vendors have objects.
pub(super) fn take_short(object: &mut Object<'_>) -> Option<String> {
    let text = serde_json::from_str(object.peek("reasoning")?.get()).ok()?;
    object.take_raw("reasoning");
    Some(text)
}

/// One of OpenRouter's `reasoning_details`.
pub(super) struct Detail {
    /// Which piece it is of, in a stream.
    pub(super) index: Option<u32>,
    pub(super) part: Part,
}

/// Takes the `reasoning_details`; those of a shape we do not know stay where they are.
pub(super) fn take_details(object: &mut Object<'_>) -> Vec<Detail> {
    let Some(raw) = object.peek("reasoning_details") else { return Vec::new() };
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else { return Vec::new() };
    object.take_raw("reasoning_details");
    items.into_iter().filter_map(detail).collect()
}

fn detail(raw: &RawValue) -> Option<Detail> {
    let mut object = Object::parse("", raw.get()).ok()?;
    let word: String = object.take("type").ok()??;
    let index = object.take("index").ok().flatten();
    let mut text = |name| object.take::<String>(name).ok().flatten().filter(|text| !text.is_empty());
    let signed = |text: String| Signature::from_wire(Dialect::OpenAiChat, text);
    let (kind, signature) = match word.as_str() {
        TEXT => (PartKind::Reasoning(text("text").unwrap_or_default()), text("signature").map(signed)),
        SUMMARY => (PartKind::Reasoning(text("summary").unwrap_or_default()), None),
        ENCRYPTED => (PartKind::Redacted, Some(signed(text("data")?))),
        _ => {
            let kind = PartKind::Other { maker: Dialect::OpenAiChat, kind: word, json: raw.into() };
            return Some(Detail { index, part: kind.into() });
        }
    };
    if matches!(&kind, PartKind::Reasoning(text) if text.is_empty()) && signature.is_none() {
        return None;
    }
    let mut extra = object.rest();
    if word == SUMMARY {
        extra.insert("type", RawJson::from_value(SUMMARY).ok()?);
    }
    Some(Detail { index, part: Part { signature, extra, ..kind.into() } })
}

/// Takes Google's signature of a tool call or a message. Should there be more beside it, all of it stays to be written
/// again as it is.
pub(super) fn take_thought_signature(object: &mut Object<'_>) -> Option<Signature> {
    #[derive(Deserialize)]
    struct Content {
        google: Option<Google>,
        vertex: Option<Google>,
    }
    #[derive(Deserialize)]
    struct Google {
        thought_signature: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Only {
        google: OnlyGoogle,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct OnlyGoogle {
        thought_signature: String,
    }
    let text = object.peek("extra_content")?.get();
    let signature = match serde_json::from_str::<Only>(text) {
        Ok(only) => {
            object.take_raw("extra_content");
            only.google.thought_signature
        }
        Err(_) => {
            let content: Content = serde_json::from_str(text).ok()?;
            content.google.or(content.vertex)?.thought_signature?
        }
    };
    Some(Signature::from_wire(Dialect::Gemini, signature))
}

// --- writing ---

/// Whether a piece belongs to the `reasoning_details` when they are written.
pub(super) fn is_detail(part: &Part) -> bool {
    match &part.kind {
        PartKind::Reasoning(_) | PartKind::Redacted => true,
        PartKind::Other { maker: Dialect::OpenAiChat, kind, .. } => kind.starts_with("reasoning."),
        _ => false,
    }
}

/// The pieces to write as `reasoning_details`, which are none if the text alone says all.
pub(super) fn details<'a>(parts: &'a [Part], style: Style<'a>) -> Vec<DetailBody<'a>> {
    let says_more = |part: &Part| {
        let is_kept = |name| style.akin && part.extra.get(name).is_some();
        match part.kind {
            PartKind::Other { .. } => true,
            _ => style.signature(part).is_some() || ["format", "id", "type"].into_iter().any(is_kept),
        }
    };
    // Hidden reasoning of another maker is nothing to this reader.
    let is_said = |part: &&Part| {
        is_detail(part) && (part.kind != PartKind::Redacted || style.signature(part).is_some())
    };
    let details: Vec<&Part> = parts.iter().filter(is_said).collect();
    if !details.iter().any(|part| says_more(part)) {
        return Vec::new();
    }
    let numbered = details.into_iter().zip(0..);
    numbered.map(|(part, index)| DetailBody { part, index, style }).collect()
}

#[derive(Clone)]
pub(super) struct DetailBody<'a> {
    pub(super) part: &'a Part,
    pub(super) index: u32,
    pub(super) style: Style<'a>,
}

impl Serialize for DetailBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { part, index, style } = self;
        if let PartKind::Other { json, .. } = &part.kind {
            return json.serialize(serializer);
        }
        let signature = style.signature(part);
        let mut map = serializer.serialize_map(None)?;
        match &part.kind {
            PartKind::Reasoning(text) if style.akin && part.extra.get("type").is_some() => {
                map.serialize_entry("type", SUMMARY)?;
                map.serialize_entry("summary", text)?;
            }
            PartKind::Reasoning(text) => {
                map.serialize_entry("type", TEXT)?;
                map.serialize_entry("text", text)?;
                entry(&mut map, "signature", &signature)?;
            }
            _ => {
                map.serialize_entry("type", ENCRYPTED)?;
                entry(&mut map, "data", &signature)?;
            }
        }
        if style.akin {
            nested::write_others(&part.extra, &["type"], &mut map)?;
        }
        map.serialize_entry("index", index)?;
        map.end()
    }
}

/// Google's place for a signature.
#[derive(DeriveSerialize)]
pub(super) struct ExtraContent<'a> {
    google: Google<'a>,
}

#[derive(DeriveSerialize)]
struct Google<'a> {
    thought_signature: &'a str,
}

impl<'a> ExtraContent<'a> {
    pub(super) fn new(thought_signature: &'a str) -> Self {
        Self { google: Google { thought_signature } }
    }
}
