//! Requests: read from clients, written for providers.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::dialect::openai::request::{entry, shared_fields, write_shared_fields};
use crate::dialect::openai::{List, write_json};
use crate::dialect::{Dialect, Encoded, Target};
use crate::error::InvalidRequest;
use crate::failure::FidelityNote;
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::request::{
    InferenceRequest, MediaSource, Message, Part, PartKind, ResponseFormat, Role, joined_text,
};
use crate::tool::{ToolCall, ToolChoice, ToolDefinition, ToolResult};

// --- reading ---

pub(super) fn decode(body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    let text = std::str::from_utf8(body).map_err(|_| InvalidRequest::new("", "the body is not UTF-8"))?;
    let mut object = Object::parse("", text)?;
    let mut request = InferenceRequest {
        model: object.require("model")?,
        messages: object.take_objects("messages")?.into_iter().map(message).collect::<Result<_, _>>()?,
        tools: object.take_objects("tools")?.into_iter().map(tool).collect::<Result<_, _>>()?,
        tool_choice: object.take_raw("tool_choice").map(tool_choice),
        parallel_tool_calls: object.take("parallel_tool_calls")?,
        response_format: response_format(&mut object)?,
        reasoning_effort: object.take("reasoning_effort")?,
        logprobs: object.take("logprobs")?,
        top_logprobs: object.take("top_logprobs")?,
        ..InferenceRequest::default()
    };
    shared_fields(&mut object, &mut request)?;
    request.extra = object.rest();
    request.origin = Some(Dialect::OpenAiChat);
    Ok(request)
}

fn message(mut object: Object<'_>) -> Result<Message, FieldError> {
    let word: String = object.require("role")?;
    let role = Role::parse(&word).ok_or_else(|| {
        object.wrong("role", format!("`{word}` is none of system, developer, user, assistant, tool"))
    })?;
    let content = parts(&mut object, "content")?;
    let parts = match role {
        Role::Tool => {
            let call_id = object.require("tool_call_id")?;
            vec![PartKind::ToolResult(ToolResult { call_id, content, is_error: false }).into()]
        }
        Role::Assistant => assistant_parts(&mut object, content)?,
        Role::System | Role::Developer | Role::User => content,
    };
    Ok(Message { role, parts, name: object.take("name")?, extra: object.rest() })
}

/// What an assistant says, in a request as well as in an answer: reasoning, content, refusal, tool calls.
pub(super) fn assistant_parts(object: &mut Object<'_>, content: Vec<Part>) -> Result<Vec<Part>, FieldError> {
    let mut parts = Vec::with_capacity(content.len() + 1);
    // DeepSeek, llama.cpp and others say `reasoning_content`; Groq, OpenRouter and vLLM say `reasoning`.
    let reasoning: Option<String> = match object.take("reasoning_content")? {
        Some(text) => Some(text),
        None => match object.take_raw("reasoning") {
            Some(raw) => serde_json::from_str(raw.get()).ok(),
            None => None,
        },
    };
    parts.extend(reasoning.filter(|text| !text.is_empty()).map(|text| PartKind::Reasoning(text).into()));
    parts.extend(content);
    parts.extend(object.take("refusal")?.map(|text| PartKind::Refusal(text).into()));
    for call in object.take_objects("tool_calls")? {
        parts.push(PartKind::ToolCall(tool_call(call)?).into());
    }
    Ok(parts)
}

fn tool_call(mut object: Object<'_>) -> Result<ToolCall, FieldError> {
    let id = object.take("id")?.unwrap_or_default();
    object.take_raw("type");
    object.take_raw("index");
    let mut function = object.take_object("function")?.ok_or_else(|| object.missing("function"))?;
    let name = function.require("name")?;
    let arguments = function.take_raw("arguments").map(arguments_text).unwrap_or_default();
    Ok(ToolCall { id, name, arguments, extra: object.rest() })
}

