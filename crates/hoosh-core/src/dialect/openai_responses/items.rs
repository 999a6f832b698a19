//! Items: what a conversation and an answer consist of, to parts and back.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{DIALECT, is_akin};
use crate::dialect::Dialect;
use crate::dialect::openai_chat::freeform;
use crate::dialect::wire::{media_source, note, text_or_json, url_of};
use crate::failure::FidelityNote;
use crate::json::{FieldError, Object, RawJson};
use crate::request::{Citation, MediaSource, Part, PartKind, Signature};
use crate::tool::ToolCall;

/// Before an `encrypted_content` that signs the item in front of it.
pub(super) const SIGNS_LAST: &str = "hoosh-last:";
/// Before an `encrypted_content` that stands for hidden reasoning.
pub(super) const REDACTED: &str = "hoosh-redacted:";
/// In the names of items that we made up.
const OURS: &str = "_hoosh_";

// --- reading ---

/// Appends the parts of an item that the model made; `kind` is its type.
pub(super) fn read_output(
    kind: &str,
    object: Object<'_>,
    raw: &RawValue,
    parts: &mut Vec<Part>,
) -> Result<(), FieldError> {
    match kind {
        "message" => parts.extend(message_parts(object)?.0),
        "reasoning" => read_reasoning(object, parts)?,
        "function_call" | "custom_tool_call" => {
            parts.push(PartKind::ToolCall(read_call(kind, object)?).into());
        }
        _ => parts.push(other(kind, raw)),
    }
    Ok(())
}

/// The parts of a message that have anything in them, and log probabilities of their text.
pub(super) fn message_parts(mut object: Object<'_>) -> Result<(Vec<Part>, Vec<RawJson>), FieldError> {
    let mut logprobs = Vec::new();
    let mut parts = content(&mut object, "content", &mut logprobs)?;
    parts.retain(|part| {
        !matches!(&part.kind, PartKind::Text(text) | PartKind::Refusal(text) if text.is_empty() && part.citations.is_empty())
    });
    Ok((parts, logprobs))
}

pub(super) fn other(kind: &str, raw: &RawValue) -> Part {
    PartKind::Other { maker: DIALECT, kind: kind.to_owned(), json: raw.into() }.into()
}

pub(super) fn read_call(kind: &str, mut object: Object<'_>) -> Result<ToolCall, FieldError> {
    let id: Option<String> = object.take("call_id")?;
    let id = match id {
        Some(id) => id,
        None => object.take("id")?.unwrap_or_default(),
    };
    let name = object.require("name")?;
    let arguments = if kind == "custom_tool_call" {
        freeform::arguments(&object.take::<String>("input")?.unwrap_or_default())
    } else {
        object.take_raw("arguments").map(text_or_json).unwrap_or_default()
    };
    object.take_raw("type");
    object.take_raw("id");
    object.take_raw("status");
    Ok(ToolCall { id, name, arguments, extra: object.rest() })
}

fn read_reasoning(mut object: Object<'_>, parts: &mut Vec<Part>) -> Result<(), FieldError> {
    let mut texts = Vec::new();
    for name in ["summary", "content"] {
        for mut piece in object.take_objects(name)? {
            texts.extend(piece.take::<String>("text")?.filter(|text| !text.is_empty()));
        }
    }
    let text = texts.join("\n\n");
    let encrypted = object.take::<String>("encrypted_content")?.filter(|text| !text.is_empty());
    let id = object.take::<String>("id")?.filter(|id| !id.contains(OURS));
    let mut part: Part = PartKind::Reasoning(text).into();
    if let Some(id) = id.and_then(|id| RawJson::from_value(&id).ok()) {
        part.extra.insert("id", id);
    }
    let Some(encrypted) = encrypted else {
        parts.push(part);
        return Ok(());
    };
    match read_signature(&encrypted) {
        Signs::Last(signature) => {
            if let Some(part) = parts.last_mut() {
                part.signature = Some(signature);
            }
        }
        Signs::Hidden(signature) => {
            parts.push(Part { signature: Some(signature), ..PartKind::Redacted.into() });
        }
        Signs::Itself(signature) => parts.push(Part { signature: Some(signature), ..part }),
    }
    Ok(())
}

/// What the `encrypted_content` of a reasoning item signs.
pub(super) enum Signs {
    Itself(Signature),
    Last(Signature),
    Hidden(Signature),
}

pub(super) fn read_signature(text: &str) -> Signs {
    let read = |text: &str| Signature::from_wire(DIALECT, text);
    if let Some(rest) = text.strip_prefix(SIGNS_LAST) {
        Signs::Last(read(rest))
    } else if let Some(rest) = text.strip_prefix(REDACTED) {
        Signs::Hidden(read(rest))
    } else {
        Signs::Itself(read(text))
    }
}

