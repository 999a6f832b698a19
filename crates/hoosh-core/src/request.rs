//! What a caller asks of a model, in no vendor's words.

use std::borrow::Cow;

use http::HeaderMap;

use crate::dialect::Dialect;
use crate::json::{Extra, JsonNumber, RawJson};
use crate::tool::{HostedTool, ToolCall, ToolChoice, ToolDefinition, ToolResult};

/// A request for one or more completions.
///
/// Whether the answer is streamed is not part of it: that is chosen by the method called. Numbers that only the
/// provider reads are [`JsonNumber`]s, so `0.10` reaches it as `0.10`.
///
/// ```
/// use hoosh_core::{InferenceRequest, Message};
///
/// let request = InferenceRequest {
///     model: "llama3".into(),
///     messages: vec![Message::system("Answer in one word."), Message::user("What is the capital of France?")],
///     temperature: Some(0.2.into()),
///     max_tokens: Some(16),
///     ..Default::default()
/// };
/// # assert_eq!(request.conversation().count(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferenceRequest {
    /// Model as the caller names it: a model, an alias, or `provider/model`.
    pub model: String,
    /// The one-question form: sent as a last user message if it is not empty.
    pub prompt: String,
    /// Instructions, sent as a first system message if there are any.
    pub system: Option<String>,
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// Tools the model may call.
    pub tools: Vec<ToolDefinition>,
    /// Whether and which tool must be called; the provider's default is [`ToolChoice::Auto`] when there are tools.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one turn.
    pub parallel_tool_calls: Option<bool>,
    /// Shape the answer must have.
    pub response_format: Option<ResponseFormat>,
    /// Most tokens to generate, reasoning included. `None`: the provider's default.
    pub max_tokens: Option<u64>,
    /// Randomness, 0 to 2.
    pub temperature: Option<JsonNumber>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<JsonNumber>,
    /// Penalty by how often a token came already, -2 to 2.
    pub frequency_penalty: Option<JsonNumber>,
    /// Penalty for a token having come at all, -2 to 2.
    pub presence_penalty: Option<JsonNumber>,
    /// Seed for repeatable sampling, where the provider can.
    pub seed: Option<JsonNumber>,
    /// How many answers to generate; `None` is one.
    pub n: Option<u32>,
    /// Texts that end the generation.
    pub stop: Vec<String>,
    /// Whether to return log probabilities of the tokens.
    pub logprobs: Option<bool>,
    /// How many alternatives per token to return log probabilities of.
    pub top_logprobs: Option<u32>,
    /// Sampling from this many of the likeliest tokens only.
    pub top_k: Option<JsonNumber>,
    /// How hard to think: `none`, `minimal`, `low`, `medium`, `high`, or a word the provider knows.
    pub reasoning_effort: Option<String>,
    /// Most tokens to think with, for dialects that count instead of naming an effort; 0 is not to think.
    pub reasoning_budget: Option<u64>,
    /// Whether the reasoning is wanted in the answer; `None`: as the provider does it.
    pub show_reasoning: Option<bool>,
    /// The end user, for the provider's abuse detection and for budgets.
    pub user: Option<String>,
    /// The price and speed class asked for: `auto`, `default`, `flex`, `priority`, or a word the provider knows.
    pub service_tier: Option<String>,
    /// Labels for the provider's own records, an object of strings.
    pub metadata: Option<RawJson>,
    /// Tools that the provider runs itself, such as web search. Only a provider of the same dialect knows them.
    pub hosted_tools: Vec<HostedTool>,
    /// Fields of the dialect the request came in that we do not know. They reach a provider of the same family.
    pub extra: Extra,
    /// The dialect `extra` belongs to; `None` for a request made by hand, whose `extra` is sent as it is.
    pub origin: Option<Dialect>,
    /// Headers that belong to that dialect, such as `anthropic-beta`, for a provider that is asked in it.
    pub headers: HeaderMap,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Name of the speaker, where several share a role.
    pub name: Option<String>,
    /// Fields of the message that we do not know.
    pub extra: Extra,
}

/// Who speaks in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions by the application.
    System,
    /// Instructions by the application, in OpenAI's newer word for it.
    Developer,
    /// The person, or the program in their place.
    User,
    /// The model.
    Assistant,
    /// A tool that answers a call.
    Tool,
}