/// Arguments are a string of JSON; some servers send the JSON itself.
pub(super) fn arguments_text(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

/// Content as a string or a list of parts.
pub(super) fn parts(object: &mut Object<'_>, name: &str) -> Result<Vec<Part>, FieldError> {
    let path = object.path_of(name);
    let Some(raw) = object.take_raw(name) else { return Ok(Vec::new()) };
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get())
            .map_err(|error| object.wrong(name, crate::json::problem(&error)))?;
        return Ok(vec![Part::text(text)]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| object.wrong(name, "expected a string or a list of parts"))?;
    items.into_iter().enumerate().map(|(index, raw)| part(&format!("{path}[{index}]"), raw)).collect()
}

fn part(path: &str, raw: &RawValue) -> Result<Part, FieldError> {
    let mut object = Object::parse(path, raw.get())?;
    let word: String = object.require("type")?;
    let kind = match word.as_str() {
        "text" => PartKind::Text(object.require("text")?),
        "refusal" => PartKind::Refusal(object.require("refusal")?),
        "image_url" => {
            let mut image = object.take_object("image_url")?.ok_or_else(|| object.missing("image_url"))?;
            PartKind::Image { source: media_source(image.require("url")?), detail: image.take("detail")? }
        }
        "input_audio" => {
            let mut audio =
                object.take_object("input_audio")?.ok_or_else(|| object.missing("input_audio"))?;
            PartKind::Audio { data: audio.require("data")?, format: audio.require("format")? }
        }
        "file" => {
            let mut file = object.take_object("file")?.ok_or_else(|| object.missing("file"))?;
            let source = match (file.take::<String>("file_id")?, file.take::<String>("file_data")?) {
                (Some(id), _) => MediaSource::FileId(id),
                (None, Some(data)) => media_source(data),
                (None, None) => return Err(file.missing("file_data")),
            };
            PartKind::File { source, filename: file.take("filename")? }
        }
        // Mistral's form of reasoning: a list of text parts under `thinking`.
        "thinking" => PartKind::Reasoning(joined_text(&parts(&mut object, "thinking")?)),
        _ => return Ok(PartKind::Other { kind: word, json: raw.into() }.into()),
    };
    Ok(Part { kind, extra: object.rest() })
}

/// A URL, or the bytes in it if it is a `data:` URL of base64.
fn media_source(url: String) -> MediaSource {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media_type, data)) => {
            MediaSource::Base64 { media_type: media_type.to_owned(), data: data.to_owned() }
        }
        None => MediaSource::Url(url),
    }
}

fn tool(mut object: Object<'_>) -> Result<ToolDefinition, FieldError> {
    let word: Option<String> = object.take("type")?;
    if let Some(word) = word.filter(|word| word != "function") {
        return Err(
            object.wrong("type", format!("tools of type `{word}` only work with a provider of this dialect"))
        );
    }
    let mut function = object.take_object("function")?.ok_or_else(|| object.missing("function"))?;
    Ok(ToolDefinition {
        name: function.require("name")?,
        description: function.take("description")?,
        parameters: function.take_raw("parameters").map(RawJson::from),
        strict: function.take("strict")?,
        extra: object.rest(),
    })
}

fn tool_choice(raw: &RawValue) -> ToolChoice {
    #[derive(serde::Deserialize)]
    struct Named {
        function: Name,
    }
    #[derive(serde::Deserialize)]
    struct Name {
        name: String,
    }
    match raw.get() {
        r#""auto""# => ToolChoice::Auto,
        r#""none""# => ToolChoice::None,
        r#""required""# | r#""any""# => ToolChoice::Required,
        other => match serde_json::from_str::<Named>(other) {
            Ok(named) => ToolChoice::Tool(named.function.name),
            Err(_) => ToolChoice::Other(raw.into()),
        },
    }
}

fn response_format(object: &mut Object<'_>) -> Result<Option<ResponseFormat>, FieldError> {
    let path = object.path_of("response_format");
    let Some(raw) = object.take_raw("response_format") else { return Ok(None) };
    let mut format = Object::parse(path, raw.get())?;
    let word: String = format.require("type")?;
    Ok(Some(match word.as_str() {
        "text" => ResponseFormat::Text,
        // llama.cpp takes a `schema` beside this type, so only the bare form is the bare form.
        "json_object" if format.take_raw("schema").is_none() => ResponseFormat::JsonObject,
        "json_schema" => {
            let mut schema =
                format.take_object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
            ResponseFormat::JsonSchema {
                name: schema.take("name")?.unwrap_or_else(|| "answer".to_owned()),
                schema: schema.take_raw("schema").map(RawJson::from),
                strict: schema.take("strict")?,
                extra: schema.rest(),
            }
        }
        _ => ResponseFormat::Other(raw.into()),
    }))
}

