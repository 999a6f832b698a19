//! Errors as HTTP: the one place that knows which problem is which status.

use bytes::Bytes;
use hoosh_budget::keys::{KeyDenied, Scope};
use hoosh_core::dialect::{Dialect, ReplyContext};
use hoosh_core::limits::EVENT_LISTENERS_MAX;
use hoosh_core::{HooshError, Problem, ProblemKind, limits};
use hoosh_gateway::RequestId;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Response, StatusCode};

use super::X_HOOSH_ATTEMPTS;
use super::auth::Denied;
use super::body::{ResponseBody, Unread};

/// Characters of a decision's name that an error shows: 64, a few more than ours have.
const NAME_SHOWN_MAX: usize = 64;

/// Everything that ends a request without an answer.
#[derive(Debug)]
pub(crate) enum ServerError {
    /// The call itself failed.
    Call(HooshError),
    /// Whoever calls may not.
    Denied(Denied),
    /// There is nothing at this path.
    NoSuchPath { method: Method, path: String, near: Option<String> },
    /// A page of another site calls, and no key is wanted.
    ForeignPage,
    /// This path has other methods.
    NoSuchMethod { method: Method, path: String, allowed: Vec<Method> },
    /// There is no such model to show.
    NoSuchModel(hoosh_core::NoRoute),
    /// There is no such decision of the caller's.
    NoSuchDecision { id: String },
    /// There is no such lease of the caller's.
    NoSuchLease { lease: String },
    /// The body could not be read.
    Unread(Unread),
    /// A header of ours has a value that it cannot have.
    BadHeader { name: &'static str, expected: &'static str },
    /// There is no such operation on a model.
    NoSuchVerb { verb: String },
    /// As many listen for events as may.
    TooManyListeners,
    /// The body is compressed.
    Compressed { encoding: String },
    /// The configuration is not read again.
    NoReload { why: &'static str },
    /// Only this machine may do that, as long as no key is wanted.
    NotFromHere,
    /// No keys are kept here.
    NoKeys,
    /// No rows of calls are kept here.
    NoUsageLog,
    /// No audit log is kept here.
    NoAudit,
    /// Nothing is kept of that call beside the log.
    NothingKept { id: String },
    /// There is no such key.
    NoSuchKey { id: String },
    /// That pool is the configuration's, which is written there.
    ConfiguredPool { pool: String, place: String },
    /// There is no such pool that was defined while the gateway ran.
    NoSuchPool { pool: String },
    /// There is no file that such pools could be kept in.
    NoPoolsFile,
    /// That file cannot be read or written.
    PoolStore,
    /// The keys cannot be read or written.
    KeyStore,
    /// A bug of ours, which the log tells more of.
    Panicked,
}

/// The answer that tells of an error, in the caller's dialect.
pub(crate) fn response(error: &ServerError, dialect: Dialect, id: &RequestId) -> Response<ResponseBody> {
    let problem = problem(error);
    let mut response = Response::new(ResponseBody::full(dialect.encode_error(&problem, id.as_str())));
    *response.status_mut() = match error {
        ServerError::ConfiguredPool { .. } => StatusCode::CONFLICT,
        _ => status(problem.kind),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = problem.retry_after {
        // Rounded up: a client that comes back too early is refused again.
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000) as u64));
    }
    match error {
        ServerError::Call(HooshError::Upstream(failures)) => {
            let asked = failures.iter().filter(|failure| failure.was_asked).count();
            headers.insert(X_HOOSH_ATTEMPTS, HeaderValue::from(asked));
        }
        ServerError::Call(HooshError::Limited(limited)) => headers.extend(limited.headers.clone()),
        ServerError::Denied(_) if problem.kind == ProblemKind::Authentication => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        ServerError::NoSuchMethod { allowed, .. } => {
            let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
            if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
                headers.insert(ALLOW, names);
            }
        }
        ServerError::Call(_)
        | ServerError::Denied(_)
        | ServerError::NoSuchPath { .. }
        | ServerError::ForeignPage
        | ServerError::NoSuchModel(_)
        | ServerError::NoSuchDecision { .. }
        | ServerError::NoSuchLease { .. }
        | ServerError::Unread(_)
        | ServerError::BadHeader { .. }
        | ServerError::NoSuchVerb { .. }
        | ServerError::TooManyListeners
        | ServerError::Compressed { .. }
        | ServerError::NoReload { .. }
        | ServerError::NotFromHere
        | ServerError::NoKeys
        | ServerError::NoUsageLog
        | ServerError::NoAudit
        | ServerError::NothingKept { .. }
        | ServerError::NoSuchKey { .. }
        | ServerError::ConfiguredPool { .. }
        | ServerError::NoSuchPool { .. }
        | ServerError::NoPoolsFile
        | ServerError::PoolStore
        | ServerError::KeyStore
        | ServerError::Panicked => {}
    }
    response
}

