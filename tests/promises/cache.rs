//! Promise: the same question of the same caller is asked once while its answer is kept, and nobody is shown another's.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use testkit::{End, Hoosh, PATIENCE, Request, Script, Upstream, chunk, client, completion, finish, sse};

use crate::dialects::{GENERATED, MESSAGE, OLLAMA, RESPONSE, anthropic_stream, named, vendor_with};
use crate::{at, dialects, header, json};

const ON: &str = "[cache]\nenabled = true\n";

const CHAT: &str = "/v1/chat/completions";

/// A question with only one answer.
const ASKED: &str = r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"hi"}]}"#;

/// A gateway with a cache before one scripted upstream that chats.
async fn cached(more: &str) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&format!("{}{ON}{more}", at("up", &upstream.url(), ""))).await;
    (hoosh, upstream)
}

fn streamed(body: &str) -> String {
    body.replacen('{', r#"{"stream":true,"#, 1)
}

fn chat_stream() -> Vec<String> {
    vec![
        chunk(r#"{"role":"assistant","content":"h"}"#),
        chunk(r#"{"content":"i"}"#),
        finish("stop"),
        sse("[DONE]"),
    ]
}

/// Posts with a header.
async fn with(hoosh: &Hoosh, name: &str, value: &str, body: &str) -> reqwest::Response {
    let request = client().post(hoosh.url(CHAT)).header("content-type", "application/json");
    request.header(name, value).body(body.to_owned()).send().await.unwrap()
}

async fn stats(hoosh: &Hoosh) -> Value {
    json(hoosh.get("/v1/cache/stats").await).await
}

/// Waits until something has happened.
async fn until(mut happened: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !happened().await {
        assert!(start.elapsed() < PATIENCE, "it did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_hundred_at_once_are_one_call_of_the_provider() {
    let (hoosh, upstream) = cached("").await;
    // Slow, so that all have come before the answer has.
    upstream.always(Script::By(|request: &Request| {
        let pieces = match request.body.windows(13).any(|text| text == b"\"stream\":true") {
            true => chat_stream().into_iter().map(String::into_bytes).collect(),
            false => vec![completion("hi")],
        };
        let slow = |(at, piece)| (Duration::from_millis(if at == 0 { 1_000 } else { 1 }), piece);
        Script::Stream(pieces.into_iter().enumerate().map(slow).collect(), End::Proper)
    }));
    let calls = (0..100).map(async |number| {
        let is_streamed = number % 2 == 1;
        let response = hoosh.post(CHAT, if is_streamed { streamed(ASKED) } else { ASKED.to_owned() }).await;
        assert_eq!(response.status(), 200);
        let cache = header(&response, "x-hoosh-cache").to_owned();
        let text = response.text().await.unwrap();
        assert_eq!(text.ends_with("data: [DONE]\n\n"), is_streamed, "{text}");
        assert!(text.contains("\"finish_reason\":\"stop\""), "{text}");
        cache
    });
    let said = futures_util::future::join_all(calls).await;
    assert_eq!(upstream.requests(CHAT).len(), 1);
    assert_eq!(said.iter().filter(|cache| *cache == "miss").count(), 1);
    assert_eq!(said.iter().filter(|cache| *cache == "hit").count(), 99);
    let stats = stats(&hoosh).await;
    assert_eq!(
        (&stats["hits"], &stats["misses"], &stats["entries"]),
        (&99.into(), &1.into(), &1.into()),
        "{stats}"
    );
    assert!(stats["waits"].as_u64().unwrap() > 50, "{stats}");
    // Each is in the books, once.
    let log = hoosh.log();
    let lines = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    assert_eq!(
        (lines("outcome=\"answered\""), lines("cache=\"hit\""), lines("cache=\"miss\"")),
        (100, 99, 1)
    );
}

#[tokio::test]
async fn an_answer_is_given_again_byte_for_byte() {
    let (hoosh, upstream) = cached("").await;
    let odd =
        String::from_utf8(completion("hi")).unwrap().replace("\"choices\"", "\"odd\" : 1.50, \"choices\"");
    upstream.script([Script::json(odd.clone())]);
    let first = hoosh.post(CHAT, ASKED).await;
    assert_eq!((header(&first, "x-hoosh-cache"), header(&first, "age")), ("miss", ""));
    assert_eq!(first.text().await.unwrap(), odd);
    // Written otherwise, it is the same question.
    let again = r#"{ "messages":[{"content":"h\u0069","role":"user"}], "temperature":0, "model":"m" }"#;
    let second = hoosh.post(CHAT, again).await;
    assert_eq!((header(&second, "x-hoosh-cache"), header(&second, "age")), ("hit", "0"));
    assert_eq!((header(&second, "x-hoosh-provider"), header(&second, "x-hoosh-model")), ("up", "m"));
    assert_eq!((header(&second, "x-hoosh-attempts"), header(&second, "x-hoosh-cost")), ("0", "0.000000000"));
    assert_eq!(second.text().await.unwrap(), odd);
    assert!(hoosh.log().contains("cost=\"$0.000000000\""), "{}", hoosh.log());
    // Another is not.
    upstream.script([Script::json(completion("ho"))]);
    let third = hoosh.post(CHAT, ASKED.replace("hi", "Hi")).await;
    assert_eq!(header(&third, "x-hoosh-cache"), "miss");
}

#[tokio::test]
async fn callers_never_share_an_answer() {
    let (hoosh, upstream) = cached("[auth]\ntokens = [\"ada\", \"eve\"]\n").await;
    let ask = async |token: &str| {
        let response = with(&hoosh, "authorization", &format!("Bearer {token}"), ASKED).await;
        let cache = header(&response, "x-hoosh-cache").to_owned();
        (cache, json(response).await["choices"][0]["message"]["content"].as_str().unwrap().to_owned())
    };
    let said = |cache: &str, text: &str| (cache.to_owned(), text.to_owned());
    upstream.script([Script::json(completion("for ada")), Script::json(completion("for eve"))]);
    assert_eq!(ask("ada").await, said("miss", "for ada"));
    assert_eq!(ask("eve").await, said("miss", "for eve"));
    assert_eq!(ask("ada").await, said("hit", "for ada"));
    assert_eq!(ask("eve").await, said("hit", "for eve"));
    // At the same time neither.
    upstream.script([
        Script::Stream(vec![(Duration::from_millis(300), completion("slow"))], End::Proper),
        Script::Stream(vec![(Duration::from_millis(300), completion("slow"))], End::Proper),
    ]);
    let other = ASKED.replace("hi", "again");
    let both = ["ada", "eve"].map(|token| format!("Bearer {token}"));
    let both = both.iter().map(|token| with(&hoosh, "authorization", token, &other));
    for response in futures_util::future::join_all(both).await {
        assert_eq!(header(&response, "x-hoosh-cache"), "miss");
    }
    // What one lets go of stays the other's.
    let purge = client().delete(hoosh.url("/v1/cache")).header("authorization", "Bearer ada").send();
    assert_eq!(json(purge.await.unwrap()).await["purged"], 2);
    assert_eq!(ask("eve").await, said("hit", "for eve"));
    upstream.script([Script::json(completion("new"))]);
    assert_eq!(ask("ada").await, said("miss", "new"));
    // Whoever has no token has no cache either.
    assert_eq!(hoosh.get("/v1/cache/stats").await.status(), 401);
    assert_eq!(client().delete(hoosh.url("/v1/cache")).send().await.unwrap().status(), 401);
}

/// One dialect, over a provider of its own.
struct Spoken {
    vendor: &'static str,
    whole: (&'static str, String),
    stream: (&'static str, String),
    reply: String,
    events: Vec<String>,
    /// What is in every good stream.
    end: &'static str,
}

fn spoken() -> Vec<Spoken> {
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    let message = format!(r#"{{"model":"m","max_tokens":9,"temperature":0,{messages}}}"#);
    let ollama = format!(r#"{{"model":"m","stream":false,"options":{{"temperature":0}},{messages}}}"#);
    let part = OLLAMA.replace(
        r#""done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2"#,
        r#""done":false"#,
    );
    let gemini = r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"temperature":0}}"#;
    let response = r#"{"model":"m","input":"x","temperature":0}"#;
    let created = RESPONSE.replace("completed", "in_progress");
    let events = [("response.created", &created[..]), ("response.completed", RESPONSE)];
    let delta = r#"{"type":"response.output_text.delta","sequence_number":1,"item_id":"m","output_index":0,"content_index":0,"delta":"hi"}"#;
    let mut events: Vec<String> = events
        .iter()
        .enumerate()
        .map(|(at, (name, response))| {
            let data = format!(r#"{{"type":"{name}","sequence_number":{},"response":{response}}}"#, at * 2);
            named(name, &data)
        })
        .collect();
    events.insert(1, named("response.output_text.delta", delta));
    vec![
        Spoken {
            vendor: "deepseek",
            whole: (CHAT, ASKED.to_owned()),
            stream: (CHAT, streamed(ASKED)),
            reply: String::from_utf8(completion("hi")).unwrap(),
            events: chat_stream(),
            end: "data: [DONE]",
        },
        Spoken {
            vendor: "anthropic",
            whole: ("/v1/messages", message.clone()),
            stream: ("/v1/messages", streamed(&message)),
            reply: MESSAGE.to_owned(),
            events: anthropic_stream(),
            end: "event: message_stop",
        },
        Spoken {
            vendor: "google",
            whole: ("/v1beta/models/m:generateContent", gemini.to_owned()),
            stream: ("/v1beta/models/m:streamGenerateContent?alt=sse", gemini.to_owned()),
            reply: GENERATED.to_owned(),
            events: vec![sse(GENERATED)],
            end: "\"finishReason\":\"STOP\"",
        },
        Spoken {
            vendor: "openai",
            whole: ("/v1/responses", response.to_owned()),
            stream: ("/v1/responses", streamed(response)),
            reply: RESPONSE.to_owned(),
            events,
            end: "event: response.completed",
        },
        Spoken {
            vendor: "ollama",
            whole: ("/api/chat", ollama.clone()),
            stream: ("/api/chat", ollama.replace("\"stream\":false,", "")),
            reply: OLLAMA.to_owned(),
            events: vec![format!("{part}\n"), format!("{}\n", OLLAMA.replace("\"hi\"", "\"\""))],
            end: "\"done\":true",
        },
    ]
}

#[tokio::test]
async fn a_stream_and_a_whole_answer_are_the_same_answer_in_every_dialect() {
    for Spoken { vendor, whole, stream, reply, events, end } in spoken() {
        let (hoosh, upstream) = vendor_with(vendor, ON).await;
        let ask = async |(path, body): &(&'static str, String)| {
            let response = hoosh.post(path, body.clone()).await;
            let cache = header(&response, "x-hoosh-cache").to_owned();
            (cache, response.text().await.unwrap())
        };
        let (hit, miss) = ("hit".to_owned(), "miss".to_owned());

        upstream.always(Script::json(reply.clone()));
        assert_eq!(ask(&whole).await, (miss.clone(), reply.clone()), "{vendor}");
        let (cache, text) = ask(&stream).await;
        assert!(cache == hit && text.contains("\"hi\"") && text.contains(end), "{vendor}: {text}");
        assert_eq!(ask(&whole).await, (hit.clone(), reply), "{vendor}");

        let purge = client().delete(hoosh.url("/v1/cache")).send().await.unwrap();
        assert_eq!(json(purge).await["purged"], 1, "{vendor}");
        let lines: Vec<&str> = events.iter().map(|line| line.trim_end()).collect();
        upstream.always(match vendor {
            "ollama" => Script::Bytes(dialects::lines(&lines)),
            _ => Script::stream(events.clone()),
        });
        assert_eq!(ask(&stream).await, (miss, events.concat()), "{vendor}");
        let (cache, text) = ask(&whole).await;
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{vendor}: {text}"));
        assert!(cache == hit && answer.to_string().contains("\"hi\""), "{vendor}: {text}");
        // The usage is kept though a chat's stream without `include_usage` does not show it.
        let tokens = ["completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count"];
        assert!(tokens.iter().any(|name| text.contains(name)), "{vendor}: {text}");
        assert_eq!(ask(&stream).await, (hit, events.concat()), "{vendor}");
    }
}

#[tokio::test]
async fn a_translated_answer_is_kept_too() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&format!("{}{ON}", at("up", &upstream.url(), ""))).await;
    let body = r#"{"model":"m","max_tokens":9,"temperature":0,"top_k":3,"messages":[{"role":"user","content":"x"}]}"#;
    upstream.script([Script::stream(chat_stream())]);
    let first = hoosh.post("/v1/messages", streamed(body)).await;
    let lossy = header(&first, "x-hoosh-lossy").to_owned();
    let first = first.text().await.unwrap();
    let again = hoosh.post("/v1/messages", streamed(body)).await;
    assert_eq!((header(&again, "x-hoosh-cache"), header(&again, "x-hoosh-lossy")), ("hit", &lossy[..]));
    assert_eq!(again.text().await.unwrap(), first);
    let whole = json(hoosh.post("/v1/messages", body).await).await;
    assert_eq!((&whole["content"][0]["text"], &whole["stop_reason"]), (&"hi".into(), &"end_turn".into()));

    // Gemini's list is one answer with its events, and with the whole.
    let body = r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"temperature":0}}"#;
    upstream.script([Script::stream(chat_stream())]);
    let list = hoosh.post("/v1beta/models/m:streamGenerateContent", body).await;
    assert_eq!(header(&list, "x-hoosh-cache"), "miss");
    list.text().await.unwrap();
    for path in ["/v1beta/models/m:streamGenerateContent?alt=sse", "/v1beta/models/m:generateContent"] {
        let response = hoosh.post(path, body).await;
        assert_eq!(header(&response, "x-hoosh-cache"), "hit");
        assert!(response.text().await.unwrap().contains("\"hi\""), "{path}");
    }
}

#[tokio::test]
async fn usage_is_shown_to_whoever_asks_for_it() {
    let (hoosh, upstream) = cached("").await;
    upstream.script([Script::json(completion("hi"))]);
    hoosh.post(CHAT, ASKED).await.text().await.unwrap();
    let body = ASKED.replacen('{', r#"{"stream":true,"stream_options":{"include_usage":true},"#, 1);
    let text = hoosh.post(CHAT, body).await.text().await.unwrap();
    assert!(text.contains("\"completion_tokens\":2"), "{text}");
    let text = hoosh.post(CHAT, streamed(ASKED)).await.text().await.unwrap();
    assert!(!text.contains("completion_tokens") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(upstream.requests(CHAT).len(), 1);
}

#[tokio::test]
async fn a_caller_says_what_the_cache_is_for() {
    let (hoosh, upstream) = cached("").await;
    let ask = async |control: &str| {
        let response = with(&hoosh, "cache-control", control, ASKED).await;
        let cache = header(&response, "x-hoosh-cache").to_owned();
        let answer = json(response).await;
        format!("{cache} {}", answer["choices"][0]["message"]["content"].as_str().unwrap())
    };
    upstream.script(["one", "two", "three", "four"].map(|text| Script::json(completion(text))));
    assert_eq!(ask("no-store").await, "bypass one", "nothing is kept");
    assert_eq!(ask("max-age=60").await, "miss two");
    assert_eq!(ask("no-store").await, "bypass three", "nothing is read");
    assert_eq!(ask("max-age=60").await, "hit two");
    assert_eq!(ask("no-cache").await, "miss four", "it is asked anew");
    assert_eq!(ask("").await, "hit four", "and kept");
    upstream.script([Script::json(completion("five"))]);
    assert_eq!(ask("max-age=0").await, "miss five");
}

#[tokio::test]
async fn what_may_come_out_otherwise_is_asked_again() {
    let (hoosh, upstream) = cached("").await;
    upstream.always(Script::json(completion("hi")));
    for body in [
        ASKED.replace("\"temperature\":0,", ""),
        ASKED.replace("\"temperature\":0", "\"temperature\":0.7"),
        ASKED.replacen('{', r#"{"n":2,"#, 1),
        ASKED.replacen('{', r#"{"tools":[{"type":"function","function":{"name":"f"}}],"#, 1),
    ] {
        for _ in 0..2 {
            assert_eq!(header(&hoosh.post(CHAT, body.clone()).await, "x-hoosh-cache"), "bypass", "{body}");
        }
    }
    let (hoosh, upstream) = cached("any_temperature = true\ntool_calls = true\n").await;
    let call = r#"{"id":"c1","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#;
    upstream.always(Script::json(call));
    let body = r#"{"model":"m","tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(header(&hoosh.post(CHAT, body).await, "x-hoosh-cache"), "miss");
    let again = hoosh.post(CHAT, streamed(body)).await;
    assert_eq!(header(&again, "x-hoosh-cache"), "hit");
    assert!(again.text().await.unwrap().contains("\"name\":\"f\""));
}

#[tokio::test]
async fn what_is_no_whole_answer_is_not_kept() {
    let (hoosh, upstream) = cached("").await;
    let filtered = String::from_utf8(completion("hi")).unwrap().replace("\"stop\"", "\"content_filter\"");
    let long = String::from_utf8(completion("hi")).unwrap().replace("\"stop\"", "\"length\"");
    let bad = [
        Script::status(400, r#"{"error":{"message":"no"}}"#),
        Script::json(filtered),
        Script::json(
            r#"{"id":"c1","choices":[{"index":0,"message":{"role":"assistant","content":null},"finish_reason":"stop"}]}"#,
        ),
    ];
    for script in bad {
        upstream.script([script]);
        hoosh.post(CHAT, ASKED).await.text().await.unwrap();
    }
    let first = || chunk(r#"{"content":"half"}"#);
    let bad = [
        Script::broken_stream([first()], End::Cut),
        // A proper end of HTTP is none of a stream.
        Script::stream([first()]),
        Script::stream([first(), sse(r#"{"error":{"message":"overloaded"}}"#)]),
        Script::stream([first(), finish("content_filter"), sse("[DONE]")]),
    ];
    for script in bad {
        upstream.script([script]);
        hoosh.post(CHAT, streamed(ASKED)).await.text().await.unwrap();
    }
    assert_eq!(upstream.requests(CHAT).len(), 7, "each was asked");
    assert_eq!(stats(&hoosh).await["entries"], 0);
    // As long as was allowed is whole.
    upstream.script([Script::json(long)]);
    hoosh.post(CHAT, ASKED).await.text().await.unwrap();
    assert_eq!(header(&hoosh.post(CHAT, ASKED).await, "x-hoosh-cache"), "hit");
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time() {
    let (quick, slow, never) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    for upstream in [&quick, &slow, &never] {
        upstream.always(Script::json(completion("hi")));
    }
    let config = [
        at("quick", &quick.url(), "cache_ttl_secs = 0.5").replace("\"*\"", "\"quick\""),
        at("slow", &slow.url(), "").replace("\"*\"", "\"slow\""),
        at("never", &never.url(), "cache_ttl_secs = 0").replace("\"*\"", "\"never\""),
    ];
    let hoosh = Hoosh::start(&format!("{}{ON}ttl_secs = 60\n", config.concat())).await;
    let ask = async |model: &str| {
        let response = hoosh.post(CHAT, ASKED.replace("\"m\"", &format!("\"{model}\""))).await;
        header(&response, "x-hoosh-cache").to_owned()
    };
    for model in ["quick", "slow", "never"] {
        assert_eq!(ask(model).await, "miss");
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!([ask("quick").await, ask("slow").await, ask("never").await], ["miss", "hit", "miss"]);
    let old = hoosh.post(CHAT, ASKED.replace("\"m\"", "\"slow\"")).await;
    assert_eq!(header(&old, "age"), "1");
    let fresh = with(&hoosh, "cache-control", "max-age=1", &ASKED.replace("\"m\"", "\"slow\"")).await;
    assert_eq!(header(&fresh, "x-hoosh-cache"), "miss", "a second and a tenth is more than one");
}

#[tokio::test]
async fn what_is_kept_can_be_seen_and_let_go_of() {
    let (hoosh, upstream) = cached("").await;
    upstream.always(Script::json(completion("hi")));
    for model in ["a", "b/c", "a", "d"] {
        hoosh.post(CHAT, ASKED.replace("\"m\"", &format!("\"{model}\""))).await;
    }
    let told = stats(&hoosh).await;
    let expected = serde_json::json!({"enabled": true, "entries": 3, "bytes": told["bytes"], "max_bytes": 64 << 20,
        "hits": 1, "semantic_hits": 0, "semantic_entries": 0, "embeddings_failed": 0, "misses": 3, "bypassed": 0, "waits": 0, "evictions": 0});
    assert_eq!(told, expected);
    assert!(told["bytes"].as_u64().unwrap() > 3 * completion("hi").len() as u64);
    let metrics = hoosh.get("/metrics").await.text().await.unwrap();
    for line in ["hoosh_cache_calls_total{result=\"hit\"} 1", "hoosh_cache_entries 3"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    let purge =
        async |query: &str| client().delete(hoosh.url(&format!("/v1/cache{query}"))).send().await.unwrap();
    assert_eq!(json(purge("?model=b%2Fc").await).await["purged"], 1);
    assert_eq!(purge("?modle=a").await.status(), 400);
    assert_eq!(stats(&hoosh).await["entries"], 2);
    assert_eq!(json(purge("").await).await["purged"], 2);
    assert_eq!(stats(&hoosh).await["entries"], 0);
    assert_eq!(header(&hoosh.post(CHAT, ASKED.replace("\"m\"", "\"a\"")).await, "x-hoosh-cache"), "miss");
}

#[tokio::test]
async fn without_a_cache_nothing_is_kept() {
    let (hoosh, upstream) = crate::one().await;
    upstream.always(Script::json(completion("hi")));
    for _ in 0..2 {
        assert_eq!(header(&hoosh.post(CHAT, ASKED).await, "x-hoosh-cache"), "");
    }
    assert_eq!(upstream.requests(CHAT).len(), 2);
    assert_eq!(stats(&hoosh).await["enabled"], false);
    assert_eq!(json(client().delete(hoosh.url("/v1/cache")).send().await.unwrap()).await["purged"], 0);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_answer_along() {
    for body in [ASKED.to_owned(), streamed(ASKED)] {
        let (hoosh, upstream) = cached("").await;
        let begun = Script::broken_stream([chunk(r#"{"content":"half"}"#)], End::Silence);
        upstream.script([begun, Script::json(completion("hi"))]);
        let leader = client().post(hoosh.url(CHAT)).body(body);
        let mut leader = Box::pin(async { leader.send().await.unwrap().text().await });
        let has_asked = async || {
            let _still = leader.as_mut().now_or_never();
            upstream.requests(CHAT).len() == 1
        };
        until(has_asked).await;
        let (waiter, other) = (hoosh.post(CHAT, ASKED), hoosh.post(CHAT, ASKED));
        let leave = async {
            until(async || stats(&hoosh).await["waits"] == 2).await;
            drop(leader);
        };
        let (waiter, other, ()) = tokio::join!(waiter, other, leave);
        let mut said = [header(&waiter, "x-hoosh-cache"), header(&other, "x-hoosh-cache")];
        said.sort_unstable();
        assert_eq!(said, ["hit", "miss"], "one took over");
        assert_eq!(json(waiter).await["choices"][0]["message"]["content"], "hi");
        assert_eq!(upstream.requests(CHAT).len(), 2);
    }
}

#[tokio::test]
async fn whoever_waits_for_a_call_that_fails_is_not_failed_by_it() {
    let (hoosh, upstream) = cached("[routing]\nretries = 0\nfailures = 1000\n").await;
    let slow = |body: Vec<u8>| Script::Stream(vec![(Duration::from_millis(300), body)], End::Proper);
    upstream.script([slow(b"{".to_vec()), slow(completion("hi"))]);
    let calls = (0..5).map(|_| hoosh.post(CHAT, ASKED));
    let mut statuses: Vec<u16> = futures_util::future::join_all(calls)
        .await
        .iter()
        .map(|response| response.status().as_u16())
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 502]);
    assert_eq!(upstream.requests(CHAT).len(), 2);

    // While nobody answers, nobody waits for more than two.
    upstream.always(slow(b"{".to_vec()));
    let start = std::time::Instant::now();
    let calls = (0..20).map(|_| hoosh.post(CHAT, ASKED.replace("hi", "down")));
    for response in futures_util::future::join_all(calls).await {
        assert_eq!(response.status(), 502);
    }
    assert!(start.elapsed() < Duration::from_secs(4), "one after the other would take 6 s");
}

#[tokio::test]
async fn waiting_for_another_counts_into_the_time_for_an_answer() {
    let upstream = Upstream::start().await;
    let config = format!("request_timeout_secs = 1\n{}{ON}", at("up", &upstream.url(), ""));
    let hoosh = Hoosh::start(&config).await;
    upstream.always(Script::Silence);
    let start = std::time::Instant::now();
    let (one, other) = tokio::join!(hoosh.post(CHAT, ASKED), hoosh.post(CHAT, ASKED));
    assert_eq!((one.status(), other.status()), (one.status(), one.status()));
    assert_eq!(one.status(), 504);
    assert!(start.elapsed() < Duration::from_millis(1_800), "{:?}", start.elapsed());
}

#[tokio::test]
async fn embeddings_are_kept_whatever_the_temperature() {
    let (hoosh, upstream) = cached("").await;
    let vectors = r#"{"object":"list","model":"e","data":[{"object":"embedding","index":0,"embedding":[1.0,-2.5]}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    upstream.always(Script::json(vectors));
    let body = r#"{"model":"e","input":"hi"}"#;
    for (body, expected) in [
        (body.to_owned(), "miss"),
        (body.replace(':', " :"), "hit"),
        (body.replace("\"hi\"", "[\"hi\"]"), "miss"),
        (body.replacen('{', r#"{"encoding_format":"base64","#, 1), "miss"),
    ] {
        let response = hoosh.post("/v1/embeddings", body).await;
        assert_eq!(header(&response, "x-hoosh-cache"), expected);
        assert!(expected == "miss" || response.text().await.unwrap() == vectors);
    }
}

#[tokio::test]
async fn a_conversation_goes_on_from_an_answer_that_was_given_again() {
    let (hoosh, upstream) = vendor_with("deepseek", ON).await;
    upstream.always(Script::json(completion("hello")));
    let body = r#"{"model":"m","input":"hi","temperature":0}"#;
    let first = json(hoosh.post("/v1/responses", body).await).await;
    let again = hoosh.post("/v1/responses", body).await;
    assert_eq!(header(&again, "x-hoosh-cache"), "hit");
    let again = json(again).await;
    assert_eq!(again["id"], first["id"]);
    let id = again["id"].as_str().unwrap();
    let next = format!(r#"{{"model":"m","input":"bye","temperature":0,"previous_response_id":"{id}"}}"#);
    for _ in 0..2 {
        let response = hoosh.post("/v1/responses", next.clone()).await;
        assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-cache")), (200, "bypass"));
    }
}
