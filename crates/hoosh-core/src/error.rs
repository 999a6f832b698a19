//! Why a call has no answer, and what of it the caller is told.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::HeaderMap;

use crate::failure::{FailureKind, Fault, FidelityNote, Retry, UpstreamFailure};
use crate::json::FieldError;
use crate::limits;

/// Why a call has no answer. The `Display` is the whole truth for a log; [`Problem`] is what the caller is told.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HooshError {
    /// The request cannot be read.
    #[error("invalid request: {0}")]
    InvalidRequest(#[from] InvalidRequest),
    /// No provider is configured for the model.
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    /// A guard said no.
    #[error("refused by guard `{}`: {}", .0.guard, .0.reason)]
    Refused(#[from] Refusal),
    /// The call asked that nothing be lost, and every candidate would lose something: what, by provider.
    #[error("{}", Lossy(.0))]
    Lossy(Vec<(String, Vec<FidelityNote>)>),
    /// Nobody could be asked, because all who have the model are let alone for now.
    #[error("nobody can be asked for now{}", Considered(.considered))]
    Resting {
        /// Who, each with the reason.
        considered: Vec<(String, String)>,
        /// When the first of them may be asked again.
        after: Duration,
        /// Whether all of them are over their rate limits.
        limited: bool,
    },
    /// The caller is over a limit of its own, and nobody was asked.
    #[error(transparent)]
    Limited(#[from] Box<Limited>),
    /// Every candidate failed, or one failed in a way that no other can mend.
    #[error("{}", Attempts(.0))]
    Upstream(Vec<UpstreamFailure>),
    /// A pool that the call is charged to has not enough left.
    #[error("{reason}")]
    Exhausted {
        /// Which, and what it has.
        reason: String,
        /// When it may be enough again. `None`: never, as it stands.
        after: Option<Duration>,
    },
    /// It cannot be written down that the call was made, and none is to be made without.
    #[error("the audit log takes no record now: {0}")]
    Unrecorded(String),
    /// The call's time ran out before anybody answered.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Deadline(Duration),
}

/// A request that cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}")]
pub struct InvalidRequest {
    /// The field and what is wrong with it.
    pub field: FieldError,
}

/// No provider can be asked for this model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no provider serves the model `{model}`{}", Considered(.considered))]
pub struct NoRoute {
    /// The model asked for.
    pub model: String,
    /// Providers that match the name but cannot be asked, each with the reason.
    pub considered: Vec<(String, String)>,
    /// Known model names that look like it, the nearest first.
    pub near: Vec<String>,
    /// What it is due to.
    pub cause: NoRouteCause,
}

/// What it is due to that nobody can be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NoRouteCause {
    /// The model's name, or several things at once.
    #[default]
    Model,
    /// The prompt alone: it is longer than what any of them reads.
    TooLong {
        /// Tokens of the prompt, about.
        tokens: u64,
        /// The most that any of them reads. Unit: tokens.
        window: u64,
    },
    /// What the request holds alone, its length included: no model of them takes it.
    Unable,
    /// The tokens that it asks for alone: no route of them allows as many.
    OverLimit {
        /// Tokens asked for.
        asked: u64,
        /// The most that any of them allows.
        limit: u64,
    },
    /// The call's own conditions, on where it may go and what it may cost: nobody left meets them.
    Conditions,
}

/// A caller that is over a limit of its own.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Limited {
    /// Which limit, and when to come back.
    pub message: String,
    /// When it would be let in. `None`: never, it asks for more than the limit allows at once.
    pub retry_after: Option<Duration>,
    /// Where it stands, as headers of its dialect.
    pub headers: HeaderMap,
}

/// A guard's no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Which guard.
    pub guard: String,
    /// What the caller is told.
    pub reason: String,
}

/// What a caller is told, in no dialect yet: each dialect writes it in its own error shape.
///
/// It never holds a key, a provider's internals or a body of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which class of problem; the server's status code follows from it.
    pub kind: ProblemKind,
    /// A stable word for programs, such as `model_not_found`.
    pub code: Cow<'static, str>,
    /// A sentence for people: what was wrong, where, what to do.
    pub message: String,
    /// The field that is wrong.
    pub param: Option<String>,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

/// Classes of problems, as the caller sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The request is wrong.
    InvalidRequest,
    /// No key, or a wrong one.
    Authentication,
    /// The key may not do this.
    Permission,
    /// No such model or path.
    NotFound,
    /// The path has no such method.
    MethodNotAllowed,
    /// The body is longer than allowed.
    TooLarge,
    /// The client took too long to send.
    ClientTimeout,
    /// Too much for now.
    RateLimited,
    /// Nobody can answer right now.
    Unavailable,
    /// The provider failed.
    Upstream,
    /// Time ran out.
    Timeout,
    /// A bug of ours.
    Internal,
}

