//! Watching an answer of chunks (chat or legacy completions) that is passed through unread.
//!
//! Only what the books and the commit point need is looked at, borrowed from the bytes; the rest is skipped.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::texts::{NotEmpty, Texts};
use super::{DONE, error, usage};
use crate::dialect::choices::ChoiceBits;
use crate::dialect::wire::PassingText;
use crate::dialect::{DecodeError, Quirks, Seen, Tap};
use crate::failure::UpstreamFailure;
use crate::json::{FieldError, problem};
use crate::usage::Usage;

#[derive(Default)]
pub(in crate::dialect) struct ChunkTap {
    quirks: Quirks,
    usage: Option<Usage>,
    choices: ChoiceBits,
    done: bool,
    text: PassingText,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Choices<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    x_groq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// A whole answer, of whose choices nothing is read.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(default)]
    choices: Option<Vec<IgnoredAny>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// What all the choices of a chunk say together, so that nothing is allocated for them.
#[derive(Default)]
struct Choices<'a> {
    any: bool,
    output: bool,
    bits: ChoiceBits,
    text: Texts<'a>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: Option<Texts<'a>>,
    #[serde(default)]
    finish_reason: Option<NotEmpty>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Texts<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Texts<'a>>,
    #[serde(borrow, default)]
    reasoning: Option<Texts<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Texts<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<Texts<'a>>,
    #[serde(default)]
    images: Option<NotEmpty>,
    #[serde(default)]
    annotations: Option<NotEmpty>,
    #[serde(default)]
    function_call: Option<NotEmpty>,
    #[serde(default)]
    audio: Option<NotEmpty>,
}

// === impl ChunkTap ===

impl ChunkTap {
    pub(in crate::dialect) fn new(quirks: Quirks) -> Self {
        Self { quirks, ..Self::default() }
    }
}

impl Tap for ChunkTap {
    fn event(&mut self, data: &[u8]) -> Result<Seen, DecodeError> {
        // What follows the last word belongs to nothing.
        if self.done {
            return Ok(Seen::default());
        }
        if data == DONE {
            self.done = true;
            return Ok(Seen::default());
        }
        let chunk = read::<Chunk<'_>>(data)?;
        refuse_error(chunk.error)?;
        let usage = usage::of_chunk(chunk.usage, chunk.x_groq, chunk.service_tier);
        self.usage = usage.or(self.usage);
        let choices = chunk.choices.unwrap_or_default();
        self.choices.add(choices.bits);
        choices.text.each(|text| self.text.push(text));
        Ok(Seen { output: choices.output, usage_only: usage.is_some() && !choices.any })
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let whole = read::<Whole<'_>>(body)?;
        refuse_error(whole.error)?;
        if whole.choices.is_none() {
            let problem = "is missing".to_owned();
            return Err(FieldError { path: "choices".to_owned(), problem }.into());
        }
        self.usage = usage::of_answer(whole.usage, whole.service_tier);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        (self.done || self.quirks.done_optional) && self.choices.all_finished()
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn output_text(&self) -> &str {
        self.text.as_str()
    }
}

/// Reads one JSON text, or says what is wrong with it.
pub(in crate::dialect) fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(text)
        .map_err(|error| DecodeError::Field(FieldError { path: String::new(), problem: problem(&error) }))
}

