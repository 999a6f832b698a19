//! Where lines go.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::civil::Date;

/// Where the lines of a log go.
///
/// Each method does all or nothing: after an error the same is asked again, until it goes well. Methods are called on one thread,
/// which may block.
pub trait Sink: Send {
    /// Goes on in a new segment, whose first record has this sequence.
    fn begin(&mut self, first: u64, day: Date) -> io::Result<()>;

    /// Adds lines of the log.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Adds lines of what stands beside it.
    fn append_aside(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Returns when everything that was added outlives a loss of power.
    fn sync(&mut self) -> io::Result<()>;

    /// Keeps a checkpoint's line, so that it outlives a loss of power.
    fn keep_checkpoint(&mut self, line: &str) -> io::Result<()>;

    /// Erases what stands beside the records of a call. Answers of which records that was.
    fn erase(&mut self, request_id: &str) -> io::Result<Vec<u64>>;

    /// The size of the segment at hand, and the day that it began.
    fn segment(&self) -> (u64, Date);
}

/// A log that lives as long as the process: for tests, and for programs that send the lines elsewhere. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MemorySink(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    lines: Vec<u8>,
    aside: Vec<u8>,
    checkpoints: Vec<String>,
    day: Date,
}

// === impl MemorySink ===

impl MemorySink {
    /// All lines so far.
    pub fn lines(&self) -> Vec<u8> {
        self.lock().lines.clone()
    }

    /// All checkpoints so far.
    pub fn checkpoints(&self) -> Vec<String> {
        self.lock().checkpoints.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for MemorySink {
    fn begin(&mut self, _first: u64, day: Date) -> io::Result<()> {
        self.lock().day = day;
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.lock().lines.extend_from_slice(lines);
        Ok(())
    }

    fn append_aside(&mut self, lines: &[u8]) -> io::Result<()> {
        self.lock().aside.extend_from_slice(lines);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn keep_checkpoint(&mut self, line: &str) -> io::Result<()> {
        self.lock().checkpoints.push(line.to_owned());
        Ok(())
    }

    fn erase(&mut self, request_id: &str) -> io::Result<Vec<u64>> {
        let mut memory = self.lock();
        let (kept, erased) = crate::segment::without(&memory.aside, request_id);
        memory.aside = kept;
        Ok(erased)
    }

    fn segment(&self) -> (u64, Date) {
        let memory = self.lock();
        (memory.lines.len() as u64, memory.day)
    }
}
