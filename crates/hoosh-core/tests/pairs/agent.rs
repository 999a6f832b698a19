//! An agent's loop of three tool turns: in every client dialect over every provider dialect, whole and streamed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hoosh_core::{
    Choice, FinishReason, InferenceRequest, InferenceResponse, Message, Part, PartKind, Role, Signature,
    ToolCall, ToolDefinition, ToolResult, Usage, json::RawJson,
};

use super::*;

/// Turns in which the model calls two tools at once before it answers.
const TURNS: usize = 3;

#[test]
fn three_tool_turns_in_every_dialect_over_every_dialect() {
    for (client, _) in DIALECTS {
        for (provider, _) in DIALECTS {
            for streamed in [false, true] {
                converse(client, provider, streamed);
            }
        }
    }
}

fn converse(client: Dialect, provider: Dialect, streamed: bool) {
    let how = format!("{client} over {provider}, {}", if streamed { "streamed" } else { "whole" });
    let mut request = InferenceRequest {
        model: "asked".into(),
        messages: vec![Message::system("Use the tools."), Message::user("Compare the weather.")],
        tools: vec![tool("get_weather"), tool("get_time")],
        max_tokens: Some(4096),
        ..Default::default()
    };
    for turn in 0..=TURNS {
        let (asked, _) = from_client(client, &request).unwrap_or_else(|error| panic!("{how}: {error}"));
        let (seen, _) = to_vendor(provider, &asked);
        check_seen(&seen, turn, client, provider, &how);

        let sent = vendor_answer(provider, turn);
        let got = answer(provider, client, &asked, &sent, streamed);
        let usage = got.usage.unwrap_or_else(|| panic!("{how}: no usage"));
        assert_eq!((usage.prompt_total(), usage.completion_total()), (11, 7), "{how}: usage in turn {turn}");
        if turn == TURNS {
            assert_eq!(got.text, "It is warmer in Paris: häß 日本.", "{how}");
            assert_eq!(got.finish_reason(), Some(&FinishReason::Stop), "{how}");
            return;
        }
        assert_eq!(got.finish_reason(), Some(&FinishReason::ToolCalls), "{how}: turn {turn}");
        let calls: Vec<ToolCall> = got.tool_calls().cloned().collect();
        let named: Vec<_> = calls.iter().map(|call| (call.name.as_str(), json(&call.arguments))).collect();
        let expected = expected_calls(turn);
        let expected: Vec<_> =
            expected.iter().map(|call| (call.name.as_str(), json(&call.arguments))).collect();
        assert_eq!(named, expected, "{how}: turn {turn}");

        request.messages.push(Message::new(Role::Assistant, sent_back(client, &got.choices[0].parts)));
        for (index, call) in calls.iter().enumerate() {
            let content = vec![Part::text(result_text(turn, index))];
            let result = ToolResult { call_id: call.id.clone(), content, is_error: false };
            request.messages.push(Message::new(Role::Tool, vec![PartKind::ToolResult(result).into()]));
        }
    }
}

/// Goal: the vendor sees every call and every result so far, in order and matched, and its own signatures.
#[track_caller]
fn check_seen(seen: &InferenceRequest, turn: usize, client: Dialect, provider: Dialect, how: &str) {
    let conversation: Vec<_> = seen.conversation().collect();
    let parts: Vec<&Part> = conversation.iter().flat_map(|message| &message.parts).collect();
    let calls: Vec<&ToolCall> = parts
        .iter()
        .filter_map(|part| match &part.kind {
            PartKind::ToolCall(call) => Some(call),
            _ => None,
        })
        .collect();
    let results: Vec<&ToolResult> = parts
        .iter()
        .filter_map(|part| match &part.kind {
            PartKind::ToolResult(result) => Some(result),
            _ => None,
        })
        .collect();
    let expected: Vec<ToolCall> = (0..turn).flat_map(expected_calls).collect();
    assert_eq!(calls.len(), expected.len(), "{how}: calls before turn {turn}");
    assert_eq!(results.len(), expected.len(), "{how}: results before turn {turn}");
    for (at, (call, expected)) in calls.iter().zip(&expected).enumerate() {
        assert_eq!((&call.name, json(&call.arguments)), (&expected.name, json(&expected.arguments)), "{how}");
        let result = results.iter().find(|result| result.call_id == call.id);
        let result = result.unwrap_or_else(|| panic!("{how}: call {at} `{}` has no result", call.id));
        let text: String = result
            .content
            .iter()
            .map(|part| match &part.kind {
                PartKind::Text(text) => text.as_str(),
                _ => "",
            })
            .collect();
        assert_eq!(text, result_text(at / 2, at % 2), "{how}: the result of call {at}");
    }
    assert!(
        conversation
            .iter()
            .flat_map(|message| &message.parts)
            .any(|part| { matches!(&part.kind, PartKind::Text(text) if text.contains("Use the tools.")) }),
        "{how}: the instructions"
    );
    // Ollama's clients have nothing that could carry one. Items of Responses go upstream without what is for us in them, so
    // the codec cannot stand in for a client there: `tests/recorded/responses.rs` sends its own back.
    let carries = !matches!(client, Dialect::OllamaChat | Dialect::OpenAiResponses) || client == provider;
    if signs(provider) && carries {
        let signatures: Vec<&str> =
            parts.iter().filter_map(|part| part.signature.as_ref()?.for_maker(provider)).collect();
        let expected: Vec<String> = (0..turn).map(|turn| format!("c2lnbmF0dXJl{turn}")).collect();
        assert_eq!(signatures, expected, "{how}: its own signatures before turn {turn}");
    }
}

