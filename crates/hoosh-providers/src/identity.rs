//! Who a provider is, for its failures.

use hoosh_core::UpstreamFailure;
use secrecy::{ExposeSecret, SecretString};

/// A provider's name, and the key that must not be in what it says.
pub(crate) struct Identity {
    pub(crate) name: String,
    /// `None` also for one that is too short to be looked for in texts.
    key: Option<SecretString>,
}

/// Shortest key that is looked for: 8 bytes. What is shorter is no secret, and a part of many words.
const KEY_BYTES_MIN: usize = 8;

/// What stands in its place.
const REDACTED: &str = "[redacted]";

impl Identity {
    pub(crate) fn new(name: String, key: Option<&str>) -> Self {
        let key = key.filter(|key| key.len() >= KEY_BYTES_MIN).map(SecretString::from);
        Self { name, key }
    }

    /// The failure with the name on it, and without the key: servers repeat what they do not like, and callers and logs
    /// get to see what they say.
    pub(crate) fn own(&self, mut failure: UpstreamFailure) -> UpstreamFailure {
        if let Some(key) = self.key.as_ref().map(ExposeSecret::expose_secret) {
            let texts = [Some(&mut failure.message), failure.code.as_mut(), failure.param.as_mut()];
            for text in texts.into_iter().flatten() {
                if text.contains(key) {
                    *text = text.replace(key, REDACTED);
                }
                // A long message is cut, in the middle of a key if it must be.
                let beginnings = (KEY_BYTES_MIN..key.len()).rev().filter_map(|length| key.get(..length));
                if let Some(kept) = beginnings.into_iter().find_map(|part| text.strip_suffix(part)) {
                    *text = format!("{kept}{REDACTED}");
                }
            }
        }
        failure.at(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoosh_core::FailureKind;

    #[test]
    fn a_key_is_in_no_failure() {
        let failure = || UpstreamFailure {
            param: Some("sk-12345678".to_owned()),
            ..UpstreamFailure::new(FailureKind::Invalid, "bad key sk-12345678, or x")
        };
        let owned = Identity::new("p".to_owned(), Some("sk-12345678")).own(failure());
        assert_eq!((owned.provider.as_str(), owned.message.as_str()), ("p", "bad key [redacted], or x"));
        assert_eq!(owned.param.as_deref(), Some(REDACTED));
        let cut = Identity::new("p".to_owned(), Some("sk-1234567890")).own(failure());
        assert_eq!(cut.param.as_deref(), Some(REDACTED));
        assert_eq!(Identity::new("p".to_owned(), Some("x")).own(failure()).message, failure().message);
    }
}
