//! What becomes of a log whose writer dies, whose disk tears what was written, or is full.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by its panic")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoosh_audit::{
    AppendError, Aside, AuditLog, CallEntry, Check, Entry, FaultKind, Fsync, KeyRing, MemorySink, OnError,
    OnFull, OpenError, Options, Salt, Sink, Trust, Verified, VerifyError, verify,
};
use jiff::civil::Date;
use proptest::prelude::*;

fn keys() -> KeyRing {
    KeyRing::parse(&KeyRing::draw().unwrap(), "test").unwrap()
}

fn call(index: u64) -> Entry {
    Entry::Call(Box::new(CallEntry { request_id: format!("req_{index}"), ..CallEntry::default() }))
}

fn check(folder: &Path, keys: &KeyRing) -> Result<Verified, VerifyError> {
    let trust = Trust::Keys(keys.clone());
    verify(&Check { folder, trust: &trust, checkpoints: &[], is_archived_elsewhere: false }, |_| ())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let is_segment = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("audit-");
    let mut all: Vec<_> = files.filter(is_segment).collect();
    all.sort();
    all
}

/// Copies a folder as it is now, as a machine that loses power leaves it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Behind what was synced, a disk may keep any part of what was written since, and anything in the place of the rest.
    #[test]
    fn a_log_that_was_torn_goes_on_and_says_what_was_cut(
        synced in 0_u64..40,
        since in 1_u64..40,
        kept in 0.0_f64..1.0,
        rubbish in proptest::collection::vec(any::<u8>(), 0..200),
        hole in any::<bool>(),
    ) {
        let keys = keys();
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join("live");
        let options = || Options { fsync: Fsync::Always, checkpoint_records: 16, ..Options::default() };
        let log = AuditLog::open(&live, &keys, options()).unwrap();
        for index in 0..synced {
            log.try_slot().unwrap().close(call(index), None);
        }
        let durable = block_on(log.append(call(synced))).unwrap();
        let crashed = folder.path().join("crashed");
        copy(&live, &crashed);
        let written = fs::metadata(segments(&live).pop().unwrap()).unwrap().len();
        for index in 0..since {
            block_on(log.append(call(1_000 + index))).unwrap();
        }
        let segment = segments(&live).pop().unwrap();
        let all = fs::read(&segment).unwrap();
        // The tail as the disk has it, with a page of zeros in its midst perhaps.
        let tail = &all[written as usize..];
        let mut torn = tail[..(tail.len() as f64 * kept) as usize].to_vec();
        if hole && torn.len() > 40 {
            let middle = torn.len() / 2;
            torn[middle..middle + 20].fill(0);
        }
        torn.extend(&rubbish);
        let mut text = all[..written as usize].to_vec();
        text.extend(&torn);
        fs::write(crashed.join(segment.file_name().unwrap()), &text).unwrap();
        drop(log);

        let log = AuditLog::open(&crashed, &keys, options()).unwrap();
        let next = block_on(log.append(call(2_000))).unwrap();
        prop_assert!(next > durable);
        drop(log);
        let verified = check(&crashed, &keys).unwrap();
        // What is gone from the log is in a file beside it.
        for (seq, file) in &verified.recoveries {
            prop_assert!(*seq > durable);
            let aside = fs::read(crashed.join(file)).unwrap();
            prop_assert!(text.ends_with(&aside) && !aside.is_empty());
        }
        let whole = torn.is_empty() || (!hole && rubbish.is_empty() && torn.ends_with(b"\n"));
        prop_assert_eq!(verified.recoveries.is_empty(), whole);
    }
}

#[test]
fn a_second_writer_is_refused_and_the_first_goes_on() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), keys());
    let log = AuditLog::open(folder.path(), &keys, Options::default()).unwrap();
    let second = AuditLog::open(folder.path(), &keys, Options::default());
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    block_on(log.append(call(1))).unwrap();
    // It can be verified meanwhile.
    assert!(check(folder.path(), &keys).unwrap().last >= 2);
    drop(log);
    AuditLog::open(folder.path(), &keys, Options::default()).unwrap();
}

#[test]
fn a_log_that_was_cut_off_behind_a_checkpoint_is_not_gone_on_with() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), keys());
    let log = AuditLog::open(folder.path(), &keys, Options { checkpoint_records: 5, ..Options::default() })
        .unwrap();
    for index in 0..20 {
        block_on(log.append(call(index))).unwrap();
    }
    drop(log);
    let segment = segments(folder.path()).pop().unwrap();
    let text = fs::read_to_string(&segment).unwrap();
    let cut: String = text.lines().take(12).map(|line| format!("{line}\n")).collect();
    fs::write(&segment, cut).unwrap();
    let refused = AuditLog::open(folder.path(), &keys, Options::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Tampered { .. }), "{refused}");
    assert!(refused.to_string().contains("its last whole record is 12"), "{refused}");
    fs::remove_file(&segment).unwrap();
    let refused = AuditLog::open(folder.path(), &keys, Options::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Tampered { .. }), "{refused}");
}