// --- writing ---

/// Fields of legacy completions that chat has no word for.
const COMPLETIONS_ONLY: &[&str] = &["best_of", "echo", "logprobs", "suffix"];

pub(super) fn encode(request: &InferenceRequest, target: Target<'_>) -> Encoded {
    let conversation: Vec<_> = request.conversation().collect();
    let mut notes = Vec::new();
    for (index, message) in conversation.iter().enumerate() {
        note_media_in_results(index, message, &mut notes);
    }
    if request.origin == Some(Dialect::OpenAiCompletions) {
        let lost = request.extra.iter().filter(|(name, _)| COMPLETIONS_ONLY.contains(name));
        notes.extend(lost.map(|(name, _)| FidelityNote::new(name)));
    }
    let mut body = Vec::with_capacity(1024);
    write_json(&RequestBody { request, target, conversation: &conversation }, &mut body);
    Encoded { body, notes }
}

/// A tool's result is text in this dialect.
fn note_media_in_results(index: usize, message: &Message, notes: &mut Vec<FidelityNote>) {
    for part in &message.parts {
        let PartKind::ToolResult(result) = &part.kind else { continue };
        if result.content.iter().any(|part| !matches!(part.kind, PartKind::Text(_))) {
            notes.push(FidelityNote::new(format!("messages[{index}].content")));
        }
        if result.is_error {
            notes.push(FidelityNote::new(format!("messages[{index}].is_error")));
        }
    }
}

struct RequestBody<'a> {
    request: &'a InferenceRequest,
    target: Target<'a>,
    conversation: &'a [std::borrow::Cow<'a, Message>],
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.target.model)?;
        map.serialize_entry("messages", &List(self.conversation.iter().flat_map(|message| turns(message))))?;
        if !request.tools.is_empty() {
            map.serialize_entry("tools", &List(request.tools.iter().map(ToolBody)))?;
        }
        if let Some(choice) = &request.tool_choice {
            map.serialize_entry("tool_choice", &ToolChoiceBody(choice))?;
        }
        if let Some(format) = &request.response_format {
            map.serialize_entry("response_format", &FormatBody(format))?;
        }
        entry(&mut map, "parallel_tool_calls", &request.parallel_tool_calls)?;
        entry(&mut map, "reasoning_effort", &request.reasoning_effort)?;
        entry(&mut map, "logprobs", &request.logprobs)?;
        entry(&mut map, "top_logprobs", &request.top_logprobs)?;
        let max_tokens =
            if self.target.quirks.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        entry(&mut map, max_tokens, &request.max_tokens)?;
        write_shared_fields(request, self.target, &mut map)?;
        let from_completions = request.origin == Some(Dialect::OpenAiCompletions);
        for (name, value) in request.extra.iter() {
            if !(from_completions && COMPLETIONS_ONLY.contains(&name)) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// One message as this dialect has it. Other dialects put several tool results, or results and text, into one turn.
#[derive(Clone)]
struct Turn<'a> {
    role: Role,
    message: &'a Message,
    /// Set for a turn that is one tool's result.
    result: Option<&'a ToolResult>,
}

fn turns(message: &Message) -> impl Iterator<Item = Turn<'_>> + Clone {
    let results = message.parts.iter().filter_map(|part| match &part.kind {
        PartKind::ToolResult(result) => Some(result),
        _ => None,
    });
    let results = results.map(move |result| Turn { role: Role::Tool, message, result: Some(result) });
    let has_rest = message.role != Role::Tool
        && (message.parts.is_empty()
            || message.parts.iter().any(|part| !matches!(part.kind, PartKind::ToolResult(_))));
    results.chain(has_rest.then_some(Turn { role: message.role, message, result: None }))
}

