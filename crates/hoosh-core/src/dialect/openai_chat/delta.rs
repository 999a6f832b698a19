//! The chunks of a stream, as they are written.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::citations::CitationBody;
use super::content::PartBody;
use super::message::Style;
use super::reasoning::{DetailBody, ExtraContent};
use crate::dialect::openai::chunks::Envelope;
use crate::json::{Extra, RawJson};
use crate::request::{Citation, Part};

pub(super) const OBJECT: &str = "chat.completion.chunk";

pub(super) struct ChunkBody<'a> {
    pub(super) envelope: &'a Envelope,
    pub(super) choice: u32,
    /// Whether the role is told, as it is once.
    pub(super) role: bool,
    pub(super) delta: &'a Delta<'a>,
}

/// What a chunk says.
pub(super) enum Delta<'a> {
    Opening,
    Field(&'static str, &'a str),
    Detail(DetailBody<'a>),
    RawDetail(&'a RawJson),
    /// The signature of the text before, in Google's form.
    Signed(&'a str),
    CallStart {
        call: u32,
        id: &'a str,
        name: &'a str,
        is_freeform: bool,
    },
    CallMore {
        call: u32,
        arguments: &'a str,
    },
    CallText {
        call: u32,
        input: &'a str,
    },
    CallSigned {
        call: u32,
        signature: &'a str,
    },
    Image(&'a Part, Style<'a>),
    Content(&'a Part, Style<'a>),
    Citation(&'a Citation),
    Logprobs(&'a RawJson),
    Finish(&'a str),
    Extra(&'a Extra),
}

struct ChoiceBody<'a>(&'a ChunkBody<'a>);

struct DeltaBody<'a>(&'a ChunkBody<'a>);

impl Serialize for ChunkBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.envelope.write(OBJECT, &mut map)?;
        map.serialize_entry("choices", &[ChoiceBody(self)])?;
        map.end()
    }
}

impl Serialize for ChoiceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let chunk = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &chunk.choice)?;
        map.serialize_entry("delta", &DeltaBody(chunk))?;
        if let Delta::Logprobs(json) = chunk.delta {
            map.serialize_entry("logprobs", json)?;
        }
        let reason = if let Delta::Finish(reason) = chunk.delta { Some(reason) } else { None };
        map.serialize_entry("finish_reason", &reason)?;
        map.end()
    }
}

/// One delta of a tool call.
#[derive(Default, Serialize)]
struct Call<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Custom<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    input: &'a str,
}

impl<'a> Call<'a> {
    /// The call that a delta is of, if it is of one.
    fn of(delta: &Delta<'a>) -> Option<Self> {
        Some(match *delta {
            Delta::CallStart { call: index, id, name, is_freeform: true } => Self {
                index,
                id: Some(id),
                r#type: Some("custom"),
                custom: Some(Custom { name: Some(name), input: "" }),
                ..Self::default()
            },
            Delta::CallStart { call: index, id, name, .. } => Self {
                index,
                id: Some(id),
                r#type: Some("function"),
                function: Some(Function { name: Some(name), arguments: "" }),
                ..Self::default()
            },
            Delta::CallMore { call: index, arguments } => {
                Self { index, function: Some(Function { name: None, arguments }), ..Self::default() }
            }
            Delta::CallText { call: index, input } => {
                Self { index, custom: Some(Custom { name: None, input }), ..Self::default() }
            }
            // Some clients want a function in every delta of a call.
            Delta::CallSigned { call: index, signature } => Self {
                index,
                function: Some(Function { name: None, arguments: "" }),
                extra_content: Some(ExtraContent::new(signature)),
                ..Self::default()
            },
            _ => return None,
        })
    }
}

impl Serialize for DeltaBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.0.role {
            map.serialize_entry("role", "assistant")?;
        }
        match self.0.delta {
            Delta::Opening => map.serialize_entry("content", "")?,
            Delta::Field(name, text) => map.serialize_entry(name, text)?,
            Delta::Detail(detail) => map.serialize_entry("reasoning_details", &[detail])?,
            Delta::RawDetail(json) => map.serialize_entry("reasoning_details", &[json])?,
            Delta::Signed(signature) => {
                map.serialize_entry("extra_content", &ExtraContent::new(signature))?;
            }
            Delta::Image(part, style) => {
                map.serialize_entry("images", &[PartBody { part, style: *style }])?;
            }
            Delta::Content(part, style) => {
                map.serialize_entry("content", &[PartBody { part, style: *style }])?;
            }
            Delta::Citation(citation) => map.serialize_entry("annotations", &[CitationBody(citation)])?,
            Delta::Extra(fields) => fields.write(&mut map)?,
            delta @ (Delta::CallStart { .. }
            | Delta::CallMore { .. }
            | Delta::CallText { .. }
            | Delta::CallSigned { .. }) => map.serialize_entry("tool_calls", &Call::of(delta).as_slice())?,
            Delta::Logprobs(_) | Delta::Finish(_) => {}
        }
        map.end()
    }
}
