//! Reading a client's request, or one that only counts its tokens.

use serde_json::value::RawValue;

use crate::dialect::Dialect;
use crate::dialect::anthropic::blocks::{cache_mark, parts};
use crate::dialect::nested;
use crate::dialect::wire::{request_text, take_schema};
use crate::error::InvalidRequest;
use crate::json::{FieldError, Object, RawJson};
use crate::request::{InferenceRequest, Message, PartKind, ResponseFormat, Role};
use crate::tool::{HostedTool, ToolChoice, ToolDefinition};

pub(in crate::dialect::anthropic) fn decode(body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    let mut object = Object::parse("", request_text(body)?)?;
    let mut request = InferenceRequest {
        model: object.take("model")?.unwrap_or_default(),
        max_tokens: object.take("max_tokens")?,
        stop: object.take("stop_sequences")?.unwrap_or_default(),
        temperature: object.take("temperature")?,
        top_p: object.take("top_p")?,
        top_k: object.take("top_k")?,
        service_tier: object.take::<String>("service_tier")?.map(tier),
        origin: Some(Dialect::Anthropic),
        ..InferenceRequest::default()
    };
    let system = parts(&mut object, "system")?;
    if !system.is_empty() {
        request.messages.push(Message::new(Role::System, system));
    }
    for message in object.take_objects("messages")? {
        request.messages.push(self::message(message)?);
    }
    let path = object.path_of("tools");
    let tools: Vec<&RawValue> = object.take("tools")?.unwrap_or_default();
    for (index, raw) in tools.into_iter().enumerate() {
        tool(&format!("{path}[{index}]"), raw, &mut request)?;
    }
    tool_choice(&mut object, &mut request)?;
    let kept = reasoning(&mut object, &mut request)?;
    if let Some(mut metadata) = object.take_object("metadata")? {
        request.user = metadata.take("user_id")?;
        let rest = metadata.rest();
        request.metadata = (!rest.is_empty()).then(|| RawJson::from_value(&rest).ok()).flatten();
    }
    // Whether to stream is not part of the request but of how it is asked.
    object.take_raw("stream");
    request.extra = object.rest();
    for (name, nested) in kept {
        nested::keep(&mut request.extra, name, nested);
    }
    Ok(request)
}

/// `standard_only` is what OpenAI calls `default`.
fn tier(word: String) -> String {
    if word == "standard_only" { "default".to_owned() } else { word }
}

fn message(mut object: Object<'_>) -> Result<Message, FieldError> {
    let word: String = object.require("role")?;
    let role = match word.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(object.wrong("role", format!("`{word}` is none of user, assistant, system"))),
    };
    let parts = parts(&mut object, "content")?;
    // A turn of results alone is the tools'.
    let is_results =
        !parts.is_empty() && parts.iter().all(|part| matches!(part.kind, PartKind::ToolResult(_)));
    let role = if role == Role::User && is_results { Role::Tool } else { role };
    Ok(Message { extra: object.rest(), ..Message::new(role, parts) })
}

fn tool(path: &str, raw: &RawValue, request: &mut InferenceRequest) -> Result<(), FieldError> {
    let mut object = Object::parse(path, raw.get())?;
    let word: Option<String> = object.take("type")?;
    if let Some(kind) = word.filter(|word| word != "custom") {
        let hosted = HostedTool { maker: Dialect::Anthropic, kind, json: raw.into() };
        request.hosted_tools.push(hosted);
        return Ok(());
    }
    request.tools.push(ToolDefinition {
        name: object.require("name")?,
        description: object.take("description")?,
        parameters: take_schema(&mut object, "input_schema")?,
        strict: object.take("strict")?,
        freeform: false,
        cache: cache_mark(&mut object)?,
        extra: object.rest(),
    });
    Ok(())
}

fn tool_choice(object: &mut Object<'_>, request: &mut InferenceRequest) -> Result<(), FieldError> {
    let Some(mut choice) = object.take_object("tool_choice")? else { return Ok(()) };
    let word: String = choice.require("type")?;
    request.tool_choice = Some(match word.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Tool(choice.require("name")?),
        _ => return Err(choice.wrong("type", format!("`{word}` is none of auto, any, tool, none"))),
    });
    let disabled: Option<bool> = choice.take("disable_parallel_tool_use")?;
    request.parallel_tool_calls = disabled.map(|disabled| !disabled);
    Ok(())
}

/// Reads how to think, and the shape of the answer that stands beside it; gives back what is left of each object.
fn reasoning<'a>(
    object: &mut Object<'a>,
    request: &mut InferenceRequest,
) -> Result<Vec<(&'static str, Object<'a>)>, FieldError> {
    let mut kept = Vec::new();
    if let Some(mut thinking) = object.take_object("thinking")? {
        let word: String = thinking.require("type")?;
        match word.as_str() {
            "enabled" => request.reasoning_budget = Some(thinking.require("budget_tokens")?),
            "disabled" => request.reasoning_effort = Some("none".to_owned()),
            // How much is up to the model, or to the effort beside it.
            "adaptive" => request.show_reasoning = Some(true),
            _ => {
                return Err(
                    thinking.wrong("type", format!("`{word}` is none of enabled, disabled, adaptive"))
                );
            }
        }
        if let Some(display) = thinking.take::<String>("display")? {
            request.show_reasoning = Some(display != "omitted");
        }
        // Said beside another word it means nothing.
        thinking.take_raw("budget_tokens");
        kept.push(("thinking", thinking));
    }
    if let Some(mut config) = object.take_object("output_config")? {
        if let Some(effort) = config.take::<String>("effort")? {
            request.reasoning_effort.get_or_insert(effort);
        }
        request.response_format = config.take_object("format")?.map(format).transpose()?;
        kept.push(("output_config", config));
    }
    // Its name while it was in beta.
    if let Some(older) = object.take_object("output_format")? {
        request.response_format = Some(format(older)?);
    }
    Ok(kept)
}

