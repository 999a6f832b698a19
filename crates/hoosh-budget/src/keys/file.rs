//! Keys in a file, by SQLite: two tables of their own, so that others may be in the same file.
//!
//! The connection is used for opening, reading all and for changes, never for looking up. Several processes may have it
//! open; SQLite lets one write at a time, and each change is one transaction that checks what it relies on.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoosh_core::limits::{KEY_STORE_WAIT_MAX, KEYS_MAX};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::record::{KeyId, KeyRecord};
use super::store::{Change, Digest, KeyStore, StoreError, StoredKey};

mod wire;

/// The version of the tables below.
const SCHEMA: i64 = 1;

/// Times are milliseconds since 1970, days are counted since then.
const TABLES: &str = "
    CREATE TABLE hoosh_keys_meta (
        name TEXT PRIMARY KEY,
        number INTEGER,
        bytes BLOB
    ) STRICT;
    CREATE TABLE hoosh_keys (
        id TEXT PRIMARY KEY,
        prefix TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        digest BLOB NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER,
        revoked INTEGER,
        rotated_from TEXT,
        booked_as TEXT NOT NULL,
        last_used INTEGER,
        grants TEXT NOT NULL
    ) STRICT;
    CREATE INDEX hoosh_keys_rotated_from ON hoosh_keys (rotated_from);
    INSERT INTO hoosh_keys_meta (name, number) VALUES ('schema', 1), ('version', 0);
";

/// Keeps keys in a file.
pub struct FileStore {
    place: String,
    connection: Mutex<Connection>,
    /// For how long others are waited for that write to it.
    wait: Duration,
}

// === impl FileStore ===

impl FileStore {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if it cannot be opened or is no database, [`StoreError::Later`] if a later hoosh made it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, KEY_STORE_WAIT_MAX)
    }

    /// With another time to wait for other processes.
    pub(super) fn open_with(path: &Path, wait: Duration) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        create_private(path).map_err(|error| StoreError::Failed {
            place: place.clone(),
            doing: "opened",
            problem: error.to_string(),
        })?;
        let connection = Connection::open(path).and_then(|mut connection| {
            let schema = prepare(&mut connection, wait)?;
            Ok((connection, schema))
        });
        match connection {
            Err(error) => Err(failed(&place, wait, "opened", &error)),
            Ok((_, found)) if found > SCHEMA => Err(StoreError::Later { place, found, known: SCHEMA }),
            Ok((connection, _)) => Ok(Self { place, connection: Mutex::new(connection), wait }),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic left open was rolled back when it was dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &'static str, error: &rusqlite::Error) -> StoreError {
        failed(&self.place, self.wait, doing, error)
    }
}

fn failed(place: &str, wait: Duration, doing: &'static str, error: &rusqlite::Error) -> StoreError {
    let problem = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another process has been writing for {} s", wait.as_secs_f32())
        }
        _ => error.to_string(),
    };
    StoreError::Failed { place: place.to_owned(), doing, problem }
}

/// Makes the file if there is none, for its owner only. SQLite gives the files beside it the same permissions.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Sets the connection up, makes the tables if there are none, and gives their version.
fn prepare(connection: &mut Connection, wait: Duration) -> rusqlite::Result<i64> {
    connection.busy_timeout(wait)?;
    // What was answered must survive a power cut: a key that was revoked stays so.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_new = !transaction.table_exists(None, "hoosh_keys_meta")?;
    if is_new {
        transaction.execute_batch(TABLES)?;
    }
    let select = "SELECT number FROM hoosh_keys_meta WHERE name = 'schema'";
    let schema = transaction.query_row(select, [], |row| row.get(0))?;
    transaction.commit()?;
    Ok(schema)
}

impl KeyStore for FileStore {
    fn mark(&self, mark: &Digest) -> Result<Digest, StoreError> {
        let connection = self.connection();
        let insert = "INSERT OR IGNORE INTO hoosh_keys_meta (name, bytes) VALUES ('pepper', ?)";
        let select = "SELECT bytes FROM hoosh_keys_meta WHERE name = 'pepper'";
        let kept = connection
            .execute(insert, [mark.0])
            .and_then(|_| connection.query_row(select, [], |row| row.get(0).map(Digest)));
        kept.map_err(|error| self.failed("opened", &error))
    }

    fn version(&self) -> Result<u64, StoreError> {
        version(&self.connection()).map_err(|error| self.failed("read", &error))
    }

    fn load(&self) -> Result<(u64, Vec<StoredKey>), StoreError> {
        let mut connection = self.connection();
        let read = |connection: &mut Connection| {
            // One transaction, so that the version is that of the keys.
            let transaction = connection.transaction()?;
            let version = version(&transaction)?;
            let mut statement = transaction.prepare(
                "SELECT id, prefix, name, digest, created, expires, revoked, rotated_from, booked_as, last_used, grants \
                 FROM hoosh_keys",
            )?;
            let rows = statement.query_map([], |row| Ok(key_of(row)))?;
            Ok((version, rows.collect::<rusqlite::Result<Vec<_>>>()?))
        };
        let (version, keys) = read(&mut connection).map_err(|error| self.failed("read", &error))?;
        Ok((version, keys.into_iter().collect::<Result<_, _>>()?))
    }

    fn apply(&self, change: &Change) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let behavior = TransactionBehavior::Immediate;
        let done =
            connection.transaction_with_behavior(behavior).map_err(Undone::from).and_then(|transaction| {
                write(&transaction, change)?;
                if !matches!(change, Change::Used(_)) {
                    let next = "UPDATE hoosh_keys_meta SET number = number + 1 WHERE name = 'version'";
                    transaction.execute(next, [])?;
                }
                Ok(transaction.commit()?)
            });
        done.map_err(|undone| match undone {
            Undone::Refused(error) => error,
            Undone::Failed(error) => self.failed("written", &error),
        })
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("place", &self.place).finish_non_exhaustive()
    }
}

