//! API keys: made here, shown once, kept as a keyed hash.
//!
//! [`Keyring`] says who sends a key and what that one may do. It looks nothing up on a disk: all keys are in memory, and a
//! [`KeyStore`] keeps them over a restart. Which header a key comes in, and what a refusal looks like, is the server's.
//!
//! # What does a key look like?
//!
//! `hoosh_ab12cd34_` and 43 more characters. The first part is the [prefix](KeyRecord::prefix): it names the key in lists and
//! logs, and finds it. The rest is secret: each of its characters is one of 62, drawn by the system's generator, which is 256
//! bits. All of them are letters and digits, so that a double click takes the whole key.
//!
//! # Why is a fast hash enough?
//!
//! Slow ones protect secrets that somebody thought of. Nobody can try 2^256 keys, however fast. What is kept is
//! HMAC-SHA-256 (RFC 2104) of the key under the [`Pepper`], which is not in the store: who reads the store cannot even check a key
//! that they found elsewhere, and who writes to it cannot add one.

#[cfg(feature = "sqlite")]
mod file;
mod grant;
mod record;
mod secret;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hoosh_core::limits::{KEY_OVERLAP_MAX, KEY_PREFIX_TRIES_MAX};
use jiff::Timestamp;
use secrecy::SecretString;

#[cfg(feature = "sqlite")]
pub use self::file::FileStore;
pub(crate) use self::grant::check_name;
pub use self::grant::{Grant, InvalidGrant, Pattern, Scope, Scopes, parse_network};
pub use self::record::{KeyId, KeyRecord, KeyStatus};
pub use self::secret::{NoRandomness, Pepper, WeakPepper, is_key};
pub use self::store::{Change, Digest, KeyStore, MemoryStore, StoreError, StoredKey};

/// All keys, in memory, and the store that keeps them.
///
/// ```
/// # use std::sync::Arc;
/// use hoosh_budget::keys::{Grant, KeyOrder, Keyring, MemoryStore, Pepper};
/// use jiff::Timestamp;
/// use secrecy::ExposeSecret;
///
/// # fn doc() -> Result<(), Box<dyn std::error::Error>> {
/// let pepper = Pepper::new(b"32 bytes or more that only the server knows")?;
/// let keys = Keyring::open(Arc::new(MemoryStore::default()), pepper)?;
///
/// let now = Timestamp::UNIX_EPOCH;
/// let issued = keys.create(KeyOrder { name: "ci".into(), expires: None, grant: Grant::inference() }, now)?;
/// println!("{} (this is shown once)", issued.secret.expose_secret());
///
/// let caller = keys.authenticate(issued.secret.expose_secret(), None, now)?;
/// assert_eq!(caller.name, "ci");
/// # Ok(())
/// # }
/// # doc().unwrap();
/// ```
///
/// # What of other processes?
///
/// They may change the same store, as `hoosh keys` does beside a running server. [`reload`](Self::reload) takes on what they
/// did; it costs one small read where nothing changed. A change made here reloads by itself.
pub struct Keyring {
    pepper: Pepper,
    store: Arc<dyn KeyStore>,
    table: RwLock<Arc<Table>>,
    /// Held while the table is read anew, so that an older one never takes the place of a newer.
    reading: Mutex<()>,
}

/// A key that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyOrder {
    /// For humans; several may have the same.
    pub name: String,
    /// From when it is refused. `None`: never.
    pub expires: Option<Timestamp>,
    /// What it may do.
    pub grant: Grant,
}

/// A key that was made. The secret is nowhere else, and cannot be had again.
#[derive(Debug)]
pub struct IssuedKey {
    /// The whole key, as its owner sends it.
    pub secret: SecretString,
    /// What is kept of it.
    pub record: KeyRecord,
}

