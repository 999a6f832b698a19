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

use super::Dialect;
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
    /// Whether the model may call tools.
    pub has_tools: bool,
    /// The end user.
    pub user: Option<String>,
    /// Whether embeddings are wanted as base64.
    pub base64: bool,
    model_at: Range<usize>,
    stream_options_at: Option<Range<usize>>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default)]
    stream_options: Option<&'a RawValue>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    encoding_format: Option<Cow<'a, str>>,
    #[serde(default)]
    tools: Option<Length>,
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

/// How many elements a list has.
struct Length(usize);

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
    /// Reads the head of a request in `dialect`.
    ///
    /// # Errors
    ///
    /// If the body is empty, not UTF-8, not JSON, not an object, lacks what every request needs, or has a field of the
    /// wrong type; the field's path is in the error.
    pub fn read(dialect: Dialect, body: &[u8]) -> Result<Self, InvalidRequest> {
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

        let model_raw = fields.model.ok_or_else(|| InvalidRequest::new("model", "is missing"))?;
        let model = serde_json::from_str::<Cow<'_, str>>(model_raw.get())
            .map_err(|_| InvalidRequest::new("model", "expected a string"))?;
        check_model_name(&model)?;
        match dialect {
            Dialect::OpenAiChat => match fields.messages {
                None => return Err(InvalidRequest::new("messages", "is missing")),
                Some(Messages(0)) => {
                    return Err(InvalidRequest::new("messages", "is empty; send at least one message"));
                }
                Some(_) => {}
            },
            Dialect::OpenAiEmbeddings if fields.input.is_none() => {
                return Err(InvalidRequest::new("input", "is missing"));
            }
            Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings => {}
        }
        let base64 = match fields.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) if dialect != Dialect::OpenAiEmbeddings => false,
            Some(_) => return Err(InvalidRequest::new("encoding_format", "expected `float` or `base64`")),
        };
        let include_usage = match fields.stream_options {
            None => false,
            Some(raw) => {
                let options: StreamOptions = serde_json::from_str(raw.get())
                    .map_err(|error| InvalidRequest::new("stream_options", crate::json::problem(&error)))?;
                options.include_usage.unwrap_or(false)
            }
        };
        Ok(Self {
            stream: fields.stream.unwrap_or(false),
            include_usage,
            // Negative is llama.cpp's word for "no limit".
            max_tokens: fields
                .max_completion_tokens
                .or(fields.max_tokens)
                .and_then(|most| most.try_into().ok()),
            has_tools: fields.tools.is_some_and(|Length(count)| count > 0),
            user: fields.user.map(Cow::into_owned),
            base64,
            model_at: span(text, model_raw.get()),
            stream_options_at: fields.stream_options.map(|raw| span(text, raw.get())),
            model: model.into_owned(),
        })
    }

    /// The body with another model name and, if `ask_usage`, with usage asked for at the end of the stream; every other
    /// byte is as it was. `body` must be the one that this head was read from.
    pub fn splice(&self, body: &Bytes, model: &str, ask_usage: bool) -> Bytes {
        const ASK: &str = r#""stream_options":{"include_usage":true}"#;
        let mut edits: Vec<(Range<usize>, Cow<'_, str>)> = Vec::with_capacity(2);
        if model != self.model {
            let name = serde_json::to_string(model).unwrap_or_default();
            edits.push((self.model_at.clone(), Cow::Owned(name)));
        }
        if ask_usage && !self.include_usage {
            match &self.stream_options_at {
                Some(at) => edits.push((at.clone(), Cow::Owned(with_usage(&body[at.clone()])))),
                // The object has at least the model in it, so a comma is right.
                None => {
                    if let Some(end) = body.iter().rposition(|byte| *byte == b'}') {
                        edits.push((end..end, Cow::Owned(format!(",{ASK}"))));
                    }
                }
            }
        }
        if edits.is_empty() {
            return body.clone();
        }
        edits.sort_by_key(|(at, _)| at.start);
        let mut spliced = Vec::with_capacity(body.len() + 64 + model.len());
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

/// The `stream_options` object in `raw` with `include_usage` on.
fn with_usage(raw: &[u8]) -> String {
    let mut options: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(raw).unwrap_or_default();
    options.insert("include_usage".to_owned(), true.into());
    serde_json::Value::Object(options).to_string()
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

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LengthVisitor;
        impl<'de> Visitor<'de> for LengthVisitor {
            type Value = Length;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Length, A::Error> {
                let mut count = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Length(count))
            }
        }
        deserializer.deserialize_seq(LengthVisitor)
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
        assert_eq!(head.splice(&body, "ab", false), body);
        assert_eq!(
            head.splice(&body, "c\"d", false),
            br#"{ "big":12345678901234567890123, "model" : "c\"d", "messages":[{"role":"user"}], "x":0.10 }"#
                .as_slice(),
        );
    }

    #[test]
    fn usage_is_asked_for_where_it_was_not() {
        let ask = |body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            let head = Head::read(Dialect::OpenAiCompletions, &body).unwrap();
            String::from_utf8(head.splice(&body, "n", true).to_vec()).unwrap()
        };
        assert_eq!(
            ask("{\"model\":\"m\"}\n"),
            "{\"model\":\"n\",\"stream_options\":{\"include_usage\":true}}\n"
        );
        assert_eq!(
            ask(r#"{"stream_options":{"x":1,"include_usage":false},"model":"m"}"#),
            r#"{"stream_options":{"include_usage":true,"x":1},"model":"n"}"#
        );
        assert_eq!(
            ask(r#"{"stream_options":{"include_usage":true},"model":"m"}"#),
            r#"{"stream_options":{"include_usage":true},"model":"n"}"#
        );
    }

    #[test]
    fn llama_cpps_no_limit_is_no_limit() {
        let head = Head::read(Dialect::OpenAiCompletions, br#"{"model":"m","max_tokens":-1}"#).unwrap();
        assert_eq!(head.max_tokens, None);
    }
}
