//! Definitions of tools, and which of them shall be called: read and written.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::content::{CacheBody, take_cache};
use super::freeform;
use super::message::Style;
use crate::dialect::Dialect;
use crate::dialect::nested;
use crate::dialect::wire::{entry, take_schema};
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::request::InferenceRequest;
use crate::tool::{HostedTool, ToolChoice, ToolDefinition};

// --- reading ---

/// Takes the tools: functions, free text tools, and those that the provider runs itself.
pub(super) fn take(object: &mut Object<'_>, request: &mut InferenceRequest) -> Result<(), FieldError> {
    let items: Vec<&RawValue> = object.take("tools")?.unwrap_or_default();
    for (index, raw) in items.into_iter().enumerate() {
        let mut tool = Object::parse(format!("tools[{index}]"), raw.get())?;
        let word: Option<String> = tool.take("type")?;
        match word.as_deref() {
            None | Some("function") => request.tools.push(definition(tool, "function")?),
            Some("custom") => request.tools.push(definition(tool, "custom")?),
            Some(kind) => {
                let (maker, kind) = (Dialect::OpenAiChat, kind.to_owned());
                request.hosted_tools.push(HostedTool { maker, kind, json: raw.into() });
            }
        }
    }
    Ok(())
}

fn definition(mut object: Object<'_>, form: &'static str) -> Result<ToolDefinition, FieldError> {
    let mut inner = object.take_object(form)?.ok_or_else(|| object.missing(form))?;
    let freeform = form == "custom";
    // LiteLLM takes it in either place.
    let cache = take_cache(&mut object).or_else(|| take_cache(&mut inner));
    let mut tool = ToolDefinition {
        name: inner.require("name")?,
        description: inner.take("description")?,
        parameters: if freeform { freeform::schema() } else { take_schema(&mut inner, "parameters")? },
        strict: if freeform { None } else { inner.take("strict")? },
        freeform,
        cache,
        extra: object.rest(),
    };
    nested::keep(&mut tool.extra, form, inner);
    Ok(tool)
}

pub(super) fn choice(raw: &RawValue) -> ToolChoice {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named<'a> {
        #[serde(rename = "type")]
        _type: Option<&'a str>,
        #[serde(alias = "custom")]
        function: Name,
    }
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Name {
        name: String,
    }
    match raw.get() {
        r#""auto""# => ToolChoice::Auto,
        r#""none""# => ToolChoice::None,
        r#""required""# | r#""any""# => ToolChoice::Required,
        other => match serde_json::from_str::<Named<'_>>(other) {
            Ok(named) => ToolChoice::Tool(named.function.name),
            Err(_) => ToolChoice::Other(raw.into()),
        },
    }
}

// --- writing ---

/// One entry of `tools`.
#[derive(Clone)]
pub(super) enum ToolBody<'a> {
    Defined(&'a ToolDefinition, Style<'a>),
    Hosted(&'a HostedTool),
}

impl Serialize for ToolBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (tool, style) = match self {
            Self::Defined(tool, style) => (*tool, style),
            Self::Hosted(hosted) => return hosted.json.serialize(serializer),
        };
        let none = Extra::default();
        let extra = if style.akin { &tool.extra } else { &none };
        let is_custom = style.freeform.contains(&tool.name.as_str());
        let form = if is_custom { "custom" } else { "function" };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", form)?;
        map.serialize_entry(form, &Defined { tool, is_custom, form, extra })?;
        if let Some(mark) = tool.cache.filter(|_| style.quirks.cache_marks) {
            map.serialize_entry("cache_control", &CacheBody(mark))?;
        }
        nested::write_others(extra, &["custom", "function"], &mut map)?;
        map.end()
    }
}

struct Defined<'a> {
    tool: &'a ToolDefinition,
    is_custom: bool,
    form: &'static str,
    extra: &'a Extra,
}

impl Serialize for Defined<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tool = self.tool;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &tool.name)?;
        entry(&mut map, "description", &tool.description)?;
        if self.is_custom {
            entry(&mut map, "format", &responses_format(tool))?;
        } else {
            entry(&mut map, "parameters", &tool.parameters)?;
            entry(&mut map, "strict", &tool.strict)?;
        }
        nested::write(self.extra, self.form, &mut map)?;
        map.end()
    }
}

/// The grammar of a free text tool that came in OpenAI's Responses: there it is flat, here in an object of its own.
fn responses_format(tool: &ToolDefinition) -> Option<RawJson> {
    #[derive(serde::Serialize)]
    struct Grammar {
        r#type: &'static str,
        grammar: Fields,
    }
    #[derive(serde::Serialize)]
    struct Fields {
        definition: RawJson,
        syntax: RawJson,
    }
    let json = tool.extra.get("format")?;
    let mut flat = Object::parse("", json.get()).ok()?;
    match (flat.take_raw("definition"), flat.take_raw("syntax")) {
        (Some(definition), Some(syntax)) => {
            let grammar = Fields { definition: definition.into(), syntax: syntax.into() };
            RawJson::from_value(&Grammar { r#type: "grammar", grammar }).ok()
        }
        _ => Some(json.clone()),
    }
}

pub(super) struct ToolChoiceBody<'a>(pub(super) &'a ToolChoice, pub(super) Style<'a>);

impl Serialize for ToolChoiceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Name<'a> {
            name: &'a str,
        }
        match self.0 {
            ToolChoice::Auto => serializer.serialize_str("auto"),
            ToolChoice::None => serializer.serialize_str("none"),
            ToolChoice::Required => serializer.serialize_str("required"),
            ToolChoice::Tool(name) => {
                let form = if self.1.freeform.contains(&name.as_str()) { "custom" } else { "function" };
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("type", form)?;
                map.serialize_entry(form, &Name { name })?;
                map.end()
            }
            ToolChoice::Other(json) => json.serialize(serializer),
        }
    }
}
