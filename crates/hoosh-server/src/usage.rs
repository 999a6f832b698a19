//! What calls used and what that cost: how questions about it are read, and how the answers look.
//!
//! The rows are [`hoosh_budget`]'s. `GET /v1/costs` and `hoosh costs` are two doors to the same sums, which are here.

use std::str::FromStr;

use hoosh_budget::{FileLedger, LedgerFault, Mark, UsageFilter, UsageLog, UsageRow, UsageSums, UsageSumsBy};
use hoosh_core::Usage;
use hoosh_core::limits::USAGE_SUMS_MAX;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::api::decisions::dollars;

/// What sums can be by, in the order of the documentation; `tag:NAME` besides.
pub(crate) const BY: [&str; 6] = ["provider", "model", "caller", "key", "pool", "day"];

/// What stands before the name of a tag that sums are by.
const BY_TAG: &str = "tag:";

/// Sums over calls, with what all of them come to.
pub(crate) struct Costs {
    by: &'static str,
    /// The tag that they are by.
    tag: Option<String>,
    /// The dearest first; days in their order.
    pub(crate) sums: Vec<UsageSums>,
    /// The period that they are of. `None`: they are of the times that were asked for.
    period: Option<Period>,
    /// Of all calls. Not what the sums come to where they are by pool, since a call counts in each of its own.
    pub(crate) total: UsageSums,
}

/// A period of costs: from where the one before was ended on, until it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Period {
    /// From 1. `None`: all of them together.
    pub(crate) number: Option<u64>,
    /// `None`: from the first call on.
    from: Option<Timestamp>,
    /// `None`: it is not ended.
    until: Option<Timestamp>,
    ended_by: Option<String>,
}

/// Which period somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeriodAsked {
    /// By its number.
    Number(u64),
    /// All of them together.
    All,
}

/// All that sums can be by, for people.
pub(crate) fn groupings() -> String {
    format!("{}, {BY_TAG}NAME", BY.join(", "))
}

/// What sums are by, as [`BY`] names it, and what each sum has its key under. Days are those of UTC; a key is its caller, under which
/// those that it was rotated to go on.
pub(crate) fn grouping(word: &str) -> Option<(&'static str, UsageSumsBy)> {
    if let Some(tag) = word.strip_prefix(BY_TAG).filter(|tag| !tag.is_empty()) {
        return Some(("tag", UsageSumsBy::Tag(tag.to_owned())));
    }
    let name = BY.into_iter().find(|name| *name == word)?;
    let by = match name {
        "provider" => UsageSumsBy::Provider,
        "model" => UsageSumsBy::Model,
        "caller" | "key" => UsageSumsBy::Caller,
        "pool" => UsageSumsBy::Pool,
        _ => UsageSumsBy::Day(TimeZone::UTC),
    };
    Some((name, by))
}

/// A time as people write it: that of RFC 3339, or a date, which is its beginning in UTC.
///
/// # Errors
///
/// What was expected.
pub(crate) fn time(text: &str) -> Result<Timestamp, &'static str> {
    let date = |date: Date| date.to_zoned(TimeZone::UTC).ok().map(|start| start.timestamp());
    let time = text.parse().ok().or_else(|| Date::strptime("%Y-%m-%d", text).ok().and_then(date));
    time.ok_or("is to be a date such as 2026-11-24, or a time such as 2026-11-24T12:00:00Z")
}

/// What calls cost, as a number is written; `None`: not one of them has a known price.
pub(crate) fn cost(sums: &UsageSums) -> Option<String> {
    (sums.priced > 0 || sums.unpriced == 0).then(|| dollars(sums.cost))
}

