//! What a model answered, in no vendor's words.

use http::HeaderMap;

use crate::dialect::Dialect;
use crate::failure::FidelityNote;
use crate::json::{Extra, RawJson};
use crate::request::{Part, PartKind, joined_text};
use crate::tool::ToolCall;
use crate::usage::Usage;

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferenceResponse {
    /// The provider's name for this answer.
    pub id: String,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// When, in Unix seconds, by the provider's clock.
    pub created: Option<u64>,
    /// The text of the first choice, for the common case; the same text is in `choices`.
    pub text: String,
    /// The answers, one unless more were asked for.
    pub choices: Vec<Choice>,
    /// What it took. `None` if the provider sent nothing.
    pub usage: Option<Usage>,
    /// Fields of the answer that we do not know.
    pub extra: Extra,
    /// The dialect that `extra` and the choices' `extra` belong to; `None` for an answer made by hand.
    pub origin: Option<Dialect>,
    /// What the provider said of its rate limits, see [`rate_limit`](crate::rate_limit).
    pub limits: HeaderMap,
    /// What of the request could not be carried to the provider.
    pub notes: Vec<FidelityNote>,
}

/// One of the answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Its place among the choices, from 0.
    pub index: u32,
    /// What the model said, in order.
    pub parts: Vec<Part>,
    /// Why it stopped. `None` only in an answer that was cut off.
    pub finish_reason: Option<FinishReason>,
    /// Log probabilities in the dialect's own form.
    pub logprobs: Option<RawJson>,
    /// Fields of the choice and its message that we do not know.
    pub extra: Extra,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// It was done, or met a stop text that is not told.
    Stop,
    /// It met this stop text.
    StopText(String),
    /// It reached the most tokens allowed.
    Length,
    /// It called tools and waits for their results.
    ToolCalls,
    /// A content filter cut it.
    ContentFilter,
    /// The model, or a guard of the vendor's before it, declined.
    Refusal,
    /// A word of the vendor's own.
    Other(String),
}

// === impl InferenceResponse ===

impl InferenceResponse {
    /// An answer of these choices; [`text`](Self::text) is taken from the first.
    pub fn from_choices(choices: Vec<Choice>) -> Self {
        Self { text: Self::text_of(&choices), choices, ..Self::default() }
    }

    /// The same with [`text`](Self::text) taken anew from the first choice.
    pub(crate) fn with_text(self) -> Self {
        Self { text: Self::text_of(&self.choices), ..self }
    }

    /// The text of the first of these choices.
    pub(crate) fn text_of(choices: &[Choice]) -> String {
        choices.first().map(|choice| joined_text(&choice.parts)).unwrap_or_default()
    }

    /// The tool calls of the first choice.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        let parts = self.choices.first().map_or(&[][..], |choice| &choice.parts);
        parts.iter().filter_map(|part| match &part.kind {
            PartKind::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    /// Why the first choice stopped.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.choices.first()?.finish_reason.as_ref()
    }
}

// === impl FinishReason ===

impl FinishReason {
    /// OpenAI's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop | Self::StopText(_) => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter | Self::Refusal => "content_filter",
            Self::Other(word) => word,
        }
    }

    /// Reads OpenAI's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            other => Self::Other(other.to_owned()),
        }
    }
}