struct Considered<'a>(&'a [(String, String)]);
struct Lossy<'a>(&'a [(String, Vec<FidelityNote>)]);
struct Attempts<'a>(&'a [UpstreamFailure]);

// === impl InvalidRequest ===

impl InvalidRequest {
    /// The field at `path` (empty for the whole body) has this problem.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: FieldError { path: path.into(), problem: problem.into() } }
    }
}

impl From<FieldError> for InvalidRequest {
    fn from(field: FieldError) -> Self {
        Self { field }
    }
}

impl From<FieldError> for HooshError {
    fn from(field: FieldError) -> Self {
        Self::InvalidRequest(field.into())
    }
}

impl From<UpstreamFailure> for HooshError {
    fn from(failure: UpstreamFailure) -> Self {
        Self::Upstream(vec![failure])
    }
}

// === impl Problem ===

impl Problem {
    /// A problem of this kind with a code and a sentence.
    pub fn new(kind: ProblemKind, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), param: None, retry_after: None }
    }
}

impl From<&HooshError> for Problem {
    fn from(error: &HooshError) -> Self {
        match error {
            HooshError::InvalidRequest(invalid) => Self {
                param: Some(invalid.field.path.clone()).filter(|path| !path.is_empty()),
                ..Self::new(ProblemKind::InvalidRequest, "invalid_request", invalid.to_string())
            },
            HooshError::NoRoute(no_route) => no_route.into(),
            HooshError::Refused(refusal) => {
                Self::new(ProblemKind::Permission, refusal.guard.clone(), refusal.reason.clone())
            }
            HooshError::Resting { after, limited, .. } => {
                let (kind, code) = match limited {
                    true => (ProblemKind::RateLimited, "rate_limit_exceeded"),
                    false => (ProblemKind::Unavailable, "providers_resting"),
                };
                Self { retry_after: Some(*after), ..Self::new(kind, code, error.to_string()) }
            }
            HooshError::Limited(limited) => Self {
                retry_after: limited.retry_after,
                ..Self::new(ProblemKind::RateLimited, "rate_limit_exceeded", limited.message.clone())
            },
            HooshError::Upstream(failures) => match verdict(failures) {
                Some(failure) => failure.into(),
                None => Self::new(ProblemKind::Unavailable, "no_provider", "no provider could be asked"),
            },
            HooshError::Lossy(_) => {
                let message = format!("{error}; leave them out, or send `x-hoosh-fidelity: report`");
                Self::new(ProblemKind::InvalidRequest, "not_expressible", message)
            }
            // OpenAI's word for it (platform.openai.com/docs/guides/error-codes, read 2026-11-24), which its clients do not try
            // again at once.
            HooshError::Exhausted { reason, after } => Self {
                retry_after: *after,
                ..Self::new(ProblemKind::RateLimited, "insufficient_quota", reason.clone())
            },
            // What is wrong with the disk is for whoever runs it, and in the log.
            HooshError::Unrecorded(_) => Self {
                retry_after: Some(limits::AUDIT_RETRY_MAX),
                ..Self::new(
                    ProblemKind::Unavailable,
                    "audit_unavailable",
                    "this gateway answers no call that it cannot write down, and cannot write now; try again later",
                )
            },
            HooshError::Deadline(limit) => Self::new(
                ProblemKind::Timeout,
                "deadline_exceeded",
                format!("no provider answered within {} s", limit.as_secs_f32()),
            ),
        }
    }
}

