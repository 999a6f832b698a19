//! OpenAI's Responses.

use std::fs;

use hoosh_core::dialect::{
    DecodeError, Dialect, Quirks, Target, responses_previous_id, take_responses_previous_id,
};
use hoosh_core::{FinishReason, InferenceResponse, PartKind, StreamEvent, fold};

use super::{as_stream, context, decode, files, fixtures, transcripts, written};

const OURS: Dialect = Dialect::OpenAiResponses;

/// What an answer is in any dialect.
fn gist(reply: &InferenceResponse) -> (String, Vec<(String, String, String)>, Option<u64>) {
    let calls = reply.tool_calls().map(|call| (call.id.clone(), call.name.clone(), call.arguments.clone()));
    (reply.text.clone(), calls.collect(), reply.usage.map(|usage| usage.total()))
}

fn parts(reply: &InferenceResponse) -> Vec<PartKind> {
    reply.choices[0].parts.iter().map(|part| part.kind.clone()).collect()
}

#[test]
fn any_split_gives_the_same_and_any_cut_is_an_error() {
    for (name, bytes) in transcripts(OURS) {
        let whole = decode(OURS, &[&bytes]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(OURS, &single), Ok(whole.clone()), "{name}");
        let end = bytes.windows(2).rposition(|two| two == b"\n\n").unwrap() + 2;
        for cut in 0..bytes.len() {
            let events = decode(OURS, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(events.as_ref(), Ok(&whole), "{name} cut at {cut}");
            if cut + 20 < end {
                assert!(
                    matches!(decode(OURS, &[&bytes[..cut]]), Err(DecodeError::Truncated)),
                    "{name} at {cut}"
                );
            }
        }
    }
}

#[test]
fn what_is_written_again_is_the_same() {
    for (name, bytes) in transcripts(OURS) {
        let events = decode(OURS, &[&bytes]).unwrap();
        let reply = InferenceResponse { origin: Some(OURS), ..fold(events.clone()) };
        let again = fold(decode(OURS, &[&written(OURS, &context(OURS), &events)]).unwrap());
        let codec = OURS.codec().unwrap();
        let back = codec.decode_reply(&codec.encode_reply(&reply, &context(OURS)).body).unwrap();
        for (way, other) in [("stream", &again), ("whole", &back)] {
            assert_eq!(other.choices, reply.choices, "{name} {way}");
            // OpenAI always says how many; servers that do not are taken to mean none.
            assert_eq!(gist(other), gist(&reply), "{name} {way}");
            assert_eq!(other.id, reply.id, "{name} {way}");
        }
    }
}

fn reply_of(name: &str) -> InferenceResponse {
    let (_, bytes) = transcripts(OURS).into_iter().find(|(path, _)| *path == name).unwrap();
    fold(decode(OURS, &[&bytes]).unwrap())
}

#[test]
fn peculiarities_are_put_right() {
    let rotated = reply_of("ids_that_rotate");
    assert_eq!(parts(&rotated), [PartKind::Reasoning("one\n\ntwo".into()), PartKind::Text("hä 😀".into())]);
    let signature = rotated.choices[0].parts[0].signature.clone().unwrap();
    assert_eq!((signature.maker, signature.value.as_str()), (OURS, "ENC"));
    let usage = rotated.usage.unwrap();
    assert_eq!(
        (usage.input, usage.cache_read, usage.output, usage.reasoning),
        (Some(5), Some(4), Some(2), Some(5))
    );

    let calls = reply_of("parallel_calls_interleaved");
    let arguments: Vec<_> = calls.tool_calls().map(|call| call.arguments.as_str()).collect();
    assert_eq!(arguments, [r#"{"x":1}"#, r#"{"input":"say \"hi\"\n"}"#]);
    assert_eq!(calls.finish_reason(), Some(&FinishReason::ToolCalls));

    assert_eq!(reply_of("incomplete").finish_reason(), Some(&FinishReason::Length));
    assert_eq!(reply_of("all_at_the_end").text, "hi");
    assert_eq!(reply_of("llamacpp_tool_call").tool_calls().next().unwrap().name, "get_weather");
    assert_eq!(reply_of("hosted_tool_and_citation").choices[0].parts.len(), 3);
}

#[test]
fn signatures_of_other_makers_come_back() {
    use hoosh_core::{Part, Signature};
    let sign = |maker, kind: PartKind| {
        let signature = Signature { maker, value: "S".into() };
        Part { signature: Some(signature), ..kind.into() }
    };
    let call = hoosh_core::ToolCall {
        id: "c".into(),
        name: "f".into(),
        arguments: "{}".into(),
        ..Default::default()
    };
    let second = hoosh_core::ToolCall { id: "d".into(), ..call.clone() };
    let parts = vec![
        sign(Dialect::Anthropic, PartKind::Reasoning("hm".into())),
        sign(Dialect::Anthropic, PartKind::Redacted),
        sign(Dialect::Gemini, PartKind::Text("hi".into())),
        sign(Dialect::Gemini, PartKind::ToolCall(call)),
        sign(Dialect::Gemini, PartKind::ToolCall(second)),
    ];
    let choice = hoosh_core::Choice { parts: parts.clone(), ..Default::default() };
    let reply =
        InferenceResponse { origin: Some(Dialect::Gemini), ..InferenceResponse::from_choices(vec![choice]) };
    let codec = OURS.codec().unwrap();
    let body = codec.encode_reply(&reply, &context(Dialect::Gemini)).body;
    let whole = codec.decode_reply(&body).unwrap();
    assert_eq!(whole.choices[0].parts, parts);
    assert_eq!(whole.id, "resp_x");

    let mut encoder = codec.stream_encoder(&context(Dialect::Gemini));
    let mut bytes = Vec::new();
    let signature =
        |maker| StreamEvent::Signature { choice: 0, signature: Signature { maker, value: "S".into() } };
    for event in [
        StreamEvent::Reasoning { choice: 0, delta: "hm".into() },
        signature(Dialect::Anthropic),
        StreamEvent::Part { choice: 0, part: parts[1].clone() },
        StreamEvent::Text { choice: 0, delta: "hi".into() },
        signature(Dialect::Gemini),
        StreamEvent::ToolCallStart { choice: 0, call: 0, id: "c".into(), name: "f".into() },
        signature(Dialect::Gemini),
        StreamEvent::ToolCallDelta { choice: 0, call: 0, arguments: "{}".into() },
        StreamEvent::ToolCallStart { choice: 0, call: 1, id: "d".into(), name: "f".into() },
        StreamEvent::ToolCallDelta { choice: 0, call: 1, arguments: "{}".into() },
        signature(Dialect::Gemini),
    ] {
        encoder.event(&event, &mut bytes);
    }
    encoder.finish(&mut bytes);
    assert_eq!(fold(decode(OURS, &[&bytes]).unwrap()).choices[0].parts, parts);

    // The client sends the items back as they are.
    let output: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let request = serde_json::json!({"model": "m", "input": output["output"]}).to_string();
    let request = codec.decode_request(request.as_bytes()).unwrap();
    let sent: Vec<_> = request.messages[0].parts.iter().map(|part| part.signature.clone()).collect();
    assert_eq!(sent, parts.iter().map(|part| part.signature.clone()).collect::<Vec<_>>());
    let target = Target { model: "m", stream: false, quirks: Quirks::NONE };
    let upstream = String::from_utf8(codec.encode_request(&request, target).body).unwrap();
    assert!(!upstream.contains("hoosh"), "{upstream}");
}

#[test]
fn a_request_survives_a_round_trip() {
    let body = r#"{"model":"m","instructions":"be brief","store":true,"previous_response_id":"resp_0",
        "input":[{"role":"user","content":"hi"},
            {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"E"},
            {"type":"message","role":"assistant","phase":"commentary","content":[{"type":"output_text","text":"a","annotations":[]}]},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
            {"type":"custom_tool_call","call_id":"d","name":"g","input":"x"},
            {"type":"function_call_output","call_id":"c","output":[{"type":"input_image","image_url":"https://x.test/a.png"}]},
            {"type":"custom_tool_call_output","call_id":"d","output":"y"},
            {"type":"item_reference","id":"i"}],
        "tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true},
            {"type":"custom","name":"g","format":{"type":"text"}},{"type":"web_search"}],
        "tool_choice":{"type":"custom","name":"g"},"text":{"format":{"type":"json_object"},"verbosity":"low"},
        "reasoning":{"effort":"low","summary":"detailed"},"include":["reasoning.encrypted_content"],
        "max_output_tokens":9,"temperature":0.10,"metadata":{"a":"b"},"truncation":"auto"}"#;
    let codec = OURS.codec().unwrap();
    let mut request = codec.decode_request(body.as_bytes()).unwrap();
    let target = Target { model: "m", stream: false, quirks: Quirks::NONE };
    let encoded = codec.encode_request(&request, target);
    assert_eq!(encoded.notes, []);
    assert_eq!(codec.decode_request(&encoded.body).unwrap().messages.len(), request.messages.len());
    let again = codec.decode_request(&encoded.body).unwrap();
    assert_eq!(again.tools, request.tools);
    assert_eq!(again.extra.get("verbosity"), request.extra.get("verbosity"));
    let text = String::from_utf8(encoded.body).unwrap();
    for wanted in [
        r#""temperature":0.10"#,
        "custom_tool_call_output",
        r#""store":true"#,
        "commentary",
        "item_reference",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    assert_eq!(responses_previous_id(&request).as_deref(), Some("resp_0"));
    assert_eq!(take_responses_previous_id(&mut request).as_deref(), Some("resp_0"));
    assert_eq!(take_responses_previous_id(&mut request), None);
}

/// The events of the first answer: some recordings hold the next one, too.
fn first_answer(text: &str) -> String {
    let is_end = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["type"] == "response.completed"
    };
    let end = text.lines().position(is_end).map_or(usize::MAX, |at| at + 1);
    text.lines().take(end).collect::<Vec<_>>().join("\n")
}

#[test]
fn recordings_of_vendors_are_read() {
    let Some(root) = fixtures() else { return };
    let folder = root.join("transcripts/openai_responses");
    for file in files(&folder, ".chunks.txt") {
        let text = first_answer(&fs::read_to_string(&file).unwrap());
        let name = file.display().to_string();
        let stream = as_stream(&text);
        let events = decode(OURS, &[stream.as_bytes()]);
        let mut tap = OURS.tap(Quirks::NONE);
        let tapped = text.lines().try_for_each(|line| tap.event(line.as_bytes()).map(drop));
        if name.contains("openai-error") {
            assert!(matches!(events, Err(DecodeError::Reported(_))), "{name}: {events:?}");
            assert!(matches!(tapped, Err(DecodeError::Reported(_))), "{name}");
            continue;
        }
        let events = events.unwrap_or_else(|error| panic!("{name}: {error}"));
        tapped.unwrap_or_else(|error| panic!("{name}: {error}"));
        let reply = InferenceResponse { origin: Some(OURS), ..fold(events.clone()) };
        assert!(tap.is_complete() && tap.usage() == reply.usage && reply.usage.is_some(), "{name}");
        assert!(!reply.choices[0].parts.is_empty() && reply.finish_reason().is_some(), "{name}");
        // The whole answer at the end says the same as the stream of it.
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        // One has other ids throughout, the deltas of the other were cut by whoever recorded it.
        if !name.contains("rotation") && !name.contains("openai-phase") {
            let whole = OURS.codec().unwrap().decode_reply(last["response"].to_string().as_bytes()).unwrap();
            assert_eq!(gist(&whole), gist(&reply), "{name}");
        }
        let again = fold(decode(OURS, &[&written(OURS, &context(OURS), &events)]).unwrap());
        assert_eq!(gist(&again), gist(&reply), "{name}");
    }
    for file in files(&folder, ".json") {
        let bytes = fs::read(&file).unwrap();
        let name = file.display();
        match OURS.codec().unwrap().decode_reply(&bytes) {
            Ok(reply) => assert!(reply.finish_reason().is_some() && reply.usage.is_some(), "{name}"),
            Err(error) => assert!(matches!(error, DecodeError::Reported(_)), "{name}: {error}"),
        }
    }
    for file in files(&root.join("requests/responses"), ".json") {
        let codec = OURS.codec().unwrap();
        let request = codec.decode_request(&fs::read(&file).unwrap()).unwrap();
        let target = Target { model: &request.model, stream: false, quirks: Quirks::NONE };
        let again = codec.decode_request(&codec.encode_request(&request, target).body).unwrap();
        assert_eq!(again.messages, request.messages, "{}", file.display());
    }
}
