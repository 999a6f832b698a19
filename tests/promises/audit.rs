//! Promise: every request leaves exactly one record in a log that shows whether it was changed, and who was answered can prove it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use testkit::{
    End, Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, client, client_builder, completion, finish,
    refused_port, sse,
};
use tokio::time::{sleep, timeout};

use crate::keys::routes;
use crate::{at, header, json};

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

#[tokio::test]
async fn a_log_is_verified_by_two_programs_and_what_was_done_to_it_is_named() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let config = format!("{AUDIT}checkpoint_records = 10\n{}", at("up", &upstream.url(), ""));
    let mut hoosh = Hoosh::start(&config).await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        let answer = hoosh.post(CHAT, chat_body("m", false)).await;
        ids.push(header(&answer, "x-request-id").to_owned());
    }
    // While it runs, too.
    verified(&hoosh);
    hoosh.signal("TERM");
    hoosh.ended().await;
    let told = verified(&hoosh);
    assert_eq!(told["signed_to"].as_u64().unwrap() + 1, told["last"].as_u64().unwrap(), "{told}");
    let public = said(&hoosh.command(&["audit", "key", "--public"])).trim().to_owned();
    let publicly = hoosh.command(&["audit", "verify", "--public-key", &public]);
    assert!(publicly.status.success(), "{}", said(&publicly));

    let python = std::env::var("HOOSH_AUDIT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/verify_audit.py");
    let by_python = || {
        let mut command = Command::new(&python);
        command.args([script, "hoosh-audit", "hoosh-audit.key"]).current_dir(hoosh.folder()).output().unwrap()
    };
    let output = by_python();
    assert!(output.status.success(), "it needs the package `cryptography`: {}", said(&output));
    assert!(said(&output).contains(&format!("{} records", told["last"])), "{}", said(&output));

    // One call is proven without the others.
    let proof = hoosh.command(&["audit", "prove", "--request", &ids[4]]);
    assert!(proof.status.success() && proof.stdout.len() < 4_000, "{}", said(&proof));
    std::fs::write(hoosh.folder().join("proof.json"), &proof.stdout).unwrap();
    let check = || hoosh.command(&["audit", "verify", "--proof", "proof.json", "--public-key", &public]);
    assert!(said(&check()).contains(&ids[4]));
    let forged = String::from_utf8(proof.stdout).unwrap().replace("answered", "refusedd");
    std::fs::write(hoosh.folder().join("proof.json"), forged).unwrap();
    assert_eq!(check().status.code(), Some(1), "{}", said(&check()));

    // An edit is named by both, and so is an end that is cut off.
    let folder = hoosh.folder().join("hoosh-audit");
    let segment = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let segment = segment.into_iter().find(|path| path.to_str().unwrap().contains("/audit-")).unwrap();
    let text = std::fs::read_to_string(&segment).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let put = |lines: &[String]| std::fs::write(&segment, lines.concat()).unwrap();
    let edited: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(index, line)| if index == 11 { line.replace("answered", "refusedd") } else { (*line).to_owned() } + "\n")
        .collect();
    put(&edited);
    let output = hoosh.command(&["audit", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("record 12 was edited"), "{}", said(&output));
    assert!(!by_python().status.success() && said(&by_python()).contains(":12:"), "{}", said(&by_python()));
    let cut: Vec<String> = lines[..lines.len() - 3].iter().map(|line| format!("{line}\n")).collect();
    put(&cut);
    let output = hoosh.command(&["audit", "verify"]);
    assert!(said(&output).contains("the end was cut off"), "{}", said(&output));
    assert!(said(&by_python()).contains("cut off"), "{}", said(&by_python()));
    // And a gateway does not go on with it.
    let refused = hoosh.command(&["serve", "--port", "0"]);
    assert!(!refused.status.success() && said(&refused).contains("not as it was left"), "{}", said(&refused));
}

/// Whoever got a whole answer finds it in the log, whatever happened to the gateway then.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_no_answered_call_and_the_log_verifies_after_each() {
    const ROUNDS: u64 = 50;
    let upstream = Upstream::start().await;
    upstream.always(Script::By(|request| {
        let is_stream = String::from_utf8_lossy(&request.body).contains("\"stream\":true");
        if is_stream { stream_of_hi() } else { Script::json(completion("hi")) }
    }));
    let config =
        format!("{AUDIT}fsync = \"always\"\ncheckpoint_records = 100\n{}", at("up", &upstream.url(), ""));
    let mut hoosh = Hoosh::start(&config).await;
    let ended = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 0..ROUNDS {
        let clients: Vec<_> = (0..12)
            .map(|one| {
                let (ended, url) = (Arc::clone(&ended), hoosh.url(CHAT));
                let http = client_builder().build().unwrap();
                #[allow(clippy::disallowed_methods, reason = "awaited below")]
                tokio::spawn(async move {
                    loop {
                        let body = chat_body("m", one % 2 == 0);
                        let Ok(answer) = http.post(&url).body(body).send().await else { return };
                        let id = header(&answer, "x-request-id").to_owned();
                        let Ok(text) = answer.text().await else { return };
                        if one % 2 == 1 || text.ends_with("data: [DONE]\n\n") {
                            ended.lock().unwrap().insert(id);
                        }
                    }
                })
            })
            .collect();
        sleep(Duration::from_millis(30 + round * 7 % 60)).await;
        hoosh.restart_after("KILL").await;
        for client in clients {
            client.await.unwrap();
        }
        if round % 10 == 9 {
            verified(&hoosh);
        }
    }
    let told = verified(&hoosh);
    let mut left = ended.lock().unwrap().clone();
    let count = left.len();
    assert!(count as u64 > ROUNDS, "there was some load: {count} calls");
    let output = hoosh.command(&["audit", "export"]);
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        left.remove(record["record"]["body"]["request_id"].as_str().unwrap_or_default());
    }
    assert!(left.is_empty(), "{} of {count} calls are not in the log: {left:?}; {told}", left.len());
}

