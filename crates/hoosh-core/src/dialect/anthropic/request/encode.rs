//! Writing a request for a provider.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::catalog::Catalog;
use crate::dialect::anthropic::blocks::{Block, CacheBody, lost};
use crate::dialect::anthropic::model::Version;
use crate::dialect::emulate::{ANSWER_TOOL, format_as_tool};
use crate::dialect::nested::{self, Kept};
use crate::dialect::wire::{Arguments, List, entry, note, own_fields, write_json};
use crate::dialect::{Dialect, Encoded, Target};
use crate::failure::FidelityNote;
use crate::json::{Extra, JsonNumber, Object, RawJson};
use crate::request::{InferenceRequest, Message, Part, PartKind, ResponseFormat, Role};
use crate::tool::{ToolChoice, ToolDefinition};

/// The most tokens to generate if the caller does not say, since this API must be told: what the model can, up to this.
const MAX_TOKENS_DEFAULT: u64 = 32_000;

/// The same for a model that the catalogue does not know: what the smallest Claude allowed.
const MAX_TOKENS_UNKNOWN: u64 = 4_096;

/// The least that an older model thinks with.
const BUDGET_MIN: u64 = 1_024;

/// Said in place of a first turn of the user's, which the API wants before one of the model's.
const OPENING: &str = "(The conversation begins with the assistant.)";

pub(in crate::dialect::anthropic) fn encode(request: &InferenceRequest, target: Target<'_>) -> Encoded {
    let version = Version::of(target.model);
    let mut notes = Vec::new();
    let request = &*own_fields(request, Dialect::Anthropic, &[], &mut notes);
    let emulated = emulated(request, version, &mut notes);
    let answer_tool = emulated.is_some().then_some(ANSWER_TOOL);
    let request = emulated.as_ref().unwrap_or(request);
    note_unsaid(request, &mut notes);
    let conversation: Vec<_> = request.conversation().collect();
    let (system, mut turns) = turns(&conversation, version, &mut notes);
    let thinking = Thinking::of(request, target.model, version, &mut turns, &mut notes);
    let sampling = Sampling::of(request, version, &thinking, &mut notes);
    let mut body = Vec::with_capacity(1024);
    write_json(
        &RequestBody { request, target, system, turns: &turns, thinking, sampling, version },
        &mut body,
    );
    Encoded { body, notes, answer_tool }
}

/// The request with the shape of its answer as a tool, for a model that holds to no schema by itself.
fn emulated(
    request: &InferenceRequest,
    version: Version,
    notes: &mut Vec<FidelityNote>,
) -> Option<InferenceRequest> {
    match &request.response_format {
        None | Some(ResponseFormat::Text) => return None,
        Some(ResponseFormat::JsonSchema { schema: Some(_), .. }) if version.has_schemas() => return None,
        Some(_) => {}
    }
    let emulated = format_as_tool(request);
    note(
        notes,
        match emulated {
            Some(_) => FidelityNote::emulated("response_format"),
            None => FidelityNote::new("response_format"),
        },
    );
    emulated
}

/// Notes what the API has no word for.
fn note_unsaid(request: &InferenceRequest, notes: &mut Vec<FidelityNote>) {
    let unsaid = [
        ("n", request.n.is_some_and(|n| n > 1)),
        ("seed", request.seed.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("logprobs", request.logprobs == Some(true)),
        ("top_logprobs", request.top_logprobs.is_some()),
        ("metadata", request.metadata.is_some() && request.origin != Some(Dialect::Anthropic)),
        ("service_tier", tier(request).is_none() && request.service_tier.is_some()),
        ("tool_choice", matches!(request.tool_choice, Some(ToolChoice::Other(_)))),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false) && !has_tools(request)),
        ("messages.name", request.messages.iter().any(|message| message.name.is_some())),
    ];
    let unsaid = unsaid.into_iter().filter(|(_, lost)| *lost).map(|(name, _)| name);
    unsaid.for_each(|name| note(notes, FidelityNote::new(name)));
    for tool in request.hosted_tools.iter().filter(|tool| tool.maker != Dialect::Anthropic) {
        note(notes, FidelityNote::new(format!("tools.{}", tool.kind)));
    }
}

