//! The lane that reads nothing it does not need: bytes in, the same bytes out, watched for the books.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use hoosh_core::dialect::{
    Changes, DecodeError, Dialect, Operation, ReplyContext, Seen, Shears, StreamForm, Tap, limit_answer,
    openai_embeddings,
};
use hoosh_core::framing::{FramingError, LineFramer, SseFramer};
use hoosh_core::{
    ByteStream, EmbeddingEncoding, FidelityNote, Problem, UpstreamFailure, Usage, WireBody, WireRequest,
    limits, rate_limit,
};
use hoosh_router::{Candidate, Holding, StreamWindow};
use tokio::time::{Sleep, sleep};

use super::{Answer, AnswerBody, CUT_COMMENT, Lane, Meter, takes_comments};
use crate::call::Call;
use crate::count::{self, Prompt};

pub(super) async fn ask(call: &Call, candidate: &Candidate) -> Result<Answer, UpstreamFailure> {
    let provider = &candidate.provider;
    let stream = call.head.stream && call.dialect.operation() == Operation::Inference;
    // The books need the usage of a stream, so it is asked for even if the caller does not want to see it.
    let quirks = provider.quirks();
    let ask_usage = stream && is_asked_for_usage(call.dialect) && !quirks.no_stream_options;
    let body = call.head.splice(&call.body, &Changes { model: &candidate.model, ask_usage, quirks });
    let limited =
        call.answer_max_of(candidate).and_then(|most| limit_answer(call.dialect, &body, most, quirks));
    let body = limited.unwrap_or(body);
    let (model, headers) = (candidate.model.as_ref().to_owned(), call.headers.clone());
    let reply = provider.forward(WireRequest { dialect: call.dialect, model, headers, stream, body }).await?;
    let limits = rate_limit::kept(&reply.headers);
    let mut tap = call.dialect.tap(quirks);
    let body = match reply.body {
        WireBody::Full(body) => {
            tap.whole(&body)?;
            let body = if call.dialect == Dialect::OpenAiEmbeddings { as_asked(call, body)? } else { body };
            let usage = count::believed(tap.usage(), || counted(call, candidate, &body));
            AnswerBody::Full { usage, body }
        }
        WireBody::Stream(bytes) => {
            let hide_usage = ask_usage && !call.head.include_usage;
            let prompt = Prompt::of(call, &candidate.model);
            let mut stream = PassedStream::new(call.dialect, bytes, tap, hide_usage, prompt);
            stream.gate = Meter::of(call, &candidate.model).and_then(|meter| {
                let (shears, include_usage) = (Shears::of(call.dialect)?, call.head.include_usage);
                Some(Box::new(Gate { meter, shears, include_usage }))
            });
            stream.hold(call, &candidate.model, candidate.options.stream_window).await?;
            AnswerBody::Stream(Box::new(stream))
        }
    };
    Ok(Answer { body, notes: Vec::new(), limits })
}

/// In these dialects usage at the end of a stream must be asked for.
fn is_asked_for_usage(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiCompletions)
}

/// The usage of a whole answer whose provider said none.
fn counted(call: &Call, candidate: &Candidate, body: &[u8]) -> Option<Usage> {
    let reply = call.dialect.codec()?.decode_reply(body).ok()?;
    Prompt::of(call, &candidate.model).usage(&count::written(&reply.choices), false)
}

/// Vectors in the form the caller asked for: some servers know only numbers.
fn as_asked(call: &Call, body: Bytes) -> Result<Bytes, UpstreamFailure> {
    if openai_embeddings::is_base64(&body).is_none_or(|base64| base64 == call.head.base64) {
        return Ok(body);
    }
    let reply = openai_embeddings::decode_reply(&body)?;
    let encoding = if call.head.base64 { EmbeddingEncoding::Base64 } else { EmbeddingEncoding::Float };
    Ok(openai_embeddings::encode_reply(&reply, encoding).into())
}

/// What cuts the stream into events.
enum Framer {
    Sse(SseFramer),
    Lines(LineFramer),
}

impl Framer {
    fn of(dialect: Dialect) -> Self {
        match dialect.stream_form() {
            StreamForm::Sse => Self::Sse(SseFramer::default()),
            StreamForm::Lines => Self::Lines(LineFramer::default()),
        }
    }

