//! Embeddings of a provider that has another dialect for them.

use hoosh_core::json::Extra;
use hoosh_core::{
    EmbeddingEncoding, EmbeddingRequest, EmbeddingResponse, FailureKind, FidelityNote, UpstreamFailure,
};
use hoosh_router::Candidate;

use super::{Answer, AnswerBody, cannot_translate};
use crate::call::Call;
use crate::count;

pub(super) async fn ask(call: &Call, candidate: &Candidate) -> Result<Answer, UpstreamFailure> {
    let Some(codec) = call.dialect.embedding_codec() else {
        return Err(UpstreamFailure::new(FailureKind::Unsupported, "it is no dialect for embeddings"));
    };
    let request = codec.decode_request(&call.body).map_err(|invalid| cannot_translate(&invalid))?;
    let (request, mut notes) = carried(request);
    let mut reply = candidate.provider.embed(&candidate.model, &request).await?;
    notes.append(&mut reply.notes);
    if reply.model.is_empty() {
        reply.model = candidate.model.as_ref().to_owned();
    }
    let usage = *reply.usage.get_or_insert_with(|| count::embedding(&candidate.model, &request.input));
    let limits = std::mem::take(&mut reply.limits);
    let reply = EmbeddingResponse { extra: Extra::default(), ..reply };
    let encoding = if call.head.base64 { EmbeddingEncoding::Base64 } else { EmbeddingEncoding::Float };
    let body = codec.encode_reply(&reply, encoding).into();
    Ok(Answer { body: AnswerBody::Full { body, usage: Some(usage) }, notes, limits })
}

/// What a candidate could not be told of it.
pub(super) fn preview(call: &Call, candidate: &Candidate) -> Vec<FidelityNote> {
    let codec = call.dialect.embedding_codec();
    let Some(Ok(request)) = codec.map(|codec| codec.decode_request(&call.body)) else { return Vec::new() };
    let (request, mut notes) = carried(request);
    notes.extend(candidate.provider.preview_embedding(&candidate.model, &request));
    notes
}

/// The request without its unknown fields, which mean nothing in another dialect on either way, and the notes of them.
fn carried(mut request: EmbeddingRequest) -> (EmbeddingRequest, Vec<FidelityNote>) {
    let lost = std::mem::take(&mut request.extra);
    let notes = lost.iter().map(|(name, _)| FidelityNote::new(name)).collect();
    (request, notes)
}