fn has_tools(request: &InferenceRequest) -> bool {
    !request.tools.is_empty() || request.hosted_tools.iter().any(|tool| tool.maker == Dialect::Anthropic)
}

/// Whom the request is for, and what else a client of this dialect said there.
fn metadata(request: &InferenceRequest) -> Option<Extra> {
    let own = request.metadata.as_ref().filter(|_| request.origin == Some(Dialect::Anthropic));
    let mut fields =
        own.and_then(|json| Object::parse("", json.get()).ok()).map(Object::rest).unwrap_or_default();
    if let Some(user) = request.user.as_ref().and_then(|user| RawJson::from_value(user).ok()) {
        fields.insert("user_id", user);
    }
    (!fields.is_empty()).then_some(fields)
}

fn tier(request: &InferenceRequest) -> Option<&'static str> {
    match request.service_tier.as_deref()? {
        "auto" => Some("auto"),
        "default" => Some("standard_only"),
        _ => None,
    }
}

// --- turns ---

/// One turn as the API wants them: neighbours of one role are one.
struct Turn<'a> {
    role: &'static str,
    pieces: Vec<Cow<'a, Part>>,
}

/// The instructions before the conversation, and its turns.
fn turns<'a>(
    conversation: &'a [Cow<'a, Message>],
    version: Version,
    notes: &mut Vec<FidelityNote>,
) -> (Vec<&'a Part>, Vec<Turn<'a>>) {
    let is_system = |message: &&Cow<'_, Message>| matches!(message.role, Role::System | Role::Developer);
    let leading = conversation.iter().take_while(is_system).count();
    let mut system = Vec::new();
    for (index, message) in conversation[..leading].iter().enumerate() {
        for part in &message.parts {
            match lost(part) {
                Some(kind) => note(notes, FidelityNote::new(format!("messages[{index}].content.{kind}"))),
                None if is_said(part) => system.push(part),
                None => {}
            }
        }
    }
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (index, message) in conversation.iter().enumerate().skip(leading) {
        let role = match message.role {
            Role::Assistant => "assistant",
            Role::User | Role::Tool => "user",
            Role::System | Role::Developer if version.takes_system_turns() => "system",
            // As the user's words in the place where they were said.
            Role::System | Role::Developer => {
                note(notes, FidelityNote::emulated(format!("messages[{index}].role")));
                "user"
            }
        };
        let pieces = pieces(message, index, notes);
        match turns.last_mut().filter(|turn| turn.role == role) {
            Some(turn) => turn.pieces.extend(pieces),
            None => turns.push(Turn { role, pieces }),
        }
    }
    turns.retain(|turn| !turn.pieces.is_empty());
    for turn in turns.iter_mut().filter(|turn| turn.role == "user") {
        // Results answer the calls of the turn before, so they come first.
        turn.pieces.sort_by_key(|part| !matches!(part.kind, PartKind::ToolResult(_)));
    }
    if turns.first().is_none_or(|turn| turn.role == "assistant") {
        note(notes, FidelityNote::emulated("messages"));
        turns.insert(0, Turn { role: "user", pieces: vec![Cow::Owned(Part::text(OPENING))] });
    }
    trim_prefill(&mut turns);
    (system, turns)
}

