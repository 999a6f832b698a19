//! Tools a model may call, its calls, and their results.

use crate::dialect::Dialect;
use crate::json::{Extra, RawJson};
use crate::request::{CacheMark, Part};

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDefinition {
    /// Name the model calls it by.
    pub name: String,
    /// What it does and when to use it, for the model.
    pub description: Option<String>,
    /// JSON Schema of its arguments, kept as text; `None` means it takes none.
    pub parameters: Option<RawJson>,
    /// Whether arguments must match the schema exactly (OpenAI structured outputs).
    pub strict: Option<bool>,
    /// Whether the model writes free text instead of JSON (OpenAI's custom tools). Such a tool has one argument `input`
    /// here, which every dialect can express.
    pub freeform: bool,
    /// Where the provider shall cache the prompt up to the end of this definition.
    pub cache: Option<CacheMark>,
    /// Fields of the definition that we do not know.
    pub extra: Extra,
}

/// A tool that the provider runs itself, in the words of its dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct HostedTool {
    /// The dialect it is defined in.
    pub maker: Dialect,
    /// The dialect's word for it, such as `web_search`.
    pub kind: String,
    /// The whole definition.
    pub json: RawJson,
}

/// Whether and which tool the model must call.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// No tool may be called.
    None,
    /// Some tool must be called.
    Required,
    /// This tool must be called.
    Tool(String),
    /// A form of its own dialect that we carry without reading, such as OpenAI's `allowed_tools`.
    Other(RawJson),
}

/// One call of a tool by the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolCall {
    /// Name of this call, which its [`ToolResult`] repeats.
    pub id: String,
    /// The tool called.
    pub name: String,
    /// The arguments as JSON text, exactly as the model wrote them: it may be wrong JSON.
    pub arguments: String,
    /// Fields of the call that we do not know.
    pub extra: Extra,
}

/// What a tool call gave, on its way back to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    /// The [`ToolCall::id`] it answers.
    pub call_id: String,
    /// What the tool gave: text, in some dialects images too.
    pub content: Vec<Part>,
    /// Whether the tool failed and `content` says how.
    pub is_error: bool,
}

// === impl ToolDefinition ===

impl ToolDefinition {
    /// A tool with a name, a description and a schema of its arguments.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: RawJson) -> Self {
        Self {
            name: name.into(),
            description: Some(description.into()),
            parameters: Some(parameters),
            strict: None,
            freeform: false,
            cache: None,
            extra: Extra::default(),
        }
    }
}
