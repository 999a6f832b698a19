//! From the first record to the last.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::fault::{Fault, FaultKind};
use super::name::{Bad, name};
use super::{Progress, Trust, Verified, VerifyError};
use crate::aside::{AsideLine, Salt};
use crate::chain::rotation_text;
use crate::checkpoint::Checkpoint;
use crate::key::{AuditKey, PublicKey};
use crate::segment::{self, Line, Segment};
use crate::{Digest, merkle};

/// How much is read at once, and how often somebody is told.
const PIECE: usize = 1 << 20;

/// A check under way.
#[derive(Clone)]
pub(super) struct Walk<'a> {
    trust: &'a Trust,
    /// Whose checkpoints are believed.
    publics: Vec<PublicKey>,
    /// Those that are kept, by the record that they are of.
    kept: BTreeMap<u64, Vec<Checkpoint>>,
    is_archived_elsewhere: bool,
    is_live: bool,
    /// The key in use, where links can be checked.
    key: Option<Arc<AuditKey>>,
    head: Digest,
    leaves: Vec<Digest>,
    /// The digest of the checkpoint before; `None`: what is read begins behind it.
    previous: Option<Digest>,
    /// When the last record was written, as it says.
    last_at: String,
    found: Verified,
}

/// What is to be known of each record.
#[derive(Deserialize)]
struct Glance<'a> {
    at: &'a str,
    kind: &'a str,
    seq: u64,
}

#[derive(Deserialize)]
struct OpenedBody<'a> {
    key: &'a str,
    log: &'a str,
}

#[derive(Deserialize)]
struct RotationBody<'a> {
    new_key: &'a str,
    new_mac: &'a str,
    new_public: &'a str,
    new_signature: &'a str,
    old_key: &'a str,
    old_signature: &'a str,
}

#[derive(Deserialize)]
struct RecoveryBody<'a> {
    file: &'a str,
}

#[derive(Deserialize)]
struct LostBody {
    count: u64,
}

#[derive(Deserialize)]
struct CallBody<'a> {
    #[serde(borrow)]
    answer: Option<ContentBody<'a>>,
    #[serde(borrow)]
    request: Option<ContentBody<'a>>,
}

#[derive(Deserialize)]
struct ContentBody<'a> {
    digest: &'a str,
}

/// The digests of the texts beside a segment, by the records that they should be of.
type Texts = HashMap<u64, [Option<String>; 2]>;

// === impl Walk ===

impl<'a> Walk<'a> {
    pub(super) fn new(
        trust: &'a Trust,
        kept: Vec<Checkpoint>,
        elsewhere: &[Checkpoint],
        is_archived_elsewhere: bool,
        is_live: bool,
    ) -> Self {
        let publics = match trust {
            Trust::Keys(ring) => ring.public(),
            Trust::Public(publics) => publics.clone(),
        };
        let mut by_seq: BTreeMap<u64, Vec<Checkpoint>> = BTreeMap::new();
        for checkpoint in kept.into_iter().chain(elsewhere.iter().cloned()) {
            let same = by_seq.entry(checkpoint.seq).or_default();
            if !same.contains(&checkpoint) {
                same.push(checkpoint);
            }
        }
        Self {
            trust,
            publics,
            kept: by_seq,
            is_archived_elsewhere,
            is_live,
            key: None,
            head: [0; 32],
            leaves: Vec::new(),
            previous: Some([0; 32]),
            last_at: String::new(),
            found: Verified::default(),
        }
    }

    pub(super) fn run(
        mut self,
        segments: &[Segment],
        mut progress: impl FnMut(Progress),
    ) -> Result<Verified, VerifyError> {
        let sizes = segments.iter().map(|one| fs::metadata(&one.path).map(|about| about.len()).unwrap_or(0));
        let bytes_total = sizes.sum();
        let mut bytes = 0;
        if let Some(first) = segments.first().filter(|first| first.first != 1) {
            self.begin_behind(first)?;
        }
        let mut told = 0;
        for (index, segment) in segments.iter().enumerate() {
            let is_last = index + 1 == segments.len();
            let texts = texts(segment);
            let file = File::open(&segment.path).map_err(VerifyError::io(&segment.path))?;
            let mut reader = BufReader::with_capacity(PIECE, file);
            let (mut line, mut number) = (Vec::new(), 0_u64);
            loop {
                line.clear();
                let read = reader.read_until(b'\n', &mut line).map_err(VerifyError::io(&segment.path))?;
                if read == 0 {
                    break;
                }
                number += 1;
                bytes += read as u64;
                let place = || format!("{}:{number}", segment.path.display());
                if line.pop_if(|byte| *byte == b'\n').is_none() {
                    if is_last && self.is_live {
                        self.found.unfinished = read as u64;
                        break;
                    }
                    let last = self.found.last;
                    return fault(FaultKind::CutOff { last, checkpoint: None }, place());
                }
                if let Err(kind) = self.take(&line, &texts)? {
                    let kind = match kind {
                        Wrong::Known(kind) => kind,
                        Wrong::Line => {
                            let rest = rest(&mut reader, &segments[index + 1..]);
                            let bad = Bad {
                                line: &line,
                                expected: self.found.last + 1,
                                head: &self.head,
                                key: self.key.as_deref(),
                            };
                            name(&bad, rest)
                        }
                    };
                    return fault(kind, place());
                }
                if bytes - told >= PIECE as u64 {
                    told = bytes;
                    progress(Progress { bytes, bytes_total, records: self.found.records });
                }
            }
        }
        progress(Progress { bytes, bytes_total, records: self.found.records });
        self.end(segments)
    }

