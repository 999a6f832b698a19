//! Requests: read from clients, written for providers.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::items::{REDACTED, SIGNS_LAST, call_item, content, other, read_output};
use super::{DIALECT, PREVIOUS, is_akin};
use crate::dialect::nested::{self, Kept, write_format_extra};
use crate::dialect::openai::request::{note_user, user};
use crate::dialect::openai_chat::freeform;
use crate::dialect::wire::{entry, notable, note, request_text, take_schema, url_of, write_json};
use crate::dialect::{Dialect, Encoded, Target};
use crate::error::InvalidRequest;
use crate::failure::FidelityNote;
use crate::json::{FieldError, Object, RawJson};
use crate::request::{
    InferenceRequest, MediaSource, Message, Part, PartKind, ResponseFormat, Role, joined_text,
};
use crate::tool::{HostedTool, ToolChoice, ToolDefinition, ToolResult};

// --- reading ---

pub(super) fn decode(body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    let mut object = Object::parse("", request_text(body)?)?;
    let mut request = InferenceRequest {
        model: object.require("model")?,
        system: object.take("instructions")?,
        messages: input(&mut object)?,
        tool_choice: tool_choice(&mut object)?,
        parallel_tool_calls: object.take("parallel_tool_calls")?,
        max_tokens: object.take("max_output_tokens")?,
        temperature: object.take("temperature")?,
        top_p: object.take("top_p")?,
        top_logprobs: object.take("top_logprobs")?,
        user: object.take("user")?,
        service_tier: object.take("service_tier")?,
        metadata: object.take_raw("metadata").filter(|raw| raw.get() != "{}").map(RawJson::from),
        origin: Some(DIALECT),
        ..InferenceRequest::default()
    };
    let previous: Option<String> = object.take(PREVIOUS)?;
    request.logprobs = request.top_logprobs.filter(|most| *most > 0).map(|_| true);
    tools(&mut object, &mut request)?;
    let (verbosity, text) = text_options(&mut object, &mut request)?;
    let reasoning = reasoning_options(&mut object, &mut request)?;
    object.take_raw("stream");
    object.take_raw("stream_options");
    request.extra = object.rest();
    let previous = previous.and_then(|id| RawJson::from_value(&id).ok());
    for (name, value) in [("verbosity", verbosity), ("reasoning", reasoning), (PREVIOUS, previous)] {
        if let Some(value) = value {
            request.extra.insert(name, value);
        }
    }
    if let Some(text) = text {
        nested::keep(&mut request.extra, "text", text);
    }
    Ok(request)
}

fn input(object: &mut Object<'_>) -> Result<Vec<Message>, FieldError> {
    let Some(raw) = object.take_raw("input") else { return Ok(Vec::new()) };
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get())
            .map_err(|error| object.wrong("input", crate::json::problem(&error)))?;
        return Ok(vec![Message::user(text)]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| object.wrong("input", "expected a string or a list of items"))?;
    let mut messages = Vec::with_capacity(items.len());
    for (index, raw) in items.into_iter().enumerate() {
        item(&format!("input[{index}]"), raw, &mut messages)?;
    }
    Ok(messages)
}

fn item(path: &str, raw: &RawValue, messages: &mut Vec<Message>) -> Result<(), FieldError> {
    let mut object = Object::parse(path, raw.get())?;
    // A message needs no type.
    let kind: String = object.take("type")?.unwrap_or_else(|| "message".to_owned());
    match kind.as_str() {
        "message" => message(object, messages)?,
        "function_call_output" | "custom_tool_call_output" => {
            let call_id = object.require("call_id")?;
            let content = content(&mut object, "output", &mut Vec::new())?;
            let result = ToolResult { call_id, content, is_error: false };
            messages.push(Message::new(Role::Tool, vec![PartKind::ToolResult(result).into()]));
        }
        // What a program gave back to one of OpenAI's own tools.
        kind if kind.ends_with("_output") || kind == "mcp_approval_response" => {
            messages.push(Message::new(Role::Tool, vec![other(kind, raw)]));
        }
        kind => read_output(kind, object, raw, assistant(messages))?,
    }
    Ok(())
}

/// The parts of the turn that the model's items belong to: neighbours are one turn.
fn assistant(messages: &mut Vec<Message>) -> &mut Vec<Part> {
    if messages.last().is_none_or(|last| last.role != Role::Assistant) {
        messages.push(Message::new(Role::Assistant, Vec::new()));
    }
    let at = messages.len() - 1;
    &mut messages[at].parts
}

