//! The keys of a log: what its chain and its checkpoints are made with, and what they are checked with.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hoosh_core::limits::{AUDIT_KEY_FILE_BYTES_MAX, AUDIT_KEYS_MAX};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ring::{digest, hmac};
use zeroize::Zeroizing;

use crate::Digest;

/// What each key begins with in a file, so that scanners for leaked secrets find it.
const BRAND: &str = "hoosh_audit_";

/// 32 for the chain, 32 for the signature.
const SECRET_BYTES: usize = 64;

/// A name of a key that says nothing of it: 16 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyId(Arc<str>);

/// One key of a log: a secret of 256 bits for the chain's HMAC-SHA-256, and one of Ed25519 for checkpoints.
///
/// Whoever has it can write a log anew that verifies by it; what holds against that are checkpoints kept elsewhere.
pub struct AuditKey {
    id: KeyId,
    chain: hmac::Key,
    signature: Ed25519KeyPair,
}

/// Who signs checkpoints, for those who only verify: 32 bytes, as text 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// The keys that a log has had, the one in use last.
#[derive(Debug, Clone)]
pub struct KeyRing {
    keys: Vec<Arc<AuditKey>>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text holds none.
    #[error("{place} holds no key; `hoosh audit key` writes one")]
    Empty {
        /// Where it was looked for.
        place: String,
    },
    /// A line is none.
    #[error(
        "{place}:{line}: not a key: it must be `{BRAND}` and 128 hexadecimal digits, as `hoosh audit key` writes them"
    )]
    Invalid {
        /// Where it is.
        place: String,
        /// In which line, from 1.
        line: usize,
    },
    /// There are more than anybody needs.
    #[error("{place} holds more than {AUDIT_KEYS_MAX} keys")]
    TooMany {
        /// Where they are.
        place: String,
    },
    /// Others than its owner can read the file.
    #[error("{} can be read by others (mode {mode:o}); `chmod 600` it, and rotate the key if they may have done so", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// What its permissions are.
        mode: u32,
    },
    /// The file could not be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The system's generator of random numbers failed.
    #[error("the system gives no random bytes; no key can be made")]
    NoRandomness,
}

/// It is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key is 64 hexadecimal digits, as `hoosh audit key --public` writes them")]
pub struct InvalidPublicKey;

// === impl KeyId ===

impl KeyId {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

// === impl AuditKey ===

impl AuditKey {
    fn from_secret(secret: &[u8; SECRET_BYTES]) -> Option<Self> {
        let (chain, seed) = secret.split_at(SECRET_BYTES / 2);
        let chain = hmac::Key::new(hmac::HMAC_SHA256, chain);
        let signature = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        // By both halves, so that no two keys have the same name.
        let mut named = hmac::Context::with_key(&chain);
        named.update(b"hoosh audit key");
        named.update(signature.public_key().as_ref());
        let id = KeyId(hex::encode(&named.sign().as_ref()[..8]).into());
        Some(Self { id, chain, signature })
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What its checkpoints are verified with.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.signature.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The link of a record behind the one whose link is `before`.
    pub(crate) fn link(&self, before: &Digest, record: &[u8]) -> Digest {
        let mut context = hmac::Context::with_key(&self.chain);
        context.update(before);
        context.update(record);
        let mut link = [0; 32];
        link.copy_from_slice(context.sign().as_ref());
        link
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.signature.sign(bytes).as_ref());
        signature
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").field("id", &self.id).finish_non_exhaustive()
    }
}

// === impl PublicKey ===

impl PublicKey {
    pub(crate) fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = InvalidPublicKey;

    fn from_str(text: &str) -> Result<Self, InvalidPublicKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| InvalidPublicKey)?;
        Ok(Self(bytes))
    }
}

// === impl KeyRing ===

