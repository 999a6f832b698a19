//! What is wrong with a log, in words.

use std::fmt;

/// The first thing that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Where: a file and a line, from 1.
    pub place: String,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// A record is not what was written.
    Edited {
        /// Its sequence.
        seq: u64,
    },
    /// Records are missing.
    Deleted {
        /// The first of them.
        from: u64,
        /// The last.
        to: u64,
    },
    /// There is a line that was never written there.
    Inserted {
        /// The record that it stands before.
        before: u64,
    },
    /// A record stands elsewhere.
    Reordered {
        /// The one that should be here.
        expected: u64,
        /// The one that is.
        found: u64,
    },
    /// The end is missing.
    CutOff {
        /// The last record that is there.
        last: u64,
        /// A record that a signed checkpoint says was there. `None`: what is there ends in the middle of a record.
        checkpoint: Option<u64>,
    },
    /// From a record on nothing was written with the key that it should be: it was made anew with another one.
    Resigned {
        /// That record.
        from: u64,
    },
    /// Something of what a signed checkpoint covers is not what was written: by one who has the key, or seen by one who has not.
    Between {
        /// The first record that it may be.
        from: u64,
        /// The last, which the checkpoint is of.
        to: u64,
    },
    /// A checkpoint is none, or nobody's whose key was given.
    Checkpoint {
        /// Why.
        problem: String,
    },
    /// A text beside the log is not the one that its record is of.
    Text {
        /// The record.
        seq: u64,
        /// `request` or `answer`.
        which: &'static str,
    },
}

// === impl Fault ===

impl Fault {
    pub(crate) fn new(kind: FaultKind, place: String) -> Self {
        Self { kind, place }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.kind)
    }
}

impl std::error::Error for Fault {}

// === impl FaultKind ===

impl FaultKind {
    /// One word for scripts.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Edited { .. } => "edited",
            Self::Deleted { .. } => "deleted",
            Self::Inserted { .. } => "inserted",
            Self::Reordered { .. } => "reordered",
            Self::CutOff { .. } => "cut_off",
            Self::Resigned { .. } => "resigned",
            Self::Between { .. } => "between",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Text { .. } => "text",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edited { seq } => write!(f, "record {seq} was edited"),
            Self::Deleted { from, to } if from == to => write!(f, "record {from} was deleted"),
            Self::Deleted { from, to } => write!(f, "records {from} to {to} were deleted"),
            Self::Inserted { before } => write!(f, "a line was inserted before record {before}"),
            Self::Reordered { expected, found } => {
                write!(f, "records were reordered: {found} stands where {expected} was written")
            }
            Self::CutOff { last, checkpoint: Some(seq) } => {
                write!(
                    f,
                    "the end was cut off: the last record is {last}, and a signed checkpoint is of record {seq}"
                )
            }
            Self::CutOff { last, checkpoint: None } => {
                write!(f, "the end was cut off in the middle of the record after {last}")
            }
            Self::Resigned { from } => {
                write!(f, "from record {from} on it was written anew, not with the key that it should be")
            }
            Self::Between { from, to } => {
                write!(f, "records {from} to {to} are not those that the checkpoint of {to} was signed for")
            }
            Self::Checkpoint { problem } => write!(f, "a checkpoint does not hold: {problem}"),
            Self::Text { seq, which } => {
                write!(f, "the {which} that is kept beside record {seq} is not the one that it is of")
            }
        }
    }
}
