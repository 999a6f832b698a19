//! Tokens that others sign: whose they are, and what that one may do.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoosh_budget::jwt::{
    ClaimMapping, ClaimPath, JwkSet, JwtError, JwtPolicy, JwtVerifier, KeysFrom, PoolClaim,
};
use hoosh_budget::keys::{Grant, KeyId, KeyRecord, Scope, Scopes};
use hoosh_core::limits::JWKS_BYTES_MAX;
use jiff::Timestamp;

use super::KeysError;
use super::published::Published;
use crate::config::JwtAuth;

/// What stands before each scope in a token: other gateways have an `admin` too.
const SCOPE_PREFIX: &str = "hoosh:";

/// Checks signed tokens.
#[derive(Debug)]
pub(crate) struct Signed {
    keys: Keys,
    mapping: ClaimMapping,
}

/// What they are checked with.
#[derive(Debug)]
enum Keys {
    /// Those of a file.
    Read(Arc<JwtVerifier>),
    /// Those of a URL, with how they are used, and those of them that were used last.
    Fetched { from: Arc<Published>, interval: Option<Duration>, policy: JwtPolicy, last: Mutex<Last> },
}

/// A verifier with the keys of a version.
#[derive(Debug, Default)]
struct Last {
    version: u64,
    verifier: Option<Arc<JwtVerifier>>,
}

// === impl Signed ===

impl Signed {
    /// Reads the keys of a configuration, or goes on with those that were fetched before from the same URL.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no key that can be used.
    pub(crate) fn read(auth: &JwtAuth, before: Option<&Self>) -> Result<Self, KeysError> {
        let keys = match &auth.url {
            Some(url) => {
                let known =
                    before.and_then(|before| Some(before.published()?.0)).filter(|known| known.url() == url);
                let from = known.map_or_else(|| Arc::new(Published::new(url.clone())), Arc::clone);
                Keys::Fetched {
                    from,
                    interval: auth.refresh,
                    policy: Self::policy(auth),
                    last: Mutex::default(),
                }
            }
            None => Keys::Read(Self::of_file(auth)?),
        };
        Ok(Self { keys, mapping: Self::mapping(auth) })
    }

    fn policy(auth: &JwtAuth) -> JwtPolicy {
        JwtPolicy {
            issuers: auth.issuers.clone(),
            audiences: auth.audiences.clone(),
            ..JwtPolicy::signed_by(auth.algorithms.iter().copied())
        }
    }

    fn of_file(auth: &JwtAuth) -> Result<Arc<JwtVerifier>, KeysError> {
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
        let verifier = JwtVerifier::new(keys, Self::policy(auth));
        verifier.map(Arc::new).map_err(|error| wrong(format!("is of no use: {error}")))
    }

    fn mapping(auth: &JwtAuth) -> ClaimMapping {
        let base = match auth.scopes_claim {
            Some(_) => Grant { scopes: Scopes::of(Scope::ALL), ..Grant::default() },
            None => Grant::inference(),
        };
        let pools = auth.pools_claim.as_deref().map(|path| PoolClaim {
            path: ClaimPath::new(path),
            prefix: auth.pools_prefix.clone(),
            // Whoever leaves it out would go past the budget.
            is_optional: false,
        });
        ClaimMapping {
            pools: pools.into_iter().collect(),
            caller: ClaimPath::new(auth.caller_claim.as_str()),
            scopes: auth.scopes_claim.as_deref().map(ClaimPath::new),
            scope_prefix: SCOPE_PREFIX.to_owned(),
            models: auth.models_claim.as_deref().map(ClaimPath::new),
            ..ClaimMapping::to(base)
        }
    }

    /// What is published at the URL of the keys, and how often it is asked for. `None`: they are in a file.
    pub(crate) fn published(&self) -> Option<(&Arc<Published>, Option<Duration>)> {
        match &self.keys {
            Keys::Read(_) => None,
            Keys::Fetched { from, interval, .. } => Some((from, *interval)),
        }
    }

    /// What checks tokens now. `None`: the keys were not fetched yet.
    fn verifier(&self) -> Option<Arc<JwtVerifier>> {
        match &self.keys {
            Keys::Read(verifier) => Some(Arc::clone(verifier)),
            Keys::Fetched { from, policy, last, .. } => {
                let version = from.version();
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.version != version {
                    // Both were found good before.
                    let verifier = from.keys().and_then(|keys| JwtVerifier::new(keys, policy.clone()).ok());
                    *last = Last { version, verifier: verifier.map(Arc::new) };
                }
                last.verifier.clone()
            }
        }
    }

    /// Whose token that is, as if that one had a key of its own.
    ///
    /// # Errors
    ///
    /// Why it is not taken.
    pub(crate) fn authenticate(&self, token: &str, now: Timestamp) -> Result<Arc<KeyRecord>, JwtError> {
        let verifier = self.verifier().ok_or(JwtError::UnknownKey { id: None })?;
        let identity = self.mapping.identify(&verifier.verify(token, now)?)?;
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
