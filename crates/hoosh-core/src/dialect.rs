//! Wire forms: each dialect reads and writes requests, replies, streams and errors, as bytes in and values out.
//!
//! A dialect never sees a socket, a clock or a task. They all meet in the types of this crate, not pairwise, so that
//! any of them can face a client and any can face a provider. What a target cannot express comes back as a
//! [`FidelityNote`].

mod head;
mod openai;
mod openai_chat;
mod openai_completions;
pub mod openai_embeddings;

use std::fmt;
use std::time::Duration;

pub use head::{Changes, Head};

use crate::error::{InvalidRequest, Problem};
use crate::failure::{FailureKind, FidelityNote, UpstreamFailure};
use crate::framing::FramingError;
use crate::json::FieldError;
use crate::request::InferenceRequest;
use crate::response::InferenceResponse;
use crate::stream::StreamEvent;
use crate::usage::Usage;

/// A wire form of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// OpenAI's `POST /v1/chat/completions`.
    OpenAiChat,
    /// OpenAI's `POST /v1/completions`.
    OpenAiCompletions,
    /// OpenAI's `POST /v1/embeddings`.
    OpenAiEmbeddings,
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
}

/// A request in a dialect's bytes, and what of it did not fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The body.
    pub body: Vec<u8>,
    /// What could not be expressed.
    pub notes: Vec<FidelityNote>,
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

    /// Writes a whole answer for a client.
    fn encode_reply(&self, reply: &InferenceResponse) -> Vec<u8>;

    /// Reads a provider's stream.
    fn stream_decoder(&self, quirks: Quirks) -> Box<dyn DecodeStream>;

    /// Writes a stream for a client; `include_usage`: whether the client asked for usage at its end.
    fn stream_encoder(&self, include_usage: bool) -> Box<dyn EncodeStream>;
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
    /// The codec of an inference dialect; embeddings have functions of their own in [`openai_embeddings`].
    pub fn codec(self) -> Option<&'static dyn Codec> {
        match self {
            Self::OpenAiChat => Some(&openai_chat::OpenAiChat),
            Self::OpenAiCompletions => Some(&openai_completions::OpenAiCompletions),
            Self::OpenAiEmbeddings => None,
        }
    }

    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::OpenAiCompletions => "openai_completions",
            Self::OpenAiEmbeddings => "openai_embeddings",
        }
    }

    /// The path below a provider's base URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::OpenAiChat => "chat/completions",
            Self::OpenAiCompletions => "completions",
            Self::OpenAiEmbeddings => "embeddings",
        }
    }

    /// Something that watches an answer passed through in this dialect.
    pub fn tap(self, quirks: Quirks) -> Box<dyn Tap> {
        match self {
            Self::OpenAiChat | Self::OpenAiCompletions => Box::new(openai::tap::ChunkTap::new(quirks)),
            Self::OpenAiEmbeddings => Box::new(openai_embeddings::EmbeddingsTap::default()),
        }
    }

    /// Reads a provider's error answer; a body that is none still gives the failure its status means.
    pub fn decode_error(self, status: u16, retry_after: Option<Duration>, body: &[u8]) -> UpstreamFailure {
        match self {
            Self::OpenAiChat | Self::OpenAiCompletions | Self::OpenAiEmbeddings => {
                openai::error::decode(status, retry_after, body)
            }
        }
    }

    /// Writes an error answer for a client.
    pub fn encode_error(self, problem: &Problem) -> Vec<u8> {
        match self {
            Self::OpenAiChat | Self::OpenAiCompletions | Self::OpenAiEmbeddings => {
                openai::error::encode(problem)
            }
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Quirks ===

impl Quirks {
    /// A vendor that keeps to the dialect.
    pub const NONE: Self =
        Self { max_completion_tokens: false, no_stream_options: false, done_optional: false };
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