    /// Begins behind a checkpoint, since what was before it is not here.
    fn begin_behind(&mut self, first: &Segment) -> Result<(), VerifyError> {
        let place = || first.path.display().to_string();
        let before = self.kept.get(&(first.first - 1)).and_then(|all| all.first()).cloned();
        let Some(before) = before.filter(|_| self.is_archived_elsewhere) else {
            return fault(FaultKind::Deleted { from: 1, to: first.first - 1 }, place());
        };
        if !self.is_believed(&before) {
            return fault(FaultKind::Checkpoint { problem: nobodys(&before) }, place());
        }
        self.head = before.head;
        self.previous = Some(before.digest());
        self.found.log.clone_from(&before.log);
        self.found.last = before.seq;
        self.found.signed_to = before.seq;
        self.goes_by(before.key.as_str(), first.first)
    }

    fn goes_by(&mut self, key: &str, seq: u64) -> Result<(), VerifyError> {
        if let Trust::Keys(ring) = self.trust {
            let unknown = || VerifyError::UnknownKey { key: key.to_owned(), seq };
            self.key = Some(Arc::clone(ring.by_id(key).ok_or_else(unknown)?));
        }
        Ok(())
    }

    fn is_believed(&self, checkpoint: &Checkpoint) -> bool {
        self.publics.iter().any(|public| checkpoint.is_signed_by(public))
    }

