//! Watches answers that are passed through.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::error;
use crate::dialect::openai::tap::read;
use crate::dialect::wire::PassingText;
use crate::dialect::{DecodeError, Seen, Tap};
use crate::json::FieldError;
use crate::usage::Usage;

#[derive(Default)]
pub(in crate::dialect) struct OllamaTap {
    embeddings: bool,
    done: bool,
    usage: Option<Usage>,
    text: PassingText,
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<PeekMessage<'a>>,
    #[serde(borrow, default)]
    response: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(default)]
    embeddings: Option<IgnoredAny>,
    #[serde(default)]
    done: Option<bool>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct PeekMessage<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

impl OllamaTap {
    pub(in crate::dialect) fn for_embeddings() -> Self {
        Self { embeddings: true, ..Self::default() }
    }

    fn note(&mut self, peek: &Peek<'_>) {
        if peek.prompt_eval_count.is_some() || peek.eval_count.is_some() {
            self.usage =
                Some(Usage { input: peek.prompt_eval_count, output: peek.eval_count, ..Usage::default() });
        }
        self.done |= peek.done == Some(true);
    }
}

impl Tap for OllamaTap {
    fn event(&mut self, data: &[u8]) -> Result<Seen, DecodeError> {
        // What follows the last word belongs to nothing.
        if self.done {
            return Ok(Seen::default());
        }
        let peek: Peek<'_> = read(data)?;
        error::refuse(peek.error)?;
        self.note(&peek);
        let message = peek.message.as_ref();
        let calls = message.and_then(|message| message.tool_calls).map(RawValue::get);
        let calls = calls.filter(|calls| !matches!(*calls, "null" | "[]"));
        let texts = [
            message.and_then(|message| message.thinking.as_deref()),
            message.and_then(|message| message.content.as_deref()),
            peek.thinking.as_deref(),
            peek.response.as_deref(),
            calls,
        ];
        let mut output = peek.done == Some(true);
        for text in texts.into_iter().flatten().filter(|text| !text.is_empty()) {
            self.text.push(text);
            output = true;
        }
        Ok(Seen { output, usage_only: false })
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let peek: Peek<'_> = read(body)?;
        error::refuse(peek.error)?;
        let (there, path) = if self.embeddings {
            (peek.embeddings.is_some(), "embeddings")
        } else {
            (peek.done == Some(true), "done")
        };
        if !there {
            return Err(
                FieldError { path: path.to_owned(), problem: "is missing or false".to_owned() }.into()
            );
        }
        self.note(&peek);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.embeddings || self.done
    }

    fn is_done(&self) -> bool {
        self.embeddings || self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn output_text(&self) -> &str {
        self.text.as_str()
    }
}
