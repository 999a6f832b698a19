//! Counting tokens where no provider does: for `count_tokens` over providers that have no such endpoint, and for the books
//! where a provider reports no usage.
//!
//! Models of OpenAI's families are counted by their own vocabularies (`tiktoken-rs`); what their servers add around each
//! message is added as OpenAI's cookbook has it (3 tokens a message, 3 for the answer's beginning). Of a call longer than
//! [`COUNTED_EXACTLY_BYTES_MAX`](limits::COUNTED_EXACTLY_BYTES_MAX) the beginning is counted, and the rest taken to be like
//! it. All others are estimated: a token for every four ASCII characters, one for every other character. On English and code that is some
//! 15 % off, on other scripts up to a third.

use std::sync::Arc;

use bytes::Bytes;
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    Choice, EmbeddingInput, InferenceRequest, Message, Part, PartKind, Provenance, ToolDefinition, Usage,
    limits,
};

use tiktoken_rs::tokenizer::{self, Tokenizer};

use crate::call::{Call, decode};
use crate::responses::Turn;

/// Tokens that stand around each message, and before the answer (cookbook.openai.com, "How to count tokens with
/// tiktoken", read 2026-11-24).
const FRAME_TOKENS: u64 = 3;

/// Tokens for a picture whose size nobody looked at: what OpenAI and Anthropic charge for one of some 800 by 800 pixels.
const IMAGE_TOKENS: u64 = 765;

/// A request's body kept beside its stream, for counting at its end.
pub(crate) struct Prompt {
    dialect: Dialect,
    /// `None` if it is too long to be kept.
    body: Option<Bytes>,
    model: String,
    /// The conversation that the body goes on from.
    history: Option<Arc<Turn>>,
    /// The tokens of a prompt that was counted before it was sent, for it is another than the body's.
    counted: Option<u64>,
}

/// The tokens of a prompt, by its messages.
pub(crate) struct Counted {
    /// Of each message, in their order.
    pub(crate) messages: Vec<u64>,
    /// Of everything else.
    pub(crate) rest: u64,
    /// Whether all of it was counted by the model's own vocabulary.
    is_exact: bool,
}

impl Prompt {
    pub(crate) fn of(call: &Call, model: &str) -> Self {
        let is_kept = call.body.len() <= limits::COUNTED_PROMPT_BYTES_MAX;
        // A copy, since a short body is a piece of a read buffer that is much longer.
        let body = is_kept.then(|| Bytes::copy_from_slice(&call.body));
        let (model, history) = (model.to_owned(), call.history().cloned());
        Self { dialect: call.dialect, body, model, history, counted: None }
    }

    /// One that was counted before it was sent.
    pub(crate) fn counted(call: &Call, model: &str, tokens: u64) -> Self {
        let model = model.to_owned();
        Self { dialect: call.dialect, body: None, model, history: None, counted: Some(tokens) }
    }

    /// Another model reads it.
    pub(crate) fn is_for(&mut self, model: &str) {
        model.clone_into(&mut self.model);
    }

    /// The usage of the call in which the model wrote this; of one whose prompt the provider has counted, without it.
    pub(crate) fn usage(&self, written: &str, is_prompt_known: bool) -> Option<Usage> {
        if is_prompt_known {
            return Some(output(&self.model, written));
        }
        if let Some(input) = self.counted {
            return Some(Usage { input: Some(input), ..output(&self.model, written) });
        }
        let mut request = decode(self.dialect, self.body.as_ref()?).ok()?;
        if let Some(history) = &self.history {
            request.messages.splice(..0, history.conversation());
        }
        Some(usage(&self.model, &request, written))
    }
}

/// The tokens of a whole prompt.
pub(crate) fn prompt(model: &str, request: &InferenceRequest) -> u64 {
    Counter::new(model).prompt(request)
}

/// The tokens of a text.
pub(crate) fn text(model: &str, text: &str) -> u64 {
    Counter::new(model).text(text)
}

