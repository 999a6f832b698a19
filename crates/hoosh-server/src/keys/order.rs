//! What somebody wants of a key, in words: of a command line or of JSON.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use hoosh_budget::keys::{Grant, InvalidGrant, KeyOrder, KeyRecord, Pattern, Scope, Scopes, parse_network};
use hoosh_budget::rate::{Limits, Measure, Period, Rate};
use hoosh_core::limits::KEY_OVERLAP;
use hoosh_router::Tier;
use jiff::Timestamp;
use serde::Deserialize;

use super::span;

/// A key that is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) expires: Option<String>,
    /// `None`: to ask models.
    #[serde(default)]
    pub(crate) scopes: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) models: Vec<String>,
    #[serde(default)]
    pub(crate) providers: Vec<String>,
    #[serde(default)]
    pub(crate) endpoints: Vec<String>,
    #[serde(default)]
    pub(crate) networks: Vec<String>,
    #[serde(default)]
    pub(crate) pools: Vec<String>,
    /// By names such as `requests_per_minute`, and `concurrent`.
    #[serde(default)]
    pub(crate) limits: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) tier: Option<String>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// How a key is to take the place of another.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// How long the old one still works: `24h`.
    #[serde(default)]
    pub(crate) overlap: Option<String>,
    /// When the new one expires. `None`: after as long as the old one was made for.
    #[serde(default)]
    pub(crate) expires: Option<String>,
}

/// What is wrong with an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub(crate) struct BadOrder {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

// === impl Order ===

impl Order {
    /// The same, read.
    ///
    /// # Errors
    ///
    /// The first part that cannot be meant.
    pub(crate) fn read(self, now: Timestamp) -> Result<KeyOrder, BadOrder> {
        let scopes = match self.scopes {
            None => Scopes::of([Scope::Inference]),
            Some(scopes) if scopes.is_empty() => {
                return Err(bad(
                    "scopes",
                    "is empty, so that the key could do nothing; leave it out for `inference`",
                ));
            }
            Some(scopes) => {
                Scopes::of(scopes.iter().map(|scope| scope.parse()).collect::<Result<Vec<Scope>, _>>()?)
            }
        };
        if let Some(tier) = &self.tier {
            tier.parse::<Tier>().map_err(|error| bad("tier", format!("is unknown: {error}")))?;
        }
        let grant = Grant {
            scopes,
            models: patterns("models", &self.models)?,
            providers: patterns("providers", &self.providers)?,
            endpoints: patterns("endpoints", &self.endpoints)?,
            networks: self.networks.iter().map(|text| parse_network(text)).collect::<Result<_, _>>()?,
            pools: self.pools,
            limits: read_limits(&self.limits)?,
            tier: self.tier,
            metadata: self.metadata,
        };
        Ok(KeyOrder { name: self.name, expires: expires(self.expires.as_deref(), now)?, grant })
    }
}

impl Rotation {
    /// How long the old key still works, and when the new one expires.
    ///
    /// # Errors
    ///
    /// What is no time.
    pub(crate) fn read(
        &self,
        old: &KeyRecord,
        now: Timestamp,
    ) -> Result<(Duration, Option<Timestamp>), BadOrder> {
        let overlap = match &self.overlap {
            None => KEY_OVERLAP,
            Some(text) => {
                span(text).ok_or_else(|| bad("overlap", format!("is `{text}`; write `24h` or `7d`")))?
            }
        };
        let lifetime = old.lifetime().and_then(|lifetime| now.checked_add(lifetime).ok());
        let expires = match &self.expires {
            None => lifetime,
            Some(text) => expires(Some(text), now)?,
        };
        Ok((overlap, expires))
    }
}

impl From<InvalidGrant> for BadOrder {
    fn from(invalid: InvalidGrant) -> Self {
        Self { field: invalid.field, problem: invalid.problem }
    }
}

fn bad(field: &'static str, problem: impl Into<String>) -> BadOrder {
    BadOrder { field, problem: problem.into() }
}

fn patterns(field: &'static str, texts: &[String]) -> Result<Vec<Pattern>, InvalidGrant> {
    texts.iter().map(|text| Pattern::parse(field, text)).collect()
}

/// A time from now, or a point in time as RFC 3339 writes it.
fn expires(text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, BadOrder> {
    let Some(text) = text else { return Ok(None) };
    let from_now = || span(text).and_then(|span| now.checked_add(span).ok());
    let at = text.parse::<Timestamp>().ok().or_else(from_now);
    let problem = || bad("expires", format!("is `{text}`; write `90d`, `12h` or `2027-01-31T00:00:00Z`"));
    at.map(Some).ok_or_else(problem)
}

fn read_limits(said: &BTreeMap<String, u64>) -> Result<Limits, BadOrder> {
    let (mut rates, mut concurrent) = (Vec::new(), None);
    for (name, amount) in said {
        if name == "concurrent" {
            concurrent = Some(u32::try_from(*amount).unwrap_or(u32::MAX));
            continue;
        }
        let measures = [Measure::Requests, Measure::Tokens].into_iter();
        let mut all =
            measures.flat_map(|measure| Period::ALL.into_iter().map(move |period| (measure, period)));
        let known = all.find(|(measure, period)| {
            name.strip_prefix(measure.as_str()).and_then(|rest| rest.strip_prefix("_per_"))
                == Some(period.as_str())
        });
        let Some((measure, period)) = known else {
            let known =
                "`requests_per_` or `tokens_per_` and `second`, `minute`, `hour` or `day`, and `concurrent`";
            return Err(bad("limits", format!("has `{name}`; there are {known}")));
        };
        let amount = NonZeroU64::new(*amount)
            .ok_or_else(|| bad("limits", format!("has `{name}` of 0; revoke a key that may have none")))?;
        rates.push(Rate::per(measure, amount, period));
    }
    Limits::new(rates, concurrent).map_err(|error| bad("limits", format!("cannot be: {error}")))
}
