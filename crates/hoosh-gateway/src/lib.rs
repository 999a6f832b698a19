//! The pipeline from a request's bytes to an answer's, without HTTP.
//!
//! [`Gateway::call`] is the way of every call, and its text is its order; read it first. Around it: what comes in
//! ([`Call`]), what goes out ([`Reply`]), checks of your own ([`Guard`]), what is told when a call is over
//! ([`Observer`], [`CallRecord`]), and what happens on the way ([`Gateway::events`]).
//!
//! ```
//! use hoosh_core::{InferenceRequest, ProviderType};
//! use hoosh_gateway::{Call, Gateway};
//! use hoosh_providers::{HttpProvider, ProviderSettings};
//! use hoosh_router::Router;
//!
//! # async fn doc() -> Result<(), Box<dyn std::error::Error>> {
//! let ollama = HttpProvider::new(ProviderSettings::new(ProviderType::Ollama))?;
//! let router = Router::builder().provider(std::sync::Arc::new(ollama)).build()?;
//! let gateway = Gateway::builder(router).build();
//!
//! let request = InferenceRequest { model: "llama3".into(), prompt: "Say hi.".into(), ..Default::default() };
//! let reply = gateway.call(Call::chat(&request)?).await?;
//! println!("{} answered", reply.head.provider);
//! # Ok(())
//! # }
//! ```

mod admission;
mod asking;
mod audit;
mod budget;
mod cache;
mod call;
mod context;
mod continuation;
mod count;
mod decisions;
mod events;
mod gateway;
mod guard;
mod lane;
mod lines;
mod listing;
mod needs;
mod pricing;
mod probes;
mod reply;
mod responses;
mod retries;
mod settle;

pub use audit::{Audit, Trail, TrailKind};
pub use budget::refused as refused_by_pools;
pub use cache::{
    CacheControl, CacheSettings, CacheStats, CacheUse, ResponseCache, SemanticSettings, Similarity,
};
pub use call::{Call, CallerId, RequestId};
pub use context::ContextReceipt;
pub use decisions::{Asked, AskedResult, Decision, Decisions, Progress};
pub use events::{Completed, Endpoint, Event, EventBus, EventKind, Happened, Listener};
pub use gateway::{Fallbacks, Gateway, GatewayBuilder, HealthReport};
pub use guard::Guard;
pub use lines::{LineStatus, PlaceInLine};
pub use reply::{Reply, ReplyBody, ReplyHead, ReplyStream};
pub use settle::{CallRecord, FailedAttempt, Leg, LegKind, Observer, Outcome, StopMark};
