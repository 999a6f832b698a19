use super::*;
use crate::dialect::gemini::upstream::encode;
use crate::dialect::{Quirks, Target};
use crate::failure::FidelityNote;
use crate::json::RawJson;
use crate::request::{MediaSource, ResponseFormat, Signature};
use crate::tool::{ToolChoice, ToolDefinition};

fn target(model: &str) -> Target<'_> {
    Target { model, stream: false, quirks: Quirks::NONE }
}

/// What is written for this model, and what of the request is not in it.
fn written(request: &InferenceRequest, model: &str) -> (String, Vec<FidelityNote>) {
    let encoded = encode(request, target(model));
    (String::from_utf8(encoded.body).unwrap(), encoded.notes)
}

/// Goal: reading and writing a request again keeps everything, unknown fields and digits too.
#[track_caller]
fn check_round_trip(body: &str) {
    let request = decode(body.as_bytes()).unwrap();
    let (again, notes) = written(&request, "gemini-2.5-flash");
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&again), value(body));
    assert_eq!(notes, []);
    assert_eq!(decode(again.as_bytes()).unwrap(), request);
}

#[test]
fn requests_survive_a_round_trip() {
    check_round_trip(
        r#"{"systemInstruction":{"parts":[{"text":"be brief"}]},
            "contents":[
              {"role":"user","parts":[
                {"text":"what is this?"},
                {"inlineData":{"mimeType":"image/png","data":"AAAA"}},
                {"inlineData":{"mimeType":"audio/wav","data":"AA"}},
                {"inlineData":{"mimeType":"application/pdf","data":"BB","displayName":"a.pdf"}},
                {"fileData":{"mimeType":"image/png","fileUri":"https://x.test/a.png"}},
                {"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/clip"},"videoMetadata":{"fps":2}}]},
              {"role":"model","parts":[
                {"text":"hm","thought":true,"thoughtSignature":"QQ=="},
                {"executableCode":{"language":"PYTHON","code":"1"},"thoughtSignature":"Qg=="},
                {"functionCall":{"name":"f","args":{"a":1.50}},"thoughtSignature":"Qw=="},
                {"functionCall":{"id":"x","name":"g","args":{}}}]},
              {"role":"user","parts":[
                {"functionResponse":{"name":"f","response":{"output":"42"}}},
                {"functionResponse":{"id":"x","name":"g","response":{"error":"no"},"scheduling":"SILENT"}}]},
              {"role":"model","parts":[{"text":"done","thoughtSignature":"RA=="}]}],
            "tools":[{"functionDeclarations":[{"name":"f","description":"d","parametersJsonSchema":{"type":"object","maximum":12345678901234567890},"behavior":"BLOCKING"}]},{"googleSearch":{}}],
            "toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f"]},"retrievalConfig":{"languageCode":"de"}},
            "generationConfig":{"temperature":0.10,"topP":1,"topK":40,"candidateCount":2,"maxOutputTokens":7,
              "stopSequences":["a"],"seed":3,"presencePenalty":0.5,"frequencyPenalty":-1,"responseLogprobs":true,"logprobs":2,
              "responseMimeType":"application/json","responseJsonSchema":{"type":"object"},
              "thinkingConfig":{"thinkingBudget":-1,"includeThoughts":true},"responseModalities":["TEXT"],"mediaResolution":"M"},
            "serviceTier":"flex","safetySettings":[{"category":"C","threshold":"T"}],"cachedContent":"c","labels":{"a":"b"}}"#,
    );
}

#[test]
fn small_forms_survive_too() {
    for field in [
        r#""toolConfig":{"functionCallingConfig":{"mode":"AUTO"}}"#,
        r#""toolConfig":{"functionCallingConfig":{"mode":"NONE"}}"#,
        r#""toolConfig":{"functionCallingConfig":{"mode":"ANY"}}"#,
        r#""toolConfig":{"functionCallingConfig":{"mode":"VALIDATED","allowedFunctionNames":["a","b"]}}"#,
        r#""generationConfig":{"responseMimeType":"text/plain"}"#,
        r#""generationConfig":{"responseMimeType":"application/json"}"#,
        r#""generationConfig":{"responseMimeType":"text/x.enum","responseSchema":{"type":"STRING","enum":["a"]}}"#,
        r#""generationConfig":{"thinkingConfig":{"thinkingLevel":"high"}}"#,
        r#""generationConfig":{"thinkingConfig":{"thinkingBudget":0}}"#,
        r#""safety_settings":[]"#,
    ] {
        check_round_trip(&format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"x"}}]}}],{field}}}"#));
    }
}

