//! hoosh, an AI inference gateway: one endpoint in front of the models on this machine and remote APIs.
//!
//! This crate only re-exports the others, by topic; depend on one of them alone where that is all you need. It is used
//! in three ways:
//!
//! - **run** `hoosh serve` and point any OpenAI client at it (the binary is in `hoosh-server`);
//! - **embed** the [`router`] in another program, without a server;
//! - **depend** on the [`client`] from an agent:
//!
//! ```no_run
//! # async fn doc() -> Result<(), Box<dyn std::error::Error>> {
//! use hoosh::{InferenceRequest, HooshClient};
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
//! # Features
//!
//! - `server`: the module `server`, for programs that start a whole gateway with its HTTP listener.
//!
//! Modules and names of later parts (tools, metrics, hardware) come with those parts.

pub use hoosh_audit::AuditChain;
pub use hoosh_budget::{TokenBudget, TokenPool};
pub use hoosh_client::HooshClient;
pub use hoosh_core::{
    HooshError, InferenceRequest, InferenceResponse, LlmProvider, ModelInfo, ProviderType, ToolCall,
    ToolChoice, ToolDefinition, ToolResult,
};
pub use hoosh_gateway::ResponseCache;
pub use hoosh_providers::ProviderRegistry;
pub use hoosh_router::Router;

/// What happened, provable offline.
pub mod audit {
    pub use hoosh_audit::*;
    pub use hoosh_gateway::{Audit, Trail, TrailKind};
}

/// What may be spent, and who may spend it.
pub mod budget {
    pub use hoosh_budget::*;
}

/// Answers that are given again.
pub mod cache {
    pub use hoosh_gateway::{
        CacheControl, CacheSettings, CacheStats, CacheUse, ResponseCache, SemanticSettings, Similarity,
    };
}

/// The typed client for agents.
pub mod client {
    pub use hoosh_client::*;
}

/// Prices and what a call costs.
pub mod cost {
    pub use hoosh_core::catalog::Catalog;
    pub use hoosh_core::{NanoUsd, Price, Provenance, Rates, Tier, Usage};
}

/// Why a call has no answer.
pub mod error {
    pub use hoosh_client::ClientError;
    pub use hoosh_core::{
        FailureKind, Fault, FidelityNote, HooshError, InvalidRequest, Limited, NoRoute, Problem, ProblemKind,
        Refusal, Retry, UpstreamFailure,
    };
}

/// What is told when a call is over, and what happens on the way.
pub mod events {
    pub use hoosh_gateway::{
        CallRecord, Completed, Endpoint, Event, EventBus, EventKind, FailedAttempt, Happened, Listener,
        Observer, Outcome,
    };
}

/// Keys of callers, what those may do, and how fast.
pub mod access {
    pub use hoosh_budget::{keys, rate};
}

/// How providers are.
pub mod health {
    pub use hoosh_core::ProviderHealth;
    pub use hoosh_gateway::HealthReport;
}

/// Requests, answers and streams.
pub mod inference {
    pub use hoosh_core::{
        Choice, EmbeddingEncoding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, FinishReason,
        InferenceRequest, InferenceResponse, MediaSource, Message, Modalities, Modality, ModelInfo, Part,
        PartKind, ResponseFormat, Role, StreamEvent, ToolCall, ToolChoice, ToolDefinition, ToolResult, fold,
    };
}

/// Checks of one's own on the way of every call, and the way itself.
pub mod middleware {
    pub use hoosh_gateway::{
        Call, CallerId, Gateway, GatewayBuilder, Guard, Reply, ReplyBody, ReplyHead, RequestId,
    };
}

/// Who can be asked, and how.
pub mod provider {
    pub use hoosh_core::{EventStream, LlmProvider, ProviderType};
    pub use hoosh_providers::*;
}

/// Who answers, and who is next when that fails.
pub mod router {
    pub use hoosh_router::*;
}

/// The configuration of a server.
#[cfg(feature = "server")]
pub mod config {
    pub use hoosh_server::config::*;
}

/// A whole gateway with its HTTP listener.
#[cfg(feature = "server")]
pub mod server {
    pub use hoosh_server::{RunError, run};
}
