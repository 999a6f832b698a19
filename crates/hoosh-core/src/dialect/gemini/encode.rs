//! Writing a stream for a client, as events or as one list.
//!
//! Google writes a call whole, so its arguments are gathered until something else comes. Why a candidate stopped and
//! what it took stand together in the last chunk, so they wait for the end.

use std::mem;

use super::body::{PartBody, What};
use super::calls::is_made_up;
use super::decode::is_blocked;
use super::error;
use super::part::signature_for_client;
use super::reply::{AnswerBody, Candidate, Envelope, client_part, is_akin, is_foreign};
use crate::dialect::wire::{Arguments, PassingText, note, write_json};
use crate::dialect::{EncodeStream, ReplyContext};
use crate::error::Problem;
use crate::failure::FidelityNote;
use crate::json::Extra;
use crate::request::{Citation, Part, Signature};
use crate::response::FinishReason;
use crate::stream::StreamEvent;
use crate::usage::Usage;

pub(super) struct Encoder {
    id: String,
    model: String,
    /// Whether unknown fields are of this dialect.
    akin: bool,
    json_list: bool,
    /// Whether a chunk has been written.
    begun: bool,
    extra: Extra,
    usage: Option<Usage>,
    choices: Vec<Choice>,
    notes: Vec<FidelityNote>,
}

#[derive(Default)]
struct Choice {
    index: u32,
    last: Last,
    calls: Vec<Call>,
    reason: Option<FinishReason>,
    extra: Extra,
    citations: Vec<Citation>,
    /// Its text, by whose bytes sources are told.
    text: PassingText,
}

/// The kind of the piece that came last, which a signature signs.
#[derive(Clone, Copy, Default, PartialEq)]
enum Last {
    #[default]
    Text,
    Reasoning,
    Call,
}

struct Call {
    call: u32,
    id: String,
    name: String,
    arguments: String,
    signature: Option<Signature>,
}