impl From<&NoRoute> for Problem {
    fn from(no_route: &NoRoute) -> Self {
        let (model, considered) = (&no_route.model, Considered(&no_route.considered));
        match no_route.cause {
            NoRouteCause::Model => {}
            NoRouteCause::TooLong { tokens, window } => {
                let message = format!(
                    "the prompt has about {tokens} tokens, and `{model}` reads at most {window}{considered}; shorten it, or \
                     send `x-hoosh-context: drop_oldest`"
                );
                return Self::new(ProblemKind::InvalidRequest, "context_length_exceeded", message);
            }
            NoRouteCause::Unable => {
                let message = format!("no provider of `{model}` takes what the request holds{considered}");
                return Self::new(ProblemKind::InvalidRequest, "invalid_request", message);
            }
            // As OpenAI answers a `max_tokens` above a model's: 400 with the field.
            NoRouteCause::OverLimit { asked, limit } => {
                let message = format!(
                    "{asked} tokens of answer are asked for, and `{model}` may give at most {limit} here{considered}"
                );
                let problem = Self::new(ProblemKind::InvalidRequest, "invalid_value", message);
                return Self { param: Some("max_tokens".to_owned()), ..problem };
            }
            NoRouteCause::Conditions => {
                let message = format!("no provider of `{model}` meets the call's own conditions{considered}");
                return Self::new(ProblemKind::InvalidRequest, "conditions_not_met", message);
            }
        }
        let mut message = no_route.to_string();
        if no_route.near.is_empty() {
            message.push_str("; GET /v1/models lists what there is");
        } else {
            message.push_str("; did you mean ");
            for (index, name) in no_route.near.iter().enumerate() {
                message.push_str(if index == 0 { "" } else { ", " });
                message.push_str(&format!("`{name}`"));
            }
            message.push('?');
        }
        Self {
            param: Some("model".to_owned()),
            ..Self::new(ProblemKind::NotFound, "model_not_found", message)
        }
    }
}

impl From<&UpstreamFailure> for Problem {
    /// The vendor's own sentence is shown only where the caller is at fault and can use it.
    fn from(failure: &UpstreamFailure) -> Self {
        let kind = match failure.kind {
            FailureKind::Invalid if failure.status == Some(413) => ProblemKind::TooLarge,
            FailureKind::Invalid
            | FailureKind::ContextLength
            | FailureKind::ContentPolicy
            | FailureKind::Unsupported => ProblemKind::InvalidRequest,
            FailureKind::NotFound => ProblemKind::NotFound,
            FailureKind::RateLimited => ProblemKind::RateLimited,
            FailureKind::Timeout => ProblemKind::Timeout,
            FailureKind::Connect
            | FailureKind::Broken
            | FailureKind::Garbage
            | FailureKind::Failed
            | FailureKind::Credentials => ProblemKind::Upstream,
        };
        let own_code = match failure.kind {
            FailureKind::Connect => "upstream_unreachable",
            FailureKind::Broken => "upstream_broken",
            FailureKind::Timeout => "upstream_timeout",
            FailureKind::Garbage => "upstream_garbage",
            FailureKind::RateLimited => "rate_limit_exceeded",
            FailureKind::Failed => "upstream_error",
            FailureKind::Credentials => "upstream_credentials",
            FailureKind::NotFound => "model_not_found",
            FailureKind::Invalid => "invalid_request",
            FailureKind::ContextLength => "context_length_exceeded",
            FailureKind::ContentPolicy => "content_policy_violation",
            FailureKind::Unsupported => "unsupported",
        };
        let caller = failure.fault == Fault::Caller;
        let code = match &failure.code {
            Some(code) if caller => Cow::Owned(code.clone()),
            _ => Cow::Borrowed(own_code),
        };
        let message = match failure.status {
            _ if caller => failure.message.clone(),
            Some(status) => format!("provider `{}` answered {status}: it {}", failure.provider, failure.kind),
            // Our own words, about a connection.
            None if failure.kind.is_of_the_connection() => failure.to_string(),
            None => format!("provider `{}` {}", failure.provider, failure.kind),
        };
        let retry_after = match failure.retry {
            Retry::Anywhere { after } => after,
            Retry::Never | Retry::Elsewhere => None,
        };
        Self {
            param: failure.param.clone().filter(|_| caller),
            retry_after,
            ..Self::new(kind, code, message)
        }
    }
}

/// The failure that tells a caller most about a call that every candidate failed.
///
/// One that no candidate can mend ends the call, so it is the last and stands. Otherwise a provider that has the model and
/// was unwell says more than one that does not know it, and of rate limits the one that ends first counts.
fn verdict(failures: &[UpstreamFailure]) -> Option<&UpstreamFailure> {
    let last = failures.last()?;
    if last.retry == Retry::Never {
        return Some(last);
    }
    let served = || failures.iter().filter(|failure| failure.kind != FailureKind::NotFound);
    let unwell = served().rfind(|failure| failure.kind != FailureKind::RateLimited);
    let soonest = || {
        served().min_by_key(|failure| match failure.retry {
            Retry::Anywhere { after: Some(after) } => after,
            Retry::Anywhere { after: None } | Retry::Elsewhere | Retry::Never => Duration::MAX,
        })
    };
    unwell.or_else(soonest).or(Some(last))
}

