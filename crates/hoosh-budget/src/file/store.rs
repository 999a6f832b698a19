//! The file: who may open it, what is in it, how a group is written.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use hoosh_core::limits::{LEDGER_LOCK_TIME_MAX, ROLLING_BUCKETS, USAGE_FORGET_ROWS};
use hoosh_core::{NanoUsd, Provenance, ServiceTier, Usage};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql, params};

use super::journal::Entry;
use crate::amount::Amount;
use crate::books::{Booking, Books, Known};
use crate::ledger::CallId;
use crate::pool::{PoolId, PoolTree, TokenPool};
use crate::usage::{Adjusted, CostChange, Mark, UsageRow};
use crate::window::Span;

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{} is in use by another process: only one hoosh may write it; stop the other one or give this one a file of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// It was written by a later version.
    #[error("{} was written by a later version of hoosh (format {found}, this one knows {known}): use that version, or another file", path.display())]
    Later {
        /// Which file.
        path: PathBuf,
        /// The format of the file.
        found: i64,
        /// The latest format that is known.
        known: i64,
    },
    /// It is somebody else's.
    #[error("{} is not a ledger of hoosh: give it a file of its own", .0.display())]
    NotOurs(PathBuf),
    /// The file system says no.
    #[error("{} cannot be opened: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read or written.
    #[error("{} cannot be used: {problem}", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// Why, in the words of SQLite.
        problem: String,
    },
}

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    path: PathBuf,
    /// Holds off other processes; the system lets go of it however this one ends.
    _lock: File,
}

/// "hooB" in ASCII, in the place that SQLite has for the program's mark.
const APPLICATION: i64 = 0x686f_6f42;

