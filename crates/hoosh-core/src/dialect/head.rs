//! The few fields of a request that choosing and booking need, read in one pass over the bytes, and the splice that
//! changes them without touching the rest.
//!
//! The types of these fields are checked here, because a body that is passed through is read by nobody else.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Dialect, Quirks};
use crate::error::InvalidRequest;
use crate::limits::MODEL_NAME_BYTES_MAX;

/// What is read of every request, whoever answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The model as the caller names it.
    pub model: String,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Whether usage is asked for at the end of the stream.
    pub include_usage: bool,
    /// The most tokens to generate, if the caller says.
    pub max_tokens: Option<u64>,
    /// Whether embeddings are wanted as base64.
    pub base64: bool,
    /// Whether a stream is wanted as one JSON list instead of events, see [`RequestLine`].
    pub json_list: bool,
    /// `None` where the model is not in the body.
    model_at: Option<Range<usize>>,
    stream_options_at: Option<Range<usize>>,
    /// Set where only the older of the two names for it is used.
    max_tokens_at: Option<Range<usize>>,
}

/// What the URL of a request says beside its dialect, where a dialect puts that there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestLine {
    /// The model; `None`: it is in the body.
    pub model: Option<String>,
    /// Whether a stream is asked for; `None`: the body says.
    pub stream: Option<bool>,
    /// Whether the stream is wanted as one JSON list, as Gemini streams without `alt=sse`.
    pub json_list: bool,
}

/// What must be changed of a body that is passed through.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The provider's name for the model.
    pub model: &'a str,
    /// Whether usage is wanted at the end of the stream, which the books need.
    pub ask_usage: bool,
    /// How the provider departs from the dialect.
    pub quirks: Quirks,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_tokens: Option<&'a RawValue>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
    #[serde(borrow, default)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "generation_config", rename = "generationConfig")]
    generation_config: Option<&'a RawValue>,
    #[serde(borrow, default)]
    options: Option<&'a RawValue>,
    #[serde(default)]
    contents: Option<IgnoredAny>,
    #[serde(borrow, default, rename = "user")]
    _user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    encoding_format: Option<Cow<'a, str>>,
    #[serde(default, rename = "tools")]
    _tools: Option<List>,
    #[serde(default)]
    messages: Option<Messages>,
    #[serde(default)]
    input: Option<IgnoredAny>,
    #[serde(default, rename = "temperature")]
    _temperature: Option<f64>,
    #[serde(default, rename = "top_p")]
    _top_p: Option<f64>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// Any list.
struct List;

/// How many messages there are, each checked to be an object with a role and a possible content.
struct Messages(usize);

#[derive(Deserialize)]
struct MessageHead<'a> {
    #[serde(borrow, rename = "role")]
    _role: Cow<'a, str>,
    #[serde(default, rename = "content")]
    _content: Option<Content>,
}

struct Content;

// === impl Head ===

impl Head {
    /// Reads the head of a request in `dialect` that has everything in its body.
    ///
    /// # Errors
    ///
    /// As [`read_with`](Self::read_with).
    pub fn read(dialect: Dialect, body: &[u8]) -> Result<Self, InvalidRequest> {
        Self::read_with(dialect, RequestLine::default(), body)
    }

