//! Whole answers: read from providers, written for clients.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::blocks::{self, Block, lost, note_lost};
use super::error::reported;
use super::usage::{Counts, UsageBody};
use crate::dialect::openai::reply::named;
use crate::dialect::wire::{List, note, reply_text, write_json};
use crate::dialect::{DecodeError, Dialect, Encoded, ReplyContext};
use crate::failure::FidelityNote;
use crate::json::Object;
use crate::request::{Part, PartKind};
use crate::response::{Choice, FinishReason, InferenceResponse};

pub(super) const ID_PREFIX: &str = "msg_";

pub(super) fn decode(body: &[u8]) -> Result<InferenceResponse, DecodeError> {
    let text = reply_text(body)?;
    let mut object = Object::parse("", text)?;
    if object.take::<String>("type")?.as_deref() == Some("error") || object.take_raw("error").is_some() {
        return Err(DecodeError::Reported(Box::new(reported(
            &serde_json::from_str(text).unwrap_or_default(),
        ))));
    }
    let mut parts = Vec::new();
    for (index, raw) in object.require::<Vec<&RawValue>>("content")?.into_iter().enumerate() {
        blocks::add(blocks::part(&format!("content[{index}]"), raw)?, &mut parts);
    }
    object.take_raw("role");
    let reason: Option<String> = object.take("stop_reason")?;
    let stop_text: Option<String> = object.take("stop_sequence")?;
    let calls = parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall(_)));
    let reason = reason.map(|word| match finish_reason(&word, stop_text) {
        // Some servers say so beside calls.
        FinishReason::Stop if calls => FinishReason::ToolCalls,
        reason => reason,
    });
    let choice = Choice { parts, finish_reason: reason, ..Choice::default() };
    Ok(InferenceResponse {
        id: object.take("id")?.unwrap_or_default(),
        model: object.take("model")?.unwrap_or_default(),
        usage: object.take_raw("usage").and_then(|raw| Counts::read(raw.get()).usage()),
        extra: object.rest(),
        origin: Some(Dialect::Anthropic),
        ..InferenceResponse::from_choices(vec![choice])
    })
}

pub(super) fn finish_reason(word: &str, stop_text: Option<String>) -> FinishReason {
    match (word, stop_text) {
        ("end_turn", _) | ("stop_sequence", None) => FinishReason::Stop,
        ("stop_sequence", Some(text)) => FinishReason::StopText(text),
        ("max_tokens", _) => FinishReason::Length,
        ("tool_use", _) => FinishReason::ToolCalls,
        ("refusal", _) => FinishReason::Refusal,
        (other, _) => FinishReason::Other(other.to_owned()),
    }
}

/// The word for why a model stopped, and the stop text it met.
pub(super) fn stop_reason(reason: &FinishReason) -> (&str, Option<&str>) {
    match reason {
        FinishReason::Stop => ("end_turn", None),
        FinishReason::StopText(text) => ("stop_sequence", Some(text)),
        FinishReason::Length => ("max_tokens", None),
        FinishReason::ToolCalls => ("tool_use", None),
        FinishReason::ContentFilter | FinishReason::Refusal => ("refusal", None),
        FinishReason::Other(word) => (word, None),
    }
}

pub(super) fn encode(reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
    let mut notes = Vec::new();
    if reply.choices.len() > 1 {
        note(&mut notes, FidelityNote::new("n"));
    }
    if reply.choices.iter().any(|choice| choice.logprobs.is_some()) {
        note(&mut notes, FidelityNote::new("logprobs"));
    }
    let parts: Vec<Part> = reply.choices.first().map(shown).unwrap_or_default();
    reply.choices.iter().flat_map(|choice| &choice.parts).for_each(|part| note_lost(part, &mut notes));
    let mut body = Vec::with_capacity(512 + reply.text.len());
    write_json(&ReplyBody { reply, context, parts: &parts }, &mut body);
    Encoded { body, notes, answer_tool: None }
}

