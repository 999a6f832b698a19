//! OpenAI's `usage` object and how vendors of its dialect fill it.
//!
//! `prompt_tokens` contains cached and audio tokens, `completion_tokens` contains reasoning and audio tokens; the parts
//! are taken out again here. Departures: xAI counts reasoning beside `completion_tokens` (seen by the total that adds
//! up only then), DeepSeek says `prompt_cache_hit_tokens`, Moonshot puts `cached_tokens` at the top.
//! Source: platform.openai.com/docs/api-reference/chat/object, read 2026-11-24; recorded answers of the others.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::usage::{Provenance, ServiceTier, Usage};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wire {
    #[serde(deserialize_with = "count")]
    prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    completion_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    #[serde(deserialize_with = "count")]
    prompt_cache_hit_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    cached_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    #[serde(deserialize_with = "count")]
    cached_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    audio_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    reasoning_tokens: Option<u64>,
}

/// Writes a [`Usage`] as OpenAI's object.
pub(in crate::dialect) struct UsageBody(pub(in crate::dialect) Usage);

/// Reads a usage object; `None` if it holds nothing we know, so that an odd one never spoils a good answer.
pub(in crate::dialect) fn decode(json: &str) -> Option<Usage> {
    let wire: Wire = serde_json::from_str(json).ok()?;
    if wire.prompt_tokens.is_none() && wire.completion_tokens.is_none() {
        return None;
    }
    let prompt = wire.prompt_tokens_details.unwrap_or_default();
    let completion = wire.completion_tokens_details.unwrap_or_default();
    let cache_read = prompt.cached_tokens.or(wire.prompt_cache_hit_tokens).or(wire.cached_tokens);
    let inside = |whole: Option<u64>, parts: [Option<u64>; 2]| {
        whole.map(|whole| parts.into_iter().flatten().fold(whole, u64::saturating_sub))
    };
    let reasoning = completion.reasoning_tokens;
    let reasoning_beside = wire.total_tokens.is_some_and(|total| {
        let without = wire.prompt_tokens.unwrap_or(0).saturating_add(wire.completion_tokens.unwrap_or(0));
        reasoning.is_some_and(|reasoning| reasoning > 0 && total == without.saturating_add(reasoning))
    });
    Some(Usage {
        input: inside(wire.prompt_tokens, [cache_read, prompt.audio_tokens]),
        cache_read,
        cache_write_5m: None,
        cache_write_1h: None,
        output: inside(
            wire.completion_tokens,
            [reasoning.filter(|_| !reasoning_beside), completion.audio_tokens],
        ),
        reasoning,
        audio_in: prompt.audio_tokens,
        audio_out: completion.audio_tokens,
        service_tier: ServiceTier::Standard,
        provenance: Provenance::Reported,
    })
}

/// What an answer says of usage, with the tier that it says it was served in.
pub(in crate::dialect) fn of_answer(usage: Option<&RawValue>, tier: Option<&RawValue>) -> Option<Usage> {
    decode(usage?.get()).map(|usage| served(usage, tier))
}

fn served(usage: Usage, tier: Option<&RawValue>) -> Usage {
    Usage { service_tier: ServiceTier::of_json(tier.map(RawValue::get)), ..usage }
}

/// What a chunk says of usage: in the field for it, or in Groq's own, where it is not asked for.
pub(in crate::dialect) fn of_chunk(
    usage: Option<&RawValue>,
    x_groq: Option<&RawValue>,
    tier: Option<&RawValue>,
) -> Option<Usage> {
    /// Whatever else it is, it spoils no good answer.
    #[derive(Deserialize)]
    struct XGroq<'a> {
        #[serde(borrow, default)]
        usage: Option<&'a RawValue>,
    }
    let groqs = || serde_json::from_str::<XGroq<'_>>(x_groq?.get()).ok()?.usage;
    let usage = usage.and_then(|raw| decode(raw.get())).or_else(|| decode(groqs()?.get()))?;
    Some(served(usage, tier))
}

/// A count, or nothing if it is no whole number: some servers send `null`, some a float.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<serde_json::Number>::deserialize(deserializer)?;
    Ok(value.and_then(|number| number.as_u64()))
}

impl Serialize for UsageBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Parts(&'static str, Option<u64>, &'static str, Option<u64>);
        impl Serialize for Parts {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                for (name, count) in [(self.0, self.1), (self.2, self.3)] {
                    if let Some(count) = count {
                        map.serialize_entry(name, &count)?;
                    }
                }
                map.end()
            }
        }

        let usage = &self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("prompt_tokens", &usage.prompt_total())?;
        map.serialize_entry("completion_tokens", &usage.completion_total())?;
        map.serialize_entry("total_tokens", &usage.total())?;
        if usage.cache_read.is_some() || usage.audio_in.is_some() {
            let parts = Parts("cached_tokens", usage.cache_read, "audio_tokens", usage.audio_in);
            map.serialize_entry("prompt_tokens_details", &parts)?;
        }
        if usage.reasoning.is_some() || usage.audio_out.is_some() {
            let parts = Parts("reasoning_tokens", usage.reasoning, "audio_tokens", usage.audio_out);
            map.serialize_entry("completion_tokens_details", &parts)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_out_of_the_whole() {
        let usage = decode(
            r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                "prompt_tokens_details":{"cached_tokens":60,"audio_tokens":10},
                "completion_tokens_details":{"reasoning_tokens":30,"audio_tokens":0}}"#,
        )
        .unwrap();
        assert_eq!((usage.input, usage.cache_read, usage.audio_in), (Some(30), Some(60), Some(10)));
        assert_eq!((usage.output, usage.reasoning, usage.audio_out), (Some(20), Some(30), Some(0)));
        assert_eq!((usage.prompt_total(), usage.completion_total()), (100, 50));
    }

    #[test]
    fn the_tier_that_an_answer_was_served_in_is_told_with_its_usage() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let (counts, flex, odd) = (raw(r#"{"prompt_tokens":1}"#), raw(r#""flex""#), raw("[1]"));
        let tier = |tier| of_answer(Some(&counts), tier).unwrap().service_tier;
        assert_eq!(tier(Some(&flex)), ServiceTier::Flex);
        assert_eq!(tier(Some(&odd)), ServiceTier::Standard);
        assert_eq!(tier(None), ServiceTier::Standard);
        let groq = raw(r#"{"usage":{"prompt_tokens":1}}"#);
        assert_eq!(of_chunk(None, Some(&groq), Some(&flex)).unwrap().service_tier, ServiceTier::Flex);
        assert_eq!(of_answer(None, Some(&flex)), None);
    }

    #[test]
    fn reasoning_beside_the_completion_is_not_taken_out() {
        let usage = decode(
            r#"{"prompt_tokens":12,"completion_tokens":2,"total_tokens":354,
                "completion_tokens_details":{"reasoning_tokens":340}}"#,
        )
        .unwrap();
        assert_eq!((usage.output, usage.reasoning, usage.completion_total()), (Some(2), Some(340), 342));
    }

    #[test]
    fn unknown_is_not_zero() {
        let usage =
            decode(r#"{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":null}"#).unwrap();
        assert_eq!((usage.cache_read, usage.reasoning), (None, None));
        assert_eq!(decode("{}"), None);
        assert_eq!(decode("null"), None);
        assert_eq!(decode(r#"{"prompt_tokens":"many"}"#), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let usage = Usage {
            input: Some(5),
            cache_read: Some(2),
            output: Some(3),
            reasoning: Some(4),
            ..Usage::default()
        };
        assert_eq!(decode(&serde_json::to_string(&UsageBody(usage)).unwrap()), Some(usage));
    }
}
