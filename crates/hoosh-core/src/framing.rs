//! Framing: bytes as they come off a connection, cut into events.

mod lines;
mod sse;

pub use lines::{Line, LineFramer};
pub use sse::{SseEvent, SseFramer};

/// A stream that cannot be cut into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// One event is longer than [`STREAM_EVENT_BYTES_MAX`](crate::limits::STREAM_EVENT_BYTES_MAX).
    #[error("an event of the stream is longer than {} MiB", crate::limits::STREAM_EVENT_BYTES_MAX >> 20)]
    TooLong,
}
