//! Calls that are being answered, for others of the same key to wait for.
//!
//! One leads; those who come while it is under way wait for its landing. A lead that is dropped without one, because its
//! client left, ends the flight: those who wait look again, and the first of them leads.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoosh_router::Tier;
use tokio::sync::watch;

use super::Similarity;
use super::entry::Entry;
use super::key::Key;

/// The flights under way; as many as there are calls at most.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Name, Flight>>);

/// What a flight is known by: the key; how often its caller had purged, so that nobody waits for an answer that was asked for
/// before a purge; and its tier, so that nobody waits behind one of a lower.
type Name = (Key, u64, Tier);

/// Where the landing of a flight is told.
pub(crate) type Flight = watch::Receiver<Option<Landing>>;

/// How a flight ended.
#[derive(Clone)]
pub(crate) enum Landing {
    /// With an answer for all who wait.
    Answer(Arc<Entry>),
    /// With one that was given to the same question in other words.
    Alike(Arc<Entry>, Similarity),
    /// With an answer that is only its own caller's.
    Unkept,
    /// Without one.
    Failed,
}

/// What a call does about the flight of its key.
pub(crate) enum Joined {
    Lead(Lead),
    Wait(Flight),
}

/// The duty to land.
pub(crate) struct Lead {
    flights: Arc<Flights>,
    /// Gone once it has landed: from then on another may fly under it.
    name: Option<Name>,
    landing: watch::Sender<Option<Landing>>,
}

/// Waits for a flight to land; `None` if nobody leads it any more.
pub(crate) async fn landed(mut flight: Flight) -> Option<Landing> {
    flight.wait_for(Option::is_some).await.ok()?.clone()
}

// === impl Flights ===

impl Flights {
    /// Joins a flight, or begins it.
    pub(crate) fn join(self: &Arc<Self>, key: &Key, purges: u64, tier: Tier) -> Joined {
        let name = (key.clone(), purges, tier);
        match self.under_way().entry(name.clone()) {
            Slot::Occupied(flight) => Joined::Wait(flight.get().clone()),
            Slot::Vacant(slot) => {
                let (landing, flight) = watch::channel(None);
                slot.insert(flight);
                Joined::Lead(Lead { flights: Arc::clone(self), name: Some(name), landing })
            }
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Name, Flight>> {
        // Nothing is done under the lock that could end half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Lead ===

impl Lead {
    /// Tells those who wait.
    pub(crate) fn land(mut self, landing: Landing) {
        self.leave();
        // Perhaps nobody waits.
        self.landing.send_replace(Some(landing));
    }

    fn leave(&mut self) {
        if let Some(name) = self.name.take() {
            self.flights.under_way().remove(&name);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Before the sender goes, so that those who wait find nobody leading.
        self.leave();
    }
}
