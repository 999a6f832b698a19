//! Laws of every dialect over the transcripts in `transcripts/DIALECT/` and, with `HOOSH_FIXTURES` set, over recordings of
//! others: any split gives the same events, any cut is an error, what is written is read back, and every client gets
//! what the provider said.
//!
//! The transcripts named after a server are our own recordings; the others are made by hand, one peculiarity each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

mod anthropic;
mod chat;
mod everywhere;
mod gemini;
mod ollama;
mod responses;

use std::fs;
use std::path::{Path, PathBuf};

use hoosh_core::StreamEvent;
use hoosh_core::dialect::{DecodeError, Dialect, Quirks, ReplyContext};

fn decode(dialect: Dialect, pieces: &[&[u8]]) -> Result<Vec<StreamEvent>, DecodeError> {
    decode_with(dialect, Quirks::NONE, pieces)
}

fn decode_with(dialect: Dialect, quirks: Quirks, pieces: &[&[u8]]) -> Result<Vec<StreamEvent>, DecodeError> {
    let mut decoder = dialect.codec().unwrap().stream_decoder(quirks);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece, &mut events)?;
    }
    decoder.finish(&mut events)?;
    Ok(events)
}

fn context(origin: Dialect) -> ReplyContext<'static> {
    ReplyContext { id: "x", now: 1, include_usage: true, origin: Some(origin), ..ReplyContext::default() }
}

/// A stream as it is written for a client.
fn written(dialect: Dialect, context: &ReplyContext<'_>, events: &[StreamEvent]) -> Vec<u8> {
    let mut encoder = dialect.codec().unwrap().stream_encoder(context);
    let mut written = Vec::new();
    events.iter().for_each(|event| encoder.event(event, &mut written));
    encoder.finish(&mut written);
    written
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.is_file() && file.to_string_lossy().ends_with(ending));
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

/// The transcripts of a dialect, by the names of their files.
fn transcripts(dialect: Dialect) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(dialect.as_str());
    let read = |file: PathBuf| (file.file_stem().unwrap().display().to_string(), fs::read(&file).unwrap());
    files(&folder, "").into_iter().map(read).collect()
}

/// Where recordings of others are.
fn fixtures() -> Option<PathBuf> {
    let root = std::env::var_os("HOOSH_FIXTURES").map(PathBuf::from);
    if root.is_none() {
        println!("skipped: HOOSH_FIXTURES is not set, recordings of others are not read");
    }
    root
}

/// The events of a recording that holds the payload of each, one a line.
fn as_stream(lines: &str) -> String {
    lines.lines().map(|line| format!("data: {line}\n\n")).collect()
}
