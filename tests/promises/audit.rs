//! Promise: every request leaves exactly one record in a log that shows whether it was changed, and who was answered can prove it.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use testkit::{
    End, Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, client, completion, finish, refused_port, sse,
};
use tokio::time::{sleep, timeout};

use crate::keys::routes;
use crate::{at, header, json};

mod log;
mod reading;

const CHAT: &str = "/v1/chat/completions";
const AUDIT: &str = "[audit]\nenabled = true\n";
const AUTH: &str = "[auth]\nkeys = \"keys.db\"\ntokens = [\"user\"]\nadmin_tokens = [\"root\"]\n";

fn stream_of_hi() -> Script {
    Script::stream([chunk(r#"{"content":"hi"}"#), finish("stop"), sse("[DONE]")])
}

async fn asked(hoosh: &Hoosh, key: Option<&str>, body: String) -> reqwest::Response {
    let request = client().post(hoosh.url(CHAT)).body(body);
    let request = match key {
        Some(key) => request.bearer_auth(key),
        None => request,
    };
    request.send().await.unwrap()
}

/// All records so far, the oldest first, as an admin reads them.
async fn records(hoosh: &Hoosh) -> Vec<Value> {
    let mut all = Vec::new();
    let mut before = String::new();
    loop {
        let url = hoosh.url(&format!("/v1/audit?limit=1000{before}"));
        let page = json(client().get(url).bearer_auth("root").send().await.unwrap()).await;
        all.extend(
            page["records"]
                .as_array()
                .unwrap_or_else(|| panic!("{page}"))
                .iter()
                .map(|line| line["record"].clone()),
        );
        let Some(next) = page["next"].as_u64() else { break };
        before = format!("&before={next}");
    }
    all.reverse();
    all
}

/// The one record of a call, once it is written.
async fn record_of(hoosh: &Hoosh, id: &str) -> Value {
    let found = async {
        loop {
            let mut all = records(hoosh).await;
            all.retain(|record| record["body"]["request_id"] == id);
            assert!(all.len() < 2, "{all:?}");
            if let Some(one) = all.pop() {
                return one;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no record of {id}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn verified(hoosh: &Hoosh) -> Value {
    let output = hoosh.command(&["audit", "verify", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn each_way_that_a_call_can_end_leaves_one_record_that_says_so() {
    let (upstream, away) = (Upstream::start().await, refused_port());
    let config = format!(
        "{AUDIT}{AUTH}[[pools]]\nname = \"user:poor\"\ntokens = 1\n{}{}[limits]\nrequests_per_day = 1000\n",
        at("up", &upstream.url(), "").replace("\"*\"", "\"m\""),
        at("away", &format!("http://127.0.0.1:{away}"), "").replace("\"*\"", "\"gone\"")
    );
    let hoosh = Hoosh::start(&config).await;
    let id = |response: &reqwest::Response| header(response, "x-request-id").to_owned();
    let check = async |id: &str, kind: &str, outcome: &str, status: Option<u16>, error: Option<&str>| {
        let record = record_of(&hoosh, id).await;
        let body = &record["body"];
        let told = (
            record["kind"].as_str(),
            body["outcome"].as_str(),
            body["status"].as_u64(),
            body["error"].as_str(),
        );
        assert_eq!(told, (Some(kind), Some(outcome), status.map(u64::from), error), "{record}");
        record
    };

    // Answered, whole and as a stream.
    upstream.script([Script::json(completion("hi")), stream_of_hi()]);
    let answer = asked(&hoosh, Some("user"), chat_body("m", false)).await;
    let (one, text) = (id(&answer), answer.bytes().await.unwrap());
    let record = check(&one, "call", "answered", Some(200), None).await;
    let body = &record["body"];
    assert_eq!(
        (&body["provider"], &body["model_asked"], &body["path"]),
        (&"up".into(), &"m".into(), &CHAT.into())
    );
    assert_eq!(
        (&body["usage"]["input"], &body["answer"]["bytes"]),
        (&3.into(), &text.len().into()),
        "{record}"
    );
    assert_eq!(body["request"]["bytes"], chat_body("m", false).len());
    let answer = asked(&hoosh, Some("user"), chat_body("m", true)).await;
    let (one, text) = (id(&answer), answer.text().await.unwrap());
    let record = check(&one, "call", "answered", Some(200), None).await;
    assert_eq!(
        (&record["body"]["answer"]["bytes"], &record["body"]["stream"]),
        (&text.len().into(), &true.into())
    );

    // Turned away: nobody's key, no such thing, a body that is none, a pool without anything in it.
    for (key, path, body, status, error) in [
        (None, CHAT, chat_body("m", false), 401, "missing_api_key"),
        (Some("wrong"), CHAT, chat_body("m", false), 401, "invalid_api_key"),
        (Some("user"), CHAT, "{".to_owned(), 400, "invalid_request"),
        (Some("user"), CHAT, chat_body("unknown", false), 404, "model_not_found"),
    ] {
        let request = client().post(hoosh.url(path)).body(body);
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        check(&id(&answer), "refused", "refused", Some(status), Some(error)).await;
    }
    let poor = client().post(hoosh.url(CHAT)).bearer_auth("user").header("x-hoosh-user", "poor");
    let answer = poor.body(chat_body("m", false)).send().await.unwrap();
    check(&id(&answer), "refused", "refused", Some(429), Some("insufficient_quota")).await;

    // Nobody there, one that fails, one that breaks off.
    let answer = asked(&hoosh, Some("user"), chat_body("gone", false)).await;
    let status = answer.status().as_u16();
    assert!(status >= 500, "{status}");
    let record = record_of(&hoosh, &id(&answer)).await;
    assert_eq!(
        (record["kind"].as_str(), record["body"]["outcome"].as_str()),
        (Some("call"), Some("failed")),
        "{record}"
    );
    upstream.always(Script::broken_stream([chunk(r#"{"content":"h"}"#)], End::Cut));
    let answer = asked(&hoosh, Some("user"), chat_body("m", true)).await;
    let one = id(&answer);
    let _broken = answer.text().await;
    let record = record_of(&hoosh, &one).await;
    assert_eq!(
        (record["kind"].as_str(), record["body"]["outcome"].as_str()),
        (Some("call"), Some("truncated")),
        "{record}"
    );

    // One whose client leaves: before anything came, and in the middle.
    upstream.always(Script::Silence);
    let request = client().post(hoosh.url(CHAT)).bearer_auth("user").body(chat_body("m", false)).send();
    timeout(Duration::from_millis(200), request).await.unwrap_err();
    upstream.always(Script::broken_stream([chunk(r#"{"content":"h"}"#)], End::Silence));
    let answer = asked(&hoosh, Some("user"), chat_body("m", true)).await;
    let one = id(&answer);
    let mut pieces = answer.bytes_stream();
    pieces.next().await.unwrap().unwrap();
    drop(pieces);
    check(&one, "call", "cancelled", Some(200), None).await;
    let all = records(&hoosh).await;
    let cancelled = all.iter().filter(|record| record["body"]["outcome"] == "cancelled").count();
    assert_eq!(cancelled, 2, "{all:?}");
    verified(&hoosh);
}

#[tokio::test]
async fn every_route_that_takes_a_key_leaves_one_record_however_it_ends() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let hoosh = Hoosh::start(&format!("{AUDIT}{AUTH}{}", at("up", &upstream.url(), ""))).await;
    let mut expected = BTreeMap::new();
    for (method, path, needed, _) in routes() {
        if needed.is_none() {
            let answer = client().request(method.parse().unwrap(), hoosh.url(&path)).send().await.unwrap();
            expected.insert(header(&answer, "x-request-id").to_owned(), (0, 200, format!("{method} {path}")));
            continue;
        }
        for key in [None, Some("wrong"), Some("user"), Some("root")] {
            let request = client().request(method.parse().unwrap(), hoosh.url(&path)).body("{}");
            let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
            let answer = request.send().await.unwrap();
            let (id, status) = (header(&answer, "x-request-id").to_owned(), answer.status().as_u16());
            expected.insert(id, (1, status, format!("{method} {path} by {key:?}")));
        }
    }
    assert!(expected.len() > 150, "{}", expected.len());
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records(&hoosh).await {
        if let Some(id) = record["body"]["request_id"].as_str() {
            found.entry(id.to_owned()).or_default().push(record.clone());
        }
    }
    for (id, (count, status, what)) in &expected {
        let records = found.get(id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(records.len(), *count, "{what}: {records:?}");
        for record in records {
            assert_eq!(record["body"]["status"], *status, "{what}: {record}");
        }
    }
    verified(&hoosh);
}

/// Nothing that was told in confidence is in the log or anywhere else that somebody reads.
#[tokio::test]
async fn no_secret_is_in_the_log_the_metrics_or_the_answers() {
    let upstream = Upstream::start().await;
    upstream.script([Script::json(completion("canary-answer"))]);
    upstream.always(Script::status(500, r#"{"error":{"message":"broken"}}"#));
    let config = format!(
        "{AUDIT}[auth]\ntokens = [\"canary-token\"]\nadmin_tokens = [\"root\"]\n{}",
        at("up", &upstream.url(), "api_key = \"canary-provider-key\"")
    );
    let hoosh = Hoosh::start(&config).await;
    let body = chat_body("m", false).replace("hi", "canary-prompt");
    for key in ["canary-token", "canary-wrong"] {
        for _ in 0..2 {
            let request = client().post(hoosh.url(&format!("{CHAT}?key=canary-query"))).bearer_auth(key);
            let request = request.header("x-secret", "canary-header").header("cookie", "canary-cookie");
            request.body(body.clone()).send().await.unwrap();
        }
    }
    let mut seen = hoosh.log();
    for path in ["/metrics", "/v1/audit", "/v1/audit/head", "/v1/decisions", "/v1/health", "/v1/queue/status"]
    {
        let answer = client().get(hoosh.url(path)).bearer_auth("root").send().await.unwrap();
        seen += &answer.text().await.unwrap();
    }
    let log = hoosh.folder().join("hoosh-audit");
    for file in std::fs::read_dir(log).unwrap() {
        seen += &String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(seen.contains("req_"), "{seen}");
    let found: Vec<&str> =
        seen.match_indices("canary").map(|(at, _)| &seen[at..(at + 20).min(seen.len())]).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn texts_are_kept_where_that_is_wanted_and_erased_when_somebody_says_so() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("the answer")));
    let config = format!("{AUDIT}texts = [\"kept-*\"]\n{AUTH}{}", at("up", &upstream.url(), ""));
    let hoosh = Hoosh::start(&config).await;
    let mut ids = Vec::new();
    for model in ["kept-1", "other"] {
        let body = chat_body(model, false).replace("hi", &format!("a question to {model}"));
        ids.push(header(&asked(&hoosh, Some("user"), body).await, "x-request-id").to_owned());
    }
    for id in &ids {
        record_of(&hoosh, id).await;
    }
    let kept = || {
        let folder = std::fs::read_dir(hoosh.folder().join("hoosh-audit")).unwrap();
        folder
            .map(|file| String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap()).into_owned())
            .collect::<String>()
    };
    assert!(kept().contains("a question to kept-1") && kept().contains("the answer"));
    assert!(!kept().contains("a question to other"));
    assert_eq!(verified(&hoosh)["texts"], 2);
    let erase = async |key: &str, id: &str| {
        client().delete(hoosh.url(&format!("/v1/audit/{id}"))).bearer_auth(key).send().await.unwrap()
    };
    assert_eq!(erase("user", &ids[0]).await.status(), 403);
    // The command line says who can, while the gateway has it open.
    let refused = hoosh.command(&["audit", "erase", "--request", &ids[0]]);
    assert!(!refused.status.success() && said(&refused).contains("/v1/audit/"), "{}", said(&refused));
    assert_eq!(erase("root", &ids[0]).await.status(), 200);
    assert_eq!(erase("root", &ids[0]).await.status(), 404);
    assert!(!kept().contains("a question to kept-1") && !kept().contains("the answer"));
    let told = verified(&hoosh);
    assert_eq!((&told["texts"], &told["erased"]), (&0.into(), &1.into()), "{told}");
}