/// The event by which a stream tells of an error, as its last; nothing in a dialect without streams.
pub(crate) fn event(problem: &Problem, dialect: Dialect) -> Bytes {
    let mut event = Vec::with_capacity(256);
    if let Some(codec) = dialect.codec() {
        codec.stream_encoder(&ReplyContext::default()).problem(problem, &mut event);
    }
    event.into()
}

fn status(kind: ProblemKind) -> StatusCode {
    match kind {
        ProblemKind::InvalidRequest => StatusCode::BAD_REQUEST,
        ProblemKind::Authentication => StatusCode::UNAUTHORIZED,
        ProblemKind::Permission => StatusCode::FORBIDDEN,
        ProblemKind::NotFound => StatusCode::NOT_FOUND,
        ProblemKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ProblemKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ProblemKind::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
        ProblemKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ProblemKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ProblemKind::Upstream => StatusCode::BAD_GATEWAY,
        ProblemKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ProblemKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is told of an error.
pub(crate) fn problem(error: &ServerError) -> Problem {
    use ProblemKind as Kind;
    match error {
        ServerError::Call(error) => error.into(),
        ServerError::Denied(Denied::Missing) => Problem::new(
            Kind::Authentication,
            "missing_api_key",
            "no API key; send `Authorization: Bearer KEY` with a key of this gateway's or one of its [auth] tokens",
        ),
        ServerError::Denied(Denied::Wrong) => Problem::new(
            Kind::Authentication,
            "invalid_api_key",
            "the API key is none of this gateway's keys and [auth] tokens; check that all of it was copied",
        ),
        ServerError::Denied(Denied::Key(denied)) => {
            let (kind, code) = match denied {
                KeyDenied::Unknown => (Kind::Authentication, "invalid_api_key"),
                KeyDenied::Revoked { .. } => (Kind::Authentication, "key_revoked"),
                KeyDenied::Expired { .. } => (Kind::Authentication, "key_expired"),
                KeyDenied::Network { .. } => (Kind::Permission, "network_not_allowed"),
            };
            Problem::new(kind, code, denied.to_string())
        }
        ServerError::Denied(Denied::KeysAway) => Problem {
            retry_after: Some(limits::JWKS_REST),
            ..Problem::new(
                Kind::Unavailable,
                "token_keys_unavailable",
                "the keys that tokens are checked with could not be fetched yet from `[auth] jwt_keys`; try again",
            )
        },
        ServerError::Denied(Denied::Signed(error)) => {
            Problem::new(Kind::Authentication, "invalid_token", error.to_string())
        }
        ServerError::Denied(Denied::Scope(scope)) => Problem::new(
            Kind::Permission,
            "scope_missing",
            format!("this takes the scope `{scope}`, which the key does not have; {}", who_has(*scope)),
        ),
        ServerError::Denied(Denied::Endpoint { path, allowed }) => Problem::new(
            Kind::Permission,
            "endpoint_not_allowed",
            format!("the key may not go to {path}; it may go to {}", allowed.join(", ")),
        ),
        ServerError::NoSuchPath { method, path, near } => {
            let hint = match near {
                Some(near) => format!("did you mean {near}?"),
                None => "the paths that are served are in docs/http-api.md".to_owned(),
            };
            Problem::new(
                Kind::NotFound,
                "unknown_path",
                format!("nothing is served at {method} {path}; {hint}"),
            )
        }
        ServerError::ForeignPage => Problem::new(
            Kind::Permission,
            "origin_not_allowed",
            "a page of another site may not call a gateway without keys; name its origin in `[server] cors_origins`",
        ),
        ServerError::NoSuchMethod { method, path, allowed } => {
            let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
            let message = format!("{path} does not take {method}, only {}", allowed.join(", "));
            Problem::new(Kind::MethodNotAllowed, "method_not_allowed", message)
        }
        ServerError::NoSuchModel(no_route) => no_route.into(),
        ServerError::NoSuchDecision { id } => Problem::new(
            Kind::NotFound,
            "decision_not_found",
            format!(
                "no decision `{}` of yours is kept; the latest {} of all callers are, in memory",
                short(id),
                limits::DECISIONS_MAX
            ),
        ),
        ServerError::NoSuchLease { lease } => Problem::new(
            Kind::NotFound,
            "lease_not_found",
            format!(
                "no lease `{}` of yours is known: it is not one, or was reported long ago, or the gateway was started \
                 again since, which lets go of all; what it took is not booked until it is reserved and reported anew",
                short(lease)
            ),
        ),
        ServerError::Unread(Unread::TooLong { bytes_max }) => Problem::new(
            Kind::TooLarge,
            "request_too_large",
            format!("the body is longer than {bytes_max} bytes; `[server] max_body_bytes` is the limit"),
        ),
        ServerError::Unread(Unread::TooSlow { limit }) => Problem::new(
            Kind::ClientTimeout,
            "request_timeout",
            format!("the body did not come within {} s", limit.as_secs_f32()),
        ),
        ServerError::Unread(Unread::CutOff) => {
            Problem::new(Kind::InvalidRequest, "body_cut_off", "the body ended before its declared length")
        }
        ServerError::BadHeader { name, expected } => Problem::new(
            Kind::InvalidRequest,
            "invalid_header",
            format!("the header `{name}` must be {expected}"),
        ),
        ServerError::NoSuchVerb { verb } => Problem::new(
            Kind::NotFound,
            "unknown_path",
            format!(
                "a model has no operation `{verb}`; behind its name and a colon there can be generateContent, \
                 streamGenerateContent, countTokens, embedContent or batchEmbedContents"
            ),
        ),
        ServerError::TooManyListeners => Problem::new(
            Kind::Unavailable,
            "too_many_listeners",
            format!("{EVENT_LISTENERS_MAX} listen for events already, as many as may; try again later"),
        ),
        ServerError::Compressed { encoding } => Problem::new(
            Kind::InvalidRequest,
            "unsupported_encoding",
            format!("the body is compressed with `{encoding}`; send it as it is"),
        ),
        ServerError::NoReload { why } => Problem::new(Kind::Permission, "reload_off", *why),
        ServerError::NotFromHere => Problem::new(
            Kind::Permission,
            "only_from_this_machine",
            "a gateway without [auth] tokens takes this from its own machine only",
        ),
        ServerError::NoKeys => Problem::new(
            Kind::NotFound,
            "no_key_store",
            "no keys are kept here; `[auth] keys` names the file for them",
        ),
        ServerError::NoUsageLog => Problem::new(
            Kind::NotFound,
            "no_usage_log",
            "no rows of calls are kept here; `[budget] log = true` or a `[[pools]]` keeps them, with a file as `ledger`",
        ),
        ServerError::ConfiguredPool { pool, place } => {
            let message = format!(
                "the pool `{}` is defined in the configuration ({place}), which this does not change; change it there",
                short(pool)
            );
            Problem::new(Kind::InvalidRequest, "pool_in_configuration", message)
        }
        ServerError::NoSuchPool { pool } => {
            let message = format!("there is no pool `{}` here; GET /v1/admin/pools lists all", short(pool));
            Problem::new(Kind::NotFound, "pool_not_found", message)
        }
        ServerError::NoPoolsFile => Problem::new(
            Kind::NotFound,
            "no_pools_file",
            "there is no file to keep pools in, since the ledger is in memory; name one as `[budget] pools`",
        ),
        ServerError::PoolStore => Problem::new(
            Kind::Unavailable,
            "pool_store",
            "the file of pools cannot be read or written; the log says why, and everything stays as it was",
        ),
        ServerError::NoAudit => Problem::new(
            Kind::NotFound,
            "no_audit_log",
            "no audit log is kept here; `[audit] enabled = true` keeps one",
        ),
        ServerError::NothingKept { id } => Problem::new(
            Kind::NotFound,
            "nothing_kept",
            format!("nothing is kept of a call `{}` beside the audit log, or it was erased", short(id)),
        ),
        ServerError::NoSuchKey { id } => {
            let message = format!("there is no key `{}`; GET /v1/admin/keys lists all", short(id));
            Problem::new(Kind::NotFound, "key_not_found", message)
        }
        ServerError::KeyStore => Problem::new(
            Kind::Unavailable,
            "key_store_failed",
            "the keys cannot be read or written now; nothing was changed, and the gateway's log says why",
        ),
        ServerError::Panicked => Problem::new(
            Kind::Internal,
            "internal_error",
            "a bug in the gateway ended this request; its log has more under the request id",
        ),
    }
}

/// Who may do what takes this scope, in a few words.
fn who_has(scope: Scope) -> &'static str {
    match scope {
        Scope::Admin => "tokens in `[auth] admin_tokens` have it, and keys that were made with it",
        Scope::Inference | Scope::UsageRead => "keys are made with it by `--scope`",
    }
}

/// A name that a caller made up, cut to what a sentence bears.
fn short(name: &str) -> String {
    name.chars().take(NAME_SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoosh_core::{InvalidRequest, Limited, NoRoute, NoRouteCause, Refusal, UpstreamFailure};
    use http::HeaderMap;
    use std::time::Duration;

    #[track_caller]
    fn check(error: ServerError, expected: u16) {
        assert_eq!(response(&error, Dialect::OpenAiChat, &RequestId::new()).status(), expected, "{error:?}");
    }

    #[test]
    fn every_error_has_its_status() {
        let call = |error: HooshError| ServerError::Call(error);
        let no_route = |cause| NoRoute { model: "m".into(), considered: vec![], near: vec![], cause }.into();
        let upstream = |status| call(UpstreamFailure::from_status(status, None, "m").at("p").into());
        check(call(InvalidRequest::new("model", "is missing").into()), 400);
        check(call(no_route(NoRouteCause::Model)), 404);
        check(call(no_route(NoRouteCause::TooLong { tokens: 2, window: 1 })), 400);
        check(call(no_route(NoRouteCause::Unable)), 400);
        check(call(no_route(NoRouteCause::OverLimit { asked: 2, limit: 1 })), 400);
        check(call(no_route(NoRouteCause::Conditions)), 400);
        check(call(Refusal { guard: "dlp".into(), reason: "r".into() }.into()), 403);
        check(call(HooshError::Upstream(vec![])), 503);
        check(call(HooshError::Exhausted { reason: "r".into(), after: None }), 429);
        check(call(HooshError::Deadline(Duration::from_secs(1))), 504);
        let limited = |retry_after| Limited { message: "l".into(), retry_after, headers: HeaderMap::new() };
        check(call(Box::new(limited(None)).into()), 429);
        check(upstream(400), 400);
        check(upstream(401), 502);
        check(upstream(404), 404);
        check(upstream(429), 429);
        check(upstream(500), 502);
        check(upstream(501), 400);
        check(ServerError::Denied(Denied::Missing), 401);
        check(ServerError::Denied(Denied::Wrong), 401);
        check(ServerError::NoSuchPath { method: Method::GET, path: "/".into(), near: None }, 404);
        check(ServerError::NoSuchDecision { id: "req_0".into() }, 404);
        check(ServerError::NoSuchLease { lease: "lease_0".into() }, 404);
        check(ServerError::ForeignPage, 403);
        check(
            ServerError::NoSuchMethod { method: Method::GET, path: "/".into(), allowed: vec![Method::POST] },
            405,
        );
        check(ServerError::Unread(Unread::TooLong { bytes_max: 1 }), 413);
        check(ServerError::Unread(Unread::TooSlow { limit: Duration::from_secs(1) }), 408);
        check(ServerError::Unread(Unread::CutOff), 400);
        check(ServerError::BadHeader { name: "x", expected: "y" }, 400);
        check(ServerError::NoSuchVerb { verb: "tune".into() }, 404);
        check(ServerError::TooManyListeners, 503);
        check(ServerError::Compressed { encoding: "gzip".into() }, 400);
        check(ServerError::NoReload { why: "off" }, 403);
        check(ServerError::NotFromHere, 403);
        check(ServerError::Denied(Denied::Scope(Scope::Admin)), 403);
        check(ServerError::Denied(Denied::Endpoint { path: "/".into(), allowed: vec![] }), 403);
        let from = Some(std::net::Ipv4Addr::LOCALHOST.into());
        check(ServerError::Denied(Denied::Key(KeyDenied::Network { prefix: "p".into(), from })), 403);
        check(ServerError::Denied(Denied::Key(KeyDenied::Unknown)), 401);
        check(ServerError::NoKeys, 404);
        check(ServerError::NoUsageLog, 404);
        check(ServerError::NoSuchKey { id: "k_1".into() }, 404);
        check(ServerError::ConfiguredPool { pool: "team:a".into(), place: "hoosh.toml:1".into() }, 409);
        check(ServerError::NoSuchPool { pool: "team:a".into() }, 404);
        check(ServerError::NoPoolsFile, 404);
        check(ServerError::PoolStore, 503);
        check(ServerError::NoAudit, 404);
        check(ServerError::NothingKept { id: "req_1".into() }, 404);
        check(call(HooshError::Unrecorded("full".into())), 503);
        check(ServerError::KeyStore, 503);
        check(ServerError::Panicked, 500);
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let failure = UpstreamFailure::from_status(429, Some(Duration::from_millis(1200)), "m").at("p");
        let response = response(&ServerError::Call(failure.into()), Dialect::OpenAiChat, &RequestId::new());
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