/// The failure that an `error` field in an answer reports, which began with a good status.
pub(in crate::dialect) fn refuse_error(raw: Option<&RawValue>) -> Result<(), DecodeError> {
    let Some(raw) = raw else { return Ok(()) };
    let json = serde_json::json!({ "error": serde_json::from_str::<serde_json::Value>(raw.get()).unwrap_or_default() });
    // A provider that fails after a good status has no status to show for it, unless it says one in `code`.
    let status = json["error"]["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let status = status.filter(|status| (400..600).contains(status));
    // Without one it is the provider that failed: a request that is wrong is refused before an answer begins.
    let meant = status.unwrap_or(500);
    let failure = error::from_json(meant, None, &json)
        .unwrap_or_else(|| UpstreamFailure::from_status(meant, None, "an error without a message"));
    Err(DecodeError::Reported(Box::new(UpstreamFailure { status, ..failure })))
}

// === impl Choices ===

impl<'a> Choices<'a> {
    fn add(&mut self, choice: Choice<'a>) {
        self.any = true;
        // Some servers send an empty reason until there is one.
        let finished = is_any(&choice.finish_reason);
        self.bits.note(choice.index.unwrap_or(0), finished);
        self.output |= finished;
        self.text(choice.text);
        let Some(delta) = choice.delta else { return };
        self.text(delta.content);
        // The same reasoning may come under both names, and is counted once.
        self.text(delta.reasoning_content.filter(|texts| texts.any).or(delta.reasoning));
        self.text(delta.refusal);
        self.text(delta.tool_calls);
        let others = [&delta.images, &delta.annotations];
        self.output |= others.into_iter().any(is_any);
        self.output |= delta.function_call.is_some() || delta.audio.is_some();
    }

    fn text(&mut self, texts: Option<Texts<'a>>) {
        let Some(texts) = texts.filter(|texts| texts.any) else { return };
        self.output = true;
        self.text.add(Some(texts));
    }
}

fn is_any(field: &Option<NotEmpty>) -> bool {
    matches!(field, Some(NotEmpty(true)))
}

// === impl Deserialize ===

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoicesVisitor;
        impl<'de> Visitor<'de> for ChoicesVisitor {
            type Value = Choices<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Choices<'de>, A::Error> {
                let mut all = Choices::default();
                while let Some(choice) = seq.next_element::<Choice<'de>>()? {
                    all.add(choice);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_seq(ChoicesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn tap() -> ChunkTap {
        ChunkTap::new(Quirks::NONE)
    }

    #[track_caller]
    fn check(data: &str, output: bool, usage_only: bool) {
        assert_eq!(tap().event(data.as_bytes()), Ok(Seen { output, usage_only }));
    }

    #[test]
    fn the_envelope_is_no_output() {
        check(r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}"#, false, false);
        check(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, false, false);
        check(r#"{"choices":[],"prompt_filter_results":[]}"#, false, false);
    }

    #[test]
    fn anything_to_see_is_output() {
        for delta in [
            r#"{"content":"a"}"#,
            r#"{"reasoning_content":"a"}"#,
            r#"{"reasoning":"a"}"#,
            r#"{"refusal":"a"}"#,
            r#"{"content":[{"type":"thinking"}]}"#,
            r#"{"tool_calls":[{"index":0}]}"#,
        ] {
            check(&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#), true, false);
        }
        check(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, true, false);
        check(r#"{"choices":[{"text":"a"}]}"#, true, false);
    }

    #[test]
    fn usage_is_noted_wherever_it_comes() {
        check(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#, false, true);
        check(
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#,
            true,
            false,
        );
        check(r#"{"choices":[],"usage":null}"#, false, false);

        let mut tap = tap();
        tap.event(br#"{"choices":[],"x_groq":{"id":"x","usage":{"prompt_tokens":4}}}"#).unwrap();
        assert_eq!(tap.usage().unwrap().input, Some(4));
        // The last word counts, whichever field it is in, and what says nothing spoils nothing.
        for (chunk, input) in [
            (&br#"{"choices":[],"usage":{"prompt_tokens":5},"x_groq":{"usage":{"prompt_tokens":4}}}"#[..], 5),
            (br#"{"choices":[],"usage":{},"x_groq":{"usage":{"prompt_tokens":6}}}"#, 6),
            (br#"{"choices":[],"x_groq":"req_1"}"#, 6),
            (br#"{"choices":[],"x_groq":{"usage":7}}"#, 6),
        ] {
            tap.event(chunk).unwrap();
            assert_eq!(tap.usage().unwrap().input, Some(input));
        }
    }

    #[test]
    fn only_done_completes_unless_the_vendor_leaves_it_out() {
        let finish = br#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let mut passing = tap();
        passing.event(finish).unwrap();
        assert!(!passing.is_complete());
        passing.event(DONE).unwrap();
        assert!(passing.is_complete());

        // Its last word without a finish reason is no end.
        let mut passing = tap();
        passing.event(DONE).unwrap();
        assert!(passing.is_done() && !passing.is_complete());

        let mut passing = ChunkTap::new(Quirks { done_optional: true, ..Quirks::NONE });
        passing.event(br#"{"choices":[{"index":1,"delta":{"content":"a"},"finish_reason":""}]}"#).unwrap();
        passing.event(finish).unwrap();
        assert!(!passing.is_complete(), "the second choice has not finished");
        passing.event(br#"{"choices":[{"index":1,"delta":{},"finish_reason":"length"}]}"#).unwrap();
        assert!(passing.is_complete());
    }

    #[track_caller]
    fn check_text(deltas: &[&str], expected: &str) {
        let mut tap = tap();
        for delta in deltas {
            tap.event(format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#).as_bytes()).unwrap();
        }
        assert_eq!(tap.output_text(), expected);
    }

    #[test]
    fn what_the_model_wrote_is_kept_for_counting() {
        check_text(&[r#"{"content":"a"}"#, r#"{"content":null}"#, r#"{"content":"\n\u00e4"}"#], "a\nä");
        check_text(
            &[r#"{"reasoning_content":"a","reasoning":"a"}"#, r#"{"reasoning_content":"","reasoning":"b"}"#],
            "ab",
        );
        check_text(
            &[
                r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"x"}]}"#,
            ],
            "hmx",
        );
        check_text(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}},{"index":1,"function":{"arguments":"1"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":{"a":1}}},{"index":2,"custom":{"input":"x"}}]}"#,
            ],
            "{\"a\":1x",
        );
        let mut tap = tap();
        tap.event(br#"{"choices":[{"text":"a"},{"index":1,"text":"b"},{"index":2,"text":"c"}]}"#).unwrap();
        assert_eq!(tap.output_text(), "abc");
    }

    #[test]
    fn errors_inside_a_stream_are_errors() {
        let error = tap().event(br#"{"error":{"message":"overloaded","code":503}}"#).unwrap_err();
        let DecodeError::Reported(failure) = error else { panic!("{error}") };
        assert_eq!((failure.kind, failure.status), (FailureKind::Failed, Some(503)));
        assert!(matches!(tap().event(b"garbage"), Err(DecodeError::Field(_))));
    }

    #[test]
    fn a_whole_answer_needs_choices() {
        assert!(tap().whole(br#"{"hello":"world"}"#).is_err());
        assert!(tap().whole(b"<html>").is_err());
        let mut tap = tap();
        tap.whole(br#"{"choices":[{"message":{}}],"usage":{"prompt_tokens":2,"completion_tokens":1}}"#)
            .unwrap();
        assert_eq!(tap.usage().unwrap().total(), 3);
    }
}
