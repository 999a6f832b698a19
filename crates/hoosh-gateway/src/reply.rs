//! What goes out: the answer in the caller's dialect, and who gave it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use hoosh_core::dialect::Dialect;
use hoosh_core::{FidelityNote, NanoUsd, Problem, ProblemKind, Provenance, Retry, UpstreamFailure, Usage};
use http::HeaderMap;

use crate::cache::CacheUse;
use crate::call::RequestId;
use crate::context::ContextReceipt;
use crate::continuation::{Continuation, Continued};
use crate::gateway::Held;
use crate::lane::{Lane, Rest};
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
    /// What the cache did.
    pub cache: CacheUse,
    /// How old the answer is, if it is given again.
    pub age: Option<Duration>,
    /// How many candidates were asked, the last of which answered.
    pub attempts: usize,
    /// What of the request could not be carried to the provider.
    pub notes: Vec<FidelityNote>,
    /// What was done to the prompt so that the model could read it; `None`: nothing.
    pub context: Option<ContextReceipt>,
    /// What the provider said of its rate limits, in its words and the caller's.
    pub limits: HeaderMap,
    /// What it cost; `None` for a stream, whose end is not known yet, and where no price is known.
    pub cost: Option<NanoUsd>,
    /// How long it waited in line before who answered.
    pub queued: Duration,
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
    /// Gone with the lane.
    held: Option<Box<Held>>,
    settlement: Box<Settlement>,
    dialect: Dialect,
    is_broken: bool,
    /// What is done when it breaks, where the route wants it gone on with.
    recovery: Option<Recovery>,
}

/// How it stands with going on.
enum Recovery {
    /// It has not broken yet.
    Ready(Box<Continuation>),
    /// It has, with this failure, and somebody is asked to go on.
    Asking(BoxFuture<'static, Option<Continued>>, Box<UpstreamFailure>),
}

// === impl ReplyStream ===

impl ReplyStream {
    pub(crate) fn new(
        lane: Box<dyn Lane>,
        dialect: Dialect,
        settlement: Settlement,
        held: Option<Held>,
        continuation: Option<Box<Continuation>>,
    ) -> Self {
        Self {
            lane: Some(lane),
            held: held.map(Box::new),
            settlement: Box::new(settlement),
            dialect,
            is_broken: false,
            recovery: continuation.map(Recovery::Ready),
        }
    }

    /// Whether the connection must be cut where the stream ends, because its error event may go unseen: Gemini's dialect
    /// has none in its stream, and of Google's clients not all look for one (the AI SDK takes it for an empty chunk).
    pub fn must_be_cut(&self) -> bool {
        self.is_broken && self.dialect == Dialect::Gemini
    }

    /// Ends it before its end, because the gateway stops: the last bytes, an error event; `None` if it is over.
    pub fn stop(&mut self) -> Option<Bytes> {
        // One that has said its last word is over, whatever its provider still does.
        let _open = self.lane.as_ref().filter(|lane| !lane.is_done())?;
        Some(self.end(&Self::stopped(), Outcome::Stopped))
    }

    /// What is told of an answer that the stop of the gateway ends.
    pub fn stopped() -> Problem {
        let message = "the gateway stops before the end of this answer; ask again";
        Problem::new(ProblemKind::Unavailable, "stopping", message)
    }

    /// The last bytes of a stream that broke: an error event.
    fn broken(&mut self, failure: UpstreamFailure) -> Bytes {
        let failure = self.settlement.named(failure);
        self.release(Some(&failure));
        self.end(&Problem::from(&failure), Outcome::Truncated(failure))
    }

    /// Has somebody asked to go on after this failure, if that can be.
    fn is_recovering(&mut self, failure: &UpstreamFailure) -> bool {
        let Some(Recovery::Ready(_)) = &self.recovery else { return false };
        let text = self.lane.as_ref().and_then(|lane| lane.so_far()).map(str::to_owned);
        let Some(text) = text.filter(|_| failure.retry != Retry::Never) else { return false };
        let Some(Recovery::Ready(continuation)) = self.recovery.take() else { return false };
        let failure = self.settlement.named(failure.clone());
        self.release(Some(&failure));
        tracing::warn!(%failure, "a stream broke, another provider is asked to go on");
        let asking = continuation.go_on(text, failure.clone());
        self.recovery = Some(Recovery::Asking(asking, Box::new(failure)));
        true
    }

