//! A log in a folder: opened, gone on with after whatever happened to it, and written to.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::chain::{AuditChain, Opened, Recovery};
use crate::checkpoint::Checkpoint;
use crate::key::{AuditKey, KeyError, KeyRing, sha256};
use crate::segment::{self, ARCHIVE, CHECKPOINTS, LOCK, Segment};
use crate::sink::Sink;
use crate::{Moment, merkle};

/// Why a log is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to it.
    #[error("another process writes to the audit log in {}; two would write two different histories", .0.display())]
    InUse(PathBuf),
    /// The key in use before is not among those that were given.
    #[error("the audit log in {} goes by the key {key}, which is not among yours: put it before the new one in the key file", folder.display())]
    OtherKey {
        /// Where.
        folder: PathBuf,
        /// The key that is missing.
        key: String,
    },
    /// It is not as it was left, and no crash leaves it so.
    #[error("the audit log in {} is not as it was left: {problem}. Look at it with `hoosh audit verify`; to begin a new one, move the folder away", folder.display())]
    Tampered {
        /// Where.
        folder: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Its key could not be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The thread that writes could not be started.
    #[error("the thread that writes the audit log cannot be started: {0}")]
    Thread(io::Error),
}

/// A log that is opened, and what has to be written into it first.
pub(crate) struct Found {
    pub(crate) sink: FolderSink,
    pub(crate) chain: AuditChain,
    /// Lines that say how it was found.
    pub(crate) lines: Vec<u8>,
    /// The latest checkpoint.
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// Files that only grow.
#[derive(Debug)]
pub(crate) struct FolderSink {
    folder: PathBuf,
    checkpoint_folders: Vec<PathBuf>,
    /// Days that a segment stays in the folder; `None`: all do.
    keep_days: Option<u32>,
    log: Option<Growing>,
    aside: Option<Growing>,
    day: Date,
    checkpoints: Growing,
    /// Held as long as this is.
    _lock: File,
}

/// A file that only grows, by whole pieces.
#[derive(Debug)]
struct Growing {
    file: File,
    path: PathBuf,
    /// Where the last whole piece ends.
    end: u64,
    is_synced: bool,
}

/// Which key a log goes by at its beginning.
#[derive(Deserialize)]
struct OpenedBy<'a> {
    key: &'a str,
    log: &'a str,
}

/// To which key a log goes over.
#[derive(Deserialize)]
struct RotatedTo<'a> {
    new_key: &'a str,
}

/// How a log is to be opened.
pub(crate) struct Opening<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) keys: &'a KeyRing,
    pub(crate) program: &'a str,
    pub(crate) checkpoint_folders: &'a [PathBuf],
    pub(crate) keep_days: Option<u32>,
    pub(crate) now: Timestamp,
}

/// Opens a folder, and goes on with the log in it or begins one.
pub(crate) fn open(opening: &Opening<'_>) -> Result<Found, OpenError> {
    let Opening { folder, keys, program, checkpoint_folders, keep_days, now } = *opening;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    make_folder(folder).map_err(failed(folder))?;
    let lock = lock(folder)?;
    let checkpoints_path = folder.join(CHECKPOINTS);
    let checkpoints = known_checkpoints(folder, &checkpoints_path)?;
    let segments = segment::segments(folder).map_err(failed(folder))?;
    let opening_moment = Moment { at: now, since_open_us: 0 };
    let growing = Growing::open(&checkpoints_path).map_err(failed(&checkpoints_path))?;
    let mut sink = FolderSink {
        folder: folder.to_owned(),
        checkpoint_folders: checkpoint_folders.to_vec(),
        keep_days,
        log: None,
        aside: None,
        day: day_of(now),
        checkpoints: growing,
        _lock: lock,
    };
    let tampered =
        |problem: &str| OpenError::Tampered { folder: folder.to_owned(), problem: problem.to_owned() };
    let mut lines = Vec::new();
    let (mut chain, is_clean) = match segments.last() {
        None if checkpoints.is_empty() => {
            let chain = AuditChain::new(Arc::clone(keys.current()), new_name()?);
            sink.begin(1, sink.day).map_err(failed(folder))?;
            (chain, true)
        }
        None => return Err(tampered("there are checkpoints of it and no segment")),
        Some(last) => {
            let text = fs::read(&last.path).map_err(failed(&last.path))?;
            let replayed = replay(last, &text, keys, &checkpoints, folder)?;
            let Replayed { mut chain, end, mut is_clean } = replayed;
            sink.reopen(last).map_err(failed(&last.path))?;
            if let Some(checkpoint) = checkpoints.last() {
                if checkpoint.seq > chain.seq() {
                    let problem = format!(
                        "its last whole record is {}, and a checkpoint says that it had {}",
                        chain.seq(),
                        checkpoint.seq
                    );
                    return Err(tampered(&problem));
                }
                // It was kept, and its own record not written any more.
                if checkpoint.seq == chain.seq() {
                    chain.signed(checkpoint);
                    chain.write("checkpoint", checkpoint, opening_moment, &mut lines);
                }
            }
            let torn = &text[end..];
            if !torn.is_empty() {
                is_clean = false;
                let file = format!("torn-{:012}-{}.bin", chain.seq(), now.as_second());
                let path = folder.join(&file);
                set_aside(&path, torn).map_err(failed(&path))?;
                let log = sink.log.as_mut().ok_or_else(|| tampered("its segment is gone"))?;
                log.cut(end as u64).map_err(failed(&last.path))?;
                let recovery =
                    Recovery { bytes: torn.len() as u64, file: &file, sha256: hex::encode(sha256(&[torn])) };
                chain.write("recovery", &recovery, opening_moment, &mut lines);
            }
            (chain, is_clean)
        }
    };
    let current = keys.current();
    if chain.key().id() != current.id() {
        chain.rotate(Arc::clone(current), opening_moment, &mut lines);
    }
    let log = chain.log().to_owned();
    let opened = Opened {
        clean: is_clean,
        key: current.id().as_str(),
        log: &log,
        program,
        public: current.public().to_string(),
        v: 1,
    };
    chain.write("opened", &opened, opening_moment, &mut lines);
    Ok(Found { sink, chain, lines, checkpoint: checkpoints.last().cloned() })
}

