use super::*;
use crate::dialect::{Dialect, Quirks, Target};
use crate::failure::FidelityNote;
use crate::json::{Extra, RawJson};
use crate::request::{
    CacheMark, InferenceRequest, MediaSource, Message, Part, PartKind, ResponseFormat, Role, Signature,
};
use crate::tool::{HostedTool, ToolCall, ToolChoice, ToolDefinition, ToolResult};

const TARGET: Target<'_> = Target { model: "m", stream: false, quirks: Quirks::NONE };
const ROUTER: Target<'_> =
    Target { model: "m", stream: false, quirks: Quirks { cache_marks: true, ..Quirks::NONE } };

/// Goal: reading and writing a request again keeps everything, unknown fields and digits too.
#[track_caller]
fn check_round_trip(body: &str) {
    let request = decode(body.as_bytes()).unwrap();
    let encoded = encode(&request, ROUTER);
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
        check_round_trip(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{field}}}"#));
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
    check_error(r#"{"model":"m","messages":[],"stop":5}"#, "`stop`: expected a string or a list of strings");
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
fn several_results_in_one_message_become_turns_and_media_a_turn_behind_them() {
    let result = |id: &str, part: Part| {
        PartKind::ToolResult(ToolResult { call_id: id.into(), content: vec![part], is_error: false }).into()
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
        r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":""},{"role":"user","content":[{"type":"text","text":"Returned by the tool call `b`:"},{"type":"image_url","image_url":{"url":"u"}}]},{"role":"user","content":"go"}]}"#,
    );
    assert_eq!(encoded.notes, [FidelityNote::emulated("messages[0].content")]);
}

fn written(request: &InferenceRequest, target: Target<'_>) -> (serde_json::Value, Vec<FidelityNote>) {
    let encoded = encode(request, target);
    (serde_json::from_slice(&encoded.body).unwrap(), encoded.notes)
}

fn ask(message: Message) -> InferenceRequest {
    InferenceRequest { messages: vec![message], ..Default::default() }
}

#[test]
fn nested_and_new_fields_survive_too() {
    check_round_trip(
        r#"{"model":"m","messages":[
            {"role":"user","content":[
                {"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},
                {"type":"text","text":"b","cache_control":{"type":"persistent"}},
                {"type":"image_url","image_url":{"url":"u","format":"image/png"},"uuid":1},
                {"type":"input_audio","input_audio":{"data":"AA","format":"wav","rate":8000}},
                {"type":"file","file":{"file_id":"f","format":"pdf"}}]},
            {"role":"assistant","content":"x","reasoning_content":"ab","reasoning_details":[
                {"type":"reasoning.text","text":"a","signature":"s","format":"anthropic-claude-v1","index":0},
                {"type":"reasoning.summary","summary":"b","id":"r","index":1},
                {"type":"reasoning.encrypted","data":"d","format":"openai-responses-v1","id":"e","index":2},
                {"type":"reasoning.odd","x":1}],
             "annotations":[{"type":"url_citation","url_citation":{"url":"u","title":"t","start_index":0,"end_index":1}}],
             "images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}],
             "extra_content":{"google":{"thought_signature":"g"}},
             "tool_calls":[
                {"id":"c","type":"function","function":{"name":"f","arguments":"{}","k":[1.50]},"extra_content":{"google":{"thought_signature":"h"}}},
                {"id":"d","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"i","more":1}}},
                {"id":"e","type":"custom","custom":{"name":"p","input":"a \"b\"\n"}}]},
            {"role":"tool","tool_call_id":"c","content":"1","cache_control":{"type":"ephemeral"}},
            {"role":"tool","tool_call_id":"e","content":"2"}],
          "tools":[
            {"type":"function","function":{"name":"f","examples":[1.0]},"cache_control":{"type":"ephemeral"},"y":2},
            {"type":"custom","custom":{"name":"p","description":"d","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"x"}}}},
            {"type":"web_search_preview","size":"low"}],
          "tool_choice":{"type":"custom","custom":{"name":"p"}},
          "top_k":40,"service_tier":"auto","metadata":{"a":"b"},"verbosity":"low",
          "response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{}},"odd":true}}"#,
    );
    check_round_trip(
        r#"{"model":"m","messages":[],"tool_choice":{"type":"function","function":{"name":"f"},"x":1}}"#,
    );
    check_round_trip(r#"{"model":"m","messages":[],"response_format":{"type":"text","x":1}}"#);
}

#[test]
fn openrouters_reasoning_is_read() {
    let read = |reasoning: &str| {
        let body = format!(r#"{{"model":"m","messages":[],"reasoning":{reasoning}}}"#);
        let request = decode(body.as_bytes()).unwrap();
        (request.reasoning_effort, request.reasoning_budget, request.show_reasoning)
    };
    let effort = |word: &str| Some(word.to_owned());
    assert_eq!(read(r#"{"effort":"high","exclude":true}"#), (effort("high"), None, Some(false)));
    assert_eq!(read(r#"{"max_tokens":2000}"#), (None, Some(2000), None));
    assert_eq!(read(r#"{"enabled":true}"#), (effort("medium"), None, None));
    assert_eq!(read(r#"{"enabled":false,"effort":"low"}"#), (effort("none"), None, None));
    assert_eq!(read(r#""x""#), (None, None, None));
}

#[test]
fn text_in_both_forms_of_reasoning_is_read_once() {
    let read = |fields: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"assistant","content":"x",{fields}}}]}}"#);
        let request = decode(body.as_bytes()).unwrap();
        let parts = request.messages[0].parts.iter();
        let texts = parts.filter_map(|part| match &part.kind {
            PartKind::Reasoning(text) => Some((text.clone(), part.signature.clone().map(|one| one.value))),
            _ => None,
        });
        texts.collect::<Vec<_>>()
    };
    let signed = |text: &str, signature: &str| (text.to_owned(), Some(signature.to_owned()));
    let details = r#""reasoning_details":[{"type":"reasoning.text","text":"a","signature":"s"}]"#;
    assert_eq!(read(details), [signed("a", "s")]);
    assert_eq!(read(&format!(r#""reasoning":"a",{details}"#)), [signed("a", "s")]);
    // As a stream that only signs adds up.
    let only = r#""reasoning_content":"a","reasoning_details":[{"type":"reasoning.text","signature":"s"}]"#;
    assert_eq!(read(only), [signed("a", "s")]);
}

#[test]
fn signatures_go_to_their_maker_only() {
    let sign = |maker, kind: PartKind| {
        let signature = Some(Signature { maker, value: "s".into() });
        Part { signature, ..kind.into() }
    };
    let thought = |maker| sign(maker, PartKind::Reasoning("hm".into()));
    let write = |part: Part| {
        let request = ask(Message::new(Role::Assistant, vec![part, Part::text("x")]));
        let request = InferenceRequest { origin: Some(Dialect::Anthropic), ..request };
        let (body, notes) = written(&request, TARGET);
        assert_eq!(notes, []);
        body["messages"][0].clone()
    };
    let own = write(thought(Dialect::OpenAiChat));
    assert_eq!(own["reasoning_details"][0]["signature"], "s");
    let foreign = write(thought(Dialect::Anthropic));
    assert_eq!((&foreign["reasoning_content"], foreign.get("reasoning_details")), (&"hm".into(), None));
    assert_eq!(write(sign(Dialect::Anthropic, PartKind::Redacted)).get("reasoning_details"), None);
    let call = ToolCall { id: "c".into(), name: "f".into(), ..ToolCall::default() };
    let call = write(sign(Dialect::Gemini, PartKind::ToolCall(call)));
    assert_eq!(call["tool_calls"][0].get("extra_content"), None);
}

#[test]
fn fields_of_other_dialects_are_not_written() {
    let extra = |fields: &[(&str, &str)]| {
        let mut extra = Extra::default();
        fields.iter().for_each(|(name, json)| extra.insert(*name, RawJson::parse(*json).unwrap()));
        extra
    };
    let from = |origin, fields: &[(&str, &str)]| {
        let request =
            InferenceRequest { origin: Some(origin), extra: extra(fields), ..ask(Message::user("x")) };
        written(&request, TARGET)
    };
    let (body, notes) = from(
        Dialect::OpenAiResponses,
        &[("store", "false"), ("verbosity", "\"low\""), ("include", "[\"x\"]")],
    );
    assert_eq!((body.get("store"), &body["verbosity"], body.get("include")), (None, &"low".into(), None));
    assert_eq!(notes, [FidelityNote::new("include")]);
    let (body, notes) = from(Dialect::OllamaChat, &[("options", r#"{"min_p":0.1}"#), ("keep_alive", "1")]);
    assert_eq!((body.get("options"), body.get("keep_alive")), (None, None));
    assert_eq!(notes, [FidelityNote::new("options.min_p"), FidelityNote::new("keep_alive")]);
}

#[test]
fn what_chat_cannot_say_is_noted() {
    #[track_caller]
    fn check(request: InferenceRequest, quirks: Quirks, expected: FidelityNote) {
        assert_eq!(written(&request, Target { quirks, ..TARGET }).1, [expected]);
    }
    let hosted = |maker| InferenceRequest {
        hosted_tools: vec![HostedTool {
            maker,
            kind: "web_search".into(),
            json: RawJson::parse("{}").unwrap(),
        }],
        ..ask(Message::user("x"))
    };
    check(hosted(Dialect::Anthropic), Quirks::NONE, FidelityNote::new("tools.web_search"));
    assert_eq!(written(&hosted(Dialect::OpenAiChat), TARGET).0["tools"].as_array().unwrap().len(), 1);
    let marked = Part { cache: Some(CacheMark::FiveMinutes), ..Part::text("x") };
    check(ask(Message::new(Role::User, vec![marked])), Quirks::NONE, FidelityNote::new("cache_control"));
    let openai = Quirks { max_completion_tokens: true, ..Quirks::NONE };
    let top_k = InferenceRequest { top_k: Some(4_u64.into()), ..ask(Message::user("x")) };
    check(top_k, openai, FidelityNote::new("top_k"));
    let budget = InferenceRequest { reasoning_budget: Some(2000), ..ask(Message::user("x")) };
    assert_eq!(written(&budget, TARGET).0["reasoning_effort"], "medium");
    check(budget, Quirks::NONE, FidelityNote::emulated("reasoning"));
    let hidden = InferenceRequest { show_reasoning: Some(false), ..ask(Message::user("x")) };
    check(hidden, Quirks::NONE, FidelityNote::new("reasoning.exclude"));
    let foreign = |json: &str| RawJson::parse(json).unwrap();
    let choice = InferenceRequest {
        tool_choice: Some(ToolChoice::Other(foreign("{}"))),
        response_format: Some(ResponseFormat::Other(foreign("{}"))),
        origin: Some(Dialect::Gemini),
        ..ask(Message::user("x"))
    };
    let (body, notes) = written(&choice, TARGET);
    assert_eq!((body.get("tool_choice"), body.get("response_format")), (None, None));
    assert_eq!(notes, [FidelityNote::new("tool_choice"), FidelityNote::new("response_format")]);
    let odd = PartKind::Other { maker: Dialect::Anthropic, kind: "odd".into(), json: foreign("{}") };
    check(
        ask(Message::new(Role::User, vec![odd.into(), Part::text("x")])),
        Quirks::NONE,
        FidelityNote::new("messages[0].content.odd"),
    );
    let failed = ToolResult { call_id: "c".into(), content: vec![Part::text("no")], is_error: true };
    check(
        ask(Message::new(Role::Tool, vec![PartKind::ToolResult(failed).into()])),
        Quirks::NONE,
        FidelityNote::new("messages[0].is_error"),
    );
}

#[test]
fn what_a_provider_refuses_is_left_out_and_said() {
    const REFUSED: &[&str] =
        &["user", "verbosity", "messages.name", "messages.reasoning_content", "messages.reasoning_details"];
    let quirks = Quirks { random_seed: true, unknown_fields: REFUSED, ..Quirks::NONE };
    let reasoning = Part {
        signature: Some(Signature { maker: Dialect::OpenAiChat, value: "s".into() }),
        ..PartKind::Reasoning("because".into()).into()
    };
    let mut extra = Extra::default();
    for (name, json) in [("store", "false"), ("verbosity", "\"low\""), ("prompt_cache_key", "\"k\"")] {
        extra.insert(name, RawJson::parse(json).unwrap());
    }
    let request = InferenceRequest {
        origin: Some(Dialect::OpenAiResponses),
        seed: Some(7_u64.into()),
        user: Some("ada".into()),
        extra,
        messages: vec![
            Message {
                name: Some("ada".into()),
                ..Message::new(Role::Developer, vec![Part::text("be brief")])
            },
            Message::new(Role::Assistant, vec![reasoning, Part::text("yes")]),
        ],
        ..ask(Message::user("x"))
    };
    let (body, notes) = written(&request, Target { quirks, ..TARGET });
    let expected = serde_json::json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "assistant", "content": "yes", "reasoning": "because"},
        ],
        "random_seed": 7,
        "prompt_cache_key": "k",
    });
    assert_eq!(body, expected);
    let expected = ["messages[0].name", "user", "verbosity"].map(FidelityNote::new);
    assert_eq!(notes, expected);

    const NO_REASONING: &[&str] =
        &["messages.reasoning", "messages.reasoning_content", "messages.reasoning_details"];
    let quirks = Quirks { unknown_fields: NO_REASONING, ..Quirks::NONE };
    let (body, notes) = written(&request, Target { quirks, ..TARGET });
    assert_eq!(body["messages"][1], serde_json::json!({"role": "assistant", "content": "yes"}));
    assert!(notes.contains(&FidelityNote::new("messages[1].reasoning")), "{notes:?}");
}

#[test]
fn free_text_tools_are_functions_where_only_functions_are_known() {
    let tool = ToolDefinition {
        freeform: true,
        ..ToolDefinition::new("p", "d", RawJson::parse(r#"{"type":"object"}"#).unwrap())
    };
    let request = |origin| InferenceRequest {
        tools: vec![tool.clone()],
        origin: Some(origin),
        ..ask(Message::user("x"))
    };
    let (body, notes) = written(&request(Dialect::Anthropic), TARGET);
    assert_eq!(body["tools"][0]["function"]["name"], "p");
    assert_eq!(notes, [FidelityNote::emulated("tools[0]")]);

    let mut responses = request(Dialect::OpenAiResponses);
    let format = r#"{"type":"grammar","syntax":"lark","definition":"x"}"#;
    responses.tools[0].extra.insert("format", RawJson::parse(format).unwrap());
    let (body, notes) = written(&responses, TARGET);
    assert_eq!(body["tools"][0]["custom"]["format"]["grammar"]["syntax"], "lark");
    assert_eq!(notes, []);
}
