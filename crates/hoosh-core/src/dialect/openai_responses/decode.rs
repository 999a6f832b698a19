//! Reading a provider's stream.
//!
//! Items are told apart by `output_index`, since Copilot changes their ids from event to event; by `item_id` only where
//! there is no index (llama.cpp). What comes at an item's end and was not told in deltas is told then.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::items::{Signs, citation, other, read_call, read_signature};
use super::reply::{End, joined};
use super::tap::{error_event, failed_response};
use super::usage;
use crate::dialect::openai::DONE;
use crate::dialect::openai::tap::refuse_error;
use crate::dialect::wire::reply_text;
use crate::dialect::{DecodeError, DecodeStream};
use crate::framing::SseFramer;
use crate::json::{FieldError, Object, RawJson, problem};
use crate::limits;
use crate::request::{Part, PartKind};
use crate::stream::StreamEvent;
use crate::usage::{Provenance, Usage};

#[derive(Default)]
pub(super) struct Decoder {
    framer: SseFramer,
    reader: Reader,
}

#[derive(Default)]
struct Reader {
    items: Vec<Item>,
    calls: u32,
    started: bool,
    done: bool,
    usage: Option<Usage>,
    /// The place that the last text was told for: item, and part of it.
    last: Option<(usize, Place)>,
}

/// A part of an item: its summary or its content, and which of them.
type Place = (bool, u64);

struct Item {
    index: Option<u64>,
    id: String,
    call: Option<u32>,
    freeform: bool,
    told: bool,
    cited: bool,
    probs: bool,
    ended: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    output_index: Option<u64>,
    #[serde(borrow, default)]
    item_id: Option<Cow<'a, str>>,
    #[serde(default)]
    content_index: Option<u64>,
    #[serde(default)]
    summary_index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    annotation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl DecodeStream for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let mut fault = None;
        let reader = &mut self.reader;
        self.framer.push(bytes, |event| {
            if fault.is_none() && !reader.done {
                fault = reader.event(event.data, out).err();
            }
        })?;
        match fault {
            Some(fault) => {
                self.reader.tell_partial_usage(out);
                Err(fault)
            }
            None => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        self.reader.done
    }

    fn finish(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        // Some servers close without the blank line after their last event.
        if !self.reader.done
            && let Some(data) = self.framer.unfinished_data()
            && ENDS.iter().any(|end| memchr::memmem::find(data, end).is_some())
            && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
        {
            self.reader.event(data, out)?;
        }
        if self.reader.done {
            out.extend(self.reader.usage.take().map(StreamEvent::Usage));
            return Ok(());
        }
        self.reader.tell_partial_usage(out);
        Err(DecodeError::Truncated)
    }
}

/// The words that end a stream.
const ENDS: [&[u8]; 3] = [b"response.completed", b"response.incomplete", b"response.failed"];

impl Reader {
    fn tell_partial_usage(&mut self, out: &mut Vec<StreamEvent>) {
        let partial = self.usage.take().map(|usage| Usage { provenance: Provenance::Partial, ..usage });
        out.extend(partial.map(StreamEvent::Usage));
    }

