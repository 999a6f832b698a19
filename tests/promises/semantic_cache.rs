//! Promise: the same question in other words has the same answer where that is wanted, and nothing of anybody else's.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Hoosh, PATIENCE, Request, Script, Upstream, client, completion};

use crate::{at, header, json as read};

const CHAT: &str = "/v1/chat/completions";

/// Embeds by hand: `one` and `uno` are 0.96 alike, everything else has a direction of its own.
fn embedded(request: &Request) -> Script {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(asked["model"], "e");
    let text = asked["input"][0].as_str().unwrap_or_else(|| panic!("{asked}"));
    let mut vector = [0.0; 62];
    match text {
        "one" => vector[0] = 3.0,
        "uno" => (vector[0], vector[1]) = (0.96, 0.28),
        "zero" => {}
        other => vector[2 + other.bytes().map(usize::from).sum::<usize>() % 60] = 1.0,
    }
    let vector = vector.as_slice();
    Script::json(
        json!({"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": vector}],
            "usage": {"prompt_tokens": 2, "total_tokens": 2}})
        .to_string(),
    )
}

/// A gateway before one upstream that chats and one that embeds, with these keys of the cache and what follows them.
async fn by_meaning(more: &str) -> (Hoosh, Upstream, Upstream) {
    let (chats, embeds) = (Upstream::start().await, Upstream::start().await);
    embeds.always(Script::By(embedded));
    let hoosh = Hoosh::start(&config(&chats, &embeds, more)).await;
    (hoosh, chats, embeds)
}

fn config(chats: &Upstream, embeds: &Upstream, more: &str) -> String {
    let chats = at("up", &chats.url(), "").replace("\"*\"", "\"m\", \"n\"");
    let embeds = at("vectors", &embeds.url(), "").replace("\"*\"", "\"e\"");
    format!("{chats}{embeds}[cache]\nenabled = true\nsemantic_model = \"vectors/e\"\n{more}")
}

