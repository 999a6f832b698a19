//! Streams, one JSON object a line; the last says `"done":true` and what the call took.

use super::messages::CallBody;
use super::reply::{End, Line, bare_logprobs, calls, done_reason, lost_part, lost_usage};
use super::{Kind, error, time};
use crate::dialect::wire::{Arguments, note, reply_text, write_line};
use crate::dialect::{DecodeError, DecodeStream, Dialect, EncodeStream, ReplyContext};
use crate::error::Problem;
use crate::failure::FidelityNote;
use crate::framing::LineFramer;
use crate::json::{Extra, Object, RawJson};
use crate::limits;
use crate::response::FinishReason;
use crate::stream::StreamEvent;
use crate::usage::{Provenance, Usage};

pub(super) struct Decoder {
    kind: Kind,
    framer: LineFramer,
    started: bool,
    done: bool,
    calls: usize,
    usage: Option<Usage>,
}

impl Decoder {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, framer: LineFramer::default(), started: false, done: false, calls: 0, usage: None }
    }

    /// Reads one line and appends its events.
    pub(super) fn line(&mut self, data: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let mut object = Object::parse("", reply_text(data)?)?;
        error::refuse(object.take_raw("error"))?;
        let model: String = object.take("model")?.unwrap_or_default();
        let created = object.take::<String>("created_at")?.and_then(|text| time::unix(&text));
        if !self.started {
            self.started = true;
            out.push(StreamEvent::Start { id: String::new(), model, created });
        }
        let mut message = match self.kind {
            Kind::Chat => object.take_object("message")?,
            Kind::Generate => None,
        };
        let name = if self.kind == Kind::Chat { "content" } else { "response" };
        let source = message.as_mut().unwrap_or(&mut object);
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(delta) = text(source.take("thinking")?) {
            out.push(StreamEvent::Reasoning { choice: 0, delta });
        }
        if let Some(delta) = text(source.take(name)?) {
            out.push(StreamEvent::Text { choice: 0, delta });
        }
        let new_calls = calls(source, self.calls)?;
        if self.calls + new_calls.len() > limits::TOOL_CALLS_MAX {
            let problem = format!("are more than {}", limits::TOOL_CALLS_MAX);
            return Err(source.wrong("tool_calls", problem).into());
        }
        for tool in new_calls {
            let call = self.calls as u32;
            self.calls += 1;
            out.push(StreamEvent::ToolCallStart { choice: 0, call, id: tool.id, name: tool.name });
            out.push(StreamEvent::ToolCallDelta { choice: 0, call, arguments: tool.arguments });
        }
        self.end_of_line(object, out)
    }

    fn end_of_line(&mut self, mut object: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        if let Some(raw) = object.take_raw("logprobs")
            && let Ok(json) = RawJson::parse(format!("{{\"content\":{}}}", raw.get()))
        {
            out.push(StreamEvent::Logprobs { choice: 0, json });
        }
        let (input, output) = (object.take("prompt_eval_count")?, object.take("eval_count")?);
        if input.is_some() || output.is_some() {
            self.usage = Some(Usage { input, output, ..Usage::default() });
        }
        let done = object.take("done")?.unwrap_or(false);
        let word: Option<String> = object.take("done_reason")?;
        let fields = object.rest();
        if !fields.is_empty() {
            out.push(StreamEvent::Extra { choice: None, fields });
        }
        if done {
            self.done = true;
            let reason = match word.as_deref() {
                None | Some("stop" | "") if self.calls > 0 => FinishReason::ToolCalls,
                None | Some("") => FinishReason::Stop,
                Some(word) => FinishReason::parse(word),
            };
            out.push(StreamEvent::Finish { choice: 0, reason });
        }
        Ok(())
    }

    /// Tells the usage, or that the end is missing.
    pub(super) fn end(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        if self.done {
            out.extend(self.usage.take().map(StreamEvent::Usage));
            return Ok(());
        }
        self.tell_partial_usage(out);
        Err(DecodeError::Truncated)
    }

    fn tell_partial_usage(&mut self, out: &mut Vec<StreamEvent>) {
        let partial = self.usage.take().map(|usage| Usage { provenance: Provenance::Partial, ..usage });
        out.extend(partial.map(StreamEvent::Usage));
    }
}

