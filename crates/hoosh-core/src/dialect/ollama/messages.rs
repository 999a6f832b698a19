//! Messages, calls and tools of a chat request.
//!
//! Ollama's calls had no ids until late in 2025, and results still name the tool, not the call. Calls without an id get
//! `call_<message>_<n>`; a result belongs to the oldest unanswered call of its tool.

use std::collections::HashMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::dialect::wire::{Arguments, List, entry, note, take_schema, text_or_json};
use crate::failure::FidelityNote;
use crate::json::{FieldError, Object};
use crate::limits;
use crate::request::{MediaSource, Message, Part, PartKind, Role};
use crate::tool::{ToolCall, ToolDefinition, ToolResult};

// --- reading ---

pub(super) fn read(objects: Vec<Object<'_>>) -> Result<Vec<Message>, FieldError> {
    // The calls that no result has answered yet, as id and name.
    let mut open: Vec<(String, String)> = Vec::new();
    objects.into_iter().enumerate().map(|(index, object)| message(index, object, &mut open)).collect()
}

fn message(
    index: usize,
    mut object: Object<'_>,
    open: &mut Vec<(String, String)>,
) -> Result<Message, FieldError> {
    let word: String = object.require("role")?;
    let role = Role::parse(&word)
        .ok_or_else(|| object.wrong("role", format!("`{word}` is none of system, user, assistant, tool")))?;
    let mut parts = Vec::new();
    if let Some(text) = object.take::<String>("thinking")?.filter(|text| !text.is_empty()) {
        parts.push(PartKind::Reasoning(text).into());
    }
    if let Some(text) = object.take::<String>("content")?.filter(|text| !text.is_empty()) {
        parts.push(Part::text(text));
    }
    parts.extend(images(&mut object)?);
    for (number, call) in calls(&mut object, index)?.into_iter().enumerate() {
        if number == 0 && role == Role::Assistant {
            open.clear();
        }
        if open.len() < limits::TOOL_CALLS_MAX {
            open.push((call.id.clone(), call.name.clone()));
        }
        parts.push(PartKind::ToolCall(call).into());
    }
    if role == Role::Tool {
        let legacy = object.take::<String>("name")?;
        let name = object.take::<String>("tool_name")?.or(legacy);
        let id = object.take::<String>("tool_call_id")?.filter(|id| !id.is_empty());
        let call_id = answered(open, id, name.as_deref()).unwrap_or_else(|| format!("call_{index}_0"));
        parts = vec![PartKind::ToolResult(ToolResult { call_id, content: parts, is_error: false }).into()];
    }
    Ok(Message { role, parts, name: None, extra: object.rest() })
}

/// The id of the call that a result answers: as it says itself, else of its tool's oldest open call, else of the oldest.
fn answered(open: &mut Vec<(String, String)>, id: Option<String>, name: Option<&str>) -> Option<String> {
    let at = match (&id, name) {
        (Some(id), _) => open.iter().position(|(known, _)| known == id),
        (None, Some(name)) => open.iter().position(|(_, known)| known == name),
        (None, None) => (!open.is_empty()).then_some(0),
    };
    let call = at.map(|at| open.remove(at).0);
    id.or(call)
}

pub(super) fn images(object: &mut Object<'_>) -> Result<Vec<Part>, FieldError> {
    let images: Vec<String> = object.take("images")?.unwrap_or_default();
    Ok(images.into_iter().map(image).collect())
}

