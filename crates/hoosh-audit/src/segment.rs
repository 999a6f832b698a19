//! The files of a folder, and the lines in them.
//!
//! | file | what it is |
//! |---|---|
//! | `audit-000000000001-20261124.jsonl` | a segment of the log: the sequence of its first record, and its day (UTC) |
//! | `aside-000000000001.jsonl` | salts and texts of that segment's records; may be edited and deleted |
//! | `checkpoints.jsonl` | all checkpoints, one a line |
//! | `torn-000000000042-1795548601.bin` | what a crash left behind that record, and when (Unix seconds) it was set aside |
//! | `archive/` | segments that are older than they must be kept here |
//! | `lock` | held by the process that writes |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use memchr::memchr_iter;
use serde::Deserialize;

use crate::Digest;
use crate::aside::AsideLine;
use crate::chain::{LINE_END, LINE_MIDDLE, LINE_START, RECORD_OFFSET};
use crate::checkpoint::Checkpoint;

pub(crate) const CHECKPOINTS: &str = "checkpoints.jsonl";
pub(crate) const LOCK: &str = "lock";
pub(crate) const ARCHIVE: &str = "archive";

/// A file with lines of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    /// The sequence of its first record.
    pub(crate) first: u64,
    pub(crate) day: Date,
    pub(crate) path: PathBuf,
}

/// A line that has the form of one. Whether it is in its place is another question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// All of it, without the line feed.
    pub(crate) all: &'a [u8],
    pub(crate) link: Digest,
    /// What the link is made of beside the one before.
    pub(crate) record: &'a [u8],
}

/// What of a record is looked at.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Place<'a> {
    pub(crate) kind: &'a str,
    pub(crate) seq: u64,
}

// === impl Segment ===

impl Segment {
    pub(crate) fn name(first: u64, day: Date) -> String {
        format!("audit-{first:012}-{}.jsonl", day.strftime("%Y%m%d"))
    }

    pub(crate) fn aside_name(first: u64) -> String {
        format!("aside-{first:012}.jsonl")
    }

    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (first, day) = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.split_once('-')?;
        let (first, day) = (first.parse().ok()?, Date::strptime("%Y%m%d", day).ok()?);
        Some(Self { first, day, path })
    }

    /// Where its salts and texts are.
    pub(crate) fn aside(&self) -> PathBuf {
        self.path.with_file_name(Self::aside_name(self.first))
    }
}

/// The segments in a folder, the oldest first.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for file in fs::read_dir(folder)? {
        segments.extend(Segment::parse(file?.path()));
    }
    segments.sort();
    Ok(segments)
}

/// The checkpoints in a file, and its bytes behind the last whole line. Of no file: none.
pub(crate) fn checkpoints(path: &Path) -> io::Result<Vec<Result<Checkpoint, String>>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let lines = lines(&text).0;
    Ok(lines
        .map(|line| {
            let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
            text.parse().map_err(|error: crate::InvalidCheckpoint| error.to_string())
        })
        .collect())
}

/// The whole lines of a text without their line feeds, and how many bytes they take with them.
pub(crate) fn lines(text: &[u8]) -> (impl Iterator<Item = &[u8]>, usize) {
    let end = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
    let mut start = 0;
    let lines = memchr_iter(b'\n', &text[..end]).map(move |at| {
        let line = &text[start..at];
        start = at + 1;
        line
    });
    (lines, end)
}

/// Reads a line. `None`: it has not the form of one.
pub(crate) fn line(all: &[u8]) -> Option<Line<'_>> {
    let digits = all.strip_prefix(LINE_START)?.get(..64)?;
    if !all.get(..RECORD_OFFSET)?.ends_with(LINE_MIDDLE) {
        return None;
    }
    let record = all.get(RECORD_OFFSET..)?.strip_suffix(LINE_END)?;
    let mut link = [0; 32];
    // Capital digits would be the same number in other bytes.
    if digits.iter().any(u8::is_ascii_uppercase) || hex::decode_to_slice(digits, &mut link).is_err() {
        return None;
    }
    Some(Line { all, link, record })
}

impl<'a> Line<'a> {
    /// Which record it is. `None`: the record is none of ours.
    pub(crate) fn place(&self) -> Option<Place<'a>> {
        serde_json::from_slice(self.record).ok()
    }

    /// The body of the record, as one of a kind.
    pub(crate) fn body<T: Deserialize<'a>>(&self) -> Option<T> {
        #[derive(Deserialize)]
        struct With<T> {
            body: T,
        }
        serde_json::from_slice(self.record).ok().map(|with: With<T>| with.body)
    }

    /// The checkpoint that the record holds.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        let raw: &serde_json::value::RawValue = self.body()?;
        raw.get().parse().ok()
    }
}

/// The lines beside a log without those of a call, and of which records they were.
pub(crate) fn without(aside: &[u8], request_id: &str) -> (Vec<u8>, Vec<u64>) {
    let (mut kept, mut erased) = (Vec::new(), Vec::new());
    for line in lines(aside).0 {
        match serde_json::from_slice::<AsideLine>(line) {
            Ok(of) if of.id == request_id => erased.push(of.seq),
            _ => {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        }
    }
    erased.dedup();
    (kept, erased)
}
