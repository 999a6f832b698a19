//! Signed tokens of others (JWT, RFC 7519): who sends one, and what that one may do here.
//!
//! [`JwtVerifier`] takes a token in the compact form (RFC 7515, 7.1), finds the key it says it is signed with, and checks the
//! signature and then what the token claims. [`ClaimMapping`] makes a caller of the claims. Where keys come from (a file, a URL
//! that is asked again) and which header a token comes in is the server's.
//!
//! # What is refused whatever is configured?
//!
//! As RFC 8725 (best current practices) says:
//!
//! - `alg: none`, and any algorithm that is not listed in the policy (3.1, 3.2);
//! - an algorithm that is not of the key's kind: a token that is signed by HMAC with a public key as its secret finds no key that
//!   is for HMAC (2.1, 3.1); what is published can be no shared secret ([`KeysFrom::Public`]);
//! - a key that comes with the token (`jwk`, `jku`, `x5c`, `x5u` are not looked at), and `crit` (RFC 7515, 4.1.11), since none of
//!   the extensions it may name is known here;
//! - a `typ` of another kind of token (3.11);
//! - one without `exp`, unless the policy takes it; one with `aud` where none of it is ours (RFC 7519, 4.1.3).

mod jwk;
mod mapping;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hoosh_core::limits::{JWT_BYTES_MAX, JWT_KEYS_TRIED_MAX, JWT_LEEWAY, JWT_LEEWAY_MAX};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

pub use self::jwk::{JwkSet, KeysFrom, NoKey};
pub use self::mapping::{ClaimMapping, ClaimPath, Identity, PoolClaim};

/// How a token is signed (RFC 7518, 3.1; RFC 8037, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256, and keys of 2,048 to 8,192 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519. RFC 9864 calls it `Ed25519`, which is understood too.
    EdDsa,
}

/// A word that names no algorithm for tokens that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not known; there are `HS256`, `HS384`, `HS512`, `RS256`, `ES256` and `EdDSA`")]
pub struct UnknownAlgorithm(pub String);

/// Which tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtPolicy {
    /// How they may be signed. At least one.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Who may have made them (`iss`). Empty: whoever has a key. Name them where others make tokens by the same keys.
    pub issuers: Vec<String>,
    /// Names of this gateway, one of which must be in `aud`. Empty: only tokens without `aud` are taken.
    pub audiences: Vec<String>,
    /// How far clocks may differ. At most [`JWT_LEEWAY_MAX`]; by default [`JWT_LEEWAY`].
    pub leeway: Duration,
    /// Whether a token must say when it ends. Without that, one that leaks can be used for ever.
    pub requires_expiry: bool,
}

/// A policy that no token, or nearly any, would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// No algorithm is named.
    #[error(
        "no algorithm is named, so that no token could be taken; write `RS256`, or what the tokens are signed with"
    )]
    NoAlgorithm,
    /// Clocks may differ by more than they do.
    #[error("a leeway of {} s is too long; at most {} s make sense", .0.as_secs(), JWT_LEEWAY_MAX.as_secs())]
    Leeway(Duration),
}

/// Checks tokens.
///
/// ```
/// # use std::time::Duration;
/// use hoosh_budget::jwt::{JwkSet, JwtAlgorithm, JwtPolicy, JwtVerifier, KeysFrom};
/// use jiff::Timestamp;
///
/// # fn doc(jwks: &[u8], token: &str, now: Timestamp) -> Result<(), Box<dyn std::error::Error>> {
/// let policy = JwtPolicy {
///     issuers: vec!["https://login.example.com".into()],
///     audiences: vec!["hoosh".into()],
///     ..JwtPolicy::signed_by([JwtAlgorithm::Rs256, JwtAlgorithm::EdDsa])
/// };
/// let verifier = JwtVerifier::new(JwkSet::parse(jwks, KeysFrom::Public)?, policy)?;
/// println!("{:?}", verifier.verify(token, now)?.subject());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JwtVerifier {
    keys: JwkSet,
    policy: JwtPolicy,
}

/// What a token claims, which is true as far as its issuer is to be believed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// An object.
    json: Value,
    expires: Option<Timestamp>,
}