fn message(mut object: Object<'_>, messages: &mut Vec<Message>) -> Result<(), FieldError> {
    let word: String = object.require("role")?;
    let role = Role::parse(&word).filter(|role| *role != Role::Tool).ok_or_else(|| {
        object.wrong("role", format!("`{word}` is none of system, developer, user, assistant"))
    })?;
    let mut parts = content(&mut object, "content", &mut Vec::new())?;
    object.take_raw("id");
    object.take_raw("status");
    if role != Role::Assistant {
        let name = object.take("name")?;
        messages.push(Message { role, parts, name, extra: object.rest() });
        return Ok(());
    }
    // Which phase of a turn it is of must come back with the message (gpt-5.3-codex).
    if let Some(phase) = object.take_raw("phase") {
        parts.iter_mut().for_each(|part| part.extra.insert("phase", phase.into()));
    }
    assistant(messages).extend(parts);
    Ok(())
}

fn tools(object: &mut Object<'_>, request: &mut InferenceRequest) -> Result<(), FieldError> {
    let raws: Vec<&RawValue> = object.take("tools")?.unwrap_or_default();
    for (index, raw) in raws.into_iter().enumerate() {
        let mut tool = Object::parse(format!("tools[{index}]"), raw.get())?;
        let kind: String = tool.require("type")?;
        let freeform = kind == "custom";
        if !freeform && kind != "function" {
            request.hosted_tools.push(HostedTool { maker: DIALECT, kind, json: raw.into() });
            continue;
        }
        let parameters = match take_schema(&mut tool, "parameters")? {
            Some(schema) => Some(schema),
            None if freeform => freeform::schema(),
            None => None,
        };
        request.tools.push(ToolDefinition {
            name: tool.require("name")?,
            description: tool.take("description")?,
            parameters,
            strict: tool.take("strict")?,
            freeform,
            cache: None,
            extra: tool.rest(),
        });
    }
    Ok(())
}

fn tool_choice(object: &mut Object<'_>) -> Result<Option<ToolChoice>, FieldError> {
    #[derive(serde::Deserialize)]
    struct Named {
        r#type: String,
        name: String,
    }
    let Some(raw) = object.take_raw("tool_choice") else { return Ok(None) };
    Ok(Some(match raw.get() {
        r#""auto""# => ToolChoice::Auto,
        r#""none""# => ToolChoice::None,
        r#""required""# => ToolChoice::Required,
        other => match serde_json::from_str::<Named>(other) {
            Ok(named) if named.r#type == "function" || named.r#type == "custom" => {
                ToolChoice::Tool(named.name)
            }
            _ if other.starts_with('{') => ToolChoice::Other(raw.into()),
            _ => return Err(object.wrong("tool_choice", "expected `auto`, `none`, `required` or an object")),
        },
    }))
}

/// The shape of the text and how long it shall be; gives back what there is beyond the shape.
fn text_options<'a>(
    object: &mut Object<'a>,
    request: &mut InferenceRequest,
) -> Result<(Option<RawJson>, Option<Object<'a>>), FieldError> {
    let Some(mut text) = object.take_object("text")? else { return Ok((None, None)) };
    let path = text.path_of("format");
    if let Some(raw) = text.take_raw("format") {
        let mut format = Object::parse(path, raw.get())?;
        let word: String = format.require("type")?;
        request.response_format = Some(match word.as_str() {
            "text" => ResponseFormat::Text,
            "json_object" => ResponseFormat::JsonObject,
            "json_schema" => ResponseFormat::JsonSchema {
                name: format.take("name")?.unwrap_or_else(|| "answer".to_owned()),
                schema: take_schema(&mut format, "schema")?,
                strict: format.take("strict")?,
                extra: format.rest(),
            },
            _ => ResponseFormat::Other(raw.into()),
        });
    }
    Ok((text.take_raw("verbosity").map(RawJson::from), Some(text)))
}

/// How hard to think and whether to show it; what there is beyond that.
fn reasoning_options(
    object: &mut Object<'_>,
    request: &mut InferenceRequest,
) -> Result<Option<RawJson>, FieldError> {
    let Some(mut reasoning) = object.take_object("reasoning")? else { return Ok(None) };
    request.reasoning_effort = reasoning.take("effort")?;
    let words: [Option<String>; 2] = [reasoning.take("summary")?, reasoning.take("generate_summary")?];
    let mut rest = reasoning.rest();
    if let Some(word) = words.into_iter().flatten().next() {
        request.show_reasoning = Some(true);
        if word != "auto"
            && let Ok(word) = RawJson::from_value(&word)
        {
            rest.insert("summary", word);
        }
    }
    Ok((!rest.is_empty()).then(|| RawJson::from_value(&rest).ok()).flatten())
}

