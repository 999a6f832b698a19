//! Whole answers: read from providers, written for clients.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::items::{Names, message_parts, read_output, write_output};
use super::request::{is_freeform, value_of, write_options};
use super::usage::{self, UsageBody};
use super::{DIALECT, is_akin};
use crate::dialect::openai::tap::refuse_error;
use crate::dialect::wire::{note, reply_text, write_json};
use crate::dialect::{DecodeError, Encoded, ReplyContext};
use crate::failure::{FailureKind, FidelityNote, UpstreamFailure};
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::request::{InferenceRequest, Part, PartKind};
use crate::response::{Choice, FinishReason, InferenceResponse};
use crate::usage::Usage;

// --- reading ---

pub(super) fn decode(body: &[u8]) -> Result<InferenceResponse, DecodeError> {
    let mut object = Object::parse("", reply_text(body)?)?;
    refuse_error(object.take_raw("error"))?;
    let output: Vec<&RawValue> = object.require("output")?;
    let (parts, logprobs) = read_items(&output)?;
    let end = End::read(object, has_tool_calls(&parts))?;
    let choice = Choice {
        index: 0,
        parts,
        finish_reason: Some(end.reason),
        logprobs: joined(&logprobs),
        extra: Extra::default(),
    };
    Ok(InferenceResponse {
        id: end.id,
        model: end.model,
        created: end.created,
        usage: end.usage,
        extra: end.extra,
        origin: Some(DIALECT),
        ..InferenceResponse::from_choices(vec![choice])
    })
}

pub(super) fn has_tool_calls(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall(_)))
}

/// The parts of an answer's items, as a stream of them tells it: without the items' names.
pub(super) fn read_items(output: &[&RawValue]) -> Result<(Vec<Part>, Vec<RawJson>), FieldError> {
    let (mut parts, mut logprobs) = (Vec::new(), Vec::new());
    for (index, raw) in output.iter().enumerate() {
        let mut object = Object::parse(format!("output[{index}]"), raw.get())?;
        let kind: String = object.require("type")?;
        if kind == "message" {
            let (said, probs) = message_parts(object)?;
            parts.extend(said);
            logprobs.extend(probs);
        } else {
            read_output(&kind, object, raw, &mut parts)?;
        }
    }
    parts.retain_mut(|part| {
        part.extra = Extra::default();
        if let PartKind::ToolCall(call) = &mut part.kind {
            call.extra = Extra::default();
        }
        let empty = matches!(&part.kind, PartKind::Reasoning(text) if text.is_empty());
        !empty || part.signature.is_some()
    });
    Ok((parts, logprobs))
}

/// Log probabilities as chat has them, whose entries are the same.
pub(super) fn joined(logprobs: &[RawJson]) -> Option<RawJson> {
    if logprobs.is_empty() {
        return None;
    }
    RawJson::from_value(&std::collections::BTreeMap::from([("content", logprobs)])).ok()
}

/// What an answer has around its items, in whole and at the end of a stream.
pub(super) struct End {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created: Option<u64>,
    pub(super) reason: FinishReason,
    pub(super) usage: Option<Usage>,
    pub(super) extra: Extra,
}

impl End {
    /// Reads it from a response object whose `output` was taken.
    pub(super) fn read(mut object: Object<'_>, called_tools: bool) -> Result<Self, DecodeError> {
        object.take_raw("object");
        let status: Option<String> = object.take("status")?;
        let details = object.take_raw("incomplete_details");
        let reason = match status.as_deref() {
            None | Some("completed") if called_tools => FinishReason::ToolCalls,
            None | Some("completed") => FinishReason::Stop,
            Some("incomplete") => incomplete_reason(details),
            Some("failed") => return Err(failed(None)),
            Some(word) => FinishReason::Other(word.to_owned()),
        };
        Ok(Self {
            id: object.take("id")?.unwrap_or_default(),
            model: object.take("model")?.unwrap_or_default(),
            created: object.take::<serde_json::Number>("created_at")?.and_then(|number| {
                // Some servers send a float.
                number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64))
            }),
            reason,
            usage: usage::of_answer(object.take_raw("usage"), object.peek("service_tier")),
            extra: object.rest(),
        })
    }
}

fn incomplete_reason(details: Option<&RawValue>) -> FinishReason {
    #[derive(Default, serde::Deserialize)]
    struct Details {
        #[serde(default)]
        reason: Option<String>,
    }
    let details: Details = details.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    match details.reason.as_deref() {
        None | Some("max_output_tokens" | "max_tokens") => FinishReason::Length,
        Some("content_filter") => FinishReason::ContentFilter,
        Some(word) => FinishReason::Other(word.to_owned()),
    }
}

/// An answer that failed after it began.
pub(super) fn failed(error: Option<&RawValue>) -> DecodeError {
    match refuse_error(error) {
        Err(reported) => reported,
        Ok(()) => {
            let failure = UpstreamFailure::new(FailureKind::Failed, "the answer failed");
            DecodeError::Reported(Box::new(failure))
        }
    }
}

// --- writing ---

