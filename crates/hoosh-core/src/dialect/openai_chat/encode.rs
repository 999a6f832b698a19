//! Writing a stream for a client.

use std::borrow::Cow;
use std::mem;

use super::citations;
use super::content::unsaid;
use super::decode::Last;
use super::delta::{ChunkBody, Delta};
use super::freeform;
use super::reasoning::{self, DetailBody};
use super::reply::{CITATIONS, LOGPROBS, client_style, finish_word, freeform_tools, note_lost};
use crate::dialect::openai::chunks::{Envelope, write_problem};
use crate::dialect::wire::{PassingText, note, write_event};
use crate::dialect::{Dialect, EncodeStream, ReplyContext};
use crate::error::Problem;
use crate::failure::FidelityNote;
use crate::request::{Citation, Part, PartKind, Signature};
use crate::stream::StreamEvent;

pub(super) struct Encoder {
    envelope: Envelope,
    choices: Vec<Choice>,
    /// Tools that the client has defined as free text.
    freeform: Vec<String>,
    notes: Vec<FidelityNote>,
}

#[derive(Default)]
struct Choice {
    index: u32,
    /// Whether its role has been told.
    opened: bool,
    last: Last,
    /// Pieces of reasoning that were signed, or are hidden.
    details: u32,
    /// The text of the piece of reasoning that is coming.
    thought: PassingText,
    /// Calls begun.
    calls: u32,
    /// Calls of free text whose arguments are still coming.
    texts: Vec<(u32, String)>,
}

impl Encoder {
    pub(super) fn new(context: &ReplyContext<'_>) -> Self {
        Self {
            envelope: Envelope::new(context, "chatcmpl-"),
            choices: Vec::new(),
            freeform: freeform_tools(context).into_iter().map(str::to_owned).collect(),
            notes: Vec::new(),
        }
    }

