//! Watching answers of operations that only a provider of the dialect itself can give: reranking and moderation.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::openai::tap::{read, refuse_error};
use super::openai::usage;
use super::{DecodeError, Seen, Tap};
use crate::usage::Usage;

#[derive(Default)]
pub(super) struct PlainTap(Option<Usage>);

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    meta: Option<Meta>,
}

/// Where Cohere counts what it bills.
#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    tokens: Option<Tokens>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    input_tokens: Option<u64>,
}

/// Jina and vLLM count a rerank's tokens in total only: all of them are the prompt's.
#[derive(Deserialize)]
struct TotalOnly {
    total_tokens: u64,
}

impl Tap for PlainTap {
    fn event(&mut self, _: &[u8]) -> Result<Seen, DecodeError> {
        Ok(Seen::default())
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let body: Body<'_> = read(body)?;
        refuse_error(body.error)?;
        let prompt_only = |tokens| Usage { input: Some(tokens), ..Usage::default() };
        self.0 = body.usage.and_then(|raw| {
            let total = || serde_json::from_str::<TotalOnly>(raw.get()).ok();
            usage::decode(raw.get()).or_else(|| total().map(|usage| prompt_only(usage.total_tokens)))
        });
        let cohere = || body.meta?.tokens?.input_tokens.map(prompt_only);
        self.0 = self.0.or_else(cohere);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn is_done(&self) -> bool {
        true
    }

    fn usage(&self) -> Option<Usage> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, input: Option<u64>) {
        let mut tap = PlainTap::default();
        tap.whole(body.as_bytes()).unwrap();
        assert_eq!(tap.usage().and_then(|usage| usage.input), input);
    }

    #[test]
    fn tokens_are_read_where_each_vendor_puts_them() {
        check(r#"{"results":[],"usage":{"prompt_tokens":7,"total_tokens":7}}"#, Some(7));
        check(r#"{"results":[],"usage":{"total_tokens":9}}"#, Some(9));
        check(r#"{"results":[],"meta":{"tokens":{"input_tokens":5,"output_tokens":0}}}"#, Some(5));
        check(r#"{"id":"modr-1","results":[{"flagged":false}]}"#, None);
    }

    #[test]
    fn an_error_is_one() {
        assert!(PlainTap::default().whole(br#"{"error":{"message":"no"}}"#).is_err());
        assert!(PlainTap::default().whole(b"<html>").is_err());
    }
}