/// The format that this version writes.
const FORMAT: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE windows (
        pool TEXT NOT NULL,
        start_ms INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        last_ms INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        money INTEGER NOT NULL,
        over_tokens INTEGER NOT NULL,
        over_money INTEGER NOT NULL,
        PRIMARY KEY (pool, start_ms, end_ms)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE usage (
        at_ms INTEGER NOT NULL,
        id TEXT NOT NULL,
        caller TEXT NOT NULL,
        pools TEXT NOT NULL,
        dialect TEXT NOT NULL,
        model_asked TEXT NOT NULL,
        provider TEXT,
        model TEXT,
        stream INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        cache TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        input INTEGER,
        cache_read INTEGER,
        cache_write_5m INTEGER,
        cache_write_1h INTEGER,
        output INTEGER,
        reasoning INTEGER,
        audio_in INTEGER,
        audio_out INTEGER,
        provenance TEXT,
        cost INTEGER,
        legs TEXT NOT NULL,
        tags TEXT NOT NULL,
        queued_ms INTEGER NOT NULL,
        first_ms INTEGER,
        duration_ms INTEGER NOT NULL,
        service_tier TEXT NOT NULL,
        PRIMARY KEY (at_ms, id)
    ) STRICT, WITHOUT ROWID;
";

/// What came with format 2: what costs were before they were corrected, in their order, and the ends of periods.
const SCHEMA_2: &str = "
    CREATE TABLE adjustments (
        at_ms INTEGER NOT NULL,
        id TEXT NOT NULL,
        number INTEGER NOT NULL,
        was INTEGER,
        now INTEGER NOT NULL,
        adjusted_ms INTEGER NOT NULL,
        adjusted_by TEXT NOT NULL,
        PRIMARY KEY (at_ms, id, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE marks (
        number INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        marked_by TEXT NOT NULL
    ) STRICT;
";

/// The three columns behind [`COLUMNS`] that tell of a correction.
pub(super) const ADJUSTED: &str = "
    (SELECT max(adjusted_ms) FROM adjustments one WHERE one.at_ms = usage.at_ms AND one.id = usage.id),
    (SELECT was FROM adjustments one WHERE one.at_ms = usage.at_ms AND one.id = usage.id ORDER BY number LIMIT 1),
    (SELECT adjusted_by FROM adjustments one WHERE one.at_ms = usage.at_ms AND one.id = usage.id ORDER BY number DESC LIMIT 1)";

/// The same of a file that has no corrections yet, since no gateway of this version had it open.
pub(super) const NEVER_ADJUSTED: &str = "NULL, NULL, NULL";

/// The columns of a row, in the order of [`read_row`].
pub(super) const COLUMNS: &str = "at_ms, id, caller, pools, dialect, model_asked, provider, model, stream, outcome, cache, attempts, \
     input, cache_read, cache_write_5m, cache_write_1h, output, reasoning, audio_in, audio_out, provenance, cost, legs, tags, \
     queued_ms, first_ms, duration_ms, service_tier";

// A sum that is too large for an integer becomes a float in SQLite, and `min` makes it the largest integer again.
const ADD_WINDOW: &str = "
    INSERT INTO windows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT DO UPDATE SET
        last_ms = max(last_ms, excluded.last_ms),
        tokens = min(tokens + excluded.tokens, 9223372036854775807),
        money = min(money + excluded.money, 9223372036854775807),
        over_tokens = min(over_tokens + excluded.over_tokens, 9223372036854775807),
        over_money = min(over_money + excluded.over_money, 9223372036854775807)
";

// The id of a call is its own; a second row of one is left out rather than the whole group lost.
const ADD_ROW: &str = "
    INSERT INTO usage VALUES
        (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)
    ON CONFLICT DO NOTHING
";

// === impl Store ===

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let failed = |error| database(path, &error);
        let mut connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(failed)?;
        connection.busy_timeout(LEDGER_LOCK_TIME_MAX).map_err(failed)?;
        check(path, &connection, true)?;
        // Each commit waits for the disk: a group is worth it, and a loss of power then loses no more than a kill.
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").map_err(failed)?;
        prepare(&mut connection).map_err(failed)?;
        Ok(Self { connection, path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts into the books what is known of windows that still count.
    pub(super) fn restore(
        &self,
        pools: &PoolTree,
        books: &mut Books,
        now: Timestamp,
    ) -> Result<(), OpenError> {
        let failed = |error| database(&self.path, &error);
        let now_ms = now.as_millisecond();
        let mut read = self.connection.prepare(
            "SELECT pool, start_ms, end_ms, last_ms, tokens, money, over_tokens, over_money FROM windows
             WHERE pool >= ?1 AND pool < ?2 AND last_ms >= ?3 ORDER BY pool, start_ms",
        );
        let read = read.as_mut().map_err(|error| database(&self.path, error))?;
        let defined: HashSet<&PoolId> = pools.pools().map(|pool| &pool.id).collect();
        for pool in pools.pools() {
            let (from, until) = names(&pool.id);
            let rows = read
                .query_map(params![from, until, counts_since(pool, now_ms)], |row| {
                    let known = Known {
                        span: Span { start: row.get(1)?, end: row.get(2)? },
                        last: row.get(3)?,
                        settled: amount(row, 4)?,
                        overrun: amount(row, 6)?,
                    };
                    Ok((row.get::<_, String>(0)?, known))
                })
                .map_err(failed)?;
            let mut by_pool: HashMap<String, Vec<Known>> = HashMap::new();
            for row in rows {
                let (name, known) = row.map_err(failed)?;
                by_pool.entry(name).or_default().push(known);
            }
            for (name, known) in by_pool {
                // A name that is not one (any more) had its pool by rules that are gone.
                let Ok(id) = name.parse::<PoolId>() else { continue };
                if !pool.id.is_template() || !defined.contains(&id) {
                    books.restore(&id, &known, now);
                }
            }
        }
        Ok(())
    }

    /// Writes a group, all of it or nothing.
    pub(super) fn write(&mut self, group: &[Entry]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut add_window = transaction.prepare_cached(ADD_WINDOW)?;
            for ((pool, start_ms, end_ms), sums) in sums(group) {
                add_window.execute(params![
                    pool.as_str(),
                    start_ms,
                    end_ms,
                    sums.last_ms,
                    integer(sums.settled.tokens),
                    sums.settled.money.0,
                    integer(sums.overrun.tokens),
                    sums.overrun.money.0,
                ])?;
            }
            let mut add_row = transaction.prepare_cached(ADD_ROW)?;
            for row in group.iter().filter_map(|entry| entry.row.as_deref()) {
                write_row(&mut add_row, row)?;
            }
        }
        transaction.commit()
    }

    /// Deletes some rows before a time. Answers how many; none: there are no more.
    pub(super) fn forget_some(&mut self, before_ms: i64) -> rusqlite::Result<usize> {
        let nth = "SELECT at_ms FROM usage WHERE at_ms < ?1 ORDER BY at_ms LIMIT 1 OFFSET ?2";
        let bound = params![before_ms, USAGE_FORGET_ROWS as i64 - 1];
        let last: Option<i64> = self.connection.query_row(nth, bound, |row| row.get(0)).optional()?;
        let last = last.unwrap_or(before_ms - 1);
        self.connection.execute("DELETE FROM adjustments WHERE at_ms <= ?1", [last])?;
        self.connection.execute("DELETE FROM usage WHERE at_ms <= ?1", [last])
    }

    /// Corrects costs, all of them or none, and keeps what they were. Answers how many; a row that says something else by now,
    /// or is gone, is none.
    pub(super) fn adjust(
        &mut self,
        changes: &[CostChange],
        by: &str,
        now_ms: i64,
    ) -> rusqlite::Result<usize> {
        let transaction = self.connection.transaction()?;
        let mut adjusted = 0;
        {
            let mut change = transaction.prepare_cached(
                "UPDATE usage SET cost = ?4 WHERE at_ms = ?1 AND id = ?2 AND cost IS ?3 AND cost IS NOT ?4",
            )?;
            let mut keep = transaction.prepare_cached(
                "INSERT INTO adjustments SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6
                 FROM adjustments WHERE at_ms = ?1 AND id = ?2",
            )?;
            for CostChange { at_ms, id, was, now } in changes {
                let was = was.map(|was| was.0);
                if change.execute(params![at_ms, id.as_str(), was, now.0])? == 1 {
                    keep.execute(params![at_ms, id.as_str(), was, now.0, now_ms, by])?;
                    adjusted += 1;
                }
            }
        }
        transaction.commit()?;
        Ok(adjusted)
    }

    /// Ends a period. One that would end before the last one did ends with it: the clock was put back.
    pub(super) fn mark(&mut self, by: &str, now_ms: i64) -> rusqlite::Result<Mark> {
        let sql = "INSERT INTO marks SELECT coalesce(max(number), 0) + 1, max(?1, coalesce(max(at_ms), ?1)), ?2 FROM marks
                   RETURNING number, at_ms, marked_by";
        self.connection.query_row(sql, params![now_ms, by], read_mark)
    }

    /// Deletes the sums of windows that ended before a time.
    pub(super) fn forget_windows(&mut self, before_ms: i64) -> rusqlite::Result<usize> {
        self.connection.execute("DELETE FROM windows WHERE end_ms <= ?1", [before_ms])
    }
}

/// Opens a file for reading alone.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| database(path, &error))?;
    check(path, &connection, false)?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(|error| database(path, &error))?;
    Ok(connection)
}

/// Takes the lock that says who writes: a file beside the ledger, since SQLite's own would hold off our reader too.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let failed = |source| OpenError::Io { path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Refuses what is not ours, or too new for us.
fn check(path: &Path, connection: &Connection, may_be_empty: bool) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::NotOurs(path.to_owned()),
        _ => database(path, &error),
    };
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let application = number("PRAGMA application_id")?;
    let format = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if application == APPLICATION {
        return if format > FORMAT {
            Err(OpenError::Later { path: path.to_owned(), found: format, known: FORMAT })
        } else {
            Ok(())
        };
    }
    let is_empty = application == 0 && format == 0 && tables == 0;
    if is_empty && may_be_empty { Ok(()) } else { Err(OpenError::NotOurs(path.to_owned())) }
}

