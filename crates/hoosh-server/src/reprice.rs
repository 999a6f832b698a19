//! Costs of calls that are over, worked out anew from what they used and the prices that the configuration has for their time.
//!
//! Usage is what is kept and money is derived from it: a price that was wrong or not known is put right here. A row keeps what was
//! charged at its call's end, and a call whose price is still not known keeps its cost.
//!
//! **Pools stay as they are.** What a pool let through it let through at the price of the day, and calls were refused by that: a
//! dearer price booked afterwards would have a hard pool hold more than it has, and a cheaper one would not bring the refused calls
//! back. Sums of money in a pool's window are therefore what was charged, costs in the usage log what it should have been.

use std::collections::BTreeMap;

use hoosh_budget::{CostChange, FileLedger, LedgerFault, Order, UsageFilter, UsageLog, UsageRow};
use hoosh_core::limits::{USAGE_PAGE_ROWS_MAX, USAGE_SUMS_MAX};
use hoosh_core::{NanoUsd, ServiceTier, Usage};
use hoosh_router::Router;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::decisions::dollars;
use crate::usage;

/// Which calls, and whether that is only a trial: the body of `POST /v1/admin/reprice`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RepriceOrder {
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) dry_run: bool,
}

/// What it comes to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Repriced {
    pub(crate) dry_run: bool,
    /// The largest difference first.
    pub(crate) models: Vec<RepricedModel>,
    pub(crate) total: Sums,
}

/// The same of one model of one provider.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RepricedModel {
    pub(crate) provider: Option<String>,
    pub(crate) model: Option<String>,
    #[serde(flatten)]
    pub(crate) sums: Sums,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sums {
    /// Calls that used something.
    pub(crate) calls: u64,
    /// Those whose cost is, or would be, another.
    pub(crate) adjusted: u64,
    /// Those that keep what they have, since no price is known for them now.
    pub(crate) unpriced: u64,
    pub(crate) usd_before: String,
    pub(crate) usd_after: String,
    pub(crate) difference: String,
    #[serde(skip)]
    before: NanoUsd,
    #[serde(skip)]
    after: NanoUsd,
}

/// What others did who worked on a call, as its row has it.
#[derive(Deserialize)]
struct Leg {
    provider: String,
    model: String,
    usage: Option<LegUsage>,
    cost_nano_usd: Option<i64>,
}

/// What a leg used, part by part.
#[derive(Deserialize)]
struct LegUsage {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    audio_in: Option<u64>,
    audio_out: Option<u64>,
    service_tier: Option<String>,
}

/// What stands for all models beyond as many as are told apart.
const OTHERS: &str = "(others)";

/// Works out the costs of these calls anew, and corrects them in `ledger` unless it is a trial, page by page.
///
/// # Errors
///
/// The log cannot be read or written; pages that were corrected stay so.
///
/// # Cancel safety
///
/// Dropped, it has corrected some pages and not the others; asked again it goes on with those.
pub(crate) async fn reprice(
    log: &UsageLog,
    ledger: Option<&FileLedger>,
    router: &Router,
    filter: &UsageFilter,
    by: &str,
) -> Result<Repriced, LedgerFault> {
    let mut models: BTreeMap<(Option<String>, Option<String>), Sums> = BTreeMap::new();
    let mut after = None;
    loop {
        let rows = log.rows(filter, Order::OldestFirst, after.take(), USAGE_PAGE_ROWS_MAX).await?;
        let mut changes = Vec::new();
        for row in rows.iter().filter(|row| row.usage.is_some() || !row.legs.is_empty()) {
            let mut key = (row.provider.clone(), row.model.clone());
            if models.len() >= USAGE_SUMS_MAX && !models.contains_key(&key) {
                key = (Some(OTHERS.to_owned()), None);
            }
            let now = cost(row, router);
            let sums = models.entry(key).or_default();
            sums.add(row.cost, now);
            if let Some(now) = now.filter(|now| row.cost != Some(*now)) {
                changes.push(CostChange { at_ms: row.at_ms, id: row.id.clone(), was: row.cost, now });
            }
        }
        if let Some(ledger) = ledger.filter(|_| !changes.is_empty()) {
            ledger.adjust(changes, by.to_owned(), Timestamp::now()).await?;
        }
        match rows.last() {
            Some(last) if rows.len() == USAGE_PAGE_ROWS_MAX => after = Some((last.at_ms, last.id.clone())),
            _ => break,
        }
    }
    let mut total = Sums::default();
    let told = |((provider, model), sums): ((Option<String>, Option<String>), Sums)| {
        total.join(&sums);
        RepricedModel { provider, model, sums: sums.told() }
    };
    let mut models: Vec<RepricedModel> = models.into_iter().map(told).collect();
    models.sort_by_key(|one| std::cmp::Reverse((one.sums.after.0 - one.sums.before.0).abs()));
    if ledger.is_some() && total.adjusted > 0 {
        let (calls, difference) = (total.adjusted, total.clone().told().difference);
        tracing::info!(target: "hoosh::costs", by, calls, difference, "costs were corrected");
    }
    Ok(Repriced { dry_run: ledger.is_none(), models, total: total.told() })
}

