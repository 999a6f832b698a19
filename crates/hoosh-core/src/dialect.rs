//! Wire forms: each dialect reads and writes requests, replies, streams and errors, as bytes in and values out.
//!
//! A dialect never sees a socket, a clock or a task. They all meet in the types of this crate, not pairwise, so that
//! any of them can face a client and any can face a provider. What a target cannot express comes back as a
//! [`FidelityNote`].

mod anthropic;
mod canonical;
mod choices;
mod counting;
mod cut;
pub mod emulate;
mod gemini;
mod head;
mod nested;
mod ollama;
pub mod ollama_listing;
mod openai;
mod openai_chat;
mod openai_completions;
pub mod openai_embeddings;
mod openai_responses;
mod plain;
mod wire;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub use canonical::{Apart, Canonical};
pub use cut::Shears;
pub use head::{Changes, Head, RequestLine, limit_answer, limits_in_place};
pub use openai_responses::{
    previous_id as responses_previous_id, resolve_references as resolve_responses_references,
    take_previous_id as take_responses_previous_id,
};

use crate::embedding::{EmbeddingEncoding, EmbeddingRequest, EmbeddingResponse};
use crate::error::{InvalidRequest, Problem};
use crate::failure::{FailureKind, FidelityNote, UpstreamFailure};
use crate::framing::FramingError;
use crate::json::FieldError;
use crate::request::InferenceRequest;
use crate::response::InferenceResponse;
use crate::stream::StreamEvent;
use crate::usage::Usage;

/// The version of Anthropic's API that we speak, and that is meant where a caller names none.
///
/// Source: docs.anthropic.com/en/api/versioning, read 2026-11-24.
pub const ANTHROPIC_VERSION: &str = "2023-06-01";

macro_rules! dialects {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A wire form of one operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Dialect {
            $($(#[$doc])* $variant,)*
        }

        impl Dialect {
            /// Every dialect.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in configuration, logs and metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

dialects! {
    /// Anthropic's `POST /v1/messages`.
    Anthropic => "anthropic",
    /// Anthropic's `POST /v1/messages/count_tokens`.
    AnthropicCount => "anthropic_count",
    /// Gemini's `generateContent` and `streamGenerateContent`.
    Gemini => "gemini",
    /// Gemini's `batchEmbedContents`.
    GeminiBatchEmbed => "gemini_batch_embed",
    /// Gemini's `countTokens`.
    GeminiCount => "gemini_count",
    /// Gemini's `embedContent`.
    GeminiEmbed => "gemini_embed",
    /// OpenAI's `POST /v1/moderations`.
    Moderations => "moderations",
    /// Ollama's `POST /api/chat`.
    OllamaChat => "ollama_chat",
    /// Ollama's `POST /api/embed`.
    OllamaEmbed => "ollama_embed",
    /// Ollama's `POST /api/generate`.
    OllamaGenerate => "ollama_generate",
    /// OpenAI's `POST /v1/chat/completions`.
    OpenAiChat => "openai_chat",
    /// OpenAI's `POST /v1/completions`.
    OpenAiCompletions => "openai_completions",
    /// OpenAI's `POST /v1/embeddings`.
    OpenAiEmbeddings => "openai_embeddings",
    /// OpenAI's `POST /v1/responses`.
    OpenAiResponses => "openai_responses",
    /// `POST /v1/rerank` as Cohere and Jina have it.
    Rerank => "rerank",
}

/// What a dialect is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Completions, whole or streamed: the dialect has a [`Codec`].
    Inference,
    /// Embeddings: the dialect has an [`EmbeddingCodec`].
    Embedding,
    /// The tokens of a prompt.
    Counting,
    /// Anything else, which only a provider of the dialect itself can answer.
    Plain,
}

/// How a stream is cut into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamForm {
    /// Server-sent events.
    Sse,
    /// One JSON object a line.
    Lines,
}

/// Where a request goes, as far as its bytes depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The provider's name for the model.
    pub model: &'a str,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// How the provider departs from the dialect.
    pub quirks: Quirks,
}

/// Known departures of a vendor from the dialect it speaks. Each is read in one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Wants `max_completion_tokens` where others take `max_tokens`.
    pub max_completion_tokens: bool,
    /// Refuses `stream_options`, or sends usage without being asked.
    pub no_stream_options: bool,
    /// May close a stream after the finish reason without `[DONE]`.
    pub done_optional: bool,
    /// Takes Anthropic's marks for prompt caching (`cache_control`).
    pub cache_marks: bool,
    /// Calls the seed `random_seed`.
    pub random_seed: bool,
    /// Refuses a request with one of these fields, which others of the dialect take or ignore: `messages.…` for a field
    /// of a message. They are left out of what is translated, and noted.
    pub unknown_fields: &'static [&'static str],
}

