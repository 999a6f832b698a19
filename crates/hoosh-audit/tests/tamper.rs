//! Whatever is done to a log is found, and what was done first is named.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by its panic")]

use std::fs;
use std::path::{Path, PathBuf};

use hoosh_audit::{
    AuditLog, CallEntry, Check, Checkpoint, Entry, EventEntry, FaultKind, Fsync, KeyRing, Options, Outcome,
    PublicKey, Trust, Verified, VerifyError, prove, verify,
};

const RECORDS: u64 = 300;

struct Log {
    folder: tempfile::TempDir,
    keys: KeyRing,
    /// The lines of its only segment.
    lines: Vec<String>,
    segment: PathBuf,
}

impl Log {
    fn write() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyRing::parse(&KeyRing::draw().unwrap(), "test").unwrap();
        let options = Options { fsync: Fsync::Never, checkpoint_records: 50, ..Options::default() };
        let log = AuditLog::open(folder.path(), &keys, options).unwrap();
        for index in 0..RECORDS {
            log.try_slot().unwrap().close(call(index), None);
        }
        log.close();
        let segment = segments(folder.path()).pop().unwrap();
        let lines = fs::read_to_string(&segment).unwrap().lines().map(str::to_owned).collect();
        Self { folder, keys, lines, segment }
    }

    /// Verifies the log with other lines in it.
    fn with(&self, lines: &[String]) -> Result<Verified, VerifyError> {
        fs::write(&self.segment, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        self.check(&Trust::Keys(self.keys.clone()), &[])
    }

    fn check(&self, trust: &Trust, checkpoints: &[Checkpoint]) -> Result<Verified, VerifyError> {
        check(self.folder.path(), trust, checkpoints)
    }

    fn fault(&self, lines: &[String]) -> FaultKind {
        kind(self.with(lines))
    }

    fn checkpoints(&self) -> Vec<Checkpoint> {
        let text = fs::read_to_string(self.folder.path().join("checkpoints.jsonl")).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

fn call(index: u64) -> Entry {
    Entry::Call(Box::new(CallEntry {
        caller: format!("key-{}", index % 7),
        outcome: Outcome::Answered,
        request_id: format!("req_{index}"),
        ..CallEntry::default()
    }))
}

fn check(folder: &Path, trust: &Trust, checkpoints: &[Checkpoint]) -> Result<Verified, VerifyError> {
    verify(&Check { folder, trust, checkpoints, is_archived_elsewhere: false }, |_| ())
}

#[track_caller]
fn kind(verified: Result<Verified, VerifyError>) -> FaultKind {
    match verified {
        Err(VerifyError::Fault(fault)) => fault.kind,
        other => panic!("{other:?}"),
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<_> =
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("audit-")).collect();
    segments.sort();
    segments
}

#[test]
fn a_log_that_nobody_touched_verifies_by_either_key() {
    let log = Log::write();
    let verified = log.with(&log.lines).unwrap();
    assert_eq!(verified.first, 1);
    assert_eq!(verified.records, log.lines.len() as u64);
    // The last record is the closing checkpoint's own.
    assert_eq!(verified.signed_to, verified.last - 1);
    let publicly = log.check(&Trust::Public(log.keys.public()), &log.checkpoints()).unwrap();
    assert_eq!(publicly, verified);
}

#[test]
fn every_record_that_is_deleted_is_named() {
    let log = Log::write();
    for index in 0..log.lines.len() - 1 {
        let mut lines = log.lines.clone();
        lines.remove(index);
        let seq = index as u64 + 1;
        assert_eq!(log.fault(&lines), FaultKind::Deleted { from: seq, to: seq });
    }
    let mut lines = log.lines.clone();
    lines.drain(9..30);
    assert_eq!(log.fault(&lines), FaultKind::Deleted { from: 10, to: 30 });
}

#[test]
fn every_pair_that_is_swapped_is_named() {
    let log = Log::write();
    for index in 0..log.lines.len() - 1 {
        let mut lines = log.lines.clone();
        lines.swap(index, index + 1);
        let expected = index as u64 + 1;
        assert_eq!(log.fault(&lines), FaultKind::Reordered { expected, found: expected + 1 });
    }
}

#[test]
fn every_record_that_stands_there_twice_is_named() {
    let log = Log::write();
    for index in 0..log.lines.len() - 1 {
        for at in [index + 1, log.lines.len() - 1] {
            let mut lines = log.lines.clone();
            lines.insert(at, lines[index].clone());
            let before = at as u64 + 1;
            assert_eq!(log.fault(&lines), FaultKind::Inserted { before }, "{index} at {at}");
        }
    }
}

#[test]
fn every_place_where_the_end_can_be_cut_off_is_found() {
    let log = Log::write();
    let text = log.lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let last_line = text.len() - log.lines.last().unwrap().len() - 1;
    let whole: Vec<usize> =
        (0..text.len()).filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n').collect();
    // All ends of lines, and some places in the middle of each.
    let middles = whole.iter().flat_map(|start| [start + 1, start + 80, start + 150]);
    for at in whole.iter().copied().chain(middles).filter(|at| *at < last_line) {
        fs::write(&log.segment, &text[..at]).unwrap();
        let kind = kind(log.check(&Trust::Keys(log.keys.clone()), &[]));
        let lines = text[..at].matches('\n').count() as u64;
        match kind {
            FaultKind::CutOff { last, .. } => assert_eq!(last, lines, "at {at}"),
            other => panic!("at {at}: {other:?}"),
        }
    }
    // With the checkpoints in the folder cut off too, it is one that was kept elsewhere that tells.
    let kept = log.checkpoints();
    let latest = kept.last().unwrap().clone();
    let cut: Vec<String> = log.lines[..200].to_vec();
    let before: String = kept.iter().filter(|one| one.seq < 200).map(|one| format!("{one}\n")).collect();
    fs::write(log.folder.path().join("checkpoints.jsonl"), before).unwrap();
    assert!(log.with(&cut).is_ok(), "nobody could know");
    let trust = Trust::Keys(log.keys.clone());
    let fault = kind_of(log.check(&trust, std::slice::from_ref(&latest)));
    assert_eq!(fault, FaultKind::CutOff { last: 200, checkpoint: Some(latest.seq) });
}

fn kind_of(verified: Result<Verified, VerifyError>) -> FaultKind {
    kind(verified)
}

#[test]
fn a_log_that_was_made_without_the_key_never_verifies() {
    let (log, other) = (Log::write(), Log::write());
    // As it is.
    let unknown = check(log.folder.path(), &Trust::Keys(other.keys.clone()), &[]);
    assert!(matches!(unknown, Err(VerifyError::UnknownKey { seq: 1, .. })), "{unknown:?}");
    // With all names of the key replaced, so that it says to be of ours.
    let (ours, theirs) = (log.keys.current(), other.keys.current());
    let renamed: Vec<String> = other
        .lines
        .iter()
        .map(|line| {
            line.replace(theirs.id().as_str(), ours.id().as_str())
                .replace(&theirs.public().to_string(), &ours.public().to_string())
        })
        .collect();
    assert_eq!(log.fault(&renamed), FaultKind::Resigned { from: 1 });
    // And from some record on.
    let half = [&log.lines[..100], &other.lines[100..]].concat();
    assert_eq!(log.fault(&half), FaultKind::Resigned { from: 101 });
    let publicly = log.check(&Trust::Public(other.keys.public()), &[]);
    assert!(matches!(kind(publicly), FaultKind::Checkpoint { .. }));
}

#[test]
fn a_log_that_was_made_anew_with_the_key_is_told_by_a_checkpoint_from_before() {
    let log = Log::write();
    let kept = log.checkpoints();
    let again = tempfile::tempdir().unwrap();
    // The same history but for one record, under the same name.
    let sink = hoosh_audit::MemorySink::default();
    let name = log.with(&log.lines).unwrap().log;
    let options = Options { checkpoint_records: 50, ..Options::default() };
    let forged = AuditLog::begin(Box::new(sink.clone()), &log.keys, &name, options).unwrap();
    for index in 0..RECORDS {
        forged.try_slot().unwrap().close(call(if index == 70 { 71 } else { index }), None);
    }
    forged.close();
    fs::write(again.path().join(log.segment.file_name().unwrap()), sink.lines()).unwrap();
    let trust = Trust::Keys(log.keys.clone());
    assert!(check(again.path(), &trust, &[]).is_ok(), "who has the key can");
    let told = kind(check(again.path(), &trust, &kept));
    assert!(matches!(told, FaultKind::Between { from: 1, .. }), "{told:?}");
}

#[test]
fn with_the_public_key_alone_it_is_told_between_which_checkpoints_something_is_wrong() {
    let log = Log::write();
    let mut lines = log.lines.clone();
    lines[69] = lines[69].replace("answered", "refusedd");
    fs::write(&log.segment, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let told = kind(log.check(&Trust::Public(log.keys.public()), &[]));
    let FaultKind::Between { from, to } = told else { panic!("{told:?}") };
    assert!(from <= 70 && 70 <= to && to - from <= 50, "{from} to {to}");
}

#[test]
fn one_record_is_proven_without_the_others_and_no_other_one_is() {
    let log = Log::write();
    let publics = log.keys.public();
    for index in [0, 48, 49, 50, 51, 170, RECORDS - 1] {
        let id = format!("req_{index}");
        let proof = prove(log.folder.path(), &id, &publics).unwrap();
        let text = proof.to_string();
        assert!(text.len() < 3_000, "{}", text.len());
        let read: hoosh_audit::Proof = text.parse().unwrap();
        assert_eq!(read, proof);
        read.check(&publics[0]).unwrap();
        assert!(read.line.contains(&id));
        // Any other line, and any other key, is none.
        let forged = hoosh_audit::Proof { line: read.line.replace("answered", "refusedd"), ..read.clone() };
        forged.check(&publics[0]).unwrap_err();
        let strange: PublicKey = KeyRing::parse(&KeyRing::draw().unwrap(), "").unwrap().public()[0];
        read.check(&strange).unwrap_err();
    }
    prove(log.folder.path(), "req_x", &publics).unwrap_err();
}

#[test]
fn keys_follow_one_another_and_all_of_it_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("audit.key");
    let (first, _) = KeyRing::load_or_make(&key_file).unwrap();
    let dir = folder.path().join("log");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let note = |text: &str| Entry::Note(EventEntry { action: text.into(), ..EventEntry::default() });
    let log = AuditLog::open(&dir, &first, Options::default()).unwrap();
    runtime.block_on(log.append(note("by the first"))).unwrap();
    // While it is open.
    let second = KeyRing::add_to(&key_file).unwrap();
    assert!(runtime.block_on(log.rotate(&second)).unwrap().is_some());
    assert!(runtime.block_on(log.rotate(&second)).unwrap().is_none());
    runtime.block_on(log.append(note("by the second"))).unwrap();
    log.close();
    drop(log);
    // And when it is opened.
    let third = KeyRing::add_to(&key_file).unwrap();
    let log = AuditLog::open(&dir, &third, Options::default()).unwrap();
    runtime.block_on(log.append(note("by the third"))).unwrap();
    drop(log);
    let verified = check(&dir, &Trust::Keys(third.clone()), &[]).unwrap();
    assert_eq!(verified.rotations, 2);
    // The first public key is enough: each vouches for the next.
    let publicly = check(&dir, &Trust::Public(first.public()), &[]).unwrap();
    assert_eq!(publicly.rotations, 2);
    // The first key alone does not check what the second made.
    let unknown = check(&dir, &Trust::Keys(first), &[]);
    assert!(matches!(unknown, Err(VerifyError::UnknownKey { .. })), "{unknown:?}");
    // And a log whose key is lost is not gone on with.
    let last_alone = KeyRing::parse(&KeyRing::draw().unwrap(), "new").unwrap();
    let refused = AuditLog::open(&dir, &last_alone, Options::default()).unwrap_err().to_string();
    assert!(refused.contains("not among yours"), "{refused}");
}
