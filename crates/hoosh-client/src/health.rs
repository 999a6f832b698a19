//! How the gateway and its providers are.

use std::time::Duration;

use hoosh_core::dialect::DecodeError;
use serde_json::Value;

use crate::answer::{field, json};

/// How a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether it takes calls.
    pub status: Readiness,
    /// Its version.
    pub version: Option<String>,
    /// How many providers it has.
    pub providers: Option<u64>,
}

/// Whether a gateway takes calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// It does.
    Ok,
    /// It is stopping: it finishes the calls it has and takes no new ones. The server of this version takes no connection
    /// then, so only one behind something that answers for it says so.
    Draining,
    /// A word that this client does not know.
    Other(String),
}

/// How one provider of a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderStatus {
    /// Its name in the gateway's configuration.
    pub name: String,
    /// Its kind in the gateway's word; `parse` makes a [`ProviderType`](hoosh_core::ProviderType) of one it knows.
    pub provider_type: String,
    /// Where it is, if the gateway tells.
    pub base_url: Option<String>,
    /// Whether it can be asked.
    pub status: ProviderCondition,
    /// How long its last check took.
    pub latency: Option<Duration>,
    /// How many models it offers, if the check saw them.
    pub models: Option<u64>,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// Whether a provider can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProviderCondition {
    /// It can.
    Healthy,
    /// It cannot, as far as the gateway knows.
    Unhealthy,
    /// A word that this client does not know.
    Other(String),
}

// === impl Health ===

impl Health {
    /// Whether the gateway takes calls.
    pub fn is_ok(&self) -> bool {
        self.status == Readiness::Ok
    }

    /// Reads the gateway's answer.
    ///
    /// # Errors
    ///
    /// If it has no status.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let json = json(body)?;
        let status =
            match json["status"].as_str().ok_or_else(|| field("status", "is missing or not a string"))? {
                "ok" => Readiness::Ok,
                "draining" => Readiness::Draining,
                other => Readiness::Other(other.to_owned()),
            };
        Ok(Self { status, version: word(&json["version"]), providers: json["providers"].as_u64() })
    }
}

// === impl ProviderStatus ===

impl ProviderStatus {
    /// Whether it can be asked.
    pub fn is_healthy(&self) -> bool {
        self.status == ProviderCondition::Healthy
    }

    /// Reads the gateway's list.
    ///
    /// # Errors
    ///
    /// If it is none, or if a provider has no name or no status.
    pub(crate) fn decode_list(body: &[u8]) -> Result<Vec<Self>, DecodeError> {
        let json = json(body)?;
        let list =
            json["providers"].as_array().ok_or_else(|| field("providers", "is missing or not a list"))?;
        let entries = list.iter().enumerate();
        entries.map(|(index, json)| Self::read(json, &format!("providers[{index}]"))).collect()
    }

    fn read(json: &Value, path: &str) -> Result<Self, DecodeError> {
        let required = |name: &str| {
            word(&json[name]).ok_or_else(|| field(&format!("{path}.{name}"), "is missing or not a string"))
        };
        let status = required("status")?;
        let milliseconds = json["latency_ms"].as_f64();
        Ok(Self {
            name: required("name")?,
            provider_type: word(&json["type"]).unwrap_or_default(),
            base_url: word(&json["base_url"]),
            status: match status.as_str() {
                "healthy" => ProviderCondition::Healthy,
                "unhealthy" => ProviderCondition::Unhealthy,
                _ => ProviderCondition::Other(status),
            },
            latency: milliseconds.and_then(|time| Duration::try_from_secs_f64(time / 1_000.0).ok()),
            models: json["models"].as_u64(),
            error: word(&json["error"]),
        })
    }
}

fn word(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
