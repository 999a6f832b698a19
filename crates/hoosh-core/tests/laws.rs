//! Laws over random input: framing does not depend on the pieces, nothing panics on rubbish, and a splice changes only
//! what it must.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::ops::Range;

use bytes::Bytes;
use hoosh_core::dialect::{Changes, Dialect, Head, Quirks, Target, openai_embeddings};
use hoosh_core::framing::SseFramer;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;

const DIALECTS: [Dialect; 3] = [Dialect::OpenAiChat, Dialect::OpenAiCompletions, Dialect::OpenAiEmbeddings];

const ALL_QUIRKS: Quirks = Quirks {
    max_completion_tokens: true,
    no_stream_options: true,
    done_optional: true,
    cache_marks: true,
    random_seed: true,
    unknown_fields: &[],
};

fn cases() -> ProptestConfig {
    // No file of regressions: a failure prints its input, and that becomes a test of its own.
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}

// === framing ===

/// Lines of a stream, each with one of the three ends, and sometimes a BOM first.
fn stream_text() -> impl Strategy<Value = String> {
    let value = "[ a:ä日\u{feff}]{0,6}";
    let line = prop_oneof![
        4 => value.prop_map(|text| format!("data:{text}")),
        2 => value.prop_map(|text| format!("data: {text}")),
        1 => Just("data".to_owned()),
        1 => value.prop_map(|text| format!(":{text}")),
        1 => value.prop_map(|text| format!("event: {text}")),
        1 => value.prop_map(|text| format!("id: {text}")),
        1 => value,
        5 => Just(String::new()),
    ];
    let lines = vec((line, select(vec!["\n", "\r", "\r\n"])), 0..24);
    (any::<bool>(), lines, value).prop_map(|(bom, lines, rest)| {
        let lines: String = lines.into_iter().flat_map(|(line, end)| [line, end.to_owned()]).collect();
        format!("{}{lines}{rest}", if bom { "\u{feff}" } else { "" })
    })
}

/// `bytes` in pieces of these lengths, of which some are empty, over and over.
fn pieces<'b>(mut bytes: &'b [u8], lengths: &[usize]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut lengths = lengths.iter().cycle();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at((*lengths.next().unwrap()).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Lengths of pieces, at least one of them not empty.
fn lengths() -> impl Strategy<Value = Vec<usize>> {
    (vec(0..6_usize, 0..8), 1..40_usize).prop_map(|(mut lengths, one)| {
        lengths.push(one);
        lengths
    })
}

type Events = Vec<(Vec<u8>, Vec<u8>)>;

fn framed(pieces: &[&[u8]]) -> Events {
    let mut framer = SseFramer::default();
    let mut events = Vec::new();
    for piece in pieces {
        framer.push(piece, |event| events.push((event.event.to_vec(), event.data.to_vec()))).unwrap();
    }
    events
}

/// The specification (WHATWG HTML, 9.2.6), word for word and slow.
fn by_the_specification(text: &str) -> Events {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop(); // The last has no end.
    let (mut events, mut name, mut data) = (Vec::new(), String::new(), String::new());
    for line in lines {
        if line.is_empty() {
            if let Some(data) = data.strip_suffix('\n') {
                events.push((name.clone().into_bytes(), data.as_bytes().to_vec()));
            }
            (name, data) = (String::new(), String::new());
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.to_owned(),
            "data" => data = data + value + "\n",
            _ => {}
        }
    }
    events
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_pieces_frame_to_what_the_specification_says(text in stream_text(), lengths in lengths()) {
        let expected = by_the_specification(&text);
        prop_assert_eq!(&framed(&[text.as_bytes()]), &expected, "in one piece");
        prop_assert_eq!(&framed(&pieces(text.as_bytes(), &lengths)), &expected, "in pieces");
        // Between any two bytes nothing may come.
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).flat_map(|byte| [byte, &[]]).collect();
        prop_assert_eq!(&framed(&single), &expected, "byte by byte, with nothing between them");
    }

    #[test]
    fn an_event_ends_where_the_framer_says(text in stream_text()) {
        let mut ends = Vec::new();
        SseFramer::default().push(text.as_bytes(), |event| ends.push(event.end)).unwrap();
        for (before, end) in ends.iter().enumerate() {
            prop_assert_eq!(framed(&[&text.as_bytes()[..*end]]).len(), before + 1);
            let short = end - if text.as_bytes()[..*end].ends_with(b"\r\n") { 2 } else { 1 };
            prop_assert_eq!(framed(&[&text.as_bytes()[..short]]).len(), before);
        }
    }
}