/// One call as JSON.
pub(crate) fn row(row: &UsageRow) -> Value {
    // The gateway wrote it; where there was nothing to write it is empty.
    let written = |text: &str| serde_json::from_str::<Value>(text).ok();
    json!({
        "id": row.id.as_str(),
        "at": Timestamp::from_millisecond(row.at_ms).ok().map(|time| time.to_string()),
        "caller": row.caller,
        "pools": row.pools.iter().map(|pool| pool.as_str()).collect::<Vec<_>>(),
        "dialect": row.dialect,
        "model_asked": row.model_asked,
        "provider": row.provider,
        "model": row.model,
        "stream": row.stream,
        "outcome": row.outcome,
        "cache": Some(&row.cache).filter(|word| !word.is_empty()),
        "attempts": row.attempts,
        "tokens": row.usage.as_ref().map(|usage| {
            let mut tokens = tokens(usage);
            tokens.insert("known".to_owned(), usage.provenance.as_str().into());
            tokens.insert("service_tier".to_owned(), usage.service_tier.as_str().into());
            tokens
        }),
        "usd": row.cost.map(dollars),
        "adjusted": row.adjusted.as_ref().map(|adjusted| json!({
            "charged_usd": adjusted.charged.map(dollars),
            "at": Timestamp::from_millisecond(adjusted.at_ms).ok().map(|time| time.to_string()),
            "by": adjusted.by,
        })),
        "legs": written(&row.legs).unwrap_or_else(|| json!([])),
        "tags": written(&row.tags).unwrap_or_else(|| json!({})),
        "queued_ms": row.queued_ms,
        "first_ms": row.first_ms,
        "duration_ms": row.duration_ms,
    })
}

/// Tokens as JSON: all of prompt and answer, and the parts of which something is known.
fn tokens(usage: &Usage) -> Map<String, Value> {
    let mut tokens = Map::new();
    tokens.insert("prompt".to_owned(), usage.prompt_total().into());
    tokens.insert("completion".to_owned(), usage.completion_total().into());
    let parts = [
        ("input", usage.input),
        ("cache_read", usage.cache_read),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("audio_in", usage.audio_in),
        ("audio_out", usage.audio_out),
    ];
    tokens.extend(parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?.into()))));
    tokens
}

// === impl Period ===

impl Period {
    /// The one that is asked for, to which the filter is narrowed. Without a word that is the one that is not ended, and none
    /// where there are times in the filter.
    ///
    /// # Errors
    ///
    /// There is no such period, or it is asked for along with times.
    pub(crate) fn of(
        marks: &[Mark],
        asked: Option<PeriodAsked>,
        filter: &mut UsageFilter,
    ) -> Result<Option<Self>, String> {
        let has_times = filter.from.is_some() || filter.until.is_some();
        let last = marks.last().map_or(1, |mark| mark.number.saturating_add(1));
        let number = match asked {
            Some(_) if has_times => return Err("cannot be asked for along with times".to_owned()),
            None if has_times => return Ok(None),
            Some(PeriodAsked::All) => return Ok(Some(Self::default())),
            None => last,
            Some(PeriodAsked::Number(number)) if (1..=last).contains(&number) => number,
            Some(PeriodAsked::Number(number)) => {
                return Err(format!("{number} is none; they are from 1 to {last}, which is not ended"));
            }
        };
        let ends = |number: u64| marks.iter().find(|mark| mark.number == number);
        let end = ends(number);
        let period = Self {
            number: Some(number),
            from: ends(number - 1).and_then(time_of),
            until: end.and_then(time_of),
            ended_by: end.map(|mark| mark.by.clone()),
        };
        (filter.from, filter.until) = (period.from, period.until);
        Ok(Some(period))
    }

    /// Ends the one that is not ended, and gives it.
    ///
    /// # Errors
    ///
    /// The ledger cannot be written or read.
    pub(crate) async fn end(ledger: &FileLedger, by: String) -> Result<Self, LedgerFault> {
        let mark = ledger.mark(by, Timestamp::now()).await?;
        tracing::info!(target: "hoosh::costs", by = mark.by, period = mark.number, "a period of costs is ended");
        let marks = ledger.usage().marks().await?;
        let asked = Some(PeriodAsked::Number(mark.number));
        let period = Self::of(&marks, asked, &mut UsageFilter::default());
        Ok(period.ok().flatten().unwrap_or_default())
    }

    /// As JSON.
    pub(crate) fn told(&self) -> Value {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        json!({
            "number": self.number,
            "from": time(self.from),
            "to": time(self.until),
            "ended_by": self.ended_by,
        })
    }
}

fn time_of(mark: &Mark) -> Option<Timestamp> {
    Timestamp::from_millisecond(mark.at_ms).ok()
}

impl FromStr for PeriodAsked {
    type Err = String;

    /// `all`, or a number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = || text.parse().ok().map(Self::Number);
        let asked = if text == "all" { Some(Self::All) } else { number() };
        asked.ok_or_else(|| "is to be a number from 1, or `all`".to_owned())
    }
}

// === impl Costs ===