/// The pieces of a message that can be said, with signatures of other makers left out.
fn pieces<'a>(message: &'a Message, index: usize, notes: &mut Vec<FidelityNote>) -> Vec<Cow<'a, Part>> {
    let mut pieces = Vec::with_capacity(message.parts.len());
    for part in &message.parts {
        if let Some(kind) = lost(part) {
            note(notes, FidelityNote::new(format!("messages[{index}].content.{kind}")));
            continue;
        }
        if let PartKind::ToolResult(result) = &part.kind {
            let unsaid = result.content.iter().filter_map(lost);
            unsaid.for_each(|kind| {
                note(notes, FidelityNote::new(format!("messages[{index}].content.{kind}")));
            });
        }
        if let PartKind::ToolCall(call) = &part.kind
            && Arguments(&call.arguments).is_wrapped()
        {
            note(notes, FidelityNote::emulated(format!("messages[{index}].tool_calls")));
        }
        let signed_elsewhere =
            part.signature.as_ref().is_some_and(|signature| signature.maker != Dialect::Anthropic);
        match &part.kind {
            PartKind::Redacted if signed_elsewhere => {}
            // Thinking that is not Anthropic's own is refused for its signature.
            PartKind::Reasoning(text) if part.signature.is_none() || signed_elsewhere => {
                let is_shown = !text.is_empty();
                is_shown.then(|| note(notes, FidelityNote::new("messages.reasoning")));
            }
            _ if signed_elsewhere => pieces.push(Cow::Owned(Part { signature: None, ..part.clone() })),
            _ if is_said(part) => pieces.push(Cow::Borrowed(part)),
            _ => {}
        }
    }
    pieces
}

/// Empty text is refused by the API.
fn is_said(part: &Part) -> bool {
    !matches!(&part.kind, PartKind::Text(text) | PartKind::Refusal(text) if text.is_empty())
}

