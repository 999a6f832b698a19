//! The keys that tokens are signed with (JWK, RFC 7517), and whether one did sign something.
//!
//! A key is of one kind, and each algorithm is for one kind: that is what keeps a public key from being taken for a shared
//! secret. Keys that cannot be used are passed over, as RFC 7517, 5 asks, and [`JwkSet::unusable`] says why.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hoosh_core::limits::{JWKS_BYTES_MAX, JWKS_KEYS_MAX};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::JwtAlgorithm;

/// Keys that may have signed a token.
#[derive(Debug)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    unusable: Vec<String>,
}

/// Where a set of keys comes from, and so whether it can hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysFrom {
    /// Whoever likes can read it: a URL. Shared secrets in it (`kty: oct`) are none and are passed over.
    Public,
    /// Only the gateway and who makes the tokens: a file.
    Secret,
}

/// A set of keys in which there is none to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// It is none.
    #[error("the keys are no JSON object with a list `keys` (RFC 7517, 5)")]
    Malformed,
    /// It is longer than any is.
    #[error("the keys have {bytes} bytes; at most {JWKS_BYTES_MAX} are read")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// None of them is for what tokens here are signed with.
    #[error("none of the keys can be used: {}", if .0.is_empty() { "the list is empty".to_owned() } else { .0.join("; ") })]
    AllUnusable(Vec<String>),
    /// A shared secret is easier to guess than to break.
    #[error("a secret of {bytes} bytes is too short for {algorithm}, which needs {needed} (RFC 7518, 3.2)")]
    WeakSecret {
        /// How long it is.
        bytes: usize,
        /// For what.
        algorithm: JwtAlgorithm,
        /// How long it has to be.
        needed: usize,
    },
}

/// One key.
#[derive(Debug)]
pub(super) struct Jwk {
    id: Option<String>,
    /// The only algorithm that it is for, where it says so (RFC 7517, 4.4).
    only: Option<JwtAlgorithm>,
    material: Material,
}

enum Material {
    /// One for each algorithm that it is long enough for.
    Secret(Vec<(JwtAlgorithm, hmac::Key)>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// A point of P-256, uncompressed.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

/// A key and what it is to be used as.
pub(super) struct Candidate<'a> {
    algorithm: JwtAlgorithm,
    material: &'a Material,
}

/// What is looked at of a JWK.
#[derive(Deserialize)]
struct Wire<'a> {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    x: Option<&'a str>,
    y: Option<&'a str>,
    k: Option<&'a str>,
}

// === impl JwkSet ===