    /// Calls `each` with the data of every event that is complete, and where in the piece it ends.
    fn push(&mut self, piece: &[u8], mut each: impl FnMut(&[u8], usize)) -> Result<(), FramingError> {
        match self {
            Self::Sse(framer) => framer.push(piece, |event| each(event.data, event.end)),
            Self::Lines(framer) => framer.push(piece, |line| each(line.data, line.end)),
        }
    }

    fn is_at_boundary(&self) -> bool {
        match self {
            Self::Sse(framer) => framer.is_at_boundary(),
            Self::Lines(framer) => framer.is_at_boundary(),
        }
    }

    fn unfinished_data(&mut self) -> Option<&[u8]> {
        match self {
            Self::Sse(framer) => framer.unfinished_data(),
            Self::Lines(framer) => framer.unfinished_data(),
        }
    }
}

/// Whole events that the caller is given next.
struct Ready {
    bytes: Bytes,
    /// Where in the text that the tap has seen theirs ends.
    text_end: usize,
    /// What the provider had said of usage by then. Only where there is a gate.
    usage: Option<Usage>,
    /// Whether all answers are finished with them: they are not held back then, since nothing follows that could be.
    is_last: bool,
}

/// Where an event of a piece ended.
struct Ended {
    at: usize,
    is_hidden: bool,
    text_end: usize,
    usage: Option<Usage>,
    is_last: bool,
}

/// Lets pass what is held for it.
struct Gate {
    meter: Meter,
    shears: Shears,
    /// Whether the caller asked to be told usage.
    include_usage: bool,
}

struct PassedStream {
    dialect: Dialect,
    bytes: Option<ByteStream>,
    framer: Framer,
    tap: Box<dyn Tap>,
    /// For counting, should the provider report no usage.
    prompt: Prompt,
    /// Ready for the caller: whole events, as they came.
    ready: VecDeque<Ready>,
    /// How much of the text seen so far the caller was given. Unit: bytes.
    given: usize,
    /// What is held for it, where it is held to that.
    gate: Option<Box<Gate>>,
    /// Whether the event that holds only usage is kept from the caller, who did not ask for it.
    hide_usage: bool,
    /// The beginning of an event whose end has not come: half an event would break the caller's reader if none came.
    unfinished: Vec<u8>,
    /// Where in the last piece events ended, and whether each is hidden; kept to be used again.
    ends: Vec<Ended>,
    /// The last piece ended in the CR of an event, hidden or not: an LF that comes next belongs to it.
    ended_in_cr: Option<bool>,
    reported: Option<UpstreamFailure>,
    /// What is told when everything ready has been given: an event that is none of the dialect.
    failed: Option<UpstreamFailure>,
    /// Runs from the stream's last word on: the provider has this long to close it.
    closing: Option<Pin<Box<Sleep>>>,
}

impl PassedStream {
    fn new(dialect: Dialect, bytes: ByteStream, tap: Box<dyn Tap>, hide_usage: bool, prompt: Prompt) -> Self {
        Self {
            dialect,
            bytes: Some(bytes),
            framer: Framer::of(dialect),
            tap,
            prompt,
            ready: VecDeque::new(),
            given: 0,
            gate: None,
            hide_usage,
            unfinished: Vec::new(),
            ends: Vec::new(),
            ended_in_cr: None,
            reported: None,
            failed: None,
            closing: None,
        }
    }

    /// Reads until something of the answer has come, and for `window` from there on, so that a failure before that is
    /// nobody's but ours.
    async fn hold(&mut self, call: &Call, model: &str, window: StreamWindow) -> Result<(), UpstreamFailure> {
        let (mut held, mut holding) = (0, Holding::new(window));
        loop {
            let next = match self.bytes.as_mut() {
                None => None,
                Some(bytes) => match holding.within(bytes.next()).await {
                    Some(next) => next,
                    None => return Ok(()),
                },
            };
            let Some(piece) = next else {
                if !holding.has_output() {
                    return Err(DecodeError::Truncated.into());
                }
                // A short answer ends within the window.
                if let Some(rest) = self.end().transpose()? {
                    self.make_ready(rest);
                }
                return Ok(());
            };
            let piece = piece?;
            held += piece.len();
            let (outputs, fault) = self.take(piece)?;
            if let Some(opening) = self.tap.missing_opening(&call.naming(), model) {
                let (text_end, usage, is_last) = (0, None, false);
                self.ready.push_front(Ready { bytes: opening.into(), text_end, usage, is_last });
            }
            match fault {
                Some(fault) if outputs == 0 || !window.is_empty() => return Err(fault.into()),
                // Output came first, in the same piece: too late to go elsewhere.
                Some(fault) => self.note(fault),
                None => {}
            }
            holding.saw(outputs);
            let has_ended = self.tap.is_done() || self.bytes.is_none();
            if held > limits::STREAM_HOLD_BYTES_MAX
                || holding.is_over()
                || (holding.has_output() && has_ended)
            {
                return Ok(());
            }
        }
    }