/// Makes the tables where there are none.
fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute_batch(SCHEMA_2)?;
        transaction.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};"
        ))?;
        transaction.commit()?;
    } else if format < FORMAT {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA_2)?;
        transaction.execute_batch(&format!("PRAGMA user_version = {FORMAT};"))?;
        transaction.commit()?;
    }
    Ok(())
}

/// Whether a file has corrections and ends of periods.
pub(super) fn has_adjustments(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).map(|format| format >= 2)
}

pub(super) fn read_mark(row: &Row<'_>) -> rusqlite::Result<Mark> {
    let number = row.get::<_, i64>(0)?.unsigned_abs();
    Ok(Mark { number, at_ms: row.get(1)?, by: row.get(2)? })
}

pub(super) fn database(path: &Path, error: &rusqlite::Error) -> OpenError {
    OpenError::Database { path: path.to_owned(), problem: error.to_string() }
}

/// The names that a pool's rules are for, as a range of text.
fn names(id: &PoolId) -> (String, String) {
    if id.is_template() {
        // `;` is what comes after `:`.
        (format!("{}:", id.kind()), format!("{};", id.kind()))
    } else {
        (id.to_string(), format!("{id}\0"))
    }
}

/// From when on what was booked still counts in a pool.
fn counts_since(pool: &TokenPool, now: i64) -> i64 {
    match pool.window.rolling() {
        // A part counts until all of it is out of the window.
        Some(length) => now.saturating_sub(length).saturating_sub(length / i64::from(ROLLING_BUCKETS) + 1),
        None => pool.window.span(&pool.time_zone, now).start,
    }
}

