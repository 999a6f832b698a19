//! Reading a provider's stream.
//!
//! Vendors depart from the dialect in how tool calls come: all with index 0, a whole call in one chunk, no id, no
//! index, the name repeated or empty in later deltas, arguments as an object. All of that is put right here.
//! Of OpenRouter's `reasoning_details` a stream tells the text and the signatures; their ids and formats are read in
//! whole answers only.

use serde_json::value::RawValue;

use super::calls::Calls;
use super::citations;
use super::content::parts;
use super::message::images;
use super::reasoning::{Detail, take_details, take_thought_signature};
use super::reply::finish_reason;
use crate::dialect::openai::chunks::{Chunks, ReadChoice, tell_new_fields};
use crate::dialect::wire::PassingText;
use crate::dialect::{DecodeError, DecodeStream, Quirks};
use crate::framing::SseFramer;
use crate::json::{Extra, FieldError, Object};
use crate::request::{Part, PartKind};
use crate::response::FinishReason;
use crate::stream::StreamEvent;

pub(super) struct Decoder {
    framer: SseFramer,
    chunks: Chunks<ChatChoice>,
}

#[derive(Default)]
struct ChatChoice {
    calls: Calls,
    /// The unknown fields last told.
    extra: Extra,
    last: Last,
    /// The vendor's number of the piece of reasoning that came last.
    detail: Option<u32>,
    /// The reasoning told since the last signature in deltas without a number, which the signature may come with again.
    unnumbered: PassingText,
}

/// What the piece that came last is, which is the one that a signature belongs to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Last {
    #[default]
    Other,
    Text,
    Reasoning,
    Call(u32),
}