/// An answer's pieces as a client of this dialect sends them back: whoever signed them, to the client a signature is a
/// text of its own dialect.
fn sent_back(client: Dialect, parts: &[Part]) -> Vec<Part> {
    let mut sent = Vec::new();
    for part in parts {
        let own = part
            .signature
            .as_ref()
            .map(|signature| Signature { maker: client, value: wire_signature(client, signature) });
        let is_reasoning = matches!(part.kind, PartKind::Reasoning(_) | PartKind::Redacted);
        // It has no place for the signature of a call, which stands in a piece behind it.
        let stands_behind = client == Dialect::Anthropic && !is_reasoning;
        sent.push(Part { signature: own.clone().filter(|_| !stands_behind), ..part.clone() });
        if let Some(signature) = own.filter(|_| stands_behind) {
            sent.push(Part { signature: Some(signature), ..PartKind::Redacted.into() });
        }
    }
    sent
}

/// A signature as a client of this dialect sees it. Google's libraries read theirs as bytes, so others' are base64 there.
fn wire_signature(client: Dialect, signature: &Signature) -> String {
    let text = signature.to_wire(client);
    let is_bytes = client == Dialect::Gemini && signature.maker != client;
    if is_bytes { STANDARD.encode(&*text) } else { text.into_owned() }
}

/// Whether vendors of the dialect sign what must come back.
fn signs(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::Anthropic | Dialect::Gemini | Dialect::OpenAiResponses)
}

fn vendor_answer(provider: Dialect, turn: usize) -> InferenceResponse {
    let mut parts = Vec::new();
    let reason = if turn == TURNS {
        parts.push(Part::text("It is warmer in Paris: häß 日本."));
        FinishReason::Stop
    } else {
        let signature = Signature { maker: provider, value: format!("c2lnbmF0dXJl{turn}") };
        let signature = signs(provider).then_some(signature);
        // Gemini signs the first call, the others their reasoning.
        let on_call = provider == Dialect::Gemini;
        let thought = PartKind::Reasoning(format!("step {turn}"));
        parts.push(Part { signature: signature.clone().filter(|_| !on_call), ..thought.into() });
        for (index, call) in expected_calls(turn).into_iter().enumerate() {
            let signature = signature.clone().filter(|_| on_call && index == 0);
            parts.push(Part { signature, ..PartKind::ToolCall(call).into() });
        }
        FinishReason::ToolCalls
    };
    let choice = Choice { parts, finish_reason: Some(reason), ..Choice::default() };
    InferenceResponse {
        id: "r1".into(),
        model: "m".into(),
        created: Some(1),
        usage: Some(Usage { input: Some(11), output: Some(7), ..Usage::default() }),
        ..InferenceResponse::from_choices(vec![choice])
    }
}

fn expected_calls(turn: usize) -> Vec<ToolCall> {
    let call = |index: usize, name: &str, arguments: String| ToolCall {
        id: format!("call_{turn}_{index}"),
        name: name.into(),
        arguments,
        ..ToolCall::default()
    };
    vec![
        call(0, "get_weather", format!(r#"{{"city":"Paris {turn}","deep":{{"list":[1,"ä"]}}}}"#)),
        // The same tool twice, so that names do not tell calls apart.
        call(1, "get_weather", format!(r#"{{"city":"Rome {turn}"}}"#)),
    ]
}

fn result_text(turn: usize, index: usize) -> String {
    format!("{} degrees", turn * 10 + index)
}

fn tool(name: &str) -> ToolDefinition {
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    ToolDefinition::new(name, "Tells it.", RawJson::parse(schema).unwrap())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}
