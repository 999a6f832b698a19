//! Laws that hold for every stream decoder, over every transcript in `transcripts/<dialect>/`.
//!
//! The recordings named after a server are our own; the others are made by hand, one peculiarity each. With
//! `HOOSH_FIXTURES` set, recordings of many vendors that are not ours are read from there too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::fs;
use std::path::{Path, PathBuf};

use hoosh_core::dialect::{DecodeError, Dialect, Quirks};
use hoosh_core::{InferenceResponse, PartKind, StreamEvent, fold};

const DIALECTS: [(&str, Dialect); 2] =
    [("openai_chat", Dialect::OpenAiChat), ("openai_completions", Dialect::OpenAiCompletions)];

/// What a stream that leaves out `[DONE]` is allowed.
const LENIENT: Quirks = Quirks { done_optional: true, ..Quirks::NONE };

fn decode(dialect: Dialect, quirks: Quirks, pieces: &[&[u8]]) -> Result<Vec<StreamEvent>, DecodeError> {
    let mut decoder = dialect.codec().unwrap().stream_decoder(quirks);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece, &mut events)?;
    }
    decoder.finish(&mut events)?;
    Ok(events)
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

fn transcripts() -> Vec<(String, Dialect, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let read = |folder: &str, dialect| {
        let files = files(&root.join(folder), ".sse").into_iter();
        files
            .map(move |file| (file.display().to_string(), dialect, fs::read(&file).unwrap()))
            .collect::<Vec<_>>()
    };
    let all: Vec<_> = DIALECTS.iter().flat_map(|(folder, dialect)| read(folder, *dialect)).collect();
    assert!(all.len() >= 15, "the transcripts are there");
    all
}

/// Pseudo-random numbers from a seed (xorshift), so that a failure can be repeated.
fn numbers(mut seed: u64) -> impl Iterator<Item = usize> {
    std::iter::repeat_with(move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    })
}

