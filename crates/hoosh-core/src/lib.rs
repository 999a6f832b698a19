//! The words of AI inference and their wire forms.
//!
//! This crate is what all of hoosh agrees on: what a request, an answer, a stream, a token count, a price and a failure
//! are ([`InferenceRequest`], [`InferenceResponse`], [`StreamEvent`], [`Usage`], [`NanoUsd`], [`UpstreamFailure`]), what
//! everything that can answer has in common ([`LlmProvider`]), and how each [`dialect`] writes all that as bytes.
//!
//! It does no I/O, reads no clock and starts no task: bytes, values and times come in, bytes and values go out.
//!
//! ```
//! use hoosh_core::dialect::{Dialect, Quirks, Target};
//! use hoosh_core::{InferenceRequest, StreamEvent};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let chat = Dialect::OpenAiChat.codec().ok_or("an inference dialect")?;
//! let request = InferenceRequest { prompt: "Say hi.".into(), ..Default::default() };
//! let encoded = chat.encode_request(&request, Target { model: "llama3", stream: true, quirks: Quirks::NONE });
//! assert!(encoded.body.starts_with(br#"{"model":"llama3","messages":[{"role":"user""#));
//!
//! let mut decoder = chat.stream_decoder(Quirks::NONE);
//! let mut events = Vec::new();
//! decoder.push(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n", &mut events)?;
//! assert!(matches!(&events[1], StreamEvent::Text { delta, .. } if delta == "hi"));
//! # Ok(())
//! # }
//! ```

pub mod catalog;
mod context;
pub mod dialect;
mod embedding;
mod error;
mod failure;
pub mod framing;
pub mod json;
pub mod limits;
mod model;
mod money;
pub mod pattern;
pub mod prices;
mod provider;
pub mod rate_limit;
mod request;
mod response;
mod stream;
mod tool;
mod usage;

pub use context::{Compression, ContextPolicy, ContextRule, ContextWish};
pub use embedding::{EmbeddingEncoding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse};
pub use error::{HooshError, InvalidRequest, Limited, NoRoute, NoRouteCause, Problem, ProblemKind, Refusal};
pub use failure::{FailureKind, Fault, Fidelity, FidelityNote, NoteKind, Retry, UpstreamFailure};
pub use model::{Modalities, Modality, ModelInfo, UnknownModality};
pub use money::{
    Adjustment, Factor, Hours, InvalidAmount, InvalidFactor, NanoUsd, Price, Rates, Tier, Weekdays,
};
pub use prices::{OnUnpriced, PriceTable};
pub use provider::{
    ByteStream, EventStream, LlmProvider, ProviderHealth, ProviderType, UnknownProviderType, WireBody,
    WireReply, WireRequest,
};
pub use request::{
    CacheMark, Citation, InferenceRequest, MediaSource, Message, Part, PartKind, ResponseFormat, Role,
    Signature,
};
pub use response::{Choice, FinishReason, InferenceResponse};
pub use stream::{Fold, StreamEvent, fold, unfold};
pub use tool::{HostedTool, ToolCall, ToolChoice, ToolDefinition, ToolResult};
pub use usage::{Provenance, ServiceTier, Usage};
