//! What a log holds, the newest first, page by page. It is read, not verified.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hoosh_core::limits::{AUDIT_PAGE_RECORDS_MAX, AUDIT_PAGE_SCAN_MAX, AUDIT_READ_BYTES};
use jiff::Timestamp;
use serde::Deserialize;

use crate::segment::{self, ARCHIVE, Segment};

/// Which records are wanted. What is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this caller.
    pub caller: Option<String>,
    /// Of this kind: `call`, `refused`, `config`, …
    pub kind: Option<String>,
    /// By this model, as it was asked for or as it answered.
    pub model: Option<String>,
    /// Ended so: `answered`, `refused`, …
    pub outcome: Option<String>,
    /// By this provider.
    pub provider: Option<String>,
    /// Of this call.
    pub request_id: Option<String>,
    /// Written then or later.
    pub from: Option<Timestamp>,
    /// Written before.
    pub until: Option<Timestamp>,
}

/// A record that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its sequence.
    pub seq: u64,
    /// Its line, as it stands in the log.
    pub line: String,
}

/// Some records, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// They.
    pub records: Vec<Seen>,
    /// What to give as `before` for those that follow. `None`: there are no more.
    pub next: Option<u64>,
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct QueryError {
    /// Which.
    pub path: PathBuf,
    /// What happened.
    pub error: io::Error,
}

#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow)]
    record: Record<'a>,
}

#[derive(Deserialize)]
struct Record<'a> {
    at: &'a str,
    #[serde(borrow)]
    body: Body<'a>,
    kind: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    by: Option<Cow<'a, str>>,
    #[serde(borrow)]
    caller: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model_asked: Option<Cow<'a, str>>,
    #[serde(borrow)]
    outcome: Option<Cow<'a, str>>,
    #[serde(borrow)]
    provider: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request_id: Option<Cow<'a, str>>,
}

/// The newest records before one, or of all, that are wanted: at most `limit`, and 1,000. Blocks while it reads.
///
/// # Errors
///
/// If a file cannot be read.
pub fn page(folder: &Path, filter: &Filter, before: Option<u64>, limit: usize) -> Result<Page, QueryError> {
    let before = before.unwrap_or(u64::MAX);
    let limit = limit.clamp(1, AUDIT_PAGE_RECORDS_MAX);
    let mut page = Page::default();
    let mut scanned = 0;
    for segment in newest_first(folder)?.iter().filter(|segment| segment.first < before) {
        let failed = |error| QueryError { path: segment.path.clone(), error };
        let mut lines = Backward::open(&segment.path).map_err(failed)?;
        while let Some(line) = lines.next_line().map_err(failed)? {
            let Some(seq) = seq_of(&line).filter(|seq| *seq < before) else { continue };
            if page.records.len() == limit || scanned == AUDIT_PAGE_SCAN_MAX {
                page.next = Some(seq + 1);
                return Ok(page);
            }
            scanned += 1;
            match filter.sees(&line) {
                Sight::Wanted => {
                    page.records.push(Seen { seq, line: String::from_utf8_lossy(&line).into_owned() });
                }
                Sight::Other => {}
                // All that follow are older still.
                Sight::TooOld => return Ok(page),
            }
        }
    }
    Ok(page)
}

/// All records that are wanted, the oldest first, until `each` has enough. Blocks while it reads.
///
/// # Errors
///
/// If a file cannot be read.
pub fn scan(
    folder: &Path,
    filter: &Filter,
    mut each: impl FnMut(Seen) -> ControlFlow<()>,
) -> Result<(), QueryError> {
    for segment in newest_first(folder)?.iter().rev() {
        let failed = |error| QueryError { path: segment.path.clone(), error };
        let mut reader = BufReader::new(File::open(&segment.path).map_err(failed)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(failed)?;
            // What is behind the last line feed is being written.
            if line.pop_if(|byte| *byte == b'\n').is_none() {
                break;
            }
            let Some(seq) = seq_of(&line) else { continue };
            if matches!(filter.sees(&line), Sight::Wanted)
                && each(Seen { seq, line: String::from_utf8_lossy(&line).into_owned() }).is_break()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn newest_first(folder: &Path) -> Result<Vec<Segment>, QueryError> {
    let mut all = Vec::new();
    for part in [folder.to_owned(), folder.join(ARCHIVE)] {
        match segment::segments(&part) {
            Ok(segments) => all.extend(segments),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(QueryError { path: part, error }),
        }
    }
    all.sort();
    all.reverse();
    Ok(all)
}

/// The sequence of a record, which stands at the end of its line.
fn seq_of(line: &[u8]) -> Option<u64> {
    let digits = line.strip_suffix(b"}}")?;
    let start = memchr::memrchr(b':', digits)? + 1;
    std::str::from_utf8(&digits[start..]).ok()?.parse().ok()
}

enum Sight {
    Wanted,
    Other,
    TooOld,
}

// === impl Filter ===

impl Filter {
    fn sees(&self, line: &[u8]) -> Sight {
        if *self == Self::default() {
            return Sight::Wanted;
        }
        let Ok(Glance { record }) = serde_json::from_slice::<Glance<'_>>(line) else { return Sight::Other };
        let Record { at, body, kind } = record;
        if self.from.is_some() || self.until.is_some() {
            let Ok(at) = at.parse::<Timestamp>() else { return Sight::Other };
            if self.from.is_some_and(|from| at < from) {
                // The clock may have been set back, but not by as much as people look for.
                return Sight::TooOld;
            }
            if self.until.is_some_and(|until| at >= until) {
                return Sight::Other;
            }
        }
        let is = |wanted: &Option<String>, found: &[&Option<Cow<'_, str>>]| {
            let Some(wanted) = wanted else { return true };
            found.iter().any(|found| found.as_deref() == Some(wanted))
        };
        let is_wanted = self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && is(&self.caller, &[&body.caller, &body.by])
            && is(&self.model, &[&body.model, &body.model_asked])
            && is(&self.outcome, &[&body.outcome])
            && is(&self.provider, &[&body.provider])
            && is(&self.request_id, &[&body.request_id]);
        if is_wanted { Sight::Wanted } else { Sight::Other }
    }
}

/// The lines of a file from its last to its first.
struct Backward {
    file: File,
    /// Where the part begins that is read.
    start: u64,
    /// What is read and not given yet.
    read: Vec<u8>,
}

// === impl Backward ===

impl Backward {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let start = file.seek(SeekFrom::End(0))?;
        let mut backward = Self { file, start, read: Vec::new() };
        // What is behind the last line feed is being written.
        backward.next_line()?;
        Ok(backward)
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = memchr::memrchr(b'\n', &self.read) {
                let line = self.read.split_off(at + 1);
                self.read.pop();
                return Ok(Some(line));
            }
            if self.start == 0 {
                let first = std::mem::take(&mut self.read);
                return Ok((!first.is_empty()).then_some(first));
            }
            let length = self.start.min(AUDIT_READ_BYTES as u64);
            self.start -= length;
            let mut read = vec![0; usize::try_from(length).unwrap_or(AUDIT_READ_BYTES)];
            self.file.seek(SeekFrom::Start(self.start))?;
            self.file.read_exact(&mut read)?;
            read.append(&mut self.read);
            self.read = read;
        }
    }
}
