//! What arrives: each feature of a request in every client dialect over every provider dialect, and each feature of an
//! answer on its way back. Nothing may vanish in silence. `docs/conformance.md` is written from what is found here.

use std::fmt::Write as _;
use std::path::Path;

use hoosh_core::json::RawJson;
use hoosh_core::{
    CacheMark, Choice, Citation, FinishReason, MediaSource, Message, NoteKind, Part, PartKind,
    ResponseFormat, Role, ToolCall, ToolChoice, ToolDefinition, ToolResult, Usage,
};

use super::*;

/// What becomes of a feature between two dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is said in the other dialect's own words.
    Native,
    /// It is said in other words that mean the same, and that is told.
    Emulated,
    /// It is not said, and that is told.
    Reported,
    /// The side it comes from has no word for it.
    Unsaid,
    /// It is neither said nor told.
    Vanished,
}

struct RequestFeature {
    name: &'static str,
    set: fn(&mut InferenceRequest),
    is_there: fn(&InferenceRequest) -> bool,
}

struct ReplyFeature {
    name: &'static str,
    set: fn(&mut InferenceResponse, Dialect),
    is_there: fn(&InferenceResponse) -> bool,
}

/// The smallest PNG, base64.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const SCHEMA: &str = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}"#;

const REQUESTS: &[RequestFeature] = &[
    RequestFeature {
        name: "system instructions",
        set: |request| request.messages.insert(0, Message::system("Be brief.")),
        is_there: |request| has_text(request, "Be brief."),
    },
    RequestFeature {
        name: "developer instructions in mid-conversation",
        set: |request| {
            let more = [
                Message::assistant("Hello."),
                Message::text(Role::Developer, "Now rhyme."),
                Message::user("Go."),
            ];
            request.messages.extend(more);
        },
        is_there: |request| has_text(request, "Now rhyme."),
    },
    RequestFeature {
        name: "several pieces in one message",
        set: |request| request.messages[0].parts.push(Part::text("Second.")),
        is_there: |request| has_text(request, "Second."),
    },
    RequestFeature {
        name: "image, base64",
        set: |request| request.messages[0].parts.push(image(base64("image/png")).into()),
        is_there: |request| {
            has(request, |kind| matches!(kind, PartKind::Image { source: MediaSource::Base64 { .. }, .. }))
        },
    },
    RequestFeature {
        name: "image, URL",
        set: |request| {
            request.messages[0].parts.push(image(MediaSource::Url("https://x.test/a.png".into())).into())
        },
        is_there: |request| {
            has(request, |kind| matches!(kind, PartKind::Image { source: MediaSource::Url(_), .. }))
        },
    },
    RequestFeature {
        name: "file (PDF, base64)",
        set: |request| {
            let file = PartKind::File { source: base64("application/pdf"), filename: Some("a.pdf".into()) };
            request.messages[0].parts.push(file.into());
        },
        is_there: |request| has(request, |kind| matches!(kind, PartKind::File { .. })),
    },
    RequestFeature {
        name: "audio",
        set: |request| {
            request.messages[0]
                .parts
                .push(PartKind::Audio { data: "UklGRg==".into(), format: "wav".into() }.into());
        },
        is_there: |request| has(request, |kind| matches!(kind, PartKind::Audio { .. })),
    },
    RequestFeature {
        name: "tools",
        set: |request| request.tools.push(tool()),
        is_there: |request| {
            request.tools.first().is_some_and(|tool| tool.name == "f" && tool.parameters.is_some())
        },
    },
    RequestFeature {
        name: "tool_choice: none",
        set: |request| with_tool_choice(request, ToolChoice::None),
        is_there: |request| request.tool_choice == Some(ToolChoice::None),
    },
    RequestFeature {
        name: "tool_choice: required",
        set: |request| with_tool_choice(request, ToolChoice::Required),
        is_there: |request| request.tool_choice == Some(ToolChoice::Required),
    },
    RequestFeature {
        name: "tool_choice: one tool",
        set: |request| with_tool_choice(request, ToolChoice::Tool("f".into())),
        is_there: |request| request.tool_choice == Some(ToolChoice::Tool("f".into())),
    },
    RequestFeature {
        name: "parallel_tool_calls: false",
        set: |request| {
            request.tools.push(tool());
            request.parallel_tool_calls = Some(false);
        },
        is_there: |request| request.parallel_tool_calls == Some(false),
    },
    RequestFeature {
        name: "tool results with errors",
        set: |request| {
            with_result(request, vec![Part::text("it broke")], true);
        },
        is_there: |request| result_of(request).is_some_and(|result| result.is_error),
    },
    RequestFeature {
        name: "tool results with images",
        set: |request| {
            with_result(request, vec![Part::text("see"), image(base64("image/png")).into()], false);
        },
        is_there: |request| {
            let in_result = result_of(request).is_some_and(|result| {
                result.content.iter().any(|part| matches!(part.kind, PartKind::Image { .. }))
            });
            in_result || has(request, |kind| matches!(kind, PartKind::Image { .. }))
        },
    },
    RequestFeature {
        name: "JSON schema of the answer",
        set: |request| {
            request.response_format = Some(ResponseFormat::JsonSchema {
                name: "answer".into(),
                schema: RawJson::parse(SCHEMA).ok(),
                strict: Some(true),
                extra: Default::default(),
            });
        },
        is_there: |request| {
            matches!(&request.response_format, Some(ResponseFormat::JsonSchema { schema: Some(_), .. }))
        },
    },
    RequestFeature {
        name: "any JSON object as answer",
        set: |request| request.response_format = Some(ResponseFormat::JsonObject),
        is_there: |request| request.response_format == Some(ResponseFormat::JsonObject),
    },
    RequestFeature {
        name: "reasoning effort",
        set: |request| request.reasoning_effort = Some("high".into()),
        is_there: |request| request.effort() == Some("high"),
    },
    RequestFeature {
        name: "reasoning switched off",
        set: |request| request.reasoning_effort = Some("none".into()),
        is_there: |request| request.effort() == Some("none"),
    },
    RequestFeature {
        name: "reasoning of earlier turns",
        set: |request| {
            let turn = vec![PartKind::Reasoning("I thought.".into()).into(), Part::text("Hello.")];
            request.messages.extend([Message::new(Role::Assistant, turn), Message::user("Go.")]);
        },
        is_there: |request| {
            has(request, |kind| matches!(kind, PartKind::Reasoning(text) if text == "I thought."))
        },
    },
    RequestFeature {
        name: "max_tokens",
        set: |request| request.max_tokens = Some(77),
        is_there: |request| request.max_tokens == Some(77),
    },
    RequestFeature {
        name: "temperature",
        set: |request| request.temperature = Some(0.25.into()),
        is_there: |request| request.temperature.as_ref().is_some_and(|number| number.as_str() == "0.25"),
    },
    RequestFeature {
        name: "top_p",
        set: |request| request.top_p = Some(0.5.into()),
        is_there: |request| request.top_p.is_some(),
    },
    RequestFeature {
        name: "top_k",
        set: |request| request.top_k = Some(40_u64.into()),
        is_there: |request| request.top_k.is_some(),
    },
    RequestFeature {
        name: "stop",
        set: |request| request.stop = vec!["END".into()],
        is_there: |request| request.stop == ["END"],
    },
    RequestFeature {
        name: "seed",
        set: |request| request.seed = Some(7_u64.into()),
        is_there: |request| request.seed.is_some(),
    },
    RequestFeature {
        name: "frequency_penalty, presence_penalty",
        set: |request| {
            request.frequency_penalty = Some(0.5.into());
            request.presence_penalty = Some(0.5.into());
        },
        is_there: |request| request.frequency_penalty.is_some() && request.presence_penalty.is_some(),
    },
    RequestFeature {
        name: "logprobs",
        set: |request| {
            request.logprobs = Some(true);
            request.top_logprobs = Some(2);
        },
        is_there: |request| request.logprobs == Some(true) || request.top_logprobs.is_some(),
    },
    RequestFeature {
        name: "n",
        set: |request| request.n = Some(2),
        is_there: |request| request.n == Some(2),
    },
    RequestFeature {
        name: "prompt caching marks",
        set: |request| request.messages[0].parts[0].cache = Some(CacheMark::OneHour),
        is_there: |request| {
            request.conversation().any(|message| message.parts.iter().any(|part| part.cache.is_some()))
        },
    },
    RequestFeature {
        name: "service_tier",
        set: |request| request.service_tier = Some("auto".into()),
        is_there: |request| request.service_tier.is_some(),
    },
    RequestFeature {
        name: "user",
        set: |request| request.user = Some("u-1".into()),
        is_there: |request| request.user.is_some(),
    },
    RequestFeature {
        name: "metadata",
        set: |request| request.metadata = RawJson::parse(r#"{"team":"a"}"#).ok(),
        is_there: |request| request.metadata.is_some(),
    },
];

const REPLIES: &[ReplyFeature] = &[
    ReplyFeature { name: "text", set: |_, _| {}, is_there: |reply| reply.text.contains("häß 日本") },
    ReplyFeature {
        name: "parallel tool calls",
        set: |reply, _| {
            for id in ["call_a", "call_b"] {
                let call = ToolCall {
                    id: id.into(),
                    name: "f".into(),
                    arguments: r#"{"n":1}"#.into(),
                    ..Default::default()
                };
                reply.choices[0].parts.push(PartKind::ToolCall(call).into());
            }
            reply.choices[0].finish_reason = Some(FinishReason::ToolCalls);
        },
        is_there: |reply| {
            reply.tool_calls().count() == 2 && reply.finish_reason() == Some(&FinishReason::ToolCalls)
        },
    },
    ReplyFeature {
        name: "reasoning",
        set: |reply, _| reply.choices[0].parts.insert(0, PartKind::Reasoning("I think.".into()).into()),
        is_there: |reply| {
            let mut parts = reply.choices.iter().flat_map(|choice| &choice.parts);
            parts.any(|part| matches!(&part.kind, PartKind::Reasoning(text) if text == "I think."))
        },
    },
    ReplyFeature {
        name: "refusal",
        set: |reply, _| reply.choices[0].parts = vec![PartKind::Refusal("I will not.".into()).into()],
        is_there: |reply| {
            let mut parts = reply.choices.iter().flat_map(|choice| &choice.parts);
            parts.any(|part| match &part.kind {
                // Where there is no other word for it, it is the text.
                PartKind::Refusal(text) | PartKind::Text(text) => text == "I will not.",
                _ => false,
            })
        },
    },
    ReplyFeature {
        name: "citations of web pages",
        set: |reply, provider| {
            let json = match provider {
                Dialect::Anthropic => {
                    r#"{"type":"web_search_result_location","url":"https://x.test/","title":"X","encrypted_index":"e","cited_text":"q"}"#
                }
                Dialect::OpenAiResponses => {
                    r#"{"type":"url_citation","url":"https://x.test/","title":"X","start_index":0,"end_index":3}"#
                }
                _ => {
                    r#"{"type":"url_citation","url_citation":{"url":"https://x.test/","title":"X","start_index":0,"end_index":3}}"#
                }
            };
            reply.choices[0].parts[0].citations = vec![Citation {
                url: Some("https://x.test/".into()),
                title: Some("X".into()),
                quote: None,
                span: Some((0, 3)),
                maker: provider,
                json: RawJson::parse(json).unwrap(),
            }];
        },
        is_there: |reply| {
            let mut parts = reply.choices.iter().flat_map(|choice| &choice.parts);
            parts.any(|part| part.citations.iter().any(|one| one.url.as_deref() == Some("https://x.test/")))
        },
    },
    ReplyFeature {
        name: "finish reason: length",
        set: |reply, _| reply.choices[0].finish_reason = Some(FinishReason::Length),
        is_there: |reply| reply.finish_reason() == Some(&FinishReason::Length),
    },
    ReplyFeature {
        name: "usage: cached tokens",
        set: |reply, _| {
            reply.usage =
                Some(Usage { input: Some(3), cache_read: Some(8), output: Some(7), ..Usage::default() })
        },
        is_there: |reply| {
            reply.usage.is_some_and(|usage| usage.cache_read == Some(8) && usage.prompt_total() == 11)
        },
    },
    ReplyFeature {
        name: "usage: reasoning tokens",
        set: |reply, _| {
            reply.usage =
                Some(Usage { input: Some(11), output: Some(4), reasoning: Some(3), ..Usage::default() })
        },
        is_there: |reply| {
            reply.usage.is_some_and(|usage| usage.reasoning == Some(3) && usage.completion_total() == 7)
        },
    },
    ReplyFeature {
        name: "usage: tokens in total",
        set: |_, _| {},
        is_there: |reply| {
            reply.usage.is_some_and(|usage| usage.prompt_total() == 11 && usage.completion_total() == 7)
        },
    },
];

#[test]
fn nothing_of_a_request_vanishes_in_silence() {
    let mut vanished = Vec::new();
    for (client, _) in DIALECTS {
        for (provider, _) in DIALECTS {
            for feature in REQUESTS {
                if fate_of_request(feature, client, provider) == Fate::Vanished {
                    vanished.push(format!("{client} over {provider}: {}", feature.name));
                }
            }
        }
    }
    assert!(vanished.is_empty(), "vanished:\n{}", vanished.join("\n"));
}

#[test]
fn nothing_of_an_answer_vanishes_in_silence() {
    let mut vanished = Vec::new();
    for (provider, _) in DIALECTS {
        for (client, _) in DIALECTS {
            for feature in REPLIES {
                if fate_of_reply(feature, provider, client) == Fate::Vanished {
                    vanished.push(format!("{provider} to {client}: {}", feature.name));
                }
            }
        }
    }
    assert!(vanished.is_empty(), "vanished:\n{}", vanished.join("\n"));
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let page = page();
    if std::env::var_os("HOOSH_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/conformance.md is not what is found; run this with HOOSH_WRITE_DOCS=1");
}

fn plain_request() -> InferenceRequest {
    InferenceRequest { model: "asked".into(), messages: vec![Message::user("Hi.")], ..Default::default() }
}

fn fate_of_request(feature: &RequestFeature, client: Dialect, provider: Dialect) -> Fate {
    let how = || format!("{client} over {provider}: {}", feature.name);
    let mut request = plain_request();
    (feature.set)(&mut request);
    let (asked, _) = from_client(client, &request).unwrap_or_else(|error| panic!("{}: {error}", how()));
    if !(feature.is_there)(&asked) {
        return Fate::Unsaid;
    }
    let (seen, encoded) = to_vendor(provider, &asked);
    let (_, plain) = to_vendor(provider, &from_client(client, &plain_request()).unwrap().0);
    let news: Vec<_> = encoded.notes.iter().filter(|note| !plain.notes.contains(note)).collect();
    let is_emulated = news.iter().any(|note| note.kind == NoteKind::Emulated);
    match (is_emulated, (feature.is_there)(&seen), news.is_empty()) {
        (true, ..) => Fate::Emulated,
        (_, _, false) => Fate::Reported,
        (_, true, true) => Fate::Native,
        (_, false, true) => Fate::Vanished,
    }
}

fn fate_of_reply(feature: &ReplyFeature, provider: Dialect, client: Dialect) -> Fate {
    let choice = Choice {
        parts: vec![Part::text("häß 日本")],
        finish_reason: Some(FinishReason::Stop),
        ..Choice::default()
    };
    let mut reply = InferenceResponse {
        id: "r1".into(),
        model: "m".into(),
        created: Some(1),
        usage: Some(Usage { input: Some(11), output: Some(7), ..Usage::default() }),
        ..InferenceResponse::from_choices(vec![choice])
    };
    (feature.set)(&mut reply, provider);
    let context = ReplyContext {
        id: "0192",
        now: 1,
        include_usage: true,
        origin: Some(provider),
        ..Default::default()
    };
    let sent = codec(provider).encode_reply(&reply, &context).body;
    let read_reply = codec(provider).decode_reply(&sent).unwrap();
    if !(feature.is_there)(&read_reply) {
        return Fate::Unsaid;
    }
    let shown = codec(client).encode_reply(&read_reply, &context);
    let whole = codec(client).decode_reply(&shown.body).unwrap();
    let is_emulated = shown.notes.iter().any(|note| note.kind == NoteKind::Emulated);
    let fate = match (is_emulated, (feature.is_there)(&whole), shown.notes.is_empty()) {
        (true, ..) => Fate::Emulated,
        (_, true, _) => Fate::Native,
        (_, false, false) => Fate::Reported,
        (_, false, true) => Fate::Vanished,
    };

    // The stream says the same.
    let events = read(provider, &written(provider, &context, &events_of(&reply)));
    let streamed = fold(read(client, &written(client, &context, &events)));
    let there = |reply: &InferenceResponse| (feature.is_there)(reply);
    assert!(
        !there(&fold(events.clone())) || there(&streamed) == there(&whole),
        "{provider} to {client}, streamed: {}: {streamed:?}",
        feature.name
    );
    fate
}

fn page() -> String {
    let mut page = String::from(
        "# What arrives\n\n\
         Written by a test (`crates/hoosh-core/tests/pairs`), which fails if anything vanishes without being told.\n\n\
         - **yes**: said in the provider's (or client's) own words.\n\
         - **emulated**: said in other words that mean the same to the model; `x-hoosh-lossy` names it so.\n\
         - **reported**: it cannot be said; `x-hoosh-lossy` names it, and `x-hoosh-fidelity: strict` refuses such a provider.\n\
         - **–**: the side it would come from has no word for it.\n\n\
         Where both sides speak the same dialect the bytes are passed through as they are, whatever is in them.\n",
    );
    for (client, label) in DIALECTS {
        let _ = write!(page, "\n## A client of {label}: its requests\n\n");
        let rows = REQUESTS.iter().map(|feature| {
            (feature.name, DIALECTS.map(|(provider, _)| fate_of_request(feature, client, provider)))
        });
        table(&mut page, rows);
    }
    for (client, label) in DIALECTS {
        let _ = write!(page, "\n## A client of {label}: the answers it gets\n\n");
        let rows = REPLIES.iter().map(|feature| {
            (feature.name, DIALECTS.map(|(provider, _)| fate_of_reply(feature, provider, client)))
        });
        table(&mut page, rows);
    }
    page
}

fn table(page: &mut String, rows: impl Iterator<Item = (&'static str, [Fate; DIALECTS.len()])>) {
    let labels: Vec<&str> = DIALECTS.iter().map(|(_, label)| *label).collect();
    let _ = writeln!(page, "| | {} |", labels.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(labels.len()));
    for (name, fates) in rows {
        let words = fates.map(|fate| match fate {
            Fate::Native => "yes",
            Fate::Emulated => "emulated",
            Fate::Reported => "reported",
            Fate::Unsaid => "–",
            Fate::Vanished => "**vanishes**",
        });
        let _ = writeln!(page, "| {name} | {} |", words.join(" | "));
    }
}

fn has(request: &InferenceRequest, wanted: impl Fn(&PartKind) -> bool) -> bool {
    request.conversation().any(|message| message.parts.iter().any(|part| wanted(&part.kind)))
}

fn has_text(request: &InferenceRequest, wanted: &str) -> bool {
    has(request, |kind| matches!(kind, PartKind::Text(text) if text.contains(wanted)))
}

fn base64(media_type: &str) -> MediaSource {
    MediaSource::Base64 { media_type: media_type.into(), data: PNG.into() }
}

fn image(source: MediaSource) -> PartKind {
    PartKind::Image { source, detail: None }
}

fn tool() -> ToolDefinition {
    ToolDefinition::new("f", "Does it.", RawJson::parse(SCHEMA).unwrap())
}

fn with_tool_choice(request: &mut InferenceRequest, choice: ToolChoice) {
    request.tools.push(tool());
    request.tool_choice = Some(choice);
}

fn with_result(request: &mut InferenceRequest, content: Vec<Part>, is_error: bool) {
    request.tools.push(tool());
    let call = ToolCall {
        id: "call_a".into(),
        name: "f".into(),
        arguments: r#"{"n":1}"#.into(),
        ..Default::default()
    };
    request.messages.push(Message::new(Role::Assistant, vec![PartKind::ToolCall(call).into()]));
    let result = ToolResult { call_id: "call_a".into(), content, is_error };
    request.messages.push(Message::new(Role::Tool, vec![PartKind::ToolResult(result).into()]));
}

fn result_of(request: &InferenceRequest) -> Option<ToolResult> {
    let mut parts =
        request.conversation().flat_map(|message| message.parts.clone()).collect::<Vec<_>>().into_iter();
    parts.find_map(|part| match part.kind {
        PartKind::ToolResult(result) => Some(result),
        _ => None,
    })
}
