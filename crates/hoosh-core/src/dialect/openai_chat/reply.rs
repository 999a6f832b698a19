//! Whole answers: read from providers, written for clients.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::citations;
use super::content::unsaid;
use super::message::{Style, assistant_parts, write_fields};
use super::reasoning::is_detail;
use crate::dialect::openai::reply::{close, is_akin, open, write_envelope, write_extra};
use crate::dialect::openai::usage::UsageBody;
use crate::dialect::wire::{List, note, write_json};
use crate::dialect::{DecodeError, Dialect, Encoded, Quirks, ReplyContext};
use crate::failure::FidelityNote;
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
    Ok(close(object, Dialect::OpenAiChat, choices)?)
}

fn choice(mut object: Object<'_>) -> Result<Choice, FieldError> {
    let mut message = object.take_object("message")?.ok_or_else(|| object.missing("message"))?;
    message.take_raw("role");
    let parts = assistant_parts(&mut message)?;
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

pub(super) fn encode(reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
    let freeform = freeform_tools(context);
    let style = client_style(is_akin(reply.origin), &freeform);
    let mut notes = Vec::new();
    for choice in &reply.choices {
        choice.parts.iter().for_each(|part| note_lost(part, &style, &mut notes));
        if choice.logprobs.is_some() && !style.akin {
            note(&mut notes, FidelityNote::new(LOGPROBS));
        }
        choice.finish_reason.iter().for_each(|reason| {
            finish_word(reason, style.akin, &mut notes);
        });
    }
    let mut body = Vec::with_capacity(512 + reply.text.len());
    write_json(&ReplyBody { reply, context, style }, &mut body);
    Encoded { body, notes, answer_tool: None }
}

pub(super) const LOGPROBS: &str = "choices.logprobs";

/// How an answer is written for a client.
pub(super) fn client_style<'a>(akin: bool, freeform: &'a [&'a str]) -> Style<'a> {
    Style { for_client: true, akin, knows_files: false, quirks: Quirks::NONE, freeform }
}

/// The tools that the client has defined as free text.
pub(super) fn freeform_tools<'a>(context: &ReplyContext<'a>) -> Vec<&'a str> {
    let tools = context.request.map_or(&[][..], |request| &request.tools);
    tools.iter().filter(|tool| tool.freeform).map(|tool| tool.name.as_str()).collect()
}

/// Notes a piece of an answer, or what belongs to it, that this dialect has no word for.
pub(super) fn note_lost(part: &Part, style: &Style<'_>, notes: &mut Vec<FidelityNote>) {
    match unsaid(part, style) {
        Some(kind) if !is_detail(part) => note(notes, FidelityNote::new(format!("choices.{kind}"))),
        _ => {}
    }
    if !part.citations.iter().all(citations::is_said) {
        note(notes, FidelityNote::new(CITATIONS));
    }
}

pub(super) const CITATIONS: &str = "choices.citations";

/// The word for a finish reason; one of another dialect's own is not among those that clients know.
pub(super) fn finish_word<'a>(
    reason: &'a FinishReason,
    akin: bool,
    notes: &mut Vec<FidelityNote>,
) -> &'a str {
    if !akin && matches!(reason, FinishReason::Other(_)) {
        note(notes, FidelityNote::emulated("choices.finish_reason"));
        return FinishReason::Stop.as_str();
    }
    reason.as_str()
}

struct ReplyBody<'a> {
    reply: &'a InferenceResponse,
    context: &'a ReplyContext<'a>,
    style: Style<'a>,
}

#[derive(Clone)]
struct ChoiceBody<'a> {
    choice: &'a Choice,
    style: Style<'a>,
}

struct MessageBody<'a>(&'a ChoiceBody<'a>);

impl Serialize for ReplyBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reply = self.reply;
        let mut map = serializer.serialize_map(None)?;
        write_envelope(reply, self.context, "chatcmpl-", "chat.completion", &mut map)?;
        let choices = reply.choices.iter().map(|choice| ChoiceBody { choice, style: self.style });
        map.serialize_entry("choices", &List(choices))?;
        if let Some(usage) = reply.usage {
            map.serialize_entry("usage", &UsageBody(usage))?;
        }
        write_extra(reply, &mut map)?;
        map.end()
    }
}

impl Serialize for ChoiceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { choice, style } = self;
        let reason = choice.finish_reason.as_ref();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &choice.index)?;
        map.serialize_entry("message", &MessageBody(self))?;
        map.serialize_entry("logprobs", &choice.logprobs.as_ref().filter(|_| style.akin))?;
        map.serialize_entry(
            "finish_reason",
            &reason.map(|reason| finish_word(reason, style.akin, &mut Vec::new())),
        )?;
        map.end()
    }
}

impl Serialize for MessageBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ChoiceBody { choice, style } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", "assistant")?;
        write_fields(&choice.parts, true, *style, &mut map)?;
        if style.akin {
            choice.extra.write(&mut map)?;
        }
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
        assert_eq!(value(&encode(&reply, &ReplyContext::default()).body), value(body.as_bytes()));
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