impl JwkSet {
    /// Reads a JWK Set (RFC 7517, 5) or a single JWK.
    ///
    /// # Errors
    ///
    /// [`NoKey`] if it is none, or holds no key that can be used.
    pub fn parse(json: &[u8], from: KeysFrom) -> Result<Self, NoKey> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a serde_json::value::RawValue>,
        }
        if json.len() > JWKS_BYTES_MAX {
            return Err(NoKey::TooLong { bytes: json.len() });
        }
        let (mut keys, mut unusable) = (Vec::new(), Vec::new());
        let mut add = |place: usize, json: &str| match Jwk::parse(json, from) {
            Ok(_) if keys.len() >= JWKS_KEYS_MAX => {
                unusable.push(format!(
                    "key {place} comes after {JWKS_KEYS_MAX} others, which are all that are kept"
                ));
            }
            Ok(key) => keys.push(key),
            Err(problem) => unusable.push(format!("key {place} {problem}")),
        };
        if let Ok(set) = serde_json::from_slice::<Set<'_>>(json) {
            set.keys.iter().enumerate().for_each(|(place, key)| add(place, key.get()));
        } else {
            let is_key = |value: &Value| value.get("kty").is_some();
            let one = serde_json::from_slice(json).ok().filter(is_key).and(std::str::from_utf8(json).ok());
            add(0, one.ok_or(NoKey::Malformed)?);
        }
        if keys.is_empty() { Err(NoKey::AllUnusable(unusable)) } else { Ok(Self { keys, unusable }) }
    }

    /// One shared secret for HMAC, without a name.
    ///
    /// # Errors
    ///
    /// [`NoKey::WeakSecret`] if it is shorter than the hash; [`NoKey::AllUnusable`] if the algorithm takes no secret.
    pub fn of_secret(secret: &[u8], algorithm: JwtAlgorithm) -> Result<Self, NoKey> {
        let Some((hash, needed)) = hash_of(algorithm) else {
            return Err(NoKey::AllUnusable(vec![format!("{algorithm} takes a public key and no secret")]));
        };
        if secret.len() < needed {
            return Err(NoKey::WeakSecret { bytes: secret.len(), algorithm, needed });
        }
        let material = Material::Secret(vec![(algorithm, hmac::Key::new(hash, secret))]);
        Ok(Self { keys: vec![Jwk { id: None, only: Some(algorithm), material }], unusable: Vec::new() })
    }

    /// How many can be used: at least one.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Which keys were passed over, each with the reason: for the log.
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    /// Those that a token of this algorithm may be signed with: of the name it gives, or of none if there are none of that name.
    /// If it gives no name, all (RFC 7515, D).
    pub(super) fn candidates(
        &self,
        algorithm: JwtAlgorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = Candidate<'_>> {
        let is_named = id.is_some() && self.keys.iter().any(|key| key.id.as_deref() == id);
        let fits = move |key: &&Jwk| match (is_named, id) {
            (true, _) => key.id.as_deref() == id,
            (false, Some(_)) => key.id.is_none(),
            (false, None) => true,
        };
        // Owned, so that the iterator borrows no name.
        let fitting: Vec<&Jwk> = self.keys.iter().filter(fits).filter(|key| key.is_for(algorithm)).collect();
        fitting.into_iter().map(move |key| Candidate { algorithm, material: &key.material })
    }
}

// === impl Jwk ===

impl Jwk {
    /// What is wrong with it is said without quoting any of its material.
    fn parse(json: &str, from: KeysFrom) -> Result<Self, String> {
        let wire: Wire<'_> =
            serde_json::from_str(json).map_err(|_| "is no JSON object of texts with `kty`".to_owned())?;
        let named = wire.kid.as_ref().map_or(String::new(), |kid| format!("(kid {:?}) ", super::cut(kid)));
        Self::from_wire(wire, from).map_err(|problem| format!("{named}{problem}"))
    }

    fn from_wire(wire: Wire<'_>, from: KeysFrom) -> Result<Self, String> {
        if wire.usage.as_ref().is_some_and(|usage| usage != "sig") {
            return Err("is not for signatures (`use`)".to_owned());
        }
        if wire.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("is not for verifying (`key_ops`)".to_owned());
        }
        let only = match &wire.alg {
            Some(name) => Some(name.parse().map_err(|_| {
                format!("is for {:?}, which tokens here are not signed with", super::cut(name))
            })?),
            None => None,
        };
        let material = match (wire.kty.as_str(), wire.crv.as_deref()) {
            ("oct", _) if from == KeysFrom::Public => {
                return Err("is a secret that everybody can read (`kty` is `oct`)".to_owned());
            }
            ("oct", _) => secret(&bytes("k", wire.k)?, only)?,
            ("RSA", _) => rsa(bytes("n", wire.n)?, bytes("e", wire.e)?)?,
            ("EC", Some("P-256")) => {
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&exactly::<32>("x", wire.x)?);
                point[33..].copy_from_slice(&exactly::<32>("y", wire.y)?);
                Material::P256(point)
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(exactly("x", wire.x)?),
            (kty, crv) => {
                let crv = crv.map_or(String::new(), |crv| format!(" {:?}", super::cut(crv)));
                return Err(format!("is of a kind that is not used here ({:?}{crv})", super::cut(kty)));
            }
        };
        let key = Self { id: wire.kid, only, material };
        match only {
            Some(only) if !key.is_for(only) => Err(format!("is for {only}, which takes another kind of key")),
            _ => Ok(key),
        }
    }

    fn is_for(&self, algorithm: JwtAlgorithm) -> bool {
        let is_of_its_kind = match &self.material {
            Material::Secret(keys) => keys.iter().any(|(its, _)| *its == algorithm),
            Material::Rsa(_) => algorithm == JwtAlgorithm::Rs256,
            Material::P256(_) => algorithm == JwtAlgorithm::Es256,
            Material::Ed25519(_) => algorithm == JwtAlgorithm::EdDsa,
        };
        is_of_its_kind && self.only.is_none_or(|only| only == algorithm)
    }
}