struct Replayed {
    chain: AuditChain,
    /// Where the last record that is in its place ends.
    end: usize,
    /// Whether nothing was written behind the last checkpoint.
    is_clean: bool,
}

/// Goes through the records of the last segment, as far as they are in their places.
fn replay(
    last: &Segment,
    text: &[u8],
    keys: &KeyRing,
    checkpoints: &[Checkpoint],
    folder: &Path,
) -> Result<Replayed, OpenError> {
    let tampered = |problem: String| OpenError::Tampered { folder: folder.to_owned(), problem };
    let key_of = |id: &str| -> Result<Arc<AuditKey>, OpenError> {
        let other = || OpenError::OtherKey { folder: folder.to_owned(), key: id.to_owned() };
        keys.by_id(id).cloned().ok_or_else(other)
    };
    let mut chain = if last.first == 1 {
        let first = segment::lines(text).0.next().and_then(segment::line);
        match first.and_then(|line| line.body::<OpenedBy<'_>>().map(|by| (by.key, by.log))) {
            Some((key, log)) => AuditChain::new(key_of(key)?, log),
            // Torn at its very first line.
            None => AuditChain::new(Arc::clone(keys.current()), new_name()?),
        }
    } else {
        let before = checkpoints.iter().find(|checkpoint| checkpoint.seq + 1 == last.first);
        let missing = || tampered(format!("no checkpoint says what was before record {}", last.first));
        let before = before.ok_or_else(missing)?;
        AuditChain::after(key_of(before.key.as_str())?, before)
    };
    let (mut end, mut is_clean) = (0, text.is_empty());
    for all in segment::lines(text).0 {
        let Some(line) = segment::line(all) else { break };
        let Some(place) = line.place() else { break };
        if place.seq != chain.seq() + 1 || chain.key().link(chain.head(), line.record) != line.link {
            break;
        }
        if place.kind == "checkpoint"
            && let Some(checkpoint) = line.checkpoint()
        {
            chain.signed(&checkpoint);
        }
        chain.take(line.link, merkle::leaf(line.all));
        if place.kind == "rotation"
            && let Some(rotated) = line.body::<RotatedTo<'_>>()
        {
            chain.goes_by(key_of(rotated.new_key)?);
        }
        is_clean = place.kind == "checkpoint";
        end += all.len() + 1;
    }
    Ok(Replayed { chain, end, is_clean })
}

/// The checkpoints that are kept in the folder. One that a crash has torn is none.
fn known_checkpoints(folder: &Path, path: &Path) -> Result<Vec<Checkpoint>, OpenError> {
    let failed = |error| OpenError::Io { path: path.to_owned(), error };
    let read = segment::checkpoints(path).map_err(failed)?;
    let mut known = Vec::with_capacity(read.len());
    for (index, checkpoint) in read.into_iter().enumerate() {
        let tampered = |problem| OpenError::Tampered {
            folder: folder.to_owned(),
            problem: format!("{}:{}: {problem}", path.display(), index + 1),
        };
        known.push(checkpoint.map_err(tampered)?);
    }
    Ok(known)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let file = options().open(&path);
    let file = file.map_err(|error| OpenError::Io { path: path.clone(), error })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::Io { path, error }),
    }
}

/// A name that no other log has: 128 random bits.
fn new_name() -> Result<String, KeyError> {
    use ring::rand::SecureRandom;
    let mut name = [0; 16];
    ring::rand::SystemRandom::new().fill(&mut name).map_err(|_| KeyError::NoRandomness)?;
    Ok(hex::encode(name))
}

