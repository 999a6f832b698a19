//! What is written down: calls, and what else happened to a gateway.
//!
//! The fields of every type here stand in the order of their names, which is the order that RFC 8785 writes them in.

use std::collections::BTreeMap;

use hoosh_core::{NanoUsd, Usage};
use serde::{Serialize, Serializer};

/// The largest whole number that every reader of JSON reads exactly (RFC 8785, 3.2.2.3): 2^53 - 1. What is more is written as this.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Something to be written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A call that was tried.
    Call(Box<CallEntry>),
    /// A call that was turned away before it was tried: by its key, a limit, a budget, its form.
    Refused(Box<CallEntry>),
    /// A question to the gateway itself: which models there are, what was used.
    Request(Box<CallEntry>),
    /// Something that only who runs the gateway may do to it.
    Admin(Box<CallEntry>),
    /// Another configuration is in use, or one was refused.
    Config(EventEntry),
    /// A key that calls come with was made, changed or revoked.
    Key(EventEntry),
    /// Anything else that a program wants to be able to show.
    Note(EventEntry),
}

/// A call, as the log has it. What is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CallEntry {
    /// What the caller was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Content>,
    /// How many providers were asked.
    #[serde(serialize_with = "number")]
    pub attempts: u64,
    /// Who called: the name of a key, never the key.
    pub caller: String,
    /// The configuration that it was answered by: its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What it cost; `None` where no price is known. Unit: 1e-9 US dollars.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nanos")]
    pub cost_nano_usd: Option<NanoUsd>,
    /// Under which name the routing decision is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// What else there is to say of it. The names are of small letters, digits and `_`; others are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "fields")]
    pub detail: BTreeMap<String, String>,
    /// In which API's terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// From its beginning to its end. Unit: ms.
    #[serde(serialize_with = "number")]
    pub duration_ms: u64,
    /// What went wrong, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Others whose work counts too: hedges, streams that broke.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<LegEntry>,
    /// `GET`, `POST`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The model that answered, as its provider names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model as the caller named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_asked: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The path that was called, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The pools that it was charged to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What the caller sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Content>,
    /// The name of the call, that its caller was told too.
    pub request_id: String,
    /// The status that the caller was answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// What it took.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "usage")]
    pub usage: Option<Usage>,
}

/// Bytes that were sent or given, without saying what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Content {
    /// How many.
    #[serde(serialize_with = "number")]
    pub bytes: u64,
    /// The SHA-256 of the salt and the bytes behind it: 64 hexadecimal digits. The salt is beside the log, under the record's
    /// sequence; without it the digest says nothing of short texts either.
    pub digest: String,
}

/// Somebody whose work on a call counts beside that of who answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LegEntry {
    /// What it cost. Unit: 1e-9 US dollars.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nanos")]
    pub cost_nano_usd: Option<NanoUsd>,
    /// What became of it, in a word.
    pub kind: String,
    /// The model, as its provider names it.
    pub model: String,
    /// Who.
    pub provider: String,
    /// Tokens, as far as they were counted.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    pub tokens: Option<u64>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a whole answer.
    Answered,
    /// It was turned away before it was tried.
    Refused,
    /// Without an answer.
    Failed,
    /// With an answer that broke in the middle.
    Truncated,
    /// The caller left, or the gateway stopped, before its end.
    #[default]
    Cancelled,
}

/// Something that happened beside calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EventEntry {
    /// What, in a word or two: `reload`, `create`, `revoke`.
    pub action: String,
    /// Who did it.
    pub by: String,
    /// What there is to say of it. Their names are of small letters, digits and `_`; others are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "fields")]
    pub fields: BTreeMap<String, String>,
}

// === impl Entry ===

impl Entry {
    /// One word, as the record has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::Refused(_) => "refused",
            Self::Request(_) => "request",
            Self::Admin(_) => "admin",
            Self::Config(_) => "config",
            Self::Key(_) => "key",
            Self::Note(_) => "note",
        }
    }

    /// The name of the call that it is of.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Call(call) | Self::Refused(call) | Self::Request(call) | Self::Admin(call) => {
                Some(&call.request_id)
            }
            Self::Config(_) | Self::Key(_) | Self::Note(_) => None,
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Call(call) | Self::Refused(call) | Self::Request(call) | Self::Admin(call) => {
                call.serialize(serializer)
            }
            Self::Config(event) | Self::Key(event) | Self::Note(event) => event.serialize(serializer),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// One word, as the record has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Truncated => "truncated",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a call took, part by part; what its provider did not say is left out.
#[derive(Serialize)]
struct UsageParts {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    audio_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    audio_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    cache_read: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    cache_write_1h: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    cache_write_5m: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    input: Option<u64>,
    known: &'static str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    output: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_if")]
    reasoning: Option<u64>,
}

fn usage<S: Serializer>(usage: &Option<Usage>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(usage) = usage else { return serializer.serialize_none() };
    UsageParts {
        audio_in: usage.audio_in,
        audio_out: usage.audio_out,
        cache_read: usage.cache_read,
        cache_write_1h: usage.cache_write_1h,
        cache_write_5m: usage.cache_write_5m,
        input: usage.input,
        known: usage.provenance.as_str(),
        output: usage.output,
        reasoning: usage.reasoning,
    }
    .serialize(serializer)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn number<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64((*number).min(NUMBER_MAX))
}

fn number_if<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn nanos<S: Serializer>(amount: &Option<NanoUsd>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(amount) = amount else { return serializer.serialize_none() };
    let most = NUMBER_MAX as i64;
    serializer.serialize_i64(amount.0.clamp(-most, most))
}

/// Names of plain letters alone: their order is the same by bytes and by UTF-16, which RFC 8785 sorts by.
fn fields<S: Serializer>(fields: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    let is_plain = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    serializer.collect_map(fields.iter().filter(|(name, _)| is_plain(name)))
}