#[test]
fn any_split_of_a_transcript_gives_the_same_events() {
    for (name, dialect, bytes) in transcripts() {
        let whole =
            decode(dialect, Quirks::NONE, &[&bytes]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let folded = fold(whole.clone());
        for cut in 0..=bytes.len() {
            let events = decode(dialect, Quirks::NONE, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(events.as_ref(), Ok(&whole), "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(dialect, Quirks::NONE, &single), Ok(whole.clone()), "{name} byte by byte");
        let mut numbers = numbers(0x9E37_79B9_7F4A_7C15);
        for _ in 0..200 {
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((numbers.next().unwrap() % 40 + 1).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            assert_eq!(
                fold(decode(dialect, Quirks::NONE, &pieces).unwrap()),
                folded,
                "{name} in random pieces"
            );
        }
    }
}

#[test]
fn a_transcript_cut_anywhere_is_an_error() {
    for (name, dialect, bytes) in transcripts() {
        // What follows the word that ends a stream carries nothing.
        let end = bytes.windows(6).rposition(|six| six == b"[DONE]").unwrap() + 6;
        for cut in 0..end {
            let cut_short = decode(dialect, Quirks::NONE, &[&bytes[..cut]]);
            assert!(matches!(cut_short, Err(DecodeError::Truncated)), "{name} cut at {cut}: {cut_short:?}");
        }
        assert!(decode(dialect, Quirks::NONE, &[&bytes[..end]]).is_ok(), "{name}");
    }
}

#[test]
fn what_is_decoded_and_written_again_is_the_same() {
    for (name, dialect, bytes) in transcripts() {
        let events = decode(dialect, Quirks::NONE, &[&bytes]).unwrap();
        let mut encoder = dialect.codec().unwrap().stream_encoder(true);
        let mut written = Vec::new();
        events.iter().for_each(|event| encoder.event(event, &mut written));
        encoder.finish(&mut written);
        let again = decode(dialect, Quirks::NONE, &[&written]).unwrap();
        assert_eq!(fold(again), fold(events.clone()), "{name}");

        // A whole answer holds what the stream of it holds.
        let codec = dialect.codec().unwrap();
        let reply = fold(events);
        let mut back = codec.decode_reply(&codec.encode_reply(&reply)).unwrap();
        if dialect == Dialect::OpenAiCompletions {
            // A choice's unknown fields have no place in the chunks of this dialect.
            back.choices
                .iter_mut()
                .zip(&reply.choices)
                .for_each(|(back, sent)| back.extra = sent.extra.clone());
        }
        assert_eq!(back, reply, "{name}");
    }
}

fn reply_of(name: &str) -> InferenceResponse {
    let (_, dialect, bytes) =
        transcripts().into_iter().find(|(path, ..)| path.ends_with(&format!("{name}.sse"))).unwrap();
    fold(decode(dialect, Quirks::NONE, &[&bytes]).unwrap())
}

#[test]
fn peculiarities_are_put_right() {
    let calls = |name: &str| {
        let reply = reply_of(name);
        let calls =
            reply.tool_calls().map(|call| (call.id.clone(), call.name.clone(), call.arguments.clone()));
        (calls.collect::<Vec<_>>(), reply.finish_reason().unwrap().as_str().to_owned())
    };
    let call = |id: &str, name: &str, arguments: &str| (id.to_owned(), name.to_owned(), arguments.to_owned());
    let tools = "tool_calls".to_owned();
    assert_eq!(
        calls("tool_calls_all_with_index_0"),
        (vec![call("a", "f", r#"{"x":1}"#), call("b", "f", r#"{"x":2}"#)], tools.clone())
    );
    assert_eq!(
        calls("tool_call_without_id_and_stop"),
        (vec![call("call_0_0", "f", r#"{"x":1}"#)], tools.clone())
    );
    assert_eq!(calls("tool_call_with_empty_arguments"), (vec![call("a", "now", "")], tools));
    assert_eq!(calls("llamacpp_tool_call").0[0].1, "get_weather");
    assert_eq!(reply_of("crlf_bom_and_split_characters").text, "häß 日本 😀 end");
    assert_eq!(reply_of("data_in_two_lines").text, "two lines");

    let reasoned = reply_of("reasoning_then_text");
    assert_eq!(reasoned.choices[0].parts[0].kind, PartKind::Reasoning("let me think".into()));
    let usage = reasoned.usage.unwrap();
    assert_eq!(
        (usage.input, usage.cache_read, usage.output, usage.reasoning),
        (Some(5), Some(4), Some(2), Some(3))
    );

    let texts: Vec<_> =
        reply_of("two_choices_interleaved").choices.iter().map(|choice| choice.index).collect();
    assert_eq!(texts, [0, 1]);
    let logprobs = reply_of("refusal_and_logprobs").choices[0].logprobs.clone().unwrap();
    assert!(logprobs.get().contains("-0.10") && logprobs.get().contains("-0.20"), "{logprobs:?}");
}

#[test]
fn recordings_of_other_vendors_are_read() {
    let Some(root) = std::env::var_os("HOOSH_FIXTURES").map(PathBuf::from) else {
        println!("skipped: HOOSH_FIXTURES is not set, recordings of other vendors are not read");
        return;
    };
    for (folder, dialect) in
        [("openai_chat", Dialect::OpenAiChat), ("openai_completion", Dialect::OpenAiCompletions)]
    {
        let folder = root.join("transcripts").join(folder);
        let streams = files(&folder, ".chunks.txt");
        assert!(!streams.is_empty(), "{}", folder.display());
        for file in streams {
            // The recordings hold the payload of each event, one a line, without the last.
            let text = fs::read_to_string(&file).unwrap();
            let events: String = text.lines().map(|line| format!("data: {line}\n\n")).collect();
            let name = file.display();
            let reply = fold(
                decode(dialect, LENIENT, &[events.as_bytes()])
                    .unwrap_or_else(|error| panic!("{name}: {error}")),
            );
            let choice = &reply.choices[0];
            assert!(!choice.parts.is_empty() && choice.finish_reason.is_some(), "{name}: {reply:?}");
            let mut tap = dialect.tap(LENIENT);
            for line in text.lines() {
                tap.event(line.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            assert!(tap.is_complete(), "{name}");
            assert_eq!(tap.usage(), reply.usage, "both lanes give the same books: {name}");
        }
        for file in files(&folder, ".json") {
            let bytes = fs::read(&file).unwrap();
            let name = file.display();
            let is_answer = String::from_utf8_lossy(&bytes).contains("\"choices\"");
            match dialect.codec().unwrap().decode_reply(&bytes) {
                Ok(reply) => assert!(is_answer && reply.choices[0].finish_reason.is_some(), "{name}"),
                Err(error) => assert!(!is_answer, "{name}: {error}"),
            }
        }
    }
    let answer = fs::read(root.join("transcripts/openai_embedding/openai-embedding.json")).unwrap();
    assert!(!hoosh_core::dialect::openai_embeddings::decode_reply(&answer).unwrap().embeddings[0].is_empty());
}

#[test]
fn requests_of_other_projects_are_read() {
    let Some(root) = std::env::var_os("HOOSH_FIXTURES").map(PathBuf::from) else {
        println!("skipped: HOOSH_FIXTURES is not set, requests of other projects are not read");
        return;
    };
    for file in files(&root.join("requests/completions"), ".json") {
        let bytes = fs::read(&file).unwrap();
        let name = file.display();
        hoosh_core::dialect::Head::read(Dialect::OpenAiChat, &bytes)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let codec = Dialect::OpenAiChat.codec().unwrap();
        let request = codec.decode_request(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let target =
            hoosh_core::dialect::Target { model: &request.model, stream: false, quirks: Quirks::NONE };
        let encoded = codec.encode_request(&request, target);
        assert_eq!(codec.decode_request(&encoded.body).as_ref(), Ok(&request), "{name}");
    }
}
