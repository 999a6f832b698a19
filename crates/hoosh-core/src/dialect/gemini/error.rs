//! Errors, as all of Google's APIs have them. Source: cloud.google.com/apis/design/errors, read 2026-11-24.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dialect::wire::write_json;
use crate::dialect::{DecodeError, openai};
use crate::error::{Problem, ProblemKind};
use crate::failure::{FailureKind, Retry, UpstreamFailure};

// --- writing ---

#[derive(Serialize)]
struct Body<'a> {
    error: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    details: Vec<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "@type")]
enum Detail<'a> {
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    Info { reason: &'a str, domain: &'static str },
    #[serde(rename = "type.googleapis.com/google.rpc.BadRequest", rename_all = "camelCase")]
    BadRequest { field_violations: [Violation<'a>; 1] },
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo", rename_all = "camelCase")]
    Retry { retry_delay: String },
}

#[derive(Serialize)]
struct Violation<'a> {
    field: &'a str,
    description: &'a str,
}

pub(in crate::dialect) fn encode(problem: &Problem) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    encode_into(problem, &mut out);
    out
}

pub(super) fn encode_into(problem: &Problem, out: &mut Vec<u8>) {
    let (code, status) = words_of(problem.kind);
    let mut details = vec![Detail::Info { reason: &problem.code, domain: "hoosh" }];
    if let Some(field) = &problem.param {
        let violation = Violation { field, description: &problem.message };
        details.push(Detail::BadRequest { field_violations: [violation] });
    }
    if let Some(after) = problem.retry_after {
        details.push(Detail::Retry { retry_delay: format!("{}s", after.as_secs_f64()) });
    }
    write_json(&Body { error: Fields { code, message: &problem.message, status, details } }, out);
}

/// The HTTP status and Google's word for it.
fn words_of(kind: ProblemKind) -> (u16, &'static str) {
    match kind {
        ProblemKind::InvalidRequest => (400, "INVALID_ARGUMENT"),
        ProblemKind::Authentication => (401, "UNAUTHENTICATED"),
        ProblemKind::Permission => (403, "PERMISSION_DENIED"),
        ProblemKind::NotFound => (404, "NOT_FOUND"),
        ProblemKind::MethodNotAllowed => (405, "UNIMPLEMENTED"),
        ProblemKind::ClientTimeout => (408, "CANCELLED"),
        ProblemKind::TooLarge => (413, "INVALID_ARGUMENT"),
        ProblemKind::RateLimited => (429, "RESOURCE_EXHAUSTED"),
        ProblemKind::Internal => (500, "INTERNAL"),
        ProblemKind::Upstream => (502, "UNAVAILABLE"),
        ProblemKind::Unavailable => (503, "UNAVAILABLE"),
        ProblemKind::Timeout => (504, "DEADLINE_EXCEEDED"),
    }
}

// --- reading ---

