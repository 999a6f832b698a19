//! Promise: a key lets its owner do what it was made for and nothing else, is shown once, and ends when somebody says so.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Hoosh, Script, Upstream, client, completion, listing};

use crate::{at, header, json as json_of};

const CHAT: &str = "/v1/chat/completions";
const ADMIN: &str = "[auth]\nkeys = \"keys.db\"\nadmin_tokens = [\"root\"]\n";

/// How long a running gateway may take to see a change.
const SEEN: Duration = Duration::from_secs(5);

/// A gateway with keys before two upstreams that chat.
async fn kept() -> (Hoosh, Upstream, Upstream) {
    let [one, other] = [Upstream::start().await, Upstream::start().await];
    for (upstream, name) in [(&one, "one"), (&other, "other")] {
        upstream.always(Script::json(completion(name)));
        upstream.listing(listing(&["llama3", "gpt-4o"]));
    }
    let providers = at("one", &one.url(), "priority = 1") + &at("other", &other.url(), "priority = 2");
    (Hoosh::start(&format!("{ADMIN}{providers}")).await, one, other)
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

fn body(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

async fn ask(hoosh: &Hoosh, key: &str, model: &str) -> reqwest::Response {
    client().post(hoosh.url(CHAT)).bearer_auth(key).body(body(model)).send().await.unwrap()
}

async fn admin(hoosh: &Hoosh, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = client().request(method.parse().unwrap(), hoosh.url(path)).bearer_auth("root");
    let response = request.body(body.to_string()).send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

/// A key that was made over HTTP.
async fn made(hoosh: &Hoosh, order: Value) -> String {
    let (status, key) = admin(hoosh, "POST", "/v1/admin/keys", order).await;
    assert_eq!(status, 201, "{key}");
    key["key"].as_str().unwrap().to_owned()
}

/// Waits until the key is answered with this status.
async fn until(hoosh: &Hoosh, key: &str, status: u16) -> Value {
    let start = Instant::now();
    loop {
        let response = ask(hoosh, key, "llama3").await;
        if response.status() == status {
            return json_of(response).await;
        }
        assert!(start.elapsed() < SEEN, "still {}", response.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_key_of_the_command_line_works_in_a_running_gateway_and_ends() {
    let (hoosh, _one, _other) = kept().await;
    // Nobody gets in as long as there is none.
    assert_eq!(hoosh.post(CHAT, body("llama3")).await.status(), 401);
    let key = out(&hoosh.command(&["keys", "create", "ci"]));
    until(&hoosh, &key, 200).await;
    let list = out(&hoosh.command(&["keys", "list", "--json"]));
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list[0]["name"], &list[0]["status"]), (&json!("ci"), &json!("active")));
    let prefix = list[0]["prefix"].as_str().unwrap();
    assert!(key.starts_with(prefix) && !list.to_string().contains(&key));
    out(&hoosh.command(&["keys", "revoke", prefix]));
    let refused = until(&hoosh, &key, 401).await;
    assert_eq!(refused["error"]["code"], "key_revoked", "{refused}");
    // The secret is nowhere.
    let secret = &key[prefix.len() + 1..];
    for file in std::fs::read_dir(hoosh.folder()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn a_reload_opens_and_a_rotation_goes_on() {
    let (hoosh, _one, _other) = kept().await;
    let order = json!({ "name": "agent", "limits": { "requests_per_hour": 3 } });
    let old = made(&hoosh, order).await;
    assert_eq!(ask(&hoosh, &old, "llama3").await.status(), 200);
    let prefix = &old[..old.rfind('_').unwrap()];
    let path = format!("/v1/admin/keys/{prefix}/rotate");
    let (status, rotated) = admin(&hoosh, "POST", &path, json!({ "overlap": "1h" })).await;
    assert_eq!(status, 201, "{rotated}");
    assert_eq!(rotated["name"], "agent");
    let new = rotated["key"].as_str().unwrap();
    // Both work, and have the same three calls.
    assert_eq!(ask(&hoosh, new, "llama3").await.status(), 200);
    let last = ask(&hoosh, &old, "llama3").await;
    assert_eq!((last.status().as_u16(), header(&last, "x-ratelimit-remaining-requests")), (200, "0"));
    assert_eq!(ask(&hoosh, new, "llama3").await.status(), 429);
    let (_, list) = admin(&hoosh, "GET", "/v1/admin/keys", json!({})).await;
    let list = list["data"].as_array().unwrap();
    assert_eq!(list[0]["booked_as"], list[1]["booked_as"]);
    let (status, again) = admin(&hoosh, "POST", &path, json!({})).await;
    assert_eq!(status, 400, "{again}");
    // And it is ended over HTTP at once.
    let id = rotated["id"].as_str().unwrap();
    assert_eq!(admin(&hoosh, "DELETE", &format!("/v1/admin/keys/{id}"), json!({})).await.0, 200);
    assert_eq!(ask(&hoosh, new, "llama3").await.status(), 401);
    let (status, none) = admin(&hoosh, "DELETE", "/v1/admin/keys/k_none", json!({})).await;
    assert_eq!((status, &none["error"]["code"]), (404, &json!("key_not_found")));
    // A reload keeps the keys.
    assert_eq!(admin(&hoosh, "POST", "/v1/admin/reload", json!({})).await.0, 200);
    assert_eq!(ask(&hoosh, &old, "llama3").await.status(), 429);
}

#[tokio::test]
async fn models_and_providers_are_those_of_the_key() {
    let (hoosh, one, other) = kept().await;
    let key = made(&hoosh, json!({ "name": "a", "models": ["llama*"], "providers": ["other"] })).await;
    let answer = ask(&hoosh, &key, "llama3").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-hoosh-provider")), (200, "other"));
    let refused = ask(&hoosh, &key, "gpt-4o").await;
    assert_eq!(refused.status(), 403);
    let error = json_of(refused).await["error"].clone();
    assert_eq!(error["code"], "not_allowed");
    assert_eq!(error["message"], "the key may not ask for `gpt-4o`; it may ask for `llama*`");
    let models = client().get(hoosh.url("/v1/models")).bearer_auth(&key).send().await.unwrap();
    let models = json_of(models).await;
    let ids: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, [&json!("llama3")]);
    assert_eq!(models["data"][0]["hoosh"]["providers"], json!(["other"]));

    let nowhere = made(&hoosh, json!({ "name": "b", "providers": ["third"] })).await;
    let refused = ask(&hoosh, &nowhere, "llama3").await;
    assert_eq!(refused.status(), 403);
    let error = json_of(refused).await["error"].clone();
    let says = "`llama3` is at no provider that the key allows; it allows `third`";
    assert_eq!((&error["code"], &error["message"]), (&json!("not_allowed"), &json!(says)));
    assert_eq!(one.requests("/chat/completions").len(), 0);
    assert_eq!(other.requests("/chat/completions").len(), 1);
}

#[tokio::test]
async fn paths_networks_and_time_are_those_of_the_key() {
    let (hoosh, _one, _other) = kept().await;
    let code = async |key: &str| {
        let response = ask(&hoosh, key, "llama3").await;
        let status = response.status().as_u16();
        (status, json_of(response).await["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let elsewhere = made(&hoosh, json!({ "name": "a", "networks": ["10.0.0.0/8"] })).await;
    assert_eq!(code(&elsewhere).await, (403, "network_not_allowed".into()));
    let here = made(&hoosh, json!({ "name": "b", "networks": ["127.0.0.1"] })).await;
    assert_eq!(code(&here).await.0, 200);
    let embeds = made(&hoosh, json!({ "name": "c", "endpoints": ["/v1/embeddings"] })).await;
    assert_eq!(code(&embeds).await, (403, "endpoint_not_allowed".into()));
    let chats = made(&hoosh, json!({ "name": "d", "endpoints": ["/v1/chat/*"] })).await;
    let aliased = client().post(hoosh.url("/openai/v1/chat/completions/")).bearer_auth(&chats);
    assert_eq!(aliased.body(body("llama3")).send().await.unwrap().status(), 200);
    let short = made(&hoosh, json!({ "name": "e", "expires": "1s" })).await;
    assert_eq!(code(&short).await.0, 200);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(code(&short).await, (401, "key_expired".into()));
    let (status, bad) = admin(&hoosh, "POST", "/v1/admin/keys", json!({ "name": "f", "modles": [] })).await;
    assert_eq!(status, 400);
    assert!(bad["error"]["message"].as_str().unwrap().contains("unknown field `modles`"), "{bad}");
}

/// A route of the documentation: method, path, the scope that it takes, and whether any other will do for what is one's own.
type Route = (String, String, Option<String>, bool);

/// The routes of the documentation, which a test of the server compares with its table.
pub(crate) fn routes() -> Vec<Route> {
    let page = include_str!("../../docs/http-api.md");
    let begin = page.find("<!-- routes").unwrap();
    let table = &page[begin..page.find("<!-- end of routes").unwrap()];
    let row = |line: &str| {
        let mut quoted = line.split('`').skip(1).step_by(2);
        let (method, path) = quoted.next()?.split_once(' ')?;
        let path = match method {
            "POST" => path.replace("models/{id}", "models/llama3:countTokens"),
            _ => path.to_owned(),
        };
        let scope = quoted.next().map(str::to_owned);
        Some((method.to_owned(), path.replace("{id}", "k_none"), scope, line.contains("for one's own")))
    };
    table.lines().filter_map(row).collect()
}

#[tokio::test]
async fn every_route_takes_its_scope_and_no_other() {
    let (hoosh, _one, _other) = kept().await;
    let mut keys = Vec::new();
    for scope in ["inference", "usage:read", "admin"] {
        keys.push((scope, made(&hoosh, json!({ "name": scope, "scopes": [scope] })).await));
    }
    let routes = routes();
    assert!(routes.len() > 35, "{routes:?}");
    for (method, path, needed, is_own) in routes {
        let sent = async |key: Option<&str>| {
            let request = client().request(method.parse().unwrap(), hoosh.url(&path)).body("{}");
            let request = match key {
                Some(key) => request.bearer_auth(key),
                None => request,
            };
            request.send().await.unwrap()
        };
        let Some(needed) = needed else {
            assert_eq!(sent(None).await.status(), 200, "{method} {path}");
            continue;
        };
        assert_eq!(sent(None).await.status(), 401, "{method} {path}");
        for (scope, key) in &keys {
            let response = sent(Some(key)).await;
            if is_own || *scope == needed {
                assert!(!matches!(response.status().as_u16(), 401 | 403), "{method} {path} with {scope}");
            } else {
                assert_eq!(response.status(), 403, "{method} {path} with {scope}");
                let text = response.text().await.unwrap();
                assert!(text.contains(&format!("the scope `{needed}`")), "{method} {path}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn tokens_of_the_configuration_work_beside_keys_and_are_no_admins() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let auth = "[auth]\nkeys = \"keys.db\"\ntokens = [\"user\"]\n";
    let environment = [("HOOSH_KEY_PEPPER", "a pepper of at least thirty-two bytes")];
    let hoosh = Hoosh::start_with(&format!("{auth}{}", at("up", &upstream.url(), "")), &environment).await;
    assert_eq!(ask(&hoosh, "user", "m").await.status(), 200);
    for (method, path) in [("POST", "/v1/admin/reload"), ("GET", "/v1/admin/keys"), ("GET", "/v1/events")] {
        let request = client().request(method.parse().unwrap(), hoosh.url(path)).bearer_auth("user");
        assert_eq!(request.send().await.unwrap().status(), 403, "{path}");
    }
    assert!(!hoosh.folder().join("keys.pepper").exists(), "the environment has it");
}

/// Tokens signed by HMAC-SHA-256 with the secret in [`JWKS`], by `login.example.com` for `ada`.
const JWKS: &str =
    r#"{"keys":[{"kty":"oct","alg":"HS256","k":"YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcyE"}]}"#;
/// `"scope":"openid hoosh:inference admin","models":["llama*"]`, until 2100.
const SIGNED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwiYXVkIjoiaG9vc2giLCJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDAsInNjb3BlIjoib3BlbmlkIGhvb3NoOmluZmVyZW5jZSBhZG1pbiIsIm1vZGVscyI6WyJsbGFtYSoiXX0.siTAr9JgzO-qtRkABnBS2geoZ-dEZENQM_Bc45AJyyw";
/// `"scope":"admin"`.
const WITHOUT_SCOPE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwiYXVkIjoiaG9vc2giLCJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDAsInNjb3BlIjoiYWRtaW4iLCJtb2RlbHMiOlsiKiJdfQ.KRlkbUUb7qhLe3nhVLOYESDqDUeUqz7-NtuhOsrJpB4";
/// Ended in 2011.
const ENDED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwiYXVkIjoiaG9vc2giLCJzdWIiOiJhZGEiLCJleHAiOjEzMDA4MTkzODAsInNjb3BlIjoiaG9vc2g6aW5mZXJlbmNlIiwibW9kZWxzIjpbIioiXX0.NAzjOAvJOI0tia5ObYKU9r3HhJedprUpL95wFAjUrh8";
/// `"aud":"else"`.
const FOR_OTHERS: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwiYXVkIjoiZWxzZSIsInN1YiI6ImFkYSIsImV4cCI6NDEwMjQ0NDgwMCwic2NvcGUiOiJob29zaDppbmZlcmVuY2UiLCJtb2RlbHMiOlsiKiJdfQ.gnJ58JKlGRYi84GtcQCnYLYsiCQIDZbDv-WampcFQlc";

#[tokio::test]
async fn a_token_that_others_sign_says_what_its_owner_may_do() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, JWKS).unwrap();
    let auth = format!(
        "[auth]\njwt_keys = {:?}\njwt_algorithms = [\"HS256\"]\njwt_issuers = [\"https://login.example.com\"]\n\
         jwt_audiences = [\"hoosh\"]\njwt_scopes_claim = \"scope\"\njwt_models_claim = \"models\"\n",
        file.to_str().unwrap()
    );
    let hoosh = Hoosh::start(&format!("{auth}{}", at("up", &upstream.url(), ""))).await;
    let changed = SIGNED.replacen("eyJhbGci", "eyJhbGcj", 1);
    for (token, model, status, code) in [
        (SIGNED, "llama3", 200, ""),
        (SIGNED, "gpt-4o", 403, "not_allowed"),
        (WITHOUT_SCOPE, "llama3", 403, "scope_missing"),
        (ENDED, "llama3", 401, "invalid_token"),
        (FOR_OTHERS, "llama3", 401, "invalid_token"),
        (changed.as_str(), "llama3", 401, "invalid_token"),
        (&SIGNED[..SIGNED.len() - 2], "llama3", 401, "invalid_token"),
        ("none", "llama3", 401, "invalid_api_key"),
    ] {
        let response = ask(&hoosh, token, model).await;
        assert_eq!(response.status(), status, "{token} {model}");
        let body = json_of(response).await;
        assert_eq!(body["error"]["code"].as_str().unwrap_or_default(), code, "{body}");
    }
    assert!(hoosh.log().contains("caller=\"jwt:ada\""), "{}", hoosh.log());
    // Its scope of that name is somebody else's.
    let reload = client().post(hoosh.url("/v1/admin/reload")).bearer_auth(SIGNED).send().await.unwrap();
    assert_eq!(reload.status(), 403);
}

#[tokio::test]
async fn a_key_is_charged_to_the_pools_that_it_names() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let pool = "[[pools]]\nname = \"team:a\"\ntokens = 40\n[budget]\nledger = \"memory\"\n";
    let hoosh = Hoosh::start(&format!("{ADMIN}{pool}{}", at("up", &upstream.url(), ""))).await;
    let key = made(&hoosh, json!({ "name": "k", "pools": ["team:a"] })).await;
    let other = made(&hoosh, json!({ "name": "o", "pools": ["team:b"] })).await;
    assert_eq!(ask(&hoosh, &key, "llama3").await.status(), 200);
    let sent: Value = serde_json::from_slice(&upstream.requests(CHAT)[0].body).unwrap();
    assert!(sent["max_tokens"].as_u64().is_some_and(|most| most < 40), "{sent}");
    let (_, pools) = admin(&hoosh, "GET", "/v1/tokens/pools", json!({})).await;
    assert_eq!(pools["pools"][0]["reserved"]["tokens"], 0, "{pools}");
    assert!(pools["pools"][0]["settled"]["tokens"].as_u64() > Some(0), "{pools}");
    let refused = ask(&hoosh, &other, "llama3").await;
    assert_eq!(refused.status(), 403);
    let problem = json_of(refused).await;
    assert!(problem["error"]["message"].as_str().unwrap().contains("no pool `team:b`"), "{problem}");
}

#[tokio::test]
async fn a_key_is_shown_once_and_has_its_limits_and_its_highest_tier() {
    let upstream = Upstream::start().await;
    upstream.always(Script::Silence);
    let line = at("up", &upstream.url(), "max_concurrent = 1\nmax_waiting = 8");
    let hoosh = Hoosh::start(&format!("{ADMIN}{line}")).await;
    let order = json!({ "name": "slow", "tier": "low", "limits": { "concurrent": 2 },
                        "metadata": { "owner": "ada" }, "expires": "90d" });
    let (status, key) = admin(&hoosh, "POST", "/v1/admin/keys", order).await;
    assert_eq!(status, 201, "{key}");
    let secret = key["key"].as_str().unwrap().to_owned();
    // What it was made with is told, and nothing that lets anybody in.
    let (_, list) = admin(&hoosh, "GET", "/v1/admin/keys", json!({})).await;
    let told = &list["data"][0];
    assert_eq!((&told["tier"], &told["metadata"]), (&json!("low"), &json!({ "owner": "ada" })), "{told}");
    assert!(told["expires"].is_string() && told.get("key").is_none(), "{told}");
    assert!(!list.to_string().contains(&secret) && !hoosh.log().contains(&secret));

    // One is answered, the next waits in the key's tier whatever it asks for, and a third is too many.
    let ask_high = || {
        let request = client().post(hoosh.url(CHAT)).bearer_auth(&secret).header("x-hoosh-priority", "high");
        request.body(body("llama3")).send()
    };
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(ask_high());
    calls.spawn(ask_high());
    let start = Instant::now();
    loop {
        let (_, status) = admin(&hoosh, "GET", "/v1/queue/status", json!({})).await;
        let waiting = &status["queues"][0]["waiting"];
        if waiting["low"] == 1 {
            assert_eq!(waiting["high"], 0, "{status}");
            break;
        }
        assert!(start.elapsed() < SEEN, "{status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ask_high().await.unwrap().status(), 429);
    calls.shutdown().await;
}