fn set_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = options().open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// For a file of ours: made where there is none, for its owner only.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whether names that were made and changed in a folder outlive a loss of power.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(crate) fn day_of(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

// === impl Growing ===

impl Growing {
    /// Opens a file behind its last whole line; what is torn behind that is written over.
    fn open(path: &Path) -> io::Result<Self> {
        let file = options().open(path)?;
        let end = segment::lines(&fs::read(path)?).1 as u64;
        let mut growing = Self { file, path: path.to_owned(), end, is_synced: true };
        growing.cut(end)?;
        Ok(growing)
    }

    fn cut(&mut self, end: u64) -> io::Result<()> {
        if self.file.metadata()?.len() > end {
            self.file.set_len(end)?;
        }
        self.end = end;
        self.file.seek(SeekFrom::Start(end)).map(drop)
    }

    /// All or nothing: a piece that is half written is cut off again.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            self.cut(self.end)?;
            return Err(error);
        }
        self.end += bytes.len() as u64;
        self.is_synced &= bytes.is_empty();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            self.file.sync_data()?;
            self.is_synced = true;
        }
        Ok(())
    }
}

// === impl FolderSink ===

impl FolderSink {
    /// Goes on in a segment that is there.
    fn reopen(&mut self, segment: &Segment) -> io::Result<()> {
        // What is torn at its end is looked at before it is cut off.
        let mut file = options().open(&segment.path)?;
        let end = file.seek(SeekFrom::End(0))?;
        self.log = Some(Growing { file, path: segment.path.clone(), end, is_synced: true });
        self.aside = Some(Growing::open(&segment.aside())?);
        self.day = segment.day;
        Ok(())
    }

    /// Moves away what is older than it must be kept here. What is beside it goes along.
    fn archive(&self, today: Date) -> io::Result<()> {
        let Some(days) = self.keep_days else { return Ok(()) };
        let oldest = today.saturating_sub(jiff::Span::new().days(i64::from(days)));
        let mut all = segment::segments(&self.folder)?;
        all.pop(); // the one at hand
        let archive = self.folder.join(ARCHIVE);
        for old in all.into_iter().filter(|segment| segment.day < oldest) {
            make_folder(&archive)?;
            for path in [old.aside(), old.path] {
                if let Some(name) = path.file_name()
                    && path.exists()
                {
                    fs::rename(&path, archive.join(name))?;
                }
            }
        }
        Ok(())
    }
}

impl Sink for FolderSink {
    fn begin(&mut self, first: u64, day: Date) -> io::Result<()> {
        let segment = Segment { first, day, path: self.folder.join(Segment::name(first, day)) };
        let log = Growing::open(&segment.path)?;
        self.aside = Some(Growing::open(&segment.aside())?);
        self.log = Some(log);
        self.day = day;
        sync_folder(&self.folder)?;
        self.archive(day)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.log {
            Some(log) => log.append(lines),
            None => Err(io::Error::other("no segment is open")),
        }
    }

    fn append_aside(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.aside {
            Some(aside) => aside.append(lines),
            None => Err(io::Error::other("no segment is open")),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        // First what stands beside: no record may be there whose salt is not.
        for file in [&mut self.aside, &mut self.log].into_iter().flatten() {
            file.sync()?;
        }
        Ok(())
    }

    fn keep_checkpoint(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        self.checkpoints.append(line.as_bytes())?;
        self.checkpoints.sync()?;
        for folder in &self.checkpoint_folders {
            make_folder(folder)?;
            let mut copy = Growing::open(&folder.join(CHECKPOINTS))?;
            copy.append(line.as_bytes())?;
            copy.sync()?;
        }
        Ok(())
    }

    fn erase(&mut self, request_id: &str) -> io::Result<Vec<u64>> {
        let mut erased = Vec::new();
        for folder in [self.folder.clone(), self.folder.join(ARCHIVE)] {
            if !folder.is_dir() {
                continue;
            }
            for segment in segment::segments(&folder)? {
                let path = segment.aside();
                let text = match fs::read(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    text => text?,
                };
                let (kept, records) = segment::without(&text, request_id);
                if records.is_empty() {
                    continue;
                }
                erased.extend(records);
                // In its place in one step, so that nobody ever sees half of it.
                let part = path.with_extension("part");
                let _ = fs::remove_file(&part);
                set_aside(&part, &kept)?;
                fs::rename(&part, &path)?;
                sync_folder(&folder)?;
                if self.aside.as_ref().is_some_and(|aside| aside.path == path) {
                    self.aside = Some(Growing::open(&path)?);
                }
            }
        }
        Ok(erased)
    }

    fn segment(&self) -> (u64, Date) {
        (self.log.as_ref().map_or(0, |log| log.end), self.day)
    }
}
