//! Reading a provider's stream.
//!
//! Vendors depart from the dialect in how tool calls come: all with index 0, a whole call in one chunk, no id, no
//! index, the name repeated or empty in later deltas, arguments as an object. All of that is put right here.

use std::mem;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::reply::finish_reason;
use super::request::{arguments_text, parts};
use crate::dialect::openai::chunks::{Chunks, ReadChoice, tell_new_fields};
use crate::dialect::{DecodeError, DecodeStream, Quirks};
use crate::framing::SseFramer;
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::limits;
use crate::request::PartKind;
use crate::stream::StreamEvent;

pub(super) struct Decoder {
    framer: SseFramer,
    chunks: Chunks<ChatChoices>,
}

#[derive(Default)]
struct ChatChoices(Vec<ChatChoice>);

#[derive(Default)]
struct ChatChoice {
    index: u32,
    calls: Vec<Call>,
    finished: bool,
    extra: Extra,
}

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
}

impl Decoder {
    pub(super) fn new(quirks: Quirks) -> Self {
        Self { framer: SseFramer::default(), chunks: Chunks::new(quirks, ChatChoices::default()) }
    }
}

impl DecodeStream for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        self.chunks.push(&mut self.framer, bytes, out)
    }

    fn is_done(&self) -> bool {
        self.chunks.is_done()
    }

    fn finish(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        self.chunks.finish(&mut self.framer, out)
    }
}

impl ReadChoice for ChatChoices {
    fn read(&mut self, mut object: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let index = object.take("index")?.unwrap_or(0);
        let at = match self.0.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None => {
                if self.0.len() >= limits::CHOICES_MAX {
                    return Err(object.wrong("index", format!("is beyond {} choices", limits::CHOICES_MAX)));
                }
                self.0.push(ChatChoice { index, ..ChatChoice::default() });
                self.0.len() - 1
            }
        };
        let state = &mut self.0[at];
        if let Some(delta) = object.take_object("delta")? {
            state.delta(delta, out)?;
        }
        if let Some(raw) = object.take_raw("logprobs") {
            out.push(StreamEvent::Logprobs { choice: index, json: RawJson::from(raw) });
        }
        // Some servers send an empty reason until there is one.
        if let Some(word) = object.take::<String>("finish_reason")?.filter(|word| !word.is_empty()) {
            // Some servers repeat it on the chunks that follow.
            if !mem::replace(&mut state.finished, true) {
                let reason = finish_reason(&word, !state.calls.is_empty());
                out.push(StreamEvent::Finish { choice: index, reason });
            }
        }
        Ok(())
    }

    fn all_finished(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|choice| choice.finished)
    }
}

impl ChatChoice {
    fn delta(&mut self, mut delta: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let choice = self.index;
        delta.take_raw("role");
        for name in ["reasoning_content", "reasoning"] {
            if let Some(delta) = delta.take::<&RawValue>(name)?.and_then(text_of) {
                out.push(StreamEvent::Reasoning { choice, delta });
                break;
            }
        }
        // The same text under the other name is not told twice.
        delta.take_raw("reasoning");
        for part in parts(&mut delta, "content")? {
            match part.kind {
                PartKind::Text(text) if !text.is_empty() => {
                    out.push(StreamEvent::Text { choice, delta: text })
                }
                PartKind::Reasoning(text) if !text.is_empty() => {
                    out.push(StreamEvent::Reasoning { choice, delta: text });
                }
                _ => {}
            }
        }
        if let Some(text) = delta.take::<String>("refusal")?.filter(|text| !text.is_empty()) {
            out.push(StreamEvent::Refusal { choice, delta: text });
        }
        for call in delta.take_objects("tool_calls")? {
            self.tool_call(call, out)?;
        }
        tell_new_fields(delta.rest(), &mut self.extra, Some(choice), out);
        Ok(())
    }

    fn tool_call(&mut self, mut object: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let choice = self.index;
        let index: Option<u32> = object.take("index")?;
        let id = object.take::<String>("id")?.filter(|id| !id.is_empty());
        let mut function = object.take_object("function")?;
        let (name, arguments) = match &mut function {
            Some(function) => (
                function.take::<String>("name")?.filter(|name| !name.is_empty()),
                function.take_raw("arguments").map(arguments_text).filter(|text| !text.is_empty()),
            ),
            None => (None, None),
        };
        let known = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let at =
            match known.filter(|at| !self.calls[*at].is_followed_by(index, id.as_deref(), name.as_deref())) {
                Some(at) => at,
                None => {
                    if self.calls.len() >= limits::TOOL_CALLS_MAX {
                        return Err(
                            object.wrong("index", format!("is beyond {} tool calls", limits::TOOL_CALLS_MAX))
                        );
                    }
                    self.calls.push(Call { index, ..Call::default() });
                    self.calls.len() - 1
                }
            };
        let call = &mut self.calls[at];
        if call.name.is_empty() {
            call.name = name.unwrap_or_default();
        }
        if call.id.is_empty() {
            call.id = id.unwrap_or_default();
        }
        // An id may come before the name, but not later than the first arguments.
        if !call.told && (!call.name.is_empty() || arguments.is_some()) {
            call.told = true;
            if call.id.is_empty() {
                call.id = format!("call_{choice}_{at}");
            }
            let (id, name) = (call.id.clone(), call.name.clone());
            out.push(StreamEvent::ToolCallStart { choice, call: at as u32, id, name });
        }
        if let Some(arguments) = arguments {
            call.arguments.push_str(&arguments);
            out.push(StreamEvent::ToolCallDelta { choice, call: at as u32, arguments });
        }
        Ok(())
    }
}

