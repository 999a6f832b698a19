//! What providers say of their rate limits, in answers that are no refusal: kept, and told to the caller in the names
//! its SDK knows.
//!
//! Sources: platform.openai.com/docs/guides/rate-limits and docs.anthropic.com/en/api/rate-limits, read 2026-11-24.

use http::{HeaderMap, HeaderName};

use crate::dialect::Dialect;

/// OpenAI's name for a limit, and Anthropic's for the same. When a window is over is written as a time to wait by the
/// one and as a point in time by the other, so that is only told in the provider's own words.
const SAME: &[(&str, &str)] = &[
    ("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit"),
    ("x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining"),
    ("x-ratelimit-limit-tokens", "anthropic-ratelimit-tokens-limit"),
    ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining"),
];

/// The headers among a provider's that speak of its limits.
pub fn kept(headers: &HeaderMap) -> HeaderMap {
    let is_limit = |name: &HeaderName| {
        name.as_str().starts_with("x-ratelimit-") || name.as_str().starts_with("anthropic-ratelimit-")
    };
    let limits = headers.iter().filter(|(name, _)| is_limit(name));
    limits.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The same with the names added that a client of `dialect` looks for.
pub fn for_client(dialect: Dialect, mut limits: HeaderMap) -> HeaderMap {
    let anthropic = matches!(dialect, Dialect::Anthropic | Dialect::AnthropicCount);
    for (openai, its) in SAME {
        let (from, to) = if anthropic { (*openai, *its) } else { (*its, *openai) };
        if let Some(value) = limits.get(from).filter(|_| !limits.contains_key(to)).cloned() {
            limits.insert(HeaderName::from_static(to), value);
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn limits_are_told_in_the_callers_names_too() {
        let all = [
            ("anthropic-ratelimit-requests-remaining", "9"),
            ("anthropic-ratelimit-requests-reset", "2026-11-24T00:00:00Z"),
            ("set-cookie", "secret"),
        ];
        let all = all.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let limits = kept(&HeaderMap::from_iter(all));
        assert_eq!(limits.len(), 2);
        let told = for_client(Dialect::OpenAiChat, limits.clone());
        assert_eq!(told["x-ratelimit-remaining-requests"], "9");
        assert_eq!(told["anthropic-ratelimit-requests-reset"], "2026-11-24T00:00:00Z");
        assert_eq!(for_client(Dialect::Anthropic, limits.clone()), limits);
    }
}
