//! Tools and how they may be called. Source: ai.google.dev/api/caching#Tool, read 2026-11-24.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::config::{as_json, fields_of, is_akin, merge, put};
use super::fields::{require, take, take_list, take_raw};
use super::schema::to_json_schema;
use crate::dialect::Dialect;
use crate::dialect::wire::{List, entry, note};
use crate::failure::FidelityNote;
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::request::InferenceRequest;
use crate::tool::{HostedTool, ToolChoice, ToolDefinition};

/// Where it is said how tools are called; what we do not know of it rides along under this name.
pub(super) const CONFIG: &str = "toolConfig";

const CALLING: &str = "functionCallingConfig";

// --- reading ---

pub(super) fn decode(object: &mut Object<'_>, request: &mut InferenceRequest) -> Result<(), FieldError> {
    for (path, raw) in take_list(object, "tools")? {
        let mut tool = Object::parse(path, raw.get())?;
        for (path, raw) in take_list(&mut tool, "functionDeclarations")? {
            request.tools.push(declaration(Object::parse(path, raw.get())?)?);
        }
        for (kind, value) in tool.rest().iter() {
            let mut whole = Extra::default();
            whole.insert(kind, value.clone());
            if let Some(json) = as_json(&whole) {
                request.hosted_tools.push(HostedTool { maker: Dialect::Gemini, kind: kind.to_owned(), json });
            }
        }
    }
    Ok(())
}

fn declaration(mut object: Object<'_>) -> Result<ToolDefinition, FieldError> {
    let googles = take_raw(&mut object, "parameters");
    let schema = take_raw(&mut object, "parametersJsonSchema");
    Ok(ToolDefinition {
        name: require(&mut object, "name")?,
        description: take(&mut object, "description")?,
        parameters: schema.map(RawJson::from).or_else(|| googles.map(to_json_schema)),
        strict: None,
        freeform: false,
        cache: None,
        extra: object.rest(),
    })
}

/// Reads how tools are called; what is left that we do not know.
pub(super) fn decode_config(
    mut config: Object<'_>,
    request: &mut InferenceRequest,
) -> Result<Option<RawJson>, FieldError> {
    if let Some(raw) = take_raw(&mut config, CALLING) {
        let mut calling = Object::parse(config.path_of(CALLING), raw.get())?;
        let mode: Option<String> = take(&mut calling, "mode")?;
        let names: Vec<String> = take(&mut calling, "allowedFunctionNames")?.unwrap_or_default();
        let plain = calling.rest().is_empty();
        request.tool_choice = match (mode.as_deref(), names.as_slice()) {
            (None | Some("MODE_UNSPECIFIED"), []) if plain => None,
            (Some("AUTO" | "auto"), []) if plain => Some(ToolChoice::Auto),
            (Some("NONE" | "none"), []) if plain => Some(ToolChoice::None),
            (Some("ANY" | "any"), []) if plain => Some(ToolChoice::Required),
            (Some("ANY" | "any"), [name]) if plain => Some(ToolChoice::Tool(name.clone())),
            _ => Some(ToolChoice::Other(raw.into())),
        };
    }
    Ok(as_json(&config.rest()))
}

// --- writing ---

/// The tools of a request as they are written; a list that may be empty.
pub(super) fn encode<'a>(request: &'a InferenceRequest, notes: &mut Vec<FidelityNote>) -> Vec<ToolBody<'a>> {
    let akin = is_akin(request);
    for (index, tool) in request.tools.iter().enumerate() {
        note_tool(index, tool, akin, notes);
    }
    let mut tools = Vec::new();
    if !request.tools.is_empty() {
        tools.push(ToolBody::Functions(&request.tools, akin));
    }
    for tool in &request.hosted_tools {
        if tool.maker == Dialect::Gemini {
            tools.push(ToolBody::Hosted(&tool.json));
        } else {
            note(notes, FidelityNote::new(tool.kind.as_str()));
        }
    }
    tools
}

