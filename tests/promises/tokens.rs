//! Promise: agents that account for themselves hold exactly what there is, in pools that are theirs, and settle it once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Hoosh, PATIENCE, Script, Upstream, chat_body, client, completion};
use tokio::time::sleep;

use crate::{at, header, json as json_of};

const CHECK: &str = "/v1/tokens/check";
const RESERVE: &str = "/v1/tokens/reserve";
const REPORT: &str = "/v1/tokens/report";

async fn send(hoosh: &Hoosh, key: &str, path: &str, body: Value) -> (u16, Value) {
    let request = client().post(hoosh.url(path)).bearer_auth(key);
    let response = request.body(body.to_string()).send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

/// The same of somebody who must be answered.
async fn ask(hoosh: &Hoosh, key: &str, path: &str, body: Value) -> Value {
    let (status, answer) = send(hoosh, key, path, body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn pool(hoosh: &Hoosh, key: &str, name: &str) -> Value {
    let request = client().get(hoosh.url("/v1/tokens/pools")).bearer_auth(key);
    let all = json_of(request.send().await.unwrap()).await;
    all["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == name).unwrap().clone()
}

/// A gateway with these pools that nobody asks for an answer, and its upstream.
async fn with(pools: &str) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    (Hoosh::start(&(pools.to_owned() + &at("up", &upstream.url(), ""))).await, upstream)
}

#[tokio::test]
async fn what_many_hold_at_once_is_never_more_than_there_is() {
    let (hoosh, _upstream) = with("[[pools]]\nname = \"key:*\"\ntokens = 1000\nusd = \"1\"\n").await;
    // Two hundred ask for 30 tokens each, of which 33 have room.
    let asked = (0..200).map(|_| send(&hoosh, "", RESERVE, json!({ "tokens": 30, "usd": "0.001" })));
    let answers = join_all(asked).await;
    let (held, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 200);
    assert_eq!(held.len(), 33, "{refused:?}");
    for (status, answer) in &refused {
        assert_eq!((*status, &answer["error"]["code"]), (429, &"insufficient_quota".into()), "{answer}");
    }
    let own = pool(&hoosh, "", "key:anonymous").await;
    assert_eq!(own["reserved"], json!({ "tokens": 990, "usd": "0.033000000" }));
    // They need half of it, which frees the rest.
    for (_, lease) in &held {
        let report = json!({ "lease": lease["lease"], "tokens": 15, "usd": 0.0005 });
        let told = ask(&hoosh, "", REPORT, report).await;
        assert_eq!(told["outcome"], "booked");
        assert_eq!(told["booked"], json!({ "tokens": 15, "usd": "0.000500000" }));
    }
    let own = pool(&hoosh, "", "key:anonymous").await;
    assert_eq!(own["settled"], json!({ "tokens": 495, "usd": "0.016500000" }));
    assert_eq!(own["reserved"]["tokens"], 0);
    // More than is held is booked as far as there is room.
    let lease = ask(&hoosh, "", RESERVE, json!({ "tokens": 5 })).await;
    let told = ask(&hoosh, "", REPORT, json!({ "lease": lease["lease"], "tokens": 508 })).await;
    assert_eq!((&told["booked"]["tokens"], &told["overrun"]["tokens"]), (&json!(508), &json!(3)), "{told}");
    assert_eq!(pool(&hoosh, "", "key:anonymous").await["settled"]["tokens"], 1_000);
}

#[tokio::test]
async fn a_check_says_what_fits_and_when_and_holds_nothing() {
    let pools = "[[pools]]\nname = \"team:a\"\ntokens = 100\nwindow = \"rolling 3600\"\n\
        [[pools]]\nname = \"user:*\"\nparent = \"team:a\"\ntokens = 60\nusd = \"2\"\nwindow = \"day\"\n";
    let (hoosh, _upstream) = with(pools).await;
    let alice = |tokens: u64| json!({ "pools": ["user:alice"], "tokens": tokens });
    let told = ask(&hoosh, "", CHECK, alice(60)).await;
    assert_eq!(
        (&told["fits"], &told["when"], &told["left"]),
        (&json!(true), &json!("now"), &json!({ "tokens": 60, "usd": "2.000000000" })),
        "{told}"
    );
    let never = ask(&hoosh, "", CHECK, alice(61)).await;
    assert_eq!(
        (&never["fits"], &never["when"], &never["pool"]),
        (&json!(false), &json!("never"), &json!("user:alice"))
    );
    let lease = ask(&hoosh, "", RESERVE, alice(50)).await;
    assert_eq!(lease["held"], json!({ "tokens": 50, "usd": "0.000000000" }));
    let later = ask(&hoosh, "", CHECK, alice(20)).await;
    assert_eq!((&later["when"], &later["left"]["tokens"]), (&json!("others_settle"), &json!(10)), "{later}");
    // The team is the same for another.
    let bob = json!({ "pools": ["user:bob"], "tokens": 51 });
    let told = ask(&hoosh, "", CHECK, bob).await;
    assert_eq!(
        (&told["fits"], &told["pool"], &told["left"]["tokens"]),
        (&json!(false), &json!("team:a"), &json!(50))
    );
    ask(&hoosh, "", REPORT, json!({ "lease": lease["lease"], "tokens": 50 })).await;
    let told = ask(&hoosh, "", CHECK, alice(20)).await;
    let (when, earliest) = (&told["when"], told["earliest"].as_str().unwrap());
    assert!(when == "at" && earliest.ends_with('Z'), "{told}");
    let (status, refused) = send(&hoosh, "", RESERVE, alice(20)).await;
    assert_eq!((status, &refused["error"]["message"]), (429, &told["reason"]), "the same words");
    // A call and a lease spend from one pool.
    let call = client().post(hoosh.url("/v1/chat/completions")).header("x-hoosh-user", "alice");
    let call =
        call.header("content-type", "application/json").body(chat_body("m", false)).send().await.unwrap();
    assert_eq!(call.status(), 200, "ten are left, which is enough for eight and a word");
    assert!(pool(&hoosh, "", "user:alice").await["settled"]["tokens"].as_u64() > Some(50));
    let reserved = &pool(&hoosh, "", "team:a").await["reserved"]["tokens"];
    assert_eq!(reserved, 0, "checks hold nothing");
}

#[tokio::test]
async fn a_lease_that_is_over_frees_what_it_held_and_is_booked_late() {
    let (hoosh, _upstream) = with("[[pools]]\nname = \"key:*\"\ntokens = 100\n").await;
    let lease = ask(&hoosh, "", RESERVE, json!({ "tokens": 100, "lease_secs": 1 })).await;
    let (status, refused) = send(&hoosh, "", RESERVE, json!({ "tokens": 1 })).await;
    assert_eq!(status, 429, "{refused}");
    let start = Instant::now();
    let other = loop {
        let (status, answer) = send(&hoosh, "", RESERVE, json!({ "tokens": 70 })).await;
        if status == 200 {
            break answer;
        }
        assert!(start.elapsed() < PATIENCE, "{answer}");
        sleep(Duration::from_millis(50)).await;
    };
    // There is room for 30 of the 40 that it took after all.
    let report = json!({ "lease": lease["lease"], "tokens": 40 });
    let late = ask(&hoosh, "", REPORT, report.clone()).await;
    assert_eq!(late["outcome"], "late", "{late}");
    assert_eq!(late["overrun"]["tokens"], 10, "{late}");
    let own = pool(&hoosh, "", "key:anonymous").await;
    assert_eq!((&own["settled"]["tokens"], &own["reserved"]["tokens"]), (&json!(30), &json!(70)));
    assert_eq!(ask(&hoosh, "", REPORT, report).await["outcome"], "repeated");
    assert_eq!(
        ask(&hoosh, "", REPORT, json!({ "lease": other["lease"], "tokens": 0 })).await["outcome"],
        "booked"
    );
}

const KEYS: &str = "[auth]\nkeys = \"keys.db\"\nadmin_tokens = [\"root\"]\n";

async fn key(hoosh: &Hoosh, order: Value) -> (String, String) {
    let request = client().post(hoosh.url("/v1/admin/keys")).bearer_auth("root").body(order.to_string());
    let made = json_of(request.send().await.unwrap()).await;
    (made["key"].as_str().unwrap().to_owned(), made["booked_as"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn only_pools_and_leases_of_ones_own_can_be_used() {
    let pools = "[[pools]]\nname = \"key:*\"\ntokens = 50\n[[pools]]\nname = \"team:a\"\ntokens = 1000\n\
        [[pools]]\nname = \"team:b\"\ntokens = 1000\n[[pools]]\nname = \"user:*\"\ntokens = 500\n\
        [[pools]]\nname = \"model:*\"\ntokens = 1000\n";
    let (hoosh, _upstream) = with(&(KEYS.to_owned() + pools)).await;
    let order = json!({ "name": "ada", "pools": ["team:a"], "models": ["m"] });
    let (ada, ada_as) = key(&hoosh, order).await;
    let (bob, bob_as) = key(&hoosh, json!({ "name": "bob" })).await;

    let all = json!([format!("key:{ada_as}"), "team:a", "user:carol", "model:m"]);
    let lease = ask(&hoosh, &ada, RESERVE, json!({ "pools": all, "tokens": 40 })).await;
    for name in [&format!("key:{ada_as}"), "team:a", "user:carol", "model:m"] {
        assert_eq!(pool(&hoosh, "root", name).await["reserved"]["tokens"], 40, "{name}");
    }
    for foreign in ["team:b", &format!("key:{bob_as}"), "model:gpt-4o", "provider:up"] {
        for path in [CHECK, RESERVE] {
            let order = json!({ "pools": ["user:carol", foreign], "tokens": 1 });
            let (status, refused) = send(&hoosh, &ada, path, order).await;
            assert_eq!(status, 403, "{foreign}: {refused}");
            let message = refused["error"]["message"].as_str().unwrap();
            assert!(message.contains(&format!("the pool `{foreign}` is not yours")), "{message}");
        }
    }
    // Whoever has nothing left takes nothing of what others share.
    let (status, refused) =
        send(&hoosh, &ada, RESERVE, json!({ "pools": ["user:carol"], "tokens": 11 })).await;
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(status == 429 && message.contains(&ada_as), "{message}");
    assert_eq!(pool(&hoosh, "root", "user:carol").await["reserved"]["tokens"], 40, "all or none");

    let report = json!({ "lease": lease["lease"], "tokens": 10 });
    let (status, none) = send(&hoosh, &bob, REPORT, report.clone()).await;
    assert_eq!((status, &none["error"]["code"]), (404, &json!("lease_not_found")), "{none}");
    assert_eq!(pool(&hoosh, "root", "team:a").await["reserved"]["tokens"], 40, "it is still held");
    assert_eq!(ask(&hoosh, &ada, REPORT, report.clone()).await["outcome"], "booked");
    let again = ask(&hoosh, &ada, REPORT, json!({ "lease": lease["lease"], "tokens": 30 })).await;
    assert_eq!((&again["outcome"], &again["booked"]["tokens"]), (&json!("repeated"), &json!(0)));
    let team = pool(&hoosh, "root", "team:a").await;
    assert_eq!((&team["settled"]["tokens"], &team["reserved"]["tokens"]), (&json!(10), &json!(0)));
    assert_eq!(send(&hoosh, &bob, REPORT, report).await.0, 404, "nor is it theirs when it is settled");
    let reader = key(&hoosh, json!({ "name": "reader", "scopes": ["usage:read"] })).await.0;
    assert_eq!(send(&hoosh, &reader, CHECK, json!({})).await.0, 403);
}

#[tokio::test]
async fn a_restart_lets_go_of_leases_and_says_so() {
    let (mut hoosh, _upstream) = with("[[pools]]\nname = \"key:*\"\ntokens = 100\n").await;
    let first = ask(&hoosh, "", RESERVE, json!({ "tokens": 30 })).await;
    let settled = json!({ "lease": first["lease"], "tokens": 30 });
    ask(&hoosh, "", REPORT, settled).await;
    let lease = ask(&hoosh, "", RESERVE, json!({ "tokens": 70 })).await;
    sleep(Duration::from_millis(100)).await;
    hoosh.restart_after("KILL").await;
    let told = ask(&hoosh, "", CHECK, json!({})).await;
    assert_eq!(told["left"]["tokens"], 70, "what was booked is, what was held is free: {told}");
    let (status, none) = send(&hoosh, "", REPORT, json!({ "lease": lease["lease"], "tokens": 70 })).await;
    let message = none["error"]["message"].as_str().unwrap();
    assert!(status == 404 && message.contains("was started again since"), "{message}");
    // A reload keeps them.
    let lease = ask(&hoosh, "", RESERVE, json!({ "tokens": 20 })).await;
    assert_eq!(send(&hoosh, "", "/v1/admin/reload", json!({})).await.0, 200);
    let told = ask(&hoosh, "", REPORT, json!({ "lease": lease["lease"], "tokens": 20 })).await;
    assert_eq!(told["outcome"], "booked");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_in_words() {
    let (hoosh, _upstream) = with("[[pools]]\nname = \"user:*\"\ntokens = 100\n").await;
    let check = async |path: &str, body: Value, words: &str| {
        let (status, refused) = send(&hoosh, "", path, body).await;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.contains(words), "{status} {refused}");
    };
    check(RESERVE, json!({ "pool": "user:a", "tokens": 1 }), "unknown field `pool`").await;
    check(REPORT, json!({ "lease": "lease_1", "token": 1 }), "unknown field `token`").await;
    check(REPORT, json!({ "tokens": 1 }), "missing field `lease`").await;
    check(REPORT, json!({ "lease": "lease_1" }), "say what it took").await;
    check(RESERVE, json!({ "pools": ["user:a"] }), "nothing is asked for").await;
    check(RESERVE, json!({ "pools": ["user:a"], "tokens": -1 }), "-1").await;
    check(RESERVE, json!({ "pools": ["user:a"], "usd": "-0.1" }), "less than nothing").await;
    check(RESERVE, json!({ "pools": ["user:a"], "usd": "much" }), "US dollars").await;
    check(RESERVE, json!({ "pools": ["user:a"], "tokens": 1, "lease_secs": 0 }), "from 1 to 86400").await;
    check(RESERVE, json!({ "pools": ["user:a"], "tokens": 1, "lease_secs": 86_401 }), "from 1 to 86400")
        .await;
    check(RESERVE, json!({ "pools": ["alice"], "tokens": 1 }), "is not a pool").await;
    check(RESERVE, json!({ "pools": ["user:*"], "tokens": 1 }), "there is no pool `user:*`").await;
    check(RESERVE, json!({ "pools": ["agent:a"], "tokens": 1 }), "there is no pool `agent:a`").await;
    check(RESERVE, json!({ "tokens": 1 }), "there is no pool `key:anonymous`").await;
    check(RESERVE, json!([["user:a"], 1]), "a JSON object").await;
    let many: Vec<String> = (0..33).map(|user| format!("user:{user}")).collect();
    check(RESERVE, json!({ "pools": many, "tokens": 1 }), "at most 32").await;
    let (status, _) = send(&hoosh, "", REPORT, json!({ "lease": "req_1", "tokens": 1 })).await;
    assert_eq!(status, 404);
    let (hoosh, _upstream) = with("").await;
    assert_eq!(ask(&hoosh, "", CHECK, json!({ "tokens": 9 })).await["fits"], true, "nothing is limited");
    let (status, refused) = send(&hoosh, "", RESERVE, json!({ "tokens": 9 })).await;
    assert_eq!(status, 400, "{refused}");
}

#[tokio::test]
async fn a_caller_has_only_so_many_leases() {
    let (hoosh, _upstream) = with("[[pools]]\nname = \"key:*\"\ntokens = 100000\n").await;
    for _ in 0..8 {
        let some = join_all((0..128).map(|_| send(&hoosh, "", RESERVE, json!({ "tokens": 1 })))).await;
        assert!(some.iter().all(|(status, _)| *status == 200));
    }
    let response = hoosh.post(RESERVE, r#"{"tokens":1}"#).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "1"));
    let refused = json_of(response).await;
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("1024 leases of yours are open"),
        "{refused}"
    );
    assert_eq!(pool(&hoosh, "", "key:anonymous").await["reserved"]["tokens"], 1024);
}