impl DecodeStream for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let mut framer = std::mem::take(&mut self.framer);
        let mut fault = None;
        let framed = framer.push(bytes, |line| {
            if fault.is_none() && !self.done {
                fault = self.line(line.data, out).err();
            }
        });
        self.framer = framer;
        let fault = fault.or(framed.err().map(DecodeError::from));
        fault.map_or(Ok(()), |fault| {
            self.tell_partial_usage(out);
            Err(fault)
        })
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn finish(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let framer = std::mem::take(&mut self.framer);
        if let Some(data) = framer.unfinished_data().filter(|_| !self.done) {
            // A last line without its end counts if it is whole; a piece of one is a stream cut off.
            let mut events = Vec::new();
            match self.line(data, &mut events) {
                Ok(()) => out.extend(events),
                Err(fault @ DecodeError::Reported(_)) => {
                    self.tell_partial_usage(out);
                    return Err(fault);
                }
                Err(_) => {}
            }
        }
        self.end(out)
    }
}

pub(super) struct Encoder {
    kind: Kind,
    own: bool,
    model: String,
    created: u64,
    /// Calls whose arguments may still come: id, name, arguments. Ollama sends them whole.
    calls: Vec<(u32, String, String, String)>,
    reason: Option<FinishReason>,
    usage: Option<Usage>,
    extra: Extra,
    notes: Vec<FidelityNote>,
}

impl Encoder {
    pub(super) fn new(kind: Kind, dialect: Dialect, context: &ReplyContext<'_>) -> Self {
        Self {
            kind,
            own: context.origin.is_none_or(|origin| origin.is_akin(dialect)),
            model: context.request.map(|request| request.model.clone()).unwrap_or_default(),
            created: context.now,
            calls: Vec::new(),
            reason: None,
            usage: None,
            extra: Extra::default(),
            notes: Vec::new(),
        }
    }

    fn blank(&self) -> Line<'_> {
        Line {
            kind: self.kind,
            model: &self.model,
            created: self.created,
            text: "",
            thinking: "",
            calls: Vec::new(),
            logprobs: None,
            end: None,
        }
    }

    fn write_calls(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.calls);
        if held.iter().any(|(.., text)| Arguments(text).is_wrapped()) {
            note(&mut self.notes, FidelityNote::emulated("choices.tool_calls"));
        }
        let whole = held.iter().enumerate();
        let calls: Vec<_> =
            whole.map(|(at, (_, id, name, text))| CallBody::new(at, id, name, text)).collect();
        if !calls.is_empty() {
            write_line(&Line { calls, ..self.blank() }, out);
        }
    }
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { model, created, .. } => {
                if !model.is_empty() {
                    self.model.clone_from(model);
                }
                self.created = created.unwrap_or(self.created);
            }
            StreamEvent::Usage(usage) => {
                lost_usage(Some(usage), &mut self.notes);
                self.usage = Some(*usage);
            }
            StreamEvent::Citation { .. } => note(&mut self.notes, FidelityNote::new("annotations")),
            StreamEvent::Extra { choice: None, fields } if self.own => {
                fields.iter().for_each(|(name, value)| self.extra.insert(name, value.clone()));
            }
            StreamEvent::Text { choice: 0, delta } | StreamEvent::Refusal { choice: 0, delta } => {
                write_line(&Line { text: delta, ..self.blank() }, out);
            }
            StreamEvent::Reasoning { choice: 0, delta } => {
                write_line(&Line { thinking: delta, ..self.blank() }, out);
            }
            StreamEvent::ToolCallStart { .. } if self.kind == Kind::Generate => {
                note(&mut self.notes, FidelityNote::new("choices.tool_calls"));
            }
            StreamEvent::ToolCallStart { choice: 0, call, id, name } => {
                self.calls.push((*call, id.clone(), name.clone(), String::new()));
            }
            StreamEvent::ToolCallDelta { choice: 0, call, arguments } => {
                if let Some((.., text)) = self.calls.iter_mut().find(|(at, ..)| at == call) {
                    text.push_str(arguments);
                }
            }
            StreamEvent::Logprobs { choice: 0, json } => {
                if let Some(logprobs) = bare_logprobs(json) {
                    write_line(&Line { logprobs: Some(logprobs), ..self.blank() }, out);
                }
            }
            StreamEvent::Part { choice: 0, part } => {
                lost_part(&part.kind, self.kind == Kind::Chat, &mut self.notes);
            }
            StreamEvent::Finish { choice: 0, reason } => {
                self.write_calls(out);
                self.reason = Some(reason.clone());
            }
            StreamEvent::Text { .. } | StreamEvent::ToolCallStart { .. } | StreamEvent::Finish { .. } => {
                note(&mut self.notes, FidelityNote::new("n"));
            }
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.write_calls(out);
        let reason = done_reason(self.reason.as_ref(), &mut self.notes);
        let end = End { reason, usage: self.usage, extra: Some(&self.extra) };
        write_line(&Line { end: Some(end), ..self.blank() }, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        out.extend_from_slice(&error::encode(problem));
        out.push(b'\n');
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        std::mem::take(&mut self.notes)
    }
}
