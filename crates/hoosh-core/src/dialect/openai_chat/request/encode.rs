//! Writing a request for a provider.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::turns::{Turn, TurnBody, turns};
use crate::dialect::nested;
use crate::dialect::openai::reply::is_akin;
use crate::dialect::openai::request::{note_foreign, note_shared, write_shared_fields};
use crate::dialect::openai_chat::message::Style;
use crate::dialect::openai_chat::tools::{ToolBody, ToolChoiceBody};
use crate::dialect::wire::{List, entry, note, write_json};
use crate::dialect::{Dialect, Encoded, Target};
use crate::failure::FidelityNote;
use crate::json::{Extra, RawJson};
use crate::request::{InferenceRequest, Message, PartKind, ResponseFormat};
use crate::tool::ToolChoice;

/// Fields of legacy completions that chat has no word for.
const COMPLETIONS_ONLY: &[&str] = &["best_of", "echo", "logprobs", "suffix"];

/// Fields that OpenAI's Responses have under the same name and with the same meaning. `store` is not one: there it
/// keeps an answer to go on from, which the gateway does itself.
const SHARED_WITH_RESPONSES: &[&str] =
    &["prompt_cache_key", "prompt_cache_retention", "safety_identifier", "verbosity"];

pub(in crate::dialect::openai_chat) fn encode(request: &InferenceRequest, target: Target<'_>) -> Encoded {
    let mut notes = Vec::new();
    let akin = is_akin(request.origin);
    let openai = akin || request.origin == Some(Dialect::OpenAiResponses);
    let freeform = request.tools.iter().filter(|tool| tool.freeform && openai);
    let freeform: Vec<&str> = freeform.map(|tool| tool.name.as_str()).collect();
    let style =
        Style { for_client: false, akin, knows_files: openai, quirks: target.quirks, freeform: &freeform };
    let conversation: Vec<_> = request.conversation().collect();
    let turns = turns(&conversation, &style, &mut notes);
    note_unsaid(request, &style, &mut notes);
    note_shared(request, target, &mut notes);
    note_foreign(request, |name| is_carried(request.origin, name, target), &mut notes);
    if !target.quirks.cache_marks && has_cache_marks(request) {
        note(&mut notes, FidelityNote::new("cache_control"));
    }
    let mut body = Vec::with_capacity(1024);
    write_json(&RequestBody { request, target, style, turns: &turns }, &mut body);
    Encoded { body, notes, answer_tool: None }
}

/// Whether an unknown field of a request from there has its meaning here, and the provider takes it.
fn is_carried(origin: Option<Dialect>, name: &str, target: Target<'_>) -> bool {
    target.quirks.knows(name)
        && match origin {
            None | Some(Dialect::OpenAiChat) => true,
            Some(Dialect::OpenAiCompletions) => !COMPLETIONS_ONLY.contains(&name),
            Some(Dialect::OpenAiResponses) => SHARED_WITH_RESPONSES.contains(&name),
            Some(_) => false,
        }
}

fn note_unsaid(request: &InferenceRequest, style: &Style<'_>, notes: &mut Vec<FidelityNote>) {
    for (index, tool) in request.tools.iter().enumerate() {
        if tool.freeform && !style.freeform.contains(&tool.name.as_str()) {
            note(notes, FidelityNote::emulated(format!("tools[{index}]")));
        }
    }
    for tool in request.hosted_tools.iter().filter(|tool| tool.maker != Dialect::OpenAiChat) {
        note(notes, FidelityNote::new(format!("tools.{}", tool.kind)));
    }
    if tool_choice(request).is_none() && request.tool_choice.is_some() {
        note(notes, FidelityNote::new("tool_choice"));
    }
    nested::note_format_extra(request.response_format.as_ref(), style.akin, notes);
    if response_format(request).is_none() && request.response_format.is_some() {
        note(notes, FidelityNote::new("response_format"));
    }
    if request.reasoning_budget.is_some() {
        // As an effort, in steps; beside one that was given, not at all.
        note(
            notes,
            match request.reasoning_effort {
                None => FidelityNote::emulated("reasoning"),
                Some(_) => FidelityNote::new("reasoning.max_tokens"),
            },
        );
    }
}