/// One piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// The maker's proof of the piece, which must come back with it.
    pub signature: Option<Signature>,
    /// Where the provider shall cache the prompt up to the end of this piece.
    pub cache: Option<CacheMark>,
    /// What the text of the piece rests on.
    pub citations: Vec<Citation>,
    /// Fields of the piece that we do not know.
    pub extra: Extra,
}

/// An opaque text by which a provider recognises a piece of its own: Anthropic's thinking signature, Gemini's thought
/// signature, OpenAI's encrypted reasoning.
///
/// It goes back only to a provider of the dialect it came in. Through clients of other dialects it travels with its
/// maker's name before it, see [`to_wire`](Self::to_wire).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The dialect it came in.
    pub maker: Dialect,
    /// The text itself.
    pub value: String,
}

/// A place up to which a prompt shall be cached (Anthropic's `cache_control`), by how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheMark {
    /// Five minutes, the default.
    FiveMinutes,
    /// One hour.
    OneHour,
}

/// What a piece of text rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation {
    /// The page.
    pub url: Option<String>,
    /// Its title, or the document's.
    pub title: Option<String>,
    /// The words quoted from it.
    pub quote: Option<String>,
    /// Which characters of the answer's text rest on it, from and up to.
    pub span: Option<(u64, u64)>,
    /// The dialect it came in.
    pub maker: Dialect,
    /// The whole citation in that dialect.
    pub json: RawJson,
}

/// What a piece of a message is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PartKind {
    /// Text.
    Text(String),
    /// The model's reasoning as text; empty where the provider shows none and only signs it.
    Reasoning(String),
    /// Reasoning that the provider hides: all there is of it is the signature.
    Redacted,
    /// The model declining to answer, in its words.
    Refusal(String),
    /// A picture.
    Image {
        /// Where it is.
        source: MediaSource,
        /// How closely to look: `low`, `high`, `auto`.
        detail: Option<String>,
    },
    /// Sound.
    Audio {
        /// The sound, base64.
        data: String,
        /// Its format: `wav`, `mp3`.
        format: String,
    },
    /// A document.
    File {
        /// Where it is.
        source: MediaSource,
        /// Its name.
        filename: Option<String>,
    },
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// A tool answers.
    ToolResult(ToolResult),
    /// A piece that we carry without reading, for a provider or client of the dialect it came in.
    Other {
        /// The dialect it came in.
        maker: Dialect,
        /// The dialect's word for it.
        kind: String,
        /// The whole piece.
        json: RawJson,
    },
}

/// Where a picture or document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaSource {
    /// At a URL that the provider fetches.
    Url(String),
    /// Here.
    Base64 {
        /// MIME type, such as `image/png`.
        media_type: String,
        /// The bytes, base64.
        data: String,
    },
    /// Uploaded to the provider before, under this id.
    FileId(String),
}

/// Shape an answer must have.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that matches a schema.
    JsonSchema {
        /// Name of the schema.
        name: String,
        /// The JSON Schema.
        schema: Option<RawJson>,
        /// Whether the answer must match exactly.
        strict: Option<bool>,
        /// Fields of the format that we do not know, `description` among them.
        extra: Extra,
    },
    /// A form of its own dialect that we carry without reading.
    Other(RawJson),
}

// === impl InferenceRequest ===

