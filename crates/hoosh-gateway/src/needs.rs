//! What a call needs of a model, seen in its bytes: a body that is passed through is read by nobody else.
//!
//! Keys of JSON are looked for with their quotes and the colon behind, which no text inside a string can look like. What is
//! not seen is not needed: the provider says so if that was wrong.

use hoosh_core::dialect::Operation;
use hoosh_core::{Modalities, Modality};
use hoosh_router::{Query, Seed};
use memchr::memmem;

use crate::call::Call;

/// Words that the `type` of a piece has in one of the dialects, each with what it holds.
const TYPES: &[(&[u8], Modality)] = &[
    (b"\"image\"", Modality::Image),
    (b"\"image_url\"", Modality::Image),
    (b"\"input_image\"", Modality::Image),
    (b"\"input_audio\"", Modality::Audio),
];

/// The same of the media types in Gemini's pieces, which have no type.
const MEDIA: &[(&[u8], Modality)] = &[(b"\"image/", Modality::Image), (b"\"audio/", Modality::Audio)];

/// Bytes of a body that make a token, about, in English text.
const BYTES_PER_TOKEN: u64 = 4;

/// What decides who is asked.
pub(crate) fn query(call: &Call) -> Query<'_> {
    let operation = call.dialect.operation();
    let is_inference = operation == Operation::Inference;
    // How long a prompt is cannot be seen in its bytes (pictures, lists of texts), and is counted only where it matters.
    let counted = call.max_cost.and_then(|_| call.prompt_tokens());
    let body: &[u8] = if is_inference { &call.body } else { &[] };
    Query {
        model: &call.head.model,
        max_tokens: if operation == Operation::Embedding { Some(0) } else { call.head.max_tokens },
        prompt_tokens: counted,
        prompt_estimate: Some(prompt_estimate(call)),
        input: modalities(body),
        tools: has_tools(body),
        local_only: call.local_only,
        max_cost: call.max_cost,
        at: Some(call.id.unix_seconds()),
        context: call.context.map(|wish| wish.policy),
        conversation: call.session.as_ref().map(|session| Seed::of((call.caller.as_str(), session))),
    }
}

/// About how many tokens its prompt has.
pub(crate) fn prompt_estimate(call: &Call) -> u64 {
    call.body.len() as u64 / BYTES_PER_TOKEN
}

/// About how many tokens the call will take, for its place in line.
pub(crate) fn tokens(call: &Call) -> u64 {
    prompt_estimate(call) + call.head.max_tokens.unwrap_or(0)
}

/// What a body holds beside text.
pub(crate) fn modalities(body: &[u8]) -> Modalities {
    let typed = values(body, b"\"type\"").filter_map(|value| find(TYPES, value));
    let media = [&b"\"mimeType\""[..], b"\"mime_type\""].into_iter().flat_map(|key| values(body, key));
    let media = media.filter_map(|value| find(MEDIA, value));
    // Ollama's pictures.
    let lists = values(body, b"\"images\"").filter(|value| is_filled_list(value)).map(|_| Modality::Image);
    typed.chain(media).chain(lists).collect()
}

fn find(words: &[(&[u8], Modality)], value: &[u8]) -> Option<Modality> {
    words.iter().find(|(word, _)| value.starts_with(word)).map(|(_, modality)| *modality)
}

fn has_tools(body: &[u8]) -> bool {
    values(body, b"\"tools\"").any(is_filled_list)
}

fn is_filled_list(value: &[u8]) -> bool {
    value.strip_prefix(b"[").is_some_and(|list| !list.trim_ascii_start().starts_with(b"]"))
}

/// What stands behind each colon of a key.
fn values<'a>(body: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let rests = memmem::find_iter(body, key).map(|at| &body[at + key.len()..]);
    rests.filter_map(|rest| Some(rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_tools_are_seen_and_words_about_them_are_not() {
        let image = Modalities::UNKNOWN.with(Modality::Image);
        for body in [
            r#"{"content":[{"type": "image_url","image_url":{"url":"x"}}]}"#,
            r#"{"content":[{"type":"image","source":{}}]}"#,
            r#"{"parts":[{"inlineData":{"mimeType":"image/png","data":""}}]}"#,
            r#"{"messages":[{"images":["x"]}]}"#,
        ] {
            assert_eq!(modalities(body.as_bytes()), image, "{body}");
        }
        let words =
            r#"{"content":"a \"type\": \"image\" and \"tools\": [1]","tools":[],"image":{"type":"string"}}"#;
        assert!(modalities(words.as_bytes()).is_empty() && !has_tools(words.as_bytes()));
        let plain =
            r#"{"content":"images","stop":["image/png","tools"],"properties":{"images":{"type":"array"}}}"#;
        assert!(modalities(plain.as_bytes()).is_empty() && !has_tools(plain.as_bytes()));
        assert!(has_tools(br#"{"tools" : [ {"type":"function"}]}"#));
    }
}
