//! The thread that writes a log.
//!
//! Whoever hands something over never waits. What waits is bounded by the slots that are given out for it.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use hoosh_core::limits::{AUDIT_CLOSE_TRIES, AUDIT_LINGER, AUDIT_RETRY_FIRST, AUDIT_RETRY_MAX};
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::aside::Aside;
use crate::chain::{AuditChain, Erased, Lost, Moment};
use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::folder::day_of;
use crate::key::AuditKey;
use crate::log::{Fsync, Head, OnCheckpoint};
use crate::sink::Sink;

/// Something for the thread to do. They are done in the order in which they are handed over.
pub(crate) enum Work {
    Append(Append),
    Rotate(Arc<AuditKey>, Done),
    Erase { request_id: String, by: String, done: oneshot::Sender<Result<Vec<u64>, String>> },
    Checkpoint(Done),
}

/// Told the sequence once it is where it outlives the process, or why that may not be so.
pub(crate) type Done = oneshot::Sender<Result<u64, String>>;

/// An entry to be written.
pub(crate) struct Append {
    pub(crate) entry: Entry,
    pub(crate) aside: Option<Aside>,
    pub(crate) moment: Moment,
    pub(crate) done: Option<Done>,
    /// Free again once it is written.
    pub(crate) slot: Option<OwnedSemaphorePermit>,
}

/// What the thread and those who hand work over share.
pub(crate) struct Shared {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    pub(crate) fsync: Fsync,
    pub(crate) opened: Instant,
    /// Records that were let go because nothing could be written, and not told in the log yet.
    pub(crate) lost: AtomicU64,
    /// All of them.
    pub(crate) lost_ever: AtomicU64,
    pub(crate) written: AtomicU64,
    /// Wakes those who wait for room when nothing can be written any more.
    pub(crate) trouble: Notify,
    /// How far it has come, and what is wrong.
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    /// Whether the thread sleeps until somebody wakes it.
    is_idle: bool,
    is_closed: bool,
}

pub(crate) struct State {
    pub(crate) head: Head,
    /// Why nothing can be written, and since when.
    pub(crate) failing: Option<(String, Timestamp)>,
}