impl Serialize for Turn<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", self.role.as_str())?;
        match self.result {
            Some(result) => {
                map.serialize_entry("tool_call_id", &result.call_id)?;
                map.serialize_entry("content", &joined_text(&result.content))?;
            }
            None => write_message_fields(&self.message.parts, &mut map)?,
        }
        entry(&mut map, "name", &self.message.name)?;
        self.message.extra.write(&mut map)?;
        map.end()
    }
}

/// Content, refusal, reasoning and tool calls, in a request's message as well as in an answer's.
pub(super) fn write_message_fields<M: SerializeMap>(parts: &[Part], map: &mut M) -> Result<(), M::Error> {
    let is_content = |part: &&Part| {
        !matches!(
            part.kind,
            PartKind::ToolCall(_) | PartKind::ToolResult(_) | PartKind::Reasoning(_) | PartKind::Refusal(_)
        )
    };
    let content = parts.iter().filter(is_content);
    let plain = content.clone().all(|part| matches!(part.kind, PartKind::Text(_)) && part.extra.is_empty());
    match (content.clone().next(), plain) {
        (None, _) => map.serialize_entry("content", &())?,
        (Some(_), true) => map.serialize_entry("content", &joined_text(parts))?,
        (Some(_), false) => map.serialize_entry("content", &List(content.map(PartBody)))?,
    }
    let text_of = |wanted: fn(&PartKind) -> Option<&str>| -> Option<String> {
        let texts: Vec<&str> = parts.iter().filter_map(|part| wanted(&part.kind)).collect();
        (!texts.is_empty()).then(|| texts.concat())
    };
    let refusal = text_of(|kind| match kind {
        PartKind::Refusal(text) => Some(text),
        _ => None,
    });
    let reasoning = text_of(|kind| match kind {
        PartKind::Reasoning(text) => Some(text),
        _ => None,
    });
    entry(map, "refusal", &refusal)?;
    entry(map, "reasoning_content", &reasoning)?;
    let calls = parts.iter().filter_map(|part| match &part.kind {
        PartKind::ToolCall(call) => Some(CallBody(call)),
        _ => None,
    });
    if calls.clone().next().is_some() {
        map.serialize_entry("tool_calls", &List(calls))?;
    }
    Ok(())
}

#[derive(Clone)]
struct CallBody<'a>(&'a ToolCall);

impl Serialize for CallBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Function<'a> {
            name: &'a str,
            arguments: &'a str,
        }
        let call = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &call.id)?;
        map.serialize_entry("type", "function")?;
        map.serialize_entry("function", &Function { name: &call.name, arguments: &call.arguments })?;
        call.extra.write(&mut map)?;
        map.end()
    }
}

#[derive(Clone)]
struct PartBody<'a>(&'a Part);

impl Serialize for PartBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = self.0;
        if let PartKind::Other { json, .. } = &part.kind {
            return json.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match &part.kind {
            PartKind::Text(text) => {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", text)?;
            }
            PartKind::Image { source, detail } => {
                map.serialize_entry("type", "image_url")?;
                let detail = detail.as_deref().map(|detail| ("detail", detail));
                map.serialize_entry("image_url", &Strings([Some(("url", &url_of(source))), detail, None]))?;
            }
            PartKind::Audio { data, format } => {
                map.serialize_entry("type", "input_audio")?;
                map.serialize_entry(
                    "input_audio",
                    &Strings([Some(("data", data)), Some(("format", format)), None]),
                )?;
            }
            PartKind::File { source, filename } => {
                map.serialize_entry("type", "file")?;
                let url = url_of(source);
                let place = match source {
                    MediaSource::FileId(id) => ("file_id", id.as_str()),
                    MediaSource::Url(_) | MediaSource::Base64 { .. } => ("file_data", url.as_str()),
                };
                let filename = filename.as_deref().map(|name| ("filename", name));
                map.serialize_entry("file", &Strings([Some(place), filename, None]))?;
            }
            // The caller sorts these out before.
            PartKind::Reasoning(_)
            | PartKind::Refusal(_)
            | PartKind::ToolCall(_)
            | PartKind::ToolResult(_)
            | PartKind::Other { .. } => {}
        }
        part.extra.write(&mut map)?;
        map.end()
    }
}

