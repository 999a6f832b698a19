//! Reading a provider's stream.
//!
//! Put right here: a `message_start` that comes twice before anything was said, a `tool_use` whose block begins without
//! `input` (llama.cpp) or with all of it. A second message that begins inside the first, as a broken proxy splices them,
//! is an error: what was shown already cannot be taken back.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::blocks::citation;
use super::error::reported;
use super::reply::finish_reason;
use super::usage::Counts;
use crate::dialect::openai::tap::read;
use crate::dialect::{DecodeError, DecodeStream, Dialect};
use crate::framing::SseFramer;
use crate::json::{FieldError, Object, RawJson};
use crate::limits;
use crate::request::{PartKind, Signature};
use crate::response::FinishReason;
use crate::stream::StreamEvent;
use crate::usage::{Provenance, Usage};

#[derive(Default)]
pub(super) struct Decoder {
    framer: SseFramer,
    state: State,
}

#[derive(Default)]
struct State {
    started: bool,
    /// The block being told.
    block: Option<Block>,
    /// Whether a block has begun.
    begun: bool,
    /// How many tools have been called.
    calls: u32,
    counts: Counts,
    finished: bool,
    done: bool,
}

/// A block on its way.
struct Block {
    index: u64,
    kind: BlockKind,
}

enum BlockKind {
    /// Told as it comes.
    Told,
    /// A tool call: which, its whole input if the block began with one, and whether any of it came in deltas.
    Call { call: u32, whole: String, has_deltas: bool },
    /// Carried unread, told at its end: what it began as, and the input that came in deltas.
    Other { kind: String, json: Box<RawValue>, input: String },
    /// A signature of another maker, which belongs to the piece before.
    Foreign,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    citation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stop_sequence: Option<Cow<'a, str>>,
}

impl DecodeStream for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let (state, mut fault) = (&mut self.state, None);
        self.framer.push(bytes, |event| {
            if fault.is_none() && !state.done {
                fault = state.event(event.data, out).err();
            }
        })?;
        match fault {
            Some(fault) => {
                self.state.tell_partial_usage(out);
                Err(fault)
            }
            None => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        self.state.done
    }

    fn finish(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        if !self.state.done
            && let Some(data) = self.framer.unfinished_data()
            && data.windows(STOP.len()).any(|word| word == STOP)
            && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
        {
            self.state.event(data, out)?;
        }
        if self.state.done && self.state.finished {
            out.extend(self.state.counts.usage().map(StreamEvent::Usage));
            return Ok(());
        }
        self.state.tell_partial_usage(out);
        Err(DecodeError::Truncated)
    }
}

/// The word that ends a stream.
const STOP: &[u8] = b"message_stop";

/// All choices are one here.
const CHOICE: u32 = 0;

