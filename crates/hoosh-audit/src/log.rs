//! The handle on a log.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_channel::oneshot;
use hoosh_core::limits::{
    AUDIT_CHECKPOINT_INTERVAL, AUDIT_CHECKPOINT_RECORDS, AUDIT_CHECKPOINT_RECORDS_MAX, AUDIT_SEGMENT_BYTES,
    AUDIT_SEGMENT_BYTES_MAX, AUDIT_SLOTS_MAX,
};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::aside::Aside;
use crate::chain::{AuditChain, Opened};
use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::folder::{self, Found, OpenError, Opening, day_of};
use crate::key::{KeyId, KeyRing};
use crate::sink::Sink;
use crate::writer::{Append, Pace, Shared, Work, Writer};
use crate::{Digest, Moment};

/// Who is told of each checkpoint, on the thread that writes.
pub type OnCheckpoint = Box<dyn FnMut(&Checkpoint) + Send>;

/// When a record outlives the process and a loss of power.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Fsync {
    /// When it is answered: [`Slot::close_durably`], [`AuditLog::append`].
    Always,
    /// At most 5 ms later, or as soon as the disk can; answered then too. The default: the disk is asked once for all records of
    /// that time, and nobody who does not ask for it waits.
    #[default]
    Batch,
    /// When the system gets to it, and at each checkpoint: it outlives the process within 5 ms, but not a loss of power.
    Never,
}

/// What happens to calls when as many are under way or waiting to be written as are allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnFull {
    /// They wait before they begin. The default: it is the disk that is slow, and not for long.
    #[default]
    Wait,
    /// They are refused.
    Refuse,
}

/// What happens to calls while nothing can be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnError {
    /// They are refused. The default: no call without its record.
    #[default]
    Refuse,
    /// They go on. Their records wait, as many as there are slots; those beyond are lost, and a record says how many.
    Continue,
}

/// How a log is kept.
pub struct Options {
    /// When a record outlives the process.
    pub fsync: Fsync,
    /// What happens when too many are under way.
    pub on_full: OnFull,
    /// What happens while nothing can be written.
    pub on_error: OnError,
    /// How many may be under way or waiting to be written, from 1 to 65,536, the default.
    pub slots: usize,
    /// Records between two checkpoints, from 1 to 100,000. Default: 1,000.
    pub checkpoint_records: u32,
    /// Longest time between a record and the checkpoint that covers it. Default: 60 s.
    pub checkpoint_interval: Duration,
    /// Size from which on it goes on in another segment, up to 1 GiB. It does so at midnight (UTC) too. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Days that a segment stays in the folder; then it is moved to `archive` in it, and its checkpoints stay. Default: all stay.
    pub keep_days: Option<u32>,
    /// Other folders that checkpoints are written to as well: where those who could change the log cannot.
    pub checkpoint_folders: Vec<PathBuf>,
    /// Who else is told of each checkpoint. It must not wait for long: nothing is written meanwhile.
    pub on_checkpoint: Option<OnCheckpoint>,
    /// Which program writes it, as the log says.
    pub program: String,
}

/// A log that is written to. To be shared as `Arc`; dropping it closes it.
pub struct AuditLog {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    slots_max: usize,
    on_full: OnFull,
    on_error: OnError,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A record that can be written, once what it is of has ended. Dropped, none is.
#[must_use = "dropping it writes nothing"]
pub struct Slot {
    shared: Arc<Shared>,
    /// `None`: there is no room, and calls go on without.
    permit: Option<OwnedSemaphorePermit>,
}

/// A wait for a record to be written: it gives the record's sequence when it is as durable as [`Fsync`] says.
#[derive(Debug)]
#[must_use = "it is written anyhow; this only waits for it"]
pub struct Written(oneshot::Receiver<Result<u64, String>>);

/// Why nothing is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many are under way, and they are not waited for.
    #[error("too many calls wait for the audit log")]
    Full,
    /// It cannot be written.
    #[error("the audit log cannot be written: {0}")]
    Failing(String),
    /// It is closed.
    #[error("the audit log is closed")]
    Closed,
}

/// How far a log has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub log: String,
    /// The sequence of the last record.
    pub seq: u64,
    /// Its link.
    pub link: Digest,
    /// The key in use.
    pub key: KeyId,
    /// The latest checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

/// How a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Entries that were written since it was opened.
    pub written: u64,
    /// Entries that wait to be written.
    pub waiting: usize,
    /// How many more may begin now.
    pub slots_left: usize,
    /// Records that were lost since it was opened, because nothing could be written and calls went on.
    pub lost: u64,
    /// Why nothing can be written, and since when.
    pub failing: Option<(String, Timestamp)>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: Fsync::default(),
            on_full: OnFull::default(),
            on_error: OnError::default(),
            slots: AUDIT_SLOTS_MAX,
            checkpoint_records: AUDIT_CHECKPOINT_RECORDS,
            checkpoint_interval: AUDIT_CHECKPOINT_INTERVAL,
            segment_bytes: AUDIT_SEGMENT_BYTES,
            keep_days: None,
            checkpoint_folders: Vec::new(),
            on_checkpoint: None,
            program: concat!("hoosh-audit ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("fsync", &self.fsync)
            .field("on_full", &self.on_full)
            .field("on_error", &self.on_error)
            .field("segment_bytes", &self.segment_bytes)
            .finish_non_exhaustive()
    }
}

