//! What waits to be written, and the thread that writes it.
//!
//! Whoever appends never waits. What waits is bounded where calls come in: above so many rows nothing is reserved.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use futures_channel::oneshot;
use hoosh_core::limits::{
    JOURNAL_BATCH_ROWS_MAX, JOURNAL_CLOSE_TRIES, JOURNAL_GROUP_ROWS, JOURNAL_LINGER, JOURNAL_RETRY_FIRST,
    JOURNAL_RETRY_MAX, JOURNAL_ROWS_MAX, USAGE_QUESTIONS_MAX,
};

use super::store::{OpenError, Store};
use crate::books::Booking;
use crate::ledger::{Answer, BudgetWatch};
use crate::refusal::LedgerFault;
use crate::usage::UsageRow;

/// What is written together: a call's row, and what was booked of it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) row: Option<Box<UsageRow>>,
    pub(super) bookings: Vec<Booking>,
}

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct Journal {
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    /// Entries that are not on disk.
    backlog: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: Vec<Entry>,
    /// Who wants to know when all entries so far are on disk.
    listeners: Vec<Listener<()>>,
    forgets: Vec<Forget>,
    /// What else is to be written, each between two groups.
    jobs: VecDeque<Job>,
    is_closed: bool,
    /// Why the last group could not be written.
    fault: Option<LedgerFault>,
}

type Listener<T> = oneshot::Sender<Result<T, LedgerFault>>;

#[derive(Debug)]
struct Forget {
    rows_before_ms: i64,
    windows_before_ms: i64,
    deleted: u64,
    listener: Listener<u64>,
}

/// Something to be done with the file by the thread that writes.
struct Job(Box<dyn FnOnce(&mut Store) + Send>);

/// What the thread does next.
struct Work {
    entries: Vec<Entry>,
    listeners: Vec<Listener<()>>,
    forget: Option<Forget>,
    job: Option<Job>,
    is_closed: bool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.row.is_none() && self.bookings.is_empty()
    }
}

// === impl Journal ===

impl Journal {
    pub(super) fn start(store: Store, watch: Option<Arc<dyn BudgetWatch>>) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::default());
        let path = store.path().to_owned();
        let writer = Writer { queue: Arc::clone(&queue), store, watch };
        let writer = thread::Builder::new()
            .name("hoosh-ledger".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { path, source })?;
        Ok(Self { queue, writer: Some(writer) })
    }

    pub(super) fn append(&self, entry: Entry) {
        if !entry.is_empty() {
            self.queue.push(entry, None);
        }
    }

    /// Answers when it is on disk, with everything before it.
    pub(super) fn append_and_wait(&self, entry: Entry) -> Answer<'static, Result<(), LedgerFault>> {
        let (listener, written) = oneshot::channel();
        self.queue.push(entry, Some(listener));
        Answer::later(async move { written.await.unwrap_or_else(|_| Err(stopped())) })
    }

    pub(super) fn forget(
        &self,
        rows_before_ms: i64,
        windows_before_ms: i64,
    ) -> Answer<'static, Result<u64, LedgerFault>> {
        let (listener, done) = oneshot::channel();
        let forget = Forget { rows_before_ms, windows_before_ms, deleted: 0, listener };
        self.queue.lock().forgets.push(forget);
        self.queue.filled.notify_one();
        Answer::later(async move { done.await.unwrap_or_else(|_| Err(stopped())) })
    }

    /// Has the thread do something with the file once it has written what waits, and answers what came of it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        act: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'static, Result<T, LedgerFault>>
    where
        Result<T, LedgerFault>: Unpin,
    {
        let (listener, done) = oneshot::channel();
        let job = Job(Box::new(move |store| {
            drop(listener.send(act(store).map_err(|error| fault(what, &error))));
        }));
        let mut waiting = self.queue.lock();
        if waiting.jobs.len() >= USAGE_QUESTIONS_MAX {
            return Answer::now(Err(LedgerFault(format!(
                "has {USAGE_QUESTIONS_MAX} corrections to write; ask again later"
            ))));
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.queue.filled.notify_one();
        Answer::later(async move { done.await.unwrap_or_else(|_| Err(stopped())) })
    }

    pub(super) fn backlog(&self) -> usize {
        self.queue.backlog.load(Ordering::Relaxed)
    }

    /// Whether calls may come that will have to be written.
    pub(super) fn has_room(&self) -> Result<(), LedgerFault> {
        let backlog = self.backlog();
        if backlog < JOURNAL_ROWS_MAX {
            return Ok(());
        }
        let fault = self.queue.lock().fault.clone();
        Err(fault.unwrap_or_else(|| LedgerFault(format!("has {backlog} calls to write and cannot keep up"))))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.filled.notify_one();
        if let Some(writer) = self.writer.take() {
            // It has told of its own failures; a panic there is on standard error already.
            let _ = writer.join();
        }
    }
}

fn stopped() -> LedgerFault {
    LedgerFault("has stopped and writes nothing any more".to_owned())
}