#[derive(Deserialize)]
struct Reported {
    error: ReportedFields,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReportedFields {
    code: Option<u16>,
    message: String,
    status: Option<String>,
    details: Vec<ReportedDetail>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ReportedDetail {
    reason: Option<String>,
    retry_delay: Option<String>,
    field_violations: Vec<ReportedViolation>,
}

#[derive(Deserialize)]
struct ReportedViolation {
    #[serde(default)]
    field: Option<String>,
}

/// The reader of OpenAI's shape knows this one as far as the sentence; the rest is in words of Google's own.
pub(in crate::dialect) fn decode(status: u16, retry_after: Option<Duration>, body: &[u8]) -> UpstreamFailure {
    let failure = openai::error::decode(status, retry_after, body);
    // Streams that are lists report in a list.
    let fields = match serde_json::from_slice::<[Reported; 1]>(body) {
        Ok([reported]) => Ok(reported),
        Err(_) => serde_json::from_slice::<Reported>(body),
    };
    match fields.map(|reported| reported.error) {
        Ok(fields) => named(failure, fields, retry_after),
        Err(_) => failure,
    }
}

fn named(
    mut failure: UpstreamFailure,
    fields: ReportedFields,
    retry_after: Option<Duration>,
) -> UpstreamFailure {
    if let Some(kind) = kind_of(&fields) {
        let named = UpstreamFailure::new(kind, "");
        (failure.kind, failure.fault, failure.retry) = (named.kind, named.fault, named.retry);
    }
    // Another account of the same vendor may be where its service is.
    if fields.status.as_deref() == Some("FAILED_PRECONDITION") && failure.retry == Retry::Never {
        failure.retry = Retry::Elsewhere;
    }
    let delay = fields.details.iter().find_map(|detail| duration(detail.retry_delay.as_deref()?));
    if let Retry::Anywhere { after } = &mut failure.retry {
        *after = retry_after.or(delay);
    }
    let mut violations = fields.details.into_iter().flat_map(|detail| detail.field_violations);
    failure.param = violations.find_map(|violation| violation.field).or(failure.param);
    failure.code = fields.status.or(failure.code);
    failure
}

fn kind_of(fields: &ReportedFields) -> Option<FailureKind> {
    let reason = |word: &str| fields.details.iter().any(|detail| detail.reason.as_deref() == Some(word));
    let message = fields.message.to_ascii_lowercase();
    if reason("API_KEY_INVALID") || message.starts_with("api key ") {
        return Some(FailureKind::Credentials);
    }
    if message.contains("exceeds the maximum number of tokens") {
        return Some(FailureKind::ContextLength);
    }
    match fields.status.as_deref()? {
        "UNAUTHENTICATED" | "PERMISSION_DENIED" => Some(FailureKind::Credentials),
        "NOT_FOUND" => Some(FailureKind::NotFound),
        "RESOURCE_EXHAUSTED" => Some(FailureKind::RateLimited),
        "UNIMPLEMENTED" => Some(FailureKind::Unsupported),
        "INTERNAL" | "UNAVAILABLE" | "DEADLINE_EXCEEDED" | "ABORTED" | "CANCELLED" | "UNKNOWN" => {
            Some(FailureKind::Failed)
        }
        _ => None,
    }
}

/// `"34.4s"`.
fn duration(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()
}

/// The failure that an answer reports which began with a good status.
pub(super) fn reported(raw: &RawValue) -> DecodeError {
    let fields: ReportedFields = serde_json::from_str(raw.get()).unwrap_or_default();
    let status = fields.code.filter(|code| (400..600).contains(code));
    // Without a code it is the provider that failed: a request that is wrong is refused before an answer begins.
    let body = format!("{{\"error\":{}}}", raw.get());
    let failure = decode(status.unwrap_or(500), None, body.as_bytes());
    DecodeError::Reported(Box::new(UpstreamFailure { status, ..failure }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Fault;

    #[track_caller]
    fn check(code: u16, status: &str, message: &str, kind: FailureKind) -> UpstreamFailure {
        let body = format!(r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}"}}}}"#);
        let failure = decode(code, None, body.as_bytes());
        assert_eq!((failure.kind, failure.code.as_deref()), (kind, Some(status)));
        assert_eq!((failure.message.as_str(), failure.status), (message, Some(code)));
        assert_eq!(decode(code, None, format!("[{body}]").as_bytes()), failure);
        failure
    }

    #[test]
    fn googles_words_are_read() {
        check(400, "INVALID_ARGUMENT", "Invalid value", FailureKind::Invalid);
        let key =
            check(400, "INVALID_ARGUMENT", "API key not valid. Please pass one.", FailureKind::Credentials);
        assert_eq!(key.fault, Fault::Gateway);
        check(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
            FailureKind::ContextLength,
        );
        check(404, "NOT_FOUND", "models/x is not found", FailureKind::NotFound);
        check(499, "CANCELLED", "The operation was cancelled.", FailureKind::Failed);
        check(503, "UNAVAILABLE", "The model is overloaded.", FailureKind::Failed);
        let place = check(
            400,
            "FAILED_PRECONDITION",
            "User location is not supported for the API use.",
            FailureKind::Invalid,
        );
        assert_eq!(place.retry, Retry::Elsewhere);
    }

    #[test]
    fn when_to_come_back_is_in_the_details() {
        let body = br#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[
            {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"q"}]},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.4s"}]}}"#;
        let after = |header| match decode(429, header, body).retry {
            Retry::Anywhere { after } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after(None), Some(Duration::from_secs_f64(34.4)));
        assert_eq!(
            after(Some(Duration::from_secs(7))),
            Some(Duration::from_secs(7)),
            "the header says it itself"
        );
        for text in ["", "s", "-1s", "NaNs", "1e400s", "5"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_error_of_google_is_read_as_others() {
        assert_eq!(decode(502, None, b"<html>").kind, FailureKind::Failed);
        assert_eq!(decode(404, None, b"<html>").kind, FailureKind::Garbage);
        let DecodeError::Reported(failure) = reported(serde_json::from_str(r#""odd""#).unwrap()) else {
            panic!("an error")
        };
        assert_eq!((failure.kind, failure.status), (FailureKind::Failed, None));
    }

    #[test]
    fn errors_are_written_in_its_words() {
        let problem = Problem {
            param: Some("model".into()),
            retry_after: Some(Duration::from_millis(1_500)),
            ..Problem::new(ProblemKind::NotFound, "model_not_found", "no")
        };
        let written = String::from_utf8(encode(&problem)).unwrap();
        assert_eq!(
            written,
            r#"{"error":{"code":404,"message":"no","status":"NOT_FOUND","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"model_not_found","domain":"hoosh"},{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"model","description":"no"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}"#
        );
        let failure = decode(404, None, written.as_bytes());
        assert_eq!((failure.kind, failure.param.as_deref()), (FailureKind::NotFound, Some("model")));
    }
}
