//! A signed statement of how far a log had come. Kept elsewhere, it shows that nothing before it was cut off or changed since.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::key::{AuditKey, KeyId, PublicKey, sha256};

/// What is signed begins with this, so that no other text that the key signs can be taken for a checkpoint.
const SIGNED_AS: &str = "hoosh audit checkpoint\n";

/// A signed statement of how far a log had come.
///
/// As text it is one line of JSON in the form of RFC 8785. What is signed is that line without its `signature`, behind the words
/// `hoosh audit checkpoint` and a line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// When.
    pub at: Timestamp,
    /// How many records the log had.
    pub count: u64,
    /// The first record since the checkpoint before.
    pub first: u64,
    /// The link of the last record.
    pub head: Digest,
    /// Whose signature it is.
    pub key: KeyId,
    /// Of which log.
    pub log: String,
    /// The digest of the checkpoint before, which makes them a chain of their own; zeros at the first.
    pub previous: Digest,
    /// The root of the tree over the records since then (RFC 6962).
    pub root: Digest,
    /// The sequence of the last record.
    pub seq: u64,
    signature: [u8; 64],
}

/// It is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: {0}")]
pub struct InvalidCheckpoint(String);

/// Its wire form, the fields by their names.
#[derive(Serialize, Deserialize)]
struct Wire {
    at: String,
    count: u64,
    first: u64,
    head: String,
    key: String,
    log: String,
    previous: String,
    root: String,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    v: u8,
}

/// All of a checkpoint but who signs it.
pub(crate) struct Statement<'a> {
    pub(crate) at: Timestamp,
    pub(crate) first: u64,
    pub(crate) head: Digest,
    pub(crate) log: &'a str,
    pub(crate) previous: Digest,
    pub(crate) root: Digest,
    pub(crate) seq: u64,
}

// === impl Checkpoint ===

impl Checkpoint {
    pub(crate) fn sign(statement: Statement<'_>, key: &AuditKey) -> Self {
        let Statement { at, first, head, log, previous, root, seq } = statement;
        let (key_id, log) = (key.id().clone(), log.to_owned());
        let mut checkpoint =
            Self { at, count: seq, first, head, key: key_id, log, previous, root, seq, signature: [0; 64] };
        checkpoint.signature = key.sign(&checkpoint.signed());
        checkpoint
    }

    /// Whether it was signed by the holder of this key.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.has_signed(&self.signed(), &self.signature)
    }

    /// What the next one names as `previous`.
    pub(crate) fn digest(&self) -> Digest {
        sha256(&[self.to_string().as_bytes()])
    }

    fn signed(&self) -> Vec<u8> {
        format!("{SIGNED_AS}{}", self.written(false)).into_bytes()
    }

    fn written(&self, with_signature: bool) -> String {
        let wire = Wire {
            at: written(self.at),
            count: self.count,
            first: self.first,
            head: hex::encode(self.head),
            key: self.key.as_str().to_owned(),
            log: self.log.clone(),
            previous: hex::encode(self.previous),
            root: hex::encode(self.root),
            seq: self.seq,
            signature: with_signature.then(|| hex::encode(self.signature)),
            v: 1,
        };
        // Texts and numbers, which JSON can always hold.
        serde_json::to_string(&wire).unwrap_or_default()
    }
}

impl std::fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written(true))
    }
}

impl FromStr for Checkpoint {
    type Err = InvalidCheckpoint;

    /// Only what [`Display`](std::fmt::Display) writes, byte for byte: nothing may be read into it that is not signed.
    fn from_str(text: &str) -> Result<Self, InvalidCheckpoint> {
        let invalid = |problem: &str| InvalidCheckpoint(problem.to_owned());
        let wire: Wire = serde_json::from_str(text).map_err(|error| InvalidCheckpoint(error.to_string()))?;
        if wire.v != 1 {
            return Err(invalid("it is of a later version"));
        }
        let digest = |text: &str| {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest).map(|()| digest).map_err(|_| invalid("a digest is none"))
        };
        let mut signature = [0; 64];
        hex::decode_to_slice(wire.signature.unwrap_or_default(), &mut signature)
            .map_err(|_| invalid("it has no signature"))?;
        let checkpoint = Self {
            at: wire.at.parse().map_err(|_| invalid("its time is none"))?,
            count: wire.count,
            first: wire.first,
            head: digest(&wire.head)?,
            key: KeyId::new(&wire.key),
            log: wire.log,
            previous: digest(&wire.previous)?,
            root: digest(&wire.root)?,
            seq: wire.seq,
            signature,
        };
        if checkpoint.to_string() != text {
            return Err(invalid("it is not in the form that is signed"));
        }
        Ok(checkpoint)
    }
}

impl Serialize for Checkpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw =
            serde_json::value::RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// A time as records have it: UTC, in microseconds.
pub(crate) fn written(at: Timestamp) -> String {
    format!("{at:.6}")
}
