//! What goes out: the answer in the caller's dialect, and who gave it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use hoosh_core::dialect::Dialect;
use hoosh_core::{FidelityNote, NanoUsd, Problem, UpstreamFailure};

use crate::call::RequestId;
use crate::lane::Lane;
use crate::settle::{Outcome, Settlement};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Who gave it, and how.
    pub head: ReplyHead,
    /// What it is.
    pub body: ReplyBody,
}

/// Who gave an answer, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplyHead {
    /// The call it answers.
    pub request_id: RequestId,
    /// The provider that answered.
    pub provider: String,
    /// The model, as that provider names it.
    pub model: String,
    /// How many candidates were asked, the last of which answered.
    pub attempts: usize,
    /// What of the request could not be carried to the provider.
    pub notes: Vec<FidelityNote>,
    /// What it cost; `None` for a stream, whose end is not known yet, and where no price is known.
    pub cost: Option<NanoUsd>,
}

/// The body of an answer, in the caller's dialect.
#[derive(Debug)]
pub enum ReplyBody {
    /// Whole JSON.
    Full(Bytes),
    /// Server-sent events.
    Stream(ReplyStream),
}

/// A streamed answer, in the caller's dialect, ready to be sent.
///
/// It does not fail: a provider that fails in the middle ends it with an error event of the dialect.
///
/// # Cancel safety
///
/// Dropping it cancels the call at the provider and settles what was seen.
pub struct ReplyStream {
    lane: Option<Box<dyn Lane>>,
    dialect: Dialect,
    settlement: Settlement,
}

// === impl ReplyStream ===

impl ReplyStream {
    pub(crate) fn new(lane: Box<dyn Lane>, dialect: Dialect, settlement: Settlement) -> Self {
        Self { lane: Some(lane), dialect, settlement }
    }

    /// The last bytes of a stream that broke: an error event.
    fn broken(&mut self, failure: UpstreamFailure) -> Bytes {
        let failure = self.settlement.named(failure);
        let mut out = Vec::with_capacity(256);
        if let Some(codec) = self.dialect.codec() {
            codec.stream_encoder(false).problem(&Problem::from(&failure), &mut out);
        }
        self.settlement.settle(Outcome::Truncated(failure));
        out.into()
    }
}

impl Stream for ReplyStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        let Some(lane) = this.lane.as_mut() else { return Poll::Ready(None) };
        let polled = lane.poll_bytes(cx);
        this.settlement.usage = lane.usage();
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(bytes)),
            Poll::Ready(Some(Err(failure))) => {
                this.lane = None;
                Poll::Ready(Some(this.broken(failure)))
            }
            Poll::Ready(None) => {
                let reported = lane.reported();
                this.lane = None;
                this.settlement.settle(match reported {
                    Some(failure) => Outcome::Truncated(this.settlement.named(failure)),
                    None => Outcome::Answered,
                });
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        // A client may close on the last word, before the provider has closed: it has the whole answer.
        if self.lane.as_ref().is_some_and(|lane| lane.is_done()) {
            self.settlement.settle(Outcome::Answered);
        }
    }
}

impl fmt::Debug for ReplyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}