/// Base64url without padding (RFC 7518, 6).
fn bytes(field: &str, text: Option<&str>) -> Result<Zeroizing<Vec<u8>>, String> {
    let text = text.ok_or_else(|| format!("has no `{field}`"))?;
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| format!("has a `{field}` that is not in base64url"))
}

fn exactly<const LENGTH: usize>(field: &str, text: Option<&str>) -> Result<[u8; LENGTH], String> {
    let bytes = bytes(field, text)?;
    let fixed = <[u8; LENGTH]>::try_from(bytes.as_slice());
    fixed.map_err(|_| format!("has a `{field}` of {} bytes in place of {LENGTH}", bytes.len()))
}

/// The hash of an algorithm with a shared secret, and its length, which the secret must have at least.
fn hash_of(algorithm: JwtAlgorithm) -> Option<(hmac::Algorithm, usize)> {
    match algorithm {
        JwtAlgorithm::Hs256 => Some((hmac::HMAC_SHA256, 32)),
        JwtAlgorithm::Hs384 => Some((hmac::HMAC_SHA384, 48)),
        JwtAlgorithm::Hs512 => Some((hmac::HMAC_SHA512, 64)),
        JwtAlgorithm::Rs256 | JwtAlgorithm::Es256 | JwtAlgorithm::EdDsa => None,
    }
}

fn secret(secret: &[u8], only: Option<JwtAlgorithm>) -> Result<Material, String> {
    let is_meant = |algorithm: &JwtAlgorithm| only.is_none_or(|only| only == *algorithm);
    let meant = JwtAlgorithm::ALL.into_iter().filter(is_meant);
    let keys: Vec<_> = meant
        .filter_map(|algorithm| {
            let (hash, needed) = hash_of(algorithm)?;
            (secret.len() >= needed).then(|| (algorithm, hmac::Key::new(hash, secret)))
        })
        .collect();
    if keys.is_empty() {
        return Err(format!("has a `k` of {} bytes, which is too short", secret.len()));
    }
    Ok(Material::Secret(keys))
}

fn rsa(n: Zeroizing<Vec<u8>>, e: Zeroizing<Vec<u8>>) -> Result<Material, String> {
    // Some write the sign's zero before it, though RFC 7518, 6.3.1.1 says not to.
    let number = |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().skip_while(|byte| *byte == 0).collect() };
    let (n, e) = (number(&n), number(&e));
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !(2_048..=8_192).contains(&bits) {
        return Err(format!("is an RSA key of {bits} bits; 2,048 to 8,192 are taken"));
    }
    Ok(Material::Rsa(RsaPublicKeyComponents { n, e }))
}

/// Without the key.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(…)",
            Self::Rsa(_) => "Rsa(…)",
            Self::P256(_) => "P256(…)",
            Self::Ed25519(_) => "Ed25519(…)",
        })
    }
}

// === impl Candidate ===

impl Candidate<'_> {
    /// Whether this key signed these bytes.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self.material {
            Material::Secret(keys) => keys
                .iter()
                .find(|(algorithm, _)| *algorithm == self.algorithm)
                .is_some_and(|(_, key)| hmac::verify(key, signed, signature).is_ok()),
            Material::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok(),
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok(),
        }
    }
}