/// The same by its messages.
pub(crate) fn by_message(model: &str, request: &InferenceRequest) -> Counted {
    let mut counter = Counter::new(model);
    let rest = counter.rest(request);
    let messages = request.messages.iter().map(|message| counter.framed(message)).collect();
    let is_exact = counter.tokenizer.is_some() && counter.bytes < limits::COUNTED_EXACTLY_BYTES_MAX;
    Counted { messages, rest, is_exact }
}

/// The tokens of one message of text.
pub(crate) fn message(model: &str, message: &Message) -> u64 {
    Counter::new(model).framed(message)
}

/// The usage of an answer whose provider said none.
pub(crate) fn usage(model: &str, request: &InferenceRequest, written: &str) -> Usage {
    Usage { input: Some(prompt(model, request)), ..output(model, written) }
}

/// The usage of what was written alone.
fn output(model: &str, written: &str) -> Usage {
    let output = Some(Counter::new(model).text(written));
    Usage { output, provenance: Provenance::Estimated, ..Usage::default() }
}

/// The usage of embeddings whose provider said none.
pub(crate) fn embedding(model: &str, input: &[EmbeddingInput]) -> Usage {
    let mut counter = Counter::new(model);
    let tokens = input.iter().map(|input| match input {
        EmbeddingInput::Text(text) => counter.text(text),
        EmbeddingInput::Tokens(tokens) => tokens.len() as u64,
    });
    Usage { input: Some(tokens.sum()), provenance: Provenance::Estimated, ..Usage::default() }
}

/// What a model wrote in a whole answer, reasoning and calls included.
pub(crate) fn written(choices: &[Choice]) -> String {
    let parts = choices.iter().flat_map(|choice| &choice.parts);
    parts.fold(String::new(), |mut all, part| {
        match &part.kind {
            PartKind::Text(text) | PartKind::Reasoning(text) | PartKind::Refusal(text) => all.push_str(text),
            PartKind::ToolCall(call) => {
                all.push_str(&call.name);
                all.push_str(&call.arguments);
            }
            _ => {}
        }
        all
    })
}

/// Counts the texts of one call for one model.
struct Counter {
    tokenizer: Option<Tokenizer>,
    /// What has been counted exactly so far, in bytes and in tokens: the rest is taken to be like it.
    bytes: usize,
    tokens: u64,
}

// === impl Counted ===

impl Counted {
    /// Of all of it.
    pub(crate) fn total(&self) -> u64 {
        self.messages.iter().sum::<u64>() + self.rest
    }

    /// What it surely has at least: an estimate can be half too much, see the top of this page.
    pub(crate) fn at_least(&self) -> u64 {
        if self.is_exact { self.total() } else { self.total() / 3 * 2 }
    }
}

// === impl Counter ===

impl Counter {
    fn new(model: &str) -> Self {
        Self { tokenizer: tokenizer::get_tokenizer(bare(model)), bytes: 0, tokens: 0 }
    }

    fn prompt(&mut self, request: &InferenceRequest) -> u64 {
        let messages: u64 = request.messages.iter().map(|message| self.framed(message)).sum();
        messages + self.rest(request)
    }

    /// Everything but the messages: instructions and a question that stand beside them, and tools.
    fn rest(&mut self, request: &InferenceRequest) -> u64 {
        let system = request.system.as_deref().map(Message::system);
        let prompt = (!request.prompt.is_empty()).then(|| Message::user(request.prompt.as_str()));
        let beside: u64 = system.into_iter().chain(prompt).map(|message| self.framed(&message)).sum();
        FRAME_TOKENS + beside + request.tools.iter().map(|tool| self.tool(tool)).sum::<u64>()
    }

    fn framed(&mut self, message: &Message) -> u64 {
        FRAME_TOKENS + self.message(message)
    }

    fn message(&mut self, message: &Message) -> u64 {
        self.text(message.role.as_str())
            + message.name.as_deref().map_or(0, |name| self.text(name))
            + message.parts.iter().map(|part| self.part(part)).sum::<u64>()
    }