fn version(connection: &Connection) -> rusqlite::Result<u64> {
    let select = "SELECT number FROM hoosh_keys_meta WHERE name = 'version'";
    connection.query_row(select, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Why a transaction was rolled back.
enum Undone {
    /// By ourselves.
    Refused(StoreError),
    /// By SQLite.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Undone {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

fn write(transaction: &Transaction<'_>, change: &Change) -> Result<(), Undone> {
    let found = |rows: usize, id: &KeyId| match rows {
        0 => Err(Undone::Refused(StoreError::UnknownKey(id.clone()))),
        _ => Ok(()),
    };
    match change {
        Change::Created(key) => insert(transaction, key),
        Change::Revoked { id, at } => {
            let update = "UPDATE hoosh_keys SET revoked = COALESCE(revoked, ?) WHERE id = ?";
            found(transaction.execute(update, params![at.as_millisecond(), id.as_str()])?, id)
        }
        Change::Rotated { old, until, new } => rotate(transaction, old, *until, new),
        Change::Removed { id } => {
            found(transaction.execute("DELETE FROM hoosh_keys WHERE id = ?", [id.as_str()])?, id)
        }
        Change::Used(uses) => {
            let update = "UPDATE hoosh_keys SET last_used = MAX(COALESCE(last_used, ?1), ?1) WHERE id = ?2";
            let mut statement = transaction.prepare(update)?;
            for (id, day) in uses {
                statement.execute(params![day, id.as_str()])?;
            }
            Ok(())
        }
    }
}

fn insert(transaction: &Transaction<'_>, StoredKey { record, digest }: &StoredKey) -> Result<(), Undone> {
    let keys: i64 = transaction.query_row("SELECT COUNT(*) FROM hoosh_keys", [], |row| row.get(0))?;
    if usize::try_from(keys).unwrap_or(usize::MAX) >= KEYS_MAX {
        return Err(Undone::Refused(StoreError::Full));
    }
    let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
    let inserted = transaction.execute(
        "INSERT INTO hoosh_keys \
         (id, prefix, name, digest, created, expires, revoked, rotated_from, booked_as, last_used, grants) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            record.id.as_str(),
            record.prefix,
            record.name,
            digest.0,
            record.created.as_millisecond(),
            millis(record.expires),
            millis(record.revoked),
            record.rotated_from.as_ref().map(KeyId::as_str),
            record.booked_as.as_str(),
            record.last_used,
            wire::encode(&record.grant),
        ],
    );
    match inserted {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Err(Undone::Refused(StoreError::Taken))
        }
        inserted => Ok(inserted.map(drop)?),
    }
}

fn rotate(
    transaction: &Transaction<'_>,
    old: &KeyId,
    until: Timestamp,
    new: &StoredKey,
) -> Result<(), Undone> {
    // Somebody else may have changed the old one since it was looked at.
    let works = "SELECT revoked IS NULL AND (expires IS NULL OR expires > ?) FROM hoosh_keys WHERE id = ?";
    let now = new.record.created.as_millisecond();
    let works: Option<bool> =
        transaction.query_row(works, params![now, old.as_str()], |row| row.get(0)).optional()?;
    match works {
        None => return Err(Undone::Refused(StoreError::UnknownKey(old.clone()))),
        Some(false) => return Err(Undone::Refused(StoreError::Ended(old.clone()))),
        Some(true) => {}
    }
    let successor = "SELECT id FROM hoosh_keys WHERE rotated_from = ? AND revoked IS NULL ORDER BY id";
    let successor: Option<String> =
        transaction.query_row(successor, [old.as_str()], |row| row.get(0)).optional()?;
    if let Some(successor) = successor {
        let new = KeyId::new(successor);
        return Err(Undone::Refused(StoreError::RotatedAlready { old: old.clone(), new }));
    }
    insert(transaction, new)?;
    let end = "UPDATE hoosh_keys SET expires = MIN(COALESCE(expires, ?1), ?1) WHERE id = ?2";
    transaction.execute(end, params![until.as_millisecond(), old.as_str()])?;
    Ok(())
}

fn key_of(row: &Row<'_>) -> Result<StoredKey, StoreError> {
    let id: String = row.get(0).unwrap_or_default();
    let unreadable = |problem: String| StoreError::Unreadable { id: id.clone(), problem };
    let columns = || -> rusqlite::Result<_> {
        let record = KeyRecord {
            id: KeyId::new(id.as_str()),
            prefix: row.get(1)?,
            name: row.get(2)?,
            created: Timestamp::UNIX_EPOCH,
            expires: None,
            revoked: None,
            rotated_from: row.get::<_, Option<String>>(7)?.map(KeyId::new),
            booked_as: KeyId::new(row.get::<_, String>(8)?),
            last_used: row.get(9)?,
            grant: Default::default(),
        };
        let times: [Option<i64>; 3] = [Some(row.get(4)?), row.get(5)?, row.get(6)?];
        Ok((StoredKey { record, digest: Digest(row.get(3)?) }, times, row.get::<_, String>(10)?))
    };
    let (mut key, times, grant) = columns().map_err(|error| unreadable(error.to_string()))?;
    let time = |millis: i64| {
        Timestamp::from_millisecond(millis).map_err(|_| unreadable(format!("{millis} is no time")))
    };
    let [created, expires, revoked] = times;
    key.record.created = created.map(time).transpose()?.unwrap_or_default();
    key.record.expires = expires.map(time).transpose()?;
    key.record.revoked = revoked.map(time).transpose()?;
    key.record.grant = wire::decode(&grant).map_err(unreadable)?;
    Ok(key)
}