fn asking(text: &str) -> Value {
    json!({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": text}]})
}

async fn ask_as(hoosh: &Hoosh, token: &str, body: &Value) -> reqwest::Response {
    let request = client().post(hoosh.url(CHAT)).header("content-type", "application/json");
    request.header("authorization", format!("Bearer {token}")).body(body.to_string()).send().await.unwrap()
}

/// What the cache did, and what was said.
async fn said(response: reqwest::Response) -> (String, String) {
    let cache = header(&response, "x-hoosh-cache").to_owned();
    let answer = read(response).await;
    (
        cache,
        answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned(),
    )
}

async fn ask(hoosh: &Hoosh, body: &Value) -> (String, String) {
    said(hoosh.post(CHAT, body.to_string()).await).await
}

fn pair(cache: &str, text: &str) -> (String, String) {
    (cache.to_owned(), text.to_owned())
}

async fn stats(hoosh: &Hoosh) -> Value {
    read(hoosh.get("/v1/cache/stats").await).await
}

#[tokio::test]
async fn the_same_question_in_other_words_has_the_same_answer() {
    let (hoosh, chats, embeds) = by_meaning("").await;
    chats.always(Script::json(completion("1")));
    assert_eq!(ask(&hoosh, &asking("one")).await, pair("miss", "1"));
    chats.always(Script::status(500, "{}"));
    let response = hoosh.post(CHAT, asking("uno").to_string()).await;
    assert_eq!((header(&response, "x-hoosh-cache"), header(&response, "age")), ("semantic 0.96", "0"));
    assert_eq!((header(&response, "x-hoosh-provider"), header(&response, "x-hoosh-attempts")), ("up", "0"));
    assert_eq!(header(&response, "x-hoosh-cost"), "0.000000000");
    assert_eq!(response.text().await.unwrap().as_bytes(), completion("1"), "byte for byte");
    // Streamed as well.
    let mut streamed = asking("uno");
    streamed["stream"] = true.into();
    let response = hoosh.post(CHAT, streamed.to_string()).await;
    assert_eq!(header(&response, "x-hoosh-cache"), "semantic 0.96");
    let text = response.text().await.unwrap();
    assert!(text.contains("\"1\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(ask(&hoosh, &asking("one")).await, pair("hit", "1"));

    assert_eq!((chats.requests(CHAT).len(), embeds.requests("/v1/embeddings").len()), (1, 3));
    let told = stats(&hoosh).await;
    let expected = json!({"enabled": true, "entries": 1, "bytes": told["bytes"], "max_bytes": 64 << 20, "hits": 1,
        "semantic_hits": 2, "semantic_entries": 1, "embeddings_failed": 0, "misses": 1, "bypassed": 0, "waits": 0,
        "evictions": 0});
    assert_eq!(told, expected, "embeddings for the cache are not in its own counts");
    let metrics = hoosh.get("/metrics").await.text().await.unwrap();
    for line in [
        "hoosh_cache_calls_total{result=\"semantic\"} 2",
        "hoosh_cache_semantic_entries 1",
        "hoosh_calls_total{outcome=\"answered\",dialect=\"openai_embeddings\",provider=\"vectors\"} 3",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // Each embedding is a call in the books, of the same caller.
    let log = hoosh.log();
    let booked =
        |word: &str| log.lines().filter(|line| line.contains(word) && line.contains("caller=")).count();
    assert_eq!(
        (booked("model=\"vectors/e\""), booked("cache=\"semantic\" similarity=0.96")),
        (3, 2),
        "{log}"
    );
}

#[tokio::test]
async fn nobody_is_given_anothers() {
    let (hoosh, chats, _embeds) =
        by_meaning("semantic_threshold = 0\n[auth]\ntokens = [\"ada\", \"eve\"]\n").await;
    chats.script(["for ada", "for eve", "new"].map(|text| Script::json(completion(text))));
    let ask = async |token: &str, text: &str| said(ask_as(&hoosh, token, &asking(text)).await).await;
    assert_eq!(ask("ada", "one").await, pair("miss", "for ada"));
    assert_eq!(ask("eve", "uno").await, pair("miss", "for eve"), "not ada's");
    assert_eq!(ask("ada", "uno").await, pair("semantic 0.96", "for ada"));
    assert_eq!(ask("eve", "one").await, pair("semantic 0.96", "for eve"));
    // What one lets go of is not found any more, and stays the other's.
    let purge = client().delete(hoosh.url("/v1/cache")).header("authorization", "Bearer ada").send();
    assert_eq!(read(purge.await.unwrap()).await["purged"], 1);
    assert_eq!(ask("eve", "one").await, pair("semantic 0.96", "for eve"));
    assert_eq!(ask("ada", "uno").await, pair("miss", "new"));
}

#[tokio::test]
async fn everything_but_the_words_must_be_the_same() {
    let (hoosh, chats, _embeds) = by_meaning("semantic_threshold = 0.5\n").await;
    chats.always(Script::json(completion("x")));
    assert_eq!(ask(&hoosh, &asking("one")).await.0, "miss");
    assert_eq!(ask(&hoosh, &asking("uno")).await.0, "semantic 0.96");
    let mut brief = asking("uno");
    brief["messages"] = json!([{"role": "system", "content": "brief"}, {"role": "user", "content": "uno"}]);
    let mut warmer = asking("uno");
    warmer["top_p"] = 0.5.into();
    let mut other = asking("uno");
    other["model"] = "n".into();
    let mut named = asking("uno");
    named["user"] = "u".into();
    for body in [brief, warmer, other, named] {
        assert_eq!(ask(&hoosh, &body).await.0, "miss", "{body}");
    }
    // What is not cached is not looked for either.
    let mut tools = asking("uno");
    tools["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    assert_eq!(ask(&hoosh, &tools).await.0, "bypass");
    for (control, expected) in [("no-store", "bypass"), ("no-cache", "miss"), ("max-age=0", "miss")] {
        let request = client().post(hoosh.url(CHAT)).header("cache-control", control);
        let response = request.body(asking("uno").to_string()).send().await.unwrap();
        assert_eq!(header(&response, "x-hoosh-cache"), expected, "{control}");
    }
}

#[tokio::test]
async fn an_embeddings_model_in_trouble_fails_no_call() {
    let (hoosh, chats, embeds) = by_meaning("").await;
    chats.always(Script::json(completion("x")));
    let broken = [
        Script::status(400, r#"{"error":{"message":"no"}}"#),
        Script::json("{}"),
        Script::json(r#"{"object":"list","data":[]}"#),
        Script::status(503, r#"{"error":{"message":"busy"}}"#),
    ];
    for (number, script) in broken.into_iter().enumerate() {
        embeds.script([script]);
        let text = ["a", "b", "c", "d"][number];
        assert_eq!(ask(&hoosh, &asking(text)).await, pair("miss", "x"), "{text}");
        assert_eq!(ask(&hoosh, &asking(text)).await, pair("hit", "x"), "it is kept all the same");
    }
    assert_eq!(ask(&hoosh, &asking("zero")).await, pair("miss", "x"));
    assert_eq!(stats(&hoosh).await["embeddings_failed"], 5);

    // One that says nothing holds up one call, for a second.
    let (hoosh, chats, embeds) = by_meaning("").await;
    chats.always(Script::json(completion("x")));
    embeds.always(Script::Silence);
    let start = Instant::now();
    assert_eq!(ask(&hoosh, &asking("one")).await, pair("miss", "x"));
    assert!((1_000..2_500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(ask(&hoosh, &asking("uno")).await, pair("miss", "x"));
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    let told = stats(&hoosh).await;
    assert_eq!((&told["embeddings_failed"], &told["misses"]), (&2.into(), &2.into()));
}

#[tokio::test]
async fn what_only_this_machine_may_see_is_embedded_by_nobody_else() {
    let (chats, embeds) = (Upstream::start().await, Upstream::start().await);
    embeds.always(Script::By(embedded));
    chats.always(Script::json(completion("x")));
    // The one that chats is a kind that runs on one's own machines, the one that embeds may be anywhere.
    let config = config(&chats, &embeds, "").replacen("openai_compatible", "vllm", 1);
    let hoosh = Hoosh::start(&config).await;
    let request = client().post(hoosh.url(CHAT)).header("x-hoosh-privacy", "local");
    let response = request.body(asking("one").to_string()).send().await.unwrap();
    assert_eq!(header(&response, "x-hoosh-cache"), "miss");
    assert_eq!(stats(&hoosh).await["embeddings_failed"], 1);
    let log = hoosh.log();
    assert!(log.contains("no embedding to look for an answer by"), "{log}");
    assert_eq!(embeds.requests("/v1/embeddings").len(), 0);
}

#[tokio::test]
async fn another_model_of_embeddings_begins_anew() {
    let (hoosh, chats, embeds) = by_meaning("").await;
    chats.always(Script::json(completion("x")));
    assert_eq!(ask(&hoosh, &asking("one")).await.0, "miss");
    assert_eq!(ask(&hoosh, &asking("uno")).await.0, "semantic 0.96");
    hoosh.configure(&config(&chats, &embeds, "").replace("vectors/e\"\n", "e\"\n"));
    let reload = client().post(hoosh.url("/v1/admin/reload")).send().await.unwrap();
    assert_eq!(read(reload).await["changed"], json!(["`cache.semantic_model`"]));
    assert_eq!(stats(&hoosh).await["semantic_entries"], 0);
    assert_eq!(ask(&hoosh, &asking("uno")).await.0, "miss");
}

/// Waits until the cache has been warmed that often.
async fn warmed(hoosh: &Hoosh, times: usize) -> String {
    let start = Instant::now();
    loop {
        let log = hoosh.log();
        if log.lines().filter(|line| line.contains("warmed") && line.contains("kept=")).count() >= times {
            return log;
        }
        assert!(start.elapsed() < PATIENCE, "not warmed {times} times: {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn answers_are_there_before_anybody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("warm.jsonl");
    let line = |text: &str, stream: bool| {
        let mut body = asking(text);
        body["stream"] = stream.into();
        json!({"caller": "*", "body": body}).to_string()
    };
    std::fs::write(
        &file,
        format!("{}\n\n{}\n{}\n", line("one", false), line("two", true), line("bad", false)),
    )
    .unwrap();
    let (chats, embeds) = (Upstream::start().await, Upstream::start().await);
    embeds.always(Script::By(embedded));
    chats.always(Script::By(|request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        match asked["messages"][0]["content"].as_str().unwrap() {
            "bad" => Script::status(400, r#"{"error":{"message":"I do not like it"}}"#),
            _ if asked["stream"] == true => Script::stream([
                testkit::chunk(r#"{"role":"assistant","content":"2"}"#),
                testkit::finish("stop"),
                testkit::sse("[DONE]"),
            ]),
            _ => Script::json(completion("1")),
        }
    }));
    let more = |more: &str| {
        format!(
            "warm = {:?}\n{more}[auth]\ntokens = [\"ada\", \"eve\"]\nadmin_tokens = [\"ada\"]\n",
            file.to_str().unwrap()
        )
    };
    let hoosh = Hoosh::start(&config(&chats, &embeds, &more(""))).await;
    let log = warmed(&hoosh, 1).await;
    assert!(log.contains("kept=4 there=0 failed=2"), "{log}");
    let failures: Vec<&str> = log.lines().filter(|line| line.contains("not warmed: ")).collect();
    assert_eq!(failures.len(), 2, "{log}");
    assert!(
        failures.iter().all(|line| line.contains("line=4") && line.contains("I do not like it")),
        "{log}"
    );

    let before = chats.requests(CHAT).len();
    for token in ["ada", "eve"] {
        assert_eq!(said(ask_as(&hoosh, token, &asking("one")).await).await, pair("hit", "1"));
        assert_eq!(said(ask_as(&hoosh, token, &asking("two")).await).await, pair("hit", "2"));
        assert_eq!(said(ask_as(&hoosh, token, &asking("uno")).await).await, pair("semantic 0.96", "1"));
    }
    assert_eq!(chats.requests(CHAT).len(), before);

    // A reload that leaves cache and file as they are asks nothing; another file is asked, and what is there is not.
    let reload = async || {
        let request = client().post(hoosh.url("/v1/admin/reload")).header("authorization", "Bearer ada");
        read(request.send().await.unwrap()).await["changed"].clone()
    };
    hoosh.configure(&config(&chats, &embeds, &format!("{}[routing]\nretries = 0\n", more(""))));
    assert_eq!(reload().await, json!(["`routing.retries`"]));
    std::fs::write(&file, format!("{}\n{}\n", line("one", false), line("new", false))).unwrap();
    assert_eq!(reload().await, json!(["`cache.warm`"]));
    let log = warmed(&hoosh, 2).await;
    assert!(log.contains("kept=2 there=2 failed=0"), "{log}");
    // And so is another cache.
    hoosh.configure(&config(&chats, &embeds, &more("ttl_secs = 60\n")));
    assert_eq!(reload().await, json!(["`cache.ttl_secs`", "`routing.retries`"]));
    let log = warmed(&hoosh, 3).await;
    assert!(log.contains("kept=4 there=0 failed=0"), "{log}");
    // A file with a fault is refused, and everything stays.
    std::fs::write(&file, "{\"caller\": \"*\"}\n").unwrap();
    let request = client().post(hoosh.url("/v1/admin/reload")).header("authorization", "Bearer ada");
    let refused = request.send().await.unwrap();
    assert_eq!(refused.status(), 400);
    let text = refused.text().await.unwrap();
    assert!(text.contains("warm.jsonl:1: `body`: is missing"), "{text}");
    assert_eq!(said(ask_as(&hoosh, "ada", &asking("one")).await).await, pair("hit", "1"));
}

#[tokio::test]
async fn warming_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("warm.jsonl");
    let lines: Vec<String> =
        (0..20).map(|number| json!({"body": asking(&format!("slow {number}"))}).to_string()).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (chats, embeds) = (Upstream::start().await, Upstream::start().await);
    chats.always(Script::By(|request| {
        let is_warming = request.body.windows(4).any(|text| text == b"slow");
        if is_warming { Script::Silence } else { Script::json(completion("x")) }
    }));
    let config = config(&chats, &embeds, &format!("warm = {:?}\n", file.to_str().unwrap()));
    let mut hoosh = Hoosh::start(&config.replace("semantic_model = \"vectors/e\"\n", "")).await;
    let start = Instant::now();
    while chats.requests(CHAT).len() < 4 {
        assert!(start.elapsed() < PATIENCE, "nothing is warmed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(hoosh.get("/health").await.status(), 200);
    assert_eq!(ask(&hoosh, &asking("one")).await, pair("miss", "x"));
    assert_eq!(chats.requests(CHAT).len(), 5, "four at once, and ours");
    // Nor does it keep the gateway from stopping.
    hoosh.signal("TERM");
    let start = Instant::now();
    assert_eq!(hoosh.ended().await, Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_was_warmed_is_found_by_the_vendors_own_clients_and_what_is_not_kept_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("warm.jsonl");
    let messages = |text: &str| json!({"model": "m", "max_tokens": 9, "temperature": 0, "messages": [{"role": "user", "content": text}]});
    let mut broken = asking("broken");
    broken["stream"] = true.into();
    let lines = [
        json!({"dialect": "anthropic", "body": messages("one")}),
        json!({"body": asking("filtered")}),
        json!({"body": broken}),
    ];
    std::fs::write(&file, lines.map(|line| line.to_string()).join("\n")).unwrap();
    let (chats, embeds) = (Upstream::start().await, Upstream::start().await);
    embeds.always(Script::By(embedded));
    chats.always(Script::By(|request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        match asked["messages"][0]["content"].as_str().unwrap() {
            "filtered" => {
                let stopped = String::from_utf8(completion("x")).unwrap();
                Script::json(stopped.replace("\"stop\"", "\"content_filter\""))
            }
            "broken" => Script::stream([testkit::chunk(r#"{"role":"assistant","content":"half"}"#)]),
            _ => Script::json(completion("1")),
        }
    }));
    let hoosh =
        Hoosh::start(&config(&chats, &embeds, &format!("warm = {:?}\n", file.to_str().unwrap()))).await;
    let log = warmed(&hoosh, 1).await;
    assert!(log.contains("kept=1 there=0 failed=2"), "{log}");
    for line in ["line=2", "line=3"] {
        let told = |told: &&str| told.contains("not warmed: its answer is not kept") && told.contains(line);
        assert_eq!(log.lines().filter(told).count(), 1, "{line}: {log}");
    }
    let ask = async |version: Option<&str>| {
        let request = client().post(hoosh.url("/v1/messages")).body(messages("one").to_string());
        let request = version
            .into_iter()
            .fold(request, |request, version| request.header("anthropic-version", version));
        header(&request.send().await.unwrap(), "x-hoosh-cache").to_owned()
    };
    assert_eq!(ask(Some("2023-06-01")).await, "hit", "as Anthropic's clients ask");
    assert_eq!(ask(None).await, "hit");
    assert_eq!(ask(Some("2099-01-01")).await, "miss");
}

#[tokio::test]
async fn an_embeddings_model_that_hangs_fails_no_call_that_has_little_time() {
    let (chats, embeds) = (Upstream::start().await, Upstream::start().await);
    chats.always(Script::json(completion("x")));
    embeds.always(Script::Silence);
    let config = format!("request_timeout_secs = 1\n{}", config(&chats, &embeds, ""));
    let hoosh = Hoosh::start(&config).await;
    let start = Instant::now();
    assert_eq!(ask(&hoosh, &asking("one")).await, pair("miss", "x"));
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(ask(&hoosh, &asking("uno")).await, pair("miss", "x"));
    assert_eq!(embeds.requests("/v1/embeddings").len(), 1, "and then it is let alone");
}

#[tokio::test]
async fn signs_belong_to_the_question_and_a_text_to_be_completed_is_none() {
    let (hoosh, chats, embeds) = by_meaning("").await;
    // Whatever is said, it means the same.
    embeds.always(Script::json(
        r#"{"object":"list","model":"e","data":[{"object":"embedding","index":0,"embedding":[1.0,0.0]}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#,
    ));
    chats.always(Script::json(completion("x")));
    assert_eq!(ask(&hoosh, &asking("users whose age >= 18")).await.0, "miss");
    assert_eq!(ask(&hoosh, &asking("users whose age <= 18")).await.0, "miss");
    assert_eq!(ask(&hoosh, &asking("all users whose age >= 18")).await.0, "semantic 1.00");
    let generate = async |prompt: &str, key: &str, value: Value| {
        let mut body =
            json!({"model": "m", "stream": false, "prompt": prompt, "options": {"temperature": 0}});
        body[key] = value;
        header(&hoosh.post("/api/generate", body.to_string()).await, "x-hoosh-cache").to_owned()
    };
    assert_eq!(generate("def add", "raw", json!(false)).await, "miss");
    assert_eq!(generate("def sum", "raw", json!(false)).await, "semantic 1.00");
    for (key, value) in [("raw", json!(true)), ("suffix", json!("# end"))] {
        for prompt in ["def add", "def sum"] {
            let cache = generate(prompt, key, value.clone()).await;
            assert!(cache == "miss" || cache == "bypass", "{key}: {cache}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_asked_for_anew_is_found_where_the_old_one_was() {
    let (hoosh, chats, embeds) = by_meaning("").await;
    chats.script(["1", "2"].map(|text| Script::json(completion(text))));
    assert_eq!(ask(&hoosh, &asking("one")).await, pair("miss", "1"));
    let request = client().post(hoosh.url(CHAT)).header("cache-control", "no-cache");
    let response = request.body(asking("one").to_string()).send().await.unwrap();
    assert_eq!(said(response).await, pair("miss", "2"));
    assert_eq!(ask(&hoosh, &asking("uno")).await, pair("semantic 0.96", "2"));
    assert_eq!(embeds.requests("/v1/embeddings").len(), 2);
}
