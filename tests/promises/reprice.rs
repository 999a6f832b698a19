//! Promise: a cost that was wrong is put right without losing what was charged, periods end without losing anything, and both go
//! with and without a running gateway.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Hoosh, PATIENCE, Script, Upstream, chat_body, client, completion};
use tokio::time::{sleep, timeout};

use crate::{at, json as json_of};

const CHAT: &str = "/v1/chat/completions";
const AUTH: &str = "[auth]\ntokens = [\"ada\"]\nadmin_tokens = [\"root\"]\n";
const POOL: &str = "[[pools]]\nname = \"model:m\"\nusd = \"1\"\n";

fn price(input: &str, model: &str) -> String {
    format!("[[prices]]\nprovider = \"up\"\nmodel = \"{model}\"\ninput = \"{input}\"\noutput = \"0\"\n")
}

/// A gateway whose calls take 8 tokens, at a price of a thousandth of a dollar each for `m` and at none for `n`.
async fn asked() -> (Hoosh, Upstream, String) {
    let upstream = Upstream::start().await;
    let mut reply: Value = serde_json::from_slice(&completion("hi")).unwrap();
    reply["usage"] = json!({ "prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13 });
    upstream.always(Script::json(reply.to_string()));
    let config = [AUTH, POOL, &at("up", &upstream.url(), "")].concat();
    let hoosh = Hoosh::start(&format!("{config}{}", price("1000", "m"))).await;
    for model in ["m", "m", "n"] {
        ask(&hoosh, model).await;
    }
    until(&hoosh, "/v1/costs?period=all", 3).await;
    (hoosh, upstream, config)
}

async fn ask(hoosh: &Hoosh, model: &str) {
    let request = client().post(hoosh.url(CHAT)).bearer_auth("ada").body(chat_body(model, false));
    assert_eq!(request.send().await.unwrap().status(), 200);
}

async fn send(hoosh: &Hoosh, key: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = client().request(method.parse().unwrap(), hoosh.url(path)).bearer_auth(key);
    let response = request.body(body.to_string()).send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

async fn get(hoosh: &Hoosh, path: &str) -> Value {
    let (status, told) = send(hoosh, "root", "GET", path, json!({})).await;
    assert_eq!(status, 200, "{path}: {told}");
    told
}

/// Waits until so many calls are on disk.
async fn until(hoosh: &Hoosh, path: &str, calls: u64) {
    let all = async {
        while get(hoosh, path).await["total"]["calls"] != calls {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("rows are missing");
}

fn ran(hoosh: &Hoosh, arguments: &[&str]) -> String {
    let url = hoosh.url("");
    let asks = arguments[0] == "reprice" || arguments.contains(&"reset");
    let gateway: &[&str] = if asks { &["--token", "root", "--url", url.trim_end_matches('/')] } else { &[] };
    let output = hoosh.command(&[arguments, gateway].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is told of a trial or of the real thing, with these calls changed.
fn check(told: &Value, dry_run: bool, adjusted: u64) {
    assert_eq!((&told["dry_run"], &told["total"]["adjusted"]), (&dry_run.into(), &adjusted.into()), "{told}");
}

#[tokio::test]
async fn costs_are_corrected_by_a_running_gateway_and_rows_keep_what_was_charged() {
    let (hoosh, _upstream, config) = asked().await;
    let again = "/v1/admin/reprice";
    let (_, told) = send(&hoosh, "root", "POST", again, json!({})).await;
    check(&told, false, 0);
    // Twice the price for one, and one for the other.
    hoosh.configure(&format!("{config}{}{}", price("2000", "m"), price("500", "n")));
    assert_eq!(send(&hoosh, "root", "POST", "/v1/admin/reload", json!({})).await.0, 200);
    let (_, told) = send(&hoosh, "root", "POST", again, json!({ "dry_run": true })).await;
    check(&told, true, 3);
    assert_eq!(told["models"][0]["difference"], "0.016000000", "{told}");
    assert_eq!(get(&hoosh, "/v1/costs").await["total"]["usd"], "0.016000000", "a trial changes nothing");
    let (_, told) = send(&hoosh, "root", "POST", again, json!({ "model": "m" })).await;
    check(&told, false, 2);
    assert_eq!(
        (&told["total"]["usd_before"], &told["total"]["usd_after"], &told["total"]["difference"]),
        (&json!("0.016000000"), &json!("0.032000000"), &json!("0.016000000"))
    );
    // The command line asks the gateway that has the file open.
    let told: Value = serde_json::from_str(&ran(&hoosh, &["reprice", "--json"])).unwrap();
    check(&told, false, 1);

    let total = get(&hoosh, "/v1/costs").await["total"].clone();
    assert_eq!((&total["usd"], &total["unpriced_calls"]), (&json!("0.036000000"), &json!(0)));
    let rows = get(&hoosh, "/v1/usage").await["usage"].as_array().unwrap().clone();
    for (row, usd, charged) in
        [(&rows[0], "0.004000000", Value::Null), (&rows[1], "0.016000000", json!("0.008000000"))]
    {
        assert_eq!((&row["usd"], &row["adjusted"]["charged_usd"]), (&json!(usd), &charged), "{row}");
        assert!(row["adjusted"]["by"].as_str().is_some_and(|by| by.starts_with("key-")), "{row}");
    }
    // A pool keeps what it let through.
    let pool = get(&hoosh, "/v1/tokens/pools").await["pools"][0].clone();
    assert_eq!(pool["settled"]["usd"], "0.016000000", "{pool}");
    assert!(hoosh.log().contains("costs were corrected"), "{}", hoosh.log());

    let (status, refused) = send(&hoosh, "ada", "POST", again, json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("scope_missing")));
    let (status, refused) = send(&hoosh, "root", "POST", again, json!({ "from": "soon" })).await;
    assert!(status == 400 && refused["error"].to_string().contains("from"), "{refused}");
}

#[tokio::test]
async fn costs_are_corrected_in_the_file_of_a_gateway_that_is_stopped() {
    let (mut hoosh, _upstream, config) = asked().await;
    hoosh.signal("TERM");
    hoosh.ended().await;
    hoosh.configure(&format!("{config}{}", price("3000", "m")));
    let table = ran(&hoosh, &["reprice", "--dry-run"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1], ["up", "m", "2", "2", "0.016000000", "0.048000000", "0.032000000", "0"], "{table}");
    assert_eq!(words[2], ["up", "n", "1", "0", "0.000000000", "0.000000000", "0.000000000", "1"], "{table}");
    assert_eq!(words[3][..2], ["all", "3"], "{table}");
    let usd = |hoosh: &Hoosh| -> Value {
        let told: Value = serde_json::from_str(&ran(hoosh, &["costs", "--json"])).unwrap();
        told["total"]["usd"].clone()
    };
    assert_eq!(usd(&hoosh), "0.016000000");
    ran(&hoosh, &["reprice"]);
    assert_eq!(usd(&hoosh), "0.048000000");
    assert_eq!(ran(&hoosh, &["reprice", "--provider", "other"]), "", "there are none");
}

#[tokio::test]
async fn a_period_ends_and_nothing_is_lost() {
    let (mut hoosh, _upstream, _) = asked().await;
    assert_eq!(
        get(&hoosh, "/v1/costs").await["period"],
        json!({ "number": 1, "from": null, "to": null, "ended_by": null })
    );
    let (status, refused) = send(&hoosh, "ada", "POST", "/v1/costs/reset", json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("scope_missing")));
    let (status, ended) = send(&hoosh, "root", "POST", "/v1/costs/reset", json!({})).await;
    assert_eq!((status, &ended["number"]), (200, &json!(1)), "{ended}");
    assert!(ended["ended_by"].as_str().is_some_and(|by| by.starts_with("key-")), "{ended}");

    let calls = async |hoosh: &Hoosh, path: &str| get(hoosh, path).await["total"]["calls"].clone();
    assert_eq!(calls(&hoosh, "/v1/costs").await, 0);
    ask(&hoosh, "m").await;
    until(&hoosh, "/v1/costs", 1).await;
    for (query, expected) in [("period=1", 3), ("period=2", 1), ("period=all", 4), ("from=2020-01-01", 4)] {
        assert_eq!(calls(&hoosh, &format!("/v1/costs?{query}")).await, expected, "{query}");
    }
    assert_eq!(get(&hoosh, "/v1/costs").await["period"]["from"], ended["to"]);
    for query in ["period=3", "period=0", "period=x", "period=1&from=2020-01-01"] {
        let (status, refused) = send(&hoosh, "root", "GET", &format!("/v1/costs?{query}"), json!({})).await;
        assert!(status == 400 && refused["error"].to_string().contains("period"), "{query}: {refused}");
    }
    assert_eq!(get(&hoosh, "/v1/usage").await["usage"].as_array().unwrap().len(), 4, "rows are all there");

    // By the command line through the gateway, and without one.
    assert!(ran(&hoosh, &["costs", "reset"]).starts_with("period 2 is ended"));
    hoosh.signal("TERM");
    hoosh.ended().await;
    assert!(ran(&hoosh, &["costs", "reset"]).starts_with("period 3 is ended"));
    let csv = ran(&hoosh, &["costs", "--period", "2", "--csv"]);
    assert!(csv.contains("up,1,8,5,0.008000000,0"), "{csv}");
    assert_eq!(ran(&hoosh, &["costs"]), "");
}

// The command asks the upstream of this process for its models.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cheaper_models_that_can_do_as_much_are_named_for_what_was_asked() {
    let upstream = Upstream::start().await;
    let mut reply: Value = serde_json::from_slice(&completion("hi")).unwrap();
    reply["usage"] = json!({ "prompt_tokens": 100_000, "completion_tokens": 10, "total_tokens": 100_010 });
    upstream.always(Script::json(reply.to_string()));
    // Of these the second is cheaper, the third reads too little, the fourth makes vectors, and nobody knows the fifth.
    let listed = ["gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo", "text-embedding-3-small", "nobody-knows"];
    upstream.listing(testkit::listing(&listed));
    let provider = at("up", &upstream.url(), "local = false").replace("openai_compatible", "openai");
    let config = [AUTH, "[budget]\nlog = true\n", &provider].concat();
    let hoosh = Hoosh::start(&config).await;
    for model in ["gpt-4o", "gpt-4o", "nobody-knows"] {
        ask(&hoosh, model).await;
    }
    until(&hoosh, "/v1/costs", 3).await;

    let told = get(&hoosh, "/v1/costs/recommendations").await;
    let model = |name: &str| {
        told["models"].as_array().unwrap().iter().find(|one| one["model"] == name).unwrap().clone()
    };
    let used = model("gpt-4o");
    assert_eq!(
        (&told["calls"], &used["calls"], &used["largest_prompt"]),
        (&json!(3), &json!(2), &json!(100_000))
    );
    // 2.50 and 10 dollars a million; 0.15 and 0.60.
    assert_eq!(used["usd"], "0.500200000", "{used}");
    let cheaper = used["cheaper"].as_array().unwrap();
    assert_eq!(cheaper.len(), 1, "{used}");
    assert_eq!(
        (&cheaper[0]["model"], &cheaper[0]["usd"], &cheaper[0]["saving_usd"], &cheaper[0]["saving_percent"]),
        (&json!("gpt-4o-mini"), &json!("0.030012000"), &json!("0.470188000"), &json!(94.0))
    );
    let unknown = model("nobody-knows");
    assert_eq!(
        (&unknown["usd"], &unknown["unpriced_calls"], &unknown["cheaper"]),
        (&Value::Null, &json!(1), &json!([]))
    );
    assert!(told["assumptions"].to_string().contains("same tokens"), "{told}");
    // Times narrow it, and others' calls are theirs.
    assert_eq!(get(&hoosh, "/v1/costs/recommendations?to=2020-01-01").await["models"], json!([]));
    assert_eq!(send(&hoosh, "ada", "GET", "/v1/costs/recommendations", json!({})).await.1["calls"], 3);
    let (status, refused) =
        send(&hoosh, "root", "GET", "/v1/costs/recommendations?by=model", json!({})).await;
    assert_eq!(status, 400, "{refused}");

    let table = ran(&hoosh, &["costs", "recommend"]);
    let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    let expected =
        ["up/gpt-4o", "2", "0.500200000", "up/gpt-4o-mini", "0.030012000", "0.470188000", "94.0", "%"];
    assert_eq!(words, expected, "{table}");
    let json: Value = serde_json::from_str(&ran(&hoosh, &["costs", "recommend", "--json"])).unwrap();
    assert_eq!(json["models"], told["models"]);
}