pub(super) fn encode(reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
    let mut notes = Vec::new();
    if reply.choices.len() > 1 {
        note(&mut notes, FidelityNote::new("n"));
    }
    let choice = reply.choices.first();
    let reason = choice.and_then(|choice| choice.finish_reason.as_ref());
    let status = Status::of(reason);
    let names = Names(context.id.to_owned());
    let logprobs = choice.and_then(|choice| choice.logprobs.as_ref()).map(entries).unwrap_or_default();
    let parts = choice.map_or(&[][..], |choice| &choice.parts);
    let freeform = |name: &str| is_freeform(context.request, name);
    let output = write_output(parts, &names, status.item(), &logprobs, freeform, &mut notes);
    let mut frame = Frame::new(context, reply.origin);
    frame.name(&reply.id, &reply.model, reply.created);
    if is_akin(reply.origin) {
        frame.add(&reply.extra);
    }
    let mut body = Vec::with_capacity(1024 + reply.text.len());
    write_json(&ResponseBody { frame: &frame, status, output: &output, usage: reply.usage }, &mut body);
    Encoded { body, notes, answer_tool: None }
}

/// The entries of log probabilities in chat's form.
pub(super) fn entries(json: &RawJson) -> Vec<Value> {
    match value_of(json) {
        Value::Object(mut lists) => match lists.remove("content") {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// How an answer ended.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete(&'static str),
    Failed,
}

impl Status {
    pub(super) fn of(reason: Option<&FinishReason>) -> Self {
        match reason {
            Some(FinishReason::Length) => Self::Incomplete("max_output_tokens"),
            Some(FinishReason::ContentFilter) => Self::Incomplete("content_filter"),
            _ => Self::Completed,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed => "failed",
        }
    }

    /// The same of an item.
    pub(super) fn item(self) -> &'static str {
        if self == Self::Completed { "completed" } else { "incomplete" }
    }
}

/// What an answer says around its items: its name and what it repeats of the request.
pub(super) struct Frame {
    pub(super) id: String,
    model: String,
    created: u64,
    /// Whether the provider's own name is told: in no other dialect would it find the answer again.
    keeps_id: bool,
    fields: Extra,
    /// What went wrong after the answer began.
    pub(super) error: Option<Value>,
}

impl Frame {
    pub(super) fn new(context: &ReplyContext<'_>, origin: Option<crate::dialect::Dialect>) -> Self {
        Self {
            id: format!("resp_{}", context.id),
            model: context.request.map(|request| request.model.clone()).unwrap_or_default(),
            created: context.now,
            keeps_id: origin == Some(DIALECT),
            fields: echo(context),
            error: None,
        }
    }

    pub(super) fn name(&mut self, id: &str, model: &str, created: Option<u64>) {
        if self.keeps_id && !id.is_empty() {
            id.clone_into(&mut self.id);
        }
        if !model.is_empty() {
            model.clone_into(&mut self.model);
        }
        self.created = created.unwrap_or(self.created);
    }

    /// Adds fields that the provider said itself.
    pub(super) fn add(&mut self, fields: &Extra) {
        fields.iter().for_each(|(name, value)| self.fields.insert(name, value.clone()));
    }
}

/// What an answer repeats of its request; SDKs want most of it to be there.
fn echo(context: &ReplyContext<'_>) -> Extra {
    let request = context.request;
    struct Options<'a>(&'a InferenceRequest);
    impl Serialize for Options<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            write_options(self.0, is_akin(self.0.origin), &mut map)?;
            map.serialize_entry("instructions", &self.0.system)?;
            map.serialize_entry("max_output_tokens", &self.0.max_tokens)?;
            map.serialize_entry("user", &self.0.user)?;
            map.end()
        }
    }
    let mut fields = Extra::default();
    if let Some(request) = request {
        let options = serde_json::to_string(&Options(request)).unwrap_or_default();
        if let Ok(object) = Object::parse("", &options) {
            fields = object.rest();
        }
        if request.origin == Some(DIALECT) {
            let repeated = ["prompt_cache_key", "safety_identifier", "store", "truncation"];
            for name in repeated {
                if let Some(value) = request.extra.get(name) {
                    fields.insert(name, value.clone());
                }
            }
        }
    }
    let defaults = [
        ("background", json!(false)),
        ("instructions", json!(null)),
        ("max_output_tokens", json!(null)),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", json!(context.previous_id)),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("store", json!(true)),
        ("temperature", json!(null)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", json!(null)),
        ("truncation", json!("disabled")),
        ("user", json!(null)),
    ];
    for (name, value) in defaults {
        if fields.get(name).is_none()
            && let Ok(value) = RawJson::from_value(&value)
        {
            fields.insert(name, value);
        }
    }
    fields
}

pub(super) struct ResponseBody<'a> {
    pub(super) frame: &'a Frame,
    pub(super) status: Status,
    pub(super) output: &'a [Value],
    pub(super) usage: Option<Usage>,
}

impl Serialize for ResponseBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let frame = self.frame;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &frame.id)?;
        map.serialize_entry("object", "response")?;
        map.serialize_entry("created_at", &frame.created)?;
        map.serialize_entry("status", self.status.as_str())?;
        map.serialize_entry("error", &frame.error)?;
        let details = match self.status {
            Status::Incomplete(reason) => Some(json!({"reason": reason})),
            _ => None,
        };
        map.serialize_entry("incomplete_details", &details)?;
        map.serialize_entry("model", &frame.model)?;
        map.serialize_entry("output", self.output)?;
        frame.fields.write(&mut map)?;
        map.serialize_entry("usage", &self.usage.map(UsageBody))?;
        map.end()
    }
}
