//! The log through kills, full disks and whoever cuts it off.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use testkit::{Hoosh, PATIENCE, Script, Upstream, chat_body, client_builder, completion};
use tokio::time::{sleep, timeout};

use super::{AUDIT, CHAT, said, stream_of_hi, verified};
use crate::{at, header, json};
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
    std::fs::remove_file(hoosh.folder().join("hoosh-audit/checkpoints.jsonl")).unwrap();
    assert!(hoosh.command(&["audit", "verify"]).status.success(), "by itself it looks whole");
    for kept in [elsewhere.to_str().unwrap(), "sent.jsonl"] {
        let told = hoosh.command(&["audit", "verify", "--checkpoints", kept]);
        assert_eq!(told.status.code(), Some(1), "{}", said(&told));
        assert!(said(&told).contains("cut off"), "{}", said(&told));
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_log_does_not_start() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&format!("{AUDIT}{}", at("up", &upstream.url(), ""))).await;
    let second = hoosh.command(&["serve", "--port", "0"]);
    assert!(!second.status.success() && said(&second).contains("another process"), "{}", said(&second));
}