impl State {
    fn event(&mut self, data: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let event: Event<'_> = read(data)?;
        match &*event.r#type {
            "message_start" => self.start(event.message, out),
            "content_block_start" => self.block_start(event.index, event.content_block, out),
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.delta(event.index, delta, out);
                }
                Ok(())
            }
            "content_block_stop" => {
                self.block_stop(out);
                Ok(())
            }
            "message_delta" => {
                if let Some(raw) = event.usage {
                    self.counts.update(Counts::read(raw.get()));
                }
                if let Some(delta) = event.delta {
                    self.stop_reason(delta, out);
                }
                Ok(())
            }
            "message_stop" => {
                self.done = true;
                Ok(())
            }
            "error" => {
                let json = serde_json::from_slice(data).unwrap_or_default();
                Err(DecodeError::Reported(Box::new(reported(&json))))
            }
            // `ping`, and whatever Anthropic adds: clients are told to pass over what they do not know.
            _ => Ok(()),
        }
    }

    fn start(&mut self, message: Option<&RawValue>, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        let mut object = Object::parse("message", message.map_or("{}", RawValue::get))?;
        if let Some(raw) = object.take_raw("usage") {
            self.counts.update(Counts::read(raw.get()));
        }
        if self.started {
            if !self.begun {
                return Ok(());
            }
            let problem = "a second message begins inside the first".to_owned();
            return Err(FieldError { path: "type".to_owned(), problem }.into());
        }
        self.started = true;
        let id = object.take("id")?.unwrap_or_default();
        let model = object.take("model")?.unwrap_or_default();
        out.push(StreamEvent::Start { id, model, created: None });
        // The prompt is known from here on, should the stream end early.
        out.extend(self.counts.usage().map(StreamEvent::Usage));
        for known in ["type", "role", "content", "stop_reason", "stop_sequence"] {
            object.take_raw(known);
        }
        let fields = object.rest();
        if !fields.is_empty() {
            out.push(StreamEvent::Extra { choice: None, fields });
        }
        Ok(())
    }

    fn block_start(
        &mut self,
        index: u64,
        raw: Option<&RawValue>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        self.begun = true;
        // One that was never ended.
        self.block_stop(out);
        let Some(raw) = raw else {
            return Err(
                FieldError { path: "content_block".to_owned(), problem: "is missing".to_owned() }.into()
            );
        };
        let mut object = Object::parse("content_block", raw.get())?;
        let word: String = object.require("type")?;
        let kind = match word.as_str() {
            "text" => {
                self.text(object.take("text")?, out);
                BlockKind::Told
            }
            "thinking" => {
                let delta = object.take::<String>("thinking")?.unwrap_or_default();
                // Empty too: some models sign thoughts that they do not show.
                out.push(StreamEvent::Reasoning { choice: CHOICE, delta });
                BlockKind::Told
            }
            "redacted_thinking" => {
                let signature = Signature::from_wire(
                    Dialect::Anthropic,
                    object.take::<String>("data")?.unwrap_or_default(),
                );
                if signature.maker == Dialect::Anthropic {
                    let part =
                        crate::request::Part { signature: Some(signature), ..PartKind::Redacted.into() };
                    out.push(StreamEvent::Part { choice: CHOICE, part });
                    BlockKind::Told
                } else {
                    out.push(StreamEvent::Signature { choice: CHOICE, signature });
                    BlockKind::Foreign
                }
            }
            "tool_use" => {
                let call = self.calls;
                if call as usize >= limits::TOOL_CALLS_MAX {
                    let problem = format!("there are more than {} tool calls", limits::TOOL_CALLS_MAX);
                    return Err(FieldError { path: "content_block".to_owned(), problem }.into());
                }
                self.calls += 1;
                let (id, name) = (object.require("id")?, object.require("name")?);
                out.push(StreamEvent::ToolCallStart { choice: CHOICE, call, id, name });
                let whole = object.take_raw("input").map_or("{}", RawValue::get).to_owned();
                BlockKind::Call { call, whole, has_deltas: false }
            }
            _ => BlockKind::Other { kind: word, json: raw.to_owned(), input: String::new() },
        };
        self.block = Some(Block { index, kind });
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: Delta<'_>, out: &mut Vec<StreamEvent>) {
        let Some(block) = self.block.as_mut().filter(|block| block.index == index) else { return };
        if let Some(text) = delta.partial_json.filter(|text| !text.is_empty()) {
            match &mut block.kind {
                BlockKind::Call { call, has_deltas, .. } => {
                    *has_deltas = true;
                    let (call, arguments) = (*call, text.into_owned());
                    out.push(StreamEvent::ToolCallDelta { choice: CHOICE, call, arguments });
                }
                BlockKind::Other { input, .. }
                    if input.len() + text.len() <= limits::STREAM_EVENT_BYTES_MAX =>
                {
                    input.push_str(&text);
                }
                _ => {}
            }
            return;
        }
        if let Some(text) = delta.thinking.filter(|text| !text.is_empty()) {
            out.push(StreamEvent::Reasoning { choice: CHOICE, delta: text.into_owned() });
        }
        self.text(delta.text.map(Cow::into_owned), out);
        if let Some(text) = delta.signature.filter(|text| !text.is_empty()) {
            let signature = Signature::from_wire(Dialect::Anthropic, text.into_owned());
            out.push(StreamEvent::Signature { choice: CHOICE, signature });
        }
        if let Some(raw) = delta.citation {
            out.push(StreamEvent::Citation { choice: CHOICE, citation: citation(raw) });
        }
    }

    fn text(&mut self, text: Option<String>, out: &mut Vec<StreamEvent>) {
        if let Some(delta) = text.filter(|text| !text.is_empty()) {
            out.push(StreamEvent::Text { choice: CHOICE, delta });
        }
    }

    fn block_stop(&mut self, out: &mut Vec<StreamEvent>) {
        match self.block.take().map(|block| block.kind) {
            None | Some(BlockKind::Foreign) => return,
            Some(BlockKind::Told) => {}
            Some(BlockKind::Call { call, whole, has_deltas }) => {
                if !has_deltas {
                    out.push(StreamEvent::ToolCallDelta { choice: CHOICE, call, arguments: whole });
                }
            }
            Some(BlockKind::Other { kind, json, input }) => {
                let json = with_input(&json, input);
                let part = PartKind::Other { maker: Dialect::Anthropic, kind, json }.into();
                out.push(StreamEvent::Part { choice: CHOICE, part });
            }
        }
        out.push(StreamEvent::PartEnd { choice: CHOICE });
    }

    fn stop_reason(&mut self, delta: Delta<'_>, out: &mut Vec<StreamEvent>) {
        let Some(word) = delta.stop_reason else { return };
        self.block_stop(out);
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let reason = match finish_reason(&word, delta.stop_sequence.map(Cow::into_owned)) {
            FinishReason::Stop if self.calls > 0 => FinishReason::ToolCalls,
            reason => reason,
        };
        out.push(StreamEvent::Finish { choice: CHOICE, reason });
    }

    fn tell_partial_usage(&mut self, out: &mut Vec<StreamEvent>) {
        let partial = std::mem::take(&mut self.counts).usage();
        let partial = partial.map(|usage| Usage { provenance: Provenance::Partial, ..usage });
        out.extend(partial.map(StreamEvent::Usage));
    }
}

