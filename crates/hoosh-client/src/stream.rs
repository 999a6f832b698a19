//! A streamed answer as the gateway sends it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::vec;

use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use hoosh_core::dialect::DecodeStream;
use hoosh_core::{InferenceResponse, StreamEvent, fold, limits};

use crate::answer::{Body, too_long};
use crate::error::ClientError;
use crate::meta::CallMeta;

/// A streamed answer: events, then its end; or the error that cut it.
///
/// It ends cleanly only if the gateway said that the answer is complete. A connection that closes early, a silence
/// longer than the [idle time](crate::HooshClientBuilder::idle_timeout) and an error that the gateway reports are one
/// `Err`, after the events that came before; then the stream is over.
///
/// It is a [`Stream`] for those who use one, and has [`next`](Self::next) and [`collect`](Self::collect) of its own.
/// Dropping it cancels the call: the connection closes, and the gateway stops the provider and books what was generated.
#[must_use = "a stream that is dropped is a call that is cancelled"]
pub struct InferenceStream {
    /// `None` once the stream is over, so that the connection is free or closed.
    body: Option<Body>,
    decoder: Box<dyn DecodeStream>,
    /// Events that have come and were not taken yet.
    events: vec::IntoIter<StreamEvent>,
    /// What follows them if the stream was cut.
    failure: Option<ClientError>,
    bytes_received: usize,
    /// The gateway's, for messages.
    url: Arc<str>,
    meta: CallMeta,
}

// === impl InferenceStream ===

impl InferenceStream {
    pub(crate) fn new(body: Body, decoder: Box<dyn DecodeStream>, meta: CallMeta) -> Self {
        let events = Vec::new().into_iter();
        let url = body.url().clone();
        Self { body: Some(body), decoder, events, failure: None, bytes_received: 0, url, meta }
    }

    /// What the gateway said about the call before the first event. Its cost is not known then.
    pub fn meta(&self) -> &CallMeta {
        &self.meta
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`ClientError::Api`] if the gateway reports an error, [`ClientError::Transport`] if the answer broke off or fell
    /// silent, [`ClientError::Decode`] if it is no stream of answers. After it comes `None`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost, and the call goes on until the stream is dropped.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, ClientError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Waits for the end and adds all events that are left up to one answer.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next); what came before the error is then gone, so take the events one by one where half an
    /// answer is worth something. [`ClientError::Decode`] also for an answer longer than 64 MiB.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream and so cancels the call.
    pub async fn collect(mut self) -> Result<InferenceResponse, ClientError> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event?);
            if self.bytes_received > limits::REPLY_BODY_BYTES_MAX {
                return Err(ClientError::decode(&self.url, too_long(), self.meta.request_id));
            }
        }
        Ok(InferenceResponse { notes: self.meta.lossy, ..fold(events) })
    }

    /// Takes what the body gives next: bytes, its end, or its failure.
    fn take(&mut self, piece: Option<Result<Bytes, ClientError>>) {
        let mut events = Vec::new();
        let outcome = match piece {
            Some(Ok(bytes)) => {
                self.bytes_received += bytes.len();
                self.decoder.push(&bytes, &mut events).map(|()| None)
            }
            None => {
                self.body = None;
                self.decoder.finish(&mut events).map(|()| None)
            }
            Some(Err(error)) => {
                // For the usage so far. That the stream is cut is no news.
                let _ = self.decoder.finish(&mut events);
                Ok(Some(error))
            }
        };
        self.failure = outcome.unwrap_or_else(|error| {
            Some(ClientError::from_decoder(&self.url, error, self.meta.request_id.clone()))
        });
        if self.failure.is_some() {
            self.body = None;
        }
        self.events = events.into_iter();
    }
}

impl Stream for InferenceStream {
    type Item = Result<StreamEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.events.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(failure) = self.failure.take() {
                return Poll::Ready(Some(Err(failure)));
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let piece = ready!(body.poll_next(context));
            self.take(piece);
        }
    }
}

impl FusedStream for InferenceStream {
    fn is_terminated(&self) -> bool {
        self.body.is_none() && self.failure.is_none() && self.events.len() == 0
    }
}

impl fmt::Debug for InferenceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferenceStream").field("meta", &self.meta).finish_non_exhaustive()
    }
}
