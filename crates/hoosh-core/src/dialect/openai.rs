//! What OpenAI's dialects share: errors, usage, what surrounds the choices, and watching what is passed through.

pub(super) mod chunks;
pub(super) mod error;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod tap;
pub(super) mod usage;

use serde::ser::{Serialize, Serializer};

/// The payload that ends a stream.
pub(super) const DONE: &[u8] = b"[DONE]";

/// Writes a list from anything that can be gone through more than once.
pub(super) struct List<I>(pub(super) I);

impl<I> Serialize for List<I>
where
    I: IntoIterator + Clone,
    I::Item: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// Appends `value` as one event.
pub(super) fn write_event<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    write_json(value, out);
    out.extend_from_slice(b"\n\n");
}

/// Appends `value` as JSON. Our own wire structs only hold what JSON can write, and a `Vec` takes every byte.
pub(super) fn write_json<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(&mut *out, value);
    debug_assert!(written.is_ok(), "our own wire structs can be written: {written:?}");
}