/// When a log goes on to something else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) checkpoint_records: u32,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) segment_bytes: u64,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) chain: AuditChain,
    pub(crate) pace: Pace,
    pub(crate) on_checkpoint: Option<OnCheckpoint>,
    /// Lines that are in the chain and not in the sink yet.
    pub(crate) lines: Vec<u8>,
    pub(crate) aside: Vec<u8>,
    /// When the record was made that no checkpoint covers.
    pub(crate) unsigned_since: Option<Instant>,
    pub(crate) latest: Option<Checkpoint>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(fsync: Fsync, head: Head) -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            fsync,
            opened: Instant::now(),
            lost: AtomicU64::new(0),
            lost_ever: AtomicU64::new(0),
            written: AtomicU64::new(0),
            trouble: Notify::new(),
            state: Mutex::new(State { head, failing: None }),
        }
    }

    /// Now, for a record.
    pub(crate) fn moment(&self) -> Moment {
        let since_open_us = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        Moment { at: Timestamp::now(), since_open_us: since_open_us.min(crate::NUMBER_MAX) }
    }

    pub(crate) fn hand_over(&self, work: Work) {
        let mut waiting = self.lock();
        waiting.work.push_back(work);
        // Waking a thread costs a microsecond, which only the first of each group pays.
        if mem::take(&mut waiting.is_idle) {
            drop(waiting);
            self.filled.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
    }

    pub(crate) fn backlog(&self) -> usize {
        self.lock().work.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is work, the time is over or the log is closed. Answers all the work there is, and whether it is closed.
    fn take(&self, until: Option<Instant>) -> (VecDeque<Work>, bool) {
        let mut waiting = self.lock();
        while waiting.work.is_empty() && !waiting.is_closed {
            waiting.is_idle = true;
            waiting = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(rest) => {
                    self.filled.wait_timeout(waiting, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        waiting.is_idle = false;
        (mem::take(&mut waiting.work), waiting.is_closed)
    }

    /// Waits so long, or until the log is closed. Answers whether it is.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut waiting = self.lock();
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            if waiting.is_closed || rest.is_zero() {
                return waiting.is_closed;
            }
            waiting = self.filled.wait_timeout(waiting, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

// === impl Writer ===

impl Writer {
    pub(crate) fn run(mut self) {
        loop {
            let until = self.unsigned_since.map(|since| since + self.pace.checkpoint_interval);
            let (mut work, mut is_closed) = self.shared.take(until);
            if !work.is_empty() && self.shared.fsync != Fsync::Always && !is_closed {
                is_closed = self.shared.rest(AUDIT_LINGER);
                work.extend(self.shared.take(Some(Instant::now())).0);
            }
            let is_last = is_closed && work.is_empty();
            let is_due = until.is_some_and(|until| until <= Instant::now());
            if is_due || (is_last && self.unsigned_since.is_some()) {
                self.sign();
            }
            if is_last {
                self.write_out(Vec::new());
                return;
            }
            self.do_all(work);
        }
    }

    /// Writes what is there at the beginning.
    pub(crate) fn write_first(&mut self) -> io::Result<()> {
        self.try_write()?;
        self.sink.sync()?;
        self.tell_head();
        Ok(())
    }

    /// Does a group of work, and tells of each when it is where it outlives the process.
    fn do_all(&mut self, work: VecDeque<Work>) {
        self.tell_lost();
        let mut done: Vec<(Done, u64)> = Vec::new();
        let mut slots = Vec::with_capacity(work.len());
        for work in work {
            match work {
                Work::Append(Append { entry, aside, moment, done: listener, slot }) => {
                    self.go_on(moment, &mut done);
                    let seq = self.chain.append(&entry, moment, &mut self.lines);
                    if let (Some(aside), Some(id)) = (aside, entry.request_id()) {
                        aside.write(seq, id, &mut self.aside);
                    }
                    self.unsigned_since.get_or_insert_with(Instant::now);
                    done.extend(listener.map(|listener| (listener, seq)));
                    slots.push(slot);
                }
                Work::Rotate(key, listener) => {
                    let moment = self.shared.moment();
                    let seq = self.chain.rotate(key, moment, &mut self.lines);
                    self.unsigned_since.get_or_insert_with(Instant::now);
                    done.push((listener, seq));
                }
                Work::Erase { request_id, by, done } => {
                    let erased = self.erase(&request_id, &by);
                    drop(done.send(erased)); // who asked may have gone
                }
                Work::Checkpoint(listener) => {
                    self.sign();
                    done.push((listener, self.chain.seq()));
                }
            }
        }
        let count = slots.len() as u64;
        self.write_out(done);
        self.shared.written.fetch_add(count, Ordering::Relaxed);
    }

    /// Before the next record: signs, or begins another segment, where it is time for that.
    fn go_on(&mut self, moment: Moment, done: &mut Vec<(Done, u64)>) {
        let (size, day) = self.sink.segment();
        let is_full = size + self.lines.len() as u64 >= self.pace.segment_bytes;
        if is_full || day < day_of(moment.at) {
            self.write_out(mem::take(done));
            self.sign_and(Some(day_of(moment.at).max(day)));
        } else if self.chain.unsigned() >= self.pace.checkpoint_records as usize {
            self.write_out(mem::take(done));
            self.sign();
        }
    }

    fn sign(&mut self) {
        self.sign_and(None);
    }

    /// Signs how far the log has come, and begins another segment if there is a day for it. What is signed is written first, and the
    /// checkpoint is kept before its record is.
    fn sign_and(&mut self, next_segment: Option<jiff::civil::Date>) {
        self.write_out(Vec::new());
        let is_synced = self.insist(|writer| writer.sink.sync());
        if !is_synced {
            return; // closed while it failed
        }
        let moment = self.shared.moment();
        let checkpoint = self.chain.checkpoint(moment, &mut self.lines);
        let line = checkpoint.to_string();
        if !self.insist(|writer| writer.sink.keep_checkpoint(&line)) {
            return;
        }
        if let Some(day) = next_segment {
            let first = checkpoint.seq + 1;
            self.insist(|writer| writer.sink.begin(first, day));
        }
        if let Some(tell) = &mut self.on_checkpoint {
            tell(&checkpoint);
        }
        self.latest = Some(checkpoint);
        self.unsigned_since = None;
        self.write_out(Vec::new());
    }

    /// Says how many records were let go, now that it can be written again.
    fn tell_lost(&mut self) {
        let count = self.shared.lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let reason = "could not be written, and calls were let on".to_owned();
            self.chain.write("lost", &Lost { count, reason }, self.shared.moment(), &mut self.lines);
        }
    }

    fn erase(&mut self, request_id: &str, by: &str) -> Result<Vec<u64>, String> {
        // What is to be erased may be about to be written.
        self.write_out(Vec::new());
        let erased = self.sink.erase(request_id).map_err(|error| error.to_string())?;
        if !erased.is_empty() {
            let erased = Erased { by, records: erased.clone(), request_id };
            self.chain.write("erased", &erased, self.shared.moment(), &mut self.lines);
            self.unsigned_since.get_or_insert_with(Instant::now);
            self.write_out(Vec::new());
        }
        Ok(erased)
    }

    /// Writes what is in the chain, and tells who waits for it.
    fn write_out(&mut self, done: Vec<(Done, u64)>) {
        let mut waiting = Some(done);
        // Nobody waits for a broken disk: they are told that it may be lost, and it is tried on.
        let is_written = self.insist_and(Self::try_write, |error| {
            for (listener, _) in waiting.take().into_iter().flatten() {
                drop(listener.send(Err(error.to_string())));
            }
        });
        if is_written {
            for (listener, seq) in waiting.into_iter().flatten() {
                drop(listener.send(Ok(seq)));
            }
        }
        self.tell_head();
    }

    fn tell_head(&self) {
        self.shared.state().head = Head {
            log: self.chain.log().to_owned(),
            seq: self.chain.seq(),
            link: *self.chain.head(),
            key: self.chain.key().id().clone(),
            checkpoint: self.latest.clone(),
        };
    }

    fn try_write(&mut self) -> io::Result<()> {
        self.sink.append_aside(&self.aside)?;
        self.aside.clear();
        self.sink.append(&self.lines)?;
        self.lines.clear();
        match self.shared.fsync {
            Fsync::Never => Ok(()),
            Fsync::Always | Fsync::Batch => self.sink.sync(),
        }
    }

    /// Tries until it goes well. `false`: the log is closed, and it is given up.
    fn insist(&mut self, act: impl FnMut(&mut Self) -> io::Result<()>) -> bool {
        self.insist_and(act, |_| ())
    }

    /// The same, and tells of each failure once everybody can see that it fails.
    fn insist_and(
        &mut self,
        mut act: impl FnMut(&mut Self) -> io::Result<()>,
        mut tell: impl FnMut(&io::Error),
    ) -> bool {
        let mut rest = AUDIT_RETRY_FIRST;
        let mut tries_after_close = 0;
        loop {
            let Err(error) = act(self) else {
                self.shared.state().failing = None;
                return true;
            };
            {
                let mut state = self.shared.state();
                let since = state.failing.take().map_or_else(Timestamp::now, |(_, since)| since);
                state.failing = Some((error.to_string(), since));
            }
            tell(&error);
            self.shared.trouble.notify_waiters();
            if self.shared.rest(rest) {
                tries_after_close += 1;
                if tries_after_close >= AUDIT_CLOSE_TRIES {
                    return false;
                }
                // Closed, it does not wait any more by itself.
                std::thread::sleep(AUDIT_RETRY_FIRST);
            }
            rest = (rest * 2).min(AUDIT_RETRY_MAX);
        }
    }
}