    fn event(&mut self, data: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        if data == DONE {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_str(reply_text(data)?)
            .map_err(|error| FieldError { path: String::new(), problem: problem(&error) })?;
        match event.kind.as_deref().unwrap_or("") {
            "error" => return Err(error_event(data, event.error)),
            "" => refuse_error(event.error)?,
            "response.failed" => {
                self.note_usage(event.response);
                return Err(failed_response(event.response));
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(event.response, out)?
            }
            "response.completed" | "response.incomplete" => self.end(event.response, out)?,
            "response.output_item.added" => self.item_begins(&event, out)?,
            "response.output_item.done" => self.item_ends(&event, out)?,
            _ => self.delta(&event, out)?,
        }
        Ok(())
    }

    fn start(&mut self, response: Option<&RawValue>, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        let mut start = (String::new(), String::new(), None);
        if let Some(raw) = response {
            let mut object = Object::parse("response", raw.get())?;
            start.0 = object.take("id")?.unwrap_or_default();
            start.1 = object.take("model")?.unwrap_or_default();
            start.2 = object
                .take::<serde_json::Number>("created_at")?
                .and_then(|number| number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64)));
        }
        let (id, model, created) = start;
        out.push(StreamEvent::Start { id, model, created });
        Ok(())
    }

    fn note_usage(&mut self, response: Option<&RawValue>) {
        let object = response.and_then(|raw| Object::parse("response", raw.get()).ok());
        let told =
            object.and_then(|object| usage::of_answer(object.peek("usage"), object.peek("service_tier")));
        self.usage = told.or(self.usage);
    }

    fn end(&mut self, response: Option<&RawValue>, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        self.start(response, out)?;
        let raw = response.map_or("{}", RawValue::get);
        let mut object = Object::parse("response", raw)?;
        object.take_raw("error");
        let output: Vec<&RawValue> = object.take("output")?.unwrap_or_default();
        // A server that sent nothing before its end.
        if self.items.is_empty() {
            for (index, raw) in output.into_iter().enumerate() {
                self.whole_item(Some(index as u64), raw, out)?;
            }
        }
        let end = End::read(object, self.calls > 0)?;
        if !end.extra.is_empty() {
            out.push(StreamEvent::Extra { choice: None, fields: end.extra });
        }
        out.push(StreamEvent::Finish { choice: 0, reason: end.reason });
        self.usage = end.usage.or(self.usage);
        self.done = true;
        Ok(())
    }

    /// The item of that place, made if it is new.
    fn item(&mut self, index: Option<u64>, id: &str) -> Result<usize, FieldError> {
        let known = match index {
            Some(_) => self.items.iter().rposition(|item| item.index == index),
            None if id.is_empty() => self.items.len().checked_sub(1),
            None => self.items.iter().rposition(|item| item.id == id),
        };
        if let Some(at) = known {
            return Ok(at);
        }
        if self.items.len() >= 4 * limits::TOOL_CALLS_MAX {
            let problem = format!("is beyond {} items", 4 * limits::TOOL_CALLS_MAX);
            return Err(FieldError { path: "output_index".to_owned(), problem });
        }
        self.items.push(Item {
            index,
            id: id.to_owned(),
            call: None,
            freeform: false,
            told: false,
            cited: false,
            probs: false,
            ended: false,
        });
        Ok(self.items.len() - 1)
    }

    fn item_begins(&mut self, event: &Event<'_>, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let Some(raw) = event.item else { return Ok(()) };
        self.start(None, out)?;
        let mut object = Object::parse("item", raw.get())?;
        let id: String = object.take("id")?.unwrap_or_default();
        let at = self.item(event.output_index, &id)?;
        let kind: String = object.take("type")?.unwrap_or_default();
        if kind == "function_call" || kind == "custom_tool_call" {
            self.call_begins(at, &kind, raw, out)?;
        }
        Ok(())
    }

    fn call_begins(
        &mut self,
        at: usize,
        kind: &str,
        raw: &RawValue,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        if self.items[at].call.is_some() {
            return Ok(());
        }
        if self.calls as usize >= limits::TOOL_CALLS_MAX {
            let problem = format!("is beyond {} tool calls", limits::TOOL_CALLS_MAX);
            return Err(FieldError { path: "output_index".to_owned(), problem }.into());
        }
        let call = read_call(kind, Object::parse("item", raw.get())?)?;
        let id = if call.id.is_empty() { format!("call_{}", self.calls) } else { call.id };
        let item = &mut self.items[at];
        item.call = Some(self.calls);
        item.freeform = kind == "custom_tool_call";
        out.push(StreamEvent::ToolCallStart { choice: 0, call: self.calls, id, name: call.name });
        self.calls += 1;
        self.last = Some((at, (false, 0)));
        Ok(())
    }

    fn delta(&mut self, event: &Event<'_>, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let id = event.item_id.as_deref().unwrap_or("");
        let kind = event.kind.as_deref().unwrap_or("");
        if let Some(raw) = event.annotation.filter(|_| kind == "response.output_text.annotation.added") {
            let at = self.item(event.output_index, id)?;
            self.items[at].cited = true;
            out.push(StreamEvent::Citation { choice: 0, citation: citation(raw) });
            return Ok(());
        }
        let Some(raw) = event.delta else { return Ok(()) };
        let wanted = [
            "response.output_text.delta",
            "response.refusal.delta",
            "response.reasoning_summary_text.delta",
            "response.reasoning_text.delta",
            "response.function_call_arguments.delta",
            "response.custom_tool_call_input.delta",
        ];
        if !wanted.contains(&kind) {
            return Ok(());
        }
        self.start(None, out)?;
        let delta: String = serde_json::from_str(raw.get())
            .map_err(|error| FieldError { path: "delta".to_owned(), problem: problem(&error) })?;
        let at = self.item(event.output_index, id)?;
        let content = (true, event.content_index.unwrap_or(0));
        match kind {
            "response.output_text.delta" => {
                self.text(at, content, StreamEvent::Text { choice: 0, delta }, out);
                let probs: Option<Vec<RawJson>> =
                    event.logprobs.and_then(|raw| serde_json::from_str(raw.get()).ok());
                self.logprobs(at, &probs.unwrap_or_default(), out);
            }
            "response.refusal.delta" => {
                self.text(at, content, StreamEvent::Refusal { choice: 0, delta }, out);
            }
            "response.reasoning_summary_text.delta" => {
                self.reasoning(at, (false, event.summary_index.unwrap_or(0)), delta, out);
            }
            "response.reasoning_text.delta" => self.reasoning(at, content, delta, out),
            _ => self.arguments(at, &delta, out),
        }
        Ok(())
    }

    fn logprobs(&mut self, at: usize, probs: &[RawJson], out: &mut Vec<StreamEvent>) {
        if let Some(json) = joined(probs) {
            self.items[at].probs = true;
            out.push(StreamEvent::Logprobs { choice: 0, json });
        }
    }

    /// Tells text; a part of it ends where another begins.
    fn text(&mut self, at: usize, place: Place, event: StreamEvent, out: &mut Vec<StreamEvent>) {
        let empty = matches!(&event, StreamEvent::Text { delta, .. } | StreamEvent::Refusal { delta, .. } if delta.is_empty());
        if empty {
            return;
        }
        if self.last.is_some_and(|last| last != (at, place)) {
            out.push(StreamEvent::PartEnd { choice: 0 });
        }
        self.last = Some((at, place));
        self.items[at].told = true;
        out.push(event);
    }

    /// Tells reasoning; all the parts of an item are one text.
    fn reasoning(&mut self, at: usize, place: Place, delta: String, out: &mut Vec<StreamEvent>) {
        if delta.is_empty() {
            return;
        }
        match self.last {
            Some((item, part)) if item == at && part != place && self.items[at].told => {
                out.push(StreamEvent::Reasoning { choice: 0, delta: "\n\n".to_owned() });
            }
            Some((item, _)) if item != at => out.push(StreamEvent::PartEnd { choice: 0 }),
            _ => {}
        }
        self.last = Some((at, place));
        self.items[at].told = true;
        out.push(StreamEvent::Reasoning { choice: 0, delta });
    }

    fn arguments(&mut self, at: usize, delta: &str, out: &mut Vec<StreamEvent>) {
        let item = &mut self.items[at];
        let Some(call) = item.call.filter(|_| !delta.is_empty()) else { return };
        let arguments = if item.freeform {
            let quoted = serde_json::to_string(delta).unwrap_or_default();
            let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
            format!("{}{inner}", if item.told { "" } else { r#"{"input":""# })
        } else {
            delta.to_owned()
        };
        item.told = true;
        out.push(StreamEvent::ToolCallDelta { choice: 0, call, arguments });
    }

    fn item_ends(&mut self, event: &Event<'_>, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let Some(raw) = event.item else { return Ok(()) };
        self.start(None, out)?;
        self.whole_item(event.output_index, raw, out)
    }

    /// Takes a whole item and tells what of it was not told yet.
    fn whole_item(
        &mut self,
        index: Option<u64>,
        raw: &RawValue,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        let mut object = Object::parse("item", raw.get())?;
        let id: String = object.take("id")?.unwrap_or_default();
        let kind: String = object.require("type")?;
        let at = self.item(index, &id)?;
        if std::mem::replace(&mut self.items[at].ended, true) {
            return Ok(());
        }
        match kind.as_str() {
            "message" => self.whole_message(at, object, out)?,
            "reasoning" => self.whole_reasoning(at, object, out)?,
            "function_call" | "custom_tool_call" => {
                self.call_begins(at, &kind, raw, out)?;
                self.whole_call(at, &kind, object, out)?;
            }
            kind => {
                out.push(StreamEvent::Part { choice: 0, part: other(kind, raw) });
                self.last = Some((at, (false, 0)));
            }
        }
        Ok(())
    }

    fn whole_message(
        &mut self,
        at: usize,
        object: Object<'_>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        let (parts, probs) = super::items::message_parts(object)?;
        let (told, cited) = (self.items[at].told, self.items[at].cited);
        for (index, part) in parts.into_iter().enumerate() {
            let place = (true, index as u64);
            match part.kind {
                PartKind::Text(delta) if !told => {
                    self.text(at, place, StreamEvent::Text { choice: 0, delta }, out);
                }
                PartKind::Refusal(delta) if !told => {
                    self.text(at, place, StreamEvent::Refusal { choice: 0, delta }, out);
                }
                _ => {}
            }
            if !cited {
                let citations = part.citations.into_iter();
                out.extend(citations.map(|citation| StreamEvent::Citation { choice: 0, citation }));
            }
        }
        if !self.items[at].probs {
            self.logprobs(at, &probs, out);
        }
        Ok(())
    }

    fn whole_reasoning(
        &mut self,
        at: usize,
        mut object: Object<'_>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        let told = self.items[at].told;
        for (content, name) in [(false, "summary"), (true, "content")] {
            for (index, mut piece) in object.take_objects(name)?.into_iter().enumerate() {
                if let Some(text) = piece.take::<String>("text")?.filter(|_| !told) {
                    self.reasoning(at, (content, index as u64), text, out);
                }
            }
        }
        let Some(text) = object.take::<String>("encrypted_content")?.filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let whole = |kind: PartKind, signature| {
            let part = Part { signature: Some(signature), ..kind.into() };
            StreamEvent::Part { choice: 0, part }
        };
        match read_signature(&text) {
            Signs::Last(signature) => out.push(StreamEvent::Signature { choice: 0, signature }),
            Signs::Hidden(signature) => out.push(whole(PartKind::Redacted, signature)),
            Signs::Itself(signature) if self.last.is_some_and(|(last, _)| last == at) => {
                out.push(StreamEvent::Signature { choice: 0, signature });
            }
            Signs::Itself(signature) => out.push(whole(PartKind::Reasoning(String::new()), signature)),
        }
        self.last = Some((at, (false, u64::MAX)));
        Ok(())
    }

    fn whole_call(
        &mut self,
        at: usize,
        kind: &str,
        object: Object<'_>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        let arguments = read_call(kind, object)?.arguments;
        let item = &self.items[at];
        let Some(call) = item.call else { return Ok(()) };
        let arguments = match (item.told, item.freeform) {
            (false, _) => arguments,
            (true, true) => r#""}"#.to_owned(),
            (true, false) => return Ok(()),
        };
        if !arguments.is_empty() {
            out.push(StreamEvent::ToolCallDelta { choice: 0, call, arguments });
        }
        Ok(())
    }
}