    fn part(&mut self, part: &Part) -> u64 {
        match &part.kind {
            PartKind::Text(text) | PartKind::Reasoning(text) | PartKind::Refusal(text) => self.text(text),
            PartKind::ToolCall(call) => self.text(&call.name) + self.text(&call.arguments),
            PartKind::ToolResult(result) => result.content.iter().map(|part| self.part(part)).sum(),
            PartKind::Image { .. } => IMAGE_TOKENS,
            PartKind::Other { json, .. } => self.text(json.get()),
            // How long sound and documents are cannot be seen without reading them.
            _ => 0,
        }
    }

    fn tool(&mut self, tool: &ToolDefinition) -> u64 {
        let texts = [
            Some(tool.name.as_str()),
            tool.description.as_deref(),
            tool.parameters.as_ref().map(|schema| schema.get()),
        ];
        texts.into_iter().flatten().map(|text| self.text(text)).sum()
    }

    fn text(&mut self, text: &str) -> u64 {
        let Some(tokenizer) = self.tokenizer else { return estimate(text) };
        let left = limits::COUNTED_EXACTLY_BYTES_MAX.saturating_sub(self.bytes);
        let (beginning, rest) = text.split_at(text.floor_char_boundary(left.min(text.len())));
        let counted = exact(tokenizer, beginning);
        self.bytes += beginning.len();
        self.tokens += counted;
        if rest.is_empty() {
            return counted;
        }
        let alike = u128::from(self.tokens) * rest.len() as u128 / self.bytes.max(1) as u128;
        counted.saturating_add(u64::try_from(alike).unwrap_or(u64::MAX))
    }
}

/// The name without a vendor's folder before it, as OpenRouter and `provider/model` have it.
fn bare(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

fn exact(tokenizer: Tokenizer, text: &str) -> u64 {
    let vocabulary = match tokenizer {
        Tokenizer::O200kBase | Tokenizer::O200kHarmony => tiktoken_rs::o200k_base_singleton(),
        Tokenizer::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        // Families older than chat: close enough.
        _ => return estimate(text),
    };
    // A caller's text may hold `<|endoftext|>`; it is text to the model.
    vocabulary.encode_ordinary(text).len() as u64
}

fn estimate(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let others = text.chars().filter(|c| !c.is_ascii()).count() as u64;
    ascii.div_ceil(4) + others
}

#[cfg(test)]
mod tests {
    use hoosh_core::Role;

    use super::*;

    fn text(model: &str, text: &str) -> u64 {
        Counter::new(model).text(text)
    }

    #[test]
    fn openais_models_are_counted_exactly() {
        // Counted with OpenAI's own tiktoken.
        assert_eq!(text("gpt-4o-mini", "hello world"), 2);
        assert_eq!(text("openai/gpt-4o", "hello <|endoftext|>"), 8);
        assert_eq!(text("gpt-4", "antidisestablishmentarianism"), 6);
    }

    #[test]
    fn a_long_text_is_counted_in_proportion() {
        let (short, long) = ("hello world ".repeat(1_000), "hello world ".repeat(100_000));
        let (short, long) = (text("gpt-4o", &short), text("gpt-4o", &long));
        assert!(long.abs_diff(100 * short) < short, "{short} and {long}");
        // The bound is one for all the texts of a call.
        let parts = vec![Part::text("hello world ".repeat(5_000)); 20];
        let many = InferenceRequest { messages: vec![Message::new(Role::User, parts)], ..Default::default() };
        let many = prompt("gpt-4o", &many);
        assert!(many.abs_diff(100 * short) < short, "{short} and {many}");
    }

    #[test]
    fn others_are_estimated() {
        assert_eq!(text("llama3", "hello world"), 3);
        assert_eq!(text("llama3", "日本"), 2);
        assert_eq!(text("llama3", ""), 0);
    }

    #[test]
    fn everything_of_a_prompt_counts() {
        let request = InferenceRequest { messages: vec![Message::user("hello world")], ..Default::default() };
        assert_eq!(prompt("gpt-4o", &request), 3 + 3 + 1 + 2);
        let usage = usage("gpt-4o", &request, "hello");
        assert_eq!((usage.input, usage.output, usage.provenance), (Some(9), Some(1), Provenance::Estimated));
    }
}
