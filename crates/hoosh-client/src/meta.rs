//! What the gateway says about a call beside the answer, in headers.

use hoosh_core::{FidelityNote, NanoUsd};
use http::HeaderMap;

/// What the gateway says about a call beside the answer.
///
/// All of it can be missing: an older gateway, or a proxy that drops headers, still gives an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallMeta {
    /// The gateway's name for the call, which finds it in its log and audit. From `x-request-id`.
    pub request_id: Option<String>,
    /// The provider that answered, as the gateway's configuration names it. From `x-hoosh-provider`.
    pub provider: Option<String>,
    /// The model that answered, as that provider names it. From `x-hoosh-model`.
    pub model: Option<String>,
    /// How many candidates were asked, the one that answered included. From `x-hoosh-attempts`.
    pub attempts: Option<u32>,
    /// What the call cost. From `x-hoosh-cost`.
    ///
    /// `None` for a stream, whose cost is not known when its head is sent, and for a model without a price.
    pub cost: Option<NanoUsd>,
    /// What of the request could not be carried to the model: by the gateway, from `x-hoosh-lossy`, and before that by
    /// this client. Empty: everything arrived.
    pub lossy: Vec<FidelityNote>,
}

// === impl CallMeta ===

impl CallMeta {
    /// Reads the headers. What is not of its form counts as missing: the answer matters more.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let word = |name: &str| text(headers, name).map(str::to_owned);
        let lossy = headers.get_all("x-hoosh-lossy").iter().filter_map(|value| value.to_str().ok());
        let fields = lossy.flat_map(|list| list.split(',')).map(str::trim).filter(|field| !field.is_empty());
        Self {
            request_id: request_id(headers),
            provider: word("x-hoosh-provider"),
            model: word("x-hoosh-model"),
            attempts: text(headers, "x-hoosh-attempts").and_then(|count| count.parse().ok()),
            cost: text(headers, "x-hoosh-cost").and_then(|amount| amount.parse().ok()),
            lossy: fields.map(FidelityNote::parse).collect(),
        }
    }

    /// The same with what this client could not carry before the call even left.
    pub(crate) fn with_notes(mut self, notes: Vec<FidelityNote>) -> Self {
        for note in notes {
            if !self.lossy.contains(&note) {
                self.lossy.push(note);
            }
        }
        self
    }
}

/// The gateway's name for the call.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    text(headers, "x-request-id").map(str::to_owned)
}

/// A header's text; empty counts as missing.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn all_headers_are_read() {
        let mut headers = headers(&[
            ("x-request-id", "01J"),
            ("x-hoosh-provider", "ollama"),
            ("x-hoosh-model", "llama3:8b"),
            ("x-hoosh-attempts", "2"),
            ("x-hoosh-cost", "0.000012500"),
            ("x-hoosh-lossy", "logit_bias, seed"),
        ]);
        headers.append("x-hoosh-lossy", "user".parse().unwrap());
        let expect = CallMeta {
            request_id: Some("01J".into()),
            provider: Some("ollama".into()),
            model: Some("llama3:8b".into()),
            attempts: Some(2),
            cost: Some(NanoUsd(12_500)),
            lossy: ["logit_bias", "seed", "user", "messages[0].content"].map(FidelityNote::new).into(),
        };
        let notes = ["seed", "messages[0].content"].map(FidelityNote::new).into();
        assert_eq!(CallMeta::read(&headers).with_notes(notes), expect);
    }

    #[test]
    fn what_is_not_of_its_form_is_missing() {
        let headers = headers(&[
            ("x-hoosh-attempts", "many"),
            ("x-hoosh-cost", "1e-5"),
            ("x-hoosh-provider", ""),
            ("x-hoosh-lossy", " ,"),
        ]);
        assert_eq!(CallMeta::read(&headers), CallMeta::default());
    }
}