fn format(mut object: Object<'_>) -> Result<ResponseFormat, FieldError> {
    object.take_raw("type");
    Ok(ResponseFormat::JsonSchema {
        name: "answer".to_owned(),
        schema: take_schema(&mut object, "schema")?,
        strict: Some(true),
        extra: object.rest(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::anthropic::Anthropic;
    use crate::dialect::{Codec, Quirks, Target};

    /// Goal: reading and writing a request again keeps everything.
    #[track_caller]
    fn check_round_trip(body: &str) {
        let request = decode(body.as_bytes()).unwrap();
        let target = Target { model: "claude-sonnet-4-5", stream: false, quirks: Quirks::NONE };
        let encoded = Anthropic.encode_request(&request, target);
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&encoded.body), value(body.as_bytes()));
        assert_eq!(encoded.notes, []);
        assert_eq!(decode(&encoded.body).unwrap(), request);
    }

    #[test]
    fn requests_survive_a_round_trip() {
        check_round_trip(
            r#"{"model":"claude-sonnet-4-5","max_tokens":4096,
              "system":[{"type":"text","text":"be brief","cache_control":{"type":"ephemeral","ttl":"1h"}}],
              "messages":[
                {"role":"user","content":[
                    {"type":"text","text":"what is this?","cache_control":{"type":"ephemeral"}},
                    {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},
                    {"type":"image","source":{"type":"url","url":"https://x.test/a.png"}},
                    {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"BB=="},"title":"a.pdf","citations":{"enabled":true}},
                    {"type":"document","source":{"type":"text","media_type":"text/plain","data":"häß"}},
                    {"type":"document","source":{"type":"file","file_id":"file_1"}},
                    {"type":"document","source":{"type":"content","content":[{"type":"text","text":"x"}]}}]},
                {"role":"assistant","content":[
                    {"type":"thinking","thinking":"hm","signature":"c2ln"},
                    {"type":"redacted_thinking","data":"eA=="},
                    {"type":"text","text":"calling","citations":[{"type":"char_location","cited_text":"x","document_index":0,"document_title":null,"start_char_index":0,"end_char_index":1}]},
                    {"type":"server_tool_use","id":"srv_1","name":"web_search","input":{"query":"q"}},
                    {"type":"tool_use","id":"t1","name":"f","input":{"a":1.50}},
                    {"type":"tool_use","id":"t2","name":"g","input":{}}]},
                {"role":"user","content":[
                    {"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"see"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}],"is_error":true},
                    {"type":"tool_result","tool_use_id":"t2","content":"42"},
                    {"type":"text","text":"go on"}]}],
              "tools":[{"name":"f","description":"d","input_schema":{"type":"object","properties":{"n":{"maximum":12345678901234567890}}},"strict":true,"cache_control":{"type":"ephemeral"}},
                       {"name":"g","input_schema":{"type":"object"}},
                       {"type":"web_search_20250305","name":"web_search","max_uses":5}],
              "tool_choice":{"type":"auto","disable_parallel_tool_use":true},
              "stop_sequences":["a","b"],"metadata":{"user_id":"u"},"service_tier":"standard_only",
              "thinking":{"type":"enabled","budget_tokens":2000},
              "container":"c_1","mcp_servers":[]}"#,
        );
    }

    #[test]
    fn small_forms_survive_too() {
        for field in [
            r#""tool_choice":{"type":"any"},"tools":[{"name":"f","input_schema":{"type":"object"}}]"#,
            r#""tool_choice":{"type":"tool","name":"f"},"tools":[{"name":"f","input_schema":{"type":"object"}}]"#,
            r#""tool_choice":{"type":"none"},"tools":[{"name":"f","input_schema":{"type":"object"}}]"#,
            r#""temperature":0.10"#,
            r#""top_p":0.5,"top_k":40"#,
            r#""thinking":{"type":"disabled"}"#,
            r#""output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}"#,
            r#""system":"be brief""#,
        ] {
            check_round_trip(&format!(
                r#"{{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],{field}}}"#
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
            r#"{"model":"m","messages":[{"role":"wizard","content":"a"}]}"#,
            "`messages[0].role`: `wizard` is none of user, assistant, system",
        );
        check_error(
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            "`messages[0].content[0].text`: is missing",
        );
        check_error(
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"ftp"}}]}]}"#,
            "`messages[0].content[0].source.type`: `ftp` is none of base64, text, url, file",
        );
        check_error(
            r#"{"model":"m","messages":[],"tool_choice":{"type":"some"}}"#,
            "`tool_choice.type`: `some` is none of auto, any, tool, none",
        );
    }
}
