//! The one trait of everything that can answer, and how two lanes talk to it.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use http::HeaderMap;

use crate::dialect::{Dialect, Quirks};
use crate::embedding::{EmbeddingRequest, EmbeddingResponse};
use crate::failure::{FailureKind, FidelityNote, UpstreamFailure};
use crate::model::ModelInfo;
use crate::request::InferenceRequest;
use crate::response::InferenceResponse;
use crate::stream::StreamEvent;

/// Somebody who can answer: a model server on this machine or a remote API.
///
/// `model` is the provider's own name for the model and stands for [`InferenceRequest::model`], which holds what the
/// caller wrote. All methods take `&self` and may be called at once from many tasks.
///
/// # Cancel safety
///
/// Dropping a future or a stream cancels the call at the provider, as far as closing the connection does that.
pub trait LlmProvider: Send + Sync + fmt::Debug {
    /// The name it has in this configuration: unique, in logs, in `name/model`.
    fn name(&self) -> &str;

    /// Which kind of provider it is.
    fn provider_type(&self) -> ProviderType;

    /// Whether it runs on this machine or network, so that prompts do not leave it.
    fn is_local(&self) -> bool;

    /// Asks for a whole answer.
    fn infer<'a>(
        &'a self,
        model: &'a str,
        request: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<InferenceResponse, UpstreamFailure>>;

    /// Asks for a streamed answer.
    fn infer_stream<'a>(
        &'a self,
        model: &'a str,
        request: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<EventStream, UpstreamFailure>>;

    /// Asks for embeddings.
    fn embed<'a>(
        &'a self,
        model: &'a str,
        request: &'a EmbeddingRequest,
    ) -> BoxFuture<'a, Result<EmbeddingResponse, UpstreamFailure>>;

    /// Asks which models there are. Free of charge at every provider.
    fn list_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>>;

    /// Asks which models it holds in memory. Empty for one that does not say.
    fn loaded_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Asks whether it is well, without generating anything.
    fn health_check(&self) -> BoxFuture<'_, Result<ProviderHealth, UpstreamFailure>>;

    /// Whether a model of it goes on writing the last message, if that is the assistant's ("prefill"), so that it can take over
    /// an answer that broke in the middle.
    fn prefills(&self, _model: &str) -> bool {
        false
    }

    /// What of a request would not reach the model as it was said, see [`EventStream::notes`]. Asks nobody.
    fn preview(&self, model: &str, request: &InferenceRequest) -> Vec<FidelityNote> {
        let _ = (model, request);
        Vec::new()
    }

    /// Whether it takes bodies of this dialect as they are, so that [`forward`](Self::forward) can be used.
    fn speaks(&self, dialect: Dialect) -> bool {
        let _ = dialect;
        false
    }

    /// How it departs from the dialects it speaks, for those who watch what is passed through.
    fn quirks(&self) -> Quirks {
        Quirks::NONE
    }

    /// A failure of its own, with its name on it and its secrets out of it: servers repeat what they do not like, and
    /// callers and logs get to see what they say. For failures that were read in what it was given back unread.
    fn own(&self, failure: UpstreamFailure) -> UpstreamFailure {
        failure.at(self.name())
    }

    /// Which parts of a request for embeddings could not be carried to it. Asks nobody.
    fn preview_embedding(&self, model: &str, request: &EmbeddingRequest) -> Vec<FidelityNote> {
        let _ = (model, request);
        Vec::new()
    }

    /// Sends a body of a dialect it [`speaks`](Self::speaks), unread, and gives back the answer unread.
    ///
    /// An answer with an error status comes back as the failure that its dialect reads in it.
    fn forward(&self, request: WireRequest) -> BoxFuture<'_, Result<WireReply, UpstreamFailure>> {
        let dialect = request.dialect;
        Box::pin(async move {
            let message = format!("it does not take {dialect} bodies");
            Err(UpstreamFailure::new(FailureKind::Unsupported, message).at(self.name()))
        })
    }
}

/// A streamed answer: events, or the failure that cut it. It ends after the first failure.
pub struct EventStream {
    /// The dialect it came in, which its unknown fields belong to; `None` for one made by hand.
    pub origin: Option<Dialect>,
    /// What the provider said of its rate limits, see [`rate_limit`](crate::rate_limit).
    pub limits: HeaderMap,
    /// The events.
    pub events: Pin<Box<dyn Stream<Item = Result<StreamEvent, UpstreamFailure>> + Send>>,
    /// What of the request could not be carried.
    pub notes: Vec<FidelityNote>,
}

/// The bytes of a streamed answer, or the failure that cut it.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, UpstreamFailure>> + Send>>;