/// A last turn of the model's is what its answer begins with; it may not end in white space.
fn trim_prefill(turns: &mut [Turn<'_>]) {
    let Some(turn) = turns.last_mut().filter(|turn| turn.role == "assistant") else { return };
    if let Some(last) = turn.pieces.last_mut()
        && let PartKind::Text(text) = &last.kind
        && text.ends_with(char::is_whitespace)
    {
        let trimmed = PartKind::Text(text.trim_end().to_owned());
        *last = Cow::Owned(Part { kind: trimmed, ..(**last).clone() });
    }
}

// --- thinking and sampling ---

/// Whether a model that is given a budget may think on. What it said since the last prompt, calls and their results
/// included, is one turn to the API, which refuses to think in it unless it began with thinking, signed; where it did not,
/// because a client kept no signature or another model made it, what thinking there is goes out of it. Source:
/// docs.anthropic.com/en/docs/build-with-claude/extended-thinking (toggling thinking modes in conversations), read
/// 2026-11-24; models that think adaptively have no such rule.
fn may_think_on(turns: &mut [Turn<'_>]) -> bool {
    let is_thinking = |part: &Cow<'_, Part>| matches!(part.kind, PartKind::Reasoning(_) | PartKind::Redacted);
    let is_prompt = |turn: &Turn<'_>| {
        turn.role != "assistant"
            && !turn.pieces.iter().any(|part| matches!(part.kind, PartKind::ToolResult(_)))
    };
    let begin = turns.iter().rposition(is_prompt).map_or(0, |prompt| prompt + 1);
    let said = &mut turns[begin..];
    let first = said.iter().find(|turn| turn.role == "assistant").and_then(|turn| turn.pieces.first());
    let may = first.is_none_or(is_thinking);
    if !may {
        said.iter_mut().for_each(|turn| turn.pieces.retain(|part| !is_thinking(part)));
    }
    may
}

/// How the model is told to think.
struct Thinking {
    mode: Option<Mode>,
    effort: Option<&'static str>,
    max_tokens: u64,
}

enum Mode {
    Disabled,
    Budget(u64),
    Adaptive { display: Option<&'static str> },
}

impl Thinking {
    fn of(
        request: &InferenceRequest,
        model: &str,
        version: Version,
        turns: &mut [Turn<'_>],
        notes: &mut Vec<FidelityNote>,
    ) -> Self {
        let max_tokens = request.max_tokens.unwrap_or_else(|| default_max_tokens(model));
        let plain = |mode| Self { mode, effort: None, max_tokens };
        let asked = request.effort().is_some() || request.show_reasoning == Some(true);
        if !asked {
            return plain(None);
        }
        let field = if request.reasoning_effort.is_some() { "reasoning_effort" } else { "reasoning" };
        let is_forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool(_)));
        match request.effort() {
            Some("none") => return plain(version.thinks().then_some(Mode::Disabled)),
            _ if !version.thinks() || is_forced => {
                // A tool that must be called leaves no room to think, by the API's own rule.
                note(notes, FidelityNote::new(field));
                return plain(None);
            }
            _ => {}
        }
        if version.thinks_adaptively() {
            let display = request.show_reasoning.map(|shown| if shown { "summarized" } else { "omitted" });
            let effort = match request.effort() {
                Some("minimal" | "low") => Some("low"),
                Some("medium") => Some("medium"),
                Some("high") => Some("high"),
                Some("xhigh") => Some("xhigh"),
                Some("max") => Some("max"),
                _ => None,
            };
            if request.effort() == Some("minimal") || request.reasoning_budget.is_some() {
                note(notes, FidelityNote::emulated(field));
            }
            return Self { mode: Some(Mode::Adaptive { display }), effort, max_tokens };
        }
        if !may_think_on(turns) {
            note(notes, FidelityNote::new(field));
            return plain(None);
        }
        let wanted =
            request.thinking_budget().unwrap_or(BUDGET_MIN).clamp(BUDGET_MIN, default_max_tokens(model));
        if request.reasoning_budget.is_none() {
            note(notes, FidelityNote::emulated(field));
        }
        match request.max_tokens {
            // The budget is part of the tokens to generate, so there must be more of those.
            Some(most) if most <= BUDGET_MIN => {
                note(notes, FidelityNote::new(field));
                plain(None)
            }
            Some(most) => plain(Some(Mode::Budget(wanted.min(most - 1)))),
            None => Self {
                mode: Some(Mode::Budget(wanted)),
                effort: None,
                max_tokens: max_tokens.max(wanted + MAX_TOKENS_UNKNOWN),
            },
        }
    }

    fn is_on(&self) -> bool {
        matches!(self.mode, Some(Mode::Budget(_) | Mode::Adaptive { .. }))
    }
}

fn default_max_tokens(model: &str) -> u64 {
    let known = Catalog::builtin().find("anthropic", model).and_then(|known| known.output_max);
    known.map_or(MAX_TOKENS_UNKNOWN, |most| most.min(MAX_TOKENS_DEFAULT))
}

/// The sampling that the model takes: less while it thinks, less the newer it is.
struct Sampling<'a> {
    temperature: Option<Cow<'a, JsonNumber>>,
    top_p: Option<&'a JsonNumber>,
    top_k: Option<&'a JsonNumber>,
}

impl<'a> Sampling<'a> {
    fn of(
        request: &'a InferenceRequest,
        version: Version,
        thinking: &Thinking,
        notes: &mut Vec<FidelityNote>,
    ) -> Self {
        let mut unless = |refused: bool, name: &str, value: Option<&'a JsonNumber>| {
            let value = value?;
            if refused {
                note(notes, FidelityNote::new(name));
                return None;
            }
            Some(value)
        };
        let never = version.refuses_sampling();
        let temperature = unless(never || thinking.is_on(), "temperature", request.temperature.as_ref());
        let one_only = version.wants_one_of_temperature_and_top_p() && temperature.is_some();
        let top_p = unless(never || thinking.is_on() || one_only, "top_p", request.top_p.as_ref());
        let top_k = unless(never || thinking.is_on(), "top_k", request.top_k.as_ref());
        let temperature = temperature.map(|number| {
            // Elsewhere it goes up to 2.
            if number.as_f64() > 1.0 {
                note(notes, FidelityNote::emulated("temperature"));
                return Cow::Owned(1_u64.into());
            }
            Cow::Borrowed(number)
        });
        Self { temperature, top_p, top_k }
    }
}