    /// One more line. The inner error says that it is wrong.
    fn take(&mut self, all: &[u8], texts: &Texts) -> Result<Result<(), Wrong>, VerifyError> {
        let wrong = |kind| Ok(Err(Wrong::Known(kind)));
        let Some(line) = segment::line(all) else { return Ok(Err(Wrong::Line)) };
        let Ok(glance) = serde_json::from_slice::<Glance<'_>>(line.record) else {
            return Ok(Err(Wrong::Line));
        };
        let seq = self.found.last + 1;
        if glance.seq != seq {
            return Ok(Err(Wrong::Line));
        }
        if seq == 1 {
            let Some(opened) = line.body::<OpenedBody<'_>>() else { return Ok(Err(Wrong::Line)) };
            self.found.log = opened.log.to_owned();
            self.goes_by(opened.key, 1)?;
        }
        if let Some(key) = &self.key
            && key.link(&self.head, line.record) != line.link
        {
            return Ok(Err(Wrong::Line));
        }
        if glance.kind == "checkpoint"
            && let Err(kind) = self.take_checkpoint(&line)
        {
            return wrong(kind);
        }
        let before = std::mem::replace(&mut self.head, line.link);
        self.leaves.push(merkle::leaf(all));
        self.found.records += 1;
        self.found.last = seq;
        if self.found.first == 0 {
            self.found.first = seq;
        }
        self.last_at.clear();
        self.last_at.push_str(glance.at);
        match glance.kind {
            "rotation" => {
                if let Err(problem) = self.take_rotation(&line, seq, &before)? {
                    return wrong(FaultKind::Checkpoint { problem });
                }
            }
            "recovery" => {
                let file = line.body::<RecoveryBody<'_>>().map_or(String::new(), |body| body.file.to_owned());
                self.found.recoveries.push((seq, file));
            }
            "lost" => self.found.lost += line.body::<LostBody>().map_or(0, |body| body.count),
            "erased" => self.found.erased += 1,
            _ => {}
        }
        if let Some(kept) = texts.get(&seq)
            && let Err(kind) = self.take_texts(&line, kept, seq)
        {
            return wrong(kind);
        }
        // Those that are kept are of this record too.
        for checkpoint in self.kept.remove(&seq).unwrap_or_default() {
            if checkpoint.log != self.found.log {
                continue;
            }
            if !self.is_believed(&checkpoint) {
                return wrong(FaultKind::Checkpoint { problem: nobodys(&checkpoint) });
            }
            if checkpoint.head != self.head {
                return wrong(FaultKind::Between { from: self.found.signed_to + 1, to: seq });
            }
            self.found.checkpoints += 1;
            self.found.signed_to = self.found.signed_to.max(seq);
        }
        Ok(Ok(()))
    }

    /// A checkpoint's own record, which stands behind those that it covers.
    fn take_checkpoint(&mut self, line: &Line<'_>) -> Result<(), FaultKind> {
        let invalid = |problem: &str| FaultKind::Checkpoint { problem: problem.to_owned() };
        let checkpoint = line.checkpoint().ok_or_else(|| invalid("its record holds none"))?;
        let last = self.found.last;
        let from = last + 1 - self.leaves.len() as u64;
        if !self.is_believed(&checkpoint) {
            return Err(FaultKind::Checkpoint { problem: nobodys(&checkpoint) });
        }
        if checkpoint.log != self.found.log {
            return Err(invalid("it is of another log"));
        }
        // The one that the segment begins behind.
        if self.leaves.is_empty() && self.previous == Some(checkpoint.digest()) {
            return Ok(());
        }
        let is_behind = self.previous.is_none_or(|previous| previous == checkpoint.previous);
        let is_of_these = checkpoint.seq == last && checkpoint.head == self.head && checkpoint.first == from;
        if !is_of_these || !is_behind || checkpoint.root != merkle::root(&self.leaves) {
            return Err(FaultKind::Between { from, to: last });
        }
        self.previous = Some(checkpoint.digest());
        self.leaves.clear();
        self.found.signed_to = last;
        self.found.checkpoints += u64::from(!self.kept.contains_key(&last));
        Ok(())
    }

    /// The log goes over to another key: both vouch for it.
    fn take_rotation(
        &mut self,
        line: &Line<'_>,
        seq: u64,
        head: &Digest,
    ) -> Result<Result<(), String>, VerifyError> {
        let bad = |problem: &str| Ok(Err(format!("the rotation of record {seq}: {problem}")));
        let Some(body) = line.body::<RotationBody<'_>>() else { return bad("its record holds none") };
        let agreed = rotation_text(body.old_key, body.new_key, body.new_public);
        let Ok(new) = body.new_public.parse::<PublicKey>() else { return bad("its public key is none") };
        let signed = |public: &PublicKey, signature: &str| {
            hex::decode(signature).is_ok_and(|signature| public.has_signed(agreed.as_bytes(), &signature))
        };
        if !signed(&new, body.new_signature) {
            return bad("the new key did not sign it");
        }
        if !self.publics.iter().any(|public| signed(public, body.old_signature)) {
            return bad("the old key did not sign it");
        }
        self.goes_by(body.new_key, seq)?;
        if let Some(key) = &self.key
            && (key.public() != new || hex::encode(key.link(head, agreed.as_bytes())) != body.new_mac)
        {
            return bad("it was not made by who has the new key");
        }
        self.publics.push(new);
        self.found.rotations += 1;
        Ok(Ok(()))
    }

    fn take_texts(&mut self, line: &Line<'_>, kept: &[Option<String>; 2], seq: u64) -> Result<(), FaultKind> {
        let Some(body) = line.body::<CallBody<'_>>() else { return Ok(()) };
        let said = [body.request.map(|one| one.digest), body.answer.map(|one| one.digest)];
        for ((kept, said), which) in kept.iter().zip(said).zip(["request", "answer"]) {
            match kept {
                Some(kept) if Some(kept.as_str()) != said => return Err(FaultKind::Text { seq, which }),
                Some(_) => self.found.texts += 1,
                None => {}
            }
        }
        Ok(())
    }

    /// What is left are checkpoints of records that are not there.
    fn end(self, segments: &[Segment]) -> Result<Verified, VerifyError> {
        let Self { kept, mut found, publics, last_at, .. } = self;
        found.last_at = last_at.parse::<Timestamp>().ok();
        let is_believed = |one: &Checkpoint| publics.iter().any(|public| one.is_signed_by(public));
        let place = || segments.last().map_or_else(String::new, |one| one.path.display().to_string());
        for checkpoint in kept.into_values().flatten() {
            let is_of_this = found.log.is_empty() || checkpoint.log == found.log;
            if !is_of_this || checkpoint.seq < found.first {
                continue;
            }
            if !is_believed(&checkpoint) {
                return fault(FaultKind::Checkpoint { problem: nobodys(&checkpoint) }, place());
            }
            let cut = FaultKind::CutOff { last: found.last, checkpoint: Some(checkpoint.seq) };
            return fault(cut, place());
        }
        Ok(found)
    }
}