/// Why a token is not taken. None quotes a part of the token that would let somebody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is longer than any is.
    #[error("the token has {bytes} bytes; at most {JWT_BYTES_MAX} are read")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It is none, or not a whole one.
    #[error("the token's {part} {problem}")]
    Malformed {
        /// Which part of it.
        part: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It is signed in a way that is not taken here.
    #[error("the token is signed by {algorithm:?}, which is not taken here")]
    Algorithm {
        /// What its header says, cut.
        algorithm: String,
    },
    /// It is a token for something else.
    #[error("the token is of type {kind:?}; `JWT` and `at+jwt` are taken")]
    Type {
        /// What its header says, cut.
        kind: String,
    },
    /// No key fits. If the keys come from somewhere they may have been changed there: ask again, but not for each token.
    #[error("no key is known that the token could be signed with{}", .id.as_ref().map_or(String::new(), |id| format!(" (kid {id:?})")))]
    UnknownKey {
        /// The key its header names, cut.
        id: Option<String>,
    },
    /// It was not signed with the key, or changed since.
    #[error("the token's signature does not fit")]
    Signature,
    /// Its time is over.
    #[error("the token expired on {at}; get a new one")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// Its time has not come, or it was made in the future.
    #[error("the token's `{claim}` is {at}, which is in the future; check the clocks")]
    NotYet {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// When it comes.
        at: Timestamp,
    },
    /// Somebody else made it.
    #[error("the token's issuer (`iss`) is not one that is trusted here")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for somebody else (`aud`)")]
    Audience,
    /// A claim is missing or not of its type.
    #[error("the token's claim `{claim}` {problem}")]
    Claim {
        /// Which.
        claim: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The part of a header (RFC 7515, 4.1) that is looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

// === impl JwtAlgorithm ===

impl JwtAlgorithm {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Hs256, Self::Hs384, Self::Hs512, Self::Rs256, Self::Es256, Self::EdDsa];

    /// Its name in `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl FromStr for JwtAlgorithm {
    type Err = UnknownAlgorithm;

    /// Reads a name as it is in `alg`, where case matters (RFC 7515, 4.1.1).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text);
        let named = named.or_else(|| (text == "Ed25519").then_some(Self::EdDsa));
        named.ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl JwtPolicy ===

impl JwtPolicy {
    /// Tokens signed in one of these ways, by whoever has a key, that say when they end and for nobody in particular.
    pub fn signed_by(algorithms: impl IntoIterator<Item = JwtAlgorithm>) -> Self {
        Self {
            algorithms: algorithms.into_iter().collect(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: JWT_LEEWAY,
            requires_expiry: true,
        }
    }
}

// === impl JwtVerifier ===

impl JwtVerifier {
    /// Takes tokens that these keys have signed and that this policy allows.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`].
    pub fn new(keys: JwkSet, policy: JwtPolicy) -> Result<Self, InvalidPolicy> {
        if policy.algorithms.is_empty() {
            Err(InvalidPolicy::NoAlgorithm)
        } else if policy.leeway > JWT_LEEWAY_MAX {
            Err(InvalidPolicy::Leeway(policy.leeway))
        } else {
            Ok(Self { keys, policy })
        }
    }

    /// The same policy with other keys, for when they have been changed where they come from.
    #[must_use]
    pub fn with_keys(&self, keys: JwkSet) -> Self {
        Self { keys, policy: self.policy.clone() }
    }

    /// The keys.
    pub fn keys(&self) -> &JwkSet {
        &self.keys
    }

    /// What a token claims, if it is to be believed at `now`.
    ///
    /// Nothing of the claims is read before the signature is found right.
    ///
    /// # Errors
    ///
    /// [`JwtError`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, JwtError> {
        if token.len() > JWT_BYTES_MAX {
            return Err(JwtError::TooLong { bytes: token.len() });
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed("form", NO_TOKEN))?;
        let (header, payload) = signed.split_once('.').ok_or(malformed("form", NO_TOKEN))?;
        if payload.contains('.') {
            return Err(malformed("form", "is none of a signed token; encrypted ones are not taken"));
        }
        let (algorithm, id) = self.read_header(header)?;
        let signature = decode("signature", signature)?;

        let mut tried = 0;
        let keys = self.keys.candidates(algorithm, id.as_deref()).take(JWT_KEYS_TRIED_MAX);
        let is_right = keys.inspect(|_| tried += 1).any(|key| key.verifies(signed.as_bytes(), &signature));
        match (is_right, tried) {
            (true, _) => self.read_claims(payload, now),
            (false, 0) => Err(JwtError::UnknownKey { id: id.as_deref().map(cut) }),
            (false, _) => Err(JwtError::Signature),
        }
    }

    fn read_header(&self, header: &str) -> Result<(JwtAlgorithm, Option<String>), JwtError> {
        let header = decode("header", header)?;
        let Header { alg, kid, typ, crit } = serde_json::from_slice(&header)
            .map_err(|_| malformed("header", "is no JSON object with a text `alg`"))?;
        let algorithm = alg.parse().ok().filter(|algorithm| self.policy.algorithms.contains(algorithm));
        let Some(algorithm) = algorithm else { return Err(JwtError::Algorithm { algorithm: cut(&alg) }) };
        if crit.is_some() {
            return Err(malformed(
                "header",
                "has `crit`, and none of the extensions it may name is known here",
            ));
        }
        // RFC 7519, 5.1; RFC 9068, 2.1. "application/" may be left out (RFC 7515, 4.1.9).
        let kind = typ.as_deref().map(|typ| typ.to_ascii_lowercase());
        let kind = kind.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
        if let (Some(typ), Some(kind)) = (&typ, kind)
            && kind != "jwt"
            && kind != "at+jwt"
        {
            return Err(JwtError::Type { kind: cut(typ) });
        }
        Ok((algorithm, kid))
    }

    fn read_claims(&self, payload: &str, now: Timestamp) -> Result<Claims, JwtError> {
        let payload = decode("payload", payload)?;
        // One reading for all: of a name that comes twice the last counts everywhere (RFC 7519, 4).
        let json: Value = serde_json::from_slice(&payload)
            .ok()
            .filter(Value::is_object)
            .ok_or(malformed("payload", "is no JSON object"))?;
        let (issuer, audience) = (text_claim(&json, "iss")?, texts_claim(&json, "aud")?);
        let policy = &self.policy;
        if !policy.issuers.is_empty()
            && !issuer.is_some_and(|issuer| policy.issuers.iter().any(|trusted| trusted == issuer))
        {
            return Err(JwtError::Issuer);
        }
        let is_for_us = match &audience {
            Some(audience) => audience.iter().any(|name| policy.audiences.iter().any(|own| own == name)),
            None => policy.audiences.is_empty(),
        };
        if !is_for_us {
            return Err(JwtError::Audience);
        }
        let leeway = i64::try_from(policy.leeway.as_secs()).unwrap_or(i64::MAX);
        let now = now.as_second();
        let expires = date_claim(&json, "exp")?;
        match expires {
            None if policy.requires_expiry => {
                return Err(claim("exp", "is missing; only tokens that end are taken"));
            }
            Some(at) if now >= at.saturating_add(leeway) => {
                return Err(JwtError::Expired { at: timestamp(at) });
            }
            _ => {}
        }
        for name in ["nbf", "iat"] {
            if let Some(at) = date_claim(&json, name)?
                && now < at.saturating_sub(leeway)
            {
                return Err(JwtError::NotYet { claim: name, at: timestamp(at) });
            }
        }
        text_claim(&json, "sub")?;
        Ok(Claims { json, expires: expires.map(timestamp) })
    }
}

const NO_TOKEN: &str = "is none of a signed token, which has three parts with dots between them";

fn malformed(part: &'static str, problem: &'static str) -> JwtError {
    JwtError::Malformed { part, problem }
}

fn claim(name: &str, problem: impl Into<String>) -> JwtError {
    JwtError::Claim { claim: name.to_owned(), problem: problem.into() }
}

/// Base64url without padding (RFC 7515, 2), in the one way that these bytes can be written.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, JwtError> {
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed(part, "is not in base64url"))
}

