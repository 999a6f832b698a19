//! Promise: what was decided can be had as a file, and planned again under another configuration.

use serde_json::Value;
use testkit::{Hoosh, Script, Upstream, chat_body, client, completion, finished};

use crate::{at, header, json};

const CHAT: &str = "/v1/chat/completions";
const TOKENS: &str = "[auth]\ntokens = [\"mine\", \"other\"]\n";

async fn send(hoosh: &Hoosh, token: &str, model: &str) {
    let request = client().post(hoosh.url(CHAT)).bearer_auth(token).body(chat_body(model, false));
    let response = request.header("content-type", "application/json").send().await.unwrap();
    assert!(response.status() == 200 || response.status() == 502, "{}", hoosh.log());
}

async fn listed(hoosh: &Hoosh, token: &str, query: &str) -> reqwest::Response {
    client().get(hoosh.url(&format!("/v1/decisions{query}"))).bearer_auth(token).send().await.unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `hoosh replay` says of this file under this configuration: its exit code and its two outputs.
fn replay(decisions: &str, config: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (decisions, config) = (write("decisions.jsonl", decisions), write("new.toml", config));
    let output = finished(&[&["replay", &decisions, "--config", &config], arguments].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_explain_tells_a_program_is_a_line_to_replay() {
    let config = |first: &str, second: &str| {
        at(first, "http://127.0.0.1:9", "priority = 1") + &at(second, "http://127.0.0.1:9", "priority = 2")
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hoosh.toml");
    std::fs::write(&file, config("one", "two")).unwrap();
    let explained = finished(&["explain", "--model", "m", "--json", "--config", file.to_str().unwrap()]);
    let line = String::from_utf8(explained.stdout).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    let piped = |config: &str| {
        std::fs::write(&file, config).unwrap();
        let mut replay = std::process::Command::new(testkit::binary());
        replay.args(["replay", "-", "--config", file.to_str().unwrap()]).env_clear();
        let replay = replay.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut replay = replay.spawn().unwrap();
        std::io::Write::write_all(&mut replay.stdin.take().unwrap(), line.as_bytes()).unwrap();
        let output = replay.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = piped(&config("one", "two"));
    assert!(code == Some(0) && told.contains("1 call: 0 would go elsewhere"), "{told}");
    let (code, told) = piped(&config("two", "one"));
    assert!(code == Some(1) && told.contains("1 would go elsewhere"), "{told}");
}

#[tokio::test]
async fn calls_that_would_go_elsewhere_are_told() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    one.always(Script::status(503, "{}"));
    two.always(Script::json(completion("hi")));
    let config = at("one", &one.url(), "priority = 1")
        + &at("two", &two.url(), "priority = 2")
        + "[routing]\nfailures = 2\nrest_secs = 60\nheartbeat_secs = 0\n"
        + TOKENS;
    let hoosh = Hoosh::start(&config).await;
    for model in ["m", "m", "m", "n"] {
        send(&hoosh, "mine", model).await;
    }
    send(&hoosh, "other", "m").await;

    let response = listed(&hoosh, "mine", "").await;
    assert_eq!(header(&response, "content-type"), "application/jsonl");
    let text = response.text().await.unwrap();
    let all = lines(&text);
    assert_eq!((all.len(), &all[0]["version"], &all[3]["query"]["model"]), (4, &1.into(), &"n".into()));
    // The third found the first one at rest.
    assert_eq!(
        (&all[2]["resting"][0]["resting"], all[0]["resting"].as_array().unwrap().len()),
        (&"failing".into(), 0)
    );
    let whole = json(listed(&hoosh, "mine", &format!("/{}", all[0]["id"].as_str().unwrap())).await).await;
    assert_eq!(whole, all[0], "one form for one and for all");
    let latest = lines(&listed(&hoosh, "mine", "?limit=1").await.text().await.unwrap());
    assert_eq!(latest, all[3..], "the latest");
    assert_eq!(lines(&listed(&hoosh, "other", "").await.text().await.unwrap()).len(), 1);
    for query in ["?limit=0", "?limit=4097", "?limit=x", "?limits=1"] {
        let refused = listed(&hoosh, "mine", query).await;
        assert_eq!(refused.status(), 400, "{query}");
    }

    let (code, told, error) = replay(&text, &config, &[]);
    assert_eq!(code, Some(0), "{told}{error}");
    assert!(told.contains("4 calls: 0 would go elsewhere, 0 could not be asked at all"), "{told}");

    let other = config.replacen("priority = 2", "priority = 0", 1);
    let (code, told, _) = replay(&text, &other, &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(all[0]["id"].as_str().unwrap()), "{told}");
    assert!(told.contains("one/m (priority)") && told.contains("two/m (priority)"), "{told}");
    assert!(told.contains("two/m: priority was 2, is 0"), "{told}");
    // The one that found the first at rest goes where it went.
    assert!(told.contains("4 calls: 3 would go elsewhere, 0 could"), "{told}");
    assert!(!told.contains(all[2]["id"].as_str().unwrap()), "{told}");

    let nobody = at("two", &two.url(), "").replace("[\"*\"]", "[\"n\"]");
    let (code, told, _) = replay(&format!("\n{text}\n"), &nobody, &["--json", "--all"]);
    let told = lines(&told);
    assert_eq!((code, told.len(), &told[0]["result"]), (Some(1), 5, &"nobody".into()), "{told:?}");
    assert_eq!(told[4], serde_json::json!({ "calls": 4, "elsewhere": 1, "nobody": 3, "order": 0 }));
}

#[tokio::test]
async fn what_a_call_said_holds_again() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(Script::json(completion("hi")));
    let config = at("first", &first.url(), "priority = 1\napi_key = \"k\"\ncontext_window_tokens = 64")
        .replace("openai_compatible", "anthropic")
        + &at("second", &second.url(), "priority = 2");
    let hoosh = Hoosh::start(&config).await;
    let long = "word ".repeat(200);
    for (header, value, body) in [
        (
            "x-hoosh-fidelity",
            "strict",
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"seed":7}"#.to_owned(),
        ),
        ("x-hoosh-context", "refuse", chat_body("m", false).replace("hi", &long)),
    ] {
        let request = client().post(hoosh.url(CHAT)).header(header, value).body(body);
        let response = request.header("content-type", "application/json").send().await.unwrap();
        assert_eq!(crate::header(&response, "x-hoosh-provider"), "second", "{}", hoosh.log());
    }
    let text = hoosh.get("/v1/decisions").await.text().await.unwrap();
    let reasons: Vec<_> = lines(&text).iter().map(|one| one["passed_over"][0]["reason"].clone()).collect();
    assert_eq!(reasons, ["lossy", "too_long"]);
    let (code, told, error) = replay(&text, &config, &[]);
    assert_eq!(code, Some(0), "as it was: {told}{error}");
    let (code, told, _) = replay(&text, &config.replace("= 64", "= 64000"), &[]);
    assert!(
        code == Some(1) && told.contains("2 calls: 1 would go elsewhere"),
        "it has room for the long one: {told}"
    );
    let (code, told, _) = replay(&text, &config[..config.rfind("[[providers]]").unwrap()], &["--json"]);
    assert_eq!(code, Some(1));
    let why = |index: usize| lines(&told)[index]["why"].to_string();
    assert!(why(0).contains("loss") && why(1).contains("reads 64 tokens"), "{told}");
}

#[test]
fn a_file_that_is_none_is_told_with_its_line() {
    let config = at("one", "http://127.0.0.1:9", "");
    for (text, words) in [
        ("\n{\"version\":2}\n", "decisions.jsonl:2: has the version 2 of the form"),
        ("id,model\n", "decisions.jsonl:1: is no JSON object"),
    ] {
        let (code, _, told) = replay(text, &config, &[]);
        assert_eq!(code, Some(64));
        assert!(told.contains(words), "{told}");
    }
    let (code, _, told) = replay("", "nonsense = 1\n", &[]);
    assert!(code == Some(64) && told.contains("nonsense"), "{told}");
}