// === nothing panics ===

/// What a wire form may be given: what it knows, with a few bytes changed, dropped or added; or anything.
fn rubbish() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        include_str!("transcripts/openai_chat/crlf_bom_and_split_characters.sse"),
        include_str!("transcripts/openai_chat/reasoning_then_text.sse"),
        include_str!("transcripts/openai_chat/tool_call_without_id_and_stop.sse"),
        include_str!("transcripts/openai_chat/two_choices_interleaved.sse"),
        include_str!("transcripts/openai_chat/openrouter_reasoning_details.sse"),
        include_str!("transcripts/openai_chat/openrouter_images_and_annotations.sse"),
        include_str!("transcripts/openai_chat/google_thought_signature.sse"),
        include_str!("transcripts/openai_chat/custom_tool_call.sse"),
        r#"{"model":"m","reasoning":{"effort":"low"},"tools":[{"type":"custom","custom":{"name":"p"}},{"type":"web_search"}],"messages":[{"role":"assistant","content":null,"reasoning_details":[{"type":"reasoning.text","text":"a","signature":"hoosh:gemini:s"}],"annotations":[{"type":"url_citation","url_citation":{"url":"u"}}],"tool_calls":[{"id":"a","type":"custom","custom":{"name":"p","input":"x"},"extra_content":{"google":{"thought_signature":"s"}}}]},{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]}"#,
        include_str!("transcripts/openai_completions/llamacpp_text.sse"),
        r#"{"choices":[{"index":0,"message":{"content":"a","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#,
        r#"{"choices":[{"index":0,"text":"a","logprobs":{"tokens":["a"]},"finish_reason":"stop"}]}"#,
        r#"{"data":[{"index":0,"embedding":[1.0,-2.5]},{"index":1,"embedding":"AACAPwAAIMA="}],"usage":{"prompt_tokens":1}}"#,
        r#"{"error":{"message":"no","type":"x","param":null,"code":400}}"#,
        r#"[{"error":{"message":"no","status":"INVALID_ARGUMENT","details":[]}}]"#,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":false},"max_tokens":-1,"user":"\u00e4","tools":[{}],"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]}"#,
        r#"{"model":"m","prompt":["a",[1,2]],"input":[["a"],1],"encoding_format":"base64","stop":[]}"#,
    ]);
    let edit = (any::<Index>(), 0..6_usize, vec(select(b"\"{}[]:,\\\r\n 0-\xff\x00e".to_vec()), 0..4));
    let edited = (known, vec(edit, 0..4)).prop_map(|(known, edits)| {
        let mut bytes = known.as_bytes().to_vec();
        for (at, dropped, added) in edits {
            let from = at.index(bytes.len() + 1);
            bytes.splice(from..(from + dropped).min(bytes.len()), added);
        }
        bytes
    });
    prop_oneof![3 => edited, 1 => vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn nothing_panics_on_rubbish(bytes in rubbish(), lengths in lengths(), status in any::<u16>()) {
        for dialect in DIALECTS {
            let _ = dialect.decode_error(status, None, &bytes);
            let _ = dialect.decode_error(400 + status % 200, None, &bytes);
            if let Ok(head) = Head::read(dialect, &bytes) {
                let body = Bytes::from(bytes.clone());
                for quirks in [Quirks::NONE, ALL_QUIRKS] {
                    let changes = Changes { model: "another", ask_usage: true, quirks };
                    let spliced = head.splice(&body, &changes);
                    let again = Head::read(dialect, &spliced).map(|head| head.model);
                    prop_assert_eq!(again, Ok("another".to_owned()), "{:?}", spliced);
                }
            }
            let _ = dialect.tap(Quirks::NONE).event(&bytes);
            let _ = dialect.tap(Quirks::NONE).whole(&bytes);
            let Some(codec) = dialect.codec() else { continue };
            let _ = codec.decode_request(&bytes);
            let _ = codec.decode_reply(&bytes);
            for done_optional in [false, true] {
                let mut decoder = codec.stream_decoder(Quirks { done_optional, ..Quirks::NONE });
                let mut events = Vec::new();
                // A driver stops at the first fault; the end must still be told without a panic.
                let _ = pieces(&bytes, &lengths).into_iter().try_for_each(|piece| decoder.push(piece, &mut events));
                let _ = decoder.finish(&mut events);
                let _ = hoosh_core::fold(events);
            }
        }
        let _ = openai_embeddings::decode_request(&bytes);
        let _ = openai_embeddings::decode_reply(&bytes);
        let _ = openai_embeddings::is_base64(&bytes);
    }
}

