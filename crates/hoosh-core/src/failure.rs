//! What went wrong at a provider: whose fault it is, and whether another try can help.

use std::fmt;
use std::time::Duration;

/// Why one attempt at one provider failed.
///
/// `fault` and `retry` are decided by whoever saw the failure (the dialect that read the error body, the transport that
/// lost the connection), never guessed from a status code later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamFailure {
    /// Name of the provider asked, filled in by the provider.
    pub provider: String,
    /// What happened.
    pub kind: FailureKind,
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether and where another try can help.
    pub retry: Retry,
    /// HTTP status of the provider's answer, if it answered.
    pub status: Option<u16>,
    /// The vendor's code for the error.
    pub code: Option<String>,
    /// The field of the request that the vendor complains about.
    pub param: Option<String>,
    /// A sentence for people: the vendor's, cut to
    /// [`VENDOR_MESSAGE_BYTES_MAX`](crate::limits::VENDOR_MESSAGE_BYTES_MAX), or ours.
    pub message: String,
}

/// What happened at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection: refused, unreachable, name not found, TLS not agreed.
    Connect,
    /// The connection broke, or the answer ended before its end.
    Broken,
    /// One of the declared times ran out.
    Timeout,
    /// It answered something that is not its dialect.
    Garbage,
    /// It asks to slow down (429).
    RateLimited,
    /// It failed inside (5xx).
    Failed,
    /// It does not take our key, or the account has no credit left.
    Credentials,
    /// It does not know the model or the path.
    NotFound,
    /// It says the request is wrong.
    Invalid,
    /// It says the prompt is longer than the model's context.
    ContextLength,
    /// It cannot do what was asked: embeddings on a chat model, a dialect it does not speak.
    Unsupported,
}

/// Whose fault a failure is. A caller's fault never counts against a provider's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request is wrong.
    Caller,
    /// The provider is unwell.
    Upstream,
    /// Our configuration is wrong: a bad key, a bad URL.
    Gateway,
}

/// Whether and where another try can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nobody will answer this request otherwise.
    Never,
    /// Another provider or model may.
    Elsewhere,
    /// This one may too.
    Anywhere {
        /// Not before this has passed, if the provider said so.
        after: Option<Duration>,
    },
}

/// Something of a request that the target dialect cannot express, named in the caller's words (`logit_bias`).
///
/// Reported as `x-hoosh-lossy`, never dropped in silence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FidelityNote {
    /// The field, as the caller's dialect names it.
    pub field: String,
}

// === impl UpstreamFailure ===

impl UpstreamFailure {
    /// A failure of this kind, with the fault and retry that it has unless somebody knows better.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let (fault, retry) = match kind {
            FailureKind::Connect | FailureKind::Broken | FailureKind::Timeout | FailureKind::Garbage => {
                (Fault::Upstream, Retry::Anywhere { after: None })
            }
            FailureKind::RateLimited | FailureKind::Failed => {
                (Fault::Upstream, Retry::Anywhere { after: None })
            }
            FailureKind::Credentials => (Fault::Gateway, Retry::Elsewhere),
            FailureKind::NotFound | FailureKind::ContextLength | FailureKind::Unsupported => {
                (Fault::Caller, Retry::Elsewhere)
            }
            FailureKind::Invalid => (Fault::Caller, Retry::Never),
        };
        Self {
            provider: String::new(),
            kind,
            fault,
            retry,
            status: None,
            code: None,
            param: None,
            message: message.into(),
        }
    }

    /// What an HTTP status means if the body says nothing more.
    ///
    /// `retry_after` is the provider's own word, from the header of that name.
    pub fn from_status(status: u16, retry_after: Option<Duration>, message: impl Into<String>) -> Self {
        let kind = match status {
            // A redirect of a POST, or a 2xx that is not 200: the base URL is not what it claims to be.
            0..=399 => FailureKind::Garbage,
            401..=403 => FailureKind::Credentials,
            404 => FailureKind::NotFound,
            429 => FailureKind::RateLimited,
            501 => FailureKind::Unsupported,
            408 | 409 | 425 | 500.. => FailureKind::Failed,
            _ => FailureKind::Invalid,
        };
        let mut failure = Self { status: Some(status), ..Self::new(kind, message) };
        // Another provider may have other limits of size and kind, and another base URL may be the right one.
        if matches!(status, 405 | 410 | 413 | 415) {
            failure.retry = Retry::Elsewhere;
        }
        if let Retry::Anywhere { after } = &mut failure.retry {
            *after = retry_after;
        }
        failure
    }

    /// The same failure with the provider's name on it.
    pub fn at(self, provider: &str) -> Self {
        Self { provider: provider.to_owned(), ..self }
    }
}

impl fmt::Display for UpstreamFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "provider `{}` ", self.provider)?;
        match self.status {
            Some(status) => write!(f, "answered {status}: {}", self.message),
            None => write!(f, "{}: {}", self.kind, self.message),
        }
    }
}

impl std::error::Error for UpstreamFailure {}

// === impl FailureKind ===

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "could not be reached",
            Self::Broken => "broke off",
            Self::Timeout => "took too long",
            Self::Garbage => "answered something unreadable",
            Self::RateLimited => "asks to slow down",
            Self::Failed => "failed",
            Self::Credentials => "does not accept our credentials",
            Self::NotFound => "does not know the model",
            Self::Invalid => "refused the request",
            Self::ContextLength => "has too small a context",
            Self::Unsupported => "cannot do this",
        })
    }
}

// === impl FidelityNote ===

impl FidelityNote {
    /// A note that `field` could not be carried.
    pub fn new(field: impl Into<String>) -> Self {
        Self { field: field.into() }
    }
}

impl fmt::Display for FidelityNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)
    }
}