    /// Takes one piece: how many of its events hold output, and what is wrong with its first wrong event.
    fn take(&mut self, piece: Bytes) -> Result<(u64, Option<DecodeError>), UpstreamFailure> {
        self.ends.clear();
        let (mut outputs, mut fault) = (0, None);
        let (tap, ends, hide) = (&mut self.tap, &mut self.ends, self.hide_usage);
        let is_gated = self.gate.is_some();
        let framed = self.framer.push(&piece, |data, end| {
            let seen = match tap.event(data) {
                Ok(seen) => seen,
                Err(error) => {
                    fault.get_or_insert(error);
                    Seen::default()
                }
            };
            // Output behind a fault does not make the fault one that came after output.
            outputs += u64::from(seen.output && fault.is_none());
            // Garbage, and what comes after it, is not shown.
            let garbage = matches!(fault, Some(DecodeError::Field(_)));
            ends.push(Ended {
                at: end,
                is_hidden: garbage || (hide && seen.usage_only),
                text_end: tap.output_text().len(),
                usage: tap.usage().filter(|_| is_gated),
                is_last: tap.is_complete(),
            });
        });
        framed.map_err(|error| UpstreamFailure::from(DecodeError::from(error)))?;
        self.show_events(piece)?;
        Ok((outputs, fault))
    }

    /// Makes bytes ready that come behind all text so far.
    fn make_ready(&mut self, bytes: Bytes) {
        let (text_end, is_last) = (self.tap.output_text().len(), self.tap.is_complete());
        let usage = self.tap.usage().filter(|_| self.gate.is_some());
        self.ready.push_back(Ready { bytes, text_end, usage, is_last });
    }

    /// Makes the whole events of a piece ready, but for the hidden ones.
    fn show_events(&mut self, piece: Bytes) -> Result<(), UpstreamFailure> {
        let at_boundary = self.framer.is_at_boundary();
        let all_shown = self.ends.iter().all(|end| !end.is_hidden);
        let mut from = 0;
        if let Some(hidden) = self.ended_in_cr.take().filter(|_| piece.starts_with(b"\n")) {
            from = 1;
            if !hidden {
                let (text_end, usage, is_last) = (0, None, false);
                self.ready.push_back(Ready { bytes: piece.slice(..1), text_end, usage, is_last });
            }
        }
        let last = self.ends.last().filter(|end| end.at == piece.len() && piece.ends_with(b"\r"));
        self.ended_in_cr = last.map(|end| end.is_hidden);
        // What is counted goes event by event, all else as it came.
        let is_whole = from == 0 && all_shown && self.unfinished.is_empty() && at_boundary;
        if is_whole && (self.gate.is_none() || self.ends.len() <= 1) {
            self.make_ready(piece);
            return Ok(());
        }
        for Ended { at, is_hidden, text_end, usage, is_last } in self.ends.drain(..) {
            let bytes = if is_hidden {
                self.unfinished.clear();
                None
            } else if self.unfinished.is_empty() {
                Some(piece.slice(from..at))
            } else {
                self.unfinished.extend_from_slice(&piece[from..at]);
                Some(std::mem::take(&mut self.unfinished).into())
            };
            self.ready.extend(bytes.map(|bytes| Ready { bytes, text_end, usage, is_last }));
            from = at;
        }
        self.unfinished.extend_from_slice(&piece[from..]);
        if self.unfinished.len() > limits::STREAM_EVENT_BYTES_MAX {
            return Err(DecodeError::from(FramingError::TooLong).into());
        }
        // What is left between two events is a comment that keeps the connection open.
        if at_boundary && !self.unfinished.is_empty() {
            let bytes = std::mem::take(&mut self.unfinished).into();
            self.make_ready(bytes);
        }
        Ok(())
    }

    /// What the caller is given next. Empty: it is more than is held.
    fn give(&mut self) -> Option<Bytes> {
        let next = self.ready.front()?;
        if let Some(gate) = &mut self.gate {
            let text = self.tap.output_text().get(self.given..next.text_end).unwrap_or_default();
            gate.meter.heard(next.usage.as_ref());
            if !next.is_last && !gate.meter.takes(text) {
                return Some(Bytes::new());
            }
            gate.shears.passed(&next.bytes);
        }
        self.given = self.given.max(next.text_end);
        self.ready.pop_front().map(|next| next.bytes)
    }

