//! Writing a stream for a client.
//!
//! Blocks never overlap here, so a tool call that is told while another is still open waits until that one is whole.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::blocks::{Block, CitationBody, lost, note_lost};
use super::reply::{ID_PREFIX, stop_reason};
use super::usage::UsageBody;
use crate::dialect::wire::{note, write_named_event};
use crate::dialect::{Dialect, EncodeStream, ReplyContext};
use crate::error::Problem;
use crate::failure::FidelityNote;
use crate::json::Extra;
use crate::request::{Part, PartKind, Signature};
use crate::response::FinishReason;
use crate::stream::StreamEvent;
use crate::tool::ToolCall;
use crate::usage::Usage;

pub(super) struct Encoder {
    id: String,
    model: String,
    /// Whether unknown fields are of this dialect.
    akin: bool,
    extra: Extra,
    started: bool,
    open: Open,
    /// The index of the next block.
    next: u64,
    calls: Vec<Call>,
    /// What came in the middle of a call: a block that is closed cannot be written on, so it waits until the call is whole.
    held: Vec<StreamEvent>,
    usage: Option<Usage>,
    reason: Option<FinishReason>,
    notes: Vec<FidelityNote>,
}

/// The block being written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    None,
    Text,
    Thinking,
    /// This one of the calls.
    Call(usize),
}

struct Call {
    /// Which call of the answer it is.
    call: u32,
    id: String,
    name: String,
    /// All of its arguments so far.
    arguments: String,
    /// Those whose block has not begun wait.
    is_told: bool,
    /// What signs it, if another vendor made it.
    signature: Option<Signature>,
}

/// The event that a stream begins with.
pub(super) fn opening(context: &ReplyContext<'_>, model: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    Encoder { model: model.to_owned(), ..Encoder::new(context) }.start(&mut out);
    out
}

