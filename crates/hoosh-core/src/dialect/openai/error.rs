//! Errors in OpenAI's shape, and in the shapes that servers of "its" dialect really use.
//!
//! Seen in the wild and read here: `{"error":{"message","type","param","code"}}` (OpenAI; llama.cpp with an integer
//! code), `{"error":"text"}` (Ollama, xAI), `[{"error":{..}}]` (Google's OpenAI endpoint), `{"message":..}` (Mistral,
//! vLLM), `{"detail":..}` (FastAPI servers).

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::dialect::wire::write_json;
use crate::error::{Problem, ProblemKind};
use crate::failure::{FailureKind, Fault, Retry, UpstreamFailure};
use crate::json::vendor_message;

#[derive(Serialize)]
struct Body<'a> {
    error: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

pub(in crate::dialect) fn encode(problem: &Problem) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    encode_into(problem, &mut out);
    out
}

pub(in crate::dialect) fn encode_into(problem: &Problem, out: &mut Vec<u8>) {
    let error = Fields {
        message: &problem.message,
        r#type: type_of(problem.kind),
        param: problem.param.as_deref(),
        code: &problem.code,
    };
    write_json(&Body { error }, out);
}

/// OpenAI's `type` word. Source: platform.openai.com/docs/guides/error-codes, read 2026-11-24.
fn type_of(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::InvalidRequest
        | ProblemKind::NotFound
        | ProblemKind::MethodNotAllowed
        | ProblemKind::TooLarge
        | ProblemKind::ClientTimeout => "invalid_request_error",
        ProblemKind::Authentication => "authentication_error",
        ProblemKind::Permission => "permission_error",
        ProblemKind::RateLimited => "rate_limit_error",
        ProblemKind::Unavailable | ProblemKind::Upstream | ProblemKind::Timeout | ProblemKind::Internal => {
            "server_error"
        }
    }
}

pub(in crate::dialect) fn decode(status: u16, retry_after: Option<Duration>, body: &[u8]) -> UpstreamFailure {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let json = match &json {
        Value::Array(list) => list.first().unwrap_or(&Value::Null),
        other => other,
    };
    from_json(status, retry_after, json).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        let message = match text.trim() {
            "" => format!("status {status} without a body"),
            text => vendor_message(text),
        };
        let failure = UpstreamFailure::from_status(status, retry_after, message);
        // No API says it like that: something else sits at this address, which is no fault of the caller's.
        if failure.fault == Fault::Caller {
            return UpstreamFailure {
                kind: FailureKind::Garbage,
                fault: Fault::Gateway,
                retry: Retry::Elsewhere,
                ..failure
            };
        }
        failure
    })
}

