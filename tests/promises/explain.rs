//! Promise: who is asked, and why, can be seen: beforehand by `hoosh explain`, afterwards by the decision of each call.

use serde_json::Value;
use testkit::{Hoosh, Script, Upstream, chat_body, client, completion, finished};

use crate::{at, header, json};

const CHAT: &str = "/v1/chat/completions";

const CONFIG: &str = r#"
[aliases]
fast = ["llama3", "open/gpt-4o-mini"]
[[providers]]
type = "ollama"
name = "box"
base_url = "http://127.0.0.1:9"
models = ["llama*"]
priority = 1
[[providers]]
type = "openai"
name = "open"
api_key = "sk-secret"
models = ["gpt-*", "llama3"]
priority = 2
weight = 3
"#;

/// What `hoosh explain` says with this configuration and this request: its exit code and its two outputs.
fn explain(config: &str, request: Option<&str>, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = write("hoosh.toml", config);
    let request = request.map(|text| write("request.json", text));
    let mut all = vec!["explain", "--config", &config];
    all.extend(request.iter().flat_map(|path| ["--request", path.as_str()]));
    all.extend(arguments);
    let output = finished(&all);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn check(model: &str, words: &[&str]) {
    let (code, shown, told) = explain(CONFIG, None, &["--model", model]);
    assert_eq!(code, Some(0), "{told}");
    for word in words {
        assert!(shown.contains(word), "{word} is missing in:\n{shown}");
    }
    assert!(!shown.contains("secret") && !told.contains("secret"));
}

#[test]
fn each_way_to_read_a_name_is_told() {
    check("fast", &["an alias of llama3, gpt-4o-mini", "1  box/llama3", "2  open/llama3", "its name"]);
    check("gpt-4o-mini", &["open/gpt-4o-mini", "0.0003"]);
    check("llama3", &["a name that a route spells out", "`llama*`", "`llama3`"]);
    check("llama3.2", &["a name that patterns match", "box/llama3.2", "`llama*`"]);
    check("open/llama3.2", &["a model of the provider `open`", "open/llama3.2", "its name"]);
}

#[test]
fn a_name_that_nobody_has_is_told_with_those_that_look_like_it() {
    let (code, shown, told) = explain(CONFIG, None, &["--model", "fasst"]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(told.contains("no provider serves the model `fasst`; did you mean `fast`?"), "{told}");
    let (code, shown, _) = explain(CONFIG, None, &["--model", "fasst", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["did_you_mean"][0]), (Some(1), &"fast".into()), "{shown}");
}

#[test]
fn what_a_request_needs_decides_and_is_told() {
    let image =
        r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,"}}]}"#;
    let request = format!(r#"{{"model":"gpt-3.5-turbo","max_tokens":300,"messages":[{image}]}}"#);
    let (code, _, told) = explain(CONFIG, Some(&request), &[]);
    assert_eq!(code, Some(1));
    assert!(told.contains("`open`: the model takes no images"), "{told}");
    let (code, shown, told) = explain(CONFIG, Some(&request), &["--model", "gpt-4o", "--json"]);
    assert_eq!(code, Some(0), "{told}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["query"]["input"][0], &shown["query"]["max_tokens"]), (&"image".into(), &300.into()));
    let first = &shown["candidates"][0];
    assert_eq!(
        (&first["provider"], &first["pattern"], &first["weight"]),
        (&"open".into(), &"gpt-*".into(), &3.into())
    );
    // 300 tokens of answer are 0.003, and the picture costs something too.
    let cost: f64 = first["cost_usd"].as_str().unwrap().parse().unwrap();
    assert!((0.003..0.01).contains(&cost), "{first}");
    // The headers of a call count too, and so do other dialects.
    let (code, _, told) =
        explain(CONFIG, Some(&request), &["--model", "gpt-4o", "-H", "x-hoosh-privacy: local"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("the call must stay here"), "{told}");
    let claude = r#"{"model":"llama3","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    let (code, shown, _) = explain(CONFIG, Some(claude), &["--dialect", "anthropic"]);
    assert!(code == Some(0) && shown.contains("5 tokens of answer"), "{shown}");
}

#[test]
fn lots_are_said_to_be_drawn_and_a_seed_repeats_them() {
    let config =
        format!("[server]\nstrategy = \"weighted\"\n{}", CONFIG.replace("priority = 2", "priority = 1"));
    let draw = |seed: u32| explain(&config, None, &["--model", "llama3", "--seed", &seed.to_string()]);
    assert!(draw(0).2.contains("weighted draws lots"), "{}", draw(0).2);
    assert_eq!(draw(5), draw(5));
    assert!((1..20).any(|seed| draw(seed).1 != draw(0).1));
}

#[test]
fn a_canary_is_said_to_be_one() {
    let group = "[[groups]]\nname = \"some\"\nmodels = [\"llama3\"]\nstrategy = \"priority\"\ncanary = \"gpt-4o\"\n\
                 canary_percent = 50\n";
    let config = format!("{group}{CONFIG}");
    let (_, shown, told) = explain(&config, None, &["--model", "some"]);
    assert!(
        shown.contains("canary, `gpt-*`") && told.contains("the canary is first for its share"),
        "{shown}{told}"
    );
    let (_, shown, _) = explain(&config, None, &["--model", "some", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["draws_lots"], true);
    let canaries = shown["candidates"].as_array().unwrap().iter().filter(|one| one["canary"] == true);
    assert_eq!(canaries.map(|one| &one["model"]).collect::<Vec<_>>(), ["gpt-4o"]);
}

#[test]
fn the_pattern_that_gives_a_model_its_strategy_is_told() {
    let config = format!("[strategies]\n\"llama*\" = \"cheapest\"\n\"gpt-*\" = \"direct\"\n{CONFIG}");
    for (model, strategy) in [
        ("llama3", "cheapest, that of `llama*`"),
        ("fast", "cheapest, that of `llama*`"),
        ("open/o1", "priority"),
    ] {
        let (code, shown, told) = explain(&config, None, &["--model", model]);
        assert!(code == Some(0) && shown.contains(&format!("strategy: {strategy}\n")), "{shown}{told}");
    }
    let (_, shown, _) = explain(&config, None, &["--model", "gpt-4o", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["strategy"], &shown["strategy_pattern"]), (&"direct".into(), &"gpt-*".into()));
}

#[test]
fn what_is_wrong_with_the_question_is_told() {
    for (request, arguments, words) in [
        (Some("{}"), &[][..], "`model`: is missing"),
        (Some("{"), &["--model", "m"], "invalid request"),
        (None, &["--model", "m", "--request", "/nowhere/at/all"], "/nowhere/at/all"),
        (None, &["--model", "m", "-H", "x-hoosh-privacy: none"], "must be `local` or `any`"),
    ] {
        let (code, shown, told) = explain(CONFIG, request, arguments);
        assert_eq!((code, shown.as_str()), (Some(64), ""), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test]
async fn a_call_is_told_who_was_asked_and_nobody_else_is() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    sick.always(Script::status(500, r#"{"error":{"message":"vendor words"}}"#));
    well.always(Script::json(completion("hi")));
    let providers = at("sick", &sick.url(), "priority = 1") + &at("well", &well.url(), "priority = 2");
    let hoosh = Hoosh::start(&format!("{providers}[auth]\ntokens = [\"mine\", \"other\"]\n")).await;
    let send = async |token: &str| {
        let request = client().post(hoosh.url(CHAT)).bearer_auth(token);
        request.header("content-type", "application/json").body(chat_body("m", false)).send().await.unwrap()
    };
    let see = async |token: &str, id: &str| {
        client().get(hoosh.url(&format!("/v1/decisions/{id}"))).bearer_auth(token).send().await.unwrap()
    };
    let response = send("mine").await;
    let id = header(&response, "x-hoosh-decision").to_owned();
    assert_eq!((response.status().as_u16(), id.as_str()), (200, header(&response, "x-request-id")));

    let shown = see("mine", &id).await;
    assert_eq!(header(&shown, "x-hoosh-decision"), "", "nothing was decided for this one");
    let shown = json(shown).await;
    let attempts: Vec<_> = shown["attempts"].as_array().unwrap().iter().collect();
    assert_eq!(attempts.len(), 2, "{shown}");
    assert_eq!((&attempts[0]["provider"], &attempts[0]["failure"]), (&"sick".into(), &"failed".into()));
    assert_eq!((&attempts[0]["status"], &attempts[1]["result"]), (&500.into(), &"answers".into()));
    assert_eq!((&shown["answered_by"], &shown["outcome"]), (&"well".into(), &"answered".into()));
    assert_eq!(
        (&shown["candidates"][0]["provider"], &shown["strategy"]),
        (&"sick".into(), &"priority".into())
    );
    let text = shown.to_string();
    for word in ["vendor words", "mine", "\"hi\""] {
        assert!(!text.contains(word), "{word} is in {text}");
    }

    for (token, id) in [("other", id.as_str()), ("mine", "req_0")] {
        let refused = see(token, id).await;
        assert_eq!(refused.status(), 404);
        assert_eq!(json(refused).await["error"]["code"], "decision_not_found");
    }

    // A call that failed has one too; one that nobody could be asked for has none.
    well.always(Script::status(500, "{}"));
    let response = send("mine").await;
    assert_eq!(response.status(), 502);
    let shown = json(see("mine", header(&response, "x-hoosh-decision")).await).await;
    assert_eq!((&shown["answered_by"], &shown["outcome"]), (&Value::Null, &"failed".into()), "{shown}");
}

#[tokio::test]
async fn a_refused_call_has_a_decision_too_and_a_new_configuration_may_admit_it() {
    let upstream = Upstream::start().await;
    let config = at("up", &upstream.url(), "max_tokens_limit = 10");
    let hoosh = Hoosh::start(&config).await;
    let body = chat_body("m", false).replacen('{', "{\"max_tokens\":11,", 1);
    let refused = hoosh.post("/v1/chat/completions", body).await;
    assert_eq!(refused.status(), 400);
    let name = header(&refused, "x-hoosh-decision").to_owned();
    let shown = json(hoosh.get(&format!("/v1/decisions/{name}")).await).await;
    let passed = &shown["passed_over"][0];
    assert_eq!((&passed["model"], &passed["reason"]), (&"m".into(), &"over_limit".into()), "{shown}");
    assert_eq!((&shown["candidates"], &shown["outcome"]), (&serde_json::json!([]), &"failed".into()));
    assert!(upstream.requests("/completions").is_empty());
}

#[test]
fn what_the_prompt_costs_counts_for_the_cheapest() {
    let group = "[[groups]]\nname = \"both\"\nmodels = [\"gpt-4.1\", \"gpt-5\"]\nstrategy = \"cheapest\"\n";
    let config = format!("{group}{CONFIG}");
    let first = |words: usize, answer: u64| {
        let request = format!(
            r#"{{"model":"both","max_tokens":{answer},"messages":[{{"role":"user","content":"{}"}}]}}"#,
            "word ".repeat(words)
        );
        let (code, shown, told) = explain(&config, Some(&request), &["--json"]);
        assert_eq!(code, Some(0), "{told}");
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["candidates"][0]["model"].as_str().unwrap().to_owned()
    };
    // A million tokens in and out: 2 and 8 dollars for gpt-4.1, 1.25 and 10 for gpt-5.
    assert_eq!((first(1, 4_000), first(20_000, 100)), ("gpt-4.1".to_owned(), "gpt-5".to_owned()));
}
