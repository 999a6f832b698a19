//! The tool calls of a streamed answer.

use serde::de::IgnoredAny;

use super::decode::Last;
use super::freeform;
use super::reasoning::take_thought_signature;
use crate::dialect::wire::text_or_json;
use crate::json::{FieldError, Object};
use crate::limits;
use crate::request::Signature;
use crate::stream::StreamEvent;

/// The calls of one choice so far.
#[derive(Default)]
pub(super) struct Calls(Vec<Call>);

#[derive(Default)]
struct Call {
    /// The vendor's index of it.
    index: Option<u32>,
    /// Empty until the vendor says it, or the call is told without.
    id: String,
    name: String,
    arguments: String,
    /// Whether its beginning has been told, for which its name must be known.
    told: bool,
    /// Whether it takes free text, which is told as the one argument `input`.
    freeform: bool,
    signature: Option<Signature>,
}

/// What one delta says of a call.
struct More {
    index: Option<u32>,
    id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    freeform: bool,
    signature: Option<Signature>,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads one delta of a call.
    pub(super) fn read(
        &mut self,
        choice: u32,
        mut object: Object<'_>,
        last: &mut Last,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), FieldError> {
        let more = More::read(&mut object)?;
        let known = match more.index {
            Some(_) => self.0.iter().rposition(|call| call.index == more.index),
            None => self.0.len().checked_sub(1),
        };
        let at = match known.filter(|at| !self.0[*at].is_followed_by(&more)) {
            Some(at) => at,
            None if self.0.len() >= limits::TOOL_CALLS_MAX => {
                return Err(object.wrong("index", format!("is beyond {} tool calls", limits::TOOL_CALLS_MAX)));
            }
            None => {
                let (index, freeform) = (more.index, more.freeform);
                self.0.push(Call { index, freeform, ..Call::default() });
                self.0.len() - 1
            }
        };
        self.0[at].take(choice, at as u32, more, last, out);
        Ok(())
    }

    /// Ends the calls: free text has no end of its own.
    pub(super) fn finish(&mut self, choice: u32, out: &mut Vec<StreamEvent>) {
        for (call, _) in (0..).zip(&self.0).filter(|(_, call)| call.told && call.freeform) {
            let arguments = freeform::AROUND.1.to_owned();
            out.push(StreamEvent::ToolCallDelta { choice, call, arguments });
        }
    }
}

impl More {
    fn read(object: &mut Object<'_>) -> Result<Self, FieldError> {
        let index = object.take("index")?;
        let id = object.take::<String>("id")?.filter(|id| !id.is_empty());
        let custom = object.take_object("custom")?;
        let freeform = custom.is_some();
        let (mut name, mut arguments) = (None, None);
        if let Some(mut called) =
            custom.map_or_else(|| object.take_object("function"), |custom| Ok(Some(custom)))?
        {
            name = called.take::<String>("name")?.filter(|name| !name.is_empty());
            let text = called.take_raw(if freeform { "input" } else { "arguments" }).map(text_or_json);
            arguments = text.filter(|text| !text.is_empty());
        }
        Ok(Self { index, id, name, arguments, freeform, signature: take_thought_signature(object) })
    }
}

impl Call {
    fn take(&mut self, choice: u32, call: u32, more: More, last: &mut Last, out: &mut Vec<StreamEvent>) {
        if self.name.is_empty() {
            self.name = more.name.unwrap_or_default();
        }
        if self.id.is_empty() {
            self.id = more.id.unwrap_or_default();
        }
        self.signature = more.signature.or(self.signature.take());
        // An id may come before the name, but not later than the first arguments.
        if !self.told && (!self.name.is_empty() || more.arguments.is_some()) {
            self.told = true;
            *last = Last::Call(call);
            if self.id.is_empty() {
                self.id = format!("call_{choice}_{call}");
            }
            let (id, name) = (self.id.clone(), self.name.clone());
            out.push(StreamEvent::ToolCallStart { choice, call, id, name });
            if self.freeform {
                let arguments = freeform::AROUND.0.to_owned();
                out.push(StreamEvent::ToolCallDelta { choice, call, arguments });
            }
        }
        if *last == Last::Call(call)
            && let Some(signature) = self.signature.take()
        {
            out.push(StreamEvent::Signature { choice, signature });
        }
        if let Some(arguments) = more.arguments {
            self.arguments.push_str(&arguments);
            let arguments = if self.freeform { freeform::escaped(&arguments) } else { arguments };
            out.push(StreamEvent::ToolCallDelta { choice, call, arguments });
        }
    }

    /// Whether a delta at the same place begins another call: it names a tool, and says by another id, by another name, or
    /// by coming after whole arguments that it is not this one. An id alone says nothing: some servers make up a new one
    /// for every delta.
    fn is_followed_by(&self, more: &More) -> bool {
        let Some(name) = &more.name else { return false };
        if !self.told {
            return false;
        }
        match &more.id {
            Some(id) => *id != self.id,
            None => {
                more.index.is_none()
                    || *name != self.name
                    || serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok()
            }
        }
    }
}
