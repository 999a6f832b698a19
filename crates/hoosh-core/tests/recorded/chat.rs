//! OpenAI's chat and legacy completions.

use std::fs;

use hoosh_core::dialect::{DecodeError, Dialect, Quirks};
use hoosh_core::{Choice, InferenceResponse, PartKind, fold};

use super::{as_stream, context, decode, decode_with, files, fixtures, transcripts, written};

/// What a stream that leaves out `[DONE]` is allowed.
const LENIENT: Quirks = Quirks { done_optional: true, ..Quirks::NONE };

fn all() -> Vec<(String, Dialect, Vec<u8>)> {
    let of = |dialect| transcripts(dialect).into_iter().map(move |(name, bytes)| (name, dialect, bytes));
    of(Dialect::OpenAiChat).chain(of(Dialect::OpenAiCompletions)).collect()
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
    for (name, dialect, bytes) in all() {
        let whole = decode(dialect, &[&bytes]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let folded = fold(whole.clone());
        for cut in 0..=bytes.len() {
            let events = decode(dialect, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(events.as_ref(), Ok(&whole), "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(dialect, &single), Ok(whole.clone()), "{name} byte by byte");
        let mut numbers = numbers(0x9E37_79B9_7F4A_7C15);
        for _ in 0..200 {
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((numbers.next().unwrap() % 40 + 1).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            assert_eq!(fold(decode(dialect, &pieces).unwrap()), folded, "{name} in random pieces");
        }
    }
}

#[test]
fn a_transcript_cut_anywhere_is_an_error() {
    for (name, dialect, bytes) in all() {
        // What follows the word that ends a stream carries nothing.
        let end = bytes.windows(6).rposition(|six| six == b"[DONE]").unwrap() + 6;
        for cut in 0..end {
            let cut_short = decode(dialect, &[&bytes[..cut]]);
            assert!(matches!(cut_short, Err(DecodeError::Truncated)), "{name} cut at {cut}: {cut_short:?}");
        }
        assert!(decode(dialect, &[&bytes[..end]]).is_ok(), "{name}");
    }
}

#[test]
fn what_is_decoded_and_written_again_is_the_same() {
    for (name, dialect, bytes) in all() {
        let events = decode(dialect, &[&bytes]).unwrap();
        let again = decode(dialect, &[&written(dialect, &context(dialect), &events)]).unwrap();
        assert_eq!(fold(again), fold(events.clone()), "{name}");

        // A whole answer holds what the stream of it holds.
        let codec = dialect.codec().unwrap();
        let reply = InferenceResponse { origin: Some(dialect), ..fold(events) };
        let mut back = codec.decode_reply(&codec.encode_reply(&reply, &context(dialect)).body).unwrap();
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

/// What the model wrote: text, reasoning, arguments.
fn text_of(choice: &Choice) -> String {
    let texts = choice.parts.iter().map(|part| match &part.kind {
        PartKind::Text(text) | PartKind::Reasoning(text) | PartKind::Refusal(text) => text.as_str(),
        PartKind::ToolCall(call) => call.arguments.as_str(),
        _ => "",
    });
    texts.collect()
}

fn reply_of(name: &str) -> InferenceResponse {
    let (_, dialect, bytes) = all().into_iter().find(|(known, ..)| known == name).unwrap();
    fold(decode(dialect, &[&bytes]).unwrap())
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
    assert_eq!(calls("tool_call_with_empty_arguments"), (vec![call("a", "now", "")], tools.clone()));
    assert_eq!(
        calls("tool_call_whole_in_one_chunk"),
        (vec![call("a", "f", r#"{"x":1}"#), call("b", "g", r#"{"y":[2]}"#)], tools.clone())
    );
    let arguments = r#"{"x":{"y":1.50}}"#;
    assert_eq!(calls("tool_call_with_arguments_as_object"), (vec![call("a", "f", arguments)], tools.clone()));
    assert_eq!(calls("tool_call_and_stop"), (vec![call("a", "f", "{}")], tools.clone()));
    let input = "{\"input\":\"say \\\"hi\\\"\\n\"}";
    assert_eq!(calls("custom_tool_call"), (vec![call("a", "p", input)], tools.clone()));
    assert_eq!(calls("google_thought_signature"), (vec![call("a", "f", "{}"), call("b", "f", "{}")], tools));
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

    assert_eq!(reply_of("comments_between_events").text, "still here");
    let late = reply_of("empty_choices_first");
    assert_eq!((late.id.as_str(), late.text.as_str(), late.usage.unwrap().total()), ("c", "hi", 14));
    for name in ["reasoning_under_both_names", "mistral_thinking_in_content"] {
        let reply = reply_of(name);
        assert_eq!(reply.choices[0].parts[0].kind, PartKind::Reasoning("let me".into()), "{name}");
        assert_eq!(reply.text, "42", "{name}");
    }
    assert_eq!(reply_of("groq_usage_in_x_groq").usage.unwrap().total(), 14);
    let usage = reply_of("deepseek_cache_hits").usage.unwrap();
    assert_eq!((usage.input, usage.cache_read, usage.output), (Some(3), Some(6), Some(5)));
    let azure = reply_of("azure_filter_results");
    assert_eq!((azure.id.as_str(), azure.text.as_str()), ("c", "hi"));
    assert!(azure.extra.get("prompt_filter_results").is_some());

    let signed = |name: &str| {
        let reply = reply_of(name);
        let signatures = reply.choices[0]
            .parts
            .iter()
            .map(|part| part.signature.as_ref().map(|signature| (signature.maker, signature.value.clone())));
        signatures.collect::<Vec<_>>()
    };
    let by = |maker, value: &str| Some((maker, value.to_owned()));
    assert_eq!(
        signed("openrouter_reasoning_details"),
        [by(Dialect::OpenAiChat, "c2ln"), by(Dialect::OpenAiChat, "ZW5j"), None]
    );
    let routed = reply_of("openrouter_reasoning_details");
    assert_eq!(routed.choices[0].parts[0].kind, PartKind::Reasoning("let me".into()));
    assert_eq!(signed("google_thought_signature"), [by(Dialect::Gemini, "c2ln"), None]);
    let shown = reply_of("openrouter_images_and_annotations");
    assert_eq!(shown.choices[0].parts[0].citations[0].url.as_deref(), Some("https://x.test/"));
    assert!(matches!(shown.choices[0].parts[1].kind, PartKind::Image { .. }));

    let texts: Vec<_> =
        reply_of("two_choices_interleaved").choices.iter().map(|choice| choice.index).collect();
    assert_eq!(texts, [0, 1]);
    let logprobs = reply_of("refusal_and_logprobs").choices[0].logprobs.clone().unwrap();
    assert!(logprobs.get().contains("-0.10") && logprobs.get().contains("-0.20"), "{logprobs:?}");
}

#[test]
fn an_error_inside_a_stream_is_an_error_with_its_status() {
    let bytes = include_bytes!("../transcripts/openai_chat/broken/error_inside_the_stream.sse");
    let mut decoder = Dialect::OpenAiChat.codec().unwrap().stream_decoder(LENIENT);
    let mut events = Vec::new();
    let Err(DecodeError::Reported(failure)) = decoder.push(bytes, &mut events) else { panic!("{events:?}") };
    assert_eq!((failure.status, failure.message.as_str()), (Some(502), "Provider disconnected"));
    assert_eq!(fold(events).text, "so ", "what came before it is told");
}

#[test]
fn recordings_of_other_vendors_are_read() {
    let Some(root) = fixtures() else { return };
    for (folder, dialect) in
        [("openai_chat", Dialect::OpenAiChat), ("openai_completion", Dialect::OpenAiCompletions)]
    {
        let folder = root.join("transcripts").join(folder);
        let streams = files(&folder, ".chunks.txt");
        assert!(!streams.is_empty(), "{}", folder.display());
        for file in streams {
            // The recordings hold the payload of each event, one a line, without the last.
            let text = fs::read_to_string(&file).unwrap();
            let events = as_stream(&text);
            let name = file.display();
            let reply = fold(
                decode_with(dialect, LENIENT, &[events.as_bytes()])
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
            assert_eq!(tap.output_text(), text_of(choice), "both lanes count the same text: {name}");
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
    let Some(root) = fixtures() else { return };
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
