//! Anthropic's `usage` object: `input_tokens` leaves out what caches served or took, `output_tokens` holds the thinking.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::usage::{Provenance, ServiceTier, Usage};

/// The counts as far as they are told. A stream tells some in `message_start`, and all it knows in `message_delta`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    #[serde(deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens_details: Option<OutputDetails>,
    #[serde(deserialize_with = "tier")]
    service_tier: Option<ServiceTier>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    #[serde(deserialize_with = "count")]
    ephemeral_5m_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    #[serde(deserialize_with = "count", alias = "reasoning_tokens")]
    thinking_tokens: Option<u64>,
}

/// A count, or nothing if it is no whole number.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<serde_json::Number>::deserialize(deserializer)?;
    Ok(value.and_then(|number| number.as_u64()))
}

/// How the call was served; whatever is no word that we know is as usual.
fn tier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ServiceTier>, D::Error> {
    let raw = Option::<&RawValue>::deserialize(deserializer)?;
    Ok(raw.map(|raw| ServiceTier::of_json(Some(raw.get()))))
}

// === impl Counts ===

impl Counts {
    /// Reads a usage object; an odd one never spoils a good answer.
    pub(super) fn read(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }

    /// Takes in later counts: what they name replaces what was known.
    pub(super) fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
        self.service_tier = later.service_tier.or(self.service_tier);
    }

    /// As parts that do not overlap; `None` if nothing is known.
    pub(super) fn usage(self) -> Option<Usage> {
        if self.input_tokens.is_none() && self.output_tokens.is_none() {
            return None;
        }
        let reasoning = self.output_tokens_details.and_then(|details| details.thinking_tokens);
        let (written_5m, written_1h) = match self.cache_creation {
            Some(parts) => (parts.ephemeral_5m_input_tokens, parts.ephemeral_1h_input_tokens),
            // Without the parts all are of the default kind.
            None => (self.cache_creation_input_tokens, None),
        };
        Some(Usage {
            input: self.input_tokens,
            cache_read: self.cache_read_input_tokens,
            cache_write_5m: written_5m,
            cache_write_1h: written_1h,
            output: self.output_tokens.map(|all| all.saturating_sub(reasoning.unwrap_or(0))),
            reasoning,
            audio_in: None,
            audio_out: None,
            service_tier: self.service_tier.unwrap_or_default(),
            provenance: Provenance::Reported,
        })
    }
}

/// Writes a [`Usage`] as Anthropic's object. Audio counts as input and output.
pub(super) struct UsageBody(pub(super) Usage);

impl Serialize for UsageBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Parts<const N: usize>([(&'static str, Option<u64>); N]);
        impl<const N: usize> Serialize for Parts<N> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                for (name, count) in self.0 {
                    crate::dialect::wire::entry(&mut map, name, &count)?;
                }
                map.end()
            }
        }

        let usage = &self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(
            "input_tokens",
            &usage.input.unwrap_or(0).saturating_add(usage.audio_in.unwrap_or(0)),
        )?;
        if usage.cache_write_5m.is_some() || usage.cache_write_1h.is_some() {
            let written = usage.cache_write_5m.unwrap_or(0).saturating_add(usage.cache_write_1h.unwrap_or(0));
            map.serialize_entry("cache_creation_input_tokens", &written)?;
            // Without the parts all are of the kind that lives five minutes.
            let parts = [
                ("ephemeral_5m_input_tokens", usage.cache_write_5m),
                ("ephemeral_1h_input_tokens", usage.cache_write_1h),
            ];
            if usage.cache_write_1h.is_some() {
                map.serialize_entry("cache_creation", &Parts(parts))?;
            }
        }
        if let Some(read) = usage.cache_read {
            map.serialize_entry("cache_read_input_tokens", &read)?;
        }
        map.serialize_entry("output_tokens", &usage.completion_total())?;
        if usage.reasoning.is_some() {
            map.serialize_entry("output_tokens_details", &Parts([("thinking_tokens", usage.reasoning)]))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_count_keeps_the_tier_that_the_first_told() {
        let mut counts = Counts::read(r#"{"input_tokens":1,"service_tier":"priority"}"#);
        counts.update(Counts::read(r#"{"output_tokens":2}"#));
        assert_eq!(counts.usage().unwrap().service_tier, ServiceTier::Priority);
        let odd = Counts::read(r#"{"input_tokens":1,"service_tier":{"a":1}}"#);
        assert_eq!(odd.usage().unwrap().service_tier, ServiceTier::Standard);
        let null = Counts::read(r#"{"input_tokens":1,"service_tier":null}"#);
        assert_eq!(null.usage().unwrap().service_tier, ServiceTier::Standard);
    }

    #[test]
    fn caches_are_beside_the_input() {
        let usage = Counts::read(
            r#"{"input_tokens":5,"cache_creation_input_tokens":30,"cache_read_input_tokens":100,
                "cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":7}"#,
        )
        .usage()
        .unwrap();
        assert_eq!((usage.input, usage.cache_read), (Some(5), Some(100)));
        assert_eq!((usage.cache_write_5m, usage.cache_write_1h), (Some(10), Some(20)));
        assert_eq!((usage.prompt_total(), usage.completion_total()), (135, 7));
        let written = serde_json::to_string(&UsageBody(usage)).unwrap();
        assert_eq!(Counts::read(&written).usage(), Some(usage));
    }

    #[test]
    fn later_counts_replace_what_they_name() {
        let mut counts = Counts::read(r#"{"input_tokens":43,"output_tokens":1,"cache_read_input_tokens":4}"#);
        counts.update(Counts::read(r#"{"input_tokens":61,"output_tokens":2}"#));
        let usage = counts.usage().unwrap();
        assert_eq!((usage.input, usage.cache_read, usage.output), (Some(61), Some(4), Some(2)));
        assert_eq!(Counts::read("{}").usage(), None);
        assert_eq!(Counts::read("[]").usage(), None);
    }
}
