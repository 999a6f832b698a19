//! Writing a stream for a client.
//!
//! Text and reasoning are told as they come, each item open until another begins. Calls stay open until the answer's
//! end, since their deltas may be interleaved; what a signature of another maker signs is followed by its item.

use serde::Serialize;
use serde_json::{Value, json};

use super::items::{
    Names, annotation, call_item, item_of, message_item, reasoning_item, refusal_content, signs_itself,
    signs_last, text_content,
};
use super::reply::{Frame, ResponseBody, Status, entries};
use super::{DIALECT, is_akin};
use crate::dialect::openai_chat::freeform;
use crate::dialect::wire::{note, write_named_event};
use crate::dialect::{EncodeStream, ReplyContext};
use crate::error::Problem;
use crate::failure::FidelityNote;
use crate::request::{PartKind, Signature};
use crate::response::FinishReason;
use crate::stream::StreamEvent;
use crate::tool::ToolCall;
use crate::usage::Usage;

pub(super) struct Encoder {
    frame: Frame,
    names: Names,
    sequence: u64,
    begun: bool,
    /// Finished items by their place.
    items: Vec<Value>,
    open: Option<Open>,
    calls: Vec<Call>,
    last: Last,
    freeform: Vec<String>,
    reason: Option<FinishReason>,
    usage: Option<Usage>,
    akin: bool,
    notes: Vec<FidelityNote>,
}

/// The message or reasoning that is being written.
struct Open {
    index: usize,
    id: String,
    /// Content that is complete; unused in reasoning.
    content: Vec<Value>,
    piece: Option<Piece>,
    reasoning: bool,
    signature: Option<String>,
}

/// The piece of content that is being written.
struct Piece {
    refusal: bool,
    text: String,
    citations: Vec<Value>,
    logprobs: Vec<Value>,
}

struct Call {
    number: u32,
    index: usize,
    item: String,
    call: ToolCall,
    freeform: bool,
    /// The signature, with a place of its own.
    signature: Option<(usize, Signature)>,
}

/// What came last, which a signature signs.
#[derive(Clone, Copy)]
enum Last {
    Nothing,
    Open,
    Call(usize),
    Part,
}