impl Decoder {
    pub(super) fn new(quirks: Quirks) -> Self {
        Self { framer: SseFramer::default(), chunks: Chunks::new(quirks) }
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

impl ReadChoice for ChatChoice {
    fn read(
        &mut self,
        choice: u32,
        object: &mut Object<'_>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), FieldError> {
        match object.take_object("delta")? {
            Some(delta) => self.delta(choice, delta, out),
            None => Ok(()),
        }
    }

    fn finish(&mut self, choice: u32, word: &str, out: &mut Vec<StreamEvent>) -> FinishReason {
        self.calls.finish(choice, out);
        finish_reason(word, !self.calls.is_empty())
    }
}

impl ChatChoice {
    fn delta(
        &mut self,
        choice: u32,
        mut delta: Object<'_>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), FieldError> {
        delta.take_raw("role");
        self.reasoning(choice, &mut delta, out);
        self.content(choice, &mut delta, out)?;
        if let Some(delta) = delta.take::<String>("refusal")?.filter(|text| !text.is_empty()) {
            self.last = Last::Other;
            out.push(StreamEvent::Refusal { choice, delta });
        }
        for call in delta.take_objects("tool_calls")? {
            self.calls.read(choice, call, &mut self.last, out)?;
        }
        tell_new_fields(delta.rest(), &mut self.extra, Some(choice), out);
        Ok(())
    }

    /// The same text under several names is told once.
    fn reasoning(&mut self, choice: u32, delta: &mut Object<'_>, out: &mut Vec<StreamEvent>) {
        let (content, short) = (delta.take_raw("reasoning_content"), delta.take_raw("reasoning"));
        let text = content.and_then(text_of).or_else(|| short.and_then(text_of));
        let details = take_details(delta);
        if let Some(first) = details.first() {
            self.turn_to(choice, first.index, out);
        }
        let told = text.is_some();
        if told && details.is_empty() && self.last != Last::Reasoning {
            // A piece of which no number is said.
            self.detail = None;
        }
        if let Some(delta) = text {
            if details.is_empty() {
                self.unnumbered.push(&delta);
            }
            self.last = Last::Reasoning;
            out.push(StreamEvent::Reasoning { choice, delta });
        }
        for Detail { index, part } in details {
            self.turn_to(choice, index, out);
            self.detail(choice, part, told, out);
        }
    }

    /// Ends the piece of reasoning before, if another is begun.
    fn turn_to(&mut self, choice: u32, index: Option<u32>, out: &mut Vec<StreamEvent>) {
        if index.is_none() || index == self.detail {
            return;
        }
        if self.detail.is_some() && self.last == Last::Reasoning {
            out.push(StreamEvent::PartEnd { choice });
            self.last = Last::Other;
        }
        self.detail = index;
    }

    fn detail(&mut self, choice: u32, part: Part, told: bool, out: &mut Vec<StreamEvent>) {
        let (mut text, signature) = match part {
            Part { kind: PartKind::Reasoning(text), signature, .. } => (text, signature),
            part => {
                self.last = Last::Other;
                return out.push(StreamEvent::Part { choice, part });
            }
        };
        if signature.is_some() && std::mem::take(&mut self.unnumbered).as_str().ends_with(&text) {
            text.clear();
        }
        if !told && !text.is_empty() {
            self.last = Last::Reasoning;
            out.push(StreamEvent::Reasoning { choice, delta: text });
        }
        match signature {
            Some(signature) if self.last == Last::Reasoning => {
                // By which it is complete.
                self.last = Last::Other;
                out.push(StreamEvent::Signature { choice, signature });
            }
            // It signs reasoning that is not shown.
            Some(signature) => {
                self.last = Last::Other;
                let hidden = PartKind::Reasoning(String::new()).into();
                let part = Part { signature: Some(signature), ..hidden };
                out.push(StreamEvent::Part { choice, part });
            }
            None => {}
        }
    }

    fn content(
        &mut self,
        choice: u32,
        delta: &mut Object<'_>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), FieldError> {
        if delta.peek("content").is_some_and(|raw| raw.get().starts_with('"')) {
            let text: String = delta.require("content")?;
            if !text.is_empty() {
                self.last = Last::Text;
                out.push(StreamEvent::Text { choice, delta: text });
            }
        } else {
            // Mistral sends pieces, reasoning among them.
            parts(delta, "content")?.into_iter().for_each(|part| self.piece(choice, part, out));
        }
        images(delta)?.into_iter().for_each(|part| self.piece(choice, part, out));
        for citation in citations::take(delta) {
            self.last = Last::Text;
            out.push(StreamEvent::Citation { choice, citation });
        }
        if let Some(signature) = take_thought_signature(delta)
            && delta.peek("extra_content").is_none()
        {
            if self.last != Last::Text {
                self.last = Last::Text;
                out.push(StreamEvent::Part { choice, part: Part::text("") });
            }
            out.push(StreamEvent::Signature { choice, signature });
        }
        Ok(())
    }

    fn piece(&mut self, choice: u32, part: Part, out: &mut Vec<StreamEvent>) {
        let (last, event) = match part.kind {
            PartKind::Text(text) | PartKind::Reasoning(text) if text.is_empty() => return,
            PartKind::Text(delta) => (Last::Text, StreamEvent::Text { choice, delta }),
            PartKind::Reasoning(delta) => (Last::Reasoning, StreamEvent::Reasoning { choice, delta }),
            PartKind::Refusal(delta) => (Last::Other, StreamEvent::Refusal { choice, delta }),
            _ => (Last::Other, StreamEvent::Part { choice, part }),
        };
        self.last = last;
        out.push(event);
    }
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(raw.get()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::openai_chat::encode::Encoder;
    use crate::dialect::{EncodeStream, ReplyContext};
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

        let mut encoder = Encoder::new(&ReplyContext { include_usage: true, ..Default::default() });
        let mut bytes = Vec::new();
        events.iter().for_each(|event| encoder.event(event, &mut bytes));
        encoder.finish(&mut bytes);
        assert_eq!(decode(std::str::from_utf8(&bytes).unwrap()).unwrap(), fold(events));
    }

    #[test]
    fn an_error_ends_a_stream_without_done() {
        let mut bytes = Vec::new();
        let problem = Problem::new(crate::error::ProblemKind::Upstream, "upstream_broken", "it broke off");
        Encoder::new(&ReplyContext::default()).problem(&problem, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("data: {\"error\":{\"message\":\"it broke off\"") && !text.contains("[DONE]")
        );
    }
}