/// The choice, unless it is in the words of another dialect.
fn tool_choice(request: &InferenceRequest) -> Option<&ToolChoice> {
    let is_said = |choice: &&ToolChoice| is_akin(request.origin) || !matches!(choice, ToolChoice::Other(_));
    request.tool_choice.as_ref().filter(is_said)
}

/// The format, unless it is in the words of another dialect.
fn response_format(request: &InferenceRequest) -> Option<&ResponseFormat> {
    let is_said =
        |format: &&ResponseFormat| is_akin(request.origin) || !matches!(format, ResponseFormat::Other(_));
    request.response_format.as_ref().filter(is_said)
}

fn has_cache_marks(request: &InferenceRequest) -> bool {
    let in_message = |message: &Message| {
        message.parts.iter().any(|part| match &part.kind {
            PartKind::ToolResult(result) => {
                part.cache.is_some() || result.content.iter().any(|part| part.cache.is_some())
            }
            _ => part.cache.is_some(),
        })
    };
    request.tools.iter().any(|tool| tool.cache.is_some()) || request.messages.iter().any(in_message)
}

struct RequestBody<'a> {
    request: &'a InferenceRequest,
    target: Target<'a>,
    style: Style<'a>,
    turns: &'a [Turn<'a>],
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { request, target, style, turns } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", target.model)?;
        map.serialize_entry("messages", &List(turns.iter().map(|turn| TurnBody(turn, style))))?;
        let hosted = request.hosted_tools.iter().filter(|tool| tool.maker == Dialect::OpenAiChat);
        let tools = request.tools.iter().map(|tool| ToolBody::Defined(tool, style));
        let tools = tools.chain(hosted.map(ToolBody::Hosted));
        if tools.clone().next().is_some() {
            map.serialize_entry("tools", &List(tools))?;
        }
        if let Some(choice) = tool_choice(request) {
            map.serialize_entry("tool_choice", &ToolChoiceBody(choice, style))?;
        }
        if let Some(format) = response_format(request) {
            map.serialize_entry("response_format", &FormatBody(format, style.akin))?;
        }
        entry(&mut map, "parallel_tool_calls", &request.parallel_tool_calls)?;
        entry(&mut map, "reasoning_effort", &request.effort())?;
        // Elsewhere the number alone asks for them.
        let logprobs = request.logprobs.or(request.top_logprobs.filter(|_| !style.akin).map(|_| true));
        entry(&mut map, "logprobs", &logprobs.filter(|_| target.quirks.knows("logprobs")))?;
        entry(
            &mut map,
            "top_logprobs",
            &request.top_logprobs.filter(|_| target.quirks.knows("top_logprobs")),
        )?;
        let max_tokens =
            if target.quirks.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        entry(&mut map, max_tokens, &request.max_tokens)?;
        write_shared_fields(request, target, &mut map)?;
        let service_tier = request.service_tier.as_ref().filter(|_| target.quirks.knows("service_tier"));
        entry(&mut map, "service_tier", &service_tier)?;
        entry(&mut map, "metadata", &request.metadata.as_ref().filter(|_| target.quirks.knows("metadata")))?;
        let mut carried = request.extra.iter().filter(|(name, _)| is_carried(request.origin, name, target));
        carried.try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

struct FormatBody<'a>(&'a ResponseFormat, bool);

impl Serialize for FormatBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = match self.0 {
            ResponseFormat::Other(json) => return json.serialize(serializer),
            _ => serializer.serialize_map(None)?,
        };
        match self.0 {
            ResponseFormat::Text | ResponseFormat::Other(_) => map.serialize_entry("type", "text")?,
            ResponseFormat::JsonObject => map.serialize_entry("type", "json_object")?,
            ResponseFormat::JsonSchema { name, schema, strict, extra } => {
                map.serialize_entry("type", "json_schema")?;
                map.serialize_entry("json_schema", &Schema { name, schema, strict, extra, akin: self.1 })?;
                if self.1 {
                    nested::write(extra, "response_format", &mut map)?;
                }
            }
        }
        map.end()
    }
}

struct Schema<'a> {
    name: &'a str,
    schema: &'a Option<RawJson>,
    strict: &'a Option<bool>,
    extra: &'a Extra,
    akin: bool,
}

impl Serialize for Schema<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        entry(&mut map, "schema", self.schema)?;
        entry(&mut map, "strict", self.strict)?;
        nested::write_format_extra(self.extra, self.akin, &mut map)?;
        map.end()
    }
}
