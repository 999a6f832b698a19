//! What the dialects share in reading and writing: lists, fields, events, media, text for counting.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::Dialect;
use crate::error::InvalidRequest;
use crate::failure::{FidelityNote, NoteKind};
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::limits;
use crate::request::{InferenceRequest, MediaSource, Message, Part, PartKind, Role};
use crate::response::InferenceResponse;

/// Turns as one text, with the speakers' names before their words, for dialects that know one prompt. It ends where the
/// assistant is to go on: behind its name, or in its last turn where that has begun.
pub(super) fn as_one_text(turns: impl IntoIterator<Item = (Role, String)>) -> String {
    let (mut all, mut last) = (String::new(), None);
    for (role, text) in turns {
        if last.replace(role).is_some() {
            all.push('\n');
        }
        let speaker = role.as_str();
        all.push_str(&speaker[..1].to_uppercase());
        all.push_str(&speaker[1..]);
        all.push_str(": ");
        all.push_str(&text);
    }
    match last {
        Some(Role::Assistant) => {}
        Some(_) => all.push_str("\nAssistant:"),
        None => all.push_str("Assistant:"),
    }
    all
}

/// Writes a list from anything that can be gone through more than once.
pub(super) struct List<I>(pub(super) I);

impl<I> Serialize for List<I>
where
    I: IntoIterator + Clone,
    I::Item: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// Appends `value` as one server-sent event.
pub(super) fn write_event<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    write_in_line(value, out);
    out.extend_from_slice(b"\n\n");
}

/// Appends `value` as JSON without line ends: what is carried as it came may hold them between its words.
fn write_in_line<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let begin = out.len();
    write_json(value, out);
    out[begin..].iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
}

/// Appends `value` as JSON. Our own wire structs only hold what JSON can write, and a `Vec` takes every byte.
pub(super) fn write_json<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(&mut *out, value);
    debug_assert!(written.is_ok(), "our own wire structs can be written: {written:?}");
}

/// Appends `value` as one server-sent event with a name.
pub(super) fn write_named_event<T: Serialize>(name: &str, value: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    write_event(value, out);
}

/// Appends `value` as one line.
pub(super) fn write_line<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    write_in_line(value, out);
    out.push(b'\n');
}

/// Writes a field that is there.
pub(super) fn entry<M: SerializeMap, T: Serialize>(
    map: &mut M,
    name: &str,
    value: &Option<T>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, value),
        None => Ok(()),
    }
}

/// A request's body as text.
pub(super) fn request_text(body: &[u8]) -> Result<&str, InvalidRequest> {
    std::str::from_utf8(body).map_err(|_| InvalidRequest::new("", "the body is not UTF-8"))
}

/// An answer, or an event of one, as text.
pub(super) fn reply_text(body: &[u8]) -> Result<&str, FieldError> {
    std::str::from_utf8(body)
        .map_err(|_| FieldError { path: String::new(), problem: "it is not UTF-8".to_owned() })
}

/// Takes a JSON schema, which is an object; other values that JSON Schema knows (`true`) ask for nothing.
pub(super) fn take_schema(object: &mut Object<'_>, name: &str) -> Result<Option<RawJson>, FieldError> {
    match object.take_raw(name) {
        Some(raw) if !raw.get().starts_with('{') => {
            Err(object.wrong(name, "expected a JSON schema, which is an object"))
        }
        raw => Ok(raw.map(RawJson::from)),
    }
}

/// A URL, or the bytes in it if it is a `data:` URL of base64.
pub(super) fn media_source(url: String) -> MediaSource {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media_type, data)) => {
            MediaSource::Base64 { media_type: media_type.to_owned(), data: data.to_owned() }
        }
        None => MediaSource::Url(url),
    }
}

/// The same as a URL; an id of an uploaded file stays one.
pub(super) fn url_of(source: &MediaSource) -> Cow<'_, str> {
    match source {
        MediaSource::Url(url) => Cow::Borrowed(url),
        MediaSource::Base64 { media_type, data } => Cow::Owned(format!("data:{media_type};base64,{data}")),
        MediaSource::FileId(id) => Cow::Borrowed(id),
    }
}

/// Whether the `include` of a Responses request names only what an answer has anyway, where there is any.
fn asks_only_for_what_is_given(include: &RawJson) -> bool {
    const GIVEN: [&str; 2] = ["reasoning.encrypted_content", "message.output_text.logprobs"];
    serde_json::from_str::<Vec<Cow<'_, str>>>(include.get())
        .is_ok_and(|names| names.iter().all(|name| GIVEN.contains(&&**name)))
}

/// The arguments of a call, written as the object that some dialects want: none are an empty one, and what is no object,
/// which a model may have written, stands under one name in it, so that the model is told what it wrote.
pub(super) struct Arguments<'a>(pub(super) &'a str);

/// What arguments are put under that are no object.
const NO_OBJECT: &str = "arguments";

impl<'a> Arguments<'a> {
    fn object(&self) -> Option<&'a RawValue> {
        serde_json::from_str::<&RawValue>(self.0).ok().filter(|raw| raw.get().starts_with('{'))
    }

    /// Whether they are an object already.
    pub(super) fn is_object(&self) -> bool {
        self.object().is_some()
    }

    /// Whether they are written in other words than they came in.
    pub(super) fn is_wrapped(&self) -> bool {
        !self.0.trim().is_empty() && self.object().is_none()
    }
}

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(object) = self.object() {
            return object.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        if self.is_wrapped() {
            map.serialize_entry(NO_OBJECT, self.0)?;
        }
        map.end()
    }
}

