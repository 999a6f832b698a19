//! Promise: when a pool reaches a threshold it is told, once, in the metrics, the events and to a web hook, and no call waits for that.

use std::time::{Duration, Instant};

use ring::hmac;
use serde_json::{Value, json};
use testkit::{Hoosh, PATIENCE, Script, Upstream, chat_body, client, completion};
use tokio::time::{sleep, timeout};

use crate::at;

const CHAT: &str = "/v1/chat/completions";
const HOOK: &str = "/hooks/budgets";

/// A gateway whose calls take 13 of a pool's 1,000,000 tokens, of which 1 percent is soon spent by a call that takes 10,000.
async fn watched(hook: &Upstream) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    let mut reply: Value = serde_json::from_slice(&completion("hi")).unwrap();
    reply["usage"] = json!({ "prompt_tokens": 8, "completion_tokens": 9_995, "total_tokens": 10_003 });
    upstream.always(Script::json(reply.to_string()));
    let url = hook.url().trim_end_matches("/v1").to_owned() + HOOK;
    let config = format!(
        "[budget]\nalert_webhook = \"{url}\"\nalert_webhook_secret = \"$ALERT_SECRET\"\n\
         [[pools]]\nname = \"user:*\"\ntokens = 1000000\nalerts = [1]\n{}",
        at("up", &upstream.url(), "")
    );
    (Hoosh::start_with(&config, &[("ALERT_SECRET", "between us")]).await, upstream)
}

async fn ask(hoosh: &Hoosh, user: &str) {
    let request = client().post(hoosh.url(CHAT)).header("x-hoosh-user", user.to_owned());
    assert_eq!(request.body(chat_body("m", false)).send().await.unwrap().status(), 200);
}

/// What the hook was sent, once it was so often.
async fn sent(hook: &Upstream, count: usize) -> Vec<testkit::Request> {
    let all = async {
        while hook.requests(HOOK).len() < count {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("the hook was not told");
    hook.requests(HOOK)
}

async fn metrics(hoosh: &Hoosh) -> String {
    hoosh.get("/metrics").await.text().await.unwrap()
}

#[tokio::test]
async fn a_threshold_is_told_once_with_a_signature() {
    let hook = Upstream::start().await;
    hook.always(Script::status(204, ""));
    let (hoosh, _upstream) = watched(&hook).await;
    let mut events = client().get(hoosh.url("/v1/events?types=pool_alert")).send().await.unwrap();
    for _ in 0..3 {
        ask(&hoosh, "bob").await;
    }
    let requests = sent(&hook, 1).await;
    let told: Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(
        (
            &told["pool"],
            &told["kind"],
            &told["percent"],
            &told["capacity"]["tokens"],
            &told["settled"]["tokens"]
        ),
        (&json!("user:bob"), &json!("reached"), &json!(1), &json!(1_000_000), &json!(10_003)),
        "{told}"
    );
    let ago = jiff::Timestamp::now() - told["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(ago.total(jiff::Unit::Second).unwrap() < 60.0, "{told}");
    let head = requests[0].head.to_ascii_lowercase();
    let signature = head.split("x-hoosh-signature: sha256=").nth(1).unwrap().split("\r\n").next().unwrap();
    let bytes: Vec<u8> = (0..signature.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap())
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"between us");
    hmac::verify(&key, &requests[0].body, &bytes).expect("it is of the body that came");

    let mut heard = String::new();
    let hears = async {
        while !heard.contains("\"percent\":1") {
            heard.push_str(&String::from_utf8_lossy(&events.chunk().await.unwrap().unwrap()));
        }
    };
    timeout(PATIENCE, hears).await.expect("no event");
    assert!(heard.contains("event: pool_alert") && heard.contains("\"pool\":\"user:bob\""), "{heard}");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(hook.requests(HOOK).len(), 1, "once in a window");
    let text = metrics(&hoosh).await;
    assert!(text.contains("hoosh_pool_alerts_total{kind=\"user\",at=\"1\"} 1"), "{text}");
    assert!(text.contains("hoosh_pool_alert_deliveries_total{result=\"sent\"} 1"), "{text}");
    assert!(!hoosh.log().contains("between us") && hoosh.log().contains("so much of a pool is spent"));
}

#[tokio::test]
async fn a_hook_that_fails_is_told_again_and_one_that_says_nothing_holds_nobody_up() {
    let hook = Upstream::start().await;
    hook.script([Script::status(500, "later")]);
    hook.always(Script::status(204, ""));
    let (hoosh, _upstream) = watched(&hook).await;
    ask(&hoosh, "bob").await;
    let requests = sent(&hook, 2).await;
    assert_eq!(requests[0].body, requests[1].body, "it is the same alert");

    hook.always(Script::Silence);
    let start = Instant::now();
    for user in ["carol", "dave", "eve"] {
        ask(&hoosh, user).await;
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    // One that refuses it is not asked again.
    let hook = Upstream::start().await;
    hook.always(Script::status(404, ""));
    let (hoosh, _upstream) = watched(&hook).await;
    ask(&hoosh, "bob").await;
    let failed = async {
        while !metrics(&hoosh).await.contains("hoosh_pool_alert_deliveries_total{result=\"failed\"} 1") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, failed).await.expect("it was given up");
    assert_eq!(hook.requests(HOOK).len(), 1);
    assert!(hoosh.log().contains("an alert could not be delivered"), "{}", hoosh.log());
}

#[test]
fn only_http_is_a_web_hook() {
    for url in ["ftp://example.com/x", "file:///etc/passwd", "example.com", ""] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hoosh.toml");
        std::fs::write(&file, format!("[budget]\nalert_webhook = \"{url}\"\n")).unwrap();
        let output = testkit::finished(&["config", "check", "-c", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{url}: {said}");
        assert!(said.contains("budget.alert_webhook"), "{said}");
    }
}
