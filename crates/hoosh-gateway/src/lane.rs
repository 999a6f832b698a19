//! The two ways an answer takes through the gateway.
//!
//! A provider that speaks the caller's dialect gets the body as it is and its answer is passed on as it is
//! ([`passthrough`]); for any other the body is decoded once and both are translated ([`translate`]). Both give the same
//! books: who chooses between them is [`ask`].

mod counting;
mod embedding;
mod meter;
mod passthrough;
mod translate;

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hoosh_core::dialect::{Dialect, Operation, StreamForm, limits_in_place};
use hoosh_core::{
    EventStream, FailureKind, Fidelity, FidelityNote, InferenceRequest, InvalidRequest, NoteKind, Problem,
    Retry, UpstreamFailure, Usage,
};
use hoosh_router::Candidate;
use http::HeaderMap;

use crate::call::Call;
use crate::context::Edited;
pub(crate) use meter::{Meter, Room};

/// What a candidate answered.
pub(crate) struct Answer {
    pub(crate) body: AnswerBody,
    pub(crate) notes: Vec<FidelityNote>,
    /// What the provider said of its rate limits.
    pub(crate) limits: HeaderMap,
}

/// The answer in the caller's dialect.
pub(crate) enum AnswerBody {
    Full {
        body: Bytes,
        usage: Option<Usage>,
    },
    /// Its first output has come: from here on a failure is one for the caller to see.
    Stream(Box<dyn Lane>),
}

/// A streamed answer on its way through one of the lanes.
pub(crate) trait Lane: Send {
    /// The next bytes for the caller, or the failure that cut the stream.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamFailure>>>;

    /// The usage seen so far.
    fn usage(&self) -> Option<Usage>;

    /// The usage of what has passed, counted here: for a stream that is over and whose provider reported none, or that
    /// ended early. A prompt whose tokens are among those `seen` is not counted again.
    fn counted(&self, seen: Option<&Usage>) -> Option<Usage>;

    /// What could not be carried since it was asked last.
    fn take_notes(&mut self) -> Vec<FidelityNote>;

    /// What was written so far, if it is text alone that could be gone on with.
    fn so_far(&self) -> Option<&str> {
        None
    }

    /// Goes on with what another candidate writes, which was given what is there.
    fn go_on(&mut self, _rest: Rest) {}

    /// What counts the stream against what is held for it. `None`: nobody holds it to anything.
    ///
    /// Where the next piece [wants](Meter::wanted) more than there is, `poll_bytes` gives nothing but what comes before it: an empty
    /// piece, if that is nothing.
    fn meter(&mut self) -> Option<&mut Meter> {
        None
    }

    /// Appends the end of an answer that was as long as it may be, which took so much. The provider is asked no further.
    fn cut(&mut self, _usage: &Usage, _out: &mut Vec<u8>) {}

    /// Whether what was given last may be the last of it: all answers in it are finished.
    fn is_ending(&self) -> bool {
        self.is_done()
    }

    /// Appends an error as the last event.
    fn write_problem(&mut self, problem: &Problem, out: &mut Vec<u8>);

    /// Whether everything of a stream that said its last word has been given.
    fn is_done(&self) -> bool;

    /// The failure that the provider itself wrote into the stream, which the caller has seen.
    fn reported(&mut self) -> Option<UpstreamFailure>;
}

/// The rest of a stream that broke.
pub(crate) struct Rest {
    pub(crate) stream: EventStream,
    /// Who writes it, as `provider/model`, and who wrote what is there.
    pub(crate) to: String,
    pub(crate) from: String,
    pub(crate) model: Arc<str>,
    /// What the part that is there took.
    pub(crate) before: Option<Usage>,
    /// Tokens of that part in the prompt of the rest.
    pub(crate) prefilled: u64,
}

/// What a candidate could not be told of a call. Asks nobody.
pub(crate) fn losses(call: &Call, candidate: &Candidate) -> Vec<FidelityNote> {
    if goes_as_it_is(call, candidate) {
        return Vec::new();
    }
    // A body that cannot be read is told by the attempt.
    let mut notes = match call.dialect.operation() {
        Operation::Inference => match call.decoded() {
            Ok(request) => candidate.provider.preview(&candidate.model, request),
            Err(_) => Vec::new(),
        },
        Operation::Embedding => embedding::preview(call, candidate),
        Operation::Counting | Operation::Plain => Vec::new(),
    };
    notes.retain(|note| note.kind == NoteKind::Lost);
    notes
}

