//! Errors. Source: docs.anthropic.com/en/api/errors, read 2026-11-24.

use std::time::Duration;

use serde::Serialize;

use crate::dialect::openai;
use crate::dialect::wire::write_json;
use crate::error::{Problem, ProblemKind};
use crate::failure::{FailureKind, UpstreamFailure};

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    error: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Fields<'a> {
    r#type: &'static str,
    message: &'a str,
}

pub(in crate::dialect) fn encode(problem: &Problem, request_id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let error = Fields { r#type: type_of(problem.kind), message: &problem.message };
    write_json(&Body { r#type: "error", error, request_id }, &mut out);
    out
}

fn type_of(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::InvalidRequest | ProblemKind::MethodNotAllowed | ProblemKind::ClientTimeout => {
            "invalid_request_error"
        }
        ProblemKind::Authentication => "authentication_error",
        ProblemKind::Permission => "permission_error",
        ProblemKind::NotFound => "not_found_error",
        ProblemKind::TooLarge => "request_too_large",
        ProblemKind::RateLimited => "rate_limit_error",
        ProblemKind::Unavailable => "overloaded_error",
        ProblemKind::Timeout => "timeout_error",
        ProblemKind::Upstream | ProblemKind::Internal => "api_error",
    }
}

/// Reads an error answer: the shape is the one that OpenAI's reader knows, the words are Anthropic's own.
pub(in crate::dialect) fn decode(status: u16, retry_after: Option<Duration>, body: &[u8]) -> UpstreamFailure {
    by_words(openai::error::decode(status, retry_after, body))
}

/// The failure that an error inside an answer of a good status reports.
pub(super) fn reported(json: &serde_json::Value) -> UpstreamFailure {
    // An error in an answer has no status of its own, only its type.
    let status = match json["error"]["type"].as_str() {
        Some("invalid_request_error") => 400,
        Some("rate_limit_error") => 429,
        Some("overloaded_error") => 529,
        _ => 500,
    };
    let read = openai::error::from_json(status, None, json);
    let failure =
        read.unwrap_or_else(|| UpstreamFailure::from_status(status, None, "an error without a message"));
    UpstreamFailure { status: None, ..by_words(failure) }
}

fn by_words(failure: UpstreamFailure) -> UpstreamFailure {
    let says = |words: &str| failure.message.to_ascii_lowercase().contains(words);
    // The account is out of credit, which Anthropic calls an invalid request: another provider helps.
    let kind = if failure.kind == FailureKind::Invalid && says("credit balance is too low") {
        FailureKind::Credentials
    } else if failure.kind == FailureKind::Invalid && says("prompt is too long") {
        FailureKind::ContextLength
    } else if failure.kind == FailureKind::Invalid && says("content filtering policy") {
        FailureKind::ContentPolicy
    } else {
        return failure;
    };
    let named = UpstreamFailure::new(kind, "");
    UpstreamFailure { kind, fault: named.fault, retry: named.retry, ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, kind: &str, message: &str, expected: FailureKind) {
        let body = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"req_1"}}"#
        );
        let failure = decode(status, None, body.as_bytes());
        assert_eq!(
            (failure.kind, failure.message.as_str(), failure.code.as_deref()),
            (expected, message, Some(kind))
        );
    }

    #[test]
    fn errors_are_read() {
        check(400, "invalid_request_error", "max_tokens: Field required", FailureKind::Invalid);
        check(
            400,
            "invalid_request_error",
            "prompt is too long: 208310 tokens > 200000",
            FailureKind::ContextLength,
        );
        check(
            400,
            "invalid_request_error",
            "Your credit balance is too low to access",
            FailureKind::Credentials,
        );
        check(401, "authentication_error", "invalid x-api-key", FailureKind::Credentials);
        check(404, "not_found_error", "model: claude-9", FailureKind::NotFound);
        check(429, "rate_limit_error", "slow down", FailureKind::RateLimited);
        check(529, "overloaded_error", "Overloaded", FailureKind::Failed);
    }

    #[test]
    fn errors_are_written() {
        let problem = Problem::new(ProblemKind::NotFound, "model_not_found", "no");
        let expected =
            r#"{"type":"error","error":{"type":"not_found_error","message":"no"},"request_id":"req_1"}"#;
        assert_eq!(String::from_utf8(encode(&problem, Some("req_1"))).unwrap(), expected);
        let unavailable = Problem::new(ProblemKind::Unavailable, "x", "m");
        let json = serde_json::from_slice(&encode(&unavailable, None)).unwrap();
        let failure = reported(&json);
        assert_eq!((failure.kind, failure.status), (FailureKind::Failed, None));
    }
}