impl fmt::Display for Considered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (provider, why)) in self.0.iter().enumerate() {
            write!(f, "{}`{provider}`: {why}", if index == 0 { " (" } else { "; " })?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no provider can be told all of the request")?;
        for (index, (provider, notes)) in self.0.iter().enumerate() {
            let fields: Vec<&str> = notes.iter().map(|note| note.field.as_str()).collect();
            f.write_str(if index == 0 { " (" } else { "; " })?;
            write!(f, "`{provider}`: not {}", fields.join(", "))?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attempt(s) failed", self.0.len())?;
        self.0.iter().try_for_each(|failure| write!(f, "; {failure}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(provider: &str, failure: UpstreamFailure) -> UpstreamFailure {
        failure.at(provider)
    }

    #[test]
    fn all_rate_limited_gives_the_soonest_retry_after() {
        let limited =
            |seconds| UpstreamFailure::from_status(429, Some(Duration::from_secs(seconds)), "slow down");
        let error = HooshError::Upstream(vec![at("a", limited(30)), at("b", limited(5))]);
        let problem = Problem::from(&error);
        assert_eq!(problem.kind, ProblemKind::RateLimited);
        assert_eq!(problem.retry_after, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_rate_limit_says_more_than_an_unknown_model() {
        let failures = vec![
            at("a", UpstreamFailure::from_status(429, Some(Duration::from_secs(9)), "slow down")),
            at("b", UpstreamFailure::from_status(404, None, "no such model")),
        ];
        let problem = Problem::from(&HooshError::Upstream(failures));
        assert_eq!(
            (problem.kind, problem.retry_after),
            (ProblemKind::RateLimited, Some(Duration::from_secs(9)))
        );
    }

    #[test]
    fn our_bad_key_is_not_shown_as_the_callers() {
        let failure =
            at("openai", UpstreamFailure::from_status(401, None, "Incorrect API key provided: sk-abc"));
        let problem = Problem::from(&HooshError::from(failure));
        assert_eq!(problem.kind, ProblemKind::Upstream);
        assert_eq!(problem.message, "provider `openai` answered 401: it does not accept our credentials");
    }

    #[test]
    fn a_sick_provider_says_more_than_one_without_the_model() {
        let failures = vec![
            at("a", UpstreamFailure::from_status(503, None, "down")),
            at("b", UpstreamFailure::from_status(404, None, "no such model")),
        ];
        assert_eq!(Problem::from(&HooshError::Upstream(failures)).kind, ProblemKind::Upstream);
    }

    #[test]
    fn those_passed_over_are_named_with_the_reason() {
        let considered = vec![("a".into(), "is disabled".into()), ("b".into(), "is over its limit".into())];
        let no_route = NoRoute { model: "m".into(), considered, near: vec![], cause: NoRouteCause::Model };
        assert_eq!(
            no_route.to_string(),
            "no provider serves the model `m` (`a`: is disabled; `b`: is over its limit)"
        );
    }

    #[test]
    fn near_names_are_offered() {
        let near = vec!["llama3".into()];
        let no_route =
            NoRoute { model: "lama3".into(), considered: vec![], near, cause: NoRouteCause::Model };
        let problem = Problem::from(&no_route);
        assert_eq!(problem.message, "no provider serves the model `lama3`; did you mean `llama3`?");
        assert_eq!(problem.param.as_deref(), Some("model"));
    }

    #[test]
    fn what_the_request_is_to_blame_for_is_no_missing_model() {
        let problem = |cause| {
            let considered = vec![("a".into(), "it reads 10 tokens".into())];
            Problem::from(&NoRoute { model: "m".into(), considered, near: vec![], cause })
        };
        let long = problem(NoRouteCause::TooLong { tokens: 30, window: 10 });
        assert_eq!((long.kind, &*long.code), (ProblemKind::InvalidRequest, "context_length_exceeded"));
        let says = "the prompt has about 30 tokens, and `m` reads at most 10 (`a`: it reads 10 tokens); shorten it, or send \
                    `x-hoosh-context: drop_oldest`";
        assert_eq!(long.message, says);
        let unable = problem(NoRouteCause::Unable);
        assert_eq!((unable.kind, &*unable.code), (ProblemKind::InvalidRequest, "invalid_request"));
        let over = problem(NoRouteCause::OverLimit { asked: 9, limit: 1 });
        assert_eq!((over.kind, over.param.as_deref()), (ProblemKind::InvalidRequest, Some("max_tokens")));
        assert!(over.message.starts_with("9 tokens of answer are asked for, and `m` may give at most 1"));
        let barred = problem(NoRouteCause::Conditions);
        assert_eq!((barred.kind, &*barred.code), (ProblemKind::InvalidRequest, "conditions_not_met"));
        assert_eq!(problem(NoRouteCause::Model).kind, ProblemKind::NotFound);
    }
}
