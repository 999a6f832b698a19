//! How a key is drawn, hashed and compared, and what it looks like.

use std::fmt;

use hoosh_core::limits::PEPPER_BYTES_MIN;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

use super::record::KeyId;
use super::store::Digest;

/// What each key begins with, so that scanners for leaked secrets find it.
const BRAND: &str = "hoosh_";

/// Characters of the prefix behind that: 47 bits, enough to tell keys apart.
const PREFIX_LENGTH: usize = 8;

/// Characters of the secret: log2(62) * 43 = 256.03 bits.
const SECRET_LENGTH: usize = 43;

/// Characters of an id behind `k_`: 71 bits.
const ID_LENGTH: usize = 12;

const KEY_LENGTH: usize = BRAND.len() + PREFIX_LENGTH + 1 + SECRET_LENGTH;

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The digest of no key, for comparing with where a prefix is nobody's.
pub(super) const NOBODY: Digest = Digest([0; 32]);

/// The server's part of each key's hash. It is not kept in the store: without it what is there proves and opens nothing.
///
/// If it is lost, all keys are.
pub struct Pepper(hmac::Key);

/// Too short to be a pepper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pepper of {bytes} bytes is too short; it needs {PEPPER_BYTES_MIN}, as `openssl rand -hex 32` writes"
)]
pub struct WeakPepper {
    /// How long it is.
    pub bytes: usize,
}

/// The system's generator of random numbers failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes; no key can be made")]
pub struct NoRandomness;

/// A key that nobody knows yet.
pub(super) struct Drawn {
    pub(super) id: KeyId,
    pub(super) prefix: String,
    pub(super) key: SecretString,
}

/// Whether a text has the form of a key of hoosh, so that it is none of another kind.
pub fn is_key(text: &str) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric();
    text.strip_prefix(BRAND).is_some_and(|rest| {
        let rest = rest.as_bytes();
        text.len() == KEY_LENGTH
            && rest[PREFIX_LENGTH] == b'_'
            && rest[..PREFIX_LENGTH].iter().all(is_letter)
            && rest[PREFIX_LENGTH + 1..].iter().all(is_letter)
    })
}

/// The part of a key that may be told.
pub(super) fn prefix_of(key: &str) -> Option<&str> {
    is_key(key).then(|| key.get(..BRAND.len() + PREFIX_LENGTH)).flatten()
}

/// Draws a key and a name for it.
pub(super) fn draw() -> Result<Drawn, NoRandomness> {
    let mut id = String::from("k_");
    draw_letters(ID_LENGTH, &mut id)?;
    // Of its whole length from the beginning, so that no part of it is left behind elsewhere in memory.
    let mut key = Zeroizing::new(String::with_capacity(KEY_LENGTH));
    key.push_str(BRAND);
    draw_letters(PREFIX_LENGTH, &mut key)?;
    let prefix = key.as_str().to_owned();
    key.push('_');
    draw_letters(SECRET_LENGTH, &mut key)?;
    Ok(Drawn { id: KeyId::new(id), prefix, key: SecretString::from(std::mem::take(&mut *key)) })
}

/// Adds so many letters and digits, each of the 62 as likely as any other.
fn draw_letters(count: usize, text: &mut String) -> Result<(), NoRandomness> {
    let generator = SystemRandom::new();
    let end = text.len() + count;
    while text.len() < end {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        generator.fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
        // Of six bits, 62 and 63 are thrown away: what is left is even.
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 0x3f)));
        text.extend(letters.take(end - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(())
}

// === impl Pepper ===

impl Pepper {
    /// From bytes that only the server knows.
    ///
    /// # Errors
    ///
    /// [`WeakPepper`] below [`PEPPER_BYTES_MIN`] bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, WeakPepper> {
        if bytes.len() < PEPPER_BYTES_MIN {
            return Err(WeakPepper { bytes: bytes.len() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// A text for a new one, of 256 bits.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn draw() -> Result<SecretString, NoRandomness> {
        let mut text = String::with_capacity(SECRET_LENGTH);
        match draw_letters(SECRET_LENGTH, &mut text) {
            Ok(()) => Ok(SecretString::from(text)),
            Err(error) => {
                text.zeroize();
                Err(error)
            }
        }
    }

    /// Tells this pepper from others, and tells nothing else of it.
    pub(super) fn mark(&self) -> Digest {
        self.hash(b"the mark of a pepper")
    }

    pub(super) fn digest(&self, key: &SecretString) -> Digest {
        self.hash(key.expose_secret().as_bytes())
    }

    /// Whether `digest` is that of `key`, in a time that depends on neither.
    pub(super) fn is_of(&self, key: &str, digest: &Digest) -> bool {
        hmac::verify(&self.0, key.as_bytes(), &digest.0).is_ok()
    }

    fn hash(&self, bytes: &[u8]) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.0, bytes).as_ref());
        Digest(digest)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_key_has_a_form_of_its_own() {
        let drawn = draw().unwrap();
        let key = drawn.key.expose_secret();
        assert!(is_key(key), "{key}");
        assert_eq!((key.len(), prefix_of(key)), (58, Some(drawn.prefix.as_str())));
        assert_eq!((drawn.prefix.len(), drawn.id.as_str().len()), (14, 14));
        let multibyte = format!("hoosh_{}", "ä".repeat(26));
        assert_eq!(multibyte.len(), KEY_LENGTH);
        for other in ["", "hoosh_", "sk-hoosh_", &key[1..], &key[..57], &format!("{key}A"), &multibyte] {
            assert!(!is_key(other), "{other}");
        }
        assert!(!is_key(&key.replacen(&key[14..15], "-", 2)));
    }

    #[test]
    fn all_letters_are_as_likely() {
        let mut text = String::new();
        draw_letters(62_000, &mut text).unwrap();
        let mut counts: HashMap<char, i32> = HashMap::new();
        text.chars().for_each(|letter| *counts.entry(letter).or_default() += 1);
        assert_eq!(counts.len(), 62);
        // 1,000 each, with a standard deviation of 31.
        assert!(counts.values().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_hash_is_hmac_sha_256() {
        // RFC 4231, 4.7 (test case 6): a key longer than a block.
        let pepper = Pepper::new(&[0xaa; 131]).unwrap();
        let digest = pepper.digest(&"Test Using Larger Than Block-Size Key - Hash Key First".into());
        let hex: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        assert_ne!(Pepper::new(&[0xab; 131]).unwrap().mark().0, pepper.mark().0);
        let weak = Pepper::new(&[1; 31]).unwrap_err();
        assert_eq!(
            weak.to_string(),
            "a pepper of 31 bytes is too short; it needs 32, as `openssl rand -hex 32` writes"
        );
        assert!(Pepper::new(Pepper::draw().unwrap().expose_secret().as_bytes()).is_ok());
    }
}
