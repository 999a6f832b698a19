//! Questions about what was used.
//!
//! One thread with a connection of its own answers them one after the other, so that nobody who settles waits for a
//! long one.

use std::path::Path;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use futures_channel::oneshot;
use hoosh_core::limits::{USAGE_PAGE_ROWS_MAX, USAGE_QUESTIONS_MAX, USAGE_SUMS_MAX};
use hoosh_core::{NanoUsd, Usage};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::store::{
    ADJUSTED, COLUMNS, NEVER_ADJUSTED, OpenError, amount, has_adjustments, open_for_reading, read_mark,
    read_parts, read_row,
};
use crate::ledger::{Answer, CallId, WindowSums};
use crate::pool::PoolId;
use crate::refusal::LedgerFault;
use crate::usage::{Mark, UsageRow};
use crate::window::Span;

/// The usage log, to be read.
///
/// It can be read by other processes too while one writes it.
#[derive(Debug)]
pub struct UsageLog {
    questions: Option<SyncSender<Question>>,
    reader: Option<JoinHandle<()>>,
}

/// Which rows. The default: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Those that ended at this time or later.
    pub from: Option<Timestamp>,
    /// Those that ended before this time.
    pub until: Option<Timestamp>,
    /// Those of this caller.
    pub caller: Option<String>,
    /// Those that this provider answered.
    pub provider: Option<String>,
    /// Those that this model answered, as its provider names it.
    pub model: Option<String>,
    /// Those that were charged to this pool.
    pub pool: Option<PoolId>,
    /// Those that have a tag of this name with this value.
    pub tag: Option<(String, String)>,
}

/// In which order rows come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Those that ended last come first.
    #[default]
    NewestFirst,
    /// Those that ended first come first.
    OldestFirst,
}

/// What is summed up by.
#[derive(Debug, Clone, PartialEq)]
pub enum UsageSumsBy {
    /// Nothing: one sum.
    All,
    /// The provider that answered.
    Provider,
    /// The model that answered, as its provider names it.
    Model,
    /// The caller.
    Caller,
    /// The pools that were charged. A call counts in each of its own, so that the sums overlap.
    Pool,
    /// The days of a time zone, as `2026-01-31`.
    Day(TimeZone),
    /// The values of a tag.
    Tag(String),
}

/// What some calls used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UsageSums {
    /// Which: the provider, the day. `None`: those that have none, or all.
    pub key: Option<String>,
    /// How many calls.
    pub calls: u64,
    /// What they used. Each part is `None` where no call says anything of it.
    pub usage: Usage,
    /// What those cost of which a price is known.
    pub cost: NanoUsd,
    /// How many those are.
    pub priced: u64,
    /// How many used something at no known price.
    pub unpriced: u64,
}

type Question = Box<dyn FnOnce(&mut Connection) + Send>;

/// A quarter of an hour: days of all time zones begin at a full one.
const QUARTER_MS: i64 = 15 * 60 * 1_000;

// === impl UsageLog ===