// --- the body ---

struct RequestBody<'a> {
    request: &'a InferenceRequest,
    target: Target<'a>,
    system: Vec<&'a Part>,
    turns: &'a [Turn<'a>],
    thinking: Thinking,
    sampling: Sampling<'a>,
    version: Version,
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.target.model)?;
        map.serialize_entry("max_tokens", &self.thinking.max_tokens)?;
        if !self.system.is_empty() {
            map.serialize_entry("system", &Content(&self.system))?;
        }
        map.serialize_entry("messages", &List(self.turns))?;
        if has_tools(request) {
            map.serialize_entry("tools", &Tools(request))?;
            write_tool_choice(request, &mut map)?;
        }
        if !request.stop.is_empty() {
            map.serialize_entry("stop_sequences", &request.stop)?;
        }
        entry(&mut map, "temperature", &self.sampling.temperature)?;
        entry(&mut map, "top_p", &self.sampling.top_p)?;
        entry(&mut map, "top_k", &self.sampling.top_k)?;
        self.write_thinking(&mut map)?;
        if let Some(metadata) = metadata(request) {
            map.serialize_entry("metadata", &metadata)?;
        }
        entry(&mut map, "service_tier", &tier(request))?;
        if self.target.stream {
            map.serialize_entry("stream", &true)?;
        }
        nested::write_others(&request.extra, &["output_config", "thinking"], &mut map)?;
        map.end()
    }
}

impl RequestBody<'_> {
    fn write_thinking<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            budget_tokens: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            display: Option<&'static str>,
            #[serde(flatten)]
            rest: Kept<'a>,
        }
        #[derive(Serialize)]
        struct Config<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            effort: Option<&'static str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            format: Option<Format<'a>>,
            #[serde(flatten)]
            rest: Kept<'a>,
        }
        #[derive(Serialize)]
        struct Format<'a> {
            r#type: &'static str,
            schema: &'a RawJson,
        }
        let extra = &self.request.extra;
        let body = |r#type, budget_tokens, display| Body {
            r#type,
            budget_tokens,
            display,
            rest: Kept(extra, "thinking"),
        };
        let thinking = self.thinking.mode.as_ref().map(|mode| match mode {
            Mode::Disabled => body("disabled", None, None),
            Mode::Budget(tokens) => body("enabled", Some(*tokens), None),
            Mode::Adaptive { display } => body("adaptive", None, *display),
        });
        entry(map, "thinking", &thinking)?;
        let format = match &self.request.response_format {
            Some(ResponseFormat::JsonSchema { schema: Some(schema), .. }) if self.version.has_schemas() => {
                Some(Format { r#type: "json_schema", schema })
            }
            _ => None,
        };
        let (effort, rest) = (self.thinking.effort, Kept(extra, "output_config"));
        if effort.is_some() || format.is_some() || extra.get("output_config").is_some() {
            map.serialize_entry("output_config", &Config { effort, format, rest })?;
        }
        Ok(())
    }
}

/// Pieces as a string where one plain text is all, else as blocks.
struct Content<'a, P>(&'a [P]);

impl<P: std::ops::Deref<Target = Part>> Serialize for Content<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let [only] = self.0
            && let PartKind::Text(text) = &only.kind
            && only.cache.is_none()
            && only.citations.is_empty()
            && only.extra.is_empty()
        {
            return serializer.serialize_str(text);
        }
        serializer.collect_seq(self.0.iter().map(|part| Block(part)))
    }
}

impl Serialize for Turn<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", self.role)?;
        map.serialize_entry("content", &Content(&self.pieces))?;
        map.end()
    }
}