/// What somebody else wrote, for a message.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn text_claim<'a>(json: &'a Value, name: &str) -> Result<Option<&'a str>, JwtError> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| claim(name, "is no text")),
    }
}

/// A text, or a list of them.
fn texts_claim<'a>(json: &'a Value, name: &str) -> Result<Option<Vec<&'a str>>, JwtError> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            texts(value).map(Some).ok_or_else(|| claim(name, "is neither a text nor a list of texts"))
        }
    }
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Seconds since 1970; parts of one are cut off (RFC 7519, 2: NumericDate).
fn date_claim(json: &Value, name: &str) -> Result<Option<i64>, JwtError> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            // What is beyond an i64 is beyond all times, and `as` puts it at the end of them.
            let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
            seconds.map(Some).ok_or_else(|| claim(name, "is no number of seconds since 1970"))
        }
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    let clamped = seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(clamped).unwrap_or_default()
}

// === impl Claims ===

impl Claims {
    /// All of them, an object.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Who the token is about (`sub`), by a name that is unique within its issuer.
    pub fn subject(&self) -> Option<&str> {
        self.json.get("sub").and_then(Value::as_str)
    }

    /// Who made it (`iss`).
    pub fn issuer(&self) -> Option<&str> {
        self.json.get("iss").and_then(Value::as_str)
    }

    /// From when it is refused (`exp`), but for the leeway. It can be believed until then without another look at it.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

#[cfg(test)]
mod tests;