/// Why a key lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyDenied {
    /// It is none of ours.
    #[error("the key is not known here; check that all of it was copied")]
    Unknown,
    /// It was taken back.
    #[error("the key `{prefix}` was revoked on {at}; ask for a new one")]
    Revoked {
        /// The part of it that may be told.
        prefix: String,
        /// When.
        at: Timestamp,
    },
    /// Its time is over.
    #[error("the key `{prefix}` expired on {at}; ask for a new one")]
    Expired {
        /// The part of it that may be told.
        prefix: String,
        /// When.
        at: Timestamp,
    },
    /// It may not be used from there.
    #[error("the key `{prefix}` may not be used from {}", .from.map_or("an unknown address".to_owned(), |ip| ip.to_string()))]
    Network {
        /// The part of it that may be told.
        prefix: String,
        /// Where it came from.
        from: Option<IpAddr>,
    },
}

/// Why a key was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// What was ordered makes no key.
    #[error(transparent)]
    Invalid(#[from] InvalidGrant),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The store's keys were hashed under another pepper: none of them would be known.
    #[error(
        "the store's keys were made with another pepper; give the one they were made with, or start a new store"
    )]
    OtherPepper,
    /// It is still in use.
    #[error("the key `{0}` is in use; revoke it first")]
    InUse(KeyId),
}

#[derive(Default)]
struct Table {
    version: u64,
    by_prefix: HashMap<String, Arc<Entry>>,
    by_id: HashMap<KeyId, Arc<Entry>>,
}

struct Entry {
    record: Arc<KeyRecord>,
    digest: Digest,
    /// The last day of use, and as much of it as the store knows. Unit: days since 1970-01-01; [`NEVER`] before the first.
    used: AtomicI32,
    used_stored: AtomicI32,
}

const NEVER: i32 = i32::MIN;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

// === impl Keyring ===

impl Keyring {
    /// Reads all keys of a store.
    ///
    /// # Errors
    ///
    /// [`KeyError::OtherPepper`] if its keys were made with another pepper, [`KeyError::Store`] if it cannot be read.
    pub fn open(store: Arc<dyn KeyStore>, pepper: Pepper) -> Result<Self, KeyError> {
        let mark = pepper.mark();
        if store.mark(&mark)? != mark {
            return Err(KeyError::OtherPepper);
        }
        let keyring = Self { pepper, store, table: RwLock::default(), reading: Mutex::default() };
        keyring.read()?;
        Ok(keyring)
    }