/// What a candidate could not be told of another request than the call's.
pub(crate) fn lost(candidate: &Candidate, request: &InferenceRequest) -> Vec<FidelityNote> {
    let mut notes = candidate.provider.preview(&candidate.model, request);
    notes.retain(|note| note.kind == NoteKind::Lost);
    notes
}

/// Whether a candidate takes the body as it is. One that goes on from a conversation kept here, that holds what
/// only this gateway can read, that names its model in more than one place, or whose answer is wanted in another form
/// than the provider gives, is not for the provider as it is.
fn goes_as_it_is(call: &Call, candidate: &Candidate) -> bool {
    // Google's bodies for these may repeat the model of the URL, and must not name another.
    let repeats_model =
        matches!(call.dialect, Dialect::GeminiBatchEmbed | Dialect::GeminiCount | Dialect::GeminiEmbed);
    // What is to be gone on with must be understood.
    let may_be_continued = candidate.options.continues && call.head.stream;
    candidate.provider.speaks(call.dialect)
        && !(may_be_continued && call.dialect.operation() == Operation::Inference)
        && !(repeats_model && *candidate.model != *call.head.model)
        && call.history().is_none()
        && (call.answer_max().is_none() || limits_in_place(call.dialect))
        && !call.head.json_list
        && !call.is_for_us_alone()
}

/// Whether the answer is made here, without asking anybody.
pub(crate) fn answers_itself(call: &Call, candidate: &Candidate) -> bool {
    match call.dialect.operation() {
        Operation::Counting => !goes_as_it_is(call, candidate),
        Operation::Inference => !goes_as_it_is(call, candidate) && translate::is_wordless(call),
        Operation::Embedding | Operation::Plain => false,
    }
}

/// Whether the caller's clients read comments in a stream. Google's library for Python takes every line for data.
fn takes_comments(dialect: Dialect) -> bool {
    dialect.stream_form() == StreamForm::Sse && dialect != Dialect::Gemini
}

/// Says in a stream why it ends: there, since its head has gone out before.
const CUT_COMMENT: &[u8] = b": x-hoosh-budget: cut\n\n";

/// Asks one candidate, by another request than the call's where that had to be edited.
///
/// # Cancel safety
///
/// Dropping it cancels the call at the provider.
pub(crate) async fn ask(
    call: &Call,
    candidate: &Candidate,
    fidelity: Fidelity,
    edited: Option<&Edited>,
) -> Result<Answer, UpstreamFailure> {
    let answer = match call.dialect.operation() {
        Operation::Counting if goes_as_it_is(call, candidate) => {
            match passthrough::ask(call, candidate).await {
                // Servers that speak a dialect often leave this out of it.
                Err(failure) if matches!(failure.kind, FailureKind::NotFound | FailureKind::Unsupported) => {
                    counting::answer(call, candidate)
                }
                asked => asked,
            }
        }
        _ if edited.is_none() && goes_as_it_is(call, candidate) => passthrough::ask(call, candidate).await,
        Operation::Inference => translate::ask(call, candidate, fidelity, edited).await,
        Operation::Embedding => embedding::ask(call, candidate).await,
        Operation::Counting => counting::answer(call, candidate),
        Operation::Plain => {
            let message = format!("it has no {}", call.dialect);
            Err(UpstreamFailure::new(FailureKind::Unsupported, message))
        }
    };
    answer.map_err(
        |failure| if failure.provider.is_empty() { candidate.provider.own(failure) } else { failure },
    )
}

/// A body that only a provider of its own dialect could take: another candidate may be one.
fn cannot_translate(invalid: &InvalidRequest) -> UpstreamFailure {
    let param = Some(invalid.field.path.clone()).filter(|path| !path.is_empty());
    // OpenAI's own word for it (platform.openai.com/docs/guides/conversation-state, read 2026-11-24).
    let code =
        (param.as_deref() == Some("previous_response_id")).then(|| "previous_response_not_found".to_owned());
    UpstreamFailure {
        retry: Retry::Elsewhere,
        param,
        code,
        ..UpstreamFailure::new(FailureKind::Invalid, invalid.to_string())
    }
}
