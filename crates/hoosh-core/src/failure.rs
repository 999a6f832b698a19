//! What went wrong at a provider: whose fault it is, and whether another try can help.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::limits;

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
    /// Whether the provider was asked at all. Default: yes. What we found in its way before, such as a prompt that is too
    /// long for its models or a full line before it, says nothing of others.
    pub was_asked: bool,
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
    /// The provider's policy does not allow what it holds.
    ContentPolicy,
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

/// Something that the target dialect cannot express as it was said, named in the caller's words (`logit_bias`).
///
/// Reported as `x-hoosh-lossy`, never dropped in silence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FidelityNote {
    /// The field, as the caller's dialect names it.
    pub field: String,
    /// What became of it.
    pub kind: NoteKind,
}

/// What is done about what a provider's dialect cannot express.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Fidelity {
    /// It is reported in `x-hoosh-lossy`.
    #[default]
    Report,
    /// A provider that would lose something is not asked.
    Strict,
    /// Nothing is said.
    Silent,
}

/// What became of something that the target dialect has no word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// It did not arrive.
    Lost,
    /// It was put into other words that mean the same to the model.
    Emulated,
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
            FailureKind::Invalid | FailureKind::ContentPolicy => (Fault::Caller, Retry::Never),
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
            was_asked: true,
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

impl FailureKind {
    /// One word for events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Garbage => "garbage",
            Self::RateLimited => "rate_limited",
            Self::Failed => "failed",
            Self::Credentials => "credentials",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::ContextLength => "context_length",
            Self::ContentPolicy => "content_policy",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether the provider did not say it, but we saw it.
    pub fn is_of_the_connection(self) -> bool {
        matches!(self, Self::Connect | Self::Broken | Self::Timeout | Self::Garbage)
    }
}

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
            Self::ContentPolicy => "does not allow what the request holds",
            Self::Unsupported => "cannot do this",
        })
    }
}

// === impl FidelityNote ===

impl FidelityNote {
    /// What stands behind a field that was emulated.
    const EMULATED: &'static str = " (emulated)";

    /// A note that `field` could not be carried.
    ///
    /// The name may be a caller's: it is written so that it fits into a header and a list, and cut to
    /// [`NOTE_FIELD_BYTES_MAX`](limits::NOTE_FIELD_BYTES_MAX).
    pub fn new(field: impl Into<String>) -> Self {
        Self { field: printable(field.into()), kind: NoteKind::Lost }
    }

    /// Reads a note as its `Display` writes it.
    pub fn parse(text: &str) -> Self {
        let (field, kind) = match text.strip_suffix(Self::EMULATED) {
            Some(field) => (field, NoteKind::Emulated),
            None => (text, NoteKind::Lost),
        };
        Self { field: field.to_owned(), kind }
    }

    /// A note that `field` was carried in other words.
    pub fn emulated(field: impl Into<String>) -> Self {
        Self { kind: NoteKind::Emulated, ..Self::new(field) }
    }

    /// One of a small set of names for the field, for counting by it: the name itself could be any text of a caller's.
    pub fn label(&self) -> &'static str {
        let head = self.field.split(['.', '[']).next().unwrap_or_default();
        COUNTED.iter().find(|known| **known == head).copied().unwrap_or("other")
    }
}

/// The first words of fields that are counted by name, all others as `other`.
const COUNTED: &[&str] = &[
    "annotations",
    "cache_control",
    "choices",
    "content",
    "context_management",
    "count_tokens",
    "finish_reason",
    "frequency_penalty",
    "generationConfig",
    "image",
    "include",
    "input_type",
    "keep_alive",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "messages",
    "metadata",
    "n",
    "options",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning",
    "reasoning_budget",
    "reasoning_effort",
    "response_format",
    "safetySettings",
    "seed",
    "service_tier",
    "show_reasoning",
    "stop",
    "store",
    "temperature",
    "tool_choice",
    "tool_result",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "usage",
    "user",
    "verbosity",
];

/// The name without what a header or a list of names cannot hold.
fn printable(name: String) -> String {
    /// All but visible ASCII, and the comma between names.
    const UNPRINTABLE: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b'%');
    let fits = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'%');
    if name.len() <= limits::NOTE_FIELD_BYTES_MAX && name.as_bytes().iter().all(fits) {
        return name;
    }
    let cut = name.floor_char_boundary(limits::NOTE_FIELD_BYTES_MAX);
    let mut shown = utf8_percent_encode(&name[..cut], UNPRINTABLE).to_string();
    if cut < name.len() {
        shown.push_str("...");
    }
    shown
}

impl Fidelity {
    /// Its name in configuration and in the header `x-hoosh-fidelity`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Strict => "strict",
            Self::Silent => "silent",
        }
    }

    /// Reads that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Report, Self::Strict, Self::Silent].into_iter().find(|mode| mode.as_str() == name)
    }
}

impl fmt::Display for FidelityNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            NoteKind::Lost => f.write_str(&self.field),
            NoteKind::Emulated => write!(f, "{}{}", self.field, Self::EMULATED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_fits_into_a_header() {
        let shown = |name: &str| FidelityNote::new(name).field;
        assert_eq!(shown("messages[3].content.image"), "messages[3].content.image");
        assert_eq!(shown("a\nb, ü%"), "a%0Ab%2C%20%C3%BC%25");
        let long = shown(&"ä".repeat(5_000));
        assert!(long.len() < 300 && long.is_ascii() && long.ends_with("..."), "{long}");
        let note = FidelityNote::emulated("a\nb");
        assert_eq!(FidelityNote::parse(&note.to_string()), note);
    }

    #[test]
    fn names_of_callers_are_not_counted_by_name() {
        let label = |name: &str| FidelityNote::new(name).label();
        assert_eq!(label("messages[3].content.image"), "messages");
        assert_eq!(label("seed"), "seed");
        assert_eq!((label("seeds"), label("")), ("other", "other"));
    }
}
