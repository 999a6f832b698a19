//! What a caller asks of a model, in no vendor's words.

use crate::dialect::Dialect;
use crate::json::{Extra, JsonNumber, RawJson};
use crate::tool::{ToolCall, ToolChoice, ToolDefinition, ToolResult};

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
    /// How hard to think: `minimal`, `low`, `medium`, `high`, or a word the provider knows.
    pub reasoning_effort: Option<String>,
    /// The end user, for the provider's abuse detection and for budgets.
    pub user: Option<String>,
    /// Fields of the dialect the request came in that we do not know. They reach a provider of the same family.
    pub extra: Extra,
    /// The dialect `extra` belongs to; `None` for a request made by hand, whose `extra` is sent as it is.
    pub origin: Option<Dialect>,
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
    /// Fields of the piece that we do not know, such as prompt caching marks.
    pub extra: Extra,
}

/// What a piece of a message is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PartKind {
    /// Text.
    Text(String),
    /// The model's reasoning as text.
    Reasoning(String),
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
    /// A piece of its own dialect that we carry without reading: its `type` and the whole piece.
    Other {
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
    pub fn conversation(&self) -> impl Iterator<Item = std::borrow::Cow<'_, Message>> {
        use std::borrow::Cow;
        let system = self.system.as_deref().map(|text| Cow::Owned(Message::system(text)));
        let prompt = (!self.prompt.is_empty()).then(|| Cow::Owned(Message::user(self.prompt.as_str())));
        system.into_iter().chain(self.messages.iter().map(Cow::Borrowed)).chain(prompt)
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
        Self { kind, extra: Extra::default() }
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
