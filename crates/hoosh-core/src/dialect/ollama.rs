//! Ollama's own API. Source: docs.ollama.com/api, read 2026-11-24.
//!
//! Chat and generate share options, the surroundings of an answer and the form of a stream (one JSON object a line).

pub(super) mod chat;
pub(super) mod embed;
pub(super) mod error;
pub(super) mod generate;
mod messages;
mod options;
mod reply;
mod stream;
pub(super) mod tap;
pub(super) mod time;

/// Which of the two: they differ in where the text of an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    Generate,
}