// === impl Queue ===

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: Entry, listener: Option<Listener<()>>) {
        let is_urgent = listener.is_some();
        let mut waiting = self.lock();
        if !entry.is_empty() {
            waiting.entries.push(entry);
            self.backlog.fetch_add(1, Ordering::Relaxed);
        }
        waiting.listeners.extend(listener);
        // The thread sleeps until there is a first one, and then until there are enough.
        let is_due = is_urgent || matches!(waiting.entries.len(), 1 | JOURNAL_GROUP_ROWS);
        drop(waiting);
        if is_due {
            self.filled.notify_one();
        }
    }

    /// Waits for something to do, and a little for more.
    fn take(&self) -> Work {
        let mut waiting = self.lock();
        while waiting.is_idle() && !waiting.is_closed {
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let deadline = Instant::now() + JOURNAL_LINGER;
        while !waiting.is_due() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting = self.filled.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let entries = if waiting.entries.len() > JOURNAL_BATCH_ROWS_MAX {
            waiting.entries.drain(..JOURNAL_BATCH_ROWS_MAX).collect()
        } else {
            mem::take(&mut waiting.entries)
        };
        // Whoever listens wants all of them.
        let listeners =
            if waiting.entries.is_empty() { mem::take(&mut waiting.listeners) } else { Vec::new() };
        let (forget, is_closed) = (waiting.forgets.pop(), waiting.is_closed);
        // Behind all that was settled before it was asked for.
        let job = if waiting.entries.is_empty() { waiting.jobs.pop_front() } else { None };
        Work { entries, listeners, forget, job, is_closed }
    }

    /// Waits after a failure, unless it is closed.
    fn rest(&self, time: Duration) -> bool {
        let waiting = self.lock();
        if waiting.is_closed {
            drop(waiting);
            thread::sleep(time);
            return true;
        }
        let deadline = Instant::now() + time;
        let mut waiting = waiting;
        while !waiting.is_closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting = self.filled.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.is_closed
    }
}

impl Waiting {
    fn is_idle(&self) -> bool {
        self.entries.is_empty()
            && self.listeners.is_empty()
            && self.forgets.is_empty()
            && self.jobs.is_empty()
    }

    /// Whether there is no point in waiting for more.
    fn is_due(&self) -> bool {
        self.is_closed
            || self.entries.len() >= JOURNAL_GROUP_ROWS
            || !self.listeners.is_empty()
            || !self.jobs.is_empty()
            || (self.entries.is_empty() && !self.forgets.is_empty())
    }
}

/// The thread that writes.
struct Writer {
    queue: Arc<Queue>,
    store: Store,
    watch: Option<Arc<dyn BudgetWatch>>,
}

// === impl Writer ===

impl Writer {
    fn run(mut self) {
        loop {
            let Work { entries, listeners, forget, job, is_closed } = self.queue.take();
            let is_last = is_closed && entries.is_empty() && job.is_none();
            let written = if entries.is_empty() { Ok(()) } else { self.write(&entries) };
            let is_given_up = match written {
                Ok(()) => {
                    listeners.into_iter().for_each(|listener| drop(listener.send(Ok(()))));
                    false
                }
                Err(fault) => {
                    listeners.into_iter().for_each(|listener| drop(listener.send(Err(fault.clone()))));
                    !self.write_again(&entries, fault)
                }
            };
            self.queue.backlog.fetch_sub(entries.len(), Ordering::Relaxed);
            if let Some(forget) = forget {
                self.forget(forget);
            }
            if let Some(Job(act)) = job {
                act(&mut self.store);
            }
            if is_last || is_given_up {
                return;
            }
        }
    }

    fn write(&mut self, entries: &[Entry]) -> Result<(), LedgerFault> {
        self.store.write(entries).map_err(|error| fault("write", &error))
    }

    /// Tries until the group is on disk. `false`: it is closed, and gives up.
    fn write_again(&mut self, entries: &[Entry], mut fault: LedgerFault) -> bool {
        let mut rest = JOURNAL_RETRY_FIRST;
        let mut tries_after_close = 0;
        self.tell(&fault);
        loop {
            self.queue.lock().fault = Some(fault.clone());
            // Who came since waits for this group too; it is told now instead of when the disk is well.
            let listeners = mem::take(&mut self.queue.lock().listeners);
            listeners.into_iter().for_each(|listener| drop(listener.send(Err(fault.clone()))));
            if self.queue.rest(rest) {
                // A stop waits less than a disk is waited for.
                rest = if tries_after_close == 0 { JOURNAL_RETRY_FIRST } else { rest };
                tries_after_close += 1;
            }
            match self.write(entries) {
                Ok(()) => {
                    self.queue.lock().fault = None;
                    return true;
                }
                Err(again) => fault = again,
            }
            if tries_after_close >= JOURNAL_CLOSE_TRIES {
                let lost = self.queue.backlog.load(Ordering::Relaxed);
                self.tell(&LedgerFault(format!(
                    "is closed with {lost} calls that it could not write: it {}",
                    fault.0
                )));
                return false;
            }
            rest = (rest * 2).min(JOURNAL_RETRY_MAX);
        }
    }

    fn tell(&self, fault: &LedgerFault) {
        if let Some(watch) = &self.watch {
            watch.fault(fault);
        }
    }

    /// Deletes a piece, and comes back for the next one after whoever waits.
    fn forget(&mut self, mut forget: Forget) {
        let deleted = self.store.forget_some(forget.rows_before_ms);
        match deleted {
            Ok(0) => {
                let windows = self.store.forget_windows(forget.windows_before_ms);
                let answer = windows.map(|_| forget.deleted).map_err(|error| fault("delete", &error));
                drop(forget.listener.send(answer));
            }
            Ok(deleted) => {
                forget.deleted += deleted as u64;
                self.queue.lock().forgets.push(forget);
            }
            Err(error) => drop(forget.listener.send(Err(fault("delete", &error)))),
        }
    }
}

fn fault(what: &str, error: &rusqlite::Error) -> LedgerFault {
    LedgerFault(format!("cannot {what}: {error}"))
}
