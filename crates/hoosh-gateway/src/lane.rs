//! The two ways an answer takes through the gateway.
//!
//! A provider that speaks the caller's dialect gets the body as it is and its answer is passed on as it is
//! ([`passthrough`]); for any other the body is decoded once and both are translated ([`translate`]). Both give the same
//! books: who chooses between them is [`ask`].

mod passthrough;
mod translate;

use std::task::{Context, Poll};

use bytes::Bytes;
use hoosh_core::{FailureKind, FidelityNote, InvalidRequest, Retry, UpstreamFailure, Usage};
use hoosh_router::Candidate;

use crate::call::Call;

/// What a candidate answered.
pub(crate) struct Answer {
    pub(crate) body: AnswerBody,
    pub(crate) notes: Vec<FidelityNote>,
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

    /// Whether everything of a stream that said its last word has been given.
    fn is_done(&self) -> bool;

    /// The failure that the provider itself wrote into the stream, which the caller has seen.
    fn reported(&mut self) -> Option<UpstreamFailure>;
}

/// Asks one candidate.
///
/// # Cancel safety
///
/// Dropping it cancels the call at the provider.
pub(crate) async fn ask(call: &Call, candidate: &Candidate) -> Result<Answer, UpstreamFailure> {
    let answer = if candidate.provider.speaks(call.dialect) {
        passthrough::ask(call, candidate).await
    } else {
        translate::ask(call, candidate).await
    };
    answer.map_err(
        |failure| if failure.provider.is_empty() { failure.at(candidate.provider.name()) } else { failure },
    )
}

/// A body that only a provider of its own dialect could take: another candidate may be one.
fn cannot_translate(invalid: &InvalidRequest) -> UpstreamFailure {
    let param = Some(invalid.field.path.clone()).filter(|path| !path.is_empty());
    UpstreamFailure {
        retry: Retry::Elsewhere,
        param,
        ..UpstreamFailure::new(FailureKind::Invalid, invalid.to_string())
    }
}