#[test]
fn other_spellings_are_read() {
    let request = decode(
        br#"{"model":"models/m","system_instruction":"be brief",
            "contents":{"parts":{"text":"hi"}},
            "tools":{"function_declarations":[{"name":"f","parameters":{"type":"OBJECT","properties":{"a":{"type":"STRING"}}}}]},
            "tool_config":{"function_calling_config":{"mode":"any","allowed_function_names":["f"]}},
            "generation_config":{"max_output_tokens":5,"response_mime_type":"application/json","response_schema":{"type":"INTEGER"},
              "thinking_config":{"thinking_level":"LOW","include_thoughts":false}}}"#,
    )
    .unwrap();
    assert_eq!((request.model.as_str(), request.system.as_deref()), ("m", Some("be brief")));
    assert_eq!(request.messages, [Message::user("hi")]);
    assert_eq!(
        request.tools[0].parameters.as_ref().unwrap().get(),
        r#"{"type":"object","properties":{"a":{"type":"string"}}}"#
    );
    assert_eq!(request.tool_choice, Some(ToolChoice::Tool("f".into())));
    assert_eq!((request.max_tokens, request.reasoning_effort.as_deref()), (Some(5), Some("low")));
    assert_eq!(request.show_reasoning, Some(false));
    assert!(matches!(
        request.response_format,
        Some(ResponseFormat::JsonSchema { schema: Some(schema), .. }) if schema.get() == r#"{"type":"integer"}"#
    ));
    assert!(request.extra.is_empty());
}

#[track_caller]
fn check_error(body: &str, expected: &str) {
    assert_eq!(decode(body.as_bytes()).unwrap_err().to_string(), expected);
}

#[test]
fn wrong_fields_are_named() {
    check_error(
        r#"{"contents":[{"role":"wizard","parts":[]}]}"#,
        "`contents[0].role`: `wizard` is none of user, model, function",
    );
    check_error(
        r#"{"contents":[{"parts":[{"text":7}]}]}"#,
        "`contents[0].parts[0].text`: invalid type: integer `7`, expected a string",
    );
    check_error(
        r#"{"contents":[{"role":"model","parts":[{"functionCall":{"args":{}}}]}]}"#,
        "`contents[0].parts[0].functionCall.name`: is missing",
    );
    check_error(
        r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","args":"{}"}}]}]}"#,
        "`contents[0].parts[0].functionCall.args`: expected an object",
    );
    check_error(
        r#"{"contents":[],"generationConfig":{"temperature":"hot"}}"#,
        "`generationConfig.temperature`: expected a number, found a string",
    );
}

#[test]
fn calls_without_ids_are_tied_to_their_results() {
    let request = decode(
        br#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f"}},{"functionCall":{"name":"f"}}]},
            {"role":"function","parts":[{"functionResponse":{"name":"f","response":{"result":"1"}}},{"functionResponse":{"name":"f","response":{"a":2}}}]}]}"#,
    )
    .unwrap();
    let ids = |message: &Message| {
        let ids = message.parts.iter().map(|part| match &part.kind {
            PartKind::ToolCall(call) => call.id.clone(),
            PartKind::ToolResult(result) => result.call_id.clone(),
            other => panic!("{other:?}"),
        });
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(&request.messages[0]), ids(&request.messages[1]));
    assert_ne!(ids(&request.messages[0])[0], ids(&request.messages[0])[1]);
    assert_eq!(request.messages[1].role, Role::Tool);
}

fn call(id: &str, arguments: &str) -> Part {
    let call =
        ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into(), ..ToolCall::default() };
    PartKind::ToolCall(call).into()
}

fn result(id: &str, content: Vec<Part>) -> Part {
    PartKind::ToolResult(ToolResult { call_id: id.into(), content, is_error: false }).into()
}