// --- writing ---

/// Unknown fields of chat that have the same meaning here.
const OF_CHAT: &[&str] =
    &["prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "safety_identifier"];

/// Unknown fields of this dialect that are written in a place of their own.
const PLACED: &[&str] = &["include", "reasoning", "store", "text", "verbosity"];

pub(super) fn encode(request: &InferenceRequest, target: Target<'_>) -> Encoded {
    let mut notes = Vec::new();
    let mut writer = Writer::new(request, &mut notes);
    let mut items = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        writer.message(index, message, &mut items);
    }
    if !request.prompt.is_empty() {
        writer.message(request.messages.len(), &Message::user(request.prompt.as_str()), &mut items);
    }
    note_lost(request, &mut notes);
    let mut body = Vec::with_capacity(1024);
    let written = RequestBody { request, target, items };
    write_json(&written, &mut body);
    Encoded { body, notes, answer_tool: None }
}

fn note_lost(request: &InferenceRequest, notes: &mut Vec<FidelityNote>) {
    nested::note_format_extra(request.response_format.as_ref(), is_akin(request.origin), notes);
    let lost = [
        ("stop", !request.stop.is_empty()),
        ("seed", request.seed.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("n", request.n.is_some_and(|n| n > 1)),
        ("top_k", request.top_k.is_some()),
        ("cache_control", request.tools.iter().any(|tool| tool.cache.is_some())),
    ];
    lost.iter().filter(|(_, lost)| *lost).for_each(|(name, _)| note(notes, FidelityNote::new(*name)));
    if request.reasoning_budget.is_some() && request.reasoning_effort.is_none() {
        note(notes, FidelityNote::emulated("reasoning_budget"));
    }
    for tool in request.hosted_tools.iter().filter(|tool| tool.maker != DIALECT) {
        note(notes, FidelityNote::new(format!("tools.{}", tool.kind)));
    }
    note_user(request, notes);
    if is_akin(request.origin) {
        return;
    }
    if matches!(request.tool_choice, Some(ToolChoice::Other(_))) {
        note(notes, FidelityNote::new("tool_choice"));
    }
    if matches!(request.response_format, Some(ResponseFormat::Other(_))) {
        note(notes, FidelityNote::new("response_format"));
    }
    for (name, _) in notable(request).filter(|(name, _)| !carries(request.origin, name)) {
        note(notes, FidelityNote::new(name));
    }
}

/// Whether an unknown field from there is written.
fn carries(origin: Option<Dialect>, name: &str) -> bool {
    is_akin(origin) || origin == Some(Dialect::OpenAiChat) && (name == "verbosity" || OF_CHAT.contains(&name))
}

struct Writer<'a> {
    akin: bool,
    freeform: HashSet<&'a str>,
    freeform_calls: HashSet<&'a str>,
    notes: &'a mut Vec<FidelityNote>,
}

impl<'a> Writer<'a> {
    fn new(request: &'a InferenceRequest, notes: &'a mut Vec<FidelityNote>) -> Self {
        let freeform: HashSet<_> =
            request.tools.iter().filter(|tool| tool.freeform).map(|tool| tool.name.as_str()).collect();
        let parts = request.messages.iter().flat_map(|message| &message.parts);
        let freeform_calls = parts
            .filter_map(|part| match &part.kind {
                PartKind::ToolCall(call) if freeform.contains(call.name.as_str()) => Some(call.id.as_str()),
                _ => None,
            })
            .collect();
        Self { akin: is_akin(request.origin), freeform, freeform_calls, notes }
    }

    fn lost(&mut self, field: impl Into<String>) {
        note(self.notes, FidelityNote::new(field));
    }