/// An event's place and what it says.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    sequence_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotation_index: Option<usize>,
    #[serde(flatten)]
    said: Said<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Said<'a> {
    Item(&'a Value),
    Part(&'a Value),
    Annotation(&'a Value),
    Delta(&'a str),
    Text(&'a str),
    Refusal(&'a str),
    Input(&'a str),
    #[serde(untagged)]
    TextDelta {
        delta: &'a str,
        logprobs: [(); 0],
    },
    #[serde(untagged)]
    TextDone {
        text: &'a str,
        logprobs: &'a [Value],
    },
    #[serde(untagged)]
    Arguments {
        name: &'a str,
        arguments: &'a str,
    },
}

/// Where an event belongs.
#[derive(Clone, Copy)]
struct At<'a> {
    index: usize,
    id: Option<&'a str>,
    content: Option<usize>,
    summary: Option<usize>,
    annotation: Option<usize>,
}

impl<'a> At<'a> {
    fn item(index: usize, id: Option<&'a str>) -> Self {
        Self { index, id, content: None, summary: None, annotation: None }
    }
}

fn write(sequence: &mut u64, name: &'static str, at: At<'_>, said: Said<'_>, out: &mut Vec<u8>) {
    let body = Body {
        r#type: name,
        sequence_number: *sequence,
        item_id: at.id,
        output_index: at.index,
        content_index: at.content,
        summary_index: at.summary,
        annotation_index: at.annotation,
        said,
    };
    *sequence += 1;
    write_named_event(name, &body, out);
}

impl Encoder {
    pub(super) fn new(context: &ReplyContext<'_>) -> Self {
        let tools = context.request.map(|request| &request.tools[..]).unwrap_or_default();
        Self {
            frame: Frame::new(context, context.origin),
            names: Names(context.id.to_owned()),
            sequence: 0,
            begun: false,
            items: Vec::new(),
            open: None,
            calls: Vec::new(),
            last: Last::Nothing,
            freeform: tools.iter().filter(|tool| tool.freeform).map(|tool| tool.name.clone()).collect(),
            reason: None,
            usage: None,
            akin: is_akin(context.origin),
            notes: Vec::new(),
        }
    }

    fn response(&mut self, name: &'static str, status: Status, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Event<'a> {
            r#type: &'static str,
            sequence_number: u64,
            response: ResponseBody<'a>,
        }
        let response = ResponseBody { frame: &self.frame, status, output: &self.items, usage: self.usage };
        write_named_event(name, &Event { r#type: name, sequence_number: self.sequence, response }, out);
        self.sequence += 1;
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            self.response("response.created", Status::InProgress, out);
            self.response("response.in_progress", Status::InProgress, out);
        }
    }

    fn place(&mut self) -> usize {
        self.items.push(Value::Null);
        self.items.len() - 1
    }

    fn added(&mut self, index: usize, item: &Value, out: &mut Vec<u8>) {
        write(&mut self.sequence, "response.output_item.added", At::item(index, None), Said::Item(item), out);
    }

    fn done(&mut self, index: usize, item: Value, out: &mut Vec<u8>) {
        write(&mut self.sequence, "response.output_item.done", At::item(index, None), Said::Item(&item), out);
        self.items[index] = item;
    }

    /// An item that comes whole.
    fn whole(&mut self, index: usize, item: Value, out: &mut Vec<u8>) {
        self.added(index, &item, out);
        self.done(index, item, out);
    }

    /// Opens a message or reasoning, unless it is open.
    fn open(&mut self, reasoning: bool, out: &mut Vec<u8>) {
        self.begin(out);
        if self.open.as_ref().is_some_and(|open| open.reasoning == reasoning) {
            return;
        }
        self.close("completed", out);
        let index = self.place();
        let id = self.names.at(if reasoning { "rs" } else { "msg" }, index);
        let item =
            if reasoning { reasoning_item(&id, "", None) } else { message_item(&id, "in_progress", &[]) };
        self.added(index, &item, out);
        self.open = Some(Open { index, id, content: Vec::new(), piece: None, reasoning, signature: None });
    }

    /// Tells more of the open item's text.
    fn more(&mut self, refusal: bool, delta: &str, out: &mut Vec<u8>) {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.piece.as_ref().is_some_and(|piece| piece.refusal != refusal))
        {
            self.close_piece(out);
        }
        let Some(open) = &mut self.open else { return };
        let mut at = At::item(open.index, Some(&open.id));
        let (kind, begins, name) = match (open.reasoning, refusal) {
            (true, _) => (
                json!({"type": "summary_text", "text": ""}),
                "response.reasoning_summary_part.added",
                "response.reasoning_summary_text.delta",
            ),
            (false, true) => (refusal_content(""), "response.content_part.added", "response.refusal.delta"),
            (false, false) => {
                (text_content("", &[], &[]), "response.content_part.added", "response.output_text.delta")
            }
        };
        if open.reasoning {
            at.summary = Some(0);
        } else {
            at.content = Some(open.content.len());
        }
        if open.piece.is_none() {
            write(&mut self.sequence, begins, at, Said::Part(&kind), out);
        }
        let piece = open.piece.get_or_insert_with(|| Piece {
            refusal,
            text: String::new(),
            citations: Vec::new(),
            logprobs: Vec::new(),
        });
        if delta.is_empty() {
            return;
        }
        piece.text.push_str(delta);
        let said = if open.reasoning || refusal {
            Said::Delta(delta)
        } else {
            Said::TextDelta { delta, logprobs: [] }
        };
        write(&mut self.sequence, name, at, said, out);
    }

    fn close_piece(&mut self, out: &mut Vec<u8>) {
        let Some(open) = &mut self.open else { return };
        if open.reasoning {
            return; // It has one, which closes with its item.
        }
        let Some(piece) = open.piece.take() else { return };
        let at = At { content: Some(open.content.len()), ..At::item(open.index, Some(&open.id)) };
        let content = if piece.refusal {
            write(&mut self.sequence, "response.refusal.done", at, Said::Refusal(&piece.text), out);
            refusal_content(&piece.text)
        } else {
            let said = Said::TextDone { text: &piece.text, logprobs: &piece.logprobs };
            write(&mut self.sequence, "response.output_text.done", at, said, out);
            text_content(&piece.text, &piece.citations, &piece.logprobs)
        };
        write(&mut self.sequence, "response.content_part.done", at, Said::Part(&content), out);
        open.content.push(content);
    }

    fn close(&mut self, status: &str, out: &mut Vec<u8>) {
        self.close_piece(out);
        let Some(open) = self.open.take() else { return };
        if !open.reasoning {
            self.done(open.index, message_item(&open.id, status, &open.content), out);
            return;
        }
        let text = open.piece.map(|piece| piece.text).unwrap_or_default();
        if !text.is_empty() {
            let at = At { summary: Some(0), ..At::item(open.index, Some(&open.id)) };
            let part = json!({"type": "summary_text", "text": text});
            write(&mut self.sequence, "response.reasoning_summary_text.done", at, Said::Text(&text), out);
            write(&mut self.sequence, "response.reasoning_summary_part.done", at, Said::Part(&part), out);
        }
        self.done(open.index, reasoning_item(&open.id, &text, open.signature.as_deref()), out);
    }

    fn call_begins(&mut self, number: u32, id: &str, name: &str, out: &mut Vec<u8>) {
        self.begin(out);
        self.close("completed", out);
        // Gemini, who signs calls, sends each whole: what signs one then stands in front of the next.
        let (signed, open) =
            std::mem::take(&mut self.calls).into_iter().partition(|call| call.signature.is_some());
        self.calls = signed;
        self.close_calls("completed", out);
        self.calls = open;
        let freeform = self.freeform.iter().any(|known| known == name);
        let call = ToolCall { id: id.to_owned(), name: name.to_owned(), ..ToolCall::default() };
        let index = self.place();
        let item = self.names.at("fc", index);
        let mut value = call_item(&item, "in_progress", &call, freeform);
        if freeform {
            value["input"] = "".into();
        }
        self.added(index, &value, out);
        self.last = Last::Call(self.calls.len());
        self.calls.push(Call { number, index, item, call, freeform, signature: None });
    }

    fn call_more(&mut self, number: u32, arguments: &str, out: &mut Vec<u8>) {
        let Some(call) = self.calls.iter_mut().find(|call| call.number == number) else { return };
        call.call.arguments.push_str(arguments);
        // Free text is told when all of it is there, as it comes here inside JSON.
        if !call.freeform && !arguments.is_empty() {
            let at = At::item(call.index, Some(&call.item));
            let name = "response.function_call_arguments.delta";
            write(&mut self.sequence, name, at, Said::Delta(arguments), out);
        }
    }

    fn close_calls(&mut self, status: &str, out: &mut Vec<u8>) {
        for call in std::mem::take(&mut self.calls) {
            let at = At::item(call.index, Some(&call.item));
            if call.freeform {
                let input = freeform::input(&call.call.arguments);
                write(
                    &mut self.sequence,
                    "response.custom_tool_call_input.delta",
                    at,
                    Said::Delta(&input),
                    out,
                );
                write(
                    &mut self.sequence,
                    "response.custom_tool_call_input.done",
                    at,
                    Said::Input(&input),
                    out,
                );
            } else {
                let said = Said::Arguments { name: &call.call.name, arguments: &call.call.arguments };
                write(&mut self.sequence, "response.function_call_arguments.done", at, said, out);
            }
            self.done(call.index, call_item(&call.item, status, &call.call, call.freeform), out);
            if let Some((index, signature)) = call.signature {
                self.signed(index, &signature, out);
            }
        }
    }

    /// Writes the item that signs the one in front of it.
    fn signed(&mut self, index: usize, signature: &Signature, out: &mut Vec<u8>) {
        let id = self.names.at("rs", index);
        self.whole(index, reasoning_item(&id, "", Some(&signs_last(signature))), out);
    }

    fn signature(&mut self, signature: &Signature, out: &mut Vec<u8>) {
        match self.last {
            Last::Open => match &mut self.open {
                Some(open) if open.reasoning => {
                    open.signature = Some(signature.to_wire(DIALECT).into_owned());
                    self.close("completed", out);
                }
                _ => {
                    self.close("completed", out);
                    let index = self.place();
                    self.signed(index, signature, out);
                }
            },
            Last::Call(at) if self.calls.get(at).is_some_and(|call| call.signature.is_none()) => {
                let index = self.place();
                if let Some(call) = self.calls.get_mut(at) {
                    call.signature = Some((index, signature.clone()));
                }
            }
            Last::Part | Last::Call(_) => {
                let index = self.place();
                self.signed(index, signature, out);
            }
            // Signs reasoning that is not shown.
            Last::Nothing => {
                self.open(true, out);
                self.last = Last::Open;
                self.signature(signature, out);
            }
        }
    }

    fn part(&mut self, part: &crate::request::Part, out: &mut Vec<u8>) {
        self.begin(out);
        match &part.kind {
            PartKind::Text(text) => self.said(false, false, text, out),
            PartKind::Refusal(text) => self.said(false, true, text, out),
            _ => {
                self.close("completed", out);
                let freeform = |name: &str| self.freeform.iter().any(|known| known == name);
                let place = self.items.len();
                let item = item_of(part, &self.names, place, "completed", &freeform, &mut self.notes);
                let Some(item) = item else {
                    return;
                };
                let index = self.place();
                self.whole(index, item, out);
                self.last = Last::Part;
            }
        }
        for citation in &part.citations {
            self.citation(&annotation(citation), out);
        }
        if let Some(signature) = part.signature.as_ref().filter(|_| !signs_itself(&part.kind)) {
            self.signature(signature, out);
        }
    }

    fn said(&mut self, reasoning: bool, refusal: bool, delta: &str, out: &mut Vec<u8>) {
        if delta.is_empty() {
            return;
        }
        self.open(reasoning, out);
        self.last = Last::Open;
        self.more(refusal, delta, out);
    }

    fn citation(&mut self, value: &Value, out: &mut Vec<u8>) {
        self.open(false, out);
        self.last = Last::Open;
        self.more(false, "", out);
        let Some(open) = &mut self.open else { return };
        let Some(piece) = &mut open.piece else { return };
        let at = At {
            content: Some(open.content.len()),
            annotation: Some(piece.citations.len()),
            ..At::item(open.index, Some(&open.id))
        };
        let name = "response.output_text.annotation.added";
        write(&mut self.sequence, name, at, Said::Annotation(value), out);
        piece.citations.push(value.clone());
    }
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Text { choice: 0, delta } => self.said(false, false, delta, out),
            StreamEvent::Reasoning { choice: 0, delta } => self.said(true, false, delta, out),
            StreamEvent::Refusal { choice: 0, delta } => self.said(false, true, delta, out),
            StreamEvent::ToolCallStart { choice: 0, call, id, name } => {
                self.call_begins(*call, id, name, out)
            }
            StreamEvent::ToolCallDelta { choice: 0, call, arguments } => {
                self.call_more(*call, arguments, out)
            }
            StreamEvent::Signature { choice: 0, signature } => self.signature(signature, out),
            StreamEvent::Citation { choice: 0, citation } => self.citation(&annotation(citation), out),
            StreamEvent::Part { choice: 0, part } => self.part(part, out),
            StreamEvent::PartEnd { choice: 0 } => match &self.open {
                Some(open) if open.reasoning => self.close("completed", out),
                _ => self.close_piece(out),
            },
            StreamEvent::Logprobs { choice: 0, json } => {
                let piece = self.open.as_mut().and_then(|open| open.piece.as_mut());
                if let Some(piece) = piece {
                    piece.logprobs.extend(entries(json));
                }
            }
            StreamEvent::Finish { choice: 0, reason } => self.reason = Some(reason.clone()),
            StreamEvent::Start { id, model, created } => {
                self.frame.name(id, model, *created);
                self.begin(out);
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Extra { choice: None, fields } if self.akin => self.frame.add(fields),
            StreamEvent::Extra { .. } => {}
            // This dialect has one answer.
            _ => note(&mut self.notes, FidelityNote::new("n")),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        let status = Status::of(self.reason.as_ref());
        self.close(status.item(), out);
        self.close_calls(status.item(), out);
        self.items.retain(|item| !item.is_null());
        let name = if status == Status::Completed { "response.completed" } else { "response.incomplete" };
        self.response(name, status, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Event<'a> {
            r#type: &'static str,
            code: &'a str,
            message: &'a str,
            param: Option<&'a str>,
            sequence_number: u64,
        }
        let event = Event {
            r#type: "error",
            code: &problem.code,
            message: &problem.message,
            param: problem.param.as_deref(),
            sequence_number: self.sequence,
        };
        write_named_event("error", &event, out);
        self.sequence += 1;
        // Codex only knows this one; the SDKs have raised their exception by then.
        self.items.retain(|item| !item.is_null());
        self.frame.error = Some(json!({"code": problem.code, "message": problem.message}));
        self.response("response.failed", Status::Failed, out);
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        std::mem::take(&mut self.notes)
    }
}