/// How long the gateway's files may get. At 1 none may grow: for it the disk is full.
fn file_bytes_max(hoosh: &Hoosh, bytes: &str) {
    let (pid, limit) = (hoosh.process().to_string(), format!("--fsize={bytes}:unlimited"));
    let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(limited.expect("prlimit, of util-linux").success());
}

#[tokio::test]
async fn where_that_is_wanted_calls_go_on_while_nothing_can_be_written() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let config = format!("{AUDIT}on_error = \"continue\"\n{}", at("up", &upstream.url(), ""));
    let hoosh = Hoosh::start(&config).await;
    file_bytes_max(&hoosh, "1");
    let mut ids = BTreeSet::new();
    let alarmed = async {
        loop {
            let answer = hoosh.post(CHAT, chat_body("m", false)).await;
            assert_eq!(answer.status(), 200);
            ids.insert(header(&answer, "x-request-id").to_owned());
            let metrics = hoosh.get("/metrics").await.text().await.unwrap();
            if metrics.contains("hoosh_audit_failing 1") {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, alarmed).await.expect("it says that it fails");
    let health = hoosh.get("/v1/health").await;
    assert_eq!(health.status(), 200, "calls are taken");
    assert_eq!(json(health).await["audit"], "failing");
    file_bytes_max(&hoosh, "unlimited");
    // What could not be written was kept, and is written now.
    let written = async {
        loop {
            let log = hoosh.command(&["audit", "export"]);
            let log = String::from_utf8(log.stdout).unwrap();
            if ids.iter().all(|id| log.contains(id)) {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, written).await.expect("all calls are in the log");
    assert_eq!(verified(&hoosh)["lost"], 0);
}

/// Who could cut the log off could not everywhere that its checkpoints went.
#[tokio::test]
async fn checkpoints_go_where_they_are_sent_and_tell_that_the_log_was_cut() {
    let (upstream, hook) = (Upstream::start().await, Upstream::start().await);
    upstream.always(Script::json(completion("hi")));
    hook.always(Script::json("{}"));
    let places = format!(
        "checkpoint_records = 4\ncheckpoint_folder = \"other\"\ncheckpoint_stdout = true\ncheckpoint_webhook = \"{}/kept\"\n",
        hook.url()
    );
    let mut hoosh = Hoosh::start(&format!("{AUDIT}{places}{}", at("up", &upstream.url(), ""))).await;
    let early = std::fs::read(hoosh.folder().join("hoosh-audit/checkpoints.jsonl")).unwrap();
    for _ in 0..12 {
        assert_eq!(hoosh.post(CHAT, chat_body("m", false)).await.status(), 200);
    }
    let sent = async {
        while hook.requests("/kept").is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, sent).await.expect("a checkpoint is sent");
    hoosh.signal("TERM");
    hoosh.ended().await;

    let read = |place: &str| std::fs::read_to_string(hoosh.folder().join(place)).unwrap();
    let own = read("hoosh-audit/checkpoints.jsonl");
    let elsewhere: Vec<_> = std::fs::read_dir(hoosh.folder().join("other")).unwrap().collect();
    let [Ok(elsewhere)] = elsewhere.as_slice() else { panic!("{elsewhere:?}") };
    let elsewhere = elsewhere.path();
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), own);
    assert_eq!(hoosh.printed(), own);
    let of_hook = String::from_utf8(hook.requests("/kept").pop().unwrap().body).unwrap();
    assert!(own.contains(of_hook.trim()), "{of_hook} is none of {own}");
    std::fs::write(hoosh.folder().join("sent.jsonl"), of_hook).unwrap();

    // Whoever has the folder cuts off all but the first record, and the checkpoints there.
    let segment =
        std::fs::read_dir(hoosh.folder().join("hoosh-audit")).unwrap().map(|file| file.unwrap().path());
    let segment = segment.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("audit-"));
    let segment: Vec<_> = segment.collect();
    let [segment] = segment.as_slice() else { panic!("{segment:?}") };
    let text = std::fs::read_to_string(segment).unwrap();
    std::fs::write(segment, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    std::fs::write(hoosh.folder().join("hoosh-audit/checkpoints.jsonl"), early).unwrap();
    assert!(hoosh.command(&["audit", "verify"]).status.success(), "by itself it looks whole");
    for kept in [elsewhere.to_str().unwrap(), "sent.jsonl"] {
        let told = hoosh.command(&["audit", "verify", "--checkpoints", kept]);
        assert_eq!(told.status.code(), Some(1), "{}", said(&told));
        assert!(said(&told).contains("cut off"), "{}", said(&told));
    }
}

#[tokio::test]
async fn while_nothing_can_be_written_calls_are_refused_and_health_says_so() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let hoosh = Hoosh::start(&format!("{AUDIT}{}", at("up", &upstream.url(), ""))).await;
    assert_eq!(hoosh.post(CHAT, chat_body("m", false)).await.status(), 200);
    file_bytes_max(&hoosh, "1");
    let refused = async {
        loop {
            let answer = hoosh.post(CHAT, chat_body("m", false)).await;
            if answer.status() == 503 {
                return answer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = timeout(PATIENCE, refused).await.expect("it is refused");
    assert_eq!(header(&refused, "retry-after"), "5");
    assert_eq!(json(refused).await["error"]["code"], "audit_unavailable");
    let health = hoosh.get("/v1/health").await;
    assert_eq!(health.status(), 503);
    assert_eq!(json(health).await["audit"], "failing");
    let metrics = hoosh.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("hoosh_audit_failing 1"), "{metrics}");
    file_bytes_max(&hoosh, "unlimited");
    let again = async {
        while hoosh.post(CHAT, chat_body("m", false)).await.status() != 200 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("it goes on");
    assert_eq!(hoosh.get("/v1/health").await.status(), 200);
    let told = verified(&hoosh);
    assert_eq!(told["lost"], 0, "{told}");
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

#[tokio::test]
async fn a_second_gateway_on_the_same_log_does_not_start() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&format!("{AUDIT}{}", at("up", &upstream.url(), ""))).await;
    let second = hoosh.command(&["serve", "--port", "0"]);
    assert!(!second.status.success() && said(&second).contains("another process"), "{}", said(&second));
}

#[tokio::test]
async fn reloads_rotations_and_keys_are_records_too_and_reads_follow_them() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let config = format!("{AUDIT}{AUTH}{}", at("up", &upstream.url(), ""));
    let hoosh = Hoosh::start(&config).await;
    let admin = async |method: &str, path: &str, body: &str| {
        let request = client().request(method.parse().unwrap(), hoosh.url(path)).bearer_auth("root");
        request.body(body.to_owned()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(admin("POST", "/v1/admin/keys", r#"{"name":"ci"}"#).await, 201);
    let rotated = hoosh.command(&["audit", "key", "--rotate"]);
    assert!(rotated.status.success(), "{}", said(&rotated));
    hoosh.configure(&format!("{config}[limits]\nrequests_per_day = 5\n"));
    assert_eq!(admin("POST", "/v1/admin/reload", "").await, 200);
    hoosh.configure("nonsense");
    assert_eq!(admin("POST", "/v1/admin/reload", "").await, 400);
    hoosh.configure(&config);
    let all = records(&hoosh).await;
    let told: Vec<String> = all
        .iter()
        .map(|record| {
            format!(
                "{} {}",
                record["kind"].as_str().unwrap(),
                record["body"]["action"].as_str().unwrap_or("")
            )
        })
        .collect();
    for kind in [
        "opened ",
        "config started",
        "key created",
        "rotation ",
        "config reloaded",
        "config refused",
        "admin ",
    ] {
        assert!(told.iter().any(|one| one == kind), "{kind}: {told:?}");
    }
    assert_eq!(verified(&hoosh)["rotations"], 1);
    // Filters.
    let page =
        client().get(hoosh.url("/v1/audit?kind=key&limit=5")).bearer_auth("root").send().await.unwrap();
    let page = json(page).await;
    assert_eq!(page["records"].as_array().unwrap().len(), 1, "{page}");
    let wrong = client().get(hoosh.url("/v1/audit?kinds=key")).bearer_auth("root").send().await.unwrap();
    assert_eq!(wrong.status(), 400);
    let head =
        json(client().get(hoosh.url("/v1/audit/head")).bearer_auth("root").send().await.unwrap()).await;
    assert_eq!(head["failing"], Value::Null, "{head}");
    let tail = hoosh.command(&["audit", "tail", "-n", "3"]);
    assert_eq!(String::from_utf8_lossy(&tail.stdout).lines().count(), 3, "{}", said(&tail));
    for format in ["jsonl", "csv", "otlp-json"] {
        let output = hoosh.command(&["audit", "export", "--format", format]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("/v1/admin/reload"), "{format}: {text}");
    }
}
