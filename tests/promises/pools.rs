//! Promise: pools can be defined while the gateway runs, hold at once and outlive it, and those of the configuration are its own.

use serde_json::{Value, json};
use testkit::{Hoosh, Script, Upstream, chat_body, client, completion};

use crate::{at, json as json_of};

const CHAT: &str = "/v1/chat/completions";
const POOLS: &str = "/v1/admin/pools";
const CONFIG: &str =
    "[auth]\ntokens = [\"ada\"]\nadmin_tokens = [\"root\"]\n[[pools]]\nname = \"team:a\"\ntokens = 100000\n";

async fn pooled() -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    let mut reply: Value = serde_json::from_slice(&completion("hi")).unwrap();
    reply["usage"] = json!({ "prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13 });
    upstream.always(Script::json(reply.to_string()));
    (Hoosh::start(&[CONFIG, &at("up", &upstream.url(), "")].concat()).await, upstream)
}

async fn admin(hoosh: &Hoosh, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = client().request(method.parse().unwrap(), hoosh.url(path)).bearer_auth("root");
    let response = request.body(body.to_string()).send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

async fn names(hoosh: &Hoosh) -> Vec<String> {
    let (_, told) = admin(hoosh, "GET", POOLS, json!({})).await;
    let pools = told["data"].as_array().unwrap();
    pools.iter().map(|pool| pool["name"].as_str().unwrap().to_owned()).collect()
}

/// A call for somebody; its status.
async fn ask(hoosh: &Hoosh, user: &str) -> u16 {
    let request = client().post(hoosh.url(CHAT)).bearer_auth("ada").header("x-hoosh-user", user.to_owned());
    request.body(chat_body("m", false)).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_pool_holds_from_when_it_is_defined_and_outlives_the_gateway() {
    let (mut hoosh, _upstream) = pooled().await;
    assert_eq!(ask(&hoosh, "bob").await, 200);
    let order =
        json!({ "name": "user:bob", "parent": "team:a", "tokens": 1, "window": "day", "alerts": [80] });
    let (status, made) = admin(&hoosh, "POST", POOLS, order).await;
    assert_eq!(
        (status, made),
        (
            201,
            json!({ "name": "user:bob", "parent": "team:a", "tokens": 1, "usd": null, "window": "day",
                    "time_zone": "UTC", "mode": "hard", "alerts": [80], "configured_at": null })
        )
    );
    assert_eq!((ask(&hoosh, "bob").await, ask(&hoosh, "eve").await), (429, 200));
    // Changed, and all that is not said is as if it had never been.
    let (status, changed) =
        admin(&hoosh, "PUT", "/v1/admin/pools/user%3Abob", json!({ "tokens": 100_000, "parent": null }))
            .await;
    assert_eq!(
        (status, &changed["window"], &changed["parent"]),
        (200, &json!("none"), &Value::Null),
        "{changed}"
    );
    assert_eq!(ask(&hoosh, "bob").await, 200);
    let spent = async |hoosh: &Hoosh| {
        let (_, told) = admin(hoosh, "GET", "/v1/tokens/pools", json!({})).await;
        let pools = told["pools"].as_array().unwrap();
        pools.iter().find(|pool| pool["name"] == "user:bob").unwrap()["settled"]["tokens"].clone()
    };
    assert_eq!(spent(&hoosh).await, 13);
    assert!(
        hoosh.log().contains("a pool was changed") && hoosh.log().contains("by=\"key-"),
        "{}",
        hoosh.log()
    );

    // A reload and a restart have it too, with what was spent.
    assert_eq!(admin(&hoosh, "POST", "/v1/admin/reload", json!({})).await.0, 200);
    assert_eq!(names(&hoosh).await, ["team:a", "user:bob"]);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    hoosh.restart_after("KILL").await;
    assert_eq!(
        (names(&hoosh).await, spent(&hoosh).await),
        (vec!["team:a".into(), "user:bob".into()], json!(13))
    );
    let (status, removed) = admin(&hoosh, "DELETE", "/v1/admin/pools/user:bob", json!({})).await;
    assert_eq!((status, &removed["tokens"]), (200, &json!(100_000)));
    assert_eq!(names(&hoosh).await, ["team:a"]);
    hoosh.restart_after("TERM").await;
    assert_eq!(names(&hoosh).await, ["team:a"]);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_as_in_the_configuration_and_its_own_are_not_touched() {
    let (hoosh, _upstream) = pooled().await;
    for (method, path) in [("PUT", "/v1/admin/pools/team:a"), ("DELETE", "/v1/admin/pools/team:a")] {
        let (status, refused) = admin(&hoosh, method, path, json!({ "tokens": 1 })).await;
        assert_eq!((status, &refused["error"]["code"]), (409, &json!("pool_in_configuration")), "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("other.toml:"), "{refused}");
    }
    assert_eq!(admin(&hoosh, "PUT", "/v1/admin/pools/user:a", json!({ "parent": "team:a" })).await.0, 201);
    for (method, path, body, says) in [
        ("POST", POOLS, json!({ "tokens": 1 }), "`name`"),
        ("POST", POOLS, json!({ "name": "team" }), "team:search"),
        ("PUT", "/v1/admin/pools/user:b", json!({ "name": "user:c" }), "path"),
        ("PUT", "/v1/admin/pools/user:b", json!({ "tokns": 1 }), "tokens"),
        ("PUT", "/v1/admin/pools/user:b", json!({ "window": "year" }), "`month`"),
        ("PUT", "/v1/admin/pools/user:b", json!({ "usd": "-1" }), "US dollars"),
        (
            "PUT",
            "/v1/admin/pools/user:b",
            json!({ "parent": "team:none" }),
            "its parent `team:none` is not defined",
        ),
        ("PUT", "/v1/admin/pools/user:b", json!({ "parent": "user:b" }), "above itself"),
        ("PUT", "/v1/admin/pools/user:b", json!([]), "JSON object"),
    ] {
        let (status, refused) = admin(&hoosh, method, path, body.clone()).await;
        let message = refused.to_string();
        assert!(status == 400 && message.contains(says), "{body}: {message}");
    }
    // One that others hang from stays.
    assert_eq!(admin(&hoosh, "PUT", "/v1/admin/pools/team:b", json!({})).await.0, 201);
    assert_eq!(admin(&hoosh, "PUT", "/v1/admin/pools/user:c", json!({ "parent": "team:b" })).await.0, 201);
    let (status, refused) = admin(&hoosh, "DELETE", "/v1/admin/pools/team:b", json!({})).await;
    assert!(status == 400 && refused.to_string().contains("`user:c` its parent `team:b`"), "{refused}");
    assert_eq!(
        admin(&hoosh, "DELETE", "/v1/admin/pools/user:none", json!({})).await.1["error"]["code"],
        "pool_not_found"
    );
    assert_eq!(names(&hoosh).await, ["team:a", "user:a", "team:b", "user:c"]);
    let request = client().get(hoosh.url(POOLS)).bearer_auth("ada");
    assert_eq!(request.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn what_the_configuration_defines_later_counts_and_memory_needs_a_file() {
    let upstream = Upstream::start().await;
    let rest = at("up", &upstream.url(), "");
    let auth = "[auth]\nadmin_tokens = [\"root\"]\n";
    let hoosh = Hoosh::start(&format!("{auth}[budget]\nledger = \"memory\"\n{rest}")).await;
    let (status, refused) = admin(&hoosh, "PUT", "/v1/admin/pools/team:x", json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (404, &json!("no_pools_file")));
    let named = format!("{auth}[budget]\nledger = \"memory\"\npools = \"mine.toml\"\n{rest}");
    hoosh.configure(&named);
    assert_eq!(admin(&hoosh, "POST", "/v1/admin/reload", json!({})).await.0, 200);
    assert_eq!(admin(&hoosh, "PUT", "/v1/admin/pools/team:x", json!({ "tokens": 1 })).await.0, 201);
    assert!(hoosh.folder().join("mine.toml").exists());
    hoosh.configure(&format!("{named}[[pools]]\nname = \"team:x\"\ntokens = 2\n"));
    let (status, told) = admin(&hoosh, "POST", "/v1/admin/reload", json!({})).await;
    assert_eq!(status, 200, "{told}");
    assert!(told["warnings"].to_string().contains("`team:x` is in the configuration too"), "{told}");
    let (_, told) = admin(&hoosh, "GET", POOLS, json!({})).await;
    assert_eq!(
        (told["data"].as_array().unwrap().len(), &told["data"][0]["tokens"]),
        (1, &json!(2)),
        "{told}"
    );
    // A file that is broken by hand is refused with its line, and the last one stays.
    std::fs::write(hoosh.folder().join("mine.toml"), "[[pools]]\nname = \"team:y\"\nwindow = \"year\"\n")
        .unwrap();
    let (status, told) = admin(&hoosh, "POST", "/v1/admin/reload", json!({})).await;
    assert!(status == 400 && told.to_string().contains("mine.toml:3: pools[0].window"), "{told}");
    assert_eq!(names(&hoosh).await, ["team:x"]);
}

#[tokio::test]
async fn the_command_line_lists_sets_and_removes_them() {
    let (hoosh, _upstream) = pooled().await;
    let url = hoosh.url("");
    let ran = |arguments: &[&str]| {
        let gateway = ["--token", "root", "--url", url.trim_end_matches('/')];
        let output = testkit::finished(&[&["pools"], arguments, &gateway].concat());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    let set =
        ["set", "user:*", "--parent", "team:a", "--usd", "2.5", "--window", "rolling 60", "--alert", "80"];
    assert_eq!(ran(&set), (Some(0), "defined: user:*\n".into()));
    let (_, table) = ran(&["list"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1][..6], ["team:a", "-", "100000", "-", "none", "hard"], "{table}");
    let expected =
        ["user:*", "team:a", "-", "2.500000000", "rolling", "60", "hard", "80", "at", "run", "time"];
    assert_eq!(words[2], expected, "{table}");
    let (code, refused) = ran(&["set", "team:a"]);
    assert!(code == Some(1) && refused.contains("is defined in the configuration"), "{refused}");
    assert_eq!(ran(&["rm", "user:*"]), (Some(0), "removed: user:*\n".into()));
    assert_eq!(names(&hoosh).await, ["team:a"]);
}