/// A body that goes to a provider as it is.
#[derive(Debug, Clone)]
pub struct WireRequest {
    /// The dialect it is in.
    pub dialect: Dialect,
    /// The provider's name for the model, for dialects that have it in the URL.
    pub model: String,
    /// Headers of the caller's that belong to the dialect, such as `anthropic-beta`.
    pub headers: HeaderMap,
    /// Whether it asks for a stream.
    pub stream: bool,
    /// The body.
    pub body: Bytes,
}

/// A provider's successful answer as it came.
pub struct WireReply {
    /// Its headers, hop-by-hop ones among them.
    pub headers: HeaderMap,
    /// Its body.
    pub body: WireBody,
}

/// The body of a [`WireReply`].
pub enum WireBody {
    /// Whole, for a request that did not ask for a stream.
    Full(Bytes),
    /// In pieces as they come.
    Stream(ByteStream),
}

/// How a provider is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderHealth {
    /// Time the check took.
    pub latency: Duration,
    /// Models it offers, if the check saw them.
    pub models: Option<usize>,
}

macro_rules! provider_types {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Which kind of provider one is.
        ///
        /// Each has a row in the preset table of `hoosh-providers`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ProviderType {
            $($(#[$doc])* $variant,)*
        }

        impl ProviderType {
            /// Every kind, in the order of their names.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in configuration and logs, in snake case.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

provider_types! {
    /// Alibaba Cloud Model Studio (Qwen).
    Alibaba => "alibaba",
    /// Anthropic (Claude).
    Anthropic => "anthropic",
    /// Cerebras Inference.
    Cerebras => "cerebras",
    /// DeepSeek.
    DeepSeek => "deepseek",
    /// Fireworks AI.
    Fireworks => "fireworks",
    /// Google (Gemini API).
    Google => "google",
    /// xAI (Grok).
    Grok => "grok",
    /// Groq.
    Groq => "groq",
    /// llama.cpp's `llama-server`.
    LlamaCpp => "llamacpp",
    /// LM Studio.
    LmStudio => "lmstudio",
    /// LocalAI.
    LocalAi => "localai",
    /// Mistral AI.
    Mistral => "mistral",
    /// Moonshot AI (Kimi).
    Moonshot => "moonshot",
    /// Ollama.
    Ollama => "ollama",
    /// OpenAI.
    OpenAi => "openai",
    /// Anything that speaks OpenAI's dialect at a URL you give.
    OpenAiCompatible => "openai_compatible",
    /// OpenRouter.
    OpenRouter => "openrouter",
    /// Perplexity.
    Perplexity => "perplexity",
    /// Synapse.
    Synapse => "synapse",
    /// Together AI.
    Together => "together",
    /// vLLM.
    Vllm => "vllm",
    /// Z.AI (GLM).
    Zai => "zai",
}

/// A word that names no kind of provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a provider type")]
pub struct UnknownProviderType(pub String);

// === impl ProviderType ===

impl std::str::FromStr for ProviderType {
    type Err = UnknownProviderType;

    /// Reads a name whatever its case and separators, so that `LlamaCpp`, `llama_cpp` and `llama-cpp` are all one.
    /// `xai` and `gemini` are taken for `grok` and `google`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |name: &str| -> String {
            name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
        };
        let wanted = match plain(text).as_str() {
            "xai" => "grok".to_owned(),
            "gemini" => "google".to_owned(),
            "moonshotai" => "moonshot".to_owned(),
            "togetherai" => "together".to_owned(),
            "fireworksai" => "fireworks".to_owned(),
            other => other.to_owned(),
        };
        let found = Self::ALL.iter().find(|kind| plain(kind.as_str()) == wanted);
        found.copied().ok_or_else(|| UnknownProviderType(text.to_owned()))
    }
}

impl fmt::Display for ProviderType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl EventStream and others ===

impl EventStream {
    /// A stream of these events, of no dialect and with nothing to note.
    pub fn new(events: impl Stream<Item = Result<StreamEvent, UpstreamFailure>> + Send + 'static) -> Self {
        Self { events: Box::pin(events), notes: Vec::new(), origin: None, limits: HeaderMap::new() }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl fmt::Debug for WireBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(body) => write!(f, "Full({} bytes)", body.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl fmt::Debug for WireReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireReply").field("body", &self.body).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_types_are_read_in_any_case() {
        for (text, kind) in [
            ("Ollama", ProviderType::Ollama),
            ("LlamaCpp", ProviderType::LlamaCpp),
            ("llama_cpp", ProviderType::LlamaCpp),
            ("OpenAi", ProviderType::OpenAi),
            ("LmStudio", ProviderType::LmStudio),
            ("open-router", ProviderType::OpenRouter),
            ("xAI", ProviderType::Grok),
        ] {
            assert_eq!(text.parse(), Ok(kind));
        }
        assert_eq!("ollma".parse::<ProviderType>(), Err(UnknownProviderType("ollma".into())));
    }
}
