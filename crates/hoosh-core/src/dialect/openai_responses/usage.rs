//! The `usage` object: `input_tokens` contains the cached ones, `output_tokens` the reasoning.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::usage::{Provenance, ServiceTier, Usage};

#[derive(Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(default)]
    input_tokens_details: Option<Details>,
    #[serde(default)]
    output_tokens_details: Option<Details>,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "count")]
    cached_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    reasoning_tokens: Option<u64>,
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<serde_json::Number>::deserialize(deserializer)?;
    Ok(value.and_then(|number| number.as_u64()))
}

/// Reads a usage object; `None` if it holds nothing we know, so that an odd one never spoils a good answer.
pub(super) fn decode(json: &str) -> Option<Usage> {
    let wire: Wire = serde_json::from_str(json).ok()?;
    if wire.input_tokens.is_none() && wire.output_tokens.is_none() {
        return None;
    }
    let cache_read = wire.input_tokens_details.unwrap_or_default().cached_tokens;
    let reasoning = wire.output_tokens_details.unwrap_or_default().reasoning_tokens;
    Some(Usage {
        input: wire.input_tokens.map(|whole| whole.saturating_sub(cache_read.unwrap_or(0))),
        cache_read,
        output: wire.output_tokens.map(|whole| whole.saturating_sub(reasoning.unwrap_or(0))),
        reasoning,
        provenance: Provenance::Reported,
        ..Usage::default()
    })
}

/// What an answer says of usage, with the tier that it says it was served in.
pub(super) fn of_answer(usage: Option<&RawValue>, tier: Option<&RawValue>) -> Option<Usage> {
    let service_tier = ServiceTier::of_json(tier.map(RawValue::get));
    decode(usage?.get()).map(|usage| Usage { service_tier, ..usage })
}

/// Writes a [`Usage`]; the SDKs want both details whether anybody counted them or not.
pub(super) struct UsageBody(pub(super) Usage);

impl Serialize for UsageBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct One(&'static str, u64);
        impl Serialize for One {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(self.0, &self.1)?;
                map.end()
            }
        }
        let usage = &self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("input_tokens", &usage.prompt_total())?;
        map.serialize_entry("input_tokens_details", &One("cached_tokens", usage.cache_read.unwrap_or(0)))?;
        map.serialize_entry("output_tokens", &usage.completion_total())?;
        map.serialize_entry("output_tokens_details", &One("reasoning_tokens", usage.reasoning.unwrap_or(0)))?;
        map.serialize_entry("total_tokens", &usage.total())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_out_of_the_whole() {
        let text = r#"{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,
            "output_tokens_details":{"reasoning_tokens":5},"total_tokens":16}"#;
        let usage = decode(text).unwrap();
        assert_eq!((usage.input, usage.cache_read), (Some(5), Some(4)));
        assert_eq!((usage.output, usage.reasoning), (Some(2), Some(5)));
        assert_eq!(decode(&serde_json::to_string(&UsageBody(usage)).unwrap()), Some(usage));
        assert_eq!(decode("{}"), None);
    }
}
