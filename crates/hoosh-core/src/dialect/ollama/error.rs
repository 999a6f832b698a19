//! Errors: `{"error": "text"}`, as an answer of its own or as a line of a stream.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::dialect::DecodeError;
use crate::dialect::wire::write_json;
use crate::error::Problem;
use crate::failure::{FailureKind, UpstreamFailure};
use crate::json::vendor_message;

pub(in crate::dialect) fn encode(problem: &Problem) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
    }
    let mut out = Vec::with_capacity(128);
    write_json(&Body { error: &problem.message }, &mut out);
    out
}

/// The failure that an `error` under a good status reports; there is no status in it, only words.
pub(super) fn refuse(raw: Option<&RawValue>) -> Result<(), DecodeError> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(()) };
    let text: String = serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
    let words = text.to_ascii_lowercase();
    let kind = if words.contains("not found") {
        FailureKind::NotFound
    } else if words.contains("does not support") {
        FailureKind::Unsupported
    } else if words.contains("context") && (words.contains("exceed") || words.contains("too long")) {
        FailureKind::ContextLength
    } else {
        FailureKind::Failed
    };
    Err(DecodeError::Reported(Box::new(UpstreamFailure::new(kind, vendor_message(&text)))))
}
