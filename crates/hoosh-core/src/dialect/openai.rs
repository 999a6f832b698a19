//! What OpenAI's dialects share: errors, usage, what surrounds the choices, and watching what is passed through.

pub(super) mod chunks;
pub(super) mod error;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod tap;
mod texts;
pub(super) mod usage;

/// The payload that ends a stream.
pub(super) const DONE: &[u8] = b"[DONE]";