    /// An event that is no part of a good answer: the provider's own error, which the caller sees as it is, or garbage,
    /// which ends the stream.
    fn note(&mut self, fault: DecodeError) {
        match fault {
            DecodeError::Reported(failure) => {
                self.reported.get_or_insert(*failure);
            }
            fault => {
                self.bytes = None;
                self.failed = Some(fault.into());
            }
        }
    }

    /// The end of the bytes: a proper one, or the failure that it is none.
    fn end(&mut self) -> Option<Result<Bytes, UpstreamFailure>> {
        self.bytes = None;
        if let Some(data) = self.framer.unfinished_data()
            && let Err(fault) = self.tap.event(data)
        {
            self.note(fault);
        }
        let mut rest = std::mem::take(&mut self.unfinished);
        if self.reported.is_none() && !self.tap.is_complete() {
            if !self.tap.is_done() {
                return Some(Err(DecodeError::Truncated.into()));
            }
            // The last word without a reason: the caller has seen it, so only the books can say that it is none.
            self.reported = Some(DecodeError::Truncated.into());
        } else if self.reported.is_none()
            && !self.tap.is_done()
            && is_asked_for_usage(self.dialect)
            && let Some(codec) = self.dialect.codec()
        {
            // A vendor that leaves out the last word; the caller waits for it.
            if !rest.is_empty() {
                rest.extend_from_slice(b"\n\n");
            }
            codec.stream_encoder(&ReplyContext::default()).finish(&mut rest);
        }
        (!rest.is_empty()).then(|| Ok(rest.into()))
    }
}

impl Lane for PassedStream {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamFailure>>> {
        loop {
            if let Some(ready) = self.give() {
                return Poll::Ready(Some(Ok(ready)));
            }
            let Some(bytes) = self.bytes.as_mut() else { return Poll::Ready(self.failed.take().map(Err)) };
            let piece = match bytes.as_mut().poll_next(cx) {
                Poll::Pending if !self.tap.is_done() => return Poll::Pending,
                Poll::Pending => {
                    let closing =
                        self.closing.get_or_insert_with(|| Box::pin(sleep(limits::STREAM_END_GRACE)));
                    return closing.as_mut().poll(cx).map(|()| self.end());
                }
                Poll::Ready(None) => return Poll::Ready(self.end()),
                Poll::Ready(Some(Ok(piece))) => piece,
                // The proper end has been sent already: how the connection closes is of no interest.
                Poll::Ready(Some(Err(_))) if self.tap.is_complete() => return Poll::Ready(self.end()),
                Poll::Ready(Some(Err(failure))) => return Poll::Ready(Some(Err(failure))),
            };
            match self.take(piece) {
                Ok((_, Some(fault))) => self.note(fault),
                Ok((_, None)) => {}
                Err(failure) => return Poll::Ready(Some(Err(failure))),
            }
        }
    }

    fn usage(&self) -> Option<Usage> {
        self.tap.usage()
    }

    fn is_done(&self) -> bool {
        self.ready.is_empty() && self.tap.is_done() && self.tap.is_complete() && self.reported.is_none()
    }

    fn counted(&self, seen: Option<&Usage>) -> Option<Usage> {
        // What came and was not passed on is not the caller's.
        let given = self.tap.output_text().get(..self.given).unwrap_or_default();
        self.prompt.usage(given, seen.is_some_and(|seen| seen.input.is_some()))
    }

    fn meter(&mut self) -> Option<&mut Meter> {
        self.gate.as_mut().map(|gate| &mut gate.meter)
    }

    fn cut(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        self.bytes = None;
        self.ready.clear();
        if takes_comments(self.dialect) {
            out.extend_from_slice(CUT_COMMENT);
        }
        if let Some(gate) = &mut self.gate {
            gate.shears.cut(usage, gate.include_usage, out);
        }
    }

    fn is_ending(&self) -> bool {
        self.ready.is_empty() && self.tap.is_complete()
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        Vec::new()
    }

    fn reported(&mut self) -> Option<UpstreamFailure> {
        self.reported.take()
    }

    fn write_problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        if let Some(codec) = self.dialect.codec() {
            codec.stream_encoder(&ReplyContext::default()).problem(problem, out);
        }
    }
}