/// A request in a dialect's bytes, and what of it did not fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The body.
    pub body: Vec<u8>,
    /// What could not be expressed.
    pub notes: Vec<FidelityNote>,
    /// The tool whose arguments are the answer, where the shape of the answer had to be asked for that way; whoever reads
    /// the answer passes it through [`emulate`].
    pub answer_tool: Option<&'static str>,
}

/// What the writer of an answer needs to know beside it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplyContext<'a> {
    /// The request it answers, for dialects whose answers repeat parts of it.
    pub request: Option<&'a InferenceRequest>,
    /// A unique name of the call, for an answer whose provider gave none; written behind the dialect's own prefix.
    pub id: &'a str,
    /// Unix seconds, for an answer whose provider does not say when.
    pub now: u64,
    /// Whether the client asked for usage at the end of a stream, in dialects where that is a question.
    pub include_usage: bool,
    /// The dialect the answer comes from: its unknown fields are written only for a client of the same family.
    pub origin: Option<Dialect>,
    /// The answer that the request went on from, which an answer in the Responses dialect repeats.
    pub previous_id: Option<&'a str>,
    /// Whether a stream is written as one JSON list, as Gemini does without `alt=sse`.
    pub json_list: bool,
}

/// An answer that cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// A field is missing or of the wrong type, or it is not JSON at all.
    #[error("the answer is unreadable: {0}")]
    Field(#[from] FieldError),
    /// It cannot be cut into events.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The stream ended before its end.
    #[error("the stream ended before its end")]
    Truncated,
    /// It is an error that the provider wrote into an answer that began well.
    #[error(transparent)]
    Reported(#[from] Box<UpstreamFailure>),
}

/// The wire form of an inference: both directions of requests, replies and streams.
pub trait Codec: Send + Sync {
    /// Reads a client's request.
    ///
    /// # Errors
    ///
    /// Names the field and what is wrong with it. Also if the request is one that only its own dialect can carry.
    fn decode_request(&self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest>;

    /// Writes a request for a provider.
    fn encode_request(&self, request: &InferenceRequest, target: Target<'_>) -> Encoded;

    /// Reads a provider's whole answer.
    ///
    /// # Errors
    ///
    /// If it is not one, or if it is an error under a status that says success.
    fn decode_reply(&self, body: &[u8]) -> Result<InferenceResponse, DecodeError>;

    /// Writes a whole answer for a client. Its unknown fields go by [`InferenceResponse::origin`], not by the context.
    fn encode_reply(&self, reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded;

    /// Reads a provider's stream.
    fn stream_decoder(&self, quirks: Quirks) -> Box<dyn DecodeStream>;

    /// Writes a stream for a client.
    fn stream_encoder(&self, context: &ReplyContext<'_>) -> Box<dyn EncodeStream>;
}

/// The wire form of embeddings.
pub trait EmbeddingCodec: Send + Sync {
    /// Reads a client's request.
    ///
    /// # Errors
    ///
    /// Names the field and what is wrong with it.
    fn decode_request(&self, body: &[u8]) -> Result<EmbeddingRequest, InvalidRequest>;

    /// Writes a request for a provider.
    ///
    /// # Errors
    ///
    /// If the dialect cannot carry the inputs themselves, such as token ids.
    fn encode_request(&self, request: &EmbeddingRequest, model: &str) -> Result<Encoded, FieldError>;

    /// Reads a provider's answer.
    ///
    /// # Errors
    ///
    /// If it is not one, or an error under a status that says success.
    fn decode_reply(&self, body: &[u8]) -> Result<EmbeddingResponse, DecodeError>;

    /// Writes an answer for a client; only OpenAI's dialect has more than one `encoding`.
    fn encode_reply(&self, reply: &EmbeddingResponse, encoding: EmbeddingEncoding) -> Vec<u8>;
}

/// Reads a stream from bytes as they come, split anywhere.
pub trait DecodeStream: Send {
    /// Takes the next bytes and appends the events they complete.
    ///
    /// # Errors
    ///
    /// As [`Codec::decode_reply`]. Events before the fault are in `out`.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError>;

    /// Whether the stream has said its last word: what may still come belongs to nothing.
    fn is_done(&self) -> bool;

    /// Takes the end of the bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] without a proper end; the usage seen so far is in `out`, marked partial.
    fn finish(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), DecodeError>;
}

/// Writes a stream, event by event.
pub trait EncodeStream: Send {
    /// Appends the bytes of one event, which may be none.
    fn event(&mut self, event: &StreamEvent, out: &mut Vec<u8>);

    /// Appends the proper end.
    fn finish(&mut self, out: &mut Vec<u8>);

    /// Appends an error that ends a stream which began well. Nothing follows it, no `[DONE]` either.
    fn problem(&mut self, problem: &Problem, out: &mut Vec<u8>);

    /// What of the events so far could not be expressed, each kind of thing once; empty again after it was taken.
    fn take_notes(&mut self) -> Vec<FidelityNote> {
        Vec::new()
    }
}

/// Watches an answer that is passed through unread, for the books and the commit point.
pub trait Tap: Send {
    /// Looks at the `data` of one event of a stream.
    ///
    /// # Errors
    ///
    /// If it is no event of this dialect, or one that reports an error.
    fn event(&mut self, data: &[u8]) -> Result<Seen, DecodeError>;

    /// Looks at a whole answer.
    ///
    /// # Errors
    ///
    /// If it is no answer of this dialect, or one that reports an error.
    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError>;

    /// Whether the stream may end here.
    fn is_complete(&self) -> bool;

    /// Whether the stream has said its last word: what may still come belongs to nothing.
    fn is_done(&self) -> bool;

    /// The usage reported so far.
    fn usage(&self) -> Option<Usage>;

    /// What the model wrote in the stream so far (text, reasoning, arguments), for counting where no usage is reported;
    /// at most [`COUNTED_TEXT_BYTES_MAX`](crate::limits::COUNTED_TEXT_BYTES_MAX).
    fn output_text(&self) -> &str {
        ""
    }

    /// The event that the stream should have begun with and did not, told once when that is seen: clients fail without it.
    fn missing_opening(&mut self, _context: &ReplyContext<'_>, _model: &str) -> Option<Vec<u8>> {
        None
    }
}

/// What one event of a passed-through stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// A client would see something of the answer in it.
    pub output: bool,
    /// It holds usage and nothing else: hidden from a client that did not ask for it.
    pub usage_only: bool,
}

// === impl Dialect ===

impl Dialect {
    /// The dialect of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dialect| dialect.as_str() == name)
    }

    /// What it is for.
    pub fn operation(self) -> Operation {
        match self {
            Self::Anthropic
            | Self::Gemini
            | Self::OllamaChat
            | Self::OllamaGenerate
            | Self::OpenAiChat
            | Self::OpenAiCompletions
            | Self::OpenAiResponses => Operation::Inference,
            Self::GeminiBatchEmbed | Self::GeminiEmbed | Self::OllamaEmbed | Self::OpenAiEmbeddings => {
                Operation::Embedding
            }
            Self::AnthropicCount | Self::GeminiCount => Operation::Counting,
            Self::Moderations | Self::Rerank => Operation::Plain,
        }
    }

    /// The codec of an inference dialect.
    pub fn codec(self) -> Option<&'static dyn Codec> {
        Some(match self {
            Self::Anthropic => &anthropic::Anthropic,
            Self::Gemini => &gemini::Gemini,
            Self::OllamaChat => &ollama::chat::OllamaChat,
            Self::OllamaGenerate => &ollama::generate::OllamaGenerate,
            Self::OpenAiChat => &openai_chat::OpenAiChat,
            Self::OpenAiCompletions => &openai_completions::OpenAiCompletions,
            Self::OpenAiResponses => &openai_responses::OpenAiResponses,
            _ => return None,
        })
    }

    /// The codec of an embedding dialect.
    pub fn embedding_codec(self) -> Option<&'static dyn EmbeddingCodec> {
        Some(match self {
            Self::GeminiBatchEmbed => &gemini::embed::BATCH,
            Self::GeminiEmbed => &gemini::embed::SINGLE,
            Self::OllamaEmbed => &ollama::embed::OllamaEmbed,
            Self::OpenAiEmbeddings => &openai_embeddings::OpenAiEmbeddings,
            _ => return None,
        })
    }

    /// The path below a provider's base URL; for Ollama's own below its root, see [`is_at_root`](Self::is_at_root).
    pub fn path(self, model: &str, stream: bool) -> Cow<'static, str> {
        let of_model = |verb: &str| {
            // Tuned models have a folder of their own in their names.
            let folder = if model.contains('/') { "" } else { "models/" };
            Cow::Owned(format!("{folder}{}:{verb}", wire::path_segments(model)))
        };
        Cow::Borrowed(match self {
            Self::Anthropic => "messages",
            Self::AnthropicCount => "messages/count_tokens",
            Self::Gemini if stream => return of_model("streamGenerateContent?alt=sse"),
            Self::Gemini => return of_model("generateContent"),
            Self::GeminiBatchEmbed => return of_model("batchEmbedContents"),
            Self::GeminiCount => return of_model("countTokens"),
            Self::GeminiEmbed => return of_model("embedContent"),
            Self::Moderations => "moderations",
            Self::OllamaChat => "api/chat",
            Self::OllamaEmbed => "api/embed",
            Self::OllamaGenerate => "api/generate",
            Self::OpenAiChat => "chat/completions",
            Self::OpenAiCompletions => "completions",
            Self::OpenAiEmbeddings => "embeddings",
            Self::OpenAiResponses => "responses",
            Self::Rerank => "rerank",
        })
    }

    /// Whether its path is below the provider's root instead of the base URL of its OpenAI dialects.
    pub fn is_at_root(self) -> bool {
        matches!(self, Self::OllamaChat | Self::OllamaEmbed | Self::OllamaGenerate)
    }

    /// Names of a caller's headers that belong to the dialect, in lower case.
    pub fn carried_headers(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic | Self::AnthropicCount => &["anthropic-beta", "anthropic-version"],
            _ => &[],
        }
    }

    /// Whether the model is named in the path, not in the body.
    pub fn has_model_in_path(self) -> bool {
        matches!(self, Self::Gemini | Self::GeminiBatchEmbed | Self::GeminiCount | Self::GeminiEmbed)
    }

    /// How its streams are cut into events.
    pub fn stream_form(self) -> StreamForm {
        if self.is_at_root() { StreamForm::Lines } else { StreamForm::Sse }
    }

    /// Reads what shall be counted, in a dialect for counting.
    ///
    /// # Errors
    ///
    /// As [`Codec::decode_request`] of the dialect it counts for.
    pub fn decode_count_request(self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
        counting::decode_request(self, body)
    }

    /// Writes how many tokens there are, in a dialect for counting.
    pub fn encode_count(self, tokens: u64) -> Vec<u8> {
        counting::encode_reply(self, tokens)
    }

    /// Something that watches an answer passed through in this dialect.
    pub fn tap(self, quirks: Quirks) -> Box<dyn Tap> {
        match self {
            Self::Anthropic => Box::new(anthropic::tap::MessagesTap::default()),
            Self::AnthropicCount | Self::GeminiCount => Box::new(counting::CountTap::new(self)),
            Self::Gemini => Box::new(gemini::tap::GeminiTap::default()),
            Self::GeminiBatchEmbed | Self::GeminiEmbed => Box::new(gemini::tap::GeminiTap::for_embeddings()),
            Self::OllamaChat | Self::OllamaGenerate => Box::new(ollama::tap::OllamaTap::default()),
            Self::OllamaEmbed => Box::new(ollama::tap::OllamaTap::for_embeddings()),
            Self::OpenAiChat | Self::OpenAiCompletions => Box::new(openai::tap::ChunkTap::new(quirks)),
            Self::OpenAiEmbeddings => Box::new(openai_embeddings::EmbeddingsTap::default()),
            Self::OpenAiResponses => Box::new(openai_responses::tap::ResponsesTap::default()),
            Self::Moderations | Self::Rerank => Box::new(plain::PlainTap::default()),
        }
    }

    /// Reads a provider's error answer; a body that is none still gives the failure its status means.
    pub fn decode_error(self, status: u16, retry_after: Option<Duration>, body: &[u8]) -> UpstreamFailure {
        match self {
            Self::Anthropic | Self::AnthropicCount => anthropic::error::decode(status, retry_after, body),
            Self::Gemini | Self::GeminiBatchEmbed | Self::GeminiCount | Self::GeminiEmbed => {
                gemini::error::decode(status, retry_after, body)
            }
            // Ollama's `{"error":"text"}` is one of the shapes that OpenAI's reader knows.
            _ => openai::error::decode(status, retry_after, body),
        }
    }

    /// Writes an error answer for a client.
    pub fn encode_error(self, problem: &Problem, request_id: &str) -> Vec<u8> {
        match self {
            Self::Anthropic | Self::AnthropicCount => anthropic::error::encode(problem, Some(request_id)),
            Self::Gemini | Self::GeminiBatchEmbed | Self::GeminiCount | Self::GeminiEmbed => {
                gemini::error::encode(problem)
            }
            Self::OllamaChat | Self::OllamaEmbed | Self::OllamaGenerate => ollama::error::encode(problem),
            _ => openai::error::encode(problem),
        }
    }

    /// Whether a model of this name goes on writing a last message that is the assistant's, as far as the dialect decides it:
    /// Claude does not from 4.6 on (platform.claude.com, "What's new in Claude 4.6", read 2026-11-24).
    pub fn takes_prefill(self, model: &str) -> bool {
        self != Self::Anthropic || anthropic::takes_prefill(model)
    }

    /// Whether both have the same unknown fields, so that those of one can be written in the other.
    pub(crate) fn is_akin(self, other: Self) -> bool {
        use Dialect::{OllamaChat, OllamaGenerate, OpenAiChat, OpenAiCompletions};
        self == other
            || matches!((self, other), (OpenAiChat | OpenAiCompletions, OpenAiChat | OpenAiCompletions))
            || matches!((self, other), (OllamaChat | OllamaGenerate, OllamaChat | OllamaGenerate))
    }
}

/// Unix seconds as RFC 3339, for lists of models in dialects that want it.
pub fn rfc3339(seconds: u64) -> String {
    ollama::time::rfc3339(seconds)
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Quirks ===

impl Quirks {
    /// A vendor that keeps to the dialect.
    pub const NONE: Self = Self {
        max_completion_tokens: false,
        no_stream_options: false,
        done_optional: false,
        cache_marks: false,
        random_seed: false,
        unknown_fields: &[],
    };

    /// Whether a request may have the field, `messages.…` for one of a message.
    pub fn knows(self, field: &str) -> bool {
        !self.unknown_fields.contains(&field)
    }
}

// === impl DecodeError ===

impl From<DecodeError> for UpstreamFailure {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Field(_) | DecodeError::Framing(_) => {
                Self::new(FailureKind::Garbage, error.to_string())
            }
            DecodeError::Truncated => Self::new(FailureKind::Broken, error.to_string()),
            DecodeError::Reported(failure) => *failure,
        }
    }
}
