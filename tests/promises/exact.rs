//! Promise: what is booked is what was sent, to the token, whatever becomes of the call; and a hard pool cuts who goes beyond it.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use testkit::{End, Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, client, finish, sse};
use tokio::time::{sleep, timeout};

use crate::{at, json};

const CHAT: &str = "/v1/chat/completions";

/// The first pool once nothing of it is held any more.
async fn at_rest(hoosh: &Hoosh) -> Value {
    let at_rest = async {
        loop {
            let pool = json(hoosh.get("/v1/tokens/pools").await).await["pools"][0].clone();
            if pool["reserved"]["tokens"] == 0 {
                return pool;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, at_rest).await.expect("something stays held")
}

fn tokens(pool: &Value, part: &str) -> u64 {
    pool[part]["tokens"].as_u64().unwrap()
}

/// Words without an end, whatever it is told that it may write; of the dialect of chat.
fn endless() -> Script {
    let words = (0..400).map(|_| (Duration::from_millis(1), chunk(r#"{"content":"word "}"#).into_bytes()));
    Script::Stream(words.collect(), End::Silence)
}

/// The same in Anthropic's.
fn endless_messages() -> Script {
    let event = |json: String| {
        let kind = serde_json::from_str::<Value>(&json).unwrap()["type"].as_str().unwrap().to_owned();
        (Duration::from_millis(1), format!("event: {kind}\ndata: {json}\n\n").into_bytes())
    };
    let start = event(r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":8,"output_tokens":1}}}"#.to_owned());
    let block = event(
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned(),
    );
    let words = (0..400).map(|_| {
        event(
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word "}}"#
                .to_owned(),
        )
    });
    Script::Stream([start, block].into_iter().chain(words).collect(), End::Silence)
}

/// A gateway with a hard pool of 60 tokens before these endless words.
async fn of_sixty(kind: &str, script: Script) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    upstream.always(script);
    let provider = at("up", &upstream.url(), "").replacen("openai_compatible", kind, 1);
    let key = if kind == "openai_compatible" { "" } else { "api_key = \"k\"\n" };
    let pool = "[[pools]]\nname = \"key:*\"\ntokens = 60\n";
    (Hoosh::start(&format!("{pool}{provider}{key}")).await, upstream)
}

async fn whole(hoosh: &Hoosh, path: &str, body: &str) -> String {
    let answer = hoosh.post(path, body.to_owned()).await;
    let status = answer.status();
    let text = timeout(PATIENCE, answer.text()).await.expect("it ends").unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

#[tokio::test]
async fn a_stream_that_goes_beyond_its_pool_is_ended_in_its_dialect_and_the_books_hold() {
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    let chat = chat_body("m", true);
    let bounded = chat_body("m", true).replacen('{', "{\"max_tokens\":52,", 1);
    let counted = chat_body("m", true).replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1);
    let anthropic = format!(r#"{{"model":"m","max_tokens":900,"stream":true,{messages}}}"#);
    let bounded_anthropic = anthropic.replace("900", "40");
    let ollama = format!(r#"{{"model":"m",{messages}}}"#);
    for (kind, path, body, comment, end) in [
        // As they come.
        ("openai_compatible", CHAT, &*chat, true, "data: [DONE]\n\n"),
        ("openai_compatible", CHAT, &*bounded, true, "data: [DONE]\n\n"),
        ("openai_compatible", CHAT, &*counted, true, "data: [DONE]\n\n"),
        ("anthropic", "/v1/messages", &*bounded_anthropic, true, "{\"type\":\"message_stop\"}\n\n"),
        // Translated.
        ("anthropic", CHAT, &*chat, true, "data: [DONE]\n\n"),
        ("openai_compatible", "/v1/messages", &*anthropic, true, "{\"type\":\"message_stop\"}\n\n"),
        ("openai_compatible", "/v1/responses", r#"{"model":"m","stream":true,"input":"hi"}"#, true, "}}\n\n"),
        ("openai_compatible", "/api/chat", &*ollama, false, "}\n"),
        (
            "openai_compatible",
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
            false,
            "\n\n",
        ),
    ] {
        let script = if kind == "anthropic" { endless_messages() } else { endless() };
        let (hoosh, upstream) = of_sixty(kind, script).await;
        let text = whole(&hoosh, path, body).await;
        let words = text.matches("\"word \"").count();
        let told = format!("{kind} {path}: {words} words: {}", &text[text.len().saturating_sub(900)..]);
        // What there is, less the prompt of some 8 tokens.
        assert!((38..=55).contains(&words), "{told}");
        let reasons = [
            "\"finish_reason\":\"length\"",
            "\"stop_reason\":\"max_tokens\"",
            "\"status\":\"incomplete\"",
            "\"done_reason\":\"length\"",
            "\"finishReason\":\"MAX_TOKENS\"",
        ];
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{told}");
        assert_eq!(
            text.contains("\n: x-hoosh-budget: cut\n") || text.starts_with(": x-hoosh-budget: cut\n"),
            comment,
            "{told}"
        );
        assert!(text.ends_with(end), "{told}");
        assert_eq!(text.contains("\"completion_tokens\":"), body == counted, "{told}");
        upstream.hung_up().await;
        let pool = at_rest(&hoosh).await;
        assert!(tokens(&pool, "settled") <= 60 && tokens(&pool, "overrun") == 0, "{told}\n{pool}");
        assert!(tokens(&pool, "settled") + 3 >= words as u64 + 8, "{told}\n{pool}");
        let rows = json(hoosh.get("/v1/usage").await).await;
        assert_eq!(rows["usage"][0]["outcome"], "cut", "{rows}");
    }
}
