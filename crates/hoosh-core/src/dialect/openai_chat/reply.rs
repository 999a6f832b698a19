//! Whole answers: read from providers, written for clients.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::request::{assistant_parts, parts, write_message_fields};
use crate::dialect::DecodeError;
use crate::dialect::openai::reply::{close, open};
use crate::dialect::openai::usage::UsageBody;
use crate::dialect::openai::{List, write_json};
use crate::json::{FieldError, Object, RawJson};
use crate::request::{Part, PartKind};
use crate::response::{Choice, FinishReason, InferenceResponse};

pub(super) fn decode(body: &[u8]) -> Result<InferenceResponse, DecodeError> {
    let mut object = open(body)?;
    let choices = object.require::<Vec<&RawValue>>("choices")?;
    let choices = choices
        .into_iter()
        .enumerate()
        .map(|(index, raw)| choice(Object::parse(format!("choices[{index}]"), raw.get())?))
        .collect::<Result<_, _>>()?;
    Ok(close(object, choices)?)
}

fn choice(mut object: Object<'_>) -> Result<Choice, FieldError> {
    let mut message = object.take_object("message")?.ok_or_else(|| object.missing("message"))?;
    message.take_raw("role");
    let content = parts(&mut message, "content")?;
    let parts = assistant_parts(&mut message, content)?;
    let reason: Option<String> = object.take("finish_reason")?;
    let finish_reason = reason.map(|word| finish_reason(&word, has_tool_calls(&parts)));
    Ok(Choice {
        index: object.take("index")?.unwrap_or(0),
        parts,
        finish_reason,
        logprobs: object.take_raw("logprobs").map(RawJson::from),
        // What the message has beyond its parts (annotations, audio) is what clients look for; the choice has little.
        extra: message.rest(),
    })
}

fn has_tool_calls(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall(_)))
}

/// Reads a finish reason; one that called tools and says `stop` (Ollama, some vLLM parsers) is put right.
pub(super) fn finish_reason(word: &str, called_tools: bool) -> FinishReason {
    match FinishReason::parse(word) {
        FinishReason::Stop if called_tools => FinishReason::ToolCalls,
        // The legacy word for the one function a model could call.
        FinishReason::Other(word) if word == "function_call" => FinishReason::ToolCalls,
        reason => reason,
    }
}

pub(super) fn encode(reply: &InferenceResponse) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + reply.text.len());
    write_json(&ReplyBody(reply), &mut out);
    out
}

struct ReplyBody<'a>(&'a InferenceResponse);

#[derive(Clone)]
struct ChoiceBody<'a>(&'a Choice);

struct MessageBody<'a>(&'a Choice);

impl Serialize for ReplyBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reply = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &reply.id)?;
        map.serialize_entry("object", "chat.completion")?;
        map.serialize_entry("created", &reply.created.unwrap_or(0))?;
        map.serialize_entry("model", &reply.model)?;
        map.serialize_entry("choices", &List(reply.choices.iter().map(ChoiceBody)))?;
        if let Some(usage) = reply.usage {
            map.serialize_entry("usage", &UsageBody(usage))?;
        }
        reply.extra.write(&mut map)?;
        map.end()
    }
}

impl Serialize for ChoiceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let choice = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &choice.index)?;
        map.serialize_entry("message", &MessageBody(choice))?;
        map.serialize_entry("logprobs", &choice.logprobs)?;
        map.serialize_entry("finish_reason", &choice.finish_reason.as_ref().map(FinishReason::as_str))?;
        map.end()
    }
}

impl Serialize for MessageBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", "assistant")?;
        write_message_fields(&self.0.parts, &mut map)?;
        self.0.extra.write(&mut map)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_a_round_trip() {
        let body = r#"{"id":"x","object":"chat.completion","created":17,"model":"m","choices":[
            {"index":0,"message":{"role":"assistant","content":"hi","reasoning_content":"hm","annotations":[]},"logprobs":null,"finish_reason":"stop"},
            {"index":1,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":{"content":[]},"finish_reason":"tool_calls"}],
            "usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7},"system_fingerprint":"fp"}"#;
        let reply = decode(body.as_bytes()).unwrap();
        assert_eq!(reply.text, "hi");
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&encode(&reply)), value(body.as_bytes()));
    }

    #[test]
    fn a_stop_after_tool_calls_is_put_right() {
        let body = br#"{"choices":[{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"finish_reason":"stop"}]}"#;
        let reply = decode(body).unwrap();
        assert_eq!(reply.finish_reason(), Some(&FinishReason::ToolCalls));
        assert_eq!(reply.tool_calls().next().unwrap().arguments, r#"{"a":1}"#);
    }

    #[test]
    fn mistrals_thinking_is_reasoning() {
        let body = br#"{"choices":[{"message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"hi"}]}}]}"#;
        let reply = decode(body).unwrap();
        assert_eq!(reply.text, "hi");
        assert_eq!(reply.choices[0].parts[0].kind, PartKind::Reasoning("hm".into()));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for body in ["", "<html>", "[]", r#"{"object":"list"}"#, r#"{"choices":[{}]}"#, r#"{"choices":7}"#] {
            assert!(matches!(decode(body.as_bytes()), Err(DecodeError::Field(_))), "{body}");
        }
        assert!(matches!(decode(br#"{"error":{"message":"m"}}"#), Err(DecodeError::Reported(_))));
    }
}
