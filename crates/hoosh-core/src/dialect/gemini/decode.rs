//! Reading answers: a stream's chunks, and a whole answer as the only chunk of one.
//!
//! Chunks have no end of their own: an answer is complete if every candidate has its finish reason when the bytes end.
//! Older models say a reason on every chunk, so that it is told at the end. A signature may come in an empty text at the
//! end; it signs the text before it, as it does in a whole answer.

use serde_json::value::RawValue;

use super::calls::name_in_answer;
use super::part::{self, CallPiece, Piece};
use super::partial::PartialArgs;
use super::{config, error, grounding, usage};
use crate::dialect::openai::chunks::tell_new_fields;
use crate::dialect::wire::{PassingText, reply_text};
use crate::dialect::{DecodeError, DecodeStream};
use crate::framing::SseFramer;
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::limits;
use crate::request::{Part, PartKind, Signature};
use crate::response::FinishReason;
use crate::stream::StreamEvent;
use crate::tool::ToolResult;
use crate::usage::{Provenance, Usage};

#[derive(Default)]
pub(super) struct Decoder {
    framer: SseFramer,
    reader: Reader,
}

/// What is read of an answer so far.
#[derive(Default)]
pub(super) struct Reader {
    started: bool,
    id: String,
    choices: Vec<Choice>,
    usage: Option<Usage>,
    extra: Extra,
}

#[derive(Default)]
struct Choice {
    index: u32,
    last: Last,
    calls: u32,
    open: Option<OpenCall>,
    reason: Option<FinishReason>,
    extra: Extra,
    /// Its text, by whose bytes sources are told.
    text: PassingText,
    told: grounding::Told,
}

/// The kind of the piece that came last, as far as a signature may belong to it.
#[derive(Clone, Copy, Default, PartialEq)]
enum Last {
    #[default]
    Nothing,
    Text,
    Reasoning,
}

/// A call that is not complete.
struct OpenCall {
    args: Option<String>,
    partial: PartialArgs,
    signature: Option<Signature>,
}