impl Encoder {
    pub(super) fn new(context: &ReplyContext<'_>) -> Self {
        Self {
            id: format!("{ID_PREFIX}{}", context.id),
            model: String::new(),
            akin: context.origin.is_none_or(|origin| origin == Dialect::Anthropic),
            extra: Extra::default(),
            started: false,
            open: Open::None,
            next: 0,
            calls: Vec::new(),
            held: Vec::new(),
            usage: None,
            reason: None,
            notes: Vec::new(),
        }
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Start<'a> {
            r#type: &'static str,
            message: MessageBody<'a>,
        }
        if !std::mem::replace(&mut self.started, true) {
            let message = MessageBody(self);
            write_named_event("message_start", &Start { r#type: "message_start", message }, out);
        }
    }

    /// Begins a block with this as its first content.
    fn open<T: Serialize>(&mut self, open: Open, content_block: &T, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Start<'a, T> {
            r#type: &'static str,
            index: u64,
            content_block: &'a T,
        }
        self.start(out);
        self.close(out);
        let start = Start { r#type: "content_block_start", index: self.next, content_block };
        write_named_event("content_block_start", &start, out);
        self.open = open;
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'static str,
            index: u64,
            delta: Delta<'a>,
        }
        let body = Body { r#type: "content_block_delta", index: self.next, delta };
        write_named_event("content_block_delta", &body, out);
    }

    /// Ends the block being written; the signature of a call stands in a block behind it.
    fn close(&mut self, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Stop {
            r#type: &'static str,
            index: u64,
        }
        let signature = match std::mem::replace(&mut self.open, Open::None) {
            Open::None => return,
            Open::Call(at) => self.calls[at].signature.take(),
            Open::Text | Open::Thinking => None,
        };
        write_named_event(
            "content_block_stop",
            &Stop { r#type: "content_block_stop", index: self.next },
            out,
        );
        self.next += 1;
        if let Some(signature) = signature {
            self.signature_block(signature, out);
        }
    }

    fn signature_block(&mut self, signature: Signature, out: &mut Vec<u8>) {
        self.whole_block(&Part { signature: Some(signature), ..PartKind::Redacted.into() }, out);
    }

    /// Writes a piece that does not come in deltas.
    fn whole_block(&mut self, part: &Part, out: &mut Vec<u8>) {
        self.open(Open::Text, &Block(part), out);
        self.close(out);
    }

    fn text(&mut self, delta: &str, out: &mut Vec<u8>) {
        if delta.is_empty() {
            return;
        }
        self.flush_calls(out);
        if self.open != Open::Text {
            self.open(Open::Text, &Block(&Part::text("")), out);
        }
        self.delta(Delta::Text(delta), out);
    }

    fn thinking(&mut self, delta: &str, out: &mut Vec<u8>) {
        self.flush_calls(out);
        if self.open != Open::Thinking {
            self.open(Open::Thinking, &Block(&PartKind::Reasoning(String::new()).into()), out);
        }
        if !delta.is_empty() {
            self.delta(Delta::Thinking(delta), out);
        }
    }

    fn call_start(&mut self, call: u32, id: &str, name: &str, out: &mut Vec<u8>) {
        self.calls.push(Call {
            call,
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: String::new(),
            is_told: false,
            signature: None,
        });
        self.tell_next_call(out);
    }

    /// Begins the block of the next call that waits, unless another call is still being written.
    fn tell_next_call(&mut self, out: &mut Vec<u8>) {
        while let Some(at) = self.calls.iter().position(|call| !call.is_told) {
            if let Open::Call(open) = self.open
                && !self.calls[open].is_whole()
            {
                return;
            }
            self.tell_call(at, out);
        }
    }

    fn tell_call(&mut self, at: usize, out: &mut Vec<u8>) {
        let call = &mut self.calls[at];
        call.is_told = true;
        let (id, name) = (call.id.clone(), call.name.clone());
        let part = PartKind::ToolCall(ToolCall { id, name, ..ToolCall::default() }).into();
        self.open(Open::Call(at), &Block(&part), out);
        if !self.calls[at].arguments.is_empty() {
            let arguments = self.calls[at].arguments.clone();
            self.delta(Delta::Json(&arguments), out);
        }
    }

    /// Writes all the calls that wait: nothing more comes for the one being written.
    fn flush_calls(&mut self, out: &mut Vec<u8>) {
        while let Some(at) = self.calls.iter().position(|call| !call.is_told) {
            self.tell_call(at, out);
        }
    }

    fn call_delta(&mut self, call: u32, arguments: &str, out: &mut Vec<u8>) {
        let Some(at) = self.calls.iter().position(|known| known.call == call) else { return };
        self.calls[at].arguments.push_str(arguments);
        if self.open == Open::Call(at) {
            if !arguments.is_empty() {
                self.delta(Delta::Json(arguments), out);
            }
            self.tell_next_call(out);
        }
        if !self.held.is_empty() && !self.call_is_coming() {
            self.release(out);
        }
    }

    /// Whether more of the call that is being written must come.
    fn call_is_coming(&self) -> bool {
        matches!(self.open, Open::Call(at) if !self.calls[at].is_whole())
    }

    /// Writes what waited.
    fn release(&mut self, out: &mut Vec<u8>) {
        self.flush_calls(out);
        self.close(out);
        std::mem::take(&mut self.held).iter().for_each(|event| self.event(event, out));
    }

    /// Whether it must wait: something else than the rest of the call that is coming.
    fn waits(&self, event: &StreamEvent) -> bool {
        let is_other = match event {
            StreamEvent::Text { delta, .. } | StreamEvent::Refusal { delta, .. } => !delta.is_empty(),
            StreamEvent::Reasoning { .. } | StreamEvent::Citation { .. } | StreamEvent::Part { .. } => true,
            // What they belong to waits.
            StreamEvent::Signature { .. } | StreamEvent::PartEnd { .. } => !self.held.is_empty(),
            _ => false,
        };
        is_other && (self.call_is_coming() || !self.held.is_empty())
    }

    fn signature(&mut self, signature: &Signature, out: &mut Vec<u8>) {
        match self.open {
            Open::Thinking => self.delta(Delta::Signature(&signature.to_wire(Dialect::Anthropic)), out),
            Open::Call(_) => {
                // It signs the call that began last.
                if let Some(call) = self.calls.last_mut() {
                    call.signature = Some(signature.clone());
                }
            }
            Open::Text | Open::None => self.signature_block(signature.clone(), out),
        }
    }

    fn part(&mut self, part: &Part, out: &mut Vec<u8>) {
        note_lost(part, &mut self.notes);
        let is_shown =
            !matches!(part.kind, PartKind::Image { .. } | PartKind::File { .. }) && lost(part).is_none();
        if is_shown {
            self.flush_calls(out);
            self.whole_block(part, out);
        }
    }
}

impl Call {
    /// Whether its arguments are complete, as far as they can be read.
    fn is_whole(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        if choice_of(event) == 0 && self.waits(event) {
            return self.held.push(event.clone());
        }
        match event {
            StreamEvent::Start { id, model, .. } => {
                if !id.is_empty() {
                    self.id.clone_from(id);
                }
                // It is written with what comes first, so that the fields beside it are in it.
                self.model.clone_from(model);
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Extra { choice: None, fields } if self.akin => {
                fields.iter().for_each(|(name, value)| self.extra.insert(name, value.clone()));
            }
            StreamEvent::Extra { .. } => {}
            StreamEvent::Logprobs { .. } => note(&mut self.notes, FidelityNote::new("logprobs")),
            // A message is one answer.
            _ if choice_of(event) != 0 => note(&mut self.notes, FidelityNote::new("n")),
            StreamEvent::Text { delta, .. } | StreamEvent::Refusal { delta, .. } => self.text(delta, out),
            StreamEvent::Reasoning { delta, .. } => self.thinking(delta, out),
            StreamEvent::ToolCallStart { call, id, name, .. } => self.call_start(*call, id, name, out),
            StreamEvent::ToolCallDelta { call, arguments, .. } => self.call_delta(*call, arguments, out),
            StreamEvent::Signature { signature, .. } => self.signature(signature, out),
            StreamEvent::Citation { citation, .. } => match CitationBody::of(citation) {
                Some(body) => {
                    if self.open != Open::Text {
                        self.open(Open::Text, &Block(&Part::text("")), out);
                    }
                    self.delta(Delta::Citation(body), out);
                }
                None => note(&mut self.notes, FidelityNote::new("content.citations")),
            },
            StreamEvent::Part { part, .. } => self.part(part, out),
            // Of a call it is only closed when the next begins, since its signature may still come.
            StreamEvent::PartEnd { .. } if matches!(self.open, Open::Text | Open::Thinking) => {
                self.close(out)
            }
            StreamEvent::PartEnd { .. } => {}
            StreamEvent::Finish { reason, .. } => self.reason = Some(reason.clone()),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct MessageDelta<'a> {
            r#type: &'static str,
            delta: Stop<'a>,
            usage: UsageBody,
        }
        #[derive(Serialize)]
        struct Stop<'a> {
            stop_reason: Option<&'a str>,
            stop_sequence: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct End {
            r#type: &'static str,
        }
        self.start(out);
        self.release(out);
        self.close(out);
        let (stop_reason, stop_sequence) = self.reason.as_ref().map(stop_reason).unzip();
        let delta = Stop { stop_reason, stop_sequence: stop_sequence.flatten() };
        let usage = UsageBody(self.usage.unwrap_or_default());
        write_named_event("message_delta", &MessageDelta { r#type: "message_delta", delta, usage }, out);
        write_named_event("message_stop", &End { r#type: "message_stop" }, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: ");
        out.extend_from_slice(&super::error::encode(problem, None));
        out.extend_from_slice(b"\n\n");
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        std::mem::take(&mut self.notes)
    }
}

/// Which answer an event belongs to.
fn choice_of(event: &StreamEvent) -> u32 {
    match event {
        StreamEvent::Text { choice, .. }
        | StreamEvent::Reasoning { choice, .. }
        | StreamEvent::Refusal { choice, .. }
        | StreamEvent::ToolCallStart { choice, .. }
        | StreamEvent::ToolCallDelta { choice, .. }
        | StreamEvent::Signature { choice, .. }
        | StreamEvent::Citation { choice, .. }
        | StreamEvent::Part { choice, .. }
        | StreamEvent::PartEnd { choice }
        | StreamEvent::Logprobs { choice, .. }
        | StreamEvent::Finish { choice, .. } => *choice,
        StreamEvent::Start { .. } | StreamEvent::Usage(_) | StreamEvent::Extra { .. } => 0,
    }
}

/// The message as it is known when it begins.
struct MessageBody<'a>(&'a Encoder);

impl Serialize for MessageBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.0.id)?;
        map.serialize_entry("type", "message")?;
        map.serialize_entry("role", "assistant")?;
        map.serialize_entry("model", &self.0.model)?;
        map.serialize_entry("content", &[(); 0])?;
        map.serialize_entry("stop_reason", &())?;
        map.serialize_entry("stop_sequence", &())?;
        // Other vendors count at the end, where `message_delta` tells all of it.
        map.serialize_entry("usage", &UsageBody(self.0.usage.unwrap_or_default()))?;
        self.0.extra.write(&mut map)?;
        map.end()
    }
}

enum Delta<'a> {
    Text(&'a str),
    Thinking(&'a str),
    Json(&'a str),
    Signature(&'a str),
    Citation(CitationBody<'a>),
}

impl Serialize for Delta<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (word, name, text) = match self {
            Self::Text(text) => ("text_delta", "text", *text),
            Self::Thinking(text) => ("thinking_delta", "thinking", *text),
            Self::Json(text) => ("input_json_delta", "partial_json", *text),
            Self::Signature(text) => ("signature_delta", "signature", *text),
            Self::Citation(citation) => {
                map.serialize_entry("type", "citations_delta")?;
                map.serialize_entry("citation", citation)?;
                return map.end();
            }
        };
        map.serialize_entry("type", word)?;
        map.serialize_entry(name, text)?;
        map.end()
    }
}
