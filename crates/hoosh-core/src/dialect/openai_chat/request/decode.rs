//! Reading a client's request.

use crate::dialect::Dialect;
use crate::dialect::nested;
use crate::dialect::openai::request::shared_fields;
use crate::dialect::openai_chat::content::{parts, take_cache};
use crate::dialect::openai_chat::message::assistant_parts;
use crate::dialect::openai_chat::tools;
use crate::dialect::wire::{request_text, take_schema};
use crate::error::InvalidRequest;
use crate::json::{FieldError, Object, RawJson};
use crate::request::{InferenceRequest, Message, PartKind, ResponseFormat, Role};
use crate::tool::ToolResult;

pub(in crate::dialect::openai_chat) fn decode(body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    let mut object = Object::parse("", request_text(body)?)?;
    let mut request = InferenceRequest {
        model: object.require("model")?,
        messages: object.take_objects("messages")?.into_iter().map(message).collect::<Result<_, _>>()?,
        tool_choice: object.take_raw("tool_choice").map(tools::choice),
        parallel_tool_calls: object.take("parallel_tool_calls")?,
        response_format: response_format(&mut object)?,
        logprobs: object.take("logprobs")?,
        top_logprobs: object.take("top_logprobs")?,
        service_tier: object.take("service_tier")?,
        metadata: object.take_raw("metadata").filter(|raw| raw.get() != "{}").map(RawJson::from),
        ..InferenceRequest::default()
    };
    tools::take(&mut object, &mut request)?;
    shared_fields(&mut object, &mut request)?;
    reasoning(&mut object, &mut request)?;
    request.extra = object.rest();
    request.origin = Some(Dialect::OpenAiChat);
    Ok(request)
}

fn message(mut object: Object<'_>) -> Result<Message, FieldError> {
    let word: String = object.require("role")?;
    let role = Role::parse(&word).ok_or_else(|| {
        object.wrong("role", format!("`{word}` is none of system, developer, user, assistant, tool"))
    })?;
    let mut parts = match role {
        Role::Tool => {
            let content = parts(&mut object, "content")?;
            let call_id = object.require("tool_call_id")?;
            vec![PartKind::ToolResult(ToolResult { call_id, content, is_error: false }).into()]
        }
        Role::Assistant => assistant_parts(&mut object)?,
        Role::System | Role::Developer | Role::User => parts(&mut object, "content")?,
    };
    // LiteLLM takes a mark on the message as one on its last piece.
    if let Some(last) = parts.last_mut()
        && let Some(mark) = take_cache(&mut object)
    {
        last.cache = last.cache.or(Some(mark));
    }
    Ok(Message { role, parts, name: object.take("name")?, extra: object.rest() })
}

/// OpenAI's `reasoning_effort`, and OpenRouter's object for the same and more.
fn reasoning(object: &mut Object<'_>, request: &mut InferenceRequest) -> Result<(), FieldError> {
    #[derive(serde::Deserialize)]
    struct Wire {
        effort: Option<String>,
        max_tokens: Option<u64>,
        exclude: Option<bool>,
        enabled: Option<bool>,
    }
    request.reasoning_effort = object.take("reasoning_effort")?;
    // Elsewhere the name may mean anything.
    if !object.peek("reasoning").is_some_and(|raw| raw.get().starts_with('{')) {
        return Ok(());
    }
    let wire: Wire = object.require("reasoning")?;
    request.reasoning_budget = wire.max_tokens;
    request.show_reasoning = wire.exclude.map(|exclude| !exclude);
    let switched = match wire.enabled {
        Some(false) => Some("none"),
        // By OpenRouter's own rule.
        Some(true) if wire.effort.is_none() && wire.max_tokens.is_none() => Some("medium"),
        Some(true) | None => None,
    };
    let effort = switched.map(str::to_owned).or(wire.effort);
    request.reasoning_effort = request.reasoning_effort.take().or(effort);
    Ok(())
}

fn response_format(object: &mut Object<'_>) -> Result<Option<ResponseFormat>, FieldError> {
    let path = object.path_of("response_format");
    let Some(raw) = object.take_raw("response_format") else { return Ok(None) };
    let mut format = Object::parse(path, raw.get())?;
    let word: String = format.require("type")?;
    if word == "json_schema" {
        let mut inner = format.take_object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
        let name = inner.take("name")?.unwrap_or_else(|| "answer".to_owned());
        let (schema, strict) = (take_schema(&mut inner, "schema")?, inner.take("strict")?);
        // Its name is taken in what is kept.
        inner.take_raw("response_format");
        let mut extra = inner.rest();
        // What is unknown beside `json_schema` is kept under the name of the whole.
        nested::keep(&mut extra, "response_format", format);
        return Ok(Some(ResponseFormat::JsonSchema { name, schema, strict, extra }));
    }
    // llama.cpp takes a `schema` beside `json_object`, so only the bare form is the bare form.
    let is_bare = format.rest().is_empty();
    Ok(Some(match word.as_str() {
        "text" if is_bare => ResponseFormat::Text,
        "json_object" if is_bare => ResponseFormat::JsonObject,
        _ => ResponseFormat::Other(raw.into()),
    }))
}
