//! Embeddings: texts in, vectors out.

use http::HeaderMap;

use crate::failure::FidelityNote;
use crate::json::Extra;
use crate::usage::Usage;

/// A request for embeddings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingRequest {
    /// Model as the caller names it.
    pub model: String,
    /// What to embed, at least one.
    pub input: Vec<EmbeddingInput>,
    /// Length the vectors shall be cut to, where the model can.
    pub dimensions: Option<u32>,
    /// The end user.
    pub user: Option<String>,
    /// Fields that we do not know.
    pub extra: Extra,
}

/// One thing to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbeddingInput {
    /// Text.
    Text(String),
    /// Token ids of the model's own vocabulary.
    Tokens(Vec<u32>),
}

/// The vectors, in the order of the inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingResponse {
    /// The model that answered, as the provider names it.
    pub model: String,
    /// One vector per input.
    pub embeddings: Vec<Vec<f32>>,
    /// What it took.
    pub usage: Option<Usage>,
    /// Fields that we do not know.
    pub extra: Extra,
    /// What of the request could not be carried.
    pub notes: Vec<FidelityNote>,
    /// What the provider said of its rate limits, see [`rate_limit`](crate::rate_limit).
    pub limits: HeaderMap,
}

/// How vectors are written into JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmbeddingEncoding {
    /// As lists of numbers.
    #[default]
    Float,
    /// As base64 of little-endian `f32`s, a quarter of the bytes; the official Python SDK asks for it by default.
    Base64,
}

impl From<&str> for EmbeddingInput {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for EmbeddingInput {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