fn url_of(source: &MediaSource) -> String {
    match source {
        MediaSource::Url(url) => url.clone(),
        MediaSource::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        MediaSource::FileId(id) => id.clone(),
    }
}

/// An object of strings.
struct Strings<'a>([Option<(&'a str, &'a str)>; 3]);

impl Serialize for Strings<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().flatten().copied())
    }
}

#[derive(Clone)]
struct ToolBody<'a>(&'a ToolDefinition);

impl Serialize for ToolBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Function<'a> {
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            description: &'a Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            parameters: &'a Option<RawJson>,
            #[serde(skip_serializing_if = "Option::is_none")]
            strict: &'a Option<bool>,
        }
        let tool = self.0;
        let function = Function {
            name: &tool.name,
            description: &tool.description,
            parameters: &tool.parameters,
            strict: &tool.strict,
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "function")?;
        map.serialize_entry("function", &function)?;
        tool.extra.write(&mut map)?;
        map.end()
    }
}

struct ToolChoiceBody<'a>(&'a ToolChoice);

impl Serialize for ToolChoiceBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            r#type: &'static str,
            function: Name<'a>,
        }
        #[derive(Serialize)]
        struct Name<'a> {
            name: &'a str,
        }
        match self.0 {
            ToolChoice::Auto => serializer.serialize_str("auto"),
            ToolChoice::None => serializer.serialize_str("none"),
            ToolChoice::Required => serializer.serialize_str("required"),
            ToolChoice::Tool(name) => {
                Named { r#type: "function", function: Name { name } }.serialize(serializer)
            }
            ToolChoice::Other(json) => json.serialize(serializer),
        }
    }
}

struct FormatBody<'a>(&'a ResponseFormat);