/// The numbers of a vector by their text: by way of an `f64` some would come out as their neighbours. `None` if there is
/// anything else in it, or a number that no `f32` can be.
pub(super) fn vector(raw: &RawValue) -> Option<Vec<f32>> {
    let numbers: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
    let read = |number: &RawValue| number.get().parse().ok().filter(|number: &f32| number.is_finite());
    numbers.into_iter().map(read).collect()
}

/// Adds a note unless the same is there. Beyond [`NOTES_MAX`](limits::NOTES_MAX) one note stands for all the others.
pub(super) fn note(notes: &mut Vec<FidelityNote>, note: FidelityNote) {
    const OTHERS: &str = "and_others";
    if notes.contains(&note) {
        return;
    }
    if notes.len() < limits::NOTES_MAX {
        return notes.push(note);
    }
    match notes.iter_mut().find(|last| last.field == OTHERS) {
        // One that is lost among them makes all of them a loss.
        Some(others) if note.kind == NoteKind::Lost => others.kind = NoteKind::Lost,
        Some(_) => {}
        None => notes.push(FidelityNote { field: OTHERS.to_owned(), kind: note.kind }),
    }
}

/// The unknown fields of a request that need a note if they are not written: those that say something.
pub(super) fn notable(request: &InferenceRequest) -> impl Iterator<Item = (&str, &RawJson)> {
    let is_responses = request.origin == Some(Dialect::OpenAiResponses);
    let says_nothing = move |name: &str, value: &RawJson| match (name, value.get()) {
        (_, "null" | "[]" | "{}") => true,
        ("background", "false") | ("truncation", "\"disabled\"") => is_responses,
        ("include", _) => is_responses && asks_only_for_what_is_given(value),
        // The gateway itself keeps the answer, or does not.
        ("store", _) => is_responses,
        _ => false,
    };
    request.extra.iter().filter(move |(name, value)| !says_nothing(name, value))
}

/// What a path segment keeps as it is (RFC 3986, 3.3), and the slash between two.
const SEGMENTS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'@');

/// A name as part of a path.
pub(super) fn path_segments(name: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(name, SEGMENTS)
}

/// The text of an answer that passes by, for counting: bounded, what comes later is not kept.
#[derive(Debug, Default)]
pub(super) struct PassingText(String);

impl PassingText {
    pub(super) fn push(&mut self, text: &str) {
        if self.0.len() + text.len() <= limits::COUNTED_TEXT_BYTES_MAX {
            self.0.push_str(text);
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// The answer with no field in its pieces that its reader's dialect has not: unknown fields belong to the dialect they
/// came in.
pub(super) fn own_reply(reply: &InferenceResponse, dialect: Dialect) -> Cow<'_, InferenceResponse> {
    let foreign = |part: &Part| {
        !part.extra.is_empty() || matches!(&part.kind, PartKind::ToolCall(call) if !call.extra.is_empty())
    };
    let akin = reply.origin.is_none_or(|origin| origin.is_akin(dialect));
    if akin || !reply.choices.iter().any(|choice| choice.parts.iter().any(foreign)) {
        return Cow::Borrowed(reply);
    }
    let mut own = reply.clone();
    for part in own.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
        part.extra = Extra::default();
        if let PartKind::ToolCall(call) = &mut part.kind {
            call.extra = Extra::default();
        }
    }
    Cow::Owned(own)
}

/// The request with no field that its target has not: unknown fields belong to the dialect they came in. Those left out
/// are noted by name, but for the ones in `shared`, which both have under the same name.
pub(super) fn own_fields<'a>(
    request: &'a InferenceRequest,
    dialect: Dialect,
    shared: &[&str],
    notes: &mut Vec<FidelityNote>,
) -> Cow<'a, InferenceRequest> {
    if request.origin.is_none_or(|origin| origin.is_akin(dialect)) {
        return Cow::Borrowed(request);
    }
    let mut own = Cow::Borrowed(request);
    if request.extra.iter().any(|(name, _)| !shared.contains(&name)) {
        for (name, _) in notable(request).filter(|(name, _)| !shared.contains(name)) {
            note(notes, FidelityNote::new(name));
        }
        own.to_mut().extra.retain(|name, _| shared.contains(&name));
    }
    if request.tools.iter().any(|tool| !tool.extra.is_empty()) {
        own.to_mut().tools.iter_mut().for_each(|tool| leave(&mut tool.extra, "tools", notes));
    }
    let foreign = |message: &Message| !message.extra.is_empty() || message.parts.iter().any(has_extra);
    if request.messages.iter().any(foreign) {
        for message in &mut own.to_mut().messages {
            leave(&mut message.extra, "messages", notes);
            message.parts.iter_mut().for_each(|part| leave_part(part, notes));
        }
    }
    own
}

fn has_extra(part: &Part) -> bool {
    !part.extra.is_empty()
        || match &part.kind {
            PartKind::ToolCall(call) => !call.extra.is_empty(),
            PartKind::ToolResult(result) => result.content.iter().any(has_extra),
            _ => false,
        }
}

fn leave_part(part: &mut Part, notes: &mut Vec<FidelityNote>) {
    leave(&mut part.extra, "messages.content", notes);
    match &mut part.kind {
        PartKind::ToolCall(call) => leave(&mut call.extra, "messages.tool_calls", notes),
        PartKind::ToolResult(result) => result.content.iter_mut().for_each(|part| leave_part(part, notes)),
        _ => {}
    }
}

fn leave(extra: &mut Extra, place: &str, notes: &mut Vec<FidelityNote>) {
    for (name, _) in std::mem::take(extra).iter() {
        note(notes, FidelityNote::new(format!("{place}.{name}")));
    }
}

/// What a text holds, or the JSON itself: tools' arguments are a string of JSON, and some send the JSON.
pub(super) fn text_or_json(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}
