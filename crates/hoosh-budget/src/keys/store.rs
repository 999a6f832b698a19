//! Where keys are kept over a restart, and what can be done to them there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hoosh_core::limits::KEYS_MAX;
use jiff::Timestamp;

use super::record::{KeyId, KeyRecord, KeyStatus};

/// A place that keeps keys. Each method is one step: it happens wholly or not at all, and other processes see it so.
///
/// Methods may wait for a disk. None is called where a call is on its way.
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// The mark of the pepper that the keys here were made with. If there is none yet, it is this one from now on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn mark(&self, mark: &Digest) -> Result<Digest, StoreError>;

    /// A number that is another after each change, but for [`Change::Used`], which is no reason to read all anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`].
    fn version(&self) -> Result<u64, StoreError>;

    /// All keys, and the version they are of.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`], or [`StoreError::Unreadable`] if a key is not as it was written.
    fn load(&self) -> Result<(u64, Vec<StoredKey>), StoreError>;

    /// Makes a change last.
    ///
    /// # Errors
    ///
    /// [`StoreError`], and then nothing has changed.
    fn apply(&self, change: &Change) -> Result<(), StoreError>;
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredKey {
    /// All but its hash.
    pub record: KeyRecord,
    /// Its hash.
    pub digest: Digest,
}

/// HMAC-SHA-256 of a key, or of something else, under the pepper.
///
/// It does not show in logs: who has it and the pepper could check a guess.
#[derive(Clone, Copy)]
pub struct Digest(pub [u8; 32]);

/// What may be done to the keys of a store.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A new key.
    Created(StoredKey),
    /// A key is taken back. If it was before, that time stays.
    Revoked {
        /// Which.
        id: KeyId,
        /// When.
        at: Timestamp,
    },
    /// A new key takes the place of an old one that works.
    Rotated {
        /// The old one.
        old: KeyId,
        /// Until when that still works; less if it expires before.
        until: Timestamp,
        /// The new one.
        new: StoredKey,
    },
    /// A key is forgotten.
    Removed {
        /// Which.
        id: KeyId,
    },
    /// Keys were used on these days (since 1970-01-01). Those that are gone are passed over, and earlier days change nothing.
    Used(Vec<(KeyId, i32)>),
}

/// Why a store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such key.
    #[error("there is no key `{0}`; `hoosh keys list` shows all")]
    UnknownKey(KeyId),
    /// Another key has that prefix or id: draw again.
    #[error("another key has that prefix")]
    Taken,
    /// A key that was not revoked has taken its place already.
    #[error("the key `{old}` was rotated already, into `{new}`; rotate that one, or revoke it first")]
    RotatedAlready {
        /// The one that was to be rotated.
        old: KeyId,
        /// The one in its place.
        new: KeyId,
    },
    /// It is revoked or expired.
    #[error("the key `{0}` is revoked or expired; create a new one")]
    Ended(KeyId),
    /// As many as may be are kept.
    #[error("{KEYS_MAX} keys are kept, which is the most; remove some that have ended")]
    Full,
    /// A later hoosh made it.
    #[error(
        "the keys in {place} are of version {found}, and this hoosh knows version {known}; use a newer hoosh"
    )]
    Later {
        /// Where.
        place: String,
        /// The version they are of.
        found: i64,
        /// The latest that is known.
        known: i64,
    },
    /// What is kept is not what was written.
    #[error("the key `{id}` cannot be read: {problem}; remove it with a tool of the store's own")]
    Unreadable {
        /// Which.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// The store itself failed.
    #[error("the keys in {place} cannot be {doing}: {problem}")]
    Failed {
        /// Where.
        place: String,
        /// What was tried: `read`, `written`.
        doing: &'static str,
        /// What the system says.
        problem: String,
    },
}

/// Keeps keys as long as it lives itself: for tests, and for programs that keep them elsewhere.
#[derive(Default)]
pub struct MemoryStore(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    version: u64,
    mark: Option<Digest>,
    keys: BTreeMap<KeyId, StoredKey>,
}

// === impl Digest ===

/// In a time that does not depend on what is equal.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |different, (one, other)| different | (one ^ other)) == 0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

// === impl MemoryStore ===

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies of a key until so many are kept.
    #[cfg(test)]
    pub(super) fn fill(&self, key: &StoredKey, count: usize) {
        let mut kept = self.kept();
        for number in kept.keys.len()..count {
            let id = KeyId::new(format!("k_{number}"));
            let prefix = format!("hoosh_{number:08}");
            let record = KeyRecord { id: id.clone(), prefix, ..key.record.clone() };
            kept.keys.insert(id, StoredKey { record, ..key.clone() });
        }
        kept.version += 1;
    }
}

impl KeyStore for MemoryStore {
    fn mark(&self, mark: &Digest) -> Result<Digest, StoreError> {
        Ok(*self.kept().mark.get_or_insert(*mark))
    }

    fn version(&self) -> Result<u64, StoreError> {
        Ok(self.kept().version)
    }

    fn load(&self) -> Result<(u64, Vec<StoredKey>), StoreError> {
        let kept = self.kept();
        Ok((kept.version, kept.keys.values().cloned().collect()))
    }

    fn apply(&self, change: &Change) -> Result<(), StoreError> {
        self.kept().apply(change)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("keys", &self.kept().keys.len()).finish_non_exhaustive()
    }
}

// === impl Kept ===

impl Kept {
    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Created(key) => self.insert(key)?,
            Change::Revoked { id, at } => {
                self.record(id)?.revoked.get_or_insert(*at);
            }
            Change::Rotated { old, until, new } => {
                if self.record(old)?.status(new.record.created) != KeyStatus::Active {
                    return Err(StoreError::Ended(old.clone()));
                }
                let is_successor = |key: &&StoredKey| {
                    key.record.rotated_from.as_ref() == Some(old) && key.record.revoked.is_none()
                };
                if let Some(key) = self.keys.values().find(is_successor) {
                    return Err(StoreError::RotatedAlready { old: old.clone(), new: key.record.id.clone() });
                }
                self.insert(new)?;
                let old = self.record(old)?;
                old.expires = Some(old.expires.map_or(*until, |expires| expires.min(*until)));
            }
            Change::Removed { id } => {
                self.keys.remove(id).ok_or_else(|| StoreError::UnknownKey(id.clone()))?;
            }
            Change::Used(uses) => {
                for (id, day) in uses {
                    if let Ok(record) = self.record(id) {
                        record.last_used = record.last_used.max(Some(*day));
                    }
                }
                return Ok(());
            }
        }
        self.version += 1;
        Ok(())
    }

    fn insert(&mut self, key: &StoredKey) -> Result<(), StoreError> {
        let is_taken = |other: &StoredKey| other.record.prefix == key.record.prefix;
        if self.keys.len() >= KEYS_MAX {
            Err(StoreError::Full)
        } else if self.keys.contains_key(&key.record.id) || self.keys.values().any(is_taken) {
            Err(StoreError::Taken)
        } else {
            self.keys.insert(key.record.id.clone(), key.clone());
            Ok(())
        }
    }

    fn record(&mut self, id: &KeyId) -> Result<&mut KeyRecord, StoreError> {
        match self.keys.get_mut(id) {
            Some(key) => Ok(&mut key.record),
            None => Err(StoreError::UnknownKey(id.clone())),
        }
    }
}
