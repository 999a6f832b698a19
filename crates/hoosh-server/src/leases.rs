//! What agents hold that account for themselves: how many leases each caller has, and how one is named in the books.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hoosh_budget::CallId;
use hoosh_core::limits::TOKEN_LEASES_PER_CALLER_MAX;
use hoosh_gateway::{CallerId, RequestId};
use jiff::Timestamp;

/// A lease as its owner knows it: `lease_` and 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LeaseId(Box<str>);

/// The leases of each caller that are open. What they hold is in the books; here they are only counted.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<CallerId, HashMap<LeaseId, Timestamp>>>);

/// Digits of a lease's name.
const DIGITS: usize = 32;

// === impl LeaseId ===

impl LeaseId {
    const PREFIX: &'static str = "lease_";

    pub(crate) fn new() -> Self {
        let id = RequestId::new();
        let digits = id.as_str().trim_start_matches("req_");
        Self(format!("{}{digits}", Self::PREFIX).into())
    }

    /// `None`: it is the name of no lease.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == DIGITS && digits.bytes().all(is_digit)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Its name in the books, which has its owner in it: nobody else's leads there.
    pub(crate) fn call(&self, owner: &CallerId) -> CallId {
        format!("{}@{}", self.0, owner.as_str()).into()
    }
}

// === impl Leases ===

impl Leases {
    /// Counts another one until then. `false`: the caller has as many as it may, and it is not counted.
    pub(crate) fn open(&self, owner: &CallerId, lease: &LeaseId, until: Timestamp, now: Timestamp) -> bool {
        let mut all = self.all();
        let own = all.entry(owner.clone()).or_default();
        if own.len() >= TOKEN_LEASES_PER_CALLER_MAX {
            own.retain(|_, until| *until > now);
        }
        let has_room = own.len() < TOKEN_LEASES_PER_CALLER_MAX;
        if has_room {
            own.insert(lease.clone(), until);
        }
        has_room
    }

    /// It is reported, or was never granted.
    pub(crate) fn close(&self, owner: &CallerId, lease: &LeaseId) {
        let mut all = self.all();
        let Some(own) = all.get_mut(owner) else { return };
        own.remove(lease);
        if own.is_empty() {
            all.remove(owner);
        }
    }

    /// Counts those no more that are over.
    pub(crate) fn forget_before(&self, now: Timestamp) {
        self.all().retain(|_, own| {
            own.retain(|_, until| *until > now);
            !own.is_empty()
        });
    }

    fn all(&self) -> MutexGuard<'_, HashMap<CallerId, HashMap<LeaseId, Timestamp>>> {
        // Whoever panicked has left whole entries.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_caller_has_only_so_many_and_those_that_are_over_make_room() {
        let (leases, owner, now) = (Leases::default(), CallerId::new("ada"), Timestamp::now());
        let later = now + SignedDuration::from_secs(1);
        let first = LeaseId::new();
        assert!(leases.open(&owner, &first, later, now));
        for _ in 1..TOKEN_LEASES_PER_CALLER_MAX {
            assert!(leases.open(&owner, &LeaseId::new(), later, now));
        }
        assert!(!leases.open(&owner, &LeaseId::new(), later, now));
        assert!(leases.open(&CallerId::new("bob"), &LeaseId::new(), later, now), "others have their own");
        leases.close(&owner, &first);
        assert!(leases.open(&owner, &LeaseId::new(), later, now));
        assert!(!leases.open(&owner, &LeaseId::new(), later, now));
        assert!(leases.open(&owner, &LeaseId::new(), later, later));
        leases.forget_before(later);
        assert!(leases.all().is_empty());
    }

    #[test]
    fn only_names_of_leases_are_some() {
        let lease = LeaseId::new();
        assert_eq!(LeaseId::parse(lease.as_str()), Some(lease.clone()));
        assert_eq!(lease.call(&CallerId::new("ada")).as_str(), format!("{}@ada", lease.as_str()));
        for text in ["", "lease_", "req_00000000000000000000000000000000", &format!("{}@ada", lease.as_str())]
        {
            assert_eq!(LeaseId::parse(text), None, "{text}");
        }
    }
}