#[test]
fn turns_are_merged_and_results_are_named_and_ordered() {
    let request = InferenceRequest {
        messages: vec![
            Message::user("a"),
            Message::user("b"),
            Message::new(Role::Assistant, vec![Part::text(""), call("c1", r#"{"x":1}"#), call("c2", "[1]")]),
            Message::new(Role::Tool, vec![result("c2", vec![Part::text("two")])]),
            Message::new(Role::Tool, vec![result("c1", vec![Part::text(r#"{"one":1}"#)])]),
            Message::new(Role::Tool, vec![result("lost", vec![])]),
            Message::user("go"),
        ],
        origin: Some(Dialect::OpenAiChat),
        ..InferenceRequest::default()
    };
    let (body, notes) = written(&request, "gemini-2.5-flash");
    assert_eq!(
        body,
        r#"{"contents":[{"parts":[{"text":"a"},{"text":"b"}],"role":"user"},{"parts":[{"functionCall":{"id":"c1","name":"f","args":{"x":1}}},{"functionCall":{"id":"c2","name":"f","args":{"arguments":"[1]"}}}],"role":"model"},{"parts":[{"functionResponse":{"id":"c1","name":"f","response":{"one":1}}},{"functionResponse":{"id":"c2","name":"f","response":{"output":"two"}}},{"functionResponse":{"name":"lost","response":{}}},{"text":"go"}],"role":"user"}]}"#
    );
    assert_eq!(notes, [FidelityNote::emulated("messages[2].tool_calls")]);
}

#[test]
fn instructions_stand_apart() {
    let mut request = InferenceRequest {
        system: Some("one".into()),
        messages: vec![Message::text(Role::Developer, "two"), Message::user("hi"), Message::system("three")],
        ..InferenceRequest::default()
    };
    let (body, notes) = written(&request, "gemini-2.5-flash");
    assert_eq!(
        body,
        r#"{"systemInstruction":{"parts":[{"text":"one"},{"text":"two"},{"text":"three"}]},"contents":[{"parts":[{"text":"hi"}],"role":"user"}]}"#
    );
    assert_eq!(notes, [FidelityNote::emulated("messages[2].role")]);
    // Google wants something said.
    request.messages.clear();
    let (body, notes) = written(&request, "gemini-2.5-flash");
    assert_eq!(body, r#"{"contents":[{"parts":[{"text":"one"}],"role":"user"}]}"#);
    assert_eq!(notes, [FidelityNote::emulated("messages[0].role")]);
}

#[test]
fn calls_of_other_models_are_signed_for_gemini_3() {
    let signature = |maker, value: &str| Some(Signature { maker, value: value.into() });
    let signed = Part { signature: signature(Dialect::Gemini, "QQ=="), ..call("c3", "") };
    let mut request = InferenceRequest {
        messages: vec![
            Message::user("hi"),
            Message::new(
                Role::Assistant,
                vec![
                    Part {
                        signature: signature(Dialect::Anthropic, "x"),
                        ..PartKind::Reasoning("hm".into()).into()
                    },
                    call("c1", ""),
                    call("c2", ""),
                ],
            ),
            Message::user("on"),
            Message::new(Role::Assistant, vec![signed, call("c4", "")]),
        ],
        origin: Some(Dialect::Anthropic),
        ..InferenceRequest::default()
    };
    let count = |body: &str| body.matches("skip_thought_signature_validator").count();
    let (body, notes) = written(&request, "gemini-3-pro-preview");
    assert_eq!((count(&body), notes), (1, vec![]));
    assert!(body.contains(r#"{"text":"hm","thought":true},{"functionCall":{"id":"c1","name":"f","args":{}},"thoughtSignature":"skip"#), "{body}");
    assert!(body.contains(r#""args":{}},"thoughtSignature":"QQ=="}"#), "{body}");
    assert_eq!(count(&written(&request, "gemini-2.5-pro").0), 0);
    request.origin = Some(Dialect::Gemini);
    assert_eq!(count(&written(&request, "gemini-3-pro-preview").0), 0, "Google judges its own clients");
}

#[test]
fn media_in_results_go_where_the_model_takes_them() {
    let image = || PartKind::Image {
        source: MediaSource::Base64 { media_type: "image/png".into(), data: "AA".into() },
        detail: None,
    };
    let request = InferenceRequest {
        messages: vec![
            Message::new(Role::Assistant, vec![call("c", "")]),
            Message::new(Role::Tool, vec![result("c", vec![Part::text("see"), image().into()])]),
        ],
        ..InferenceRequest::default()
    };
    let inline = r#"{"inlineData":{"mimeType":"image/png","data":"AA"}}"#;
    let (body, notes) = written(&request, "gemini-3-flash");
    assert!(body.contains(&format!(r#""response":{{"output":"see"}},"parts":[{inline}]}}}}]"#)), "{body}");
    assert_eq!(notes, []);
    let (body, notes) = written(&request, "gemini-2.5-flash");
    assert!(body.contains(&format!(r#""response":{{"output":"see"}}}}}},{inline}]"#)), "{body}");
    assert_eq!(notes, [FidelityNote::emulated("messages[1].content")]);
}

#[test]
fn what_cannot_be_said_is_noted() {
    let schema = RawJson::parse(r#"{"type":"object"}"#).unwrap();
    let mut tool = ToolDefinition::new("f", "d", schema.clone());
    tool.strict = Some(true);
    let mut request = InferenceRequest {
        prompt: "hi".into(),
        tools: vec![tool],
        parallel_tool_calls: Some(false),
        response_format: Some(ResponseFormat::JsonSchema {
            name: "n".into(),
            schema: Some(schema),
            strict: None,
            extra: Default::default(),
        }),
        stop: (0..6).map(|number| number.to_string()).collect(),
        user: Some("u".into()),
        service_tier: Some("scale".into()),
        metadata: RawJson::parse("{}").ok(),
        origin: Some(Dialect::OpenAiChat),
        ..InferenceRequest::default()
    };
    request.extra.insert("logit_bias", RawJson::parse("1").unwrap());
    request.extra.insert("modalities", RawJson::parse(r#"["text","image"]"#).unwrap());
    let (body, mut notes) = written(&request, "gemini-2.5-flash");
    assert!(body.contains(r#""responseModalities":["TEXT","IMAGE"]"#) && !body.contains("Mime"), "{body}");
    let mut expected = [
        "tools[0].strict",
        "stop",
        "response_format",
        "service_tier",
        "parallel_tool_calls",
        "user",
        "metadata",
        "logit_bias",
    ]
    .map(FidelityNote::new)
    .to_vec();
    notes.sort_by(|a, b| a.field.cmp(&b.field));
    expected.sort_by(|a, b| a.field.cmp(&b.field));
    assert_eq!(notes, expected);
    assert!(written(&request, "gemini-3-flash").0.contains("responseJsonSchema"));
}

#[test]
fn uploads_elsewhere_and_plain_urls() {
    let image = |source| Part::from(PartKind::Image { source, detail: Some("high".into()) });
    let sources = [
        MediaSource::FileId("file-abc".into()),
        MediaSource::FileId("files/abc".into()),
        MediaSource::Url("https://x.test/picture".into()),
    ];
    let message = Message::new(Role::User, sources.into_iter().map(image).collect());
    let request = InferenceRequest { messages: vec![message], ..InferenceRequest::default() };
    let (body, notes) = written(&request, "gemini-2.5-flash");
    assert_eq!(
        body,
        r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://generativelanguage.googleapis.com/v1beta/files/abc"}},{"fileData":{"fileUri":"https://x.test/picture"}}],"role":"user"}]}"#
    );
    let lost = |field| FidelityNote::new(format!("messages[0].{field}"));
    assert_eq!(
        notes,
        [lost("content.detail"), lost("content"), FidelityNote::emulated("messages[0].content")]
    );
}

#[test]
fn a_thought_in_pieces_is_one() {
    let request = decode(
        br#"{"contents":[{"role":"model","parts":[{"text":"le","thought":true},{"text":"t me","thought":true},
            {"text":"","thought":true,"thoughtSignature":"QQ=="},{"text":"more","thought":true},{"text":"hi"}]}]}"#,
    )
    .unwrap();
    let signature = Some(Signature { maker: Dialect::Gemini, value: "QQ==".into() });
    let thought = |text: &str| Part::from(PartKind::Reasoning(text.into()));
    assert_eq!(
        request.messages[0].parts,
        [Part { signature, ..thought("let me") }, thought("more"), Part::text("hi")]
    );
}

#[test]
fn base64_comes_in_both_alphabets() {
    let request =
        decode(br#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"-_-_"}}]}]}"#)
            .unwrap();
    let PartKind::Image { source: MediaSource::Base64 { data, .. }, .. } = &request.messages[0].parts[0].kind
    else {
        panic!("{request:?}")
    };
    assert_eq!(data, "+/+/");
}