fn note_tool(index: usize, tool: &ToolDefinition, akin: bool, notes: &mut Vec<FidelityNote>) {
    if tool.strict == Some(true) {
        note(notes, FidelityNote::new(format!("tools[{index}].strict")));
    }
    if tool.freeform {
        note(notes, FidelityNote::emulated(format!("tools[{index}]")));
    }
    if tool.cache.is_some() {
        note(notes, FidelityNote::new("cache_control"));
    }
    for (name, _) in tool.extra.iter().filter(|_| !akin) {
        note(notes, FidelityNote::new(format!("tools[{index}].{name}")));
    }
}

/// How tools are called.
pub(super) fn encode_config(request: &InferenceRequest, notes: &mut Vec<FidelityNote>) -> Extra {
    let mut config = Extra::default();
    if let Some(calling) = request.tool_choice.as_ref().and_then(|choice| calling(request, choice, notes)) {
        config.insert(CALLING, calling);
    }
    if is_akin(request)
        && let Some(rest) = request.extra.get(CONFIG).and_then(fields_of)
    {
        merge(&mut config, &rest);
    }
    config
}

fn calling(
    request: &InferenceRequest,
    choice: &ToolChoice,
    notes: &mut Vec<FidelityNote>,
) -> Option<RawJson> {
    let mut fields = Extra::default();
    let mut say = |mode: &str, name: Option<&String>| {
        put(&mut fields, "mode", &Some(mode));
        put(&mut fields, "allowedFunctionNames", &name.map(|name| [name]));
    };
    match choice {
        // Without functions there is nothing to choose, and saying so is an error.
        ToolChoice::Auto | ToolChoice::None
            if request.tools.is_empty() && !super::config::is_own(request) => {}
        ToolChoice::Auto => say("AUTO", None),
        ToolChoice::None => say("NONE", None),
        ToolChoice::Required => say("ANY", None),
        ToolChoice::Tool(name) => say("ANY", Some(name)),
        ToolChoice::Other(json) if is_akin(request) => return Some(json.clone()),
        ToolChoice::Other(_) => note(notes, FidelityNote::new("tool_choice")),
    }
    as_json(&fields)
}

/// One of the tools.
pub(super) enum ToolBody<'a> {
    /// All functions together, and whether their unknown fields are of this dialect.
    Functions(&'a [ToolDefinition], bool),
    Hosted(&'a RawJson),
}

#[derive(Clone)]
struct Declaration<'a>(&'a ToolDefinition, bool);

/// The schema of a tool whose arguments are free text.
#[derive(serde::Serialize)]
struct FreeText {
    r#type: &'static str,
    properties: FreeTextProperties,
    required: [&'static str; 1],
}

#[derive(serde::Serialize)]
struct FreeTextProperties {
    input: FreeTextInput,
}

#[derive(serde::Serialize)]
struct FreeTextInput {
    r#type: &'static str,
}

impl Serialize for ToolBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hosted(json) => json.serialize(serializer),
            Self::Functions(tools, akin) => {
                let mut map = serializer.serialize_map(Some(1))?;
                let declarations = tools.iter().map(|tool| Declaration(tool, *akin));
                map.serialize_entry("functionDeclarations", &List(declarations))?;
                map.end()
            }
        }
    }
}

impl Serialize for Declaration<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(tool, akin) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &tool.name)?;
        entry(&mut map, "description", &tool.description)?;
        match &tool.parameters {
            Some(schema) => map.serialize_entry("parametersJsonSchema", schema)?,
            None if tool.freeform => {
                let input = FreeTextInput { r#type: "string" };
                let properties = FreeTextProperties { input };
                let schema = FreeText { r#type: "object", properties, required: ["input"] };
                map.serialize_entry("parametersJsonSchema", &schema)?;
            }
            None => {}
        }
        if *akin {
            tool.extra.write(&mut map)?;
        }
        map.end()
    }
}
