//! A grant as JSON in a column.
//!
//! A field that is not known is an error: a later hoosh may restrict a key in a way that this one would overlook.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::keys::grant::{Grant, InvalidGrant, Pattern, Scope, Scopes, parse_network};
use crate::rate::{Limits, Measure, Period, Rate};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    models: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    providers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    networks: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pools: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rates: Vec<WireRate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRate {
    measure: String,
    amount: NonZeroU64,
    period: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<NonZeroU64>,
}

pub(super) fn encode(grant: &Grant) -> String {
    let texts = |patterns: &[Pattern]| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    let rate = |rate: &Rate| WireRate {
        measure: rate.measure.as_str().to_owned(),
        amount: rate.amount,
        period: rate.period.as_str().to_owned(),
        burst: rate.burst,
    };
    let wire = Wire {
        scopes: grant.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        models: texts(&grant.models),
        providers: texts(&grant.providers),
        endpoints: texts(&grant.endpoints),
        networks: grant.networks.iter().map(ToString::to_string).collect(),
        pools: grant.pools.clone(),
        rates: grant.limits.rates().iter().map(rate).collect(),
        concurrent: grant.limits.concurrent(),
        tier: grant.tier.clone(),
        metadata: grant.metadata.clone(),
    };
    // Texts and numbers only, which always can be written; were it otherwise, the empty text cannot be read again.
    serde_json::to_string(&wire).unwrap_or_default()
}

pub(super) fn decode(text: &str) -> Result<Grant, String> {
    let wire: Wire = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let limits = limits(&wire.rates, wire.concurrent)?;
    let grant = || -> Result<Grant, InvalidGrant> {
        let patterns = |field: &'static str, texts: &[String]| -> Result<Vec<Pattern>, InvalidGrant> {
            texts.iter().map(|text| Pattern::parse(field, text)).collect()
        };
        let scopes: Vec<Scope> = wire.scopes.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Grant {
            scopes: Scopes::of(scopes),
            models: patterns("models", &wire.models)?,
            providers: patterns("providers", &wire.providers)?,
            endpoints: patterns("endpoints", &wire.endpoints)?,
            networks: wire.networks.iter().map(|text| parse_network(text)).collect::<Result<_, _>>()?,
            pools: wire.pools.clone(),
            limits,
            tier: wire.tier.clone(),
            metadata: wire.metadata.clone(),
        })
    };
    grant().map_err(|error| error.to_string())
}

fn limits(rates: &[WireRate], concurrent: Option<u32>) -> Result<Limits, String> {
    let rate = |rate: &WireRate| {
        let measure = [Measure::Requests, Measure::Tokens].into_iter().find(|it| it.as_str() == rate.measure);
        let period = Period::ALL.into_iter().find(|it| it.as_str() == rate.period);
        let (Some(measure), Some(period)) = (measure, period) else {
            return Err(format!("`{} per {}` is no limit", rate.measure, rate.period));
        };
        Ok(Rate { measure, amount: rate.amount, period, burst: rate.burst })
    };
    let rates = rates.iter().map(rate).collect::<Result<_, _>>()?;
    Limits::new(rates, concurrent).map_err(|error| error.to_string())
}
