//! One kept answer, and how it is given again.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hoosh_core::dialect::{Codec, Dialect, Quirks, ReplyContext};
use hoosh_core::{
    Choice, FidelityNote, FinishReason, InferenceResponse, Part, PartKind, Problem, UpstreamFailure, Usage,
    fold, unfold,
};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::CacheSettings;
use super::semantic::Taken;
use crate::call::{Call, CallerId};
use crate::context::ContextReceipt;
use crate::lane::{AnswerBody, Lane};

/// A kept answer.
pub(crate) struct Entry {
    /// Whose it is.
    pub(crate) caller: CallerId,
    /// The model as the caller named it.
    pub(crate) model_asked: String,
    /// Who gave it.
    pub(crate) provider: String,
    /// The model as that provider names it.
    pub(crate) model: String,
    /// What it took.
    pub(crate) usage: Option<Usage>,
    /// What of the request, or of the answer, could not be carried.
    pub(crate) notes: Vec<FidelityNote>,
    /// Whether the caller is told those.
    pub(crate) tells_notes: bool,
    /// What was done to a prompt that was too long.
    pub(crate) context: Option<ContextReceipt>,
    /// The form that the bytes are in.
    pub(crate) form: Form,
    /// The answer as its first caller got it.
    pub(crate) body: Bytes,
    /// Since when.
    pub(crate) since: Instant,
    /// For how long.
    pub(crate) ttl: Duration,
    /// Where it is found by meaning, if it is.
    pub(crate) taken: Option<Taken>,
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Form {
    stream: bool,
    /// Whether usage stands at the end of a stream.
    include_usage: bool,
    /// Whether a stream is one JSON list.
    json_list: bool,
}

/// A stream given again.
struct Replay {
    dialect: Dialect,
    /// All of it, until it is given.
    body: Option<Bytes>,
    usage: Option<Usage>,
}

/// What an entry takes beside its texts: its own fields, its key, and what moka keeps of it.
const OVERHEAD_BYTES: usize = size_of::<Entry>() + 256;

// === impl Entry ===

impl Entry {
    /// The memory it takes.
    pub(crate) fn weight(&self) -> u32 {
        let notes: usize =
            self.notes.iter().map(|note| size_of::<FidelityNote>() + note.to_string().len()).sum();
        let names = self.model_asked.len() + self.provider.len() + self.model.len();
        let taken = self.taken.as_ref().map_or(0, Taken::weight);
        u32::try_from(OVERHEAD_BYTES + self.body.len() + names + notes + taken).unwrap_or(u32::MAX)
    }

    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// The answer in the form that a call wants; `None` if it cannot be brought into it.
    pub(crate) fn body_for(&self, call: &Call) -> Option<AnswerBody> {
        let form = Form::of(call);
        let body = if form == self.form { self.body.clone() } else { self.rewritten(call, form)? };
        let usage = self.usage;
        Some(match form.stream {
            false => AnswerBody::Full { body, usage },
            true => AnswerBody::Stream(Box::new(Replay { dialect: call.dialect, body: Some(body), usage })),
        })
    }

    /// The answer in another form than it was given in.
    fn rewritten(&self, call: &Call, form: Form) -> Option<Bytes> {
        let codec = call.dialect.codec()?;
        let mut reply = read(codec, self.form, &self.body)?;
        reply.origin = Some(call.dialect);
        // A stream may have been without it.
        reply.usage = reply.usage.or(self.usage);
        let context = match call.decoded() {
            Ok(request) => call.context(request, reply.origin),
            Err(_) => ReplyContext {
                origin: reply.origin,
                include_usage: form.include_usage,
                json_list: form.json_list,
                ..call.naming()
            },
        };
        if !form.stream {
            return Some(codec.encode_reply(&reply, &context).body.into());
        }
        let (mut encoder, mut out) =
            (codec.stream_encoder(&context), Vec::with_capacity(self.body.len() * 2));
        unfold(&reply).iter().for_each(|event| encoder.event(event, &mut out));
        encoder.finish(&mut out);
        Some(out.into())
    }
}

/// Whether an answer is one to be given again: whole, of its own accord or at the most tokens allowed, and saying something.
/// What a filter or the model itself cut off may come out otherwise the next time.
pub(crate) fn is_worth_keeping(dialect: Dialect, form: Form, body: &[u8], settings: &CacheSettings) -> bool {
    // Embeddings came through a lane that read them.
    let Some(codec) = dialect.codec() else { return true };
    let Some(reply) = read(codec, form, body) else { return false };
    let is_good = |choice: &Choice| {
        let is_call = |part: &Part| matches!(part.kind, PartKind::ToolCall(_));
        let ends_well = match choice.finish_reason {
            Some(FinishReason::Stop | FinishReason::StopText(_) | FinishReason::Length) => true,
            Some(FinishReason::ToolCalls) => settings.tool_calls,
            _ => false,
        };
        ends_well && !choice.parts.is_empty() && (settings.tool_calls || !choice.parts.iter().any(is_call))
    };
    !reply.choices.is_empty() && reply.choices.iter().all(is_good)
}

/// Reads an answer that was given in that form; `None` if it is not one from its beginning to its end.
fn read(codec: &dyn Codec, form: Form, body: &[u8]) -> Option<InferenceResponse> {
    if !form.stream {
        return codec.decode_reply(body).ok();
    }
    let (mut decoder, mut events) = (codec.stream_decoder(Quirks::NONE), Vec::new());
    if form.json_list {
        for item in serde_json::from_slice::<Vec<&RawValue>>(body).ok()? {
            decoder.push(format!("data: {item}\n\n").as_bytes(), &mut events).ok()?;
        }
    } else {
        decoder.push(body, &mut events).ok()?;
    }
    decoder.finish(&mut events).ok()?;
    Some(fold(events))
}

// === impl Form ===

impl Form {
    /// The form that a call wants its answer in.
    pub(crate) fn of(call: &Call) -> Self {
        let head = &call.head;
        // What is said of a stream that is not asked for changes nothing.
        if !head.stream || call.dialect.codec().is_none() {
            return Self::default();
        }
        Self { stream: true, include_usage: head.include_usage, json_list: head.json_list }
    }
}

// === impl Replay ===

impl Lane for Replay {
    fn poll_bytes(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamFailure>>> {
        Poll::Ready(self.body.take().map(Ok))
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn counted(&self, _: Option<&Usage>) -> Option<Usage> {
        None
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        Vec::new()
    }

    fn write_problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        if let Some(codec) = self.dialect.codec() {
            codec.stream_encoder(&ReplyContext::default()).problem(problem, out);
        }
    }

    fn is_done(&self) -> bool {
        self.body.is_none()
    }

    fn reported(&mut self) -> Option<UpstreamFailure> {
        None
    }
}