/// Content as a string or a list of parts.
pub(super) fn content(
    object: &mut Object<'_>,
    name: &str,
    logprobs: &mut Vec<RawJson>,
) -> Result<Vec<Part>, FieldError> {
    let path = object.path_of(name);
    let Some(raw) = object.take_raw(name) else { return Ok(Vec::new()) };
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get())
            .map_err(|error| object.wrong(name, crate::json::problem(&error)))?;
        return Ok(vec![Part::text(text)]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| object.wrong(name, "expected a string or a list of parts"))?;
    let read = |(index, raw): (usize, &RawValue)| content_part(&format!("{path}[{index}]"), raw, logprobs);
    items.into_iter().enumerate().map(read).collect()
}

fn content_part(path: &str, raw: &RawValue, logprobs: &mut Vec<RawJson>) -> Result<Part, FieldError> {
    let mut object = Object::parse(path, raw.get())?;
    let word: String = object.require("type")?;
    let mut citations = Vec::new();
    let kind = match word.as_str() {
        "input_text" | "output_text" | "text" => {
            let annotations: Vec<&RawValue> = object.take("annotations")?.unwrap_or_default();
            citations.extend(annotations.into_iter().map(citation));
            logprobs.extend(object.take::<Vec<RawJson>>("logprobs")?.unwrap_or_default());
            PartKind::Text(object.require("text")?)
        }
        "refusal" => PartKind::Refusal(object.require("refusal")?),
        "input_image" => {
            let source = match (object.take("image_url")?, object.take("file_id")?) {
                (Some(url), _) => media_source(url),
                (None, Some(id)) => MediaSource::FileId(id),
                (None, None) => return Err(object.missing("image_url")),
            };
            PartKind::Image { source, detail: object.take("detail")? }
        }
        "input_file" => {
            let source = match (object.take("file_data")?, object.take("file_url")?, object.take("file_id")?)
            {
                (Some(data), ..) => file_data(data),
                (_, Some(url), _) => MediaSource::Url(url),
                (.., Some(id)) => MediaSource::FileId(id),
                _ => return Err(object.missing("file_data")),
            };
            PartKind::File { source, filename: object.take("filename")? }
        }
        "input_audio" => {
            let mut audio =
                object.take_object("input_audio")?.ok_or_else(|| object.missing("input_audio"))?;
            PartKind::Audio { data: audio.require("data")?, format: audio.require("format")? }
        }
        _ => return Ok(other(&word, raw)),
    };
    Ok(Part { citations, extra: object.rest(), ..kind.into() })
}

/// Bytes of a file: a `data:` URL, or the base64 alone.
fn file_data(data: String) -> MediaSource {
    match media_source(data) {
        MediaSource::Url(data) => MediaSource::Base64 { media_type: "application/pdf".to_owned(), data },
        source => source,
    }
}

pub(super) fn citation(raw: &RawValue) -> Citation {
    #[derive(Default, serde::Deserialize)]
    struct Wire {
        url: Option<String>,
        title: Option<String>,
        filename: Option<String>,
        start_index: Option<u64>,
        end_index: Option<u64>,
    }
    let wire: Wire = serde_json::from_str(raw.get()).unwrap_or_default();
    Citation {
        url: wire.url,
        title: wire.title.or(wire.filename),
        quote: None,
        span: wire.start_index.zip(wire.end_index),
        maker: DIALECT,
        json: raw.into(),
    }
}

// --- writing ---

/// Makes the names of an answer's items, by the place of each, so that a reference finds them again.
pub(super) struct Names(pub(super) String);

impl Names {
    pub(super) fn at(&self, prefix: &str, place: usize) -> String {
        format!("{prefix}{OURS}{}_{place}", self.0)
    }
}

/// The answer's name and the place in it, from the name of an item that we made up.
pub(super) fn place_of(id: &str) -> Option<(&str, usize)> {
    let (_, rest) = id.split_once(OURS)?;
    let (call, place) = rest.rsplit_once('_')?;
    Some((call, place.parse().ok()?))
}

/// The items that an answer of these pieces was written as.
pub(super) fn of_answer(parts: &[Part], call: &str, freeform: &[String]) -> Vec<Value> {
    let is_freeform = |name: &str| freeform.iter().any(|known| known == name);
    write_output(parts, &Names(call.to_owned()), "completed", &[], is_freeform, &mut Vec::new())
}

/// Appends the pieces of an item to those in front of it.
pub(super) fn append(item: &str, parts: &mut Vec<Part>) -> Option<()> {
    let raw: &RawValue = serde_json::from_str(item).ok()?;
    let mut object = Object::parse("", item).ok()?;
    let kind: String = object.take("type").ok()??;
    read_output(&kind, object, raw, parts).ok()
}

pub(super) fn annotation(citation: &Citation) -> Value {
    let akin = is_akin(Some(citation.maker));
    let whole = akin.then(|| serde_json::from_str(citation.json.get()).ok()).flatten();
    whole.unwrap_or_else(|| {
        let (start, end) = citation.span.unwrap_or((0, 0));
        json!({"type": "url_citation", "url": citation.url.as_deref().unwrap_or(""),
            "title": citation.title.as_deref().unwrap_or(""), "start_index": start, "end_index": end})
    })
}

