//! Promise: what a call costs is what the price list of its day says, and the user's own list goes before the built-in one.

use std::path::PathBuf;

use tempfile::TempDir;
use testkit::{Hoosh, Script, Upstream, chat_body, client, completion, finished};

use crate::{at, header, json};

const CHAT: &str = "/v1/chat/completions";

/// A folder with a file of prices, and that file.
fn prices(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prices.toml");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

fn provider(name: &str, kind: &str, upstream: &Upstream, keys: &str) -> String {
    let url = upstream.url();
    format!(
        "[[providers]]\ntype = \"{kind}\"\nname = \"{name}\"\nbase_url = \"{url}/v1\"\napi_key = \"k\"\nmodels = [\"*\"]\n{keys}\n"
    )
}

/// An answer that took 1,000 prompt tokens, 400 of them cached, and 100 of answer.
fn answer(tier: &str) -> Script {
    let text = String::from_utf8(completion("hi")).unwrap();
    let usage = r#""prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":400}"#;
    let text = text.replace(r#""prompt_tokens":3,"completion_tokens":2,"total_tokens":5"#, usage);
    let tier = format!(r#""service_tier":"{tier}","choices""#);
    Script::json(text.replace(r#""choices""#, &tier))
}

/// What a call of this model cost; `None` where the answer does not say.
async fn cost(hoosh: &Hoosh, model: &str) -> Option<String> {
    let response = hoosh.post(CHAT, chat_body(model, false)).await;
    assert_eq!(response.status(), 200);
    response.headers().get("x-hoosh-cost").map(|cost| cost.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_users_price_file_decides_what_a_call_costs() {
    let upstream = Upstream::start().await;
    upstream.always(answer("default"));
    let (_folder, file) = prices(
        r#"
        [[prices]]
        provider = "openai"
        model = "gpt-4o"
        until = 2020-01-01
        input = 999
        output = 999

        [[prices]]
        provider = "openai"
        model = "gpt-4o"
        from = 2020-01-01
        input = 1
        output = "2.50"
        cache_read = 0.1
        request = 0.001
        tiers = [{ above = 1000, input = 500, output = 500 }]
        "#,
    );
    let openai = provider("mine", "openai", &upstream, "");
    let hoosh = Hoosh::start(&format!("[costs]\nprices = {file:?}\n{openai}")).await;
    // 600 at $1, 400 at $0.10 and 100 at $2.50 a million, and the fee; the tier begins one token later.
    assert_eq!(cost(&hoosh, "gpt-4o").await.as_deref(), Some("0.001890000"));
    assert_eq!(cost(&hoosh, "gpt-4o-2024-08-06").await.as_deref(), Some("0.001890000"));
    // What the file does not name is the catalogue's: $0.15, $0.075 and $0.60.
    assert_eq!(cost(&hoosh, "gpt-4o-mini").await.as_deref(), Some("0.000180000"));
    let listed = json(hoosh.get("/v1/models").await).await.to_string();
    assert!(!listed.contains("999"), "{listed}");

    // A reload takes new prices, and those of the configuration itself.
    std::fs::write(&file, "[[prices]]\nprovider = 'mine'\nmodel = 'gpt-*'\ninput = 0\noutput = 0\n").unwrap();
    let inline = "[[prices]]\nprovider = '*'\nmodel = 'new'\ninput = 10\noutput = 20\n";
    hoosh.configure(&format!("[costs]\nprices = {file:?}\n{inline}{openai}"));
    let report = json(hoosh.post("/v1/admin/reload", "").await).await;
    let changed = report["changed"].to_string();
    assert!(changed.contains("`costs.prices`") && changed.contains("`prices[0].input`"), "{report}");
    assert_eq!(cost(&hoosh, "gpt-4o").await.as_deref(), Some("0.000000000"));
    assert_eq!(cost(&hoosh, "new").await.as_deref(), Some("0.012000000"));
}

#[tokio::test]
async fn a_call_that_was_served_in_another_way_is_billed_so() {
    let upstream = Upstream::start().await;
    let (_folder, file) = prices(
        "[[prices]]\nprovider = '*'\nmodel = 'm'\ninput = 1\noutput = 0\nflex = 0.5\n\
         hours = [{ from = '00:00', until = '24:00', times = 10 }]\n",
    );
    let hoosh = Hoosh::start(&format!("[costs]\nprices = {file:?}\n{}", at("up", &upstream.url(), ""))).await;
    for (tier, expect) in
        [("default", Some("0.010000000")), ("flex", Some("0.005000000")), ("priority", None)]
    {
        upstream.always(answer(tier));
        assert_eq!(cost(&hoosh, "m").await.as_deref(), expect, "{tier}");
    }
    let log = hoosh.log();
    assert!(log.contains("no price is known") && log.contains("priority"), "{log}");
}

#[tokio::test]
async fn what_has_no_known_price_is_told_once_or_not_asked_as_the_policy_says() {
    let (upstream, priced) = (Upstream::start().await, Upstream::start().await);
    upstream.always(answer("default"));
    priced.always(answer("default"));
    let unknown = provider("up", "openai_compatible", &upstream, "priority = 1");
    let known = provider("known", "openai", &priced, "priority = 2");
    let start = async |policy: &str| Hoosh::start(&format!("{policy}{unknown}{known}")).await;

    let warns = start("").await;
    for model in ["gpt-4o", "gpt-4o", "gpt-4o-mini"] {
        assert_eq!(cost(&warns, model).await, None, "{model}");
    }
    let log = warns.log();
    assert_eq!(log.matches("no price is known").count(), 2, "{log}");

    let allows = start("[costs]\non_unpriced = \"allow\"\n").await;
    assert_eq!(cost(&allows, "gpt-4o").await, None);
    assert!(!allows.log().contains("no price is known"));

    let blocks = start("[costs]\non_unpriced = \"block\"\n").await;
    let response = blocks.post(CHAT, chat_body("gpt-4o", false)).await;
    assert_eq!(header(&response, "x-hoosh-provider"), "known");
    let id = header(&response, "x-hoosh-decision").to_owned();
    let decision = json(blocks.get(&format!("/v1/decisions/{id}")).await).await;
    let passed = &decision["passed_over"][0];
    assert_eq!((&passed["provider"], &passed["reason"]), (&"up".into(), &"unpriced".into()));
    let refused = blocks.post(CHAT, chat_body("never-heard-of", false)).await;
    assert_eq!(refused.status(), 404);
    let refused = json(refused).await.to_string();
    assert!(refused.contains("what the call would cost there is not known"), "{refused}");
}

#[tokio::test]
async fn the_same_prices_choose_the_cheapest_and_hold_the_limit_of_a_call() {
    let (dear, cheap) = (Upstream::start().await, Upstream::start().await);
    for upstream in [&dear, &cheap] {
        upstream.always(answer("default"));
    }
    let price = |provider: &str, usd: u64| {
        format!("[[prices]]\nprovider = '{provider}'\nmodel = '*'\ninput = {usd}\noutput = {usd}\n")
    };
    let (_folder, file) = prices(&(price("dear", 9) + &price("cheap", 3)));
    let providers = provider("dear", "groq", &dear, "") + &provider("cheap", "groq", &cheap, "");
    let hoosh =
        Hoosh::start(&format!("strategy = \"cheapest\"\n[costs]\nprices = {file:?}\n{providers}")).await;
    let response = hoosh.post(CHAT, chat_body("m", false)).await;
    assert_eq!(header(&response, "x-hoosh-provider"), "cheap");
    let ask = async |limit: &'static str| {
        let request = client().post(hoosh.url(CHAT)).header("x-hoosh-max-cost", limit);
        request.body(chat_body("m", false)).send().await.unwrap()
    };
    // About 500 tokens of answer.
    assert_eq!(ask("0.01").await.status(), 200);
    let refused = ask("0.001").await;
    assert_eq!(refused.status(), 400);
    assert_eq!(json(refused).await["error"]["code"], "conditions_not_met");
}

#[tokio::test]
async fn a_model_here_costs_nothing_unless_a_price_names_its_provider() {
    let upstream = Upstream::start().await;
    upstream.always(answer("default"));
    let local = provider("box", "vllm", &upstream, "local = true");
    let any = "[[prices]]\nprovider = '*'\nmodel = '*'\ninput = 1\noutput = 1\n";
    let own = "[[prices]]\nprovider = 'box'\nmodel = 'big*'\ninput = 1\noutput = 1\n";
    let hoosh = Hoosh::start(&format!("[costs]\non_unpriced = \"block\"\n{any}{own}{local}")).await;
    assert_eq!(cost(&hoosh, "small").await.as_deref(), Some("0.000000000"));
    assert_eq!(cost(&hoosh, "big").await.as_deref(), Some("0.001100000"));
}

#[test]
fn what_is_wrong_with_a_price_file_is_told_with_its_lines() {
    let (folder, _) = prices("[[prices]]\nprovider = 'a'\nmodel = 'm'\ninput = 1e3\noutptu = 2\n");
    let config = folder.path().join("hoosh.toml");
    std::fs::write(&config, "[costs]\nprices = 'prices.toml'\n").unwrap();
    let output = finished(&["config", "check", "--config", config.to_str().unwrap()]);
    let told =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("prices.toml:4: prices[0].input: expected US dollars"), "{told}");
    assert!(told.contains("prices.toml:5: prices[0].outptu: there is no such key"), "{told}");
    assert!(told.contains("did you mean `output`?") && told.contains("`output` is missing"), "{told}");
}