#[test]
fn segments_follow_one_another_and_old_ones_are_archived() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), keys());
    let options = || Options { segment_bytes: 2_000, checkpoint_records: 7, ..Options::default() };
    for round in 0..3 {
        let log = AuditLog::open(folder.path(), &keys, options()).unwrap();
        for index in 0..30 {
            block_on(log.append(call(round * 100 + index))).unwrap();
        }
    }
    let all = segments(folder.path());
    assert!(all.len() > 5, "{all:?}");
    let whole = check(folder.path(), &keys).unwrap();
    // In the archive of the folder they are found; elsewhere they are missed, unless it is said that they may be.
    let archive = folder.path().join("archive");
    fs::create_dir(&archive).unwrap();
    for old in &all[..3] {
        fs::rename(old, archive.join(old.file_name().unwrap())).unwrap();
    }
    assert_eq!(check(folder.path(), &keys).unwrap(), whole);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(&archive, elsewhere.path().join("archive")).unwrap();
    let missing = check(folder.path(), &keys);
    assert!(
        matches!(&missing, Err(VerifyError::Fault(fault)) if matches!(fault.kind, FaultKind::Deleted { from: 1, .. })),
        "{missing:?}"
    );
    for trust in [Trust::Keys(keys.clone()), Trust::Public(keys.public())] {
        let check =
            Check { folder: folder.path(), trust: &trust, checkpoints: &[], is_archived_elsewhere: true };
        let rest = verify(&check, |_| ()).unwrap();
        assert!(rest.first > 1 && rest.last == whole.last, "{rest:?}");
    }
    // One from the midst is always missed.
    fs::remove_file(&all[5]).unwrap();
    let trust = Trust::Keys(keys.clone());
    let check = Check { folder: folder.path(), trust: &trust, checkpoints: &[], is_archived_elsewhere: true };
    assert!(matches!(verify(&check, |_| ()), Err(VerifyError::Fault(_))));
}

#[test]
fn what_is_kept_beside_a_record_can_be_erased_and_the_chain_stays_whole() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), keys());
    let log = AuditLog::open(folder.path(), &keys, Options::default()).unwrap();
    let kept = |index: u64| {
        let salt = Salt::draw().unwrap();
        let request = format!("the secret of {index}");
        let entry = Entry::Call(Box::new(CallEntry {
            request_id: format!("req_{index}"),
            request: Some(salt.content(request.as_bytes())),
            ..CallEntry::default()
        }));
        (entry, Some(Aside { salt, request: Some(request), answer: None }))
    };
    for index in 0..3 {
        let (entry, aside) = kept(index);
        block_on(log.try_slot().unwrap().close_durably(entry, aside)).unwrap();
    }
    assert_eq!(check(folder.path(), &keys).unwrap().texts, 3);
    let text = |folder: &Path| {
        let mut all = String::new();
        for file in fs::read_dir(folder).unwrap() {
            all += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
        }
        all
    };
    assert!(text(folder.path()).contains("the secret of 1"));
    assert_eq!(block_on(log.erase("req_1", "an admin")).unwrap().len(), 1);
    assert_eq!(block_on(log.erase("req_1", "an admin")).unwrap().len(), 0);
    assert!(!text(folder.path()).contains("the secret of 1"));
    // It goes on being written.
    let (entry, aside) = kept(7);
    block_on(log.try_slot().unwrap().close_durably(entry, aside)).unwrap();
    drop(log);
    let verified = check(folder.path(), &keys).unwrap();
    assert_eq!((verified.texts, verified.erased), (3, 1));
    // A text that was put in its place is seen.
    let aside = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let aside = aside.into_iter().find(|path| path.to_str().unwrap().contains("aside-")).unwrap();
    let edited = fs::read_to_string(&aside).unwrap().replace("the secret of 2", "the secret of 9");
    fs::write(&aside, edited).unwrap();
    let fault = check(folder.path(), &keys).unwrap_err().to_string();
    assert!(fault.contains("the request that is kept beside record"), "{fault}");
}

/// A disk that is full when it is told to be.
#[derive(Clone, Default)]
struct Broken {
    memory: MemorySink,
    is_full: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
}

