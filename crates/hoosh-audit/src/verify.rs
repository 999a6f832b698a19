//! Whether a log is as it was written.

mod fault;
mod name;
mod walk;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub use self::fault::{Fault, FaultKind};
use self::walk::Walk;
use crate::Digest;
use crate::checkpoint::Checkpoint;
use crate::key::{KeyRing, PublicKey};
use crate::segment::{self, ARCHIVE, CHECKPOINTS, LOCK, Segment};

/// What a log is checked with.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The keys that it was written with: each record is checked, and the first that is wrong is named.
    Keys(KeyRing),
    /// Public keys: what signed checkpoints cover is checked, and the two are named between which something is wrong. A rotation
    /// that one of them signed is followed.
    Public(Vec<PublicKey>),
}

/// Which log is checked, and how.
#[derive(Debug, Clone)]
pub struct Check<'a> {
    /// Where it is.
    pub folder: &'a Path,
    /// With what.
    pub trust: &'a Trust,
    /// Checkpoints that were kept elsewhere, beside those in the folder. Those of other logs are passed over.
    pub checkpoints: &'a [Checkpoint],
    /// Whether older segments may be missing, since they are archived elsewhere. What is left must begin behind a signed checkpoint.
    pub is_archived_elsewhere: bool,
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were read.
    pub bytes: u64,
    /// All there are.
    pub bytes_total: u64,
    /// Records that were read.
    pub records: u64,
}

/// What a log that is as it was written holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Its name.
    pub log: String,
    /// How many records were read.
    pub records: u64,
    /// The sequence of the first of them.
    pub first: u64,
    /// The sequence of the last of them.
    pub last: u64,
    /// The link of that one.
    pub head: Digest,
    /// When that was written.
    pub last_at: Option<Timestamp>,
    /// The last record that a signed checkpoint covers; 0: none is. Whoever had only a public key knows nothing of those behind it.
    pub signed_to: u64,
    /// Checkpoints that agree with it.
    pub checkpoints: u64,
    /// How often it went over to another key.
    pub rotations: u64,
    /// What crashes tore, as the log itself says: behind which record, and in which file it is.
    pub recoveries: Vec<(u64, String)>,
    /// Records that could not be written while calls went on, as the log itself says.
    pub lost: u64,
    /// Calls whose salts and texts were erased, as the log itself says.
    pub erased: u64,
    /// Texts beside the log that are those of their records.
    pub texts: u64,
    /// Bytes at the end of a log that is being written to and are no whole record yet.
    pub unfinished: u64,
}

/// Why a log does not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not as it was written.
    #[error(transparent)]
    Fault(Box<Fault>),
    /// There is no log.
    #[error("there is no audit log in {}", .0.display())]
    Nothing(PathBuf),
    /// It cannot be checked with what was given.
    #[error("the log goes by the key {key} from record {seq} on, which is not among those given")]
    UnknownKey {
        /// The key that is needed.
        key: String,
        /// From which record on.
        seq: u64,
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

// === impl VerifyError ===

impl VerifyError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}

/// Checks a log from its first record to its last. `progress` is told after each MiB or so.
///
/// It may be written to meanwhile.
///
/// # Errors
///
/// The first thing that is wrong with it, or why it cannot be checked.
pub fn verify(check: &Check<'_>, progress: impl FnMut(Progress)) -> Result<Verified, VerifyError> {
    let Check { folder, trust, checkpoints, is_archived_elsewhere } = *check;
    // Before the segments, so that no checkpoint is of records that are written since those were read.
    let kept = folder.join(CHECKPOINTS);
    let mut known = Vec::new();
    for (index, read) in segment::checkpoints(&kept).map_err(VerifyError::io(&kept))?.into_iter().enumerate()
    {
        let place = format!("{}:{}", kept.display(), index + 1);
        let fault = |problem| Fault::new(FaultKind::Checkpoint { problem }, place);
        known.push(read.map_err(|problem| VerifyError::Fault(Box::new(fault(problem))))?);
    }
    let is_live = fs::File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock_shared().is_err());
    let segments = all_segments(folder)?;
    if segments.is_empty() && known.is_empty() {
        return Err(VerifyError::Nothing(folder.to_owned()));
    }
    let walk = Walk::new(trust, known, checkpoints, is_archived_elsewhere, is_live);
    walk.run(&segments, progress)
}

/// The segments of a folder, those in its archive before them.
fn all_segments(folder: &Path) -> Result<Vec<Segment>, VerifyError> {
    let archive = folder.join(ARCHIVE);
    let mut all = Vec::new();
    if archive.is_dir() {
        all.extend(segment::segments(&archive).map_err(VerifyError::io(&archive))?);
    }
    match segment::segments(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        here => all.extend(here.map_err(VerifyError::io(folder))?),
    }
    all.sort();
    Ok(all)
}
