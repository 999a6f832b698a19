//! The lane through core's types, for a provider that does not speak the caller's dialect.

use std::task::{Context, Poll};

use bytes::Bytes;
use hoosh_core::dialect::{Codec, Dialect, EncodeStream, openai_embeddings};
use hoosh_core::{
    EmbeddingEncoding, EventStream, InferenceResponse, StreamEvent, UpstreamFailure, Usage, limits,
};
use hoosh_router::{Candidate, until_output};

use super::{Answer, AnswerBody, Lane, cannot_translate};
use crate::call::Call;

pub(super) async fn ask(call: &Call, candidate: &Candidate) -> Result<Answer, UpstreamFailure> {
    let Some(codec) = call.dialect.codec() else { return embed(call, candidate).await };
    let request = call.decoded().map_err(cannot_translate)?;
    if !call.head.stream {
        let reply = candidate.provider.infer(&candidate.model, request).await?;
        return Ok(whole(codec, reply));
    }
    let mut stream = until_output(candidate.provider.infer_stream(&candidate.model, request).await?).await?;
    let notes = std::mem::take(&mut stream.notes);
    let encoder = codec.stream_encoder(call.head.include_usage);
    let lane = TranslatedStream { stream: Some(stream), encoder, usage: None };
    Ok(Answer { body: AnswerBody::Stream(Box::new(lane)), notes })
}

fn whole(codec: &dyn Codec, reply: InferenceResponse) -> Answer {
    let body = codec.encode_reply(&reply).into();
    Answer { body: AnswerBody::Full { body, usage: reply.usage }, notes: reply.notes }
}

async fn embed(call: &Call, candidate: &Candidate) -> Result<Answer, UpstreamFailure> {
    debug_assert_eq!(call.dialect, Dialect::OpenAiEmbeddings, "the only dialect without a codec");
    let request =
        openai_embeddings::decode_request(&call.body).map_err(|invalid| cannot_translate(&invalid))?;
    let reply = candidate.provider.embed(&candidate.model, &request).await?;
    let encoding = if call.head.base64 { EmbeddingEncoding::Base64 } else { EmbeddingEncoding::Float };
    let body = openai_embeddings::encode_reply(&reply, encoding).into();
    Ok(Answer { body: AnswerBody::Full { body, usage: reply.usage }, notes: Vec::new() })
}

struct TranslatedStream {
    /// Gone at its end.
    stream: Option<EventStream>,
    encoder: Box<dyn EncodeStream>,
    usage: Option<Usage>,
}

impl Lane for TranslatedStream {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamFailure>>> {
        let this = self;
        let mut out = Vec::new();
        loop {
            let Some(stream) = this.stream.as_mut() else { return Poll::Ready(None) };
            match stream.events.as_mut().poll_next(cx) {
                // What is ready now goes out in one write.
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Some(Ok(out.into()))),
                Poll::Ready(Some(Ok(event))) => {
                    if let StreamEvent::Usage(usage) = &event {
                        this.usage = Some(*usage);
                    }
                    this.encoder.event(&event, &mut out);
                    if out.len() > limits::STREAM_WRITE_BYTES_MAX {
                        return Poll::Ready(Some(Ok(out.into())));
                    }
                }
                Poll::Ready(Some(Err(failure))) if out.is_empty() => return Poll::Ready(Some(Err(failure))),
                Poll::Ready(Some(Err(failure))) => {
                    // The text before the fault is shown first, the fault with the next poll.
                    let fault = futures_util::stream::iter([Err(failure)]);
                    stream.events = Box::pin(fault);
                    return Poll::Ready(Some(Ok(out.into())));
                }
                Poll::Ready(None) => {
                    this.stream = None;
                    this.encoder.finish(&mut out);
                    return Poll::Ready(Some(Ok(out.into())));
                }
            }
        }
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn is_done(&self) -> bool {
        self.stream.is_none()
    }

    fn reported(&mut self) -> Option<UpstreamFailure> {
        None
    }
}
