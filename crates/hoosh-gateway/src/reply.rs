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
use hoosh_core::{
    FidelityNote, HooshError, NanoUsd, Problem, ProblemKind, Provenance, Retry, UpstreamFailure, Usage,
    limits,
};
use http::HeaderMap;

use crate::budget::More;
use crate::cache::CacheUse;
use crate::call::RequestId;
use crate::context::ContextReceipt;
use crate::continuation::{Continuation, Continued};
use crate::count;
use crate::gateway::Held;
use crate::lane::{Lane, Rest};
use crate::settle::{Kept, Outcome, Settlement};

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
    /// The most tokens that the answer could have, where its pools had no more left for it. `None`: as many as it was asked for.
    pub budget_limit: Option<u64>,
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
    /// What its ledger does for it: more that is held, or a lease renewed.
    holding: Option<Holding>,
    /// Where its end waits until it is kept: what is given after that.
    keeping: Option<Kept>,
    last: Option<Bytes>,
    /// Whether it has to.
    is_strict: bool,
    /// What is done when it breaks, where the route wants it gone on with.
    recovery: Option<Recovery>,
}

/// What a ledger does for a stream that goes on.
enum Holding {
    More(BoxFuture<'static, More>),
    Renewal(BoxFuture<'static, ()>),
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
            is_strict: settlement.is_strict(),
            settlement: Box::new(settlement),
            dialect,
            is_broken: false,
            holding: None,
            keeping: None,
            last: None,
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

    /// Its pools have no more: it is ended as an answer that is as long as it may be.
    fn cut(&mut self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        if let Some(mut lane) = self.lane.take() {
            let usage = usage_of_cut(&mut *lane);
            lane.cut(&usage, &mut out);
            self.settlement.usage = Some(usage);
            self.settlement.note(lane.take_notes());
        }
        self.recovery = None;
        self.release(None);
        let out = Bytes::from(out);
        self.settlement.give(&out);
        self.settlement.settle(Outcome::Cut);
        out
    }

    /// The last bytes, once all that is booked is kept where it must be before they go out.
    fn last(&mut self, bytes: Bytes) -> Option<Bytes> {
        match self.settlement.kept() {
            None => Some(bytes),
            Some(kept) => {
                self.keeping = Some(kept);
                self.last = Some(bytes);
                None
            }
        }
    }

    /// The last bytes where the others must not go out: an error event in their place.
    fn unkept(&mut self, error: &HooshError) -> Bytes {
        self.is_broken = true;
        self.last = None;
        let mut out = Vec::with_capacity(256);
        if let Some(mut lane) = self.lane.take() {
            lane.write_problem(&Problem::from(error), &mut out);
        }
        out.into()
    }

    /// These bytes, unless they may be the last and all that is booked has to be kept before those go out.
    fn in_time(&mut self, bytes: Bytes) -> Option<Bytes> {
        let lane = self.lane.as_ref();
        let (is_done, is_ending) = lane.map(|lane| (lane.is_done(), lane.is_ending())).unwrap_or_default();
        if !self.is_strict || !is_ending {
            return Some(bytes);
        }
        let bytes = match self.last.take() {
            Some(before) => [before, bytes].concat().into(),
            None => bytes,
        };
        if is_done {
            self.answered();
            return self.last(bytes);
        }
        // What ends the answer, but not what ends the stream: more may follow at once.
        self.last = Some(bytes);
        None
    }

    /// Settles it as answered, while its provider may still be closing.
    fn answered(&mut self) {
        if let Some(mut lane) = self.lane.take() {
            self.account(&mut *lane, true);
            self.lane = Some(lane);
        }
        self.release(None);
        self.settlement.settle(Outcome::Answered);
    }

    /// Sees to what is held for it. `Ready(false)`: its pools have no more for what comes next.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(lane) = &mut self.lane else { return Poll::Ready(true) };
        let wanted = lane.meter().map_or(0, |meter| meter.wanted());
        if self.holding.is_none() {
            self.holding = self.settlement.held().and_then(|held| held.renewal()).map(Holding::Renewal);
        }
        if let Some(Holding::Renewal(renewal)) = &mut self.holding {
            // Nothing waits for it, unless more is to be held.
            if renewal.as_mut().poll(cx).is_ready() {
                self.holding = None;
            } else if wanted > 0 {
                return Poll::Pending;
            }
        }
        if self.holding.is_none() && wanted > 0 {
            self.holding = self.settlement.held().map(|held| Holding::More(held.extend(wanted)));
        }
        // Nobody could hold more for what waits only if it held nothing.
        let Some(Holding::More(more)) = &mut self.holding else { return Poll::Ready(wanted == 0) };
        let more = ready!(more.as_mut().poll(cx));
        self.holding = None;
        match (more, lane.meter()) {
            (More::Tokens(more), Some(meter)) => {
                meter.allow(more);
                Poll::Ready(true)
            }
            _ => Poll::Ready(false),
        }
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
        self.settlement.usage = match whole {
            Some(usage) => count::believed(Some(usage), || lane.counted(None)),
            None => usage_so_far(lane),
        };
        self.settlement.note(lane.take_notes());
    }
}

/// The usage of a stream that its pools cut: what was counted against them, or what the provider has said where that is more.
fn usage_of_cut(lane: &mut dyn Lane) -> Usage {
    let usage = usage_so_far(lane).unwrap_or_default();
    let written = lane.meter().map_or(0, |meter| meter.written());
    match usage.provenance {
        Provenance::Estimated => Usage { output: Some(written), ..usage },
        _ => usage,
    }
}

/// The usage of a stream that is not over.
fn usage_so_far(lane: &dyn Lane) -> Option<Usage> {
    let said = lane.usage().filter(|said| said.total() <= limits::USAGE_TOKENS_MAX);
    match said {
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
        loop {
            if let Some(keeping) = &mut this.keeping {
                let kept = ready!(keeping.as_mut().poll(cx));
                this.keeping = None;
                if let Err(error) = kept {
                    tracing::error!(%error, "an answer is broken off, since there is no record of it");
                    return Poll::Ready(Some(this.unkept(&error)));
                }
                if let Some(last) = this.last.take().filter(|last| !last.is_empty()) {
                    return Poll::Ready(Some(last));
                }
            }
            if let Some(Recovery::Asking(asking, failure)) = &mut this.recovery {
                match ready!(asking.as_mut().poll(cx)) {
                    Some(continued) => this.continue_with(continued),
                    None => {
                        let failure = (**failure).clone();
                        let end = this.broken(failure);
                        match this.last(end) {
                            Some(end) => return Poll::Ready(Some(end)),
                            None => continue,
                        }
                    }
                }
            }
            if !ready!(this.poll_held(cx)) {
                let end = this.cut();
                match this.last(end) {
                    Some(end) => return Poll::Ready(Some(end)),
                    None => continue,
                }
            }
            let Some(lane) = this.lane.as_mut() else { return Poll::Ready(None) };
            let polled = lane.poll_bytes(cx);
            this.settlement.usage = lane.usage();
            match polled {
                Poll::Pending => return Poll::Pending,
                // More has to be held before what comes next.
                Poll::Ready(Some(Ok(bytes))) if bytes.is_empty() => {}
                Poll::Ready(Some(Ok(bytes))) => {
                    this.settlement.give(&bytes);
                    if let Some(bytes) = this.in_time(bytes) {
                        return Poll::Ready(Some(bytes));
                    }
                }
                Poll::Ready(Some(Err(failure))) => {
                    if !this.is_recovering(&failure) {
                        let end = this.broken(failure);
                        if let Some(end) = this.last(end) {
                            return Poll::Ready(Some(end));
                        }
                    }
                }
                Poll::Ready(None) => {
                    let mut reported = None;
                    if let Some(mut lane) = this.lane.take() {
                        reported = lane.reported();
                        this.account(&mut *lane, reported.is_none());
                    }
                    let failure = reported.map(|failure| this.settlement.named(failure));
                    this.release(failure.as_ref());
                    this.settlement.settle(failure.map_or(Outcome::Answered, Outcome::Truncated));
                    let last = this.last.take().unwrap_or_default();
                    if let Some(last) = this.last(last) {
                        return Poll::Ready(Some(last).filter(|last| !last.is_empty()));
                    }
                }
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