pub(super) fn text_content(text: &str, citations: &[Value], logprobs: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": citations, "logprobs": logprobs})
}

pub(super) fn refusal_content(text: &str) -> Value {
    json!({"type": "refusal", "refusal": text})
}

pub(super) fn message_item(id: &str, status: &str, content: &[Value]) -> Value {
    json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content})
}

pub(super) fn reasoning_item(id: &str, text: &str, encrypted: Option<&str>) -> Value {
    let summary = if text.is_empty() { json!([]) } else { json!([{"type": "summary_text", "text": text}]) };
    let mut item = json!({"type": "reasoning", "id": id, "summary": summary});
    if let Some(encrypted) = encrypted {
        item["encrypted_content"] = encrypted.into();
    }
    item
}

pub(super) fn call_item(id: &str, status: &str, call: &ToolCall, freeform: bool) -> Value {
    if freeform {
        let input = freeform::input(&call.arguments);
        return json!({"type": "custom_tool_call", "id": id, "status": status, "call_id": call.id,
            "name": call.name, "input": input});
    }
    json!({"type": "function_call", "id": id, "status": status, "call_id": call.id, "name": call.name,
        "arguments": call.arguments})
}

/// An answer's parts as items.
pub(super) fn write_output(
    parts: &[Part],
    names: &Names,
    status: &str,
    logprobs: &[Value],
    is_freeform: impl Fn(&str) -> bool,
    notes: &mut Vec<FidelityNote>,
) -> Vec<Value> {
    let mut items = Vec::new();
    let mut message: Vec<Value> = Vec::new();
    let mut logprobs = logprobs;
    for part in parts {
        let spoken = match &part.kind {
            PartKind::Text(text) => {
                let citations: Vec<_> = part.citations.iter().map(annotation).collect();
                Some(text_content(text, &citations, std::mem::take(&mut logprobs)))
            }
            PartKind::Refusal(text) => Some(refusal_content(text)),
            _ => None,
        };
        match spoken {
            Some(content) => message.push(content),
            None => {
                close_message(&mut message, names, status, &mut items);
                items.extend(item_of(part, names, items.len(), status, &is_freeform, notes));
            }
        }
        if let Some(signature) = part.signature.as_ref().filter(|_| !signs_itself(&part.kind)) {
            close_message(&mut message, names, status, &mut items);
            let id = names.at("rs", items.len());
            items.push(reasoning_item(&id, "", Some(&signs_last(signature))));
        }
    }
    close_message(&mut message, names, status, &mut items);
    items
}

fn close_message(message: &mut Vec<Value>, names: &Names, status: &str, items: &mut Vec<Value>) {
    if !message.is_empty() {
        items.push(message_item(&names.at("msg", items.len()), status, &std::mem::take(message)));
    }
}

pub(super) fn signs_itself(kind: &PartKind) -> bool {
    matches!(kind, PartKind::Reasoning(_) | PartKind::Redacted)
}

pub(super) fn signs_last(signature: &Signature) -> String {
    format!("{SIGNS_LAST}{}", signature.to_wire(DIALECT))
}

/// One part that is an item of its own, in that place.
pub(super) fn item_of(
    part: &Part,
    names: &Names,
    place: usize,
    status: &str,
    is_freeform: &impl Fn(&str) -> bool,
    notes: &mut Vec<FidelityNote>,
) -> Option<Value> {
    let wire = part.signature.as_ref().map(|signature| signature.to_wire(DIALECT));
    Some(match &part.kind {
        PartKind::Reasoning(text) => reasoning_item(&names.at("rs", place), text, wire.as_deref()),
        PartKind::Redacted => reasoning_item(
            &names.at("rs", place),
            "",
            Some(&format!("{REDACTED}{}", wire.unwrap_or_default())),
        ),
        PartKind::ToolCall(call) => call_item(&names.at("fc", place), status, call, is_freeform(&call.name)),
        PartKind::Other { maker: Dialect::OpenAiResponses, json, .. } => {
            serde_json::from_str(json.get()).ok()?
        }
        // A picture that a model made is an item of OpenAI's own tool for that.
        PartKind::Image { source: MediaSource::Base64 { data, .. }, .. } => {
            json!({"type": "image_generation_call", "id": names.at("ig", place), "status": "completed", "result": data})
        }
        PartKind::Image { source, .. } => {
            note(notes, FidelityNote::emulated("image"));
            let text = format!("![image]({})", url_of(source));
            message_item(&names.at("msg", place), status, &[text_content(&text, &[], &[])])
        }
        PartKind::Other { kind, .. } => {
            note(notes, FidelityNote::new(kind.as_str()));
            return None;
        }
        _ => {
            note(notes, FidelityNote::new("content"));
            return None;
        }
    })
}