    fn message(&mut self, index: usize, message: &Message, items: &mut Vec<Value>) {
        if message.name.is_some() {
            self.lost(format!("messages[{index}].name"));
        }
        let mut content = Vec::new();
        let mut phase: Option<&RawJson> = None;
        for part in &message.parts {
            if part.cache.is_some() {
                self.lost("cache_control");
            }
            let said = self.content_part(index, message.role, part);
            match said {
                Some(said) => {
                    let next = part.extra.get("phase").filter(|_| self.akin);
                    if next != phase {
                        close(message.role, phase, &mut content, items);
                        phase = next;
                    }
                    content.push(said);
                }
                None => {
                    close(message.role, phase, &mut content, items);
                    items.extend(self.item(index, part));
                }
            }
        }
        let was = items.len();
        close(message.role, phase, &mut content, items);
        if self.akin && items.len() > was && message.role != Role::Assistant {
            for (name, value) in message.extra.iter() {
                items[was][name] = value_of(value);
            }
        } else {
            message.extra.iter().for_each(|(name, _)| self.lost(format!("messages[{index}].{name}")));
        }
    }

    /// A part that is content of a message.
    fn content_part(&mut self, index: usize, role: Role, part: &Part) -> Option<Value> {
        let mut value = match &part.kind {
            PartKind::Text(text) if role == Role::Assistant => {
                json!({"type": "output_text", "text": text, "annotations": []})
            }
            PartKind::Text(text) => json!({"type": "input_text", "text": text}),
            PartKind::Refusal(text) => json!({"type": "refusal", "refusal": text}),
            // The model's own pictures and sounds have no place in its messages.
            PartKind::Image { .. } | PartKind::Audio { .. } | PartKind::File { .. }
                if role == Role::Assistant =>
            {
                self.lost(format!("messages[{index}].content"));
                return None;
            }
            PartKind::Image { source, detail } => {
                let mut value = json!({"type": "input_image", "detail": detail.as_deref().unwrap_or("auto")});
                match source {
                    MediaSource::FileId(id) => value["file_id"] = id.as_str().into(),
                    source => value["image_url"] = url_of(source).into(),
                }
                value
            }
            PartKind::Audio { data, format } => {
                json!({"type": "input_audio", "input_audio": {"data": data, "format": format}})
            }
            PartKind::File { source, filename } => {
                let mut value = json!({"type": "input_file"});
                let name = match source {
                    MediaSource::FileId(_) => "file_id",
                    MediaSource::Url(_) => "file_url",
                    MediaSource::Base64 { .. } => "file_data",
                };
                value[name] = url_of(source).into();
                // Bytes need a name, from which OpenAI takes the type.
                let inline = matches!(source, MediaSource::Base64 { .. });
                if let Some(filename) = filename.as_deref().or(inline.then_some("file.pdf")) {
                    value["filename"] = filename.into();
                }
                value
            }
            _ => return None,
        };
        for (name, extra) in part.extra.iter().filter(|(name, _)| self.akin && *name != "phase") {
            value[name] = value_of(extra);
        }
        Some(value)
    }

    /// A part that is an item of its own.
    fn item(&mut self, index: usize, part: &Part) -> Option<Value> {
        match &part.kind {
            PartKind::ToolCall(call) => {
                let mut item = call_item("", "completed", call, self.freeform.contains(call.name.as_str()));
                if let Value::Object(fields) = &mut item {
                    fields.remove("id");
                    let extra = call.extra.iter().filter(|_| self.akin);
                    fields.extend(extra.map(|(name, value)| (name.to_owned(), value_of(value))));
                }
                Some(item)
            }
            PartKind::ToolResult(result) => Some(self.result(index, result)),
            PartKind::Reasoning(text) => self.reasoning(text, part),
            PartKind::Other { maker: Dialect::OpenAiResponses, json, .. } => Some(value_of(json)),
            PartKind::Other { .. } => {
                self.lost(format!("messages[{index}].content"));
                None
            }
            // Signed by another maker, it means nothing here.
            _ => None,
        }
    }

    fn reasoning(&mut self, text: &str, part: &Part) -> Option<Value> {
        let signature = part.signature.as_ref().and_then(|signature| signature.for_maker(DIALECT));
        if signature.is_none() && (part.signature.is_some() || !self.akin) {
            if part.signature.is_none() && !text.is_empty() {
                self.lost("reasoning");
            }
            return None;
        }
        let ours = signature.is_some_and(|text| text.starts_with(SIGNS_LAST) || text.starts_with(REDACTED));
        let mut item = super::items::reasoning_item("", text, signature.filter(|_| !ours));
        if let Value::Object(fields) = &mut item {
            fields.remove("id");
        }
        if let Some(id) = part.extra.get("id") {
            item["id"] = value_of(id);
        } else if signature.is_none() && text.is_empty() {
            return None;
        }
        Some(item)
    }

