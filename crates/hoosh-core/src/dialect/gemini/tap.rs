//! Watching an answer that is passed through unread: only what the books and the commit point need is looked at,
//! borrowed from the bytes.

use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error;
use super::fields::Text;
use super::usage;
use crate::dialect::choices::ChoiceBits;
use crate::dialect::openai::tap::read;
use crate::dialect::wire::PassingText;
use crate::dialect::{DecodeError, Seen, Tap};
use crate::json::FieldError;
use crate::usage::Usage;

#[derive(Default)]
pub(in crate::dialect) struct GeminiTap {
    embeds: bool,
    usage: Option<Usage>,
    candidates: ChoiceBits,
    /// The prompt was refused, so that there is no candidate.
    blocked: bool,
    text: PassingText,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow, default)]
    candidates: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_feedback: Option<Feedback<'a>>,
    #[serde(borrow, default)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    embedding: Option<&'a RawValue>,
    #[serde(borrow, default)]
    embeddings: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow, default)]
    block_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    function_call: Option<Call<'a>>,
    #[serde(borrow, default)]
    inline_data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    executable_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code_execution_result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default)]
    partial_args: Option<&'a RawValue>,
}

impl GeminiTap {
    pub(in crate::dialect) fn for_embeddings() -> Self {
        Self { embeds: true, ..Self::default() }
    }

    fn chunk<'a>(&mut self, data: &'a [u8]) -> Result<(Chunk<'a>, bool), DecodeError> {
        let chunk: Chunk<'a> = read(data)?;
        if let Some(raw) = chunk.error {
            return Err(error::reported(raw));
        }
        if let Some(raw) = chunk.usage_metadata {
            self.usage = usage::decode(raw.get()).or(self.usage);
        }
        let mut output = false;
        if let Some(raw) = chunk.candidates {
            each(raw, |candidate: Candidate<'a>| output |= self.candidate(candidate))?;
        }
        let blocked = chunk.prompt_feedback.as_ref().is_some_and(|feedback| feedback.block_reason.is_some());
        self.blocked |= blocked;
        Ok((chunk, output || blocked))
    }

    /// Whether a client would see something in it.
    fn candidate(&mut self, candidate: Candidate<'_>) -> bool {
        let finished = candidate.finish_reason.is_some_and(|word| word.0 != "FINISH_REASON_UNSPECIFIED");
        self.candidates.note(candidate.index.unwrap_or(0), finished);
        let mut output = finished;
        if let Some(parts) = candidate.content.and_then(|content| content.parts) {
            // What is wrong in a part is the client's to find.
            let _ = each(parts, |part: Part<'_>| output |= self.part(&part));
        }
        output
    }

    fn part(&mut self, part: &Part<'_>) -> bool {
        if let Some(Text(text)) = &part.text {
            self.text.push(text);
        }
        if let Some(call) = &part.function_call {
            let arguments = [call.args, call.partial_args].into_iter().flatten();
            arguments.for_each(|arguments| self.text.push(arguments.get()));
        }
        part.text.as_ref().is_some_and(|text| !text.0.is_empty())
            || part.function_call.is_some()
            || [part.inline_data, part.executable_code, part.code_execution_result]
                .iter()
                .any(Option::is_some)
    }
}

impl Tap for GeminiTap {
    fn event(&mut self, data: &[u8]) -> Result<Seen, DecodeError> {
        if self.embeds {
            let problem = "embeddings are not streamed".to_owned();
            return Err(FieldError { path: String::new(), problem }.into());
        }
        if data == b"[DONE]" {
            return Ok(Seen::default());
        }
        // Every chunk of Google's has usage, and no client asks for it.
        let (_, output) = self.chunk(data)?;
        Ok(Seen { output, usage_only: false })
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let (chunk, _) = self.chunk(body)?;
        let (name, is_there) = if self.embeds {
            ("embedding", chunk.embedding.or(chunk.embeddings).is_some())
        } else {
            ("candidates", self.candidates.any() || self.blocked)
        };
        if is_there {
            return Ok(());
        }
        Err(FieldError { path: name.to_owned(), problem: "is missing".to_owned() }.into())
    }

    fn is_complete(&self) -> bool {
        self.embeds || self.candidates.all_finished() || (!self.candidates.any() && self.blocked)
    }

    fn is_done(&self) -> bool {
        // Only the end of the bytes says so.
        self.embeds
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn output_text(&self) -> &str {
        self.text.as_str()
    }
}

/// Calls `call` for each item of a list, of which nothing is kept.
fn each<'a, T: Deserialize<'a>>(list: &'a RawValue, call: impl FnMut(T)) -> Result<(), DecodeError> {
    struct Items<T, F>(F, PhantomData<T>);
    impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Items<T, F> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
            while let Some(item) = seq.next_element()? {
                self.0(item);
            }
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(list.get());
    deserializer.deserialize_seq(Items(call, PhantomData)).map_err(|error| {
        let problem = crate::json::problem(&error);
        DecodeError::Field(FieldError { path: "candidates".to_owned(), problem })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_watched() {
        let mut tap = GeminiTap::default();
        let mut see = |data: &str| tap.event(data.as_bytes()).unwrap().output;
        assert!(!see(r#"{"usageMetadata":{"promptTokenCount":3},"modelVersion":"m"}"#));
        assert!(!see(
            r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"x"}],"role":"model"},"index":0}]}"#
        ));
        assert!(see(r#"{"candidates":[{"content":{"parts":[{"text":"h\n"}]}}]}"#));
        assert!(see(
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]},"index":1}]}"#
        ));
        assert!(see(r#"{"candidates":[{"finishReason":"STOP"}]}"#));
        assert!(!tap.is_complete(), "the second candidate has not finished");
        tap.event(br#"{"candidates":[{"finishReason":"STOP","index":1}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4}}"#).unwrap();
        assert!(tap.is_complete() && !tap.is_done());
        assert_eq!((tap.usage().unwrap().total(), tap.output_text()), (7, "h\n{\"a\":1}"));
    }

    #[test]
    fn a_refused_prompt_is_an_answer() {
        let body = br#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}"#;
        let mut tap = GeminiTap::default();
        assert_eq!(tap.event(body), Ok(Seen { output: true, usage_only: false }));
        assert!(tap.is_complete());
        assert_eq!(GeminiTap::default().whole(body), Ok(()));
    }

    #[test]
    fn errors_and_foreign_answers_are_refused() {
        let error = br#"{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}"#;
        assert!(matches!(GeminiTap::default().event(error), Err(DecodeError::Reported(_))));
        assert!(matches!(GeminiTap::default().whole(error), Err(DecodeError::Reported(_))));
        assert!(GeminiTap::default().whole(b"{}").is_err());
        assert!(GeminiTap::default().event(b"garbage").is_err());
        assert!(GeminiTap::default().event(br#"{"candidates":7}"#).is_err());
        assert!(GeminiTap::for_embeddings().whole(b"{}").is_err());
        assert_eq!(GeminiTap::for_embeddings().whole(br#"{"embeddings":[]}"#), Ok(()));
    }
}