struct Tools<'a>(&'a InferenceRequest);

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Tool<'a> {
            Own(ToolBody<'a>),
            Hosted(&'a RawJson),
        }
        let own = self.0.tools.iter().map(|tool| Tool::Own(ToolBody(tool)));
        let hosted = self.0.hosted_tools.iter().filter(|tool| tool.maker == Dialect::Anthropic);
        serializer.collect_seq(own.chain(hosted.map(|tool| Tool::Hosted(&tool.json))))
    }
}

struct ToolBody<'a>(&'a ToolDefinition);

impl Serialize for ToolBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tool = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &tool.name)?;
        entry(&mut map, "description", &tool.description)?;
        match &tool.parameters {
            Some(schema) => map.serialize_entry("input_schema", schema)?,
            None => map.serialize_entry("input_schema", &no_arguments())?,
        }
        entry(&mut map, "strict", &tool.strict)?;
        if let Some(mark) = tool.cache {
            map.serialize_entry("cache_control", &CacheBody(mark))?;
        }
        tool.extra.write(&mut map)?;
        map.end()
    }
}

/// The schema of a tool that takes nothing, which must be said here.
fn no_arguments() -> Box<RawValue> {
    RawValue::from_string(r#"{"type":"object","properties":{}}"#.to_owned()).unwrap_or_default()
}

fn write_tool_choice<M: SerializeMap>(request: &InferenceRequest, map: &mut M) -> Result<(), M::Error> {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        disable_parallel_tool_use: Option<bool>,
    }
    let disable_parallel_tool_use = request.parallel_tool_calls.map(|parallel| !parallel);
    let (r#type, name) = match &request.tool_choice {
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Tool(name)) => ("tool", Some(name.as_str())),
        Some(ToolChoice::None) => {
            return map.serialize_entry(
                "tool_choice",
                &Body { r#type: "none", name: None, disable_parallel_tool_use: None },
            );
        }
        Some(ToolChoice::Auto) => ("auto", None),
        None | Some(ToolChoice::Other(_)) if disable_parallel_tool_use == Some(true) => ("auto", None),
        None | Some(ToolChoice::Other(_)) => return Ok(()),
    };
    map.serialize_entry("tool_choice", &Body { r#type, name, disable_parallel_tool_use })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Quirks;
    use crate::request::Signature;
    use crate::tool::{ToolCall, ToolResult};

    fn encode_for(model: &str, request: &InferenceRequest) -> (serde_json::Value, Vec<String>) {
        let encoded = encode(request, Target { model, stream: false, quirks: Quirks::NONE });
        let notes = encoded.notes.iter().map(ToString::to_string).collect();
        (serde_json::from_slice(&encoded.body).unwrap(), notes)
    }

    fn user(text: &str) -> InferenceRequest {
        InferenceRequest { messages: vec![Message::user(text)], ..Default::default() }
    }

    #[test]
    fn turns_alternate_and_results_come_first() {
        let call =
            ToolCall { id: "t".into(), name: "f".into(), arguments: "not json".into(), ..Default::default() };
        let request = InferenceRequest {
            system: Some("sys".into()),
            messages: vec![
                Message::new(Role::Assistant, vec![PartKind::ToolCall(call).into()]),
                Message::user("and"),
                Message::tool("t", "42"),
                Message::text(Role::Developer, "rhyme"),
                Message::assistant("so: \n"),
            ],
            ..Default::default()
        };
        let (body, notes) = encode_for("claude-sonnet-4-5", &request);
        assert_eq!(body["system"], "sys");
        let roles: Vec<_> = body["messages"].as_array().unwrap().iter().map(|turn| &turn["role"]).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
        assert_eq!(body["messages"][1]["content"][0]["input"], serde_json::json!({"arguments": "not json"}));
        assert_eq!(body["messages"][2]["content"][0]["type"], "tool_result");
        assert_eq!(body["messages"][2]["content"][2]["text"], "rhyme");
        assert_eq!(body["messages"][3]["content"], "so:");
        assert_eq!(
            notes,
            ["messages[1].tool_calls (emulated)", "messages[4].role (emulated)", "messages (emulated)"]
        );

        let (body, notes) = encode_for("claude-opus-4-8", &request);
        assert_eq!((&body["messages"][3]["role"], notes.len()), (&"system".into(), 2));
    }

    #[track_caller]
    fn check_thinking(
        model: &str,
        change: fn(&mut InferenceRequest),
        expected: serde_json::Value,
        notes: &[&str],
    ) {
        let mut request = user("x");
        change(&mut request);
        let (body, noted) = encode_for(model, &request);
        let said = serde_json::json!([body["thinking"], body["output_config"]["effort"], body["max_tokens"]]);
        assert_eq!(
            (said, noted),
            (expected, notes.iter().map(|note| (*note).to_owned()).collect()),
            "{model}"
        );
    }

    #[test]
    fn thinking_depends_on_the_model() {
        let high = |request: &mut InferenceRequest| request.reasoning_effort = Some("high".into());
        let budget = serde_json::json!({"type": "enabled", "budget_tokens": 24_576});
        check_thinking(
            "claude-sonnet-4-5",
            high,
            serde_json::json!([budget, null, 32_000]),
            &["reasoning_effort (emulated)"],
        );
        check_thinking(
            "claude-opus-4-6",
            high,
            serde_json::json!([{"type": "adaptive"}, "high", 32_000]),
            &[],
        );
        check_thinking(
            "claude-3-haiku-20240307",
            high,
            serde_json::json!([null, null, 4096]),
            &["reasoning_effort"],
        );
        let off = |request: &mut InferenceRequest| request.reasoning_effort = Some("none".into());
        check_thinking(
            "claude-sonnet-4-5",
            off,
            serde_json::json!([{"type": "disabled"}, null, 32_000]),
            &[],
        );
        let tight = |request: &mut InferenceRequest| {
            (request.reasoning_budget, request.max_tokens) = (Some(9_000), Some(3_000));
        };
        let capped = serde_json::json!({"type": "enabled", "budget_tokens": 2_999});
        check_thinking("claude-sonnet-4-5", tight, serde_json::json!([capped, null, 3_000]), &[]);
        let tiny = |request: &mut InferenceRequest| {
            (request.reasoning_budget, request.max_tokens) = (Some(9_000), Some(100));
        };
        check_thinking("claude-sonnet-4-5", tiny, serde_json::json!([null, null, 100]), &["reasoning"]);
    }

    #[test]
    fn it_thinks_on_only_where_it_began_so() {
        let call = |id: &str| {
            let call = ToolCall { id: id.into(), name: "f".into(), ..Default::default() };
            Part::from(PartKind::ToolCall(call))
        };
        let signature = Some(Signature { maker: Dialect::Anthropic, value: "s".into() });
        let thought = Part { signature, ..PartKind::Reasoning("hm".into()).into() };
        let mut request = InferenceRequest {
            messages: vec![
                Message::user("x"),
                Message::new(Role::Assistant, vec![call("a")]),
                Message::tool("a", "1"),
                Message::new(Role::Assistant, vec![thought.clone(), call("b")]),
                Message::tool("b", "2"),
            ],
            reasoning_budget: Some(2000),
            ..Default::default()
        };
        let (body, notes) = encode_for("claude-sonnet-4-5", &request);
        assert_eq!(
            (&body["thinking"], &body["messages"][3]["content"][0]["type"]),
            (&().into(), &"tool_use".into())
        );
        assert_eq!(notes, ["reasoning"]);
        let (body, _) = encode_for("claude-opus-4-6", &request);
        assert_eq!(body["thinking"]["type"], "adaptive");

        // It need not think again between its calls.
        request.messages[1].parts.insert(0, thought);
        request.messages[3].parts.remove(0);
        let (body, notes) = encode_for("claude-sonnet-4-5", &request);
        assert_eq!((&body["thinking"]["type"], notes), (&"enabled".into(), vec![]));
    }

    #[test]
    fn sampling_is_what_the_model_takes() {
        let request = InferenceRequest {
            temperature: Some(1.5.into()),
            top_p: Some(0.5.into()),
            top_k: Some(4_u64.into()),
            ..user("x")
        };
        let (body, notes) = encode_for("claude-sonnet-4-5", &request);
        assert_eq!(
            (&body["temperature"], &body["top_p"], &body["top_k"]),
            (&1.into(), &().into(), &4.into())
        );
        assert_eq!(notes, ["top_p", "temperature (emulated)"]);
        let (body, notes) = encode_for("claude-opus-4-7", &request);
        assert!(body["temperature"].is_null() && body["top_k"].is_null());
        assert_eq!(notes, ["temperature", "top_p", "top_k"]);
    }

    #[test]
    fn the_shape_of_an_answer_is_native_or_a_tool() {
        let schema = RawJson::parse(r#"{"type":"object"}"#).ok();
        let format =
            ResponseFormat::JsonSchema { name: "a".into(), schema, strict: None, extra: Default::default() };
        let request = InferenceRequest { response_format: Some(format), ..user("x") };
        let (body, notes) = encode_for("claude-sonnet-4-5", &request);
        assert_eq!(body["output_config"]["format"]["type"], "json_schema");
        assert!(notes.is_empty());
        let (body, notes) = encode_for("claude-3-7-sonnet-latest", &request);
        assert_eq!(
            body["tool_choice"],
            serde_json::json!({"type": "tool", "name": ANSWER_TOOL, "disable_parallel_tool_use": true})
        );
        assert_eq!(notes, ["response_format (emulated)"]);
    }

    #[test]
    fn what_the_api_has_no_word_for_is_noted() {
        let mut extra = crate::json::Extra::default();
        extra.insert("logit_bias", RawJson::parse("1").unwrap());
        extra.insert("prediction", RawJson::parse("null").unwrap());
        let request = InferenceRequest {
            n: Some(2),
            seed: Some(1_u64.into()),
            extra,
            origin: Some(Dialect::OpenAiChat),
            ..user("x")
        };
        let (body, notes) = encode_for("claude-sonnet-4-5", &request);
        assert!(body["logit_bias"].is_null());
        assert_eq!(notes, ["logit_bias", "n", "seed"]);
    }

    #[test]
    fn only_its_own_signatures_go_back() {
        let sign = |maker, kind: PartKind| {
            let signature = Some(Signature { maker, value: "s".into() });
            Part { signature, ..kind.into() }
        };
        let own = sign(Dialect::Anthropic, PartKind::Reasoning("mine".into()));
        let foreign = sign(Dialect::Gemini, PartKind::Reasoning("theirs".into()));
        let call = sign(
            Dialect::Gemini,
            PartKind::ToolCall(ToolCall { id: "t".into(), name: "f".into(), ..Default::default() }),
        );
        let result = ToolResult { call_id: "t".into(), content: vec![], is_error: false };
        let request = InferenceRequest {
            messages: vec![
                Message::user("x"),
                Message::new(Role::Assistant, vec![own, foreign, call]),
                Message::new(Role::Tool, vec![PartKind::ToolResult(result).into()]),
            ],
            ..Default::default()
        };
        let (body, notes) = encode_for("claude-sonnet-4-5", &request);
        assert_eq!(
            body["messages"][1]["content"],
            serde_json::json!([{"type": "thinking", "thinking": "mine", "signature": "s"},
                               {"type": "tool_use", "id": "t", "name": "f", "input": {}}])
        );
        assert_eq!(notes, ["messages.reasoning"]);
    }
}
