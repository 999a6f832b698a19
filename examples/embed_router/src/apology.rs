//! A provider of one's own: whatever can answer can be one, a model in this process or a test's script.

use futures_util::future::{BoxFuture, ready};
use futures_util::stream;
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, FinishReason, InferenceRequest,
    InferenceResponse, LlmProvider, ModelInfo, ProviderHealth, ProviderType, StreamEvent, UpstreamFailure,
};

type Answer<'a, T> = BoxFuture<'a, Result<T, UpstreamFailure>>;

const WORDS: &str = "Nobody can answer that right now.";

/// Answers everything with the same words.
#[derive(Debug)]
pub(crate) struct Apology;

impl LlmProvider for Apology {
    fn name(&self) -> &str {
        "apology"
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAiCompatible
    }

    fn is_local(&self) -> bool {
        true
    }

    fn infer<'a>(&'a self, model: &'a str, _: &'a InferenceRequest) -> Answer<'a, InferenceResponse> {
        Box::pin(ready(Ok(InferenceResponse {
            model: model.to_owned(),
            text: WORDS.to_owned(),
            ..InferenceResponse::default()
        })))
    }

    fn infer_stream<'a>(&'a self, _: &'a str, _: &'a InferenceRequest) -> Answer<'a, EventStream> {
        let events = [
            StreamEvent::Text { choice: 0, delta: WORDS.to_owned() },
            StreamEvent::Finish { choice: 0, reason: FinishReason::Stop },
        ];
        Box::pin(ready(Ok(EventStream::new(stream::iter(events.map(Ok))))))
    }

    fn embed<'a>(&'a self, _: &'a str, _: &'a EmbeddingRequest) -> Answer<'a, EmbeddingResponse> {
        Box::pin(ready(Err(UpstreamFailure::new(FailureKind::Unsupported, "it has no embeddings"))))
    }

    fn list_models(&self) -> Answer<'_, Vec<ModelInfo>> {
        Box::pin(ready(Ok(vec![ModelInfo::named("apology", "sorry")])))
    }

    fn health_check(&self) -> Answer<'_, ProviderHealth> {
        Box::pin(ready(Ok(ProviderHealth { latency: std::time::Duration::ZERO, models: Some(1) })))
    }
}
