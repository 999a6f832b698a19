//! Writing a stream for a client.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::dialect::EncodeStream;
use crate::dialect::openai::chunks::{Envelope, write_problem};
use crate::dialect::openai::write_event;
use crate::error::Problem;
use crate::json::{Extra, RawJson};
use crate::stream::StreamEvent;

pub(super) struct Encoder {
    envelope: Envelope,
    include_usage: bool,
    /// Choices whose role has been told.
    opened: Vec<u32>,
}

impl Encoder {
    pub(super) fn new(include_usage: bool) -> Self {
        Self { envelope: Envelope::default(), include_usage, opened: Vec::new() }
    }

    fn chunk(&mut self, choice: u32, delta: Delta<'_>, out: &mut Vec<u8>) {
        let role = !self.opened.contains(&choice);
        if role {
            self.opened.push(choice);
        }
        let body = ChunkBody { envelope: &self.envelope, choice: ChoiceBody { choice, role, delta } };
        write_event(&body, out);
    }
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        if self.envelope.take(event) {
            if matches!(event, StreamEvent::Start { .. }) {
                self.chunk(0, Delta::Opening, out);
            }
            return;
        }
        match event {
            StreamEvent::Text { choice, delta } => self.chunk(*choice, Delta::Field("content", delta), out),
            StreamEvent::Reasoning { choice, delta } => {
                self.chunk(*choice, Delta::Field("reasoning_content", delta), out);
            }
            StreamEvent::Refusal { choice, delta } => {
                self.chunk(*choice, Delta::Field("refusal", delta), out)
            }
            StreamEvent::ToolCallStart { choice, call, id, name } => {
                self.chunk(*choice, Delta::CallStart { call: *call, id, name }, out);
            }
            StreamEvent::ToolCallDelta { choice, call, arguments } => {
                self.chunk(*choice, Delta::CallMore { call: *call, arguments }, out);
            }
            StreamEvent::Logprobs { choice, json } => self.chunk(*choice, Delta::Logprobs(json), out),
            StreamEvent::Finish { choice, reason } => {
                self.chunk(*choice, Delta::Finish(reason.as_str()), out)
            }
            StreamEvent::Extra { choice: Some(choice), fields } => {
                self.chunk(*choice, Delta::Extra(fields), out)
            }
            StreamEvent::Start { .. } | StreamEvent::Usage(_) | StreamEvent::Extra { choice: None, .. } => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.envelope.finish(OBJECT, self.include_usage, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        write_problem(problem, out);
    }
}

const OBJECT: &str = "chat.completion.chunk";

struct ChunkBody<'a> {
    envelope: &'a Envelope,
    choice: ChoiceBody<'a>,
}

struct ChoiceBody<'a> {
    choice: u32,
    role: bool,
    delta: Delta<'a>,
}

enum Delta<'a> {
    Opening,
    Field(&'static str, &'a str),
    CallStart { call: u32, id: &'a str, name: &'a str },
    CallMore { call: u32, arguments: &'a str },
    Logprobs(&'a RawJson),
    Finish(&'a str),
    Extra(&'a Extra),
}

struct DeltaBody<'a>(&'a ChoiceBody<'a>);

impl Serialize for ChunkBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.envelope.write(OBJECT, &mut map)?;
        map.serialize_entry("choices", &[&self.choice])?;
        map.end()
    }
}

impl Serialize for ChoiceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &self.choice)?;
        map.serialize_entry("delta", &DeltaBody(self))?;
        if let Delta::Logprobs(json) = self.delta {
            map.serialize_entry("logprobs", json)?;
        }
        let reason = if let Delta::Finish(reason) = self.delta { Some(reason) } else { None };
        map.serialize_entry("finish_reason", &reason)?;
        map.end()
    }
}

impl Serialize for DeltaBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Call<'a> {
            index: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            r#type: Option<&'static str>,
            function: Function<'a>,
        }
        #[derive(Serialize)]
        struct Function<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a str>,
            arguments: &'a str,
        }
        let mut map = serializer.serialize_map(None)?;
        if self.0.role {
            map.serialize_entry("role", "assistant")?;
        }
        match self.0.delta {
            Delta::Opening => map.serialize_entry("content", "")?,
            Delta::Field(name, text) => map.serialize_entry(name, text)?,
            Delta::CallStart { call, id, name } => {
                let function = Function { name: Some(name), arguments: "" };
                let call = Call { index: call, id: Some(id), r#type: Some("function"), function };
                map.serialize_entry("tool_calls", &[call])?;
            }
            Delta::CallMore { call, arguments } => {
                let call = Call {
                    index: call,
                    id: None,
                    r#type: None,
                    function: Function { name: None, arguments },
                };
                map.serialize_entry("tool_calls", &[call])?;
            }
            Delta::Extra(fields) => fields.write(&mut map)?,
            Delta::Logprobs(_) | Delta::Finish(_) => {}
        }
        map.end()
    }
}