/// A block as it would stand in a whole answer: with the input that came in deltas.
fn with_input(json: &RawValue, input: String) -> RawJson {
    let Ok(input) = RawJson::parse(input) else { return json.into() };
    let Ok(object) = Object::parse("", json.get()) else { return json.into() };
    let mut fields = object.rest();
    fields.insert("input", input);
    RawJson::from_value(&fields).unwrap_or_else(|_| json.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;
    use crate::response::InferenceResponse;
    use crate::stream::fold;

    fn decode(events: &[&str]) -> Result<InferenceResponse, DecodeError> {
        let bytes: String = events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect();
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        decoder.push(bytes.as_bytes(), &mut events)?;
        decoder.finish(&mut events)?;
        Ok(fold(events))
    }

    const START: &str = r#"{"type":"message_start","message":{"id":"m1","type":"message","role":"assistant","content":[],"model":"c","usage":{"input_tokens":5,"output_tokens":1}}}"#;
    const TOOL: &str = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":7}}"#;
    const END: &str = r#"{"type":"message_stop"}"#;

    #[track_caller]
    fn check_call(blocks: &[&str], expected: &str) {
        let all: Vec<&str> = [START].iter().chain(blocks).chain(&[TOOL, END]).copied().collect();
        let reply = decode(&all).unwrap();
        let arguments: Vec<&str> = reply.tool_calls().map(|call| call.arguments.as_str()).collect();
        assert_eq!(arguments, [expected]);
        assert_eq!(reply.usage.unwrap().total(), 12);
    }

    #[test]
    fn inputs_come_in_deltas_or_whole_or_not_at_all() {
        let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#;
        let stop = r#"{"type":"content_block_stop","index":0}"#;
        let begin = |input: &str| {
            format!(
                r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"tool_use","id":"t","name":"f"{input}}}}}"#
            )
        };
        check_call(&[&begin(r#","input":{}"#), delta, stop], r#"{"a":1}"#);
        check_call(&[&begin(""), delta, stop], r#"{"a":1}"#);
        check_call(&[&begin(r#","input":{"b":2}"#), stop], r#"{"b":2}"#);
        check_call(&[&begin(""), stop], "{}");
        // Never ended.
        check_call(&[&begin(""), delta], r#"{"a":1}"#);
    }

    #[test]
    fn a_doubled_start_is_healed_and_a_spliced_one_is_an_error() {
        let text = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"hi"}}"#;
        let reply = decode(&[START, START, text, TOOL, END]).unwrap();
        assert_eq!((reply.id.as_str(), reply.text.as_str()), ("m1", "hi"));
        assert!(matches!(decode(&[START, text, START, TOOL, END]), Err(DecodeError::Field(_))));
    }

    #[test]
    fn an_error_event_is_an_error() {
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let Err(DecodeError::Reported(failure)) = decode(&[START, error]) else { panic!("no error") };
        assert_eq!((failure.kind, failure.status), (FailureKind::Failed, None));
    }

    #[test]
    fn the_providers_own_tools_are_told_whole() {
        let reply = decode(&[
            START,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"\"q\"}"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            TOOL,
            END,
        ])
        .unwrap();
        let PartKind::Other { json, .. } = &reply.choices[0].parts[0].kind else { panic!("{reply:?}") };
        assert_eq!(
            json.get(),
            r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"q"}}"#
        );
    }
}
