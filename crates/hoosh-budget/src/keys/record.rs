//! What is kept of a key beside its hash.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::grant::Grant;

/// The name of one key, ours and unique: `k_` and twelve letters. It is no secret.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

/// A key, without anything that would let somebody in.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRecord {
    /// Its name in admin calls.
    pub id: KeyId,
    /// Its beginning, by which its owner knows it: `hoosh_ab12cd34`.
    pub prefix: String,
    /// Its name for humans.
    pub name: String,
    /// When it was made. Times of keys are kept to the millisecond.
    pub created: Timestamp,
    /// From when it is refused. `None`: never.
    pub expires: Option<Timestamp>,
    /// When it was taken back.
    pub revoked: Option<Timestamp>,
    /// The key in whose place it came.
    pub rotated_from: Option<KeyId>,
    /// Under which name its calls are counted and booked: its own id, or that of the first key in whose place it and those
    /// before it came. So budgets, limits and reports go on when a key is rotated.
    pub booked_as: KeyId,
    /// The last day on which it was used, in UTC. Unit: days since 1970-01-01; [`last_used_on`](Self::last_used_on) gives the date.
    pub last_used: Option<i32>,
    /// What it may do.
    pub grant: Grant,
}

/// Whether a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    /// It does.
    Active,
    /// It was taken back then.
    Revoked(Timestamp),
    /// Its time was over then.
    Expired(Timestamp),
}

// === impl KeyId ===

impl KeyId {
    /// A key's id as it is written.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for KeyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl KeyRecord ===

impl KeyRecord {
    /// Whether it works at `now`.
    pub fn status(&self, now: Timestamp) -> KeyStatus {
        match (self.revoked, self.expires) {
            (Some(at), _) => KeyStatus::Revoked(at),
            (None, Some(at)) if at <= now => KeyStatus::Expired(at),
            _ => KeyStatus::Active,
        }
    }

    /// How long it was made for, or what a rotation left of it. `None`: for ever.
    pub fn lifetime(&self) -> Option<SignedDuration> {
        self.expires.map(|expires| expires.duration_since(self.created))
    }

    /// The last day on which it was used, in UTC.
    pub fn last_used_on(&self) -> Option<Date> {
        let start = Timestamp::from_second(i64::from(self.last_used?) * super::SECONDS_PER_DAY).ok()?;
        Some(start.to_zoned(jiff::tz::TimeZone::UTC).date())
    }
}