/// Why a line is wrong.
enum Wrong {
    Known(FaultKind),
    /// It is not in its place; why is to be found out.
    Line,
}

fn fault<T>(kind: FaultKind, place: String) -> Result<T, VerifyError> {
    Err(VerifyError::Fault(Box::new(Fault::new(kind, place))))
}

fn nobodys(checkpoint: &Checkpoint) -> String {
    format!("that of record {} was not signed by a key that was given", checkpoint.seq)
}

/// The lines that are not read yet, of this segment and those behind it.
fn rest<'s>(reader: &'s mut impl BufRead, others: &'s [Segment]) -> impl Iterator<Item = Vec<u8>> + 's {
    let others = others.iter().filter_map(|one| File::open(&one.path).ok());
    let others = others.flat_map(|file| BufReader::new(file).split(b'\n'));
    reader.split(b'\n').chain(others).map_while(Result::ok)
}

/// The digests of the texts that stand beside a segment.
fn texts(segment: &Segment) -> Texts {
    let Ok(file) = File::open(segment.aside()) else { return Texts::new() };
    let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    let mut texts = Texts::new();
    for line in lines {
        let Ok(line) = serde_json::from_slice::<AsideLine>(&line) else { continue };
        let Some(salt) = Salt::read(&line.salt) else { continue };
        let digest = |text: Option<String>| text.map(|text| salt.content(text.as_bytes()).digest);
        let digests = [digest(line.request), digest(line.answer)];
        if digests.iter().any(Option::is_some) {
            texts.insert(line.seq, digests);
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::AuditChain;
    use crate::entry::{Entry, EventEntry};
    use crate::{KeyRing, Moment};

    const RECORDS: u64 = 1_000;

    fn log(keys: &KeyRing) -> Vec<Vec<u8>> {
        let mut chain = AuditChain::new(Arc::clone(keys.current()), "log");
        let mut lines = Vec::new();
        let moment = |index| Moment { at: Timestamp::UNIX_EPOCH, since_open_us: index };
        let opened = crate::chain::Opened {
            clean: true,
            key: keys.current().id().as_str(),
            log: "log",
            program: "test",
            public: keys.current().public().to_string(),
            v: 1,
        };
        chain.write("opened", &opened, moment(0), &mut lines);
        while chain.seq() < RECORDS {
            match chain.seq() % 100 {
                0 => drop(chain.checkpoint(moment(1), &mut lines)),
                index => {
                    let event =
                        EventEntry { action: format!("a{index}"), by: "b".into(), ..EventEntry::default() };
                    chain.append(&Entry::Note(event), moment(index), &mut lines);
                }
            }
        }
        segment::lines(&lines).0.map(<[u8]>::to_vec).collect()
    }

    /// Each byte of each line becomes another one; the first wrong record must be named.
    #[test]
    fn every_single_byte_that_is_edited_is_found_and_its_record_named() {
        let keys = KeyRing::parse(&KeyRing::draw().unwrap(), "test").unwrap();
        let trust = Trust::Keys(keys.clone());
        let lines = log(&keys);
        assert_eq!(lines.len() as u64, RECORDS);
        let mut walk = Walk::new(&trust, Vec::new(), &[], false, false);
        let mut edits = 0;
        for (index, line) in lines.iter().enumerate() {
            let seq = index as u64 + 1;
            for at in 0..line.len() {
                let mut edited = line.clone();
                // Another digit or letter where it was one, so that the form stays the same as often as can be.
                edited[at] = match edited[at] {
                    b'0'..=b'8' | b'a'..=b'e' => edited[at] + 1,
                    byte => byte ^ 1,
                };
                let mut walk = walk.clone();
                let kind = match walk.take(&edited, &Texts::new()) {
                    Ok(Ok(())) => panic!("record {seq}, byte {at}: not seen"),
                    Ok(Err(Wrong::Known(kind))) => kind,
                    // At the first record it may be the key's name that was edited.
                    Err(VerifyError::UnknownKey { seq: 1, .. }) if seq == 1 => continue,
                    Err(error) => panic!("record {seq}, byte {at}: {error}"),
                    Ok(Err(Wrong::Line)) => {
                        let bad =
                            Bad { line: &edited, expected: seq, head: &walk.head, key: Some(keys.current()) };
                        name(&bad, lines[index + 1..].iter().cloned())
                    }
                };
                edits += 1;
                assert_eq!(
                    kind,
                    FaultKind::Edited { seq },
                    "byte {at} of {}",
                    String::from_utf8_lossy(&edited)
                );
            }
            assert!(matches!(walk.take(line, &Texts::new()), Ok(Ok(()))), "record {seq}");
        }
        assert!(edits > 190_000, "{edits}");
    }
}