impl InferenceRequest {
    /// The whole conversation: `system` first, then `messages`, then `prompt` as the last user message.
    pub fn conversation(&self) -> impl Iterator<Item = Cow<'_, Message>> {
        let system = self.system.as_deref().map(|text| Cow::Owned(Message::system(text)));
        let prompt = (!self.prompt.is_empty()).then(|| Cow::Owned(Message::user(self.prompt.as_str())));
        system.into_iter().chain(self.messages.iter().map(Cow::Borrowed)).chain(prompt)
    }

    /// The effort to think with, from the budget if only that is given.
    ///
    /// The steps are those by which Google reads OpenAI's word (1,024, 8,192 and 24,576 tokens; source:
    /// ai.google.dev/gemini-api/docs/openai, read 2026-11-24): up to 1,024 is `low`, up to 8,192 `medium`, more `high`.
    pub fn effort(&self) -> Option<&str> {
        self.reasoning_effort.as_deref().or_else(|| {
            Some(match self.reasoning_budget? {
                0 => "none",
                1..=1_024 => "low",
                1_025..=8_192 => "medium",
                _ => "high",
            })
        })
    }

    /// The most tokens to think with, from the effort if only that is given; the steps are those of
    /// [`effort`](Self::effort). `None` also for a word we do not know.
    pub fn thinking_budget(&self) -> Option<u64> {
        self.reasoning_budget.or_else(|| {
            Some(match self.reasoning_effort.as_deref()? {
                "none" => 0,
                "minimal" | "low" => 1_024,
                "medium" => 8_192,
                "high" | "xhigh" | "max" => 24_576,
                _ => return None,
            })
        })
    }
}

// === impl Message ===

impl Message {
    /// A message of one piece of text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, vec![Part::text(text)])
    }

    /// A message of these pieces.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, name: None, extra: Extra::default() }
    }

    /// Instructions by the application.
    pub fn system(text: impl Into<String>) -> Self {
        Self::text(Role::System, text)
    }

    /// What the person says.
    pub fn user(text: impl Into<String>) -> Self {
        Self::text(Role::User, text)
    }

    /// What the model said.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::text(Role::Assistant, text)
    }

    /// What the tool called as `call_id` gave.
    pub fn tool(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        let result = ToolResult { call_id: call_id.into(), content: vec![Part::text(text)], is_error: false };
        Self::new(Role::Tool, vec![PartKind::ToolResult(result).into()])
    }
}

// === impl Role ===

impl Role {
    /// The word of all the dialects that have this role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "system" => Self::System,
            "developer" => Self::Developer,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" => Self::Tool,
            _ => return None,
        })
    }
}

// === impl Part ===

impl Part {
    /// A piece of text.
    pub fn text(text: impl Into<String>) -> Self {
        PartKind::Text(text.into()).into()
    }
}

impl From<PartKind> for Part {
    fn from(kind: PartKind) -> Self {
        Self { kind, signature: None, cache: None, citations: Vec::new(), extra: Extra::default() }
    }
}

// === impl Signature ===

impl Signature {
    /// What stands before a signature that travels through another dialect, followed by its maker's name and a colon.
    const FOREIGN: &'static str = "hoosh:";

    /// As it is written for a client of `dialect`: bare in its maker's own, else with the maker's name before it.
    pub fn to_wire(&self, dialect: Dialect) -> Cow<'_, str> {
        if self.maker == dialect {
            return Cow::Borrowed(&self.value);
        }
        Cow::Owned(format!("{}{}:{}", Self::FOREIGN, self.maker, self.value))
    }

    /// Reads what a client of `dialect` sends back.
    pub fn from_wire(dialect: Dialect, text: impl Into<String>) -> Self {
        let text = text.into();
        let foreign = text.strip_prefix(Self::FOREIGN).and_then(|rest| rest.split_once(':'));
        match foreign.and_then(|(name, value)| Some((Dialect::from_name(name)?, value))) {
            Some((maker, value)) => Self { maker, value: value.to_owned() },
            None => Self { maker: dialect, value: text },
        }
    }

    /// The text for a provider of `dialect`; `None` if another made it.
    pub fn for_maker(&self, dialect: Dialect) -> Option<&str> {
        (self.maker == dialect).then_some(self.value.as_str())
    }
}

/// The text pieces, joined.
pub(crate) fn joined_text(parts: &[Part]) -> String {
    parts
        .iter()
        .filter_map(|part| match &part.kind {
            PartKind::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_come_back_to_their_maker() {
        for maker in [Dialect::Anthropic, Dialect::Gemini, Dialect::OpenAiResponses] {
            let signature = Signature { maker, value: "a+/b==:c".into() };
            for client in [Dialect::Anthropic, Dialect::Gemini, Dialect::OpenAiChat, Dialect::OpenAiResponses]
            {
                let wire = signature.to_wire(client).into_owned();
                assert_eq!(Signature::from_wire(client, wire), signature, "{maker} through {client}");
            }
        }
    }
}