/// What a call costs by today's configuration. `None`: that is not known, or nobody knows what it used.
fn cost(row: &UsageRow, router: &Router) -> Option<NanoUsd> {
    let at = made_at(row);
    let of = |provider: &str, model: &str, usage: &Usage| {
        let provider = router.provider(provider)?;
        router.table().prices().cost((&**provider).into(), model, usage, at)
    };
    let own = match (&row.provider, &row.model) {
        (Some(provider), Some(model)) => of(provider, model, row.usage.as_ref()?)?,
        // Nobody answered, and somebody worked on it all the same.
        _ => NanoUsd::ZERO,
    };
    let legs: Vec<Leg> =
        if row.legs.is_empty() { Vec::new() } else { serde_json::from_str(&row.legs).ok()? };
    legs.iter().try_fold(own, |sum, leg| {
        let anew = leg.usage.as_ref().and_then(|usage| of(&leg.provider, &leg.model, &usage.read()));
        Some(sum.saturating_add(anew.or(leg.cost_nano_usd.map(NanoUsd))?))
    })
}

/// When a call was made, whose price it has. Its name says so; one that does not, of another program's ledger, began so long before its end.
/// Unit: seconds since 1970, UTC.
fn made_at(row: &UsageRow) -> u64 {
    // UUIDv7 (RFC 9562, 5.7) begins with 48 bits of Unix milliseconds.
    let named = row.id.as_str().strip_prefix("req_").and_then(|digits| digits.get(..12));
    let named = named.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let ended = u64::try_from(row.at_ms).unwrap_or(0);
    named.unwrap_or(ended.saturating_sub(row.duration_ms)) / 1_000
}

// === impl RepriceOrder ===

impl RepriceOrder {
    /// Which rows it is about.
    ///
    /// # Errors
    ///
    /// Which field is wrong, and what it is to be.
    pub(crate) fn filter(&self) -> Result<UsageFilter, (&'static str, &'static str)> {
        let time = |field, text: &Option<String>| {
            text.as_deref().map(usage::time).transpose().map_err(|problem| (field, problem))
        };
        Ok(UsageFilter {
            from: time("from", &self.from)?,
            until: time("to", &self.to)?,
            provider: self.provider.clone(),
            model: self.model.clone(),
            ..UsageFilter::default()
        })
    }
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, before: Option<NanoUsd>, now: Option<NanoUsd>) {
        self.calls += 1;
        self.adjusted += u64::from(now.is_some() && now != before);
        self.unpriced += u64::from(now.is_none());
        self.before = self.before.saturating_add(before.unwrap_or_default());
        self.after = self.after.saturating_add(now.or(before).unwrap_or_default());
    }

    fn join(&mut self, other: &Self) {
        self.calls += other.calls;
        self.adjusted += other.adjusted;
        self.unpriced += other.unpriced;
        self.before = self.before.saturating_add(other.before);
        self.after = self.after.saturating_add(other.after);
    }

    fn told(self) -> Self {
        let difference = NanoUsd(self.after.0.saturating_sub(self.before.0));
        Self {
            usd_before: dollars(self.before),
            usd_after: dollars(self.after),
            difference: dollars(difference),
            ..self
        }
    }
}