impl UsageLog {
    /// Opens the file of a ledger for reading alone.
    ///
    /// # Errors
    ///
    /// If there is none, or it is not ours.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let mut connection = open_for_reading(path)?;
        let (questions, asked) = mpsc::sync_channel::<Question>(USAGE_QUESTIONS_MAX);
        let reader = thread::Builder::new()
            .name("hoosh-usage".to_owned())
            .spawn(move || asked.iter().for_each(|question| question(&mut connection)))
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Self { questions: Some(questions), reader: Some(reader) })
    }

    /// A page of rows: at most `limit`, no more than 1,000, from the one after `after` on. The time and name of a
    /// page's last row are the next one's `after`.
    pub fn rows(
        &self,
        filter: &UsageFilter,
        order: Order,
        after: Option<(i64, CallId)>,
        limit: usize,
    ) -> Answer<'static, Result<Vec<UsageRow>, LedgerFault>> {
        let (mut condition, mut values) = filter.sql();
        let (beyond, direction) = match order {
            Order::NewestFirst => ("<", "DESC"),
            Order::OldestFirst => (">", "ASC"),
        };
        if let Some((at_ms, id)) = after {
            condition.push_str(&format!(" AND (at_ms, id) {beyond} (?, ?)"));
            values.extend([at_ms.into(), id.as_str().to_owned().into()]);
        }
        let limit = limit.min(USAGE_PAGE_ROWS_MAX);
        self.ask(move |connection| {
            let adjusted = if has_adjustments(connection)? { ADJUSTED } else { NEVER_ADJUSTED };
            let sql = format!(
                "SELECT {COLUMNS}, {adjusted} FROM usage WHERE {condition} \
                 ORDER BY at_ms {direction}, id {direction} LIMIT {limit}"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_map(params_from_iter(values), read_row)?.collect()
        })
    }

    /// Sums over rows, the dearest first, at most 10,000; days come in their order.
    pub fn sums(
        &self,
        filter: &UsageFilter,
        by: &UsageSumsBy,
    ) -> Answer<'static, Result<Vec<UsageSums>, LedgerFault>> {
        let (condition, mut values) = filter.sql();
        let (key, join) = match by {
            UsageSumsBy::All => ("NULL", ""),
            UsageSumsBy::Provider => ("provider", ""),
            UsageSumsBy::Model => ("model", ""),
            UsageSumsBy::Caller => ("caller", ""),
            UsageSumsBy::Pool => ("charged.value", "JOIN json_each(pools) charged"),
            UsageSumsBy::Day(_) => {
                values.insert(0, QUARTER_MS.into());
                ("at_ms / ?", "")
            }
            UsageSumsBy::Tag(name) => {
                values.insert(0, name.clone().into());
                let tag = "(SELECT CAST(value AS TEXT) FROM json_each(iif(json_valid(tags), tags, NULL)) tag WHERE tag.key = ?)";
                (tag, "")
            }
        };
        let is_by_day = matches!(by, UsageSumsBy::Day(_));
        // Quarters of an hour are many more than the days that come of them.
        let limit = if is_by_day { String::new() } else { format!(" LIMIT {USAGE_SUMS_MAX}") };
        let sql = format!(
            "SELECT CAST({key} AS TEXT) AS key, count(*), sum(input), sum(cache_read), sum(cache_write_5m), \
             sum(cache_write_1h), sum(output), sum(reasoning), sum(audio_in), sum(audio_out), coalesce(sum(cost), 0) AS cost, \
             count(*) FILTER (WHERE cost IS NULL AND provenance IS NOT NULL), count(cost) \
             FROM usage {join} WHERE {condition} GROUP BY 1 ORDER BY 11 DESC, 1{limit}"
        );
        let zone = match by {
            UsageSumsBy::Day(zone) => Some(zone.clone()),
            _ => None,
        };
        self.ask(move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let sums = statement.query_map(params_from_iter(values), |row| {
                Ok(UsageSums {
                    key: row.get(0)?,
                    calls: row.get::<_, i64>(1)?.unsigned_abs(),
                    usage: read_parts(row, 2)?,
                    cost: NanoUsd(row.get(10)?),
                    unpriced: row.get::<_, i64>(11)?.unsigned_abs(),
                    priced: row.get::<_, i64>(12)?.unsigned_abs(),
                })
            })?;
            let sums: Vec<UsageSums> = sums.collect::<rusqlite::Result<_>>()?;
            Ok(match &zone {
                Some(zone) => by_day(sums, zone),
                None => sums.into_iter().filter(|sums| sums.calls > 0).collect(),
            })
        })
    }

    /// What a pool spent in its latest windows, the newest first; of a rolling one in its parts.
    pub fn windows(
        &self,
        pool: PoolId,
        limit: usize,
    ) -> Answer<'static, Result<Vec<WindowSums>, LedgerFault>> {
        let limit = limit.min(USAGE_PAGE_ROWS_MAX) as i64;
        self.ask(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT start_ms, end_ms, tokens, money, over_tokens, over_money FROM windows
                 WHERE pool = ?1 ORDER BY start_ms DESC, end_ms DESC LIMIT ?2",
            )?;
            let windows = statement.query_map(params![pool.as_str(), limit], |row| {
                let span = Span { start: row.get(0)?, end: row.get(1)? };
                Ok(WindowSums {
                    start: span.start(),
                    end: span.end(),
                    settled: amount(row, 2)?,
                    overrun: amount(row, 4)?,
                })
            })?;
            windows.collect()
        })
    }

    /// The ends of periods, the first one first.
    pub fn marks(&self) -> Answer<'static, Result<Vec<Mark>, LedgerFault>> {
        self.ask(|connection| {
            if !has_adjustments(connection)? {
                return Ok(Vec::new());
            }
            let sql = "SELECT number, at_ms, marked_by FROM marks ORDER BY number";
            connection.prepare_cached(sql)?.query_map([], read_mark)?.collect()
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'static, Result<T, LedgerFault>>
    where
        Result<T, LedgerFault>: Unpin,
    {
        let (listener, answered) = oneshot::channel();
        let asked = Box::new(move |connection: &mut Connection| {
            // Who has gone away needs no answer.
            if !listener.is_canceled() {
                let answer = question(connection);
                let answer = answer.map_err(|error| LedgerFault(format!("cannot be read: {error}")));
                drop(listener.send(answer));
            }
        });
        let stopped = || LedgerFault("has stopped and answers nothing any more".to_owned());
        match self.questions.as_ref().map(|questions| questions.try_send(asked)) {
            Some(Ok(())) => Answer::later(async move { answered.await.unwrap_or_else(|_| Err(stopped())) }),
            Some(Err(TrySendError::Full(_))) => Answer::now(Err(LedgerFault(format!(
                "has {USAGE_QUESTIONS_MAX} questions to answer; ask again later"
            )))),
            Some(Err(TrySendError::Disconnected(_))) | None => Answer::now(Err(stopped())),
        }
    }
}

impl Drop for UsageLog {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(reader) = self.reader.take() {
            // A panic there is on standard error already.
            let _ = reader.join();
        }
    }
}

