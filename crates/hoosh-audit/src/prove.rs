//! That one record is in a log, shown without the others.

use std::io;
use std::path::{Path, PathBuf};

use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::key::PublicKey;
use crate::segment::{self, ARCHIVE, Line};
use crate::{Digest, merkle};

/// That one record is in a log: the record, the way from it to a signed checkpoint, and whose signature it is.
///
/// As text it is one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The record's line in the log, byte for byte.
    pub line: String,
    /// The checkpoint that covers it.
    pub checkpoint: Checkpoint,
    /// The digests beside the way from the line to the checkpoint's root (RFC 6962), the lowest first.
    pub path: Vec<Digest>,
    /// Whose signature the checkpoint's is, as who made the proof says. Whoever checks it must know the key from elsewhere.
    pub public: PublicKey,
}

/// Why nothing is proven.
#[derive(Debug, thiserror::Error)]
pub enum NotProven {
    /// No record is of this call.
    #[error("no record in {} is of the call `{request_id}`", folder.display())]
    NoRecord {
        /// Where it was looked for.
        folder: PathBuf,
        /// The call.
        request_id: String,
    },
    /// No checkpoint covers it yet.
    #[error("record {seq} is not covered by a checkpoint yet; try again when the next one is signed")]
    Unsigned {
        /// The record.
        seq: u64,
    },
    /// A checkpoint does not agree with the records before it, or is signed by another key.
    #[error("record {seq} cannot be proven: {problem}; `hoosh audit verify` says more")]
    Broken {
        /// The record.
        seq: u64,
        /// Why.
        problem: String,
    },
    /// A file could not be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// It proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this proves nothing: {0}")]
pub struct InvalidProof(String);

#[derive(Serialize, Deserialize)]
struct Wire {
    checkpoint: Box<serde_json::value::RawValue>,
    line: String,
    path: Vec<String>,
    public: String,
    v: u8,
}

/// Shows that a call's record is in a log: its latest one, if it has several.
///
/// # Errors
///
/// If there is no such record, or nothing signed covers it.
pub fn prove(folder: &Path, request_id: &str, publics: &[PublicKey]) -> Result<Proof, NotProven> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| NotProven::Io { path, error }
    };
    let needle = serde_json::to_string(request_id).unwrap_or_default();
    let finder = memmem::Finder::new(needle.as_bytes());
    let mut leaves: Vec<Digest> = Vec::new();
    // Its line, its sequence and its place among the leaves.
    let mut found: Option<(String, u64, usize)> = None;
    let mut proof = None;
    let archive = folder.join(ARCHIVE);
    for part in [&archive, folder].into_iter().filter(|part| part.is_dir()) {
        for segment in segment::segments(part).map_err(failed(part))? {
            let text = std::fs::read(&segment.path).map_err(failed(&segment.path))?;
            for all in segment::lines(&text).0 {
                let Some(line) = segment::line(all) else { continue };
                let place = line.place();
                if place.is_some_and(|place| place.kind == "checkpoint") {
                    if let (Some((line, seq, index)), Some(checkpoint)) = (found.take(), line.checkpoint()) {
                        proof = Some(proven(line, seq, index, &leaves, checkpoint, publics)?);
                    }
                    leaves.clear();
                }
                leaves.push(merkle::leaf(all));
                if let Some(place) = place
                    && finder.find(all).is_some()
                    && is_of(&line, request_id)
                {
                    let text = String::from_utf8_lossy(all).into_owned();
                    found = Some((text, place.seq, leaves.len() - 1));
                }
            }
        }
    }
    match (proof, found) {
        (Some(proof), _) => Ok(proof),
        (None, Some((_, seq, _))) => Err(NotProven::Unsigned { seq }),
        (None, None) => {
            Err(NotProven::NoRecord { folder: folder.to_owned(), request_id: request_id.to_owned() })
        }
    }
}

fn is_of(line: &Line<'_>, request_id: &str) -> bool {
    #[derive(Deserialize)]
    struct Body {
        request_id: Option<String>,
    }
    let kind = line.place().map(|place| place.kind);
    matches!(kind, Some("call" | "refused" | "request" | "admin"))
        && line.body::<Body>().and_then(|body| body.request_id).as_deref() == Some(request_id)
}

fn proven(
    line: String,
    seq: u64,
    index: usize,
    leaves: &[Digest],
    checkpoint: Checkpoint,
    publics: &[PublicKey],
) -> Result<Proof, NotProven> {
    let broken = |problem: &str| NotProven::Broken { seq, problem: problem.to_owned() };
    let public = publics.iter().find(|public| checkpoint.is_signed_by(public));
    let public =
        *public.ok_or_else(|| broken("the next checkpoint is not signed by a key that was given"))?;
    let proof = Proof { line, checkpoint, path: merkle::path(leaves, index), public };
    proof.check(&public).map_err(|error| broken(&error.0))?;
    Ok(proof)
}

// === impl Proof ===

impl Proof {
    /// Whether it proves its line by this key's signature. Answers the sequence of the record.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn check(&self, public: &PublicKey) -> Result<u64, InvalidProof> {
        let invalid = |problem: &str| InvalidProof(problem.to_owned());
        let Checkpoint { first, seq: last, root, .. } = self.checkpoint;
        if !self.checkpoint.is_signed_by(public) {
            return Err(invalid("its checkpoint is not signed by this key"));
        }
        let line = segment::line(self.line.as_bytes()).ok_or_else(|| invalid("its line is no record's"))?;
        let seq = line.place().ok_or_else(|| invalid("its line is no record's"))?.seq;
        if seq < first || seq > last {
            return Err(invalid("its checkpoint does not cover the record"));
        }
        let leaf = merkle::leaf(self.line.as_bytes());
        match merkle::root_by_path(leaf, seq - first, last - first + 1, &self.path) {
            Some(reached) if reached == root => Ok(seq),
            _ => Err(invalid("the record is not the one that was signed for")),
        }
    }
}

impl std::fmt::Display for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wire = Wire {
            checkpoint: serde_json::value::RawValue::from_string(self.checkpoint.to_string())
                .map_err(|_| std::fmt::Error)?,
            line: self.line.clone(),
            path: self.path.iter().map(hex::encode).collect(),
            public: self.public.to_string(),
            v: 1,
        };
        f.write_str(&serde_json::to_string(&wire).map_err(|_| std::fmt::Error)?)
    }
}

impl std::str::FromStr for Proof {
    type Err = InvalidProof;

    fn from_str(text: &str) -> Result<Self, InvalidProof> {
        let wire: Wire = serde_json::from_str(text).map_err(|error| InvalidProof(error.to_string()))?;
        if wire.v != 1 {
            return Err(InvalidProof("it is of a later version".to_owned()));
        }
        let mut path = Vec::with_capacity(wire.path.len());
        for digits in &wire.path {
            let mut digest = [0; 32];
            hex::decode_to_slice(digits, &mut digest).map_err(|error| InvalidProof(error.to_string()))?;
            path.push(digest);
        }
        Ok(Self {
            line: wire.line,
            checkpoint: wire
                .checkpoint
                .get()
                .parse()
                .map_err(|error: crate::InvalidCheckpoint| InvalidProof(error.to_string()))?,
            path,
            public: wire
                .public
                .parse()
                .map_err(|error: crate::InvalidPublicKey| InvalidProof(error.to_string()))?,
        })
    }
}