/// The failure in `json`, if it is one of the known shapes.
pub(in crate::dialect) fn from_json(
    status: u16,
    retry_after: Option<Duration>,
    json: &Value,
) -> Option<UpstreamFailure> {
    let fields = match &json["error"] {
        Value::Null => match &json["detail"] {
            Value::Null => json,
            detail if detail["error"].is_object() => &detail["error"],
            detail => detail,
        },
        error => error,
    };
    let message = match (fields, &fields["message"]) {
        (Value::String(text), _) | (_, Value::String(text)) => vendor_message(text),
        (_, Value::Null) => return None,
        (_, other) => vendor_message(&other.to_string()),
    };
    let word = |name: &str| match &fields[name] {
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    // llama.cpp puts the status into `code` and the class into `type`; OpenAI the class into `code`.
    let code = word("code").or_else(|| word("type"));
    let mut failure = UpstreamFailure::from_status(status, retry_after, message);
    if let Some(kind) = kind_by_words(status, code.as_deref(), &failure.message) {
        let named = UpstreamFailure::new(kind, "");
        (failure.kind, failure.fault, failure.retry) = (named.kind, named.fault, named.retry);
    }
    failure.code = code;
    failure.param = word("param");
    Some(failure)
}

/// What the words say more exactly than the status.
fn kind_by_words(status: u16, code: Option<&str>, message: &str) -> Option<FailureKind> {
    match code {
        Some("context_length_exceeded" | "exceed_context_size_error") => {
            return Some(FailureKind::ContextLength);
        }
        // OpenAI's word, and Azure's (platform.openai.com/docs/guides/error-codes, learn.microsoft.com/azure/ai-services/openai,
        // read 2026-11-24).
        Some("content_policy_violation" | "content_filter") => return Some(FailureKind::ContentPolicy),
        Some("model_not_found") => return Some(FailureKind::NotFound),
        // The account is out of credit: waiting does not help, another provider does.
        Some("insufficient_quota") => return Some(FailureKind::Credentials),
        _ => {}
    }
    let too_long = ["maximum context length", "context length exceeded", "prompt is too long"];
    let message = message.to_ascii_lowercase();
    (status == 400 && too_long.iter().any(|words| message.contains(words)))
        .then_some(FailureKind::ContextLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, kind: FailureKind, message: &str, code: Option<&str>) {
        let failure = decode(status, None, body.as_bytes());
        assert_eq!((failure.kind, failure.message.as_str(), failure.code.as_deref()), (kind, message, code));
        assert_eq!(failure.status, Some(status));
    }

    #[test]
    fn the_shapes_in_the_wild() {
        let invalid = FailureKind::Invalid;
        check(
            400,
            r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#,
            invalid,
            "m",
            Some("c"),
        );
        check(
            503,
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
            FailureKind::Failed,
            "Loading model",
            Some("unavailable_error"),
        );
        check(
            404,
            r#"{"error":"model 'nope' not found"}"#,
            FailureKind::NotFound,
            "model 'nope' not found",
            None,
        );
        check(
            400,
            r#"[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]"#,
            invalid,
            "bad",
            None,
        );
        check(
            422,
            r#"{"object":"error","message":"no","type":"invalid_request"}"#,
            invalid,
            "no",
            Some("invalid_request"),
        );
        check(400, r#"{"detail":{"error":{"message":"deep"}}}"#, invalid, "deep", None);
        check(422, r#"{"detail":"flat"}"#, invalid, "flat", None);
        check(502, "<html>bad gateway</html>", FailureKind::Failed, "<html>bad gateway</html>", None);
        check(500, "", FailureKind::Failed, "status 500 without a body", None);
        check(405, "<html>nginx</html>", FailureKind::Garbage, "<html>nginx</html>", None);
    }

    #[test]
    fn words_are_more_exact_than_the_status() {
        check(
            400,
            r#"{"error":{"message":"m","type":"exceed_context_size_error","code":400}}"#,
            FailureKind::ContextLength,
            "m",
            Some("exceed_context_size_error"),
        );
        check(
            429,
            r#"{"error":{"message":"pay","code":"insufficient_quota"}}"#,
            FailureKind::Credentials,
            "pay",
            Some("insufficient_quota"),
        );
        check(
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#,
            FailureKind::ContextLength,
            "This model's maximum context length is 8192 tokens",
            None,
        );
    }

    #[test]
    fn retry_after_is_kept() {
        let failure = decode(429, Some(Duration::from_secs(7)), b"{}");
        assert_eq!(failure.retry, Retry::Anywhere { after: Some(Duration::from_secs(7)) });
    }

    #[test]
    fn what_is_written_is_read_back() {
        let problem = Problem {
            param: Some("model".into()),
            ..Problem::new(ProblemKind::NotFound, "model_not_found", "no")
        };
        assert_eq!(
            String::from_utf8(encode(&problem)).unwrap(),
            r#"{"error":{"message":"no","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#
        );
        let failure = decode(404, None, &encode(&problem));
        assert_eq!((failure.kind, failure.param.as_deref()), (FailureKind::NotFound, Some("model")));
    }
}
