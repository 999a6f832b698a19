//! What the black-box tests share: the real `hoosh` binary, and upstreams that do on demand what real ones do rarely.
//!
//! An [`Upstream`] is scripted down to its bytes and remembers what it was sent; a [`Hoosh`] is a process of the binary
//! that this workspace built, stopped when it goes out of scope.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by its panic")]
#![allow(clippy::missing_panics_doc)]

mod hoosh;
mod raw;
mod upstream;

pub use hoosh::{Hoosh, binary, client, client_builder, finished};
pub use raw::{Kept, RawReply, exchange};
pub use upstream::{End, Request, Script, Upstream, chunk, completion, finish, listing, refused_port, sse};

use std::time::Duration;

/// Longest time any single step of a test waits: the machine may be busy, but nothing takes this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A body for `/v1/chat/completions` that asks `model` something.
pub fn chat_body(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#)
}
