//! The shape of an answer asked for by a tool, where a dialect has no other word for it: the model is made to call a
//! tool whose arguments have the shape, and the call comes out as the text of the answer.

use crate::json::RawJson;
use crate::request::{InferenceRequest, Part, PartKind, ResponseFormat};
use crate::response::{Choice, FinishReason, InferenceResponse};
use crate::stream::StreamEvent;
use crate::tool::{ToolChoice, ToolDefinition};

/// The name of that tool.
pub const ANSWER_TOOL: &str = "json_response";

/// The request with its response format as a tool; `None` if the format is not one that a tool can stand for, or if the
/// tool could not be forced because the caller has tools of its own.
pub(super) fn format_as_tool(request: &InferenceRequest) -> Option<InferenceRequest> {
    let any_object = || RawJson::parse(r#"{"type":"object","additionalProperties":true}"#).ok();
    let schema = match request.response_format.as_ref()? {
        ResponseFormat::JsonSchema { schema, .. } => schema.clone().or_else(any_object)?,
        ResponseFormat::JsonObject => any_object()?,
        ResponseFormat::Text | ResponseFormat::Other(_) => return None,
    };
    if !request.tools.is_empty() {
        return None;
    }
    let tool = ToolDefinition::new(ANSWER_TOOL, "Give the answer in this form.", schema);
    Some(InferenceRequest {
        tools: vec![tool],
        tool_choice: Some(ToolChoice::Tool(ANSWER_TOOL.to_owned())),
        parallel_tool_calls: Some(false),
        response_format: None,
        ..request.clone()
    })
}

/// Turns calls of the answer tool in a whole answer into its text.
pub fn unwrap_reply(reply: InferenceResponse, tool: &str) -> InferenceResponse {
    let choices = reply.choices.into_iter().map(|choice| unwrap_choice(choice, tool)).collect();
    InferenceResponse { choices, ..reply }.with_text()
}

fn unwrap_choice(choice: Choice, tool: &str) -> Choice {
    let mut found = false;
    let parts = choice.parts.into_iter().map(|part| match part.kind {
        PartKind::ToolCall(call) if call.name == tool => {
            found = true;
            Part { kind: PartKind::Text(call.arguments), ..part }
        }
        kind => Part { kind, ..part },
    });
    let parts = parts.collect();
    let finish_reason = match choice.finish_reason {
        Some(FinishReason::ToolCalls) if found => Some(FinishReason::Stop),
        reason => reason,
    };
    Choice { parts, finish_reason, ..choice }
}

/// Turns calls of the answer tool in a stream into text.
#[derive(Debug)]
pub struct UnwrapStream {
    tool: &'static str,
    /// The calls of it, by choice and index.
    calls: Vec<(u32, u32)>,
}

impl UnwrapStream {
    /// For a stream asked for with this tool.
    pub fn new(tool: &'static str) -> Self {
        Self { tool, calls: Vec::new() }
    }

    /// What an event becomes; `None` if nothing.
    pub fn event(&mut self, event: StreamEvent) -> Option<StreamEvent> {
        match event {
            StreamEvent::ToolCallStart { choice, call, name, .. } if name == self.tool => {
                self.calls.push((choice, call));
                None
            }
            StreamEvent::ToolCallDelta { choice, call, arguments }
                if self.calls.contains(&(choice, call)) =>
            {
                Some(StreamEvent::Text { choice, delta: arguments })
            }
            StreamEvent::Finish { choice, reason: FinishReason::ToolCalls }
                if self.calls.iter().any(|(of, _)| *of == choice) =>
            {
                Some(StreamEvent::Finish { choice, reason: FinishReason::Stop })
            }
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::fold;
    use crate::tool::ToolCall;

    #[test]
    fn the_format_becomes_a_forced_tool() {
        let request =
            InferenceRequest { response_format: Some(ResponseFormat::JsonObject), ..Default::default() };
        let forced = format_as_tool(&request).unwrap();
        assert_eq!(forced.tool_choice, Some(ToolChoice::Tool(ANSWER_TOOL.into())));
        assert_eq!((forced.tools.len(), forced.response_format), (1, None));

        let with_tools = InferenceRequest { tools: forced.tools, ..request };
        assert_eq!(format_as_tool(&with_tools), None, "a tool of the caller's could not be called any more");
        assert_eq!(format_as_tool(&InferenceRequest::default()), None);
    }

    #[test]
    fn its_call_becomes_the_text() {
        let events = || {
            [
                StreamEvent::ToolCallStart { choice: 0, call: 0, id: "x".into(), name: ANSWER_TOOL.into() },
                StreamEvent::ToolCallDelta { choice: 0, call: 0, arguments: r#"{"a":"#.into() },
                StreamEvent::ToolCallDelta { choice: 0, call: 0, arguments: "1}".into() },
                StreamEvent::Finish { choice: 0, reason: FinishReason::ToolCalls },
            ]
        };
        let mut unwrap = UnwrapStream::new(ANSWER_TOOL);
        let streamed = fold(events().into_iter().filter_map(|event| unwrap.event(event)));
        let whole = unwrap_reply(fold(events()), ANSWER_TOOL);
        assert_eq!(
            (streamed.text.as_str(), streamed.finish_reason()),
            (r#"{"a":1}"#, Some(&FinishReason::Stop))
        );
        assert_eq!(whole, streamed);
    }

    #[test]
    fn other_calls_stay() {
        let call = ToolCall { name: "f".into(), ..ToolCall::default() };
        let choice = Choice {
            parts: vec![PartKind::ToolCall(call).into()],
            finish_reason: Some(FinishReason::ToolCalls),
            ..Choice::default()
        };
        let reply = InferenceResponse::from_choices(vec![choice]);
        assert_eq!(unwrap_reply(reply.clone(), ANSWER_TOOL), reply);
    }
}