impl Costs {
    /// Sums up.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub(crate) async fn of(
        log: &UsageLog,
        filter: &UsageFilter,
        (name, by): (&'static str, UsageSumsBy),
        period: Option<Period>,
    ) -> Result<Self, LedgerFault> {
        let sums = log.sums(filter, &by).await?;
        let total = log.sums(filter, &UsageSumsBy::All).await?.into_iter().next().unwrap_or_default();
        let tag = match by {
            UsageSumsBy::Tag(tag) => Some(tag),
            _ => None,
        };
        Ok(Self { by: name, tag, sums, period, total })
    }

    /// Whether there may be more sums than are given.
    pub(crate) fn is_cut(&self) -> bool {
        self.by != "day" && self.sums.len() >= USAGE_SUMS_MAX
    }

    /// As JSON.
    pub(crate) fn told(&self) -> Value {
        let told = |sums: &UsageSums| {
            json!({
                "calls": sums.calls,
                "tokens": tokens(&sums.usage),
                "usd": cost(sums),
                "unpriced_calls": sums.unpriced,
            })
        };
        let one = |sums: &UsageSums| {
            let mut one = told(sums);
            if let Some(fields) = one.as_object_mut() {
                fields.insert(self.by.to_owned(), sums.key.clone().into());
            }
            one
        };
        json!({
            "by": self.tag.as_ref().map_or_else(|| self.by.to_owned(), |tag| format!("{BY_TAG}{tag}")),
            "sums": self.sums.iter().map(one).collect::<Vec<_>>(),
            "cut": self.is_cut(),
            "period": self.period.as_ref().map(Period::told),
            "total": told(&self.total),
        })
    }
}

#[cfg(test)]
mod tests {
    use hoosh_core::NanoUsd;

    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339_or_dates_of_utc() {
        for (text, expected) in [
            ("2026-11-24", "2026-11-24T00:00:00Z"),
            ("2026-11-24T12:30:00+02:00", "2026-11-24T10:30:00Z"),
            ("2026-11-24T12:30:00Z", "2026-11-24T12:30:00Z"),
        ] {
            assert_eq!(time(text).map(|time| time.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-11-24T12:30"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn sums_are_by_a_tag_and_of_one() {
        use hoosh_budget::{Durability, FileLedger, Ledger, PoolTree};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let ledger =
            FileLedger::open(&path, &PoolTree::default(), Durability::Group, None, Timestamp::now()).unwrap();
        for (n, tags) in
            [r#"{"team":"a","n":1}"#, r#"{"team":"b"}"#, r#"{"team":"a"}"#, ""].iter().enumerate()
        {
            let row = UsageRow {
                cost: Some(NanoUsd(1 << n)),
                tags: (*tags).to_owned(),
                ..UsageRow::new(n.to_string().into(), 1_000)
            };
            ledger.record(Box::new(row)).unwrap();
        }
        ledger.flush().await.unwrap();
        let by = async |word: &str, filter: UsageFilter| {
            let told =
                Costs::of(ledger.usage(), &filter, grouping(word).unwrap(), None).await.unwrap().told();
            let sums = told["sums"].as_array().unwrap().clone();
            let sums = sums
                .iter()
                .map(|sum| (sum["tag"].clone(), sum["calls"].as_u64().unwrap()))
                .collect::<Vec<_>>();
            (told["by"].clone(), sums, told["total"]["calls"].as_u64().unwrap())
        };
        let all = UsageFilter::default;
        let expected = vec![(Value::Null, 1), (json!("a"), 2), (json!("b"), 1)];
        assert_eq!(by("tag:team", all()).await, (json!("tag:team"), expected, 4));
        assert_eq!(by("tag:n", all()).await.1, [(Value::Null, 3), (json!("1"), 1)]);
        let tag = Some(("team".to_owned(), "a".to_owned()));
        assert_eq!(by("tag:team", UsageFilter { tag, ..all() }).await.1, [(json!("a"), 2)]);
        assert!(grouping("tag:").is_none() && grouping("tag").is_none());
    }

    #[test]
    fn what_has_no_price_costs_not_nothing() {
        let sums = |priced, unpriced| UsageSums { priced, unpriced, ..UsageSums::default() };
        assert_eq!(cost(&sums(0, 2)), None);
        assert_eq!(cost(&sums(1, 2)).as_deref(), Some("0.000000000"));
        assert_eq!(cost(&sums(0, 0)).as_deref(), Some("0.000000000"));
    }
}