/// Ollama's images are bare base64: the type shows in how they begin.
fn image(data: String) -> Part {
    let types =
        [("iVBOR", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];
    let found = types.iter().find(|(start, _)| data.starts_with(start));
    let media_type = found.map_or("image/png", |(_, name)| name).to_owned();
    PartKind::Image { source: MediaSource::Base64 { media_type, data }, detail: None }.into()
}

/// The calls of a message, those without an id named after its place.
pub(super) fn calls(object: &mut Object<'_>, message: usize) -> Result<Vec<ToolCall>, FieldError> {
    let calls = object.take_objects("tool_calls")?.into_iter().enumerate();
    calls.map(|(number, call)| read_call(call, message, number)).collect()
}

pub(super) fn read_call(
    mut object: Object<'_>,
    message: usize,
    number: usize,
) -> Result<ToolCall, FieldError> {
    let id = object.take::<String>("id")?.filter(|id| !id.is_empty());
    object.take_raw("type");
    let mut function = object.take_object("function")?.ok_or_else(|| object.missing("function"))?;
    let name = function.require("name")?;
    let arguments = function.take::<&RawValue>("arguments")?.map_or_else(|| "{}".to_owned(), text_or_json);
    Ok(ToolCall {
        id: id.unwrap_or_else(|| format!("call_{message}_{number}")),
        name,
        arguments,
        extra: object.rest(),
    })
}

pub(super) fn tools(object: &mut Object<'_>) -> Result<Vec<ToolDefinition>, FieldError> {
    object.take_objects("tools")?.into_iter().map(tool).collect()
}

fn tool(mut object: Object<'_>) -> Result<ToolDefinition, FieldError> {
    object.take_raw("type");
    let mut function = object.take_object("function")?.ok_or_else(|| object.missing("function"))?;
    Ok(ToolDefinition {
        name: function.require("name")?,
        description: function.take("description")?,
        parameters: take_schema(&mut function, "parameters")?,
        strict: function.take("strict")?,
        freeform: false,
        cache: None,
        extra: object.rest(),
    })
}

// --- writing ---

#[derive(Serialize, Default)]
pub(super) struct Turn {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct CallBody {
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    index: usize,
    name: String,
    #[serde(serialize_with = "as_object")]
    arguments: String,
}

impl CallBody {
    pub(super) fn new(index: usize, id: &str, name: &str, arguments: &str) -> Self {
        let (name, arguments) = (name.to_owned(), arguments.to_owned());
        Self { id: id.to_owned(), function: Function { index, name, arguments } }
    }
}

fn as_object<S: Serializer>(arguments: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Arguments(arguments).serialize(serializer)
}

/// The turns of a conversation, with notes of what they cannot hold.
pub(super) fn turns<'a>(
    conversation: impl Iterator<Item = &'a Message>,
    notes: &mut Vec<FidelityNote>,
) -> Vec<Turn> {
    let mut out = Vec::new();
    let mut names: HashMap<&str, &str> = HashMap::new();
    for (index, message) in conversation.enumerate() {
        if message.name.is_some() {
            note(notes, FidelityNote::new(format!("messages[{index}].name")));
        }
        // Our turns have no place for them; between Ollama's own there is none that we know of.
        for (name, _) in message.extra.iter() {
            note(notes, FidelityNote::new(format!("messages[{index}].{name}")));
        }
        let mut turn = Turn { role: role(message.role), ..Turn::default() };
        if message.role == Role::Developer {
            note(notes, FidelityNote::emulated(format!("messages[{index}].role")));
        }
        let mut has_rest = message.parts.is_empty();
        for part in &message.parts {
            if part.cache.is_some() {
                note(notes, FidelityNote::new("cache_control"));
            }
            match &part.kind {
                PartKind::ToolResult(result) => {
                    let name = names.get(result.call_id.as_str()).copied();
                    out.push(result_turn(result, name, index, notes));
                    continue;
                }
                PartKind::ToolCall(call) => {
                    names.insert(&call.id, &call.name);
                    let number = turn.tool_calls.len();
                    if Arguments(&call.arguments).is_wrapped() {
                        note(notes, FidelityNote::emulated(format!("messages[{index}].tool_calls")));
                    }
                    turn.tool_calls.push(CallBody::new(number, &call.id, &call.name, &call.arguments));
                }
                kind => turn.add(kind, index, notes),
            }
            has_rest = true;
        }
        if has_rest {
            out.push(turn);
        }
    }
    out
}

fn role(role: Role) -> &'static str {
    if role == Role::Developer { "system" } else { role.as_str() }
}

fn result_turn(result: &ToolResult, name: Option<&str>, index: usize, notes: &mut Vec<FidelityNote>) -> Turn {
    if result.is_error {
        note(notes, FidelityNote::new(format!("messages[{index}].is_error")));
    }
    let mut turn = Turn {
        role: "tool",
        tool_name: name.map(str::to_owned),
        tool_call_id: Some(result.call_id.clone()),
        ..Turn::default()
    };
    result.content.iter().for_each(|part| turn.add(&part.kind, index, notes));
    turn
}

impl Turn {
    fn add(&mut self, kind: &PartKind, index: usize, notes: &mut Vec<FidelityNote>) {
        match kind {
            PartKind::Text(text) => self.content.push_str(text),
            PartKind::Reasoning(text) => self.thinking.push_str(text),
            PartKind::Refusal(text) => {
                self.content.push_str(text);
                note(notes, FidelityNote::emulated(format!("messages[{index}].refusal")));
            }
            PartKind::Image { source: MediaSource::Base64 { data, .. }, .. } => {
                self.images.push(data.clone())
            }
            // Only its maker can read it.
            PartKind::Redacted => {}
            _ => note(notes, FidelityNote::new(format!("messages[{index}].content"))),
        }
    }
}

#[derive(Clone)]
pub(super) struct ToolBody<'a>(pub(super) &'a ToolDefinition);

impl Serialize for ToolBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Function<'a>(&'a ToolDefinition);
        impl Serialize for Function<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("name", &self.0.name)?;
                entry(&mut map, "description", &self.0.description)?;
                match &self.0.parameters {
                    Some(schema) => map.serialize_entry("parameters", schema)?,
                    None => map.serialize_entry(
                        "parameters",
                        &serde_json::json!({"type": "object", "properties": {}}),
                    )?,
                }
                map.end()
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "function")?;
        map.serialize_entry("function", &Function(self.0))?;
        map.end()
    }
}

/// The tools, and notes of what their definitions cannot hold.
pub(super) fn tool_list<'a>(
    tools: &'a [ToolDefinition],
    notes: &mut Vec<FidelityNote>,
) -> List<impl Iterator<Item = ToolBody<'a>> + Clone + use<'a>> {
    for (index, tool) in tools.iter().enumerate() {
        if tool.strict == Some(true) {
            note(notes, FidelityNote::new(format!("tools[{index}].strict")));
        }
        if tool.freeform {
            note(notes, FidelityNote::emulated(format!("tools[{index}]")));
        }
        if tool.cache.is_some() {
            note(notes, FidelityNote::new("cache_control"));
        }
        for (name, _) in tool.extra.iter() {
            note(notes, FidelityNote::new(format!("tools[{index}].{name}")));
        }
    }
    List(tools.iter().map(ToolBody))
}
