//! Watching an answer of chunks (chat or legacy completions) that is passed through unread.
//!
//! Only what the books and the commit point need is looked at, borrowed from the bytes; the rest is skipped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{DONE, error, usage};
use crate::dialect::{DecodeError, Quirks, Seen, Tap};
use crate::failure::UpstreamFailure;
use crate::json::{FieldError, problem};
use crate::usage::Usage;

pub(in crate::dialect) struct ChunkTap {
    quirks: Quirks,
    usage: Option<Usage>,
    choices: ChoiceBits,
    done: bool,
}

/// Which choices have been seen and which have finished, a bit each by index; those from 63 on share the last.
#[derive(Debug, Clone, Copy, Default)]
struct ChoiceBits {
    seen: u64,
    finished: u64,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default)]
    choices: Option<Choices>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    x_groq: Option<XGroq<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Groq's own field, where it puts usage that was not asked for.
#[derive(Deserialize)]
struct XGroq<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

/// What all the choices of a chunk say together, so that nothing is allocated for them.
#[derive(Default)]
struct Choices {
    any: bool,
    output: bool,
    bits: ChoiceBits,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(default)]
    content: Option<NotEmpty>,
    #[serde(default)]
    reasoning_content: Option<NotEmpty>,
    #[serde(default)]
    reasoning: Option<NotEmpty>,
    #[serde(default)]
    refusal: Option<NotEmpty>,
    #[serde(default)]
    tool_calls: Option<NotEmpty>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
}

/// Whether a string or list holds anything.
struct NotEmpty(bool);

// === impl ChunkTap ===

impl ChunkTap {
    pub(in crate::dialect) fn new(quirks: Quirks) -> Self {
        Self { quirks, usage: None, choices: ChoiceBits::default(), done: false }
    }

    fn note_usage(&mut self, chunk: &Chunk<'_>) -> bool {
        let raw = chunk.usage.or(chunk.x_groq.as_ref().and_then(|groq| groq.usage));
        let found = raw.and_then(|raw| usage::decode(raw.get()));
        self.usage = found.or(self.usage);
        found.is_some()
    }
}

impl Tap for ChunkTap {
    fn event(&mut self, data: &[u8]) -> Result<Seen, DecodeError> {
        if data == DONE {
            self.done = true;
            return Ok(Seen::default());
        }
        let chunk = read::<Chunk<'_>>(data)?;
        refuse_error(chunk.error)?;
        let has_usage = self.note_usage(&chunk);
        let choices = chunk.choices.unwrap_or_default();
        self.choices.add(choices.bits);
        Ok(Seen { output: choices.output, usage_only: has_usage && !choices.any })
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let chunk = read::<Chunk<'_>>(body)?;
        refuse_error(chunk.error)?;
        if chunk.choices.is_none() {
            let problem = "is missing".to_owned();
            return Err(FieldError { path: "choices".to_owned(), problem }.into());
        }
        self.note_usage(&chunk);
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
}

impl ChoiceBits {
    fn note(&mut self, index: u32, finished: bool) {
        let bit = 1 << index.min(63);
        self.seen |= bit;
        self.finished |= if finished { bit } else { 0 };
    }

    fn add(&mut self, more: Self) {
        self.seen |= more.seen;
        self.finished |= more.finished;
    }

    fn all_finished(self) -> bool {
        self.seen != 0 && self.seen == self.finished
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

// === impl Deserialize ===

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoicesVisitor;
        impl<'de> Visitor<'de> for ChoicesVisitor {
            type Value = Choices;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Choices, A::Error> {
                let mut all = Choices::default();
                while let Some(choice) = seq.next_element::<Choice<'de>>()? {
                    all.any = true;
                    // Some servers send an empty reason until there is one.
                    let finished = choice.finish_reason.is_some_and(|reason| !reason.is_empty());
                    all.bits.note(choice.index.unwrap_or(0), finished);
                    all.output |= finished
                        || choice.text.is_some_and(|text| !text.is_empty())
                        || choice.delta.is_some_and(|delta| delta.is_output());
                }
                Ok(all)
            }
        }
        deserializer.deserialize_seq(ChoicesVisitor)
    }
}

impl Delta<'_> {
    fn is_output(&self) -> bool {
        let texts =
            [&self.content, &self.reasoning_content, &self.reasoning, &self.refusal, &self.tool_calls];
        texts.into_iter().flatten().any(|NotEmpty(not_empty)| *not_empty)
            || self.function_call.is_some()
            || self.audio.is_some()
    }
}

impl<'de> Deserialize<'de> for NotEmpty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NotEmptyVisitor;
        impl<'de> Visitor<'de> for NotEmptyVisitor {
            type Value = NotEmpty;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<NotEmpty, E> {
                Ok(NotEmpty(!text.is_empty()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<NotEmpty, A::Error> {
                let mut any = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(NotEmpty(any))
            }
        }
        deserializer.deserialize_any(NotEmptyVisitor)
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
