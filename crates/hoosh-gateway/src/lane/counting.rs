//! Counting a prompt for a provider that cannot: answered here, nobody is asked.

use hoosh_core::{FidelityNote, UpstreamFailure};
use hoosh_router::Candidate;
use http::HeaderMap;

use super::{Answer, AnswerBody, cannot_translate};
use crate::call::Call;
use crate::count;

pub(super) fn answer(call: &Call, candidate: &Candidate) -> Result<Answer, UpstreamFailure> {
    let request = call.decoded().map_err(cannot_translate)?;
    let tokens = count::prompt(&candidate.model, request);
    let body = AnswerBody::Full { body: call.dialect.encode_count(tokens).into(), usage: None };
    Ok(Answer { body, notes: vec![FidelityNote::emulated("count_tokens")], limits: HeaderMap::new() })
}