// === impl AuditLog ===

impl AuditLog {
    /// Opens the log in a folder, or begins one there, and starts the thread that writes it.
    ///
    /// What a crash left behind the last whole record is set aside, and a record says so. Where the last of `keys` is not the one in
    /// use, the log goes over to it. The last segment is read.
    ///
    /// # Errors
    ///
    /// If another process writes to it, if the key in use is not among `keys`, if the log ends before a checkpoint that is kept
    /// beside it, or if a file cannot be read or written.
    pub fn open(folder: &Path, keys: &KeyRing, options: Options) -> Result<Self, OpenError> {
        let opening = Opening {
            folder,
            keys,
            program: &options.program,
            checkpoint_folders: &options.checkpoint_folders,
            keep_days: options.keep_days,
            now: Timestamp::now(),
        };
        let Found { sink, chain, lines, checkpoint } = folder::open(&opening)?;
        Self::start(Box::new(sink), chain, lines, checkpoint, options)
    }

    /// Begins a log whose lines go to a sink.
    ///
    /// # Errors
    ///
    /// If the sink cannot begin, or the thread cannot be started.
    pub fn begin(
        mut sink: Box<dyn Sink>,
        keys: &KeyRing,
        name: &str,
        options: Options,
    ) -> Result<Self, OpenError> {
        let now = Timestamp::now();
        let failed = |error| OpenError::Io { path: PathBuf::from(name), error };
        sink.begin(1, day_of(now)).map_err(failed)?;
        let mut chain = AuditChain::new(Arc::clone(keys.current()), name);
        let mut lines = Vec::new();
        let opened = Opened {
            clean: true,
            key: keys.current().id().as_str(),
            log: name,
            program: &options.program,
            public: keys.current().public().to_string(),
            v: 1,
        };
        chain.write("opened", &opened, Moment { at: now, since_open_us: 0 }, &mut lines);
        Self::start(sink, chain, lines, None, options)
    }

