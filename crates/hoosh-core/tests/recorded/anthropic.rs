//! Anthropic's messages.

use std::fs;

use hoosh_core::dialect::{DecodeError, Dialect, Quirks, ReplyContext, Target};
use hoosh_core::{InferenceResponse, PartKind, fold};

use super::{as_stream, context, decode, files, fixtures, transcripts, written};

const ME: Dialect = Dialect::Anthropic;

#[test]
fn any_split_gives_the_same_events_and_any_cut_an_error() {
    for (name, bytes) in transcripts(ME) {
        let whole = decode(ME, &[&bytes]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let end = bytes.iter().rposition(|byte| *byte == b'}').unwrap() + 1;
        for cut in 0..=bytes.len() {
            let events = decode(ME, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(events.as_ref(), Ok(&whole), "{name} cut at {cut}");
            if cut < end {
                assert_eq!(decode(ME, &[&bytes[..cut]]), Err(DecodeError::Truncated), "{name} cut at {cut}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(ME, &single), Ok(whole), "{name} byte by byte");
    }
}

#[test]
fn a_message_that_does_not_begin_is_read_and_begun_for_the_client() {
    let bytes = include_bytes!("../transcripts/anthropic/broken/llamacpp_without_message_start.sse");
    let reply = fold(decode(ME, &[bytes]).unwrap());
    assert_eq!((reply.text.as_str(), reply.usage.unwrap().completion_total()), ("👩🔒Hello there", 8));
    let mut tap = ME.tap(Quirks::NONE);
    let mut see = |event: &str| {
        tap.event(event.as_bytes()).unwrap();
        tap.missing_opening(&context(ME), "m").map(|event| String::from_utf8(event).unwrap())
    };
    assert_eq!(see(r#"{"type":"ping"}"#), None);
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let opening = see(block).unwrap();
    assert!(opening.starts_with("event: message_start\n") && opening.contains(r#""model":"m""#), "{opening}");
    assert_eq!(see(block), None, "it is told once");
}

#[test]
fn what_is_written_is_read_back() {
    for (name, bytes) in transcripts(ME) {
        let events = decode(ME, &[&bytes]).unwrap();
        let again = decode(ME, &[&written(ME, &context(ME), &events)]).unwrap();
        assert_eq!(fold(again), fold(events.clone()), "{name}");
        let reply = InferenceResponse { origin: Some(ME), ..fold(events) };
        let codec = ME.codec().unwrap();
        let back = codec.decode_reply(&codec.encode_reply(&reply, &ReplyContext::default()).body).unwrap();
        assert_eq!(back, reply, "{name}");
    }
}

#[test]
fn recordings_are_read() {
    let Some(root) = fixtures() else { return };
    let folder = root.join("transcripts/anthropic");
    for file in files(&folder, ".chunks.txt") {
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let stream = as_stream(&text);
        let mut tap = ME.tap(Quirks::NONE);
        if name.contains("spliced") {
            assert!(matches!(decode(ME, &[stream.as_bytes()]), Err(DecodeError::Field(_))));
            assert!(text.lines().any(|line| tap.event(line.as_bytes()).is_err()));
            continue;
        }
        let events = decode(ME, &[stream.as_bytes()]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let reply = InferenceResponse { origin: Some(ME), ..fold(events.clone()) };
        assert!(reply.finish_reason().is_some() && reply.usage.is_some(), "{name}");
        assert!(!reply.choices[0].parts.is_empty() || name.contains("refusal"), "{name}");
        // One file holds a second answer after the first.
        for line in text.lines() {
            if tap.is_done() {
                break;
            }
            tap.event(line.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(tap.is_complete(), "{name}");
        assert_eq!(tap.usage(), reply.usage, "{name}");
        assert_eq!(
            fold(decode(ME, &[&written(ME, &context(ME), &events)]).unwrap()),
            fold(events.clone()),
            "{name}"
        );
    }
    for file in files(&folder, ".json") {
        let name = file.display().to_string();
        let bytes = fs::read(&file).unwrap();
        let codec = ME.codec().unwrap();
        let reply = codec.decode_reply(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = codec.encode_reply(&reply, &ReplyContext::default()).body;
        assert_eq!(codec.decode_reply(&again).as_ref(), Ok(&reply), "{name}");
    }
}

#[test]
fn requests_are_read_and_written_again() {
    let Some(root) = fixtures() else { return };
    for file in files(&root.join("requests/messages"), ".json") {
        let codec = ME.codec().unwrap();
        let request = codec.decode_request(&fs::read(&file).unwrap()).unwrap();
        let target = Target { model: &request.model, stream: false, quirks: Quirks::NONE };
        let encoded = codec.encode_request(&request, target);
        assert_eq!(encoded.notes, [], "{}", file.display());
        assert_eq!(codec.decode_request(&encoded.body), Ok(request), "{}", file.display());
    }
}

#[test]
fn foreign_signatures_pass_through_a_client() {
    use hoosh_core::{Part, Signature, ToolCall};
    let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), ..Default::default() };
    let signature = Signature { maker: Dialect::Gemini, value: "thought".into() };
    let part = Part { signature: Some(signature), ..PartKind::ToolCall(call).into() };
    let choice = hoosh_core::Choice { parts: vec![part.clone()], ..Default::default() };
    let reply =
        InferenceResponse { choices: vec![choice], origin: Some(Dialect::Gemini), ..Default::default() };
    let codec = ME.codec().unwrap();
    let back = codec.decode_reply(&codec.encode_reply(&reply, &ReplyContext::default()).body).unwrap();
    assert_eq!(back.choices[0].parts, [part]);
}
