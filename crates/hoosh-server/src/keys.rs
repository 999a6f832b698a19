//! The keys that callers have: where they are kept and under which pepper, how one is ordered, and what is told of one.
//!
//! What a key is, and what it lets its owner do, is [`hoosh_budget::keys`]'s. `hoosh keys` and `/v1/admin/keys` are two doors
//! to the same things, which are here.

mod jwt;
mod order;
mod pepper;
pub(crate) mod published;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoosh_audit::Entry;
use hoosh_budget::keys::{FileStore, KeyError, KeyRecord, KeyStatus, Keyring, StoreError, WeakPepper};
use hoosh_budget::rate::Limits;
use hoosh_core::limits;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

pub(crate) use self::jwt::Signed;
pub(crate) use self::order::{BadOrder, Order, Rotation};
use crate::app::App;
use crate::audit;
use crate::config::{Auth, KeysFile};

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store or the keys in it.
    #[error("`auth.keys`: {0}")]
    Keys(#[from] KeyError),
    /// The file of the pepper cannot be used.
    #[error("`auth.keys`: the pepper in {} {problem}", .path.display())]
    Pepper {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The keys that signed tokens are checked with.
    #[error("`auth.jwt_keys`: {} {problem}", .path.display())]
    Jwt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What `HOOSH_KEY_PEPPER` holds.
    #[error("`HOOSH_KEY_PEPPER`: {0}")]
    Weak(#[from] WeakPepper),
}

/// Opens the keys that a configuration names, and makes store and pepper where there are none. `None`: it names none.
///
/// # Errors
///
/// The store or the pepper cannot be read or made, or the keys were made with another pepper.
pub(crate) fn open(auth: &Auth) -> Result<Option<Arc<Keyring>>, KeysError> {
    let Some(file) = &auth.keys else { return Ok(None) };
    let (pepper, made) = pepper::of(file)?;
    let store = FileStore::open(&file.path).map_err(KeyError::from)?;
    let opened = Keyring::open(Arc::new(store), pepper);
    if let (Err(KeyError::OtherPepper), Some(made)) = (&opened, made) {
        // The keys are of another one, which is somewhere else: ours must not be taken for it.
        let _gone = std::fs::remove_file(made);
    }
    Ok(Some(Arc::new(opened?)))
}

/// Whether both are the same keys, so that what is open can stay.
pub(crate) fn are_same(one: &Auth, other: &Auth) -> bool {
    use secrecy::ExposeSecret;
    let parts = |auth: &Auth| {
        let of = |file: &KeysFile| {
            (file.path.clone(), file.pepper.as_ref().map(|text| text.expose_secret().to_owned()))
        };
        auth.keys.as_ref().map(of)
    };
    parts(one) == parts(other)
}

/// Takes on what other processes change, and writes down which keys are used, as long as the server runs.
pub(crate) async fn keep_up(apps: watch::Receiver<Arc<App>>) {
    let mut is_well = true;
    loop {
        sleep(limits::KEYS_RELOAD_INTERVAL).await;
        let ring = apps.borrow().keys.ring().cloned();
        let Some(ring) = ring else { continue };
        // A panic of the store is no news.
        let Ok(done) = spawn_blocking(move || look(&ring)).await else { continue };
        match done {
            Ok(changed) => {
                if changed {
                    tracing::info!(target: "hoosh::keys", "keys were changed");
                    if let Some(audit) = &apps.borrow().audit {
                        audit.note(Entry::Key(audit::event("changed", "another process", [])));
                    }
                }
                is_well = true;
            }
            // Once, and not every time.
            Err(error) if is_well => {
                tracing::error!(target: "hoosh::keys", %error, "the keys are as they were; changes are not seen");
                is_well = false;
            }
            Err(_) => {}
        }
    }
}

fn look(ring: &Keyring) -> Result<bool, KeyError> {
    let changed = ring.reload()?;
    // Once a day for each key.
    ring.store_uses()?;
    Ok(changed)
}

/// What is told of a key; nothing of it lets anybody in.
pub(crate) fn told(record: &KeyRecord, now: Timestamp) -> Value {
    let KeyRecord { id, prefix, name, created, expires, revoked, rotated_from, booked_as, grant, .. } =
        record;
    let texts = |patterns: &[hoosh_budget::keys::Pattern]| {
        patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect::<Vec<_>>()
    };
    json!({
        "id": id.as_str(),
        "prefix": prefix,
        "name": name,
        "status": status(record, now),
        "created": created.to_string(),
        "expires": expires.map(|at| at.to_string()),
        "revoked": revoked.map(|at| at.to_string()),
        "rotated_from": rotated_from.as_ref().map(|id| id.as_str()),
        "booked_as": booked_as.as_str(),
        "last_used": record.last_used_on().map(|day| day.to_string()),
        "scopes": grant.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "models": texts(&grant.models),
        "providers": texts(&grant.providers),
        "endpoints": texts(&grant.endpoints),
        "networks": grant.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "pools": grant.pools,
        "limits": told_limits(&grant.limits),
        "tier": grant.tier,
        "metadata": grant.metadata,
    })
}

/// Whether it works, in one word.
pub(crate) fn status(record: &KeyRecord, now: Timestamp) -> &'static str {
    match record.status(now) {
        KeyStatus::Active => "active",
        KeyStatus::Revoked(_) => "revoked",
        KeyStatus::Expired(_) => "expired",
    }
}

fn told_limits(limits: &Limits) -> Value {
    let rate = |rate: &hoosh_budget::rate::Rate| {
        (format!("{}_per_{}", rate.measure.as_str(), rate.period.as_str()), rate.amount.get().into())
    };
    let mut told: Map<String, Value> = limits.rates().iter().map(rate).collect();
    told.extend(limits.concurrent().map(|most| ("concurrent".to_owned(), most.into())));
    told.into()
}

/// Whether somebody named a key that there is not, or wants what cannot be: who asks is to blame, and not the store.
pub(crate) fn is_askers_fault(error: &KeyError) -> bool {
    match error {
        KeyError::Invalid(_) | KeyError::InUse(_) => true,
        KeyError::Store(error) => !matches!(
            error,
            StoreError::Failed { .. }
                | StoreError::Unreadable { .. }
                | StoreError::Later { .. }
                | StoreError::Taken
        ),
        KeyError::NoRandomness(_) | KeyError::OtherPepper => false,
    }
}

/// A time from now as people write it: `90d`, `12h`, `30m`.
fn span(text: &str) -> Option<Duration> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 60 * 60,
        b'd' => 24 * 60 * 60,
        b'w' => 7 * 24 * 60 * 60,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(unit)?))
}

impl KeysError {
    fn pepper(path: PathBuf, problem: impl Into<String>) -> Self {
        Self::Pepper { path, problem: problem.into() }
    }

    fn io(path: PathBuf, doing: &str, error: &io::Error) -> Self {
        Self::pepper(path, format!("cannot be {doing}: {error}"))
    }
}

#[cfg(test)]
mod tests;
