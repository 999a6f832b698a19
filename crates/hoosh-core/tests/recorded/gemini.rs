//! Gemini's generateContent.

use std::fs;
use std::time::Duration;

use hoosh_core::dialect::{DecodeError, Dialect, Quirks, ReplyContext, Target};
use hoosh_core::{
    FailureKind, FinishReason, InferenceResponse, Part, PartKind, Retry, Signature, StreamEvent, fold,
};

use super::{as_stream, context, decode, files, fixtures, transcripts, written};

const ME: Dialect = Dialect::Gemini;

/// Where the chunk begins after which the answer is complete.
fn last_needed(bytes: &[u8]) -> usize {
    let text = std::str::from_utf8(bytes).unwrap();
    let last = text.rfind("finishReason").or(text.rfind("blockReason")).unwrap();
    last + text[last..].find("\n").unwrap()
}

#[test]
fn any_split_gives_the_same_events() {
    for (name, bytes) in transcripts(ME) {
        let whole = decode(ME, &[&bytes]).unwrap_or_else(|error| panic!("{name}: {error}"));
        for cut in 0..=bytes.len() {
            let events = decode(ME, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(events.as_ref(), Ok(&whole), "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(ME, &single), Ok(whole), "{name} byte by byte");
    }
}

#[test]
fn a_transcript_cut_anywhere_is_an_error() {
    for (name, bytes) in transcripts(ME) {
        // Chunks that all say a finish reason are complete wherever one of them ends.
        if name == "finish_reason_on_every_chunk" {
            continue;
        }
        // What follows the last brace of the chunk that finishes carries nothing.
        let end = last_needed(&bytes);
        let end = bytes[..end].iter().rposition(|byte| *byte == b'}').unwrap() + 1;
        for cut in 0..end {
            assert_eq!(decode(ME, &[&bytes[..cut]]), Err(DecodeError::Truncated), "{name} cut at {cut}");
        }
        assert!(decode(ME, &[&bytes[..end]]).is_ok(), "{name}");
    }
    let (_, bytes) = transcripts(ME).into_iter().find(|(name, _)| name == "usage_after_the_finish").unwrap();
    assert_eq!(decode(ME, &[&bytes[..bytes.len() - 5]]), Err(DecodeError::Truncated), "in the last chunk");
}

#[test]
fn what_is_written_is_read_back() {
    for (name, bytes) in transcripts(ME) {
        let events = decode(ME, &[&bytes]).unwrap();
        let shown = written(ME, &context(ME), &events);
        assert_eq!(fold(decode(ME, &[&shown]).unwrap()), fold(events.clone()), "{name}");

        let list = written(ME, &ReplyContext { json_list: true, ..context(ME) }, &events);
        let chunks: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(&list).unwrap();
        let stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        assert_eq!(stream.as_bytes(), shown, "{name}: a list holds the same chunks");

        // A whole answer holds what the stream of it holds.
        let reply = InferenceResponse { origin: Some(ME), ..fold(events) };
        let codec = ME.codec().unwrap();
        let encoded = codec.encode_reply(&reply, &context(ME));
        assert_eq!(codec.decode_reply(&encoded.body).as_ref(), Ok(&reply), "{name}");
        assert_eq!(encoded.notes, [], "{name}");
    }
}

fn reply_of(name: &str) -> InferenceResponse {
    let (_, bytes) = transcripts(ME).into_iter().find(|(known, _)| known == name).unwrap();
    fold(decode(ME, &[&bytes]).unwrap())
}

fn calls(reply: &InferenceResponse) -> Vec<(&str, &str, &str)> {
    reply.tool_calls().map(|call| (call.id.as_str(), call.name.as_str(), call.arguments.as_str())).collect()
}

#[test]
fn peculiarities_are_put_right() {
    assert_eq!(reply_of("text_with_umlauts").text, "häß 日本 😀");
    let every = reply_of("finish_reason_on_every_chunk");
    assert_eq!((every.text.as_str(), every.finish_reason()), ("one two", Some(&FinishReason::Stop)));

    let thoughts = reply_of("thoughts_and_signature_in_empty_text");
    let parts = &thoughts.choices[0].parts;
    assert_eq!(parts[0].kind, PartKind::Reasoning("let me think".into()));
    assert_eq!((parts[0].signature.as_ref(), parts.len()), (None, 2));
    assert_eq!(parts[1].signature, Some(Signature { maker: ME, value: "CiMBjz1r".into() }));
    let usage = thoughts.usage.unwrap();
    assert_eq!(
        (usage.input, usage.cache_read, usage.output, usage.reasoning),
        (Some(5), Some(4), Some(4), Some(7))
    );

    let signed = reply_of("signed_call_then_signed_empty_text");
    assert_eq!(calls(&signed), [("call_g_r1_0", "f", r#"{"a":1.50}"#), ("call_g_r1_1", "f", "{}")]);
    let signatures: Vec<_> = signed.choices[0].parts.iter().map(|part| part.signature.is_some()).collect();
    assert_eq!(signatures, [true, false, true]);
    assert_eq!(signed.finish_reason(), Some(&FinishReason::ToolCalls));

    let named = reply_of("calls_with_ids_after_text");
    assert_eq!(calls(&named), [("abc", "f", r#"{"q":"x y"}"#), ("def", "g", "{}")]);
    let partial = reply_of("partial_arguments");
    assert_eq!(calls(&partial), [("call_g_r2_0", "f", r#"{"city":"Boston","days":[1.50]}"#)]);
    assert_eq!(
        (partial.created, partial.choices[0].parts[0].signature.is_some()),
        (Some(1_775_149_430), true)
    );

    let two = reply_of("two_candidates_interleaved");
    let reasons: Vec<_> = two.choices.iter().map(|choice| choice.finish_reason.clone().unwrap()).collect();
    assert_eq!(reasons, [FinishReason::Length, FinishReason::ContentFilter]);
    assert_eq!(two.choices[1].extra.get("finishReason").unwrap().get(), "\"RECITATION\"");

    let grounded = reply_of("grounded");
    let citation = &grounded.choices[0].parts[0].citations[0];
    assert_eq!((citation.url.as_deref(), citation.span), (Some("https://x.test"), Some((0, 3))));

    let pieces = reply_of("code_and_picture");
    let kinds = &pieces.choices[0].parts;
    assert!(matches!(&kinds[0].kind, PartKind::Other { kind, .. } if kind == "executableCode"));
    assert!(matches!(&kinds[2].kind, PartKind::Image { .. }));
    assert!(matches!(&kinds[3].kind, PartKind::Audio { format, .. } if format == "L16;codec=pcm;rate=24000"));
    let usage = pieces.usage.unwrap();
    assert_eq!(
        (usage.input, usage.audio_in, usage.output, usage.audio_out),
        (Some(7), Some(2), Some(5), Some(25))
    );

    let refused = reply_of("prompt_refused");
    assert_eq!(refused.finish_reason(), Some(&FinishReason::ContentFilter));
    assert_eq!(reply_of("usage_after_the_finish").usage.unwrap().output, Some(5));
}

#[test]
fn the_tap_and_the_decoder_give_the_same_books() {
    for (name, bytes) in transcripts(ME) {
        let mut tap = ME.tap(Quirks::NONE);
        for line in
            std::str::from_utf8(&bytes).unwrap().lines().filter_map(|line| line.strip_prefix("data: "))
        {
            tap.event(line.as_bytes()).unwrap();
        }
        let reply = fold(decode(ME, &[&bytes]).unwrap());
        assert!(tap.is_complete(), "{name}");
        assert_eq!(tap.usage(), reply.usage, "{name}");
        let mixed = reply.choices.len() > 1;
        assert!(mixed || tap.output_text().contains(&reply.text), "{name}");
    }
}

#[test]
fn recordings_are_read() {
    let Some(root) = fixtures() else { return };
    let folder = root.join("transcripts/gemini");
    for file in files(&folder, ".chunks.txt") {
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let stream = as_stream(&text);
        let events = decode(ME, &[stream.as_bytes()]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let reply = InferenceResponse { origin: Some(ME), ..fold(events.clone()) };
        assert!(reply.finish_reason().is_some() && reply.usage.is_some(), "{name}");
        assert!(!reply.text.is_empty() || reply.tool_calls().next().is_some(), "{name}");
        for call in reply.tool_calls() {
            assert!(call.arguments.contains("\"location\":\""), "{name}: {call:?}");
            assert_eq!(reply.finish_reason(), Some(&FinishReason::ToolCalls), "{name}");
        }
        let mut tap = ME.tap(Quirks::NONE);
        for line in text.lines() {
            tap.event(line.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(tap.is_complete(), "{name}");
        assert_eq!(tap.usage(), reply.usage, "{name}");
        let again = decode(ME, &[&written(ME, &context(ME), &events)]).unwrap();
        assert_eq!(fold(again), fold(events.clone()), "{name}");
    }
    for file in files(&folder, ".json") {
        let name = file.display().to_string();
        let bytes = fs::read(&file).unwrap();
        if name.contains("429") {
            let failure = ME.decode_error(429, None, &bytes);
            assert_eq!(failure.kind, FailureKind::RateLimited);
            assert_eq!(failure.retry, Retry::Anywhere { after: Some(Duration::from_secs_f64(34.4)) });
            continue;
        }
        let codec = ME.codec().unwrap();
        let reply = codec.decode_reply(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(reply.finish_reason().is_some() && reply.usage.is_some(), "{name}");
        let mut tap = ME.tap(Quirks::NONE);
        tap.whole(&bytes).unwrap();
        assert_eq!(tap.usage(), reply.usage, "{name}");
        let again = codec.encode_reply(&reply, &context(ME)).body;
        assert_eq!(codec.decode_reply(&again).as_ref(), Ok(&reply), "{name}");
    }
}

#[test]
fn requests_are_read_and_written_again() {
    let Some(root) = fixtures() else { return };
    for file in files(&root.join("requests/gemini"), ".json") {
        let codec = ME.codec().unwrap();
        let request = codec.decode_request(&fs::read(&file).unwrap()).unwrap();
        let target = Target { model: "gemini-2.5-flash", stream: false, quirks: Quirks::NONE };
        let encoded = codec.encode_request(&request, target);
        assert_eq!(encoded.notes, [], "{}", file.display());
        assert_eq!(codec.decode_request(&encoded.body), Ok(request.clone()), "{}", file.display());
        // A provider of another dialect can be asked too.
        let chat = Dialect::OpenAiChat.codec().unwrap().encode_request(&request, target);
        assert!(!chat.body.is_empty());
    }
}

#[test]
fn foreign_signatures_pass_through_a_client() {
    let signature = |value: &str| Some(Signature { maker: Dialect::Anthropic, value: value.into() });
    let parts = vec![
        Part { signature: signature("a"), ..PartKind::Redacted.into() },
        Part { signature: signature("b"), ..PartKind::Reasoning("hm".into()).into() },
        Part { signature: signature("c"), ..PartKind::Reasoning(String::new()).into() },
        Part::text("hi"),
    ];
    let choice = hoosh_core::Choice {
        parts: parts.clone(),
        finish_reason: Some(FinishReason::Stop),
        ..hoosh_core::Choice::default()
    };
    let reply =
        InferenceResponse { choices: vec![choice], origin: Some(Dialect::Anthropic), ..Default::default() };
    let codec = ME.codec().unwrap();
    let written = codec.encode_reply(&reply, &context(Dialect::Anthropic)).body;
    // A client sends the turn back as it came.
    let answer: serde_json::Value = serde_json::from_slice(&written).unwrap();
    let turn = &answer["candidates"][0]["content"];
    let request = codec.decode_request(format!(r#"{{"contents":[{turn}]}}"#).as_bytes()).unwrap();
    assert_eq!(request.messages[0].parts, parts);
}

#[test]
fn rubbish_never_panics() {
    let seeds: Vec<_> = transcripts(ME).into_iter().map(|(_, bytes)| bytes).collect();
    let codec = ME.codec().unwrap();
    for bytes in seeds {
        for at in (0..bytes.len()).step_by(3) {
            for byte in [b'"', b'{', b'0', 0xFF] {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                let _ = decode(ME, &[&bytes]);
                let data = bytes.split(|byte| *byte == b'\n').next().unwrap();
                let data = data.strip_prefix(b"data: ").unwrap_or(data);
                let _ = ME.tap(Quirks::NONE).event(data);
                let _ = codec.decode_reply(data);
                let _ = codec.decode_request(data);
            }
        }
    }
}

#[test]
fn a_problem_ends_a_stream_in_either_form() {
    use hoosh_core::{Problem, ProblemKind};
    let problem = Problem::new(ProblemKind::Upstream, "upstream_broken", "it broke");
    let text = StreamEvent::Text { choice: 0, delta: "hi".into() };
    for json_list in [false, true] {
        let context = ReplyContext { json_list, ..context(Dialect::OpenAiChat) };
        let mut encoder = ME.codec().unwrap().stream_encoder(&context);
        let mut written = Vec::new();
        encoder.event(&text, &mut written);
        encoder.problem(&problem, &mut written);
        if json_list {
            let list: serde_json::Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(list[1]["error"]["status"], "UNAVAILABLE");
        } else {
            let failed = decode(ME, &[&written]);
            let Err(DecodeError::Reported(failure)) = failed else { panic!("{failed:?}") };
            assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Failed, "it broke"));
        }
    }
}

#[test]
fn calls_that_interleave_are_written_whole_and_sources_at_the_end() {
    let start =
        |call, id: &str| StreamEvent::ToolCallStart { choice: 0, call, id: id.into(), name: "f".into() };
    let delta = |call, text: &str| StreamEvent::ToolCallDelta { choice: 0, call, arguments: text.into() };
    let citation = hoosh_core::Citation {
        url: Some("u".into()),
        title: None,
        quote: None,
        span: Some((0, 1)),
        maker: Dialect::Anthropic,
        json: hoosh_core::json::RawJson::parse("{}").unwrap(),
    };
    let events = [
        StreamEvent::Text { choice: 0, delta: "ä b".into() },
        StreamEvent::Citation { choice: 0, citation },
        start(0, "a"),
        delta(0, "{\"x\"\n"),
        start(1, "b"),
        delta(0, ":1}"),
        delta(1, "{}"),
        StreamEvent::Finish { choice: 0, reason: FinishReason::ToolCalls },
    ];
    let written = written(ME, &context(Dialect::Anthropic), &events);
    let back = fold(decode(ME, &[&written]).unwrap());
    assert_eq!(calls(&back), [("a", "f", r#"{"x":1}"#), ("b", "f", "{}")]);
    let sources: Vec<_> = back.choices[0].parts.iter().flat_map(|part| &part.citations).collect();
    assert_eq!((sources[0].url.as_deref(), sources[0].span), (Some("u"), Some((0, 1))));
}