/// What a group books, summed up by pool and window.
fn sums(group: &[Entry]) -> HashMap<(&PoolId, i64, i64), Booking> {
    let mut sums: HashMap<(&PoolId, i64, i64), Booking> = HashMap::new();
    for booking in group.iter().flat_map(|entry| &entry.bookings) {
        sums.entry((&booking.pool, booking.start_ms, booking.end_ms))
            .and_modify(|sum| {
                sum.last_ms = sum.last_ms.max(booking.last_ms);
                sum.settled = sum.settled.saturating_add(booking.settled);
                sum.overrun = sum.overrun.saturating_add(booking.overrun);
            })
            .or_insert_with(|| booking.clone());
    }
    sums
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn amount(row: &Row<'_>, column: usize) -> rusqlite::Result<Amount> {
    Ok(Amount::new(unsigned(row.get(column)?), NanoUsd(row.get(column + 1)?)))
}

fn write_row(statement: &mut rusqlite::CachedStatement<'_>, row: &UsageRow) -> rusqlite::Result<()> {
    let usage = row.usage.unwrap_or_default();
    let part = |part: Option<u64>| part.map(integer);
    let pools: Vec<&str> = row.pools.iter().map(PoolId::as_str).collect();
    let pools = serde_json::to_string(&pools).unwrap_or_else(|_| "[]".to_owned());
    let values: [&dyn ToSql; 28] = [
        &row.at_ms,
        &row.id.as_str(),
        &row.caller,
        &pools,
        &row.dialect,
        &row.model_asked,
        &row.provider,
        &row.model,
        &row.stream,
        &row.outcome,
        &row.cache,
        &row.attempts,
        &part(usage.input),
        &part(usage.cache_read),
        &part(usage.cache_write_5m),
        &part(usage.cache_write_1h),
        &part(usage.output),
        &part(usage.reasoning),
        &part(usage.audio_in),
        &part(usage.audio_out),
        &row.usage.map(|usage| usage.provenance.as_str()),
        &row.cost.map(|cost| cost.0),
        &row.legs,
        &row.tags,
        &integer(row.queued_ms),
        &part(row.first_ms),
        &integer(row.duration_ms),
        &usage.service_tier.as_str(),
    ];
    statement.execute(values)?;
    Ok(())
}

/// Reads the eight parts of a usage that stand from a column on.
pub(super) fn read_parts(row: &Row<'_>, first: usize) -> rusqlite::Result<Usage> {
    let part = |offset: usize| row.get::<_, Option<i64>>(first + offset).map(|part| part.map(unsigned));
    Ok(Usage {
        input: part(0)?,
        cache_read: part(1)?,
        cache_write_5m: part(2)?,
        cache_write_1h: part(3)?,
        output: part(4)?,
        reasoning: part(5)?,
        audio_in: part(6)?,
        audio_out: part(7)?,
        provenance: Provenance::Reported,
        ..Usage::default()
    })
}

pub(super) fn read_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    let provenance = match row.get::<_, Option<String>>(20)?.as_deref() {
        None => None,
        Some("estimated") => Some(Provenance::Estimated),
        Some("partial") => Some(Provenance::Partial),
        Some(_) => Some(Provenance::Reported),
    };
    let service_tier = ServiceTier::of(&row.get::<_, String>(27)?);
    let parts = Usage { service_tier, ..read_parts(row, 12)? };
    let pools: Vec<String> = serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default();
    Ok(UsageRow {
        at_ms: row.get(0)?,
        id: CallId::from(row.get::<_, String>(1)?),
        caller: row.get(2)?,
        pools: pools.iter().filter_map(|pool| pool.parse().ok()).collect(),
        dialect: row.get(4)?,
        model_asked: row.get(5)?,
        provider: row.get(6)?,
        model: row.get(7)?,
        stream: row.get(8)?,
        outcome: row.get(9)?,
        cache: row.get(10)?,
        attempts: row.get(11)?,
        usage: provenance.map(|provenance| Usage { provenance, ..parts }),
        cost: row.get::<_, Option<i64>>(21)?.map(NanoUsd),
        legs: row.get(22)?,
        tags: row.get(23)?,
        queued_ms: unsigned(row.get(24)?),
        first_ms: row.get::<_, Option<i64>>(25)?.map(unsigned),
        duration_ms: unsigned(row.get(26)?),
        adjusted: match row.get::<_, Option<i64>>(28)? {
            None => None,
            Some(at_ms) => {
                let charged = row.get::<_, Option<i64>>(29)?.map(NanoUsd);
                Some(Adjusted { charged, at_ms, by: row.get(30)? })
            }
        },
    })
}
