//! Promise: what calls used and cost can be asked for, call by call and summed up, and no price is not a price of nothing.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Hoosh, PATIENCE, Script, Upstream, chat_body, client, completion};
use tokio::time::{sleep, timeout};

use crate::{at, json as json_of};

const CHAT: &str = "/v1/chat/completions";
const POOLS: &str =
    "[[pools]]\nname = \"team:a\"\ntokens = 100000\n[[pools]]\nname = \"user:*\"\nparent = \"team:a\"\n";
const PRICE: &str = "[[prices]]\nprovider = \"up\"\nmodel = \"dear\"\ninput = \"1000\"\noutput = \"2000\"\n";

/// An upstream whose answers take 8 and 5 tokens.
async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    let mut reply: Value = serde_json::from_slice(&completion("hi")).unwrap();
    reply["usage"] = json!({ "prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13 });
    upstream.always(Script::json(reply.to_string()));
    upstream
}

/// A call that a cache keeps.
fn body(model: &str) -> String {
    chat_body(model, false).replacen('{', "{\"temperature\":0,", 1)
}

async fn ask(hoosh: &Hoosh, model: &str, user: &str) {
    let request = client().post(hoosh.url(CHAT)).header("x-hoosh-user", user.to_owned());
    let response = request.header("content-type", "application/json").body(body(model)).send().await;
    assert_eq!(response.unwrap().status(), 200);
}

async fn get(hoosh: &Hoosh, path: &str) -> Value {
    let response = hoosh.get(path).await;
    let status = response.status();
    let told = json_of(response).await;
    assert_eq!(status, 200, "{path}: {told}");
    told
}

/// The rows once so many are on disk.
async fn rows(hoosh: &Hoosh, count: usize) -> Vec<Value> {
    let all = async {
        loop {
            let rows = get(hoosh, "/v1/usage?limit=1000").await["usage"].as_array().unwrap().clone();
            if rows.len() >= count {
                return rows;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let rows = timeout(PATIENCE, all).await.expect("rows are missing");
    assert_eq!(rows.len(), count);
    rows
}

/// A gateway that answered three calls of two users, two of them at a price.
async fn asked() -> (Hoosh, Upstream) {
    let upstream = upstream().await;
    let hoosh = Hoosh::start(&[POOLS, PRICE, &at("up", &upstream.url(), "")].concat()).await;
    ask(&hoosh, "dear", "alice").await;
    ask(&hoosh, "unknown", "bob").await;
    ask(&hoosh, "dear", "bob").await;
    rows(&hoosh, 3).await;
    (hoosh, upstream)
}

#[tokio::test]
async fn each_call_is_a_row_and_pages_hang_together() {
    let (hoosh, _upstream) = asked().await;
    let rows = rows(&hoosh, 3).await;
    let newest = &rows[0];
    assert_eq!(newest["tokens"]["prompt"], 8, "{newest}");
    // 8 and 5 tokens at a thousandth and two thousandths of a dollar.
    assert_eq!((&newest["usd"], &newest["provider"]), (&"0.018000000".into(), &"up".into()), "{newest}");
    assert_eq!(newest["pools"], json!(["user:bob", "team:a"]), "{newest}");
    assert_eq!((&rows[1]["model"], &rows[1]["usd"]), (&"unknown".into(), &Value::Null));

    let (mut paged, mut path) = (Vec::new(), "/v1/usage?limit=1".to_owned());
    loop {
        let page = get(&hoosh, &path).await;
        paged.extend(page["usage"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/usage?limit=1&after={next}");
    }
    assert_eq!(paged, rows);

    let count = async |query: &str| {
        get(&hoosh, &format!("/v1/usage?{query}")).await["usage"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("model=dear", 2),
        ("pool=user:alice", 1),
        ("pool=team%3Aa&provider=up", 3),
        ("caller=nobody", 0),
        ("caller=anonymous", 3),
        ("from=2020-01-01", 3),
        ("to=2020-01-01", 0),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn costs_are_summed_up_and_what_has_no_price_is_counted_apart() {
    let (hoosh, _upstream) = asked().await;
    let costs = get(&hoosh, "/v1/costs?by=model").await;
    assert_eq!(
        costs,
        json!({
            "by": "model",
            "sums": [
                { "model": "dear", "calls": 2, "usd": "0.036000000", "unpriced_calls": 0,
                  "tokens": { "prompt": 16, "completion": 10, "input": 16, "output": 10 } },
                { "model": "unknown", "calls": 1, "usd": null, "unpriced_calls": 1,
                  "tokens": { "prompt": 8, "completion": 5, "input": 8, "output": 5 } },
            ],
            "cut": false,
            "period": { "number": 1, "from": null, "to": null, "ended_by": null },
            "total": { "calls": 3, "usd": "0.036000000", "unpriced_calls": 1,
                       "tokens": { "prompt": 24, "completion": 15, "input": 24, "output": 15 } },
        })
    );
    let pools = get(&hoosh, "/v1/costs?by=pool&from=2020-01-01").await;
    let of = |pool: &str| pools["sums"].as_array().unwrap().iter().find(|sums| sums["pool"] == pool).cloned();
    assert_eq!(of("team:a").unwrap()["calls"], 3, "{pools}");
    assert_eq!(of("user:alice").unwrap()["usd"], "0.018000000", "{pools}");
    assert_eq!(pools["total"]["calls"], 3, "a call counts once: {pools}");
    // A key is its caller; what has no tag stands under none.
    let keys = get(&hoosh, "/v1/costs?by=key").await;
    assert_eq!(
        (&keys["sums"][0]["key"], &keys["sums"][0]["calls"]),
        (&"anonymous".into(), &3.into()),
        "{keys}"
    );
    let tags = get(&hoosh, "/v1/costs?by=tag:team").await;
    assert_eq!((&tags["by"], &tags["sums"][0]["tag"]), (&"tag:team".into(), &Value::Null), "{tags}");
    assert_eq!(get(&hoosh, "/v1/costs?tag=team:search").await["total"]["calls"], 0);
    let providers = get(&hoosh, "/v1/costs?by=provider").await;
    assert_eq!(
        (&providers["sums"][0]["provider"], &providers["sums"][0]["calls"]),
        (&"up".into(), &3.into())
    );
    let days = get(&hoosh, "/v1/costs?by=day").await;
    assert_eq!(
        days["sums"].as_array().unwrap().iter().map(|day| day["calls"].as_u64().unwrap()).sum::<u64>(),
        3
    );
}

#[tokio::test]
async fn an_answer_that_is_given_again_took_nothing() {
    let upstream = upstream().await;
    let config = [POOLS, PRICE, "[cache]\nenabled = true\n", &at("up", &upstream.url(), "")].concat();
    let hoosh = Hoosh::start(&config).await;
    ask(&hoosh, "dear", "alice").await;
    ask(&hoosh, "dear", "alice").await;
    let rows = rows(&hoosh, 2).await;
    assert_eq!(
        (&rows[0]["cache"], &rows[0]["tokens"], &rows[0]["usd"]),
        (&"hit".into(), &Value::Null, &"0.000000000".into())
    );
    let total = get(&hoosh, "/v1/costs").await["total"].clone();
    assert_eq!(
        (&total["calls"], &total["usd"], &total["tokens"]["prompt"]),
        (&2.into(), &"0.018000000".into(), &8.into())
    );
}

#[tokio::test]
async fn without_pools_calls_are_written_down_where_that_is_said() {
    let upstream = upstream().await;
    let config = ["[budget]\nlog = true\n", PRICE, &at("up", &upstream.url(), "")].concat();
    let mut hoosh = Hoosh::start(&config).await;
    ask(&hoosh, "unknown", "alice").await;
    ask(&hoosh, "dear", "bob").await;
    let before = rows(&hoosh, 2).await;
    assert_eq!((&before[0]["pools"], &before[0]["usd"]), (&json!([]), &"0.018000000".into()));
    assert_eq!(get(&hoosh, "/v1/tokens/pools").await["pools"], json!([]));
    hoosh.restart_after("KILL").await;
    assert_eq!(rows(&hoosh, 2).await, before);
}

#[tokio::test]
async fn the_command_line_reads_the_ledger_with_and_without_a_gateway() {
    let (mut hoosh, _upstream) = asked().await;
    let costs = |hoosh: &Hoosh, arguments: &[&str]| {
        let output = hoosh.command(&[&["costs"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let csv = "model,calls,prompt_tokens,completion_tokens,usd,unpriced_calls\n\
               dear,2,16,10,0.036000000,0\nunknown,1,8,5,,1\n";
    assert_eq!(costs(&hoosh, &["--by", "model", "--csv"]), csv);
    let told: Value = serde_json::from_str(&costs(&hoosh, &["--by", "pool", "--json"])).unwrap();
    assert_eq!(told, get(&hoosh, "/v1/costs?by=pool").await);
    let table = costs(&hoosh, &[]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["provider", "calls", "prompt", "completion", "USD", "unpriced"], "{table}");
    assert_eq!(words[1], ["up", "3", "24", "15", "0.036000000", "1"], "{table}");
    assert_eq!(words[2][0], "all", "{table}");
    assert_eq!(costs(&hoosh, &["--to", "2020-01-01"]), "", "nothing is said of nothing");
    hoosh.signal("TERM");
    hoosh.ended().await;
    assert_eq!(costs(&hoosh, &["--by", "model", "--csv"]), csv);

    let (bare, _upstream) = crate::one().await;
    let output = bare.command(&["costs"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("hoosh-ledger.db") && said.contains("log = true"), "{said}");
}

#[tokio::test]
async fn questions_that_mean_nothing_are_refused() {
    let (hoosh, _upstream) = asked().await;
    for (path, message) in [
        ("/v1/usage?limit=0", "limit"),
        ("/v1/usage?after=x", "after"),
        ("/v1/usage?user=alice", "`after`, `limit`, `from`"),
        ("/v1/usage?from=yesterday", "2026-11-24T12:00:00Z"),
        ("/v1/usage?pool=team", "pool"),
        ("/v1/costs?by=moon", "provider, model, caller, key, pool, day, tag:NAME"),
        ("/v1/costs?tag=team", "`team:search`"),
    ] {
        let response = hoosh.get(path).await;
        assert_eq!(response.status(), 400, "{path}");
        let error = json_of(response).await["error"].to_string();
        assert!(error.contains(message), "{path}: {error}");
    }
    let (bare, _upstream) = crate::one().await;
    let response = bare.get("/v1/usage").await;
    assert_eq!(response.status(), 404);
    assert_eq!(json_of(response).await["error"]["code"], "no_usage_log");
}

/// A call with a key.
async fn ask_as(hoosh: &Hoosh, key: &str, user: &str) {
    let request = client().post(hoosh.url(CHAT)).bearer_auth(key).header("x-hoosh-user", user.to_owned());
    assert_eq!(request.body(body("dear")).send().await.unwrap().status(), 200);
}

async fn get_as(hoosh: &Hoosh, key: &str, path: &str) -> (u16, Value) {
    let response = client().get(hoosh.url(path)).bearer_auth(key).send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

#[tokio::test]
async fn who_may_not_read_usage_sees_their_own() {
    let upstream = upstream().await;
    let auth = "[auth]\nkeys = \"keys.db\"\ntokens = [\"ada\", \"bob\"]\nadmin_tokens = [\"root\"]\n";
    let pools = "[[pools]]\nname = \"team:a\"\ntokens = 100000\n[[pools]]\nname = \"team:b\"\ntokens = 100000\n\
                 [[pools]]\nname = \"key:*\"\nparent = \"team:a\"\n[[pools]]\nname = \"user:*\"\nparent = \"team:b\"\n";
    let hoosh = Hoosh::start(&[auth, pools, PRICE, &at("up", &upstream.url(), "")].concat()).await;
    let key = async |order: Value| {
        let request = client().post(hoosh.url("/v1/admin/keys")).bearer_auth("root").body(order.to_string());
        json_of(request.send().await.unwrap()).await["key"].as_str().unwrap().to_owned()
    };
    let plain = key(json!({ "name": "plain" })).await;
    let reader = key(json!({ "name": "reader", "scopes": ["usage:read"] })).await;
    for (who, user) in [("ada", "alice"), ("bob", "alice"), ("bob", "bob"), (&plain, "bob")] {
        ask_as(&hoosh, who, user).await;
    }
    let count = async |who: &str, path: &str| {
        let (status, told) = get_as(&hoosh, who, path).await;
        assert_eq!(status, 200, "{path}: {told}");
        told["usage"].as_array().map_or_else(|| told["total"]["calls"].as_u64().unwrap() as usize, Vec::len)
    };
    let all = async {
        while count("root", "/v1/usage").await < 4 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("rows are missing");
    for (who, calls) in [("root", 4), (&reader, 4), ("ada", 1), ("bob", 2), (&plain, 1)] {
        assert_eq!(count(who, "/v1/usage").await, calls, "{who}");
        assert_eq!(count(who, "/v1/costs?by=caller").await, calls, "{who}");
    }
    // Nor by the way of a filter, of a pool or of another's name.
    assert_eq!(count("ada", "/v1/costs?by=pool&pool=user:bob").await, 0);
    assert_eq!(count("ada", "/v1/usage?model=dear").await, 1);
    let (_, rows) = get_as(&hoosh, "root", "/v1/usage?limit=1").await;
    let other = rows["usage"][0]["caller"].as_str().unwrap().to_owned();
    for path in ["/v1/usage", "/v1/costs"] {
        let (status, refused) = get_as(&hoosh, "ada", &format!("{path}?caller={other}")).await;
        assert_eq!((status, &refused["error"]["code"]), (403, &"scope_missing".into()), "{refused}");
    }
    assert_eq!(count(&plain, &format!("/v1/usage?caller={other}")).await, 1, "one's own may be named");
    // Pools likewise: its own and those above.
    let names = async |who: &str| {
        let (status, told) = get_as(&hoosh, who, "/v1/tokens/pools").await;
        assert_eq!(status, 200, "{told}");
        let pools = told["pools"].as_array().unwrap();
        pools.iter().map(|pool| pool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("root").await.len(), 7);
    assert_eq!(names(&plain).await, [format!("key:{other}"), "team:a".to_owned()]);
}

#[tokio::test]
async fn rows_are_kept_as_long_as_is_said() {
    let (mut hoosh, _upstream) = asked().await;
    hoosh.signal("TERM");
    hoosh.ended().await;
    // One of them is of three days ago.
    let ledger = rusqlite::Connection::open(hoosh.folder().join("hoosh-ledger.db")).unwrap();
    let day_ms = 86_400_000_i64;
    let oldest = "SELECT min(at_ms) FROM usage";
    let aged = format!("UPDATE usage SET at_ms = at_ms - {} WHERE at_ms = ({oldest})", 3 * day_ms);
    assert_eq!(ledger.execute(&aged, []).unwrap(), 1);
    drop(ledger);
    hoosh.restart_after_end().await;
    assert_eq!(rows(&hoosh, 3).await.len(), 3, "400 days are kept if nobody says otherwise");
    let config = std::fs::read_to_string(hoosh.folder().join("other.toml")).unwrap();
    std::fs::write(hoosh.folder().join("other.toml"), format!("{config}\n[budget]\nkeep_days = 2\n"))
        .unwrap();
    let reload = client().post(hoosh.url("/v1/admin/reload")).send().await.unwrap();
    assert_eq!(reload.status(), 200);
    let gone = async {
        while get(&hoosh, "/v1/usage").await["usage"].as_array().unwrap().len() != 2 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is kept for too long");
}