    fn result(&mut self, index: usize, result: &ToolResult) -> Value {
        if result.is_error {
            self.lost(format!("messages[{index}].is_error"));
        }
        let output = if result.content.iter().all(|part| matches!(part.kind, PartKind::Text(_))) {
            Value::String(joined_text(&result.content))
        } else {
            let mut content = Vec::new();
            for part in &result.content {
                match self.content_part(index, Role::Tool, part) {
                    Some(value) => content.push(value),
                    None => self.lost(format!("messages[{index}].content")),
                }
            }
            Value::Array(content)
        };
        let freeform = self.freeform_calls.contains(result.call_id.as_str());
        let kind = if freeform { "custom_tool_call_output" } else { "function_call_output" };
        json!({"type": kind, "call_id": result.call_id, "output": output})
    }
}

fn close(role: Role, phase: Option<&RawJson>, content: &mut Vec<Value>, items: &mut Vec<Value>) {
    if content.is_empty() {
        return;
    }
    let mut item = json!({"type": "message", "role": role.as_str(), "content": std::mem::take(content)});
    if let Some(phase) = phase {
        item["phase"] = value_of(phase);
    }
    items.push(item);
}

pub(super) fn value_of(json: &RawJson) -> Value {
    serde_json::from_str(json.get()).unwrap_or_default()
}

struct RequestBody<'a> {
    request: &'a InferenceRequest,
    target: Target<'a>,
    items: Vec<Value>,
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let akin = is_akin(request.origin);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.target.model)?;
        entry(&mut map, "instructions", &request.system)?;
        map.serialize_entry("input", &self.items)?;
        write_options(request, akin, &mut map)?;
        entry(&mut map, "max_output_tokens", &request.max_tokens)?;
        entry(&mut map, "user", &user(request))?;
        let store = request.extra.get("store").filter(|_| request.origin == Some(DIALECT));
        match store {
            Some(store) => map.serialize_entry("store", store)?,
            None => map.serialize_entry("store", &false)?,
        }
        let include = include(request, akin);
        if !include.is_empty() {
            map.serialize_entry("include", &include)?;
        }
        let extra = request.extra.iter().filter(|(name, _)| !PLACED.contains(name));
        for (name, value) in extra.filter(|(name, _)| carries(request.origin, name)) {
            map.serialize_entry(name, value)?;
        }
        if self.target.stream {
            map.serialize_entry("stream", &true)?;
        }
        map.end()
    }
}

/// Writes the fields that an answer repeats.
pub(super) fn write_options<M: SerializeMap>(
    request: &InferenceRequest,
    akin: bool,
    map: &mut M,
) -> Result<(), M::Error> {
    if !request.tools.is_empty() || !request.hosted_tools.is_empty() {
        map.serialize_entry("tools", &tool_bodies(request))?;
    }
    let choice = request.tool_choice.as_ref().and_then(|choice| choice_body(choice, request, akin));
    entry(map, "tool_choice", &choice)?;
    entry(map, "parallel_tool_calls", &request.parallel_tool_calls)?;
    let text = text_body(request, akin);
    entry(map, "text", &text)?;
    let reasoning = reasoning_body(request, akin);
    entry(map, "reasoning", &reasoning)?;
    entry(map, "temperature", &request.temperature)?;
    entry(map, "top_p", &request.top_p)?;
    entry(map, "top_logprobs", &request.top_logprobs)?;
    entry(map, "service_tier", &request.service_tier)?;
    entry(map, "metadata", &request.metadata)
}

/// Schemas are kept as they came: the order of their fields is the order the model writes them in.
#[derive(Serialize)]
#[serde(untagged)]
enum ToolBody<'a> {
    Hosted(&'a RawJson),
    Custom(CustomBody<'a>),
    Function(FunctionBody<'a>),
}

struct CustomBody<'a>(&'a ToolDefinition, bool);
struct FunctionBody<'a>(&'a ToolDefinition, bool);

impl Serialize for CustomBody<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "custom")?;
        map.serialize_entry("name", &self.0.name)?;
        entry(&mut map, "description", &self.0.description)?;
        if self.1 {
            self.0.extra.write(&mut map)?;
        }
        map.end()
    }
}

impl Serialize for FunctionBody<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "function")?;
        map.serialize_entry("name", &self.0.name)?;
        entry(&mut map, "description", &self.0.description)?;
        map.serialize_entry("parameters", &self.0.parameters)?;
        // Absent would be `true` here, which it is not in chat.
        map.serialize_entry("strict", &self.0.strict.unwrap_or(false))?;
        if self.1 {
            self.0.extra.write(&mut map)?;
        }
        map.end()
    }
}