    /// Somebody goes on.
    fn continue_with(&mut self, continued: Continued) {
        let Continued { stream, candidate, mut held, prefilled, continuation } = continued;
        let Some(lane) = &mut self.lane else { return };
        let before = usage_so_far(&**lane);
        self.settlement.note(stream.notes.iter().cloned());
        let from = continuation.wrote_before();
        let (to, model) = (candidate.to_string(), Arc::clone(&candidate.model));
        lane.go_on(Rest { stream, to, from, model, before, prefilled });
        self.settlement.continued_by(&candidate, before);
        self.settlement.shares.answered_by(held.share.take());
        self.held = Some(Box::new(held));
        self.recovery = Some(Recovery::Ready(continuation));
    }

    fn end(&mut self, problem: &Problem, outcome: Outcome) -> Bytes {
        self.is_broken = true;
        self.recovery = None;
        let mut out = Vec::with_capacity(256);
        if let Some(mut lane) = self.lane.take() {
            lane.write_problem(problem, &mut out);
            self.account(&mut *lane, false);
        }
        self.settlement.settle(outcome);
        out.into()
    }

    /// Tells those who kept a place for it how it ended.
    fn release(&mut self, failure: Option<&UpstreamFailure>) {
        if let Some(held) = self.held.take() {
            held.end(failure);
        }
    }

    /// Takes over from a lane that is over what it has for the books.
    fn account(&mut self, lane: &mut dyn Lane, is_whole: bool) {
        let whole = lane.usage().filter(|_| is_whole);
        self.settlement.usage = whole.or_else(|| usage_so_far(lane));
        self.settlement.note(lane.take_notes());
    }
}

/// The usage of a stream that is not over.
fn usage_so_far(lane: &dyn Lane) -> Option<Usage> {
    match lane.usage() {
        Some(seen) => Some(early(seen, lane.counted(Some(&seen)))),
        None => lane.counted(None),
    }
}

/// The usage of a stream that ended early. What Anthropic says at the beginning holds the prompt, but not what was written
/// since.
fn early(seen: Usage, counted: Option<Usage>) -> Usage {
    match counted {
        Some(counted) if counted.completion_total() > seen.completion_total() => {
            let (output, provenance) = (counted.output, Provenance::Estimated);
            Usage { output, reasoning: None, audio_out: None, provenance, ..seen }
        }
        _ => seen,
    }
}

impl Stream for ReplyStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        if let Some(Recovery::Asking(asking, failure)) = &mut this.recovery {
            match ready!(asking.as_mut().poll(cx)) {
                Some(continued) => this.continue_with(continued),
                None => {
                    let failure = (**failure).clone();
                    return Poll::Ready(Some(this.broken(failure)));
                }
            }
        }
        let Some(lane) = this.lane.as_mut() else { return Poll::Ready(None) };
        let polled = lane.poll_bytes(cx);
        this.settlement.usage = lane.usage();
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(bytes))) => {
                this.settlement.give(&bytes);
                Poll::Ready(Some(bytes))
            }
            Poll::Ready(Some(Err(failure))) => match this.is_recovering(&failure) {
                true => self.poll_next(cx),
                false => Poll::Ready(Some(this.broken(failure))),
            },
            Poll::Ready(None) => {
                let mut reported = None;
                if let Some(mut lane) = this.lane.take() {
                    reported = lane.reported();
                    this.account(&mut *lane, reported.is_none());
                }
                let failure = reported.map(|failure| this.settlement.named(failure));
                this.release(failure.as_ref());
                this.settlement.settle(failure.map_or(Outcome::Answered, Outcome::Truncated));
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        let Some(mut lane) = self.lane.take() else { return };
        let is_done = lane.is_done();
        // Whoever is asked to go on is given up before the call is settled, so that it is in its books.
        self.recovery = None;
        self.account(&mut *lane, is_done);
        if is_done {
            self.release(None);
        }
        // A client may close on the last word, before the provider has closed: it has the whole answer.
        self.settlement.settle(if is_done { Outcome::Answered } else { Outcome::Cancelled });
    }
}

impl fmt::Debug for ReplyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream").finish_non_exhaustive()
    }
}