    fn start(
        sink: Box<dyn Sink>,
        chain: AuditChain,
        lines: Vec<u8>,
        latest: Option<Checkpoint>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let head = Head {
            log: chain.log().to_owned(),
            seq: chain.seq(),
            link: *chain.head(),
            key: chain.key().id().clone(),
            checkpoint: latest.clone(),
        };
        let shared = Arc::new(Shared::new(options.fsync, head));
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            sink,
            chain,
            pace: Pace {
                checkpoint_records: options.checkpoint_records.clamp(1, AUDIT_CHECKPOINT_RECORDS_MAX),
                checkpoint_interval: options.checkpoint_interval,
                segment_bytes: options.segment_bytes.min(AUDIT_SEGMENT_BYTES_MAX),
            },
            on_checkpoint: options.on_checkpoint,
            lines,
            aside: Vec::new(),
            unsigned_since: Some(shared.opened),
            latest,
        };
        // Here, so that who opened it knows that it can be written.
        writer.write_first().map_err(|error| OpenError::Io { path: PathBuf::from("audit log"), error })?;
        let thread = thread::Builder::new().name("hoosh-audit".to_owned());
        let thread = thread.spawn(move || writer.run()).map_err(OpenError::Thread)?;
        let slots_max = options.slots.clamp(1, AUDIT_SLOTS_MAX);
        Ok(Self {
            shared,
            slots: Arc::new(Semaphore::new(slots_max)),
            slots_max,
            on_full: options.on_full,
            on_error: options.on_error,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes a place for a record, before what it is of begins: so that its end never waits.
    ///
    /// # Errors
    ///
    /// If there is none and none is waited for, or nothing can be written and calls are not to go on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing.
    pub async fn slot(&self) -> Result<Slot, AppendError> {
        match self.try_slot() {
            Err(AppendError::Full) if self.on_full == OnFull::Wait => {
                let trouble = self.shared.trouble.notified();
                tokio::select! {
                    permit = Arc::clone(&self.slots).acquire_owned() => {
                        let permit = permit.map_err(|_| AppendError::Closed)?;
                        Ok(Slot { shared: Arc::clone(&self.shared), permit: Some(permit) })
                    }
                    // The disk does not give any room now: they are refused, or go on without.
                    () = trouble => self.try_slot(),
                }
            }
            slot => slot,
        }
    }

    /// The same without waiting.
    ///
    /// # Errors
    ///
    /// As [`slot`](Self::slot), and [`AppendError::Full`] where that would wait.
    pub fn try_slot(&self) -> Result<Slot, AppendError> {
        let is_failing = self.is_well();
        if self.slots.is_closed() {
            return Err(AppendError::Closed);
        }
        let is_failing = match (is_failing, self.on_error) {
            (Err(error), OnError::Refuse) => return Err(error),
            (failing, _) => failing.is_err(),
        };
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok();
        if permit.is_none() && !is_failing {
            return Err(AppendError::Full);
        }
        Ok(Slot { shared: Arc::clone(&self.shared), permit })
    }

    fn is_well(&self) -> Result<(), AppendError> {
        match &self.shared.state().failing {
            Some((problem, _)) => Err(AppendError::Failing(problem.clone())),
            None => Ok(()),
        }
    }

    /// Writes an entry, and answers its sequence when it is as durable as [`Fsync`] says.
    ///
    /// # Errors
    ///
    /// As [`slot`](Self::slot), or if it could not be written; it is tried again then all the same.
    ///
    /// # Cancel safety
    ///
    /// Once it was polled, it is written.
    pub async fn append(&self, entry: Entry) -> Result<u64, AppendError> {
        self.slot().await?.close_durably(entry, None).await
    }

    /// Goes over to another key: the last of a ring, if it is not the one in use. Answers the record that says so.
    ///
    /// # Errors
    ///
    /// If it could not be written.
    pub async fn rotate(&self, keys: &KeyRing) -> Result<Option<u64>, AppendError> {
        if self.shared.state().head.key == *keys.current().id() {
            return Ok(None);
        }
        let (done, told) = oneshot::channel();
        self.shared.hand_over(Work::Rotate(Arc::clone(keys.current()), done));
        told.await.map_err(|_| AppendError::Closed)?.map(Some).map_err(AppendError::Failing)
    }

    /// The same without waiting for it, where nobody can.
    pub fn rotate_soon(&self, keys: &KeyRing) {
        if self.shared.state().head.key != *keys.current().id() {
            let (done, _) = oneshot::channel();
            self.shared.hand_over(Work::Rotate(Arc::clone(keys.current()), done));
        }
    }

    /// Erases the salts and texts of a call, and writes down that `by` had it done. Answers of which records; none: there were none.
    ///
    /// # Errors
    ///
    /// If the files beside the log could not be written anew.
    pub async fn erase(&self, request_id: &str, by: &str) -> Result<Vec<u64>, AppendError> {
        let (done, told) = oneshot::channel();
        let (request_id, by) = (request_id.to_owned(), by.to_owned());
        self.shared.hand_over(Work::Erase { request_id, by, done });
        told.await.map_err(|_| AppendError::Closed)?.map_err(AppendError::Failing)
    }

    /// Signs how far the log has come, now. Answers the sequence of the record that says so.
    ///
    /// # Errors
    ///
    /// If it could not be written.
    pub async fn checkpoint(&self) -> Result<u64, AppendError> {
        let (done, told) = oneshot::channel();
        self.shared.hand_over(Work::Checkpoint(done));
        told.await.map_err(|_| AppendError::Closed)?.map_err(AppendError::Failing)
    }

    /// How far it has come, as far as it is written.
    pub fn head(&self) -> Head {
        self.shared.state().head.clone()
    }

    /// How it is.
    pub fn status(&self) -> Status {
        Status {
            written: self.shared.written.load(Ordering::Relaxed),
            waiting: self.shared.backlog(),
            slots_left: self.slots.available_permits().min(self.slots_max),
            lost: self.shared.lost_ever.load(Ordering::Relaxed),
            failing: self.shared.state().failing.clone(),
        }
    }

    /// Writes what is left, signs it, and ends. It blocks meanwhile: some seconds at most where the disk is broken.
    pub fn close(&self) {
        self.slots.close();
        self.shared.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // if it panicked, there is nobody left to write
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("status", &self.status()).finish_non_exhaustive()
    }
}

// === impl Slot ===

impl Slot {
    /// Has an entry written, with what stands beside it, and does not wait for it.
    pub fn close(self, entry: Entry, aside: Option<Aside>) {
        self.hand_over(entry, aside, None);
    }

    /// Has an entry written, and answers its sequence when it is as durable as [`Fsync`] says.
    ///
    /// # Errors
    ///
    /// If it could not be written; it is tried again then all the same.
    ///
    /// # Cancel safety
    ///
    /// It is handed over when this is called, and written also if nobody waits for it.
    pub fn close_durably(self, entry: Entry, aside: Option<Aside>) -> Written {
        let (done, told) = oneshot::channel();
        self.hand_over(entry, aside, Some(done));
        Written(told)
    }

    fn hand_over(self, entry: Entry, aside: Option<Aside>, done: Option<crate::writer::Done>) {
        let Self { shared, permit: slot } = self;
        if slot.is_none() {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            shared.lost_ever.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let moment = shared.moment();
        shared.hand_over(Work::Append(Append { entry, aside, moment, done, slot }));
    }
}

impl Future for Written {
    type Output = Result<u64, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|told| match told {
            Ok(told) => told.map_err(AppendError::Failing),
            Err(oneshot::Canceled) => Err(AppendError::Closed),
        })
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("has_room", &self.permit.is_some()).finish_non_exhaustive()
    }
}