impl Encoder {
    pub(super) fn new(context: &ReplyContext<'_>) -> Self {
        Self {
            id: context.id.to_owned(),
            model: String::new(),
            akin: is_akin(context.origin),
            json_list: context.json_list,
            begun: false,
            extra: Extra::default(),
            usage: None,
            choices: Vec::new(),
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

    /// Writes the calls that are complete, up to the first of which more must come.
    fn flush_calls(&mut self, index: u32, out: &mut Vec<u8>) {
        let calls = &self.choice(index).calls;
        let is_open = |call: &Call| !Arguments(&call.arguments).is_object();
        let whole = calls.iter().position(is_open).unwrap_or(calls.len());
        self.write_calls(index, whole, out);
    }

    /// Writes all calls, as nothing more comes.
    fn end_calls(&mut self, index: u32, out: &mut Vec<u8>) {
        let all = self.choice(index).calls.len();
        self.write_calls(index, all, out);
    }

    fn write_calls(&mut self, index: u32, count: usize, out: &mut Vec<u8>) {
        if count == 0 {
            return;
        }
        let calls: Vec<Call> = self.choice(index).calls.drain(..count).collect();
        if calls.iter().any(|call| Arguments(&call.arguments).is_wrapped()) {
            note(&mut self.notes, FidelityNote::emulated("choices.tool_calls"));
        }
        let parts = calls.iter().map(|call| PartBody {
            what: What::Call {
                id: Some(call.id.as_str()).filter(|id| !id.is_empty() && !is_made_up(id)),
                name: &call.name,
                arguments: &call.arguments,
                extra: None,
            },
            signature: call.signature.as_ref().map(signature_for_client),
            extra: None,
        });
        self.write_parts(index, parts.collect(), out);
    }

    fn text(&mut self, index: u32, text: &str, last: Last, out: &mut Vec<u8>) {
        self.flush_calls(index, out);
        let keeps_text = !self.akin && last == Last::Text;
        let choice = self.choice(index);
        choice.last = last;
        if keeps_text {
            choice.text.push(text);
        }
        if !text.is_empty() {
            self.write_parts(index, vec![What::Text { text, thought: last == Last::Reasoning }.into()], out);
        }
    }

    fn signature(&mut self, index: u32, signature: &Signature, out: &mut Vec<u8>) {
        let choice = self.choice(index);
        let last = choice.last;
        if let Some(call) = choice.calls.last_mut().filter(|_| last == Last::Call) {
            call.signature = Some(signature.clone());
            return;
        }
        let what = What::Text { text: "", thought: last == Last::Reasoning };
        let part = PartBody { what, signature: Some(signature_for_client(signature)), extra: None };
        self.write_parts(index, vec![part], out);
    }

    fn part(&mut self, index: u32, part: &Part, out: &mut Vec<u8>) {
        self.flush_calls(index, out);
        self.choice(index).last = Last::Text;
        let mut notes = mem::take(&mut self.notes);
        if let Some(body) = client_part(part, self.akin, &mut notes) {
            self.write_parts(index, vec![body], out);
        }
        self.notes = notes;
        for citation in part.citations.iter().filter(|citation| is_foreign(citation)) {
            self.choice(index).citations.push(citation.clone());
        }
    }

    fn write_parts(&mut self, index: u32, parts: Vec<PartBody<'_>>, out: &mut Vec<u8>) {
        let candidate =
            Candidate { index, parts, reason: None, citations: Vec::new(), text: "".into(), extra: None };
        self.write(&[candidate], None, out);
    }

    fn write(&mut self, candidates: &[Candidate<'_>], usage: Option<Usage>, out: &mut Vec<u8>) {
        self.open(out);
        let start = out.len();
        let extra = Some(&self.extra).filter(|_| self.akin);
        let envelope = Envelope { id: &self.id, model: &self.model, extra };
        write_json(&AnswerBody { candidates, usage, envelope }, out);
        self.shut(start, out);
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        let begun = mem::replace(&mut self.begun, true);
        out.extend_from_slice(match (self.json_list, begun) {
            (false, _) => b"data: ".as_slice(),
            (true, false) => b"[",
            (true, true) => b"\n,\n",
        });
    }

    fn shut(&self, start: usize, out: &mut Vec<u8>) {
        if self.json_list {
            return;
        }
        // Raw JSON in it may hold line ends, which are blanks between its words: none of them is in a string.
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        out.extend_from_slice(b"\n\n");
    }
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { id, model, .. } => {
                if !id.is_empty() {
                    self.id.clone_from(id);
                }
                self.model.clone_from(model);
            }
            StreamEvent::Text { choice, delta } | StreamEvent::Refusal { choice, delta } => {
                self.text(*choice, delta, Last::Text, out);
            }
            StreamEvent::Reasoning { choice, delta } => self.text(*choice, delta, Last::Reasoning, out),
            StreamEvent::ToolCallStart { choice, call, id, name } => {
                let choice = self.choice(*choice);
                choice.last = Last::Call;
                let (id, name) = (id.clone(), name.clone());
                choice.calls.push(Call { call: *call, id, name, arguments: String::new(), signature: None });
            }
            StreamEvent::ToolCallDelta { choice, call, arguments } => {
                let calls = &mut self.choice(*choice).calls;
                if let Some(found) = calls.iter_mut().find(|known| known.call == *call) {
                    found.arguments.push_str(arguments);
                }
            }
            StreamEvent::Signature { choice, signature } => self.signature(*choice, signature, out),
            StreamEvent::Part { choice, part } => self.part(*choice, part, out),
            StreamEvent::Citation { choice, citation } => {
                if is_foreign(citation) {
                    self.choice(*choice).citations.push(citation.clone());
                }
            }
            StreamEvent::Logprobs { .. } => note(&mut self.notes, FidelityNote::new("logprobs")),
            StreamEvent::Finish { choice, reason } => {
                self.end_calls(*choice, out);
                self.choice(*choice).reason = Some(reason.clone());
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Extra { choice, fields } if self.akin => {
                let extra = match choice {
                    Some(index) => &mut self.choice(*index).extra,
                    None => &mut self.extra,
                };
                fields.iter().for_each(|(name, value)| extra.insert(name, value.clone()));
            }
            StreamEvent::Extra { .. } | StreamEvent::PartEnd { .. } => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let indices: Vec<_> = self.choices.iter().map(|choice| choice.index).collect();
        indices.into_iter().for_each(|index| self.end_calls(index, out));
        let choices = mem::take(&mut self.choices);
        let is_refused = self.akin && !self.begun && is_blocked(&self.extra);
        let candidates = choices.iter().filter(|_| !is_refused).map(|choice| Candidate {
            index: choice.index,
            parts: vec![What::Text { text: "", thought: false }.into()],
            reason: choice.reason.as_ref(),
            citations: choice.citations.iter().collect(),
            text: choice.text.as_str().into(),
            extra: Some(&choice.extra).filter(|_| self.akin),
        });
        let candidates: Vec<_> = candidates.collect();
        let usage = self.usage.take();
        self.write(&candidates, usage, out);
        if self.json_list {
            out.extend_from_slice(b"\n]");
        }
    }

    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        self.open(out);
        let start = out.len();
        error::encode_into(problem, out);
        self.shut(start, out);
        if self.json_list {
            out.extend_from_slice(b"\n]");
        }
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        mem::take(&mut self.notes)
    }
}
