//! Reading the log, and checking it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::{Hoosh, Script, Upstream, binary, chat_body, client, completion, refused_port};

use super::{AUDIT, AUTH, CHAT, asked, records, said, verified};
use crate::{at, header, json};
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

#[tokio::test]
async fn exports_hold_what_is_asked_for_and_a_tail_follows() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let hoosh = Hoosh::start(&format!("{AUDIT}{AUTH}{}", at("up", &upstream.url(), ""))).await;
    assert_eq!(asked(&hoosh, Some("user"), chat_body("m", false)).await.status(), 200);
    assert_eq!(asked(&hoosh, None, chat_body("m", false)).await.status(), 401);
    let exported = |more: &[&str]| {
        let output = hoosh.command(&[&["audit", "export"], more].concat());
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let caller =
        records(&hoosh).await.iter().find(|record| record["kind"] == "call").unwrap()["body"]["caller"]
            .as_str()
            .unwrap()
            .to_owned();
    let of_caller = exported(&["--caller", &caller]);
    let kinds: Vec<Value> = of_caller
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["record"]["kind"].clone())
        .collect();
    assert_eq!(kinds, ["call"], "{of_caller}");
    assert_eq!(exported(&["--to", "2026-01-01"]), "");
    assert!(exported(&["--from", "2026-01-01"]).lines().count() >= 3);
    let table = exported(&["--format", "csv", "--caller", &caller]);
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let names = rows.headers().unwrap().clone();
    let row = rows.records().next().unwrap().unwrap();
    let cell =
        |name: &str| &row[names.iter().position(|one| one == name).unwrap_or_else(|| panic!("{names:?}"))];
    assert_eq!(
        (cell("kind"), cell("outcome"), cell("model_asked"), cell("status")),
        ("call", "answered", "m", "200")
    );
    let otlp: Value =
        serde_json::from_str(&exported(&["--format", "otlp-json", "--caller", &caller])).unwrap();
    let record = &otlp["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["severityText"], "INFO", "{otlp}");
    assert!(record["body"]["stringValue"].as_str().unwrap().starts_with("{\"mac\":"), "{otlp}");

    let mut tail = Command::new(binary())
        .args(["audit", "tail", "-f", "-n", "0", "--config", "other.toml"])
        .env_clear()
        .current_dir(hoosh.folder())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let reader = tokio::task::spawn_blocking(move || lines.next().unwrap().unwrap());
    let mut asks = 0;
    while !reader.is_finished() {
        asks += 1;
        assert!(asks < 200, "nothing follows");
        assert_eq!(asked(&hoosh, Some("user"), chat_body("m", false)).await.status(), 200);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
    let line = reader.await.unwrap();
    assert!(line.contains("call") && line.contains("answered") && line.contains(&caller), "{line}");
}

/// A key can come from the environment, and then nothing is written of it anywhere.
#[tokio::test]
async fn keys_come_from_the_environment_and_what_cannot_be_opened_is_said_at_the_start() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let made = Hoosh::start(&format!("{AUDIT}{}", at("up", &upstream.url(), ""))).await;
    let key = std::fs::read_to_string(made.folder().join("hoosh-audit.key")).unwrap();
    let key = key.lines().find(|line| !line.starts_with('#')).unwrap().trim().to_owned();
    let config = format!("{AUDIT}{}", at("up", &upstream.url(), ""));
    let hoosh = Hoosh::start_with(&config, &[("HOOSH_AUDIT_KEY", &key)]).await;
    let answer = hoosh.post(CHAT, chat_body("m", false)).await;
    assert_eq!(answer.status(), 200);
    assert!(!header(&answer, "x-request-id").is_empty());
    assert!(!hoosh.folder().join("hoosh-audit.key").exists());
    assert!(!hoosh.log().contains(&key));
    // With the other gateway's file, which holds the same key, it verifies; without a key it cannot be told.
    let file = made.folder().join("hoosh-audit.key");
    let told = hoosh.command(&["audit", "verify", "--key-file", file.to_str().unwrap()]);
    assert!(told.status.success(), "{}", said(&told));
    let told = hoosh.command(&["audit", "verify"]);
    assert_eq!(told.status.code(), Some(64), "{}", said(&told));

    let refused = async |setting: &str, word: &str| {
        let port = refused_port();
        let config = format!("[server]\nport = {port}\n{AUDIT}{setting}\n[[providers]]\ntype = \"ollama\"\n");
        std::fs::write(hoosh.folder().join("third.toml"), config).unwrap();
        let mut command = Command::new(binary());
        command.args(["serve", "--config", "third.toml"]).env_clear().current_dir(hoosh.folder());
        let output = command.output().unwrap();
        assert!(!output.status.success() && said(&output).contains(word), "{setting}: {}", said(&output));
        assert!(!said(&output).contains(&key), "{}", said(&output));
    };
    refused("folder = \"other.toml\"\nkey_file = \"new.key\"", "other.toml").await;
    refused("folder = \"new\"\nkey_file = \"other.toml\"", "other.toml").await;
    std::fs::write(hoosh.folder().join("torn.key"), &key[..30]).unwrap();
    refused("folder = \"new\"\nkey_file = \"torn.key\"", "torn.key").await;
    let reused = format!("folder = \"hoosh-audit\"\nkey_file = \"{}\"", "another.key");
    refused(&reused, "hoosh-audit").await;
}
