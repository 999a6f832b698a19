//! The typed client of a hoosh gateway.
//!
//! An agent crate depends on this and on nothing else of hoosh: it says what it wants in core's words
//! ([`InferenceRequest`], [`EmbeddingRequest`]) and gets answers, events and errors as values. Which provider answers,
//! failover, budgets and caching are the gateway's work; the client never tries a call twice, it only
//! [says](ClientError::is_retryable) whether that could help.
//!
//! ```no_run
//! use hoosh_client::{HooshClient, InferenceRequest};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), hoosh_client::ClientError> {
//! let client = HooshClient::new("http://localhost:8088");
//! let response = client.infer(&InferenceRequest {
//!     model: "llama3".into(),
//!     prompt: "Explain Rust ownership in one sentence.".into(),
//!     ..Default::default()
//! }).await?;
//! println!("{}", response.text);
//! # Ok(())
//! # }
//! ```
//!
//! The same as a stream:
//!
//! ```no_run
//! use hoosh_client::{HooshClient, InferenceRequest, StreamEvent};
//!
//! # async fn tell(request: InferenceRequest) -> Result<(), hoosh_client::ClientError> {
//! let client = HooshClient::builder("https://hoosh.example").token("hk-...").build();
//! let mut stream = client.infer_stream(&request).await?;
//! while let Some(event) = stream.next().await {
//!     if let StreamEvent::Text { delta, .. } = event? {
//!         print!("{delta}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs and what it leaves out
//!
//! - A tokio runtime with its I/O and time drivers: every async function panics outside of one.
//! - HTTP/1.1 only: an open call has a connection of its own, so dropping the call is heard by the gateway at once.
//! - It goes where the URL says: proxies named by the environment are not used, redirects are not followed. Prompts and
//!   the token are too precious for a detour that nobody asked for.
//!
//! # How long a call may take
//!
//! No wait is unbounded, see [`HooshClientBuilder`]. The defaults are longer than the gateway's own bounds, so that the
//! gateway, which knows more, is the one to say what took too long.
//!
//! # Features
//!
//! - `tls` (default): `https://`, by rustls with ring. No process-wide crypto provider needs to be installed. Trusted
//!   are the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), Mozilla's where the system has none.
//!   Without the feature an `https://` URL is an error of the first call.

mod answer;
mod client;
mod error;
mod health;
mod meta;
mod models;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod url;

pub use client::{HooshClient, HooshClientBuilder};
pub use error::{ClientError, Timeout, TransportKind};
pub use health::{Health, ProviderCondition, ProviderStatus, Readiness};
pub use hoosh_core::json::{Extra, JsonNumber, RawJson};
pub use hoosh_core::{
    Choice, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, FidelityNote, FinishReason,
    InferenceRequest, InferenceResponse, MediaSource, Message, ModelInfo, NanoUsd, Part, PartKind,
    ResponseFormat, Retry, Role, StreamEvent, ToolCall, ToolChoice, ToolDefinition, ToolResult, Usage,
};
pub use meta::CallMeta;
pub use stream::InferenceStream;