/// The pieces that can be shown; the signature of a piece that has no place for it stands in a block behind it.
fn shown(choice: &Choice) -> Vec<Part> {
    let mut parts = Vec::with_capacity(choice.parts.len());
    for part in &choice.parts {
        let is_shown = match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => !text.is_empty(),
            PartKind::Image { .. } | PartKind::File { .. } => false,
            _ => lost(part).is_none(),
        };
        if is_shown {
            parts.push(part.clone());
        }
        if let Some(signature) = &part.signature
            && !matches!(part.kind, PartKind::Reasoning(_) | PartKind::Redacted)
        {
            parts.push(Part { signature: Some(signature.clone()), ..PartKind::Redacted.into() });
        }
    }
    parts
}

struct ReplyBody<'a> {
    reply: &'a InferenceResponse,
    context: &'a ReplyContext<'a>,
    parts: &'a [Part],
}

impl Serialize for ReplyBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reply = self.reply;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &*named(&reply.id, self.context, ID_PREFIX))?;
        map.serialize_entry("type", "message")?;
        map.serialize_entry("role", "assistant")?;
        map.serialize_entry("model", &reply.model)?;
        map.serialize_entry("content", &List(self.parts.iter().map(Block)))?;
        let reason = reply.finish_reason().map(stop_reason);
        map.serialize_entry("stop_reason", &reason.map(|(word, _)| word))?;
        map.serialize_entry("stop_sequence", &reason.and_then(|(_, text)| text))?;
        map.serialize_entry("usage", &UsageBody(reply.usage.unwrap_or_default()))?;
        if reply.origin.is_none_or(|origin| origin == Dialect::Anthropic) {
            reply.extra.write(&mut map)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_a_round_trip() {
        let body = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[
            {"type":"thinking","thinking":"hm","signature":"c2ln"},
            {"type":"text","text":"hi","citations":[{"type":"web_search_result_location","url":"u","title":"t","encrypted_index":"e","cited_text":"c"}]},
            {"type":"text","text":" there"},
            {"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"q"}},
            {"type":"tool_use","id":"t","name":"f","input":{"a":1}}],
            "stop_reason":"tool_use","stop_sequence":null,
            "usage":{"input_tokens":3,"cache_read_input_tokens":2,"output_tokens":4},"container":{"id":"c"}}"#;
        let reply = decode(body.as_bytes()).unwrap();
        assert_eq!(
            (reply.text.as_str(), reply.finish_reason()),
            ("hi there", Some(&FinishReason::ToolCalls))
        );
        let encoded = encode(&reply, &ReplyContext::default());
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&encoded.body), value(body.as_bytes()));
        assert_eq!(encoded.notes, []);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for body in ["", "<html>", "[]", r#"{"type":"message"}"#, r#"{"content":7}"#] {
            assert!(matches!(decode(body.as_bytes()), Err(DecodeError::Field(_))), "{body}");
        }
        let body = br#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
        assert!(matches!(decode(body), Err(DecodeError::Reported(_))));
    }

    #[test]
    fn foreign_signatures_stand_behind_what_they_sign() {
        use crate::request::Signature;
        use crate::tool::ToolCall;
        let call =
            ToolCall { id: "t".into(), name: "f".into(), arguments: "{}".into(), ..Default::default() };
        let signature = Some(Signature { maker: Dialect::Gemini, value: "s".into() });
        let part = Part { signature, ..PartKind::ToolCall(call).into() };
        let choice = Choice { parts: vec![part.clone()], ..Choice::default() };
        let body = encode(&InferenceResponse::from_choices(vec![choice]), &ReplyContext::default()).body;
        assert!(
            String::from_utf8_lossy(&body)
                .contains(r#"{"type":"redacted_thinking","data":"hoosh:gemini:s"}"#)
        );
        assert_eq!(decode(&body).unwrap().choices[0].parts, [part]);
    }
}
