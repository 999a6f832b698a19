//! Why a call has no answer, and whether another try can help.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use hoosh_core::dialect::DecodeError;
use hoosh_core::{Retry, UpstreamFailure};

/// Why a call has no answer, or why a stream ended early.
///
/// It never holds the token, and of the URL never a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The gateway's URL cannot be used. Nothing was sent.
    #[error("gateway URL `{url}`: {problem}")]
    Url {
        /// The URL as it was given, without what may be a password.
        url: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The token has characters that no HTTP header can carry, such as a line break. Nothing was sent.
    #[error("the token has characters that a header cannot carry; is there a line break in it?")]
    Token,
    /// There is no answer, or it broke off.
    #[error("{url}: {problem}")]
    Transport {
        /// The gateway's URL.
        url: String,
        /// What failed.
        kind: TransportKind,
        /// How, in words.
        problem: String,
    },
    /// The gateway answered with an error, or ended a stream with one.
    #[error("{}", ApiMessage { status, code, message, request_id })]
    Api {
        /// HTTP status. `None` if the error came inside an answer that had begun well.
        status: Option<u16>,
        /// A stable word for programs, such as `model_not_found`.
        code: Option<String>,
        /// A sentence for people: what was wrong, where, what to do.
        message: String,
        /// The field of the request that is wrong.
        param: Option<String>,
        /// Whether another try can help, and when: decided where the answer was read.
        ///
        /// [`Retry::Elsewhere`] here means: with another model, perhaps.
        retry: Retry,
        /// The gateway's name for the call, which finds it in its log and audit.
        request_id: Option<String>,
    },
    /// The answer came and is not what a gateway says.
    #[error("{url}: {problem}")]
    Decode {
        /// The gateway's URL.
        url: String,
        /// What is wrong with the answer, and in which field.
        problem: String,
        /// The gateway's name for the call.
        request_id: Option<String>,
    },
}

/// What failed on the way to the gateway or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// No connection: refused, unreachable, name not found.
    Connect,
    /// TLS was not agreed on; mostly a certificate that is not trusted.
    Tls,
    /// One of the client's times ran out.
    Timeout(Timeout),
    /// The connection broke, or the answer ended before its end.
    Broken,
}

/// Which of a client's times ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timeout {
    /// The one for opening a connection.
    Connect,
    /// The one from a streamed request to the head of its answer.
    FirstByte,
    /// The one for silence inside an answer.
    Idle,
    /// The one for the whole call.
    Total,
}

struct ApiMessage<'a> {
    status: &'a Option<u16>,
    code: &'a Option<String>,
    message: &'a str,
    request_id: &'a Option<String>,
}

// === impl ClientError ===

impl ClientError {
    /// Whether the same call may succeed if it is made again.
    ///
    /// The gateway has already tried everybody it may, and a call that broke off may have been answered and paid for;
    /// so this says that another try is not hopeless, not that it is free. A stream starts from its beginning.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { kind, .. } => *kind != TransportKind::Tls,
            Self::Api { retry, .. } => matches!(retry, Retry::Anywhere { .. }),
            Self::Url { .. } | Self::Token | Self::Decode { .. } => false,
        }
    }

    /// How long to wait before another try, if the gateway said so.
    ///
    /// Only seconds are read from `retry-after`: a date would need a clock, and a gateway sends none.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api { retry: Retry::Anywhere { after }, .. } => *after,
            _ => None,
        }
    }

    /// Whether one of the client's own times ran out. The gateway's are a status 504.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Transport { kind: TransportKind::Timeout(_), .. })
    }

    /// The HTTP status, if the gateway answered with an error status.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => *status,
            _ => None,
        }
    }

    /// The gateway's code for the error, such as `model_not_found`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// The gateway's name for the call, if it got that far.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Api { request_id, .. } | Self::Decode { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn timeout(url: &str, which: Timeout, limit: Duration) -> Self {
        let seconds = limit.as_secs_f32();
        let problem = match which {
            Timeout::Connect => format!("no connection within {seconds} s"),
            Timeout::FirstByte => format!("no answer within {seconds} s"),
            Timeout::Idle => format!("the answer stopped: nothing more came for {seconds} s"),
            Timeout::Total => format!("the call was not done within {seconds} s"),
        };
        Self::Transport { url: url.to_owned(), kind: TransportKind::Timeout(which), problem }
    }

    pub(crate) fn broken(url: &str, problem: impl fmt::Display) -> Self {
        let problem = format!("the connection broke: {problem}");
        Self::Transport { url: url.to_owned(), kind: TransportKind::Broken, problem }
    }

    /// An error of the HTTP client, whose connect timeout is `connect_timeout`.
    pub(crate) fn from_http(url: &str, connect_timeout: Duration, error: &reqwest::Error) -> Self {
        let cause = root_cause(error);
        let of_kind = |kind, problem| Self::Transport { url: url.to_owned(), kind, problem };
        if is_tls(error) {
            of_kind(TransportKind::Tls, format!("no TLS: {cause}"))
        } else if error.is_connect() && error.is_timeout() {
            Self::timeout(url, Timeout::Connect, connect_timeout)
        } else if error.is_connect() {
            of_kind(TransportKind::Connect, format!("no connection: {cause}"))
        } else {
            Self::broken(url, cause)
        }
    }

    pub(crate) fn decode(url: &str, problem: impl Into<String>, request_id: Option<String>) -> Self {
        Self::Decode { url: url.to_owned(), problem: problem.into(), request_id }
    }

    /// What a decoder says of an answer that began well.
    pub(crate) fn from_decoder(url: &str, error: DecodeError, request_id: Option<String>) -> Self {
        match error {
            DecodeError::Field(_) | DecodeError::Framing(_) => {
                Self::decode(url, error.to_string(), request_id)
            }
            DecodeError::Truncated => Self::broken(url, error),
            DecodeError::Reported(failure) => Self::from_failure(None, *failure, request_id),
        }
    }

    /// An error that the gateway reports.
    pub(crate) fn from_failure(
        status: Option<u16>,
        failure: UpstreamFailure,
        request_id: Option<String>,
    ) -> Self {
        Self::Api {
            status,
            code: failure.code,
            message: failure.message,
            param: failure.param,
            retry: failure.retry,
            request_id,
        }
    }
}

/// The last error of the chain: the ones before only say that a request was being sent.
fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(next) = below(cause) {
        cause = next;
    }
    cause
}

/// The next error of a chain. An `io::Error` skips the one it wraps when it is asked for its source.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(feature = "tls")]
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |error| below(*error));
    chain.any(|error| error.is::<rustls::Error>())
}

#[cfg(not(feature = "tls"))]
fn is_tls(_: &(dyn Error + 'static)) -> bool {
    false
}

// === impl ApiMessage ===

impl fmt::Display for ApiMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "the gateway answered {status}")?,
            None => f.write_str("the gateway broke the answer off")?,
        }
        if let Some(code) = self.code {
            write!(f, " ({code})")?;
        }
        write!(f, ": {}", self.message)?;
        match self.request_id {
            Some(id) => write!(f, " [request {id}]"),
            None => Ok(()),
        }
    }
}