impl DecodeStream for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let mut fault = None;
        self.framer.push(bytes, |event| {
            if fault.is_none() {
                fault = self.reader.event(event.data, out).err();
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
        false
    }

    fn finish(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        // The last event may come without the blank line after it.
        let rest = self.framer.unfinished_data().filter(|data| !data.is_empty());
        let is_whole = rest.is_none_or(|data| serde_json::from_slice::<&RawValue>(data).is_ok());
        let last = match rest.filter(|_| is_whole) {
            Some(data) => self.reader.event(data, out),
            None => Ok(()),
        };
        if last.is_ok() && is_whole && self.reader.is_complete() {
            self.reader.close(out);
            return Ok(());
        }
        self.reader.tell_partial_usage(out);
        last.and(Err(DecodeError::Truncated))
    }
}

impl Reader {
    fn event(&mut self, data: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        // Some proxies write OpenAI's last word.
        if data == b"[DONE]" { Ok(()) } else { self.chunk(data, out) }
    }

    /// Reads a chunk, or a whole answer.
    pub(super) fn chunk(&mut self, data: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let mut object = Object::parse("", reply_text(data)?)?;
        if let Some(raw) = object.take_raw("error") {
            return Err(error::reported(raw));
        }
        let id: Option<String> = object.take("responseId")?;
        let model: Option<String> = object.take("modelVersion")?;
        let candidates = object.take_objects("candidates")?;
        let counts = object.take_raw("usageMetadata");
        let mut rest = object.rest();
        if !self.started {
            self.started = true;
            self.id = id.unwrap_or_default();
            let created = rest.get("createTime").and_then(|time| unix_seconds(time.get()));
            let (id, model) = (self.id.clone(), model.unwrap_or_default());
            out.push(StreamEvent::Start { id, model, created });
        }
        if let Some(raw) = counts {
            // Running totals: the last counts.
            self.usage = usage::decode(raw.get()).or(self.usage);
            if let Some(json) = usage::rest(raw).as_ref().and_then(config::as_json) {
                rest.insert(USAGE, json);
            }
        }
        if candidates.is_empty() && is_blocked(&rest) {
            choice_at(&mut self.choices, 0)?.reason = Some(FinishReason::ContentFilter);
        }
        tell_new_fields(rest, &mut self.extra, None, out);
        for candidate in candidates {
            self.candidate(candidate, out)?;
        }
        Ok(())
    }

    fn candidate(&mut self, mut object: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let index = object.take("index")?.unwrap_or(0);
        let content = object.take_object("content")?;
        let word: Option<String> = object.take("finishReason")?;
        let grounding = object.take_raw(grounding::NAME);
        let choice = choice_at(&mut self.choices, index)?;
        if let Some(mut content) = content {
            let parts: Vec<&RawValue> = content.take("parts")?.unwrap_or_default();
            for raw in parts {
                choice.piece(part::read("candidates.content.parts", raw)?, &self.id, out)?;
            }
        }
        let mut rest = object.rest();
        if let Some(raw) = grounding {
            rest.insert(grounding::NAME, raw.into());
            for citation in grounding::citations(raw, choice.text.as_str(), &mut choice.told) {
                choice.close_call(out);
                choice.last = Last::Text;
                out.push(StreamEvent::Citation { choice: index, citation });
            }
        }
        if let Some(word) = word.filter(|word| word != "FINISH_REASON_UNSPECIFIED") {
            choice.reason = Some(finish_reason(&word));
            if let Some(json) = exact_reason(&word) {
                rest.insert(REASON, json);
            }
        }
        tell_new_fields(rest, &mut choice.extra, Some(index), out);
        Ok(())
    }

    /// Whether nothing more need come.
    pub(super) fn is_complete(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.reason.is_some())
    }

    /// Whether there is any answer, or the word that there will be none.
    pub(super) fn has_choices(&self) -> bool {
        !self.choices.is_empty()
    }

    /// Tells what belongs to the end.
    pub(super) fn close(&mut self, out: &mut Vec<StreamEvent>) {
        for choice in &mut self.choices {
            choice.close_call(out);
            let reason = match choice.reason.take() {
                Some(FinishReason::Stop) if choice.calls > 0 => Some(FinishReason::ToolCalls),
                reason => reason,
            };
            out.extend(reason.map(|reason| StreamEvent::Finish { choice: choice.index, reason }));
        }
        out.extend(self.usage.take().map(StreamEvent::Usage));
    }

    fn tell_partial_usage(&mut self, out: &mut Vec<StreamEvent>) {
        let partial = self.usage.take().map(|usage| Usage { provenance: Provenance::Partial, ..usage });
        out.extend(partial.map(StreamEvent::Usage));
    }
}

impl Choice {
    fn piece(&mut self, piece: Piece, answer: &str, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        match piece {
            Piece::Call(call) => self.call(call, answer, out),
            Piece::Part(part) => {
                self.close_call(out);
                self.part(part, out);
                Ok(())
            }
            Piece::Result(result) => {
                self.close_call(out);
                let call_id = result.id.unwrap_or(result.name);
                let result = ToolResult { call_id, content: result.content, is_error: result.is_error };
                self.part(PartKind::ToolResult(result).into(), out);
                Ok(())
            }
        }
    }

    fn part(&mut self, part: Part, out: &mut Vec<StreamEvent>) {
        let choice = self.index;
        let (kind, delta) = match part.kind {
            PartKind::Text(text) => (Last::Text, text),
            PartKind::Reasoning(text) => (Last::Reasoning, text),
            kind => {
                self.last = Last::Nothing;
                return out.push(StreamEvent::Part { choice, part: Part { kind, ..part } });
            }
        };
        if !delta.is_empty() {
            self.last = kind;
            out.push(match kind {
                Last::Reasoning => StreamEvent::Reasoning { choice, delta },
                _ => {
                    self.text.push(&delta);
                    StreamEvent::Text { choice, delta }
                }
            });
        }
        let Some(signature) = part.signature else { return };
        out.push(if self.last == kind {
            StreamEvent::Signature { choice, signature }
        } else {
            // What came last is signed already, or of another kind: this one signs nothing but itself.
            let empty = match kind {
                Last::Reasoning => PartKind::Reasoning(String::new()),
                _ => PartKind::Text(String::new()),
            };
            StreamEvent::Part { choice, part: Part { signature: Some(signature), ..empty.into() } }
        });
        self.last = Last::Nothing;
    }