fn tool_bodies(request: &InferenceRequest) -> Vec<ToolBody<'_>> {
    let akin = is_akin(request.origin);
    let own = request.tools.iter().map(|tool| match tool.freeform {
        true => ToolBody::Custom(CustomBody(tool, akin)),
        false => ToolBody::Function(FunctionBody(tool, akin)),
    });
    let hosted = request.hosted_tools.iter().filter(|tool| tool.maker == DIALECT);
    own.chain(hosted.map(|tool| ToolBody::Hosted(&tool.json))).collect()
}

fn choice_body(choice: &ToolChoice, request: &InferenceRequest, akin: bool) -> Option<Value> {
    Some(match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Tool(name) => {
            let freeform = request.tools.iter().any(|tool| tool.freeform && tool.name == *name);
            json!({"type": if freeform { "custom" } else { "function" }, "name": name})
        }
        ToolChoice::Other(json) if akin => value_of(json),
        ToolChoice::Other(_) => return None,
    })
}

#[derive(Serialize)]
struct TextBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<FormatBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a RawJson>,
    #[serde(flatten)]
    rest: Option<Kept<'a>>,
}

/// The format, and whether its unknown fields are of this dialect.
struct FormatBody<'a>(&'a ResponseFormat, bool);

fn text_body(request: &InferenceRequest, akin: bool) -> Option<TextBody<'_>> {
    let verbosity = request.extra.get("verbosity").filter(|_| carries(request.origin, "verbosity"));
    let format = request.response_format.as_ref();
    let format = format.filter(|format| akin || !matches!(format, ResponseFormat::Other(_)));
    let format = format.map(|format| FormatBody(format, akin));
    let rest = (akin && request.extra.get("text").is_some()).then_some(Kept(&request.extra, "text"));
    (format.is_some() || verbosity.is_some() || rest.is_some()).then_some(TextBody {
        format,
        verbosity,
        rest,
    })
}

impl Serialize for FormatBody<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = match self.0 {
            ResponseFormat::Other(json) => return json.serialize(serializer),
            _ => serializer.serialize_map(None)?,
        };
        match self.0 {
            ResponseFormat::Text => map.serialize_entry("type", "text")?,
            ResponseFormat::JsonObject => map.serialize_entry("type", "json_object")?,
            ResponseFormat::JsonSchema { name, schema, strict, extra } => {
                map.serialize_entry("type", "json_schema")?;
                map.serialize_entry("name", name)?;
                match schema {
                    Some(schema) => map.serialize_entry("schema", schema)?,
                    None => map.serialize_entry("schema", &json!({}))?,
                }
                entry(&mut map, "strict", strict)?;
                write_format_extra(extra, self.1, &mut map)?;
            }
            ResponseFormat::Other(_) => {}
        }
        map.end()
    }
}

fn reasoning_body(request: &InferenceRequest, akin: bool) -> Option<Value> {
    let mut body = json!({});
    if let Some(effort) = request.effort() {
        body["effort"] = effort.into();
    }
    if request.show_reasoning == Some(true) {
        body["summary"] = "auto".into();
    }
    let rest = request.extra.get("reasoning").filter(|_| akin).map(value_of);
    if let (Some(Value::Object(rest)), Value::Object(fields)) = (rest, &mut body) {
        fields.extend(rest);
    }
    body.as_object().is_some_and(|fields| !fields.is_empty()).then_some(body)
}

/// What the answer shall have beyond the usual: reasoning in a form that can come back, where there may be any. A model
/// that does not reason refuses to be asked for it.
fn include(request: &InferenceRequest, akin: bool) -> Vec<Cow<'_, str>> {
    let given = request.extra.get("include").filter(|_| akin);
    let mut include: Vec<Cow<'_, str>> =
        given.and_then(|json| serde_json::from_str(json.get()).ok()).unwrap_or_default();
    let reasons =
        request.effort().is_some_and(|effort| effort != "none") || request.show_reasoning == Some(true);
    let wanted = [
        ("reasoning.encrypted_content", reasons),
        ("message.output_text.logprobs", request.logprobs == Some(true)),
    ];
    for (name, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
        if !include.iter().any(|known| known == name) {
            include.push(Cow::Borrowed(name));
        }
    }
    include
}

/// Whether the request says that this tool takes free text.
pub(super) fn is_freeform(request: Option<&InferenceRequest>, name: &str) -> bool {
    request.is_some_and(|request| request.tools.iter().any(|tool| tool.freeform && tool.name == name))
}
