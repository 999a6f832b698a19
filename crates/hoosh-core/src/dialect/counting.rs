//! The tokens of a prompt, asked for beforehand: Anthropic's `count_tokens` and Gemini's `countTokens`.
//!
//! Sources: docs.anthropic.com/en/api/messages-count-tokens and ai.google.dev/api/tokens, read 2026-11-24.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::openai::tap::read;
use super::{Codec, DecodeError, Dialect, Seen, Tap};
use crate::error::InvalidRequest;
use crate::json::{FieldError, Object};
use crate::request::InferenceRequest;
use crate::usage::Usage;

/// Reads what shall be counted, in a dialect for counting.
///
/// # Errors
///
/// As for a request of the dialect it counts for.
pub(super) fn decode_request(dialect: Dialect, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    match dialect {
        Dialect::GeminiCount => {
            let mut object = Object::parse("", super::wire::request_text(body)?)?;
            // The whole request to count may be wrapped, so that its instructions and tools are counted too.
            match object.take_raw("generateContentRequest") {
                Some(request) => super::gemini::Gemini.decode_request(request.get().as_bytes()),
                None => super::gemini::Gemini.decode_request(body),
            }
        }
        _ => super::anthropic::Anthropic.decode_request(body),
    }
}

/// Writes how many tokens there are.
pub(super) fn encode_reply(dialect: Dialect, tokens: u64) -> Vec<u8> {
    let name = field(dialect);
    format!("{{\"{name}\":{tokens}}}").into_bytes()
}

fn field(dialect: Dialect) -> &'static str {
    if dialect == Dialect::GeminiCount { "totalTokens" } else { "input_tokens" }
}

/// Checks that a count that is passed through is one. Counting costs nothing, so there is no usage.
pub(super) struct CountTap(Dialect);

impl CountTap {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self(dialect)
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, alias = "totalTokens")]
    input_tokens: Option<&'a RawValue>,
}

impl Tap for CountTap {
    fn event(&mut self, _: &[u8]) -> Result<Seen, DecodeError> {
        Ok(Seen::default())
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        match read::<Body<'_>>(body)?.input_tokens {
            Some(_) => Ok(()),
            None => {
                Err(FieldError { path: field(self.0).to_owned(), problem: "is missing".to_owned() }.into())
            }
        }
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn is_done(&self) -> bool {
        true
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_and_checked() {
        for dialect in [Dialect::AnthropicCount, Dialect::GeminiCount] {
            let body = encode_reply(dialect, 12);
            assert_eq!(CountTap::new(dialect).whole(&body), Ok(()));
            assert!(CountTap::new(dialect).whole(b"{}").is_err());
        }
        assert_eq!(encode_reply(Dialect::GeminiCount, 12), br#"{"totalTokens":12}"#);
    }
}