// === impl LegUsage ===

impl LegUsage {
    fn read(&self) -> Usage {
        Usage {
            input: self.input,
            cache_read: self.cache_read,
            cache_write_5m: self.cache_write_5m,
            cache_write_1h: self.cache_write_1h,
            output: self.output,
            reasoning: self.reasoning,
            audio_in: self.audio_in,
            audio_out: self.audio_out,
            service_tier: self.service_tier.as_deref().map(ServiceTier::of).unwrap_or_default(),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let toml = "[[providers]]\ntype = \"openai\"\nname = \"up\"\napi_key = \"k\"\nbase_url = \"http://x/v1\"\nlocal = false\n\
                    [[prices]]\nprovider = \"up\"\nmodel = \"m\"\ninput = \"1\"\noutput = \"2\"\nuntil = \"2026-01-01\"\n\
                    [[prices]]\nprovider = \"up\"\nmodel = \"m\"\ninput = \"10\"\noutput = \"20\"\nfrom = \"2026-01-01\"\n";
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(crate::config::FILE_NAME), toml).unwrap();
        let options = crate::config::LoadOptions {
            directory: folder.path().to_owned(),
            ..crate::config::LoadOptions::default()
        };
        crate::assembly::router(&crate::config::load(&options).unwrap()).unwrap()
    }

    fn row(ended: &str, duration_ms: u64) -> UsageRow {
        let at_ms = ended.parse::<Timestamp>().unwrap().as_millisecond();
        UsageRow {
            provider: Some("up".into()),
            model: Some("m".into()),
            usage: Some(Usage { input: Some(1_000), output: Some(10), ..Usage::default() }),
            duration_ms,
            ..UsageRow::new("x".into(), at_ms)
        }
    }

    #[test]
    fn the_price_is_that_of_the_calls_beginning() {
        let router = router();
        let cost = |row: &UsageRow| cost(row, &router).map(|cost| cost.0);
        assert_eq!(cost(&row("2025-12-31T23:59:59Z", 0)), Some(1_020_000));
        assert_eq!(cost(&row("2026-01-01T00:00:01Z", 5_000)), Some(1_020_000));
        assert_eq!(cost(&row("2026-01-01T00:00:01Z", 500)), Some(10_200_000));
        // Its name goes before its end less its time.
        let named = UsageRow {
            id: format!(
                "req_{:012x}aaaa",
                "2025-12-31T00:00:00Z".parse::<Timestamp>().unwrap().as_millisecond()
            )
            .into(),
            ..row("2026-01-01T00:00:01Z", 0)
        };
        assert_eq!(cost(&named), Some(1_020_000));
    }

    #[test]
    fn legs_are_priced_by_what_they_used_or_keep_what_they_cost() {
        let router = router();
        let with = |legs: &str| {
            let row = UsageRow { legs: legs.into(), ..row("2026-02-01T00:00:00Z", 0) };
            cost(&row, &router).map(|cost| cost.0)
        };
        let leg = |rest: &str| format!(r#"[{{"provider":"up","model":"m","kind":"slow","tokens":1{rest}}}]"#);
        assert_eq!(with(&leg(r#","usage":{"input":100},"cost_nano_usd":1"#)), Some(10_200_000 + 1_000_000));
        assert_eq!(with(&leg(r#","cost_nano_usd":7"#)), Some(10_200_007));
        assert_eq!(with(&leg(r#","cost_nano_usd":null"#)), None, "a part whose price is not known");
        assert_eq!(with("nonsense"), None);
        // Nobody answered, and one was asked.
        let alone = UsageRow {
            provider: None,
            model: None,
            usage: None,
            legs: leg(r#","cost_nano_usd":7"#),
            ..row("2026-02-01T00:00:00Z", 0)
        };
        assert_eq!(cost(&alone, &router), Some(NanoUsd(7)));
    }

    #[test]
    fn who_is_not_there_any_more_has_no_price() {
        let gone = UsageRow { provider: Some("gone".into()), ..row("2026-02-01T00:00:00Z", 0) };
        assert_eq!(cost(&gone, &router()), None);
    }
}
