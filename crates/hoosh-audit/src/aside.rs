//! What stands beside the log and not in it, since it may have to be erased: salts, and texts where they are kept.

use std::fmt;

use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::entry::Content;
use crate::key::KeyError;

/// What makes a call's digests say nothing to those who guess: 128 random bits of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 16]);

/// What is kept beside the log of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// What its digests are salted with.
    pub salt: Salt,
    /// What the caller sent, where that is kept. The record's digest covers it.
    pub request: Option<String>,
    /// What the caller was given, where that is kept.
    pub answer: Option<String>,
}

/// The digest of bytes that come one after another.
#[derive(Clone)]
pub struct ContentDigest {
    context: Context,
    bytes: u64,
}

/// Its wire form: a line of the file beside a segment. The last line of a sequence counts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AsideLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<String>,
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
    pub(crate) salt: String,
    pub(crate) seq: u64,
}

// === impl Salt ===

impl Salt {
    /// Draws one.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`].
    pub fn draw() -> Result<Self, KeyError> {
        let mut salt = [0; 16];
        SystemRandom::new().fill(&mut salt).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self(salt))
    }

    /// Begins the digest of a content.
    pub fn digest(&self) -> ContentDigest {
        let mut context = Context::new(&SHA256);
        context.update(&self.0);
        ContentDigest { context, bytes: 0 }
    }

    /// The digest of a content that is there as a whole.
    pub fn content(&self, bytes: &[u8]) -> Content {
        let mut digest = self.digest();
        digest.update(bytes);
        digest.finish()
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut salt = [0; 16];
        hex::decode_to_slice(text, &mut salt).ok()?;
        Some(Self(salt))
    }
}

impl fmt::Debug for Salt {
    /// Not the salt itself: it is as good as what it salts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

// === impl ContentDigest ===

impl ContentDigest {
    /// More bytes of it.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// It ends here.
    pub fn finish(self) -> Content {
        Content { bytes: self.bytes, digest: hex::encode(self.context.finish()) }
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentDigest").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

// === impl Aside ===

impl Aside {
    pub(crate) fn write(self, seq: u64, request_id: &str, lines: &mut Vec<u8>) {
        let line = AsideLine {
            answer: self.answer,
            id: request_id.to_owned(),
            request: self.request,
            salt: hex::encode(self.salt.0),
            seq,
        };
        let _ = serde_json::to_writer(&mut *lines, &line); // of texts, into memory: it cannot fail
        lines.push(b'\n');
    }
}