impl Call {
    /// Whether a delta at the same place begins another call: it names a tool, and says by another id, by another name, or
    /// by coming after whole arguments that it is not this one. An id alone says nothing: some servers make up a new one
    /// for every delta.
    fn is_followed_by(&self, index: Option<u32>, id: Option<&str>, name: Option<&str>) -> bool {
        let Some(name) = name else { return false };
        if !self.told {
            return false;
        }
        match id {
            Some(id) => id != self.id,
            None => {
                index.is_none()
                    || name != self.name
                    || serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok()
            }
        }
    }
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(raw.get()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::EncodeStream;
    use crate::dialect::openai_chat::encode::Encoder;
    use crate::error::Problem;
    use crate::response::{FinishReason, InferenceResponse};
    use crate::stream::fold;
    use crate::usage::{Provenance, Usage};

    fn decode(stream: &str) -> Result<InferenceResponse, DecodeError> {
        let mut decoder = Decoder::new(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(stream.as_bytes(), &mut events)?;
        decoder.finish(&mut events)?;
        Ok(fold(events))
    }

    fn stream_of(deltas: &[&str]) -> String {
        let chunk = |delta: &&str| {
            format!(
                "data: {{\"id\":\"x\",\"created\":1,\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n"
            )
        };
        let chunks: String = deltas.iter().map(chunk).collect();
        chunks
            + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
    }

    #[track_caller]
    fn check_calls(deltas: &[&str], expected: &[(&str, &str, &str)]) {
        let reply = decode(&stream_of(deltas)).unwrap();
        let calls: Vec<_> = reply
            .tool_calls()
            .map(|call| (call.id.as_str(), call.name.as_str(), call.arguments.as_str()))
            .collect();
        assert_eq!(calls, expected);
        assert_eq!(reply.finish_reason(), Some(&FinishReason::ToolCalls));
    }

    #[test]
    fn tool_calls_as_openai_sends_them() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#,
            ],
            &[("a", "f", r#"{"x":1}"#), ("b", "g", "{}")],
        );
    }

    #[test]
    fn tool_calls_that_all_have_index_0() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"{\"y\":2}"}}]}"#,
            ],
            &[("a", "f", "{}"), ("b", "f", r#"{"y":2}"#)],
        );
    }

    #[test]
    fn tool_calls_without_index_or_id_and_with_objects() {
        check_calls(
            &[
                r#"{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}"#,
                r#"{"tool_calls":[{"function":{"name":"g","arguments":"{"}}]}"#,
                r#"{"tool_calls":[{"function":{"arguments":"}"}}]}"#,
            ],
            &[("call_0_0", "f", r#"{"a":1}"#), ("call_0_1", "g", "{}")],
        );
    }

    #[test]
    fn tool_calls_with_the_name_or_id_repeated() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"name":"","arguments":"{"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}]}"#,
            ],
            &[("a", "f", "{}")],
        );
    }

    #[test]
    fn tool_calls_that_all_have_index_0_and_no_id() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a\":1}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"name":"g","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"name":"g","arguments":"{\"b\":2}"}}]}"#,
            ],
            &[("call_0_0", "f", r#"{"a":1}"#), ("call_0_1", "g", "{}"), ("call_0_2", "g", r#"{"b":2}"#)],
        );
    }

    #[test]
    fn tool_calls_with_a_new_id_on_every_delta_or_the_id_before_the_name() {
        check_calls(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a"}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"c","function":{"arguments":"{"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"d","function":{"arguments":"}"}}]}"#,
            ],
            &[("a", "f", "{}")],
        );
    }

    #[test]
    fn a_stream_without_its_end_is_cut() {
        let whole = stream_of(&[r#"{"content":"hi"}"#]);
        let end = whole.find("[DONE]").unwrap() + "[DONE]".len();
        for cut in 0..end {
            assert_eq!(decode(&whole[..cut]), Err(DecodeError::Truncated), "cut at {cut}");
        }
        assert_eq!(decode(&whole[..end]).unwrap().text, "hi");
        assert_eq!(decode("data: [DONE]\n\n"), Err(DecodeError::Truncated), "nothing was said");
    }

    #[test]
    fn usage_of_a_cut_stream_is_partial() {
        let mut decoder = Decoder::new(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n", &mut events).unwrap();
        assert_eq!(decoder.finish(&mut events), Err(DecodeError::Truncated));
        let Some(StreamEvent::Usage(usage)) = events.last() else { panic!("{events:?}") };
        assert_eq!((usage.input, usage.provenance), (Some(3), Provenance::Partial));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let deltas = [
            r#"{"role":"assistant","reasoning":"hm"}"#,
            r#"{"content":"häß "}"#,
            r#"{"content":"日本"}"#,
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#,
            r#"{"annotations":[1]}"#,
        ];
        let mut decoder = Decoder::new(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(stream_of(&deltas).as_bytes(), &mut events).unwrap();
        decoder.finish(&mut events).unwrap();
        events.push(StreamEvent::Usage(Usage { input: Some(1), output: Some(2), ..Usage::default() }));

        let mut encoder = Encoder::new(true);
        let mut bytes = Vec::new();
        events.iter().for_each(|event| encoder.event(event, &mut bytes));
        encoder.finish(&mut bytes);
        assert_eq!(decode(std::str::from_utf8(&bytes).unwrap()).unwrap(), fold(events));
    }

    #[test]
    fn an_error_ends_a_stream_without_done() {
        let mut bytes = Vec::new();
        let problem = Problem::new(crate::error::ProblemKind::Upstream, "upstream_broken", "it broke off");
        Encoder::new(false).problem(&problem, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("data: {\"error\":{\"message\":\"it broke off\"") && !text.contains("[DONE]")
        );
    }
}
