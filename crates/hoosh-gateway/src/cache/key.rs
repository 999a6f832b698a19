//! What an answer is kept under: everything that another call must share with the one that was answered.

use hoosh_core::dialect::ANTHROPIC_VERSION;
use hoosh_core::{ContextWish, Fidelity};
use ring::digest::{Context, SHA256};

use crate::call::Call;

/// A digest of all of it: two that differ do not meet, whoever chooses them, so that no caller can reach another's answers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of a call whose body is, in its canonical form, `asked`.
    ///
    /// The dialect is part of it: its words are those of the answer. So is what the caller wants done about losses, which
    /// decides who may answer, what it wants done where its prompt is too long, which decides what is asked, and the headers that go to the provider.
    pub(crate) fn of(call: &Call, asked: &[u8]) -> Self {
        let mut digest = Context::new(&SHA256);
        let mut add = |field: &[u8]| add(&mut digest, field);
        add(call.caller.as_str().as_bytes());
        add(call.dialect.as_str().as_bytes());
        add(call.head.model.as_bytes());
        add(call.fidelity.map_or("", Fidelity::as_str).as_bytes());
        add(if call.local_only { b"local" } else { b"" });
        if let Some(ContextWish { policy, keep_last }) = call.context {
            add(policy.as_str().as_bytes());
            add(&keep_last.unwrap_or(0).to_be_bytes());
        }
        // Who names no version means the one that is sent then.
        let says_nothing =
            |name: &str, value: &[u8]| name == "anthropic-version" && value == ANTHROPIC_VERSION.as_bytes();
        let headers = call.headers.iter();
        for (name, value) in headers.filter(|(name, value)| !says_nothing(name.as_str(), value.as_bytes())) {
            add(name.as_str().as_bytes());
            add(value.as_bytes());
        }
        // A body begins with a brace, as no header does.
        add(asked);
        Self::finish(digest)
    }

    /// The key of what shares this one, and one thing more.
    pub(crate) fn with(&self, field: &[u8]) -> Self {
        let mut digest = Context::new(&SHA256);
        add(&mut digest, &self.0);
        add(&mut digest, field);
        Self::finish(digest)
    }

    fn finish(digest: Context) -> Self {
        let mut key = [0; 32];
        key.copy_from_slice(digest.finish().as_ref());
        Self(key)
    }
}

/// With its length before it, no field can run into the next.
fn add(digest: &mut Context, field: &[u8]) {
    digest.update(&(field.len() as u64).to_be_bytes());
    digest.update(field);
}