// === impl UsageFilter ===

impl UsageFilter {
    /// As a condition, and the values that it has places for.
    fn sql(&self) -> (String, Vec<Value>) {
        let mut condition = String::from("TRUE");
        let mut values = Vec::new();
        let mut add = |sql: &str, value: Option<Value>| {
            if let Some(value) = value {
                condition.push_str(sql);
                values.push(value);
            }
        };
        let time = |time: Option<Timestamp>| time.map(|time| time.as_millisecond().into());
        add(" AND at_ms >= ?", time(self.from));
        add(" AND at_ms < ?", time(self.until));
        add(" AND caller = ?", self.caller.clone().map(Value::from));
        add(" AND provider = ?", self.provider.clone().map(Value::from));
        add(" AND model = ?", self.model.clone().map(Value::from));
        let pool = self.pool.as_ref().map(|pool| pool.as_str().to_owned().into());
        add(" AND EXISTS (SELECT 1 FROM json_each(pools) one WHERE one.value = ?)", pool);
        if let Some((name, value)) = &self.tag {
            condition.push_str(
                " AND EXISTS (SELECT 1 FROM json_each(iif(json_valid(tags), tags, NULL)) one \
                 WHERE one.key = ? AND CAST(one.value AS TEXT) = ?)",
            );
            values.extend([name.clone().into(), value.clone().into()]);
        }
        (condition, values)
    }
}

/// Sums of quarters of an hour, as those of the days that they lie in.
fn by_day(quarters: Vec<UsageSums>, zone: &TimeZone) -> Vec<UsageSums> {
    let mut days = std::collections::BTreeMap::<String, UsageSums>::new();
    for quarter in quarters {
        let number = quarter.key.as_deref().and_then(|number| number.parse::<i64>().ok());
        let time =
            number.and_then(|number| Timestamp::from_millisecond(number.checked_mul(QUARTER_MS)?).ok());
        let Some(time) = time else { continue };
        let date = time.to_zoned(zone.clone()).date().to_string();
        let day =
            days.entry(date.clone()).or_insert_with(|| UsageSums { key: Some(date), ..Default::default() });
        day.calls += quarter.calls;
        day.usage += quarter.usage;
        day.cost = day.cost.saturating_add(quarter.cost);
        day.priced += quarter.priced;
        day.unpriced += quarter.unpriced;
    }
    days.into_values().collect()
}
