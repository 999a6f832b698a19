//! Reading a client's request.

use serde_json::value::RawValue;

use super::calls::Ledger;
use super::fields::{take, take_list, take_object, take_raw};
use super::part::{self, Piece};
use super::{config, tools};
use crate::dialect::Dialect;
use crate::dialect::wire::request_text;
use crate::error::InvalidRequest;
use crate::json::{FieldError, Object};
use crate::request::{InferenceRequest, Message, Part, PartKind, Role};
use crate::tool::{ToolCall, ToolResult};

pub(super) fn decode(body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    let mut object = Object::parse("", request_text(body)?)?;
    let mut request = InferenceRequest { origin: Some(Dialect::Gemini), ..InferenceRequest::default() };
    // Only a request that is wrapped into another one, for counting or a batch, repeats it.
    let model: String = take(&mut object, "model")?.unwrap_or_default();
    request.model = model.strip_prefix("models/").map(str::to_owned).unwrap_or(model);
    let mut ledger = Ledger::default();
    let path = object.path_of("systemInstruction");
    if let Some(raw) = take_raw(&mut object, "systemInstruction") {
        instruction(path, raw, &mut ledger, &mut request)?;
    }
    for (path, raw) in take_list(&mut object, "contents")? {
        request.messages.push(message(&path, raw, &mut ledger)?);
    }
    tools::decode(&mut object, &mut request)?;
    let config = take_object(&mut object, "generationConfig")?;
    let config = config.map(|config| config::decode(config, &mut request)).transpose()?.flatten();
    let tool_config = take_object(&mut object, "toolConfig")?;
    let tool_config =
        tool_config.map(|config| tools::decode_config(config, &mut request)).transpose()?.flatten();
    request.service_tier = take(&mut object, "serviceTier")?;
    request.extra = object.rest();
    for (name, rest) in [(config::NAME, config), (tools::CONFIG, tool_config)] {
        if let Some(rest) = rest {
            request.extra.insert(name, rest);
        }
    }
    Ok(request)
}

/// Instructions come as a turn, or from some clients as text.
fn instruction(
    path: String,
    raw: &RawValue,
    ledger: &mut Ledger,
    request: &mut InferenceRequest,
) -> Result<(), FieldError> {
    if raw.get().starts_with('"') {
        request.system = serde_json::from_str(raw.get()).ok();
        return Ok(());
    }
    let mut message = message(&path, raw, ledger)?;
    message.role = Role::System;
    match message.parts.as_slice() {
        [] => {}
        [Part { kind: PartKind::Text(text), signature: None, extra, .. }]
            if extra.is_empty() && message.extra.is_empty() =>
        {
            request.system = Some(text.clone());
        }
        _ => request.messages.insert(0, message),
    }
    Ok(())
}

fn message(path: &str, raw: &RawValue, ledger: &mut Ledger) -> Result<Message, FieldError> {
    let mut object = Object::parse(path, raw.get())?;
    let word: Option<String> = take(&mut object, "role")?;
    let mut role = match word.as_deref() {
        None | Some("" | "user") => Role::User,
        Some("model") => Role::Assistant,
        Some("function" | "tool") => Role::Tool,
        Some("system") => Role::System,
        Some(word) => {
            return Err(object.wrong("role", format!("`{word}` is none of user, model, function")));
        }
    };
    let mut parts = Vec::new();
    for (path, raw) in take_list(&mut object, "parts")? {
        let part = match part::read(&path, raw)? {
            Piece::Part(part) => part,
            Piece::Call(call) => {
                let name = call.name.ok_or_else(|| missing(&path, "functionCall.name"))?;
                let kind = PartKind::ToolCall(ToolCall {
                    id: ledger.call(call.id, &name),
                    name,
                    arguments: call.args.unwrap_or_else(|| "{}".to_owned()),
                    extra: call.call_extra,
                });
                Part { signature: call.signature, extra: call.part_extra, ..kind.into() }
            }
            Piece::Result(result) => {
                let kind = PartKind::ToolResult(ToolResult {
                    call_id: ledger.result(result.id, &result.name),
                    content: result.content,
                    is_error: result.is_error,
                });
                Part { extra: result.part_extra, ..kind.into() }
            }
        };
        if let Some(part) = joined(&mut parts, part) {
            parts.push(part);
        }
    }
    let is_result = |part: &Part| matches!(part.kind, PartKind::ToolResult(_));
    match role {
        Role::User if !parts.is_empty() && parts.iter().all(is_result) => role = Role::Tool,
        Role::Tool if !parts.iter().all(is_result) => role = Role::User,
        _ => {}
    }
    Ok(Message { role, parts, name: None, extra: object.rest() })
}

/// Joins a thought to the one before it, unless that is complete. Google's libraries gather the parts of all chunks of a
/// stream: what was one thought comes back in pieces, of which the last is signed.
fn joined(parts: &mut [Part], part: Part) -> Option<Part> {
    let PartKind::Reasoning(more) = &part.kind else { return Some(part) };
    match parts.last_mut() {
        Some(Part { kind: PartKind::Reasoning(text), signature: signature @ None, extra, .. })
            if extra.is_empty() && part.extra.is_empty() =>
        {
            text.push_str(more);
            *signature = part.signature;
            None
        }
        _ => Some(part),
    }
}

fn missing(path: &str, name: &str) -> FieldError {
    FieldError { path: format!("{path}.{name}"), problem: "is missing".to_owned() }
}

#[cfg(test)]
mod tests;
