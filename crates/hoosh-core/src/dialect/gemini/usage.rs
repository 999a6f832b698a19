//! Gemini's `usageMetadata`.
//!
//! `promptTokenCount` contains what the cache served and audio, but not what tools of the provider's own put into the
//! prompt; `candidatesTokenCount` contains audio, but not the thoughts. Source: ai.google.dev/api/generate-content
//! (UsageMetadata), read 2026-11-24; that thoughts are beside is seen by the recorded totals.

use serde::Deserialize;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::json::{Extra, Object};
use crate::usage::{Provenance, ServiceTier, Usage};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    prompt_tokens_details: Option<Audio>,
    cache_tokens_details: Option<Audio>,
    candidates_tokens_details: Option<Audio>,
}

/// The audio tokens in a list of counts by modality.
#[derive(Debug, Clone, Copy)]
struct Audio(Option<u64>);

impl<'de> Deserialize<'de> for Audio {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counts;
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Count<'a> {
            #[serde(borrow, default)]
            modality: Option<super::fields::Text<'a>>,
            #[serde(default)]
            token_count: Option<u64>,
        }
        impl<'de> serde::de::Visitor<'de> for Counts {
            type Value = Audio;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of counts")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Audio, A::Error> {
                let mut audio = None;
                while let Some(count) = seq.next_element::<Count<'de>>()? {
                    if count.modality.is_some_and(|word| word.0 == "AUDIO") {
                        audio = Some(count.token_count.unwrap_or(0));
                    }
                }
                Ok(Audio(audio))
            }
        }
        deserializer.deserialize_seq(Counts)
    }
}

/// Reads the counts; `None` if there are none, so that an odd object never spoils a good answer.
pub(super) fn decode(json: &str) -> Option<Usage> {
    let wire: Wire = serde_json::from_str(json).ok()?;
    if wire.prompt_token_count.is_none() && wire.candidates_token_count.is_none() {
        return None;
    }
    let audio = |details: Option<Audio>| details.and_then(|Audio(count)| count);
    let cache_read = wire.cached_content_token_count;
    let cached_audio = audio(wire.cache_tokens_details).unwrap_or(0);
    let audio_in = audio(wire.prompt_tokens_details).map(|count| count.saturating_sub(cached_audio));
    let audio_out = audio(wire.candidates_tokens_details);
    let less = |whole: u64, part: Option<u64>| whole.saturating_sub(part.unwrap_or(0));
    let by_tools = wire.tool_use_prompt_token_count.unwrap_or(0);
    Some(Usage {
        input: wire
            .prompt_token_count
            .map(|prompt| less(less(prompt, cache_read), audio_in).saturating_add(by_tools)),
        cache_read,
        cache_write_5m: None,
        cache_write_1h: None,
        output: wire.candidates_token_count.map(|candidates| less(candidates, audio_out)),
        reasoning: wire.thoughts_token_count,
        audio_in,
        audio_out,
        service_tier: ServiceTier::Standard,
        provenance: Provenance::Reported,
    })
}

/// The fields of the object that the counts do not hold, such as `trafficType` and the lists by modality.
pub(super) fn rest(raw: &RawValue) -> Option<Extra> {
    let mut object = Object::parse("", raw.get()).ok()?;
    for name in COUNTS {
        object.take_raw(name);
    }
    Some(object.rest()).filter(|rest| !rest.is_empty())
}

/// The names of the counts, which are written anew.
const COUNTS: [&str; 6] = [
    "promptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "totalTokenCount",
];

/// Writes a [`Usage`] as Google's object, with the fields it does not hold if there are any.
pub(super) struct UsageBody<'a>(pub(super) Usage, pub(super) Option<&'a Extra>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModalityCount {
    modality: &'static str,
    token_count: u64,
}

impl Serialize for UsageBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(usage, rest) = self;
        let mut map = serializer.serialize_map(None)?;
        let mut count = |name: &str, count: Option<u64>| match count {
            Some(count) => map.serialize_entry(name, &count),
            None => Ok(()),
        };
        count("promptTokenCount", Some(usage.prompt_total()))?;
        count("cachedContentTokenCount", usage.cache_read)?;
        let written = usage.output.is_some() || usage.audio_out.is_some();
        let candidates = usage.output.unwrap_or(0).saturating_add(usage.audio_out.unwrap_or(0));
        count("candidatesTokenCount", written.then_some(candidates))?;
        count("thoughtsTokenCount", usage.reasoning)?;
        count("totalTokenCount", Some(usage.total()))?;
        let details = [("promptTokensDetails", usage.audio_in), ("candidatesTokensDetails", usage.audio_out)];
        for (name, audio) in details {
            if let Some(token_count) = audio
                && rest.is_none_or(|rest| rest.get(name).is_none())
            {
                map.serialize_entry(name, &[ModalityCount { modality: "AUDIO", token_count }])?;
            }
        }
        if let Some(rest) = rest {
            rest.write(&mut map)?;
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
            r#"{"promptTokenCount":100,"cachedContentTokenCount":60,"candidatesTokenCount":20,"thoughtsTokenCount":30,
                "toolUsePromptTokenCount":7,"totalTokenCount":157,"trafficType":"ON_DEMAND",
                "promptTokensDetails":[{"modality":"TEXT","tokenCount":85},{"modality":"AUDIO","tokenCount":15}],
                "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":5}],
                "candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":4}]}"#,
        )
        .unwrap();
        assert_eq!((usage.input, usage.cache_read, usage.audio_in), (Some(37), Some(60), Some(10)));
        assert_eq!((usage.output, usage.reasoning, usage.audio_out), (Some(16), Some(30), Some(4)));
        assert_eq!(usage.total(), 157);
    }

    #[test]
    fn unknown_is_not_zero() {
        assert_eq!(decode(r#"{"trafficType":"ON_DEMAND"}"#), None);
        assert_eq!(decode(r#"{"promptTokenCount":"many"}"#), None);
        let usage = decode(r#"{"promptTokenCount":3}"#).unwrap();
        assert_eq!((usage.input, usage.output, usage.cache_read), (Some(3), None, None));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let usage = Usage {
            input: Some(5),
            cache_read: Some(2),
            output: Some(3),
            reasoning: Some(4),
            audio_in: Some(1),
            audio_out: Some(0),
            ..Usage::default()
        };
        assert_eq!(decode(&serde_json::to_string(&UsageBody(usage, None)).unwrap()), Some(usage));
    }
}
