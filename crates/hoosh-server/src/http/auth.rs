//! Who calls: a bearer token, looked up by its digest.

use std::collections::HashMap;
use std::fmt::Write;

use hoosh_gateway::CallerId;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

/// The keys that may call. Without any, everybody may.
///
/// Only digests are kept. Looking one up takes a time that depends on the digest and not on the key, so a key cannot be
/// guessed piece by piece.
pub(crate) struct Keys(HashMap<[u8; 32], CallerId>);

/// Why somebody may not call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No key came.
    Missing,
    /// It is none of ours.
    Wrong,
}

/// Bytes of a key's digest in its caller's name: 12. What callers keep from each other hangs on it, so that no two keys may share
/// it, not even by a search for such a pair.
const NAME_BYTES: usize = 12;

/// The caller where everybody may call.
const ANYBODY: &str = "anonymous";

// === impl Keys ===

impl Keys {
    pub(crate) fn new<'a>(tokens: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let named = |token: &SecretString| {
            let digest = digest_of(token.expose_secret());
            let mut name = String::from("key-");
            for byte in &digest[..NAME_BYTES] {
                let _written = write!(name, "{byte:02x}"); // A String takes every write.
            }
            (digest, CallerId::new(name))
        };
        Self(tokens.into_iter().map(named).collect())
    }

    /// Whether everybody may call.
    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// All who may call, by name.
    pub(crate) fn callers(&self) -> Vec<CallerId> {
        let mut callers: Vec<CallerId> = self.0.values().cloned().collect();
        callers.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        if callers.is_empty() { vec![CallerId::new(ANYBODY)] } else { callers }
    }

    /// Who sends these headers: by `Authorization: Bearer`, by `x-api-key` as Anthropic's clients send it, by
    /// `x-goog-api-key` or `?key=` as Google's do.
    pub(crate) fn caller(&self, headers: &HeaderMap, query: Option<&str>) -> Result<CallerId, Denied> {
        if self.0.is_empty() {
            return Ok(CallerId::new(ANYBODY));
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let in_query = || query?.split('&').find_map(|pair| pair.strip_prefix("key="));
        let token = bearer
            .or_else(|| header("x-api-key"))
            .or_else(|| header("x-goog-api-key"))
            .or_else(in_query)
            .ok_or(Denied::Missing)?;
        self.0.get(&digest_of(token)).cloned().ok_or(Denied::Wrong)
    }
}

fn digest_of(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn keys_are_found_and_named_without_being_told() {
        let keys = Keys::new(&[SecretString::from("sk-secret"), SecretString::from("other")]);
        let caller = keys.caller(&headers("authorization", "bearer  sk-secret"), None).unwrap();
        assert!(caller.as_str().starts_with("key-") && !caller.as_str().contains("secret"));
        assert_eq!(keys.caller(&headers("x-api-key", "sk-secret"), None), Ok(caller.clone()));
        assert_eq!(keys.caller(&headers("x-goog-api-key", "sk-secret"), None), Ok(caller.clone()));
        assert_eq!(keys.caller(&HeaderMap::new(), Some("alt=sse&key=sk-secret")), Ok(caller));
        assert_eq!(keys.caller(&headers("authorization", "Bearer sk-secre"), None), Err(Denied::Wrong));
        assert_eq!(keys.caller(&headers("authorization", "Basic sk-secret"), None), Err(Denied::Missing));
        assert_eq!(keys.caller(&HeaderMap::new(), None), Err(Denied::Missing));
    }

    #[test]
    fn without_keys_everybody_may_call() {
        assert_eq!(Keys::new(&[]).caller(&HeaderMap::new(), None).unwrap().as_str(), "anonymous");
    }
}
