//! Promise: what is booked is what was sent, to the token, whatever becomes of the call; and a hard pool cuts who goes beyond it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::Value;
use testkit::{
    End, Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, client, client_builder, finish, sse,
};
use tokio::time::{sleep, timeout};

use crate::{at, header, json};

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
async fn a_client_that_leaves_after_some_chunks_pays_for_those_in_both_lanes() {
    for kind in ["openai_compatible", "anthropic"] {
        for taken in [1, 4, 9] {
            let script = if kind == "anthropic" { endless_messages() } else { endless() };
            let (hoosh, _upstream) = of_sixty(kind, script).await;
            let body = chat_body("m", true);
            let answer = client().post(hoosh.url(CHAT)).body(body).send().await.unwrap();
            let (mut words, mut stream) = (0, answer.bytes_stream());
            while words < taken {
                let piece = stream.next().await.unwrap().unwrap();
                words += String::from_utf8_lossy(&piece).matches("\"word \"").count();
            }
            drop(stream);
            let settled = tokens(&at_rest(&hoosh).await, "settled");
            // Its prompt of 8 tokens, five quarters of a token for a word, and a few words that were on their way.
            let least = 8 + words as u64;
            assert!(
                (least..=least + words as u64 / 4 + 8).contains(&settled),
                "{kind}: {words} words, {settled}"
            );
        }
    }
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

/// An answer that took 13 tokens, streamed where that is asked for.
fn thirteen() -> Script {
    Script::By(|request| {
        const USAGE: &str = r#""usage":{"prompt_tokens":8,"completion_tokens":5,"total_tokens":13}"#;
        if !request.body.windows(13).any(|piece| piece == b"\"stream\":true") {
            return Script::json(format!(
                r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"hi"}},"finish_reason":"stop"}}],{USAGE}}}"#
            ));
        }
        let usage = sse(&format!(r#"{{"id":"c1","choices":[],{USAGE}}}"#));
        Script::stream([chunk(r#"{"content":"hi"}"#), finish("stop"), usage, sse("[DONE]")])
    })
}

/// Kills a gateway under the load of 20 clients as often as this, and starts it again each time. An answer that ended for its client
/// so long before a kill is booked, with its row; nothing stays held.
async fn killed(durability: &str, rounds: u64, window: Duration) {
    let upstream = Upstream::start().await;
    upstream.always(thirteen());
    let config = format!(
        "[[pools]]\nname = \"key:*\"\ntokens = 1000000000\n[budget]\ndurability = \"{durability}\"\n{}",
        at("up", &upstream.url(), "")
    );
    let mut hoosh = Hoosh::start(&config).await;
    let (mut kept, mut begun) = (BTreeSet::new(), 0);
    for round in 0..rounds {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..20)
            .map(|one| {
                let (ended, asked, url) = (Arc::clone(&ended), Arc::clone(&asked), hoosh.url(CHAT));
                let http = client_builder().build().unwrap();
                #[allow(clippy::disallowed_methods, reason = "awaited below")]
                tokio::spawn(async move {
                    loop {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let body = chat_body("m", one % 2 == 0);
                        let Ok(answer) = http.post(&url).body(body).send().await else { return };
                        assert_eq!(answer.status(), 200);
                        let id = header(&answer, "x-request-id").to_owned();
                        let Ok(text) = answer.text().await else { return };
                        assert!(text.contains("\"hi\""), "{text}");
                        if one % 2 == 1 || text.ends_with("data: [DONE]\n\n") {
                            ended.lock().unwrap().push((Instant::now(), id));
                        }
                    }
                })
            })
            .collect();
        sleep(window + Duration::from_millis(40 + round * 7 % 60)).await;
        let killed_at = Instant::now();
        hoosh.restart_after("KILL").await;
        for client in clients {
            client.await.unwrap();
        }
        begun += asked.load(Ordering::Relaxed);
        let is_old = |at: &Instant| *at + window <= killed_at;
        kept.extend(ended.lock().unwrap().drain(..).filter(|(at, _)| is_old(at)).map(|(_, id)| id));
        let pool = json(hoosh.get("/v1/tokens/pools").await).await["pools"][0].clone();
        if kept.is_empty() {
            continue; // no pool was charged before
        }
        assert_eq!(tokens(&pool, "reserved"), 0, "{pool}");
        let settled = tokens(&pool, "settled");
        assert!(
            settled >= 13 * kept.len() as u64 && settled <= 13 * begun,
            "{pool}: {} kept, {begun} begun",
            kept.len()
        );
    }
    assert!(kept.len() as u64 > rounds, "there was some load: {} calls", kept.len());
    let mut after = String::new();
    while !kept.is_empty() {
        let page = json(hoosh.get(&format!("/v1/usage?limit=1000{after}")).await).await;
        for row in page["usage"].as_array().unwrap() {
            kept.remove(row["id"].as_str().unwrap());
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert!(kept.is_empty(), "{durability}: {} calls were lost, {kept:?}", kept.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_five_kills_lose_nothing_that_ended_before_the_last_group_was_written() {
    // The group waits for 5 ms; the disk, and a machine that does other things, may take longer.
    killed("group", 25, Duration::from_millis(250)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_five_kills_lose_nothing_at_all_of_a_strict_ledger() {
    killed("strict", 25, Duration::ZERO).await;
}

#[tokio::test]
async fn who_names_no_most_has_what_the_model_can_write_or_what_is_left_and_lists_pass_through() {
    let upstream = Upstream::start().await;
    upstream.always(thirteen());
    let pools = "[[pools]]\nname = \"key:*\"\ntokens = 20000\n";
    let config = format!(
        "{pools}[[providers]]\ntype = \"openai\"\nname = \"up\"\nbase_url = \"{}/v1\"\napi_key = \"k\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    let hoosh = Hoosh::start(&config).await;
    let sent = |path: &str, at: usize| -> Value {
        serde_json::from_slice(&upstream.requests(path)[at].body).unwrap()
    };
    // 16,384 are what the catalogue has for it; of one that it does not know, 4,096.
    for (at, model, most) in [(0, "gpt-4o-mini", 16_384), (1, "nobody-knows-it", 4_096)] {
        let answer = hoosh.post(CHAT, chat_body(model, false)).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-hoosh-budget")), (200, ""));
        let sent = sent(CHAT, at);
        assert_eq!(
            sent["max_completion_tokens"].as_u64().or(sent["max_tokens"].as_u64()),
            Some(most),
            "{sent}"
        );
    }
    // A body that only its own dialect can carry goes as it is, but for the most that it may have.
    upstream.always(Script::json(
        r#"{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"hi","finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":5,"total_tokens":13}}"#,
    ));
    let body = r#"{"model":"gpt-3.5-turbo-instruct","prompt":["one","two"],"odd":1}"#;
    let answer = hoosh.post("/v1/completions", body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let asked = sent("/v1/completions", 0);
    let most = asked["max_tokens"].as_u64().unwrap();
    assert_eq!((&asked["prompt"], &asked["odd"]), (&serde_json::json!(["one", "two"]), &1.into()));
    assert!((1_000..=4_096).contains(&most), "{asked}");
    // Less is left than it can write: two answers share it.
    hoosh.configure(&config.replace("20000", "939"));
    assert_eq!(json(hoosh.post("/v1/admin/reload", "").await).await["error"], Value::Null);
    let answer = hoosh.post("/v1/completions", body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let most = sent("/v1/completions", 1)["max_tokens"].as_u64().unwrap();
    assert!((400..450).contains(&most), "{most}"); // a list of prompts is held for by its bytes
    assert_eq!(header(&answer, "x-hoosh-budget"), format!("limit={most}"));
}