    /// Whose key that is, if it is one and may be used now and from there. Its use today is noted.
    ///
    /// It takes the same time whether or not the prefix is known, and however much of the secret is right.
    ///
    /// # Errors
    ///
    /// [`KeyDenied`], of which all but [`Unknown`](KeyDenied::Unknown) are only said to who has the whole key.
    pub fn authenticate(
        &self,
        key: &str,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Arc<KeyRecord>, KeyDenied> {
        let entry = secret::prefix_of(key).and_then(|prefix| self.table().by_prefix.get(prefix).cloned());
        let known = entry.as_ref().map_or(&secret::NOBODY, |entry| &entry.digest);
        let is_right = self.pepper.is_of(key, known);
        let Some(entry) = entry.filter(|_| is_right) else { return Err(KeyDenied::Unknown) };
        let record = &entry.record;
        let prefix = || record.prefix.clone();
        match record.status(now) {
            KeyStatus::Revoked(at) => return Err(KeyDenied::Revoked { prefix: prefix(), at }),
            KeyStatus::Expired(at) => return Err(KeyDenied::Expired { prefix: prefix(), at }),
            KeyStatus::Active => {}
        }
        if !record.grant.allows_address(from) {
            return Err(KeyDenied::Network { prefix: prefix(), from });
        }
        let today = i32::try_from(now.as_second().div_euclid(SECONDS_PER_DAY)).unwrap_or(NEVER);
        if entry.used.load(Ordering::Relaxed) < today {
            entry.used.fetch_max(today, Ordering::Relaxed);
        }
        Ok(Arc::clone(record))
    }

    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`] if the order makes no sense, [`KeyError::Store`] if it cannot be kept. Then there is no such key.
    pub fn create(&self, order: KeyOrder, now: Timestamp) -> Result<IssuedKey, KeyError> {
        let KeyOrder { name, expires, grant } = order;
        check_name(&name)?;
        grant.check()?;
        if expires.is_some_and(|expires| expires <= now) {
            return Err(InvalidGrant::new("expires", "is in the past; the key could never be used").into());
        }
        let record = |id: KeyId, prefix| KeyRecord {
            prefix,
            name: name.clone(),
            created: milliseconds(now),
            expires: expires.map(milliseconds),
            revoked: None,
            rotated_from: None,
            booked_as: id.clone(),
            last_used: None,
            grant: grant.clone(),
            id,
        };
        self.issue(record, Change::Created)
    }

    /// Makes a key that takes the place of another: same name, same grant, and its calls are [booked](KeyRecord::booked_as) as
    /// the other's were. The old one works for `overlap` more, or until it expires if that is sooner.
    ///
    /// `expires` is the new one's; [`KeyRecord::lifetime`] says how long the old one was made for.
    ///
    /// # Errors
    ///
    /// [`KeyError::Store`] with [`StoreError::Ended`] if the old one is revoked or expired, with
    /// [`StoreError::RotatedAlready`] if another key has taken its place and was not revoked.
    pub fn rotate(
        &self,
        id: &KeyId,
        overlap: Duration,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<IssuedKey, KeyError> {
        if overlap > KEY_OVERLAP_MAX {
            let days = KEY_OVERLAP_MAX.as_secs() / SECONDS_PER_DAY.unsigned_abs();
            let problem = format!("is longer than {days} days; rotate the key nearer to its end");
            return Err(InvalidGrant::new("overlap", problem).into());
        }
        if expires.is_some_and(|expires| expires <= now) {
            return Err(InvalidGrant::new("expires", "is in the past; the key could never be used").into());
        }
        self.reload()?;
        let old = self.find(id.as_str()).ok_or_else(|| StoreError::UnknownKey(id.clone()))?;
        let until = milliseconds(now.saturating_add(overlap).unwrap_or(Timestamp::MAX));
        let record = |id, prefix| KeyRecord {
            id,
            prefix,
            created: milliseconds(now),
            expires: expires.map(milliseconds),
            revoked: None,
            rotated_from: Some(old.id.clone()),
            last_used: None,
            ..old.clone()
        };
        self.issue(record, |new| Change::Rotated { old: old.id.clone(), until, new })
    }

    /// Takes a key back. It is refused from now on, here at once and in other processes from their next reload. Doing it again
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`KeyError::Store`] with [`StoreError::UnknownKey`] if there is none of this name, or if that cannot be kept.
    pub fn revoke(&self, id: &KeyId, now: Timestamp) -> Result<KeyRecord, KeyError> {
        self.store.apply(&Change::Revoked { id: id.clone(), at: milliseconds(now) })?;
        self.read()?;
        Ok(self.find(id.as_str()).ok_or_else(|| StoreError::UnknownKey(id.clone()))?)
    }

    /// Forgets a key that is revoked or expired. What was booked as its calls stays where it is.
    ///
    /// # Errors
    ///
    /// [`KeyError::InUse`] if it is neither, [`KeyError::Store`] as in [`revoke`](Self::revoke).
    pub fn remove(&self, id: &KeyId, now: Timestamp) -> Result<KeyRecord, KeyError> {
        self.reload()?;
        let record = self.find(id.as_str()).ok_or_else(|| StoreError::UnknownKey(id.clone()))?;
        if record.status(now) == KeyStatus::Active {
            return Err(KeyError::InUse(record.id));
        }
        self.store.apply(&Change::Removed { id: id.clone() })?;
        self.read()?;
        Ok(record)
    }

    /// All keys, those that have ended too, the oldest first.
    pub fn list(&self) -> Vec<KeyRecord> {
        let mut records: Vec<KeyRecord> = self.table().by_id.values().map(|entry| entry.told()).collect();
        records.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        records
    }

    /// The key of this id or prefix.
    pub fn find(&self, id_or_prefix: &str) -> Option<KeyRecord> {
        let table = self.table();
        let entry = table.by_id.get(id_or_prefix).or_else(|| table.by_prefix.get(id_or_prefix));
        entry.map(|entry| entry.told())
    }

    /// Whether there are none, not even some that have ended.
    pub fn is_empty(&self) -> bool {
        self.table().by_id.is_empty()
    }

    /// Takes on what other processes changed. Whether there was anything.
    ///
    /// # Errors
    ///
    /// [`KeyError::Store`] if the store cannot be read. The keys are as they were then.
    pub fn reload(&self) -> Result<bool, KeyError> {
        let is_newer = self.store.version()? != self.table().version;
        if is_newer {
            self.read()?;
        }
        Ok(is_newer)
    }

    /// Writes down which keys were used on a later day than the store knows. Call it now and then, and at the end; without it a
    /// restart forgets the latest uses, and nothing else.
    ///
    /// # Errors
    ///
    /// [`KeyError::Store`] if that cannot be kept; the next time tries again.
    pub fn store_uses(&self) -> Result<usize, KeyError> {
        let table = self.table();
        let is_newer = |entry: &&Arc<Entry>| {
            entry.used.load(Ordering::Relaxed) > entry.used_stored.load(Ordering::Relaxed)
        };
        let entries: Vec<_> = table.by_id.values().filter(is_newer).collect();
        let days: Vec<i32> = entries.iter().map(|entry| entry.used.load(Ordering::Relaxed)).collect();
        let uses = entries.iter().zip(&days);
        let uses: Vec<_> = uses.map(|(entry, day)| (entry.record.id.clone(), *day)).collect();
        if !uses.is_empty() {
            self.store.apply(&Change::Used(uses))?;
        }
        for (entry, day) in entries.iter().zip(&days) {
            entry.used_stored.fetch_max(*day, Ordering::Relaxed);
        }
        Ok(days.len())
    }

    /// Draws a key until its prefix is nobody's, and keeps it by `change`.
    fn issue(
        &self,
        record: impl Fn(KeyId, String) -> KeyRecord,
        change: impl Fn(StoredKey) -> Change,
    ) -> Result<IssuedKey, KeyError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let drawn = secret::draw()?;
            let record = record(drawn.id, drawn.prefix);
            let digest = self.pepper.digest(&drawn.key);
            match self.store.apply(&change(StoredKey { record: record.clone(), digest })) {
                Ok(()) => {
                    self.read()?;
                    return Ok(IssuedKey { secret: drawn.key, record });
                }
                Err(StoreError::Taken) if tries < KEY_PREFIX_TRIES_MAX => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read(&self) -> Result<(), KeyError> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, keys) = self.store.load()?;
        let before = self.table();
        let mut table = Table { version, ..Table::default() };
        for StoredKey { record, digest } in keys {
            let stored = record.last_used.unwrap_or(NEVER);
            let used = before.by_id.get(&record.id).map_or(NEVER, |entry| entry.used.load(Ordering::Relaxed));
            let entry = Arc::new(Entry {
                record: Arc::new(record),
                digest,
                used: used.max(stored).into(),
                used_stored: stored.into(),
            });
            table.by_prefix.insert(entry.record.prefix.clone(), Arc::clone(&entry));
            table.by_id.insert(entry.record.id.clone(), entry);
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(())
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Without its keys.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.table().by_id.len();
        f.debug_struct("Keyring").field("keys", &keys).field("store", &self.store).finish_non_exhaustive()
    }
}

// === impl Entry ===

impl Entry {
    /// Its record, with the latest use.
    fn told(&self) -> KeyRecord {
        let used = self.used.load(Ordering::Relaxed);
        KeyRecord { last_used: (used != NEVER).then_some(used), ..KeyRecord::clone(&self.record) }
    }
}

/// What a store keeps of a time, so that it is the same before and after a restart.
fn milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