    fn call(&mut self, piece: CallPiece, answer: &str, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        if let Some(name) = piece.name.filter(|name| !name.is_empty()) {
            self.close_call(out);
            if self.calls as usize >= limits::TOOL_CALLS_MAX {
                let problem = format!("is beyond {} tool calls", limits::TOOL_CALLS_MAX);
                return Err(FieldError { path: "candidates.content.parts".to_owned(), problem });
            }
            let (choice, call) = (self.index, self.calls);
            let id = piece.id.unwrap_or_else(|| name_in_answer(answer, choice, call));
            out.push(StreamEvent::ToolCallStart { choice, call, id, name });
            self.calls += 1;
            self.last = Last::Nothing;
            self.open = Some(OpenCall { args: None, partial: PartialArgs::default(), signature: None });
        }
        // An empty piece after the last is the end of nothing.
        let Some(open) = &mut self.open else { return Ok(()) };
        for arg in piece.partial {
            open.partial.push(arg)?;
        }
        open.args = piece.args.or(open.args.take());
        open.signature = piece.signature.or(open.signature.take());
        if !piece.will_continue {
            self.close_call(out);
        }
        Ok(())
    }

    fn close_call(&mut self, out: &mut Vec<StreamEvent>) {
        let Some(open) = self.open.take() else { return };
        let (choice, call) = (self.index, self.calls - 1);
        let arguments = match open.args {
            Some(args) if open.partial.is_empty() => args,
            _ => open.partial.into_json(),
        };
        out.push(StreamEvent::ToolCallDelta { choice, call, arguments });
        out.extend(open.signature.map(|signature| StreamEvent::Signature { choice, signature }));
    }
}

/// What the counts do not hold of the usage rides along under its name.
pub(super) const USAGE: &str = "usageMetadata";

/// A reason that has no word of its own among ours rides along under its name.
pub(super) const REASON: &str = "finishReason";

/// The candidate of that index, made if it is new.
fn choice_at(choices: &mut Vec<Choice>, index: u32) -> Result<&mut Choice, FieldError> {
    let at = match choices.iter().position(|choice| choice.index == index) {
        Some(at) => at,
        None if choices.len() >= limits::CHOICES_MAX => {
            let problem = format!("is beyond {} candidates", limits::CHOICES_MAX);
            return Err(FieldError { path: "candidates.index".to_owned(), problem });
        }
        None => {
            choices.push(Choice { index, ..Choice::default() });
            choices.len() - 1
        }
    };
    Ok(&mut choices[at])
}

fn finish_reason(word: &str) -> FinishReason {
    match word {
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishReason::ContentFilter,
        other => FinishReason::Other(other.to_owned()),
    }
}

/// The word itself where it would be written as another.
fn exact_reason(word: &str) -> Option<RawJson> {
    let is_filter = finish_reason(word) == FinishReason::ContentFilter && word != "SAFETY";
    is_filter.then(|| RawJson::from_value(word).ok()).flatten()
}

/// Whether the prompt was refused, so that there is no candidate.
pub(super) fn is_blocked(extra: &Extra) -> bool {
    let feedback = extra.get("promptFeedback").and_then(config::fields_of);
    feedback.is_some_and(|feedback| feedback.get("blockReason").is_some())
}

/// `"2026-04-02T17:03:50.399550Z"` in Unix seconds.
fn unix_seconds(json: &str) -> Option<u64> {
    let text: String = serde_json::from_str(json).ok()?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || !(1..=12).contains(&month) || !text.ends_with('Z') {
        return None;
    }
    // Days since 1970 with years that begin in March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    Some(days.checked_sub(719_469)? * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        assert_eq!(unix_seconds(r#""1970-01-01T00:00:00Z""#), Some(0));
        assert_eq!(unix_seconds(r#""2026-04-02T17:03:50.399550Z""#), Some(1_775_149_430));
        assert_eq!(unix_seconds(r#""2024-02-29T12:00:00Z""#), Some(1_709_208_000));
        for text in [r#""""#, "7", r#""2026-13-02T17:03:50Z""#, r#""häß""#] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
    }
}
