//! Promise: models are merged over providers, and health is told.

use testkit::{Hoosh, Script, Upstream, chat_body, completion, listing, refused_port};

use crate::{at, header, json, one, provider};

#[tokio::test]
async fn models_of_all_providers_and_aliases_are_listed() {
    let upstream = Upstream::start().await;
    let config = at("first", &upstream.url(), "priority = 1")
        + &at("dead", &format!("http://127.0.0.1:{}", refused_port()), "")
        + "[aliases]\nfast = \"listed-model\"\n";
    let hoosh = Hoosh::start(&config).await;

    let list = json(hoosh.get("/v1/models").await).await;
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((&list["object"], ids), (&"list".into(), vec!["fast", "listed-model"]));
    assert_eq!(list["data"][1]["hoosh"]["provider"], "first");

    let one = json(hoosh.get("/v1/models/listed-model").await).await;
    assert_eq!((&one["id"], &one["object"]), (&"listed-model".into(), &"model".into()));
    assert_eq!(json(hoosh.get("/openai/v1/models/fast").await).await["hoosh"]["alias_of"][0], "listed-model");
    let response = hoosh.get("/v1/models/lsted-model").await;
    assert_eq!(response.status(), 404);
    assert!(response.text().await.unwrap().contains("did you mean `listed-model`"));
}

#[tokio::test]
async fn an_alias_and_the_direct_form_are_served() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.always(Script::json(completion("a")));
    second.always(Script::json(completion("b")));
    let config = at("a", &first.url(), "priority = 1")
        + &provider("b", &second)
        + "[aliases]\nfast = \"b/some-model\"\n";
    let hoosh = Hoosh::start(&config).await;
    for model in ["fast", "b/some-model"] {
        let response = hoosh.post("/v1/chat/completions", chat_body(model, false)).await;
        assert_eq!(
            (header(&response, "x-hoosh-provider"), header(&response, "x-hoosh-model")),
            ("b", "some-model")
        );
    }
    let sent = String::from_utf8(second.requests("/chat/completions")[0].body.clone()).unwrap();
    assert!(sent.contains("\"model\":\"some-model\""), "{sent}");
}

#[tokio::test]
async fn a_provider_is_not_asked_for_more_tokens_than_its_limit() {
    let (small, large) = (Upstream::start().await, Upstream::start().await);
    small.always(Script::json(completion("a")));
    large.always(Script::json(completion("b")));
    let config =
        at("small", &small.url(), "priority = 1\nmax_tokens_limit = 100") + &provider("large", &large);
    let hoosh = Hoosh::start(&config).await;
    for (most, provider) in [(100, "small"), (101, "large")] {
        let body = chat_body("m", false).replace("\"stream\"", &format!("\"max_tokens\":{most},\"stream\""));
        assert_eq!(header(&hoosh.post("/v1/chat/completions", body).await, "x-hoosh-provider"), provider);
    }
}

#[tokio::test]
async fn health_of_the_process_and_of_the_providers() {
    let (hoosh, _upstream) = one().await;
    for path in ["/health", "/v1/health"] {
        let health = json(hoosh.get(path).await).await;
        assert_eq!((&health["status"], &health["providers"]), (&"ok".into(), &1.into()));
    }
    let response = hoosh.get("/v1/health/providers").await;
    assert_eq!(response.status(), 200);
    let report = json(response).await;
    assert_eq!(report["providers"][0]["name"], "up");
    assert_eq!(report["providers"][0]["status"], "healthy");
    assert_eq!(report["providers"][0]["models"], 1);

    let dead = Hoosh::start(&at("dead", &format!("http://127.0.0.1:{}", refused_port()), "")).await;
    let response = dead.get("/v1/health/providers").await;
    assert_eq!(response.status(), 503);
    let provider = json(response).await["providers"][0].clone();
    assert_eq!(provider["status"], "unhealthy");
    assert!(provider["error"].as_str().unwrap().contains("could not be reached"), "{provider}");
}

#[tokio::test]
async fn health_shows_nothing_of_our_key() {
    let upstream = Upstream::start().await;
    upstream.listing(Script::status(
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-secret-ours","code":"invalid_api_key"}}"#,
    ));
    let hoosh = Hoosh::start(&at("up", &upstream.url(), "api_key = \"sk-secret-ours\"")).await;
    for path in ["/v1/health/providers", "/v1/models"] {
        let response = hoosh.get(path).await;
        let text = response.text().await.unwrap();
        assert!(!text.contains("sk-secret"), "{path}: {text}");
    }
    let report = json(hoosh.get("/v1/health/providers").await).await;
    assert_eq!(report["providers"][0]["status"], "unhealthy");
    let told = report["providers"][0]["error"].as_str().unwrap();
    assert!(told.contains("key") || told.contains("credentials") || told.contains("401"), "says why: {told}");
    assert!(!hoosh.log().contains("sk-secret"), "{}", hoosh.log());
}