// === the splice ===

/// A request body: a model, messages and odd fields in any order, with odd spaces, and `stream_options` or not.
fn body() -> impl Strategy<Value = String> {
    let value = select(vec![
        "1",
        "-0.10e+3",
        "12345678901234567890123",
        "null",
        "true",
        r#""a\u0062\"}""#,
        r#"{"model":"inner","stream_options":null}"#,
        r#"[ {"model" : 1}, "}" ]"#,
        "{}",
        "\"häß 😀\"",
    ]);
    let model = select(vec![r#""m""#, r#""a\u0062""#, r#""up/some-model:7b""#, r#""häß""#]);
    let options = select(vec![
        None,
        Some("null"),
        Some("{}"),
        Some(r#"{"include_usage":true}"#),
        Some(r#"{ "include_usage" : false, "x":1.50 }"#),
        Some(r#"{"x":[{}],"include_usage":null}"#),
    ]);
    let space = || select(vec!["", " ", "\n\t", "\r\n  "]);
    let spaces = vec(space(), 48);
    let fields = (model, options, vec(value, 0..5)).prop_map(|(model, options, values)| {
        let mut fields =
            vec![("model".to_owned(), model), ("messages".to_owned(), r#"[{"role":"user","content":"}"}]"#)];
        fields.extend(options.map(|options| ("stream_options".to_owned(), options)));
        fields.extend(values.into_iter().enumerate().map(|(n, value)| (format!("odd {n}"), value)));
        fields
    });
    (fields.prop_shuffle(), spaces).prop_map(|(fields, spaces)| {
        let mut space = spaces.into_iter().cycle();
        let mut space = || space.next().unwrap();
        let fields: Vec<String> = fields
            .into_iter()
            .map(|(name, value)| format!("{}\"{name}\"{}:{}{value}{}", space(), space(), space(), space()))
            .collect();
        format!("{}{{{}}}{}", space(), fields.join(","), space())
    })
}

/// The fields of an object in their order, each as the text it is.
struct Fields<'t>(Vec<(String, &'t RawValue)>);

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl<'t> Fields<'t> {
    fn read(text: &'t str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The only value of this name.
    fn get(&self, name: &str) -> Option<&'t str> {
        let mut values = self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.get());
        let value = values.next();
        assert!(values.next().is_none(), "`{name}` is there twice");
        value
    }
}

/// `text` without these parts of it.
fn without(text: &str, parts: &[Option<&str>]) -> String {
    let span = |part: &&str| -> Range<usize> {
        let start = part.as_ptr().addr() - text.as_ptr().addr();
        start..start + part.len()
    };
    let mut spans: Vec<_> = parts.iter().flatten().map(span).collect();
    spans.sort_by_key(|span| std::cmp::Reverse(span.start));
    let mut rest = text.to_owned();
    spans.into_iter().for_each(|span| rest.replace_range(span, ""));
    rest
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_splice_changes_only_what_it_must(
        body in body(),
        model in select(vec!["m", "ab", "other", "with \"quotes\"", "日本"]),
        ask in any::<bool>(),
    ) {
        let bytes = Bytes::from(body.clone());
        let head = Head::read(Dialect::OpenAiChat, &bytes).unwrap();
        let changes = Changes { model, ask_usage: ask, quirks: Quirks::NONE };
        let spliced = String::from_utf8(head.splice(&bytes, &changes).to_vec()).unwrap();

        let (before, after) = (Fields::read(&body), Fields::read(&spliced));
        let name = after.get("model").unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(name).unwrap(), model);
        if head.model == model {
            prop_assert_eq!(before.get("model"), Some(name), "the name is the same, so is its text");
        }

        let (options, asked) = (before.get("stream_options"), after.get("stream_options"));
        if !ask || head.include_usage {
            prop_assert_eq!(options, asked);
            let (before, after) = (&[before.get("model")], &[Some(name)]);
            prop_assert_eq!(without(&body, before), without(&spliced, after));
            return Ok(());
        }
        let asked = asked.unwrap();
        let json: serde_json::Value = serde_json::from_str(asked).unwrap();
        prop_assert_eq!(&json["include_usage"], &serde_json::Value::Bool(true));
        let was: serde_json::Value = serde_json::from_str(options.unwrap_or("{}")).unwrap();
        for (name, value) in was.as_object().into_iter().flatten().filter(|(name, _)| *name != "include_usage") {
            prop_assert_eq!(&json[name], value, "an option is lost: {}", name);
        }
        match options {
            Some(_) => {
                let (before, after) = (&[before.get("model"), options], &[Some(name), Some(asked)]);
                prop_assert_eq!(without(&body, before), without(&spliced, after));
            }
            None => {
                // Appended, and nothing else.
                let added = format!(",\"stream_options\":{asked}");
                prop_assert_eq!(after.0.last().map(|(name, _)| name.as_str()), Some("stream_options"));
                let rest = without(&spliced, &[Some(name)]);
                let at = rest.rfind(&added).unwrap();
                let rest = rest[..at].to_owned() + &rest[at + added.len()..];
                prop_assert_eq!(without(&body, &[before.get("model")]), rest);
            }
        }
    }

    #[test]
    fn words_of_a_vendor_change_only_their_fields(
        (before_them, after_them) in body().prop_map(|body| {
            // The other words go in front, where every field of `body` is behind them.
            let at = body.find('{').unwrap() + 1;
            (body[..at].to_owned(), body[at..].to_owned())
        }),
        most in select(vec![
            "",
            "\"max_tokens\":70,",
            "\n\"max_tokens\" : -1 , ",
            "\"max_tokens\":7,\"max_completion_tokens\":8,",
        ]),
    ) {
        let body = format!("{before_them}{most}{after_them}");
        let bytes = Bytes::from(body.clone());
        let head = Head::read(Dialect::OpenAiChat, &bytes).unwrap();
        let changes = Changes { model: &head.model, ask_usage: false, quirks: ALL_QUIRKS };
        let spliced = String::from_utf8(head.splice(&bytes, &changes).to_vec()).unwrap();

        let fields = |text| -> Vec<(String, String)> {
            Fields::read(text).0.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
        };
        let mut expected = fields(&body);
        expected.retain(|(name, _)| name != "stream_options");
        if !most.contains("max_completion_tokens") {
            expected
                .iter_mut()
                .filter(|(name, _)| name == "max_tokens")
                .for_each(|(name, _)| *name = "max_completion_tokens".to_owned());
        }
        prop_assert_eq!(fields(&spliced), expected);
        if most.is_empty() && Fields::read(&body).get("stream_options").is_none() {
            prop_assert_eq!(spliced, body);
        }
    }
}

/// Found by fuzzing: what stands beside a schema under the name of a field that another dialect has there.
#[test]
fn fields_of_a_schema_are_not_written_twice() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{},"description":"d","type":"s","novel":1}}}"#;
    let request = Dialect::OpenAiChat.codec().unwrap().decode_request(body).unwrap();
    let target = Target { model: "m", stream: false, quirks: Quirks::NONE };
    let responses = Dialect::OpenAiResponses.codec().unwrap();
    let encoded = responses.encode_request(&request, target);
    assert!(responses.decode_request(&encoded.body).is_ok(), "{}", String::from_utf8_lossy(&encoded.body));
    let body: serde_json::Value = serde_json::from_slice(&encoded.body).unwrap();
    assert_eq!(
        body["text"]["format"],
        serde_json::json!({"type": "json_schema", "name": "a", "schema": {}, "description": "d"})
    );
    let names: Vec<String> = encoded.notes.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["response_format.type", "response_format.novel"]);
}
