//! Tokens that others sign: whose they are, and what that one may do.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use hoosh_budget::jwt::{ClaimMapping, ClaimPath, JwkSet, JwtError, JwtPolicy, JwtVerifier, KeysFrom};
use hoosh_budget::keys::{Grant, KeyId, KeyRecord, Scope, Scopes};
use hoosh_core::limits::JWKS_BYTES_MAX;
use jiff::Timestamp;

use super::KeysError;
use crate::config::JwtAuth;

/// What stands before each scope in a token: other gateways have an `admin` too.
const SCOPE_PREFIX: &str = "hoosh:";

/// Checks signed tokens.
#[derive(Debug)]
pub(crate) struct Signed {
    verifier: JwtVerifier,
    mapping: ClaimMapping,
}

// === impl Signed ===

impl Signed {
    /// Reads the keys of a configuration.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no key that can be used.
    pub(crate) fn read(auth: &JwtAuth) -> Result<Self, KeysError> {
        let wrong = |problem: String| KeysError::Jwt { path: auth.path.clone(), problem };
        let mut json = Vec::new();
        let most = JWKS_BYTES_MAX as u64 + 1;
        let read = File::open(&auth.path).and_then(|file| file.take(most).read_to_end(&mut json));
        read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        // It is ours alone, so that it may hold shared secrets.
        let keys = JwkSet::parse(&json, KeysFrom::Secret)
            .map_err(|error| wrong(format!("holds no keys: {error}")))?;
        for unusable in keys.unusable() {
            tracing::warn!(target: "hoosh::keys", file = auth.said, "a key for tokens is passed over: {unusable}");
        }
        let policy = JwtPolicy {
            issuers: auth.issuers.clone(),
            audiences: auth.audiences.clone(),
            ..JwtPolicy::signed_by(auth.algorithms.iter().copied())
        };
        let verifier =
            JwtVerifier::new(keys, policy).map_err(|error| wrong(format!("is of no use: {error}")))?;
        let base = match auth.scopes_claim {
            Some(_) => Grant { scopes: Scopes::of(Scope::ALL), ..Grant::default() },
            None => Grant::inference(),
        };
        let mapping = ClaimMapping {
            caller: ClaimPath::new(auth.caller_claim.as_str()),
            scopes: auth.scopes_claim.as_deref().map(ClaimPath::new),
            scope_prefix: SCOPE_PREFIX.to_owned(),
            models: auth.models_claim.as_deref().map(ClaimPath::new),
            ..ClaimMapping::to(base)
        };
        Ok(Self { verifier, mapping })
    }

    /// Whose token that is, as if that one had a key of its own.
    ///
    /// # Errors
    ///
    /// Why it is not taken.
    pub(crate) fn authenticate(&self, token: &str, now: Timestamp) -> Result<Arc<KeyRecord>, JwtError> {
        let identity = self.mapping.identify(&self.verifier.verify(token, now)?)?;
        let id = KeyId::new(identity.caller.as_str());
        Ok(Arc::new(KeyRecord {
            prefix: String::new(),
            name: identity.caller,
            created: now,
            expires: identity.expires,
            revoked: None,
            rotated_from: None,
            booked_as: id.clone(),
            last_used: None,
            grant: identity.grant,
            id,
        }))
    }
}