#[tokio::test]
async fn a_disabled_provider_is_left_alone() {
    let (off, on) = (Upstream::start().await, Upstream::start().await);
    on.always(Script::json(completion("ok")));
    let config = at("off", &off.url(), "api_key = \"sk-off\"\npriority = 1\nenabled = false")
        + &provider("on", &on).replace("[\"*\"]", "[\"m\", \"listed*\"]");
    let hoosh = Hoosh::start(&config).await;

    assert_eq!(hoosh.post("/v1/chat/completions", chat_body("m", false)).await.status(), 200);
    // A name that no route leads to, and one that names the provider itself.
    assert_eq!(hoosh.post("/v1/chat/completions", chat_body("lsted-model", false)).await.status(), 404);
    assert_eq!(hoosh.post("/v1/chat/completions", chat_body("off/m", false)).await.status(), 404);
    assert_eq!(hoosh.get("/v1/models").await.status(), 200);
    let response = hoosh.get("/v1/health/providers").await;
    assert_eq!(response.status(), 200);
    let report = json(response).await;
    let ill: Vec<_> = report["providers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|provider| provider["status"] == "unhealthy")
        .map(|provider| provider["name"].clone())
        .collect();
    assert!(ill.is_empty(), "{report}");
    assert_eq!(off.connections(), 0, "{:?}", off.requests(""));
}

#[tokio::test]
async fn no_name_is_offered_that_no_route_leads_to() {
    let upstream = Upstream::start().await;
    upstream.listing(listing(&["kind-model", "dark-model"]));
    let hoosh = Hoosh::start(&provider("up", &upstream).replace("[\"*\"]", "[\"kind*\"]")).await;
    for (asked, near) in [("knid-model", Some("kind-model")), ("drak-model", None)] {
        let response = hoosh.post("/v1/chat/completions", chat_body(asked, false)).await;
        assert_eq!(response.status(), 404);
        let by_call = response.text().await.unwrap();
        let by_id = hoosh.get(&format!("/v1/models/{asked}")).await.text().await.unwrap();
        for text in [by_call, by_id] {
            assert!(!text.contains("dark-model"), "{text}");
            assert!(near.is_none_or(|near| text.contains(&format!("did you mean `{near}`"))), "{text}");
        }
    }
}

#[tokio::test]
async fn a_listing_takes_nobodys_turn() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    // Only one of them lists the model, so that a turn taken for each listed model would show.
    second.listing(listing(&[]));
    for upstream in [&first, &second] {
        upstream.always(Script::json(completion("ok")));
    }
    let config = format!("strategy = \"round_robin\"\n{}{}", provider("a", &first), provider("b", &second));
    let hoosh = Hoosh::start(&config).await;
    for _ in 0..4 {
        assert_eq!(hoosh.post("/v1/chat/completions", chat_body("listed-model", false)).await.status(), 200);
        assert_eq!(hoosh.get("/v1/models").await.status(), 200);
    }
    let calls = [&first, &second].map(|upstream| upstream.requests("/chat/completions").len());
    assert_eq!(calls, [2, 2]);
}

#[tokio::test]
async fn pages_of_other_origins_may_call_only_if_configured() {
    let upstream = Upstream::start().await;
    let ask = async |hoosh: &Hoosh, origin: &str| {
        let request = testkit::client().request(reqwest::Method::OPTIONS, hoosh.url("/v1/chat/completions"));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        let response = request.send().await.unwrap();
        (response.status().as_u16(), header(&response, "access-control-allow-origin").to_owned())
    };
    let closed = Hoosh::start(&provider("up", &upstream)).await;
    assert_eq!(ask(&closed, "http://page.test").await, (405, String::new()));

    let open =
        Hoosh::start(&format!("cors_origins = [\"http://page.test\"]\n{}", provider("up", &upstream))).await;
    assert_eq!(ask(&open, "http://page.test").await, (204, "http://page.test".to_owned()));
    assert_eq!(ask(&open, "http://other.test").await, (405, String::new()));
}