    /// Reads the head of a request in `dialect`, with what its URL says.
    ///
    /// # Errors
    ///
    /// If the body is empty, not UTF-8, not JSON, not an object, lacks what every request needs, or has a field of the
    /// wrong type; the field's path is in the error.
    pub fn read_with(dialect: Dialect, line: RequestLine, body: &[u8]) -> Result<Self, InvalidRequest> {
        if body.is_empty() {
            return Err(InvalidRequest::new("", "the body is empty; send a JSON object"));
        }
        let text = std::str::from_utf8(body).map_err(|error| {
            InvalidRequest::new(
                "",
                format!("the body is not UTF-8 (first wrong byte at {})", error.valid_up_to()),
            )
        })?;
        // serde would take a list for the fields in their order.
        if !text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok() {
            return Err(InvalidRequest::new("", "expected a JSON object"));
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|_| explain(text))?;

        let model_raw = fields.model.filter(|_| line.model.is_none());
        let model = match (&line.model, model_raw) {
            (Some(model), _) => Cow::Borrowed(model.as_str()),
            (None, Some(raw)) => serde_json::from_str::<Cow<'_, str>>(raw.get())
                .map_err(|_| InvalidRequest::new("model", "expected a string"))?,
            // The only dialect where the vendor picks one.
            (None, None) if dialect == Dialect::Moderations => Cow::Borrowed(DEFAULT_MODERATION_MODEL),
            (None, None) => return Err(InvalidRequest::new("model", "is missing")),
        };
        check_model_name(&model)?;
        check_needed(dialect, &fields)?;
        let base64 = match fields.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) if dialect != Dialect::OpenAiEmbeddings => false,
            Some(_) => return Err(InvalidRequest::new("encoding_format", "expected `float` or `base64`")),
        };
        let include_usage = match fields.stream_options {
            None => false,
            Some(raw) if raw.get() == "null" => false,
            Some(raw) => {
                let options: StreamOptions = serde_json::from_str(raw.get())
                    .map_err(|error| InvalidRequest::new("stream_options", crate::json::problem(&error)))?;
                options.include_usage.unwrap_or(false)
            }
        };
        let max_tokens = fields.max_tokens.map(|raw| {
            serde_json::from_str::<i64>(raw.get())
                .map_err(|error| InvalidRequest::new("max_tokens", crate::json::problem(&error)))
        });
        let max_tokens = match dialect {
            Dialect::OpenAiResponses => number("max_output_tokens", fields.max_output_tokens)?,
            Dialect::Gemini => max_in(fields.generation_config),
            Dialect::OllamaChat | Dialect::OllamaGenerate => max_in(fields.options),
            // Servers know one of the two words or both: what may be written at most is the larger.
            Dialect::OpenAiChat => fields.max_completion_tokens.max(max_tokens.transpose()?),
            _ => max_tokens.transpose()?,
        };
        let only_older = fields
            .max_tokens
            // Legacy completions never learned the newer word.
            .filter(|_| dialect == Dialect::OpenAiChat && fields.max_completion_tokens.is_none());
        let has_stream_options = matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiCompletions);
        Ok(Self {
            max_tokens_at: only_older.map(|raw| span(text, raw.get())),
            stream: line.stream.or(fields.stream).unwrap_or(streams_by_default(dialect)),
            include_usage,
            // Negative is llama.cpp's word for "no limit".
            max_tokens: max_tokens.and_then(|most| most.try_into().ok()),
            base64,
            json_list: line.json_list,
            model_at: model_raw.map(|raw| span(text, raw.get())),
            // Elsewhere the name means nothing to us, and quirks are of this dialect.
            stream_options_at: fields
                .stream_options
                .filter(|_| has_stream_options)
                .map(|raw| span(text, raw.get())),
            model: model.into_owned(),
        })
    }

    /// The body with these changes; every other byte is as it was. `body` must be the one that this head was read from.
    pub fn splice(&self, body: &Bytes, changes: &Changes<'_>) -> Bytes {
        let mut edits: Vec<(Range<usize>, Cow<'_, str>)> = Vec::with_capacity(3);
        if let Some(at) = self.model_at.as_ref().filter(|_| changes.model != self.model) {
            let name = serde_json::to_string(changes.model).unwrap_or_default();
            edits.push((at.clone(), Cow::Owned(name)));
        }
        match &self.stream_options_at {
            Some(at) if changes.quirks.no_stream_options => {
                edits.extend(field_at(body, at, "stream_options").map(|field| (field, Cow::Borrowed(""))));
            }
            Some(at) if changes.ask_usage && !self.include_usage => edits.push(usage_asked(body, at)),
            // The object has at least the model in it, so a comma is right.
            None if changes.ask_usage => {
                let end = body.iter().rposition(|byte| *byte == b'}').unwrap_or(body.len());
                edits.push((end..end, Cow::Borrowed(r#","stream_options":{"include_usage":true}"#)));
            }
            Some(_) | None => {}
        }
        if changes.quirks.max_completion_tokens
            && let Some(key) =
                self.max_tokens_at.as_ref().and_then(|at| key_before(body, at.start, "max_tokens"))
        {
            edits.push((key, Cow::Borrowed(r#""max_completion_tokens""#)));
        }
        if edits.is_empty() {
            return body.clone();
        }
        edits.sort_by_key(|(at, _)| at.start);
        let mut spliced = Vec::with_capacity(body.len() + 64 + changes.model.len());
        let mut from = 0;
        for (at, text) in edits {
            spliced.extend_from_slice(&body[from..at.start]);
            spliced.extend_from_slice(text.as_bytes());
            from = at.end;
        }
        spliced.extend_from_slice(&body[from..]);
        spliced.into()
    }
}

/// A body whose answer may have no more than `most` tokens for each of its choices, every other byte as it was; what says less stays.
/// `None`: the dialect says it in a place where other fields go by it (Gemini, Ollama, Anthropic with its thinking), so that
/// the request has to be read and written.
pub fn limit_answer(dialect: Dialect, body: &Bytes, most: u64, quirks: Quirks) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Most<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        max_tokens: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        max_completion_tokens: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        max_output_tokens: Option<&'a RawValue>,
    }
    let text = std::str::from_utf8(body).ok()?;
    let said: Most<'_> = serde_json::from_str(text).ok()?;
    let (name, values) = match dialect {
        // Servers know one of the two words or both.
        Dialect::OpenAiChat if quirks.max_completion_tokens => {
            ("max_completion_tokens", [said.max_completion_tokens, said.max_tokens])
        }
        Dialect::OpenAiChat => ("max_tokens", [said.max_tokens, said.max_completion_tokens]),
        Dialect::OpenAiCompletions => ("max_tokens", [said.max_tokens, None]),
        Dialect::OpenAiResponses => ("max_output_tokens", [said.max_output_tokens, None]),
        _ => return None,
    };
    let is_more = |raw: &&RawValue| raw.get().parse::<u64>().ok().is_none_or(|asked| asked > most);
    let mut edits: Vec<(Range<usize>, String)> = values
        .iter()
        .flatten()
        .filter(|raw| is_more(raw))
        .map(|raw| (span(text, raw.get()), most.to_string()))
        .collect();
    if values.iter().all(Option::is_none) {
        // The object has at least the model in it, so a comma is right.
        let end = body.iter().rposition(|byte| *byte == b'}')?;
        edits.push((end..end, format!(r#","{name}":{most}"#)));
    }
    edits.sort_by_key(|(at, _)| at.start);
    let mut limited = Vec::with_capacity(body.len() + 32);
    let mut from = 0;
    for (at, text) in edits {
        limited.extend_from_slice(&body[from..at.start]);
        limited.extend_from_slice(text.as_bytes());
        from = at.end;
    }
    limited.extend_from_slice(&body[from..]);
    Some(limited.into())
}

/// Whether [`limit_answer`] can do that in a dialect.
pub fn limits_in_place(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiCompletions | Dialect::OpenAiResponses)
}

/// The model for a moderation that names none, OpenAI's own default
/// (platform.openai.com/docs/api-reference/moderations/create, read 2026-11-24).
const DEFAULT_MODERATION_MODEL: &str = "omni-moderation-latest";

/// Ollama streams unless it is told not to.
fn streams_by_default(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::OllamaChat | Dialect::OllamaGenerate)
}

/// What a request of a dialect cannot be without.
fn check_needed(dialect: Dialect, fields: &Fields<'_>) -> Result<(), InvalidRequest> {
    let missing = |name| Err(InvalidRequest::new(name, "is missing"));
    match dialect {
        Dialect::OpenAiChat | Dialect::Anthropic => match fields.messages {
            None => missing("messages"),
            Some(Messages(0)) => Err(InvalidRequest::new("messages", "is empty; send at least one message")),
            Some(_) => Ok(()),
        },
        Dialect::Gemini if fields.contents.is_none() => missing("contents"),
        Dialect::OpenAiEmbeddings | Dialect::OllamaEmbed | Dialect::Moderations if fields.input.is_none() => {
            missing("input")
        }
        _ => Ok(()),
    }
}

fn number(name: &str, raw: Option<&RawValue>) -> Result<Option<i64>, InvalidRequest> {
    let read = |raw: &RawValue| {
        serde_json::from_str(raw.get())
            .map_err(|error| InvalidRequest::new(name, crate::json::problem(&error)))
    };
    Ok(raw.map(read).transpose()?.flatten())
}

/// The most tokens in the object where Gemini and Ollama have it. One that cannot be read is the decoder's to say, or
/// the provider's.
fn max_in(raw: Option<&RawValue>) -> Option<i64> {
    #[derive(Deserialize)]
    struct Most {
        #[serde(default, alias = "max_output_tokens", alias = "num_predict", rename = "maxOutputTokens")]
        most: Option<i64>,
    }
    serde_json::from_str::<Most>(raw?.get()).ok()?.most
}

/// Model names go into logs, headers and upstream bodies, so they are plain from here on.
fn check_model_name(model: &str) -> Result<(), InvalidRequest> {
    let problem = if model.is_empty() {
        "is empty; name a model".to_owned()
    } else if model.len() > MODEL_NAME_BYTES_MAX {
        format!("is longer than {MODEL_NAME_BYTES_MAX} bytes")
    } else if model.chars().any(char::is_control) {
        "holds control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(InvalidRequest::new("model", problem))
}

/// The edit that turns usage on in the `stream_options` at `at`, which may be `null`.
fn usage_asked<'a>(body: &[u8], at: &Range<usize>) -> (Range<usize>, Cow<'a, str>) {
    #[derive(Deserialize)]
    struct Options<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        include_usage: Option<&'a RawValue>,
    }
    let text = std::str::from_utf8(&body[at.clone()]).unwrap_or_default();
    match serde_json::from_str::<Options<'_>>(text) {
        Ok(Options { include_usage: Some(value) }) => {
            let value = span(text, value.get());
            (at.start + value.start..at.start + value.end, Cow::Borrowed("true"))
        }
        Ok(Options { include_usage: None }) => {
            let empty = text[1..].trim_start().starts_with('}');
            let asked = if empty { r#""include_usage":true"# } else { r#""include_usage":true,"# };
            (at.start + 1..at.start + 1, Cow::Borrowed(asked))
        }
        // `null`: the head was read before, so it is nothing else.
        Err(_) => (at.clone(), Cow::Borrowed(r#"{"include_usage":true}"#)),
    }
}

/// Where the key `name`, quotes included, stands before the value that begins at `value`; `None` if it is written with
/// escapes, which nobody does.
fn key_before(body: &[u8], value: usize, name: &str) -> Option<Range<usize>> {
    let before = body[..value].trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let start = before.strip_suffix(b"\"")?.strip_suffix(name.as_bytes())?.strip_suffix(b"\"")?.len();
    Some(start..before.len())
}

/// Where the field `name` with the value at `value` stands, with the comma that goes with it.
fn field_at(body: &[u8], value: &Range<usize>, name: &str) -> Option<Range<usize>> {
    let key = key_before(body, value.start, name)?;
    let behind = &body[value.end..];
    if let Some(rest) = behind.trim_ascii_start().strip_prefix(b",") {
        return Some(key.start..body.len() - rest.len());
    }
    let before = body[..key.start].trim_ascii_end().strip_suffix(b",")?;
    Some(before.len()..value.end)
}

/// A field as it is, `null` too, which serde would take for an absent one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Where `part`, a slice of `text`, lies in it.
fn span(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

/// Reads the body again, slowly, to say where it is wrong.
fn explain(text: &str) -> InvalidRequest {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let error = match serde_path_to_error::deserialize::<_, Fields<'_>>(&mut deserializer) {
        Err(error) => error,
        // The fast reading failed only on what follows the object.
        Ok(_) => return InvalidRequest::new("", "not valid JSON: something follows the object"),
    };
    let inner = error.inner();
    if inner.is_data() {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        return InvalidRequest::new(path, inner.to_string());
    }
    InvalidRequest::new("", format!("not valid JSON: {inner}"))
}

// === impl Deserialize for the checks ===

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = List;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List)
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MessagesVisitor;
        impl<'de> Visitor<'de> for MessagesVisitor {
            type Value = Messages;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of messages")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Messages, A::Error> {
                let mut count = 0;
                while seq.next_element::<MessageHead<'de>>()?.is_some() {
                    count += 1;
                }
                Ok(Messages(count))
            }
        }
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Content, E> {
                Ok(Content)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Content)
            }
            // Some servers take one part without the list.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Content)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<Head, InvalidRequest> {
        Head::read(Dialect::OpenAiChat, body.as_bytes())
    }

    #[track_caller]
    fn check_error(body: &str, expected: &str) {
        assert_eq!(chat(body).unwrap_err().to_string(), expected);
    }

    #[test]
    fn each_dialect_has_its_own_places() {
        let line = || RequestLine { model: Some("gemini-x".into()), stream: Some(true), json_list: true };
        let body = br#"{"contents":[],"generationConfig":{"maxOutputTokens":7},"model":"other"}"#;
        let head = Head::read_with(Dialect::Gemini, line(), body).unwrap();
        assert_eq!((head.model.as_str(), head.stream, head.max_tokens), ("gemini-x", true, Some(7)));
        let changes = Changes { model: "real", ask_usage: false, quirks: Quirks::NONE };
        let body = Bytes::from_static(body);
        assert_eq!(head.splice(&body, &changes), body, "the model is in the URL");
        assert!(Head::read_with(Dialect::Gemini, line(), b"{}").is_err());

        let body = br#"{"model":"m","messages":[],"options":{"num_predict":-1}}"#;
        let head = Head::read(Dialect::OllamaChat, body).unwrap();
        assert_eq!((head.stream, head.max_tokens), (true, None));
        let head =
            Head::read(Dialect::OllamaChat, br#"{"model":"m","stream":false,"options":{"num_predict":5}}"#);
        assert_eq!(head.map(|head| (head.stream, head.max_tokens)), Ok((false, Some(5))));

        let head =
            Head::read(Dialect::OpenAiResponses, br#"{"model":"m","input":"x","max_output_tokens":9}"#);
        assert_eq!(head.unwrap().max_tokens, Some(9));
        let head = Head::read(Dialect::Moderations, br#"{"input":"x"}"#).unwrap();
        assert_eq!(head.model, DEFAULT_MODERATION_MODEL);
    }

    #[test]
    fn wrong_bodies_say_what_and_where() {
        check_error("", "the body is empty; send a JSON object");
        check_error("{", "not valid JSON: EOF while parsing an object at line 1 column 1");
        check_error("[]", "expected a JSON object");
        check_error("{}", "`model`: is missing");
        check_error(r#"{"model":"m"}"#, "`messages`: is missing");
        check_error(r#"{"model":"m","messages":[]}"#, "`messages`: is empty; send at least one message");
        check_error(r#"{"model":7,"messages":[]}"#, "`model`: expected a string");
        check_error(r#"{"model":"","messages":[]}"#, "`model`: is empty; name a model");
        check_error(
            r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":5}]}"#,
            "`messages[1].role`: invalid type: integer `5`, expected a string at line 1 column 64",
        );
        check_error(
            r#"{"model":"m","messages":[{"role":"user","content":5}]}"#,
            "`messages[0].content`: invalid type: integer `5`, expected a string or a list of parts at line 1 column 51",
        );
        check_error(
            r#"{"model":"m","messages":"hi"}"#,
            "`messages`: invalid type: string \"hi\", expected a list of messages at line 1 column 28",
        );
        check_error(
            r#"{"model":"m","model":"n","messages":[]}"#,
            "duplicate field `model` at line 1 column 20",
        );
        assert_eq!(
            Head::read(Dialect::OpenAiChat, b"{\"model\":\"\xff\"}").unwrap_err().to_string(),
            "the body is not UTF-8 (first wrong byte at 10)",
        );
    }

    #[test]
    fn only_the_model_is_spliced() {
        let body = Bytes::from_static(
            br#"{ "big":12345678901234567890123, "model" : "a\u0062", "messages":[{"role":"user"}], "x":0.10 }"#,
        );
        let head = Head::read(Dialect::OpenAiChat, &body).unwrap();
        assert_eq!(head.model, "ab");
        assert_eq!(splice(&head, &body, "ab", Quirks::NONE), body);
        assert_eq!(
            splice(&head, &body, "c\"d", Quirks::NONE),
            br#"{ "big":12345678901234567890123, "model" : "c\"d", "messages":[{"role":"user"}], "x":0.10 }"#
                .as_slice(),
        );
    }

    #[test]
    fn usage_is_asked_for_where_it_was_not() {
        let ask = |body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            let head = Head::read(Dialect::OpenAiCompletions, &body).unwrap();
            let changes = Changes { model: "n", ask_usage: true, quirks: Quirks::NONE };
            String::from_utf8(head.splice(&body, &changes).to_vec()).unwrap()
        };
        assert_eq!(
            ask("{\"model\":\"m\"}\n"),
            "{\"model\":\"n\",\"stream_options\":{\"include_usage\":true}}\n"
        );
        assert_eq!(
            ask(r#"{"stream_options":{"x":1.50,"include_usage" : false},"model":"m"}"#),
            r#"{"stream_options":{"x":1.50,"include_usage" : true},"model":"n"}"#
        );
        assert_eq!(
            ask(r#"{"stream_options":{"include_usage":true},"model":"m"}"#),
            r#"{"stream_options":{"include_usage":true},"model":"n"}"#
        );
    }

    #[test]
    fn usage_is_asked_for_in_odd_options_too() {
        for (options, asked) in [
            ("null", r#"{"include_usage":true}"#),
            ("{ }", r#"{"include_usage":true }"#),
            (r#"{"z":12345678901234567890123}"#, r#"{"include_usage":true,"z":12345678901234567890123}"#),
            (r#"{"include_usage":null}"#, r#"{"include_usage":true}"#),
        ] {
            let body = Bytes::from(format!(r#"{{"stream_options":{options},"model":"m"}}"#));
            let head = Head::read(Dialect::OpenAiCompletions, &body).unwrap();
            let changes = Changes { model: "m", ask_usage: true, quirks: Quirks::NONE };
            let expected = format!(r#"{{"stream_options":{asked},"model":"m"}}"#);
            assert_eq!(head.splice(&body, &changes), expected.as_bytes());
        }
    }

    #[test]
    fn fields_that_a_provider_has_another_word_or_none_for() {
        let quirks = Quirks { max_completion_tokens: true, no_stream_options: true, ..Quirks::NONE };
        let messages = r#""messages":[{"role":"user"}]"#;
        for (fields, expected) in [
            (r#", "max_tokens" : 5,"x":1.0"#, r#", "max_completion_tokens" : 5,"x":1.0"#),
            (r#","max_completion_tokens":7,"max_tokens":5"#, r#","max_completion_tokens":7,"max_tokens":5"#),
            (r#","stream_options":{"include_usage":true} , "x":1"#, r#", "x":1"#),
            (r#", "stream_options":null "#, " "),
        ] {
            let body = Bytes::from(format!(r#"{{"model":"m",{messages}{fields}}}"#));
            let head = Head::read(Dialect::OpenAiChat, &body).unwrap();
            let expected = format!(r#"{{"model":"m",{messages}{expected}}}"#);
            assert_eq!(String::from_utf8(splice(&head, &body, "m", quirks).to_vec()).unwrap(), expected);
        }
        let body = Bytes::from_static(br#"{"model":"m","max_tokens":5}"#);
        let head = Head::read(Dialect::OpenAiCompletions, &body).unwrap();
        assert_eq!(splice(&head, &body, "m", quirks), body);
    }

    fn splice(head: &Head, body: &Bytes, model: &str, quirks: Quirks) -> Bytes {
        head.splice(body, &Changes { model, ask_usage: false, quirks })
    }

    #[test]
    fn llama_cpps_no_limit_is_no_limit() {
        let head = Head::read(Dialect::OpenAiCompletions, br#"{"model":"m","max_tokens":-1}"#).unwrap();
        assert_eq!(head.max_tokens, None);
    }

    #[test]
    fn an_answer_is_limited_in_place() {
        let check = |dialect, body: &'static str, newer: bool, expect: Option<&str>| {
            let quirks = Quirks { max_completion_tokens: newer, ..Quirks::NONE };
            let limited = limit_answer(dialect, &Bytes::from_static(body.as_bytes()), 9, quirks);
            assert_eq!(limited.as_deref(), expect.map(str::as_bytes), "{body}");
            assert_eq!(limits_in_place(dialect), expect.is_some(), "{dialect}");
        };
        let (chat, completions) = (Dialect::OpenAiChat, Dialect::OpenAiCompletions);
        check(chat, r#"{"model":"m" }"#, false, Some(r#"{"model":"m" ,"max_tokens":9}"#));
        check(chat, r#"{"model":"m"}"#, true, Some(r#"{"model":"m","max_completion_tokens":9}"#));
        check(chat, r#"{"max_tokens":10, "model":"m"}"#, false, Some(r#"{"max_tokens":9, "model":"m"}"#));
        check(chat, r#"{"max_tokens":8,"model":"m"}"#, false, Some(r#"{"max_tokens":8,"model":"m"}"#));
        check(chat, r#"{"max_tokens":null,"model":"m"}"#, false, Some(r#"{"max_tokens":9,"model":"m"}"#));
        check(
            chat,
            r#"{"max_completion_tokens":1,"max_tokens":5000,"model":"m"}"#,
            false,
            Some(r#"{"max_completion_tokens":1,"max_tokens":9,"model":"m"}"#),
        );
        check(
            completions,
            r#"{"prompt":["a","b"],"max_tokens":-1}"#,
            false,
            Some(r#"{"prompt":["a","b"],"max_tokens":9}"#),
        );
        check(
            Dialect::OpenAiResponses,
            r#"{"input":"a"}"#,
            false,
            Some(r#"{"input":"a","max_output_tokens":9}"#),
        );
        check(Dialect::Gemini, r#"{"contents":[]}"#, false, None);
    }
}