impl Broken {
    fn ask(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn wait_for_trouble(&self) {
        let refused = self.refused.load(Ordering::SeqCst);
        for _ in 0..1_000 {
            if self.refused.load(Ordering::SeqCst) > refused {
                // It is told behind the error.
                std::thread::sleep(Duration::from_millis(20));
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing was written");
    }
}

impl Sink for Broken {
    fn begin(&mut self, first: u64, day: Date) -> io::Result<()> {
        self.ask()?;
        self.memory.begin(first, day)
    }
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.ask()?;
        self.memory.append(lines)
    }
    fn append_aside(&mut self, lines: &[u8]) -> io::Result<()> {
        self.ask()?;
        self.memory.append_aside(lines)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.ask()
    }
    fn keep_checkpoint(&mut self, line: &str) -> io::Result<()> {
        self.ask()?;
        self.memory.keep_checkpoint(line)
    }
    fn erase(&mut self, request_id: &str) -> io::Result<Vec<u64>> {
        self.memory.erase(request_id)
    }
    fn segment(&self) -> (u64, Date) {
        self.memory.segment()
    }
}

fn verified(memory: &MemorySink, keys: &KeyRing) -> Verified {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("audit-000000000001-20261124.jsonl"), memory.lines()).unwrap();
    let checkpoints: String = memory.checkpoints().iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.path().join("checkpoints.jsonl"), checkpoints).unwrap();
    check(folder.path(), keys).unwrap()
}

#[test]
fn while_a_disk_is_full_calls_are_refused_and_nothing_is_lost() {
    let (disk, keys) = (Broken::default(), keys());
    let log = AuditLog::begin(Box::new(disk.clone()), &keys, "log", Options::default()).unwrap();
    block_on(log.append(call(0))).unwrap();
    let under_way = log.try_slot().unwrap();
    disk.is_full.store(true, Ordering::SeqCst);
    let told = block_on(log.append(call(1)));
    assert!(matches!(told, Err(AppendError::Failing(_))), "{told:?}");
    let refused = log.try_slot();
    assert!(matches!(refused, Err(AppendError::Failing(_))), "{refused:?}");
    assert!(log.status().failing.is_some());
    under_way.close(call(2), None);
    disk.is_full.store(false, Ordering::SeqCst);
    for _ in 0..2_000 {
        if log.status().failing.is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    block_on(log.append(call(3))).unwrap();
    log.close();
    let verified = verified(&disk.memory, &keys);
    // Opened, the four calls, the closing checkpoint.
    assert_eq!((verified.records, verified.lost), (6, 0));
}

#[test]
fn calls_that_go_on_without_a_disk_are_counted_where_there_is_no_room_for_their_records() {
    let (disk, keys) = (Broken::default(), keys());
    let options = Options { on_error: OnError::Continue, slots: 4, ..Options::default() };
    let log = AuditLog::begin(Box::new(disk.clone()), &keys, "log", options).unwrap();
    disk.is_full.store(true, Ordering::SeqCst);
    log.try_slot().unwrap().close(call(0), None);
    disk.wait_for_trouble();
    for index in 1..10 {
        block_on(log.slot()).unwrap().close(call(index), None);
    }
    assert_eq!(log.status().lost, 6);
    disk.is_full.store(false, Ordering::SeqCst);
    for _ in 0..2_000 {
        if log.status().failing.is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    block_on(log.append(call(10))).unwrap();
    log.close();
    assert_eq!(verified(&disk.memory, &keys).lost, 6);
}

#[test]
fn who_finds_no_room_waits_for_it_or_is_refused() {
    for on_full in [OnFull::Refuse, OnFull::Wait] {
        let (sink, keys) = (MemorySink::default(), keys());
        let options = Options { on_full, slots: 2, ..Options::default() };
        let log = AuditLog::begin(Box::new(sink), &keys, "log", options).unwrap();
        let (first, _second) = (log.try_slot().unwrap(), log.try_slot().unwrap());
        if on_full == OnFull::Refuse {
            assert_eq!(block_on(log.slot()).unwrap_err(), AppendError::Full);
            continue;
        }
        let waited = Mutex::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                *waited.lock().unwrap() = true;
                first.close(call(0), None);
            });
            block_on(log.slot()).unwrap().close(call(1), None);
            assert!(*waited.lock().unwrap());
        });
    }
}

/// Who waits for room when the disk breaks is refused rather than left waiting.
#[test]
fn who_waits_for_room_is_told_when_the_disk_breaks() {
    let (disk, keys) = (Broken::default(), keys());
    let options = Options { slots: 2, ..Options::default() };
    let log = AuditLog::begin(Box::new(disk.clone()), &keys, "log", options).unwrap();
    let (first, _second) = (log.try_slot().unwrap(), log.try_slot().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            disk.is_full.store(true, Ordering::SeqCst);
            first.close(call(0), None);
        });
        let refused = block_on(log.slot());
        assert!(matches!(refused, Err(AppendError::Failing(_))), "{refused:?}");
    });
    disk.is_full.store(false, Ordering::SeqCst);
}
