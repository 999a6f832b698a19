//! The lane that reads nothing it does not need: bytes in, the same bytes out, watched for the books.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use hoosh_core::dialect::{DecodeError, Dialect, Tap, openai_embeddings};
use hoosh_core::framing::SseFramer;
use hoosh_core::{ByteStream, EmbeddingEncoding, UpstreamFailure, Usage, WireBody, WireRequest, limits};
use hoosh_router::Candidate;
use tokio::time::{Sleep, sleep};

use super::{Answer, AnswerBody, Lane};
use crate::call::Call;

pub(super) async fn ask(call: &Call, candidate: &Candidate) -> Result<Answer, UpstreamFailure> {
    let provider = &candidate.provider;
    let stream = call.head.stream && call.dialect != Dialect::OpenAiEmbeddings;
    // The books need the usage of a stream, so it is asked for even if the caller does not want to see it.
    let quirks = provider.quirks();
    let ask_usage = stream && !quirks.no_stream_options;
    let body = call.head.splice(&call.body, &candidate.model, ask_usage);
    let reply = provider.forward(WireRequest { dialect: call.dialect, stream, body }).await?;
    let mut tap = call.dialect.tap(quirks);
    let body = match reply.body {
        WireBody::Full(body) => {
            tap.whole(&body)?;
            let body = if call.dialect == Dialect::OpenAiEmbeddings { as_asked(call, body)? } else { body };
            AnswerBody::Full { body, usage: tap.usage() }
        }
        WireBody::Stream(bytes) => {
            let hide_usage = ask_usage && !call.head.include_usage;
            let mut stream = PassedStream::new(bytes, tap, hide_usage);
            stream.hold_until_output().await?;
            AnswerBody::Stream(Box::new(stream))
        }
    };
    Ok(Answer { body, notes: Vec::new() })
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

struct PassedStream {
    bytes: Option<ByteStream>,
    framer: SseFramer,
    tap: Box<dyn Tap>,
    /// Ready for the caller.
    ready: VecDeque<Bytes>,
    /// Whether the event that holds only usage is kept from the caller, who did not ask for it.
    hide_usage: bool,
    /// The beginning of an event whose end must be seen before it is known whether it is shown.
    unfinished: Vec<u8>,
    /// Where in the last piece events ended, and whether each is hidden; kept to be used again.
    ends: Vec<(usize, bool)>,
    reported: Option<UpstreamFailure>,
    at_boundary: bool,
    /// Runs from the stream's last word on: the provider has this long to close it.
    closing: Option<Pin<Box<Sleep>>>,
}

impl PassedStream {
    fn new(bytes: ByteStream, tap: Box<dyn Tap>, hide_usage: bool) -> Self {
        Self {
            bytes: Some(bytes),
            framer: SseFramer::default(),
            tap,
            ready: VecDeque::new(),
            hide_usage,
            unfinished: Vec::new(),
            ends: Vec::new(),
            reported: None,
            at_boundary: true,
            closing: None,
        }
    }

    /// Reads until something of the answer has come, so that a failure before it is nobody's but ours.
    async fn hold_until_output(&mut self) -> Result<(), UpstreamFailure> {
        let mut held = 0;
        loop {
            let piece = match self.bytes.as_mut() {
                Some(bytes) => bytes.next().await,
                None => None,
            };
            let Some(piece) = piece else { return Err(DecodeError::Truncated.into()) };
            let piece = piece?;
            held += piece.len();
            let (output, fault) = self.take(piece)?;
            match fault {
                Some(fault) if !output => return Err(fault.into()),
                // Output came first, in the same piece: too late to go elsewhere.
                Some(fault) => self.note(fault),
                None => {}
            }
            if output || held > limits::STREAM_HOLD_BYTES_MAX {
                return Ok(());
            }
        }
    }

    /// Takes one piece: whether it holds output, and what is wrong with its first wrong event.
    fn take(&mut self, piece: Bytes) -> Result<(bool, Option<DecodeError>), UpstreamFailure> {
        self.ends.clear();
        let (mut output, mut fault) = (false, None);
        let (tap, ends, hide) = (&mut self.tap, &mut self.ends, self.hide_usage);
        let framed = self.framer.push(&piece, |event| match tap.event(event.data) {
            Ok(seen) => {
                // Output behind a fault does not make the fault one that came after output.
                output |= seen.output && fault.is_none();
                if hide {
                    ends.push((event.end, seen.usage_only));
                }
            }
            Err(error) => {
                fault.get_or_insert(error);
                if hide {
                    ends.push((event.end, false));
                }
            }
        });
        framed.map_err(|error| UpstreamFailure::from(DecodeError::from(error)))?;
        self.at_boundary = self.framer.is_at_boundary();
        if self.hide_usage {
            self.show_events(piece);
        } else {
            self.ready.push_back(piece);
        }
        Ok((output, fault))
    }

    /// Makes the events of a piece ready but for the hidden ones.
    fn show_events(&mut self, piece: Bytes) {
        let all_shown = self.ends.iter().all(|(_, hidden)| !hidden);
        if all_shown && self.unfinished.is_empty() && self.at_boundary {
            self.ready.push_back(piece);
            return;
        }
        let mut from = 0;
        for (end, hidden) in self.ends.drain(..) {
            if hidden {
                self.unfinished.clear();
            } else if self.unfinished.is_empty() {
                self.ready.push_back(piece.slice(from..end));
            } else {
                self.unfinished.extend_from_slice(&piece[from..end]);
                self.ready.push_back(std::mem::take(&mut self.unfinished).into());
            }
            from = end;
        }
        self.unfinished.extend_from_slice(&piece[from..]);
        // What is left between two events is a comment that keeps the connection open.
        if self.at_boundary && !self.unfinished.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.unfinished).into());
        }
    }

    /// An event that the caller sees as it is, but that is no part of a good answer.
    fn note(&mut self, fault: DecodeError) {
        if let DecodeError::Reported(failure) = fault {
            self.reported.get_or_insert(*failure);
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
        if !self.tap.is_complete() && self.reported.is_none() {
            return Some(Err(DecodeError::Truncated.into()));
        }
        (!self.unfinished.is_empty()).then(|| Ok(std::mem::take(&mut self.unfinished).into()))
    }
}

impl Lane for PassedStream {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamFailure>>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(ready)));
            }
            let Some(bytes) = self.bytes.as_mut() else { return Poll::Ready(None) };
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

    fn is_at_boundary(&self) -> bool {
        // With hidden events only whole ones are shown.
        self.hide_usage || self.at_boundary
    }

    fn reported(&mut self) -> Option<UpstreamFailure> {
        self.reported.take()
    }
}