impl KeyRing {
    /// Reads keys: one on each line, the one in use last; lines that begin with `#` and empty ones are passed over.
    ///
    /// `place` is what errors call the text: a path, the name of a variable.
    ///
    /// # Errors
    ///
    /// If there is none, or a line is none. No part of the text is in the error.
    pub fn parse(text: &str, place: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = || KeyError::Invalid { place: place.to_owned(), line: index + 1 };
            let mut secret = Zeroizing::new([0; SECRET_BYTES]);
            let digits = line.strip_prefix(BRAND).ok_or_else(invalid)?;
            hex::decode_to_slice(digits, &mut *secret).map_err(|_| invalid())?;
            keys.push(Arc::new(AuditKey::from_secret(&secret).ok_or_else(invalid)?));
        }
        match keys.len() {
            0 => Err(KeyError::Empty { place: place.to_owned() }),
            1..=AUDIT_KEYS_MAX => Ok(Self { keys }),
            _ => Err(KeyError::TooMany { place: place.to_owned() }),
        }
    }

    /// Draws a key, as the line that a file has of it.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`].
    pub fn draw() -> Result<Zeroizing<String>, KeyError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        SystemRandom::new().fill(&mut *secret).map_err(|_| KeyError::NoRandomness)?;
        let digits = Zeroizing::new(hex::encode(*secret));
        Ok(Zeroizing::new(format!("{BRAND}{}", *digits)))
    }

    /// Reads a file of keys.
    ///
    /// # Errors
    ///
    /// If it cannot be read, holds none, or others than its owner may read it.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |error| KeyError::Io { path: path.to_owned(), error };
        let about = fs::metadata(path).map_err(failed)?;
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777;
            // A group may be meant to read it, as where a secret is mounted; everybody never is.
            if mode & 0o007 != 0 {
                return Err(KeyError::Exposed { path: path.to_owned(), mode });
            }
        }
        if about.len() > AUDIT_KEY_FILE_BYTES_MAX {
            return Err(KeyError::TooMany { place: path.display().to_string() });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a file of keys, and makes it with one where there is none, for its owner only. Answers whether it did.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), or if it cannot be made.
    pub fn load_or_make(path: &Path) -> Result<(Self, bool), KeyError> {
        match Self::load(path) {
            Err(KeyError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                let is_made = make(path)?;
                Ok((Self::load(path)?, is_made))
            }
            ring => Ok((ring?, false)),
        }
    }

    /// Adds a key to a file, which becomes the one in use; a log goes over to it when it is told of it or opened.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), or if it cannot be written.
    pub fn add_to(path: &Path) -> Result<Self, KeyError> {
        Self::load(path)?;
        add(path)?;
        Self::load(path)
    }

    /// The one in use.
    pub fn current(&self) -> &Arc<AuditKey> {
        // There is one at least: `parse` is the only way to make a ring.
        &self.keys[self.keys.len() - 1]
    }

    /// The one of this name.
    pub fn by_id(&self, id: &str) -> Option<&Arc<AuditKey>> {
        self.keys.iter().find(|key| key.id.as_str() == id)
    }

    /// What their checkpoints are verified with, the oldest first.
    pub fn public(&self) -> Vec<PublicKey> {
        self.keys.iter().map(|key| key.public()).collect()
    }
}

/// Makes a file with a key. It has its name only once it is whole, so that nobody reads half of it and a crash leaves none. Answers
/// whether it did: another process may have been faster.
fn make(path: &Path) -> Result<bool, KeyError> {
    let failed = |error| KeyError::Io { path: path.to_owned(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let key = KeyRing::draw()?;
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&part);
    let line = Zeroizing::new(format!("{}\n", *key));
    let made = write_behind(part, true, line.as_bytes()).and_then(|()| match fs::hard_link(part, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    });
    // Whether it could be removed or not: what it was made for is done, or the error of that is told.
    let _ = fs::remove_file(part);
    made.map_err(failed)
}

/// Writes one more key behind those of a file.
fn add(path: &Path) -> Result<(), KeyError> {
    let key = KeyRing::draw()?;
    // One write, so that no half of it is ever read. A line break before it: the file may not end with one.
    let line = Zeroizing::new(format!("\n{}\n", *key));
    write_behind(path, false, line.as_bytes()).map_err(|error| KeyError::Io { path: path.to_owned(), error })
}

/// Writes to the end of a file of its owner's only.
fn write_behind(path: &Path, is_new: bool, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(is_new);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all())
}

/// The SHA-256 of some bytes.
pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut result = [0; 32];
    result.copy_from_slice(context.finish().as_ref());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/audit.key");
        let (made, is_new) = KeyRing::load_or_make(&path).unwrap();
        assert!(is_new);
        let (again, is_new) = KeyRing::load_or_make(&path).unwrap();
        assert!(!is_new);
        assert_eq!(made.current().id(), again.current().id());
        assert_eq!(made.current().public(), again.current().public());
    }

    #[test]
    fn a_key_that_is_added_is_the_one_in_use_and_the_first_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.key");
        let (first, _) = KeyRing::load_or_make(&path).unwrap();
        let both = KeyRing::add_to(&path).unwrap();
        assert_ne!(both.current().id(), first.current().id());
        assert!(both.by_id(first.current().id().as_str()).is_some());
        assert_eq!(both.public()[0], first.current().public());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.key");
        KeyRing::load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = KeyRing::load(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn no_error_holds_a_part_of_a_key() {
        let key = KeyRing::draw().unwrap();
        for text in [&key[..key.len() - 1], &key[3..], "\n#no key\n", ""] {
            let error = KeyRing::parse(text, "HOOSH_AUDIT_KEY").unwrap_err().to_string();
            assert!(error.contains("HOOSH_AUDIT_KEY") && !error.contains(&key[20..28]), "{error}");
        }
        let ring = KeyRing::parse(&format!("# ours\n\n {} \n", *key), "here").unwrap();
        assert!(!format!("{ring:?}").contains(&key[12..20]), "{ring:?}");
    }
}