impl Serialize for FormatBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Schema<'a>(&'a str, &'a Option<RawJson>, &'a Option<bool>, &'a Extra);
        impl Serialize for Schema<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("name", self.0)?;
                entry(&mut map, "schema", self.1)?;
                entry(&mut map, "strict", self.2)?;
                self.3.write(&mut map)?;
                map.end()
            }
        }
        let mut map = match self.0 {
            ResponseFormat::Other(json) => return json.serialize(serializer),
            _ => serializer.serialize_map(None)?,
        };
        match self.0 {
            ResponseFormat::Text | ResponseFormat::Other(_) => map.serialize_entry("type", "text")?,
            ResponseFormat::JsonObject => map.serialize_entry("type", "json_object")?,
            ResponseFormat::JsonSchema { name, schema, strict, extra } => {
                map.serialize_entry("type", "json_schema")?;
                map.serialize_entry("json_schema", &Schema(name, schema, strict, extra))?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Quirks;

    const TARGET: Target<'_> = Target { model: "m", stream: false, quirks: Quirks::NONE };

    /// Goal: reading and writing a request again keeps everything, unknown fields and digits too.
    #[track_caller]
    fn check_round_trip(body: &str) {
        let request = decode(body.as_bytes()).unwrap();
        let encoded = encode(&request, TARGET);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let written = String::from_utf8(encoded.body).unwrap();
        assert_eq!(value(&written), value(body));
        assert_eq!(encoded.notes, []);
        assert_eq!(decode(written.as_bytes()).unwrap(), request);
    }

    #[test]
    fn requests_survive_a_round_trip() {
        check_round_trip(
            r#"{"model":"m","messages":[
                {"role":"system","content":"be brief"},
                {"role":"user","content":[
                    {"type":"text","text":"what is this?","cache_control":{"type":"ephemeral"}},
                    {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},
                    {"type":"image_url","image_url":{"url":"https://x.test/a.png"}},
                    {"type":"input_audio","input_audio":{"data":"AA","format":"wav"}},
                    {"type":"file","file":{"file_data":"data:application/pdf;base64,BB","filename":"a.pdf"}},
                    {"type":"file","file":{"file_id":"file-1"}},
                    {"type":"video_url","video_url":{"url":"u"}}]},
                {"role":"assistant","content":null,"tool_calls":[
                    {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
                    {"id":"c2","type":"function","function":{"name":"g","arguments":""}}]},
                {"role":"tool","tool_call_id":"c1","content":"42"},
                {"role":"assistant","content":"done","refusal":"no","reasoning_content":"hm","annotations":[1.50]},
                {"role":"developer","content":"x","name":"dev"}],
              "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"n":{"maximum":12345678901234567890}}},"strict":true}}],
              "tool_choice":{"type":"function","function":{"name":"f"}},
              "parallel_tool_calls":false,"temperature":0.10,"top_p":1,"frequency_penalty":-0.5,"presence_penalty":2,
              "seed":9007199254740993,"n":2,"stop":["a","b"],"user":"u","max_tokens":7,"logprobs":true,"top_logprobs":3,
              "reasoning_effort":"low","logit_bias":{"50256":-100},"service_tier":"flex",
              "response_format":{"type":"json_schema","json_schema":{"name":"s","description":"d","schema":{"type":"object"},"strict":true}}}"#,
        );
    }

    #[test]
    fn small_forms_survive_too() {
        for field in [
            r#""tool_choice":"auto""#,
            r#""tool_choice":"none""#,
            r#""tool_choice":"required""#,
            r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}"#,
            r#""response_format":{"type":"text"}"#,
            r#""response_format":{"type":"json_object"}"#,
            r#""response_format":{"type":"json_object","schema":{"type":"object"}}"#,
        ] {
            check_round_trip(&format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{field}}}"#
            ));
        }
    }

    #[track_caller]
    fn check_error(body: &str, expected: &str) {
        assert_eq!(decode(body.as_bytes()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn wrong_fields_are_named() {
        check_error(
            r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"wizard","content":"a"}]}"#,
            "`messages[1].role`: `wizard` is none of system, developer, user, assistant, tool",
        );
        check_error(
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":7}]}]}"#,
            "`messages[0].content[0].text`: invalid type: integer `7`, expected a string",
        );
        check_error(
            r#"{"model":"m","messages":[{"role":"tool","content":"a"}]}"#,
            "`messages[0].tool_call_id`: is missing",
        );
        check_error(
            r#"{"model":"m","messages":[],"tools":[{"type":"function"}]}"#,
            "`tools[0].function`: is missing",
        );
        check_error(
            r#"{"model":"m","messages":[],"temperature":"hot"}"#,
            "`temperature`: expected a number, found a string",
        );
        check_error(
            r#"{"model":"m","messages":[],"stop":5}"#,
            "`stop`: expected a string or a list of strings",
        );
    }

    #[test]
    fn hand_made_requests_are_written() {
        let request = InferenceRequest {
            prompt: "hi".into(),
            system: Some("sys".into()),
            max_tokens: Some(5),
            temperature: Some(0.2.into()),
            ..Default::default()
        };
        let quirks = Quirks { max_completion_tokens: true, ..Quirks::NONE };
        let encoded = encode(&request, Target { model: "m", stream: true, quirks });
        assert_eq!(
            String::from_utf8(encoded.body).unwrap(),
            r#"{"model":"m","messages":[{"role":"system","content":"sys"},{"role":"user","content":"hi"}],"max_completion_tokens":5,"temperature":0.2,"stream":true,"stream_options":{"include_usage":true}}"#,
        );
    }

    #[test]
    fn several_results_in_one_message_become_turns_and_media_is_noted() {
        let result = |id: &str, part: Part| {
            PartKind::ToolResult(ToolResult { call_id: id.into(), content: vec![part], is_error: false })
                .into()
        };
        let image = PartKind::Image { source: MediaSource::Url("u".into()), detail: None };
        let message = Message::new(
            Role::User,
            vec![result("a", Part::text("1")), result("b", image.into()), Part::text("go")],
        );
        let request = InferenceRequest { messages: vec![message], ..Default::default() };
        let encoded = encode(&request, TARGET);
        assert_eq!(
            String::from_utf8(encoded.body).unwrap(),
            r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":""},{"role":"user","content":"go"}]}"#,
        );
        assert_eq!(encoded.notes, [FidelityNote::new("messages[0].content")]);
    }
}