    fn choice(&mut self, index: u32) -> &mut Choice {
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None => {
                self.choices.push(Choice { index, ..Choice::default() });
                self.choices.len() - 1
            }
        };
        &mut self.choices[at]
    }

    /// Begins or goes on with a piece of this kind; what was the last before.
    fn turn_to(&mut self, index: u32, last: Last) -> Last {
        mem::replace(&mut self.choice(index).last, last)
    }

    fn chunk(&mut self, choice: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let role = !mem::replace(&mut self.choice(choice).opened, true);
        write_event(&ChunkBody { envelope: &self.envelope, choice, role, delta }, out);
    }

    fn text(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        self.turn_to(choice, Last::Text);
        self.chunk(choice, &Delta::Field("content", text), out);
    }

    fn refusal(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        self.turn_to(choice, Last::Other);
        self.chunk(choice, &Delta::Field("refusal", text), out);
    }

    fn reasoning(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        if self.turn_to(choice, Last::Reasoning) != Last::Reasoning {
            self.choice(choice).thought = PassingText::default();
        }
        self.choice(choice).thought.push(text);
        self.chunk(choice, &Delta::Field("reasoning_content", text), out);
    }

    /// Signs the piece that came last, which is complete by that.
    ///
    /// Reasoning is told once more with its signature, in one chunk: of fields they do not know, OpenAI's library for
    /// JavaScript keeps what came last while that for Python joins all, and what either sends back must be whole.
    fn signature(&mut self, choice: u32, signature: &Signature, out: &mut Vec<u8>) {
        let state = self.choice(choice);
        match state.last {
            Last::Reasoning => {
                let text = mem::take(&mut state.thought).into_string();
                let kind = PartKind::Reasoning(text);
                self.signed(choice, &Part { signature: Some(signature.clone()), ..kind.into() }, out);
            }
            Last::Text => {
                self.chunk(choice, &Delta::Signed(&signature.to_wire(Dialect::Gemini)), out);
            }
            Last::Call(call) => {
                let signature = &*signature.to_wire(Dialect::Gemini);
                self.chunk(choice, &Delta::CallSigned { call, signature }, out);
            }
            Last::Other => {}
        }
    }

    fn call_start(&mut self, choice: u32, call: u32, id: &str, name: &str, out: &mut Vec<u8>) {
        let is_freeform = self.freeform.iter().any(|tool| tool == name);
        let state = self.choice(choice);
        state.last = Last::Call(call);
        state.calls = state.calls.max(call.saturating_add(1));
        if is_freeform {
            state.texts.push((call, String::new()));
        }
        self.chunk(choice, &Delta::CallStart { call, id, name, is_freeform }, out);
    }

    fn call_more(&mut self, choice: u32, call: u32, arguments: &str, out: &mut Vec<u8>) {
        let mut texts = self.choice(choice).texts.iter_mut();
        if let Some((_, text)) = texts.find(|(of, _)| *of == call) {
            return text.push_str(arguments);
        }
        self.chunk(choice, &Delta::CallMore { call, arguments }, out);
    }

    /// Writes the free texts, which could not be told before their arguments were whole.
    fn free_texts(&mut self, choice: u32, out: &mut Vec<u8>) {
        for (call, arguments) in mem::take(&mut self.choice(choice).texts) {
            let input: Cow<'_, str> = freeform::input(&arguments);
            self.chunk(choice, &Delta::CallText { call, input: &input }, out);
        }
    }

    /// A whole piece.
    fn part(&mut self, choice: u32, part: &Part, out: &mut Vec<u8>) {
        match &part.kind {
            PartKind::Text(text) => self.text(choice, text, out),
            PartKind::Refusal(text) => self.refusal(choice, text, out),
            PartKind::Reasoning(text) => {
                self.turn_to(choice, Last::Other);
                self.reasoning(choice, text, out);
            }
            PartKind::Redacted => return self.hidden(choice, part, out),
            PartKind::ToolCall(call) => {
                let index = self.choice(choice).calls;
                self.call_start(choice, index, &call.id, &call.name, out);
                self.call_more(choice, index, &call.arguments, out);
            }
            _ => return self.other(choice, part, out),
        }
        if let Some(signature) = &part.signature {
            self.signature(choice, signature, out);
        }
        part.citations.iter().for_each(|citation| self.citation(choice, citation, out));
    }

    /// Reasoning of which there is only the signature.
    fn hidden(&mut self, choice: u32, part: &Part, out: &mut Vec<u8>) {
        if part.signature.is_none() {
            return;
        }
        self.signed(choice, part, out);
    }

    fn signed(&mut self, choice: u32, part: &Part, out: &mut Vec<u8>) {
        let state = self.choice(choice);
        state.last = Last::Other;
        state.details += 1;
        let (index, style) = (state.details - 1, client_style(self.envelope.akin, &[]));
        self.chunk(choice, &Delta::Detail(DetailBody { part, index, style }), out);
    }

    fn other(&mut self, choice: u32, part: &Part, out: &mut Vec<u8>) {
        self.turn_to(choice, Last::Other);
        let style = client_style(self.envelope.akin, &[]);
        note_lost(part, &style, &mut self.notes);
        let delta = match &part.kind {
            _ if unsaid(part, &style).is_some() => return,
            PartKind::Image { .. } => Delta::Image(part, style),
            PartKind::Other { json, .. } if reasoning::is_detail(part) => Delta::RawDetail(json),
            PartKind::Other { .. } => Delta::Content(part, style),
            _ => return,
        };
        self.chunk(choice, &delta, out);
    }

    fn citation(&mut self, choice: u32, citation: &Citation, out: &mut Vec<u8>) {
        if !citations::is_said(citation) {
            return note(&mut self.notes, FidelityNote::new(CITATIONS));
        }
        self.turn_to(choice, Last::Text);
        self.chunk(choice, &Delta::Citation(citation), out);
    }
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        if self.envelope.take(event) {
            if matches!(event, StreamEvent::Start { .. }) {
                self.chunk(0, &Delta::Opening, out);
            }
            return;
        }
        match event {
            StreamEvent::Text { choice, delta } => self.text(*choice, delta, out),
            StreamEvent::Reasoning { choice, delta } => self.reasoning(*choice, delta, out),
            StreamEvent::Refusal { choice, delta } => self.refusal(*choice, delta, out),
            StreamEvent::ToolCallStart { choice, call, id, name } => {
                self.call_start(*choice, *call, id, name, out);
            }
            StreamEvent::ToolCallDelta { choice, call, arguments } => {
                self.call_more(*choice, *call, arguments, out);
            }
            StreamEvent::Signature { choice, signature } => self.signature(*choice, signature, out),
            StreamEvent::Citation { choice, citation } => self.citation(*choice, citation, out),
            StreamEvent::Part { choice, part } => self.part(*choice, part, out),
            StreamEvent::PartEnd { choice } => {
                // Only reasoning is told in pieces here.
                if self.choice(*choice).last == Last::Reasoning {
                    self.turn_to(*choice, Last::Other);
                }
            }
            StreamEvent::Logprobs { choice, json } if self.envelope.akin => {
                self.chunk(*choice, &Delta::Logprobs(json), out);
            }
            StreamEvent::Logprobs { .. } => note(&mut self.notes, FidelityNote::new(LOGPROBS)),
            StreamEvent::Finish { choice, reason } => {
                self.free_texts(*choice, out);
                let word = finish_word(reason, self.envelope.akin, &mut self.notes);
                self.chunk(*choice, &Delta::Finish(word), out);
            }
            StreamEvent::Extra { choice: Some(choice), fields } => {
                self.chunk(*choice, &Delta::Extra(fields), out);
            }
            StreamEvent::Start { .. } | StreamEvent::Usage(_) | StreamEvent::Extra { choice: None, .. } => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.envelope.finish(super::delta::OBJECT, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        write_problem(problem, out);
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        mem::take(&mut self.notes)
    }
}
